//! The table: tLS, both ways.

use super::Class::{Harmless, Supported, Warn};
use super::Kind::Message;
use super::core::{BOOL_VALUE, CONFIG_SOURCE, DATA_SOURCE, STRING_MATCHER};
use super::{NOT_DONE, OPAQUE, Schema, TEXT, VARINT, many, one};

/// Every message of this page.
pub static ALL: &[&Schema] = &[
    &UPSTREAM_TLS_CONTEXT,
    &DOWNSTREAM_TLS_CONTEXT,
    &COMMON_TLS_CONTEXT,
    &TLS_CERTIFICATE,
    &CERTIFICATE_VALIDATION_CONTEXT,
    &CERTIFICATE_VALIDATION_CONTEXT_SYSTEM_ROOT_CERTS,
    &SDS_SECRET_CONFIG,
    &COMMON_TLS_CONTEXT_COMBINED_CERTIFICATE_VALIDATION_CONTEXT,
    &COMMON_TLS_CONTEXT_CERTIFICATE_PROVIDER_INSTANCE,
    &CERTIFICATE_PROVIDER_PLUGIN_INSTANCE,
    &SUBJECT_ALT_NAME_MATCHER,
    &TLS_PARAMETERS,
    &SECRET,
];

pub static UPSTREAM_TLS_CONTEXT: Schema = Schema {
    name: "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
    rows: &[
        one(1, "common_tls_context", Supported, Message(&COMMON_TLS_CONTEXT)),
        one(2, "sni", Supported, TEXT),
        one(3, "allow_renegotiation", NOT_DONE, VARINT),
        one(4, "max_session_keys", Harmless("tuning"), OPAQUE),
        one(5, "enforce_rsa_key_usage", Harmless("always enforced"), OPAQUE),
        one(6, "auto_host_sni", NOT_DONE, VARINT),
        one(7, "auto_sni_san_validation", NOT_DONE, VARINT),
    ],
};

pub static DOWNSTREAM_TLS_CONTEXT: Schema = Schema {
    name: "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
    rows: &[
        one(1, "common_tls_context", Supported, Message(&COMMON_TLS_CONTEXT)),
        one(2, "require_client_certificate", Supported, Message(&BOOL_VALUE)),
        one(3, "require_sni", NOT_DONE, OPAQUE),
        one(4, "session_ticket_keys", Warn("sessions and tickets are the proxy's own"), OPAQUE),
        one(
            5,
            "session_ticket_keys_sds_secret_config",
            Warn("sessions and tickets are the proxy's own"),
            OPAQUE,
        ),
        one(6, "session_timeout", Warn("sessions and tickets are the proxy's own"), OPAQUE),
        one(
            7,
            "disable_stateless_session_resumption",
            Warn("sessions and tickets are the proxy's own"),
            VARINT,
        ),
        one(8, "ocsp_staple_policy", NOT_DONE, VARINT),
        one(9, "full_scan_certs_on_sni_mismatch", Harmless("there is one certificate"), OPAQUE),
        one(
            10,
            "disable_stateful_session_resumption",
            Warn("sessions and tickets are the proxy's own"),
            VARINT,
        ),
        one(11, "prefer_client_ciphers", Harmless("every suite that is taken is strong"), VARINT),
    ],
};

pub static COMMON_TLS_CONTEXT: Schema = Schema {
    name: "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext",
    rows: &[
        one(1, "tls_params", Supported, Message(&TLS_PARAMETERS)),
        many(2, "tls_certificates", Supported, Message(&TLS_CERTIFICATE)),
        one(3, "validation_context", Supported, Message(&CERTIFICATE_VALIDATION_CONTEXT)),
        many(4, "alpn_protocols", Supported, TEXT),
        many(6, "tls_certificate_sds_secret_configs", Supported, Message(&SDS_SECRET_CONFIG)),
        one(7, "validation_context_sds_secret_config", Supported, Message(&SDS_SECRET_CONFIG)),
        one(
            8,
            "combined_validation_context",
            Supported,
            Message(&COMMON_TLS_CONTEXT_COMBINED_CERTIFICATE_VALIDATION_CONTEXT),
        ),
        one(9, "tls_certificate_certificate_provider", NOT_DONE, OPAQUE),
        one(10, "validation_context_certificate_provider", NOT_DONE, OPAQUE),
        one(
            11,
            "tls_certificate_certificate_provider_instance",
            Supported,
            Message(&COMMON_TLS_CONTEXT_CERTIFICATE_PROVIDER_INSTANCE),
        ),
        one(
            12,
            "validation_context_certificate_provider_instance",
            Supported,
            Message(&COMMON_TLS_CONTEXT_CERTIFICATE_PROVIDER_INSTANCE),
        ),
        one(13, "custom_handshaker", NOT_DONE, OPAQUE),
        one(
            14,
            "tls_certificate_provider_instance",
            Supported,
            Message(&CERTIFICATE_PROVIDER_PLUGIN_INSTANCE),
        ),
        one(15, "key_log", NOT_DONE, OPAQUE),
        one(16, "custom_tls_certificate_selector", NOT_DONE, OPAQUE),
    ],
};

pub static SECRET: Schema = Schema {
    name: "envoy.extensions.transport_sockets.tls.v3.Secret",
    rows: &[
        one(1, "name", Supported, TEXT),
        one(2, "tls_certificate", Supported, Message(&TLS_CERTIFICATE)),
        one(3, "session_ticket_keys", NOT_DONE, OPAQUE),
        one(4, "validation_context", NOT_DONE, OPAQUE),
        one(5, "generic_secret", NOT_DONE, OPAQUE),
    ],
};

