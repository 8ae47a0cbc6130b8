//! Each connection that was seen, beside what the proxies say of it.
//!
//! A connection is proved when all its bytes are in TLS records, version and cipher are strong ones, at least one of its
//! proxies lists it, and no two of wire, caller and callee disagree. Everything else is a failure and is shown.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
};

use serde::Deserialize;
use weft_wire::{Progress, Protocol};

use crate::{
    flow::Flow,
    names,
    report::{Capture, Pair, Report, Shown},
    scope::{CONTROL, Scope, Target},
};

/// One-sided connections that are shown; all are counted.
const ONE_SIDED_SHOWN: usize = 100;

/// The proxies' answers.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Lists {
    pub proxies: Vec<List>,
    /// Who was asked and gave none.
    #[serde(default)]
    pub silent: Vec<String>,
}

/// One proxy's connections, open or closed since it was told to remember them.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct List {
    /// `NS/WORKLOAD`.
    pub name: String,
    /// `NS/SERVICE`.
    pub service: String,
    /// Its own SPIFFE id.
    #[serde(default)]
    pub identity: String,
    /// Connections that it had no room to remember.
    #[serde(default)]
    pub missed: u64,
    pub connections: Vec<Connection>,
}

/// A connection as one of its ends knows it. Zero is "none".
#[derive(Debug, Clone, Deserialize)]
pub struct Connection {
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// It was accepted, not opened.
    pub accepted: bool,
    #[serde(default)]
    pub version: u16,
    #[serde(default)]
    pub cipher: u16,
    #[serde(default)]
    pub group: u16,
    /// The other end's SPIFFE id.
    #[serde(default)]
    pub peer: String,
}

type Entry<'a> = (&'a List, &'a Connection);

/// The two ends' words on one connection.
#[derive(Default)]
struct Sides<'a> {
    caller: Option<Entry<'a>>,
    callee: Option<Entry<'a>>,
}

impl<'a> Sides<'a> {
    fn all(&self) -> impl Iterator<Item = Entry<'a>> {
        self.caller.into_iter().chain(self.callee)
    }

    /// One end's word on TLS.
    fn reported(&self) -> Option<&'a Connection> {
        self.all().map(|(_, connection)| connection).find(|connection| connection.version != 0)
    }
}

/// The verdict on what was seen.
pub fn judge(scope: &Scope, flows: &[Flow], lists: &Lists, capture: Capture) -> Report {
    let index = index(lists);
    let mut report = Report { capture, silent_proxies: lists.silent.clone(), ..Report::default() };
    let mut pairs: BTreeMap<(String, String), Pair> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let nobody = Sides::default();
    for flow in flows {
        let sides = index.get(&(flow.client, flow.server)).unwrap_or(&nobody);
        let (from, to) = ends(scope, flow, sides);
        if let Some(member) = scope.member(flow.target) {
            seen.insert(member.name.as_str());
        }
        seen.extend(sides.all().map(|(list, _)| list.name.as_str()));
        let pair = pairs.entry((from.clone(), to.clone())).or_insert_with(|| Pair {
            from: from.clone(),
            to: to.clone(),
            ..Pair::default()
        });
        let because = one(flow, sides, pair, &mut report);
        let shown = |because: Vec<String>| Shown {
            from: from.clone(),
            to: to.clone(),
            client: flow.client,
            server: flow.server,
            bytes: flow.counts().seen(),
            plaintext_bytes: flow.counts().plaintext,
            protocol: protocol(flow),
            listed_by: sides.all().map(|(list, _)| list.name.clone()).collect(),
            because,
        };
        if let Some(why) = one_sided(scope, flow, sides, lists) {
            report.one_sided_flows += 1;
            pair.one_sided += 1;
            if report.one_sided.len() < ONE_SIDED_SHOWN {
                report.one_sided.push(shown(vec![why]));
            }
        }
        if !because.is_empty() {
            report.failures.push(shown(because));
        }
    }
    let unseen = scope.members().iter().filter(|member| !seen.contains(member.name.as_str()));
    report.unseen_members = unseen.map(|member| member.name.clone()).collect();
    report.pairs = pairs.into_values().collect();
    report.because = because(&report, lists);
    report.ok = report.because.is_empty();
    report
}

fn index(lists: &Lists) -> HashMap<(SocketAddr, SocketAddr), Sides<'_>> {
    let mut index: HashMap<_, Sides<'_>> = HashMap::new();
    let plain = |at: SocketAddr| SocketAddr::new(at.ip().to_canonical(), at.port());
    for list in &lists.proxies {
        for connection in &list.connections {
            let (local, remote) = (plain(connection.local), plain(connection.remote));
            let (client, server) = if connection.accepted { (remote, local) } else { (local, remote) };
            let sides = index.entry((client, server)).or_default();
            let side = if connection.accepted { &mut sides.callee } else { &mut sides.caller };
            // The same ports may come again; who shook hands says more.
            if side.is_none_or(|(_, known)| known.version == 0 || connection.version != 0) {
                *side = Some((list, connection));
            }
        }
    }
    index
}

