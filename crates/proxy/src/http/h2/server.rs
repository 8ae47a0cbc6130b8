//! A client's connection: one task reads frames, polls the answers in place and writes what they say.
//!
//! Each stream has a bell, so that only those are polled that something happened to. An answer that is ready at once
//! leaves with its head in one write. A panic costs the stream that met it, no other.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::{
    HeaderValue, Method, Response,
    header::{CONTENT_LENGTH, DATE},
};
use http_body::Body as _;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::oneshot,
    time::{Sleep, sleep, timeout},
};
use weft_routing::HttpConfig;
use weft_wire::{http1::Refusal, http2::HeadError};

use super::{
    CONNECTION_WINDOW_BYTES, HEAD_BYTES_MAX, STREAM_WINDOW_BYTES, STREAMS_MAX,
    bells::Bells,
    codec::{Accepted, Config, Error, Reason, ReceiveHalf, Role, SendHalf, Server},
    guard,
    guarded::Guarded,
    keep_alive, still_there,
    streams::{Out, Received, Sent, Unsent, reason_of},
};
use crate::{
    http::{
        body::ResponseBody,
        forward::STREAM_IDLE,
        h1::{HEAD_TIMEOUT, date, heads, idle_timeout, server::Asked},
        headers,
        inbound::Inbound,
        life::Life,
        quiet::{Behind, Watch},
        request::taken_back,
    },
    peer::Peer,
    tcp::tunnel::Tunnel,
    worker::Worker,
};

/// A client that was asked to leave knows it by then.
const LEAVING_TIME: Duration = Duration::from_secs(5);

/// Requests that a stranger may take back more than it lets us answer (CVE-2023-44487).
const CANCELLED_MAX: u32 = 1000;

/// The bells of a connection; streams come after them.
const FRAMES: usize = 0;
const LEAVE: usize = 1;
const PINGS: usize = 2;
const SILENT: usize = 3;
const FIRST_STREAM: usize = 4;

