//! The key of a WebSocket's handshake, which HTTP/1 has and HTTP/2 does without (RFC 6455 section 4.2.2, RFC 8441).

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{
    HeaderMap, HeaderValue,
    header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY},
};

pub const PROTOCOL: &str = "websocket";
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a client proves with that the server speaks WebSocket.
pub struct Key(HeaderValue);

impl Key {
    pub fn of(headers: &HeaderMap) -> Option<Key> {
        headers.get(SEC_WEBSOCKET_KEY).cloned().map(Key)
    }

    /// A key of our own, in the name of a client that needs none.
    pub fn insert(headers: &mut HeaderMap, random: (u64, u64)) -> Key {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&random.0.to_be_bytes());
        bytes[8..].copy_from_slice(&random.1.to_be_bytes());
        let key = value(&bytes);
        headers.insert(SEC_WEBSOCKET_KEY, key.clone());
        Key(key)
    }

    /// The server was an HTTP/2 one and may have said nothing to the key: the client hears what it waits for.
    pub fn accept_for_client(&self, headers: &mut HeaderMap) {
        headers.entry(SEC_WEBSOCKET_ACCEPT).or_insert_with(|| self.accept());
    }

    /// The answer to our own key is not the client's; false: it is wrong.
    pub fn take_accept(&self, headers: &mut HeaderMap) -> bool {
        headers.remove(SEC_WEBSOCKET_ACCEPT).is_some_and(|accept| accept == self.accept())
    }

    fn accept(&self) -> HeaderValue {
        value(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[self.0.as_bytes(), GUID].concat()).as_ref())
    }
}

fn value(bytes: &[u8]) -> HeaderValue {
    // Base64 is always a valid value; the fallback is unreachable and harmless.
    HeaderValue::try_from(STANDARD.encode(bytes)).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The RFC's own example.
    #[test]
    fn accept_is_what_the_rfc_says() {
        let mut headers = HeaderMap::new();
        headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        let key = Key::of(&headers).unwrap();
        let mut answer = HeaderMap::new();
        assert!(!key.take_accept(&mut answer));
        key.accept_for_client(&mut answer);
        assert_eq!(answer[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(key.take_accept(&mut answer) && answer.is_empty());
    }

    #[test]
    fn a_key_of_ours_is_sixteen_bytes() {
        let mut headers = HeaderMap::new();
        Key::insert(&mut headers, (1, 2));
        assert_eq!(STANDARD.decode(headers[SEC_WEBSOCKET_KEY].as_bytes()).unwrap().len(), 16);
    }
}
