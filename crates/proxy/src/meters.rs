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
    pub refused: Counter,
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
            refused: one(
                "weft_connections_refused",
                "Connections closed because the listener was full or not configured.",
            ),
            health_checks: one("weft_health_checks_answered", "Health checks of members, answered here."),
        }
    }

    pub fn requests(&self, status: u16) -> Counter {
        self.requests[class(status)]
    }
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
