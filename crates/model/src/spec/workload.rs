//! Who runs: `Workload`, one instance in the mesh, and `ExternalService`, somebody outside of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::period::Period;

/// One running instance of a service. A proxy that joins writes its own; people write one for what has no proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// Name of the service that it runs. Its label `app` says the same, and is what a Service selects by.
    #[schemars(extend("format" = "dns-label"))]
    pub service: String,
    /// IP address of the instance, or of its proxy.
    #[schemars(extend("format" = "ip"))]
    pub address: String,
    /// Ports of the application.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<WorkloadPort>,
    /// Port of its proxy for calls from members; without one the instance is called in plaintext on its own ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub inbound_port: Option<u16>,
    /// SPIFFE id that callers demand of it, such as `spiffe://mesh.internal/ns/default/sa/web`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "spiffe-id"))]
    pub identity: Option<String>,
    /// Where it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locality: Option<Locality>,
    /// Whether it may get traffic.
    #[serde(default)]
    pub health: Health,
    /// Until when the object holds unless renewed; for ever when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    /// The proxy in front of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxyInfo>,
}

/// A port of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadPort {
    /// Name that a Service's `targetPort` may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "dns-label"))]
    pub name: Option<String>,
    /// Number of the port, 1 to 65535.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
}

/// Where something runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Locality {
    /// Region, such as `eu-central-1`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub region: String,
    /// Zone within the region.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub zone: String,
    /// Part of the zone, such as a rack.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subzone: String,
}

/// Whether an instance may get traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Health {
    /// It gets traffic.
    Healthy,
    /// It gets none.
    Unhealthy,
    /// It ends: what runs may finish, nothing new comes.
    Draining,
    /// Nobody has said; it gets traffic.
    #[default]
    Unknown,
}

/// Until when something holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    /// The moment it ends, RFC 3339.
    #[schemars(extend("format" = "date-time"))]
    pub expires: String,
}

/// The proxy in front of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyInfo {
    /// What proxy it is, and so what it can enforce.
    #[serde(default)]
    pub kind: ProxyKind,
    /// Version of the proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// What proxy stands in front of an instance.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum ProxyKind {
    /// Our own.
    Weft,
    /// An Envoy.
    Envoy,
    /// No proxy: the application's own gRPC library does its work.
    Grpc,
    /// Nothing at all: calls reach the application as they are.
    #[default]
    None,
}

/// A service outside the mesh, so that calls to it have a name, a policy and figures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalService {
    /// Host names of the service; the first is where calls by the mesh's name go.
    #[schemars(length(min = 1), extend("format" = "hostname-or-wildcard"))]
    pub hosts: Vec<String>,
    /// Ports that callers use.
    #[schemars(length(min = 1))]
    pub ports: Vec<ExternalPort>,
    /// TLS towards the service; none when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ExternalTls>,
    /// How its addresses are found.
    #[serde(default)]
    pub resolution: Resolution,
    /// Addresses of the service; needed for Static, instead of the host names for DNS.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<ExternalEndpoint>,
}

/// A port of a service outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalPort {
    /// Port that callers use, 1 to 65535.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Name of the port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "dns-label"))]
    pub name: Option<String>,
    /// What the application speaks on this port.
    #[serde(default)]
    pub protocol: ExternalProtocol,
    /// Port of the service outside; the same as `port` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub target_port: Option<u16>,
}

/// What an application speaks to a service outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExternalProtocol {
    /// HTTP; with TLS mode Originate the proxy puts it into TLS.
    #[default]
    Http,
    /// HTTP/2 in the clear, gRPC too; with TLS mode Originate the proxy puts it into TLS.
    Http2,
    /// HTTPS by the application itself: passed through by server name.
    Https,
    /// TLS by the application itself: passed through by server name.
    Tls,
    /// Bytes.
    Tcp,
    /// Datagrams, in the clear. They are taken at the proxies that were told to (`weft proxy --udp`).
    Udp,
}

impl ExternalProtocol {
    /// Whether the proxies read requests on the port.
    pub fn is_http(self) -> bool {
        matches!(self, ExternalProtocol::Http | ExternalProtocol::Http2)
    }

    /// Whether there are datagrams on the port, and no connections.
    pub fn is_udp(self) -> bool {
        self == ExternalProtocol::Udp
    }
}

/// TLS towards a service outside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalTls {
    /// Who starts TLS.
    #[serde(default)]
    pub mode: ExternalTlsMode,
    /// Server name sent and demanded of the certificate; the first host when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "hostname"))]
    pub sni: Option<String>,
    /// Certificates of the authorities to trust, PEM; the machine's own when neither this nor `caSecretRef` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "pem-certificates"))]
    pub ca: Option<String>,
    /// Secret whose entry `ca.crt` holds the authorities to trust.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretRef>,
    /// Secret whose entries `tls.crt` and `tls.key` the proxy shows as its own certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_ref: Option<SecretRef>,
}

/// Who starts TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ExternalTlsMode {
    /// The proxy: the application speaks plaintext.
    #[default]
    Originate,
    /// The application: its TLS is passed on unread.
    PassThrough,
}

/// A Secret of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(extend("format" = "dns-subdomain"))]
    pub name: String,
}

/// How addresses are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Resolution {
    /// By DNS, again and again.
    #[default]
    DNS,
    /// They are listed in `endpoints`.
    Static,
}

/// An address of a service outside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalEndpoint {
    /// IP address; for resolution DNS also a host name.
    #[schemars(extend("format" = "ip-or-hostname"))]
    pub address: String,
    /// Port there; the port's own target when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
}

impl Lease {
    /// A lease that ends at `now` plus `length`.
    #[must_use]
    pub fn until(now: jiff::Timestamp, length: Period) -> Lease {
        let length = jiff::SignedDuration::try_from(length.get()).unwrap_or(jiff::SignedDuration::MAX);
        Lease { expires: now.checked_add(length).unwrap_or(jiff::Timestamp::MAX).to_string() }
    }

    /// Whether it has ended at `now`. A text that is no moment has ended.
    #[must_use]
    pub fn ended(&self, now: jiff::Timestamp) -> bool {
        self.expires.parse::<jiff::Timestamp>().map_or(true, |expires| expires <= now)
    }
}
