//! One worker: an OS thread with a runtime, listeners, pools, counters of its own. Nothing in it is shared.
//!
//! All that can reach it is on one list, [`Command`]. Its tasks are `!Send`, so `Rc` and `Cell` are its normal tools.

mod mailbox;

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::{
    net::TcpStream,
    runtime::{Builder, LocalOptions},
    sync::{Notify, mpsc},
};
use tokio_util::sync::CancellationToken;
use weft_telemetry::{Counter, Registry, Shard, Window};

use crate::{
    access_log::{self, AccessLogs},
    certificates::Credentials,
    connection,
    drain::Drain,
    handover::{Accepted, Busy, Crew},
    http::h1,
    http::quiet::Streams,
    listener,
    live::Live,
    overload::{Overload, crowd::Crowd, sampler::BEAT},
    panics,
    series::KnownSeries,
    tls_server::ServerConfigs,
    trials::Trials,
    udp,
};

pub use mailbox::{Command, Direction, Mailbox, Role, any_failing};

/// Series a worker keeps apart in its measurement window.
const SERIES_MAX: usize = 10_000;
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Idle connections to endpoints, unless the cluster says otherwise.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections that have yet to show what they are, or are in their handshake.
const HANDSHAKES_MAX: usize = 512;

/// What all workers are told at their start.
#[derive(Clone)]
pub struct WorkerSettings {
    pub registry: Registry,
    /// `NS/NAME` of the proxy's own service.
    pub service: Arc<str>,
    /// Its label `version`, or empty.
    pub version: Arc<str>,
    pub overload: Arc<Overload>,
    pub access_log: access_log::Writer,
}

/// A worker's state; reached by `Rc` from each of its tasks.
pub struct Worker {
    pub settings: WorkerSettings,
    pub shard: RefCell<Shard>,
    pub window: RefCell<Window>,
    pub series: RefCell<KnownSeries>,
    pub trials: RefCell<Trials>,
    /// Streams that wait for something to move.
    pub streams: RefCell<Streams>,
    drains: [Rc<Drain>; 2],
    pub handshakes: Arc<Crowd>,
    pub access_logs: AccessLogs,
    access_log_dropped: Counter,
    /// The other workers, if there are any.
    pub crew: OnceCell<Crew>,
    pub server_configs: ServerConfigs,
    pub bounds: h1::KnownBounds,
    live: RefCell<Rc<Live>>,
    /// Told of each new table.
    pub tables: Notify,
    credentials: RefCell<Option<Arc<Credentials>>>,
    started: Instant,
    started_unix_micros: u64,
    random: Cell<u64>,
}

impl Worker {
    fn new(settings: WorkerSettings) -> Worker {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Worker {
            shard: RefCell::new(settings.registry.shard()),
            window: RefCell::new(Window::new(SERIES_MAX)),
            series: RefCell::default(),
            trials: RefCell::default(),
            streams: RefCell::default(),
            drains: Default::default(),
            handshakes: Crowd::new(HANDSHAKES_MAX),
            access_logs: AccessLogs::new(settings.access_log.clone()),
            access_log_dropped: settings.registry.counter(
                "weft_access_log_dropped",
                "Lines of the access log that were dropped, because the disk was too slow or failed.",
                &[],
            ),
            crew: OnceCell::new(),
            server_configs: ServerConfigs::default(),
            bounds: h1::KnownBounds::default(),
            live: RefCell::default(),
            tables: Notify::new(),
            credentials: RefCell::default(),
            started: Instant::now(),
            started_unix_micros: u64::try_from(unix.as_micros()).unwrap_or(0),
            random: Cell::new(fastrand::u64(1..)),
            settings,
        }
    }

    /// The switch that ends the connections of a socket.
    pub fn drain(&self, role: Role) -> &Rc<Drain> {
        &self.drains[role.direction() as usize]
    }

    /// The table of now. A request keeps the one that it began with.
    pub fn live(&self) -> Rc<Live> {
        Rc::clone(&self.live.borrow())
    }

    pub fn credentials(&self) -> Option<Arc<Credentials>> {
        self.credentials.borrow().clone()
    }

    /// Wall-clock time from the monotonic one: a clock that is set back does not tear records.
    pub fn unix_micros(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.started);
        self.started_unix_micros + u64::try_from(since.as_micros()).unwrap_or(0)
    }

    /// Any clock that only goes forward, for budgets.
    pub fn clock(&self) -> Duration {
        self.started.elapsed()
    }

    /// splitmix64: not for secrets.
    pub fn random(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Half a second has passed.
    fn tick(&self, now: Instant) {
        self.access_logs.flush();
        self.count_lost_lines();
        let shrinks = self.settings.overload.actions().shrinks();
        let closed = self.streams.borrow_mut().sweep(now, shrinks);
        if shrinks {
            self.settings.overload.on_idle_closed(closed);
            let live = self.live();
            live.clusters().for_each(|cluster| cluster.sweep(now, Duration::ZERO));
            h1::release_buffers();
            self.settings.overload.release_memory();
        }
        if self.settings.overload.actions().cuts() {
            self.streams.borrow_mut().shed();
        }
    }

    fn count_lost_lines(&self) {
        let lost = self.access_logs.lost();
        if lost > 0 {
            self.shard.borrow_mut().add(self.access_log_dropped, lost);
        }
    }

    fn sweep(&self) {
        self.series.borrow_mut().sweep();
        let live = self.live();
        let now = Instant::now();
        for cluster in live.clusters() {
            cluster.sweep(now, cluster.cluster.http.idle_timeout.unwrap_or(POOL_IDLE_TIMEOUT));
        }
    }
}

