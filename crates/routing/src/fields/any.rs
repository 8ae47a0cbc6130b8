//! The table: which messages an Any may hold, place by place.

use super::Schema;
use super::access_log::{FILE_ACCESS_LOG, STDERR_ACCESS_LOG, STDOUT_ACCESS_LOG};
use super::cluster::UPSTREAM_HTTP_OPTIONS;
use super::core::{PROXY_PROTOCOL_UPSTREAM, RAW_BUFFER};
use super::http::{GRPC_WEB, HTTP_CONNECTION_MANAGER, ROUTER};
use super::listener::{
    HTTP_INSPECTOR, ORIGINAL_DST, PROXY_PROTOCOL, TCP_PROXY, TLS_INSPECTOR, TRUSTED_PROXY_PROTOCOL, UDP_PROXY,
};
use super::rbac::{HTTP_RBAC, NETWORK_RBAC};
use super::route::PREVIOUS_HOSTS_PREDICATE;
use super::tls::{DOWNSTREAM_TLS_CONTEXT, UPSTREAM_TLS_CONTEXT};

pub static LISTENER_FILTERS: &[&Schema] =
    &[&TLS_INSPECTOR, &ORIGINAL_DST, &HTTP_INSPECTOR, &PROXY_PROTOCOL, &TRUSTED_PROXY_PROTOCOL, &UDP_PROXY];
pub static NETWORK_FILTERS: &[&Schema] = &[&HTTP_CONNECTION_MANAGER, &TCP_PROXY, &NETWORK_RBAC];
pub static HTTP_FILTERS: &[&Schema] = &[&ROUTER, &HTTP_RBAC, &GRPC_WEB];
pub static API_LISTENERS: &[&Schema] = &[&HTTP_CONNECTION_MANAGER];
pub static TRANSPORT_SOCKETS: &[&Schema] =
    &[&UPSTREAM_TLS_CONTEXT, &DOWNSTREAM_TLS_CONTEXT, &RAW_BUFFER, &PROXY_PROTOCOL_UPSTREAM];
pub static ACCESS_LOGS: &[&Schema] = &[&FILE_ACCESS_LOG, &STDOUT_ACCESS_LOG, &STDERR_ACCESS_LOG];
pub static RETRY_HOST_PREDICATES: &[&Schema] = &[&PREVIOUS_HOSTS_PREDICATE];
pub static UPSTREAM_OPTIONS: &[&Schema] = &[&UPSTREAM_HTTP_OPTIONS];

/// The message's name in a type URL: what comes after the last slash.
pub fn type_name(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or_default()
}
