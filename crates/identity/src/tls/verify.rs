//! Who is the peer? In this order: the chain leads to a root of this trust domain and is valid now; the leaf
//! was not taken back; it is a leaf and may be used on its side of a connection; it has exactly one URI name, which is a SPIFFE id
//! of this trust domain; that id is one of the expected.
//!
//! DNS names in a certificate are never looked at, and the name that a connection is opened with (SNI) proves
//! nothing.

use super::Refusal;
use super::known::{ChainName, KnownChains};
use crate::bundle::Bundle;
use crate::certificate::Leaf;
use crate::spiffe::SpiffeId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

/// How many certificates a peer may show: a leaf and a few intermediates.
pub const CHAIN_CERTIFICATES_MAX: usize = 6;
/// How many bytes all of them may have.
pub const CHAIN_BYTES_MAX: usize = 32 * 1024;

/// Which members are the expected ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityMatch {
    /// One of these, to the letter. An empty list matches nobody.
    Exact(Vec<SpiffeId>),
    /// Any member of the bundle's trust domain.
    TrustDomain,
}

impl IdentityMatch {
    /// Is it one of the expected? (That it is of the trust domain was checked before.)
    fn matches(&self, id: &SpiffeId) -> bool {
        match self {
            IdentityMatch::Exact(ids) => ids.contains(id),
            IdentityMatch::TrustDomain => true,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Peer {
    Server,
    Client,
    OptionalClient,
}

/// The one verifier of both sides.
#[derive(Debug)]
pub struct PeerVerifier {
    bundle: Bundle,
    expected: IdentityMatch,
    peer: Peer,
    algorithms: WebPkiSupportedAlgorithms,
    known: KnownChains,
}

impl PeerVerifier {
    /// Verifies servers.
    pub fn for_servers(bundle: Bundle, expected: IdentityMatch) -> PeerVerifier {
        PeerVerifier::new(bundle, expected, Peer::Server)
    }

    /// Verifies clients, all of which must show a certificate. Who of the trust domain may do what is for
    /// authorization to say.
    pub fn for_clients(bundle: Bundle) -> PeerVerifier {
        PeerVerifier::new(bundle, IdentityMatch::TrustDomain, Peer::Client)
    }

    /// Verifies clients that show a certificate, and lets in those that show none.
    pub fn for_optional_clients(bundle: Bundle) -> PeerVerifier {
        PeerVerifier::new(bundle, IdentityMatch::TrustDomain, Peer::OptionalClient)
    }

    fn new(bundle: Bundle, expected: IdentityMatch, peer: Peer) -> PeerVerifier {
        let algorithms = super::provider().signature_verification_algorithms;
        PeerVerifier { bundle, expected, peer, algorithms, known: KnownChains::default() }
    }

    /// Verifies a chain at a moment; who the peer is.
    pub fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<SpiffeId, Refusal> {
        check_length(leaf, intermediates)?;
        self.check_chain(leaf, intermediates, now)?;
        let leaf = Leaf::parse(leaf).map_err(|_| Refusal::BadCertificate)?;
        if self.bundle.revokes(&leaf.serial_hex) {
            return Err(Refusal::Revoked);
        }
        self.check_usage(&leaf)?;
        let id = identity(&leaf)?;
        if !id.member_of(self.bundle.trust_domain()) {
            let trust_domain = self.bundle.trust_domain().to_string();
            return Err(Refusal::OtherTrustDomain { id: id.to_string(), trust_domain });
        }
        match self.expected.matches(&id) {
            true => Ok(id),
            false => Err(Refusal::OtherId { id: id.to_string() }),
        }
    }

    /// As [`verify`](PeerVerifier::verify), but for a chain that was found good before only its time is asked for.
    pub(super) fn believe(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Refusal> {
        check_length(leaf, intermediates)?;
        let name = ChainName::of(leaf, intermediates);
        if name.as_ref().is_some_and(|name| self.known.holds(name, now)) {
            return Ok(());
        }
        self.verify(leaf, intermediates, now)?;
        if let Some(name) = name {
            self.known.learn(name, leaf, intermediates);
        }
        Ok(())
    }

    fn check_chain(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Refusal> {
        let usage = match self.peer {
            Peer::Server => KeyUsage::server_auth(),
            Peer::Client | Peer::OptionalClient => KeyUsage::client_auth(),
        };
        let trust_domain = self.bundle.trust_domain().as_str();
        let refused = |error| Refusal::of_chain(error, trust_domain);
        EndEntityCert::try_from(leaf)
            .map_err(refused)?
            .verify_for_usage(
                self.algorithms.all,
                self.bundle.anchors(),
                intermediates,
                now,
                usage,
                None,
                None,
            )
            .map_err(refused)?;
        Ok(())
    }

    /// What webpki leaves open: it takes a leaf without extKeyUsage for one of any usage, and doesn't read
    /// keyUsage.
    fn check_usage(&self, leaf: &Leaf) -> Result<(), Refusal> {
        let usage = leaf.key_usage;
        if leaf.is_ca || usage.is_some_and(|usage| usage.signs_others) {
            return Err(Refusal::CaAsLeaf);
        }
        if !usage.is_some_and(|usage| usage.digital_signature) {
            return Err(Refusal::NoDigitalSignature);
        }
        match (self.peer, leaf.extended_key_usage) {
            (Peer::Server, Some((_, true))) => Ok(()),
            (Peer::Client | Peer::OptionalClient, Some((true, _))) => Ok(()),
            _ => Err(Refusal::WrongUsage),
        }
    }

    fn verify_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }
}

/// Before anything else is done with it.
fn check_length(leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Result<(), Refusal> {
    let bytes = leaf.len() + intermediates.iter().map(|certificate| certificate.len()).sum::<usize>();
    match intermediates.len() >= CHAIN_CERTIFICATES_MAX || bytes > CHAIN_BYTES_MAX {
        true => Err(Refusal::ChainTooLong),
        false => Ok(()),
    }
}

/// The one identity of a leaf.
pub(super) fn identity(leaf: &Leaf) -> Result<SpiffeId, Refusal> {
    match &leaf.uris[..] {
        [] => Err(Refusal::NoId),
        [uri] => match SpiffeId::parse(uri) {
            Ok(id) if id.path().is_empty() => Err(Refusal::BadId(crate::spiffe::SpiffeIdError::NoPath)),
            Ok(id) => Ok(id),
            Err(error) => Err(Refusal::BadId(error)),
        },
        uris => Err(Refusal::SeveralIds(uris.len())),
    }
}

/// Configurations with this verifier speak TLS 1.3 only, so rustls never asks.
fn no_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig))
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>, // Says where to, not who.
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.believe(end_entity, intermediates, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.peer != Peer::OptionalClient
    }

    /// Nothing: whoever connects needn't learn whom this side trusts.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.believe(end_entity, intermediates, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
impl PeerVerifier {
    pub(super) fn known(&self) -> usize {
        self.known.len()
    }

    pub(super) fn pretend_to_know(&self, chain: &[CertificateDer<'_>]) {
        self.known.learn(ChainName::of(&chain[0], &chain[1..]).unwrap(), &chain[0], &chain[1..]);
    }
}
