//! A real Envoy as BE2's sidecar: bootstrap, xDS and policy from our control plane, certificates by SDS
//! from the agent's Unix socket. Its neighbours are Weft proxies, so each request below crosses the border
//! between the two once, in mTLS.

mod access;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use weft_identity::tls::{IdentityMatch, client_config, client_config_anonymous};
use weft_identity::{Issuer, PrivateKey, SpiffeId, Svid, TrustDomain};
use weft_testkit::http::{self, Origin};
use weft_testkit::{Joined, Mesh, Process, own_loopback, peers};

use crate::{WEFT, imposter};

const PATIENCE: Duration = Duration::from_secs(10);
const INBOUND: u16 = 15006;
const OUTBOUND: u16 = 15001;
const ADMIN: u16 = 15000;

/// BE1 and BE4 behind Weft proxies, BE2 behind an Envoy.
struct Figure {
    // Declared first: it ends before its agent and the control plane.
    envoy: Process,
    mesh: Mesh,
    be1: Joined,
    be4: Joined,
    apps: [Origin; 3],
    address: Ipv4Addr,
}

impl Figure {
    /// Everything up and in agreement; nothing only where peers were left out on purpose.
    fn start(number: u8, more: &[&str]) -> Option<Figure> {
        let program = peers::program("envoy")?;
        let apps = ["be1", "be2", "be4"].map(|name| Origin::start(name).unwrap());
        let mut mesh = Mesh::start(WEFT).unwrap();
        let services: Vec<String> =
            ["be1", "be2", "be4"].iter().zip(&apps).map(|(name, app)| service(name, app.port)).collect();
        mesh.apply(&services.join("---\n")).unwrap();
        let be1 = mesh.proxy("be1", "be1-1", apps[0].port, &[]).unwrap();
        let be4 = mesh.proxy("be4", "be4-1", apps[2].port, &[]).unwrap();
        let address = own_loopback(number);
        let agent = agent(&mut mesh, address, apps[1].port);
        let envoy = start(&program, &mesh, &agent, address, more);
        let figure = Figure { envoy, mesh, be1, be4, apps, address };
        figure.settled();
        Some(figure)
    }

    /// The Envoy's row of `weft status`.
    fn row(&self) -> Option<Value> {
        let answer = self.mesh.json(&["status"]).ok()?;
        answer["proxies"].as_array()?.iter().find(|row| row["name"] == "default/be2-envoy").cloned()
    }

    /// Waits until the Envoy has acknowledged what was made for it last.
    fn settled(&self) {
        self.until("the Envoy has its configuration", || {
            let row = self.row()?;
            let current = row["connected"] == true && row["acked"] == row["latest"] && row["acked"] != "";
            (current && row["kind"] == "envoy" && row["nack"].is_null()).then_some(())
        });
    }

    /// [`eventually`], with what the Envoy has to say where it fails.
    #[track_caller]
    fn until<T>(&self, what: &str, mut fact: impl FnMut() -> Option<T>) -> T {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            if let Some(value) = fact() {
                return value;
            }
            if std::time::Instant::now() > deadline {
                let (row, log) = (self.row(), self.envoy.log_text());
                panic!("waited {PATIENCE:?} in vain for: {what}\nstatus: {row:?}\nEnvoy:\n{log}");
            }
            weft_testkit::pause(Duration::from_millis(50));
        }
    }

    /// A request of the app behind a Weft proxy.
    fn call(&self, caller: &Joined, url: &str) -> http::Answer {
        http::get(&format!("127.0.0.1:{}", caller.port("outbound")), url, &[]).unwrap()
    }

    /// A request of BE2's app, through the Envoy.
    fn call_of_be2(&self, url: &str) -> http::Answer {
        http::get(&format!("{}:{OUTBOUND}", self.address), url, &[]).unwrap()
    }

    fn inbound(&self) -> SocketAddr {
        SocketAddr::from((self.address, INBOUND))
    }

    /// What the Envoy's admin page says.
    fn admin(&self, path: &str) -> String {
        http::get(&format!("{}:{ADMIN}", self.address), path, &[]).unwrap().body
    }

    /// A counter or gauge of the Envoy's.
    fn stat(&self, name: &str) -> u64 {
        let stats = self.admin("/stats?usedonly");
        let found = stats.lines().filter_map(|line| line.split_once(": ")).find(|(key, _)| *key == name);
        found.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
    }
}

fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{selector: {{app: {name}}}, ports: [{{name: http, port: 80, targetPort: {port}}}]}}\n"
    )
}

fn agent(mesh: &mut Mesh, address: Ipv4Addr, app: u16) -> Joined {
    let (ip, inbound, app) = (address.to_string(), INBOUND.to_string(), app.to_string());
    let flags = ["--port", &app, "--address", &ip, "--inbound-port", &inbound];
    mesh.agent("be2", "be2-envoy", "envoy", &flags).unwrap()
}

fn start(program: &Path, mesh: &Mesh, agent: &Joined, address: Ipv4Addr, more: &[&str]) -> Process {
    let control = format!("127.0.0.1:{}", mesh.xds);
    let socket = agent.state.join("agent.sock");
    let (address, admin) = (address.to_string(), format!("{address}:{ADMIN}"));
    let mut args =
        vec!["bootstrap", "envoy", "--service", "be2", "--name", "be2-envoy", "--control", &control];
    args.extend(["--address", &address, "--admin", &admin, "--socket", socket.to_str().unwrap()]);
    args.extend(more);
    let bootstrap = mesh.file("envoy.yaml", &mesh.ok(&args).unwrap()).unwrap();
    let mut command = Command::new(program);
    command.arg("-c").arg(bootstrap).args(["-l", "warning", "--concurrency", "1", "--disable-hot-restart"]);
    Process::start("envoy", &mut command, &mesh.log("envoy")).unwrap()
}

/// The mesh's calls cross from Weft to Envoy and back, and its rules hold on both sides.
fn gives_and_takes(figure: &Figure) {
    // In, and the identity of the caller comes with it.
    let taken = figure.call(&figure.be1, "http://be2/taken");
    assert_eq!((taken.status, taken.body.as_str()), (200, "be2\n"), "{}", figure.envoy.log_text());
    let head = figure.apps[1].heads().pop().unwrap().to_ascii_lowercase();
    assert!(
        head.contains("x-forwarded-client-cert: ")
            && head.contains("uri=spiffe://mesh.internal/ns/default/sa/be1"),
        "{head}"
    );
    // Out.
    let given = figure.call_of_be2("http://be1.default.mesh.internal/given");
    assert_eq!((given.status, given.body.as_str()), (200, "be1\n"), "{}", figure.envoy.log_text());
    assert_eq!(figure.call_of_be2("http://nobody/").status, 404, "what has no route has no way out");
    // Both by mTLS, says the Envoy itself.
    assert_eq!(figure.stat("cluster.outbound|80|be1.default.ssl.handshake"), 1);
    assert!(figure.stat(&format!("listener.{}_{INBOUND}.ssl.handshake", figure.address)) >= 1);
}

#[test]
fn an_envoy_gives_and_takes_by_the_state_of_the_world() {
    let Some(figure) = Figure::start(1, &[]) else { return };
    gives_and_takes(&figure);
    obeys_routes(&figure);
}

#[test]
fn an_envoy_gives_and_takes_by_delta() {
    let Some(figure) = Figure::start(2, &["--delta"]) else { return };
    gives_and_takes(&figure);
    obeys_routes(&figure);
}

