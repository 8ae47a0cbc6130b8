//! One target for each parser of bytes that somebody else wrote: a plain function, any bytes in, a panic if a promise
//! does not hold.
//!
//! `cargo test -p weft-fuzz` holds the seeds, seeded mutations of them and everything ever found against each target.
//! `cargo xtask fuzz [--seconds N] [TARGET…]` goes on from there, guided by coverage (libFuzzer). A find is a file in
//! `found/TARGET/`, committed with its repair.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a target says that a promise does not hold"
)]

mod config;
mod fields;
mod files;
mod first_bytes;
mod grpc_web;
mod hpack;
mod http1;
mod http2;
mod http2_connection;
mod identity;
mod names;
mod records;

// What the HTTP/1 tests of `wire` hold their own mutations against.
#[path = "../../crates/wire/tests/http1/mutations.rs"]
pub mod mutations;
#[path = "../../crates/wire/tests/http1/promises.rs"]
mod promises;
#[allow(dead_code, reason = "the tests of wire use more of it")]
#[path = "../../crates/wire/tests/http1/second.rs"]
mod second;
#[allow(dead_code, reason = "the tests of wire use more of it")]
#[path = "../../crates/wire/tests/http1/served.rs"]
mod served;
#[allow(dead_code, reason = "the tests of wire use more of it")]
#[path = "../../crates/wire/tests/http1/strict.rs"]
mod strict;
#[allow(dead_code, reason = "the tests of the proxy use more of it")]
#[path = "../../crates/proxy/tests/mesh/xds.rs"]
mod xds;

/// One parser under test.
pub struct Target {
    pub name: &'static str,
    /// What must hold, and who else is asked.
    pub holds: &'static str,
    pub run: fn(&[u8]),
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Longer inputs teach nothing new.
    pub bytes_max: usize,
}

pub const TARGETS: &[Target] = &[
    Target {
        name: "http1-request",
        holds: "one verdict for every cut; what goes on is the same to a strict reader; httparse sees the same",
        run: http1::request,
        seeds: http1::request_seeds,
        bytes_max: 1024,
    },
    Target {
        name: "http1-response",
        holds: "as http1-request",
        run: http1::response,
        seeds: http1::response_seeds,
        bytes_max: 1024,
    },
    Target {
        name: "http1-chunks",
        holds: "data out is data in, for every size of chunk and every cut",
        run: http1::chunks,
        seeds: http1::chunk_seeds,
        bytes_max: 512,
    },
    Target {
        name: "fields",
        holds: "nothing of one hop goes on, nothing else goes away, twice is once",
        run: fields::fields,
        seeds: fields::field_seeds,
        bytes_max: 1024,
    },
    Target {
        name: "http2-frames",
        holds: "the same verdict for every cut; a reader of lengths alone stands at the same place",
        run: http2::frames,
        seeds: http2::frame_seeds,
        bytes_max: 4096,
    },
    Target {
        name: "hpack",
        holds: "another implementation reads the same fields or refuses; what is sent on is read by both",
        run: hpack::hpack,
        seeds: hpack::hpack_seeds,
        bytes_max: 512,
    },
    Target {
        name: "http2-connection",
        holds: "one outcome for every cut; frames go out; what is taken whole h2 takes too, as the same",
        run: http2_connection::connection,
        seeds: http2_connection::connection_seeds,
        bytes_max: 1024,
    },
    Target {
        name: "grpc-web",
        holds: "for every cut, what a reader of the whole body finds; half a message is never followed by an end",
        run: grpc_web::grpc_web,
        seeds: grpc_web::grpc_web_seeds,
        bytes_max: 512,
    },
    Target {
        name: "tls-hello",
        holds: "a prefix says the same or nothing; rustls sees the same names in what it accepts",
        run: first_bytes::tls_hello,
        seeds: first_bytes::hello_seeds,
        bytes_max: 4096,
    },
    Target {
        name: "tls-records",
        holds: "every byte is counted once, and for every cut the same",
        run: first_bytes::tls_records,
        seeds: first_bytes::record_seeds,
        bytes_max: 4096,
    },
    Target {
        name: "detect",
        holds: "a prefix says the same or nothing; what HTTP/1 takes is not another protocol",
        run: first_bytes::detect,
        seeds: first_bytes::detect_seeds,
        bytes_max: 512,
    },
    Target {
        name: "proxy-protocol",
        holds: "a prefix says the same or nothing; what was read and is written is read again as the same",
        run: first_bytes::proxy_protocol,
        seeds: first_bytes::proxy_seeds,
        bytes_max: 600,
    },
    Target {
        name: "path",
        holds: "canonical twice is canonical once; strictly, no reader finds another path in it",
        run: names::path,
        seeds: names::path_seeds,
        bytes_max: 512,
    },
    Target {
        name: "host",
        holds: "canonical twice is canonical once; case and a trailing dot say nothing",
        run: names::host,
        seeds: names::host_seeds,
        bytes_max: 300,
    },
    Target {
        name: "xds",
        holds: "what is taken is a message to prost, and routes any request without a panic",
        run: config::xds,
        seeds: config::xds_seeds,
        bytes_max: 4096,
    },
    Target {
        name: "bootstrap",
        holds: "an answer or an error",
        run: config::bootstrap,
        seeds: config::bootstrap_seeds,
        bytes_max: 4096,
    },
    Target {
        name: "objects",
        holds: "every problem or an object; an object written as JSON is read as the same",
        run: config::objects,
        seeds: config::object_seeds,
        bytes_max: 4096,
    },
    Target {
        name: "access-log-format",
        holds: "what is taken renders one line; in JSON, a line that is JSON",
        run: records::access_log,
        seeds: records::access_log_seeds,
        bytes_max: 512,
    },
    Target {
        name: "link",
        holds: "what is read and written is read again as the same",
        run: records::link,
        seeds: records::link_seeds,
        bytes_max: 2048,
    },
    Target {
        name: "history-cell",
        holds: "what is read and written is read again as the same",
        run: records::cell,
        seeds: records::cell_seeds,
        bytes_max: 1024,
    },
    Target {
        name: "last-known-good",
        holds: "believed only with its own MAC, whole",
        run: files::last_known_good,
        seeds: files::last_known_good_seeds,
        bytes_max: 4096,
    },
    Target {
        name: "spiffe-id",
        holds: "what is taken follows the grammar of SPIFFE",
        run: identity::spiffe_id,
        seeds: identity::spiffe_seeds,
        bytes_max: 300,
    },
    Target {
        name: "certificate",
        holds: "an answer or an error, for a certificate, a bundle and a request for one",
        run: identity::certificate,
        seeds: identity::certificate_seeds,
        bytes_max: 2048,
    },
];

/// By its name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// A number that only the bytes decide.
fn seed_of(data: &[u8]) -> u64 {
    data.iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// All prefixes of short inputs, some of long ones.
fn prefixes(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let step = (data.len() / 64).max(1);
    (0..data.len()).step_by(step).map(|end| &data[..end])
}