/// A hello and a refusal, both ways: more was no handshake that failed.
const REFUSED_BYTES_MAX: u64 = 16 << 10;

/// Counts one connection; says what is wrong with it.
fn one(flow: &Flow, sides: &Sides<'_>, pair: &mut Pair, report: &mut Report) -> Vec<String> {
    let counts = flow.counts();
    report.flows += 1;
    report.bytes += counts.seen();
    report.tls_bytes += counts.tls;
    report.plaintext_bytes += counts.plaintext;
    report.unproven_bytes += counts.unproven;
    report.skipped_bytes += counts.skipped;
    report.lost_bytes += counts.lost;
    pair.flows += 1;
    pair.bytes += counts.seen();
    pair.tls_bytes += counts.tls;
    pair.plaintext_bytes += counts.plaintext;

    let mut because = Vec::new();
    if counts.plaintext > 0 {
        let what = protocol(flow).map_or_else(String::new, |name| format!(": {name}"));
        because.push(format!("{} of {} bytes are in no TLS record{what}", counts.plaintext, counts.seen()));
    }
    if counts.unproven > 0 {
        because.push(format!(
            "it began before the capture, and {} bytes of it can't be told from plaintext{}",
            counts.unproven,
            protocol(flow).map_or_else(String::new, |name| format!(": {name}"))
        ));
    }
    if counts.lost > 0 {
        because.push(format!("the capture lost {} bytes of it", counts.lost));
    }
    if sides.all().next().is_none() {
        report.unlisted_flows += 1;
        because.push("no proxy lists it".to_owned());
    }
    if counts.plaintext + counts.unproven == 0 {
        agreed(flow, sides, pair, report, &mut because);
    }
    identities(sides, pair, &mut because);
    because
}

/// Version and cipher: from the wire, else from a proxy; and whether they are good enough.
fn agreed(flow: &Flow, sides: &Sides<'_>, pair: &mut Pair, report: &mut Report, because: &mut Vec<String>) {
    let reported = sides.reported();
    let (version, cipher, group) = match (&flow.hello, reported) {
        (Some(hello), _) => (hello.version, hello.cipher, hello.group),
        (None, Some(said)) => (said.version, said.cipher, (said.group != 0).then_some(said.group)),
        // Both ends shook hands and did not agree: nothing of anybody's was sent.
        (None, None)
            if flow.from_start && flow.counts().records == 0 && flow.counts().tls <= REFUSED_BYTES_MAX =>
        {
            return;
        }
        (None, None) => {
            because.push("neither the wire nor a proxy says its version and cipher".to_owned());
            return;
        }
    };
    let observed = flow.hello.is_some();
    for (all, name) in [
        (&mut report.versions, names::version(version)),
        (&mut pair.versions, names::version(version)),
        (&mut report.ciphers, names::cipher(cipher)),
        (&mut pair.ciphers, names::cipher(cipher)),
    ] {
        *all.entry(name).or_default() += 1;
    }
    for all in [&mut report.groups, &mut pair.groups] {
        if let Some(group) = group {
            *all.entry(names::group(group)).or_default() += 1;
        }
    }
    report.observed += u64::from(observed);
    pair.observed += u64::from(observed);
    report.as_reported += u64::from(!observed);
    pair.as_reported += u64::from(!observed);
    if !names::version_is_strong(version) {
        because.push(format!("its version is {}", names::version(version)));
    }
    if !names::cipher_is_strong(cipher) {
        because.push(format!("its cipher is {}", names::cipher(cipher)));
    }
    for (list, said) in sides.all().filter(|(_, said)| said.version != 0) {
        if (said.version, said.cipher) != (version, cipher) {
            because.push(format!(
                "{} reports {} with {}, and it is {} with {}",
                list.name,
                names::version(said.version),
                names::cipher(said.cipher),
                names::version(version),
                names::cipher(cipher)
            ));
        }
    }
}

/// Each end's certificate must be the one that the other end has seen.
fn identities(sides: &Sides<'_>, pair: &mut Pair, because: &mut Vec<String>) {
    let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let caller = sides.caller.filter(|(_, said)| said.version != 0);
    let callee = sides.callee.filter(|(_, said)| said.version != 0);
    // Who the other end has seen; what somebody says of itself counts only where nobody was there to see it.
    let from = match callee {
        Some((_, said)) => known(&said.peer),
        None => caller.and_then(|(list, _)| known(&list.identity)),
    };
    let to = match caller {
        Some((_, said)) => known(&said.peer),
        None => callee.and_then(|(list, _)| known(&list.identity)),
    };
    for id in from.into_iter().chain(to) {
        if !pair.identities.contains(&id) {
            pair.identities.push(id);
        }
    }
    let (Some((caller, by_caller)), Some((callee, by_callee))) = (caller, callee) else { return };
    for (seen, own, who, by) in [
        (&by_callee.peer, &caller.identity, "caller", callee),
        (&by_caller.peer, &callee.identity, "callee", caller),
    ] {
        if !seen.is_empty() && !own.is_empty() && seen != own {
            because.push(format!("the {who} is {own}, and {} has seen {seen}", by.name));
        }
    }
}

