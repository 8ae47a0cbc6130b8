use std::net::SocketAddr;

use weft_proof::record::Side;
use weft_proof::scope::Target;
use weft_proof::{Flow, Member, Scope, Segment, Table};

use crate::talk::{Kind, Talk};

pub fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub fn member(name: &str, service: &str, address: &str) -> Member {
    Member {
        name: name.to_owned(),
        service: service.to_owned(),
        address: address.parse().unwrap(),
        inbound_port: Some(15006),
        ports: vec![8080],
        kind: "weft".to_owned(),
    }
}

pub fn scope() -> Scope {
    let members = vec![
        member("default/fe-1", "default/fe", "10.0.0.1"),
        member("default/be1-1", "default/be1", "10.0.0.2"),
        member("default/be2-1", "default/be2", "fd00::2"),
    ];
    Scope::new(members, Some(at("0.0.0.0:7701")))
}

pub const FE: &str = "10.0.0.1:40000";
pub const BE1: &str = "10.0.0.2:15006";

/// The segments of a connection, from its SYN on.
pub struct Wire {
    client: SocketAddr,
    server: SocketAddr,
    next: [u32; 2],
}

impl Wire {
    pub fn open(table: &mut Table, client: &str, server: &str) -> Wire {
        let mut wire = Wire::late(client, server);
        wire.send(table, Side::Client, true, &[]);
        wire.send(table, Side::Server, true, &[]);
        wire
    }

    /// One whose beginning nobody saw.
    pub fn late(client: &str, server: &str) -> Wire {
        Wire { client: at(client), server: at(server), next: [u32::MAX - 100, 77] }
    }

    fn send(&mut self, table: &mut Table, side: Side, syn: bool, payload: &[u8]) {
        let server = side == Side::Server;
        let (from, to) = if server { (self.server, self.client) } else { (self.client, self.server) };
        let next = &mut self.next[usize::from(server)];
        let segment = Segment { from, to, sequence: *next, syn, ack: !syn || server, payload };
        table.on_segment(&segment);
        *next = next.wrapping_add(u32::from(syn) + payload.len() as u32);
    }

    pub fn say(&mut self, table: &mut Table, side: Side, bytes: &[u8]) {
        bytes.chunks(1448).for_each(|chunk| self.send(table, side, false, chunk));
    }

    pub fn talk(&mut self, table: &mut Table, talk: &Talk) {
        talk.flights.iter().for_each(|(side, bytes)| self.say(table, *side, bytes));
    }
}

pub fn flows(table: Table) -> Vec<Flow> {
    table.finish().1
}

#[test]
fn hops_are_what_goes_to_proxies_and_around_them() {
    let scope = scope();
    let target = |client: &str, server: &str| scope.target(at(client), at(server));
    assert_eq!(target("127.0.0.1:5", BE1), Some(Target::Inbound(1)), "whoever calls");
    assert_eq!(target(FE, "[fd00::2]:15006"), Some(Target::Inbound(2)));
    assert_eq!(target(FE, "192.0.2.9:7701"), Some(Target::Control));
    assert_eq!(target(FE, "10.0.0.2:8080"), Some(Target::App(1)), "around the proxies");
    assert_eq!(target("10.0.0.2:5", "10.0.0.2:8080"), None, "a proxy and its own app");
    assert_eq!(target("127.0.0.1:5", "10.0.0.2:8080"), None, "nobody of the mesh, or its proxy");
    assert_eq!(target(FE, "10.0.0.2:22"), None);
    assert_eq!(target(BE1, FE), None, "an answer");
    assert_eq!(scope.ports(), [7701, 8080, 15006]);
    let there = Scope::new(vec![], Some(at("127.0.0.1:7701")));
    assert_eq!(there.target(at(FE), at("127.0.0.1:7701")), Some(Target::Control));
    assert_eq!(there.target(at(FE), at("127.0.0.2:7701")), None);
}

#[test]
fn a_connection_is_both_its_directions() {
    let mut table = Table::new(scope());
    let talk = Talk::new(&Kind::Tls13, 3, 2000);
    Wire::open(&mut table, FE, BE1).talk(&mut table, &talk);
    Wire::open(&mut table, FE, "10.0.0.2:9999").talk(&mut table, &talk);
    let flows = flows(table);
    let [flow] = &flows[..] else { panic!("{flows:?}") };
    assert_eq!((flow.client, flow.server, flow.target), (at(FE), at(BE1), Target::Inbound(1)));
    assert_eq!(flow.up.tls, talk.of(Side::Client).len() as u64);
    assert_eq!(flow.down.tls, talk.of(Side::Server).len() as u64);
    assert!(flow.from_start && flow.hello.is_some() && flow.counts().seen() == flow.counts().tls);
}

#[test]
fn a_port_that_comes_again_is_another_connection() {
    let mut table = Table::new(scope());
    let talk = Talk::new(&Kind::Tls13, 1, 10);
    Wire::open(&mut table, FE, BE1).talk(&mut table, &talk);
    let mut second = Wire::late(FE, BE1);
    second.next = [5, 6];
    second.send(&mut table, Side::Client, true, &[]);
    second.next[0] = 5; // sent again
    second.send(&mut table, Side::Client, true, &[]);
    second.say(&mut table, Side::Client, b"GET / HTTP/1.1\r\n\r\n");
    let flows = flows(table);
    assert_eq!(flows.len(), 2);
    assert_eq!(flows.iter().map(|flow| flow.up.plaintext).sum::<u64>(), 18);
}

#[test]
fn a_connection_that_was_there_before_is_joined_and_one_that_is_silent_is_none() {
    let mut table = Table::new(scope());
    let talk = Talk::new(&Kind::Tls13, 30, 300);
    let late = Talk { flights: talk.flights[20..].to_vec() };
    Wire::late(FE, BE1).talk(&mut table, &late);
    Wire::open(&mut table, "10.0.0.1:40001", BE1);
    Wire::late("10.0.0.1:40002", BE1).send(&mut table, Side::Client, false, &[]);
    let flows = flows(table);
    let [flow] = &flows[..] else { panic!("{flows:?}") };
    assert!(!flow.from_start && flow.hello.is_none());
    assert_eq!((flow.counts().plaintext, flow.counts().unproven, flow.counts().skipped), (0, 0, 0));
}

#[test]
fn connections_are_bounded_and_what_is_beyond_is_counted() {
    let mut table = Table::new(scope());
    let beyond = weft_proof::flow::FLOWS_MAX + 10;
    for n in 0..beyond {
        let client = SocketAddr::from(([10, 9, (n >> 15) as u8, 1], (n & 0x7fff) as u16));
        let segment =
            Segment { from: client, to: at(BE1), sequence: 1, syn: false, ack: true, payload: b"hello" };
        table.on_segment(&segment);
    }
    let (_, flows, untracked) = table.finish();
    assert_eq!((flows.len(), untracked), (weft_proof::flow::FLOWS_MAX, 50));
}
