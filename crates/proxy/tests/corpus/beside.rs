//! Envoy and HAProxy before the same oracles, so that what a corpus says of Weft stands beside what it says of others.

use std::{net::SocketAddr, path::PathBuf, process::Command, time::Duration};

use weft_testkit::{Process, eventually, peers};

use crate::mesh::LIMIT;

/// How a client says that nothing more comes.
#[derive(Debug, Clone, Copy)]
pub enum End {
    /// It ends its side.
    HalfClose,
    /// It waits so long for the next byte before it does: Envoy drops what it has for a client that ended its side.
    Quiet(Duration),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Envoy,
    HaProxy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speak {
    Http1,
    Http2,
}

/// A running peer; dropped, it ends.
pub struct Running {
    folder: PathBuf,
    _process: Process,
}

impl Peer {
    pub fn name(self) -> &'static str {
        match self {
            Peer::Envoy => "Envoy",
            Peer::HaProxy => "HAProxy",
        }
    }

    pub fn end(self) -> End {
        match self {
            Peer::Envoy => End::Quiet(Duration::from_millis(60)),
            Peer::HaProxy => End::HalfClose,
        }
    }

    /// A listener for each pair, before that origin, which speaks HTTP/1. `None`: peers were left out.
    pub fn start(self, speak: Speak, ways: &[(SocketAddr, SocketAddr)]) -> Option<Running> {
        let program = peers::program(match self {
            Peer::Envoy => "envoy",
            Peer::HaProxy => "haproxy",
        })?;
        let folder = std::env::temp_dir().join(format!("weft-beside-{:x}", fastrand::u64(..)));
        std::fs::create_dir_all(&folder).unwrap();
        let mut command = Command::new(program);
        match self {
            Peer::Envoy => {
                let file = folder.join("envoy.json");
                std::fs::write(&file, envoy(speak, ways)).unwrap();
                command.arg("--config-path").arg(file);
                command.args(["--concurrency", "1", "--use-dynamic-base-id", "--log-level", "error"]);
            }
            Peer::HaProxy => {
                let file = folder.join("haproxy.cfg");
                std::fs::write(&file, haproxy(speak, ways)).unwrap();
                command.arg("-db").arg("-f").arg(file);
            }
        }
        let mut process = Process::start(self.name(), &mut command, &folder.join("log")).unwrap();
        for (at, _) in ways {
            eventually(&format!("{} listens on {at}", self.name()), LIMIT, || {
                assert!(process.running(), "{}", process.log_text());
                std::net::TcpStream::connect(at).ok()
            });
        }
        Some(Running { folder, _process: process })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The features that bear on what is read: paths in one form, and the edge's own limits.
fn envoy(speak: Speak, ways: &[(SocketAddr, SocketAddr)]) -> String {
    use serde_json::json;
    let address =
        |at: &SocketAddr| json!({"socket_address": {"address": "127.0.0.1", "port_value": at.port()}});
    let (mut listeners, mut clusters) = (Vec::new(), Vec::new());
    for (number, (at, origin)) in ways.iter().enumerate() {
        let name = format!("o{number}");
        let codec = if speak == Speak::Http1 { "HTTP1" } else { "HTTP2" };
        let hcm = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "http", "codec_type": codec, "normalize_path": true, "merge_slashes": true,
            "http_filters": [{"name": "router", "typed_config":
                {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"],
                "routes": [{"match": {"prefix": "/"}, "route": {"cluster": name}}]}]},
        });
        listeners.push(json!({"name": name, "address": address(at),
            "filter_chains": [{"filters": [{"name": "http", "typed_config": hcm}]}]}));
        clusters.push(json!({"name": name, "type": "STATIC", "connect_timeout": "1s", "load_assignment":
            {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(origin)}}]}]}}));
    }
    json!({"static_resources": {"listeners": listeners, "clusters": clusters}}).to_string()
}

fn haproxy(speak: Speak, ways: &[(SocketAddr, SocketAddr)]) -> String {
    let mut text = "global\n  nbthread 1\n  maxconn 8000\ndefaults\n  mode http\n  timeout connect 1s\n  \
                    timeout client 60s\n  timeout server 60s\n  http-reuse always\n"
        .to_owned();
    let proto = if speak == Speak::Http1 { "" } else { "proto h2" };
    for (number, (at, origin)) in ways.iter().enumerate() {
        text += &format!(
            "frontend f{number}\n  bind {at} {proto}\n  default_backend b{number}\nbackend b{number}\n  \
             server s {origin}\n"
        );
    }
    text
}
