//! HTTP/2 on hyper and h2, both ends, with the windows and limits of a sidecar.

pub mod guarded;
pub mod pace;

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use http::{Request, Response};
use hyper::{body::Incoming, client::conn::http2 as client_conn, server::conn::http2 as server_conn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Notify,
};

use weft_routing::{ConnectionLife, Http2Keepalive, Http2Options, HttpConfig, UpstreamHttp, jittered};
use weft_wire::http2_guard::Guard;

use self::{
    guarded::{Guarded, OnFlood},
    pace::StreamExec,
};
use super::{
    body::{ResponseBody, TryBody},
    h1::{HEAD_TIMEOUT, idle_timeout},
    inbound::Inbound,
    life::Life,
};
use crate::{local_exec::LocalExec, meters, peer::Peer, upstream::pool::Held};

pub const STREAMS_MAX: u32 = 100;
pub const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
pub const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
const HEAD_BYTES_MAX: u32 = super::h1::HEAD_BYTES_MAX as u32;
/// A peer that is gone without a word is noticed after this and the timeout.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// For the other side's first SETTINGS.
const GREETING_TIMEOUT: Duration = Duration::from_secs(5);

/// What a cluster says about HTTP/2.
#[derive(Clone, Copy)]
pub struct Settings {
    pub streams_max: u32,
    pub life: ConnectionLife,
    options: Http2Options,
}

impl Settings {
    pub fn of(http: &UpstreamHttp) -> Settings {
        Settings {
            streams_max: http.http2.streams_max.unwrap_or(STREAMS_MAX).min(STREAMS_MAX),
            life: http.life,
            options: http.http2,
        }
    }
}

/// When a silent peer is asked whether it is still there, and for how long it may think about it.
fn keep_alive(said: Option<Http2Keepalive>, random: u64) -> (Option<Duration>, Duration) {
    match said {
        None => (Some(KEEP_ALIVE_INTERVAL), KEEP_ALIVE_TIMEOUT),
        Some(said) => {
            let interval = said.interval.map(|interval| jittered(interval, said.jitter_percent, random));
            (interval, said.timeout)
        }
    }
}

/// What an endpoint's SETTINGS say.
pub struct Greeting {
    /// The guard has seen SETTINGS.
    came: Notify,
    said: Cell<bool>,
    waiting: Notify,
    streams_max: Cell<u32>,
    extended_connect: Cell<bool>,
}

impl Greeting {
    fn new() -> Rc<Greeting> {
        Rc::new(Greeting {
            came: Notify::new(),
            said: Cell::new(false),
            waiting: Notify::new(),
            streams_max: Cell::new(u32::MAX),
            extended_connect: Cell::new(false),
        })
    }

    fn say(&self, streams_max: usize, extended_connect: bool) {
        self.streams_max.set(u32::try_from(streams_max).unwrap_or(u32::MAX));
        self.extended_connect.set(extended_connect);
        self.end();
    }

    /// Nothing more is to be waited for.
    fn end(&self) {
        self.said.set(true);
        self.waiting.notify_waiters();
    }

    pub fn streams_max(&self) -> u32 {
        self.streams_max.get()
    }

    pub async fn takes_extended_connect(&self) -> bool {
        if !self.said.get() {
            let _ = tokio::time::timeout(GREETING_TIMEOUT, self.waiting.notified()).await;
        }
        self.extended_connect.get()
    }
}

/// A connection to an endpoint.
pub struct Opened {
    pub sender: client_conn::SendRequest<TryBody>,
    pub greeting: Rc<Greeting>,
}

/// Speaks HTTP/2 to an endpoint; the connection lives in a task of its own until it ends, and lets go of `held` then.
pub async fn client<T>(
    io: T,
    settings: &Settings,
    random: u64,
    held: Held,
    on_flood: OnFlood,
) -> Result<Opened, hyper::Error>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let options = &settings.options;
    let greeting = Greeting::new();
    let guard = Guard::client(guarded::limits(options));
    let seen = Rc::clone(&greeting);
    let io = Guarded::new(io, guard, on_flood).on_settings(move || seen.came.notify_one());
    let (interval, timeout) = keep_alive(options.keepalive, random);
    let (sender, connection) = client_conn::Builder::new(LocalExec)
        .timer(TokioTimer::new())
        .initial_stream_window_size(options.stream_window.unwrap_or(STREAM_WINDOW_BYTES))
        .initial_connection_window_size(options.connection_window.unwrap_or(CONNECTION_WINDOW_BYTES))
        .max_header_list_size(HEAD_BYTES_MAX)
        .keep_alive_interval(interval)
        .keep_alive_timeout(timeout)
        .handshake::<_, TryBody>(TokioIo::new(io))
        .await?;
    let heard = Rc::clone(&greeting);
    tokio::task::spawn_local(async move {
        tokio::pin!(connection);
        let ended = loop {
            tokio::select! {
                ended = connection.as_mut() => break ended,
                // The codec has read them by the time that this task runs.
                () = heard.came.notified() => {
                    let connection = connection.as_ref().get_ref();
                    let extended_connect = connection.is_extended_connect_protocol_enabled();
                    heard.say(connection.current_max_send_streams(), extended_connect);
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "an upstream HTTP/2 connection ended");
        }
        heard.end();
        drop(held);
    });
    Ok(Opened { sender, greeting })
}

