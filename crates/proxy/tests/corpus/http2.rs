//! HTTP/2 as clients and origins of another make speak it (the `h2` crate): upgrades, lives of connections, streams.

mod ends;
mod leaving;
mod life;
mod messages;
mod origin;
mod streams;
mod websocket;

use std::net::SocketAddr;

use bytes::Bytes;
use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::Cluster,
            core::v3::{Http2ProtocolOptions, HttpProtocolOptions as Common},
            listener::v3::Filter,
        },
        extensions::upstreams::http::v3::{
            HttpProtocolOptions,
            http_protocol_options::{
                UpstreamProtocolOptions,
                explicit_http_config::ProtocolConfig::Http2ProtocolOptions as Explicit,
            },
        },
    },
    google::protobuf::Any,
};
use h2::client::SendRequest;
use prost::Message;

use crate::mesh::xds::{any, changed, managed};

/// A manager with other options of HTTP/2.
fn speaking(filter: Filter, change: impl FnOnce(&mut Http2ProtocolOptions)) -> Filter {
    managed(filter, |manager| change(manager.http2_protocol_options.get_or_insert_default()))
}

/// A manager with other options of HTTP.
fn living(filter: Filter, change: impl FnOnce(&mut Common)) -> Filter {
    managed(filter, |manager| change(manager.common_http_protocol_options.get_or_insert_default()))
}

/// An HTTP/2 cluster with other options.
fn cluster_with(cluster: &Any, change: impl Fn(&mut Http2ProtocolOptions, &mut Common)) -> Any {
    changed::<Cluster>(cluster, |cluster| {
        for options in cluster.typed_extension_protocol_options.values_mut() {
            let mut found = HttpProtocolOptions::decode(&options.value[..]).unwrap();
            let mut common = found.common_http_protocol_options.take().unwrap_or_default();
            if let Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)) =
                &mut found.upstream_protocol_options
                && let Some(Explicit(http2)) = &mut explicit.protocol_config
            {
                change(http2, &mut common);
            }
            found.common_http_protocol_options = Some(common);
            *options = any(&found);
        }
    })
}

/// A client's connection.
async fn client(to: SocketAddr) -> SendRequest<Bytes> {
    let stream = tokio::net::TcpStream::connect(to).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client.ready().await.unwrap()
}
