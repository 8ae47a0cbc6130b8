//! Spoils messages: seeded, so that a run can be had again.

/// A small generator (xorshift64*): tests need the same numbers everywhere, not good ones.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        if limit == 0 { 0 } else { (self.number() >> 33) as usize % limit }
    }

    pub fn pick<'a, T: ?Sized>(&mut self, list: &[&'a T]) -> &'a T {
        list[self.below(list.len())]
    }

    /// Some places to cut at, rising.
    pub fn cuts(&mut self, length: usize) -> Vec<usize> {
        let mut cuts: Vec<usize> = (0..self.below(6)).map(|_| self.below(length + 1)).collect();
        cuts.sort_unstable();
        cuts
    }
}

const SPACES: &[&[u8]] = &[b"\t", b"\x0b", b"\x0c", b"\xa0", b"\x85", b" ", b"\0", b"\xc2\xa0"];
const ENDS: &[&[u8]] = &[b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n\r\n", b"\r\n ", b"\r\n\t", b""];
const WORDS: &[&[u8]] = &[
    b"chunked",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 3\r\n",
    b"Content-Length: 0\r\n",
    b"0\r\n\r\n",
    b"Connection: close\r\n",
    b"Connection: content-length\r\n",
    b"Host: b\r\n",
    b"Expect: 100-continue\r\n",
    b"3\r\n",
    b"ffffffffffffffff",
    b"18446744073709551616",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b", ",
    b";",
    b":",
    b"=",
    b"\"",
    b"%00",
    b"http://a",
    b"//",
    b"\\",
    b"#",
    b"@",
    b"TE: trailers\r\n",
    b"Upgrade: websocket\r\nConnection: upgrade\r\n",
];

/// One or two changes of the kinds that made others' readers disagree.
pub fn spoil(message: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = message.to_vec();
    for _ in 0..=random.below(2) {
        let at = random.below(bytes.len() + 1);
        match random.below(11) {
            0 => drop(bytes.splice(at..at, random.pick(SPACES).iter().copied())),
            1 => replace_line_end(&mut bytes, random),
            2 => drop(bytes.splice(at..at, random.pick(WORDS).iter().copied())),
            3 => drop(bytes.splice(at..(at + random.below(4)).min(bytes.len()), [])),
            4 if at < bytes.len() => bytes[at] = random.number() as u8,
            5 if at < bytes.len() => bytes[at] ^= 0x20,
            6 => {
                let end = (at + random.below(40)).min(bytes.len());
                let again = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, again));
            }
            7 => double_line(&mut bytes, random),
            8 => drop(bytes.splice(at.., other[random.below(other.len())..].iter().copied())),
            9 => bytes.extend_from_slice(other),
            _ => bytes.truncate(at),
        }
    }
    bytes.truncate(4000);
    bytes
}

fn line_ends(bytes: &[u8]) -> Vec<usize> {
    (1..bytes.len()).filter(|at| bytes[at - 1..=*at] == *b"\r\n").map(|at| at - 1).collect()
}

fn replace_line_end(bytes: &mut Vec<u8>, random: &mut Random) {
    let ends = line_ends(bytes);
    if !ends.is_empty() {
        let at = ends[random.below(ends.len())];
        drop(bytes.splice(at..at + 2, random.pick(ENDS).iter().copied()));
    }
}

fn double_line(bytes: &mut Vec<u8>, random: &mut Random) {
    let ends = line_ends(bytes);
    if ends.len() > 1 {
        let place = random.below(ends.len() - 1);
        let line = bytes[ends[place] + 2..ends[place + 1] + 2].to_vec();
        let at = ends[random.below(ends.len())] + 2;
        drop(bytes.splice(at..at, line));
    }
}
