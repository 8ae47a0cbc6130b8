//! One source and its endpoint.

use std::{cell::Cell, io::ErrorKind, net::SocketAddr, rc::Rc, sync::Arc, time::Instant};

use rustix::{
    io::Errno,
    net::{SendFlags, send},
};
use tokio::{net::UdpSocket, task::AbortHandle};

use super::{BURST_MAX, Shared, meters::Dropped, place::Place};
use crate::upstream::{cluster::EndpointState, limits::Raised};

/// Ends when it is dropped.
pub struct Session {
    pub cluster: Arc<str>,
    pub endpoint: Rc<EndpointState>,
    state: Rc<State>,
    receiving: AbortHandle,
    /// The endpoint's load, for the balancer.
    _active: Raised,
}

struct State {
    shared: Rc<Shared>,
    socket: UdpSocket,
    _place: Place,
    source: SocketAddr,
    last: Cell<Instant>,
    /// The endpoint's machine said that nobody is there.
    failed: Cell<bool>,
}

impl Session {
    pub fn start(
        shared: Rc<Shared>,
        source: SocketAddr,
        cluster: Arc<str>,
        endpoint: Rc<EndpointState>,
        (socket, place): (UdpSocket, Place),
    ) -> Session {
        {
            let mut shard = shared.worker.shard.borrow_mut();
            shard.add(shared.meters.opened, 1);
            shard.gauge_add(shared.meters.open, 1);
        }
        let last = Cell::new(Instant::now());
        let state = Rc::new(State { shared, socket, _place: place, source, last, failed: Cell::new(false) });
        let receiving = tokio::task::spawn_local(receive(Rc::clone(&state))).abort_handle();
        let active = Raised::new(&endpoint.active);
        Session { cluster, endpoint, state, receiving, _active: active }
    }

    /// When a datagram last went either way.
    pub fn last(&self) -> Instant {
        self.state.last.get()
    }

    pub fn has_failed(&self) -> bool {
        self.state.failed.get()
    }

    pub fn send(&self, datagram: &[u8]) {
        self.state.last.set(Instant::now());
        match send(&self.state.socket, datagram, SendFlags::DONTWAIT) {
            Ok(_) => {}
            Err(error) => {
                self.state.failed.set(self.state.failed.get() || error == Errno::CONNREFUSED);
                self.state.shared.drop_one(Dropped::Send);
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.receiving.abort();
        let shared = &self.state.shared;
        shared.worker.shard.borrow_mut().gauge_add(shared.meters.open, -1);
    }
}

/// Passes the endpoint's datagrams on.
async fn receive(state: Rc<State>) {
    loop {
        if state.socket.readable().await.is_err() {
            state.failed.set(true);
            return;
        }
        for _ in 0..BURST_MAX {
            let mut buffer = state.shared.buffer.borrow_mut();
            match state.socket.try_recv(&mut buffer[..]) {
                Ok(count) => {
                    state.last.set(Instant::now());
                    state.shared.answer(&buffer[..count], state.source);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    state.failed.set(true);
                    return;
                }
            }
        }
        tokio::task::yield_now().await;
    }
}
