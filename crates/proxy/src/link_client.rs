//! The proxy's one stream to its control plane: who it is, what it measured, that it leaves.
//!
//! Increments are taken from the workers each second, less often while very many series move. While the stream is down they gather by window; once numbered
//! they are kept until the control plane says that they are durable, and sent again after a reconnect under the same
//! number, so that each request counts exactly once.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use weft_link::{
    Bin, Buckets, CELLS_MAX, CONNECTIONS_MAX, Cell, Connection, Connections, Health, Hello, Kept, Leave,
    LinkClient, Locality, Port, Up, down,
};
use weft_telemetry::{Increment, buckets};

use crate::{
    app_health::AppHealth,
    certificates::{Identity, connect},
    config::{Control, Node, VERSION},
    config_feed::ConfigFeed,
    connections,
    worker::{Command, Mailbox},
};

const SEND_INTERVAL: Duration = Duration::from_secs(1);
/// Cells that are sent a second, on average: beyond it they gather for longer, so that what a cell costs is shared by
/// more requests.
const CELLS_PER_SECOND: usize = 2_000;
const SEND_INTERVAL_MAX: Duration = Duration::from_secs(5);
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// An attempt although nothing else reaches the control plane.
const ALONE_INTERVAL: Duration = Duration::from_secs(60);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages that may wait for their acknowledgement; beyond it nothing new is numbered, it gathers instead.
const UNACKED_MAX: usize = 1024;
/// Of connections, for one question: 100,000.
const PAGES_MAX: usize = 250;
/// Windows that gather while there is no control plane: six hours.
const PENDING_WINDOWS_MAX: usize = 2160;
/// How long a leaving proxy waits for its last figures to be durable.
const LAST_ACK_TIMEOUT: Duration = Duration::from_secs(2);

/// What the link needs to know of its proxy.
pub struct Link {
    pub control: Control,
    pub identity: Identity,
    pub node: Node,
    pub workload: String,
    pub inbound_port: u16,
    pub workers: Vec<Mailbox>,
    /// How the app is, if somebody looks.
    pub app: Option<watch::Receiver<AppHealth>>,
    /// The xDS side of the same proxy: it knocks at the control plane's door for both.
    pub feed: Option<ConfigFeed>,
    /// Cancelled when the proxy starts to leave.
    pub leaving: CancellationToken,
    /// Cancelled when the requests have ended and the last figures shall go.
    pub last_call: CancellationToken,
}

/// What was measured and is not yet durable.
struct Outbox {
    pending: Vec<Increment>,
    unacked: VecDeque<Buckets>,
    /// When this process began to count, in unix microseconds; the first number, too.
    started: u64,
    next_sequence: u64,
}

impl Link {
    /// Runs until the last figures are durable after `last_call`, or time is up.
    pub async fn run(self) {
        let mut outbox = Outbox::new();
        let mut wait = RETRY_FIRST;
        loop {
            let started = tokio::time::Instant::now();
            match self.connected(&mut outbox).await {
                Ok(End::Finished) => return,
                Ok(End::Closed(reason)) => tracing::warn!(reason, "the link to the control plane closed"),
                Err(error) => tracing::debug!(error, "no link to the control plane"),
            }
            if self.last_call.is_cancelled() {
                return;
            }
            if started.elapsed() > RETRY_MAX {
                wait = RETRY_FIRST;
            }
            let pause = wait.mul_f64(0.5 + fastrand::f64() / 2.0);
            wait = (wait * 2).min(RETRY_MAX);
            tokio::select! {
                () = self.away(pause) => {}
                () = self.last_call.cancelled() => {}
            }
            outbox.gather(&self.workers).await;
        }
    }

    /// Until the next attempt.
    async fn away(&self, pause: Duration) {
        let reachable = self.feed.as_ref().map(ConfigFeed::reachable);
        match reachable.filter(|reachable| !*reachable.borrow()) {
            Some(mut reachable) => {
                let _ =
                    tokio::time::timeout(ALONE_INTERVAL, reachable.wait_for(|reachable| *reachable)).await;
            }
            None => tokio::time::sleep(pause).await,
        }
    }

