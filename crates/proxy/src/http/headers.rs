//! Header fields that a proxy must change: those of one hop, those that say who called, and the request's id.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{self, CONNECTION, COOKIE, HOST, TE, TRANSFER_ENCODING, UPGRADE},
};
use weft_routing::Underscores;

use super::h1::io::copied;

pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
pub const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// Removes what belongs to one connection only (RFC 9110 section 7.6.1). `te: trailers` stays: gRPC needs it.
///
/// Without a `Connection` there is nothing to remove: HTTP/1's decoder leaves such fields out, and HTTP/2 has none
/// (RFC 9113 section 8.2.2; h2 refuses them).
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        remove_all_of_hop(headers);
    }
}

#[cold]
fn remove_all_of_hop(headers: &mut HeaderMap) {
    remove_listed(headers);
    headers.remove(CONNECTION);
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
    headers.remove(TRANSFER_ENCODING);
    headers.remove(UPGRADE);
    if let Some(te) = headers.get(TE) {
        let trailers = te.as_bytes().split(|byte| *byte == b',').any(|word| {
            let word = word.trim_ascii();
            word.len() >= 8 && word[..8].eq_ignore_ascii_case(b"trailers")
        });
        if trailers {
            headers.insert(TE, TRAILERS);
        } else {
            headers.remove(TE);
        }
    }
}

/// `Connection: x, y` names fields of this hop. The codec has refused longer lists than anybody needs.
fn remove_listed(headers: &mut HeaderMap) {
    let listed: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        // Those carry the message itself; a client must not be able to take them away from the next reader.
        .filter(|name| {
            ![HOST, header::CONTENT_LENGTH, header::AUTHORIZATION, COOKIE, TE, UPGRADE].contains(name)
        })
        .collect();
    for name in listed {
        headers.remove(name);
    }
}

/// Takes out of trailers what only a head may say: where the message ends, whom it is for, who sent it. A reader that
/// merges trailers into the head would believe them (RFC 9110 section 6.5.1).
pub fn clean_trailers(trailers: &mut HeaderMap) {
    while let Some(name) = trailers.keys().find(|name| is_of_the_head(name.as_str())).cloned() {
        trailers.remove(name);
    }
}

fn is_of_the_head(name: &str) -> bool {
    const PREFIXES: [&str; 5] = ["x-forwarded-", "x-envoy-", "x-weft-", "x-request-id", "x-real-ip"];
    match name.as_bytes().first() {
        Some(b'x') => PREFIXES.iter().any(|prefix| name.starts_with(prefix)),
        _ => matches!(
            name,
            "content-length"
                | "transfer-encoding"
                | "host"
                | "connection"
                | "te"
                | "trailer"
                | "upgrade"
                | "authorization"
                | "cookie"
                | "set-cookie"
                | "forwarded"
        ),
    }
}

/// The protocol that a request wants to change to, if it does so properly: `Connection: upgrade` and `Upgrade: x`.
pub fn wanted_upgrade<'a>(method: &Method, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
    let mut upgrades = headers.get_all(UPGRADE).iter();
    // Of two fields the next reader may take the other one.
    let (Some(upgrade), None) = (upgrades.next(), upgrades.next()) else { return None };
    let asked = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|word| word.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
    (asked && method == Method::GET).then_some(upgrade)
}

/// HTTP/2 may send cookies in several fields; HTTP/1 must not (RFC 9113 section 8.2.3).
pub fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let mut joined = Vec::new();
    for value in headers.get_all(COOKIE) {
        if !joined.is_empty() {
            joined.extend_from_slice(b"; ");
        }
        joined.extend_from_slice(value.as_bytes());
    }
    if let Ok(value) = HeaderValue::from_bytes(&joined) {
        headers.insert(COOKIE, value);
    }
}

/// Deals with fields that have a `_` in their names as the listener says; false: the request is to be refused.
pub fn settle_underscores(headers: &mut HeaderMap, wanted: Underscores) -> bool {
    let underscored = |name: &&HeaderName| name.as_str().contains('_');
    match wanted {
        Underscores::Allow => true,
        Underscores::Refuse => headers.keys().find(underscored).is_none(),
        Underscores::Drop => {
            let dropped: Vec<HeaderName> = headers.keys().filter(underscored).cloned().collect();
            for name in dropped {
                headers.remove(name);
            }
            true
        }
    }
}

/// Gives a request an id unless it has one.
pub fn ensure_request_id(headers: &mut HeaderMap, random: impl FnOnce() -> u128) {
    headers.entry(X_REQUEST_ID).or_insert_with(|| uuid4(random()));
}

