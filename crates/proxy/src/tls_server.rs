//! TLS towards callers: one rustls configuration for each list of protocols, made once a rotation.

use std::{cell::RefCell, sync::Arc};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use weft_identity::tls;
use weft_routing::{
    Certificate, CertificateSource, ClientCertificate, DataSource, DownstreamTls, TlsVersion,
};

use crate::certificates::Credentials;

/// This worker's server configurations.
#[derive(Default)]
pub struct ServerConfigs {
    made: RefCell<Vec<Made>>,
}

/// A configuration, and what it was made for.
struct Made {
    alpn: Vec<Arc<[u8]>>,
    client_required: bool,
    config: Arc<rustls::ServerConfig>,
}

/// Why a chain cannot speak TLS now.
#[derive(Debug, thiserror::Error)]
pub enum ServerTlsError {
    #[error("the proxy has no certificate yet")]
    NoCertificate,
    #[error("the chain's TLS settings: {0}")]
    Settings(String),
}

impl ServerConfigs {
    /// New credentials: what was made from the old ones must go.
    pub fn forget(&self) {
        self.made.borrow_mut().clear();
    }

    pub fn get(
        &self,
        wanted: &DownstreamTls,
        credentials: Option<&Arc<Credentials>>,
    ) -> Result<Arc<rustls::ServerConfig>, ServerTlsError> {
        if let CertificateSource::Inline(certificates) = &wanted.certificates {
            return inline(wanted, certificates);
        }
        let client_required = matches!(wanted.client, ClientCertificate::Required(_));
        let mut made = self.made.borrow_mut();
        let known = made.iter().find(|one| one.alpn == wanted.alpn && one.client_required == client_required);
        if let Some(known) = known {
            return Ok(Arc::clone(&known.config));
        }
        let credentials = credentials.ok_or(ServerTlsError::NoCertificate)?;
        let alpn = protocols(wanted);
        let config = match &wanted.client {
            ClientCertificate::Required(_) => {
                tls::server_config(&credentials.svid, &credentials.bundle, &alpn)
            }
            ClientCertificate::Optional(_) | ClientCertificate::NotAsked => {
                tls::server_config_optional_client(&credentials.svid, &credentials.bundle, &alpn)
            }
        }
        .map_err(|error| ServerTlsError::Settings(error.to_string()))?;
        made.push(Made { alpn: wanted.alpn.clone(), client_required, config: Arc::clone(&config) });
        Ok(config)
    }
}

fn protocols(wanted: &DownstreamTls) -> Vec<&str> {
    wanted.alpn.iter().filter_map(|name| std::str::from_utf8(name).ok()).collect()
}

/// A certificate of its own, e.g. of a listener for the outside. Client certificates by a foreign CA are not done yet.
fn inline(
    wanted: &DownstreamTls,
    certificates: &[Certificate],
) -> Result<Arc<rustls::ServerConfig>, ServerTlsError> {
    let fail = |error: String| ServerTlsError::Settings(error);
    if !matches!(wanted.client, ClientCertificate::NotAsked) {
        return Err(fail("client certificates together with a certificate of the listener's own".to_owned()));
    }
    let certificate = certificates.first().ok_or_else(|| fail("no certificate".to_owned()))?;
    let chain = CertificateDer::pem_slice_iter(&bytes(&certificate.chain)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| fail(error.to_string()))?;
    let key =
        PrivateKeyDer::from_pem_slice(&bytes(&certificate.key)?).map_err(|error| fail(error.to_string()))?;
    let versions: &[&rustls::SupportedProtocolVersion] = match wanted.min_version {
        TlsVersion::V1_3 => &[&rustls::version::TLS13],
        _ => &[&rustls::version::TLS13, &rustls::version::TLS12],
    };
    let mut config = rustls::ServerConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(versions)
        .map_err(|error| fail(error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| fail(error.to_string()))?;
    config.alpn_protocols = protocols(wanted).into_iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}

fn bytes(source: &DataSource) -> Result<Vec<u8>, ServerTlsError> {
    match source {
        DataSource::Bytes(bytes) => Ok(bytes.to_vec()),
        DataSource::File(path) => std::fs::read(path)
            .map_err(|error| ServerTlsError::Settings(format!("{}: {error}", path.display()))),
    }
}
