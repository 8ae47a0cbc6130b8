//! The floors: what a user-space proxy costs that does nothing but copy bytes.
//!
//! `floor copy` moves them between two TCP connections; a pair of `floor tls-out` and `floor tls-in` has mutual TLS 1.3
//! between the two. One thread, edge-triggered epoll, one connection behind each connection, no HTTP, no timers.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection};

use crate::handshakes::Trusting;
use crate::poll::{self, Got, Places, Poll};

/// `floor copy LISTEN UPSTREAM`, `floor tls-out|tls-in LISTEN UPSTREAM IDENTITY`; ports of loopback.
pub fn run(args: &[String]) -> anyhow::Result<()> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let (listen, upstream, tls) = match words[..] {
        ["copy", listen, upstream] => (listen, upstream, None),
        ["tls-out", listen, upstream, identity] => (listen, upstream, Some(client(Path::new(identity))?)),
        ["tls-in", listen, upstream, identity] => (listen, upstream, Some(server(Path::new(identity))?)),
        _ => bail!(
            "floor copy LISTEN UPSTREAM | tls-out LISTEN UPSTREAM IDENTITY | tls-in LISTEN UPSTREAM IDENTITY"
        ),
    };
    let (listen, upstream): (u16, u16) = (listen.parse()?, upstream.parse()?);
    let listener = TcpListener::bind(("127.0.0.1", listen))?;
    serve(&listener, upstream, tls.as_ref())
}

/// Which of the two sides speaks TLS, and how.
enum Tls {
    ToUpstream(Arc<ClientConfig>),
    FromCaller(Arc<ServerConfig>),
}

/// A connection and the one behind it; `sides[0]` is the caller.
struct Pair {
    sides: [Side; 2],
    /// Whose side speaks TLS.
    tls: Option<(usize, Connection)>,
}

struct Side {
    stream: TcpStream,
    pending: Vec<u8>,
}

fn serve(listener: &TcpListener, upstream: u16, tls: Option<&Tls>) -> anyhow::Result<()> {
    const LISTENER: u64 = u64::MAX;
    let mut poll = Poll::new()?;
    poll.listener(listener, LISTENER)?;
    let mut pairs: Places<Pair> = Places::default();
    let (mut ready, mut ended) = (Vec::new(), Vec::new());
    let (mut buffer, mut plain) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        poll.wait(&mut ready)?;
        for event in &ready {
            if event.key == LISTENER {
                while let Some(caller) = poll::accept(listener) {
                    let place = pairs.put(pair(caller, upstream, tls)?);
                    for (side, one) in pairs.get(place).into_iter().flat_map(|pair| &pair.sides).enumerate() {
                        poll.edge(&one.stream, (place * 2 + side) as u64)?;
                    }
                }
                continue;
            }
            let (place, side) = ((event.key / 2) as usize, (event.key % 2) as usize);
            let Some(pair) = pairs.get(place) else { continue };
            let mut open = true;
            if event.write && !pair.sides[side].pending.is_empty() {
                let Side { stream, pending } = &mut pair.sides[side];
                open = poll::flush(stream, pending);
                // What the other side holds back was not read yet, and no edge says so again.
                open &= pair.copy(1 - side, &mut buffer, &mut plain);
            }
            if open && event.read {
                open = pair.copy(side, &mut buffer, &mut plain);
            }
            if !open {
                ended.push(place);
            }
        }
        // A place may be named by a later event of the same round.
        for place in ended.drain(..) {
            if let Some(pair) = pairs.get(place) {
                pair.sides.iter().for_each(|side| poll::close(&side.stream));
            }
            pairs.take(place);
        }
    }
}

fn pair(caller: TcpStream, upstream: u16, tls: Option<&Tls>) -> anyhow::Result<Pair> {
    let behind = TcpStream::connect(("127.0.0.1", upstream))?;
    poll::prepare(&behind)?;
    let side = |stream| Side { stream, pending: Vec::new() };
    let tls = match tls {
        None => None,
        Some(Tls::ToUpstream(config)) => {
            let name = ServerName::try_from("be1.mesh.internal")?;
            Some((1, ClientConnection::new(Arc::clone(config), name)?.into()))
        }
        Some(Tls::FromCaller(config)) => Some((0, ServerConnection::new(Arc::clone(config))?.into())),
    };
    let mut pair = Pair { sides: [side(caller), side(behind)], tls };
    if let Some((_, tls)) = &mut pair.tls {
        // What the caller sends during the handshake waits in the session, however much it is.
        tls.set_buffer_limit(None);
    }
    pair.send_records();
    Ok(pair)
}

impl Pair {
    /// Moves what came at `from` to the other side. False once the pair is done.
    fn copy(&mut self, from: usize, buffer: &mut [u8], plain: &mut [u8]) -> bool {
        loop {
            // The kernel holds what the other side doesn't take.
            if self.sides[1 - from].pending.len() > 1024 * 1024 {
                return true;
            }
            let read = match poll::read(&self.sides[from].stream, buffer) {
                Got::Bytes(read) => read,
                Got::NothingNow => return true,
                Got::End => return false,
            };
            if !self.hand_on(from, &buffer[..read], plain) {
                return false;
            }
            // An edge comes again only when a read has emptied the socket.
            if read < buffer.len() {
                return true;
            }
        }
    }

    fn hand_on(&mut self, from: usize, mut bytes: &[u8], plain: &mut [u8]) -> bool {
        let Some((encrypted, tls)) = &mut self.tls else {
            let Side { stream, pending } = &mut self.sides[1 - from];
            return poll::write(stream, bytes, pending);
        };
        let mut open = true;
        if *encrypted == from {
            while open && !bytes.is_empty() {
                open = tls.read_tls(&mut bytes).is_ok() && tls.process_new_packets().is_ok();
                while let Ok(read) = tls.reader().read(plain) {
                    if read == 0 {
                        break;
                    }
                    let Side { stream, pending } = &mut self.sides[1 - from];
                    open &= poll::write(stream, &plain[..read], pending);
                }
            }
        } else {
            open = tls.writer().write_all(bytes).is_ok();
        }
        open && self.send_records()
    }

    fn send_records(&mut self) -> bool {
        let Some((encrypted, tls)) = &mut self.tls else { return true };
        let Side { stream, pending } = &mut self.sides[*encrypted];
        while tls.wants_write() {
            let mut records = Records { stream, pending, open: true };
            if tls.write_tls(&mut records).is_err() || !records.open {
                return false;
            }
        }
        true
    }
}

/// Takes all that the TLS session writes; the socket's rest waits in `pending`.
struct Records<'a> {
    stream: &'a TcpStream,
    pending: &'a mut Vec<u8>,
    open: bool,
}

impl Write for Records<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.open &= poll::write(self.stream, bytes, self.pending);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

fn identity(dir: &Path) -> anyhow::Result<Identity> {
    let chain = CertificateDer::pem_file_iter(dir.join("chain.pem"))?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(dir.join("key.pem")).context("key.pem")?;
    Ok(Identity { chain, key })
}

fn client(dir: &Path) -> anyhow::Result<Tls> {
    let Identity { chain, key } = identity(dir)?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting(provider())))
        .with_client_auth_cert(chain, key)?;
    Ok(Tls::ToUpstream(Arc::new(config)))
}

fn server(dir: &Path) -> anyhow::Result<Tls> {
    let Identity { chain, key } = identity(dir)?;
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(dir.join("bundle.pem"))? {
        roots.add(root?)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build()?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    Ok(Tls::FromCaller(Arc::new(config)))
}
