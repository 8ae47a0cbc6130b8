//! Listeners that come, wait for their routes, change and go. Each proxy that is told so by a control plane is a process of
//! its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

mod mesh;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use envoy_types::pb::envoy::{
    config::route::v3::RouteConfiguration,
    extensions::filters::network::http_connection_manager::v3::{Rds, http_connection_manager},
};
use mesh::{
    Ca, LIMIT, Proxy,
    control::{Control, Plan, Table},
    eventually, free_port, get,
    member::{Member, Running},
    status,
    xds::{ads, any, direct, http, listener, managed, plain_chain, vhost},
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use weft_proxy::{
    config_feed::{ConfigFeed, DANGLING_GRACE},
    static_config::StaticResources,
};
use weft_routing::Strictness;
use weft_xds::{
    LDS, Resource, Resources,
    client::{Event, Handler as _, Update},
};

/// Not a test by itself.
#[test]
fn is_a_member_when_told_to() {
    mesh::member::be_one_if_told();
}

/// Where a further listener has its routes.
enum Routes {
    /// In itself, and what they answer.
    Own(&'static str),
    /// Under a name that the control plane has.
    Named(&'static str),
    Missing,
}

/// A listener for the outbound side with what it answers, and further ones.
fn set(outbound: (SocketAddr, &str), further: &[(SocketAddr, Routes)]) -> Resources {
    let hosts = |text: &str| vec![vhost("all", &["*"], vec![direct("/", 200, text)])];
    let mut builder = Resources::builder();
    let chains = vec![plain_chain(http("outbound", hosts(outbound.1), None))];
    builder.put(Resource::new("outbound", listener("outbound", outbound.0, chains)));
    for (at, routes) in further {
        let (name, late) = (format!("at {}", at.port()), format!("late {}", at.port()));
        let by_name = || {
            managed(http(&name, Vec::new(), None), |manager| {
                let rds = Rds { config_source: Some(ads()), route_config_name: late.clone() };
                manager.route_specifier = Some(http_connection_manager::RouteSpecifier::Rds(rds));
            })
        };
        let manager = match routes {
            Routes::Own(text) => http(&name, hosts(text), None),
            Routes::Named(_) | Routes::Missing => by_name(),
        };
        if let Routes::Named(text) = routes {
            let config = RouteConfiguration {
                name: late.clone(),
                virtual_hosts: hosts(text),
                ..RouteConfiguration::default()
            };
            builder.put(Resource::new(&late, any(&config)));
        }
        builder.put(Resource::new(&name, listener(&name, *at, vec![plain_chain(manager)])));
    }
    builder.build("test")
}

/// A member whose first table is this one, of its outbound address, and in force.
async fn joined(
    first: impl Fn(SocketAddr) -> Resources + Send + Sync + 'static,
) -> (Member, Control, Running) {
    let table: Table = Arc::new(move |outbound, _| first(outbound));
    let plan = Plan { ca: Ca::new(), service: "fe".to_owned(), first_ttl: Duration::from_secs(3600), table };
    let control = Control::start(&plan, "127.0.0.1:0".parse().unwrap()).await;
    let member = Member::new("fe", control.address, Some(plan.token()));
    let running = member.start().await;
    eventually("the first table", async || get(running.outbound, "x", "/").await.ends_with("here")).await;
    (member, control, running)
}

/// The socket of a new listener is open before its table is in force: who connects meanwhile waits, and is not sent away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_meets_a_new_listener_early_waits_for_its_table() {
    let (member, control, running) = joined(|outbound| set((outbound, "here"), &[])).await;
    let fresh = free_port();
    control.publish(set((running.outbound, "here"), &[(fresh, Routes::Missing)]));
    let mut stream = None;
    eventually("the socket", async || {
        stream = TcpStream::connect(fresh).await.ok();
        stream.is_some()
    })
    .await;
    let mut stream = stream.unwrap();
    let asked = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(asked.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let mut read = async |stream: &mut TcpStream| {
        tokio::io::AsyncReadExt::read_to_end(stream, &mut answer)
            .await
            .map(|_| String::from_utf8_lossy(&answer).into_owned())
    };
    let soon = tokio::time::timeout(Duration::from_millis(300), read(&mut stream)).await;
    assert!(soon.is_err(), "neither an answer nor an end before there is a table: {soon:?}");
    control.publish(set((running.outbound, "here"), &[(fresh, Routes::Named("late"))]));
    let answer = tokio::time::timeout(LIMIT, read(&mut stream)).await.expect("an answer in time").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("late"), "{answer}");
    member.forget();
}

/// A route configuration that the server does not have holds its own listener up and nothing else: that one's older
/// version serves on for a while, then it is served with no routes, until they come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_whose_routes_do_not_come_waits_alone() {
    let (changes, moves, old) = (free_port(), free_port(), free_port());
    let (member, control, running) = joined(move |outbound| {
        set((outbound, "here"), &[(changes, Routes::Own("older")), (old, Routes::Own("old"))])
    })
    .await;
    let says =
        async |at: SocketAddr, text: &str| status_and_end(&get(at, "x", "/").await) == (200, text.to_owned());
    assert!(says(changes, "older").await && says(old, "old").await);

    control
        .publish(set((running.outbound, "changed"), &[(changes, Routes::Missing), (moves, Routes::Missing)]));
    eventually("the other listener's change", async || says(running.outbound, "changed").await).await;
    assert!(says(changes, "older").await, "its older version serves on");
    eventually("a listener that is gone", async || TcpStream::connect(old).await.is_err()).await;
    control
        .publish(set((running.outbound, "again"), &[(changes, Routes::Missing), (moves, Routes::Missing)]));
    eventually("a later update", async || says(running.outbound, "again").await).await;

    for at in [changes, moves] {
        eventually("the end of its wait", async || status(&get(at, "x", "/").await) == 404).await;
    }
    control.publish(set(
        (running.outbound, "last"),
        &[(changes, Routes::Named("newer")), (moves, Routes::Named("moved"))],
    ));
    eventually("its routes", async || says(changes, "newer").await && says(moves, "moved").await).await;
    assert!(says(running.outbound, "last").await);
    drop(running);
    member.forget();
}

/// Nobody says of routes that they are not there while nobody is there to say so.
#[tokio::test]
async fn routes_are_not_given_up_while_the_server_is_away() {
    let mut feed = ConfigFeed::new(Vec::new(), Strictness::Own);
    let (outbound, changes) = ((free_port(), "here"), free_port());
    feed.event(Event::Connected);
    for routes in [Routes::Own("older"), Routes::Missing] {
        let added: Vec<_> = set(outbound, &[(changes, routes)]).iter().cloned().collect();
        let update = Update { added, removed: Vec::new(), full: true, version: "1".to_owned() };
        feed.apply(LDS, update).unwrap();
    }
    feed.event(Event::Disconnected { error: "away".to_owned(), retry_in: Duration::ZERO });
    tokio::time::sleep(DANGLING_GRACE + Duration::from_millis(100)).await;
    feed.tick();
    let known = |feed: &ConfigFeed| (feed.status().tables, feed.route_configs().len());
    assert_eq!(known(&feed), (2, 0), "the older one serves on");
    feed.event(Event::Connected);
    feed.tick();
    assert_eq!(known(&feed), (2, 0), "the server has its time to say them");
}

fn status_and_end(answer: &str) -> (u16, String) {
    (status(answer), answer.lines().last().unwrap_or_default().to_owned())
}

/// An answer of state of the world that has no listeners takes them all away, but for the sockets that are the proxy's own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_listener_all_are_closed() {
    let at = free_port();
    let (member, control, running) =
        joined(move |outbound| set((outbound, "here"), &[(at, Routes::Own("further"))])).await;
    assert!(get(at, "x", "/").await.ends_with("further"));
    control.publish(Resources::builder().build("none"));
    eventually("its socket is closed", async || TcpStream::connect(at).await.is_err()).await;
    eventually("nothing passes", async || status(&get(running.outbound, "x", "/").await) == 503).await;
    control.publish(set((running.outbound, "back"), &[(at, Routes::Own("again"))]));
    eventually("it is back", async || get(running.outbound, "x", "/").await.ends_with("back")).await;
    eventually("its socket too", async || TcpStream::connect(at).await.is_ok()).await;
    assert!(get(at, "x", "/").await.ends_with("again"));
    drop(running);
    member.forget();
}

/// Of two on one address one would never be asked.
#[test]
fn a_file_with_two_listeners_on_one_address_is_refused() {
    let at = free_port();
    let one = |name: &str| {
        let hosts = vec![vhost("all", &["*"], vec![direct("/", 200, name)])];
        listener(name, at, vec![plain_chain(http(name, hosts, None))])
    };
    let resources =
        StaticResources { listeners: vec![one("shop"), one("pay")], ..StaticResources::default() };
    let Err(error) = Proxy::try_start("edge", resources) else { panic!("it started") };
    assert_eq!(
        error.to_string(),
        format!("the static configuration: shop: address: {at} is also the address of listener pay")
    );
}
