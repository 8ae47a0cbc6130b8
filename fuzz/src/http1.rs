//! The HTTP/1 codec: the promises that its own tests hold it to.

use weft_wire::http1::Asked;

use crate::{mutations::Random, promises, second, seed_of};

pub fn request(data: &[u8]) {
    promises::request(data, &Random::new(seed_of(data)).cuts(data.len()));
    second::request(data);
}

pub fn request_seeds() -> Vec<Vec<u8>> {
    [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /a?b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: b\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=\"y\"\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTE: trailers\r\nConnection: close, te\r\nContent-Length: 0\r\n\r\n",
        "GET http://a:80/x HTTP/1.1\r\nHost: a:80\r\n\r\n",
        "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n\x16\x03\x01",
        "OPTIONS * HTTP/1.1\r\nHost: [::1]:8080\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// The first byte says what was asked.
pub fn response(data: &[u8]) {
    let Some((asked, data)) = data.split_first() else { return };
    let asked = Asked { head: asked & 1 != 0, connect: asked & 2 != 0, upgrade: asked & 4 != 0 };
    promises::response(data, asked, &Random::new(seed_of(data)).cuts(data.len()));
    second::response(data, asked);
}

pub fn response_seeds() -> Vec<Vec<u8>> {
    [
        "\0HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        "\0HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n",
        "\0HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        "\0HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nabc",
        "\x01HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        "\x02HTTP/1.1 200 OK\r\n\r\nbytes of a tunnel",
        "\x04HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nbytes",
        "\0HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\nConnection: x\r\n\r\na",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

pub fn chunks(data: &[u8]) {
    promises::chunks(data, &mut Random::new(seed_of(data)));
}

pub fn chunk_seeds() -> Vec<Vec<u8>> {
    vec![b"abc".to_vec(), b"0\r\n\r\n".to_vec(), vec![0; 200]]
}
