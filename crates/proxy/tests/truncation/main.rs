//! Answers that break off, and answers that come too early or too late: what the client sees, and what becomes of the
//! connection. The same with Envoy and HAProxy in our place, where it says so.
//!
//! F-PX-13: an origin that ends in the middle of an answer. The client never takes what it got for a whole answer, and
//! the next request never meets what is left of the broken one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests stop at the first surprise"
)]

#[path = "../beside/mod.rs"]
mod beside;
mod both_ways;
mod client;
mod closing;
mod early;
mod late;
#[path = "../mesh/mod.rs"]
mod mesh;
mod origins;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use beside::{Limits, Origin, Peer, Speak as PeerSpeak, Way, figure};
use client::{Answer, Got, ask, http2};
use http::{Request, Version};
use mesh::{
    Proxy, free_port,
    xds::{Speak, cluster, http, listener, plain_chain, to, vhost},
};
use origins::{CUTS, End, H2_CUTS, origin_h1, origin_h2};
use weft_proxy::static_config::StaticResources;

/// A proxy before both origins.
struct Edge<P> {
    at: SocketAddr,
    /// Requests that came on a connection which had broken off.
    reused: Arc<AtomicU32>,
    _proxy: P,
}

async fn weft() -> Edge<Proxy> {
    let reused = Arc::new(AtomicU32::new(0));
    let (h1, h2) = (origin_h1(Arc::clone(&reused)).await, origin_h2().await);
    let at = free_port();
    let hosts = vec![vhost("h1", &["h1"], vec![to("/", "h1")]), vhost("h2", &["h2"], vec![to("/", "h2")])];
    let resources = StaticResources {
        listeners: vec![listener("web", at, vec![plain_chain(http("web", hosts, None))])],
        clusters: vec![cluster("h1", &[h1], Speak::Http1, None), cluster("h2", &[h2], Speak::Http2, None)],
        ..StaticResources::default()
    };
    Edge { at, reused, _proxy: Proxy::start("edge", resources) }
}

async fn beside_us(peer: Peer) -> Option<Edge<beside::Running>> {
    let reused = Arc::new(AtomicU32::new(0));
    let (h1, h2) = (origin_h1(Arc::clone(&reused)).await, origin_h2().await);
    let at = free_port();
    let origins =
        vec![Origin { host: "h1", at: h1, http2: false }, Origin { host: "h2", at: h2, http2: true }];
    let way = Way { at, speak: PeerSpeak::Either, tls: false, origins };
    let running = peer.start_limited(&[way], &Limits::default())?;
    Some(Edge { at, reused, _proxy: running })
}

/// What clients made of the matrix.
#[derive(Default)]
struct Outcome {
    cases: usize,
    broken: usize,
    refused: usize,
    /// Cut short, and taken for whole.
    lies: Vec<String>,
    /// Other requests that did not get their own answer.
    others: Vec<String>,
}

impl Outcome {
    async fn of(at: SocketAddr) -> Outcome {
        let mut outcome = Outcome::default();
        for version in [Version::HTTP_11, Version::HTTP_2] {
            for method in ["GET", "POST"] {
                let h1 = (0..CUTS.len()).flat_map(|cut| [End::Fin, End::Rst].map(|end| ("h1", cut, end)));
                let h2 = (0..H2_CUTS)
                    .flat_map(|cut| [End::Fin, End::Rst, End::Stream].map(|end| ("h2", cut, end)));
                for (host, cut, end) in h1.chain(h2) {
                    let case = format!("{version:?} {method} {host} cut {cut} {end:?}");
                    // A warm connection, so that the broken one may be a reused one.
                    outcome.other(at, version, "GET", host, &format!("before {case}")).await;
                    match ask(at, version, method, host, &format!("/cut/{cut}/{end:?}")).await {
                        Got::Broken => outcome.broken += 1,
                        Got::Whole(502..=504, _) => outcome.refused += 1,
                        got => outcome.lies.push(format!("{case}: {got:?}")),
                    }
                    outcome.other(at, version, method, host, &format!("after {case}")).await;
                    outcome.cases += 1;
                }
            }
        }
        outcome
    }

    /// A request that is to be answered well.
    async fn other(&mut self, at: SocketAddr, version: Version, method: &str, host: &str, when: &str) {
        let path = format!("/whole/{}", self.cases);
        let got = ask(at, version, method, host, &path).await;
        if got != Got::Whole(200, path) {
            self.others.push(format!("{when}: {got:?}"));
        }
    }

