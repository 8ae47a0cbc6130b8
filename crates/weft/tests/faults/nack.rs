//! Bad resources from a foreign xDS server (F-CP-08): each is a NACK that names the resource and the field,
//! what was in force serves on, and the server is not asked again and again.
//!
//! The rule for the good resources of a refused push is all or nothing per type: none of that push's are
//! taken, those of the other types are not touched. The next push without the bad one takes everything.

mod config;

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Status;
use weft_testkit::http::{self, Origin};
use weft_testkit::{Process, eventually, free_port, pause};
use weft_xds::server::{Peer, Report, Source, Subscription};
use weft_xds::{Node, Resources};

use crate::WEFT;
use config::{Generations, Ports};

const PATIENCE: Duration = Duration::from_secs(5);
/// A loop would ask again within this.
const QUIET: Duration = Duration::from_millis(150);

/// Offers what it is told to, and remembers every report.
struct Ads {
    offered: watch::Sender<Arc<Resources>>,
    reports: Arc<Mutex<Vec<Report>>>,
}

impl Source for Ads {
    fn subscribe(&self, _: &Peer, _: &Node) -> Result<Subscription, Status> {
        let reports = self.reports.clone();
        let report = Box::new(move |report: Report| reports.lock().unwrap().push(report));
        Ok(Subscription { resources: self.offered.subscribe(), report })
    }
}

/// The server, the proxy under its configuration, and somebody who calls it all the time.
struct World {
    ads: Arc<Ads>,
    ports: Ports,
    proxy: Process,
    _origins: [Origin; 2],
    _runtime: tokio::runtime::Runtime,
    _folder: tempfile::TempDir,
}

impl World {
    fn start(api_type: &str, first: Generations) -> World {
        let origins = ["a", "b"].map(|name| Origin::start(name).unwrap());
        let ports = Ports {
            origins: [origins[0].port, origins[1].port],
            web: free_port(),
            extra: free_port(),
            other: free_port(),
        };
        let (offered, _) = watch::channel(Arc::new(config::resources(&ports, first, vec![])));
        let ads = Arc::new(Ads { offered, reports: Arc::default() });
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (at, service) =
            (std::net::SocketAddr::from(([127, 0, 0, 1], 0)), weft_xds::server::service(ads.clone()));
        let listener = runtime.block_on(tokio::net::TcpListener::bind(at)).unwrap();
        let server = listener.local_addr().unwrap().port();
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        let folder = tempfile::tempdir().unwrap();
        let proxy = proxy(folder.path(), server, api_type);
        World { ads, ports, proxy, _origins: origins, _runtime: runtime, _folder: folder }
    }

    fn offer(&self, generations: Generations, spoilt: Vec<weft_xds::Resource>) {
        self.ads.offered.send_replace(Arc::new(config::resources(&self.ports, generations, spoilt)));
    }

    fn nacks(&self) -> Vec<(String, String, Vec<String>)> {
        let reports = self.ads.reports.lock().unwrap();
        let nack = |report: &Report| match report {
            Report::Nack { type_url, message, resources, .. } => {
                Some((type_url.clone(), message.clone(), resources.clone()))
            }
            _ => None,
        };
        reports.iter().filter_map(nack).collect()
    }

    /// What callers meet now: origin by static cluster, origin by EDS, generation of routes, listener `extra`.
    fn seen(&self) -> Option<(String, String, String, bool)> {
        let web = format!("127.0.0.1:{}", self.ports.web);
        let (fixed, discovered) = (http::get(&web, "/", &[]).ok()?, http::get(&web, "/eds", &[]).ok()?);
        let generation = fixed.headers.get("x-generation").cloned().unwrap_or_default();
        let extra = http::get(&format!("127.0.0.1:{}", self.ports.extra), "/", &[]).is_ok();
        Some((fixed.body.trim().to_owned(), discovered.body.trim().to_owned(), generation, extra))
    }

    fn shows(&self, of: Generations) -> bool {
        let origin = |generation: usize| ["a", "b"][generation % 2].to_owned();
        self.seen() == Some((origin(of.cds), origin(of.eds), of.rds.to_string(), of.lds % 2 == 1))
    }
}

/// `weft proxy -c` with an Envoy bootstrap that knows nothing but where the server is.
fn proxy(folder: &Path, server: u16, api_type: &str) -> Process {
    let bootstrap = format!(
        r#"
node: {{id: edge-1, cluster: edge}}
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}
dynamic_resources:
  ads_config:
    api_type: {api_type}
    transport_api_version: V3
    grpc_services: [{{envoy_grpc: {{cluster_name: xds}}}}]
  cds_config: {{ads: {{}}, resource_api_version: V3}}
  lds_config: {{ads: {{}}, resource_api_version: V3}}
static_resources:
  clusters:
    - name: xds
      type: STATIC
      http2_protocol_options: {{}}
      load_assignment:
        cluster_name: xds
        endpoints:
          - lb_endpoints:
              - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {server}}}}}}}
"#
    );
    let file = folder.join("bootstrap.yaml");
    std::fs::write(&file, bootstrap).unwrap();
    let mut command = Command::new(WEFT);
    command.arg("proxy").arg("-c").arg(&file).arg("--state").arg(folder.join("state"));
    Process::start("proxy", &mut command, &folder.join("proxy.log")).unwrap()
}

