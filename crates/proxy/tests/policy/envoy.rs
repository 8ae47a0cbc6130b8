//! A real Envoy with a like configuration, for the rows that compare.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};
use weft_testkit::{Process, eventually, own_loopback, peers};

const ADMIN: u16 = 15000;

/// An Envoy and the folder of its files.
pub struct Envoy {
    // Declared first: it ends before its folder goes.
    _process: Process,
    _folder: tempfile::TempDir,
    pub address: Ipv4Addr,
}

/// A port, and the HTTP connection manager that is there (without what is the same for all).
pub type Port = (u16, Value);

impl Envoy {
    /// Nothing only where peers were left out on purpose.
    pub fn start(number: u8, origin: SocketAddr, ports: &[Port]) -> Option<Envoy> {
        let program = peers::program("envoy")?;
        let address = own_loopback(number);
        let folder = tempfile::Builder::new().prefix("weft-envoy-").tempdir().unwrap();
        let file = folder.path().join("envoy.json");
        std::fs::write(&file, bootstrap(address, origin, ports).to_string()).unwrap();
        let process = run(&program, &file, folder.path(), number);
        let envoy = Envoy { _process: process, _folder: folder, address };
        let admin = format!("{address}:{ADMIN}");
        eventually("Envoy is live", Duration::from_secs(15), || {
            let ready = weft_testkit::http::get(&admin, "/ready", &[]).ok()?;
            (ready.status == 200).then_some(())
        });
        Some(envoy)
    }

    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::from((self.address, port))
    }
}

fn run(program: &Path, file: &Path, folder: &Path, number: u8) -> Process {
    let mut command = Command::new(program);
    command.arg("-c").arg(file).args(["--concurrency", "1", "--log-level", "error", "--disable-hot-restart"]);
    command.arg("--base-id").arg(number.to_string());
    Process::start("envoy", &mut command, &folder.join("envoy.log")).unwrap()
}

fn socket(address: Ipv4Addr, port: u16) -> Value {
    json!({"socket_address": {"address": address.to_string(), "port_value": port}})
}

fn bootstrap(address: Ipv4Addr, origin: SocketAddr, ports: &[Port]) -> Value {
    let listeners: Vec<Value> = ports.iter().map(|(port, manager)| {
        let mut manager = manager.clone();
        manager["@type"] = json!("type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager");
        // Else each refused connection stays half open for a second.
        manager["delayed_close_timeout"] = json!("0s");
        manager["stat_prefix"] = json!(format!("p{port}"));
        manager["route_config"] = json!({"virtual_hosts": [{
            "name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "app"}}],
        }]});
        json!({
            "name": format!("p{port}"), "address": socket(address, *port),
            "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.http_connection_manager", "typed_config": manager,
            }]}],
        })
    }).collect();
    let Ok(origin_ip) = origin.ip().to_string().parse() else { panic!("an IPv4 origin") };
    json!({
        "admin": {"address": socket(address, ADMIN)},
        "static_resources": {
            "listeners": listeners,
            "clusters": [{"name": "app", "type": "STATIC", "load_assignment": {"cluster_name": "app", "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": socket(origin_ip, origin.port())}}]},
            ]}}],
        },
    })
}

/// An RBAC filter for everybody on a path and all below it, and the router.
pub fn filters(action: &str, path: &str, ignore_case: bool) -> Value {
    let test =
        |kind: &str, text: String| json!({"url_path": {"path": {kind: text, "ignore_case": ignore_case}}});
    json!([
        {"name": "envoy.filters.http.rbac", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            "rules": {"action": action, "policies": {"p": {
                "permissions": [test("exact", path.to_owned()), test("prefix", format!("{path}/"))],
                "principals": [{"any": true}],
            }}},
        }},
        {"name": "envoy.filters.http.router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
        }},
    ])
}