    async fn connected(&self, outbox: &mut Outbox) -> Result<End, String> {
        let credentials = self.identity.ready().await;
        let channel = connect(&self.control, &credentials).await.map_err(|error| error.to_string())?;
        let (sender, receiver) = mpsc::channel::<Up>(UNACKED_MAX + PAGES_MAX + 16);
        let send =
            |message: Up| sender.try_send(message).map_err(|_| "the control plane does not read".to_owned());
        let mut app = self.app.clone();
        let verdict = app.as_mut().map(|app| *app.borrow_and_update());
        send(self.hello(verdict, outbox.started).into())?;
        let mut client = LinkClient::new(channel);
        let answer =
            tokio::time::timeout(ANSWER_TIMEOUT, client.connect(ReceiverStream::new(receiver))).await;
        let answer = answer.map_err(|_| "the control plane does not answer".to_owned())?;
        let mut down = answer.map_err(|status| status.message().to_owned())?.into_inner();
        if let Some(verdict) = verdict {
            // Again, for a control plane that reads it in no hello yet.
            send(health(verdict).into())?;
        }
        for buckets in &outbox.unacked {
            send(buckets.clone().into())?;
        }
        let mut ticks = tokio::time::interval(SEND_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut left, mut last_called) = (false, false);
        let mut kept_told = None;
        let give_up = tokio::time::sleep(Duration::from_secs(86_400 * 365));
        tokio::pin!(give_up);
        loop {
            tokio::select! {
                message = down.message() => match message {
                    Ok(Some(message)) => {
                        if let Some(down::Message::ListConnections(asked)) = &message.message {
                            connections::remember(Duration::from_secs(asked.remember_seconds.into()));
                            for page in pages(asked.id, credentials.svid.id().as_str()) {
                                send(page.into())?;
                            }
                        }
                        if let Some(reason) = self.on_down(message.message, outbox) {
                            return Ok(End::Closed(reason));
                        }
                    }
                    Ok(None) => return Ok(End::Closed("the control plane ended it".to_owned())),
                    Err(status) => return Ok(End::Closed(status.message().to_owned())),
                },
                _ = ticks.tick() => {
                    outbox.gather(&self.workers).await;
                    let mut cells = 0;
                    for buckets in outbox.number() {
                        cells += buckets.cells.len();
                        send(buckets.into())?;
                    }
                    ticks.reset_after(interval_after(cells));
                    let kept = self.feed.as_ref().and_then(|feed| feed.status().lkg.on_disk);
                    if let Some(confirmed) = kept.filter(|_| kept != kept_told) {
                        kept_told = kept;
                        let since = confirmed.duration_since(UNIX_EPOCH).unwrap_or_default();
                        send(Kept { confirmed_unix: since.as_secs() }.into())?;
                    }
                }
                Some(health) = next_health(&mut app), if !left => send(health.into())?,
                () = self.leaving.cancelled(), if !left => {
                    left = true;
                    send(Leave {}.into())?;
                }
                () = self.last_call.cancelled(), if !last_called => {
                    last_called = true;
                    outbox.gather(&self.workers).await;
                    for buckets in outbox.number() {
                        send(buckets.into())?;
                    }
                    give_up.as_mut().reset(tokio::time::Instant::now() + LAST_ACK_TIMEOUT);
                }
                () = &mut give_up => return Ok(End::Finished),
            }
            if last_called && outbox.unacked.is_empty() && outbox.pending.is_empty() {
                return Ok(End::Finished);
            }
        }
    }

