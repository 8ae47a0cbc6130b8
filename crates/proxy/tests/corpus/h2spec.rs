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
    beside::{Peer, Speak as PeerSpeak},
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

/// What failed, and the line of totals.
fn run(program: &Path, at: SocketAddr, more: &[&str]) -> (Vec<String>, String) {
    let out = Command::new(program)
        .args(["--host", "127.0.0.1", "--port", &at.port().to_string(), "--timeout", "1"])
        .args(more)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let (_, list) = text.split_once("Failures:").unwrap_or_default();
    let failed = list.lines().filter_map(|line| line.trim().strip_prefix("× ")).map(str::to_owned).collect();
    let totals = text.lines().find(|line| line.contains(" passed, "));
    (failed, totals.unwrap_or_else(|| panic!("h2spec did not run: {text}")).to_owned())
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
    let mut passed = Vec::new();
    for (name, at, more, known) in [
        ("plain text", plain, &[][..], PLAIN_FAILS_TODAY),
        ("TLS", tls, &["--tls", "--insecure"], TLS_FAILS_TODAY),
    ] {
        let (failed, totals) = run(&program, at, more);
        println!("S-H2-01 {name}: {totals}; failed {failed:?}");
        let count: usize = totals.split(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0);
        assert!(count >= 145, "{name}: {totals}");
        assert_eq!(failed, known, "{name}: the list may only get shorter");
        passed.push(count);
    }
    let at = free_port();
    let Some(_envoy) = Peer::Envoy.start(PeerSpeak::Http2, &[(at, oracle.address)]) else { return };
    let (failed, totals) = run(&program, at, &[]);
    println!("S-H2-01 Envoy, plain text: {totals}; failed {failed:?}");
    let count: usize = totals.split(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0);
    assert!(count > 100, "Envoy was not there: {totals}");
    assert!(passed.iter().all(|ours| *ours >= count), "Envoy passes {count}, we {passed:?}");
}
