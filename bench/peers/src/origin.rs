//! The service behind the proxies: one thread, edge-triggered epoll, fixed answers, no parsing beyond the end of a head.
//!
//! HTTP/1.1: 13 bytes, or 10 KiB for a path that starts with `/10k`. HTTP/2 in the clear: a gRPC-like answer with
//! trailers for every request; on a port of its own, a hundred messages for each. Another port swallows bytes.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, bail, ensure};

use crate::machine::{LOAD_CORE, Running, Scheduling};
use crate::origin_h2::Http2;
use crate::poll::{self, Got, Places, Poll};

/// The origin as a process of its own on the generator's core.
pub struct Origin {
    pub process: Running,
    pub ports: OriginPorts,
}

#[derive(Debug, Clone, Copy)]
pub struct OriginPorts {
    pub http: u16,
    /// The same, for what is declared as HTTP/2.
    pub grpc: u16,
    /// A hundred messages an answer.
    pub stream: u16,
    pub sink: u16,
    /// HTTP on every address of loopback; 0 where the kernel refuses that.
    pub everywhere: u16,
}

impl Origin {
    pub fn start(dir: &Path, scheduling: Scheduling) -> anyhow::Result<Origin> {
        let program = std::env::current_exe()?;
        let mut process = Running::start(
            scheduling.command(LOAD_CORE, program).arg("origin").stdout(Stdio::piped()),
            &dir.join("origin.log"),
        )?;
        let line = first_line(&mut process)?;
        let ports: Vec<u16> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        let [http, grpc, stream, sink, everywhere] = ports[..] else { bail!("the origin printed {line}") };
        Ok(Origin { process, ports: OriginPorts { http, grpc, stream, sink, everywhere } })
    }
}

/// The first line of a child's standard output.
pub fn first_line(process: &mut Running) -> anyhow::Result<String> {
    let stdout = process.child.stdout.as_mut().context("no stdout")?;
    let mut line = Vec::new();
    let mut byte = [0];
    while stdout.read(&mut byte)? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    ensure!(!line.is_empty(), "a child ended before it printed its ports: {}", process.last_words());
    Ok(String::from_utf8(line)?)
}

/// What a port answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Http,
    Stream,
    Sink,
}

struct Connection {
    stream: TcpStream,
    role: Role,
    input: Vec<u8>,
    output: Vec<u8>,
    http2: Option<Http2>,
}

pub fn serve() -> anyhow::Result<()> {
    let bind = || TcpListener::bind("127.0.0.1:0");
    let mut listeners =
        vec![(bind()?, Role::Http), (bind()?, Role::Http), (bind()?, Role::Stream), (bind()?, Role::Sink)];
    let everywhere = everywhere();
    let have = everywhere.is_ok();
    listeners.extend(everywhere.ok().map(|listener| (listener, Role::Http)));
    let mut ports = Vec::new();
    let mut poll = Poll::new()?;
    for (index, (listener, _)) in listeners.iter().enumerate() {
        ports.push(listener.local_addr()?.port().to_string());
        poll.listener(listener, index as u64)?;
    }
    if !have {
        ports.push("0".to_owned());
    }
    println!("{}", ports.join(" "));
    let first = listeners.len() as u64;
    let mut connections: Places<Connection> = Places::default();
    let mut ready = Vec::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        poll.wait(&mut ready)?;
        for event in &ready {
            if let Some((listener, role)) = listeners.get(event.key as usize) {
                while let Some(stream) = poll::accept(listener) {
                    let (input, output) = (Vec::new(), Vec::new());
                    let place =
                        connections.put(Connection { stream, role: *role, input, output, http2: None });
                    if let Some(connection) = connections.get(place) {
                        poll.edge(&connection.stream, first + place as u64)?;
                    }
                }
                continue;
            }
            let place = (event.key - first) as usize;
            let Some(connection) = connections.get(place) else { continue };
            let mut open = !event.write || poll::flush(&connection.stream, &mut connection.output);
            if open && event.read {
                open = readable(connection, &mut buffer);
            }
            if !open {
                connections.take(place);
            }
        }
    }
}

/// A socket on every address of loopback, and on nothing else: it is bound to that device.
fn everywhere() -> std::io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind_device(Some(b"lo"))?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}

fn readable(connection: &mut Connection, buffer: &mut [u8]) -> bool {
    loop {
        let read = match poll::read(&connection.stream, buffer) {
            Got::Bytes(read) => read,
            Got::NothingNow => return true,
            Got::End => return false,
        };
        if connection.role != Role::Sink && answer(connection, &buffer[..read]).is_none() {
            return false;
        }
        if read < buffer.len() {
            return true;
        }
    }
}

fn answer(connection: &mut Connection, bytes: &[u8]) -> Option<()> {
    if connection.http2.is_none() && connection.input.is_empty() && bytes.starts_with(b"PRI * HTTP/2") {
        connection.http2 = Some(Http2::new(connection.role == Role::Stream));
    }
    if connection.input.is_empty() {
        let used = consume(&mut connection.http2, bytes, &connection.stream, &mut connection.output)?;
        connection.input.extend_from_slice(bytes.get(used..)?);
    } else {
        connection.input.extend_from_slice(bytes);
        let used =
            consume(&mut connection.http2, &connection.input, &connection.stream, &mut connection.output)?;
        connection.input.drain(..used);
    }
    Some(())
}

const SMALL: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 13\r\n\r\nhello, world\n";

/// Answers what is whole of `input`; returns how much that was.
fn consume(
    http2: &mut Option<Http2>,
    input: &[u8],
    stream: &TcpStream,
    output: &mut Vec<u8>,
) -> Option<usize> {
    if let Some(http2) = http2 {
        let mut out = Vec::new();
        let used = http2.input(input, &mut out)?;
        return (out.is_empty() || poll::write(stream, &out, output)).then_some(used);
    }
    let mut from = 0;
    while let Some(end) = input.get(from..)?.windows(4).position(|window| window == b"\r\n\r\n") {
        let sent = if input[from..].starts_with(b"GET /10k") {
            poll::write(stream, &big(), output)
        } else {
            poll::write(stream, SMALL, output)
        };
        if !sent {
            return None;
        }
        from += end + 4;
    }
    Some(from)
}

fn big() -> Vec<u8> {
    let mut answer = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 10240\r\n\r\n".to_vec();
    answer.resize(answer.len() + 10240, b'x');
    answer
}
