use serde_json::{Value, json};
use weft_proof::judge::Lists;
use weft_proof::record::Side;
use weft_proof::{Capture, Report, Table, judge};

use crate::flows::{BE1, FE, Wire, scope};
use crate::talk::{Kind, Talk};

const FE_ID: &str = "spiffe://mesh.internal/ns/default/sa/fe";
const BE1_ID: &str = "spiffe://mesh.internal/ns/default/sa/be1";

fn one(local: &str, remote: &str, accepted: bool, peer: &str) -> Value {
    json!({"local": local, "remote": remote, "accepted": accepted, "version": 0x0304, "cipher": 0x1302,
        "group": 0x11ec, "peer": peer})
}

fn list(service: &str, identity: &str, connections: Vec<Value>) -> Value {
    json!({"name": format!("default/{service}-1"), "service": format!("default/{service}"), "identity": identity,
        "connections": connections})
}

fn lists(proxies: Vec<Value>) -> Lists {
    serde_json::from_value(json!({"proxies": proxies})).unwrap()
}

fn both() -> Lists {
    lists(vec![
        list("fe", FE_ID, vec![one(FE, BE1, false, BE1_ID)]),
        list("be1", BE1_ID, vec![one(BE1, FE, true, FE_ID)]),
    ])
}

fn verdict(table: Table, lists: &Lists) -> Report {
    let (scope, flows, untracked_bytes) = table.finish();
    judge(&scope, &flows, lists, Capture { untracked_bytes, ..Capture::default() })
}

fn talked(kind: &Kind) -> (Table, Talk) {
    let mut table = Table::new(scope());
    let talk = Talk::new(kind, 3, 2000);
    Wire::open(&mut table, FE, BE1).talk(&mut table, &talk);
    (table, talk)
}

fn fails(report: &Report, words: &str) {
    let all: Vec<&String> =
        report.because.iter().chain(report.failures.iter().flat_map(|one| &one.because)).collect();
    assert!(!report.ok && all.iter().any(|text| text.contains(words)), "no {words:?} in {all:?}");
}

#[test]
fn what_both_ends_list_and_is_all_records_is_proved() {
    let (table, talk) = talked(&Kind::Tls13);
    let report = verdict(table, &both());
    assert!(report.ok, "{report:#?}");
    let bytes = (talk.of(Side::Client).len() + talk.of(Side::Server).len()) as u64;
    assert_eq!((report.flows, report.bytes, report.tls_bytes), (1, bytes, bytes));
    assert_eq!((report.observed, report.as_reported, report.one_sided_flows), (1, 0, 0));
    assert_eq!((report.versions["TLSv1.3"], report.groups["X25519MLKEM768"]), (1, 1));
    let [pair] = &report.pairs[..] else { panic!("{report:?}") };
    assert_eq!((pair.from.as_str(), pair.to.as_str()), ("default/fe", "default/be1"));
    assert_eq!(pair.identities, [FE_ID, BE1_ID]);
    assert_eq!(report.unseen_members, ["default/be2-1"]);
    let shape = serde_json::to_value(&report).unwrap();
    for key in ["ok", "flows", "bytes", "plaintext_bytes", "unlisted_flows", "versions", "ciphers", "pairs"] {
        assert!(!shape[key].is_null(), "{key}");
    }
}

