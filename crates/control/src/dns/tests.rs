//! What the zone says, and what the two sockets say about it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is its message")]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use weft_model::{Health, Kind, Protocol, ProxyKind};

use super::message::Transport;
use super::zone::{Answer, answer};
use super::*;
use crate::bind;
use crate::snapshot::{Instance, ObjectId, Port, ServiceId, ServiceView, Stamped, Target};

const PATIENCE: Duration = Duration::from_secs(10);

fn instance(name: &str, address: &str, health: Health) -> Arc<Instance> {
    Arc::new(Instance {
        namespace: "shop".into(),
        name: name.into(),
        service: "db".into(),
        address: address.parse().unwrap(),
        inbound_port: Some(15006),
        identity: None,
        labels: BTreeMap::new(),
        ports: vec![(Some("pg".into()), 5432)],
        locality: Default::default(),
        health,
        proxy: ProxyKind::Weft,
    })
}

fn service(name: &str, vip: Option<&str>, ports: Vec<Port>, instances: Vec<Arc<Instance>>) -> ServiceView {
    ServiceView {
        id: ServiceId::new("shop", name),
        vip: vip.map(|vip| vip.parse().unwrap()),
        ports,
        instances,
        app: None,
        revision: 1,
    }
}

fn port(name: Option<&str>, number: u16, target: Target, protocol: Protocol) -> Port {
    Port { name: name.map(str::to_owned), port: number, target, protocol }
}

/// `cart` with an address, `db` without (three instances, one of them draining), `pay` outside.
fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot { zone: "mesh.internal".into(), revision: 7, ..Snapshot::default() };
    let cart = vec![
        port(None, 80, Target::Number(8080), Protocol::Http),
        port(Some("admin"), 9000, Target::Number(9000), Protocol::Tcp),
    ];
    let db = vec![port(Some("pg"), 5432, Target::Name("pg".into()), Protocol::Tcp)];
    let instances = vec![
        instance("db-1", "10.0.0.1", Health::Healthy),
        instance("db-2", "10.0.0.2", Health::Unknown),
        instance("db-3", "10.0.0.3", Health::Draining),
    ];
    for view in [service("cart", Some("240.240.0.1"), cart, Vec::new()), service("db", None, db, instances)] {
        snapshot.services.insert(view.id.clone(), Arc::new(view));
    }
    let value = json!({
        "apiVersion": "weft.dev/v1",
        "kind": "ExternalService",
        "metadata": {"name": "pay", "namespace": "shop"},
        "spec": {"hosts": ["pay.example"], "ports": [{"port": 443, "protocol": "https"}]},
    });
    let object = weft_model::parse_value(&value).0.expect("an external service");
    let id = ObjectId { kind: Kind::ExternalService, namespace: "shop".into(), name: "pay".into() };
    snapshot.objects.insert(id, Arc::new(Stamped { object, revision: 1 }));
    snapshot.external_vips.insert(ServiceId::new("shop", "pay"), "240.240.0.9".parse().unwrap());
    snapshot
}

/// The answer in words: `A 240.240.0.1`, `SRV 80 cart.shop.mesh.internal.`, `empty`, `no such name`.
fn said(name: &str, kind: RecordType, turn: usize) -> String {
    said_by(&snapshot(), name, kind, turn)
}

fn said_by(snapshot: &Snapshot, name: &str, kind: RecordType, turn: usize) -> String {
    match answer(snapshot, &Name::from_ascii(name).unwrap(), kind, turn) {
        Answer::NotOurs => "not ours".to_owned(),
        Answer::Empty { soa } => {
            assert_eq!(soa.record_type(), RecordType::SOA);
            "empty".to_owned()
        }
        Answer::NoSuchName { .. } => "no such name".to_owned(),
        Answer::Records { answers, additionals } => {
            let words = answers.iter().chain(&additionals).map(|record| {
                assert_eq!(record.ttl, zone::TTL_SECONDS);
                match &record.data {
                    RData::A(address) => format!("A {address}"),
                    RData::SRV(srv) => format!("SRV {} {}", srv.port, srv.target),
                    other => other.record_type().to_string(),
                }
            });
            words.collect::<Vec<_>>().join(", ")
        }
    }
}

