//! Fields by which proxies tell each other, and the app, who called: X-Forwarded-*, Via, the request id, Server.
//!
//! The app may believe them because we take them away from everybody who has no right to send them.

use std::net::{IpAddr, SocketAddr};

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{SERVER, VIA},
};
use weft_routing::{ForwardClientCert, HttpConfig, ServerHeader};

use super::headers::{self, X_FORWARDED_CLIENT_CERT, X_FORWARDED_PROTO, X_REQUEST_ID};
use crate::{peer::Peer, record::RequestRecord};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Removed at an edge that trusts no hop before it.
const FORWARDED_BY_NOBODY: [&str; 5] =
    ["x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "forwarded", "x-real-ip"];
const NAME: HeaderValue = HeaderValue::from_static("weft");

/// Fields of the request that is sent on.
pub fn say_who_called(headers: &mut HeaderMap, peer: &Peer, config: &HttpConfig) {
    if peer.principal.is_none() {
        remove_internal(headers);
    }
    if config.use_remote_address && config.xff_trusted_hops == 0 {
        // Nobody stands before an edge, so nobody can have forwarded anything.
        for name in FORWARDED_BY_NOBODY {
            headers.remove(name);
        }
    }
    client_cert(headers, peer, config.forward_client_cert);
    if config.use_remote_address && !config.skip_xff_append {
        append(headers, X_FORWARDED_FOR, &peer.remote().ip().to_string());
    }
    headers
        .entry(X_FORWARDED_PROTO)
        .or_insert_with(|| HeaderValue::from_static(if peer.tls == "none" { "http" } else { "https" }));
    if let Some(via) = &config.via {
        append(headers, VIA, via);
    }
    if config.request_id.generate {
        settle_request_id(headers, peer, config);
    }
}

fn settle_request_id(headers: &mut HeaderMap, peer: &Peer, config: &HttpConfig) {
    // At an edge an id from outside is nobody's.
    if config.use_remote_address && !config.request_id.preserve_external {
        headers.remove(X_REQUEST_ID);
    }
    let random = || (u128::from(peer.worker.random()) << 64) | u128::from(peer.worker.random());
    headers::ensure_request_id(headers, random);
}

/// The id of a request that goes no further, which it gets here if it has none.
#[cold]
pub fn request_id(headers: &mut HeaderMap, peer: &Peer, config: &HttpConfig) -> Option<HeaderValue> {
    settle_request_id(headers, peer, config);
    headers.get(X_REQUEST_ID).cloned()
}

/// What proxies say to each other is nobody else's to say. A look at each name is ~2 ns.
fn remove_internal(headers: &mut HeaderMap) {
    let internal = |name: &&HeaderName| {
        let name = name.as_str();
        name.starts_with("x-envoy-") || name.starts_with("x-weft-")
    };
    while let Some(name) = headers.keys().find(internal).cloned() {
        headers.remove(name);
    }
}

fn client_cert(headers: &mut HeaderMap, peer: &Peer, policy: ForwardClientCert) {
    let own = peer.client_cert.as_ref();
    match (policy, own) {
        (ForwardClientCert::AlwaysForwardOnly, _) | (ForwardClientCert::ForwardOnly, Some(_)) => {}
        (ForwardClientCert::SanitizeSet, Some(own)) => {
            headers.insert(X_FORWARDED_CLIENT_CERT, own.clone());
        }
        (ForwardClientCert::AppendForward, Some(own)) => {
            append(headers, X_FORWARDED_CLIENT_CERT, own.to_str().unwrap_or_default());
        }
        _ => {
            headers.remove(X_FORWARDED_CLIENT_CERT);
        }
    }
}

/// Fields of the answer.
pub fn on_response(headers: &mut HeaderMap, config: &HttpConfig, record: &RequestRecord) {
    let name = || match &config.server_name {
        Some(name) => HeaderValue::from_str(name).unwrap_or(NAME),
        None => NAME,
    };
    match config.server_header {
        ServerHeader::PassThrough => {}
        ServerHeader::Overwrite => drop(headers.insert(SERVER, name())),
        ServerHeader::AppendIfAbsent => drop(headers.entry(SERVER).or_insert_with(name)),
    }
    if let Some(via) = &config.via {
        append(headers, VIA, via);
    }
    if let Some(id) = &record.request_id {
        headers.insert(X_REQUEST_ID, id.clone());
    }
}

/// The client, as far as the configuration trusts those who forwarded its request.
pub fn trusted_address(headers: &HeaderMap, peer: &Peer, config: &HttpConfig) -> IpAddr {
    let direct = peer.remote().ip();
    // Whoever is connected to an edge is the client, unless some trusted proxies stand before it.
    let from_right = match (config.use_remote_address, config.xff_trusted_hops) {
        (true, 0) => return direct,
        (true, hops) => hops - 1,
        (false, hops) => hops,
    };
    let listed = headers.get_all(X_FORWARDED_FOR).iter().rev();
    let addresses = listed.filter_map(|value| value.to_str().ok()).flat_map(|value| value.rsplit(','));
    addresses
        .map(str::trim)
        .nth(from_right as usize)
        .and_then(|text| text.parse().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip())))
        .unwrap_or(direct)
}

/// One more value at the end of a list.
fn append(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    let joined = match headers.get_all(&name).iter().next() {
        None => HeaderValue::from_str(value),
        Some(_) => {
            let all = headers.get_all(&name).iter().filter_map(|value| value.to_str().ok());
            HeaderValue::from_str(&all.chain([value]).collect::<Vec<_>>().join(","))
        }
    };
    if let Ok(joined) = joined {
        headers.insert(name, joined);
    }
}
