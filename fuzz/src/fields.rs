//! Header fields of strangers, after the parser: those of one hop, cookies, trailers, upgrades.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, TE, TRANSFER_ENCODING, UPGRADE},
};
use weft_proxy::http::headers::{
    clean_trailers, join_cookies, remove_hop_by_hop, settle_underscores, wanted_upgrade,
};
use weft_routing::Underscores;

/// What a client can't take away from the next reader by naming it.
const KEPT: [HeaderName; 4] = [HOST, CONTENT_LENGTH, AUTHORIZATION, COOKIE];
const OF_HOP: [&str; 5] = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
/// So many names of one `Connection` are believed.
const LISTED_MAX: usize = 16;

/// One field a line; lines that are none are passed over.
fn read(data: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n').take(100) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) =
            (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(&line[colon + 1..]));
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

fn values(headers: &HeaderMap, name: &HeaderName) -> Vec<HeaderValue> {
    headers.get_all(name).iter().cloned().collect()
}

pub fn fields(data: &[u8]) {
    let before = read(data);
    hop_by_hop(&before);
    cookies(&before);
    trailers(&before);
    let one = values(&before, &UPGRADE).len() == 1 && before.contains_key(CONNECTION);
    assert!(wanted_upgrade(&Method::GET, &before).is_none() || one);
    assert!(wanted_upgrade(&Method::POST, &before).is_none());
    let mut dropped = before;
    assert!(settle_underscores(&mut dropped, Underscores::Drop));
    assert!(settle_underscores(&mut dropped, Underscores::Refuse), "{dropped:?}");
}

fn hop_by_hop(before: &HeaderMap) {
    let mut after = before.clone();
    remove_hop_by_hop(&mut after);
    if !before.contains_key(CONNECTION) {
        return assert_eq!(&after, before);
    }
    assert!(OF_HOP.iter().all(|name| !after.contains_key(*name)), "{after:?}");
    let te = values(&after, &TE);
    assert!(te.is_empty() || te == ["trailers"], "{te:?}");
    for name in KEPT {
        assert_eq!(values(&after, &name), values(before, &name), "{name} is nobody's to take away");
    }
    let connection = values(before, &CONNECTION);
    let listed = connection.iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    for name in listed.take(LISTED_MAX).filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()) {
        assert!(KEPT.contains(&name) || name == TE || !after.contains_key(&name), "{name} stays: {after:?}");
    }
    for name in after.keys().filter(|name| *name != TE) {
        assert_eq!(values(&after, name), values(before, name), "what stays is as it was");
    }
    let mut again = after.clone();
    remove_hop_by_hop(&mut again);
    assert_eq!(again, after);
}

fn cookies(before: &HeaderMap) {
    let mut after = before.clone();
    join_cookies(&mut after);
    let fields = values(before, &COOKIE);
    // An empty one in front says nothing.
    let parts: Vec<&[u8]> =
        fields.iter().map(HeaderValue::as_bytes).skip_while(|part| part.is_empty()).collect();
    match &values(&after, &COOKIE)[..] {
        [] => assert!(fields.is_empty()),
        [one] => assert_eq!(one.as_bytes(), parts.join(&b"; "[..]), "no cookie is lost or made"),
        more => panic!("{more:?}"),
    }
}

fn trailers(before: &HeaderMap) {
    let mut after = before.clone();
    clean_trailers(&mut after);
    let claims = |name: &str| {
        name.starts_with("x-forwarded-") || name.starts_with("x-weft-") || name.starts_with("x-envoy-")
    };
    assert!(after.keys().all(|name| !claims(name.as_str())), "{after:?}");
    for name in KEPT.into_iter().chain([TRANSFER_ENCODING, CONNECTION]) {
        assert!(!after.contains_key(&name), "{name} in trailers");
    }
    for name in after.keys() {
        assert_eq!(values(&after, name), values(before, name), "what stays is as it was");
    }
}

pub fn field_seeds() -> Vec<Vec<u8>> {
    [
        "host:a\nconnection:close, x-mine, Host\nx-mine:1\nte:gzip, trailers\nkeep-alive:timeout=5\ncookie:a=b",
        "connection:keep-alive\nconnection:upgrade,,x\nupgrade:websocket\nx:1\nx:2\ncookie:a=1\ncookie:b=2",
        "content-length:3\nx-forwarded-client-cert:URI=a\ngrpc-status:0\nx_role:admin\ntransfer-encoding:chunked",
        "connection:a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q\nq:1\nauthorization:x\nx-weft-a:1\nproxy-connection:close",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