#[test]
fn one_plaintext_byte_is_a_failure_that_shows_the_connection() {
    let mut table = Table::new(scope());
    let mut wire = Wire::open(&mut table, FE, BE1);
    wire.talk(&mut table, &Talk::new(&Kind::Tls13, 1, 10));
    wire.say(&mut table, Side::Server, b"!");
    let report = verdict(table, &both());
    assert_eq!(report.plaintext_bytes, 1);
    fails(&report, "1 of");
    assert_eq!(report.failures[0].listed_by, ["default/fe-1", "default/be1-1"]);

    let mut table = Table::new(scope());
    Wire::open(&mut table, FE, BE1).say(&mut table, Side::Client, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let report = verdict(table, &both());
    fails(&report, "HTTP/2 in the clear");
    assert_eq!(report.pairs[0].plaintext_bytes, 24);
    // In the middle of a connection nobody knows what it is, but not that it is encrypted.
    let mut table = Table::new(scope());
    Wire::late(FE, BE1).say(&mut table, Side::Client, b"GET / HTTP/1.1\r\n\r\n");
    let report = verdict(table, &both());
    assert_eq!(report.unproven_bytes, 18);
    fails(&report, "HTTP/1 in the clear");
}

#[test]
fn a_connection_that_no_proxy_lists_is_a_failure() {
    let (table, _) = talked(&Kind::Tls13);
    let report = verdict(table, &lists(vec![]));
    assert_eq!((report.unlisted_flows, report.plaintext_bytes), (1, 0));
    fails(&report, "no proxy lists it");
    assert_eq!(report.pairs[0].from, "default/fe", "by its address");
}

#[test]
fn a_connection_that_one_end_lists_is_named_and_no_failure() {
    let (table, _) = talked(&Kind::Tls13);
    let report = verdict(table, &lists(vec![list("be1", BE1_ID, vec![one(BE1, FE, true, FE_ID)])]));
    assert!(report.ok, "{report:#?}");
    assert_eq!((report.one_sided_flows, report.pairs[0].from.as_str()), (1, "default/fe"));
    let why = &report.one_sided[0].because[0];
    assert!(why.contains("default/fe-1") && why.contains("gives no list"), "{why}");
}

#[test]
fn of_a_connection_that_was_there_before_the_proxies_say_what_it_is() {
    let talk = Talk::new(&Kind::Tls13, 30, 300);
    let late = Talk { flights: talk.flights[20..].to_vec() };
    let mut table = Table::new(scope());
    Wire::late(FE, BE1).talk(&mut table, &late);
    let report = verdict(table, &both());
    assert!(report.ok, "{report:#?}");
    assert_eq!((report.observed, report.as_reported, report.versions["TLSv1.3"]), (0, 1, 1));

    let mut without = one(FE, BE1, false, "");
    without["version"] = 0.into();
    let mut table = Table::new(scope());
    Wire::late(FE, BE1).talk(&mut table, &late);
    fails(&verdict(table, &lists(vec![list("fe", FE_ID, vec![without])])), "neither the wire nor a proxy");
}

#[test]
fn wire_caller_and_callee_must_agree() {
    let other = |change: fn(&mut Value)| {
        let mut entry = one(FE, BE1, false, BE1_ID);
        change(&mut entry);
        lists(vec![list("fe", FE_ID, vec![entry]), list("be1", BE1_ID, vec![one(BE1, FE, true, FE_ID)])])
    };
    let (table, _) = talked(&Kind::Tls13);
    fails(&verdict(table, &other(|entry| entry["version"] = 0x0303.into())), "reports TLSv1.2");
    let (table, _) = talked(&Kind::Tls13);
    fails(
        &verdict(table, &other(|entry| entry["peer"] = "spiffe://x/ns/a/sa/b".into())),
        "has seen spiffe://x",
    );
    // A suite that encrypts nothing is framed like any other.
    let talk = Talk::new(&Kind::Tls13, 30, 300);
    let mut table = Table::new(scope());
    Wire::late(FE, BE1).talk(&mut table, &Talk { flights: talk.flights[20..].to_vec() });
    let weak = other(|entry| entry["cipher"] = 0x003b.into());
    fails(&verdict(table, &weak), "its cipher is 0x003b");
}

#[test]
fn a_handshake_that_failed_has_no_version_and_is_no_failure() {
    let talk = Talk::new(&Kind::Tls13, 0, 0);
    let mut table = Table::new(scope());
    let mut wire = Wire::open(&mut table, FE, BE1);
    wire.say(&mut table, Side::Client, &talk.flights[0].1);
    wire.say(&mut table, Side::Server, &[21, 3, 3, 0, 2, 2, 40]);
    let mut refused = one(BE1, FE, true, "");
    refused["version"] = 0.into();
    let report = verdict(table, &lists(vec![list("be1", BE1_ID, vec![refused])]));
    assert!(report.ok && report.versions.is_empty(), "{report:#?}");
}

#[test]
fn who_the_other_end_has_not_seen_is_not_known() {
    let (table, _) = talked(&Kind::Tls13);
    // TLS, but without a certificate of the caller's.
    let lists = lists(vec![
        list("fe", FE_ID, vec![one(FE, BE1, false, BE1_ID)]),
        list("be1", BE1_ID, vec![one(BE1, FE, true, "")]),
    ]);
    assert_eq!(verdict(table, &lists).pairs[0].identities, [BE1_ID]);
}

#[test]
fn without_traffic_and_without_all_of_it_nothing_is_proved() {
    fails(&verdict(Table::new(scope()), &both()), "nothing was proved");
    // That to the control plane alone says nothing of members.
    let mut table = Table::new(scope());
    Wire::open(&mut table, FE, "10.0.0.9:7701").talk(&mut table, &Talk::new(&Kind::Tls13, 3, 20));
    let control = lists(vec![list("fe", FE_ID, vec![one(FE, "10.0.0.9:7701", false, "")])]);
    let report = verdict(table, &control);
    assert_eq!((report.flows, report.pairs[0].to.as_str(), report.failures.len()), (1, "control plane", 0));
    fails(&report, "nothing was proved");
    let (table, _) = talked(&Kind::Tls13);
    let (scope, flows, _) = table.finish();
    let dropped = Capture { dropped_packets: 3, ..Capture::default() };
    fails(&judge(&scope, &flows, &both(), dropped), "3 packets were dropped");
}
