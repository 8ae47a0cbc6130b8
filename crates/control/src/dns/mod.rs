//! DNS for the names of the mesh: `NAME.NAMESPACE.mesh.internal`, over UDP and TCP on one port.
//!
//! [`zone`] answers from the newest snapshot, without waiting; other names go to the machine's own
//! resolvers by [`upstream`], for callers on private networks only (an open resolver is a weapon).
//! [`message`] turns a packet into an answer or nothing, [`listen`] owns the sockets.
//!
//! Not here: names of hosts that an ExternalService lists (they resolve upstream, the proxy captures
//! them by name), DNSSEC, zone transfers.

mod listen;
mod message;
#[cfg(test)]
mod tests;
mod upstream;
mod zone;

use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::snapshot::Snapshot;
use message::Answerer;
use upstream::Upstream;

/// Serves DNS on two bound sockets of one port until `shutdown`.
pub fn serve(
    snapshot: watch::Receiver<Arc<Snapshot>>,
    tcp: TcpListener,
    udp: UdpSocket,
    shutdown: CancellationToken,
) -> anyhow::Result<JoinHandle<()>> {
    let answerer = Arc::new(Answerer { snapshot, upstream: Upstream::system() });
    listen::start(answerer, tcp, udp, shutdown)
}
