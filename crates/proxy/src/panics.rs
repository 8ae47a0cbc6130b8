//! Panics, counted. One costs the request that met it ([`crate::http::runner`]), and the worker lives on. Many of them mean that something is broken for good: then the proxy drains and ends, and whoever keeps it running
//! starts it afresh. The hook that sees every panic is the process's, the count is the thread's, as all of a worker's.

use std::{cell::Cell, sync::Once};

/// Panics of one worker in a second that it lives with.
pub const A_SECOND_MAX: u64 = 10;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// Counts panics from now on, each on its own thread.
pub fn count() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // A thread that ends has no count any more.
            let _ = COUNT.try_with(|count| count.set(count.get() + 1));
            before(panic);
        }));
    });
}

/// This thread's panics so far.
pub fn so_far() -> u64 {
    COUNT.get()
}

/// For tests, and not in a release: a request to this path panics.
#[cfg(debug_assertions)]
pub mod on_path {
    use std::sync::OnceLock;

    static PATH: OnceLock<&'static str> = OnceLock::new();

    /// Once a process.
    pub fn set(path: &'static str) {
        let _ = PATH.set(path);
    }

    pub fn meet(path: &str) {
        if PATH.get().is_some_and(|bad| *bad == path) {
            panic();
        }
    }

    /// So does a part of an answer that ends with it.
    pub fn meet_in(data: &[u8]) {
        if PATH.get().is_some_and(|bad| data.ends_with(bad.as_bytes())) {
            panic();
        }
    }

    #[expect(clippy::panic, reason = "panicking is what it is for, and no release has it")]
    fn panic() {
        panic!("a test asked for it");
    }
}
