//! A conversation by TLS, as it would be on the wire.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use rustls_pki_types::{PrivateKeyDer, ServerName};
use weft_proof::record::Side;

/// What both ends said, in order.
pub struct Talk {
    pub flights: Vec<(Side, Vec<u8>)>,
}

pub enum Kind {
    Tls13,
    Tls12,
    /// TLS 1.3, and the client's first guess of a group is wrong.
    Retry,
}

impl Talk {
    /// Shakes hands, then `exchanges` times a question of `bytes` and an answer of as many.
    pub fn new(kind: &Kind, exchanges: usize, bytes: usize) -> Talk {
        let (mut client, mut server) = ends(kind);
        let mut flights = Vec::new();
        while client.is_handshaking() || server.is_handshaking() {
            pass(&mut client, &mut server, &mut flights);
        }
        pass(&mut client, &mut server, &mut flights);
        for n in 0..exchanges {
            let text = vec![b'a' + (n % 26) as u8; bytes];
            client.writer().write_all(&text).unwrap();
            pass(&mut client, &mut server, &mut flights);
            server.writer().write_all(&text).unwrap();
            pass(&mut client, &mut server, &mut flights);
        }
        client.send_close_notify();
        pass(&mut client, &mut server, &mut flights);
        Talk { flights }
    }

    /// All bytes of one side.
    pub fn of(&self, side: Side) -> Vec<u8> {
        self.flights.iter().filter(|(from, _)| *from == side).flat_map(|(_, bytes)| bytes.clone()).collect()
    }
}

fn ends(kind: &Kind) -> (ClientConnection, ServerConnection) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let chain = vec![made.cert.der().clone()];
    let mut roots = RootCertStore::empty();
    roots.add(chain[0].clone()).unwrap();
    let versions: &[&rustls::SupportedProtocolVersion] = match kind {
        Kind::Tls12 => &[&TLS12],
        _ => &[&TLS13],
    };
    let usual = aws_lc_rs::default_provider();
    let (for_client, for_server) = match kind {
        Kind::Retry => {
            let group = |groups: &[&'static dyn rustls::crypto::SupportedKxGroup]| {
                Arc::new(CryptoProvider { kx_groups: groups.to_vec(), ..aws_lc_rs::default_provider() })
            };
            let (first, second) = (aws_lc_rs::kx_group::SECP384R1, aws_lc_rs::kx_group::X25519);
            (group(&[first, second]), group(&[second]))
        }
        _ => (Arc::new(usual.clone()), Arc::new(usual)),
    };
    let client = ClientConfig::builder_with_provider(for_client)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let server = ServerConfig::builder_with_provider(for_server)
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    (ClientConnection::new(client.into(), name).unwrap(), ServerConnection::new(server.into()).unwrap())
}

/// What each has to say now.
fn pass(client: &mut ClientConnection, server: &mut ServerConnection, flights: &mut Vec<(Side, Vec<u8>)>) {
    let mut sink = Vec::new();
    let mut said = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut said).unwrap();
    }
    let mut rest = &said[..];
    while !rest.is_empty() {
        server.read_tls(&mut rest).unwrap();
        server.process_new_packets().unwrap();
        let _ = server.reader().read_to_end(&mut sink);
    }
    if !said.is_empty() {
        flights.push((Side::Client, said));
    }
    let mut said = Vec::new();
    while server.wants_write() {
        server.write_tls(&mut said).unwrap();
    }
    let mut rest = &said[..];
    while !rest.is_empty() {
        client.read_tls(&mut rest).unwrap();
        client.process_new_packets().unwrap();
        let _ = client.reader().read_to_end(&mut sink);
    }
    if !said.is_empty() {
        flights.push((Side::Server, said));
    }
}