/// Starts a worker on a thread of its own.
pub fn spawn(index: usize, settings: WorkerSettings) -> std::io::Result<(Mailbox, JoinHandle<()>)> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let (started, start) = std::sync::mpsc::channel();
    let failing = CancellationToken::new();
    let says_failing = failing.clone();
    panics::count();
    let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => {
                let _ = started.send(Ok(()));
                runtime
            }
            Err(error) => {
                let _ = started.send(Err(error));
                return;
            }
        };
        let worker = Rc::new(Worker::new(settings));
        runtime.block_on(run(index, Rc::clone(&worker), receiver, says_failing));
        // What is still open is cut by this, and has its line for it.
        drop(runtime);
        worker.access_logs.finish();
    })?;
    start.recv().unwrap_or_else(|_| Err(std::io::Error::other("the worker ended at once")))?;
    Ok((Mailbox { commands: sender, failing, load: Arc::default() }, thread))
}

/// This worker's panics, as far as they were looked at.
struct Panics {
    counter: Counter,
    counted: u64,
    second: Instant,
    in_second: u64,
}

impl Panics {
    fn new(worker: &Worker) -> Panics {
        let help = "Panics, each of which cost one request; more than 10 a second end the proxy.";
        Panics {
            counter: worker.settings.registry.counter("weft_panics", help, &[]),
            counted: panics::so_far(),
            second: Instant::now(),
            in_second: 0,
        }
    }

    /// Counts new ones; true if there were too many.
    fn look(&mut self, worker: &Worker, now: Instant) -> bool {
        let fresh = panics::so_far() - self.counted;
        if fresh > 0 {
            self.counted += fresh;
            worker.shard.borrow_mut().add(self.counter, fresh);
        }
        self.in_second += fresh;
        let too_many = self.in_second > panics::A_SECOND_MAX;
        if now.saturating_duration_since(self.second) >= Duration::from_secs(1) {
            self.second = now;
            self.in_second = 0;
        }
        too_many
    }
}

async fn run(
    index: usize,
    worker: Rc<Worker>,
    mut mailbox: mpsc::UnboundedReceiver<Command>,
    failing: CancellationToken,
) {
    let mut panics = Panics::new(&worker);
    let mut busy = Busy::new(Instant::now());
    let mut accepting: HashMap<SocketAddr, (Role, tokio::task::AbortHandle)> = HashMap::new();
    // Datagrams know no end, so a drain has nothing to wait for: they go on until the worker stops.
    let mut receiving: HashMap<SocketAddr, tokio::task::AbortHandle> = HashMap::new();
    let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
    let mut short_ticks = tokio::time::interval(BEAT);
    loop {
        let command = tokio::select! {
            command = mailbox.recv() => command,
            _ = ticks.tick() => {
                worker.sweep();
                continue;
            }
            _ = short_ticks.tick() => {
                worker.settings.overload.beat(index);
                worker.tick(Instant::now());
                if let Some(load) = worker.crew.get().and_then(Crew::load) {
                    busy.look(load, Instant::now());
                }
                if panics.look(&worker, Instant::now()) {
                    failing.cancel();
                }
                continue;
            }
        };
        match command {
            Some(Command::Table(published)) => {
                let live = Live::after(&worker.live(), &published, &worker.settings.registry);
                worker.live.replace(Rc::new(live));
                worker.tables.notify_waiters();
            }
            Some(Command::Credentials(credentials)) => {
                worker.server_configs.forget();
                worker.credentials.replace(Some(credentials));
            }
            Some(Command::Health { cluster, address, healthy }) => {
                if let Some(cluster) = worker.live().cluster_named(&cluster) {
                    cluster.set_health(address, healthy);
                }
            }
            Some(Command::Listen { role, address, socket }) => {
                let task =
                    tokio::task::spawn_local(listener::accept(Rc::clone(&worker), role, address, socket));
                accepting.insert(address, (role, task.abort_handle()));
            }
            Some(Command::Receive { address, socket }) => {
                let task = tokio::task::spawn_local(udp::serve(Rc::clone(&worker), address, socket));
                receiving.insert(address, task.abort_handle());
            }
            Some(Command::Unreceive(address)) => {
                if let Some(task) = receiving.remove(&address) {
                    task.abort();
                }
            }
            Some(Command::Serve(accepted)) => {
                let Accepted { role, address, stream, remote, slot } = *accepted;
                if let Ok(stream) = TcpStream::from_std(stream) {
                    let serving = connection::serve(Rc::clone(&worker), role, address, stream, remote, slot);
                    tokio::task::spawn_local(serving);
                }
            }
            Some(Command::Crew(crew)) => drop(worker.crew.set(crew)),
            Some(Command::Unlisten(address)) => {
                if let Some((_, task)) = accepting.remove(&address) {
                    task.abort();
                }
            }
            Some(Command::Drain(direction)) => {
                accepting.retain(|_, (role, task)| {
                    let stays = role.direction() != direction;
                    if !stays {
                        task.abort();
                    }
                    stays
                });
                worker.drains[direction as usize].start();
                worker.streams.borrow().wake();
            }
            Some(Command::Scrape(answer)) => {
                panics.look(&worker, Instant::now());
                worker.count_lost_lines();
                let _ = answer.send(worker.shard.borrow().snapshot());
            }
            Some(Command::TakeWindow(answer)) => {
                let now = worker.unix_micros(Instant::now()) / 1_000_000;
                let _ = answer.send(worker.window.borrow_mut().take_increments(now));
            }
            Some(Command::Connections(direction, answer)) => {
                let _ = answer.send(worker.drains[direction as usize].active());
            }
            Some(Command::Stop) | None => break,
        }
    }
}
