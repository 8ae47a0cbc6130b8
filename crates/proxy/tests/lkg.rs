//! Last known good: proxies that are killed and started again while their control plane is away, or that start for the
//! first time without one. Each proxy is a process, each control plane real TLS.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests stop at the first surprise"
)]

mod mesh;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use mesh::{
    App, Ca, LIMIT,
    control::{Control, Plan, Table},
    eventually, get, id,
    member::{Member, Running},
    status,
    xds::{Speak, allow, cluster, direct, http, listener, member_chain, plain_chain, to, vhost},
};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
};
use weft_xds::{Resource, Resources};

const RESTARTS: usize = 5;
/// The row says one second; a busy machine is not what is tested here.
const SERVING_LIMIT: Duration = Duration::from_secs(5);

/// Not a test by itself.
#[test]
fn is_a_member_when_told_to() {
    mesh::member::be_one_if_told();
}

/// The service `be`, calling itself through both of its sides: `/open` is allowed, nothing else is.
fn resources(outbound: SocketAddr, inbound: SocketAddr, app: SocketAddr, text: &str) -> Resources {
    let own = id("be");
    let sni = "p8080.mesh.internal";
    let hosts = vec![
        vhost("direct", &["direct"], vec![direct("/", 200, text)]),
        vhost("be", &["be"], vec![to("/", "outbound|80|be.default")]),
    ];
    let policies = Some(vec![allow("AccessPolicy/default/open", &[&own], Some("/open"))]);
    let web = http("inbound|8080", vec![vhost("all", &["*"], vec![to("/", "inbound|8080")])], policies);
    let mut builder = Resources::builder();
    for (name, body) in [
        ("inbound|8080", cluster("inbound|8080", &[app], Speak::Http1, None)),
        (
            "outbound|80|be.default",
            cluster("outbound|80|be.default", &[inbound], Speak::Http2, Some((sni, &own))),
        ),
        ("outbound", listener("outbound", outbound, vec![plain_chain(http("outbound", hosts, None))])),
        ("inbound", listener("inbound", inbound, vec![member_chain(sni, &["h2", "http/1.1"], web)])),
    ] {
        builder.put(Resource::new(name, body));
    }
    builder.build("test")
}

fn plan(service: &str, app: SocketAddr, text: &'static str) -> Plan {
    let table: Table = Arc::new(move |outbound, inbound| resources(outbound, inbound, app, text));
    Plan { ca: Ca::new(), service: service.to_owned(), first_ttl: Duration::from_secs(3600), table }
}

fn anywhere() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

async fn ready(running: &Running) -> String {
    let answer = get(running.metrics, "x", "/ready").await;
    format!("{} {}", status(&answer), answer.lines().last().unwrap_or_default())
}

/// A metric's value.
async fn measured(running: &Running, name: &str) -> i64 {
    let page = get(running.metrics, "x", "/metrics").await;
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {page}")).trim().parse().unwrap()
}

/// Joins `plan`'s control plane, and stops when the disk has what it was given.
async fn joined(plan: &Plan) -> (Member, Control, Running) {
    let control = Control::start(plan, anywhere()).await;
    let member = Member::new(&plan.service, control.address, Some(plan.token()));
    let running = member.start().await;
    eventually("the configuration", async || ready(&running).await == "200 LIVE").await;
    eventually("the last known good", async || measured(&running, "weft_lkg_writes_total").await > 0).await;
    assert!(measured(&running, "weft_lkg_age_seconds").await >= 0);
    eventually("the control plane knows", async || control.seen.lock().unwrap().kept > Some(1_700_000_000))
        .await;
    (member, control, running)
}

/// Accepts, reads, and never says a word; counts who came.
async fn silent(at: SocketAddr) -> (SocketAddr, Arc<AtomicU32>, tokio::task::AbortHandle) {
    let listener = loop {
        match TcpListener::bind(at).await {
            Ok(listener) => break listener,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let address = listener.local_addr().unwrap();
    let came = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&came);
    let task = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut buffer = [0; 1024];
                while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
            });
        }
    });
    (address, came, task.abort_handle())
}

