//! TLS towards endpoints: mTLS between members by SPIFFE id, or ordinary TLS to services outside the mesh.

use std::sync::Arc;

use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use weft_identity::{
    IdentityMatch, SpiffeId,
    tls::{self, MinVersion},
};
use weft_routing::{
    CaSource, CertificateSource, DataSource, SanKind, StringMatch, TlsVersion, UpstreamTls, Validation,
};

use super::connect::{ConnectError, TlsSettings};
use crate::certificates::Credentials;

/// What is offered by ALPN, which depends on what will be spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    /// Bytes without HTTP.
    None,
    Http1,
    Http2,
}

impl Alpn {
    pub const COUNT: usize = 3;

    fn names(self) -> &'static [&'static str] {
        match self {
            Alpn::None => &[],
            Alpn::Http1 => &["http/1.1"],
            Alpn::Http2 => &["h2"],
        }
    }
}

/// The settings for new connections of a cluster.
pub fn settings(
    wanted: &UpstreamTls,
    alpn: Alpn,
    credentials: Option<&Arc<Credentials>>,
) -> Result<TlsSettings, ConnectError> {
    let config = match &wanted.validation.ca {
        // The bundle of our own identity: the other side is a member.
        CaSource::Sds(_) | CaSource::Provider { .. } => member(wanted, alpn, credentials)?,
        CaSource::Inline(source) => originate(wanted, alpn, certificates(source)?)?,
        CaSource::System => originate(wanted, alpn, system_roots())?,
        CaSource::None => {
            return Err(refuse("no trusted CA is named, so the server could not be verified"));
        }
    };
    // A member is known by its SPIFFE id; the name only tells its proxy which port is meant.
    let name = wanted.sni.as_deref().unwrap_or("mesh.internal").to_owned();
    let server_name = ServerName::try_from(name).map_err(|error| refuse(&format!("server name: {error}")))?;
    Ok(TlsSettings { config, server_name })
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
        CertificateSource::Inline(certificates) => match certificates.first() {
            Some(certificate) => {
                let chain = self::certificates(&certificate.chain)?;
                let key = PrivateKeyDer::from_pem_slice(&bytes(&certificate.key)?)
                    .map_err(|error| refuse(&format!("client key: {error}")))?;
                Some((chain, key))
            }
            None => None,
        },
        _ => None,
    };
    let min = if wanted.min_version == TlsVersion::V1_3 { MinVersion::Tls13 } else { MinVersion::Tls12 };
    // A server that speaks no ALPN is fine with HTTP/1; one that speaks it must choose what we offer.
    tls::origination_config(&roots, client, alpn.names(), min).map_err(|error| refuse(&error.to_string()))
}

fn system_roots() -> Vec<CertificateDer<'static>> {
    rustls_native_certs::load_native_certs().certs
}

fn certificates(source: &DataSource) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    CertificateDer::pem_slice_iter(&bytes(source)?)
        .collect::<Result<_, _>>()
        .map_err(|error| refuse(&format!("certificates: {error}")))
}

fn bytes(source: &DataSource) -> Result<Vec<u8>, ConnectError> {
    match source {
        DataSource::Bytes(bytes) => Ok(bytes.to_vec()),
        DataSource::File(path) => {
            std::fs::read(path).map_err(|error| refuse(&format!("{}: {error}", path.display())))
        }
    }
}

fn refuse(reason: &str) -> ConnectError {
    ConnectError::Settings { reason: reason.to_owned() }
}
