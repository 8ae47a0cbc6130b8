//! A forger: certificates as our issuer would never make them, signed with our issuer's own keys.

use super::*;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CustomExtension, DistinguishedName,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};

/// A chain to show (leaf first) and the key to sign the handshake with.
pub(super) type Shown = (Vec<CertificateDer<'static>>, KeyPair);

/// A CA certificate that signs, with those that must be shown above it.
pub(super) struct Authority {
    issuer: rcgen::Issuer<'static, KeyPair>,
    above: Vec<CertificateDer<'static>>,
}

impl Mesh {
    /// The real intermediate.
    pub(super) fn intermediate(&self) -> Authority {
        let key = KeyPair::from_pem(&self.pem.intermediate_key).unwrap();
        let certificate = crate::pem::certificates(&self.pem.intermediate).unwrap().remove(0);
        let issuer = rcgen::Issuer::from_ca_cert_der(&certificate, key).unwrap();
        Authority { issuer, above: vec![certificate] }
    }

    /// The real root.
    pub(super) fn root(&self) -> Authority {
        let key = KeyPair::from_pem(&self.pem.root_key).unwrap();
        Authority { issuer: rcgen::Issuer::from_ca_cert_pem(&self.pem.root, key).unwrap(), above: vec![] }
    }
}

pub(super) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// A leaf just as the issuer makes it, to be spoilt by the caller.
pub(super) fn good_leaf(id: &str) -> CertificateParams {
    let now = SystemTime::now().into();
    let mut params = CertificateParams::default();
    params.not_before = now;
    params.not_before -= Duration::from_secs(300);
    params.not_after = now;
    params.not_after += Duration::from_secs(600);
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![uri(id)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

impl Authority {
    fn sign(&self, params: &CertificateParams, key: &KeyPair) -> Certificate {
        params.signed_by(key, &self.issuer).unwrap()
    }

    /// A leaf with a fresh P-256 key.
    pub(super) fn leaf(&self, id: &str, spoil: impl FnOnce(&mut CertificateParams)) -> Shown {
        self.leaf_with(KeyPair::generate().unwrap(), id, spoil)
    }

    pub(super) fn leaf_with(
        &self,
        key: KeyPair,
        id: &str,
        spoil: impl FnOnce(&mut CertificateParams),
    ) -> Shown {
        let mut params = good_leaf(id);
        spoil(&mut params);
        let mut chain = vec![self.sign(&params, &key).der().clone()];
        chain.extend(self.above.iter().cloned());
        (chain, key)
    }

    /// A CA below this one.
    pub(super) fn authority(&self, name: &str, spoil: impl FnOnce(&mut CertificateParams)) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        spoil(&mut params);
        let key = KeyPair::generate().unwrap();
        let mut above = vec![self.sign(&params, &key).der().clone()];
        above.extend(self.above.iter().cloned());
        Authority { issuer: rcgen::Issuer::new(params, key), above }
    }
}

/// nameConstraints with one subtree of URIs: rcgen can't write those.
pub(super) fn uri_constraint(permitted: bool, host: &str) -> CustomExtension {
    let nested = |tag: u8, inner: &[u8]| [&[tag, u8::try_from(inner.len()).unwrap()], inner].concat();
    let subtree = nested(0x30, &nested(0x86, host.as_bytes()));
    let content = nested(0x30, &nested(if permitted { 0xa0 } else { 0xa1 }, &subtree));
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 30], content);
    extension.set_criticality(true);
    extension
}

fn signer(key: &KeyPair) -> Arc<dyn rustls::sign::SigningKey> {
    provider().key_provider.load_private_key(PrivateKeyDer::try_from(key.serialize_der()).unwrap()).unwrap()
}

fn resolver((chain, key): &Shown) -> Arc<SingleCertAndKey> {
    // Not `with_client_auth_cert`: that would notice a key of another certificate.
    Arc::new(SingleCertAndKey::from(rustls::sign::CertifiedKey::new(chain.clone(), signer(key))))
}

/// A client that shows this, and believes any member.
pub(super) fn client_showing(shown: &Shown, mesh: &Mesh) -> Arc<ClientConfig> {
    let config = member_client(mesh.issuer.bundle(), IdentityMatch::TrustDomain).unwrap();
    Arc::new(config.with_client_cert_resolver(resolver(shown)))
}

/// A server that shows this, and believes any member.
pub(super) fn server_showing(shown: &Shown, mesh: &Mesh) -> Arc<ServerConfig> {
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(TLS13)
        .unwrap()
        .with_client_cert_verifier(Arc::new(PeerVerifier::for_clients(mesh.issuer.bundle().clone())))
        .with_cert_resolver(resolver(shown));
    Arc::new(config)
}