    /// `Some`: the stream is over, and why.
    fn on_down(&self, message: Option<down::Message>, outbox: &mut Outbox) -> Option<String> {
        match message {
            Some(down::Message::Ack(ack)) => outbox.acknowledged(ack.start_unix, ack.sequence),
            Some(down::Message::Welcome(welcome)) => self.identity.set_bundle(&welcome.bundle_pem),
            Some(down::Message::Bundle(bundle)) => self.identity.set_bundle(&bundle.bundle_pem),
            Some(down::Message::Crl(crl)) => self.identity.set_crl(crl),
            Some(down::Message::Refused(refused)) => return Some(refused.reason),
            // Answered, or of a newer control plane.
            Some(down::Message::ListConnections(_)) | None => {}
        }
        None
    }

    fn hello(&self, app: Option<AppHealth>, started: u64) -> Hello {
        let node = &self.node;
        Hello {
            workload_name: self.workload.clone(),
            namespace: node.namespace.clone(),
            service: node.service.clone(),
            labels: node.labels.clone().into_iter().collect::<HashMap<_, _>>(),
            address: node.address.to_string(),
            inbound_port: u32::from(self.inbound_port),
            ports: node
                .ports
                .iter()
                .map(|port| Port { name: port.name.clone(), port: u32::from(port.port) })
                .collect(),
            kind: node.kind.clone(),
            version: VERSION.to_owned(),
            locality: (node.locality != crate::config::Locality::default()).then(|| Locality {
                region: node.locality.region.clone(),
                zone: node.locality.zone.clone(),
                subzone: node.locality.subzone.clone(),
            }),
            // A workload that comes back is as ill as its app is.
            health: app.map_or("", AppHealth::as_str).to_owned(),
            started,
        }
    }
}

/// The app's next state; never, if nobody looks.
async fn next_health(app: &mut Option<watch::Receiver<AppHealth>>) -> Option<Health> {
    if let Some(app) = app
        && app.changed().await.is_ok()
    {
        return Some(health(*app.borrow_and_update()));
    }
    std::future::pending().await
}

/// How long cells gather after so many were sent.
fn interval_after(cells: usize) -> Duration {
    let share = u32::try_from(cells / CELLS_PER_SECOND).unwrap_or(u32::MAX);
    SEND_INTERVAL.saturating_mul(share).clamp(SEND_INTERVAL, SEND_INTERVAL_MAX)
}

fn health(app: AppHealth) -> Health {
    Health { status: app.as_str().to_owned() }
}

/// The process's connections, as they are told. Of very many, those that there is room for.
fn pages(id: u64, identity: &str) -> Vec<Connections> {
    let (all, mut missed) = connections::list();
    let told = all.len().min(PAGES_MAX * CONNECTIONS_MAX);
    missed += u64::try_from(all.len() - told).unwrap_or(u64::MAX);
    let page = |connections: &[connections::Connection]| Connections {
        id,
        identity: identity.to_owned(),
        connections: connections.iter().map(told_of).collect(),
        ..Connections::default()
    };
    let mut pages: Vec<_> = all[..told].chunks(CONNECTIONS_MAX).map(page).collect();
    if pages.is_empty() {
        pages.push(page(&[]));
    }
    if let Some(last) = pages.last_mut() {
        (last.last, last.missed) = (true, missed);
    }
    pages
}

fn told_of(one: &connections::Connection) -> Connection {
    Connection {
        local: one.local.to_string(),
        remote: one.remote.to_string(),
        accepted: one.accepted,
        version: one.tls.version.into(),
        cipher: one.tls.cipher.into(),
        group: one.tls.group.into(),
        peer: one.peer.as_deref().unwrap_or_default().to_owned(),
        opened_unix: one.opened.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        closed: one.closed,
    }
}

enum End {
    Finished,
    Closed(String),
}

impl Outbox {
    fn new() -> Outbox {
        // Microseconds of the start: a restarted proxy never repeats a number, as long as it counts less than one
        // message a microsecond.
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let started = u64::try_from(started).unwrap_or(0);
        Outbox { pending: Vec::new(), unacked: VecDeque::new(), started, next_sequence: started }
    }

