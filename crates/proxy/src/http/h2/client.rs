//! A shared connection to an endpoint. It runs in a task of its own; requests hand it their frames.

use std::{
    cell::Cell,
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Method, Response, header::CONTENT_LENGTH, response::Parts};
use http_body::Body as _;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Notify,
};
use weft_wire::http2_guard::Guard;

use super::{
    CONNECTION_WINDOW_BYTES, HEAD_BYTES_MAX, STREAM_WINDOW_BYTES, Settings,
    bells::Bells,
    codec::{Answer, Client, Config, Error, RequestHead, Requests, Role, SendHalf},
    guarded::{self, Guarded, OnFlood},
    keep_alive, still_there,
    streams::{Received, Upload},
};
use crate::{
    http::{
        body::{BodyError, TryBody},
        forward::STREAM_IDLE,
        headers,
        inbound::Inbound,
        interim::OnInterim,
        target::Target,
    },
    tcp::tunnel::Tunnel,
    upstream::pool::Held,
};

/// For the other side's first SETTINGS.
const GREETING_TIMEOUT: Duration = Duration::from_secs(5);

/// What is known of a connection, and how many streams it carries.
pub struct State {
    pub open: Cell<u32>,
    closed: Cell<bool>,
    /// The endpoint's SETTINGS are here, or never will be.
    greeted: Cell<bool>,
    waiting: Notify,
}

impl State {
    fn greet(&self) {
        self.greeted.set(true);
        self.waiting.notify_waiters();
    }
}

/// A handle to a connection.
#[derive(Clone)]
pub struct Sender {
    requests: Requests,
    pub state: Rc<State>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    #[error("HTTP/2: {0}")]
    Http2(#[from] Error),
    /// The client's fault, or a limit of ours.
    #[error("the request's body broke off: {0}")]
    Request(BodyError),
}

/// An exchange without an answer.
#[derive(Debug)]
pub struct Failed {
    pub cause: Cause,
    /// The other side cannot have seen anything of the request.
    pub unsent: bool,
    /// It has said something: a 1xx answer.
    pub heard: bool,
}

/// Speaks HTTP/2 to an endpoint; the connection lives in a task of its own until it ends, and lets go of `held` then.
pub fn open<T>(io: T, settings: &Settings, random: u64, held: Held, on_flood: OnFlood) -> Sender
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let options = &settings.options;
    let (heard, settled) = (Rc::<Cell<bool>>::default(), Rc::<Cell<bool>>::default());
    let came = Rc::clone(&settled);
    let io = Guarded::new(io, Guard::client(guarded::limits(options)), on_flood)
        .on_settings(move || came.set(true))
        .on_read(&heard);
    let codec = Config {
        stream_window: options.stream_window.unwrap_or(STREAM_WINDOW_BYTES),
        connection_window: options.connection_window.unwrap_or(CONNECTION_WINDOW_BYTES),
        head_bytes_max: HEAD_BYTES_MAX,
        ..Config::new(Role::Client)
    };
    let (requests, mut connection) = Client::new(io, codec);
    let state = Rc::new(State {
        open: Cell::new(0),
        closed: Cell::new(false),
        greeted: Cell::new(false),
        waiting: Notify::new(),
    });
    let pings = connection.pings();
    let (interval, limit) = keep_alive(options.keepalive, random);
    let known = Rc::clone(&state);
    tokio::task::spawn_local(async move {
        let watched = Rc::clone(&known);
        let used = move || watched.open.get() > 0;
        let mut gone = pin!(still_there(pings, heard, interval, limit, STREAM_IDLE, used));
        let mut bells = Bells::new(2);
        let ended = poll_fn(|cx| {
            bells.begin(cx);
            while let Some((index, waker)) = bells.next_rung() {
                let cx = &mut Context::from_waker(&waker);
                if index > 0 {
                    if gone.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(Ok(()));
                    }
                } else if let Poll::Ready(ended) = connection.poll_over(cx) {
                    return Poll::Ready(ended);
                } else if settled.take() {
                    known.greet();
                }
            }
            Poll::Pending
        })
        .await;
        if let Err(error) = ended {
            tracing::debug!(%error, "an upstream HTTP/2 connection ended");
        }
        known.closed.set(true);
        known.greet();
        drop(held);
    });
    Sender { requests, state }
}

