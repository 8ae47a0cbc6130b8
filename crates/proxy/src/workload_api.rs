//! The SPIFFE Workload API's X.509 part, with its messages written by hand from the published field numbers.
//!
//! A caller must send the metadata `workload.spiffe.io: true`, which a browser cannot: that is the specification's guard
//! against requests forged by a web page.

use std::{
    collections::HashMap,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{Stream, StreamExt};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tonic::{
    Request, Response, Status,
    codegen::{Body, BoxFuture, Service, StdError},
    server::{Grpc, NamedService, ServerStreamingService},
};

use crate::certificates::{CertState, Credentials};

const HEADER: &str = "workload.spiffe.io";

/// `X509SVIDRequest` and `X509BundlesRequest`: both are empty.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Empty {}

#[derive(Clone, PartialEq, prost::Message)]
pub struct X509SvidResponse {
    #[prost(message, repeated, tag = "1")]
    pub svids: Vec<X509Svid>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub crl: Vec<Vec<u8>>,
    #[prost(map = "string, bytes", tag = "3")]
    pub federated_bundles: HashMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct X509Svid {
    #[prost(string, tag = "1")]
    pub spiffe_id: String,
    /// The chain, leaf first, DER one after the other.
    #[prost(bytes = "vec", tag = "2")]
    pub x509_svid: Vec<u8>,
    /// PKCS#8, DER.
    #[prost(bytes = "vec", tag = "3")]
    pub x509_svid_key: Vec<u8>,
    /// The roots, DER one after the other.
    #[prost(bytes = "vec", tag = "4")]
    pub bundle: Vec<u8>,
    #[prost(string, tag = "5")]
    pub hint: String,
}

// By hand, because it holds a private key.
impl std::fmt::Debug for X509Svid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("X509Svid").field("spiffe_id", &self.spiffe_id).finish_non_exhaustive()
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct X509BundlesResponse {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub crl: Vec<Vec<u8>>,
    /// By trust domain id, `spiffe://…`.
    #[prost(map = "string, bytes", tag = "2")]
    pub bundles: HashMap<String, Vec<u8>>,
}

/// The service, as tonic's generator would make it.
#[derive(Clone)]
pub struct WorkloadApi {
    state: watch::Receiver<CertState>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl WorkloadApi {
    pub fn new(state: watch::Receiver<CertState>) -> WorkloadApi {
        WorkloadApi { state }
    }

    /// The answer of now, and one more after each change.
    fn answers<T: Send + 'static>(
        &self,
        request: &Request<Empty>,
        answer: fn(&Credentials) -> T,
    ) -> Result<Response<Answers<T>>, Status> {
        if request.metadata().get(HEADER).is_none_or(|value| value != "true") {
            return Err(Status::invalid_argument("security header missing from request"));
        }
        let changes = WatchStream::new(self.state.clone());
        let answers = changes.filter_map(move |state| {
            let answer = state.credentials().map(|credentials| Ok(answer(credentials)));
            async move { answer }
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

fn svid(credentials: &Credentials) -> X509SvidResponse {
    let svid = &credentials.svid;
    X509SvidResponse {
        svids: vec![X509Svid {
            spiffe_id: svid.id().as_str().to_owned(),
            x509_svid: svid.chain().iter().flat_map(|der| der.iter().copied()).collect(),
            x509_svid_key: svid.key().to_der().secret_der().to_vec(),
            bundle: roots(credentials),
            hint: String::new(),
        }],
        crl: crl(credentials),
        ..X509SvidResponse::default()
    }
}

fn bundles(credentials: &Credentials) -> X509BundlesResponse {
    let id = credentials.bundle.trust_domain().uri();
    X509BundlesResponse { bundles: HashMap::from([(id, roots(credentials))]), crl: crl(credentials) }
}

fn crl(credentials: &Credentials) -> Vec<Vec<u8>> {
    let lists = credentials.bundle.crl().map(|crl| crl.lists()).unwrap_or_default();
    lists.iter().map(|list| list.der.clone()).collect()
}

fn roots(credentials: &Credentials) -> Vec<u8> {
    credentials.bundle.roots().iter().flat_map(|der| der.iter().copied()).collect()
}

impl NamedService for WorkloadApi {
    const NAME: &'static str = "SpiffeWorkloadAPI";
}

impl<B> Service<http::Request<B>> for WorkloadApi
where
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let api = self.clone();
        match request.uri().path() {
            "/SpiffeWorkloadAPI/FetchX509SVID" => Box::pin(async move {
                Ok(Grpc::new(tonic_prost::ProstCodec::default())
                    .server_streaming(FetchSvid(api), request)
                    .await)
            }),
            "/SpiffeWorkloadAPI/FetchX509Bundles" => Box::pin(async move {
                Ok(Grpc::new(tonic_prost::ProstCodec::default())
                    .server_streaming(FetchBundles(api), request)
                    .await)
            }),
            path => {
                let status = Status::unimplemented(format!("only X.509 is served here, not {path}"));
                Box::pin(async move { Ok(status.into_http()) })
            }
        }
    }
}

struct FetchSvid(WorkloadApi);

impl ServerStreamingService<Empty> for FetchSvid {
    type Response = X509SvidResponse;
    type ResponseStream = Answers<X509SvidResponse>;
    type Future = std::future::Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Empty>) -> Self::Future {
        std::future::ready(self.0.answers(&request, svid))
    }
}

struct FetchBundles(WorkloadApi);

impl ServerStreamingService<Empty> for FetchBundles {
    type Response = X509BundlesResponse;
    type ResponseStream = Answers<X509BundlesResponse>;
    type Future = std::future::Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Empty>) -> Self::Future {
        std::future::ready(self.0.answers(&request, bundles))
    }
}
