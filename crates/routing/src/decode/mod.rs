//! Reading resources: bytes → every problem, or compiled types.
//!
//! Each resource goes the same way: its type URL, a scan of the raw bytes by the table, the
//! decoder, then the compiler of its area, which goes on after a problem to find them all. A
//! resource with any problem is not used; the caller keeps the last good one.
#![expect(
    deprecated,
    reason = "control planes in the field still send the old fields; leaving them out would drop rules"
)]

mod access_log;
mod cluster;
mod core;
mod endpoint;
mod http;
mod listener;
mod proxy_header;
mod rbac;
mod reader;
mod route;
#[cfg(test)]
mod tests;
mod text;
mod tls;
mod udp;

use envoy_types::pb::envoy::config::cluster::v3::Cluster as PbCluster;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener as PbListener;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret as PbSecret;
use envoy_types::pb::google::protobuf::Any;
use prost::Message;

use crate::fields::{self, Schema};
use crate::types::{
    Cluster, Decoded, Endpoints, Listener, Problem, RouteConfig, Secret, Strictness, Warning,
};
use reader::Reader;

/// Larger than any sane resource; a wrong length must not fill the memory.
const RESOURCE_BYTES_MAX: usize = 16 << 20;

pub fn listener(any: &Any, strictness: Strictness) -> Result<Decoded<Listener>, Vec<Problem>> {
    read::<PbListener, _>(&fields::LISTENER, any, strictness, |message| &message.name, listener::listener)
}

pub fn route_config(any: &Any, strictness: Strictness) -> Result<Decoded<RouteConfig>, Vec<Problem>> {
    read::<RouteConfiguration, _>(
        &fields::ROUTE_CONFIGURATION,
        any,
        strictness,
        |message| &message.name,
        route::config,
    )
}

pub fn cluster(any: &Any, strictness: Strictness) -> Result<Decoded<Cluster>, Vec<Problem>> {
    read::<PbCluster, _>(&fields::CLUSTER, any, strictness, |message| &message.name, cluster::cluster)
}

pub fn load_assignment(any: &Any, strictness: Strictness) -> Result<Decoded<Endpoints>, Vec<Problem>> {
    read::<ClusterLoadAssignment, _>(
        &fields::CLUSTER_LOAD_ASSIGNMENT,
        any,
        strictness,
        |message| &message.cluster_name,
        |reader, message| endpoint::endpoints(reader, message, endpoint::Names::Refused),
    )
}

pub fn secret(any: &Any, strictness: Strictness) -> Result<Decoded<Secret>, Vec<Problem>> {
    read::<PbSecret, _>(&fields::SECRET, any, strictness, |message| &message.name, tls::secret)
}

fn read<M: Message + Default, T>(
    schema: &'static Schema,
    any: &Any,
    strictness: Strictness,
    name: impl Fn(&M) -> &str,
    compile: impl FnOnce(&mut Reader, &M) -> Option<T>,
) -> Result<Decoded<T>, Vec<Problem>> {
    let alone = |message: String| vec![Problem { resource: String::new(), path: String::new(), message }];
    if fields::type_name(&any.type_url) != schema.name {
        return Err(alone(format!("holds {:?} where {} is wanted", any.type_url, schema.name)));
    }
    if any.value.len() > RESOURCE_BYTES_MAX {
        return Err(alone(format!("has {} bytes; at most {RESOURCE_BYTES_MAX} are taken", any.value.len())));
    }
    let message = match M::decode(any.value.as_slice()) {
        Ok(message) => message,
        Err(error) => return Err(alone(format!("does not decode: {error}"))),
    };
    let mut found = fields::scan(schema, &any.value, strictness);
    let resource = name(&message).to_owned();
    let mut reader = Reader::new(&resource);
    let value = compile(&mut reader, &message);
    for (path, why) in reader.take_not_done() {
        match strictness {
            Strictness::Own => found.problems.push((path, format!("is set, but {why}"))),
            Strictness::DeclaredForeign => found.warnings.push((path, format!("not done: {why}"))),
        }
    }
    let mut problems: Vec<Problem> = found
        .problems
        .into_iter()
        .chain(reader.into_problems())
        .map(|(path, message)| Problem { resource: resource.clone(), path, message })
        .collect();
    let warnings = found
        .warnings
        .into_iter()
        .map(|(path, message)| Warning { resource: resource.clone(), path, message })
        .collect();
    problems.sort();
    problems.dedup();
    match value {
        Some(value) if problems.is_empty() => Ok(Decoded { value, warnings }),
        _ if problems.is_empty() => Err(alone("cannot be read, and no reason was found".to_owned())),
        _ => Err(problems),
    }
}