    /// Takes what the workers counted since they were last asked.
    async fn gather(&mut self, workers: &[Mailbox]) {
        let mut taken = std::mem::take(&mut self.pending);
        for worker in workers {
            let (answer, increments) = oneshot::channel();
            worker.send(Command::TakeWindow(answer));
            taken.extend(increments.await.unwrap_or_default());
        }
        self.pending = buckets::merge(taken);
        let excess = self.pending.len().saturating_sub(PENDING_WINDOWS_MAX);
        if excess > 0 {
            tracing::error!(
                windows = excess,
                "measurements are lost: the control plane was away for too long"
            );
            self.pending.drain(..excess);
        }
    }

    /// Gives what is pending its numbers; returns the new messages.
    fn number(&mut self) -> Vec<Buckets> {
        let mut fresh = Vec::new();
        while !self.pending.is_empty() && self.unacked.len() + fresh.len() < UNACKED_MAX {
            let increment = self.pending.remove(0);
            for cells in increment.cells.chunks(CELLS_MAX) {
                fresh.push(Buckets {
                    start_unix: increment.start_unix,
                    sequence: self.next_sequence,
                    cells: cells.iter().map(cell).collect(),
                });
                self.next_sequence += 1;
            }
        }
        self.unacked.extend(fresh.iter().cloned());
        fresh
    }

    fn acknowledged(&mut self, start_unix: u64, sequence: u64) {
        self.unacked.retain(|buckets| (buckets.start_unix, buckets.sequence) != (start_unix, sequence));
    }
}

fn cell((key, counted): &(buckets::CellKey, buckets::Cell)) -> Cell {
    Cell {
        caller: key.series.caller.clone(),
        service: key.series.service.clone(),
        version: key.series.version.clone(),
        route: key.series.route.clone(),
        code: key.code,
        grpc_status: key.grpc_status,
        tls: key.series.tls.clone(),
        direction: key.series.direction.clone(),
        requests: counted.requests,
        errors: counted.errors,
        request_bytes: counted.request_bytes,
        response_bytes: counted.response_bytes,
        durations: counted.durations.pairs().map(|(index, count)| Bin { index, count }).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn increment(start_unix: u64, cells: usize) -> Increment {
        let cells = (0..cells)
            .map(|code| {
                let key = buckets::CellKey { series: Arc::default(), code: code as u32, grpc_status: -1 };
                (key, buckets::Cell { requests: 1, ..buckets::Cell::default() })
            })
            .collect();
        Increment { start_unix, cells }
    }

    #[test]
    fn messages_keep_their_numbers_until_they_are_durable() {
        let mut outbox = Outbox::new();
        outbox.pending = vec![increment(10, 1), increment(20, CELLS_MAX + 1)];
        let sent = outbox.number();
        assert_eq!(sent.len(), 3); // the second window needs two messages
        assert!(sent.windows(2).all(|pair| pair[0].sequence + 1 == pair[1].sequence));
        assert!(outbox.number().is_empty());
        outbox.acknowledged(20, sent[1].sequence);
        outbox.acknowledged(10, 7); // nobody's number
        let kept: Vec<u64> = outbox.unacked.iter().map(|buckets| buckets.sequence).collect();
        assert_eq!(kept, [sent[0].sequence, sent[2].sequence]);
    }

    #[test]
    fn many_series_gather_for_longer() {
        let seconds = |cells| interval_after(cells).as_secs();
        assert_eq!([0, 1, 1_999, 2_000, 3_999, 6_000].map(seconds), [1, 1, 1, 1, 1, 3]);
        assert_eq!([10_000, usize::MAX].map(seconds), [5, 5]);
    }

    #[test]
    fn unacknowledged_messages_are_bounded() {
        let mut outbox = Outbox::new();
        outbox.pending = (0..UNACKED_MAX as u64 + 5).map(|n| increment(n * 10, 1)).collect();
        assert_eq!(outbox.number().len(), UNACKED_MAX);
        assert_eq!(outbox.pending.len(), 5); // they gather
    }
}
