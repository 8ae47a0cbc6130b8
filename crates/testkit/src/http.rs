//! A tiny blocking HTTP/1.1 client and origin, written apart from the product's own HTTP code.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, bail};

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// One request on a connection of its own. `target` is sent as it is: a path, or an absolute URL to a proxy.
pub fn get(address: &str, target: &str, headers: &[(&str, &str)]) -> anyhow::Result<Answer> {
    request(address, "GET", target, headers)
}

pub fn request(
    address: &str,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
) -> anyhow::Result<Answer> {
    let stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
    exchange(stream, method, target, headers, address)
}

/// A request with a body.
pub fn send(
    address: &str,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> anyhow::Result<Answer> {
    let stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
    write_and_read(stream, method, target, headers, address, body)
}

/// A request without a body on an open connection.
pub fn exchange(
    stream: TcpStream,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    address: &str,
) -> anyhow::Result<Answer> {
    write_and_read(stream, method, target, headers, address, "")
}

fn write_and_read(
    mut stream: TcpStream,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    address: &str,
    body: &str,
) -> anyhow::Result<Answer> {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let host = target.strip_prefix("http://").and_then(|t| t.split('/').next()).unwrap_or(address);
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    head.push_str(body);
    stream.write_all(head.as_bytes())?;
    read_answer(stream)
}

fn read_answer(stream: impl Read) -> anyhow::Result<Answer> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|s| s.parse().ok())
        .with_context(|| format!("no status in `{}`", line.trim()))?;
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            bail!("the head ended early");
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let mut body = Vec::new();
    match headers.get("content-length").and_then(|n| n.parse::<u64>().ok()) {
        Some(length) => {
            reader.take(length).read_to_end(&mut body)?;
        }
        None if headers.get("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) => loop {
            line.clear();
            reader.read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim(), 16)
                .with_context(|| format!("chunk size `{}`", line.trim()))?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk)?;
            if size == 0 {
                break;
            }
            body.extend_from_slice(&chunk[..size]);
        },
        None => {
            reader.read_to_end(&mut body)?;
        }
    }
    Ok(Answer { status, headers, body: String::from_utf8_lossy(&body).into_owned() })
}

/// An origin that answers every request with its name and counts them.
pub struct Origin {
    pub port: u16,
    served: Arc<AtomicU64>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Origin {
    /// `/status/NNN` is answered NNN; anything else 200.
    pub fn start(name: &str) -> anyhow::Result<Origin> {
        Origin::start_at(name, "127.0.0.1:0")
    }

    pub fn start_at(name: &str, address: &str) -> anyhow::Result<Origin> {
        let listener = TcpListener::bind(address)?;
        let port = listener.local_addr()?.port();
        let (served, heads) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (name, count, seen) = (name.to_owned(), served.clone(), heads.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (name, count, seen) = (name.clone(), count.clone(), seen.clone());
                std::thread::spawn(move || serve(stream, &name, &count, &seen));
            }
        });
        Ok(Origin { port, served, heads })
    }

    pub fn served(&self) -> u64 {
        self.served.load(Ordering::SeqCst)
    }

    /// The heads of the requests so far, as they came.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().map(|h| h.clone()).unwrap_or_default()
    }
}

fn serve(stream: TcpStream, name: &str, served: &AtomicU64, heads: &Mutex<Vec<String>>) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let length = head.lines().find_map(|l| {
            let (key, value) = l.split_once(':')?;
            key.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<u64>().ok())?
        });
        if let Some(length) = length {
            std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink()).ok()?;
        }
        let path = head.split(' ').nth(1).unwrap_or("/");
        let status = path.strip_prefix("/status/").and_then(|s| s.get(..3)).unwrap_or("200").to_owned();
        served.fetch_add(1, Ordering::SeqCst);
        if let Ok(mut heads) = heads.lock() {
            heads.push(head.clone());
        }
        let body = format!("{name}\n");
        writer
            .write_all(
                format!("HTTP/1.1 {status} Fine\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes(),
            )
            .ok()?;
    }
}
