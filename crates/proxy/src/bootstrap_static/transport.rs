//! How a cluster's endpoints are spoken to: TLS from files, in the clear, and a PROXY header before either.

use std::path::PathBuf;

use envoy_types::pb::envoy::{
    config::core::v3::{self as core, DataSource, data_source, transport_socket},
    extensions::transport_sockets::{
        proxy_protocol::v3::ProxyProtocolUpstreamTransport, raw_buffer::v3::RawBuffer, tls::v3 as tls,
    },
};
use serde::Deserialize;

use super::to_xds::any;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransportSocket {
    name: String,
    typed_config: Socket,
}

#[derive(Deserialize)]
#[serde(tag = "@type")]
enum Socket {
    #[serde(rename = "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer")]
    Raw(super::Nothing),
    #[serde(rename = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext")]
    Tls(UpstreamTls),
    #[serde(
        rename = "type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport"
    )]
    Header(Header),
}

/// The PROXY header, and what comes behind it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    #[serde(default)]
    config: HeaderConfig,
    transport_socket: Box<TransportSocket>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct HeaderConfig {
    #[serde(default)]
    version: Version,
}

/// A version of the PROXY protocol.
#[derive(Deserialize, Default, Clone, Copy)]
pub enum Version {
    #[default]
    V1,
    V2,
}

impl Version {
    pub fn number(self) -> i32 {
        use core::proxy_protocol_config::Version as Pb;
        match self {
            Version::V1 => Pb::V1 as i32,
            Version::V2 => Pb::V2 as i32,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamTls {
    pub sni: Option<String>,
    #[serde(default)]
    common_tls_context: CommonTls,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct CommonTls {
    #[serde(default)]
    alpn_protocols: Vec<String>,
    #[serde(default)]
    tls_certificates: Vec<TlsCertificate>,
    validation_context: Option<ValidationContext>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsCertificate {
    certificate_chain: File,
    private_key: File,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ValidationContext {
    trusted_ca: File,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    filename: PathBuf,
}

impl UpstreamTls {
    pub fn ca_file(&self) -> Option<PathBuf> {
        self.common_tls_context.validation_context.as_ref().map(|context| context.trusted_ca.filename.clone())
    }

    pub fn chain_file(&self) -> Option<PathBuf> {
        self.common_tls_context.tls_certificates.first().map(|one| one.certificate_chain.filename.clone())
    }

    pub fn key_file(&self) -> Option<PathBuf> {
        self.common_tls_context.tls_certificates.first().map(|one| one.private_key.filename.clone())
    }
}

impl TransportSocket {
    pub fn tls_alone(&self) -> Result<Option<&UpstreamTls>, &'static str> {
        match &self.typed_config {
            Socket::Raw(_) => Ok(None),
            Socket::Tls(tls) => Ok(Some(tls)),
            Socket::Header(_) => Err("a PROXY header is not written to it"),
        }
    }

    pub fn message(&self) -> core::TransportSocket {
        let config = match &self.typed_config {
            Socket::Raw(_) => any(&RawBuffer {}),
            Socket::Tls(wanted) => any(&context(wanted)),
            Socket::Header(header) => any(&ProxyProtocolUpstreamTransport {
                config: Some(core::ProxyProtocolConfig {
                    version: header.config.version.number(),
                    ..Default::default()
                }),
                transport_socket: Some(header.transport_socket.message()),
                ..Default::default()
            }),
        };
        core::TransportSocket {
            name: self.name.clone(),
            config_type: Some(transport_socket::ConfigType::TypedConfig(config)),
        }
    }
}

fn context(wanted: &UpstreamTls) -> tls::UpstreamTlsContext {
    let mut common = tls::CommonTlsContext {
        alpn_protocols: wanted.common_tls_context.alpn_protocols.clone(),
        ..Default::default()
    };
    if let (Some(chain), Some(key)) = (wanted.chain_file(), wanted.key_file()) {
        common.tls_certificates = vec![tls::TlsCertificate {
            certificate_chain: file(chain),
            private_key: file(key),
            ..Default::default()
        }];
    }
    common.validation_context_type = wanted.ca_file().map(|ca| {
        tls::common_tls_context::ValidationContextType::ValidationContext(tls::CertificateValidationContext {
            trusted_ca: file(ca),
            ..Default::default()
        })
    });
    tls::UpstreamTlsContext {
        common_tls_context: Some(common),
        sni: wanted.sni.clone().unwrap_or_default(),
        ..Default::default()
    }
}

fn file(path: PathBuf) -> Option<DataSource> {
    let specifier = data_source::Specifier::Filename(path.to_string_lossy().into_owned());
    Some(DataSource { specifier: Some(specifier), ..Default::default() })
}
