//! rustls configurations that follow from an identity, built once per rotation and shared by all connections.
//!
//! Between members: TLS 1.3 only, both sides show an SVID, and a peer is believed for its SPIFFE id alone,
//! never for a DNS name ([`PeerVerifier`]). Towards the rest of the world: ordinary Web PKI
//! ([`origination_config`], [`plain_server_config`]). The crypto provider is always named, so that no
//! process-wide default decides.
//!
//! No member resumes a session: neither tickets nor a session cache exist on either side. A resumed
//! connection would carry an identity that was checked against an older certificate, bundle and policy;
//! members keep few and long connections, so there is little to save.

mod known;
mod refusal;
mod verify;

pub use refusal::Refusal;
pub use verify::{IdentityMatch, PeerVerifier};

use crate::bundle::Bundle;
use crate::certificate::Leaf;
use crate::key::PrivateKey;
use crate::spiffe::SpiffeId;
use crate::svid::Svid;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, ServerConfig};
use rustls::sign::SingleCertAndKey;
use rustls::{
    CipherSuite, ClientConfig, RootCertStore, SupportedCipherSuite, SupportedProtocolVersion, version,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::{Arc, LazyLock};

/// What HTTP ports offer: HTTP/2 first.
pub const ALPN_HTTP: &[&str] = &["h2", "http/1.1"];
/// What gRPC needs.
pub const ALPN_H2: &[&str] = &["h2"];
/// What TCP ports offer: no ALPN at all.
pub const ALPN_NONE: &[&str] = &[];

/// Why a configuration can't be built.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Versions, suites or groups don't fit together.
    #[error("TLS parameters")]
    Parameters(#[source] rustls::Error),
    /// The certificate and its key.
    #[error("the certificate and its private key")]
    Certificate(#[source] rustls::Error),
    /// None of the given roots is a certificate.
    #[error("none of the {0} CA certificates can be used: without one, no server could be verified")]
    NoRoots(usize),
}

/// The oldest version that a server outside the mesh may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MinVersion {
    /// TLS 1.2 or 1.3.
    #[default]
    Tls12,
    /// TLS 1.3.
    Tls13,
}

const TLS13: &[&SupportedProtocolVersion] = &[&version::TLS13];
const TLS12_13: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider {
        // Safe against an attacker who records today and has a quantum computer later; classical groups for
        // peers that don't know it yet.
        kx_groups: vec![
            aws_lc_rs::kx_group::X25519MLKEM768,
            aws_lc_rs::kx_group::X25519,
            aws_lc_rs::kx_group::SECP256R1,
            aws_lc_rs::kx_group::SECP384R1,
        ],
        cipher_suites: suites(),
        ..aws_lc_rs::default_provider()
    })
});

/// AES-128 first, the suite that TLS 1.3 makes mandatory: it is as strong as our certificates' signatures, and a
/// handshake derives a dozen keys by the suite's hash. Members' servers go by this order, whatever the client's.
fn suites() -> Vec<SupportedCipherSuite> {
    let mut suites = aws_lc_rs::DEFAULT_CIPHER_SUITES.to_vec();
    suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    suites
}

/// The crypto that all of Weft's TLS uses.
pub fn provider() -> Arc<CryptoProvider> {
    PROVIDER.clone()
}

/// The inbound side of a member: TLS 1.3, and the client must show an SVID of `bundle`'s trust domain.
pub fn server_config(svid: &Svid, bundle: &Bundle, alpn: &[&str]) -> Result<Arc<ServerConfig>, TlsError> {
    member_server(svid, PeerVerifier::for_clients(bundle.clone()), alpn)
}

/// Like [`server_config`], for the control plane's port: first contact comes without a certificate. One that
/// is shown must be good.
pub fn server_config_optional_client(
    svid: &Svid,
    bundle: &Bundle,
    alpn: &[&str],
) -> Result<Arc<ServerConfig>, TlsError> {
    member_server(svid, PeerVerifier::for_optional_clients(bundle.clone()), alpn)
}