/// Serves one connection until it ends; a drain sends GOAWAY and lets open streams finish. Once it is `silent` no
/// stream more is waited for.
pub async fn serve<T, F, R>(
    io: T,
    peer: &Rc<Peer>,
    config: &HttpConfig,
    answer: F,
    silent: impl Future<Output = ()>,
) where
    T: AsyncRead + AsyncWrite + Unpin,
    F: Fn(Asked) -> R,
    R: Future<Output = Response<ResponseBody>> + Unpin,
{
    let limits = &config.limits;
    let options = &limits.http2;
    let heard = Rc::<Cell<bool>>::default();
    let codec = Config {
        streams_max: options.streams_max.unwrap_or(STREAMS_MAX),
        stream_window: options.stream_window.unwrap_or(STREAM_WINDOW_BYTES),
        connection_window: options.connection_window.unwrap_or(CONNECTION_WINDOW_BYTES),
        head_bytes_max: limits.head_kib_max.map_or(HEAD_BYTES_MAX, |kib| kib * 1024),
        extended_connect: options.extended_connect,
        // A member hands on what its own callers take back.
        cancelled_max: if peer.principal.is_some() { u32::MAX } else { CANCELLED_MAX },
        ..Config::new(Role::Server)
    };
    let idle_timeout = idle_timeout(config);
    let mut connection = Server::new(guard(io, peer, config).on_read(&heard), codec);
    let mut silent = pin!(silent);
    let greeted = std::future::poll_fn(|cx| connection.poll_greeted(cx));
    let greeted = tokio::select! {
        greeted = timeout(idle_timeout.min(HEAD_TIMEOUT), greeted) => greeted,
        () = silent.as_mut() => return,
    };
    match greeted {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::debug!(%error, "a downstream HTTP/2 connection did not begin");
            return;
        }
        Err(_) => return,
    }
    // Ready once.
    let mut silent = pin!(async {
        silent.await;
        std::future::pending::<()>().await;
    });
    let (interval, limit) = keep_alive(options.keepalive, peer.worker.random());
    let behind = config.timeouts.stream_idle.filter(|limit| !limit.is_zero()).unwrap_or(STREAM_IDLE);
    let mut gone = pin!(still_there(connection.pings(), heard, interval, limit, behind, || true));
    let life = Life::new(&limits.life, peer.worker.random()).until(peer.expires);
    let mut leave = pin!(time_to_leave(peer, &life, idle_timeout));
    let mut bells = Bells::new(FIRST_STREAM);
    let mut serving = Serving {
        connection,
        streams: Vec::new(),
        free: Vec::new(),
        leaving: None,
        peer,
        life: &life,
        answer,
    };
    std::future::poll_fn(|cx| {
        bells.begin(cx);
        while let Some((index, waker)) = bells.next_rung() {
            let cx = &mut Context::from_waker(&waker);
            let over = match index {
                SILENT => {
                    if silent.as_mut().poll(cx).is_ready() {
                        serving.connection.leave_now();
                    }
                    false
                }
                FRAMES => serving.poll_frames(cx, &mut bells),
                LEAVE => {
                    match &mut serving.leaving {
                        // It may never answer the PING that says that it has read our GOAWAY.
                        Some(time) => {
                            if time.as_mut().poll(cx).is_ready() {
                                serving.connection.leave_now();
                            }
                        }
                        None => {
                            if leave.as_mut().poll(cx).is_ready() {
                                serving.leave(&bells);
                            }
                        }
                    }
                    false
                }
                PINGS => gone.as_mut().poll(cx).is_ready(),
                stream => {
                    serving.poll_stream(stream - FIRST_STREAM, cx);
                    false
                }
            };
            if over {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    })
    .await;
}

/// Waits until the client is to be asked to leave: the drain, the connection's age, or nothing to do for too long.
async fn time_to_leave(peer: &Rc<Peer>, life: &Life, idle_timeout: Duration) {
    let mut draining = pin!(peer.drain.started());
    let mut old = pin!(life.over());
    let mut quiet = Quiet::default();
    // So that the limit is not missed by more than half of it.
    let mut ticks =
        tokio::time::interval((idle_timeout / 2).clamp(Duration::from_millis(50), HEAD_TIMEOUT / 2));
    loop {
        tokio::select! {
            () = draining.as_mut() => return,
            () = old.as_mut() => return,
            _ = ticks.tick() => {
                if quiet.for_too_long(peer, peer.worker.settings.overload.idle_limit(idle_timeout)) {
                    return;
                }
            }
        }
    }
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

struct Serving<'a, T, F, R> {
    connection: Server<Guarded<T>>,
    streams: Vec<Option<Stream<R>>>,
    free: Vec<usize>,
    /// Once GOAWAY is said: for how long streams are taken that were on their way.
    leaving: Option<Pin<Box<Sleep>>>,
    peer: &'a Rc<Peer>,
    life: &'a Life,
    answer: F,
}

impl<T, F, R> Serving<'_, T, F, R>
where
    T: AsyncRead + AsyncWrite + Unpin,
    F: Fn(Asked) -> R,
    R: Future<Output = Response<ResponseBody>> + Unpin,
{
    /// True: the connection is over.
    fn poll_frames(&mut self, cx: &mut Context<'_>, bells: &mut Bells) -> bool {
        loop {
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok(accepted))) => self.begin(accepted, bells),
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(%error, "a downstream HTTP/2 connection ended");
                    return true;
                }
                Poll::Ready(None) => return true,
                Poll::Pending => return false,
            }
        }
    }

    fn begin(&mut self, accepted: Accepted, bells: &mut Bells) {
        // A busy proxy parts with its clients as it can.
        let overload = &self.peer.worker.settings.overload;
        // Nor can it serve who has no listener any more, for whom a new connection may find one.
        if self.life.on_request() || overload.actions().ends_connections() || self.peer.view().is_none() {
            self.leave(bells);
        }
        let (request, received, respond) = match accepted {
            Accepted::Open(request, received, respond) => (request, received, respond),
            Accepted::TakenBack(request) => return taken_back(self.peer, request),
        };
        let (mut head, mut connect) = (false, None);
        let asked = match request {
            Ok(request) if *request.method() == Method::CONNECT => {
                let (tunnel, opened) = oneshot::channel();
                connect = Some(Connect { received, tunnel });
                Ok(request.map(|()| Inbound::Tunnel(Some(opened))))
            }
            Ok(request) => {
                head = *request.method() == Method::HEAD;
                Ok(request.map(|()| Inbound::H2(Received::new(received))))
            }
            Err(error) => Err(refusal(error)),
        };
        let answer = (self.answer)(asked);
        let stream = Some(Stream { respond: Some(respond), head, connect, state: State::Answering(answer) });
        match self.free.pop().and_then(|index| Some((index, self.streams.get_mut(index)?))) {
            Some((index, place)) => {
                *place = stream;
                bells.ring(FIRST_STREAM + index);
            }
            None => {
                self.streams.push(stream);
                bells.add();
            }
        }
    }

    fn poll_stream(&mut self, index: usize, cx: &mut Context<'_>) {
        let Some(place) = self.streams.get_mut(index) else { return };
        let Some(stream) = place else { return };
        let worker = &self.peer.worker;
        let polled = catch_unwind(AssertUnwindSafe(|| stream.poll(cx, worker)));
        if polled.is_err() {
            stream.on_panic();
        }
        if !matches!(polled, Ok(Poll::Pending)) {
            *place = None;
            self.free.push(index);
        }
    }

    fn leave(&mut self, bells: &Bells) {
        if self.leaving.is_none() {
            self.leaving = Some(Box::pin(sleep(LEAVING_TIME)));
            self.connection.leave();
            bells.ring(FRAMES);
            bells.ring(LEAVE);
        }
    }
}

