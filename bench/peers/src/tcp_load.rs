//! Bytes one way over four connections, as fast as they go.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::json;

const CONNECTIONS: usize = 4;

/// `tcp-load PORT SECONDS [CONNECT-TARGET]`; prints one JSON line.
pub fn run(args: &[String]) -> anyhow::Result<()> {
    let (port, seconds, target) = match args {
        [port, seconds] => (port, seconds, None),
        [port, seconds, target] => (port, seconds, Some(target.as_str())),
        _ => bail!("tcp-load PORT SECONDS [CONNECT-TARGET]"),
    };
    let port: u16 = port.parse()?;
    let length = Duration::from_secs(seconds.parse()?);
    let started = Instant::now();
    let threads: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let target = target.map(str::to_owned);
            std::thread::spawn(move || connection(port, target.as_deref(), started, length))
        })
        .collect();
    let mut bytes = 0;
    for thread in threads {
        let sent = thread.join().map_err(|_| anyhow::anyhow!("a connection's thread panicked"))?;
        bytes += sent.context("a connection failed")?;
    }
    println!("{}", json!({"bytes": bytes, "seconds": started.elapsed().as_secs_f64()}));
    Ok(())
}

fn connection(port: u16, target: Option<&str>, started: Instant, length: Duration) -> anyhow::Result<u64> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    if let Some(target) = target {
        stream.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes())?;
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).context("no answer to CONNECT")?;
            answer.push(byte[0]);
        }
        if !answer.starts_with(b"HTTP/1.1 200") {
            bail!("CONNECT was refused: {}", String::from_utf8_lossy(&answer));
        }
    }
    let chunk = vec![7; 128 * 1024];
    let mut bytes = 0;
    while started.elapsed() < length {
        stream.write_all(&chunk)?;
        bytes += chunk.len() as u64;
    }
    Ok(bytes)
}
