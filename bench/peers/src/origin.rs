//! The service behind the proxies: a thread a connection, fixed answers, no parsing beyond the end of a head.
//!
//! HTTP/1.1: 13 bytes, or 10 KiB for a path that starts with `/10k`. HTTP/2 in the clear: a gRPC-like answer with
//! trailers for every request. A second port swallows bytes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, bail};

use crate::machine::{LOAD_CORE, Running, pinned};

/// The origin as a process of its own on the generator's core.
pub struct Origin {
    _process: Running,
    pub http: u16,
    /// The same, for what is declared as HTTP/2.
    pub grpc: u16,
    pub sink: u16,
}

impl Origin {
    pub fn start(dir: &Path) -> anyhow::Result<Origin> {
        let program = std::env::current_exe()?;
        let mut process = Running::start(
            pinned(LOAD_CORE, program).arg("origin").stdout(Stdio::piped()),
            &dir.join("origin.log"),
        )?;
        let line = first_line(&mut process)?;
        let ports: Vec<u16> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        let [http, grpc, sink] = ports[..] else { bail!("the origin printed {line}") };
        Ok(Origin { _process: process, http, grpc, sink })
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
    Ok(String::from_utf8(line)?)
}

pub fn serve() -> anyhow::Result<()> {
    let http = TcpListener::bind("127.0.0.1:0")?;
    let grpc = TcpListener::bind("127.0.0.1:0")?;
    let sink = TcpListener::bind("127.0.0.1:0")?;
    let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
    println!("{} {} {}", port(&http)?, port(&grpc)?, port(&sink)?);
    std::thread::spawn(move || accept(&sink, swallow));
    let serve = |stream| {
        let _ = answer(stream);
    };
    std::thread::spawn(move || accept(&grpc, serve));
    accept(&http, serve);
    Ok(())
}

fn accept(listener: &TcpListener, serve: fn(TcpStream)) {
    for stream in listener.incoming().map_while(Result::ok) {
        // Many connections may be idle; a thread that waits needs little.
        let thread = std::thread::Builder::new().stack_size(512 * 1024);
        if thread.spawn(move || serve(stream)).is_err() {
            return;
        }
    }
}

fn swallow(mut stream: TcpStream) {
    let mut buffer = vec![0; 256 * 1024];
    while stream.read(&mut buffer).is_ok_and(|read| read > 0) {}
}

fn answer(mut stream: TcpStream) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut buffer = vec![0; 16 * 1024];
    let mut out = Vec::new();
    let mut filled = 0;
    loop {
        let read = stream.read(buffer.get_mut(filled..)?).ok().filter(|read| *read > 0)?;
        filled += read;
        if buffer.starts_with(b"PRI * HTTP/2") {
            return answer_h2(stream, buffer.get(..filled)?.to_vec());
        }
        let mut from = 0;
        while let Some(end) = buffer[from..filled].windows(4).position(|window| window == b"\r\n\r\n") {
            let body: &[u8] =
                if buffer[from..].starts_with(b"GET /10k") { &[b'x'; 10240] } else { b"hello, world\n" };
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            out.extend_from_slice(head.as_bytes());
            out.extend_from_slice(body);
            from += end + 4;
        }
        buffer.copy_within(from..filled, 0);
        filled -= from;
        if !out.is_empty() {
            stream.write_all(&out).ok()?;
            out.clear();
        }
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;

/// Enough of RFC 9113 for a client that behaves: heads are not decoded.
fn answer_h2(mut stream: TcpStream, mut input: Vec<u8>) -> Option<()> {
    let preface = 24;
    let mut read = [0; 64 * 1024];
    while input.len() < preface {
        let n = stream.read(&mut read).ok().filter(|read| *read > 0)?;
        input.extend_from_slice(&read[..n]);
    }
    input.drain(..preface);
    let mut out = Vec::new();
    // 1,000 streams at once, windows of 1 MiB.
    frame(&mut out, SETTINGS, 0, 0, &[0, 3, 0, 0, 3, 232, 0, 4, 0, 16, 0, 0]);
    frame(&mut out, WINDOW_UPDATE, 0, 0, &0x0010_0000_u32.to_be_bytes());
    // `:status 200`, `content-type: application/grpc`; then `grpc-status: 0`.
    let head = [&[0x88, 0x0f, 0x10, 16], &b"application/grpc"[..]].concat();
    let trailers = [&[0, 11], &b"grpc-status"[..], &[1, b'0']].concat();
    loop {
        let mut from = 0;
        while let Some(header) = input.get(from..from + 9) {
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
            let (kind, flags) = (header[3], header[4]);
            let id = u32::from_be_bytes([header[5], header[6], header[7], header[8]]) & 0x7fff_ffff;
            let Some(payload) = input.get(from + 9..from + 9 + length) else { break };
            match kind {
                SETTINGS if flags & 1 == 0 => frame(&mut out, SETTINGS, 1, 0, &[]),
                PING if flags & 1 == 0 => frame(&mut out, PING, 1, 0, payload),
                DATA if length > 0 => {
                    frame(&mut out, WINDOW_UPDATE, 0, 0, &u32::try_from(length).ok()?.to_be_bytes());
                }
                _ => {}
            }
            if (kind == DATA || kind == HEADERS) && flags & 1 == 1 {
                frame(&mut out, HEADERS, 4, id, &head);
                frame(&mut out, DATA, 0, id, b"\0\0\0\0\x0d\x0a\x0bHello World");
                frame(&mut out, HEADERS, 5, id, &trailers);
            }
            from += 9 + length;
        }
        input.drain(..from);
        if !out.is_empty() {
            stream.write_all(&out).ok()?;
            out.clear();
        }
        let n = stream.read(&mut read).ok().filter(|read| *read > 0)?;
        input.extend_from_slice(&read[..n]);
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, id: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(payload);
}
