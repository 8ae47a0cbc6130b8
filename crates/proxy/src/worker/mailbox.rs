//! A worker's mailbox, and [`Command`]: all that can reach a worker.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use weft_telemetry::{Increment, Snapshot};

use crate::{
    certificates::Credentials,
    handover::{Accepted, Crew, Load},
    live::Published,
};

/// All that can reach a worker.
pub enum Command {
    /// A new table; old ones die with their last request.
    Table(Arc<Published>),
    Credentials(Arc<Credentials>),
    /// What the active health check found for an endpoint.
    Health {
        cluster: Arc<str>,
        address: SocketAddr,
        healthy: bool,
    },
    /// Accept on this socket.
    Listen {
        role: Role,
        address: SocketAddr,
        socket: TcpListener,
    },
    /// Take datagrams from this socket.
    Receive {
        address: SocketAddr,
        socket: std::net::UdpSocket,
    },
    /// Close the socket for datagrams of this address.
    Unreceive(SocketAddr),
    /// Serve what another worker has accepted.
    Serve(Box<Accepted>),
    /// Close the socket of this address.
    Unlisten(SocketAddr),
    /// Refuse new connections of that side, let the open ones finish.
    Drain(Direction),
    /// Copies of the counters, and what the window gained since it was last asked.
    Scrape(oneshot::Sender<Snapshot>),
    TakeWindow(oneshot::Sender<Vec<Increment>>),
    /// How much of that side is open, connections and tunnels, for the drain.
    Connections(Direction, oneshot::Sender<usize>),
    /// Said once, before anything else, where there are several workers.
    Crew(Crew),
    Stop,
}

/// Which side of the app a connection is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Requests to our own app; they are measured here, and drained first.
    Inbound,
    /// The app's own requests; they work until the last inbound one has ended.
    Outbound,
}

/// What a socket is for, before the first table says more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Outbound,
    Inbound,
    Configured,
}

impl Role {
    pub(super) fn direction(self) -> Direction {
        match self {
            Role::Inbound | Role::Configured => Direction::Inbound,
            Role::Outbound => Direction::Outbound,
        }
    }
}

/// The other end of a worker's mailbox.
#[derive(Clone)]
pub struct Mailbox {
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) failing: CancellationToken,
    pub(super) load: Arc<Load>,
}

impl Mailbox {
    pub fn load(&self) -> &Arc<Load> {
        &self.load
    }

    /// Fails only when the worker has ended; then there is nobody left to tell.
    pub fn send(&self, command: Command) {
        let _ = self.commands.send(command);
    }

    /// Waits until the worker panics too often to be trusted.
    pub async fn failing(&self) {
        self.failing.cancelled().await;
    }
}

/// Waits until one of the workers is [`Mailbox::failing`].
pub async fn any_failing(workers: &[Mailbox]) {
    let failing = workers.iter().map(|worker| Box::pin(worker.failing()));
    futures_util::future::select_all(failing).await;
}
