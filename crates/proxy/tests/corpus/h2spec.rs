//! Row S-H2-01: h2spec, against a listener in plain text and one with TLS.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
};

use envoy_types::pb::envoy::{
    config::{
        core::v3::{DataSource, data_source},
        listener::v3::FilterChain,
    },
    extensions::transport_sockets::tls::v3::{CommonTlsContext, DownstreamTlsContext, TlsCertificate},
};
use weft_proxy::static_config::StaticResources;

use crate::{
    beside::{Limits, Peer, Speak as PeerSpeak, Way, at_length, figure},
    edge::Edge,
    mesh::{
        free_port,
        xds::{Speak, any, cluster, http, listener, plain_chain, to, transport_socket, vhost},
    },
    oracle::Oracle,
};

/// In plain text the first bytes say what is spoken: a wrong preface (RFC 9113 section 3.4) is a wrong HTTP/1 request,
/// so it is told 400 before the connection ends, where h2spec wants the end and no more.
const PLAIN_FAILS_TODAY: &[&str] = &["2: Sends invalid connection preface"];
const TLS_FAILS_TODAY: &[&str] = &[];

/// A chain with a certificate of its own, for strangers.
fn tls_chain(web: envoy_types::pb::envoy::config::listener::v3::Filter) -> FilterChain {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let inline = |text: String| {
        Some(DataSource {
            specifier: Some(data_source::Specifier::InlineString(text)),
            ..DataSource::default()
        })
    };
    let context = DownstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            alpn_protocols: vec!["h2".to_owned(), "http/1.1".to_owned()],
            tls_certificates: vec![TlsCertificate {
                certificate_chain: inline(made.cert.pem()),
                private_key: inline(made.signing_key.serialize_pem()),
                ..TlsCertificate::default()
            }],
            ..CommonTlsContext::default()
        }),
        ..DownstreamTlsContext::default()
    };
    FilterChain { transport_socket: transport_socket(any(&context)), ..plain_chain(web) }
}

/// Of all of its cases, the strict ones too.
const CASES: usize = 146;

/// What failed, and how many passed.
fn run(program: &Path, who: &str, at: SocketAddr, more: &[&str]) -> (Vec<String>, usize) {
    let out = Command::new(program)
        .args(["--host", "127.0.0.1", "--port", &at.port().to_string(), "--strict"])
        .args(more)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let (_, list) = text.split_once("Failures:").unwrap_or_default();
    let failed = list.lines().filter_map(|line| line.trim().strip_prefix("× ")).map(str::to_owned).collect();
    // `146 tests, 145 passed, 0 skipped, 1 failed`
    let totals = text.lines().find(|line| line.contains(" passed, "));
    let totals = totals.unwrap_or_else(|| panic!("h2spec did not run: {text}"));
    let number = |word: &str| -> usize {
        let part = totals.split(", ").find_map(|part| part.strip_suffix(word));
        part.and_then(|part| part.trim().parse().ok()).unwrap_or_else(|| panic!("{totals}"))
    };
    assert_eq!(number(" tests"), CASES, "{totals}");
    let passed = number(" passed");
    println!("S-H2-01 {who}: {totals}; failed {failed:?}");
    (failed, passed)
}

fn tell(who: &str, tls: bool, passed: usize) {
    let line = format!("h2spec, {}: passed of {CASES}", if tls { "TLS" } else { "in the clear" });
    figure(&line, who, passed);
}

/// S-H2-01: all of h2spec but what is listed above, with its reason.
#[test]
fn h2spec_passes() {
    let Some(program) = weft_testkit::peers::program("h2spec") else { return };
    let (oracle, plain, tls) = (Oracle::start(), free_port(), free_port());
    let road = || http("web", vec![vhost("all", &["*"], vec![to("/", "o")])], None);
    let _edge = Edge::start(StaticResources {
        listeners: vec![
            listener("plain", plain, vec![plain_chain(road())]),
            listener("tls", tls, vec![tls_chain(road())]),
        ],
        clusters: vec![cluster("o", &[oracle.address], Speak::Http1, None)],
        ..StaticResources::default()
    });
    let mut ours = Vec::new();
    for (tls, at, more, known) in
        [(false, plain, &[][..], PLAIN_FAILS_TODAY), (true, tls, &["--tls", "--insecure"], TLS_FAILS_TODAY)]
    {
        let (failed, passed) = run(&program, "Weft", at, more);
        tell("Weft", tls, passed);
        assert_eq!(failed, known, "TLS {tls}: the list may only get shorter");
        assert_eq!(passed, CASES - known.len());
        ours.push(passed);
    }
    // Each takes a minute and more of h2spec's patience, so the others' turn is when all is run.
    if !at_length() {
        return;
    }
    for peer in Peer::ALL {
        let ways = [false, true]
            .map(|tls| Way { tls, ..Way::plain(PeerSpeak::Either, free_port(), oracle.address) });
        let Some(_running) = peer.start_limited(&ways, &Limits::default()) else { return };
        for (way, ours) in ways.iter().zip(&ours) {
            let more: &[&str] = if way.tls { &["--tls", "--insecure"] } else { &[] };
            let (_, passed) = run(&program, peer.name(), way.at, more);
            tell(peer.name(), way.tls, passed);
            assert!(passed > 100, "{peer:?} was not there");
            assert!(*ours >= passed, "{peer:?} passes {passed}, we {ours}");
        }
    }
}
