//! The identity agent: gives the current SVID to local apps by the SPIFFE Workload API and to Envoys by SDS.
//!
//! Both are served on one Unix socket in the state directory, so that private keys never cross the network. Every proxy
//! has it built in; [`run`] is the agent alone, for hosts whose proxy is an Envoy or a gRPC client. It joins as a
//! workload by itself.

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use envoy_types::pb::envoy::{
    config::core::v3::{DataSource, data_source::Specifier},
    extensions::transport_sockets::tls::v3::{CertificateValidationContext, Secret, TlsCertificate, secret},
};
use tokio::{net::UnixListener, sync::watch};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::Server};
use weft_identity::files::create_private_dir;
use weft_xds::{
    Node as XdsNode, Resources,
    server::{Peer, Source, Subscription, secret_service},
};

use crate::{
    certificates::{CertState, Credentials, Identity, IdentityError},
    config::{Control, Node},
    link_client::Link,
    workload_api::WorkloadApi,
    workload_name,
};

/// Names of the secrets, as translated configuration asks for them.
const OWN: &str = "default";
const ROOTS: &str = "ROOTCA";

/// An agent on its own.
pub struct AgentConfig {
    pub node: Node,
    pub control: Control,
    pub state: PathBuf,
    /// Where the neighbour's proxy takes inbound mTLS; 0 when there is none.
    pub inbound_port: u16,
    /// `None`: `agent.sock` in the state directory.
    pub socket: Option<PathBuf>,
    /// Says that this host's workload exists; an agent that only fetches files says no.
    pub join_as_workload: bool,
    pub stop: CancellationToken,
    /// Called when there is a certificate and the socket is open.
    pub on_ready: Option<Box<dyn FnOnce(Ready) + Send>>,
}

/// A running agent.
pub struct Ready {
    pub socket: PathBuf,
    /// Follows each rotation.
    pub identity: watch::Receiver<CertState>,
}

/// Why an agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("the agent's socket {}", path.display())]
    Socket {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the state directory")]
    State(#[from] weft_identity::files::FileError),
}

/// Joins, serves and renews until `stop`.
pub async fn run(config: AgentConfig) -> Result<(), AgentError> {
    create_private_dir(&config.state)?;
    let node = &config.node;
    let identity =
        Identity::open(&config.state, Some(config.control.clone()), &node.namespace, &node.service)?;
    let socket = config.socket.clone().unwrap_or_else(|| config.state.join("agent.sock"));
    let serving = serve(identity.clone(), &socket)?;
    let keeping = tokio::spawn(identity.clone().keep());
    let last_call = CancellationToken::new();
    let link = config.join_as_workload.then(|| Link {
        control: config.control.clone(),
        identity: identity.clone(),
        node: node.clone(),
        workload: workload_name::of(&config.state, node),
        inbound_port: config.inbound_port,
        workers: Vec::new(),
        app: None,
        feed: None,
        leaving: config.stop.clone(),
        last_call: last_call.clone(),
    });
    let linking = link.map(|link| tokio::spawn(link.run()));
    let abort = keeping.abort_handle();
    let ready = async {
        identity.ready().await;
        if let Some(on_ready) = config.on_ready {
            on_ready(Ready { socket: socket.clone(), identity: identity.watch() });
        }
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        ended = keeping => ended.unwrap_or(Ok(())).map_err(AgentError::from),
        () = config.stop.cancelled() => Ok(()),
        () = ready => Ok(()),
    };
    abort.abort();
    last_call.cancel();
    if let Some(linking) = linking {
        let _ = linking.await;
    }
    serving.abort();
    let _ = std::fs::remove_file(&socket);
    ended
}

/// Serves the socket until the task is aborted.
pub fn serve(identity: Identity, path: &Path) -> Result<tokio::task::AbortHandle, AgentError> {
    let explain = |source| AgentError::Socket { path: path.to_owned(), source };
    // A socket file that nobody listens on is left over from a crash.
    if std::os::unix::net::UnixStream::connect(path).is_err() {
        let _ = std::fs::remove_file(path);
    }
    let listener = UnixListener::bind(path).map_err(explain)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(explain)?;
    let secrets = Arc::new(Secrets::new(identity.watch()));
    let server = Server::builder()
        .add_service(WorkloadApi::new(identity.watch()))
        .add_service(secret_service(secrets));
    let task = tokio::spawn(async move {
        if let Err(error) = server.serve_with_incoming(UnixListenerStream::new(listener)).await {
            tracing::error!(%error, "the agent's socket failed");
        }
    });
    Ok(task.abort_handle())
}

/// The SDS side: whoever may open the socket may have the secrets.
struct Secrets {
    resources: watch::Receiver<Arc<Resources>>,
}

impl Secrets {
    fn new(mut identity: watch::Receiver<CertState>) -> Secrets {
        let first = resources(&identity.borrow_and_update());
        let (sender, receiver) = watch::channel(first);
        tokio::spawn(async move {
            while identity.changed().await.is_ok() {
                let next = resources(&identity.borrow_and_update());
                if sender.send(next).is_err() {
                    return;
                }
            }
        });
        Secrets { resources: receiver }
    }
}

impl Source for Secrets {
    fn subscribe(&self, _: &Peer, _: &XdsNode) -> Result<Subscription, Status> {
        Ok(Subscription { resources: self.resources.clone(), report: Box::new(|_| {}) })
    }
}

fn resources(state: &CertState) -> Arc<Resources> {
    let mut builder = Resources::builder();
    if let Some(credentials) = state.credentials() {
        builder.message(OWN, &own_secret(credentials));
        builder.message(ROOTS, &roots_secret(credentials));
    }
    Arc::new(builder.build(""))
}

fn inline(bytes: Vec<u8>) -> Option<DataSource> {
    Some(DataSource { specifier: Some(Specifier::InlineBytes(bytes)), ..DataSource::default() })
}

fn own_secret(credentials: &Credentials) -> Secret {
    let certificate = TlsCertificate {
        certificate_chain: inline(credentials.svid.chain_pem().into_bytes()),
        private_key: inline(credentials.svid.key().to_pem().into_bytes()),
        ..TlsCertificate::default()
    };
    Secret { name: OWN.to_owned(), r#type: Some(secret::Type::TlsCertificate(certificate)) }
}

fn roots_secret(credentials: &Credentials) -> Secret {
    let crl = crl(credentials);
    let context = CertificateValidationContext {
        trusted_ca: inline(credentials.bundle.to_pem().into_bytes()),
        // There is no list of a root's own.
        only_verify_leaf_cert_crl: crl.is_some(),
        crl: crl.and_then(|pem| inline(pem.into_bytes())),
        ..CertificateValidationContext::default()
    };
    Secret { name: ROOTS.to_owned(), r#type: Some(secret::Type::ValidationContext(context)) }
}

/// An Envoy that has lists refuses whoever is certified by a CA without one. So it gets them when somebody is on them,
/// and not while there are other roots, of whose CAs there are none.
fn crl(credentials: &Credentials) -> Option<String> {
    let crl = credentials.bundle.crl().filter(|crl| !crl.is_empty())?;
    (credentials.bundle.roots().len() == 1).then(|| crl.to_pem())
}