fn member_server(svid: &Svid, verifier: PeerVerifier, alpn: &[&str]) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(TLS13)
        .map_err(TlsError::Parameters)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(svid.certified().clone())));
    forbid_resumption(&mut config);
    config.ignore_client_order = true;
    config.alpn_protocols = protocols(alpn);
    Ok(Arc::new(config))
}

fn forbid_resumption(config: &mut ServerConfig) {
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
}

/// The outbound side of a member: TLS 1.3, shows `svid`, and the server must be one of `expected`.
///
/// A configuration belongs to one source identity and one set of expected ones: a pool of connections is
/// keyed by both.
pub fn client_config(
    svid: &Svid,
    bundle: &Bundle,
    expected: IdentityMatch,
    alpn: &[&str],
) -> Result<Arc<ClientConfig>, TlsError> {
    let resolver = Arc::new(SingleCertAndKey::from(svid.certified().clone()));
    let mut config = member_client(bundle, expected)?.with_client_cert_resolver(resolver);
    config.resumption = Resumption::disabled();
    config.alpn_protocols = protocols(alpn);
    Ok(Arc::new(config))
}

/// First contact with the control plane: like [`client_config`] without an own certificate.
pub fn client_config_anonymous(
    bundle: &Bundle,
    expected: IdentityMatch,
    alpn: &[&str],
) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = member_client(bundle, expected)?.with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = protocols(alpn);
    Ok(Arc::new(config))
}

fn member_client(
    bundle: &Bundle,
    expected: IdentityMatch,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, TlsError> {
    Ok(ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(TLS13)
        .map_err(TlsError::Parameters)?
        .dangerous() // rustls's word for an own verifier; ours is the stricter one.
        .with_custom_certificate_verifier(Arc::new(PeerVerifier::for_servers(bundle.clone(), expected))))
}

/// TLS towards a server outside the mesh: its chain must lead to one of `roots` (the system's or a custom CA)
/// and its certificate must be for the name that the connection is opened with.
///
/// Sessions are resumed within this configuration, which serves one external service.
pub fn origination_config(
    roots: &[CertificateDer<'static>],
    client: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    alpn: &[&str],
    min_version: MinVersion,
) -> Result<Arc<ClientConfig>, TlsError> {
    let mut store = RootCertStore::empty();
    // System stores hold certificates that nobody can parse; one good root is enough to go on.
    let (usable, _) = store.add_parsable_certificates(roots.iter().cloned());
    if usable == 0 {
        return Err(TlsError::NoRoots(roots.len()));
    }
    let versions = match min_version {
        MinVersion::Tls12 => TLS12_13,
        MinVersion::Tls13 => TLS13,
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .map_err(TlsError::Parameters)?
        .with_root_certificates(store);
    let mut config = match client {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(TlsError::Certificate)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols(alpn);
    Ok(Arc::new(config))
}

/// HTTPS for people and tools (the API, a gateway): TLS 1.2 or 1.3, no client certificate, HTTP by ALPN.
pub fn plain_server_config(
    cert_chain: Vec<CertificateDer<'static>>,
    key: &PrivateKey,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(TLS12_13)
        .map_err(TlsError::Parameters)?
        .with_no_client_auth()
        .with_single_cert(cert_chain, key.to_der())
        .map_err(TlsError::Certificate)?;
    forbid_resumption(&mut config);
    config.alpn_protocols = protocols(ALPN_HTTP);
    Ok(Arc::new(config))
}

/// The SPIFFE id of a certificate chain's leaf, e.g. of a connection whose handshake our verifier has passed.
///
/// This reads; it doesn't verify. It is the same reading as the verifier's, so that both see one identity.
pub fn peer_id(chain: &[CertificateDer<'_>]) -> Result<SpiffeId, Refusal> {
    let leaf = chain.first().ok_or(Refusal::NoCertificate)?;
    verify::identity(&Leaf::parse(leaf).map_err(|_| Refusal::BadCertificate)?)
}

fn protocols(alpn: &[&str]) -> Vec<Vec<u8>> {
    alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect()
}

#[cfg(test)]
mod tests;
