//! The life of a proxy: ports, identity, configuration, traffic, drain.
//!
//! The calling thread becomes the control thread (xDS, link, admin, agent); the workers run beside it and hear from it
//! only by their mailboxes.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use serde_json::json;
use tokio::{
    runtime::{Builder, LocalOptions},
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use weft_identity::{
    files::{FileError, create_private_dir, write_private},
    random::{NoRandomness, secure},
};
use weft_routing::Strictness;
use weft_telemetry::Registry;

use crate::{
    access_log,
    admin::{self, Admin, Surface},
    agent, app_health,
    certificates::{Identity, IdentityError},
    config::{Config, Node, Ports},
    config_feed::ConfigFeed,
    handover::Crew,
    link_client::Link,
    lkg::{self, Places},
    net::{Ipv4, PortTaken, Reserved, reserve, reserve_datagrams},
    overload::{Overload, memory::Memory, sampler},
    trim,
    upstream::{dns, health},
    worker::{self, Command, Direction, Mailbox, Role, WorkerSettings},
    workload_name, xds_client,
};

/// How often the drain counts what is still open.
const DRAIN_POLL: Duration = Duration::from_millis(50);
/// By then a start is over, and its code is not needed again; and once more, after the first look at everything.
const STARTED_AFTER: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(10)];
const LINK_END_TIMEOUT: Duration = Duration::from_secs(3);

/// Why a proxy cannot run. Each is one sentence for the operator.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    #[error(transparent)]
    Port(#[from] PortTaken),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Agent(#[from] agent::AgentError),
    #[error("the state directory")]
    State(#[from] FileError),
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    #[error("the static configuration: {0}")]
    Static(String),
    #[error("a thread or the runtime could not start")]
    Start(#[source] std::io::Error),
    #[error("the admin pages show the whole configuration and may listen on loopback only, not on {0}")]
    AdminAddress(SocketAddr),
    #[error("it panicked too often and ended after a drain; start it again, and report the log's panics")]
    Panics,
    #[error("nothing to do: neither a control plane nor static resources are configured")]
    Nothing,
}

/// Runs a proxy until it is told to stop. Blocks.
pub fn run(config: Config) -> Result<(), ProxyError> {
    // A bootstrap of one's own, which names no control plane of ours, may say otherwise.
    if let Some(admin) = config.ports.admin.filter(|admin| !admin.ip().to_canonical().is_loopback())
        && config.control.is_some()
    {
        return Err(ProxyError::AdminAddress(admin));
    }
    create_private_dir(&config.state)?;
    let registry = Registry::new();
    let workers = config.workers.max(1);
    let overload = Overload::new(&config.limits, workers);
    let memory = Memory::of_process(config.limits.memory.filter(|limit| *limit > 0));
    let _sampler = sampler::start(Arc::clone(&overload), memory).map_err(ProxyError::Start)?;
    let (access_log, written) = access_log::Writer::start().map_err(ProxyError::Start)?;
    let settings = WorkerSettings {
        registry: registry.clone(),
        service: Arc::from(format!("{}/{}", config.node.namespace, config.node.service)),
        version: Arc::from(config.node.labels.get("version").map_or("", String::as_str)),
        overload: Arc::clone(&overload),
        access_log: access_log.clone(),
    };
    let mut mailboxes = Vec::new();
    let mut threads = Vec::new();
    for index in 0..workers {
        let (mailbox, thread) = worker::spawn(index, settings.clone()).map_err(ProxyError::Start)?;
        mailboxes.push(mailbox);
        threads.push(thread);
    }
    drop(settings);
    for (index, mailbox) in mailboxes.iter().enumerate() {
        if let Some(crew) = Crew::of(&mailboxes, index) {
            mailbox.send(Command::Crew(crew));
        }
    }
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .map_err(ProxyError::Start)?;
    let ended = runtime.block_on(control(config, registry, overload, access_log, mailboxes.clone()));
    for mailbox in &mailboxes {
        mailbox.send(Command::Stop);
    }
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a worker panicked");
        }
    }
    drop(runtime);
    written.wait();
    ended
}

