//! Accepts connections on one socket of one worker.

use std::{
    net::{SocketAddr, TcpListener},
    rc::Rc,
    time::{Duration, Instant},
};

use crate::{
    connection,
    net::descriptors::Descriptors,
    worker::{Role, Worker},
};

/// Open connections of one worker; more are refused by closing them.
pub const CONNECTIONS_MAX: usize = 10_000;
/// After running out of file descriptors, accepting again at once would only spin.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);
const SAY_INTERVAL: Duration = Duration::from_secs(1);

/// Accepts until it is aborted.
pub async fn accept(worker: Rc<Worker>, role: Role, address: SocketAddr, socket: TcpListener) {
    let listener = match tokio::net::TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%address, %error, "cannot accept connections");
            return;
        }
    };
    let descriptors = Descriptors::of_process();
    let mut refusing = Refusing::default();
    loop {
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                refusing.say(&worker, address, &format!("accept failed: {error}"));
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                continue;
            }
        };
        if !descriptors.may_accept(&stream) {
            refusing.say(&worker, address, "the process has no file descriptors to spare");
            continue;
        }
        if worker.drain(role).connections() >= CONNECTIONS_MAX {
            refusing.say(&worker, address, "too many are open");
            continue;
        }
        let _ = stream.set_nodelay(true);
        tokio::task::spawn_local(connection::serve(Rc::clone(&worker), role, address, stream, remote));
    }
}

/// Counts connections that are closed at once, and says so now and then: a flood must not become one of lines.
#[derive(Default)]
struct Refusing {
    said: Option<Instant>,
    unsaid: u64,
}

impl Refusing {
    #[cold]
    fn say(&mut self, worker: &Worker, address: SocketAddr, reason: &str) {
        let live = worker.live();
        let listener = live.table().listeners.iter().find(|one| one.address == Some(address));
        if let Some(meters) = listener.and_then(|listener| live.meters(&listener.name)) {
            worker.shard.borrow_mut().add(meters.refused, 1);
        }
        self.unsaid += 1;
        if self.said.is_none_or(|said| said.elapsed() >= SAY_INTERVAL) {
            tracing::warn!(%address, reason, connections = self.unsaid, "connections are refused");
            *self = Refusing { said: Some(Instant::now()), unsaid: 0 };
        }
    }
}
