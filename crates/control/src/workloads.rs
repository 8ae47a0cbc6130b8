//! Workload objects of joined proxies: written at hello, changed with their health, removed when
//! they leave or their lease ends. A hello says how the app is or leaves that as it was: to come back is not to
//! be well.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::time::Instant;
use weft_link::Hello;
use weft_model::Kind;
use weft_model::names::APP_LABEL;
use weft_store::{CommitError, Selector, Store, StoreError, Stored, Transaction};

use crate::clock;
use crate::core::Core;
use crate::leases::LEASE;
use crate::seed;
use crate::snapshot::ServiceId;

/// How often a write is tried again when somebody else was faster.
const TRIES: usize = 8;
/// Between two looks for leases that have ended.
const SWEEP: Duration = Duration::from_secs(1);

/// Why a workload could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store, when writing.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// What the proxy says is no valid Workload.
    #[error("{0}")]
    Invalid(String),
    /// The name is somebody else's.
    #[error("the workload {workload} is taken: {why}; join with another --name")]
    Taken {
        /// Which.
        workload: ServiceId,
        /// By whom.
        why: String,
    },
}

/// Refuses a hello whose workload stands there already as another service's, or as a user's own.
pub async fn free(store: &dyn Store, workload: &ServiceId, identity: &str) -> Result<(), WorkloadError> {
    let key = seed::key(Kind::Workload, &workload.namespace, &workload.name);
    let stored = store.get(&key).await?;
    match stored.and_then(|stored| serde_json::from_slice::<Value>(&stored.value).ok()) {
        Some(object) => own(&object, workload, identity),
        None => Ok(()),
    }
}

/// A token is good for one service: what it joins may not take the place of another's workload.
fn own(object: &Value, workload: &ServiceId, identity: &str) -> Result<(), WorkloadError> {
    let taken = |why: String| Err(WorkloadError::Taken { workload: workload.clone(), why });
    if !object["spec"]["lease"].is_object() {
        return taken("a user wrote it, and no proxy joined it".to_owned());
    }
    match object["spec"]["identity"].as_str() {
        Some(owner) if owner == identity => Ok(()),
        owner => taken(format!("it belongs to {}", owner.unwrap_or("nobody that is known"))),
    }
}

/// Writes the Workload that a hello describes, unless it stands there already.
pub async fn write(
    store: &dyn Store,
    hello: &Hello,
    identity: &str,
    now: SystemTime,
) -> Result<(), WorkloadError> {
    let key = seed::key(Kind::Workload, &hello.namespace, &hello.workload_name);
    let mut labels: BTreeMap<&str, &str> =
        hello.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    labels.insert(APP_LABEL, &hello.service);
    let workload = ServiceId::new(hello.namespace.as_str(), hello.workload_name.as_str());
    edit(store, &key, |before| {
        let mut object = match before {
            Some(object) => {
                own(&object, &workload, identity)?;
                object
            }
            None => seed::object(Kind::Workload, &hello.namespace, &hello.workload_name, json!({}), now),
        };
        let spec = spec(hello, identity, object["spec"]["health"].as_str(), now);
        let same = without_lease(&object["spec"]) == without_lease(&spec)
            && object["metadata"]["labels"] == json!(labels);
        if same {
            return Ok(None);
        }
        object["metadata"]["labels"] = json!(labels);
        object["spec"] = spec;
        let (_, problems) = weft_model::parse_value(&object);
        match problems.iter().find(|problem| problem.is_error()) {
            Some(problem) => Err(WorkloadError::Invalid(problem.to_string())),
            None => Ok(Some(object)),
        }
    })
    .await
}

fn without_lease(spec: &Value) -> Value {
    let mut spec = spec.clone();
    if let Some(fields) = spec.as_object_mut() {
        fields.remove("lease");
    }
    spec
}

