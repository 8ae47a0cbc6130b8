//! Two ends against each other, and one end against bytes that nobody should send.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod bodies;
mod faults;
mod messages;
mod noise;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request};

use super::{
    Config, Connection, Event, Fault, Key, PREFACE, Read, Role, Source,
    frame::{Head, flag, kind},
};

/// Received bytes.
#[derive(Default)]
struct Input(BytesMut);

impl Source for Input {
    fn as_slice(&self) -> &[u8] {
        &self.0
    }

    fn skip(&mut self, count: usize) {
        self.0.advance(count);
    }

    fn take(&mut self, count: usize) -> Bytes {
        self.0.split_to(count).freeze()
    }
}

/// One end and what it has got.
struct End {
    connection: Connection,
    input: Input,
}

impl End {
    fn new(config: Config) -> End {
        End { connection: Connection::new(config), input: Input::default() }
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.input.0.extend_from_slice(bytes);
        self.connection.receive(&mut self.input)
    }

    /// All that is to be written.
    fn written(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while !self.connection.output().is_empty() {
            let mut slices = [std::io::IoSlice::new(&[]); 4];
            let used = self.connection.output().slices(&mut slices);
            let part: Vec<u8> = slices[..used].iter().flat_map(|slice| slice.to_vec()).collect();
            all.extend_from_slice(&part);
            self.connection.written(part.len());
        }
        all
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.connection.next_event()).collect()
    }

    /// The streams that were opened.
    fn opened(&mut self) -> Vec<Key> {
        let opened = |event| if let Event::Opened(key) = event { Some(key) } else { None };
        self.events().into_iter().filter_map(opened).collect()
    }

    /// All that can be read of a stream: data, trailers, and whether it has ended.
    fn read(&mut self, key: Key) -> (Vec<u8>, Option<HeaderMap>, bool) {
        let (mut all, mut trailers) = (Vec::new(), None);
        loop {
            match self.connection.read(key).unwrap() {
                Read::Data(data) => all.extend_from_slice(&data),
                Read::Trailers(map) => trailers = Some(map),
                Read::End => return (all, trailers, true),
                Read::Wait => return (all, trailers, false),
            }
        }
    }
}

/// Moves bytes until neither end has any, cut into pieces of `step`.
fn exchange(client: &mut End, server: &mut End, step: usize) {
    loop {
        let (there, back) = (client.written(), server.written());
        if there.is_empty() && back.is_empty() {
            return;
        }
        for part in there.chunks(step) {
            let _ = server.receive(part);
        }
        for part in back.chunks(step) {
            let _ = client.receive(part);
        }
    }
}

/// Two ends that know each other's SETTINGS.
fn pair_of(client: Config, server: Config) -> (End, End) {
    let (mut client, mut server) = (End::new(client), End::new(server));
    exchange(&mut client, &mut server, usize::MAX);
    assert!(client.connection.is_greeted() && server.connection.is_greeted());
    client.events();
    server.events();
    (client, server)
}

fn pair() -> (End, End) {
    pair_of(Config::new(Role::Client), Config::new(Role::Server))
}

fn request(method: &str, uri: &str) -> Request<()> {
    Request::builder().method(method).uri(uri).body(()).unwrap()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Head { len: payload.len() as u32, kind, flags, stream }.write(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

/// Frames in what an end has written.
fn frames(mut bytes: &[u8]) -> Vec<(Head, Vec<u8>)> {
    let mut all = Vec::new();
    if let Some(rest) = bytes.strip_prefix(PREFACE) {
        bytes = rest;
    }
    while let Some(head) = Head::parse(bytes) {
        all.push((head, bytes[9..9 + head.len as usize].to_vec()));
        bytes = &bytes[9 + head.len as usize..];
    }
    assert!(bytes.is_empty(), "whole frames only");
    all
}

/// The smallest request that there is: `GET / HTTP/2` to `a`, from the static table.
const SMALL: &[u8] = &[0x82, 0x86, 0x84, 0x41, 0x01, b'a'];

/// A server that has the preface and SETTINGS of a client that speaks by hand.
fn greeted_server(config: Config) -> End {
    let mut server = End::new(config);
    server.receive(PREFACE).unwrap();
    server.receive(&frame(kind::SETTINGS, 0, 0, &[])).unwrap();
    server.receive(&frame(kind::SETTINGS, flag::ACK, 0, &[])).unwrap();
    server.events();
    server.written();
    server
}

fn server() -> End {
    greeted_server(Config::new(Role::Server))
}

fn value(text: &'static str) -> HeaderValue {
    HeaderValue::from_static(text)
}
