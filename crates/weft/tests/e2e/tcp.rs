//! Services that do not speak HTTP: a TCP port through both proxies, by CONNECT.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use weft_testkit::Mesh;

use crate::WEFT;

const OBJECTS: &str = r"
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {selector: {app: db}, ports: [{name: tcp-db, port: 5432, targetPort: PORT}]}
---
apiVersion: v1
kind: Service
metadata: {name: client}
spec: {selector: {app: client}, ports: [{name: http, port: 80, targetPort: 8080}]}
";

/// Speaks first, then echoes: a protocol that no detection by the client's bytes can see.
fn banner_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let _ = stream.write_all(b"READY\n");
                let mut buffer = [0; 4096];
                while let Ok(n) = stream.read(&mut buffer) {
                    if n == 0 || stream.write_all(&buffer[..n]).is_err() {
                        break;
                    }
                }
                // The client's half-close reaches here as the end; what is left still goes back.
                let _ = stream.write_all(b"BYE\n");
            });
        }
    });
    port
}

#[test]
fn a_server_that_speaks_first_is_reached_through_both_proxies_and_half_close_is_kept() {
    let app = banner_server();
    let mut mesh = Mesh::start(WEFT).unwrap();
    mesh.apply(&OBJECTS.replace("PORT", &app.to_string())).unwrap();
    mesh.proxy("db", "db-1", app, &[]).unwrap();
    let client = mesh.proxy("client", "client-1", 0, &[]).unwrap();
    let mut stream = connected(client.port("outbound"));
    let mut banner = [0; 6];
    stream.read_exact(&mut banner).unwrap();
    assert_eq!(&banner, b"READY\n");
    stream.write_all(b"ping").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "pingBYE\n");
}

/// Says what it got up to the client's end, in a protocol where the client speaks first.
fn parrot() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut got = Vec::new();
                let _ = stream.read_to_end(&mut got).and_then(|_| stream.write_all(&got));
            });
        }
    });
    port
}

const HEADERS: &str = r"
---
apiVersion: weft.dev/v1
kind: TrafficPolicy
metadata: {name: db}
spec: {targetRefs: [{name: db}], proxyProtocol: v1}
";

#[test]
fn an_app_is_told_by_its_own_proxy_where_a_members_call_comes_from() {
    let app = parrot();
    let mut mesh = Mesh::start(WEFT).unwrap();
    mesh.apply(&(OBJECTS.replace("PORT", &app.to_string()) + HEADERS)).unwrap();
    let db = mesh.proxy("db", "db-1", app, &[]).unwrap();
    let client = mesh.proxy("client", "client-1", 0, &[]).unwrap();
    let mut stream = connected(client.port("outbound"));
    stream.write_all(b"ping").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut got = String::new();
    stream.read_to_string(&mut got).unwrap();
    let (header, rest) = got.split_once("\r\n").unwrap_or_else(|| panic!("no header: {got:?}"));
    let words: Vec<&str> = header.split(' ').collect();
    let ["PROXY", "TCP4", "127.0.0.1", "127.0.0.1", _, to] = words[..] else { panic!("{header}") };
    assert_eq!((to, rest), (db.port("inbound").to_string().as_str(), "ping"), "{header}");
}

/// A connection to db's port by CONNECT at a member's own proxy.
fn connected(outbound: u16) -> TcpStream {
    weft_testkit::eventually("CONNECT db:5432 is accepted", Duration::from_secs(5), || {
        let mut stream = TcpStream::connect(("127.0.0.1", outbound)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        stream.write_all(b"CONNECT db.default.mesh.internal:5432 HTTP/1.1\r\nHost: db.default.mesh.internal:5432\r\n\r\n").ok()?;
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read(&mut byte).ok()? == 0 {
                return None;
            }
            head.push(byte[0]);
        }
        head.starts_with(b"HTTP/1.1 200").then_some(stream)
    })
}
