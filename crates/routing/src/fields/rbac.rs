//! The table: role based access control, for HTTP and TCP.

use super::Class::{Harmless, Supported, Warn};
use super::Kind::Message;
use super::core::{CIDR_RANGE, INT32_RANGE, PATH_MATCHER, STRING_MATCHER};
use super::route::HEADER_MATCHER;
use super::{NOT_DONE, OPAQUE, Schema, TEXT, VARINT, many, map, one};

/// Every message of this page.
pub static ALL: &[&Schema] = &[
    &HTTP_RBAC,
    &NETWORK_RBAC,
    &RBAC,
    &POLICY,
    &PERMISSION,
    &PERMISSION_SET,
    &PRINCIPAL,
    &PRINCIPAL_SET,
    &PRINCIPAL_AUTHENTICATED,
];

pub static HTTP_RBAC: Schema = Schema {
    name: "envoy.extensions.filters.http.rbac.v3.RBAC",
    rows: &[
        one(1, "rules", Supported, Message(&RBAC)),
        one(2, "shadow_rules", Supported, Message(&RBAC)),
        one(3, "shadow_rules_stat_prefix", Harmless("metrics have our own names"), TEXT),
        one(4, "matcher", NOT_DONE, OPAQUE),
        one(5, "shadow_matcher", NOT_DONE, OPAQUE),
        one(6, "rules_stat_prefix", Harmless("metrics have our own names"), TEXT),
        one(7, "track_per_rule_stats", Warn("rules are counted by policy"), VARINT),
    ],
};

pub static NETWORK_RBAC: Schema = Schema {
    name: "envoy.extensions.filters.network.rbac.v3.RBAC",
    rows: &[
        one(1, "rules", Supported, Message(&RBAC)),
        one(2, "shadow_rules", Supported, Message(&RBAC)),
        one(3, "stat_prefix", Harmless("metrics have our own names"), TEXT),
        one(4, "enforcement_type", NOT_DONE, VARINT),
        one(5, "shadow_rules_stat_prefix", Harmless("metrics have our own names"), TEXT),
        one(6, "matcher", NOT_DONE, OPAQUE),
        one(7, "shadow_matcher", NOT_DONE, OPAQUE),
        one(8, "delay_deny", Warn("refused connections end at once"), OPAQUE),
    ],
};

pub static RBAC: Schema = Schema {
    name: "envoy.config.rbac.v3.RBAC",
    rows: &[
        one(1, "action", Supported, VARINT),
        map(2, "policies", Supported, Message(&POLICY)),
        one(3, "audit_logging_options", Warn("refusals are in our own log"), OPAQUE),
    ],
};

pub static POLICY: Schema = Schema {
    name: "envoy.config.rbac.v3.Policy",
    rows: &[
        many(1, "permissions", Supported, Message(&PERMISSION)),
        many(2, "principals", Supported, Message(&PRINCIPAL)),
        one(3, "condition", NOT_DONE, OPAQUE),
        one(4, "checked_condition", NOT_DONE, OPAQUE),
        one(5, "cel_config", NOT_DONE, OPAQUE),
    ],
};

pub static PERMISSION: Schema = Schema {
    name: "envoy.config.rbac.v3.Permission",
    rows: &[
        one(1, "and_rules", Supported, Message(&PERMISSION_SET)),
        one(2, "or_rules", Supported, Message(&PERMISSION_SET)),
        one(3, "any", Supported, VARINT),
        one(4, "header", Supported, Message(&HEADER_MATCHER)),
        one(5, "destination_ip", Supported, Message(&CIDR_RANGE)),
        one(6, "destination_port", Supported, VARINT),
        one(7, "metadata", NOT_DONE, OPAQUE),
        one(8, "not_rule", Supported, Message(&PERMISSION)),
        one(9, "requested_server_name", Supported, Message(&STRING_MATCHER)),
        one(10, "url_path", Supported, Message(&PATH_MATCHER)),
        one(11, "destination_port_range", Supported, Message(&INT32_RANGE)),
        one(12, "matcher", NOT_DONE, OPAQUE),
        one(13, "uri_template", NOT_DONE, OPAQUE),
        one(14, "sourced_metadata", NOT_DONE, OPAQUE),
    ],
};

pub static PERMISSION_SET: Schema = Schema {
    name: "envoy.config.rbac.v3.Permission.Set",
    rows: &[many(1, "rules", Supported, Message(&PERMISSION))],
};

pub static PRINCIPAL: Schema = Schema {
    name: "envoy.config.rbac.v3.Principal",
    rows: &[
        one(1, "and_ids", Supported, Message(&PRINCIPAL_SET)),
        one(2, "or_ids", Supported, Message(&PRINCIPAL_SET)),
        one(3, "any", Supported, VARINT),
        one(4, "authenticated", Supported, Message(&PRINCIPAL_AUTHENTICATED)),
        one(5, "source_ip", Supported, Message(&CIDR_RANGE)),
        one(6, "header", Supported, Message(&HEADER_MATCHER)),
        one(7, "metadata", NOT_DONE, OPAQUE),
        one(8, "not_id", Supported, Message(&PRINCIPAL)),
        one(9, "url_path", Supported, Message(&PATH_MATCHER)),
        one(10, "direct_remote_ip", Supported, Message(&CIDR_RANGE)),
        one(11, "remote_ip", Supported, Message(&CIDR_RANGE)),
        one(12, "filter_state", NOT_DONE, OPAQUE),
        one(13, "sourced_metadata", NOT_DONE, OPAQUE),
        one(14, "custom", NOT_DONE, OPAQUE),
    ],
};

pub static PRINCIPAL_SET: Schema = Schema {
    name: "envoy.config.rbac.v3.Principal.Set",
    rows: &[many(1, "ids", Supported, Message(&PRINCIPAL))],
};

pub static PRINCIPAL_AUTHENTICATED: Schema = Schema {
    name: "envoy.config.rbac.v3.Principal.Authenticated",
    rows: &[one(2, "principal_name", Supported, Message(&STRING_MATCHER))],
};
