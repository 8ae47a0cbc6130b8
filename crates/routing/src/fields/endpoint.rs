//! The table: load assignments.

use super::Class::{Harmless, Supported, Warn};
use super::Kind::Message;
use super::core::{ADDRESS, DURATION, FRACTIONAL_PERCENT, LOCALITY, METADATA, UINT32_VALUE};
use super::{NO_LIMIT, NOT_DONE, OPAQUE, Schema, TEXT, VARINT, many, map, one};

/// Every message of this page.
pub static ALL: &[&Schema] = &[
    &CLUSTER_LOAD_ASSIGNMENT,
    &CLUSTER_LOAD_ASSIGNMENT_POLICY,
    &CLUSTER_LOAD_ASSIGNMENT_POLICY_DROP_OVERLOAD,
    &LOCALITY_LB_ENDPOINTS,
    &LB_ENDPOINT,
    &ENDPOINT,
    &ENDPOINT_HEALTH_CHECK_CONFIG,
];

pub static CLUSTER_LOAD_ASSIGNMENT: Schema = Schema {
    name: "envoy.config.endpoint.v3.ClusterLoadAssignment",
    rows: &[
        one(1, "cluster_name", Supported, TEXT),
        many(2, "endpoints", Supported, Message(&LOCALITY_LB_ENDPOINTS)),
        one(4, "policy", Supported, Message(&CLUSTER_LOAD_ASSIGNMENT_POLICY)),
        map(5, "named_endpoints", NOT_DONE, OPAQUE),
    ],
};

pub static CLUSTER_LOAD_ASSIGNMENT_POLICY: Schema = Schema {
    name: "envoy.config.endpoint.v3.ClusterLoadAssignment.Policy",
    rows: &[
        many(2, "drop_overloads", Supported, Message(&CLUSTER_LOAD_ASSIGNMENT_POLICY_DROP_OVERLOAD)),
        one(
            3,
            "overprovisioning_factor",
            Warn("a priority gives way as a whole, below the panic threshold"),
            Message(&UINT32_VALUE),
        ),
        one(4, "endpoint_stale_after", NO_LIMIT, Message(&DURATION)),
        one(6, "weighted_priority_health", NOT_DONE, VARINT),
    ],
};

pub static CLUSTER_LOAD_ASSIGNMENT_POLICY_DROP_OVERLOAD: Schema = Schema {
    name: "envoy.config.endpoint.v3.ClusterLoadAssignment.Policy.DropOverload",
    rows: &[
        one(1, "category", Supported, TEXT),
        one(2, "drop_percentage", Supported, Message(&FRACTIONAL_PERCENT)),
    ],
};

pub static LOCALITY_LB_ENDPOINTS: Schema = Schema {
    name: "envoy.config.endpoint.v3.LocalityLbEndpoints",
    rows: &[
        one(1, "locality", Supported, Message(&LOCALITY)),
        many(2, "lb_endpoints", Supported, Message(&LB_ENDPOINT)),
        one(
            3,
            "load_balancing_weight",
            Harmless("it counts with locality_weighted_lb_config only"),
            Message(&UINT32_VALUE),
        ),
        one(5, "priority", Supported, VARINT),
        one(6, "proximity", Harmless("Envoy does not read it either"), OPAQUE),
        one(7, "load_balancer_endpoints", NOT_DONE, OPAQUE),
        one(8, "leds_cluster_locality_config", NOT_DONE, OPAQUE),
        one(9, "metadata", Harmless("only informs"), OPAQUE),
    ],
};

pub static LB_ENDPOINT: Schema = Schema {
    name: "envoy.config.endpoint.v3.LbEndpoint",
    rows: &[
        one(1, "endpoint", Supported, Message(&ENDPOINT)),
        one(2, "health_status", Supported, VARINT),
        one(3, "metadata", Supported, Message(&METADATA)),
        one(4, "load_balancing_weight", Supported, Message(&UINT32_VALUE)),
        one(5, "endpoint_name", NOT_DONE, TEXT),
    ],
};

pub static ENDPOINT: Schema = Schema {
    name: "envoy.config.endpoint.v3.Endpoint",
    rows: &[
        one(1, "address", Supported, Message(&ADDRESS)),
        one(2, "health_check_config", Supported, Message(&ENDPOINT_HEALTH_CHECK_CONFIG)),
        one(3, "hostname", Supported, TEXT),
        many(4, "additional_addresses", Warn("the first address is used"), OPAQUE),
        one(5, "observability_name", Harmless("only informs"), TEXT),
    ],
};

pub static ENDPOINT_HEALTH_CHECK_CONFIG: Schema = Schema {
    name: "envoy.config.endpoint.v3.Endpoint.HealthCheckConfig",
    rows: &[
        one(1, "port_value", Supported, VARINT),
        one(2, "hostname", Warn("the cluster's host is used"), TEXT),
        one(3, "address", NOT_DONE, OPAQUE),
        one(4, "disable_active_health_check", NOT_DONE, VARINT),
    ],
};
