//! The settings of a control plane, already resolved: flag, variable or file is the binary's matter.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// The zone in which services have names.
pub const ZONE: &str = "mesh.internal";
/// The trust domain of a mesh that names none.
pub const TRUST_DOMAIN: &str = "mesh.internal";

/// What `weft control` was told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The state directory: store, keys, history, socket.
    pub state: PathBuf,
    /// API and console, 7700.
    pub api: SocketAddr,
    /// xDS and link, 7701.
    pub xds: SocketAddr,
    /// DNS over UDP and TCP, 7753.
    pub dns: SocketAddr,
    /// The store's URL or path; the embedded file in the state directory when absent.
    pub store: Option<String>,
    /// The trust domain; `mesh.internal` when absent.
    pub trust_domain: Option<String>,
    /// The address that proxies on other machines reach this control plane at.
    pub advertise: Option<IpAddr>,
}
