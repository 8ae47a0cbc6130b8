//! TLS contexts, towards callers and towards upstreams.

use std::sync::Arc;

use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::tls_parameters::TlsProtocol;

use super::reader::Reader;
use super::{core, text};
use crate::types::{
    CaSource, Certificate, CertificateSource, ClientCertificate, DownstreamTls, NamedSecret, SanKind,
    SanMatch, Secret, StringMatch, TlsVersion, UpstreamTls, Validation,
};

/// What both contexts have in common.
struct Common {
    certificates: CertificateSource,
    validation: Option<Validation>,
    alpn: Vec<Arc<[u8]>>,
    min_version: TlsVersion,
    max_version: TlsVersion,
}

pub(super) fn downstream(reader: &mut Reader, context: &pb::DownstreamTlsContext) -> Option<DownstreamTls> {
    let inner = reader.required("common_tls_context", context.common_tls_context.as_ref())?;
    let common = reader.at("common_tls_context", |reader| common(reader, inner))?;
    match &common.certificates {
        CertificateSource::None => reader.problem_at("common_tls_context", "has no certificate to show"),
        CertificateSource::Secret(secret) => reader.problem_at(
            "common_tls_context.tls_certificate_sds_secret_configs[0].name",
            format!("is {:?}; the proxy's own identity is {OWN:?}", secret.name),
        ),
        _ => {}
    }
    let required = context.require_client_certificate.as_ref().is_some_and(|required| required.value);
    if common.max_version == TlsVersion::V1_2 {
        reader.problem_at(
            "common_tls_context.tls_params",
            "has a maximum of TLS 1.2; 1.3 is always taken here",
        );
    }
    if let Some(validation) = &common.validation {
        let own = matches!(validation.ca, CaSource::None | CaSource::Sds(_) | CaSource::Provider { .. });
        if !own || matches!(common.certificates, CertificateSource::Inline(_)) {
            reader.problem_at(
                "common_tls_context",
                "checks client certificates by roots or beside a certificate of its own; \
                 here they are checked by the proxy's identity",
            );
        }
    }
    let client = match (common.validation, required) {
        (Some(validation), true) => {
            if matches!(validation.ca, CaSource::None) {
                reader.problem_at(
                    "common_tls_context",
                    "requires client certificates, but has no roots to check them",
                );
            }
            ClientCertificate::Required(validation)
        }
        (Some(validation), false) => ClientCertificate::Optional(validation),
        (None, true) => {
            reader.problem_at("require_client_certificate", "needs a validation context");
            return None;
        }
        (None, false) => ClientCertificate::NotAsked,
    };
    Some(DownstreamTls {
        certificates: common.certificates,
        client,
        alpn: common.alpn,
        min_version: common.min_version,
        max_version: common.max_version,
    })
}

pub(super) fn upstream(reader: &mut Reader, context: &pb::UpstreamTlsContext) -> Option<UpstreamTls> {
    let empty = pb::CommonTlsContext::default();
    let inner = context.common_tls_context.as_ref().unwrap_or(&empty);
    let common = reader.at("common_tls_context", |reader| common(reader, inner))?;
    // RFC 6066: a host name of at most 255 bytes.
    if context.sni.len() > 255 {
        reader.problem_at("sni", "has more than 255 bytes");
    }
    if common.max_version == TlsVersion::V1_2 {
        reader.problem_at(
            "common_tls_context.tls_params",
            "has a maximum of TLS 1.2; 1.3 is always offered here",
        );
    }
    let validation = common.validation.as_ref();
    reader.at("common_tls_context", |reader| {
        upstream_names(reader, &context.sni, validation);
        upstream_certificate(reader, &common.certificates, validation);
    });
    Some(UpstreamTls {
        sni: (!context.sni.is_empty()).then(|| context.sni.as_str().into()),
        certificates: common.certificates,
        validation: common.validation.unwrap_or_default(),
        alpn: common.alpn,
        min_version: common.min_version,
        max_version: common.max_version,
    })
}