/// The deny state: HTTP gets a 503, members get a closed connection, and the proxy is not ready.
async fn denies(running: &Running) {
    for host in ["direct", "be"] {
        let answer = get(running.outbound, host, "/open").await;
        assert_eq!(status(&answer), 503, "{answer}");
    }
    let mut inbound = TcpStream::connect(running.inbound).await.unwrap();
    let mut buffer = [0; 16];
    let read = tokio::time::timeout(LIMIT, inbound.read(&mut buffer)).await.expect("closed in time");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    let ready = ready(running).await;
    assert!(ready.starts_with("503 "), "{ready}");
}

/// F-CP-03: with the control plane away, killed and started again, the proxy serves what it served, and denies what it
/// denied; the state is "stale", its age a metric. The fresh configuration takes over without a stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_proxy_serves_on_its_last_known_good() {
    let app = App::start().await;
    let plan = plan("be", app.address, "one");
    let (member, control, first) = joined(&plan).await;
    assert_eq!(status(&get(first.outbound, "be", "/open").await), 200);
    assert_eq!(status(&get(first.outbound, "be", "/closed").await), 403);
    assert_eq!(measured(&first, "weft_lkg_stale").await, 0);
    let (address, outbound) = (control.address, first.outbound);
    drop(control);
    // Sometimes nobody answers at all, sometimes somebody who never says anything (F-CP-06).
    let mut running = first;
    let mut served_after = Vec::new();
    for restart in 0..RESTARTS {
        running.kill();
        let mute = if restart % 2 == 1 { Some(silent(address).await) } else { None };
        running = member.start().await;
        assert_eq!(running.outbound, outbound, "the port that apps know");
        let answer = get(running.outbound, "be", "/open").await;
        served_after.push(running.started.elapsed());
        assert_eq!(status(&answer), 200, "{answer}");
        assert!(get(running.outbound, "direct", "/").await.ends_with("one"));
        for _ in 0..20 {
            assert_eq!(status(&get(running.outbound, "be", "/closed").await), 403);
        }
        let ready = ready(&running).await;
        assert!(ready.starts_with("200 STALE lkg_age_s="), "{ready}");
        assert_eq!(measured(&running, "weft_lkg_stale").await, 1);
        assert!((0..60).contains(&measured(&running, "weft_lkg_age_seconds").await));
        if let Some((_, came, task)) = mute {
            eventually("the silent one is tried", async || came.load(Ordering::SeqCst) > 0).await;
            task.abort();
        }
    }
    println!("serving after {served_after:?}");
    assert!(served_after.iter().all(|after| *after < SERVING_LIMIT), "{served_after:?}");
    let seen = app.bodies.lock().unwrap().len();
    assert_eq!(seen, 1 + RESTARTS, "requests that reached the app");

    let app_at = app.address;
    let table: Table = Arc::new(move |outbound, inbound| resources(outbound, inbound, app_at, "two"));
    let plan = Plan { table, ..plan };
    let _control = Control::start(&plan, address).await;
    eventually("the fresh configuration", async || {
        let answer = get(running.outbound, "direct", "/").await;
        assert_eq!(status(&answer), 200, "{answer}");
        answer.ends_with("two")
    })
    .await;
    eventually("it is confirmed", async || ready(&running).await == "200 LIVE").await;
    assert_eq!(measured(&running, "weft_lkg_stale").await, 0);
    member.forget();
}

