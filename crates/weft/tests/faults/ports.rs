//! A port that is taken: one sentence that names it, and the holder keeps every connection.
//!
//! The bind is exclusive (no `SO_REUSEPORT`), so a holder that asked for sharing, as an Envoy of the same user does,
//! is seen too, and who comes after a proxy is refused by the kernel. Several workers share the one socket.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use weft_testkit::{Joined, Mesh, Process, eventually, free_port, http, peers};

use crate::WEFT;

/// Runs weft until it refuses; returns what it printed. Fails when it is up, or silent, after ten seconds.
fn refused(args: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut command = Command::new(WEFT);
    command.args(args).arg("--state").arg(folder.path().join("state"));
    command.env_remove("WEFT_STATE").env_remove("WEFT_TOKEN_FILE").stdin(Stdio::null());
    let mut process = Process::start("second", &mut command, &log).unwrap();
    let status = process
        .wait(Duration::from_secs(10))
        .unwrap_or_else(|| panic!("{args:?} runs: {}", process.log_text()));
    assert_eq!(status.code(), Some(1), "{args:?}: {}", process.log_text());
    process.log_text()
}

fn is_one_sentence_naming(port: u16, text: &str) {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    assert_eq!(lines.len(), 1, "one sentence, no more: {text}");
    assert!(
        lines[0].contains(&format!("port {port} ")) || lines[0].contains(&format!(":{port} is taken")),
        "names port {port}: {text}"
    );
    assert!(lines[0].contains("taken") && !lines[0].contains("panicked"), "{text}");
}

/// A second proxy that wants `port` for `listener`, and nothing else that is taken.
fn second_proxy(listener: &str, port: u16, workers: &str) -> String {
    let mut args =
        vec!["proxy", "--control", "https://127.0.0.1:1", "--service", "other", "--workers", workers];
    let (wanted, free) = (format!("127.0.0.1:{port}"), "127.0.0.1:0");
    for flag in ["--outbound", "--inbound", "--admin", "--metrics"] {
        args.extend([flag, if flag.ends_with(listener) { &wanted } else { free }]);
    }
    refused(&args)
}

/// Of `count` new connections, how many were answered with `body`.
fn answered(port: u16, target: &str, body: &str, count: usize) -> usize {
    let address = format!("127.0.0.1:{port}");
    (0..count)
        .filter(|_| http::get(&address, target, &[]).is_ok_and(|answer| answer.body.contains(body)))
        .count()
}

#[test]
fn a_second_proxy_says_which_port_and_the_first_serves_on() {
    for workers in ["1", "2"] {
        let mut mesh = Mesh::start(WEFT).unwrap();
        let first = mesh.proxy("fe", "fe-1", 0, &["--workers", workers]).unwrap();
        for listener in ["outbound", "inbound", "admin", "metrics"] {
            let port = first.port(listener);
            let started = Instant::now();
            is_one_sentence_naming(port, &second_proxy(listener, port, workers));
            assert!(
                started.elapsed() < Duration::from_secs(5),
                "{listener}: it said so after {:?}",
                started.elapsed()
            );
        }
        serves(&first);
    }
}

/// The proxy answers every one of forty new connections on its outbound port.
fn serves(proxy: &Joined) {
    let address = format!("127.0.0.1:{}", proxy.port("outbound"));
    for _ in 0..40 {
        let answer = http::get(&address, "http://nobody.example/", &[]).unwrap();
        assert_eq!(answer.status, 404, "{}", answer.body);
        assert!(!answer.body.contains("the other one"), "an Envoy took the connection");
    }
}

#[test]
fn a_second_control_plane_says_which_port() {
    let mesh = Mesh::start(WEFT).unwrap();
    for (door, port) in [("--api", mesh.api), ("--xds", mesh.xds), ("--dns", mesh.dns)] {
        let taken = format!("127.0.0.1:{port}");
        let mut args = vec!["control"];
        for flag in ["--api", "--xds", "--dns"] {
            args.extend([flag, if flag == door { &taken } else { "127.0.0.1:0" }]);
        }
        let text = refused(&args);
        is_one_sentence_naming(port, &text);
        assert!(text.contains(door), "says which flag moves it: {text}");
    }
    // DNS is two sockets on one port; either can be the one that is taken.
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = udp.local_addr().unwrap();
    is_one_sentence_naming(
        taken.port(),
        &refused(&["control", "--api", "127.0.0.1:0", "--xds", "127.0.0.1:0", "--dns", &taken.to_string()]),
    );
    assert_eq!(http::get(&format!("127.0.0.1:{}", mesh.api), "/healthz", &[]).unwrap().status, 200);
}

