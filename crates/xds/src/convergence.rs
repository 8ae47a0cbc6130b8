//! Server session against client session, by chance: whatever happened on the way, at quiescence
//! every subscribed resource is held at the newest version.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::client::{self, Handler, Mode, Names, Request, Response, Update};
use crate::server::{self, Out, Report};
use crate::{Any, CDS, EDS, LDS, Node, RDS, Resource, Resources, SDS, types, wire};

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const SEEDS: u64 = 300;
const STEPS: usize = 200;
/// Far more than any honest exchange; a NACK loop would not end.
const MESSAGES_MAX: usize = 200;

/// What the client's owner holds: content by type and name.
#[derive(Default)]
struct Holder {
    held: BTreeMap<String, BTreeMap<String, String>>,
    /// Takes the good part of what it refuses, as an Envoy does.
    keeps_the_good: bool,
}

impl Handler for Holder {
    fn apply(&mut self, type_url: &str, update: Update) -> Result<(), String> {
        let bad = update.added.iter().find(|resource| content(resource).ends_with("bad"));
        if bad.is_none() || self.keeps_the_good {
            let held = self.held.entry(type_url.to_owned()).or_default();
            if update.full {
                held.retain(|name, _| update.added.iter().any(|resource| resource.name == *name));
            }
            for name in &update.removed {
                held.remove(name);
            }
            for resource in update.added.iter().filter(|resource| !content(resource).ends_with("bad")) {
                held.insert(resource.name.clone(), content(resource));
            }
        }
        bad.map_or(Ok(()), |bad| Err(format!("{}: not so", bad.name)))
    }
}

fn resource(type_url: &str, name: &str, content: &str) -> Resource {
    let mut value = Vec::new();
    wire::put_payload(&mut value, 1, name.as_bytes());
    wire::put_payload(&mut value, 2, content.as_bytes());
    let type_url = type_url.to_owned();
    Resource::new(name, Any { type_url, value })
}

fn content(resource: &Resource) -> String {
    let fields = wire::fields(&resource.body.value).unwrap_or_default();
    let payload = fields.get(1).and_then(|field| field.payload).unwrap_or_default();
    String::from_utf8_lossy(payload).into_owned()
}

/// Both ends, and the wires between them.
struct World {
    mode: Mode,
    chance: fastrand::Rng,
    snapshot: Arc<Resources>,
    server: server::Session,
    client: client::Session,
    wanted: BTreeMap<&'static str, Names>,
    holder: Holder,
    up: VecDeque<Request>,
    down: VecDeque<Response>,
    nacks: usize,
}

impl World {
    fn new(mode: Mode, seed: u64) -> Self {
        let snapshot = Arc::new(Resources::default());
        Self {
            mode,
            chance: fastrand::Rng::with_seed(seed),
            server: server::Session::new(mode, Arc::clone(&snapshot)),
            snapshot,
            client: client::Session::new(mode, Node::default()),
            wanted: BTreeMap::new(),
            holder: Holder { keeps_the_good: seed % 2 == 1, ..Holder::default() },
            up: VecDeque::new(),
            down: VecDeque::new(),
            nacks: 0,
        }
    }

    fn step(&mut self) {
        match self.chance.u8(0..20) {
            0..7 => self.deliver_up(),
            7..14 => self.deliver_down(),
            14..16 => self.publish(true),
            16..19 => self.subscribe(),
            _ => self.reconnect(),
        }
    }

    fn deliver_up(&mut self) {
        let Some(request) = self.up.pop_front() else {
            return;
        };
        let out = match request {
            Request::Sotw(request) => self.server.on_request(request),
            Request::Delta(request) => self.server.on_delta(request),
        };
        match out {
            Ok(out) => self.carry_out(out),
            Err(violation) => panic!("{violation}"),
        }
    }

    fn carry_out(&mut self, out: Vec<Out>) {
        for out in out {
            match out {
                Out::Send(push) if self.mode == Mode::Sotw => {
                    self.down.push_back(Response::Sotw(push.into_sotw()))
                }
                Out::Send(push) => self.down.push_back(Response::Delta(push.into_delta())),
                Out::Report(Report::Nack { .. }) => self.nacks += 1,
                Out::Report(_) => {}
            }
        }
    }

    fn deliver_down(&mut self) {
        if let Some(response) = self.down.pop_front() {
            self.up.extend(self.client.on_response(response, &mut self.holder));
        }
    }

