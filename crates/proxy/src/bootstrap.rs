//! A standard Envoy v3 bootstrap, in YAML or JSON, read into a [`Config`].
//!
//! The shapes here are a small part of Envoy's, written by hand since protobuf's JSON form is not in our protobuf
//! library. A field that is not listed is an error that names it, never passed over: node, admin, `dynamic_resources`
//! by ADS over gRPC, and static clusters and listeners as far as [`crate::bootstrap_static`] says. Ours alone: the
//! bootstrap's `node.metadata` may hold the keys of a Weft node.

use std::{net::SocketAddr, path::PathBuf};

use serde::Deserialize;

use crate::{
    bootstrap_static::{Cluster, Listener, SocketAddressBox},
    config::{Config, ForeignTls, ForeignXds, PortsWanted, RawNode, XdsMode},
};

/// A bootstrap larger than this is a mistake.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why a bootstrap cannot be used; says where in the file.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    #[error("read the bootstrap {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the bootstrap is larger than {BYTES_MAX} bytes")]
    TooLarge,
    #[error("the bootstrap: {0}")]
    Shape(String),
    #[error("the bootstrap: {path}: {reason}")]
    Meaning { path: String, reason: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bootstrap {
    #[serde(default)]
    node: Node,
    admin: Option<Admin>,
    dynamic_resources: Option<DynamicResources>,
    #[serde(default)]
    static_resources: Static,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Node {
    #[serde(default)]
    id: String,
    #[serde(default)]
    cluster: String,
    #[serde(default)]
    metadata: serde_json::Map<String, serde_json::Value>,
    /// Sent by Envoys; our balancing does not use it yet.
    #[serde(rename = "locality")]
    _locality: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Admin {
    address: SocketAddressBox,
    /// Our admin pages write no log.
    #[serde(rename = "access_log_path")]
    _access_log_path: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DynamicResources {
    ads_config: ApiConfigSource,
    #[serde(rename = "cds_config")]
    _cds_config: Option<AdsSource>,
    #[serde(rename = "lds_config")]
    _lds_config: Option<AdsSource>,
}

/// Only "by ADS": other sources are an error.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AdsSource {
    #[serde(rename = "ads")]
    _ads: serde_json::Map<String, serde_json::Value>,
    #[serde(rename = "resource_api_version")]
    _resource_api_version: Option<V3>,
    #[serde(rename = "initial_fetch_timeout")]
    _initial_fetch_timeout: Option<String>,
}

#[derive(Deserialize)]
enum V3 {
    V3,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ApiConfigSource {
    api_type: ApiType,
    #[serde(rename = "transport_api_version")]
    _transport_api_version: Option<V3>,
    grpc_services: Vec<GrpcService>,
    /// We always set the node on the first message only, as this asks for.
    #[serde(rename = "set_node_on_first_message_only")]
    _set_node_on_first_message_only: Option<bool>,
}

#[derive(Deserialize)]
enum ApiType {
    #[serde(rename = "GRPC")]
    Grpc,
    #[serde(rename = "DELTA_GRPC")]
    DeltaGrpc,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GrpcService {
    envoy_grpc: EnvoyGrpc,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvoyGrpc {
    cluster_name: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Static {
    #[serde(default)]
    listeners: Vec<Listener>,
    #[serde(default)]
    clusters: Vec<Cluster>,
}

/// Reads the file into the settings of a proxy whose state is in `state`.
pub fn load(path: &std::path::Path, state: PathBuf) -> Result<Config, BootstrapError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| BootstrapError::Read { path: path.to_owned(), source })?;
    parse(&text, state)
}

/// The same, from text.
pub fn parse(text: &str, state: PathBuf) -> Result<Config, BootstrapError> {
    if text.len() > BYTES_MAX {
        return Err(BootstrapError::TooLarge);
    }
    // JSON is YAML.
    let bootstrap: Bootstrap =
        serde_saphyr::from_str(text).map_err(|error| BootstrapError::Shape(error.to_string()))?;
    let text_of =
        |key: &str| bootstrap.node.metadata.get(key).and_then(|value| value.as_str()).map(str::to_owned);
    let service = text_of("service").unwrap_or_else(|| bootstrap.node.cluster.clone());
    let namespace = text_of("namespace").unwrap_or_else(|| "default".to_owned());
    let mut config = Config::new(&namespace, &service, state);
    config.ports = PortsWanted {
        outbound: None,
        inbound: None,
        admin: bootstrap
            .admin
            .as_ref()
            .map(|admin| admin.address.socket_address("admin.address"))
            .transpose()?,
        metrics: None,
    };
    let mut xds_cluster = None;
    if let Some(dynamic) = &bootstrap.dynamic_resources {
        let (foreign, name) = foreign(dynamic, &bootstrap.static_resources.clusters)?;
        config.foreign = Some(foreign);
        xds_cluster = Some(name);
    }
    config.node.raw = Some(RawNode {
        id: bootstrap.node.id,
        cluster: bootstrap.node.cluster,
        metadata: bootstrap.node.metadata,
    });
    for (index, cluster) in bootstrap.static_resources.clusters.iter().enumerate() {
        // The xDS server itself is not a place for requests.
        if xds_cluster.as_ref() != Some(&cluster.name) {
            let path = format!("static_resources.clusters[{index}]");
            config.resources.clusters.push(cluster.resource(&path)?);
        }
    }
    for (index, listener) in bootstrap.static_resources.listeners.iter().enumerate() {
        let path = format!("static_resources.listeners[{index}]");
        config.resources.listeners.push(listener.resource(&path)?);
    }
    Ok(config)
}

fn foreign(dynamic: &DynamicResources, clusters: &[Cluster]) -> Result<(ForeignXds, String), BootstrapError> {
    let wrong = |path: &str, reason: String| BootstrapError::Meaning { path: path.to_owned(), reason };
    let path = "dynamic_resources.ads_config.grpc_services";
    let [service] = &dynamic.ads_config.grpc_services[..] else {
        return Err(wrong(path, "exactly one server is supported".to_owned()));
    };
    let name = &service.envoy_grpc.cluster_name;
    let cluster = clusters
        .iter()
        .find(|cluster| cluster.name == *name)
        .ok_or_else(|| wrong(path, format!("cluster {name} is not in static_resources")))?;
    let address =
        cluster.first_address().ok_or_else(|| wrong(path, format!("cluster {name} has no endpoint")))?;
    let tls = cluster
        .tls_alone()
        .map_err(|reason| wrong(path, format!("cluster {name}: transport_socket: {reason}")))?;
    let tls = tls.map(|tls| ForeignTls {
        sni: tls.sni.clone(),
        ca_file: tls.ca_file(),
        chain_file: tls.chain_file(),
        key_file: tls.key_file(),
    });
    let mode = match dynamic.ads_config.api_type {
        ApiType::Grpc => XdsMode::StateOfTheWorld,
        ApiType::DeltaGrpc => XdsMode::Delta,
    };
    Ok((ForeignXds { address, tls, mode }, name.clone()))
}

impl SocketAddressBox {
    fn socket_address(&self, path: &str) -> Result<SocketAddr, BootstrapError> {
        let wrong = |reason: String| BootstrapError::Meaning { path: path.to_owned(), reason };
        if self.is_udp() {
            return Err(wrong("protocol: UDP is for listeners of datagrams".to_owned()));
        }
        let text = self.host_and_port();
        text.parse().map_err(|_| wrong(format!("{text} is no IP address with a port")))
    }
}

#[cfg(test)]
#[path = "bootstrap/tests.rs"]
mod tests;
