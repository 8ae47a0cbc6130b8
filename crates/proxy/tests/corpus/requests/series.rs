//! Row S-H1-05: the corpus through two proxies in a row, where one reader's mistake becomes the other's request.

use std::net::TcpListener;

use weft_proxy::static_config::StaticResources;

use super::{CASES, Expect, Lanes, Proxy, Tally, Verdict, corpus};
use crate::{
    beside::{Peer, Speak as PeerSpeak},
    edge::Edge,
    mesh::xds::{Speak, cluster, http, listener, plain_chain, to, vhost},
};

/// Who reads first; then comes Weft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    /// As at a gateway and a sidecar: HTTP/2 between them.
    Weft,
    Peer(Peer),
}

impl Lanes {
    fn in_series(first: First, count: usize) -> Option<Lanes> {
        let held: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let mut lanes = Lanes::prepare(count, None);
        let between: Vec<_> = held.iter().map(|held| held.local_addr().unwrap()).collect();
        drop(held);
        let hop = |from: Vec<_>, to_where: Vec<_>, speak: Speak| {
            let mut resources = StaticResources::default();
            for (n, (at, origin)) in from.into_iter().zip(to_where).enumerate() {
                let (web, next) = (format!("l{n}"), format!("o{n}"));
                let hosts = vec![vhost("all", &["*"], vec![to("/", &next)])];
                resources.listeners.push(listener(&web, at, vec![plain_chain(http(&web, hosts, None))]));
                resources.clusters.push(cluster(&next, &[origin], speak, None));
            }
            Edge::start(resources)
        };
        let clients: Vec<_> = lanes.iter().map(|lane| lane.at).collect();
        let origins: Vec<_> = lanes.iter().map(|lane| lane.oracle.address).collect();
        let edge = hop(between.clone(), origins, Speak::Http1);
        let first = match first {
            First::Weft => Proxy::Weft { _edge: hop(clients, between, Speak::Http2) },
            First::Peer(peer) => {
                let ways: Vec<_> = clients.into_iter().zip(between).collect();
                lanes.iter_mut().for_each(|lane| lane.peer = Some(peer));
                Proxy::Peer { _running: peer.start(PeerSpeak::Http1, &ways)? }
            }
        };
        Some(Lanes { lanes, _proxy: Proxy::Series { _first: Box::new(first), _edge: edge } })
    }
}

/// S-H1-05: 0 ambiguous for the pair; ours refuses nothing that must work.
#[test]
fn the_request_corpus_through_two_proxies() {
    println!("{}", Tally::HEAD);
    for (first, who, name, count) in [
        (First::Weft, "Weft", "Weft+Weft", 24),
        (First::Peer(Peer::Envoy), "Envoy", "Env.+Weft", 48),
        (First::Peer(Peer::HaProxy), "HAProxy", "HAP.+Weft", 48),
    ] {
        let Some(lanes) = Lanes::in_series(first, count) else { return };
        let verdicts = corpus(&lanes);
        let tally = Tally::new(verdicts.iter().map(|(_, (verdict, _))| verdict));
        println!("{}", tally.line("in series", name));
        tally.tell(&format!("{} requests, then Weft behind it", CASES.len()), who);
        for (case, (verdict, why)) in &verdicts {
            if matches!(verdict, Verdict::Ambiguous | Verdict::FalseReject) {
                println!("  {verdict:?}: {case}: {why}");
            }
        }
        // The guard: what must work does.
        let accepted = CASES.iter().filter(|(_, expect, _)| *expect == Expect::Accept).count();
        assert!(tally.count(Verdict::Forwarded) + 3 >= accepted, "{name}");
        assert_eq!(tally.count(Verdict::Ambiguous), 0, "{name}");
        // What a peer refuses in front of us is its own affair.
        let allowed = if first == First::Weft { 0 } else { 3 };
        assert!(tally.count(Verdict::FalseReject) <= allowed, "{name}");
    }
}
