//! The caller's end: what tonic would generate for `weft.link.v1.Link`, by hand.
//!
//! `LinkClient::new(channel)` over any tonic transport; the connection's TLS is the business of who made the
//! channel.

use crate::messages::{Down, JoinRequest, JoinResponse, RenewRequest, Up};
use crate::{MESSAGE_BYTES_MAX, SERVICE_NAME};
use http::uri::PathAndQuery;
use tonic::GrpcMethod;
use tonic::client::{Grpc, GrpcService};
use tonic::codegen::{Body, Bytes, StdError};

/// A client of [`SERVICE_NAME`] over the transport `T`, usually a `tonic::transport::Channel`.
#[derive(Debug, Clone)]
pub struct LinkClient<T> {
    inner: Grpc<T>,
}

impl<T> LinkClient<T>
where
    T: GrpcService<tonic::body::Body>,
    T::Error: Into<StdError>,
    T::ResponseBody: Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as Body>::Error: Into<StdError> + Send,
{
    /// A client over `transport` that decodes messages of up to [`MESSAGE_BYTES_MAX`].
    pub fn new(transport: T) -> LinkClient<T> {
        LinkClient { inner: limited(Grpc::new(transport)) }
    }

    /// Like [`LinkClient::new`], for a transport that doesn't add scheme and authority by itself.
    pub fn with_origin(transport: T, origin: http::Uri) -> LinkClient<T> {
        LinkClient { inner: limited(Grpc::with_origin(transport, origin)) }
    }

    /// Limits the size of a message that this client decodes.
    #[must_use]
    pub fn max_decoding_message_size(mut self, limit: usize) -> Self {
        self.inner = self.inner.max_decoding_message_size(limit);
        self
    }

    /// Limits the size of a message that this client sends.
    #[must_use]
    pub fn max_encoding_message_size(mut self, limit: usize) -> Self {
        self.inner = self.inner.max_encoding_message_size(limit);
        self
    }

    /// First contact: a token and a CSR for a certificate.
    pub async fn join(
        &mut self,
        request: impl tonic::IntoRequest<JoinRequest>,
    ) -> Result<tonic::Response<JoinResponse>, tonic::Status> {
        self.ready().await?;
        let mut request = request.into_request();
        request.extensions_mut().insert(GrpcMethod::new(SERVICE_NAME, "Join"));
        let path = PathAndQuery::from_static("/weft.link.v1.Link/Join");
        self.inner.unary(request, path, tonic_prost::ProstCodec::default()).await
    }

    /// A new certificate for the identity of this connection's certificate.
    pub async fn renew(
        &mut self,
        request: impl tonic::IntoRequest<RenewRequest>,
    ) -> Result<tonic::Response<JoinResponse>, tonic::Status> {
        self.ready().await?;
        let mut request = request.into_request();
        request.extensions_mut().insert(GrpcMethod::new(SERVICE_NAME, "Renew"));
        let path = PathAndQuery::from_static("/weft.link.v1.Link/Renew");
        self.inner.unary(request, path, tonic_prost::ProstCodec::default()).await
    }

    /// The one long stream of a running proxy.
    pub async fn connect(
        &mut self,
        request: impl tonic::IntoStreamingRequest<Message = Up>,
    ) -> Result<tonic::Response<tonic::Streaming<Down>>, tonic::Status> {
        self.ready().await?;
        let mut request = request.into_streaming_request();
        request.extensions_mut().insert(GrpcMethod::new(SERVICE_NAME, "Connect"));
        let path = PathAndQuery::from_static("/weft.link.v1.Link/Connect");
        self.inner.streaming(request, path, tonic_prost::ProstCodec::default()).await
    }

    async fn ready(&mut self) -> Result<(), tonic::Status> {
        // `unavailable`, not tonic's usual `unknown`: the caller tries again with back-off.
        self.inner.ready().await.map_err(|error| {
            tonic::Status::unavailable(format!("link to the control plane: {}", error.into()))
        })
    }
}

fn limited<T>(inner: Grpc<T>) -> Grpc<T> {
    inner.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX)
}
