//! The streams: awaits for a [`Session`], decides nothing.
//!
//! One task per stream. It sends one response at a time through a channel of one, so a slow
//! reader makes the task wait; meanwhile the watch keeps only the newest snapshot, and the
//! session goes straight to that one. A reader who takes nothing for [`SEND_MAX`] is cut off.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_server::{
    SecretDiscoveryService, SecretDiscoveryServiceServer,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Extensions, Request, Response, Status, Streaming};

use super::session::Violation;
use super::{Out, Peer, Push, Report, ReportSink, Session, Source, Subscription};
use crate::client::Mode;
use crate::{Node, types};

/// A first delta request after a reconnect names every resource that the client holds.
const REQUEST_BYTES_MAX: usize = 32 << 20;
/// How long a client may leave a response unread.
const SEND_MAX: Duration = Duration::from_secs(30);
/// How long a client may take for its first message.
const FIRST_REQUEST_MAX: Duration = Duration::from_secs(15);

/// `AggregatedDiscoveryService`, both variants, as a tonic service.
pub fn service(source: Arc<dyn Source>) -> AggregatedDiscoveryServiceServer<Discovery> {
    AggregatedDiscoveryServiceServer::new(Discovery { source }).max_decoding_message_size(REQUEST_BYTES_MAX)
}

/// `SecretDiscoveryService`, both variants and fetch, as a tonic service.
pub fn secret_service(source: Arc<dyn Source>) -> SecretDiscoveryServiceServer<Discovery> {
    SecretDiscoveryServiceServer::new(Discovery { source }).max_decoding_message_size(REQUEST_BYTES_MAX)
}

/// Implements the generated services over a [`Source`].
pub struct Discovery {
    source: Arc<dyn Source>,
}

type Responses<M> = ReceiverStream<Result<M, Status>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Discovery {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Ok(self.start(request, None))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        Ok(self.start(request, None))
    }
}

#[tonic::async_trait]
impl SecretDiscoveryService for Discovery {
    type StreamSecretsStream = Responses<DiscoveryResponse>;
    type DeltaSecretsStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        Ok(self.start(request, Some(types::SDS)))
    }

    async fn delta_secrets(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Ok(self.start(request, Some(types::SDS)))
    }

    async fn fetch_secrets(
        &self,
        request: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        let peer = peer(request.extensions());
        let mut request = request.into_inner();
        let subscription = self.source.subscribe(&peer, &request.node.take().unwrap_or_default())?;
        let snapshot = Arc::clone(&subscription.resources.borrow());
        let out = Session::new(Mode::Sotw, snapshot).only(types::SDS).on_request(request)?;
        let push = out.into_iter().find_map(|out| match out {
            Out::Send(push) => Some(push),
            Out::Report(_) => None,
        });
        match push {
            Some(push) => Ok(Response::new(push.into_sotw())),
            None => Err(Status::not_found("none of the secrets asked for exists")),
        }
    }
}

impl Discovery {
    fn start<R: Variant>(
        &self,
        request: Request<Streaming<R>>,
        only: Option<&'static str>,
    ) -> Response<Responses<R::Response>> {
        let (responses, receiver) = mpsc::channel(1);
        let stream =
            Stream { source: Arc::clone(&self.source), peer: peer(request.extensions()), only, responses };
        // Ends by itself: with the request stream, with the response stream's receiver, or with
        // the source's sender. Errors travel to the client as the stream's last item.
        tokio::spawn(stream.run(request.into_inner()));
        Response::new(ReceiverStream::new(receiver))
    }
}

fn peer(extensions: &Extensions) -> Peer {
    extensions.get::<Peer>().cloned().unwrap_or_default()
}

/// What differs between the protocol's variants, for the task that serves them.
trait Variant: Send + Sized + 'static {
    const MODE: Mode;
    type Response: Send + 'static;
    fn take_node(&mut self) -> Node;
    fn offer(self, session: &mut Session) -> Result<Vec<Out>, Violation>;
    fn response(push: Push) -> Self::Response;
}

