//! `kill -9` of the control plane in the middle of pushes, again and again, under load (F-CP-01).
//!
//! Every 200 ms a new generation of the configuration is written: a Service of its own (`v17`), a route to
//! it that stamps requests with `x-generation: 17`, and the removal of a generation two back. Odd ones end
//! at one origin, even ones at the other. So each request, as the origin saw it, tells whether it met one
//! complete configuration: stamp and origin must agree, no answer may be other than 200, and what one
//! caller sees in turn never goes backwards. Counts are the clients' and the origins' own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weft_testkit::{Mesh, eventually, http, pause};

use crate::{WEFT, short_or_stated};

const CHANGE_EVERY: Duration = Duration::from_millis(200);
const CAUGHT_UP_MAX: Duration = Duration::from_secs(3);
const CALLERS: usize = 3;
const SERVICES: &str = "/api/v1/namespaces/default/services";
const ROUTES: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/default/httproutes";

/// Writes generations until told to stop; rests while there is no control plane.
struct Writer {
    api: String,
    bearer: String,
    /// The newest generation that was begun to be written.
    begun: Arc<AtomicU64>,
    /// The newest generation that the API has said yes to.
    committed: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    rest: Arc<AtomicBool>,
}

impl Writer {
    fn run(self) {
        while !self.stop.load(Ordering::SeqCst) {
            if self.rest.load(Ordering::SeqCst) {
                pause(Duration::from_millis(5));
                continue;
            }
            let started = Instant::now();
            // A write that the kill cut off is repeated: whether it was committed nobody has said.
            let next = self.committed.load(Ordering::SeqCst) + 1;
            self.begun.store(next, Ordering::SeqCst);
            if self.write(next).is_some() {
                self.committed.fetch_add(1, Ordering::SeqCst);
            }
            pause(CHANGE_EVERY.saturating_sub(started.elapsed()));
        }
    }

    /// Make before break, as a careful user would: the new service, the route to it, then the old one goes.
    fn write(&self, generation: u64) -> Option<()> {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("v{generation}")},
            "spec": {"selector": {"app": app(generation)}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
        });
        // 409: it was committed, and the kill took only the answer.
        self.call("POST", SERVICES, &service, &[201, 409])?;
        let route = json!({
            "spec": {"rules": [{
                "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-generation", "value": generation.to_string()}]}}],
                "backendRefs": [{"name": format!("v{generation}"), "port": 80}],
            }]},
        });
        self.call("PATCH", &format!("{ROUTES}/shop"), &route, &[200])?;
        if generation > 2 {
            self.call("DELETE", &format!("{SERVICES}/v{}", generation - 2), &Value::Null, &[200, 404])?;
        }
        Some(())
    }

    fn call(&self, method: &str, path: &str, body: &Value, good: &[u16]) -> Option<()> {
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let headers = [("authorization", self.bearer.as_str()), ("content-type", kind)];
        let answer = http::send(&self.api, method, path, &headers, &body).ok()?;
        assert!(
            good.contains(&answer.status) || answer.status == 503,
            "{method} {path}: {} {}",
            answer.status,
            answer.body
        );
        good.contains(&answer.status).then_some(())
    }
}

fn app(generation: u64) -> &'static str {
    if generation.is_multiple_of(2) { "even" } else { "odd" }
}

/// What one caller saw: answers in turn, and everything that was not a 200.
#[derive(Default)]
struct Seen {
    requests: u64,
    lost: Vec<String>,
}

fn caller(number: usize, proxy: String, stop: Arc<AtomicBool>) -> JoinHandle<Seen> {
    std::thread::spawn(move || {
        let mut seen = Seen::default();
        while !stop.load(Ordering::SeqCst) {
            let target = format!("http://shop/{number}/{}", seen.requests);
            seen.requests += 1;
            match http::get(&proxy, &target, &[]) {
                Ok(answer) if answer.status == 200 => {}
                Ok(answer) => seen.lost.push(format!("{target}: {} {}", answer.status, answer.body)),
                Err(error) => seen.lost.push(format!("{target}: {error:#}")),
            }
            pause(Duration::from_millis(8));
        }
        seen
    })
}

