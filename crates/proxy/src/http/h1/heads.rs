//! Parsed heads, maps of fields and readers of bodies, lent by the worker for as long as one is in use, so that
//! connections that wait keep none and requests allocate none.

use std::cell::RefCell;

use http::HeaderMap;
use weft_wire::http1::{Framing, RequestHead, ResponseHead};

use super::decode::Reader;

const KEPT_MAX: usize = 8;
const MAPS_MAX: usize = 64;
/// Of larger ones the memory is given back.
const MAP_FIELDS_MAX: usize = 64;

#[expect(clippy::vec_box, reason = "they move between here and their connections, and are large")]
mod kept {
    use super::*;

    thread_local! {
        pub static REQUESTS: RefCell<Vec<Box<RequestHead>>> = const { RefCell::new(Vec::new()) };
        pub static RESPONSES: RefCell<Vec<Box<ResponseHead>>> = const { RefCell::new(Vec::new()) };
        pub static READERS: RefCell<Vec<Box<Reader>>> = const { RefCell::new(Vec::new()) };
    }
}
use kept::{READERS, REQUESTS, RESPONSES};

/// Keeps none.
#[cold]
pub fn release() {
    REQUESTS.take();
    RESPONSES.take();
    READERS.take();
    MAPS.take();
}

thread_local! {
    static MAPS: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) };
}

/// An empty map.
#[inline]
pub fn map() -> HeaderMap {
    MAPS.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Takes a map whose fields nobody needs any more.
#[inline]
pub fn give_back_map(mut map: HeaderMap) {
    MAPS.with_borrow_mut(|kept| {
        if kept.len() < MAPS_MAX && (1..=MAP_FIELDS_MAX).contains(&map.capacity()) {
            map.clear();
            kept.push(map);
        }
    });
}

#[inline]
pub fn request() -> Box<RequestHead> {
    let mut head = REQUESTS.with_borrow_mut(Vec::pop).unwrap_or_default();
    head.restart();
    head
}

#[inline]
pub fn give_back(head: Box<RequestHead>) {
    REQUESTS.with_borrow_mut(|kept| {
        if kept.len() < KEPT_MAX {
            kept.push(head);
        }
    });
}

#[inline]
pub fn response() -> Box<ResponseHead> {
    let mut head = RESPONSES.with_borrow_mut(Vec::pop).unwrap_or_default();
    head.restart();
    head
}

#[inline]
pub fn give_back_response(head: Box<ResponseHead>) {
    RESPONSES.with_borrow_mut(|kept| {
        if kept.len() < KEPT_MAX {
            kept.push(head);
        }
    });
}

/// For a body of this framing.
pub fn reader(framing: Framing) -> Box<Reader> {
    let mut reader = READERS.with_borrow_mut(Vec::pop).unwrap_or_default();
    reader.restart(framing);
    reader
}

pub fn give_back_reader(mut reader: Box<Reader>) {
    reader.restart(Framing::None); // keeps nothing of what it read
    READERS.with_borrow_mut(|kept| {
        if kept.len() < KEPT_MAX {
            kept.push(reader);
        }
    });
}
