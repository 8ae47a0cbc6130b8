//! Which connections are hops: where it must not be possible to read along.
//!
//! - to a member's inbound port, which is its proxy's, whoever calls;
//! - to the control plane's port for proxies;
//! - from one member's address to the port of an app at another's: around the proxies.
//!
//! An app and its own proxy talk within one address, or on a loopback address that is no member's, and to other ports
//! than these. That is no hop.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};

/// What the control plane is called among services.
pub const CONTROL: &str = "control plane";

/// A running instance, as the control plane has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// `NS/WORKLOAD`.
    pub name: String,
    /// `NS/SERVICE`.
    pub service: String,
    pub address: IpAddr,
    /// Its proxy's; without one, it takes nothing of members.
    pub inbound_port: Option<u16>,
    /// Its app's.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// weft, envoy or grpc.
    #[serde(default)]
    pub kind: String,
}

/// What a hop goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The proxy of this member.
    Inbound(usize),
    /// The app of this member.
    App(usize),
    Control,
}

/// The members of a mesh, by address.
#[derive(Debug)]
pub struct Scope {
    members: Vec<Member>,
    inbound: HashMap<SocketAddr, usize>,
    apps: HashMap<SocketAddr, usize>,
    addresses: HashSet<IpAddr>,
    /// Unspecified: any address.
    control: Option<SocketAddr>,
}

impl Scope {
    pub fn new(members: Vec<Member>, control: Option<SocketAddr>) -> Scope {
        let mut scope = Scope {
            inbound: HashMap::new(),
            apps: HashMap::new(),
            addresses: HashSet::new(),
            control: control.map(|at| SocketAddr::new(at.ip().to_canonical(), at.port())),
            members: Vec::new(),
        };
        for (index, member) in members.iter().enumerate() {
            let address = member.address.to_canonical();
            scope.addresses.insert(address);
            if let Some(port) = member.inbound_port {
                scope.inbound.insert(SocketAddr::new(address, port), index);
            }
            for port in &member.ports {
                scope.apps.insert(SocketAddr::new(address, *port), index);
            }
        }
        scope.members = members;
        scope
    }

    pub fn members(&self) -> &[Member] {
        &self.members
    }

    pub fn member(&self, target: Target) -> Option<&Member> {
        match target {
            Target::Inbound(index) | Target::App(index) => self.members.get(index),
            Target::Control => None,
        }
    }

    /// What a connection from `client` to `server` goes to, if it is a hop.
    pub fn target(&self, client: SocketAddr, server: SocketAddr) -> Option<Target> {
        if let Some(index) = self.inbound.get(&server) {
            return Some(Target::Inbound(*index));
        }
        if let Some(control) = self.control
            && control.port() == server.port()
            && (control.ip().is_unspecified() || control.ip() == server.ip())
        {
            return Some(Target::Control);
        }
        let between = client.ip() != server.ip() && self.addresses.contains(&client.ip());
        self.apps.get(&server).filter(|_| between).map(|index| Target::App(*index))
    }

    /// The ports that hops go to, in order: other packets need not be looked at.
    pub fn ports(&self) -> Vec<u16> {
        let all = self.inbound.keys().chain(self.apps.keys()).map(SocketAddr::port);
        let mut ports: Vec<u16> = all.chain(self.control.map(|at| at.port())).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }
}
