//! `weft bootstrap envoy|grpc`: the file with which a real Envoy or a proxyless gRPC client joins.
//!
//! Both get their keys locally: Envoy by SDS from the agent's Unix socket, gRPC from files that
//! `weft identity fetch --watch` keeps fresh. The control plane never sees a private key.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::questions::Connection;

/// A bootstrap for a real Envoy or a proxyless gRPC client.
#[derive(Args)]
#[command(after_help = "Example: weft bootstrap envoy --service be2 --name be2-envoy > envoy.yaml")]
pub struct BootstrapArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Envoy(EnvoyArgs),
    Grpc(GrpcArgs),
}

#[derive(Args)]
struct Who {
    /// The service that it is an instance of.
    #[arg(long, value_name = "NAME", value_parser = super::service_name)]
    service: String,
    /// The service's namespace.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// The workload's name, the same as the agent's `weft agent --name` (default: the service's).
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The control plane's xDS address.
    #[arg(long, default_value = "127.0.0.1:7701", value_name = "HOST:PORT", env = "WEFT_CONTROL", value_parser = host_port)]
    control: (String, u16),
    /// The mesh's trust domain (default: asked from the control plane).
    #[arg(long, value_name = "NAME", env = "WEFT_TRUST_DOMAIN")]
    trust_domain: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

/// For an Envoy that is a service's sidecar; run `weft agent` beside it.
#[derive(Args)]
#[command(
    after_help = "Example: weft bootstrap envoy --service be2 --name be2-envoy --socket /run/weft/agent.sock > envoy.yaml"
)]
struct EnvoyArgs {
    #[command(flatten)]
    who: Who,
    /// The address that other members reach it at.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// Where the app listens.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    app_address: IpAddr,
    /// The port for traffic from other members.
    #[arg(long, default_value_t = 15006, value_parser = clap::value_parser!(u16).range(1..))]
    inbound: u16,
    /// The port for the app's own calls, at --address if that is loopback, else at 127.0.0.1.
    #[arg(long, default_value_t = 15001, value_parser = clap::value_parser!(u16).range(1..))]
    outbound: u16,
    /// Envoy's admin address.
    #[arg(long, default_value = "127.0.0.1:15000")]
    admin: SocketAddr,
    /// The agent's socket (default: agent.sock in the state directory).
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Ask for changes only (delta xDS) instead of the state of the world.
    #[arg(long)]
    delta: bool,
}

/// For a gRPC client that speaks xDS itself; run `weft agent` and `weft identity fetch --watch` beside it.
#[derive(Args)]
#[command(
    after_help = "Example: weft bootstrap grpc --service fe --name fe-grpc --certificates /run/fe/tls > grpc.json"
)]
struct GrpcArgs {
    #[command(flatten)]
    who: Who,
    /// The folder that `weft identity fetch --out` writes (default: tls in the state directory).
    #[arg(long, value_name = "DIR")]
    certificates: Option<PathBuf>,
}

/// `HOST:PORT`, also as a URL, since `weft proxy --control` wants one and shares the variable.
fn host_port(text: &str) -> Result<(String, u16), String> {
    let place = text.strip_prefix("https://").unwrap_or(text).trim_end_matches('/');
    match place.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>())) {
        Some((host, Ok(port))) if !host.is_empty() && port > 0 => Ok((host.to_owned(), port)),
        _ => Err("write HOST:PORT, such as 10.0.0.1:7701".to_owned()),
    }
}

