//! The listeners' sockets: opened before a listener is accepted, handed to the workers after the first table that has
//! it, each to one of them, closed when none wants them any more. Who connects in between waits in the kernel's backlog: a worker that
//! accepts without knowing the listener could only close.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
};

use weft_routing::Listener;
use weft_xds::client::Update;

use super::{State, update::stays};
use crate::{
    net::{Reserved, reserve},
    worker::{Command, Role},
};

impl State {
    pub(super) fn hand_out(&mut self, role: Role, reserved: Reserved) {
        let Reserved { address, socket } = reserved;
        self.bound.insert(address);
        // One after the other: a worker that is busy with accepting has its own share of the sockets only.
        let next = self.listens % self.workers.len().max(1);
        self.listens += 1;
        if let Some(worker) = self.workers.get(next) {
            worker.send(Command::Listen { role, address, socket });
        }
    }

    /// Opens the sockets of new listeners, all or none.
    pub(super) fn bind(&mut self, listeners: &[Arc<Listener>]) -> Result<(), String> {
        let mut opened: Vec<Reserved> = Vec::new();
        for listener in listeners.iter().filter(|listener| listener.bind_to_port) {
            let Some(address) = listener.address else { continue };
            if self.bound.contains(&address) || opened.iter().any(|reserved| reserved.address == address) {
                continue;
            }
            let purpose = format!("listener {}", listener.name);
            let reserved =
                reserve(address, &purpose).map_err(|error| format!("{}: address: {error}", listener.name))?;
            opened.push(reserved);
        }
        self.bind_datagrams(listeners)?;
        self.bound.extend(opened.iter().map(|reserved| reserved.address));
        self.opened.extend(opened);
        Ok(())
    }

    /// The workers have a table with what these are for; their mailboxes keep the order.
    pub(super) fn hand_out_opened(&mut self) {
        for reserved in std::mem::take(&mut self.opened) {
            self.hand_out(Role::Configured, reserved);
        }
        self.hand_out_datagrams();
    }

    /// Closes sockets that no listener wants any more.
    pub(super) fn unbind(&mut self) {
        self.unbind_datagrams();
        let wanted: HashSet<SocketAddr> =
            self.staged.listeners.values().filter_map(|listener| listener.address).collect();
        let gone: Vec<SocketAddr> = self
            .bound
            .iter()
            .filter(|address| !wanted.contains(address) && !self.permanent.contains(address))
            .copied()
            .collect();
        self.opened.retain(|reserved| !gone.contains(&reserved.address));
        for address in gone {
            self.bound.remove(&address);
            for worker in &self.workers {
                worker.send(Command::Unlisten(address));
            }
        }
    }

    /// Two listeners on one address would take each other's connections by the order of their names.
    pub(super) fn addresses_differ(&self, fresh: &[Arc<Listener>], update: &Update) -> Result<(), String> {
        let stays = stays(update);
        let replaced: HashSet<&str> = fresh.iter().map(|listener| &*listener.name).collect();
        let kept =
            self.staged.listeners.values().filter(|old| stays(&old.name) && !replaced.contains(&*old.name));
        let mut holders: HashMap<SocketAddr, &str> = HashMap::new();
        for listener in kept.chain(fresh) {
            let Some(address) = listener.address else { continue };
            if let Some(holder) = holders.insert(address, &listener.name) {
                return Err(format!(
                    "{}: address: {address} is also the address of listener {holder}",
                    listener.name
                ));
            }
        }
        self.datagram_addresses_differ(fresh, update)
    }
}
