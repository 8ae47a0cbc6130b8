//! Accepts connections on one socket of one worker. What is too many is closed here, before a byte is read.

use std::{
    net::{SocketAddr, TcpListener},
    rc::Rc,
    time::{Duration, Instant},
};

use crate::{
    connection,
    handover::Accepted,
    meters,
    net::descriptors::Descriptors,
    overload::connections::Refused,
    worker::{Role, Worker},
};

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
    let overload = &worker.settings.overload;
    let open = overload.listener(address);
    let mut refusing = Refusing::default();
    loop {
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                refusing.say(&worker, address, "accept", &format!("accept failed: {error}"));
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                continue;
            }
        };
        let admitted = match descriptors.may_accept(&stream) {
            true => overload.admit(role, &open, remote),
            false => Err(Refused::Descriptors),
        };
        match admitted {
            Ok(mut slot) => {
                let _ = stream.set_nodelay(true);
                let crew = worker.crew.get();
                match crew.and_then(|crew| crew.choose(&mut slot)) {
                    None => {
                        let serving =
                            connection::serve(Rc::clone(&worker), role, address, stream, remote, slot);
                        tokio::task::spawn_local(serving);
                    }
                    Some(other) => {
                        if let Ok(stream) = stream.into_std() {
                            other.give(Accepted { role, address, stream, remote, slot });
                        }
                    }
                }
            }
            Err(refused) => refusing.say(&worker, address, refused.label(), refused.reason()),
        }
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
    fn say(&mut self, worker: &Worker, address: SocketAddr, label: &'static str, reason: &str) {
        let live = worker.live();
        let listener = live.table().listeners.iter().find(|one| one.address == Some(address));
        if let Some(listener) = listener {
            let counter = meters::refused(&worker.settings.registry, &listener.name, label);
            worker.shard.borrow_mut().add(counter, 1);
        }
        self.unsaid += 1;
        if self.said.is_none_or(|said| said.elapsed() >= SAY_INTERVAL) {
            tracing::warn!(%address, reason, connections = self.unsaid, "connections are refused");
            *self = Refusing { said: Some(Instant::now()), unsaid: 0 };
        }
    }
}