pub async fn run(args: BootstrapArgs) -> anyhow::Result<ExitCode> {
    let text = match args.what {
        What::Envoy(args) => serde_saphyr::to_string(&envoy(&args, &trust_domain(&args.who).await?)?)?,
        What::Grpc(args) => serde_json::to_string_pretty(&grpc(&args))?,
    };
    crate::output::line(text.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

async fn trust_domain(who: &Who) -> anyhow::Result<String> {
    if let Some(name) = &who.trust_domain {
        return Ok(name.clone());
    }
    let answer = who.connection.client()?.get("/query/v1/bundle").await?;
    Ok(answer["trust_domain"].as_str().context("the control plane did not name its trust domain")?.to_owned())
}

fn node(who: &Who, kind: &str, more: Value) -> Value {
    let mut metadata = json!({"namespace": who.namespace, "service": who.service, "kind": kind, "version": env!("CARGO_PKG_VERSION")});
    if let (Some(metadata), Some(more)) = (metadata.as_object_mut(), more.as_object()) {
        metadata.extend(more.clone());
    }
    json!({"id": format!("{}/{}", who.namespace, who.name.as_ref().unwrap_or(&who.service)), "cluster": who.service, "metadata": metadata})
}

fn envoy(args: &EnvoyArgs, trust_domain: &str) -> anyhow::Result<Value> {
    let socket = args
        .socket
        .clone()
        .unwrap_or_else(|| super::state_dir(args.who.connection.state.as_ref()).join("agent.sock"));
    let (host, port) = &args.who.control;
    let http2 = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {"connection_keepalive": {"interval": "10s", "timeout": "5s"}}}
    }});
    let sds = json!({"resource_api_version": "V3", "api_config_source": {"api_type": "GRPC", "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "sds_agent"}}]}});
    let endpoint = |address: Value| json!([{"lb_endpoints": [{"endpoint": {"address": address}}]}]);
    Ok(json!({
        "node": node(&args.who, "envoy", json!({
            "address": args.address.to_string(),
            "inbound_port": args.inbound,
            "outbound_address": SocketAddr::new(super::proxy::near(args.address), args.outbound).to_string(),
            "app_address": args.app_address.to_string(),
        })),
        "admin": {"address": {"socket_address": {"address": args.admin.ip().to_string(), "port_value": args.admin.port()}}},
        // Envoy's own limit is 100, less than one sentence of a policy about paths.
        "layered_runtime": {"layers": [
            {"name": "weft", "static_layer": {"re2.max_program_size.error_level": 16384}},
            {"name": "admin", "admin_layer": {}},
        ]},
        "dynamic_resources": {
            "ads_config": {
                "api_type": if args.delta { "DELTA_GRPC" } else { "GRPC" },
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "weft_control"}}],
                "set_node_on_first_message_only": true,
            },
            "cds_config": {"ads": {}, "resource_api_version": "V3"},
            "lds_config": {"ads": {}, "resource_api_version": "V3"},
        },
        "static_resources": {"clusters": [
            {
                "name": "sds_agent",
                "type": "STATIC",
                "connect_timeout": "1s",
                "typed_extension_protocol_options": http2,
                "load_assignment": {"cluster_name": "sds_agent", "endpoints": endpoint(json!({"pipe": {"path": socket}}))},
            },
            {
                "name": "weft_control",
                "type": if host.parse::<IpAddr>().is_ok() { "STATIC" } else { "STRICT_DNS" },
                "connect_timeout": "2s",
                "typed_extension_protocol_options": http2,
                "load_assignment": {"cluster_name": "weft_control",
                    "endpoints": endpoint(json!({"socket_address": {"address": host, "port_value": port}}))},
                "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                    "common_tls_context": {
                        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
                        "alpn_protocols": ["h2"],
                        "tls_certificate_sds_secret_configs": [{"name": "default", "sds_config": sds}],
                        "combined_validation_context": {
                            "default_validation_context": {"match_typed_subject_alt_names": [
                                {"san_type": "URI", "matcher": {"exact": format!("spiffe://{trust_domain}/weft/control")}}]},
                            "validation_context_sds_secret_config": {"name": "ROOTCA", "sds_config": sds},
                        },
                    },
                }},
            },
        ]},
    }))
}

fn grpc(args: &GrpcArgs) -> Value {
    let state = super::state_dir(args.who.connection.state.as_ref());
    let certificates = args.certificates.clone().unwrap_or_else(|| state.join("tls"));
    let file = |name: &str| certificates.join(name).to_string_lossy().into_owned();
    let files = json!({
        "certificate_file": file("svid.pem"),
        "private_key_file": file("svid_key.pem"),
        "ca_certificate_file": file("bundle.pem"),
        "refresh_interval": "10s",
    });
    json!({
        "xds_servers": [{
            "server_uri": format!("{}:{}", args.who.control.0, args.who.control.1),
            "channel_creds": [{"type": "tls", "config": files}],
            "server_features": ["xds_v3"],
        }],
        "node": node(&args.who, "grpc", json!({})),
        "certificate_providers": {"default": {"plugin_name": "file_watcher", "config": files}},
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_control_plane_is_a_host_and_a_port() {
        let place = |host: &str| Ok((host.to_owned(), 7701));
        assert_eq!(super::host_port("10.0.0.1:7701"), place("10.0.0.1"));
        assert_eq!(super::host_port("https://mesh:7701/"), place("mesh"));
        for text in ["foo", ":7701", "foo:0", "foo:http", ""] {
            assert!(super::host_port(text).is_err(), "{text}");
        }
    }
}