/// F-CP-04, end to end: a damaged file gives way to the generation before, and without one nothing passes. No panic,
/// no request to a denied path reaches the app.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_last_known_good_is_never_served() {
    let app = App::start().await;
    let plan = plan("be", app.address, "one");
    let (mut member, control, running) = joined(&plan).await;
    let written = measured(&running, "weft_lkg_writes_total").await;
    control.publish(resources(running.outbound, running.inbound, app.address, "two"));
    eventually("a second generation", async || {
        measured(&running, "weft_lkg_writes_total").await > written && member.lkg("previous").exists()
    })
    .await;
    drop(control);
    running.kill();
    let whole = std::fs::read(member.lkg("current")).unwrap();
    assert!(!String::from_utf8_lossy(&whole).contains("PRIVATE KEY"));
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut bad = whole.clone();
    bad[fastrand::Rng::with_seed(seed).usize(..whole.len())] ^= 0x10;
    std::fs::write(member.lkg("current"), &bad).unwrap();
    let running = member.start().await;
    assert!(get(running.outbound, "direct", "/").await.ends_with("one"), "the generation before");
    assert_eq!(measured(&running, "weft_lkg_refused_total").await, 1);
    assert_eq!(status(&get(running.outbound, "be", "/closed").await), 403);
    running.kill();

    // Both of no use: others may write one, the other is cut.
    std::fs::set_permissions(member.lkg("previous"), std::fs::Permissions::from_mode(0o666)).unwrap();
    std::fs::write(member.lkg("current"), &whole[..whole.len() / 2]).unwrap();
    let running = member.start().await;
    denies(&running).await;
    assert_eq!(measured(&running, "weft_lkg_refused_total").await, 2);
    running.kill();

    // Good again, but older than this proxy may serve.
    std::fs::write(member.lkg("current"), &whole).unwrap();
    member.lkg_age_max = Some(Duration::from_millis(1));
    let running = member.start().await;
    denies(&running).await;
    running.kill();
    member.lkg_age_max = None;
    let running = member.start().await;
    assert!(get(running.outbound, "direct", "/").await.ends_with("two"));
    drop(running);
    assert!(app.bodies.lock().unwrap().is_empty(), "nothing was allowed to the app");
    member.forget();
}

/// F-CP-04, F-ID-06: another proxy's file is refused, and without its identity a proxy serves nobody's configuration.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn last_known_good_is_bound_to_its_identity() {
    let app = App::start().await;
    let (ours, theirs) = (plan("be", app.address, "ours"), plan("fe", app.address, "theirs"));
    let (us, our_control, we) = joined(&ours).await;
    let (them, their_control, they) = joined(&theirs).await;
    drop((our_control, their_control));
    we.kill();
    they.kill();
    std::fs::copy(us.lkg("current"), us.state.join("kept")).unwrap();
    std::fs::copy(them.lkg("current"), us.lkg("current")).unwrap();
    let running = us.start().await;
    denies(&running).await;
    running.kill();
    std::fs::copy(us.state.join("kept"), us.lkg("current")).unwrap();
    let running = us.start().await;
    assert!(get(running.outbound, "direct", "/").await.ends_with("ours")); // the file was good
    running.kill();
    std::fs::remove_dir_all(us.state.join("identity")).unwrap();
    let running = us.start().await;
    denies(&running).await;
    drop(running);
    us.forget();
    them.forget();
}

/// With a certificate that has expired, the last known good is of no use: nothing is served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expired_certificate_denies() {
    let app = App::start().await;
    let plan = Plan { first_ttl: Duration::from_secs(8), ..plan("be", app.address, "one") };
    let born = Instant::now();
    let (member, control, running) = joined(&plan).await;
    assert_eq!(control.seen.lock().unwrap().renewals, 0, "the first certificate is the one that expires");
    drop(control);
    running.kill();
    let running = member.start().await;
    assert_eq!(status(&get(running.outbound, "be", "/open").await), 200);
    running.kill();
    tokio::time::sleep(Duration::from_millis(8500).saturating_sub(born.elapsed())).await;
    let running = member.start().await;
    denies(&running).await;
    drop(running);
    member.forget();
}

/// F-CP-05 (nobody there) and F-CP-06 (somebody who accepts and never answers): a first start denies within a moment,
/// and joins soon after the control plane is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_start_without_a_control_plane_denies_and_then_joins() {
    let app = App::start().await;
    let plan = plan("be", app.address, "one");
    for (mute, limit) in [(false, Duration::from_secs(4)), (true, Duration::from_secs(10))] {
        let (address, came, task) = silent(anywhere()).await;
        if !mute {
            task.abort();
        }
        let member = Member::new("be", address, Some(plan.token()));
        let running = member.start().await;
        denies(&running).await;
        let denied_after = running.started.elapsed();
        assert!(denied_after < SERVING_LIMIT, "{denied_after:?}");
        // Long enough for the back-off to have grown.
        tokio::time::sleep(Duration::from_secs(2)).await;
        denies(&running).await;
        assert_eq!(came.load(Ordering::SeqCst) > 0, mute);
        task.abort(); // what was accepted stays open, and silent
        let control = Control::start(&plan, address).await;
        let up = Instant::now();
        eventually("it joins", async || ready(&running).await == "200 LIVE").await;
        println!("mute: {mute}; denies after {denied_after:?}, joined after {:?}", up.elapsed());
        assert!(up.elapsed() < limit, "{:?}", up.elapsed());
        assert_eq!(status(&get(running.outbound, "be", "/open").await), 200);
        drop((running, control));
        member.forget();
    }
}

