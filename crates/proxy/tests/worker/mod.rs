//! One worker with its configuration and identity stands for a member; what it counted is taken from it.

#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;

use envoy_types::pb::google::protobuf::Any;
use tokio::sync::oneshot;
use weft_proxy::{
    certificates::{Credentials, Identity},
    config_feed::ConfigFeed,
    static_config::StaticResources,
    worker::{self, Command, Mailbox, WorkerSettings},
};
use weft_routing::Strictness;
use weft_telemetry::{
    Registry,
    buckets::{Cell, CellKey},
};

use crate::mesh::Ca;

/// Dropped, it ends.
pub struct Member {
    pub mailbox: Mailbox,
    pub feed: ConfigFeed,
    pub identity: Identity,
    registry: Registry,
}

impl Member {
    pub fn start(ca: &Ca, service: &str, listeners: Vec<Any>, clusters: Vec<Any>) -> Member {
        let registry = Registry::new();
        let settings = WorkerSettings {
            overload: weft_proxy::overload::Overload::new(&weft_proxy::Limits::default(), 1),
            access_log: weft_proxy::access_log::Writer::start().unwrap().0,
            registry: registry.clone(),
            service: Arc::from(format!("default/{service}")),
            version: Arc::from(""),
        };
        let (mailbox, _) = worker::spawn(0, settings).unwrap();
        let (svid, bundle) = ca.identity(service);
        let identity = Identity::fixed(svid, bundle);
        mailbox.send(Command::Credentials(identity.credentials().unwrap()));
        let feed = ConfigFeed::new(vec![mailbox.clone()], Strictness::Own);
        let member = Member { mailbox, feed, identity, registry };
        member.set(listeners, clusters);
        member
    }

    pub fn set(&self, listeners: Vec<Any>, clusters: Vec<Any>) {
        let resources = StaticResources { listeners, clusters, ..StaticResources::default() };
        self.feed.set_static(resources.staged(Strictness::Own).unwrap()).unwrap();
    }

    /// Is somebody else from now on.
    pub fn become_another(&self, ca: &Ca, service: &str, generation: u64) {
        let (svid, bundle) = ca.identity(service);
        let credentials = Credentials::new(generation, svid, bundle);
        self.mailbox.send(Command::Credentials(Arc::new(credentials)));
    }

    /// What it counted since the last time; nothing once it was stopped.
    pub async fn take(&self, mut into: impl FnMut(&CellKey, &Cell)) {
        let (answer, taken) = oneshot::channel();
        self.mailbox.send(Command::TakeWindow(answer));
        let Ok(taken) = taken.await else { return };
        for (key, cell) in taken.iter().flat_map(|increment| &increment.cells) {
            into(key, cell);
        }
    }

    pub async fn counter(&self, name: &str) -> u64 {
        let (answer, snapshot) = oneshot::channel();
        self.mailbox.send(Command::Scrape(answer));
        let snapshot = snapshot.await.unwrap();
        let families = self.registry.merge(&[snapshot]).families;
        let series = families.iter().filter(|family| family.metric.name == name).flat_map(|one| &one.series);
        series
            .map(|(_, value)| match value {
                weft_telemetry::shard::Value::Counter(count) => *count,
                _ => 0,
            })
            .sum()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.mailbox.send(Command::Stop);
    }
}