/// What the proxy compares a server's certificate with: members by exact SPIFFE ids, others by the SNI.
fn upstream_names(reader: &mut Reader, sni: &str, validation: Option<&Validation>) {
    let exact = |name: &SanMatch| match &name.value {
        StringMatch::Exact { value, .. } => Some(value.to_string()),
        _ => None,
    };
    let Some(validation) = validation.filter(|validation| !matches!(validation.ca, CaSource::None)) else {
        reader.problem("has no trust roots, so the server would not be checked");
        return;
    };
    let of = |kind: SanKind| validation.names.iter().filter(move |name| name.kind == kind);
    match &validation.ca {
        CaSource::Sds(_) | CaSource::Provider { .. } => {
            let all_exact = of(SanKind::Uri).all(|name| exact(name).is_some());
            if !validation.names.is_empty() && (of(SanKind::Uri).next().is_none() || !all_exact) {
                reader.problem("names members by something else than exact URIs");
            }
        }
        _ if sni.is_empty() => reader.problem("needs an sni, the name that the server is checked by"),
        _ => {
            let named =
                of(SanKind::Dns).any(|name| exact(name).is_some_and(|name| name.eq_ignore_ascii_case(sni)));
            if !validation.names.is_empty() && !named {
                reader.problem("wants another name than the sni, which is what the server is checked by");
            }
        }
    }
}

/// Members know the proxy by its identity; others are shown another certificate, or none.
fn upstream_certificate(
    reader: &mut Reader,
    certificates: &CertificateSource,
    validation: Option<&Validation>,
) {
    let Some(validation) = validation else { return };
    let member = matches!(validation.ca, CaSource::Sds(_) | CaSource::Provider { .. });
    match certificates {
        CertificateSource::Secret(secret) if member => reader.problem_at(
            "tls_certificate_sds_secret_configs[0].name",
            format!("is {:?}; members are shown the proxy's own identity, {OWN:?}", secret.name),
        ),
        CertificateSource::Inline(_) if member => {
            reader.problem("shows a certificate of its own to members; they know the proxy by its identity")
        }
        CertificateSource::Sds(_) | CertificateSource::Provider { .. } if !member => {
            reader.problem("shows the proxy's own identity to a server that is no member")
        }
        _ => {}
    }
}

/// The proxy's own certificate.
const OWN: &str = "default";

/// The proxy has one identity, under these names.
fn own_secret(reader: &mut Reader, name: Option<Arc<str>>, own: &str) -> Option<Arc<str>> {
    let name = name?;
    if *name != *own {
        reader.problem_at("name", format!("is {name:?}; the proxy's own identity is {own:?}"));
    }
    Some(name)
}

fn common(reader: &mut Reader, context: &pb::CommonTlsContext) -> Option<Common> {
    let certificates = certificates(reader, context);
    let validation = validation(reader, context);
    let alpn = reader.list("alpn_protocols", &context.alpn_protocols, |reader, protocol| {
        if protocol.is_empty() || protocol.len() > 255 {
            reader.problem("must have 1 to 255 bytes");
            return None;
        }
        Some(Arc::from(protocol.as_bytes()))
    });
    let (mut min_version, mut max_version) = (TlsVersion::Auto, TlsVersion::Auto);
    if let Some(params) = context.tls_params.as_ref() {
        reader.at("tls_params", |reader| {
            min_version =
                version(reader, "tls_minimum_protocol_version", params.tls_minimum_protocol_version);
            max_version =
                match version(reader, "tls_maximum_protocol_version", params.tls_maximum_protocol_version) {
                    TlsVersion::Auto => TlsVersion::Auto,
                    max if max < min_version => {
                        reader.problem_at("tls_maximum_protocol_version", "is lower than the minimum");
                        max
                    }
                    max => max,
                };
            // The lowest that is offered here is 1.2: a lower maximum leaves nothing.
            if (1..=2).contains(&params.tls_maximum_protocol_version) {
                reader.problem_at(
                    "tls_maximum_protocol_version",
                    "is below TLS 1.2, the lowest that is spoken here",
                );
            }
        });
    }
    Some(Common { certificates: certificates?, validation: validation?, alpn, min_version, max_version })
}

