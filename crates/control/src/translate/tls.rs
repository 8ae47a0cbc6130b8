//! TLS contexts: between members (mTLS, SPIFFE ids, never DNS names) and towards external services.
//!
//! Keys never stand in a cluster. A Weft proxy knows the secrets `default` and `ROOTCA` itself, an
//! Envoy asks its agent's Unix socket for them, and a gRPC client has certificate providers in its
//! bootstrap. The certificate that a proxy shows to an external service is a secret by its own name, over
//! the stream that brings the configuration.

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use tls::common_tls_context::{CombinedCertificateValidationContext, ValidationContextType};
use tls::subject_alt_name_matcher::SanType;
use tls::tls_parameters::TlsProtocol;

use super::clusters::Spoken;
use super::names;
use super::proto::{ads, any, boolean, exact, prefix};
use super::view::ProxyKind;

/// Where an Envoy without roots of its own configuration finds the machine's.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";
const SOCKET: &str = "envoy.transport_sockets.tls";

fn socket(config: envoy_types::pb::google::protobuf::Any) -> core::TransportSocket {
    core::TransportSocket {
        name: SOCKET.to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(config)),
    }
}

fn secret(name: &str) -> tls::SdsSecretConfig {
    use core::api_config_source::ApiType;
    use core::grpc_service::{EnvoyGrpc, TargetSpecifier};
    let agent = core::GrpcService {
        target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
            cluster_name: names::SDS_AGENT.to_owned(),
            ..Default::default()
        })),
        ..Default::default()
    };
    let source = core::ApiConfigSource {
        api_type: ApiType::Grpc as i32,
        transport_api_version: core::ApiVersion::V3 as i32,
        grpc_services: vec![agent],
        ..Default::default()
    };
    tls::SdsSecretConfig {
        name: name.to_owned(),
        sds_config: Some(core::ConfigSource {
            resource_api_version: core::ApiVersion::V3 as i32,
            config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::ApiConfigSource(
                source,
            )),
            ..Default::default()
        }),
    }
}

fn tls13() -> tls::TlsParameters {
    tls::TlsParameters {
        tls_minimum_protocol_version: TlsProtocol::TlSv13 as i32,
        tls_maximum_protocol_version: TlsProtocol::TlSv13 as i32,
        ..Default::default()
    }
}

fn uri(matcher: envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher) -> tls::SubjectAltNameMatcher {
    tls::SubjectAltNameMatcher { san_type: SanType::Uri as i32, matcher: Some(matcher), ..Default::default() }
}

/// What both ends of mTLS between members have in common.
fn member(kind: ProxyKind, alpn: &[&str], peers: Vec<tls::SubjectAltNameMatcher>) -> tls::CommonTlsContext {
    if kind == ProxyKind::Grpc {
        return grpc_member(peers);
    }
    let alpn_protocols = alpn.iter().map(|&p| p.to_owned()).collect();
    let validation =
        tls::CertificateValidationContext { match_typed_subject_alt_names: peers, ..Default::default() };
    tls::CommonTlsContext {
        tls_params: Some(tls13()),
        alpn_protocols,
        tls_certificate_sds_secret_configs: vec![secret(names::SECRET_SVID)],
        validation_context_type: Some(ValidationContextType::CombinedValidationContext(
            CombinedCertificateValidationContext {
                default_validation_context: Some(validation),
                validation_context_sds_secret_config: Some(secret(names::SECRET_ROOTS)),
                ..Default::default()
            },
        )),
        ..Default::default()
    }
}

/// The same for a gRPC library, which knows names of peers only by the older field (gRFC A29).
#[expect(deprecated, reason = "without it a gRPC client would take any member for the one that it calls")]
fn grpc_member(peers: Vec<tls::SubjectAltNameMatcher>) -> tls::CommonTlsContext {
    let provider = tls::CertificateProviderPluginInstance {
        instance_name: names::GRPC_PROVIDER.to_owned(),
        ..Default::default()
    };
    let validation = tls::CertificateValidationContext {
        ca_certificate_provider_instance: Some(provider.clone()),
        match_subject_alt_names: peers.into_iter().filter_map(|peer| peer.matcher).collect(),
        ..Default::default()
    };
    tls::CommonTlsContext {
        tls_certificate_provider_instance: Some(provider),
        validation_context_type: Some(ValidationContextType::ValidationContext(validation)),
        ..Default::default()
    }
}

