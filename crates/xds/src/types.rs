//! Type URLs of the resources and the order in which they are sent.

/// Clusters.
pub const CDS: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
/// Endpoints of a cluster.
pub const EDS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
/// Listeners.
pub const LDS: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
/// Route configurations.
pub const RDS: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
/// Secrets: certificates and trust bundles.
pub const SDS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// The envelope that a state-of-the-world response may put around a resource to name it.
pub const WRAPPER: &str = "type.googleapis.com/envoy.service.discovery.v3.Resource";

/// What is named comes before what names it: a route to a cluster that the client has not heard
/// of is a 503.
pub const ORDER: [&str; 5] = [CDS, EDS, LDS, RDS, SDS];

/// Position in [`ORDER`]; types that this crate has never heard of come last.
pub fn rank(type_url: &str) -> usize {
    ORDER.iter().position(|known| *known == type_url).unwrap_or(ORDER.len())
}

/// A first request without names means "everything" for these (the protocol's legacy rule), and
/// a state-of-the-world response carries all that the client may keep: what is absent is gone.
pub fn is_full_state(type_url: &str) -> bool {
    type_url == CDS || type_url == LDS
}

/// `cluster`, `endpoints`, …: for logs and reports.
pub fn short(type_url: &str) -> &str {
    match type_url {
        CDS => "clusters",
        EDS => "endpoints",
        LDS => "listeners",
        RDS => "routes",
        SDS => "secrets",
        other => other.rsplit(['/', '.']).next().unwrap_or(other),
    }
}