/// A minimum below 1.2 is raised to it: it allows, it does not demand.
fn version(reader: &mut Reader, step: &str, number: i32) -> TlsVersion {
    match reader.choice(step, number) {
        None | Some(TlsProtocol::TlsAuto) => TlsVersion::Auto,
        Some(TlsProtocol::TlSv10 | TlsProtocol::TlSv11 | TlsProtocol::TlSv12) => TlsVersion::V1_2,
        Some(TlsProtocol::TlSv13) => TlsVersion::V1_3,
    }
}

fn certificates(reader: &mut Reader, context: &pb::CommonTlsContext) -> Option<CertificateSource> {
    let mut sources = Vec::new();
    match context.tls_certificate_sds_secret_configs.as_slice() {
        [] => {}
        [secret] => {
            sources.push(reader.at("tls_certificate_sds_secret_configs[0]", |reader| {
                let name = reader.required_text("name", &secret.name)?;
                if *name == *OWN {
                    return Some(CertificateSource::Sds(name));
                }
                core::same_stream(reader, "sds_config", secret.sds_config.as_ref());
                Some(CertificateSource::Secret(NamedSecret { name, certificate: None }))
            })?);
        }
        _ => reader
            .problem_at("tls_certificate_sds_secret_configs", "has more than one; one certificate is shown"),
    }
    if let Some(provider) = context.tls_certificate_provider_instance.as_ref() {
        sources.push(CertificateSource::Provider {
            instance: provider.instance_name.as_str().into(),
            certificate: provider.certificate_name.as_str().into(),
        });
    } else if let Some(provider) = context.tls_certificate_certificate_provider_instance.as_ref() {
        sources.push(CertificateSource::Provider {
            instance: provider.instance_name.as_str().into(),
            certificate: provider.certificate_name.as_str().into(),
        });
    }
    if !context.tls_certificates.is_empty() {
        let inline = reader.list("tls_certificates", &context.tls_certificates, certificate);
        sources.push(CertificateSource::Inline(inline));
    }
    if sources.len() > 1 {
        reader.problem("names certificates in more than one way");
    }
    Some(sources.pop().unwrap_or_default())
}

fn certificate(reader: &mut Reader, certificate: &pb::TlsCertificate) -> Option<Certificate> {
    let chain = reader.required("certificate_chain", certificate.certificate_chain.as_ref());
    let key = reader.required("private_key", certificate.private_key.as_ref());
    let chain = reader.at("certificate_chain", |reader| core::data_source(reader, chain?));
    let key = reader.at("private_key", |reader| core::data_source(reader, key?));
    Some(Certificate { chain: chain?, key: key? })
}

/// A certificate with its key, by name; other secrets have no use here.
pub(super) fn secret(reader: &mut Reader, secret: &pb::Secret) -> Option<Secret> {
    let name = reader.required_text("name", &secret.name)?;
    let Some(pb::secret::Type::TlsCertificate(inner)) = &secret.r#type else {
        reader.problem("must hold a tls_certificate");
        return None;
    };
    let certificate = reader.at("tls_certificate", |reader| certificate(reader, inner))?;
    Some(Secret { name, certificate: Arc::new(certificate) })
}

