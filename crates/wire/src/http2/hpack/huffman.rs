//! The fixed Huffman code of header text (RFC 7541 5.2 and appendix B).
//!
//! The code is canonical: codes of one length follow each other in the order of their symbols, and the shorter come
//! first. So the lengths say it all, and the compiler makes the tables from them.
//!
//! Reading looks at twelve bits at a time, which are two symbols most of the time: the usual characters have five to
//! seven bits.

/// Bits of each symbol's code; the last is the end of a string, which no string may have.
const BITS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, //
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, //
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, //
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, //
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, //
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, //
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, //
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, //
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, //
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, //
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, //
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, //
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, //
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, //
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, //
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, //
    30,
];
const END: u16 = 256;
const BITS_MAX: usize = 30;
/// Bits that one look-up reads.
const LOOK: u32 = 12;

/// The code as reading and writing need it.
struct Code {
    /// By symbol.
    codes: [u32; 257],
    /// By length: the first number that is no code of this or a shorter length.
    limits: [u32; BITS_MAX + 1],
    /// By length: what to add to a code for its place in `order`.
    places: [i32; BITS_MAX + 1],
    /// Symbols in the order of their codes.
    order: [u16; 257],
}

static CODE: Code = code();
static PAIRS: [u32; 1 << LOOK] = pairs();

const fn code() -> Code {
    let (mut codes, mut order) = ([0; 257], [0; 257]);
    let (mut limits, mut places) = ([0; BITS_MAX + 1], [0; BITS_MAX + 1]);
    let (mut next, mut place, mut bits) = (0u32, 0usize, 1usize);
    while bits <= BITS_MAX {
        next <<= 1;
        places[bits] = place as i32 - next as i32;
        let mut symbol = 0;
        while symbol < 257 {
            if BITS[symbol] as usize == bits {
                codes[symbol] = next;
                order[place] = symbol as u16;
                next += 1;
                place += 1;
            }
            symbol += 1;
        }
        limits[bits] = next;
        bits += 1;
    }
    Code { codes, limits, places, order }
}

/// What the next bits are: in two bytes the symbols, then in a byte what they take, and in a byte the symbols' own bits,
/// 8 or 16. Nothing is a longer code.
const fn pairs() -> [u32; 1 << LOOK] {
    let mut single = [0; 1 << LOOK];
    let mut symbol = 0;
    while symbol < 256 {
        let bits = BITS[symbol] as u32;
        if bits <= LOOK {
            let first = (CODE.codes[symbol] << (LOOK - bits)) as usize;
            let mut at = first;
            while at < first + (1 << (LOOK - bits)) {
                single[at] = symbol as u32 | bits << 16 | 8 << 24;
                at += 1;
            }
        }
        symbol += 1;
    }
    let mut pairs = single;
    let mut at = 0;
    while at < 1 << LOOK {
        let bits = single[at] >> 16 & 15;
        let second = single[(at << bits) & ((1 << LOOK) - 1)];
        let both = bits + (second >> 16 & 15);
        if bits != 0 && second != 0 && both <= LOOK {
            pairs[at] = single[at] & 0xff | (second & 0xff) << 8 | both << 16 | 16 << 24;
        }
        at += 1;
    }
    pairs
}

/// Bytes that [`decode`] may write for this many read: no code is shorter than five bits, and it writes eight at once.
pub fn decoded_bytes_max(bytes: usize) -> usize {
    bytes.saturating_mul(8) / 5 + 8
}

enum Step {
    Symbol(u8, u32),
    End,
}