impl Sender {
    /// It takes no request any more.
    pub fn is_closed(&self) -> bool {
        self.state.closed.get() || self.requests.has_left()
    }

    /// Streams that the other side allows.
    pub fn streams_max(&self) -> u32 {
        self.requests.streams_max()
    }

    /// Whether the other side's SETTINGS are known.
    pub fn is_greeted(&self) -> bool {
        self.state.greeted.get()
    }

    /// Waits for the other side's SETTINGS, within a bound.
    pub async fn greeted(&self) {
        if !self.is_greeted() {
            let _ = tokio::time::timeout(GREETING_TIMEOUT, self.state.waiting.notified()).await;
            self.state.greet(); // nobody waits for it twice
        }
    }

    /// Whether the other side takes extended CONNECTs; waits until it has said so.
    pub async fn takes_extended_connect(&self) -> bool {
        self.greeted().await;
        self.requests.takes_extended_connect()
    }

    /// Sends a request and waits for the answer's final head; those before it go to `on_interim`. Dropped before, it
    /// resets the stream.
    pub async fn exchange(
        &mut self,
        target: &mut Target,
        tls: bool,
        body: TryBody,
        on_interim: OnInterim<'_>,
    ) -> Result<Response<Inbound>, Failed> {
        if let Some(length) = body.size_hint().exact()
            && (length != 0 || [Method::POST, Method::PUT, Method::PATCH].contains(&target.method))
        {
            target.headers.entry(CONTENT_LENGTH).or_insert_with(|| headers::number(length));
        }
        let ended = body.is_end_stream();
        let (mut answer, stream) = self.begin(target.h2_head(tls), ended).await?;
        let mut upload = (!ended).then(|| Upload::new(stream, body));
        let mut heard = false;
        loop {
            let answered = poll_fn(|cx| {
                if let Some(sending) = &mut upload {
                    match sending.poll(cx) {
                        Poll::Pending => {}
                        Poll::Ready(Ok(())) => upload = None,
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(Cause::Request(error))),
                    }
                }
                answer.poll_head(cx).map_err(Cause::Http2)
            })
            .await;
            match answered {
                Ok(head) if head.status().is_informational() => {
                    heard = true;
                    on_interim(head);
                }
                Ok(head) => {
                    let body = Received::of_answer(answer.into_body(), upload);
                    return Ok(head.map(|()| Inbound::H2(body)));
                }
                Err(cause) => return Err(Failed { cause, unsent: answer.is_unwritten(), heard }),
            }
        }
    }

    /// Asks for a tunnel; an endpoint that opens none answers as to any request.
    pub async fn connect<C>(
        &mut self,
        head: RequestHead<'_>,
        counted: C,
    ) -> Result<(Parts, Result<Tunnel<C>, Inbound>), Failed> {
        let (answer, send) = self.begin(head, false).await?;
        let failed = |cause: Error| Failed { cause: cause.into(), unsent: false, heard: false };
        let (head, stream) = answer.whole().await.map_err(failed)?;
        let parts = head.into_parts().0;
        if parts.status.is_success() {
            return Ok((parts, Ok(Tunnel::new(send, stream, counted))));
        }
        let body = Inbound::H2(Received::new(stream));
        Ok((parts, Err(body)))
    }

    async fn begin(&mut self, head: RequestHead<'_>, ended: bool) -> Result<(Answer, SendHalf), Failed> {
        if let Err(error) = poll_fn(|cx| self.requests.poll_ready(cx)).await {
            return Err(Failed { cause: error.into(), unsent: true, heard: false });
        }
        self.requests.open(head, ended).map_err(|error| Failed {
            cause: error.into(),
            unsent: true,
            heard: false,
        })
    }
}