/// `before`: the health that is stored. What the proxy says goes first; who was never ill is taken to be well.
fn spec(hello: &Hello, identity: &str, before: Option<&str>, now: SystemTime) -> Value {
    let said = Some(hello.health.as_str()).filter(|said| !said.is_empty());
    let ports: Vec<Value> = hello
        .ports
        .iter()
        .map(|port| match port.name.as_str() {
            "" => json!({"port": port.port}),
            name => json!({"name": name, "port": port.port}),
        })
        .collect();
    let mut spec = json!({
        "service": hello.service,
        "address": hello.address,
        "ports": ports,
        "identity": identity,
        "health": said.or(before).unwrap_or("Healthy"),
        "lease": {"expires": clock::rfc3339(now + LEASE)},
        "proxy": {"kind": if hello.kind.is_empty() { "weft" } else { hello.kind.as_str() }, "version": hello.version},
    });
    // A client without a proxy takes nothing in.
    if hello.inbound_port > 0 {
        spec["inboundPort"] = hello.inbound_port.into();
    }
    if let Some(locality) = &hello.locality {
        spec["locality"] =
            json!({"region": locality.region, "zone": locality.zone, "subzone": locality.subzone});
    }
    spec
}

/// Notes an instance's health.
pub async fn health(store: &dyn Store, workload: &ServiceId, status: &str) -> Result<(), WorkloadError> {
    if !matches!(status, "Healthy" | "Unhealthy" | "Draining" | "Unknown") {
        return Err(WorkloadError::Invalid(format!("{status:?} is no health")));
    }
    let key = seed::key(Kind::Workload, &workload.namespace, &workload.name);
    edit(store, &key, |before| {
        let Some(mut object) = before else { return Ok(None) };
        if object["spec"]["health"] == status {
            return Ok(None);
        }
        object["spec"]["health"] = status.into();
        Ok(Some(object))
    })
    .await
}

/// Removes a joined workload; one that a user wrote stays.
pub async fn remove(store: &dyn Store, workload: &ServiceId) -> Result<(), WorkloadError> {
    let key = seed::key(Kind::Workload, &workload.namespace, &workload.name);
    let Some(stored) = store.get(&key).await? else { return Ok(()) };
    if !leased(&stored) {
        return Ok(());
    }
    match store.commit(Transaction::delete(key, stored.modified)).await {
        Ok(_) | Err(CommitError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn edit(
    store: &dyn Store,
    key: &weft_store::Key,
    change: impl Fn(Option<Value>) -> Result<Option<Value>, WorkloadError>,
) -> Result<(), WorkloadError> {
    for attempt in 1.. {
        let before = store.get(key).await?;
        let value = before.as_ref().and_then(|stored| serde_json::from_slice(&stored.value).ok());
        let Some(after) = change(value)? else { return Ok(()) };
        let bytes = after.to_string().into_bytes();
        let write = match before {
            Some(stored) => Transaction::update(key.clone(), stored.modified, bytes),
            None => Transaction::create(key.clone(), bytes),
        };
        match store.commit(write).await {
            Ok(_) => return Ok(()),
            Err(CommitError::Conflict { .. }) if attempt < TRIES => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn leased(stored: &Stored) -> bool {
    serde_json::from_slice::<Value>(&stored.value).is_ok_and(|object| object["spec"]["lease"].is_object())
}

/// The service that a workload's proxy counts for, when it is one of ours.
fn counting(stored: &Stored) -> Option<String> {
    let object: Value = serde_json::from_slice(&stored.value).ok()?;
    let ours = object["spec"]["proxy"]["kind"] == "weft";
    ours.then(|| {
        format!("{}/{}", stored.key.namespace, object["spec"]["service"].as_str().unwrap_or_default())
    })
}

/// After a start: every joined workload has one lease of time to connect.
pub async fn give_grace(core: &Core) -> Result<(), StoreError> {
    let info = Kind::Workload.info();
    let (workloads, _) = core.store.list(&Selector::kind(info.group, info.plural)).await?;
    let now = Instant::now();
    for stored in workloads.iter().filter(|stored| leased(stored)) {
        let workload = ServiceId::new(stored.key.namespace.as_str(), stored.key.name.as_str());
        if let Some(service) = counting(stored) {
            core.history.expected(&workload.to_string(), &service, SystemTime::now());
        }
        core.leases.grace(workload, now);
    }
    Ok(())
}

/// Removes workloads whose lease has ended, for ever.
pub async fn sweep(core: std::sync::Arc<Core>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        for workload in core.leases.expired(Instant::now()) {
            tracing::info!(%workload, "its lease has ended");
            core.history.vanished(&workload.to_string(), SystemTime::now());
            if let Err(error) = remove(core.store.as_ref(), &workload).await {
                tracing::warn!(%workload, %error, "can't remove it; trying again");
                core.leases.grace(workload, Instant::now());
            }
        }
    }
}