/// Reads a string into `text`, which has [`decoded_bytes_max`]. None if it is no string of this code: an end inside, or
/// behind the last symbol anything but up to seven ones.
pub fn decode(input: &[u8], text: &mut [u8]) -> Option<usize> {
    let bits_all = input.len() * 8;
    // For words that would reach over the end.
    let last = match input.last_chunk::<8>() {
        Some(last) => u64::from_be_bytes(*last),
        None => input.iter().fold(0, |last, byte| last << 8 | u64::from(*byte)),
    };
    let (mut at, mut bit) = (0, 0);
    loop {
        let (word, valid, pairs) = match input.get(bit / 8..).and_then(|input| input.first_chunk::<8>()) {
            // 57 bits at least, which are four looks.
            Some(word) => {
                let word = u64::from_be_bytes(*word) << (bit % 8);
                (word, 64 - (bit % 8) as u32, Pairs::of::<4>(word))
            }
            None if bit == bits_all => return Some(at),
            None => {
                let valid = (bits_all - bit) as u32;
                let word = last << (64 - valid) | u64::MAX >> valid;
                let pairs = match valid / LOOK {
                    0 => Pairs::of::<0>(word),
                    1 => Pairs::of::<1>(word),
                    2 => Pairs::of::<2>(word),
                    _ => Pairs::of::<3>(word),
                };
                (word, valid, pairs)
            }
        };
        if pairs.sum > 0 {
            *text.get_mut(at..)?.first_chunk_mut()? = pairs.symbols.to_le_bytes();
            at += (pairs.sum >> 11) as usize;
            bit += (pairs.sum & 0xff) as usize;
            continue;
        }
        match step(word, valid)? {
            Step::Symbol(symbol, bits) => {
                *text.get_mut(at)? = symbol;
                at += 1;
                bit += bits as usize;
            }
            Step::End => return Some(at),
        }
    }
}

/// The symbols of some looks, up to a longer code.
struct Pairs {
    symbols: u64,
    /// The bits that they take, and in the byte above those of the symbols.
    sum: u32,
}

impl Pairs {
    #[inline(always)]
    fn of<const LOOKS: usize>(mut word: u64) -> Pairs {
        let (mut symbols, mut sum) = (0, 0);
        for _ in 0..LOOKS {
            let pair = PAIRS[(word >> (64 - LOOK)) as usize];
            if pair == 0 {
                break;
            }
            symbols |= u64::from(pair & 0xffff) << (sum >> 8 & 63);
            word <<= pair >> 16 & 63;
            sum += pair >> 16;
        }
        Pairs { symbols, sum }
    }
}

/// A long code, or what the last bits are. Bits behind the `valid` ones are ones.
fn step(word: u64, valid: u32) -> Option<Step> {
    // A code of ones is longer than any padding.
    if valid < 8 && word == u64::MAX {
        return Some(Step::End);
    }
    let (symbol, bits) = match PAIRS[(word >> (64 - LOOK)) as usize] {
        0 => {
            let found =
                (LOOK + 1..=BITS_MAX as u32).find(|bits| long(word, *bits) < CODE.limits[*bits as usize])?;
            let place = long(word, found) as i32 + CODE.places[found as usize];
            (*CODE.order.get(place as usize)?, found)
        }
        pair => ((pair & 0xff) as u16, u32::from(BITS[(pair & 0xff) as usize])),
    };
    if bits > valid || symbol == END {
        return None;
    }
    Some(Step::Symbol(symbol as u8, bits))
}

fn long(word: u64, bits: u32) -> u32 {
    (word >> (64 - bits)) as u32
}

/// Bytes that `text` takes.
pub fn encoded_bytes(text: &[u8]) -> usize {
    text.iter().map(|symbol| usize::from(BITS[usize::from(*symbol)])).sum::<usize>().div_ceil(8)
}

pub fn encode(text: &[u8], out: &mut Vec<u8>) {
    // At most 31 bits wait for a fourth byte, and no code has more than 30.
    let (mut word, mut bits) = (0u64, 0u32);
    for symbol in text {
        let symbol = usize::from(*symbol);
        word = word << BITS[symbol] | u64::from(CODE.codes[symbol]);
        bits += u32::from(BITS[symbol]);
        if bits >= 32 {
            bits -= 32;
            out.extend_from_slice(&((word >> bits) as u32).to_be_bytes());
        }
    }
    let padded = (word << 32 | 0xffff_ffff) >> bits;
    out.extend_from_slice(&(padded as u32).to_be_bytes()[..bits.div_ceil(8) as usize]);
}
