//! The sockets of listeners of datagrams: as for TCP, opened before the listener is accepted, all or none.

use std::{
    collections::{HashMap, HashSet},
    net::{SocketAddr, UdpSocket},
    sync::Arc,
};

use weft_routing::Listener;

use super::State;
use crate::{
    net::{Ipv4, datagrams},
    worker::Command,
};

/// By address; TCP on the same one is another matter.
#[derive(Default)]
pub(super) struct Datagrams {
    bound: HashSet<SocketAddr>,
    /// Open, and not a worker's yet: no table has their listener.
    opened: Vec<(SocketAddr, UdpSocket)>,
    /// Opened at the start, for listeners to come: what somebody else had taken by then would hold a whole update up.
    pub(super) kept: HashMap<SocketAddr, UdpSocket>,
}

pub(super) fn address(listener: &Listener) -> Option<SocketAddr> {
    listener.udp.as_ref().map(|udp| udp.address)
}

impl State {
    pub(super) fn bind_datagrams(&mut self, listeners: &[Arc<Listener>]) -> Result<(), String> {
        let mut opened: Vec<(SocketAddr, UdpSocket)> = Vec::new();
        let mut kept: Vec<SocketAddr> = Vec::new();
        for listener in listeners {
            let Some(at) = address(listener).filter(|at| !self.datagrams.bound.contains(at)) else {
                continue;
            };
            if self.datagrams.kept.contains_key(&at) {
                kept.push(at);
                continue;
            }
            let socket = datagrams(at, Ipv4::of_listener(listener.ipv4_compat));
            let refused =
                |error| format!("{}: address: cannot take datagrams on {at}: {error}", listener.name);
            opened.push((at, socket.map_err(refused)?));
        }
        opened.extend(kept.into_iter().filter_map(|at| self.datagrams.kept.remove_entry(&at)));
        self.datagrams.bound.extend(opened.iter().map(|(at, _)| *at));
        self.datagrams.opened.extend(opened);
        Ok(())
    }

    pub(super) fn hand_out_datagrams(&mut self) {
        for (address, socket) in std::mem::take(&mut self.datagrams.opened) {
            let next = self.listens % self.workers.len().max(1);
            self.listens += 1;
            if let Some(worker) = self.workers.get(next) {
                worker.send(Command::Receive { address, socket });
            }
        }
    }

    /// Closes sockets that no listener wants any more.
    pub(super) fn unbind_datagrams(&mut self) {
        let wanted: HashSet<SocketAddr> =
            self.wanted_listeners().filter_map(|listener| address(listener)).collect();
        let gone: Vec<SocketAddr> = self.datagrams.bound.difference(&wanted).copied().collect();
        self.datagrams.opened.retain(|(at, _)| wanted.contains(at));
        for address in gone {
            self.datagrams.bound.remove(&address);
            for worker in &self.workers {
                worker.send(Command::Unreceive(address));
            }
        }
    }
}
