//! The API: Kubernetes' own shape over the mesh's objects, on one TCP port and a Unix socket.
//!
//! [`serve`] opens the socket and the port; [`listen`] tells TLS from plain by the first byte;
//! [`gate`] lets in who may come in, by the table in [`access`], and [`audit`] remembers; [`routes`] reads the path and the verb; [`objects`] reads and
//! writes the store. The questions under `/query/v1` are another part's router behind the same gate.
//!
//! Not here: the console.

mod access;
pub mod audit;
mod auth;
mod certificate;
mod computed;
mod discovery;
mod gate;
mod guesses;
mod identities;
mod kubeconfig;
mod listen;
mod managed;
mod objects;
mod openapi;
mod pages;
mod patch;
mod protobuf;
mod routes;
mod selector;
mod stamp;
mod status;
mod table;
mod target;
#[cfg(test)]
mod tests;
mod users;
mod watch;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context as _;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use weft_store::Store;

use crate::core::Core;
use audit::Audit;
use auth::Auth;
use certificate::ServingCertificate;
use computed::Sight;
use guesses::Guesses;
use objects::Objects;
use pages::Pages;
use users::Users;

/// The Unix socket's name in the state directory.
pub const SOCKET_FILE: &str = "control.sock";

/// What the API needs of the control plane.
pub(crate) struct Parts {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) state: PathBuf,
    pub(crate) advertise: Option<IpAddr>,
    pub(crate) trust_domain: String,
    pub(crate) audit: Arc<Audit>,
    /// The questions, under `/query/v1`.
    pub(crate) query: axum::Router,
    pub(crate) sight: Sight,
}

/// All that answering a request takes.
pub(crate) struct Api {
    objects: Objects,
    pages: Pages,
    sight: Arc<Sight>,
    auth: Auth,
    guesses: Guesses,
    users: Users,
    audit: Arc<Audit>,
    state: PathBuf,
    certificate: ServingCertificate,
    query: axum::Router,
    /// The address to tell clients, for discovery.
    address: SocketAddr,
    shutdown: CancellationToken,
}

/// Serves the API on a bound listener and on `STATE/control.sock` until `shutdown`; writes
/// `STATE/admin.token` and `STATE/kubeconfig`. The task ends when the last connection has.
pub fn serve(
    core: &Arc<Core>,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> anyhow::Result<JoinHandle<()>> {
    let parts = Parts {
        store: core.store.clone(),
        state: core.config.state.clone(),
        advertise: core.config.advertise,
        trust_domain: core.trust_domain.clone(),
        audit: core.audit.clone(),
        query: crate::query::router(core.clone()),
        sight: Sight {
            snapshot: core.snapshot.clone(),
            more: Box::new({
                let views = core.views.clone();
                move || views.findings()
            }),
        },
    };
    serve_parts(parts, listener, shutdown)
}

pub(crate) fn serve_parts(
    parts: Parts,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> anyhow::Result<JoinHandle<()>> {
    let address = listener.local_addr().context("the API's own address")?;
    let names = own_names(address, parts.advertise);
    let certificate = ServingCertificate::load(&parts.state, names.clone(), SystemTime::now())?;
    let auth = Auth::load(&parts.state, names)?;
    kubeconfig::write(&parts.state, &server_url(address), certificate.ca_pem(), auth.token())?;
    let api = Arc::new(Api {
        users: Users { store: parts.store.clone() },
        state: parts.state.clone(),
        objects: Objects { store: parts.store, trust_domain: parts.trust_domain },
        pages: Pages::default(),
        sight: Arc::new(parts.sight),
        auth,
        guesses: Guesses::default(),
        audit: parts.audit,
        certificate,
        query: parts.query,
        address,
        shutdown,
    });
    listen::start(api, listener, &socket_path(&parts.state))
}

/// Where the owner's socket is.
pub fn socket_path(state: &Path) -> PathBuf {
    state.join(SOCKET_FILE)
}

/// The names and addresses that clients may call us by.
fn own_names(bound: SocketAddr, advertise: Option<IpAddr>) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let bound = Some(bound.ip()).filter(|ip| !ip.is_unspecified());
    for address in bound.into_iter().chain(advertise) {
        let name = address.to_string();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// How a client on this machine reaches the port.
fn server_url(bound: SocketAddr) -> String {
    let ip = match bound.ip() {
        ip if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        ip => ip,
    };
    format!("https://{}", SocketAddr::new(ip, bound.port()))
}
