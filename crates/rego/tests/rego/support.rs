//! What every test here needs.

use std::sync::Arc;

use serde_json::Value as Json;
use weft_rego::{Body, Compiled, Decision, Limits, Module, Peer, Problems, Request, Settings, Worker};

/// 2026-01-01T00:00:00Z.
pub const NOW_NS: i64 = 1_767_225_600_000_000_000;

pub fn module(text: &str) -> Module {
    Module { name: "policy.rego".to_owned(), text: text.to_owned() }
}

pub fn try_compile(text: &str, data: &Json, settings: &Settings) -> Result<Arc<Compiled>, Problems> {
    weft_rego::compile(&[module(text)], data, settings)
}

/// Time enough for a build without optimisation on a busy machine.
pub fn patient() -> Settings {
    let limits = Limits { time: std::time::Duration::from_secs(5), ..Limits::default() };
    Settings { limits, ..Settings::default() }
}

/// A policy of package `envoy.authz` with its rule `allow`.
pub fn policy(text: &str) -> Arc<Compiled> {
    try_compile(text, &Json::Null, &patient()).unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}

pub fn worker(text: &str) -> Worker {
    Worker::new(&policy(text), 1).unwrap()
}

pub fn refused(text: &str) -> String {
    match try_compile(text, &Json::Null, &Settings::default()) {
        Ok(_) => panic!("not refused:\n{text}"),
        Err(problems) => problems.to_string(),
    }
}

pub fn request<'a>(path: &'a str, headers: &'a [(&'a str, &'a [u8])]) -> Request<'a> {
    Request {
        id: "17",
        method: "GET",
        scheme: "https",
        authority: "shop.test:8443",
        path,
        protocol: "HTTP/2",
        headers,
        size: 0,
        body: None,
        source: Peer {
            address: Some([192, 0, 2, 1].into()),
            port: 4711,
            principal: "spiffe://mesh/ns/a/sa/b",
            certificate: "",
        },
        destination: Peer { address: Some([192, 0, 2, 2].into()), port: 8443, ..Peer::default() },
        sni: "shop.test",
        extensions: &[],
    }
}

pub fn with_body<'a>(request: Request<'a>, bytes: &'a [u8]) -> Request<'a> {
    Request { body: Some(Body { bytes, truncated: false }), ..request }
}

pub fn decide(text: &str, request: &Request<'_>) -> Decision {
    worker(text).decide(request, NOW_NS)
}