fn next(of: Generations, type_url: &str) -> Generations {
    let mut next = of;
    *match type_url {
        weft_xds::CDS => &mut next.cds,
        weft_xds::EDS => &mut next.eds,
        weft_xds::LDS => &mut next.lds,
        _ => &mut next.rds,
    } += 1;
    next
}

fn bad_resources_are_refused_by_name(api_type: &str) {
    let mut in_force = Generations { cds: 0, eds: 0, lds: 0, rds: 0 };
    let mut world = World::start(api_type, in_force);
    eventually("the first configuration serves", Duration::from_secs(15), || {
        assert!(world.proxy.running(), "{}", world.proxy.log_text());
        world.shows(in_force).then_some(())
    });
    let (stop, calls, lost) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
    let callers = [world.ports.web, world.ports.other].map(|port| {
        let (stop, calls, lost) = (stop.clone(), calls.clone(), lost.clone());
        std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                calls.fetch_add(1, Ordering::SeqCst);
                match http::get(&format!("127.0.0.1:{port}"), "/", &[]) {
                    Ok(answer) if answer.status == 200 => {}
                    other => lost.lock().unwrap().push(format!("{other:?}")),
                }
                pause(Duration::from_millis(10));
            }
        })
    });

    let mut wrong = Vec::new();
    let cases = config::cases(&world.ports);
    let total = cases.len();
    for case in cases {
        let before = world.nacks().len();
        let wanted = next(in_force, case.type_url);
        let spoilt = case.spoilt.len();
        world.offer(wanted, case.spoilt);
        let nack = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually(case.what, PATIENCE, || world.nacks().get(before).cloned())
        }));
        let Ok((type_url, message, resources)) = nack else {
            wrong.push(format!("{}: no NACK", case.what));
            world.offer(next(wanted, case.type_url), vec![]);
            in_force = next(wanted, case.type_url);
            eventually("it is mended", PATIENCE, || world.shows(in_force).then_some(()));
            continue;
        };
        // By name for the operator who reads the text, and for the control plane that lists it.
        let named = message.lines().any(|line| line.starts_with(config::OTHER))
            // Of two with one name the server suspects the one that it changed, whose name is not in the text.
            && (spoilt > 1 || resources.iter().any(|name| name.starts_with(config::OTHER)));
        if type_url != case.type_url || !named || !case.says.iter().all(|piece| message.contains(piece)) {
            wrong.push(format!("{}: the NACK must name `other` and {:?}: {message}", case.what, case.says));
        }
        pause(QUIET);
        if world.nacks().len() != before + 1 {
            wrong.push(format!("{}: a NACK loop: {:?}", case.what, &world.nacks()[before..]));
        }
        if !world.shows(in_force) {
            wrong.push(format!("{}: not what was in force: {:?}", case.what, world.seen()));
        }
        // Mended, the same push is taken whole.
        world.offer(wanted, vec![]);
        in_force = wanted;
        eventually(&format!("{}, mended, is in force", case.what), PATIENCE, || {
            world.shows(in_force).then_some(())
        });
    }
    stop.store(true, Ordering::SeqCst);
    callers.into_iter().for_each(|caller| caller.join().unwrap());
    assert!(wrong.is_empty(), "{} of {total}:\n{}", wrong.len(), wrong.join("\n"));
    let lost = lost.lock().unwrap();
    assert!(
        lost.is_empty(),
        "{} of {} calls lost: {:?}",
        lost.len(),
        calls.load(Ordering::SeqCst),
        &lost[..lost.len().min(5)]
    );
    assert!(calls.load(Ordering::SeqCst) > 300, "too few calls for a verdict");
    assert!(
        total >= 20 && world.proxy.running() && !world.proxy.log_text().contains("panicked"),
        "{}",
        world.proxy.log_text()
    );
}

#[test]
fn state_of_the_world_bad_resources_are_refused_by_name_and_the_last_good_serves_on() {
    bad_resources_are_refused_by_name("GRPC");
}

#[test]
fn delta_bad_resources_are_refused_by_name_and_the_last_good_serves_on() {
    bad_resources_are_refused_by_name("DELTA_GRPC");
}

/// A cluster may come after the route that names it, so this is no NACK: what was in force serves on while
/// the proxy waits for it, and when it never comes the route alone answers 503.
#[test]
fn a_route_to_a_cluster_that_never_comes_harms_nothing_else() {
    let first = Generations { cds: 0, eds: 0, lds: 0, rds: 0 };
    let world = World::start("GRPC", first);
    eventually("the first configuration serves", Duration::from_secs(15), || {
        world.shows(first).then_some(())
    });
    let then = next(first, weft_xds::RDS);
    world.offer(then, vec![config::route_to_nowhere()]);
    let other = format!("127.0.0.1:{}", world.ports.other);
    let mut calls = 0;
    eventually("the route that dangles is used as it is", Duration::from_secs(10), || {
        calls += 1;
        assert_eq!(http::get(&other, "/", &[]).unwrap().status, 200);
        assert!(world.shows(first) || world.shows(then), "{:?}", world.seen());
        (http::get(&other, "/nowhere", &[]).unwrap().status == 503).then_some(())
    });
    assert!(world.shows(then) && calls > 20, "{calls} calls");
    assert_eq!(http::get(&other, "/", &[]).unwrap().status, 200);
    assert!(world.nacks().is_empty(), "{:?}", world.nacks());
}
