//! A hello is built by hand, then cut, grown and spoilt in every way.

use super::*;

fn vector16(body: &[u8]) -> Vec<u8> {
    let mut out = u16::try_from(body.len()).expect("short test input").to_be_bytes().to_vec();
    out.extend_from_slice(body);
    out
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut out = kind.to_be_bytes().to_vec();
    out.extend(vector16(body));
    out
}

fn name_extension(name: &str) -> Vec<u8> {
    let mut entry = vec![NAME_TYPE_HOST];
    entry.extend(vector16(name.as_bytes()));
    extension(EXTENSION_SERVER_NAME, &vector16(&entry))
}

fn alpn_extension(names: &[&str]) -> Vec<u8> {
    let list: Vec<u8> = names
        .iter()
        .flat_map(|name| {
            let mut entry = vec![u8::try_from(name.len()).expect("short test input")];
            entry.extend_from_slice(name.as_bytes());
            entry
        })
        .collect();
    extension(EXTENSION_ALPN, &vector16(&list))
}

/// A handshake message: header and body, with these extensions.
fn message(extensions: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend(vector16(&[0x13, 0x01]));
    body.extend([1, 0]);
    body.extend(vector16(&extensions.concat()));
    let mut out = vec![HANDSHAKE_CLIENT_HELLO, 0];
    out.extend(u16::try_from(body.len()).expect("short test input").to_be_bytes());
    out.extend(body);
    out
}

/// The message in TLS records of at most `fragment` bytes.
fn records(message: &[u8], fragment: usize) -> Vec<u8> {
    message
        .chunks(fragment)
        .flat_map(|part| [vec![CONTENT_HANDSHAKE, 3, 1], vector16(part)].concat())
        .collect()
}

fn usual() -> Vec<u8> {
    message(&[
        extension(43, &[2, 3, 4]),
        name_extension("P8080.mesh.internal"),
        alpn_extension(&["h2", "http/1.1"]),
    ])
}

#[test]
fn name_is_lower_case_and_protocols_keep_their_order() {
    let hello = ClientHello {
        server_name: Some("p8080.mesh.internal".to_owned()),
        alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    assert_eq!(parse(&records(&usual(), 4096)), Ok(Progress::Done(hello)));
}

#[test]
fn every_split_gives_the_same_verdict() {
    let whole = parse(&records(&usual(), 4096)).expect("a hello");
    for fragment in 1..usual().len() {
        let bytes = records(&usual(), fragment);
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), Ok(Progress::More), "{end} bytes of records of {fragment}");
        }
        assert_eq!(parse(&bytes).as_ref(), Ok(&whole), "records of {fragment}");
    }
}

#[test]
fn bytes_after_the_hello_do_not_matter() {
    let mut bytes = records(&usual(), 4096);
    let alone = parse(&bytes);
    bytes.extend([20, 3, 3, 0, 1, 1]);
    assert_eq!(parse(&bytes), alone);
}

#[test]
fn hello_without_names_is_a_hello() {
    assert_eq!(parse(&records(&message(&[]), 4096)), Ok(Progress::Done(ClientHello::default())));
}

#[test]
fn what_is_not_a_hello_is_refused() {
    assert_eq!(parse(b"GET / HTTP/1.1\r\n"), Err(HelloError::NotTls));
    assert_eq!(parse(&[22, 9]), Err(HelloError::NotTls));
    assert_eq!(parse(&records(&[2, 0, 0, 1, 0], 64)), Err(HelloError::NotClientHello));
    assert_eq!(parse(&[22, 3, 1, 0, 0]), Err(HelloError::Malformed));
    assert_eq!(parse(&records(&[1, 0xff, 0, 0], 64)), Err(HelloError::TooLong));
    let twice = message(&[name_extension("a.example"), name_extension("b.example")]);
    assert_eq!(parse(&records(&twice, 4096)), Err(HelloError::Malformed));
}

#[test]
fn spoilt_lengths_never_panic() {
    let good = usual();
    for position in 4..good.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bad = good.clone();
            bad[position] = value;
            // Any verdict will do: the point is that there is one.
            let _ = parse(&records(&bad, 4096));
        }
    }
}

#[test]
fn endless_hello_is_refused_at_the_limit() {
    // Records of one byte carry five bytes of header each, so the limit on all bytes is met before the message ends.
    let padding = message(&[extension(21, &vec![0; 8000])]);
    let bytes = records(&padding, 1);
    assert_eq!(parse(&bytes[..HELLO_BYTES_MAX]), Err(HelloError::TooLong));
}
