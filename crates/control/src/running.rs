//! Starting and stopping: every part in its order, and what is running afterwards.
//!
//! Ports first, so that a taken one costs nothing; then files, store, CA and history; then the one
//! task that owns the World; and the doors last, when there is something behind them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use weft_identity::TrustDomain;
use weft_store::Store;

use crate::config::{Config, TRUST_DOMAIN, ZONE};
use crate::core::Core;
use crate::serve::views::Views;
use crate::snapshot::Snapshot;
use crate::world::World;
use crate::{api, authority, bind, dns, files, ingest, inventory, measure, seed, serve, workloads};

/// How long a stop may take.
const STOP_MAX: Duration = Duration::from_secs(5);
/// How long the first picture of the store may take.
const FIRST_SNAPSHOT_MAX: Duration = Duration::from_secs(30);

/// A control plane that runs. Dropping it stops it without waiting.
pub struct Running {
    /// Where the API listens.
    pub api: SocketAddr,
    /// Where xDS and link listen.
    pub xds: SocketAddr,
    /// Where DNS listens.
    pub dns: SocketAddr,
    core: Arc<Core>,
    shutdown: CancellationToken,
    doors: Vec<JoinHandle<()>>,
    tasks: Vec<JoinHandle<()>>,
}

/// Starts everything; when it returns, all ports answer.
pub async fn start(mut config: Config) -> anyhow::Result<Running> {
    let api_port = bind::tcp("API", "api", config.api)?;
    let xds_port = bind::tcp("xDS and link", "xds", config.xds)?;
    let (dns_tcp, dns_udp) = bind::tcp_and_udp("DNS", "dns", config.dns)?;
    let (api, xds, dns) = (api_port.local_addr()?, xds_port.local_addr()?, dns_tcp.local_addr()?);
    // Where it is, and no more where it was wished to be.
    config.xds = xds;

    files::private_dir(&config.state)?;
    let store = open_store(&config).await?;
    let trust_domain = trust_domain(&config, store.as_ref()).await?;
    let now = SystemTime::now();
    let (state, name) = (config.state.clone(), trust_domain.clone());
    // Keys, certificates and the history's file are read with blocking calls.
    let (authority, history, audit) = tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
        let authority = authority::Authority::open(&state.join("ca"), name, now).context("open the CA")?;
        let history = measure::Measure::open(&state.join("history.redb"), now)?;
        let audit = api::audit::Audit::open(&state)?;
        Ok((authority, history, audit))
    })
    .await??;
    seed::seed(store.as_ref(), trust_domain.as_str(), now).await.context("write the first objects")?;

    let (snapshots, snapshot) = watch::channel(Arc::new(Snapshot::default()));
    let world = World::new(trust_domain.as_str(), ZONE);
    let proxies = Arc::default();
    let views = Arc::new(Views::new(snapshot.clone(), Arc::clone(&proxies)));
    let core = Arc::new(Core {
        config,
        store: store.clone(),
        snapshot: snapshot.clone(),
        proxies,
        connections: Arc::default(),
        views: views.clone(),
        history: Arc::new(history),
        authority: Arc::new(authority),
        audit: Arc::new(audit),
        leases: Arc::default(),
        counters: Arc::default(),
        trust_domain: trust_domain.to_string(),
        zone: ZONE.to_owned(),
    });
    workloads::give_grace(&core).await.context("read the workloads")?;
    // Before anybody is let in.
    let list = inventory::follow::look(&core.authority, core.store.as_ref(), now).await;
    list.context("read what is revoked")?;
    let mut tasks = vec![tokio::spawn(ingest::run(store, world, snapshots))];
    // Nobody may be served the empty picture: a proxy would take it for the truth.
    let mut first = snapshot;
    tokio::time::timeout(FIRST_SNAPSHOT_MAX, first.changed())
        .await
        .context("the store gave no first answer")?
        .context("the store can't be read")?;
    tasks.push(tokio::spawn(views.clone().run()));
    tasks.push(tokio::spawn(workloads::sweep(core.clone())));
    tasks.push(tokio::spawn(authority::keep(core.clone())));
    tasks.push(tokio::spawn(inventory::follow::run(core.clone())));
    tasks.push(tokio::spawn(inventory::follow::keep(core.clone())));

    let shutdown = CancellationToken::new();
    let doors = vec![
        serve::start(&core, &views, xds_port, shutdown.clone())?,
        dns::serve(core.snapshot.clone(), dns_tcp, dns_udp, shutdown.clone())?,
        api::serve(&core, api_port, shutdown.clone())?,
    ];
    tracing::info!(%api, %xds, %dns, trust_domain = core.trust_domain, "control plane started");
    Ok(Running { api, xds, dns, core, shutdown, doors, tasks })
}

async fn open_store(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    let place = match &config.store {
        Some(place) => place.clone(),
        None => {
            let path: PathBuf = config.state.join("store.redb");
            tighten(&path)?;
            format!("file:{}", path.display())
        }
    };
    let opened = tokio::task::spawn_blocking(move || weft_store::open(&place)).await?;
    let store = opened.context("open the store")?;
    if config.store.is_none() {
        tighten(&config.state.join("store.redb"))?;
    }
    Ok(store)
}

/// The store's file is for its owner only; who made it doesn't matter.
fn tighten(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    if path.exists() {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
            .with_context(|| format!("make {} private", path.display()))?;
    }
    Ok(())
}

/// The flag's, else the CA's, else the stored Mesh's, else the default.
///
/// Once there is a CA, every identity has its name: a Mesh that says another one is wrong, and no
/// reason not to start.
async fn trust_domain(config: &Config, store: &dyn Store) -> anyhow::Result<TrustDomain> {
    let stored = store.get(&seed::key(weft_model::Kind::Mesh, "", "default")).await?;
    let mesh = stored.and_then(|s| serde_json::from_slice::<serde_json::Value>(&s.value).ok());
    let said = mesh.and_then(|mesh| mesh["spec"]["trustDomain"].as_str().map(str::to_owned));
    let fixed = match &config.trust_domain {
        Some(name) => Some(name.clone()),
        None => {
            let ca = config.state.join("ca");
            tokio::task::spawn_blocking(move || authority::trust_domain(&ca)).await?
        }
    };
    if let (Some(fixed), Some(said)) = (&fixed, &said)
        && fixed != said
    {
        tracing::warn!(
            trust_domain = fixed,
            mesh = said,
            "the Mesh says another spec.trustDomain, which has no effect: the first start fixed it"
        );
    }
    let name = fixed.or(said).unwrap_or_else(|| TRUST_DOMAIN.to_owned());
    TrustDomain::new(&name).with_context(|| format!("the trust domain {name:?}"))
}

impl Running {
    /// The shared parts.
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Asks every part to end.
    pub fn shutdown(&self) {
        self.shutdown.cancel();
    }

    /// Waits until everything has ended after [`Running::shutdown`].
    pub async fn stopped(mut self) {
        self.shutdown.cancelled().await;
        for door in std::mem::take(&mut self.doors) {
            // One that doesn't end in time is cut off: a stop must end.
            let mut door = door;
            if tokio::time::timeout(STOP_MAX, &mut door).await.is_err() {
                door.abort();
            }
        }
        for task in &self.tasks {
            task.abort();
        }
        // Certificates that the store did not take when they were given out.
        let (waiting, store) = (self.core.authority.waiting(), self.core.store.as_ref());
        let _ = tokio::time::timeout(STOP_MAX, waiting.flush(store)).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
        for task in self.tasks.iter().chain(&self.doors) {
            task.abort();
        }
    }
}