/// A number as text, in memory that is used again.
pub fn number(number: u64) -> HeaderValue {
    // Digits are always a valid value; the fallback is unreachable.
    HeaderValue::from_maybe_shared(copied(itoa::Buffer::new().format(number).as_bytes()))
        .unwrap_or(HeaderValue::from_static("0"))
}

/// A random UUID, version 4, as text.
fn uuid4(random: u128) -> HeaderValue {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let bits = (random & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let mut digits = [0; 32];
    for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(bits.to_be_bytes()) {
        *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0xf)]];
    }
    let mut text = [b'-'; 36];
    for (place, from, to) in [(0, 0, 8), (9, 8, 12), (14, 12, 16), (19, 16, 20), (24, 20, 32)] {
        text[place..place + to - from].copy_from_slice(&digits[from..to]);
    }
    // Hex digits and dashes are always a valid value; the fallback is unreachable and harmless.
    HeaderValue::from_maybe_shared(copied(&text)).unwrap_or(HeaderValue::from_static("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_with_an_underscore_stay_go_or_refuse_their_request() {
        let fields = [("x-role", "a"), ("x_role", "b"), ("x_role", "c"), ("_", "d"), ("accept", "*/*")];
        let all = map(&fields);
        let mut headers = all.clone();
        assert!(settle_underscores(&mut headers, Underscores::Allow) && headers == all);
        assert!(!settle_underscores(&mut headers, Underscores::Refuse));
        assert!(settle_underscores(&mut headers, Underscores::Drop));
        assert_eq!(names(&headers), ["accept", "x-role"]);
        assert!(
            settle_underscores(&mut headers, Underscores::Refuse),
            "without one it is a request like others"
        );
    }

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn fields_of_one_hop_go_and_others_stay() {
        let mut headers = map(&[
            ("connection", "close, x-mine, Host"),
            ("x-mine", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "gzip, trailers"),
            ("host", "be1"),
            ("accept", "*/*"),
        ]);
        remove_hop_by_hop(&mut headers);
        assert_eq!(names(&headers), ["accept", "host", "te"]);
        assert_eq!(headers[TE], "trailers");
    }

    #[test]
    fn trailers_say_nothing_that_only_a_head_may() {
        let mut trailers = map(&[
            ("content-length", "3"),
            ("host", "b"),
            ("x-forwarded-client-cert", "URI=a"),
            ("grpc-status", "0"),
            ("role", "admin"),
        ]);
        clean_trailers(&mut trailers);
        assert_eq!(names(&trailers), ["grpc-status", "role"]);
        for name in [
            "transfer-encoding",
            "connection",
            "te",
            "trailer",
            "upgrade",
            "authorization",
            "cookie",
            "set-cookie",
            "forwarded",
            "x-forwarded-for",
            "x-envoy-attempt-count",
            "x-weft-previous-tries",
            "x-request-id",
            "x-real-ip",
        ] {
            let mut trailers = map(&[(name, "1")]);
            clean_trailers(&mut trailers);
            assert!(trailers.is_empty(), "{name}");
        }
    }

    #[test]
    fn te_without_trailers_goes() {
        let mut headers = map(&[("te", "gzip"), ("connection", "te")]);
        remove_hop_by_hop(&mut headers);
        assert!(headers.is_empty());
    }

    #[test]
    fn upgrade_needs_both_fields() {
        let websocket = map(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        assert!(wanted_upgrade(&Method::GET, &websocket).is_some());
        assert!(wanted_upgrade(&Method::POST, &websocket).is_none());
        assert!(wanted_upgrade(&Method::GET, &map(&[("upgrade", "websocket")])).is_none());
    }

    #[test]
    fn cookies_are_joined_for_http1() {
        let mut headers = map(&[("cookie", "a=1")]);
        headers.append(COOKIE, HeaderValue::from_static("b=2"));
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(COOKIE).iter().count(), 1);
        assert_eq!(headers[COOKIE], "a=1; b=2");
    }

    #[test]
    fn request_id_is_a_uuid_and_an_existing_one_stays() {
        let mut headers = HeaderMap::new();
        ensure_request_id(&mut headers, || u128::MAX);
        assert_eq!(headers[X_REQUEST_ID], "ffffffff-ffff-4fff-bfff-ffffffffffff");
        ensure_request_id(&mut headers, || 0);
        assert_eq!(headers[X_REQUEST_ID], "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
