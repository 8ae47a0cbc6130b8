//! Encoder to decoder, and each of ours with another implementation, over header lists by chance.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::{Decoder, Encoder, Field, Pseudo, decode};

const LISTS: usize = 10_000;
/// Lists for the other decoder, which takes a thousand times as long.
const LISTS_SLOW: usize = 400;

pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) ^ (self.0 >> 17)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub fn byte(&mut self) -> u8 {
        self.next() as u8
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn value(&mut self) -> Vec<u8> {
        match self.below(8) {
            0 => Vec::new(),
            1..=4 => {
                self.one_of::<&[u8]>(&[b"a", b"application/grpc", b"gzip, deflate", b"200", b"/"]).to_vec()
            }
            5 => {
                let bytes_max = if self.below(20) == 0 { 6_000 } else { 300 };
                vec![b'v'; self.below(bytes_max)]
            }
            6 => (0..self.below(60)).map(|_| b"0123456789abcdef"[self.below(16)]).collect(),
            _ => (0..1 + self.below(40)).map(|_| 0x21 + self.byte() % 0x5e).chain([0xff]).collect(),
        }
    }

    fn list(&mut self) -> Vec<Field> {
        use Pseudo::*;
        const NAMES: [&str; 14] = [
            "content-type",
            "accept-encoding",
            "authorization",
            "cookie",
            "user-agent",
            "www-authenticate",
            "te",
            "x-request-id",
            "traceparent",
            "grpc-timeout",
            "x-a",
            "x-b",
            "x-c",
            "a-name-that-is-longer-than-all-others-and-than-what-http-keeps-on-its-stack",
        ];
        let field = |random: &mut Random| {
            let value = Bytes::from(random.value());
            if random.below(3) == 0 {
                return Field::Pseudo(
                    random.one_of(&[Method, Scheme, Authority, Path, Protocol, Status]),
                    value,
                );
            }
            let name = match random.below(10) {
                0 => HeaderName::from_bytes(format!("x-{}", random.below(500)).as_bytes()).unwrap(),
                _ => HeaderName::from_static(random.one_of(&NAMES)),
            };
            let mut value = HeaderValue::from_maybe_shared(value).unwrap();
            value.set_sensitive(random.below(20) == 0);
            Field::Header(name, value)
        };
        (0..self.below(16)).map(|_| field(self)).collect()
    }
}

fn encode(encoder: &mut Encoder, fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    encoder.begin(&mut out);
    for field in fields {
        match field {
            Field::Pseudo(name, value) => encoder.pseudo(&mut out, *name, value),
            Field::Header(name, value) => encoder.header(&mut out, name, value),
            Field::Malformed => unreachable!(),
        }
    }
    out
}

fn pairs(fields: &[Field]) -> Vec<(Vec<u8>, Vec<u8>)> {
    fields
        .iter()
        .map(|field| {
            let (name, value, _) = super::told(field.clone(), bytes_of(field));
            (name.into_bytes(), value)
        })
        .collect()
}

fn bytes_of(field: &Field) -> usize {
    32 + match field {
        Field::Pseudo(name, value) => 1 + format!("{name:?}").len() + value.len(),
        Field::Header(name, value) => name.as_str().len() + value.len(),
        Field::Malformed => 0,
    }
}

#[test]
fn what_is_written_is_read() {
    let mut random = Random(20_261_123);
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    let (mut fields_count, mut indexed) = (0, 0);
    for number in 0..LISTS {
        for _ in 0..random.below(3) * usize::from(number % 40 == 0) {
            encoder.set_table_bytes_max(random.one_of(&[0, 31, 64, 100, 500, 1_000, 4_095, 4_096, 65_536]));
        }
        let fields = random.list();
        let block = encode(&mut encoder, &fields);
        let mut read = Vec::new();
        decoder
            .decode(&block, |field, bytes| {
                assert_eq!(bytes, bytes_of(&field));
                read.push(field);
            })
            .unwrap();
        assert_eq!(read, fields, "list {number}");
        for (read, field) in read.iter().zip(&fields) {
            if let (Field::Header(_, read), Field::Header(_, value)) = (read, field) {
                assert!(read.is_sensitive() || !value.is_sensitive(), "list {number}");
            }
        }
        fields_count += fields.len();
        indexed += usize::from(!block.is_empty() && block.len() == fields.len());
    }
    assert!(fields_count > 5 * LISTS && indexed > 0);
}

#[test]
fn another_decoder_reads_what_is_written() {
    let mut random = Random(3);
    let mut encoder = Encoder::new();
    let mut other = fluke_hpack::Decoder::new();
    for number in 0..LISTS_SLOW {
        if number % 40 == 0 {
            encoder.set_table_bytes_max(random.one_of(&[0, 64, 100, 500, 1_000, 4_095, 4_096]));
        }
        let mut fields = random.list();
        // It takes no size update without a field.
        fields.push(Field::Pseudo(Pseudo::Method, Bytes::from_static(b"GET")));
        let block = encode(&mut encoder, &fields);
        assert_eq!(other.decode(&block).unwrap(), pairs(&fields), "list {number}");
    }
}

#[test]
fn what_another_encoder_writes_is_read() {
    let mut random = Random(4);
    let mut decoder = Decoder::new();
    let mut other = fluke_hpack::Encoder::new();
    for number in 0..LISTS {
        let pairs = pairs(&random.list());
        let block = other.encode(pairs.iter().map(|(name, value)| (&name[..], &value[..])));
        let read = decode(&mut decoder, &block).unwrap();
        let read: Vec<_> = read.into_iter().map(|(name, value, _)| (name.into_bytes(), value)).collect();
        assert_eq!(read, pairs, "list {number}");
    }
}