/// The rule of the endpoints: a check that is wrong about everybody must not make a name without an address.
#[test]
fn when_all_are_ill_all_that_can_be_reached_answer() {
    let ill = |name: &str, address: &str, health: Health, proxied: bool| {
        let mut instance = Arc::unwrap_or_clone(instance(name, address, health));
        instance.inbound_port = proxied.then_some(15006);
        Arc::new(instance)
    };
    let of = |instances: Vec<Arc<Instance>>| {
        let mut snapshot = snapshot();
        let ports = vec![port(Some("pg"), 5432, Target::Name("pg".into()), Protocol::Tcp)];
        let view = service("db", None, ports, instances);
        snapshot.services.insert(view.id.clone(), Arc::new(view));
        let said = |name: &str, kind| said_by(&snapshot, name, kind, 0);
        (
            said("db.shop.mesh.internal.", RecordType::A),
            said("_pg._tcp.db.shop.mesh.internal.", RecordType::SRV),
        )
    };
    let unhealthy = ill("db-1", "10.0.0.1", Health::Unhealthy, true);
    let draining = ill("db-2", "10.0.0.2", Health::Draining, true);
    // Without a proxy nobody could shake hands with it.
    let bare = ill("db-3", "10.0.0.3", Health::Unhealthy, false);
    let (addresses, locations) = of(vec![unhealthy.clone(), draining.clone(), bare.clone()]);
    assert_eq!(addresses, "A 10.0.0.1, A 10.0.0.2");
    assert!(locations.contains("db-1.db") && locations.contains("db-2.db") && !locations.contains("db-3"));
    let unknown = ill("db-4", "10.0.0.4", Health::Unknown, true);
    assert_eq!(of(vec![unhealthy, draining, unknown]).0, "A 10.0.0.4", "one that may be well is enough");
    assert_eq!(of(vec![bare]).0, "empty");
}

#[test]
fn the_zone_answers_names_of_the_mesh() {
    use RecordType::{A, AAAA, ANY, NS, SOA, SRV, TXT};
    let check = |name: &str, kind: RecordType, expected: &str| {
        assert_eq!(said(name, kind, 0), expected, "{name} {kind}")
    };
    check("cart.shop.mesh.internal.", A, "A 240.240.0.1");
    check("CART.Shop.mesh.INTERNAL", A, "A 240.240.0.1");
    check("cart.shop.mesh.internal.", AAAA, "empty");
    check("cart.shop.mesh.internal.", TXT, "empty");
    check("cart.shop.mesh.internal.", ANY, "A 240.240.0.1");
    check("db.shop.mesh.internal.", A, "A 10.0.0.1, A 10.0.0.2");
    check("db-2.db.shop.mesh.internal.", A, "A 10.0.0.2");
    check("db-9.db.shop.mesh.internal.", A, "no such name");
    check("cart-1.cart.shop.mesh.internal.", A, "no such name");
    check("pay.shop.mesh.internal.", A, "A 240.240.0.9");
    check("none.shop.mesh.internal.", A, "no such name");
    check("cart.other.mesh.internal.", A, "no such name");
    check("shop.mesh.internal.", A, "empty");
    check("other.mesh.internal.", A, "no such name");
    check("a.b.c.d.e.mesh.internal.", A, "no such name");
    check("mesh.internal.", SOA, "SOA");
    check("mesh.internal.", NS, "NS");
    check("mesh.internal.", A, "empty");
    check("notmesh.internal.", A, "not ours");
    check("example.com.", A, "not ours");
    check(".", A, "not ours");
    check("_http._tcp.cart.shop.mesh.internal.", SRV, "SRV 80 cart.shop.mesh.internal., A 240.240.0.1");
    check("_admin._tcp.cart.shop.mesh.internal.", SRV, "SRV 9000 cart.shop.mesh.internal., A 240.240.0.1");
    check("_http._tcp.cart.shop.mesh.internal.", A, "empty");
    check("_none._tcp.cart.shop.mesh.internal.", SRV, "no such name");
    check("_http._udp.cart.shop.mesh.internal.", SRV, "no such name");
    check("_tcp.cart.shop.mesh.internal.", SRV, "empty");
    check("_udp.cart.shop.mesh.internal.", SRV, "no such name");
    check(
        "cart.shop.mesh.internal.",
        SRV,
        "SRV 80 cart.shop.mesh.internal., SRV 9000 cart.shop.mesh.internal., A 240.240.0.1",
    );
    check(
        "_pg._tcp.db.shop.mesh.internal.",
        SRV,
        "SRV 5432 db-1.db.shop.mesh.internal., SRV 5432 db-2.db.shop.mesh.internal., A 10.0.0.1, A 10.0.0.2",
    );
    check("_https._tcp.pay.shop.mesh.internal.", SRV, "SRV 443 pay.shop.mesh.internal., A 240.240.0.9");
}