pub static TLS_CERTIFICATE: Schema = Schema {
    name: "envoy.extensions.transport_sockets.tls.v3.TlsCertificate",
    rows: &[
        one(1, "certificate_chain", Supported, Message(&DATA_SOURCE)),
        one(2, "private_key", Supported, Message(&DATA_SOURCE)),
        one(3, "password", NOT_DONE, OPAQUE),
        one(4, "ocsp_staple", NOT_DONE, OPAQUE),
        many(5, "signed_certificate_timestamp", NOT_DONE, OPAQUE),
        one(6, "private_key_provider", NOT_DONE, OPAQUE),
        one(7, "watched_directory", Warn("files are read when the resource comes"), OPAQUE),
        one(8, "pkcs12", NOT_DONE, OPAQUE),
        one(9, "tls_params", NOT_DONE, OPAQUE),
    ],
};

pub static CERTIFICATE_VALIDATION_CONTEXT: Schema = Schema {
    name: "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext",
    rows: &[
        one(1, "trusted_ca", Supported, Message(&DATA_SOURCE)),
        many(2, "verify_certificate_hash", NOT_DONE, TEXT),
        many(3, "verify_certificate_spki", NOT_DONE, TEXT),
        one(6, "require_signed_certificate_timestamp", NOT_DONE, OPAQUE),
        one(7, "crl", NOT_DONE, OPAQUE),
        one(8, "allow_expired_certificate", NOT_DONE, VARINT),
        many(9, "match_subject_alt_names", Supported, Message(&STRING_MATCHER)),
        one(10, "trust_chain_verification", NOT_DONE, VARINT),
        one(11, "watched_directory", Warn("files are read when the resource comes"), OPAQUE),
        one(12, "custom_validator_config", NOT_DONE, OPAQUE),
        one(
            13,
            "ca_certificate_provider_instance",
            Supported,
            Message(&CERTIFICATE_PROVIDER_PLUGIN_INSTANCE),
        ),
        one(14, "only_verify_leaf_cert_crl", NOT_DONE, VARINT),
        many(15, "match_typed_subject_alt_names", Supported, Message(&SUBJECT_ALT_NAME_MATCHER)),
        one(16, "max_verify_depth", NOT_DONE, OPAQUE),
        one(17, "system_root_certs", Supported, Message(&CERTIFICATE_VALIDATION_CONTEXT_SYSTEM_ROOT_CERTS)),
        one(18, "suppress_client_ca_list", Harmless("the list is never sent"), VARINT),
    ],
};

pub static CERTIFICATE_VALIDATION_CONTEXT_SYSTEM_ROOT_CERTS: Schema = Schema {
    name: "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext.SystemRootCerts",
    rows: &[],
};

pub static SDS_SECRET_CONFIG: Schema = Schema {
    name: "envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig",
    rows: &[one(1, "name", Supported, TEXT), one(2, "sds_config", Supported, Message(&CONFIG_SOURCE))],
};

pub static COMMON_TLS_CONTEXT_COMBINED_CERTIFICATE_VALIDATION_CONTEXT: Schema = Schema {
    name: "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext.CombinedCertificateValidationContext",
    rows: &[
        one(1, "default_validation_context", Supported, Message(&CERTIFICATE_VALIDATION_CONTEXT)),
        one(2, "validation_context_sds_secret_config", Supported, Message(&SDS_SECRET_CONFIG)),
        one(3, "validation_context_certificate_provider", NOT_DONE, OPAQUE),
        one(
            4,
            "validation_context_certificate_provider_instance",
            Supported,
            Message(&COMMON_TLS_CONTEXT_CERTIFICATE_PROVIDER_INSTANCE),
        ),
    ],
};

pub static COMMON_TLS_CONTEXT_CERTIFICATE_PROVIDER_INSTANCE: Schema = Schema {
    name: "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext.CertificateProviderInstance",
    rows: &[one(1, "instance_name", Supported, TEXT), one(2, "certificate_name", Supported, TEXT)],
};

pub static CERTIFICATE_PROVIDER_PLUGIN_INSTANCE: Schema = Schema {
    name: "envoy.extensions.transport_sockets.tls.v3.CertificateProviderPluginInstance",
    rows: &[one(1, "instance_name", Supported, TEXT), one(2, "certificate_name", Supported, TEXT)],
};

pub static SUBJECT_ALT_NAME_MATCHER: Schema = Schema {
    name: "envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher",
    rows: &[
        one(1, "san_type", Supported, VARINT),
        one(2, "matcher", Supported, Message(&STRING_MATCHER)),
        one(3, "oid", NOT_DONE, TEXT),
    ],
};

pub static TLS_PARAMETERS: Schema = Schema {
    name: "envoy.extensions.transport_sockets.tls.v3.TlsParameters",
    rows: &[
        one(1, "tls_minimum_protocol_version", Supported, VARINT),
        one(2, "tls_maximum_protocol_version", Supported, VARINT),
        many(3, "cipher_suites", Warn("only strong suites are offered"), TEXT),
        many(4, "ecdh_curves", Warn("the curves are our own"), TEXT),
        many(5, "signature_algorithms", Warn("the algorithms are our own"), TEXT),
        many(6, "compliance_policies", NOT_DONE, VARINT),
    ],
};