/// Towards a member: it must be one of `identities`, and `sni` tells it which port is meant.
pub fn to_member(
    kind: ProxyKind,
    identities: &BTreeSet<String>,
    sni: &str,
    alpn: &[&str],
) -> core::TransportSocket {
    let peers = identities.iter().map(|id| uri(exact(id.as_str()))).collect();
    let context = tls::UpstreamTlsContext {
        common_tls_context: Some(member(kind, alpn, peers)),
        sni: sni.to_owned(),
        ..Default::default()
    };
    socket(any(&context))
}

/// From a member: any identity of the trust domain may shake hands; authorization says what it may do.
pub fn from_member(kind: ProxyKind, trust_domain: &str, alpn: &[&str]) -> core::TransportSocket {
    let peers = vec![uri(prefix(format!("spiffe://{trust_domain}/")))];
    let context = tls::DownstreamTlsContext {
        common_tls_context: Some(member(kind, alpn, peers)),
        require_client_certificate: Some(boolean(true)),
        ..Default::default()
    };
    socket(any(&context))
}

/// What an external service is trusted by, and what it is shown.
#[derive(Clone, Debug, Default)]
pub struct Origination<'a> {
    /// The name that it must prove, and that the ClientHello says.
    pub sni: &'a str,
    /// Its roots, PEM; the machine's when absent.
    pub ca_pem: Option<&'a str>,
    /// The secret with the certificate to show, when it asks for one.
    pub client: Option<&'a str>,
    /// The HTTP that is spoken inside.
    pub spoken: Option<Spoken>,
}

fn inline(text: &str) -> core::DataSource {
    core::DataSource {
        specifier: Some(core::data_source::Specifier::InlineString(text.to_owned())),
        ..Default::default()
    }
}

/// A certificate and its key as a secret.
pub fn client_secret(name: &str, chain: &str, key: &str) -> tls::Secret {
    tls::Secret {
        name: name.to_owned(),
        r#type: Some(tls::secret::Type::TlsCertificate(tls::TlsCertificate {
            certificate_chain: Some(inline(chain)),
            private_key: Some(inline(key)),
            ..Default::default()
        })),
    }
}

/// Towards an external service.
pub fn to_external(kind: ProxyKind, wanted: &Origination<'_>) -> core::TransportSocket {
    let mut validation = tls::CertificateValidationContext {
        match_typed_subject_alt_names: vec![tls::SubjectAltNameMatcher {
            san_type: SanType::Dns as i32,
            matcher: Some(exact(wanted.sni)),
            ..Default::default()
        }],
        ..Default::default()
    };
    match (wanted.ca_pem, kind) {
        (Some(pem), _) => validation.trusted_ca = Some(inline(pem)),
        (None, ProxyKind::Weft) => validation.system_root_certs = Some(Default::default()),
        (None, _) => {
            validation.trusted_ca = Some(core::DataSource {
                specifier: Some(core::data_source::Specifier::Filename(SYSTEM_ROOTS.to_owned())),
                ..Default::default()
            });
        }
    }
    let certificates = wanted
        .client
        .iter()
        .map(|name| tls::SdsSecretConfig { name: (*name).to_owned(), sds_config: Some(ads()) });
    let alpn = wanted.spoken.map(|spoken| match spoken {
        Spoken::Http1 => "http/1.1",
        Spoken::Http2 => "h2",
    });
    let context = tls::UpstreamTlsContext {
        common_tls_context: Some(tls::CommonTlsContext {
            tls_params: Some(tls::TlsParameters {
                tls_minimum_protocol_version: TlsProtocol::TlSv12 as i32,
                tls_maximum_protocol_version: TlsProtocol::TlSv13 as i32,
                ..Default::default()
            }),
            alpn_protocols: alpn.into_iter().map(str::to_owned).collect(),
            tls_certificate_sds_secret_configs: certificates.collect(),
            validation_context_type: Some(ValidationContextType::ValidationContext(validation)),
            ..Default::default()
        }),
        sni: wanted.sni.to_owned(),
        ..Default::default()
    };
    socket(any(&context))
}