/// What a head that is none is answered with; malformed ones are reset before anybody sees them.
fn refusal(error: HeadError) -> Refusal {
    match error {
        HeadError::PathTooLong => Refusal::LongTarget,
        HeadError::TooLarge | HeadError::Malformed(_) => Refusal::LongHead,
    }
}

/// One request and its answer.
struct Stream<R> {
    /// Until the answer begins.
    respond: Option<SendHalf>,
    head: bool,
    connect: Option<Connect>,
    state: State<R>,
}

/// What becomes a tunnel if the answer says so.
struct Connect {
    received: ReceiveHalf,
    tunnel: oneshot::Sender<Tunnel<()>>,
}

#[expect(
    clippy::large_enum_variant,
    reason = "places are used again and again; a box would be made for each answer"
)]
enum State<R> {
    Answering(R),
    Sending(Sending),
}

struct Sending {
    body: ResponseBody,
    out: Out,
    /// For how long the client may take nothing.
    limit: Option<Duration>,
    stalled: Option<Watch>,
}

impl<R> Stream<R>
where
    R: Future<Output = Response<ResponseBody>> + Unpin,
{
    fn poll(&mut self, cx: &mut Context<'_>, worker: &Rc<Worker>) -> Poll<()> {
        if let State::Answering(answer) = &mut self.state {
            let Poll::Ready(response) = Pin::new(answer).poll(cx) else {
                // The client may give up.
                let Some(respond) = &mut self.respond else { return Poll::Ready(()) };
                return respond.poll_broken(cx).map(|_| ());
            };
            match self.begin(response) {
                Ok(Some(sending)) => self.state = State::Sending(sending),
                Ok(None) => return Poll::Ready(()),
                Err(error) => {
                    tracing::debug!(%error, "an answer cannot be sent");
                    return Poll::Ready(());
                }
            }
        }
        match &mut self.state {
            State::Sending(sending) => sending.poll(cx, worker),
            State::Answering(_) => Poll::Pending, // left behind above
        }
    }

    #[cold]
    fn on_panic(&mut self) {
        if let State::Sending(sending) = &mut self.state {
            sending.body.on_panic();
            sending.out.reset(Reason::INTERNAL_ERROR);
        }
    }

    /// Sends the head; `None`: no body of ours follows.
    fn begin(&mut self, response: Response<ResponseBody>) -> Result<Option<Sending>, Error> {
        let Some(mut respond) = self.respond.take() else { return Ok(None) };
        let (mut parts, mut body) = response.into_parts();
        if !parts.headers.contains_key(DATE)
            && let Ok(now) = date::with(HeaderValue::from_bytes)
        {
            parts.headers.insert(DATE, now);
        }
        if parts.status.is_success()
            && let Some(connect) = self.connect.take()
        {
            parts.headers.remove(CONTENT_LENGTH);
            respond.answer(parts.status, &parts.headers, false)?;
            // Whoever wanted it has left otherwise, and it is reset.
            let _ = connect.tunnel.send(Tunnel::new(respond, connect.received, ()));
            return Ok(None);
        }
        if !body.is_end_stream()
            && let Some(length) = body.size_hint().exact()
        {
            parts.headers.entry(CONTENT_LENGTH).or_insert_with(|| headers::number(length));
        }
        if self.head {
            body.discard();
        }
        let ended = body.is_end_stream();
        respond.answer(parts.status, &parts.headers, ended)?;
        heads::give_back_map(parts.headers);
        Ok((!ended).then(|| Sending {
            limit: body.quiet_at_most(),
            body,
            out: Out::new(respond),
            stalled: None,
        }))
    }
}

impl Sending {
    fn poll(&mut self, cx: &mut Context<'_>, worker: &Rc<Worker>) -> Poll<()> {
        match self.out.poll(&mut self.body, cx) {
            Ok(Sent::WaitsForBody) => {
                self.stalled = None;
                Poll::Pending
            }
            Ok(Sent::WaitsForPeer) => {
                if let Err(error) = self.body.drive(cx) {
                    tracing::debug!(error, "an answer took too long");
                    self.out.reset(reason_of(&error));
                    return Poll::Ready(());
                }
                let stalled = self.stalled.get_or_insert_with(|| Watch::behind(worker, self.limit));
                if self.out.take_moved() {
                    stalled.on_move();
                }
                match stalled.on_behind(cx, self.out.kept() + self.body.held()) {
                    Behind::Waits => return Poll::Pending,
                    Behind::TooLong => {
                        tracing::debug!("a client takes nothing of its answer any more");
                        self.out.reset(Reason::CANCEL);
                    }
                    Behind::Shed => {
                        worker.settings.overload.on_answer_cut();
                        self.body.shed();
                        self.out.reset(Reason::ENHANCE_YOUR_CALM);
                    }
                }
                Poll::Ready(())
            }
            Ok(Sent::Whole) | Err(Unsent::Stream) => Poll::Ready(()),
            Err(Unsent::Body(error)) => {
                tracing::debug!(error, "an answer broke off");
                self.out.reset(reason_of(&error));
                Poll::Ready(())
            }
        }
    }
}