    fn tell(&self, who: &str) {
        let line = format!("{} answers cut short: taken for whole / others lost", self.cases);
        figure(&line, who, format!("{} / {}", self.lies.len(), self.others.len()));
    }
}

/// F-PX-13: 156 ways to break off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_breaks_off_is_never_taken_for_whole() {
    let edge = weft().await;
    let outcome = Outcome::of(edge.at).await;
    outcome.tell("Weft");
    let Outcome { cases, broken, refused, lies, others } = outcome;
    assert!(lies.is_empty(), "{lies:#?}");
    assert!(others.is_empty(), "{others:#?}");
    assert_eq!(edge.reused.load(Ordering::SeqCst), 0, "a broken connection was used again");
    // The guard: both kinds were met, and the matrix is what it says.
    assert_eq!(cases, 4 * (CUTS.len() * 2 + H2_CUTS * 3));
    assert!(broken >= cases / 2 && refused >= cases / 8, "{broken} broken, {refused} refused of {cases}");
}

/// How gRPC calls ended that broke off.
#[derive(Default)]
struct Calls {
    unavailable: usize,
    /// Another status, not 0.
    otherwise: usize,
    broken: usize,
    /// Whole, with status 0 or none.
    well: Vec<String>,
}

impl Calls {
    const COUNT: usize = H2_CUTS * 3;

    async fn of(at: SocketAddr) -> Calls {
        let mut calls = Calls::default();
        for cut in 0..H2_CUTS {
            for end in [End::Fin, End::Rst, End::Stream] {
                let request = Request::post(format!("http://h2/cut/{cut}/{end:?}"))
                    .header("content-type", "application/grpc")
                    .header("te", "trailers")
                    .body(())
                    .unwrap();
                // A reset may overtake the head that it follows.
                match http2(at, request, "\0\0\0\0\0").await {
                    Ok(answer) => calls.count(&answer, &format!("cut {cut} {end:?}")),
                    Err(_) => calls.broken += 1,
                }
            }
        }
        calls
    }

    fn count(&mut self, answer: &Answer, case: &str) {
        let status = |fields: &http::HeaderMap| {
            fields.get("grpc-status").map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        // Without a status, what is not 200 is an error to each client of gRPC.
        let code = answer.head.status.as_u16();
        let of_head = status(&answer.head.headers).or_else(|| (code != 200).then(|| code.to_string()));
        match of_head.or(answer.trailers.as_ref().and_then(status)).as_deref() {
            Some("14") => self.unavailable += 1,
            Some("0") | None => self.well.push(case.to_owned()),
            Some(_) => self.otherwise += 1,
        }
    }

    fn tell(&self, who: &str) {
        let line = format!("{} gRPC calls cut short: ended well", Calls::COUNT);
        figure(&line, who, self.well.len());
    }
}

/// F-PX-13 for gRPC: a call that breaks off is UNAVAILABLE or a broken stream, never a status that says it is well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grpc_call_that_breaks_off_does_not_end_well() {
    let edge = weft().await;
    let calls = Calls::of(edge.at).await;
    calls.tell("Weft");
    assert!(calls.well.is_empty(), "{:?}", calls.well);
    assert_eq!((calls.otherwise, calls.unavailable + calls.broken), (0, Calls::COUNT));
    // Those without a head, and a head that a reset overtook.
    assert!((3..=6).contains(&calls.unavailable), "{}", calls.unavailable);
}

/// F-PX-13 with Envoy and HAProxy in our place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_breaks_off_beside_peers() {
    for peer in Peer::ALL {
        let Some(edge) = beside_us(peer).await else { return };
        let outcome = Outcome::of(edge.at).await;
        outcome.tell(peer.name());
        let calls = Calls::of(edge.at).await;
        calls.tell(peer.name());
        println!(
            "F-PX-13 {}: {} broken, {} refused, {} on a broken connection, lies {:#?}, others {:#?}, calls well {:?}",
            peer.name(),
            outcome.broken,
            outcome.refused,
            edge.reused.load(Ordering::SeqCst),
            outcome.lies,
            outcome.others,
            calls.well
        );
        assert!(outcome.broken + outcome.refused > outcome.cases / 2, "{peer:?} was not there");
    }
}
