//! The connections that were seen, by their addresses and ports.

use std::{collections::HashMap, net::SocketAddr};

use crate::{
    hello::ServerHello,
    packet::Segment,
    record::{Counts, Follower, Side},
    scope::{Scope, Target},
    stream::Direction,
};

/// Connections followed at once and in all.
pub const FLOWS_MAX: usize = 65_536;

/// One connection that was seen.
#[derive(Debug, Clone)]
pub struct Flow {
    pub client: SocketAddr,
    pub server: SocketAddr,
    pub target: Target,
    /// What the client sent.
    pub up: Counts,
    /// What the server sent.
    pub down: Counts,
    /// Both beginnings were seen.
    pub from_start: bool,
    pub hello: Option<ServerHello>,
    /// How its plaintext begins, the client's first.
    pub plaintext_head: Vec<u8>,
}

impl Flow {
    /// Of both directions.
    pub fn counts(&self) -> Counts {
        let mut sum = self.up;
        sum.add(&self.down);
        sum
    }
}

#[derive(Debug)]
struct Open {
    client: SocketAddr,
    server: SocketAddr,
    target: Target,
    up: Direction,
    down: Direction,
}

/// Puts packets together to connections.
#[derive(Debug)]
pub struct Table {
    scope: Scope,
    open: HashMap<(SocketAddr, SocketAddr), Open>,
    done: Vec<Flow>,
    /// Bytes of connections beyond [`FLOWS_MAX`].
    untracked: u64,
    seen: u64,
}

impl Table {
    pub fn new(scope: Scope) -> Table {
        Table { scope, open: HashMap::new(), done: Vec::new(), untracked: 0, seen: 0 }
    }

    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Connections so far, and bytes of them as they came by.
    pub fn progress(&self) -> (usize, u64) {
        (self.open.len() + self.done.len(), self.seen)
    }

    /// Takes a segment of any connection; most are none of a hop.
    pub fn on_segment(&mut self, segment: &Segment<'_>) {
        let Some((client, server, target)) = self.ends(segment) else { return };
        let from_client = segment.from == client;
        let fresh = segment.syn && !segment.ack;
        if fresh
            && self.open.get(&(client, server)).is_some_and(|open| open.up.first() != Some(segment.sequence))
        {
            // The same ports again, for another connection.
            self.close((client, server));
        }
        self.seen += segment.payload.len() as u64;
        if !self.open.contains_key(&(client, server)) {
            if self.open.len() + self.done.len() >= FLOWS_MAX {
                self.untracked += segment.payload.len() as u64;
                return;
            }
            // The rest of a connection that is over.
            if segment.payload.is_empty() && !segment.syn {
                return;
            }
        }
        let open = self.open.entry((client, server)).or_insert_with(|| Open {
            client,
            server,
            target,
            up: Direction::new(Side::Client),
            down: Direction::new(Side::Server),
        });
        let direction = if from_client { &mut open.up } else { &mut open.down };
        direction.on_segment(segment.sequence, segment.syn, segment.payload);
    }

    /// The end of the capture: all connections that carried something, and the bytes that were too many to follow.
    pub fn finish(mut self) -> (Scope, Vec<Flow>, u64) {
        let keys: Vec<_> = self.open.keys().copied().collect();
        for key in keys {
            self.close(key);
        }
        self.done.sort_by_key(|flow| (flow.server, flow.client));
        (self.scope, self.done, self.untracked)
    }

    /// Client, server, and what the connection goes to. Where both ends could be the server, a SYN tells.
    fn ends(&self, segment: &Segment<'_>) -> Option<(SocketAddr, SocketAddr, Target)> {
        let (from, to) = (segment.from, segment.to);
        let forth = self.scope.target(from, to).map(|target| (from, to, target));
        let back = self.scope.target(to, from).map(|target| (to, from, target));
        match (forth, back) {
            (Some(forth), Some(back)) => {
                let is_back = self.open.contains_key(&(to, from)) || segment.syn && segment.ack;
                Some(if is_back { back } else { forth })
            }
            (forth, back) => forth.or(back),
        }
    }

    fn close(&mut self, key: (SocketAddr, SocketAddr)) {
        let Some(mut open) = self.open.remove(&key) else { return };
        open.up.finish();
        open.down.finish();
        let of =
            |direction: &Direction| direction.follower().map_or_else(Counts::default, |one| *one.counts());
        let (up, down) = (of(&open.up), of(&open.down));
        if up.seen() + up.lost + down.seen() + down.lost == 0 {
            return; // it carried nothing
        }
        let heads = [&open.up, &open.down].into_iter().filter_map(|direction| direction.follower());
        let plaintext_head = heads.map(Follower::plaintext_head).find(|head| !head.is_empty());
        self.done.push(Flow {
            client: open.client,
            server: open.server,
            target: open.target,
            up,
            down,
            from_start: open.up.first().is_some() && open.down.first().is_some(),
            hello: open.down.follower().and_then(|follower| follower.hellos().server_hello()).copied(),
            plaintext_head: plaintext_head.unwrap_or_default().to_vec(),
        });
    }
}
