//! A corpus with verdicts, its prefixes, what we write read again, and mutations of all of it.

use super::*;

fn addresses(source: &str, destination: &str) -> Option<Addresses> {
    Some(Addresses { source: source.parse().unwrap(), destination: destination.parse().unwrap() })
}

/// Version 2 with the length that the body has.
fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family][..], &length[..], body].concat()
}

const IPV4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0x12, 0x34, 0x01, 0xbb];

type Verdict = Result<Option<Addresses>, HeaderError>;

fn corpus() -> Vec<(Vec<u8>, Verdict)> {
    use HeaderError::{Absent, Length, Line, Text, TooLong, Unknown};
    let v4 = addresses("192.0.2.1:4660", "198.51.100.2:443");
    let v6 = addresses("[2001:db8::1]:1", "[2001:db8::2]:65535");
    let text = |line: &str, verdict: Verdict| (line.as_bytes().to_vec(), verdict);
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LINE_BYTES_MAX - 16));
    assert_eq!(long.len(), LINE_BYTES_MAX);
    let ipv6_body: Vec<u8> = {
        let ip = |last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).octets();
        [&ip(1)[..], &ip(2), &[0, 1, 0xff, 0xff]].concat()
    };
    let with_tlvs = [&IPV4[..], &[0x04, 0, 2, 0, 0], &[0x05, 0, 0], &[0xea, 0, 1, 7]].concat();
    let torn_tlv = [&IPV4[..], &[0x04, 0, 3, 0, 0]].concat();
    let torn_head = [&IPV4[..], &[0x04, 0]].concat();
    let full = [&IPV4[..], &[0x04, 0x0f, 0xe1], &[0; 0xfe1]].concat();
    assert_eq!(full.len() + FIXED_BYTES, HEADER_BYTES_MAX);
    let mut mixed_lengths = v2(PROXY, TCP_OVER_IPV4, &IPV4);
    mixed_lengths[15] = 11;
    vec![
        text("PROXY TCP4 192.0.2.1 198.51.100.2 4660 443\r\n", Ok(v4)),
        text("PROXY TCP4 192.0.2.1 198.51.100.2 4660 443\r\nGET / HTTP/1.1\r\n", Ok(v4)),
        text("PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n", Ok(v6)),
        text("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", Ok(addresses("0.0.0.0:0", "0.0.0.0:0"))),
        text("PROXY UNKNOWN\r\n", Ok(None)),
        text("PROXY UNKNOWN ffff::1 whatever 1 2 3\r\n", Ok(None)),
        text(&long, Ok(None)),
        text(&format!("PROXY UNKNOWN {}\r\n", "x".repeat(LINE_BYTES_MAX)), Err(Line)),
        text("PROXY UNKNOWN\n", Err(Line)),
        text("PROXY \r\n", Err(Text)),
        text("PROXY UNKNOWNS\r\n", Err(Text)),
        text("PROXY TCP4 192.0.2.1 198.51.100.2 4660\r\n", Err(Text)),
        text("PROXY TCP4 192.0.2.1 198.51.100.2 4660 443 1\r\n", Err(Text)),
        text("PROXY TCP4  192.0.2.1 198.51.100.2 4660 443\r\n", Err(Text)),
        text("PROXY TCP4 192.0.2.1 198.51.100.2 4660 443 \r\n", Err(Text)),
        text("PROXY TCP4 192.0.2.1 198.51.100.2 +4660 443\r\n", Err(Text)),
        text("PROXY TCP4 192.0.2.1 198.51.100.2 04660 443\r\n", Err(Text)),
        text("PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n", Err(Text)),
        text("PROXY TCP4 192.0.2.01 198.51.100.2 4660 443\r\n", Err(Text)),
        text("PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n", Err(Text)),
        text("PROXY TCP6 192.0.2.1 198.51.100.2 4660 443\r\n", Err(Text)),
        text("PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n", Err(Text)),
        text("PROXY TCP5 192.0.2.1 198.51.100.2 4660 443\r\n", Err(Text)),
        text("PROXY tcp4 192.0.2.1 198.51.100.2 4660 443\r\n", Err(Text)),
        text("PROXY TCP4 192.0.2.1 198.51.100.2 4660 443\n\r\n", Err(Line)),
        (b"PROXY UNKNOWN \xff\r\n".to_vec(), Err(Text)),
        text("GET / HTTP/1.1\r\n", Err(Absent)),
        text("proxy TCP4 ", Err(Absent)),
        text("\r\n\r\nX", Err(Absent)),
        text("PROXYTCP4", Err(Absent)),
        (v2(PROXY, TCP_OVER_IPV4, &IPV4), Ok(v4)),
        ([v2(PROXY, TCP_OVER_IPV4, &IPV4), b"more".to_vec()].concat(), Ok(v4)),
        (v2(PROXY, TCP_OVER_IPV6, &ipv6_body), Ok(v6)),
        (v2(PROXY, TCP_OVER_IPV4, &with_tlvs), Ok(v4)),
        (v2(PROXY, TCP_OVER_IPV4, &full), Ok(v4)),
        (v2(PROXY, TCP_OVER_IPV4, &[full.as_slice(), &[4, 0, 0]].concat()), Err(TooLong)),
        (v2(PROXY, TCP_OVER_IPV4, &torn_tlv), Err(Length)),
        (v2(PROXY, TCP_OVER_IPV4, &torn_head), Err(Length)),
        (mixed_lengths, Err(Length)),
        (v2(PROXY, TCP_OVER_IPV6, &IPV4), Err(Length)),
        (v2(PROXY, 0x31, &[0; UNIX_BYTES]), Ok(None)),
        (v2(PROXY, 0x31, &[0; UNIX_BYTES - 1]), Err(Length)),
        (v2(PROXY, 0x12, &IPV4), Ok(None)),
        (v2(PROXY, 0x00, b"ignored"), Ok(None)),
        (v2(PROXY, 0x41, &[]), Err(Unknown)),
        (v2(PROXY, 0x13, &IPV4), Err(Unknown)),
        (v2(LOCAL, 0x00, &[]), Ok(None)),
        (v2(LOCAL, 0xff, b"anything at all"), Ok(None)),
        (v2(LOCAL, TCP_OVER_IPV4, &IPV4), Ok(None)),
        (v2(0x22, TCP_OVER_IPV4, &IPV4), Err(Unknown)),
        (v2(0x11, TCP_OVER_IPV4, &IPV4), Err(Unknown)),
    ]
}

