//! PROXY headers, by which a proxy says for whom a connection is: written, and believed of some.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocolVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// Who is believed when it says, by a PROXY header, for whom a connection is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcceptProxyProtocol {
    /// Networks of the load balancers, such as `192.0.2.0/28`. Each connection from there must begin with a header, of either version; of all others none is taken: what looks like one is then the connection's own bytes, and neither TLS nor a request.
    #[schemars(length(min = 1), extend("format" = "cidr"))]
    pub from: Vec<String>,
}
