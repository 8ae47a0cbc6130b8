//! Row S-H2-03 in short form: frames that cost the sender nothing, here and with Envoy and HAProxy in our place.
//!
//! Nothing here is timed: what is asserted are bounds with a wide margin, whether the connection was ended, and that
//! others are served as before.

mod memory;
mod subject;

use std::{
    io::Write,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    beside::{Peer, at_length, figure},
    h2::{
        ACK, CONTINUATION, Client, DATA, END_HEADERS, END_STREAM, GET, GOAWAY, HEADERS, PADDED, PING,
        PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame,
    },
};
use subject::Subject;

const FRAMES: u32 = 5000;
/// Where others stand beside us and may take them all.
const FRAMES_AT_LENGTH: u32 = 100_000;
const GROWTH_KIB_MAX: u64 = 8 * 1024;
const CPU_MAX: Duration = Duration::from_millis(250);

struct Flood {
    name: &'static str,
    /// What opens it, and what makes it whole at its end.
    open: Vec<u8>,
    close: Vec<u8>,
    /// Whether the client reads what it is told.
    reads: bool,
    /// Whether the connection is to be ended.
    must_end: bool,
    frames: u32,
    /// Its n-th frame.
    frame: Box<dyn Fn(u32) -> Vec<u8> + Sync>,
}

impl Flood {
    fn new(name: &'static str, open: &[u8], frame: impl Fn(u32) -> Vec<u8> + Sync + 'static) -> Flood {
        let frames = if at_length() { FRAMES_AT_LENGTH } else { FRAMES };
        let (open, frame) = (open.to_vec(), Box::new(frame));
        Flood { name, open, close: Vec::new(), reads: true, must_end: true, frames, frame }
    }
}

/// Stream of the n-th request.
fn stream(n: u32) -> u32 {
    1 + 2 * n
}

/// S-H2-03, short form: resets, and streams that the proxy is made to reset.
fn of_streams() -> Vec<Flood> {
    let open = |n, end: u8| frame(HEADERS, END_HEADERS | end, stream(n), &block(&GET));
    let post = |n| {
        let fields = [(&b":method"[..], &b"POST"[..]), GET[1], GET[2], GET[3]];
        frame(HEADERS, END_HEADERS, stream(n), &block(&fields))
    };
    vec![
        Flood::new("rapid reset", &[], move |n| {
            [open(n, END_STREAM), frame(RST_STREAM, 0, stream(n), &8_u32.to_be_bytes())].concat()
        }),
        Flood::new("made to reset by WINDOW_UPDATE 0", &[], move |n| {
            [post(n), frame(WINDOW_UPDATE, 0, stream(n), &0_u32.to_be_bytes())].concat()
        }),
        Flood::new("made to reset by PRIORITY on itself", &[], move |n| {
            let mut on_itself = stream(n).to_be_bytes().to_vec();
            on_itself.push(0);
            [post(n), frame(PRIORITY, 0, stream(n), &on_itself)].concat()
        }),
        Flood::new("made to reset by DATA after the end", &[], move |n| {
            [post(n), frame(DATA, END_STREAM, stream(n), b"x"), frame(DATA, 0, stream(n), b"x")].concat()
        }),
    ]
}

