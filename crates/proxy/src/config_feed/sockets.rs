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

use super::{State, datagrams, update::stays};
use crate::{
    net::{Ipv4, Reserved, reserve},
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
            let reserved = reserve(address, Ipv4::of_listener(listener.ipv4_compat), &purpose)
                .map_err(|error| format!("{}: address: {error}", listener.name))?;
            opened.push(reserved);
        }
        self.bind_datagrams(listeners)?;
        self.bound.extend(opened.iter().map(|reserved| reserved.address));
        self.opened.extend(opened);
        Ok(())
    }

    /// The workers have a table with what these are for; their mailboxes keep the order.
    pub(super) fn hand_out_opened(&mut self) {
        let serving = self.table.iter().flat_map(|table| &table.listeners);
        let served: HashSet<SocketAddr> = serving.filter_map(|listener| listener.address).collect();
        let (ready, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.opened)
            .into_iter()
            .partition(|reserved| served.contains(&reserved.address));
        self.opened = waiting;
        for reserved in ready {
            self.hand_out(Role::Configured, reserved);
        }
        self.hand_out_datagrams();
    }

    /// Closes sockets that no listener wants any more.
    pub(super) fn unbind(&mut self) {
        self.unbind_datagrams();
        let wanted: HashSet<SocketAddr> =
            self.wanted_listeners().filter_map(|listener| listener.address).collect();
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

    /// See [`apart`]; those that an update leaves as they are count too.
    pub(super) fn addresses_differ(&self, fresh: &[Arc<Listener>], update: &Update) -> Result<(), String> {
        let stays = stays(update);
        let replaced: HashSet<&str> = fresh.iter().map(|listener| &*listener.name).collect();
        let kept =
            self.staged.listeners.values().filter(|old| stays(&old.name) && !replaced.contains(&*old.name));
        apart(kept.chain(fresh))?;
        self.families_stay(fresh)
    }

    /// A socket that is open takes whom it takes.
    fn families_stay(&self, fresh: &[Arc<Listener>]) -> Result<(), String> {
        let at = |listener: &Listener| (listener.address, listener.udp.as_ref().map(|udp| udp.address));
        for listener in fresh {
            let changes = |old: &Arc<Listener>| {
                at(old) == at(listener) && at(old) != (None, None) && old.ipv4_compat != listener.ipv4_compat
            };
            if self.staged.listeners.values().any(changes) {
                return Err(format!(
                    "{}: address.socket_address.ipv4_compat: cannot change while the address is open; \
                     remove the listener first",
                    listener.name
                ));
            }
        }
        Ok(())
    }
}

/// Two listeners on one address would take each other's connections, or datagrams, by the order of their names.
pub(super) fn apart<'a>(listeners: impl Iterator<Item = &'a Arc<Listener>>) -> Result<(), String> {
    let mut holders: HashMap<(bool, SocketAddr), &str> = HashMap::new();
    for listener in listeners {
        for (is_udp, address) in [(false, listener.address), (true, datagrams::address(listener))] {
            let Some(address) = address else { continue };
            if let Some(holder) = holders.insert((is_udp, address), &listener.name) {
                return Err(format!(
                    "{}: address: {address} is also the address of listener {holder}",
                    listener.name
                ));
            }
        }
    }
    Ok(())
}
