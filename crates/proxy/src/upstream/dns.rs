//! Endpoints by name: resolves the names of STRICT_DNS and LOGICAL_DNS clusters, again when their TTL has passed.
//!
//! Runs on the control thread; workers only see addresses. A failed look-up keeps the last good answer.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use hickory_resolver::TokioResolver;
use tokio::task::AbortHandle;
use weft_routing::{Address, Cluster, ClusterKind, DnsFamily, Endpoint, Endpoints};

use crate::config_feed::ConfigFeed;

/// Bounds for what a TTL may ask.
const REFRESH_MIN: Duration = Duration::from_secs(1);
const REFRESH_MAX: Duration = Duration::from_secs(300);
const RETRY: Duration = Duration::from_secs(2);
/// Addresses of one name.
const ADDRESSES_MAX: usize = 64;

/// Keeps the endpoints of all DNS clusters of the configuration fresh, for ever.
pub async fn keep(feed: ConfigFeed) {
    let resolver = match TokioResolver::builder_tokio().and_then(|builder| builder.build()) {
        Ok(resolver) => Arc::new(resolver),
        Err(error) => {
            tracing::error!(%error, "no DNS resolver; clusters by name stay empty");
            return;
        }
    };
    let mut tasks: HashMap<Arc<str>, (Arc<Cluster>, AbortHandle)> = HashMap::new();
    let mut changes = feed.changes();
    loop {
        let wanted: HashMap<Arc<str>, Arc<Cluster>> = feed
            .clusters()
            .into_iter()
            .filter(|cluster| matches!(cluster.kind, ClusterKind::StrictDns(_) | ClusterKind::LogicalDns(_)))
            .map(|cluster| (cluster.name.clone(), cluster))
            .collect();
        tasks.retain(|name, (cluster, task)| {
            let stays = wanted.get(name).is_some_and(|new| Arc::ptr_eq(new, cluster));
            if !stays {
                task.abort();
            }
            stays
        });
        for (name, cluster) in wanted {
            tasks.entry(name).or_insert_with(|| {
                let work = keep_cluster(Arc::clone(&resolver), feed.clone(), Arc::clone(&cluster));
                (cluster, tokio::spawn(work).abort_handle())
            });
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

async fn keep_cluster(resolver: Arc<TokioResolver>, feed: ConfigFeed, cluster: Arc<Cluster>) {
    let (named, logical) = match &cluster.kind {
        ClusterKind::StrictDns(endpoints) => (endpoints, false),
        ClusterKind::LogicalDns(endpoints) => (endpoints, true),
        _ => return,
    };
    let mut last: HashMap<(Arc<str>, u16), Vec<SocketAddr>> = HashMap::new();
    let mut shown: Option<Vec<SocketAddr>> = None;
    loop {
        let mut refresh = cluster.dns.refresh.clamp(REFRESH_MIN, REFRESH_MAX);
        for endpoint in &named.all {
            let Address::Name { host, port } = &endpoint.address else { continue };
            match look_up(&resolver, host, *port, cluster.dns.family).await {
                Ok((addresses, valid_for)) => {
                    if cluster.dns.respect_ttl {
                        refresh = refresh.min(valid_for.clamp(REFRESH_MIN, REFRESH_MAX));
                    }
                    last.insert((host.clone(), *port), addresses);
                }
                Err(error) => {
                    tracing::warn!(%host, error, "the name does not resolve; its last addresses stay");
                    refresh = refresh.min(RETRY);
                }
            }
        }
        let endpoints = with_addresses(named, &last, logical);
        let addresses: Vec<SocketAddr> = endpoints
            .all
            .iter()
            .filter_map(
                |endpoint| if let Address::Ip(address) = endpoint.address { Some(address) } else { None },
            )
            .collect();
        // An unchanged answer costs nobody anything.
        if shown.as_ref() != Some(&addresses) {
            feed.set_resolved(&cluster, Arc::new(endpoints));
            shown = Some(addresses);
        }
        tokio::time::sleep(refresh.mul_f64(0.9 + fastrand::f64() / 5.0)).await;
    }
}

async fn look_up(
    resolver: &TokioResolver,
    host: &str,
    port: u16,
    family: DnsFamily,
) -> Result<(Vec<SocketAddr>, Duration), String> {
    let answer = resolver.lookup_ip(host).await.map_err(|error| error.to_string())?;
    let valid_for = answer.valid_until().saturating_duration_since(Instant::now());
    let all: Vec<SocketAddr> = answer.iter().map(|ip| SocketAddr::new(ip, port)).collect();
    let of = |v4: bool| all.iter().filter(|address| address.is_ipv4() == v4).copied().collect::<Vec<_>>();
    let mut chosen = match family {
        DnsFamily::All => all,
        DnsFamily::V4Only => of(true),
        DnsFamily::V6Only => of(false),
        DnsFamily::V4Preferred => first_of(of(true), || of(false)),
        DnsFamily::Auto => first_of(of(false), || of(true)),
    };
    chosen.sort_unstable();
    chosen.truncate(ADDRESSES_MAX);
    if chosen.is_empty() {
        Err("no address of the wanted family".to_owned())
    } else {
        Ok((chosen, valid_for))
    }
}

fn first_of(first: Vec<SocketAddr>, second: impl FnOnce() -> Vec<SocketAddr>) -> Vec<SocketAddr> {
    if first.is_empty() { second() } else { first }
}

/// Names become one endpoint an address (or the first address, for logical DNS); their order and priorities stay.
fn with_addresses(
    named: &Endpoints,
    found: &HashMap<(Arc<str>, u16), Vec<SocketAddr>>,
    logical: bool,
) -> Endpoints {
    let mut all: Vec<Arc<Endpoint>> = Vec::new();
    let mut priorities = Vec::new();
    for range in &named.priorities {
        let start = all.len();
        for endpoint in named.all.get(range.clone()).unwrap_or_default() {
            let Address::Name { host, port } = &endpoint.address else {
                all.push(Arc::clone(endpoint));
                continue;
            };
            let addresses = found.get(&(host.clone(), *port)).map_or(&[][..], Vec::as_slice);
            let taken = if logical { addresses.len().min(1) } else { addresses.len() };
            for address in &addresses[..taken] {
                let mut resolved = Endpoint::clone(endpoint);
                resolved.address = Address::Ip(*address);
                resolved.hostname.get_or_insert_with(|| host.clone());
                all.push(Arc::new(resolved));
            }
        }
        priorities.push(start..all.len());
    }
    Endpoints { all, priorities, ..named.clone() }
}
