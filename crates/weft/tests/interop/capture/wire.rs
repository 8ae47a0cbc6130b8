//! What a third party sees: a capture by tshark, and the verdict on every byte of it.
//!
//! The verdict does not trust a dissector's guess: each direction of each TCP stream is put together by
//! sequence numbers and walked record by record. A byte outside a TLS record is plaintext.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use weft_testkit::{Process, eventually, pause};

/// A running tshark that writes all it sees to a file.
pub struct Capture {
    tshark: Process,
    program: PathBuf,
    pub file: PathBuf,
}

impl Capture {
    /// `command` is tshark, perhaps inside a namespace; when this returns, packets are being written.
    pub fn start(mut command: Command, program: &Path, device: &str, filter: &str, file: PathBuf) -> Capture {
        command.args(["-q", "-B", "32", "-i", device, "-f", filter, "-w"]).arg(&file);
        let mut tshark = Process::start("tshark", &mut command, &file.with_extension("log")).unwrap();
        eventually("tshark has opened the device and its file", Duration::from_secs(15), || {
            assert!(tshark.running(), "{}", tshark.log_text());
            std::fs::metadata(&file).is_ok_and(|m| m.len() >= 24).then_some(())
        });
        Capture { tshark, program: program.to_path_buf(), file }
    }

    /// The raw file so far, for a search of what must or must not be in it.
    pub fn holds(&self, text: &str) -> bool {
        let bytes = std::fs::read(&self.file).unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    }

    /// Ends the capture when nothing more comes.
    pub fn stop(&mut self) {
        let mut size = 0;
        eventually("the capture has written all it saw", Duration::from_secs(10), || {
            pause(Duration::from_millis(400));
            let now = std::fs::metadata(&self.file).unwrap().len();
            (std::mem::replace(&mut size, now) == now).then_some(())
        });
        self.tshark.signal(rustix::process::Signal::INT);
        self.tshark
            .wait(Duration::from_secs(10))
            .unwrap_or_else(|| panic!("tshark does not end: {}", self.tshark.log_text()));
        let log = self.tshark.log_text();
        assert!(
            !log.contains("dropped") || log.contains(" 0 packets dropped"),
            "the capture is not whole: {log}"
        );
    }

    /// Lines of tshark's fields for packets that match.
    pub fn fields(&self, decode: &[&str], filter: &str, fields: &[&str]) -> Vec<Vec<String>> {
        let mut command = Command::new(&self.program);
        command.arg("-r").arg(&self.file).args(decode).args(["-Y", filter, "-T", "fields"]);
        fields.iter().for_each(|field| {
            command.args(["-e", field]);
        });
        let out = command.output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let text = String::from_utf8_lossy(&out.stdout);
        text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
    }

    /// The verdict on all TCP payload among packets that match `filter`.
    pub fn verdict(&self, filter: &str) -> Verdict {
        let mut streams: BTreeMap<(String, String), Vec<Segment>> = BTreeMap::new();
        let columns = ["tcp.stream", "tcp.srcport", "tcp.seq_raw", "tcp.payload"];
        for row in self.fields(&[], &format!("({filter}) && tcp.len > 0"), &columns) {
            let [stream, source, sequence, payload] = &row[..] else { panic!("a row is {row:?}") };
            let key = (stream.clone(), source.clone());
            streams.entry(key).or_default().push((sequence.parse().unwrap(), unhex(payload)));
        }
        let mut verdict = Verdict::default();
        let mut connections = std::collections::BTreeSet::new();
        for ((stream, source), segments) in streams {
            let bytes = assemble(segments)
                .unwrap_or_else(|at| panic!("stream {stream} from {source}: a packet is missing at {at}"));
            verdict.bytes += bytes.len() as u64;
            verdict.plaintext_bytes += outside_of_records(&bytes) as u64;
            connections.insert(stream);
        }
        verdict.connections = connections.len();
        verdict
    }
}

#[derive(Debug, Default)]
pub struct Verdict {
    pub connections: usize,
    pub bytes: u64,
    pub plaintext_bytes: u64,
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// A packet's sequence number and payload.
type Segment = (u64, Vec<u8>);

/// One direction's bytes in order, retransmissions once; the place of a hole otherwise.
fn assemble(mut segments: Vec<Segment>) -> Result<Vec<u8>, u64> {
    // 32-bit numbers that wrap: counted from the first captured one, backwards steps being retransmissions.
    let first = segments.first().map_or(0, |(sequence, _)| *sequence);
    let from_first = |sequence: u64| sequence.wrapping_sub(first) as u32 as i32 as i64;
    segments.sort_by_key(|(sequence, _)| from_first(*sequence));
    let start = segments.first().map_or(0, |(sequence, _)| from_first(*sequence));
    let mut bytes: Vec<u8> = Vec::new();
    for (sequence, payload) in segments {
        let at = usize::try_from(from_first(sequence) - start).unwrap_or(0);
        if at > bytes.len() {
            return Err(bytes.len() as u64);
        }
        let known = (bytes.len() - at).min(payload.len());
        bytes.extend_from_slice(&payload[known..]);
    }
    Ok(bytes)
}

/// Bytes that are in no TLS record: from the first header that is none to the end. A record cut off by the
/// end of the capture counts as one.
fn outside_of_records(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let [kind, major, minor, high, low, body @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let record = matches!(kind, 20..=23) && *major == 3 && *minor <= 4 && length <= 16_384 + 256;
        if !record {
            return rest.len();
        }
        rest = &body[length.min(body.len())..];
    }
    // Fewer than five bytes: the start of a header, if it looks like one.
    if rest.first().is_none_or(|kind| matches!(kind, 20..=23)) { 0 } else { rest.len() }
}

#[test]
fn the_verdict_tells_records_from_anything_else() {
    let record = [23, 3, 3, 0, 2, 0xaa, 0xbb];
    assert_eq!(outside_of_records(&[record, record].concat()), 0);
    assert_eq!(outside_of_records(&record[..6]), 0, "cut off by the capture's end");
    assert_eq!(outside_of_records(b"GET / HTTP/1.1\r\n"), 16);
    assert_eq!(outside_of_records(&[&record[..], b"PRI * HTTP/2.0"].concat()), 14, "plaintext after TLS");
    assert_eq!(outside_of_records(&[23, 3, 3, 0xff, 0xff, 0]), 6, "no record is that long");
    let late = vec![(0xffff_fffe, vec![1, 2]), (2, vec![5]), (0, vec![3, 4]), (0xffff_fffe, vec![1, 2, 3])];
    assert_eq!(assemble(late).unwrap(), [1, 2, 3, 4, 5]);
    assert_eq!(assemble(vec![(10, vec![1]), (12, vec![3])]), Err(1));
}