/// S-H2-03, short form: frames without an end.
fn of_frames() -> Vec<Flood> {
    let head = frame(HEADERS, 0, 1, &block(&GET));
    let last = frame(CONTINUATION, END_HEADERS, 1, &[]);
    let kib = block(&[(b"x", &[b'a'; 1000])]);
    let post = frame(HEADERS, END_HEADERS, 1, &block(&[(b":method", b"POST"), GET[1], GET[2], GET[3]]));
    let table = |n: u32| [&1_u16.to_be_bytes()[..], &(n % 2 * 4096).to_be_bytes()].concat();
    let priority = |n: u32| [&(stream(n + 1)).to_be_bytes()[..], &[1]].concat();
    let ping = |_| frame(PING, 0, 0, &[0; 8]);
    let window = 1_u32.to_be_bytes();
    vec![
        Flood {
            close: last.clone(),
            ..Flood::new("CONTINUATION of 1 KiB", &head, move |_| frame(CONTINUATION, 0, 1, &kib))
        },
        Flood { close: last, ..Flood::new("empty CONTINUATION", &head, |_| frame(CONTINUATION, 0, 1, &[])) },
        Flood::new("SETTINGS", &[], |_| frame(SETTINGS, 0, 0, &[])),
        Flood::new("SETTINGS with another table", &[], move |n| frame(SETTINGS, 0, 0, &table(n))),
        Flood::new("PING", &[], ping),
        Flood { reads: false, ..Flood::new("PING, answers unread", &[], ping) },
        Flood::new("PING acknowledged", &[], |_| frame(PING, ACK, 0, &[0; 8])),
        Flood::new("empty DATA", &post, |_| frame(DATA, 0, 1, &[])),
        Flood::new("DATA of padding", &post, |_| frame(DATA, PADDED, 1, &[9, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
        Flood::new("PRIORITY", &[], move |n| frame(PRIORITY, 0, stream(n), &priority(n))),
        Flood::new("PRIORITY_UPDATE", &[], |_| frame(0x10, 0, 0, b"\0\0\0\x01u=1")),
        Flood::new("WINDOW_UPDATE", &[], move |_| frame(WINDOW_UPDATE, 0, 0, &window)),
        Flood::new("WINDOW_UPDATE of a stream", &post, move |_| frame(WINDOW_UPDATE, 0, 1, &window)),
        Flood::new("unknown frames", &[], |_| frame(0xee, 0, 0, &[0; 16])),
        Flood::new(GOAWAYS, &[], |_| frame(GOAWAY, 0, 0, &[0; 8])),
        // Small, and yet the application's own bytes: only too many that wait to be read end the connection. More would
        // overrun the window.
        Flood {
            must_end: false,
            frames: FRAMES,
            ..Flood::new("DATA of 1 byte", &post, |_| frame(DATA, 0, 1, b"x"))
        },
    ]
}

/// Who says that it goes away may be told the same, without an error.
const GOAWAYS: &str = "GOAWAY";

/// What a flood did.
#[derive(Debug)]
struct Outcome {
    /// Frames written when the end was seen.
    sent: u32,
    ended: bool,
    goaway: Option<u32>,
    cpu: Duration,
    grown_kib: u64,
    others_served: bool,
}

impl Outcome {
    /// In a few words.
    fn shown(&self) -> String {
        let end = match (self.goaway, self.ended) {
            (Some(code), _) => format!("GOAWAY {code}"),
            (None, true) => "ended".to_owned(),
            (None, false) => "goes on".to_owned(),
        };
        let others = if self.others_served { "" } else { ", OTHERS LOST" };
        format!("{:.2} s, {:.1} MiB, {end}{others}", self.cpu.as_secs_f64(), self.grown_kib as f64 / 1024.0)
    }
}

/// Asked for at the end: whoever answers this has read all that came before, and goes on.
const SYNC: [u8; 8] = *b"all read";
/// Nothing came for so long.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the client is told.
#[derive(Default)]
struct Told {
    ended: AtomicBool,
    goaway: Mutex<Option<u32>>,
}

impl Told {
    /// Reads until the connection has ended, or goes on for sure.
    fn read(&self, client: &mut Client, written: &AtomicBool) {
        let mut last = Instant::now();
        loop {
            match client.next(Duration::from_millis(100)) {
                Some(frame) if frame.kind == GOAWAY => {
                    *self.goaway.lock().unwrap() = Some(crate::h2::error_code(&frame.payload[4..]));
                    self.ended.store(true, Ordering::SeqCst);
                }
                Some(frame) if frame.kind == PING && frame.flags & ACK != 0 && frame.payload == SYNC => {
                    return;
                }
                Some(_) => last = Instant::now(),
                None if client.closed => return self.ended.store(true, Ordering::SeqCst),
                None if self.ended.load(Ordering::SeqCst) => return,
                None if written.load(Ordering::SeqCst) && last.elapsed() > PATIENCE => return,
                None => {}
            }
        }
    }
}

/// Writes its frames while another thread reads (or does not), and looks at the proxy.
fn flood(subject: &Subject, flood: &Flood) -> Outcome {
    let (rss, cpu) = (subject.rss_kib(), subject.cpu());
    let mut client = Client::connect(subject.at, &[]);
    client.stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut writer = client.stream.try_clone().unwrap();
    let (told, written) = (Told::default(), AtomicBool::new(false));
    let (mut sent, mut peak) = (0, rss);
    let others_served = std::thread::scope(|scope| {
        if flood.reads {
            scope.spawn(|| told.read(&mut client, &written));
        }
        let mut opened = writer.write_all(&flood.open).is_ok();
        while opened && sent < flood.frames && !told.ended.load(Ordering::SeqCst) {
            let batch: Vec<u8> = (sent..(sent + 50).min(flood.frames)).flat_map(&flood.frame).collect();
            opened = writer.write_all(&batch).is_ok();
            sent = (sent + 50).min(flood.frames);
            if sent % 500 == 0 {
                peak = peak.max(subject.rss_kib());
            }
        }
        opened = opened && writer.write_all(&[&flood.close[..], &frame(PING, 0, 0, &SYNC)].concat()).is_ok();
        if !opened {
            told.ended.store(true, Ordering::SeqCst);
        }
        written.store(true, Ordering::SeqCst);
        peak = peak.max(subject.rss_kib());
        subject.serves_others()
    });
    if !flood.reads {
        // What it did not read is still there, up to the end.
        told.read(&mut client, &written);
    }
    let grown_kib = peak.max(subject.rss_kib()) - rss;
    let (ended, goaway) = (told.ended.into_inner(), told.goaway.into_inner().unwrap());
    Outcome { sent, ended, goaway, cpu: subject.cpu() - cpu, grown_kib, others_served }
}

fn check(flood: &Flood, outcome: &Outcome) {
    let name = flood.name;
    println!("  {name}: {outcome:?}");
    assert!(outcome.grown_kib <= GROWTH_KIB_MAX && outcome.cpu <= CPU_MAX, "{name}: {outcome:?}");
    assert!(outcome.others_served, "{name}: others are served: {outcome:?}");
    assert!(outcome.ended || !flood.must_end, "{name}: the connection goes on: {outcome:?}");
    // PROTOCOL_ERROR or ENHANCE_YOUR_CALM, where there was time to say it.
    let fitting = |code| code == 1 || code == 11 || code == 0 && name == GOAWAYS;
    assert!(outcome.goaway.is_none_or(fitting), "{name}: {outcome:?}");
    assert!(outcome.ended || outcome.sent == flood.frames, "{name}: invalid, not all was sent: {outcome:?}");
}

/// S-H2-03, short form. Each flood ends the connection, and whoever reads is told.
#[test]
fn floods_end_the_connection() {
    let subject = Subject::weft();
    println!("S-H2-03:");
    for one in of_streams() {
        let outcome = flood(&subject, &one);
        check(&one, &outcome);
        figure(one.name, subject.name, outcome.shown());
    }
    for one in of_frames() {
        let outcome = flood(&subject, &one);
        check(&one, &outcome);
        let told = !one.reads || !one.must_end || outcome.goaway.is_some();
        assert!(told, "{}: nobody told the client: {outcome:?}", one.name);
        figure(one.name, subject.name, outcome.shown());
    }
}

/// S-H2-03 to S-H2-05 with Envoy and HAProxy in our place.
#[test]
fn floods_beside_peers() {
    for peer in Peer::ALL {
        let Some(subject) = Subject::beside(peer) else { return };
        println!("S-H2-03 {}:", peer.name());
        let mut sent = 0;
        for one in of_streams().iter().chain(&of_frames()) {
            let outcome = flood(&subject, one);
            println!("  {}: {outcome:?}", one.name);
            figure(one.name, subject.name, outcome.shown());
            sent += outcome.sent;
        }
        assert!(sent > 2000, "{peer:?} was not there");
        memory::beside_us(&subject);
    }
}
