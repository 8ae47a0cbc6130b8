//! What this proxy counts: handles made when a table is built, plain adds afterwards.

use weft_telemetry::{Counter, Gauge, Registry, Timing};

/// Status classes 1xx to 5xx; index 0 is "no status" (a connection, a reset).
const CLASSES: [&str; 6] = ["0xx", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Counters of one cluster.
#[derive(Clone, Copy)]
pub struct ClusterMeters {
    requests: [Counter; 6],
    pub retries: Counter,
    pub connect_failures: Counter,
    pub connections: Counter,
    pub overflows: Counter,
}

impl ClusterMeters {
    pub fn new(registry: &Registry, cluster: &str) -> ClusterMeters {
        let one = |name, help| registry.counter(name, help, &[("cluster", cluster)]);
        ClusterMeters {
            requests: CLASSES.map(|class| {
                registry.counter(
                    "weft_upstream_requests",
                    "Tries sent to a cluster, by class of the answer.",
                    &[("cluster", cluster), ("code", class)],
                )
            }),
            retries: one("weft_upstream_retries", "Tries that were not a request's first."),
            connect_failures: one("weft_upstream_connect_failures", "Connections that could not be opened."),
            connections: one("weft_upstream_connections", "Connections opened."),
            overflows: one("weft_upstream_overflows", "Requests refused by a cluster's limits."),
        }
    }

    pub fn requests(&self, status: u16) -> Counter {
        self.requests[class(status)]
    }
}

/// Counters of one listener.
#[derive(Clone, Copy)]
pub struct ListenerMeters {
    requests: [Counter; 6],
    pub duration: Timing,
    pub connections: Counter,
    pub open: Gauge,
    pub no_chain: Counter,
    pub denied: Counter,
    pub shadow_denied: Counter,
    pub health_checks: Counter,
}

impl ListenerMeters {
    pub fn new(registry: &Registry, listener: &str) -> ListenerMeters {
        let one = |name, help| registry.counter(name, help, &[("listener", listener)]);
        ListenerMeters {
            requests: CLASSES.map(|class| {
                registry.counter(
                    "weft_requests",
                    "Requests answered, by class of the answer; 0xx are TCP connections and resets.",
                    &[("listener", listener), ("code", class)],
                )
            }),
            duration: registry.timing(
                "weft_request_duration_seconds",
                "From a request's head to its answer's end.",
                &[("listener", listener)],
            ),
            connections: one("weft_connections", "Connections accepted."),
            open: registry.gauge("weft_open_connections", "Connections open now.", &[("listener", listener)]),
            no_chain: one(
                "weft_no_filter_chain",
                "Connections that no filter chain takes, plaintext to mTLS too.",
            ),
            shadow_denied: one(
                "weft_shadow_denied",
                "Requests and connections that rules on trial would refuse.",
            ),
            denied: one("weft_denied", "Requests and connections refused by an access policy."),
            health_checks: one("weft_health_checks_answered", "Health checks of members, answered here."),
        }
    }

    pub fn requests(&self, status: u16) -> Counter {
        self.requests[class(status)]
    }
}

/// Connections that were closed as soon as they were accepted, for this reason; registered when it first happens.
#[cold]
pub fn refused(registry: &Registry, listener: &str, reason: &'static str) -> Counter {
    let help = "Connections closed as soon as they were accepted, by the limit that was met.";
    registry.counter("weft_connections_refused", help, &[("listener", listener), ("reason", reason)])
}

/// HTTP/2 connections that were ended because their peers only kept us busy; registered when it first happens.
#[cold]
pub fn http2_floods(registry: &Registry, listener: &str, kind: &'static str) -> Counter {
    let help = "HTTP/2 connections ended for a flood of frames that carry nothing, by kind of frame.";
    registry.counter("weft_http2_floods", help, &[("listener", listener), ("kind", kind)])
}

/// The same of an upstream.
#[cold]
pub fn upstream_http2_floods(registry: &Registry, cluster: &str, kind: &'static str) -> Counter {
    let help =
        "HTTP/2 connections to a cluster ended for a flood of frames that carry nothing, by kind of frame.";
    registry.counter("weft_upstream_http2_floods", help, &[("cluster", cluster), ("kind", kind)])
}

/// Connections to a listener whose PROXY header was not taken for this reason; registered when it first happens.
#[cold]
pub fn proxy_headers_refused(registry: &Registry, listener: &str, reason: &'static str) -> Counter {
    let help = "Connections closed because their PROXY header was absent or not taken, by reason.";
    registry.counter("weft_proxy_headers_refused", help, &[("listener", listener), ("reason", reason)])
}

/// Connections to a listener whose TLS failed for this reason; registered when it first happens.
#[cold]
pub fn tls_failures(registry: &Registry, listener: &str, reason: &'static str) -> Counter {
    let help = "Connections whose TLS handshake failed, wrong identities too, by reason.";
    registry.counter("weft_tls_failures", help, &[("listener", listener), ("reason", reason)])
}

fn class(status: u16) -> usize {
    match status / 100 {
        class @ 1..=5 => usize::from(class),
        _ => 0,
    }
}