/// (caller, number of its request) → (origin, generation stamped), from the heads that the origins received.
fn ledger(origins: &[(&'static str, http::Origin)]) -> BTreeMap<(usize, u64), Vec<(&'static str, u64)>> {
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (name, origin) in origins {
        for head in origin.heads() {
            let mut path = head.split(' ').nth(1).unwrap().trim_start_matches('/').split('/');
            let (Some(caller), Some(request)) =
                (path.next().and_then(|p| p.parse().ok()), path.next().and_then(|p| p.parse().ok()))
            else {
                continue;
            };
            let stamp = head.lines().find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("x-generation:")?.trim().parse().ok()
            });
            all.entry((caller, request)).or_default().push((*name, stamp.unwrap_or(0)));
        }
    }
    all
}

fn status_is_current(mesh: &Mesh) -> Option<()> {
    let status = mesh.json(&["status"]).ok()?;
    let rows = status["proxies"].as_array()?;
    let current =
        |row: &Value| row["connected"] == true && row["acked"] == row["latest"] && row["nack"].is_null();
    (rows.len() == 3 && rows.iter().all(current)).then_some(())
}

#[test]
fn kill_9_during_pushes_loses_nothing_mixes_nothing_and_is_caught_up_in_three_seconds() {
    let seed: u64 = std::env::var("WEFT_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..1 << 32));
    println!("WEFT_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);

    let mut mesh = Mesh::start(WEFT).unwrap();
    mesh.apply(
        r#"
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: shop}]
  rules: [{backendRefs: [{name: shop, port: 80}]}]
"#,
    )
    .unwrap();
    let origins =
        [("odd", http::Origin::start("odd").unwrap()), ("even", http::Origin::start("even").unwrap())];
    for (name, origin) in &origins {
        let port = format!("http:{}", origin.port);
        mesh.proxy(name, &format!("{name}-1"), 0, &["--port", &port]).unwrap();
    }
    let fe = mesh.proxy("fe", "fe-1", 0, &[]).unwrap();
    let proxy = format!("127.0.0.1:{}", fe.port("outbound"));

    let (begun, committed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (stop, rest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let token = std::fs::read_to_string(mesh.state().join("admin.token")).unwrap();
    let writer = Writer {
        api: format!("127.0.0.1:{}", mesh.api),
        bearer: format!("Bearer {}", token.trim()),
        begun: begun.clone(),
        committed: committed.clone(),
        stop: stop.clone(),
        rest: rest.clone(),
    };
    let writing = std::thread::spawn(move || writer.run());
    // The stamp that a request meets now; a probe is no caller's, so the ledger leaves it out.
    let generation_now = || {
        let before: Vec<usize> = origins.iter().map(|(_, origin)| origin.heads().len()).collect();
        http::get(&proxy, "http://shop/probe", &[]).ok().filter(|answer| answer.status == 200)?;
        let new = origins.iter().zip(before).flat_map(|((_, origin), n)| origin.heads().split_off(n));
        new.filter(|head| head.contains(" /probe")).find_map(|head| {
            head.lines().find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("x-generation:")?.trim().parse::<u64>().ok()
            })
        })
    };
    eventually("the first generations serve", Duration::from_secs(10), || {
        generation_now().filter(|g| *g >= 2)
    });

    let callers: Vec<_> = (0..CALLERS).map(|number| caller(number, proxy.clone(), stop.clone())).collect();
    let started = Instant::now();
    let kills = short_or_stated(8u64, 100);
    let (mut slowest, mut interrupted, mut cut_off) = (Duration::ZERO, 0, 0);
    let mut kill = 0;
    // A fast machine writes a change in a few milliseconds: more kills, then, until enough have hit one.
    while kill < kills || (interrupted * 8 < kills && kill < 3 * kills) {
        kill += 1;
        let enough = committed.load(Ordering::SeqCst) + random.u64(2..5);
        let asked = Instant::now();
        while begun.load(Ordering::SeqCst) < enough {
            assert!(asked.elapsed() < Duration::from_secs(5), "no change was written (WEFT_SEED={seed})");
            pause(Duration::from_millis(1));
        }
        // Writing a change takes some 5 ms, pushing it some 20: an axe for each, and one anywhere.
        let reach = [CHANGE_EVERY, Duration::from_millis(4), Duration::from_millis(20)][(kill % 3) as usize];
        pause(reach.mul_f64(random.f64()));
        mesh.control.kill();
        interrupted += u64::from(begun.load(Ordering::SeqCst) > committed.load(Ordering::SeqCst));
        rest.store(true, Ordering::SeqCst);
        pause(Duration::from_millis(random.u64(0..400)));
        mesh.restart_control().unwrap();
        let restarted = Instant::now();
        let newest = committed.load(Ordering::SeqCst);
        let mut last = (None, false);
        eventually(
            &format!(
                "kill {kill}: generation {newest} serves and every proxy has acknowledged it (WEFT_SEED={seed})"
            ),
            CAUGHT_UP_MAX,
            || {
                last.0 = generation_now().or(last.0);
                last.1 = status_is_current(&mesh).is_some();
                (last.0.is_some_and(|g| g >= newest) && last.1).then_some(())
            },
        );
        slowest = slowest.max(restarted.elapsed());
        // One more than was said yes to: committed, and the answer died with the process.
        cut_off += u64::from(last.0.is_some_and(|g| g > newest));
        rest.store(false, Ordering::SeqCst);
    }
    stop.store(true, Ordering::SeqCst);
    writing.join().unwrap();
    let seen: Vec<Seen> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
    let elapsed = started.elapsed();

    let requests: u64 = seen.iter().map(|s| s.requests).sum();
    let lost: Vec<&String> = seen.iter().flat_map(|s| &s.lost).collect();
    println!(
        "{kill} kills ({interrupted} in the middle of a write), {requests} requests in {elapsed:?}, slowest catch-up {slowest:?}, {cut_off} answers cut off, generation {}",
        committed.load(Ordering::SeqCst)
    );
    assert!(
        lost.is_empty(),
        "{} of {requests} requests lost (WEFT_SEED={seed}): {:?}",
        lost.len(),
        &lost[..lost.len().min(10)]
    );
    // The guards: enough load, enough changes between the kills, both origins in use.
    assert!(
        requests as f64 / elapsed.as_secs_f64() >= 50.0,
        "{requests} requests in {elapsed:?} are too few"
    );
    assert!(
        committed.load(Ordering::SeqCst) >= 2 * kills,
        "too few changes: {}",
        committed.load(Ordering::SeqCst)
    );
    assert!(interrupted * 8 >= kills, "too few kills hit a change: {interrupted} of {kill}");
    assert!(origins.iter().all(|(_, origin)| origin.served() > requests / 20), "one origin was hardly asked");

    let ledger = ledger(&origins);
    assert_eq!(ledger.len() as u64, requests, "each request reached an origin");
    let mut newest = [0; CALLERS];
    for ((caller, request), arrivals) in ledger {
        let [(origin, generation)] = arrivals[..] else {
            panic!("request {request} of caller {caller} arrived as {arrivals:?}")
        };
        assert_eq!(
            origin,
            app(generation),
            "a mixed version: request {request} of caller {caller} was stamped {generation} (WEFT_SEED={seed})"
        );
        assert!(
            generation >= newest[caller],
            "back from {} to {generation} (WEFT_SEED={seed})",
            newest[caller]
        );
        newest[caller] = generation;
    }
}