async fn control(
    mut config: Config,
    registry: Registry,
    overload: Arc<Overload>,
    access_log: access_log::Writer,
    workers: Vec<Mailbox>,
) -> Result<(), ProxyError> {
    let strictness = if config.foreign.is_some() { Strictness::DeclaredForeign } else { Strictness::Own };
    let feed = ConfigFeed::new(workers.clone(), strictness);
    let node = config.node.clone();
    let workload = workload_name::of(&config.state, &node);
    let identity = match config.resources.identity.take() {
        Some((svid, bundle)) => Identity::fixed(svid, bundle),
        None => Identity::open(&config.state, config.control.clone(), &node.namespace, &node.service)?,
    };
    let lkg = lkg::life::Place::of(&config, &identity, &workload);
    let found = lkg.as_ref().map(|lkg| lkg.find(&config)).unwrap_or_default();
    let opened = open_ports(&config, &found.places())?;
    let mut ports = opened.ports;
    let places = Places { outbound: ports.outbound, inbound: ports.inbound };
    let credentials_sent = send_credentials(&identity, &workers, 0);
    for (_, reserved) in &opened.traffic {
        feed.hold(reserved.address);
    }
    for (address, socket) in opened.datagrams {
        feed.keep_datagrams(address, socket);
    }
    found.restore(&feed, &places);
    // Only now: who connected meanwhile waits in the backlog for a moment, and meets a configuration.
    for (role, reserved) in opened.traffic {
        feed.listen(role, reserved);
    }
    let socket = config.state.join("agent.sock");
    let agent = agent::serve(identity.clone(), &socket)?;
    ports.agent = Some(socket.clone());

    let draining = CancellationToken::new();
    let last_call = CancellationToken::new();
    let admin = Admin {
        feed: feed.clone(),
        identity: identity.clone(),
        registry,
        overload,
        workers: workers.clone(),
        node: Arc::from(format!("{}/{workload}", node.namespace)),
        draining: draining.clone(),
        quit: config.stop.clone(),
        token: admin_token(&config.state)?,
    };
    for (surface, socket) in opened.admin {
        tokio::spawn(admin::serve(admin.clone(), surface, socket));
    }
    if !config.resources.is_empty() {
        feed.set_static(config.resources.staged(strictness).map_err(ProxyError::Static)?)
            .map_err(ProxyError::Static)?;
    } else if config.control.is_none() && config.foreign.is_none() {
        return Err(ProxyError::Nothing);
    }
    tokio::spawn(forward_credentials(identity.clone(), workers.clone(), credentials_sent));
    tokio::spawn(dns::keep(feed.clone()));
    tokio::spawn(health::keep(feed.clone(), identity.clone(), workers.clone()));
    tokio::task::spawn_local(tick(feed.clone()));
    let mut keeping = tokio::spawn(identity.clone().keep());
    let mut linking = None;
    if let Some(control) = &config.control {
        let link = Link {
            control: control.clone(),
            identity: identity.clone(),
            node: node.clone(),
            workload: workload.clone(),
            inbound_port: ports.inbound.map_or(0, |address| address.port()),
            workers: workers.clone(),
            app: ports.inbound.and_then(|_| app_health::watch(app_ports(&node))),
            feed: Some(feed.clone()),
            leaving: draining.clone(),
            last_call: last_call.clone(),
        };
        linking = Some(tokio::spawn(link.run()));
    }
    if config.control.is_some() || config.foreign.is_some() {
        let client = xds_client::Client {
            control: config.control.clone(),
            foreign: config.foreign.clone(),
            identity: identity.clone(),
            node: xds_client::node(&node, &workload, &ports),
            feed: feed.clone(),
        };
        tokio::task::spawn_local(client.run());
        if let Some(lkg) = lkg {
            tokio::spawn(lkg.keep(feed.clone(), places));
        }
    }
    tracing::info!(ports = %json!(ports), workload, "the proxy is up");
    if let Some(on_ready) = config.on_ready.take() {
        on_ready(ports);
    }
    tokio::task::spawn_local(async {
        for after in STARTED_AFTER {
            tokio::time::sleep(after).await;
            trim::clean_pages();
        }
    });
    let signals = Signals::new(config.signals)?;
    if config.signals {
        let mut hangups = signal(SignalKind::hangup()).map_err(ProxyError::Start)?;
        tokio::task::spawn_local(async move {
            while hangups.recv().await.is_some() {
                tracing::info!("the files of the access log are opened anew");
                access_log.reopen();
            }
        });
    }
    let mut panicked = false;
    tokio::select! {
        () = config.stop.cancelled() => {}
        () = worker::any_failing(&workers) => panicked = true,
        () = signals.terminated() => {}
        ended = &mut keeping => {
            if let Ok(Err(error)) = ended {
                agent.abort();
                let _ = std::fs::remove_file(&socket);
                return Err(error.into());
            }
        }
    }
    tracing::info!("draining");
    draining.cancel();
    let drained = async {
        drain(&config, &workers).await;
        last_call.cancel();
        if let Some(linking) = linking {
            let _ = tokio::time::timeout(LINK_END_TIMEOUT, linking).await;
        }
    };
    tokio::select! {
        () = drained => tracing::info!("drained"),
        () = signals.interrupted_again() => tracing::warn!("stopped without waiting for open requests"),
    }
    keeping.abort();
    agent.abort();
    let _ = std::fs::remove_file(&socket);
    if panicked { Err(ProxyError::Panics) } else { Ok(()) }
}

struct Opened {
    ports: Ports,
    traffic: Vec<(Role, Reserved)>,
    admin: Vec<(Surface, std::net::TcpListener)>,
    datagrams: Vec<(SocketAddr, std::net::UdpSocket)>,
}