fn obeys_routes(figure: &Figure) {
    let split = |be1: u32, be4: u32| {
        let route = format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: split}}\nspec:\n  parentRefs: [{{group: \"\", kind: Service, name: be1}}]\n  rules: [{{backendRefs: [{{name: be1, port: 80, weight: {be1}}}, {{name: be4, port: 80, weight: {be4}}}]}}]\n"
        );
        figure.mesh.apply(&route).unwrap();
    };
    let answers = |count: u32| {
        let bodies: Vec<String> = (0..count).map(|_| figure.call_of_be2("http://be1/").body).collect();
        [bodies.iter().filter(|b| *b == "be1\n").count(), bodies.iter().filter(|b| *b == "be4\n").count()]
    };
    split(0, 1);
    figure.until("all calls to be1 go to be4", || (answers(5) == [0, 5]).then_some(()));
    split(1, 1);
    figure.until("both are called", || answers(10).into_iter().all(|n| n > 0).then_some(()));
    figure.mesh.ok(&["delete", "httproute", "split"]).unwrap();
    figure.until("be1 is be1 again", || (answers(5) == [5, 0]).then_some(()));
    figure.settled();
}

#[test]
fn an_envoy_obeys_an_access_policy() {
    let Some(figure) = Figure::start(3, &[]) else { return };
    assert_eq!(figure.call(&figure.be1, "http://be2/").status, 200);
    assert_eq!(figure.call(&figure.be4, "http://be2/").status, 200);
    let policy = |rules: &str| {
        let text = format!(
            "apiVersion: weft.dev/v1\nkind: AccessPolicy\nmetadata: {{name: be2-guard}}\nspec: {{targetRefs: [{{kind: Service, name: be2}}], action: Deny, rules: [{rules}]}}\n"
        );
        figure.mesh.apply(&text).unwrap();
    };
    let statuses = |path: &str| {
        let url = format!("http://be2{path}");
        [&figure.be1, &figure.be4].map(|caller| figure.call(caller, &url).status)
    };
    // The callers' connections stay open all along: what is decided anew is each request.
    let connections = || figure.stat(&format!("listener.{}_{INBOUND}.downstream_cx_total", figure.address));
    let before = connections();
    policy("{from: [{services: [be1]}]}");
    figure.until("be1 is refused, be4 is not", || (statuses("/") == [403, 200]).then_some(()));
    let refused = figure.call(&figure.be1, "http://be2/");
    assert!(!refused.body.contains("be2-guard"), "the caller does not hear which policy: {}", refused.body);
    assert_eq!(connections(), before, "the same connections");
    policy("{from: [{services: [be1]}], to: [{methods: [GET], paths: [\"/private/*\"]}]}");
    figure.until("be1 is let in again", || (statuses("/") == [200, 200]).then_some(()));
    assert_eq!(statuses("/private/a"), [403, 200]);
    for sneaky in ["/public/../private/a", "//private/a", "/private%2Fa"] {
        let [be1, be4] = statuses(sneaky);
        assert!(be1 == 403 || be1 == 400, "{sneaky}: {be1} for be1, {be4} for be4");
    }
    // Without any policy that allows, nobody is.
    figure.mesh.ok(&["delete", "accesspolicy", "be2-guard"]).unwrap();
    figure.mesh.ok(&["delete", "accesspolicy", "same-namespace"]).unwrap();
    figure.until("nobody is let in", || (statuses("/") == [403, 403]).then_some(()));
    assert_eq!(figure.stat("cluster.sds_agent.upstream_cx_connect_fail"), 0);
}