/// Some(None): nothing is said about the other side.
fn validation(reader: &mut Reader, context: &pb::CommonTlsContext) -> Option<Option<Validation>> {
    let Some(kind) = context.validation_context_type.as_ref() else {
        return Some(None);
    };
    let provider = |instance: &pb::common_tls_context::CertificateProviderInstance| CaSource::Provider {
        instance: instance.instance_name.as_str().into(),
        certificate: instance.certificate_name.as_str().into(),
    };
    let validation = match kind {
        ValidationContextType::ValidationContext(inner) => {
            reader.at("validation_context", |reader| inline_validation(reader, inner))?
        }
        ValidationContextType::ValidationContextSdsSecretConfig(secret) => {
            Validation { ca: sds(reader, "validation_context_sds_secret_config", secret)?, names: Vec::new() }
        }
        ValidationContextType::ValidationContextCertificateProviderInstance(instance) => {
            Validation { ca: provider(instance), names: Vec::new() }
        }
        ValidationContextType::CombinedValidationContext(combined) => {
            reader.at("combined_validation_context", |reader| {
                let mut validation = match combined.default_validation_context.as_ref() {
                    Some(inner) => {
                        reader.at("default_validation_context", |reader| inline_validation(reader, inner))?
                    }
                    None => Validation::default(),
                };
                if let Some(secret) = combined.validation_context_sds_secret_config.as_ref() {
                    validation.ca = sds(reader, "validation_context_sds_secret_config", secret)?;
                } else if let Some(instance) =
                    combined.validation_context_certificate_provider_instance.as_ref()
                {
                    validation.ca = provider(instance);
                }
                Some(validation)
            })?
        }
        // The table has refused it.
        ValidationContextType::ValidationContextCertificateProvider(_) => return None,
    };
    if !validation.names.is_empty() && matches!(validation.ca, CaSource::None) {
        reader.problem("wants names, but has no roots to check the certificate");
    }
    Some(Some(validation))
}

fn sds(reader: &mut Reader, step: &str, secret: &pb::SdsSecretConfig) -> Option<CaSource> {
    reader
        .at(step, |reader| {
            let name = reader.required_text("name", &secret.name);
            own_secret(reader, name, "ROOTCA")
        })
        .map(CaSource::Sds)
}

fn inline_validation(reader: &mut Reader, context: &pb::CertificateValidationContext) -> Option<Validation> {
    let mut sources = Vec::new();
    if let Some(ca) = context.trusted_ca.as_ref() {
        sources.push(CaSource::Inline(reader.at("trusted_ca", |reader| core::data_source(reader, ca))?));
    }
    if let Some(instance) = context.ca_certificate_provider_instance.as_ref() {
        sources.push(CaSource::Provider {
            instance: instance.instance_name.as_str().into(),
            certificate: instance.certificate_name.as_str().into(),
        });
    }
    if context.system_root_certs.is_some() {
        sources.push(CaSource::System);
    }
    if sources.len() > 1 {
        reader.problem("names trust roots in more than one way");
    }
    let typed = &context.match_typed_subject_alt_names;
    let untyped = &context.match_subject_alt_names;
    let mut names = reader.list("match_typed_subject_alt_names", typed, |reader, name| {
        let test = reader.required("matcher", name.matcher.as_ref());
        let test = reader.at("matcher", |reader| text::string_match(reader, test?));
        let kind = match reader.choice("san_type", name.san_type)? {
            SanType::Uri => SanKind::Uri,
            SanType::Dns => SanKind::Dns,
            SanType::Email => SanKind::Email,
            SanType::IpAddress => SanKind::Ip,
            SanType::Unspecified | SanType::OtherName => {
                reader.problem_at("san_type", "must be URI, DNS, EMAIL or IP_ADDRESS");
                return None;
            }
        };
        Some(SanMatch { kind, value: test? })
    });
    let wanted = typed.len() + untyped.len();
    let plain: Vec<StringMatch> = reader.list("match_subject_alt_names", untyped, text::string_match);
    let mut read = names.len() + plain.len();
    // The typed list replaces the other, as in Envoy.
    if typed.is_empty() {
        for value in plain {
            for kind in [SanKind::Uri, SanKind::Dns, SanKind::Email, SanKind::Ip] {
                names.push(SanMatch { kind, value: value.clone() });
            }
        }
    } else if !untyped.is_empty() {
        reader.problem_at("match_subject_alt_names", "does not go with match_typed_subject_alt_names");
        read = 0;
    }
    (read == wanted).then(|| Validation { ca: sources.pop().unwrap_or_default(), names })
}
