//! The HTTP/2 codec, a server's end: frames after a client's preface and SETTINGS.

use std::{
    collections::BTreeMap,
    io::IoSlice,
    pin::pin,
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Request};
use tokio::io::AsyncWrite;
use weft_wire::http2::{Config, Connection, Event, Fault, Key, PREFACE, Read, Role, Source};

use crate::{mutations::Random, seed_of};

const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

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

/// A request as a reader sees it.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    head: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    trailers: Option<Vec<(String, Vec<u8>)>>,
    whole: bool,
}

fn fields(map: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    map.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
}

impl Seen {
    fn of<B>(request: &Request<B>) -> Seen {
        let uri = request.uri();
        let head = format!(
            "{} {:?} {:?} {:?}",
            request.method(),
            uri.scheme_str(),
            uri.authority(),
            uri.path_and_query().map_or("", |path| path.as_str())
        );
        Seen { head, headers: fields(request.headers()), body: Vec::new(), trailers: None, whole: false }
    }
}

type Requests = BTreeMap<u32, Seen>;

/// What our end makes of the bytes, however they are cut; it reads the bodies once all is there.
fn ours(pieces: &[&[u8]]) -> (Requests, Option<Fault>) {
    let mut connection = Connection::new(Config::new(Role::Server));
    let mut input = Input::default();
    for piece in [PREFACE, SETTINGS].iter().chain(pieces) {
        input.0.extend_from_slice(piece);
        if connection.receive(&mut input).is_err() {
            break;
        }
    }
    let mut keys: Vec<Key> = Vec::new();
    while let Some(event) = connection.next_event() {
        if let Event::Opened(key) = event {
            keys.push(key);
        }
    }
    let mut requests = Requests::new();
    for key in keys {
        let Some(Ok(request)) = connection.take_request(key) else { continue };
        let mut seen = Seen::of(&request);
        loop {
            match connection.read(key) {
                Ok(Read::Data(data)) => seen.body.extend_from_slice(&data),
                Ok(Read::Trailers(trailers)) => seen.trailers = Some(fields(&trailers)),
                Ok(Read::End) => {
                    seen.whole = true;
                    break;
                }
                Ok(Read::Wait) | Err(_) => break,
            }
        }
        requests.insert(key.id(), seen);
    }
    let fault = connection.fault();
    whole_frames(&mut connection);
    (requests, fault)
}

/// What goes out are frames, nothing else.
fn whole_frames(connection: &mut Connection) {
    let mut bytes = Vec::new();
    while !connection.output().is_empty() {
        let mut slices = [IoSlice::new(&[]); 4];
        let used = connection.output().slices(&mut slices);
        let before = bytes.len();
        slices[..used].iter().for_each(|slice| bytes.extend_from_slice(slice));
        let count = bytes.len() - before;
        connection.written(count);
    }
    let mut rest = &bytes[..];
    while let Some((head, after)) = rest.split_first_chunk::<9>() {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        rest = after.get(length..).expect("a whole frame");
    }
    assert!(rest.is_empty());
}