impl Variant for DiscoveryRequest {
    const MODE: Mode = Mode::Sotw;
    type Response = DiscoveryResponse;
    fn take_node(&mut self) -> Node {
        self.node.take().unwrap_or_default()
    }
    fn offer(self, session: &mut Session) -> Result<Vec<Out>, Violation> {
        session.on_request(self)
    }
    fn response(push: Push) -> DiscoveryResponse {
        push.into_sotw()
    }
}

impl Variant for DeltaDiscoveryRequest {
    const MODE: Mode = Mode::Delta;
    type Response = DeltaDiscoveryResponse;
    fn take_node(&mut self) -> Node {
        self.node.take().unwrap_or_default()
    }
    fn offer(self, session: &mut Session) -> Result<Vec<Out>, Violation> {
        session.on_delta(self)
    }
    fn response(push: Push) -> DeltaDiscoveryResponse {
        push.into_delta()
    }
}

struct Stream<M> {
    source: Arc<dyn Source>,
    peer: Peer,
    only: Option<&'static str>,
    responses: mpsc::Sender<Result<M, Status>>,
}

impl<M: Send + 'static> Stream<M> {
    async fn run<R: Variant<Response = M>>(self, mut requests: Streaming<R>) {
        if let Err(status) = self.serve(&mut requests).await {
            tracing::debug!(peer = self.peer.0, %status, "xds stream ends");
            let last_word = self.responses.send(Err(status));
            // Nobody may be reading any more; then the stream is cut by dropping the sender.
            let _ = tokio::time::timeout(Duration::from_secs(1), last_word).await;
        }
    }

    async fn serve<R: Variant<Response = M>>(&self, requests: &mut Streaming<R>) -> Result<(), Status> {
        let first = tokio::time::timeout(FIRST_REQUEST_MAX, requests.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no discovery request came"))??;
        let Some(mut first) = first else {
            return Ok(());
        };
        let Subscription { mut resources, report } = self.source.subscribe(&self.peer, &first.take_node())?;
        let report = ClosedOnDrop(report);
        let snapshot = Arc::clone(&resources.borrow_and_update());
        let mut session = Session::new(R::MODE, snapshot);
        if let Some(only) = self.only {
            session = session.only(only);
        }
        self.carry_out::<R>(first.offer(&mut session)?, &report).await?;
        loop {
            let out = tokio::select! {
                () = self.responses.closed() => return Ok(()),
                request = requests.message() => match request? {
                    Some(request) => request.offer(&mut session)?,
                    None => return Ok(()),
                },
                changed = resources.changed() => {
                    changed.map_err(|_| Status::unavailable("the control plane ends this stream; connect again"))?;
                    let snapshot = Arc::clone(&resources.borrow_and_update());
                    session.update(snapshot)
                }
            };
            self.carry_out::<R>(out, &report).await?;
        }
    }

    async fn carry_out<R: Variant<Response = M>>(
        &self,
        out: Vec<Out>,
        report: &ClosedOnDrop,
    ) -> Result<(), Status> {
        for out in out {
            match out {
                Out::Report(heard) => report.0.report(heard),
                Out::Send(push) => {
                    let room = tokio::time::timeout(SEND_MAX, self.responses.reserve())
                        .await
                        .map_err(|_| Status::deadline_exceeded("the client does not read its responses"))?
                        .map_err(|_| Status::cancelled("the client went away"))?;
                    room.send(Ok(R::response(push)));
                }
            }
        }
        Ok(())
    }
}

/// However the stream ends, its source hears of it.
struct ClosedOnDrop(Box<dyn ReportSink>);

impl Drop for ClosedOnDrop {
    fn drop(&mut self) {
        self.0.report(Report::Closed);
    }
}

impl From<Violation> for Status {
    fn from(violation: Violation) -> Self {
        let code = match violation {
            Violation::NoType | Violation::OtherType { .. } => Code::InvalidArgument,
            Violation::TooManyTypes | Violation::TooManyNames { .. } => Code::ResourceExhausted,
        };
        Status::new(code, violation.to_string())
    }
}
