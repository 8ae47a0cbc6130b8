//! Accepts connections on one socket of one worker.

use std::{
    net::{SocketAddr, TcpListener},
    rc::Rc,
    time::Duration,
};

use crate::{
    connection,
    worker::{Role, Worker},
};

/// Open connections of one worker; more are refused by closing them.
pub const CONNECTIONS_MAX: usize = 10_000;
/// After running out of file descriptors, accepting again at once would only spin.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);

/// Accepts until it is aborted.
pub async fn accept(worker: Rc<Worker>, role: Role, address: SocketAddr, socket: TcpListener) {
    let listener = match tokio::net::TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%address, %error, "cannot accept connections");
            return;
        }
    };
    loop {
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%address, %error, "accept failed");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                continue;
            }
        };
        if worker.drain(role).connections() >= CONNECTIONS_MAX {
            tracing::warn!(%address, CONNECTIONS_MAX, "a connection is refused: too many are open");
            continue;
        }
        let _ = stream.set_nodelay(true);
        tokio::task::spawn_local(connection::serve(Rc::clone(&worker), role, address, stream, remote));
    }
}