/// What h2 makes of them; `false`: it has ended the connection.
fn theirs(data: &[u8]) -> (Requests, bool) {
    let cx = &mut Context::from_waker(Waker::noop());
    let all = [PREFACE, SETTINGS, data].concat();
    let (mut client, server) = tokio::io::duplex(all.len() + 1024 * 1024);
    assert!(matches!(pin!(&mut client).poll_write(cx, &all), Poll::Ready(Ok(count)) if count == all.len()));
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(100).initial_window_size(64 * 1024).max_header_list_size(60 * 1024);
    builder.initial_connection_window_size(1024 * 1024).max_pending_accept_reset_streams(10_000);
    let mut handshake = pin!(builder.handshake::<_, Bytes>(server));
    let mut requests = Requests::new();
    let mut connection = loop {
        match handshake.as_mut().poll(cx) {
            Poll::Ready(Ok(connection)) => break connection,
            Poll::Ready(Err(_)) => return (requests, false),
            Poll::Pending => {}
        }
    };
    let mut held = Vec::new();
    let goes_on = loop {
        match connection.poll_accept(cx) {
            Poll::Ready(Some(Ok((request, respond)))) => held.push((request, respond)),
            Poll::Ready(Some(Err(_)) | None) => break false,
            Poll::Pending => break true,
        }
    };
    for (request, respond) in &mut held {
        let mut seen = Seen::of(request);
        let body = request.body_mut();
        while let Poll::Ready(Some(Ok(data))) = body.poll_data(cx) {
            seen.body.extend_from_slice(&data);
        }
        match body.poll_trailers(cx) {
            Poll::Ready(Ok(trailers)) => {
                seen.trailers = trailers.as_ref().map(fields);
                seen.whole = true;
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => seen.whole = body.is_end_stream(),
        }
        requests.insert(respond.stream_id().into(), seen);
    }
    (requests, goes_on)
}

pub fn connection(data: &[u8]) {
    let whole = ours(&[data]);
    let mut pieces = Vec::new();
    let mut from = 0;
    for cut in Random::new(seed_of(data)).cuts(data.len()).into_iter().chain([data.len()]) {
        if cut > from {
            pieces.push(&data[from..cut]);
            from = cut;
        }
    }
    assert_eq!(ours(&pieces), whole, "{} pieces", pieces.len());
    let bytes: Vec<&[u8]> = data.chunks(1).collect();
    assert_eq!(ours(&bytes), whole, "byte by byte");
    let (requests, fault) = whole;
    let (theirs, goes_on) = theirs(data);
    if fault.is_some() || !goes_on {
        return;
    }
    for (stream, seen) in requests.iter().filter(|(_, seen)| seen.whole) {
        let other = theirs.get(stream).unwrap_or_else(|| panic!("h2 takes no stream {stream}: {seen:?}"));
        if other.whole {
            assert_eq!(seen, other, "stream {stream}");
        } else {
            // It may want to be asked once more for the end.
            let same = (&seen.head, &seen.headers) == (&other.head, &other.headers);
            assert!(same && seen.body.starts_with(&other.body), "stream {stream}: {seen:?}, {other:?}");
        }
    }
}

pub fn connection_seeds() -> Vec<Vec<u8>> {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let mut bytes =
            vec![0, (payload.len() >> 8) as u8, payload.len() as u8, kind, flags, 0, 0, 0, stream];
        bytes.extend_from_slice(payload);
        bytes
    };
    // GET and POST / to `a`, from the static table.
    let (get, post) = (&[0x82, 0x86, 0x84, 0x41, 1, b'a'][..], &[0x83, 0x86, 0x84, 0x41, 1, b'a'][..]);
    let field =
        |name: &[u8], value: &[u8]| [&[0x40, name.len() as u8], name, &[value.len() as u8], value].concat();
    vec![
        frame(1, 5, 1, get),
        [frame(1, 5, 1, get), frame(1, 5, 3, get), frame(3, 0, 3, &[0, 0, 0, 8])].concat(),
        [frame(1, 4, 1, post), frame(0, 0, 1, b"half"), frame(0, 9, 1, b"\x02end\0\0")].concat(),
        [
            frame(1, 4, 1, &[post, &field(b"content-length", b"3")].concat()),
            frame(0, 0, 1, b"abc"),
            frame(1, 5, 1, &field(b"x-sum", b"1")),
        ]
        .concat(),
        [frame(1, 1, 1, get), frame(9, 0, 1, &field(b"te", b"trailers")), frame(9, 4, 1, &[])].concat(),
        [frame(4, 0, 0, &[0, 4, 0, 0, 0, 10, 0, 1, 0, 0, 0, 0]), frame(6, 0, 0, &[7; 8])].concat(),
        [frame(1, 37, 1, &[&[0, 0, 0, 0, 9], get].concat()), frame(2, 0, 5, &[0, 0, 0, 1, 9])].concat(),
        [frame(8, 0, 0, &[0, 0, 1, 0]), frame(7, 0, 0, &[0; 8]), frame(1, 5, 1, get)].concat(),
        frame(1, 5, 1, &[&field(b":method", b"CONNECT")[..], &field(b":authority", b"a:1")].concat()),
        frame(1, 5, 1, &[get, &field(b"cookie", b"a=1"), &field(b"cookie", b"b=2"), &[0xbe]].concat()),
    ]
}
