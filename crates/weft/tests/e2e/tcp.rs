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
    let mut stream = weft_testkit::eventually("CONNECT db:5432 is accepted", Duration::from_secs(5), || {
        let mut stream = TcpStream::connect(("127.0.0.1", client.port("outbound"))).ok()?;
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
    });
    let mut banner = [0; 6];
    stream.read_exact(&mut banner).unwrap();
    assert_eq!(&banner, b"READY\n");
    stream.write_all(b"ping").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "pingBYE\n");
}
