//! What is counted of datagrams.

use weft_telemetry::{Counter, Gauge, Registry};

/// Counters of one listener of datagrams.
pub struct UdpMeters {
    pub open: Gauge,
    pub opened: Counter,
    pub requests: Way,
    pub responses: Way,
    pub dropped: [Counter; 4],
}

/// Datagrams and bytes of one way.
pub type Way = (Counter, Counter);

/// Why a datagram was not passed on; index of [`UdpMeters::dropped`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// There are as many sessions as there may be, of the listener's or of the process's descriptors.
    Sessions,
    NoEndpoint,
    /// The kernel did not take it at once, or said that nobody is there.
    Send,
    /// It would have begun a session, of which there are no new ones now.
    Overload,
}

impl UdpMeters {
    pub fn new(registry: &Registry, listener: &str) -> UdpMeters {
        let counter = |name, help, more: &[(&'static str, &str)]| {
            let mut labels = vec![("listener", listener)];
            labels.extend(more);
            registry.counter(name, help, &labels)
        };
        let way = |direction| {
            let labels = [("direction", direction)];
            let datagrams = counter("weft_udp_datagrams", "Datagrams that came, by way.", &labels);
            (datagrams, counter("weft_udp_bytes", "Their bytes.", &labels))
        };
        let dropped = |reason| {
            let help = "Datagrams that were not passed on, by reason.";
            counter("weft_udp_dropped", help, &[("reason", reason)])
        };
        UdpMeters {
            open: registry.gauge(
                "weft_udp_open_sessions",
                "Sources whose datagrams have an endpoint now.",
                &[("listener", listener)],
            ),
            opened: counter("weft_udp_sessions", "Sources that got an endpoint.", &[]),
            requests: way("request"),
            responses: way("response"),
            dropped: [dropped("sessions"), dropped("no_endpoint"), dropped("send"), dropped("overload")],
        }
    }
}
