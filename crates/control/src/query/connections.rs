//! What `weft prove` asks: who is a member and where, and which connections the proxies have.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Wrong, bad};
use crate::clock;
use crate::connections::List;
use crate::core::Core;
use crate::snapshot::Instance;

/// The longest time for which proxies remember connections that close.
const REMEMBER_MAX: Duration = Duration::from_secs(2 * 3600);
/// What the control plane is called among proxies.
const OWN: &str = "control plane";

#[derive(Debug, Deserialize)]
pub(super) struct Remember {
    remember: String,
}

/// The proxies' connections as of now.
pub(super) async fn list(State(core): State<Arc<Core>>) -> Json<Value> {
    Json(ask(&core, Duration::ZERO).await)
}

/// The same, and from now on connections that close are remembered for a while.
pub(super) async fn remember(
    State(core): State<Arc<Core>>,
    Json(wanted): Json<Remember>,
) -> Result<Json<Value>, Wrong> {
    let text = &wanted.remember;
    let time = clock::parse_duration(text)
        .filter(|time| *time <= REMEMBER_MAX)
        .ok_or_else(|| bad(format!("remember {text}: write for example 30s; at most 2h")))?;
    Ok(Json(ask(&core, time).await))
}

async fn ask(core: &Core, remember: Duration) -> Value {
    let now = core.now();
    let joined = core.proxies.rows(SystemTime::now()).into_iter().filter(|row| row.connected);
    let asked: BTreeSet<String> = joined.filter(|row| row.kind == "weft").map(|row| row.name).collect();
    let (lists, silent) = core.connections.ask(remember, &asked).await;
    let service = |name: &str| {
        let instance = now.instances.values().find(|instance| full_name(instance) == name);
        instance.map_or_else(String::new, |instance| format!("{}/{}", instance.namespace, instance.service))
    };
    let mut proxies: Vec<Value> =
        lists.iter().map(|(name, list)| shown(name, &service(name), list)).collect();
    proxies.push(shown(OWN, OWN, &core.connections.own(remember)));
    json!({
        "mesh": now.trust_domain,
        "control": core.config.xds,
        "members": now.instances.values().map(|instance| member(instance)).collect::<Vec<_>>(),
        "proxies": proxies,
        "silent": silent,
    })
}

fn full_name(instance: &Instance) -> String {
    format!("{}/{}", instance.namespace, instance.name)
}

fn member(instance: &Instance) -> Value {
    json!({
        "name": full_name(instance),
        "service": format!("{}/{}", instance.namespace, instance.service),
        "address": instance.address,
        "inbound_port": instance.inbound_port,
        "ports": instance.ports.iter().map(|(_, port)| *port).collect::<Vec<_>>(),
        "kind": instance.proxy,
    })
}

fn shown(name: &str, service: &str, list: &List) -> Value {
    // What is no address is nobody's connection.
    let address = |text: &str| text.parse::<SocketAddr>().ok();
    let connections = list.connections.iter().filter_map(|one| {
        Some(json!({
            "local": address(&one.local)?,
            "remote": address(&one.remote)?,
            "accepted": one.accepted,
            "version": u16::try_from(one.version).unwrap_or(0),
            "cipher": u16::try_from(one.cipher).unwrap_or(0),
            "group": u16::try_from(one.group).unwrap_or(0),
            "peer": one.peer,
            "opened": one.opened_unix,
            "closed": one.closed,
        }))
    });
    json!({
        "name": name,
        "service": service,
        "identity": list.identity,
        "missed": list.missed,
        "connections": connections.collect::<Vec<_>>(),
    })
}
