//! The connect loop: awaits for a [`Session`], decides nothing but when to try again.
//!
//! The connector makes each channel, so TLS and the rotation of identities stay outside: a new
//! attempt takes the newest certificate by asking again. It also owns HTTP/2 keepalive.

use std::convert::Infallible;
use std::fmt::Display;
use std::pin::Pin;
use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

use super::backoff::Backoff;
use super::{Event, Handler, Mode, Request, Response, Session, Subscriptions};
use crate::Node;

/// Requests that may wait for a server that does not read. Far more than one per type means that
/// it is stuck, and the stream is given up.
const REQUESTS_MAX: usize = 256;

#[derive(Clone, Debug)]
pub struct Options {
    /// How long to wait for an answer before [`Event::InitialFetchTimeout`].
    pub initial_fetch_timeout: Duration,
    /// How long the connector may take.
    pub connect_timeout: Duration,
    /// A response that is bigger ends the stream.
    pub response_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            initial_fetch_timeout: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(10),
            response_bytes_max: 64 << 20,
        }
    }
}

type Responses = Pin<Box<dyn Stream<Item = Result<Response, Status>> + Send>>;

/// Keeps one aggregated stream to the server for ever; drop or abort it to stop.
pub async fn run<C, F, E, H>(
    mut connector: C,
    node: Node,
    mode: Mode,
    mut subscriptions: Subscriptions,
    mut handler: H,
    options: Options,
) -> Infallible
where
    C: FnMut() -> F,
    F: Future<Output = Result<Channel, E>>,
    E: Display,
    H: Handler,
{
    let mut session = Session::new(mode, node);
    let mut backoff = Backoff::default();
    loop {
        let connecting = tokio::time::timeout(options.connect_timeout, connector());
        let error = match connecting.await {
            Err(_) => format!("no connection within {:?}", options.connect_timeout),
            Ok(Err(error)) => error.to_string(),
            Ok(Ok(channel)) => {
                let mut stream = Attached {
                    session: &mut session,
                    handler: &mut handler,
                    subscriptions: &mut subscriptions,
                    options: &options,
                    backoff: &mut backoff,
                };
                stream.serve(channel, mode).await
            }
        };
        session.disconnected();
        let retry_in = backoff.failed(fastrand::f64());
        handler.event(Event::Disconnected { error, retry_in });
        tokio::time::sleep(retry_in).await;
    }
}

/// One stream's life.
struct Attached<'a, H> {
    session: &'a mut Session,
    handler: &'a mut H,
    subscriptions: &'a mut Subscriptions,
    options: &'a Options,
    backoff: &'a mut Backoff,
}

impl<H: Handler> Attached<'_, H> {
    /// Returns why it ended.
    async fn serve(&mut self, channel: Channel, mode: Mode) -> String {
        let (requests, outbox) = mpsc::channel(REQUESTS_MAX);
        // In the outbox before the call: some servers send no headers before they have read.
        let _ = self.wishes();
        let mut unsent = self.session.connected();
        let mut responses = open(channel, mode, outbox, self.options.response_bytes_max);
        let mut heard = false;
        let mut wishes_end = false;
        let mut deadline = Some(Instant::now() + self.options.initial_fetch_timeout);
        loop {
            for request in unsent.drain(..) {
                if requests.try_send(request).is_err() {
                    return "the server does not read its requests".to_owned();
                }
            }
            let alarm = deadline.unwrap_or_else(Instant::now);
            tokio::select! {
                response = responses.next() => {
                    let response = match response {
                        Some(Ok(response)) => response,
                        Some(Err(status)) => return format!("{:?}: {}", status.code(), status.message()),
                        None => return "the server ended the stream".to_owned(),
                    };
                    if !heard {
                        heard = true;
                        self.backoff.succeeded();
                        self.handler.event(Event::Connected);
                    }
                    unsent.extend(self.session.on_response(response, self.handler));
                }
                changed = self.subscriptions.0.changed(), if !wishes_end => {
                    wishes_end = changed.is_err();
                    deadline = deadline.or_else(|| Some(Instant::now() + self.options.initial_fetch_timeout));
                }
                () = tokio::time::sleep_until(alarm), if deadline.is_some() => {
                    deadline = None;
                    for (type_url, names) in self.session.missing() {
                        self.handler.event(Event::InitialFetchTimeout { type_url, names });
                    }
                }
            }
            // The handler may just have learnt which names it needs next.
            unsent.extend(self.wishes());
        }
    }

    fn wishes(&mut self) -> Vec<Request> {
        let wanted = self.subscriptions.0.borrow_and_update().clone();
        wanted.into_iter().flat_map(|(type_url, names)| self.session.subscribe(&type_url, names)).collect()
    }
}

/// Both variants as one kind of stream; an error of the call is its first item.
fn open(
    channel: Channel,
    mode: Mode,
    outbox: mpsc::Receiver<Request>,
    response_bytes_max: usize,
) -> Responses {
    let mut client =
        AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(response_bytes_max);
    let outbox = ReceiverStream::new(outbox);
    match mode {
        Mode::Sotw => {
            let outbox = outbox.filter_map(async |request| match request {
                Request::Sotw(request) => Some(request),
                Request::Delta(_) => None,
            });
            let call = async move { client.stream_aggregated_resources(outbox).await };
            Box::pin(
                stream::once(call).map_ok(tonic::Response::into_inner).try_flatten().map_ok(Response::Sotw),
            )
        }
        Mode::Delta => {
            let outbox = outbox.filter_map(async |request| match request {
                Request::Delta(request) => Some(request),
                Request::Sotw(_) => None,
            });
            let call = async move { client.delta_aggregated_resources(outbox).await };
            Box::pin(
                stream::once(call).map_ok(tonic::Response::into_inner).try_flatten().map_ok(Response::Delta),
            )
        }
    }
}
