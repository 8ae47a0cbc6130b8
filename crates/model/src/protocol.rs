//! What a service port speaks. One rule for the whole mesh: what is said in `appProtocol`, else the
//! port's name, else its number, else bytes.

use std::fmt;

use crate::spec::ServicePort;

/// What the application behind a port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// HTTP/1.1 in the clear; the proxies look inside.
    Http,
    /// HTTP/2 in the clear (h2c, gRPC); the proxies look inside. Calls in gRPC-Web reach the application as gRPC.
    Http2,
    /// The application's own HTTPS: passed through by server name.
    Https,
    /// The application's own TLS: passed through by server name.
    Tls,
    /// Bytes.
    Tcp,
}

impl Protocol {
    /// By the words of `appProtocol`, in any case. `None`: not one of ours.
    #[must_use]
    pub fn of_app_protocol(word: &str) -> Option<Protocol> {
        Some(match word.to_ascii_lowercase().as_str() {
            "http" | "http1" | "kubernetes.io/ws" => Protocol::Http,
            "http2" | "h2c" | "kubernetes.io/h2c" | "grpc" | "grpc-web" => Protocol::Http2,
            "https" | "kubernetes.io/wss" => Protocol::Https,
            "tls" => Protocol::Tls,
            "tcp" => Protocol::Tcp,
            _ => return None,
        })
    }

    /// By a port's name: the exact word, or the word with `-` behind it.
    #[must_use]
    pub fn of_port_name(name: &str) -> Option<Protocol> {
        Protocol::of_app_protocol(name.split('-').next().unwrap_or(name))
    }

    #[must_use]
    pub fn of(port: &ServicePort) -> Protocol {
        let said = port.app_protocol.as_deref().and_then(Protocol::of_app_protocol);
        let named = || port.name.as_deref().and_then(Protocol::of_port_name);
        let numbered = || matches!(port.port, 80 | 8080).then_some(Protocol::Http);
        said.or_else(named).or_else(numbered).unwrap_or(Protocol::Tcp)
    }

    /// Whether the proxies see requests, so that routes and L7 policies apply.
    #[must_use]
    pub fn is_http(self) -> bool {
        matches!(self, Protocol::Http | Protocol::Http2)
    }

    /// Whether the application brings TLS of its own.
    #[must_use]
    pub fn is_tls(self) -> bool {
        matches!(self, Protocol::Https | Protocol::Tls)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Http => "http",
            Protocol::Http2 => "http2",
            Protocol::Https => "https",
            Protocol::Tls => "tls",
            Protocol::Tcp => "tcp",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(app_protocol: &str, name: &str, number: u16, expected: Protocol) {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let port = ServicePort {
            app_protocol: text(app_protocol),
            name: text(name),
            port: number,
            ..ServicePort::default()
        };
        assert_eq!(Protocol::of(&port), expected, "{app_protocol} {name} {number}");
    }

    #[test]
    fn said_then_named_then_numbered() {
        check("", "", 80, Protocol::Http);
        check("", "", 8080, Protocol::Http);
        check("", "", 5432, Protocol::Tcp);
        check("", "http", 9000, Protocol::Http);
        check("", "http-admin", 9000, Protocol::Http);
        check("", "grpc-api", 80, Protocol::Http2);
        check("", "httpish", 9000, Protocol::Tcp);
        check("", "tcp-x", 80, Protocol::Tcp);
        check("", "tls", 443, Protocol::Tls);
        check("kubernetes.io/h2c", "http", 80, Protocol::Http2);
        check("GRPC", "", 80, Protocol::Http2);
        check("grpc-web", "", 80, Protocol::Http2);
        check("", "grpc-web", 9000, Protocol::Http2);
        check("https", "", 443, Protocol::Https);
        check("example.com/other", "", 80, Protocol::Http);
    }
}