/// F-CP-07: a connection that is open and carries nothing any more is noticed within 30 s, and the proxy serves on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_control_plane_is_noticed() {
    let app = App::start().await;
    let plan = plan("be", app.address, "one");
    let control = Control::start(&plan, anywhere()).await;
    let relay = TcpListener::bind(anywhere()).await.unwrap();
    let member = Member::new("be", relay.local_addr().unwrap(), Some(plan.token()));
    let (stall, stalled) = tokio::sync::watch::channel(false);
    let target = control.address;
    tokio::spawn(async move {
        loop {
            let (mut near, _) = relay.accept().await.unwrap();
            let mut stalled = stalled.clone();
            tokio::spawn(async move {
                let mut far = TcpStream::connect(target).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
                    _ = stalled.wait_for(|stalled| *stalled) => {}
                }
                std::future::pending::<()>().await; // both sides stay open
            });
        }
    });
    let running = member.start().await;
    eventually("the configuration", async || ready(&running).await == "200 LIVE").await;
    assert_eq!(measured(&running, "weft_control_connected").await, 1);
    stall.send_replace(true);
    let began = Instant::now();
    while measured(&running, "weft_control_connected").await == 1 {
        assert!(began.elapsed() < Duration::from_secs(30), "not noticed");
        assert_eq!(status(&get(running.outbound, "be", "/open").await), 200);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!("noticed after {:?}", began.elapsed());
    assert_eq!(status(&get(running.outbound, "be", "/open").await), 200);
    drop(running);
    member.forget();
}

