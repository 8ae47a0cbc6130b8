#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

use super::*;

fn message(flags: u8, body: &[u8]) -> Vec<u8> {
    [&[flags][..], &u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
}

/// A body in pieces of one size, to its end.
fn request(format: Format, body: &[u8], size: usize) -> Result<Vec<u8>, Fault> {
    let mut request = Request::new(format);
    let mut out = Vec::new();
    for piece in body.chunks(size) {
        out.extend(request.push(Bytes::copy_from_slice(piece))?);
        assert!(request.held_bytes < 4);
    }
    request.end().map(|()| out)
}

/// What went out, and how it ended.
fn answer(format: Format, body: &[u8], size: usize) -> (Vec<u8>, Result<bool, Fault>) {
    let mut answer = Answer::new(format);
    let mut out = Vec::new();
    for piece in body.chunks(size) {
        let (good, kept) = answer.push(Bytes::copy_from_slice(piece));
        out.extend(good);
        if let Err(fault) = kept {
            return (out, Err(fault));
        }
    }
    (out, Ok(answer.is_whole()))
}

#[test]
fn media_types_in_any_case_and_nothing_else() {
    let of = |text: &'static str| {
        Format::of(text.as_bytes()).map(|(format, rest)| (format, std::str::from_utf8(rest).unwrap()))
    };
    assert_eq!(of("application/grpc-web"), Some((Format::Binary, "")));
    assert_eq!(of("application/grpc-web+proto"), Some((Format::Binary, "+proto")));
    assert_eq!(of("Application/GRPC-Web+json;a=b"), Some((Format::Binary, "+json;a=b")));
    assert_eq!(of("application/grpc-web-text"), Some((Format::Text, "")));
    assert_eq!(of("application/grpc-web-TEXT+proto"), Some((Format::Text, "+proto")));
    for other in [
        "application/grpc",
        "application/grpc+proto",
        "application/grpc-webs",
        "application/grpc-web-texts",
        "",
    ] {
        assert_eq!(of(other), None, "{other}");
    }
    assert_eq!(Format::accepted(b"*/*"), None);
    assert_eq!(Format::accepted(b"*/*, application/grpc-web-text;q=1 , x"), Some(Format::Text));
    assert_eq!(
        Format::accepted(b"application/grpc-web+proto,application/grpc-web-text"),
        Some(Format::Binary)
    );
}

#[test]
fn requests_come_out_the_same_however_they_are_cut() {
    let first = message(0, b"hello");
    let grpc = [&first[..], &message(1, b""), &message(0, &[7; 1000])].concat();
    // Each message by itself, as a client that flushes would send it, and all in one.
    let parts = STANDARD.encode(&first) + &STANDARD.encode(&grpc[first.len()..]);
    for size in 1..40 {
        assert_eq!(request(Format::Binary, &grpc, size).as_ref(), Ok(&grpc), "{size}");
        assert_eq!(request(Format::Text, parts.as_bytes(), size).as_ref(), Ok(&grpc), "{size}");
        assert_eq!(
            request(Format::Text, STANDARD.encode(&grpc).as_bytes(), size).as_ref(),
            Ok(&grpc),
            "{size}"
        );
    }
    for format in [Format::Binary, Format::Text] {
        assert_eq!(request(format, b"", 1), Ok(Vec::new()), "a stream of no messages");
    }
}

#[test]
fn requests_that_are_none_are_faults() {
    let text = |text: &str, fault| {
        for size in [1, 3, 1000] {
            assert_eq!(request(Format::Text, text.as_bytes(), size), Err(fault), "{text} by {size}");
        }
    };
    text("%%%%", Fault::Base64);
    text("AAAAAAB=AAAA", Fault::Base64); // bits that no byte has
    text("AAAA\r\nAAA", Fault::Base64);
    text("AA=A", Fault::Base64);
    text("====", Fault::Base64);
    text("AAAAAA", Fault::Cut); // padding is a must
    text("AAAAAAI=", Fault::Cut); // two bytes are said and do not come
    text("AAAA", Fault::Cut); // inside of a header
    text("gAAAAAA=", Fault::Flags);
    let binary = |bytes: &[u8], fault| {
        for size in [1, 3, 1000] {
            assert_eq!(request(Format::Binary, bytes, size), Err(fault), "{bytes:?} by {size}");
        }
    };
    binary(b"\0\0\0\0\x02h", Fault::Cut);
    binary(b"\0\xff\xff\xff\xffhi", Fault::Cut);
    binary(b"\0\0", Fault::Cut);
    for flags in [2, 0x7f, 0x80, 0x81, 0xff] {
        binary(&[&message(0, b"hi")[..], &message(flags, b"")].concat(), Fault::Flags);
    }
}

#[test]
fn an_answer_in_text_is_padded_where_messages_end_and_nowhere_else() {
    let messages = [message(0, b""), message(0, b"a"), message(1, b"ab"), message(0, &[9; 500])];
    let expected: String = messages.iter().map(|message| STANDARD.encode(message)).collect();
    let grpc = messages.concat();
    for size in 1..40 {
        assert_eq!(answer(Format::Text, &grpc, size), (expected.clone().into_bytes(), Ok(true)), "{size}");
        assert_eq!(answer(Format::Binary, &grpc, size), (grpc.clone(), Ok(true)), "{size}");
    }
    // A whole message waits for nothing.
    let mut answer = Answer::new(Format::Text);
    assert_eq!(answer.push(message(0, b"ab").into()).0, STANDARD.encode(message(0, b"ab")));
}

#[test]
fn an_answer_is_whole_between_messages_only() {
    let hi = message(0, b"hi");
    for end in 0..=hi.len() {
        for format in [Format::Binary, Format::Text] {
            let whole = answer(format, &hi[..end], 3).1;
            assert_eq!(whole, Ok(end == 0 || end == hi.len()), "{end} bytes");
        }
    }
}

#[test]
fn what_an_answer_says_before_a_fault_goes_out() {
    let hi = message(0, b"hi!");
    for flags in [2, 0x80, 0x81] {
        let grpc = [&hi[..], &message(flags, b"grpc-status: 0\r\n")].concat();
        for size in 1..40 {
            let faulty = |out: Vec<u8>| (out, Err(Fault::Flags));
            assert_eq!(answer(Format::Binary, &grpc, size), faulty(hi.clone()), "{flags} {size}");
            assert_eq!(
                answer(Format::Text, &grpc, size),
                faulty(STANDARD.encode(&hi).into()),
                "{flags} {size}"
            );
        }
    }
}

#[test]
fn trailers_are_the_last_frame() {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    trailers.append("x-one", "a".parse().unwrap());
    trailers.append("x-one", "b".parse().unwrap());
    let frame = Answer::new(Format::Binary).trailers(&trailers);
    let lines = b"grpc-status: 0\r\nx-one: a\r\nx-one: b\r\n";
    assert_eq!(frame, message(0x80, lines));
    assert_eq!(Answer::new(Format::Text).trailers(&trailers), STANDARD.encode(&frame));
    assert_eq!(&Answer::new(Format::Binary).trailers(&HeaderMap::new())[..], b"\x80\0\0\0\0");
}