#[test]
fn each_of_the_corpus_has_its_verdict_however_it_arrives() {
    for (bytes, expected) in corpus() {
        let said = parse(&bytes);
        let shown = bytes.escape_ascii();
        let addresses = said.clone().map(|progress| match progress {
            Progress::Done(header) => header.addresses,
            Progress::More => panic!("no verdict: {shown}"),
        });
        assert_eq!(addresses, expected, "{shown}");
        for end in 0..bytes.len() {
            let early = parse(&bytes[..end]);
            assert!(early == Ok(Progress::More) || early == said, "{end} bytes of {shown} said {early:?}");
        }
    }
}

#[test]
fn the_connections_own_bytes_are_left() {
    for version in [Version::V1, Version::V2] {
        let pair = addresses("192.0.2.1:4660", "198.51.100.2:443");
        let mut bytes = header(version, pair);
        let length = bytes.len();
        bytes.extend_from_slice(b"PROXY TCP4 and more");
        assert_eq!(parse(&bytes), Ok(Progress::Done(Header { version, addresses: pair, bytes: length })));
    }
}

#[test]
fn what_is_written_is_read_again() {
    let cases = [
        (None, None),
        (addresses("192.0.2.1:1", "198.51.100.2:2"), addresses("192.0.2.1:1", "198.51.100.2:2")),
        (addresses("[2001:db8::1]:1", "[2001:db8::2]:2"), addresses("[2001:db8::1]:1", "[2001:db8::2]:2")),
        (addresses("[::ffff:192.0.2.1]:1", "198.51.100.2:2"), addresses("192.0.2.1:1", "198.51.100.2:2")),
        (addresses("192.0.2.1:1", "[2001:db8::2]:2"), addresses("[::ffff:192.0.2.1]:1", "[2001:db8::2]:2")),
    ];
    for version in [Version::V1, Version::V2] {
        for (given, expected) in cases {
            let bytes = header(version, given);
            let read = Header { version, addresses: expected, bytes: bytes.len() };
            assert_eq!(parse(&bytes), Ok(Progress::Done(read)), "{}", bytes.escape_ascii());
        }
    }
    let longest = addresses(
        "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
        "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe]:65535",
    );
    assert!(header(Version::V1, longest).len() <= LINE_BYTES_MAX);
}

#[test]
fn mutations_neither_panic_nor_contradict_themselves() {
    let corpus = corpus();
    let mut state = 0x5eed_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    let mut read = 0;
    for _ in 0..200_000 {
        let mut bytes = corpus[random(corpus.len())].0.clone();
        bytes.truncate(300); // the interesting part
        for _ in 0..=random(3) {
            let at = random(bytes.len());
            match random(5) {
                0 => bytes[at] = random(256) as u8,
                1 => bytes.insert(at, random(256) as u8),
                2 if bytes.len() > 1 => drop(bytes.remove(at)),
                3 => bytes.truncate(at + 1),
                _ => bytes[at] ^= 1 << random(8),
            }
        }
        let said = parse(&bytes);
        if let Ok(Progress::Done(header)) = said {
            assert!((1..=bytes.len()).contains(&header.bytes), "{}", bytes.escape_ascii());
            read += 1;
        }
        if bytes.len() >= HEADER_BYTES_MAX {
            assert_ne!(said, Ok(Progress::More), "{}", bytes.escape_ascii());
        }
        let early = parse(&bytes[..random(bytes.len())]);
        assert!(early == Ok(Progress::More) || early == said, "{}: {early:?}", bytes.escape_ascii());
    }
    assert!(read > 5_000, "only {read} were headers: the mutations miss what they should try");
}