#[test]
fn callers_who_take_the_first_address_differ() {
    assert_eq!(said("db.shop.mesh.internal.", RecordType::A, 1), "A 10.0.0.2, A 10.0.0.1");
}

fn answerer() -> Arc<Answerer> {
    let (_, snapshot) = watch::channel(Arc::new(snapshot()));
    Arc::new(Answerer { snapshot, upstream: Upstream::none() })
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(42, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn reply(answerer: &Answerer, packet: &[u8], peer: &str, transport: Transport) -> Option<Message> {
    match answerer.step(packet, peer.parse::<IpAddr>().unwrap(), transport) {
        message::Step::Reply(bytes) => Some(Message::from_vec(&bytes).unwrap()),
        message::Step::Silence => None,
        message::Step::Ask(_) => panic!("asked upstream"),
    }
}

#[test]
fn no_packet_is_too_odd() {
    let answerer = answerer();
    let whole = question("cart.shop.mesh.internal.", RecordType::A).to_vec().unwrap();
    // Every cut and every changed byte of a question: an answer, FORMERR or silence, and no panic.
    for end in 0..whole.len() {
        let cut = reply(&answerer, &whole[..end], "127.0.0.1", Transport::Udp);
        assert_eq!(
            cut.map(|cut| cut.metadata.response_code),
            (end >= 12).then_some(ResponseCode::FormErr),
            "{end}"
        );
    }
    for at in 0..whole.len() {
        for value in 0..=255 {
            let mut odd = whole.clone();
            odd[at] = value;
            let _ = answerer.step(&odd, IpAddr::from([127, 0, 0, 1]), Transport::Udp);
        }
    }
    let mut answer = whole.clone();
    answer[2] |= 0x80;
    assert!(reply(&answerer, &answer, "127.0.0.1", Transport::Udp).is_none(), "an answer is not answered");
    // A name that points at itself.
    let mut looped = whole[..12].to_vec();
    looped.extend([0xc0, 12, 0, 1, 0, 1]);
    assert_eq!(
        reply(&answerer, &looped, "127.0.0.1", Transport::Udp).unwrap().metadata.response_code,
        ResponseCode::FormErr
    );
}

#[test]
fn what_is_no_plain_question_is_refused() {
    let answerer = answerer();
    let code = |message: Message, peer: &str| {
        reply(&answerer, &message.to_vec().unwrap(), peer, Transport::Udp).unwrap().metadata.response_code
    };
    let name = "cart.shop.mesh.internal.";
    assert_eq!(code(question(name, RecordType::AXFR), "127.0.0.1"), ResponseCode::Refused);
    let mut update = question(name, RecordType::A);
    update.metadata.op_code = OpCode::Update;
    assert_eq!(code(update, "127.0.0.1"), ResponseCode::NotImp);
    let mut two = question(name, RecordType::A);
    two.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    assert_eq!(code(two, "127.0.0.1"), ResponseCode::FormErr);
    let mut edns = question(name, RecordType::A);
    edns.set_edns(Edns::new());
    let found = reply(&answerer, &edns.to_vec().unwrap(), "127.0.0.1", Transport::Udp).unwrap();
    assert_eq!((found.metadata.response_code, found.edns.is_some()), (ResponseCode::NoError, true));
    assert!(found.metadata.authoritative && found.metadata.id == 42);
    // The world's names are for private networks: this is no open resolver.
    assert_eq!(code(question("example.com.", RecordType::A), "203.0.113.9"), ResponseCode::Refused);
    assert_eq!(code(question(name, RecordType::A), "203.0.113.9"), ResponseCode::NoError);
}

#[test]
fn an_answer_that_is_too_long_for_udp_is_cut_and_whole_by_tcp() {
    let mut large = snapshot();
    let instances =
        (0..200).map(|n| instance(&format!("db-{n}"), &format!("10.0.1.{n}"), Health::Healthy)).collect();
    let db = service("db", None, Vec::new(), instances);
    large.services.insert(db.id.clone(), Arc::new(db));
    let (_, snapshot) = watch::channel(Arc::new(large));
    let answerer = Answerer { snapshot, upstream: Upstream::none() };
    let packet = question("db.shop.mesh.internal.", RecordType::A).to_vec().unwrap();
    let cut = reply(&answerer, &packet, "127.0.0.1", Transport::Udp).unwrap();
    assert!(cut.metadata.truncation && cut.answers.is_empty());
    let whole = reply(&answerer, &packet, "127.0.0.1", Transport::Tcp).unwrap();
    assert!(!whole.metadata.truncation && whole.answers.len() == 200);
}

async fn running() -> (SocketAddr, CancellationToken, JoinHandle<()>) {
    let (tcp, udp) = bind::tcp_and_udp("DNS", "dns", "127.0.0.1:0".parse().unwrap()).unwrap();
    let address = udp.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let task = listen::start(answerer(), tcp, udp, shutdown.clone()).unwrap();
    (address, shutdown, task)
}

#[tokio::test]
async fn udp_answers_and_survives_rubbish() {
    let (address, shutdown, task) = running().await;
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for rubbish in [&b""[..], b"x", &[0xff; 600], &[0; 12]] {
        socket.send_to(rubbish, address).await.unwrap();
    }
    socket
        .send_to(&question("cart.shop.mesh.internal.", RecordType::A).to_vec().unwrap(), address)
        .await
        .unwrap();
    // A name of the world, with no upstream: SERVFAIL, and in the meantime others are answered.
    let mut other = question("example.com.", RecordType::A);
    other.metadata.id = 43;
    socket.send_to(&other.to_vec().unwrap(), address).await.unwrap();
    let mut codes = BTreeMap::new();
    while codes.len() < 2 {
        let mut packet = [0; 1500];
        let length = timeout(PATIENCE, socket.recv(&mut packet)).await.unwrap().unwrap();
        let reply = Message::from_vec(&packet[..length]).unwrap();
        if reply.metadata.id != 0 {
            codes.insert(reply.metadata.id, reply.metadata.response_code);
        }
    }
    assert_eq!(codes, BTreeMap::from([(42, ResponseCode::NoError), (43, ResponseCode::ServFail)]));
    shutdown.cancel();
    timeout(PATIENCE, task).await.unwrap().unwrap();
}

#[tokio::test]
async fn tcp_answers_questions_in_a_row() {
    let (address, shutdown, task) = running().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut sent = Vec::new();
    for id in 1..=50_u16 {
        let name = if id % 2 == 0 { "cart.shop.mesh.internal." } else { "example.com." };
        let mut message = question(name, RecordType::A);
        message.metadata.id = id;
        let bytes = message.to_vec().unwrap();
        sent.extend(u16::try_from(bytes.len()).unwrap().to_be_bytes());
        sent.extend(bytes);
    }
    stream.write_all(&sent).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut codes = BTreeMap::new();
    for _ in 0..50 {
        let length = timeout(PATIENCE, stream.read_u16()).await.unwrap().unwrap();
        let mut bytes = vec![0; usize::from(length)];
        timeout(PATIENCE, stream.read_exact(&mut bytes)).await.unwrap().unwrap();
        let reply = Message::from_vec(&bytes).unwrap();
        codes.insert(reply.metadata.id, reply.metadata.response_code);
    }
    for (id, code) in codes {
        let expected = if id % 2 == 0 { ResponseCode::NoError } else { ResponseCode::ServFail };
        assert_eq!(code, expected, "{id}");
    }
    // The client half-closed: the server is done too.
    assert_eq!(timeout(PATIENCE, stream.read(&mut [0])).await.unwrap().unwrap(), 0);
    shutdown.cancel();
    timeout(PATIENCE, task).await.unwrap().unwrap();
}
