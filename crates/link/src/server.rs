//! The serving end: what tonic would generate for `weft.link.v1.Link`, by hand.
//!
//! Who the caller is stands in the request's extensions; the accepting side puts it there from the TLS
//! connection.

use crate::messages::{Down, JoinRequest, JoinResponse, RenewRequest, Up};
use crate::{MESSAGE_BYTES_MAX, SERVICE_NAME};
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::codegen::{Body, BoxFuture, Service, StdError, tokio_stream};
use tonic::server::{Grpc, NamedService, StreamingService, UnaryService};
use tonic::{Request, Response, Status, Streaming};

/// What a control plane must answer.
#[tonic::async_trait]
pub trait LinkService: Send + Sync + 'static {
    /// The answers of [`LinkService::connect`].
    type ConnectStream: tokio_stream::Stream<Item = Result<Down, Status>> + Send + 'static;

    /// First contact: a token and a CSR for a certificate.
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status>;

    /// A new certificate for the identity of the connection's certificate.
    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<JoinResponse>, Status>;

    /// The one long stream of a running proxy.
    async fn connect(&self, request: Request<Streaming<Up>>)
    -> Result<Response<Self::ConnectStream>, Status>;
}

/// Serves a [`LinkService`] as gRPC: to be added to a tonic router, or called as a tower service.
#[derive(Debug)]
pub struct LinkServer<S> {
    inner: Arc<S>,
    decoding_bytes_max: usize,
    encoding_bytes_max: usize,
}

impl<S> LinkServer<S> {
    /// Serves `inner`; messages of more than [`MESSAGE_BYTES_MAX`] are refused.
    pub fn new(inner: S) -> LinkServer<S> {
        LinkServer::from_arc(Arc::new(inner))
    }

    /// Like [`LinkServer::new`], for a service that is shared.
    pub fn from_arc(inner: Arc<S>) -> LinkServer<S> {
        LinkServer { inner, decoding_bytes_max: MESSAGE_BYTES_MAX, encoding_bytes_max: MESSAGE_BYTES_MAX }
    }

    /// Limits the size of a message that this server decodes.
    #[must_use]
    pub fn max_decoding_message_size(mut self, limit: usize) -> Self {
        self.decoding_bytes_max = limit;
        self
    }

    /// Limits the size of a message that this server sends.
    #[must_use]
    pub fn max_encoding_message_size(mut self, limit: usize) -> Self {
        self.encoding_bytes_max = limit;
        self
    }
}

// By hand: `derive` would ask for `S: Clone`.
impl<S> Clone for LinkServer<S> {
    fn clone(&self) -> LinkServer<S> {
        LinkServer { inner: self.inner.clone(), ..*self }
    }
}

impl<S> NamedService for LinkServer<S> {
    const NAME: &'static str = SERVICE_NAME;
}

impl<S, B> Service<http::Request<B>> for LinkServer<S>
where
    S: LinkService,
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let inner = self.inner.clone();
        let (decoding, encoding) = (Some(self.decoding_bytes_max), Some(self.encoding_bytes_max));
        match request.uri().path() {
            "/weft.link.v1.Link/Join" => Box::pin(async move {
                let mut grpc = Grpc::new(tonic_prost::ProstCodec::default())
                    .apply_max_message_size_config(decoding, encoding);
                Ok(grpc.unary(JoinMethod(inner), request).await)
            }),
            "/weft.link.v1.Link/Renew" => Box::pin(async move {
                let mut grpc = Grpc::new(tonic_prost::ProstCodec::default())
                    .apply_max_message_size_config(decoding, encoding);
                Ok(grpc.unary(RenewMethod(inner), request).await)
            }),
            "/weft.link.v1.Link/Connect" => Box::pin(async move {
                let mut grpc = Grpc::new(tonic_prost::ProstCodec::default())
                    .apply_max_message_size_config(decoding, encoding);
                Ok(grpc.streaming(ConnectMethod(inner), request).await)
            }),
            path => {
                let status = Status::unimplemented(format!("{SERVICE_NAME} has no method at {path}"));
                Box::pin(async move { Ok(status.into_http()) })
            }
        }
    }
}

struct JoinMethod<S>(Arc<S>);

impl<S: LinkService> UnaryService<JoinRequest> for JoinMethod<S> {
    type Response = JoinResponse;
    type Future = BoxFuture<Response<JoinResponse>, Status>;

    fn call(&mut self, request: Request<JoinRequest>) -> Self::Future {
        let inner = self.0.clone();
        Box::pin(async move { inner.join(request).await })
    }
}

struct RenewMethod<S>(Arc<S>);

impl<S: LinkService> UnaryService<RenewRequest> for RenewMethod<S> {
    type Response = JoinResponse;
    type Future = BoxFuture<Response<JoinResponse>, Status>;

    fn call(&mut self, request: Request<RenewRequest>) -> Self::Future {
        let inner = self.0.clone();
        Box::pin(async move { inner.renew(request).await })
    }
}

struct ConnectMethod<S>(Arc<S>);

impl<S: LinkService> StreamingService<Up> for ConnectMethod<S> {
    type Response = Down;
    type ResponseStream = S::ConnectStream;
    type Future = BoxFuture<Response<S::ConnectStream>, Status>;

    fn call(&mut self, request: Request<Streaming<Up>>) -> Self::Future {
        let inner = self.0.clone();
        Box::pin(async move { inner.connect(request).await })
    }
}
