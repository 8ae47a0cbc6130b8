//! What proxies and the control plane write for each other, and for people.

use std::fmt::Debug;

use prost::Message;
use weft_history::{decode_cell, encode_cell};
use weft_link::messages::{Down, JoinRequest, JoinResponse, RenewRequest, Up};
use weft_telemetry::accesslog::{Format, Record};

fn message<M: Message + Default + PartialEq + Debug>(data: &[u8]) {
    let Ok(first) = M::decode(data) else { return };
    let again = first.encode_to_vec();
    let second = M::decode(&again[..]).unwrap();
    // Maps have no order of their own, and a NaN equals nothing; no message has both.
    assert!(second == first || second.encode_to_vec() == again, "{first:?}");
}

/// The first byte says which message it is.
pub fn link(data: &[u8]) {
    let Some((which, data)) = data.split_first() else { return };
    match which % 5 {
        0 => message::<Up>(data),
        1 => message::<Down>(data),
        2 => message::<JoinRequest>(data),
        3 => message::<JoinResponse>(data),
        _ => message::<RenewRequest>(data),
    }
}

pub fn link_seeds() -> Vec<Vec<u8>> {
    // Labels, which a map keeps in whatever order.
    let labelled = b"\0\n\x12\"\x06\n\x01a\x12\x01b\"\x08\n\x02cc\x12\x02dd".to_vec();
    (0..5)
        .flat_map(|which| [vec![which], vec![which, 10, 2, 10, 0, 18, 3, b'a', b'b', b'c', 24, 150, 1]])
        .chain([labelled])
        .collect()
}

pub fn cell(data: &[u8]) {
    let Ok((series, counts)) = decode_cell(data) else { return };
    let (series_again, counts_again) = decode_cell(&encode_cell(&series, &counts)).unwrap();
    assert_eq!((&series_again, &counts_again), (&series, &counts));
}

pub fn cell_seeds() -> Vec<Vec<u8>> {
    let empty = encode_cell(&weft_history::Series::default(), &weft_history::Counts::default());
    let named = weft_history::Series {
        caller: "default/fe".to_owned(),
        service: "default/be1".to_owned(),
        code: 200,
        ..weft_history::Series::default()
    };
    vec![empty, encode_cell(&named, &weft_history::Counts::default())]
}

const NASTY: &str = "a\"b\\c\r\nd\te\u{1}\u{7f}\u{2028}";

pub fn access_log(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let record =
        Record { path: NASTY, method: NASTY, authority: NASTY, route_name: NASTY, ..Record::default() };
    if let Ok(format) = Format::parse(text) {
        let mut line = Vec::new();
        format.render(&record, &mut line);
        // What the format itself has in it is the operator's; nothing of the request adds a line.
        let own = text.bytes().filter(|byte| *byte == b'\n').count();
        let lines = line.iter().filter(|byte| **byte == b'\n').count();
        assert!(lines <= own + 1 && line.ends_with(b"\n"), "{} from {text:?}", line.escape_ascii());
    }
    if let Ok(format) = Format::json_of([("key", text), (text, "%PATH%")]) {
        let mut line = Vec::new();
        format.render(&record, &mut line);
        let (end, json) = line.split_last().unwrap();
        assert!(*end == b'\n' && !json.contains(&b'\n'), "{} from {text:?}", line.escape_ascii());
        let read: Result<serde_json::Value, _> = serde_json::from_slice(json);
        assert!(read.is_ok(), "{read:?}: {} from {text:?}", line.escape_ascii());
    }
}

pub fn access_log_seeds() -> Vec<Vec<u8>> {
    [
        weft_telemetry::accesslog::DEFAULT_TEXT,
        "%START_TIME(%Y-%m-%dT%H:%M:%S.%3f)% %REQ(X?Y):10% %RESP(a)% %TRAILER(b)%",
        "%DURATION%%RESPONSE_CODE%%% %PATH% %GRPC_STATUS% %CONNECTION_ID%\n",
        "%START_TIME(%s.%6f %%)% %DOWNSTREAM_PEER_URI_SAN% %ROUTE_NAME%",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
