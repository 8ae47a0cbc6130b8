//! Header compression: blocks of one connection, beside another implementation.

use fluke_hpack::Decoder as Other;
use weft_wire::http2::hpack::{Decoder, Encoder, Field, HpackError, Pseudo, TABLE_BYTES};

/// A name and a value.
type Pair = (Vec<u8>, Vec<u8>);

/// Blocks, each behind its length and a byte for the table of whoever sends it on.
fn blocks(mut data: &[u8]) -> Vec<(usize, &[u8])> {
    let mut blocks = Vec::new();
    while let Some(([table, length], rest)) = data.split_first_chunk() {
        let (block, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        blocks.push((usize::from(*table) * 32, block));
        data = rest;
    }
    blocks
}

fn pair(field: &Field) -> Option<Pair> {
    Some(match field {
        Field::Pseudo(name, value) => (format!(":{name:?}").to_lowercase().into_bytes(), value.to_vec()),
        Field::Header(name, value) => (name.as_str().as_bytes().to_vec(), value.as_bytes().to_vec()),
        Field::Malformed => return None,
    })
}

/// By the letter of RFC 9110 5.1, RFC 9113 8.2 and 8.3.
fn is_well_formed((name, value): &Pair) -> bool {
    let pseudo: [&[u8]; 6] = [b":method", b":scheme", b":authority", b":path", b":protocol", b":status"];
    let token = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9') || b"!#$%&'*+-.^_`|~".contains(byte);
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    (pseudo.contains(&name.as_slice()) || !name.is_empty() && name.iter().all(token))
        && value.iter().all(|byte| *byte == b'\t' || *byte >= b' ' && *byte != 0x7f)
        && !is_space(value.first())
        && !is_space(value.last())
}

fn other(decoder: &mut Other<'_>, block: &[u8]) -> (Vec<Pair>, bool) {
    let mut pairs = Vec::new();
    let read =
        decoder.decode_with_cb(block, |name, value| pairs.push((name.into_owned(), value.into_owned())));
    // Updates alone are a block to us.
    (pairs, matches!(read, Ok(()) | Err(fluke_hpack::decoder::DecoderError::SizeUpdateAtEnd)))
}

fn new_other() -> Other<'static> {
    let mut decoder = Other::new();
    decoder.set_max_allowed_table_size(TABLE_BYTES);
    decoder
}

fn sent_on(encoder: &mut Encoder, fields: &[Field]) -> Vec<u8> {
    let mut block = Vec::new();
    encoder.begin(&mut block);
    for field in fields {
        match field {
            Field::Pseudo(name, value) => encoder.pseudo(&mut block, *name, value),
            Field::Header(name, value) => encoder.header(&mut block, name, value),
            Field::Malformed => {}
        }
    }
    block
}

pub fn hpack(data: &[u8]) {
    let (mut first, mut second) = (Decoder::new(), new_other());
    let (mut encoder, mut third, mut fourth) = (Encoder::new(), Decoder::new(), new_other());
    for (table, block) in blocks(data) {
        let (mut fields, mut sizes) = (Vec::new(), Vec::new());
        let read = first.decode(block, |field, bytes| {
            fields.push(field);
            sizes.push(bytes);
        });
        match read {
            Ok(()) => {}
            // The other one takes that anywhere, or panics at half of one.
            Err(HpackError::UpdateMisplaced) => return,
            Err(_) if block.contains(&0x3f) => return,
            Err(error) => return assert!(!other(&mut second, block).1, "{error} in {block:02x?}"),
        }
        let (pairs, is_read) = other(&mut second, block);
        assert!(is_read, "refused: {block:02x?}");
        assert_eq!(fields.len(), pairs.len());
        for ((field, bytes), theirs) in fields.iter().zip(&sizes).zip(&pairs) {
            assert_eq!(*bytes, theirs.0.len() + theirs.1.len() + 32);
            match pair(field) {
                Some(ours) => assert_eq!(&ours, theirs),
                None => assert!(!is_well_formed(theirs), "{theirs:?}"),
            }
            assert_eq!(is_well_formed(theirs), *field != Field::Malformed, "{theirs:?}");
        }

        encoder.set_plain(table % 64 == 0);
        encoder.set_table_bytes_max(table);
        let block = sent_on(&mut encoder, &fields);
        fields.retain(|field| *field != Field::Malformed);
        let mut again = Vec::new();
        let read = third.decode(&block, |field, _| again.push(field));
        assert_eq!((read, &again), (Ok(()), &fields));
        let expected: Vec<Pair> = fields.iter().filter_map(pair).collect();
        assert_eq!(other(&mut fourth, &block), (expected, true));
    }
}

pub fn hpack_seeds() -> Vec<Vec<u8>> {
    let whole = |blocks: &[&[u8]]| {
        let block = |block: &&[u8]| [&[128, u8::try_from(block.len()).unwrap_or(u8::MAX)], *block].concat();
        blocks.iter().flat_map(block).collect::<Vec<u8>>()
    };
    // A gRPC call, as it comes first and as it comes again.
    let mut encoder = Encoder::new();
    let call = |encoder: &mut Encoder| {
        let header = |name: &'static str, value| {
            Field::Header(http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
        };
        let fields = [
            Field::Pseudo(Pseudo::Method, b"POST"[..].into()),
            Field::Pseudo(Pseudo::Path, b"/shop.Cart/Get"[..].into()),
            Field::Pseudo(Pseudo::Authority, b"cart.shop"[..].into()),
            header("content-type", "application/grpc"),
            header("te", "trailers"),
            header("authorization", "Bearer a"),
        ];
        sent_on(encoder, &fields)
    };
    let calls: Vec<Vec<u8>> = (0..3).map(|_| call(&mut encoder)).collect();
    let calls: Vec<&[u8]> = calls.iter().map(Vec::as_slice).collect();
    vec![
        whole(&calls),
        whole(&[b"\x40\x03x-a\x011\x10\x03x-b\x012\x00\x03x-c\x013", b"\xbe\x7e\x014"]),
        // Sizes of the table: smaller, larger, too large.
        whole(&[b"\x20\x3f\x45\x40\x01a\x40", b"\x3f\xe1\x1f\x82", b"\x3f\xe2\x1f"]),
        // An example of RFC 7541, C.6.1.
        whole(&[b"\x48\x82\x64\x02\x58\x85\xae\xc3\x77\x1a\x4b\x61\x96\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\
            \x95\x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff"]),
        // Names and values that are no HTTP.
        whole(&[b"\x40\x01A\x011\x40\x01\"\x011\x40\x00\x011\x40\x03:no\x00\x41\x01 \x5f\x02a\0\x0f\x2f\x011"]),
        whole(&[b"\x41\x84\xff\xff\xff\xff"]),
        whole(&[b"\x41\x83\x1a\x91\xff\x82\x80"]),
    ]
}
