//! The other side of the local socket: what `weft identity fetch` uses to get an SVID as files.

use std::path::Path;

use hyper_util::rt::TokioIo;
use tonic::{
    Request, Status, Streaming,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint, Uri},
};

use weft_identity::pem::{encode, encode_certificates, split_concatenated};

use crate::workload_api::{Empty, X509SvidResponse};

/// One SVID as the files that other programs read.
pub struct Fetched {
    pub id: String,
    pub chain_pem: String,
    pub key_pem: String,
    pub bundle_pem: String,
}

/// Why nothing could be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("connect to the agent's socket {path}; is `weft agent` or `weft proxy` running?")]
    Connect {
        path: String,
        #[source]
        source: tonic::transport::Error,
    },
    #[error("the agent refused: {0}")]
    Refused(#[source] Box<Status>),
    #[error("the agent's answer: {0}")]
    Malformed(&'static str),
}

/// The agent's answers: one now, one after each renewal.
pub struct Answers(Streaming<X509SvidResponse>);

/// Asks the agent behind `socket` for this workload's SVID.
pub async fn fetch(socket: &Path) -> Result<Answers, FetchError> {
    let path = socket.to_owned();
    let connect = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
    });
    // The name is not used: the socket's path is the address.
    let channel: Channel = Endpoint::from_static("http://agent")
        .connect_with_connector(connect)
        .await
        .map_err(|source| FetchError::Connect { path: socket.display().to_string(), source })?;
    let mut grpc = tonic::client::Grpc::new(channel);
    let refused = |status| FetchError::Refused(Box::new(status));
    grpc.ready()
        .await
        .map_err(|source| FetchError::Connect { path: socket.display().to_string(), source })?;
    let mut request = Request::new(Empty {});
    request.metadata_mut().insert("workload.spiffe.io", tonic::metadata::MetadataValue::from_static("true"));
    let codec = tonic_prost::ProstCodec::<Empty, X509SvidResponse>::default();
    let path = PathAndQuery::from_static("/SpiffeWorkloadAPI/FetchX509SVID");
    let answer = grpc.server_streaming(request, path, codec).await.map_err(refused)?;
    Ok(Answers(answer.into_inner()))
}

impl Answers {
    /// The next SVID; `None` when the agent has ended.
    pub async fn next(&mut self) -> Result<Option<Fetched>, FetchError> {
        let Some(answer) = self.0.message().await.map_err(|status| FetchError::Refused(Box::new(status)))?
        else {
            return Ok(None);
        };
        let svid = answer.svids.into_iter().next().ok_or(FetchError::Malformed("it holds no SVID"))?;
        let pem = |der: &[u8], broken| {
            let certificates = split_concatenated(der).ok_or(FetchError::Malformed(broken))?;
            Ok(encode_certificates(&certificates))
        };
        Ok(Some(Fetched {
            id: svid.spiffe_id,
            chain_pem: pem(&svid.x509_svid, "a broken chain")?,
            key_pem: encode("PRIVATE KEY", &svid.x509_svid_key),
            bundle_pem: pem(&svid.bundle, "a broken bundle")?,
        }))
    }
}
