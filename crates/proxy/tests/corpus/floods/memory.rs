//! Rows S-H2-04 and S-H2-05 in short form: what little can make a proxy keep much.

use std::{io::Write, time::Duration};

use super::{CPU_MAX, GROWTH_KIB_MAX, stream, subject::Subject};
use crate::{
    beside::figure,
    edge::connect,
    h2::{Client, END_HEADERS, END_STREAM, End, GET, HEADERS, block, frame, integer},
    mesh::LIMIT,
};

/// S-H2-04: small blocks that become large heads, by the name of their field.
const BOMBS: [&str; 2] = ["x-b", "cookie"];

/// Both, of a peer.
pub fn beside_us(subject: &Subject) {
    for name in BOMBS {
        let unfolded = unfold(subject, name);
        figure(&unfolded.line(), subject.name, unfolded.shown());
    }
    for window in WINDOWS {
        let shown = match stall(subject, window) {
            Some(grown) => format!("{:.1} MiB", grown as f64 / 1024.0),
            None => "not all begun".to_owned(),
        };
        figure(&stall_line(window), subject.name, shown);
    }
}

struct Unfolded {
    name: &'static str,
    /// Heads that were told no, of 49, or until the connection was ended.
    refused: u32,
    taken: u32,
    ended: bool,
    cpu: Duration,
    grown_kib: u64,
}

impl Unfolded {
    fn line(&self) -> String {
        format!("60 MB of {} from 15 KB, 49 times", self.name)
    }

    fn shown(&self) -> String {
        let end = if self.ended { ", ended" } else { "" };
        let (cpu, grown) = (self.cpu.as_secs_f64(), self.grown_kib as f64 / 1024.0);
        format!("{cpu:.2} s, {grown:.1} MiB, {} taken{end}", self.taken)
    }
}

fn unfold(subject: &Subject, name: &'static str) -> Unfolded {
    // An entry of 4 KB into the table, which is then named again and again.
    let mut first = block(&GET);
    first.push(0x40);
    integer(&mut first, 0, 7, name.len());
    first.extend_from_slice(name.as_bytes());
    integer(&mut first, 0, 7, 4000);
    first.extend(std::iter::repeat_n(b'a', 4000));
    let mut again = block(&GET);
    again.extend(std::iter::repeat_n(0xbe, 15_000));
    let (rss, cpu) = (subject.rss_kib(), subject.cpu());
    let mut client = Client::connect(subject.at, &[]);
    client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &first));
    let end = client.end_of(1);
    assert!(matches!(end, End::Status(200, _)), "one entry is a good request: {end:?}");
    let (mut refused, mut taken, mut ended) = (0, 0, false);
    for n in 1..50 {
        ended = !client.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream(n), &again));
        if ended {
            break;
        }
        match client.end_of(stream(n)) {
            End::Status(400..=499, _) | End::Reset(_) => refused += 1,
            End::GoAway(_) | End::Closed => {
                ended = true;
                break;
            }
            End::Status(..) | End::Cut(_) => taken += 1,
        }
    }
    let grown_kib = subject.rss_kib().saturating_sub(rss);
    Unfolded { name, refused, taken, ended, cpu: subject.cpu() - cpu, grown_kib }
}

#[test]
fn heads_that_unfold_are_refused() {
    let subject = Subject::weft();
    println!("S-H2-04:");
    for name in BOMBS {
        let outcome = unfold(&subject, name);
        println!("  {name}: {} refused, {}", outcome.refused, outcome.shown());
        figure(&outcome.line(), subject.name, outcome.shown());
        assert!(outcome.ended || outcome.refused == 49, "{} taken", outcome.taken);
        assert!(outcome.taken == 0 && outcome.grown_kib <= GROWTH_KIB_MAX && outcome.cpu <= CPU_MAX);
    }
    let mut tiny = block(&GET);
    tiny.extend(std::iter::repeat_n(0x90, 101)); // `accept-encoding: gzip, deflate` of the static table
    let mut client = Client::connect(subject.at, &[]);
    client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &tiny));
    let end = client.end_of(1);
    assert!(matches!(end, End::Status(431, _)), "101 fields: {end:?}");
    assert!(subject.serves_others());
}

/// S-H2-05, short form: readers that do not read, by their window.
const WINDOWS: [u32; 2] = [0, 1];

fn stall_line(window: u32) -> String {
    format!("100 answers of 1 MB, a window of {window}")
}

/// What the proxy grew by, in KiB; `None`: it did not begin each answer.
fn stall(subject: &Subject, window: u32) -> Option<u64> {
    let rss = subject.rss_kib();
    let mut client = Client::connect(subject.at, &[(4, window)]);
    for n in 0..100 {
        client.request(stream(n), &[GET[0], GET[1], GET[2], (b":path", b"/bytes/1000000")], true);
    }
    // Each answer has begun before the memory is looked at.
    let mut begun = 0;
    while begun < 100 {
        let frame = client.next(LIMIT)?;
        begun += u32::from(frame.kind == HEADERS);
    }
    std::thread::sleep(Duration::from_millis(300));
    Some(subject.rss_kib().saturating_sub(rss))
}

#[test]
fn stalled_readers_cost_little() {
    let subject = Subject::weft();
    println!("S-H2-05:");
    for window in WINDOWS {
        let grown = stall(&subject, window).expect("heads of 100 answers");
        println!("  window of {window}, 100 answers of 1 MB: +{grown} KiB");
        figure(&stall_line(window), subject.name, format!("{:.1} MiB", grown as f64 / 1024.0));
        assert!(grown <= 6 * GROWTH_KIB_MAX, "+{grown} KiB");
        assert!(subject.serves_others());
    }
    let rss = subject.rss_kib();
    let idle: Vec<_> = (0..200)
        .map(|_| {
            let mut stream = connect(subject.at);
            stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap(); // and never any settings
            stream
        })
        .collect();
    assert!(subject.serves_others());
    let grown = subject.rss_kib().saturating_sub(rss);
    println!("  {} connections without a frame: +{grown} KiB", idle.len());
    assert!(grown <= GROWTH_KIB_MAX, "+{grown} KiB");
}
