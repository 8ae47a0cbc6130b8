//! Proxies under test, and a client that writes bytes.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    path::PathBuf,
    thread::JoinHandle,
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use weft_proxy::{Config, Drain, PortsWanted, ProxyError, static_config::StaticResources};

use crate::{beside::End, mesh::LIMIT};

/// A proxy with one worker; dropped, it ends.
pub struct Edge {
    pub state: PathBuf,
    stop: CancellationToken,
    thread: Option<JoinHandle<Result<(), ProxyError>>>,
}

impl Edge {
    pub fn start(resources: StaticResources) -> Edge {
        let state = std::env::temp_dir().join(format!("weft-corpus-{:x}", fastrand::u64(..)));
        let mut config = Config::new("default", "edge", state.clone());
        config.resources = resources;
        config.signals = false;
        config.workers = 1;
        config.drain = Drain { delay: Duration::ZERO, timeout: Duration::from_millis(100) };
        config.ports = PortsWanted { outbound: None, inbound: None, admin: None, metrics: None };
        config.ports.admin = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let stop = config.stop.clone();
        let (sender, ready) = std::sync::mpsc::channel();
        config.on_ready = Some(Box::new(move |_| {
            let _ = sender.send(());
        }));
        let thread = std::thread::spawn(move || weft_proxy::run(config));
        if ready.recv_timeout(LIMIT).is_err() {
            panic!("the proxy did not start: {:?}", thread.join());
        }
        Edge { state, stop, thread: Some(thread) }
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = std::fs::remove_dir_all(&self.state);
    }
}

pub fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream
}

/// Writes the pieces, ends its side, and reads to the end. So no case needs a clock: a whole request is answered, and
/// one that is not whole ends with the connection.
pub fn exchange<'a>(to: SocketAddr, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    exchange_until(to, End::HalfClose, pieces)
}

/// The same, with another way to say that nothing more comes.
pub fn exchange_until<'a>(to: SocketAddr, end: End, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut stream = connect(to);
    for piece in pieces {
        // The proxy may have refused already.
        if stream.write_all(piece).is_err() {
            break;
        }
    }
    let mut answer = Vec::new();
    if let End::Quiet(time) = end {
        stream.set_read_timeout(Some(time)).unwrap();
        let mut buffer = [0; 16 * 1024];
        loop {
            match stream.read(&mut buffer) {
                Ok(count @ 1..) => answer.extend_from_slice(&buffer[..count]),
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) =>
                {
                    break;
                }
                _ => return answer,
            }
        }
        stream.set_read_timeout(Some(LIMIT)).unwrap();
    }
    let _ = stream.shutdown(Shutdown::Write);
    answer.extend(read_to_end(&mut stream));
    answer
}

pub fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(count @ 1..) => answer.extend_from_slice(&buffer[..count]),
            Ok(0) => return answer,
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
            {
                panic!("no end in time; so far {:?}", String::from_utf8_lossy(&answer))
            }
            Err(_) => return answer,
        }
    }
}

/// One final answer as the client saw it.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    /// The body ended as its head said.
    pub whole: bool,
}

impl Answer {
    pub fn one<'a>(&'a self, name: &str) -> Option<&'a str> {
        self.head.split("\r\n").skip(1).find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The answers in `bytes`, none of them to a HEAD.
pub fn answers(mut bytes: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while let Some(end) = find(bytes, b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        bytes = &bytes[end + 4..];
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let mut answer = Answer { status, head, body: Vec::new(), whole: true };
        if (100..200).contains(&status) && status != 101 {
            continue;
        }
        let length = answer.one("content-length").and_then(|text| text.parse::<usize>().ok());
        let chunked = answer.one("transfer-encoding").is_some();
        if chunked {
            answer.whole = false;
            while let Some(end) = find(bytes, b"\r\n") {
                let size = std::str::from_utf8(&bytes[..end]).ok();
                let Some(size) = size.and_then(|text| usize::from_str_radix(text, 16).ok()) else { break };
                bytes = &bytes[end + 2..];
                if size == 0 {
                    // Trailers, if any, to the empty line.
                    answer.whole = bytes.starts_with(b"\r\n") || find(bytes, b"\r\n\r\n").is_some();
                    let trailers = if bytes.starts_with(b"\r\n") {
                        2
                    } else {
                        find(bytes, b"\r\n\r\n").map_or(0, |at| at + 4)
                    };
                    bytes = &bytes[trailers..];
                    break;
                }
                let have = size.min(bytes.len());
                answer.body.extend_from_slice(&bytes[..have]);
                bytes = &bytes[(size + 2).min(bytes.len())..];
            }
        } else if matches!(status, 101 | 204 | 304) {
        } else {
            let have = length.unwrap_or(bytes.len()).min(bytes.len());
            answer.whole = length.is_none_or(|length| have == length);
            answer.body = bytes[..have].to_vec();
            bytes = &bytes[have..];
        }
        answers.push(answer);
    }
    answers
}

pub fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
