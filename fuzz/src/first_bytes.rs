//! What a connection is, from its first bytes. A prefix may say "more", or what the whole says; never another thing.

use std::fmt::Debug;

use weft_proof::record::{Follower, Side};
use weft_wire::{Progress, http1, proxy_protocol, tls_hello};

use crate::prefixes;

/// `parse` of every prefix is `More` or what it is of the whole; an error stays an error.
fn steady<T: Debug + PartialEq, E: Debug + PartialEq>(
    data: &[u8],
    parse: impl Fn(&[u8]) -> Result<Progress<T>, E>,
) -> Result<Progress<T>, E> {
    let whole = parse(data);
    for prefix in prefixes(data) {
        match parse(prefix) {
            Ok(Progress::More) => {}
            early => assert_eq!(early, whole, "after {} of {} bytes", prefix.len(), data.len()),
        }
    }
    whole
}

pub fn tls_hello(data: &[u8]) {
    let ours = steady(data, tls_hello::parse);
    // rustls is asked after us: what it accepts, we must have read, and as the same.
    let mut acceptor = rustls::server::Acceptor::default();
    let mut rest = data;
    while !rest.is_empty() {
        if !matches!(acceptor.read_tls(&mut rest), Ok(1..)) {
            return;
        }
        match acceptor.accept() {
            Ok(None) => {}
            Err(_) => return,
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                let Ok(Progress::Done(ours)) = &ours else {
                    panic!("rustls accepts what is {ours:?} to us");
                };
                if let Some(theirs) = hello.server_name() {
                    assert_eq!(ours.server_name.as_deref(), Some(theirs.to_ascii_lowercase().as_str()));
                }
                let theirs: Vec<Vec<u8>> = hello.alpn().into_iter().flatten().map(<[u8]>::to_vec).collect();
                assert_eq!(ours.alpn, theirs);
                return;
            }
        }
    }
}

/// Hellos that rustls writes, whole and in two records.
pub fn hello_seeds() -> Vec<Vec<u8>> {
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut seeds = Vec::new();
    for (name, alpn) in [("p8080.mesh.internal", &["h2", "http/1.1"][..]), ("10.0.0.1", &[])] {
        let mut config = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = name.to_owned().try_into().unwrap();
        let mut client = rustls::ClientConnection::new(config.into(), name).unwrap();
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        let (first, second) = hello[5..].split_at(40);
        let split = [first, second].map(|part| {
            let length = u16::try_from(part.len()).unwrap().to_be_bytes();
            [&[22, 3, 1][..], &length, part].concat()
        });
        seeds.extend([hello.clone(), split.concat()]);
    }
    seeds
}

/// The first byte says whose bytes they are, and how much is lost in their middle.
pub fn tls_records(data: &[u8]) {
    let Some((first, data)) = data.split_first() else { return };
    let side = if first & 1 == 0 { Side::Client } else { Side::Server };
    let (before, after) = data.split_at(data.len() / 2);
    let counted = |mut follower: Follower, piece: usize, gap: u64| {
        before.chunks(piece).for_each(|piece| follower.feed(piece));
        if gap > 0 {
            follower.gap(gap);
        }
        after.chunks(piece).for_each(|piece| follower.feed(piece));
        follower.finish();
        assert_eq!((follower.counts().seen(), follower.counts().lost), (data.len() as u64, gap));
        *follower.counts()
    };
    let whole = counted(Follower::from_start(side), usize::MAX, 0);
    assert_eq!(counted(Follower::from_start(side), 1, 0), whole);
    counted(Follower::from_start(side), 7, u64::from(*first));
    counted(Follower::joining(side), 7, u64::from(*first));
}

pub fn record_seeds() -> Vec<Vec<u8>> {
    let record =
        |kind: u8, length: u8| [&[kind, 3, 3, 0, length][..], &vec![9; usize::from(length)]].concat();
    let joined = [record(23, 3), record(23, 90), record(21, 26)].concat();
    hello_seeds()
        .into_iter()
        .chain([joined])
        .flat_map(|bytes| [[&[0], &bytes[..]].concat(), [&[9], &bytes[..]].concat()])
        .collect()
}

pub fn detect(data: &[u8]) {
    let whole = steady(data, |bytes| Ok::<_, ()>(weft_wire::detect(bytes)));
    let mut head = http1::RequestHead::default();
    let http = matches!(head.read(data, &http1::Limits::DEFAULT), Ok(Progress::Done(_)));
    // Empty lines before a request, and methods that no registry has, are for listeners that speak HTTP only.
    let known =
        [&b"GET "[..], b"POST ", b"PUT ", b"CONNECT ", b"DELETE "].iter().any(|word| data.starts_with(word));
    if http && known {
        assert_eq!(whole, Ok(Progress::Done(weft_wire::Protocol::Http1)));
    }
    if matches!(tls_hello::parse(data), Ok(Progress::Done(_))) {
        assert_eq!(whole, Ok(Progress::Done(weft_wire::Protocol::Tls)));
    }
}

pub fn detect_seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "PROPFIND /a HTTP/1.1\r\nHost: a\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        "HELO example.org\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "\x16\x03\x01\x02\0\x01\0\x01\u{1}",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    seeds.push(vec![0, 0, 0, 8, 4, 210, 22, 47]);
    seeds
}

pub fn proxy_protocol(data: &[u8]) {
    let Ok(Progress::Done(header)) = steady(data, proxy_protocol::parse) else { return };
    assert!(header.bytes <= data.len(), "{header:?} of {} bytes", data.len());
    let again = proxy_protocol::header(header.version, header.addresses);
    let Ok(Progress::Done(second)) = proxy_protocol::parse(&again) else {
        panic!("{header:?} is written as {}", again.escape_ascii());
    };
    let plain = |addresses: Option<proxy_protocol::Addresses>| {
        addresses.map(|it| {
            [it.source, it.destination].map(|address| (address.ip().to_canonical(), address.port()))
        })
    };
    assert_eq!((plain(second.addresses), second.bytes), (plain(header.addresses), again.len()));
}

pub fn proxy_seeds() -> Vec<Vec<u8>> {
    use proxy_protocol::{Addresses, Version, header};
    let mut seeds =
        vec![b"PROXY UNKNOWN what ever\r\n".to_vec(), b"PROXY TCP4 1.2.3.4 5.6.7.8 1 65535\r\n".to_vec()];
    for (source, destination) in [("1.2.3.4:5", "6.7.8.9:10"), ("[::1]:5", "[2001:db8::1]:65535")] {
        let addresses =
            Addresses { source: source.parse().unwrap(), destination: destination.parse().unwrap() };
        for version in [Version::V1, Version::V2] {
            seeds.extend([header(version, Some(addresses)), header(version, None)]);
        }
    }
    // With a TLV and a byte of the connection behind.
    let mut long = seeds[4].clone();
    if let Some(length) = long.get_mut(15) {
        *length += 4;
    }
    long.extend([4, 0, 1, 0, b'G']);
    seeds.push(long);
    seeds
}