#[test]
fn a_port_on_all_addresses_is_taken_for_each_of_them() {
    let holder = TcpListener::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0)).unwrap();
    let port = holder.local_addr().unwrap().port();
    is_one_sentence_naming(port, &second_proxy("inbound", port, "2"));
}

/// An Envoy that answers "the other one" on `port`; it asks for `SO_REUSEPORT`, as Envoys do.
fn envoy(program: &Path, folder: &Path, port: u16) -> Process {
    let text = format!(
        r#"
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}
static_resources:
  listeners:
    - name: held
      enable_reuse_port: true
      address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
      filter_chains:
        - filters:
            - name: http
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: held
                http_filters:
                  - name: router
                    typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
                route_config:
                  virtual_hosts:
                    - name: all
                      domains: ["*"]
                      routes: [{{match: {{prefix: /}}, direct_response: {{status: 200, body: {{inline_string: "the other one"}}}}}}]
"#
    );
    let file = folder.join("envoy.yaml");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(program);
    // Its own base id, so that Envoys of other tests don't meet this one.
    command.args(["--use-dynamic-base-id", "--concurrency", "2", "-l", "info", "-c"]).arg(&file);
    Process::start("envoy", &mut command, &folder.join("envoy.log")).unwrap()
}

#[test]
fn an_envoy_that_shares_its_port_is_seen_and_keeps_it() {
    let Some(program) = peers::program("envoy") else { return };
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut envoy = envoy(&program, folder.path(), port);
    eventually("Envoy answers", Duration::from_secs(15), || {
        assert!(envoy.running(), "{}", envoy.log_text());
        (answered(port, "/", "the other one", 1) == 1).then_some(())
    });
    // The guard: Envoy's socket really is one that others may share, so that only our own care refuses.
    bind(port, Sharing::AskedFor).expect("Linux lets the same user share Envoy's port");
    for workers in ["1", "2"] {
        for listener in ["outbound", "inbound"] {
            is_one_sentence_naming(port, &second_proxy(listener, port, workers));
        }
    }
    is_one_sentence_naming(
        port,
        &refused(&[
            "control",
            "--xds",
            &format!("127.0.0.1:{port}"),
            "--api",
            "127.0.0.1:0",
            "--dns",
            "127.0.0.1:0",
        ]),
    );
    assert_eq!(answered(port, "/", "the other one", 40), 40, "Envoy kept every connection");
}

enum Sharing {
    AskedFor,
    No,
}

/// Binds without listening, so that it takes no connection, and lets go.
fn bind(port: u16, sharing: Sharing) -> std::io::Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_reuse_port(matches!(sharing, Sharing::AskedFor))?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())
}

/// Whatever the number of workers, the port is nobody else's, also not the same user's who asks for sharing.
#[test]
fn nobody_comes_later() {
    for workers in ["1", "2"] {
        let mut mesh = Mesh::start(WEFT).unwrap();
        let first = mesh.proxy("fe", "fe-1", 0, &["--workers", workers]).unwrap();
        for listener in ["outbound", "inbound"] {
            let port = first.port(listener);
            assert!(bind(port, Sharing::No).is_err(), "{workers} workers, {listener}");
            assert!(bind(port, Sharing::AskedFor).is_err(), "{workers} workers, {listener}");
        }
        for listener in ["admin", "metrics"] {
            assert!(bind(first.port(listener), Sharing::AskedFor).is_err(), "{workers} workers, {listener}");
        }
    }
}

#[test]
fn an_envoy_that_comes_later_does_not_share_ours() {
    let Some(program) = peers::program("envoy") else { return };
    let mut mesh = Mesh::start(WEFT).unwrap();
    let first = mesh.proxy("fe", "fe-1", 0, &[]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut envoy = envoy(&program, folder.path(), first.port("outbound"));
    let status = envoy
        .wait(Duration::from_secs(20))
        .unwrap_or_else(|| panic!("Envoy runs beside us: {}", envoy.log_text()));
    assert!(!status.success() && envoy.log_text().contains("Address already in use"), "{}", envoy.log_text());
    serves(&first);
}