/// A set from the disk is confirmed resource by resource; what the control plane no longer has goes away. And a cluster
/// that went and comes back unchanged gets its endpoints again.
#[test]
fn fresh_configuration_replaces_the_one_from_disk() {
    use envoy_types::pb::envoy::{
        config::cluster::v3::{Cluster, cluster as kind},
        extensions::filters::network::http_connection_manager::v3::{
            Rds, http_connection_manager::RouteSpecifier,
        },
    };
    use weft_proxy::{config_feed::ConfigFeed, lkg::Good};
    use weft_routing::Strictness;
    use weft_xds::client::{Event, Handler as _, Update};

    let outbound = mesh::free_port();
    let to_host = |name: &str, cluster: &str| vhost(name, &[name], vec![to("/", cluster)]);
    let fixed = |name: &str| cluster(name, &["127.0.0.1:9".parse().unwrap()], Speak::Http1, None);
    let eds = |name: &str| {
        mesh::xds::changed::<Cluster>(&fixed(name), |cluster| {
            cluster.load_assignment = None;
            cluster.cluster_discovery_type =
                Some(kind::ClusterDiscoveryType::Type(kind::DiscoveryType::Eds as i32));
            let eds_config = Some(mesh::xds::ads());
            cluster.eds_cluster_config = Some(kind::EdsClusterConfig { eds_config, ..Default::default() });
        })
    };
    let load = |name: &str| {
        let mut load = None;
        mesh::xds::changed::<Cluster>(&fixed(name), |cluster| load = cluster.load_assignment.take());
        mesh::xds::any(&load.unwrap())
    };
    let listen = |hosts| listener("outbound", outbound, vec![plain_chain(http("outbound", hosts, None))]);
    let resource = |name: &str, body| Arc::new(Resource::new(name, body));
    let update = |added: Vec<Arc<Resource>>, full| Update {
        added,
        removed: Vec::new(),
        full,
        version: "2".to_owned(),
    };
    let both = vec![
        resource("a", eds("a")),
        resource("b", eds("b")),
        resource("a", load("a")),
        resource("b", load("b")),
        resource("outbound", listen(vec![to_host("a", "a"), to_host("b", "b")])),
    ];
    let good =
        Good { confirmed: std::time::SystemTime::now(), versions: BTreeMap::new(), resources: both.clone() };
    let mut feed = ConfigFeed::new(Vec::new(), Strictness::Own);
    feed.restore(&good).unwrap();
    assert!(feed.status().stale && feed.good().is_none(), "from the disk, not confirmed");
    assert_eq!(feed.clusters().len(), 2);

    let names = |feed: &ConfigFeed| {
        let mut names: Vec<_> = feed
            .clusters_with_endpoints()
            .iter()
            .map(|(cluster, found)| {
                (cluster.name.to_string(), found.as_ref().map_or(0, |found| found.all.len()))
            })
            .collect();
        names.sort();
        names
    };
    feed.event(Event::Connected);
    feed.apply(weft_xds::CDS, update(vec![both[0].clone()], true)).unwrap();
    assert!(feed.status().stale);
    feed.apply(weft_xds::EDS, update(vec![both[2].clone()], false)).unwrap();
    assert!(feed.status().stale, "the listener is not confirmed");
    let only_a = resource("outbound", listen(vec![to_host("a", "a")]));
    feed.apply(weft_xds::LDS, update(vec![only_a], true)).unwrap();
    assert!(!feed.status().stale);
    assert_eq!(names(&feed), [("a".to_owned(), 1)]);
    assert_eq!(feed.good().unwrap().resources.len(), 3, "what is gone is not written");

    feed.apply(weft_xds::CDS, update(both[..2].to_vec(), true)).unwrap();
    feed.apply(weft_xds::EDS, update(both[2..4].to_vec(), false)).unwrap();
    assert_eq!(names(&feed), [("a".to_owned(), 1), ("b".to_owned(), 1)]);

    // None at all is a configuration too, and the one before does not come back.
    feed.apply(weft_xds::LDS, update(Vec::new(), true)).unwrap();
    let none = feed.good().unwrap();
    assert!(none.resources.iter().all(|resource| resource.type_url() != weft_xds::LDS));
    let restarted = ConfigFeed::new(Vec::new(), Strictness::Own);
    restarted.restore(&none).unwrap();
    assert_eq!((restarted.status().tables, restarted.listeners().len()), (1, 0));

    // One that does not fit together is taken as a whole or not at all.
    let by_name = mesh::xds::managed(http("outbound", Vec::new(), None), |manager| {
        let rds = Rds { config_source: Some(mesh::xds::ads()), route_config_name: "away".to_owned() };
        manager.route_specifier = Some(RouteSpecifier::Rds(rds));
    });
    let routeless = resource("outbound", listener("outbound", outbound, vec![plain_chain(by_name)]));
    let broken = Good { resources: vec![both[0].clone(), routeless], ..good };
    let feed = ConfigFeed::new(Vec::new(), Strictness::Own);
    feed.restore(&broken).unwrap_err();
    assert_eq!((feed.status().tables, feed.clusters().len()), (0, 0));
}

/// F-CP-02: after the quick attempts there are at least five seconds between two.
#[test]
fn attempts_at_a_lost_control_plane_get_rare() {
    use weft_proxy::config_feed::ConfigFeed;
    use weft_xds::client::{Event, Handler as _};

    let mut feed = ConfigFeed::new(Vec::new(), weft_routing::Strictness::Own);
    let lost = |retry_in| Event::Disconnected { error: "away".to_owned(), retry_in };
    for attempt in 0..40 {
        let retry_in = Duration::from_millis(attempt * 100 % 5000);
        feed.event(lost(retry_in));
        let interval = retry_in + feed.pause();
        match attempt {
            0..8 => assert_eq!(feed.pause(), Duration::ZERO),
            _ => assert!(
                interval >= Duration::from_secs(5) && interval <= Duration::from_secs(6),
                "{interval:?}"
            ),
        }
    }
    feed.event(Event::Connected);
    feed.event(lost(Duration::from_millis(50)));
    assert_eq!(feed.pause(), Duration::ZERO);
}