    /// A few contents change, appear and disappear; some are such that the client refuses them.
    fn publish(&mut self, may_be_bad: bool) {
        let mut builder = server_builder(&self.snapshot);
        for type_url in [CDS, EDS, LDS, RDS, SDS] {
            for name in NAMES {
                let old = self.snapshot.get(type_url, name);
                match self.chance.u8(0..10) {
                    0 => {}
                    1..3 => {
                        let bad = if may_be_bad && self.chance.u8(0..6) == 0 { "bad" } else { "" };
                        let content = format!("{}{bad}", self.chance.u8(0..4));
                        builder.put(resource(type_url, name, &content));
                    }
                    _ => {
                        if let Some(old) = old.filter(|old| may_be_bad || !content(old).ends_with("bad")) {
                            builder.put(Arc::clone(old));
                        }
                    }
                }
            }
        }
        self.snapshot = Arc::new(builder.build(""));
        let out = self.server.update(Arc::clone(&self.snapshot));
        self.carry_out(out);
    }

    fn subscribe(&mut self) {
        let all = [CDS, EDS, LDS, RDS, SDS];
        let type_url = all[self.chance.usize(0..all.len())];
        let full_state = types::is_full_state(type_url);
        let mut names: BTreeSet<String> = BTreeSet::new();
        for name in NAMES {
            if self.chance.bool() {
                names.insert(name.to_owned());
            }
        }
        if full_state && self.mode == Mode::Sotw && names.is_empty() {
            // The one wish that this mode cannot express.
            return;
        }
        let wanted = if self.chance.u8(0..3) == 0 || (full_state && self.chance.bool()) {
            Names::All
        } else {
            Names::Only(names)
        };
        if let Some(held) = self.holder.held.get_mut(type_url) {
            held.retain(|name, _| wanted.contain(name));
        }
        self.wanted.insert(type_url, wanted.clone());
        self.up.extend(self.client.subscribe(type_url, wanted));
    }

    fn reconnect(&mut self) {
        // What it took of a push that it refused it does not list when it comes back: delta has no way to know.
        if self.mode == Mode::Delta && self.holder.keeps_the_good {
            return;
        }
        self.up.clear();
        self.down.clear();
        self.client.disconnected();
        self.server = server::Session::new(self.mode, Arc::clone(&self.snapshot));
        self.up.extend(self.client.connected());
    }

    fn quiesce(&mut self) {
        let mut messages = 0;
        while !(self.up.is_empty() && self.down.is_empty()) {
            self.deliver_up();
            self.deliver_down();
            messages += 1;
            assert!(messages < MESSAGES_MAX, "the two talk without end");
        }
    }

    /// What the client must hold of a type, and may not hold where the mode can say so.
    fn check(&self) {
        let nothing = BTreeMap::new();
        for (type_url, wanted) in &self.wanted {
            let held = self.holder.held.get(*type_url).unwrap_or(&nothing);
            for name in NAMES.into_iter().filter(|name| wanted.contain(name)) {
                let newest = self.snapshot.get(type_url, name).map(|resource| content(resource));
                let says_removals = self.mode == Mode::Delta || types::is_full_state(type_url);
                if newest.is_some() || says_removals {
                    assert_eq!(held.get(name), newest.as_ref(), "{} {name}", types::short(type_url));
                }
            }
            assert!(held.keys().all(|name| wanted.contain(name)), "{type_url}: unwanted");
        }
    }
}

fn server_builder(previous: &Arc<Resources>) -> crate::Builder {
    crate::Builder::after(Arc::clone(previous))
}

fn converges(mode: Mode) {
    let mut nacks = 0;
    for seed in 0..SEEDS {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(mode, seed);
            world.up.extend(world.client.connected());
            for step in 0..STEPS {
                world.step();
                if step % 50 == 49 {
                    world.quiesce();
                }
            }
            world.publish(false);
            world.quiesce();
            world.check();
            world.nacks
        });
        match run {
            Ok(seen) => nacks += seen,
            Err(_) => panic!("{mode:?}, seed {seed}"),
        }
    }
    assert!(nacks > SEEDS as usize, "the test has lost its teeth: {nacks} NACKs");
}

#[test]
fn sotw_converges() {
    converges(Mode::Sotw);
}

#[test]
fn delta_converges() {
    converges(Mode::Delta);
}
