//! Callers that send the same bytes each time and wait for each answer: one connection, one request at a time.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, bail};

pub trait Client {
    /// One request and its whole answer, which must be a good one.
    fn request(&mut self) -> anyhow::Result<()>;
}

pub struct Http1 {
    stream: TcpStream,
    request: Vec<u8>,
    input: Vec<u8>,
}

impl Http1 {
    pub fn new(stream: TcpStream, path: &str, host: &str) -> Http1 {
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: weft-instructions\r\naccept: */*\r\n\r\n"
        );
        Http1 { stream, request: request.into_bytes(), input: Vec::with_capacity(32 * 1024) }
    }

    /// Through a TCP tunnel: the proxy sees bytes.
    pub fn tunnelled(mut stream: TcpStream, target: &str, path: &str) -> anyhow::Result<Http1> {
        stream.write_all(format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n").as_bytes())?;
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte)?;
            answer.push(byte[0]);
        }
        if !answer.starts_with(b"HTTP/1.1 200") {
            bail!("CONNECT was refused: {}", String::from_utf8_lossy(&answer));
        }
        Ok(Http1::new(stream, path, target))
    }

    fn complete(&self) -> anyhow::Result<bool> {
        let Some(head) = self.input.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Ok(false);
        };
        let (head, body) = self.input.split_at(head + 4);
        let head = std::str::from_utf8(head)?.to_ascii_lowercase();
        if !head.starts_with("http/1.1 200") {
            bail!("not a 200: {head}");
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.context("no content-length")?.trim().parse()?;
        Ok(body.len() >= length)
    }
}

impl Client for Http1 {
    fn request(&mut self) -> anyhow::Result<()> {
        self.stream.write_all(&self.request)?;
        self.input.clear();
        let mut chunk = [0; 16 * 1024];
        while !self.complete()? {
            let read = self.stream.read(&mut chunk)?;
            if read == 0 {
                bail!("the connection was closed");
            }
            self.input.extend_from_slice(&chunk[..read]);
        }
        Ok(())
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

/// Unary calls; the first one teaches the peer's table our fields, the others name them, as clients do.
pub struct Http2 {
    stream: TcpStream,
    authority: String,
    next: u32,
    input: Vec<u8>,
}

impl Http2 {
    pub fn new(mut stream: TcpStream, authority: &str) -> anyhow::Result<Http2> {
        let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        frame(&mut out, SETTINGS, 0, 0, &[0, 4, 0, 16, 0, 0]);
        frame(&mut out, WINDOW_UPDATE, 0, 0, &0x3fff_0000_u32.to_be_bytes());
        stream.write_all(&out)?;
        Ok(Http2 { stream, authority: authority.to_owned(), next: 1, input: Vec::new() })
    }

    fn head(&self) -> Vec<u8> {
        // `:method POST` and `:scheme http` are in the static table.
        let mut head = vec![0x83, 0x86];
        if self.next == 1 {
            // Literals that are kept: their places are 62 and up, the newest first.
            for (name, value) in
                [(1, self.authority.as_str()), (4, "/pkg.Greeter/SayHello"), (31, "application/grpc")]
            {
                head.push(0x40 | name);
                head.push(value.len() as u8);
                head.extend_from_slice(value.as_bytes());
            }
            head.push(0x40);
            for word in ["te", "trailers"] {
                head.push(word.len() as u8);
                head.extend_from_slice(word.as_bytes());
            }
        } else {
            head.extend([65, 64, 63, 62].map(|place| 0x80 | place));
        }
        head
    }
}

impl Client for Http2 {
    fn request(&mut self) -> anyhow::Result<()> {
        let id = self.next;
        let mut out = Vec::new();
        frame(&mut out, HEADERS, 4, id, &self.head());
        frame(&mut out, DATA, 1, id, b"\0\0\0\0\x0d\x0a\x0bHello World");
        self.stream.write_all(&out)?;
        self.next += 2;
        let mut chunk = [0; 16 * 1024];
        loop {
            let mut from = 0;
            let mut ended = false;
            let mut out = Vec::new();
            while let Some(header) = self.input.get(from..from + 9) {
                let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
                let (kind, flags) = (header[3], header[4]);
                let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
                let Some(payload) = self.input.get(from + 9..from + 9 + length) else { break };
                match kind {
                    SETTINGS if flags & 1 == 0 => frame(&mut out, SETTINGS, 1, 0, &[]),
                    PING if flags & 1 == 0 => frame(&mut out, PING, 1, 0, payload),
                    RESET | GOAWAY => bail!("the proxy sent a frame of type {kind}: {payload:?}"),
                    // `:status 200` is the static table's eighth entry.
                    HEADERS if flags & 1 == 0 && stream == id && payload.first() != Some(&0x88) => {
                        bail!("not a 200: {payload:?}");
                    }
                    HEADERS | DATA if stream == id && flags & 1 == 1 => ended = true,
                    _ => {}
                }
                from += 9 + length;
            }
            self.input.drain(..from);
            if !out.is_empty() {
                self.stream.write_all(&out)?;
            }
            if ended {
                return Ok(());
            }
            let read = self.stream.read(&mut chunk)?;
            if read == 0 {
                bail!("the connection was closed");
            }
            self.input.extend_from_slice(&chunk[..read]);
        }
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, id: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(payload);
}
