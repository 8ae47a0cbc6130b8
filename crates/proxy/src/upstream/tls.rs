//! TLS towards endpoints: mTLS between members by SPIFFE id, or ordinary TLS to services outside the mesh.

use std::sync::Arc;

use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use weft_identity::{
    IdentityMatch, SpiffeId,
    tls::{self, MinVersion},
};
use weft_routing::{
    CaSource, Certificate, CertificateSource, DataSource, NamedSecret, SanKind, StringMatch, TlsVersion,
    UpstreamTls, Validation,
};

use super::{
    connect::{ConnectError, TlsSettings},
    probe::HEALTH_CHECK_ALPN,
};
use crate::certificates::Credentials;

/// What is offered by ALPN, which depends on what will be spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    /// Bytes without HTTP.
    None,
    Http1,
    Http2,
    /// Only a check that there is somebody.
    HealthCheck,
}

impl Alpn {
    pub const COUNT: usize = 4;

    fn names(self) -> &'static [&'static str] {
        match self {
            Alpn::None => &[],
            Alpn::Http1 => &["http/1.1"],
            Alpn::Http2 => &["h2"],
            Alpn::HealthCheck => &[HEALTH_CHECK_ALPN],
        }
    }
}

/// The settings for new connections of a cluster.
pub fn settings(
    wanted: &UpstreamTls,
    alpn: Alpn,
    credentials: Option<&Arc<Credentials>>,
) -> Result<TlsSettings, ConnectError> {
    let mut members = None;
    let config = match &wanted.validation.ca {
        // The bundle of our own identity: the other side is a member.
        CaSource::Sds(_) | CaSource::Provider { .. } => {
            members = credentials.map(|credentials| Arc::clone(&credentials.members));
            member(wanted, alpn, credentials)?
        }
        CaSource::Inline(source) => {
            originate(wanted, alpn, certificates(source).map_err(|reason| refuse(&reason))?)?
        }
        CaSource::System => originate(wanted, alpn, system_roots())?,
        CaSource::None => {
            return Err(refuse("no trusted CA is named, so the server could not be verified"));
        }
    };
    // A member is known by its SPIFFE id; the name only tells its proxy which port is meant.
    let name = wanted.sni.as_deref().unwrap_or("mesh.internal").to_owned();
    let server_name = ServerName::try_from(name).map_err(|error| refuse(&format!("server name: {error}")))?;
    Ok(TlsSettings { config, server_name, members })
}

fn member(
    wanted: &UpstreamTls,
    alpn: Alpn,
    credentials: Option<&Arc<Credentials>>,
) -> Result<Arc<rustls::ClientConfig>, ConnectError> {
    let credentials = credentials.ok_or(ConnectError::NoCertificate)?;
    let expected = identities(&wanted.validation)?;
    let made = match &wanted.certificates {
        CertificateSource::None => tls::client_config_anonymous(&credentials.bundle, expected, alpn.names()),
        _ => tls::client_config(&credentials.svid, &credentials.bundle, expected, alpn.names()),
    };
    made.map_err(|error| refuse(&error.to_string()))
}

/// The identities that the other side may have. Anything but exact URIs is refused: a pattern would trust too many.
fn identities(validation: &Validation) -> Result<IdentityMatch, ConnectError> {
    if validation.names.is_empty() {
        return Ok(IdentityMatch::TrustDomain);
    }
    let ids = validation
        .names
        .iter()
        .filter(|name| name.kind == SanKind::Uri) // members have no other names
        .map(|name| match (&name.kind, &name.value) {
            (SanKind::Uri, StringMatch::Exact { value, ignore_case: false }) => {
                SpiffeId::parse(value).map_err(|error| refuse(&format!("{value}: {error}")))
            }
            _ => Err(refuse("identities of members must be exact URI names")),
        })
        .collect::<Result<Vec<_>, _>>()?;
    if ids.is_empty() {
        return Err(refuse("identities of members must be exact URI names"));
    }
    Ok(IdentityMatch::Exact(ids))
}

fn originate(
    wanted: &UpstreamTls,
    alpn: Alpn,
    roots: Vec<CertificateDer<'static>>,
) -> Result<Arc<rustls::ClientConfig>, ConnectError> {
    if wanted.sni.is_none() {
        return Err(refuse("no SNI is set, so the server's name could not be verified"));
    }
    let client = match &wanted.certificates {
        CertificateSource::None => None,
        CertificateSource::Inline(certificates) => certificates.first(),
        CertificateSource::Secret(NamedSecret { certificate: Some(certificate), .. }) => Some(&**certificate),
        CertificateSource::Secret(secret) => {
            let name = &secret.name;
            return Err(refuse(&format!("the secret {name}, the certificate to show, has not come")));
        }
        CertificateSource::Sds(_) | CertificateSource::Provider { .. } => {
            return Err(refuse("the proxy's own identity is shown to members only"));
        }
    };
    let client = client.map(client_certificate).transpose().map_err(|reason| refuse(&reason))?;
    let min = if wanted.min_version == TlsVersion::V1_3 { MinVersion::Tls13 } else { MinVersion::Tls12 };
    // A server that speaks no ALPN is fine with HTTP/1; one that speaks it must choose what we offer.
    tls::origination_config(&roots, client, alpn.names(), min).map_err(|error| refuse(&error.to_string()))
}

/// A chain and its key; the reason says nothing of what the key is.
pub fn client_certificate(
    certificate: &Certificate,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let chain = certificates(&certificate.chain)?;
    if chain.is_empty() {
        return Err("the chain holds no certificate".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(&bytes(&certificate.key)?)
        .map_err(|_| "the private key is none in PEM".to_owned())?;
    rustls::sign::CertifiedKey::from_der(chain.clone(), key.clone_key(), &tls::provider())
        .map_err(|error| format!("the chain and the private key: {error}"))?;
    Ok((chain, key))
}

fn system_roots() -> Vec<CertificateDer<'static>> {
    rustls_native_certs::load_native_certs().certs
}

fn certificates(source: &DataSource) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(&bytes(source)?)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("certificates: {error}"))
}

fn bytes(source: &DataSource) -> Result<Vec<u8>, String> {
    match source {
        DataSource::Bytes(bytes) => Ok(bytes.to_vec()),
        DataSource::File(path) => std::fs::read(path).map_err(|error| format!("{}: {error}", path.display())),
    }
}

fn refuse(reason: &str) -> ConnectError {
    ConnectError::Settings { reason: reason.to_owned() }
}
