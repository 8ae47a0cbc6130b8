//! A session's share of the descriptors. All sessions of the process together have a part of what clients may have:
//! what anybody may invent must not shut out connections.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::net::descriptors::Descriptors;

static TAKEN: AtomicU32 = AtomicU32::new(0);

/// Free again when it is dropped.
pub struct Place(());

impl Place {
    pub fn take() -> Option<Place> {
        let (before, place) = (TAKEN.fetch_add(1, Ordering::Relaxed), Place(()));
        (before < Descriptors::of_process().datagrams_max()).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        TAKEN.fetch_sub(1, Ordering::Relaxed);
    }
}