#[test]
fn an_envoy_takes_members_only() {
    let Some(figure) = Figure::start(4, &[]) else { return };
    let (be1, bundle) = Svid::read(&figure.be1.state.join("identity")).unwrap();
    let be2 = || IdentityMatch::Exact(vec!["spiffe://mesh.internal/ns/default/sa/be2".parse().unwrap()]);
    let alpn = ["http/1.1"];
    // The guard: by hand, with a member's certificate, it works.
    let member = client_config(&be1, &bundle, be2(), &alpn).unwrap();
    let answer = figure.over_tls(member).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let served = figure.apps[1].served();
    let nobody = client_config_anonymous(&bundle, be2(), &alpn).unwrap();
    let refused = figure.over_tls(nobody).unwrap_err();
    assert!(refused.to_string().to_ascii_lowercase().contains("certificaterequired"), "{refused}");
    let pretended = client_config(&pretended("be1"), &bundle, be2(), &alpn).unwrap();
    let refused = figure.over_tls(pretended).unwrap_err();
    assert!(refused.to_string().to_ascii_lowercase().contains("unknownca"), "{refused}");
    assert!(figure.stat(&format!("listener.{}_{INBOUND}.ssl.fail_verify_error", figure.address)) >= 1);
    assert!(figure.stat(&format!("listener.{}_{INBOUND}.ssl.fail_verify_no_cert", figure.address)) >= 1);

    // In the clear, HTTP and HTTP/2 alike: closed without an answer.
    for plain in ["GET / HTTP/1.1\r\nhost: be2\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let answer = figure.in_the_clear(plain);
        assert_eq!(answer, "", "a plaintext request was answered");
    }
    assert_eq!(figure.stat(&format!("listener.{}_{INBOUND}.no_filter_chain_match", figure.address)), 2);
    assert_eq!(figure.apps[1].served(), served, "nothing of all this reached the app");
}

#[test]
fn an_envoy_refuses_a_revoked_member_and_no_other() {
    let Some(figure) = Figure::start(9, &[]) else { return };
    let be2 = || IdentityMatch::Exact(vec!["spiffe://mesh.internal/ns/default/sa/be2".parse().unwrap()]);
    let knock = |joined: &Joined| {
        let (svid, bundle) = Svid::read(&joined.state.join("identity")).unwrap();
        figure.over_tls(client_config(&svid, &bundle, be2(), &["http/1.1"]).unwrap())
    };
    let is_in = |joined: &Joined| knock(joined).is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"));
    assert!(is_in(&figure.be1) && is_in(&figure.be4));
    let (revoked, _) = Svid::read(&figure.be4.state.join("identity")).unwrap();
    let said = std::time::Instant::now();
    figure.mesh.ok(&["identity", "revoke", revoked.serial_hex()]).unwrap();
    figure.until("the Envoy refuses it", || knock(&figure.be4).is_err().then_some(()));
    println!("refused after {:?}", said.elapsed());
    assert!(is_in(&figure.be1), "the list is no reason to refuse others");
    assert_eq!(figure.call(&figure.be1, "http://be2/").status, 200);
    let listener = format!("listener.{}_{INBOUND}", figure.address);
    assert!(figure.stat(&format!("{listener}.ssl.fail_verify_error")) >= 1);
}

/// A certificate of a stranger's CA that calls itself by our trust domain and a member's name.
fn pretended(service: &str) -> Svid {
    let (domain, now) = (TrustDomain::default(), SystemTime::now());
    let id = SpiffeId::service(&domain, "default", service).unwrap();
    let key = PrivateKey::generate().unwrap();
    let (issuer, _) = Issuer::create(&domain, now).unwrap();
    let issued =
        issuer.issue(&key.csr_der(&id).unwrap(), &id, now, Duration::from_secs(3600), [7; 16]).unwrap();
    Svid::new(issued.chain, key).unwrap()
}

impl Figure {
    /// One request to the Envoy's inbound port over TLS of our own.
    fn over_tls(&self, config: Arc<rustls::ClientConfig>) -> std::io::Result<String> {
        let name = format!("p{}.mesh.internal", self.apps[1].port).try_into().unwrap();
        let connection = rustls::ClientConnection::new(config, name).unwrap();
        let stream = TcpStream::connect(self.inbound())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut stream = rustls::StreamOwned::new(connection, stream);
        stream.write_all(b"GET / HTTP/1.1\r\nhost: be2\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        match stream.read_to_string(&mut answer) {
            // Envoy may close without TLS's farewell.
            Err(error) if answer.is_empty() => Err(error),
            _ => Ok(answer),
        }
    }