/// All fixed ports, before anything else starts: a port that is taken ends the proxy with one sentence.
///
/// A port that is left to the kernel is the one of `before`, if that is still free: apps know it, and the last known
/// good is for it.
fn open_ports(config: &Config, before: &Places) -> Result<Opened, PortTaken> {
    let mut ports = Ports::default();
    let mut traffic = Vec::new();
    let own = |address: Option<SocketAddr>, before: Option<SocketAddr>, purpose| {
        let Some(address) = address else { return Ok(None) };
        if let Some(before) = before.filter(|before| address.port() == 0 && before.ip() == address.ip())
            && let Ok(reserved) = reserve(before, Ipv4::AsSystem, purpose)
        {
            return Ok(Some(reserved));
        }
        reserve(address, Ipv4::AsSystem, purpose).map(Some)
    };
    let outbound = own(config.ports.outbound, before.outbound, "outbound traffic")?;
    let inbound = own(config.ports.inbound, before.inbound, "inbound traffic")?;
    let mut admin = Vec::new();
    for (surface, wanted, purpose) in [
        (Surface::Admin, config.ports.admin, "the admin pages"),
        (Surface::Metrics, config.ports.metrics, "metrics"),
    ] {
        let Some(address) = wanted else { continue };
        let reserved = reserve(address, Ipv4::AsSystem, purpose)?;
        match surface {
            Surface::Admin => ports.admin = Some(reserved.address),
            Surface::Metrics => ports.metrics = Some(reserved.address),
        }
        admin.push((surface, reserved.socket));
    }
    let datagrams = config.node.datagrams.iter().map(|wanted| Ok((wanted.at, reserve_datagrams(wanted.at)?)));
    let datagrams = datagrams.collect::<Result<_, PortTaken>>()?;
    if let Some(reserved) = outbound {
        ports.outbound = Some(reserved.address);
        traffic.push((Role::Outbound, reserved));
    }
    if let Some(reserved) = inbound {
        ports.inbound = Some(reserved.address);
        traffic.push((Role::Inbound, reserved));
    }
    Ok(Opened { ports, traffic, admin, datagrams })
}

/// The token for changing pages: made once, 0600.
fn admin_token(state: &Path) -> Result<Arc<str>, ProxyError> {
    let file = state.join("admin.token");
    if let Ok(token) = std::fs::read_to_string(&file)
        && token.trim().len() >= 32
    {
        return Ok(Arc::from(token.trim()));
    }
    let bytes = secure::<16>()?;
    let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    write_private(&file, &token)?;
    Ok(Arc::from(token))
}

/// Tells the workers what they don't know yet; returns what they know.
fn send_credentials(identity: &Identity, workers: &[Mailbox], sent: u64) -> u64 {
    let Some(credentials) = identity.credentials().filter(|now| now.revision != sent) else { return sent };
    for worker in workers {
        worker.send(Command::Credentials(Arc::clone(&credentials)));
    }
    credentials.revision
}

async fn forward_credentials(identity: Identity, workers: Vec<Mailbox>, mut sent: u64) {
    let mut state = identity.watch();
    loop {
        state.mark_unchanged();
        sent = send_credentials(&identity, &workers, sent);
        if state.changed().await.is_err() {
            return;
        }
    }
}

async fn tick(feed: ConfigFeed) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        feed.tick();
    }
}

/// Where the app listens.
fn app_ports(node: &Node) -> Vec<SocketAddr> {
    node.ports.iter().map(|port| SocketAddr::new(node.app_address, port.port)).collect()
}

/// Callers were told; now inbound ends, and outbound once nothing needs it, or time is up.
async fn drain(config: &Config, workers: &[Mailbox]) {
    tokio::time::sleep(config.drain.delay).await;
    let end = Instant::now() + config.drain.timeout;
    for direction in [Direction::Inbound, Direction::Outbound] {
        for worker in workers {
            worker.send(Command::Drain(direction));
        }
        // One that is given from worker to worker is seen the second time.
        while open_connections(workers, direction).await + open_connections(workers, direction).await > 0
            && Instant::now() < end
        {
            tokio::time::sleep(DRAIN_POLL).await;
        }
    }
}

async fn open_connections(workers: &[Mailbox], direction: Direction) -> usize {
    let mut sum = 0;
    for worker in workers {
        let (answer, count) = oneshot::channel();
        worker.send(Command::Connections(direction, answer));
        sum += count.await.unwrap_or(0);
    }
    sum
}

/// SIGTERM and SIGINT, if this process's signals are ours.
struct Signals {
    signals: Option<tokio::sync::Mutex<(tokio::signal::unix::Signal, tokio::signal::unix::Signal)>>,
}

impl Signals {
    fn new(ours: bool) -> Result<Signals, ProxyError> {
        let open = || Ok((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?));
        let signals = ours.then(open).transpose().map_err(ProxyError::Start)?;
        Ok(Signals { signals: signals.map(tokio::sync::Mutex::new) })
    }

    async fn terminated(&self) {
        let Some(signals) = &self.signals else { return std::future::pending().await };
        let (terminate, interrupt) = &mut *signals.lock().await;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }

    async fn interrupted_again(&self) {
        let Some(signals) = &self.signals else { return std::future::pending().await };
        signals.lock().await.1.recv().await;
    }
}