/// By service: the proxies' word, else the certificate's, else the address.
fn ends(scope: &Scope, flow: &Flow, sides: &Sides<'_>) -> (String, String) {
    let by_address = || {
        let mut at =
            scope.members().iter().filter(|member| member.address.to_canonical() == flow.client.ip());
        match (at.next(), at.next()) {
            (Some(only), None) => Some(only.service.clone()),
            _ => None,
        }
    };
    let from = match (sides.caller, sides.callee) {
        (Some((list, _)), _) => Some(list.service.clone()),
        (None, Some((_, said))) => service_of(&said.peer).or_else(by_address),
        (None, None) => by_address(),
    };
    let to = match flow.target {
        Target::Control => CONTROL.to_owned(),
        target => scope.member(target).map_or_else(String::new, |member| member.service.clone()),
    };
    (from.unwrap_or_else(|| flow.client.ip().to_string()), to)
}

/// `spiffe://DOMAIN/ns/NS/sa/NAME` is `NS/NAME`.
fn service_of(id: &str) -> Option<String> {
    let path = id.strip_prefix("spiffe://")?.split_once("/ns/")?.1;
    let (namespace, name) = path.split_once("/sa/")?;
    Some(format!("{namespace}/{name}"))
}

/// Why only one end speaks for it, if so.
fn one_sided(scope: &Scope, flow: &Flow, sides: &Sides<'_>, lists: &Lists) -> Option<String> {
    let (one, other) = match (sides.caller, sides.callee) {
        (Some((list, _)), None) => (list, "callee"),
        (None, Some((list, _))) => (list, "caller"),
        _ => return None,
    };
    let member = match other {
        "callee" => scope.member(flow.target),
        _ => scope.members().iter().find(|member| member.address.to_canonical() == flow.client.ip()),
    };
    let why = match member {
        Some(member) if lists.proxies.iter().any(|list| list.name == member.name) => {
            format!("{} does not list it", member.name)
        }
        Some(member) => format!("{} ({}) gives no list", member.name, member.kind),
        None => "nobody lists it who gives lists".to_owned(),
    };
    Some(format!("only {} lists it; the {other} is silent: {why}", one.name))
}

fn protocol(flow: &Flow) -> Option<&'static str> {
    match weft_wire::detect(&flow.plaintext_head) {
        Progress::Done(Protocol::Http1) => Some("HTTP/1 in the clear"),
        Progress::Done(Protocol::Http2) => Some("HTTP/2 in the clear"),
        _ => None,
    }
}

/// The verdict's reasons, from the figures.
fn because(report: &Report, lists: &Lists) -> Vec<String> {
    let mut because = Vec::new();
    let mut say = |wrong: bool, text: String| {
        if wrong {
            because.push(text);
        }
    };
    let failing = report.failures.len();
    let between_members: u64 =
        report.pairs.iter().filter(|pair| pair.to != CONTROL).map(|pair| pair.flows).sum();
    say(between_members == 0, "nothing was proved: no traffic between members was seen here".to_owned());
    say(
        report.plaintext_bytes > 0,
        format!("{} of {} bytes between members are not encrypted", report.plaintext_bytes, report.bytes),
    );
    say(
        report.unlisted_flows > 0,
        format!(
            "{} of {} connections between members are listed by no proxy",
            report.unlisted_flows, report.flows
        ),
    );
    say(
        report.unproven_bytes > 0,
        format!(
            "{} bytes are of connections that began before the capture and can't be told from plaintext; run it again, or for longer",
            report.unproven_bytes
        ),
    );
    let capture = &report.capture;
    let missed = report.lost_bytes + capture.untracked_bytes;
    say(
        missed > 0 || capture.dropped_packets > 0,
        format!(
            "the capture is not whole: {} packets were dropped and {missed} bytes not seen; run it again, for a shorter time or with less load",
            capture.dropped_packets
        ),
    );
    let forgotten: u64 = lists.proxies.iter().map(|list| list.missed).sum();
    say(
        report.unlisted_flows > 0 && forgotten > 0,
        format!("the proxies had no room to remember {forgotten} connections: run it for a shorter time"),
    );
    say(failing > 0 && because_is_empty(report), format!("{failing} connections are not as they must be"));
    because
}

/// No sum above says what is wrong with a connection.
fn because_is_empty(report: &Report) -> bool {
    report.plaintext_bytes + report.unlisted_flows + report.unproven_bytes + report.lost_bytes == 0
}