    /// What comes back for some bytes to the inbound port without TLS.
    fn in_the_clear(&self, text: &str) -> String {
        let mut stream = TcpStream::connect(self.inbound()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // A reset is as good as a close; a time-out would be neither.
        match stream.read_to_end(&mut answer) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("the connection was left open")
            }
            _ => String::from_utf8_lossy(&answer).into_owned(),
        }
    }
}

#[test]
fn a_resource_that_an_envoy_refuses_is_shown_and_the_rest_serves_on() {
    let Some(figure) = Figure::start(5, &[]) else { return };
    figure
        .mesh
        .apply(
            "apiVersion: weft.dev/v1\nkind: ExternalService\nmetadata: {name: be3}\nspec:\n  hosts: [be3.example]\n  endpoints: [{address: 127.0.0.1}]\n  resolution: Static\n  ports: [{port: 80, protocol: http, targetPort: 443}]\n  tls: {mode: Originate, sni: be3.example, ca: \"-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\\n\"}\n",
        )
        .unwrap();
    let nack = figure.until("the refusal is in the status", || {
        figure.row().map(|row| row["nack"].clone()).filter(|n| !n.is_null())
    });
    assert!(nack["resource"].as_str().unwrap().contains("be3"), "{nack}");
    assert_eq!(figure.call(&figure.be1, "http://be2/").status, 200);
    assert_eq!(figure.call_of_be2("http://be1/").status, 200);
    let told = String::from_utf8(figure.mesh.cli(&["check"]).unwrap().stdout).unwrap();
    assert!(told.contains("WFT0950") && told.contains("be2-envoy"), "{told}");
    figure.mesh.ok(&["delete", "externalservice", "be3"]).unwrap();
    figure.settled();
}

#[test]
fn an_envoy_calls_nobody_but_whom_it_means() {
    let Some(figure) = Figure::start(6, &[]) else { return };
    let be4 = |identity: &str| {
        imposter(&figure.mesh, identity, figure.be4.port("inbound"), figure.apps[2].port, "http")
    };
    be4("be5");
    figure.until("the imposter is found out", || {
        let status = figure.call_of_be2("http://be5/").status;
        assert!(status == 503 || status == 404, "somebody else answered: {status}");
        (figure.stat("cluster.outbound|80|be5.default.ssl.fail_verify_san") >= 1).then_some(())
    });
    // The guard: with the right name expected, the same endpoint is called.
    be4("be4");
    figure.until("be4 is called under its own name", || {
        (figure.call_of_be2("http://be5/").body == "be4\n").then_some(())
    });
}

#[test]
fn an_envoy_serves_on_without_its_agent_and_takes_the_next_ones_certificate() {
    let Some(mut figure) = Figure::start(7, &[]) else { return };
    let serial = |figure: &Figure| {
        let certs: Value = serde_json::from_str(&figure.admin("/certs")).unwrap_or_default();
        certs["certificates"][0]["cert_chain"][0]["serial_number"].as_str().map(str::to_owned)
    };
    let both_ways = |figure: &Figure| {
        assert_eq!(figure.call(&figure.be1, "http://be2/").status, 200);
        assert_eq!(figure.call_of_be2("http://be1/").status, 200);
    };
    both_ways(&figure);
    let first = serial(&figure).expect("the Envoy shows its certificate");
    figure.mesh.proxies.pop().unwrap().kill();
    both_ways(&figure);
    std::fs::remove_dir_all(figure.mesh.folder().join("be2-envoy/identity")).unwrap();
    agent(&mut figure.mesh, figure.address, figure.apps[1].port);
    figure.until("the Envoy has the new certificate", || serial(&figure).filter(|now| *now != first));
    both_ways(&figure);
    figure.settled();
}
