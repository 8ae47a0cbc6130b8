//! The rules of RFC 7541 one by one; its own examples, a second implementation and chance are in the files below.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::{Decoder, Encoder, Field, HpackError, Pseudo, huffman};

mod peers;
mod vectors;

/// A field as text, and what it counts.
type Told = (String, Vec<u8>, usize);

fn told(field: Field, bytes: usize) -> Told {
    let (name, value) = match field {
        Field::Pseudo(name, value) => (format!(":{name:?}").to_lowercase(), value.to_vec()),
        Field::Header(name, value) => (name.to_string(), value.as_bytes().to_vec()),
        Field::Malformed => return ("malformed".to_owned(), Vec::new(), bytes),
    };
    assert_eq!(bytes, name.len() + value.len() + 32);
    (name, value, bytes)
}

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<Told>, HpackError> {
    let mut fields = Vec::new();
    decoder.decode(block, |field, bytes| fields.push(told(field, bytes)))?;
    Ok(fields)
}

/// The fields of a block without their sizes, as text.
fn lines(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, HpackError> {
    let fields = decode(decoder, block)?;
    Ok(fields.into_iter().map(|(name, value, _)| format!("{name}: {}", value.escape_ascii())).collect())
}

fn fresh(block: &[u8]) -> Result<Vec<String>, HpackError> {
    lines(&mut Decoder::new(), block)
}

fn pieces(pieces: &[&[u8]]) -> Vec<u8> {
    pieces.concat()
}

/// A literal with a literal name, both as they are.
fn literal(mark: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut block = vec![mark];
    for text in [name, value] {
        super::integer::encode(&mut block, 0, 0x7f, text.len());
        block.extend_from_slice(text);
    }
    block
}

fn headers(encoder: &mut Encoder, fields: &[(&'static str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    encoder.begin(&mut out);
    for (name, value) in fields {
        encoder.header(&mut out, &HeaderName::from_static(name), &HeaderValue::from_str(value).unwrap());
    }
    out
}

#[test]
fn what_cannot_be_read_is_an_error() {
    use HpackError::*;
    let long = [0xff; 5];
    let cases: &[(&str, &[u8], HpackError)] = &[
        ("index 0", &[0x80], Index),
        ("an index behind both tables", &[0xbe], Index),
        ("a name behind both tables", &[0x7e, 1, b'a'], Index),
        ("a name behind both tables, not kept", &[0x0f, 0x2f, 1, b'a'], Index),
        ("a far index", &[0xff, 0xff, 0xff, 0xff, 0x7f], Index),
        ("an index that goes on for too long", &long, Integer),
        ("an index of zeros that goes on for too long", &[0xff, 0x80, 0x80, 0x80, 0x80, 0], Integer),
        ("half an index", &[0xff, 0x80], Truncated),
        ("a name alone", &[0x41], Truncated),
        ("half a value", &[0x41, 5, b'a'], Truncated),
        ("half a name", &[0x40, 5, b'a'], Truncated),
        ("no length of a name", &[0x40], Truncated),
        ("a length that goes on for too long", &[0x41, 0x7f, 0xff, 0xff, 0xff, 0xff], Integer),
        ("padding of eight ones", &[0x41, 0x81, 0xff], Huffman),
        ("padding of sixteen ones", &[0x41, 0x82, 0xff, 0xff], Huffman),
        ("padding of a zero", &[0x41, 0x81, 0b0001_1000], Huffman),
        ("padding of zeros", &[0x41, 0x82, 0b0001_1000, 0b1100_0000], Huffman),
        ("a symbol and eight ones of padding", &[0x41, 0x82, 0b0001_1111, 0xff], Huffman),
        ("the end as a symbol", &[0x41, 0x84, 0xff, 0xff, 0xff, 0xff], Huffman),
        ("the end after a symbol", &[0x41, 0x85, 0x1f, 0xff, 0xff, 0xff, 0xff], Huffman),
        ("half a long code", &[0x41, 0x82, 0xff, 0xf0], Huffman),
        ("a table larger than ours", &[0x3f, 0xe2, 0x1f], UpdateTooLarge),
        ("half an update", &[0x3f], Truncated),
        ("an update that goes on for too long", &[0x3f, 0xff, 0xff, 0xff, 0xff, 0x0f], Integer),
        ("an update after a field", &[0x82, 0x20], UpdateMisplaced),
        ("an update after another and a field", &[0x20, 0x82, 0x20], UpdateMisplaced),
    ];
    for (what, block, error) in cases {
        assert_eq!(fresh(block), Err(*error), "{what}");
    }
}

#[test]
fn what_is_odd_is_read() {
    let cases: &[(&str, &[u8], &[&str])] = &[
        ("nothing", &[], &[]),
        ("updates alone", &[0x20, 0x3f, 0xe1, 0x1f], &[]),
        ("an empty value", &[0x41, 0], &[":authority: "]),
        ("an empty value in the code", &[0x41, 0x80], &[":authority: "]),
        ("three bits of padding, and a control character", &[0x41, 0x82, 0xff, 0xc7], &["malformed: "]),
        ("seven bits of padding", &[0x41, 0x83, 0x1a, 0x91, 0xff], &[":authority: a b"]),
        ("no padding", &[0x41, 0x85, 0x18, 0xc6, 0x31, 0x8c, 0x63], &[":authority: aaaaaaaa"]),
        ("an index with zeros behind", &[0xff, 0x80, 0x80, 0x00], &[]),
        ("above ASCII", &[0x5f, 3, 0xc3, 0xa4, 0xff], &["content-type: \\xc3\\xa4\\xff"]),
        ("a tab inside", &[0x5f, 3, b'a', b'\t', b'b'], &["content-type: a\\tb"]),
    ];
    for (what, block, fields) in cases {
        if fields.is_empty() && block.first() == Some(&0xff) {
            // 127 is a number, only not of a field.
            assert_eq!(fresh(block), Err(HpackError::Index), "{what}");
            continue;
        }
        assert_eq!(fresh(block).unwrap(), *fields, "{what}");
    }
}

#[test]
fn a_malformed_field_is_told_and_the_table_stays_in_step() {
    let values: &[&[u8]] =
        &[b" a", b"a ", b"\ta", b"a\t", b" ", b"a\0b", b"a\rb", b"a\nb", b"\x7f", b"a\x01"];
    let mut bad: Vec<(&[u8], &[u8])> = values.iter().map(|value| (&b"x-a"[..], *value)).collect();
    bad.extend(values.iter().map(|value| (&b":path"[..], *value)));
    bad.extend(
        [&b"X-a"[..], b"", b":", b":paths", b":Path", b"a b", b"a\"b", b"a:b", b"x-\xe4", b"a\0"]
            .map(|name| (name, &b"v"[..])),
    );
    for (name, value) in bad {
        for mark in [0x40, 0, 0x10] {
            let mut decoder = Decoder::new();
            let block = pieces(&[
                &literal(0x40, b"x-first", b"1"),
                &literal(mark, name, value),
                &literal(0x40, b"x-last", b"2"),
            ]);
            let fields = decode(&mut decoder, &block).unwrap();
            let what = format!("{} {}", name.escape_ascii(), value.escape_ascii());
            assert_eq!(fields[1].0, "malformed", "{what}");
            assert_eq!(fields[1].2, name.len() + value.len() + 32, "{what}");
            let kept = mark == 0x40;
            let expected = if kept {
                vec!["x-last: 2", "malformed: ", "x-first: 1"]
            } else {
                vec!["x-last: 2", "x-first: 1"]
            };
            let all = &[0xbe, 0xbf, 0xc0][..expected.len()];
            assert_eq!(lines(&mut decoder, all).unwrap(), expected, "{what}");
        }
    }
}

#[test]
fn the_name_of_a_malformed_value_is_as_good_as_any() {
    let mut decoder = Decoder::new();
    let bad =
        pieces(&[&literal(0x40, b"x-a", b" "), &literal(0x40, b":path", b"\0"), &literal(0x40, b"X", b"")]);
    assert_eq!(lines(&mut decoder, &bad).unwrap(), ["malformed: "; 3]);
    let by_name = [0x0f, 0x31, 1, b'1', 0x0f, 0x30, 1, b'/', 0x0f, 0x2f, 1, b'1'];
    assert_eq!(lines(&mut decoder, &by_name).unwrap(), ["x-a: 1", ":path: /", "malformed: "]);
}

#[test]
fn a_field_that_must_not_be_kept_is_sensitive_on_the_way_on() {
    let mut decoder = Decoder::new();
    let mut encoder = Encoder::new();
    for _ in 0..3 {
        let mut out = Vec::new();
        encoder.begin(&mut out);
        let block = pieces(&[&literal(0x10, b"x-key", b"secret"), &literal(0, b"x-open", b"1")]);
        let mut marks = Vec::new();
        decoder
            .decode(&block, |field, _| {
                let Field::Header(name, value) = field else { panic!() };
                marks.push(value.is_sensitive());
                let from = out.len();
                encoder.header(&mut out, &name, &value);
                assert_eq!(out[from] & 0xf0 == 0x10, value.is_sensitive());
            })
            .unwrap();
        assert_eq!(marks, [true, false]);
    }
}

#[test]
fn secrets_are_never_kept() {
    let mut encoder = Encoder::new();
    for (name, value, never) in [
        ("authorization", "Bearer abcdefghijklmnopqrstuvwxyz", true),
        ("proxy-authorization", "Basic YWxhZGRpbjpvcGVuc2VzYW1l", true),
        ("cookie", "id=1", true),
        ("set-cookie", "id=1", true),
        ("cookie", "session=0123456789abcdef0123456789abcdef", false),
    ] {
        for _ in 0..4 {
            let block = headers(&mut encoder, &[(name, value)]);
            assert_eq!(block[0] & 0xf0 == 0x10, never, "{name}: {value}");
        }
    }
    // Nor is a query.
    for (path, lengths) in [(&b"/find?word=a"[..], [12, 12, 12]), (b"/find", [6, 6, 1])] {
        for bytes in lengths {
            let mut out = Vec::new();
            encoder.begin(&mut out);
            encoder.pseudo(&mut out, Pseudo::Path, path);
            assert_eq!(out.len(), bytes, "{}", path.escape_ascii());
        }
    }
}

#[test]
fn values_that_are_not_kept_can_be_plain() {
    let mut encoder = Encoder::new();
    encoder.set_plain(true);
    let fields = [("authorization", "Bearer aaaa"), ("x-a", "shop")];
    let block = headers(&mut encoder, &fields);
    assert!(block.ends_with(b"\x04shop") && block.starts_with(b"\x1f\x08\x0bBearer aaaa"));
    let mut decoder = Decoder::new();
    assert_eq!(lines(&mut decoder, &block).unwrap(), ["authorization: Bearer aaaa", "x-a: shop"]);
    // What is kept is written but once.
    assert!(!headers(&mut encoder, &fields).ends_with(b"shop"));
    assert!(headers(&mut encoder, &fields).ends_with(&[0xbe]));
}

#[test]
fn an_entry_larger_than_the_table_empties_it() {
    let mut decoder = Decoder::new();
    let update = [0x3f, 0x45]; // 100
    assert_eq!(decode(&mut decoder, &pieces(&[&update, &literal(0x40, b"x-a", b"1")])).unwrap().len(), 1);
    assert_eq!(lines(&mut decoder, &[0xbe]).unwrap(), ["x-a: 1"]);
    // 100 bytes fit, and push it out.
    assert_eq!(decode(&mut decoder, &literal(0x40, b"x-b", &[b'v'; 65])).unwrap()[0].2, 100);
    assert_eq!(decode(&mut decoder, &[0xbe]).unwrap()[0].0, "x-b");
    assert_eq!(lines(&mut decoder, &[0xbf]), Err(HpackError::Index));
    // 101 do not.
    assert_eq!(decode(&mut decoder, &literal(0x40, b"x-c", &[b'v'; 66])).unwrap()[0].2, 101);
    assert_eq!(lines(&mut decoder, &[0xbe]), Err(HpackError::Index));
    // A name may be that of the entry which makes room.
    let mut decoder = Decoder::new();
    decode(&mut decoder, &pieces(&[&update, &literal(0x40, b"x-name-of-some-length", b"1")])).unwrap();
    assert_eq!(
        lines(&mut decoder, &pieces(&[&[0x7e, 20], &[b'v'; 20], &[0xbe]])).unwrap(),
        vec![format!("x-name-of-some-length: {}", "v".repeat(20)); 2]
    );
}

#[test]
fn a_resized_table_drops_the_oldest() {
    let mut decoder = Decoder::new();
    let fields =
        pieces(&[&literal(0x40, b"a", b"1"), &literal(0x40, b"b", b"2"), &literal(0x40, b"c", b"3")]);
    decode(&mut decoder, &fields).unwrap();
    // Each is 34.
    assert_eq!(lines(&mut decoder, &[0x3f, 68 - 31, 0xbe, 0xbf]).unwrap(), ["c: 3", "b: 2"]);
    assert_eq!(lines(&mut decoder, &[0xc0]), Err(HpackError::Index));
    assert_eq!(lines(&mut decoder, &[0x20, 0x3f, 0xe1, 0x1f, 0xbe]), Err(HpackError::Index));
}

#[test]
fn the_encoder_tells_the_smallest_size_and_the_last() {
    let begun = |sizes: &[usize]| {
        let mut encoder = Encoder::new();
        for size in sizes {
            encoder.set_table_bytes_max(*size);
        }
        let (mut out, mut again) = (Vec::new(), Vec::new());
        encoder.begin(&mut out);
        encoder.begin(&mut again);
        assert_eq!(again, b"");
        out
    };
    assert_eq!(begun(&[]), b"");
    assert_eq!(begun(&[4096]), b"");
    assert_eq!(begun(&[65536]), b"");
    assert_eq!(begun(&[0]), [0x20]);
    assert_eq!(begun(&[100]), [0x3f, 69]);
    assert_eq!(begun(&[100, 0]), [0x20]);
    assert_eq!(begun(&[0, 65536]), [0x20, 0x3f, 0xe1, 0x1f]);
    assert_eq!(begun(&[50, 0, 100]), [0x20, 0x3f, 69]);
}

#[test]
fn a_field_is_kept_when_it_comes_again() {
    let mut encoder = Encoder::new();
    let fields = [("content-type", "application/grpc"), ("x-team", "shop")];
    let lengths: Vec<usize> = (0..4).map(|_| headers(&mut encoder, &fields).len()).collect();
    assert!(lengths[0] > 20 && lengths[1] > 20);
    assert_eq!(lengths[2..], [2, 2]);
}

#[test]
fn values_that_are_new_each_time_do_not_push_out_what_stays() {
    let mut encoder = Encoder::new();
    let mut decoder = Decoder::new();
    let mut last = 0;
    for number in 0..5_000 {
        let id = format!("{number:08}-4f6f-4a51-b1c2-{:012}", number * 7919);
        let path = format!("/carts/{number}");
        let mut out =
            headers(&mut encoder, &[("content-type", "application/grpc"), ("user-agent", "grpc-go/1.76.0")]);
        let stable = out.len();
        encoder.header(
            &mut out,
            &HeaderName::from_static("x-request-id"),
            &HeaderValue::from_str(&id).unwrap(),
        );
        encoder.pseudo(&mut out, Pseudo::Path, path.as_bytes());
        assert!(number < 2 || stable <= 4, "{stable} at {number}");
        let fields = decode(&mut decoder, &out).unwrap();
        assert_eq!((fields[2].1.as_slice(), fields[3].1.as_slice()), (id.as_bytes(), path.as_bytes()));
        last = out.len();
    }
    // The id's name has an index: its value and the path's, three bytes around each, and two fields by index.
    assert!(last < 4 + 3 + 36 + 3 + 12, "{last}");
}

#[test]
fn a_value_too_large_for_the_table_is_written_each_time() {
    let mut encoder = Encoder::new();
    let mut decoder = Decoder::new();
    let large = "v".repeat(4096);
    for _ in 0..4 {
        let block = headers(&mut encoder, &[("x-small", "1"), ("x-large", &large)]);
        let fields = decode(&mut decoder, &block).unwrap();
        assert_eq!(fields[1].1.len(), 4096);
    }
    assert_eq!(headers(&mut encoder, &[("x-small", "1")]).len(), 1);
}

#[test]
fn any_bytes_survive_the_code() {
    let all: Vec<u8> = (0..=255).collect();
    let mut random = peers::Random(7);
    let check = |text: &[u8]| {
        let mut coded = vec![0xaa];
        huffman::encode(text, &mut coded);
        assert_eq!(coded.len() - 1, huffman::encoded_bytes(text));
        let mut decoded = vec![0; huffman::decoded_bytes_max(coded.len() - 1)];
        let bytes = huffman::decode(&coded[1..], &mut decoded);
        assert_eq!(bytes.map(|bytes| &decoded[..bytes]), Some(text));
    };
    check(b"");
    check(&all);
    for one in &all {
        check(&[*one]);
        for other in &all {
            check(&[*one, *other]);
            check(&[b'a', *one, b'0', *other, b'/']);
        }
    }
    for _ in 0..2_000 {
        let bytes = random.below(80);
        let text: Vec<u8> = (0..bytes).map(|_| random.byte()).collect();
        check(&text);
        let text: Vec<u8> =
            (0..bytes).map(|_| b"0123456789abcdefghijklmnopqrstuvwxyz-./ {~"[random.below(42)]).collect();
        check(&text);
    }
}

/// What a field that went on keeps alive is its part of a thread's memory, and never the block.
#[test]
fn a_field_outlives_its_block_and_its_table() {
    let mut held = Vec::new();
    let mut decoder = Decoder::new();
    for number in 0..500 {
        let value = format!("value-{number}-{}", "x".repeat(number * 13 % 700));
        let mark = if number % 2 == 0 { 0x40 } else { 0 };
        decoder
            .decode(&literal(mark, b"x-a", value.as_bytes()), |field, _| held.push((value.clone(), field)))
            .unwrap();
        if number % 50 == 0 {
            super::release();
        }
    }
    drop(decoder);
    for (value, field) in held {
        assert_eq!(
            field,
            Field::Header(HeaderName::from_static("x-a"), HeaderValue::from_str(&value).unwrap())
        );
    }
}

/// The one who takes a field may decode another block.
#[test]
fn a_block_inside_of_a_block() {
    let block = pieces(&[&literal(0, b"x-a", b"1"), &literal(0, b":path", b"/2")]);
    let mut outer = Vec::new();
    let mut decoder = Decoder::new();
    decoder.decode(&block, |field, _| outer.push((field, fresh(&block).unwrap()))).unwrap();
    let inner = ["x-a: 1", ":path: /2"];
    assert_eq!(
        outer[1],
        (Field::Pseudo(Pseudo::Path, Bytes::from_static(b"/2")), inner.map(String::from).to_vec())
    );
    assert_eq!(outer[0].1, inner);
}
