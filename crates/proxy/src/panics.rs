//! A panic is a bug of ours, and costs the request that met it, no other: the answer is 500, or a broken stream where
//! the head was out already, and the worker lives on.
//!
//! Many of them mean that something is broken for good: then the proxy drains and ends, and whoever keeps it running
//! starts it afresh. The hook that sees every panic is the process's, the count is the thread's, as all of a worker's.

use std::{cell::Cell, panic::AssertUnwindSafe, sync::Once};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Response, StatusCode};

use crate::http::body::ResponseBody;

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

/// The answer, or a 500 where it panicked before there was one. What was being written is dropped on the way, also the
/// request's record, which counts itself.
pub async fn contained<F>(answer: F) -> Response<ResponseBody>
where
    F: Future<Output = Response<ResponseBody>>,
{
    AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|_| {
        let mut response = Response::new(ResponseBody::text(Bytes::from_static(b"internal error\n"), None));
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
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

    #[expect(clippy::panic, reason = "panicking is what it is for, and no release has it")]
    pub fn meet(path: &str) {
        if PATH.get().is_some_and(|bad| *bad == path) {
            panic!("a test asked for it");
        }
    }
}
