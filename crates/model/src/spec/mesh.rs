//! `Mesh`: what holds for the whole mesh. There is one, named `default`; without it every field has
//! its default, which is the safe choice.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::period::Period;

/// What holds for the whole mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Mesh {
    /// Trust domain of every identity. Changing it changes every identity.
    #[serde(default = "trust_domain")]
    #[schemars(extend("format" = "trust-domain"))]
    pub trust_domain: String,
    /// Mutual TLS between members.
    #[serde(default)]
    pub mtls: Mtls,
    /// What happens where no AccessPolicy speaks.
    #[serde(default)]
    pub authorization: Authorization,
    /// What happens to calls that leave the mesh.
    #[serde(default)]
    pub egress: Egress,
    /// The proxies' record of requests.
    #[serde(default)]
    pub access_log: AccessLog,
    /// Certificates of members.
    #[serde(default)]
    pub certificates: Certificates,
    /// Virtual addresses of services.
    #[serde(default)]
    pub vip: Vip,
    /// Defaults for every service.
    #[serde(default)]
    pub defaults: MeshDefaults,
}

impl Default for Mesh {
    fn default() -> Mesh {
        Mesh {
            trust_domain: trust_domain(),
            mtls: Mtls::default(),
            authorization: Authorization::default(),
            egress: Egress::default(),
            access_log: AccessLog::default(),
            certificates: Certificates::default(),
            vip: Vip::default(),
            defaults: MeshDefaults::default(),
        }
    }
}

fn trust_domain() -> String {
    crate::names::TRUST_DOMAIN.to_owned()
}

/// Mutual TLS between members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Mtls {
    /// Whether members must speak mutual TLS.
    #[serde(default)]
    pub mode: MtlsMode,
}

/// Whether members must speak mutual TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum MtlsMode {
    /// Plaintext is refused.
    #[default]
    Strict,
    /// Members speak mutual TLS to each other; plaintext from others is taken.
    Permissive,
    /// No TLS between members. For measuring only.
    Disabled,
}

/// What happens where no policy speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Wish {
    /// It is refused.
    #[default]
    Deny,
    /// It goes through.
    Allow,
}

/// What happens where no AccessPolicy speaks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Authorization {
    /// The answer to a call that no AccessPolicy allows.
    #[serde(default)]
    pub default: Wish,
}

/// What happens to calls that leave the mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Egress {
    /// The answer to a call to a host that is neither a service nor an ExternalService.
    #[serde(default)]
    pub default: Wish,
}

/// The proxies' record of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessLog {
    /// Form of a line.
    #[serde(default)]
    pub format: AccessLogFormat,
    /// File of the log, such as `/dev/stdout`; no log when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Form of the access log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AccessLogFormat {
    /// Envoy's usual line.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Certificates of members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Certificates {
    /// Life of a member's certificate, `2m` to `720h`. It is renewed after half to 70 percent of it.
    #[serde(default = "day")]
    pub ttl: Period,
}

impl Default for Certificates {
    fn default() -> Certificates {
        Certificates { ttl: day() }
    }
}

fn day() -> Period {
    Period::from_secs(24 * 3600)
}

/// Virtual addresses of services.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Vip {
    /// Range of the virtual addresses, in CIDR form. Addresses already given stay.
    #[serde(default = "vip_cidr")]
    #[schemars(extend("format" = "ipv4-cidr"))]
    pub cidr: String,
}

impl Default for Vip {
    fn default() -> Vip {
        Vip { cidr: vip_cidr() }
    }
}

fn vip_cidr() -> String {
    crate::names::VIP_CIDR.to_owned()
}

/// Defaults for every service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshDefaults {
    /// From a request to the head of its answer, where no route or policy says else. `0s`: no limit.
    #[serde(default = "request_timeout")]
    pub request_timeout: Period,
    /// To open a connection to an endpoint.
    #[serde(default = "connect_timeout")]
    pub connect_timeout: Period,
    /// How long a connection may stay idle.
    #[serde(default = "idle_timeout")]
    pub idle_timeout: Period,
}

impl Default for MeshDefaults {
    fn default() -> MeshDefaults {
        MeshDefaults {
            request_timeout: request_timeout(),
            connect_timeout: connect_timeout(),
            idle_timeout: idle_timeout(),
        }
    }
}

fn request_timeout() -> Period {
    Period::from_secs(15)
}

fn connect_timeout() -> Period {
    Period::from_secs(1)
}

fn idle_timeout() -> Period {
    Period::from_secs(3600)
}
