use std::mem::size_of;

use super::*;

/// Of the future that an async function of so many arguments returns.
fn size_of_future<A, B, C, D, E, F, R>(_: impl Fn(A, B, C, D, E, F) -> R) -> usize {
    size_of::<R>()
}

/// What each open connection holds whether or not it does anything: thousands of idle ones are nothing unusual. Who
/// needs more than this says here why, or puts it on the heap for as long as it is used.
#[test]
fn what_a_connection_holds_stays_within_its_budget() {
    let sizes = [
        ("a connection's task", size_of_future(serve), 384),
        ("its peer", size_of::<Peer>(), 432),
        ("its codec, HTTP/1", size_of::<h1::shared::Shared>(), 256),
        ("its request's record, in a room of the worker's", size_of::<crate::record::Recording>(), 8),
        ("that room", size_of::<Option<RequestRecord>>(), 1024),
        ("a stream", size_of::<TcpStream>(), 40),
        ("a stream, whatever it is", size_of::<Stream>(), 16),
        ("its places in the counts", size_of::<Slot>(), 64),
        ("its timer", size_of::<crate::http::timer::Timer>(), 8),
    ];
    for (what, size, budget) in sizes {
        println!("{what}: {size} of {budget} bytes");
    }
    for (what, size, budget) in sizes {
        assert!(size <= budget, "{what} is {size} bytes, more than {budget}");
    }
}