/// Serves one connection until it ends; a drain sends GOAWAY and lets open streams finish.
pub async fn serve<T, F, R>(io: T, peer: &Rc<Peer>, config: &HttpConfig, answer: F)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Inbound>) -> R + 'static,
    R: Future<Output = Response<ResponseBody>> + 'static,
{
    let limits = &config.limits;
    let options = &limits.http2;
    let life = Rc::new(Life::new(&limits.life, peer.worker.random()));
    let spent = Rc::new(Notify::new());
    let exec = StreamExec::new(&peer.worker);
    let service = {
        let (life, spent) = (Rc::clone(&life), Rc::clone(&spent));
        let streams = exec.clone();
        let overload = peer.worker.settings.overload.clone();
        hyper::service::service_fn(move |request: Request<Incoming>| {
            // A busy proxy parts with its clients as it can.
            if life.on_request() || overload.actions().ends_connections() {
                spent.notify_one();
            }
            let (pace, answering) = (streams.pace(), answer(request.map(Inbound::H2)));
            async {
                let mut response = answering.await;
                response.body_mut().follow(pace);
                Ok::<_, std::convert::Infallible>(response)
            }
        })
    };
    let io = guard(io, peer, config);
    let (interval, timeout) = keep_alive(options.keepalive, peer.worker.random());
    let mut builder = server_conn::Builder::new(exec);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(options.streams_max.unwrap_or(STREAMS_MAX))
        .initial_stream_window_size(options.stream_window.unwrap_or(STREAM_WINDOW_BYTES))
        .initial_connection_window_size(options.connection_window.unwrap_or(CONNECTION_WINDOW_BYTES))
        .max_header_list_size(limits.head_kib_max.map_or(HEAD_BYTES_MAX, |kib| kib * 1024))
        .keep_alive_interval(interval)
        .keep_alive_timeout(timeout);
    if options.extended_connect {
        builder.enable_connect_protocol();
    }
    let connection = builder.serve_connection(TokioIo::new(io), service);
    tokio::pin!(connection);
    let mut draining = std::pin::pin!(peer.drain.started());
    let mut old = std::pin::pin!(life.over());
    let mut leaving = false;
    let idle_timeout = idle_timeout(config);
    let mut quiet = Quiet::default();
    // So that the limit is not missed by more than half of it.
    let mut ticks =
        tokio::time::interval((idle_timeout / 2).clamp(Duration::from_millis(50), HEAD_TIMEOUT / 2));
    let ended = loop {
        let leave = tokio::select! {
            ended = connection.as_mut() => break ended,
            () = draining.as_mut(), if !leaving => true,
            () = old.as_mut(), if !leaving => true,
            () = spent.notified(), if !leaving => true,
            _ = ticks.tick(), if !leaving => {
                quiet.for_too_long(peer, peer.worker.settings.overload.idle_limit(idle_timeout))
            }
        };
        if leave {
            leaving = true;
            connection.as_mut().graceful_shutdown();
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a downstream HTTP/2 connection ended");
    }
}

/// Puts a client's connection under guard.
pub fn guard<T>(io: T, peer: &Rc<Peer>, config: &HttpConfig) -> Guarded<T> {
    let limits = guarded::limits(&config.limits.http2);
    Guarded::new(io, Guard::server(limits), on_flood(peer))
}

/// Counts the floods of this peer's listener.
fn on_flood(peer: &Rc<Peer>) -> OnFlood {
    let peer = Rc::clone(peer);
    Rc::new(move |flood| {
        let counter =
            meters::http2_floods(&peer.worker.settings.registry, peer.listener_name(), flood.label());
        peer.worker.shard.borrow_mut().add(counter, 1);
        tracing::info!(remote = %peer.remote, %flood, "an HTTP/2 connection is ended");
    })
}

/// For how long a connection has carried no request.
#[derive(Default)]
struct Quiet {
    since: Option<Instant>,
}

impl Quiet {
    /// Whether the connection has carried no request for that long.
    fn for_too_long(&mut self, peer: &Peer, idle_timeout: Duration) -> bool {
        if peer.open_requests.get() > 0 {
            self.since = None;
            return false;
        }
        let now = Instant::now();
        now - *self.since.get_or_insert(now) >= idle_timeout
    }
}
