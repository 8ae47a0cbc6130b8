//! A new mTLS connection for each request: full TLS 1.3 handshakes with X25519 and a P-256 certificate, no resumption.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use serde_json::json;

const THREADS: usize = 8;

/// `handshakes PORT SNI HOST IDENTITY-DIR SECONDS GROUP`; prints one JSON line.
pub fn run(args: &[String]) -> anyhow::Result<()> {
    let [port, sni, host, identity, seconds, group] = args else {
        bail!("handshakes PORT SNI HOST IDENTITY-DIR SECONDS x25519|hybrid")
    };
    let client = Arc::new(Client::new(Path::new(identity), sni, group == "hybrid")?);
    let (port, length) = (port.parse()?, Duration::from_secs(seconds.parse()?));
    let started = Instant::now();
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (client, host) = (Arc::clone(&client), host.clone());
            std::thread::spawn(move || -> anyhow::Result<u64> {
                let mut done = 0;
                while done == 0 || started.elapsed() < length {
                    client.answered(port, &host)?;
                    done += 1;
                }
                Ok(done)
            })
        })
        .collect();
    let mut done = 0;
    for thread in threads {
        let count = thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?;
        done += count.context("a connection failed")?;
    }
    println!("{}", json!({"n": done, "seconds": started.elapsed().as_secs_f64()}));
    Ok(())
}

/// A caller by mTLS.
pub struct Client {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Client {
    pub fn new(identity: &Path, sni: &str, hybrid: bool) -> anyhow::Result<Client> {
        let name = ServerName::try_from(sni.to_owned())?;
        Ok(Client { config: Arc::new(config(identity, hybrid)?), name })
    }

    /// A new connection, after its first answer. The TLS session is gone with this call: the stream may only be held.
    pub fn answered(&self, port: u16, host: &str) -> anyhow::Result<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone())?;
        let mut tls = StreamOwned::new(connection, stream);
        tls.write_all(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes())?;
        let mut answer = [0; 4096];
        let read = tls.read(&mut answer)?;
        if !answer[..read].starts_with(b"HTTP/1.1 200") {
            bail!("not a 200: {}", String::from_utf8_lossy(&answer[..read]));
        }
        Ok(tls.sock)
    }
}

fn config(identity: &Path, hybrid: bool) -> anyhow::Result<ClientConfig> {
    let group = if hybrid { aws_lc_rs::kx_group::X25519MLKEM768 } else { aws_lc_rs::kx_group::X25519 };
    let provider = Arc::new(CryptoProvider { kx_groups: vec![group], ..aws_lc_rs::default_provider() });
    let chain = CertificateDer::pem_file_iter(identity.join("chain.pem"))?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(identity.join("key.pem"))?;
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting(provider)))
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The generator is not what is measured, so it spends nothing on whom it talks to. It never leaves loopback.
#[derive(Debug)]
pub struct Trusting(pub Arc<CryptoProvider>);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
