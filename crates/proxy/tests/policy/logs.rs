//! S-HO-07: one request is one line, whatever its caller writes into it.

use std::{collections::HashMap, path::Path, time::Duration};

use envoy_types::pb::{
    envoy::{
        config::{
            accesslog::v3::{AccessLog, access_log},
            core::v3::{SubstitutionFormatString, substitution_format_string::Format},
        },
        extensions::access_loggers::file::v3::{FileAccessLog, file_access_log::AccessLogFormat},
    },
    google::protobuf::{Struct, Value, value::Kind},
};
use weft_proxy::static_config::StaticResources;

use crate::{
    mesh::{
        LIMIT, Proxy,
        xds::{Speak, any, cluster, http, listener, managed, plain_chain, to, vhost, with_access_log},
    },
    origin::{Origin, addresses, exchange, request},
};

/// What is logged of each request: all that its caller chooses.
const FIELDS: [(&str, &str); 6] = [
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(:PATH)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("agent", "%REQ(USER-AGENT)%"),
    ("forwarded", "%REQ(X-FORWARDED-FOR)%"),
    ("code", "%RESPONSE_CODE%"),
];

fn json_log(path: &Path) -> AccessLog {
    let fields: HashMap<String, Value> = FIELDS
        .iter()
        .map(|(key, text)| ((*key).to_owned(), Value { kind: Some(Kind::StringValue((*text).to_owned())) }))
        .collect();
    let log = FileAccessLog {
        path: path.to_string_lossy().into_owned(),
        access_log_format: Some(AccessLogFormat::LogFormat(SubstitutionFormatString {
            format: Some(Format::JsonFormat(Struct { fields })),
            ..SubstitutionFormatString::default()
        })),
    };
    AccessLog {
        name: "envoy.access_loggers.file".to_owned(),
        config_type: Some(access_log::ConfigType::TypedConfig(any(&log))),
        ..AccessLog::default()
    }
}

/// S-HO-07: CR, LF, ESC, quotes, controls, invalid UTF-8 and whole forged lines in the target and in headers; in the
/// text format and in JSON. (An SNI of that kind ends the handshake: see `tls_protocol`.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_is_one_line_of_the_log() {
    let origin = Origin::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (text_log, json) = (folder.path().join("text.log"), folder.path().join("json.log"));
    let ports = addresses(11, 2);
    let manager = |name: &str| http(name, vec![vhost("all", &["*"], vec![to("/", "app")])], None);
    let format: Vec<&str> = FIELDS.iter().map(|(_, text)| *text).collect();
    let format = format!("LINE \"{}\"\n", format.join("\" \""));
    let in_text = with_access_log(manager("text"), &text_log, &format);
    let in_json = managed(manager("json"), |manager| manager.access_log = vec![json_log(&json)]);
    let proxy = Proxy::start(
        "edge",
        StaticResources {
            listeners: vec![
                listener("text", ports[0], vec![plain_chain(in_text)]),
                listener("json", ports[1], vec![plain_chain(in_json)]),
            ],
            clusters: vec![cluster("app", &[origin.address], Speak::Http1, None)],
            ..StaticResources::default()
        },
    );
    let forged = "GET /forged HTTP/1.1\" 200 \"LINE \"GET\" \"/forged\"";
    let mut evil: Vec<Vec<u8>> = [
        "\"",
        "\\",
        "\\\"",
        "\"}\n{\"",
        "\r\nLINE",
        "\nLINE",
        "\rLINE",
        "\u{1b}[2J\u{1b}[31m",
        "\u{85}",
        "\u{2028}LINE",
        "\u{9b}31m",
        "\u{202e}",
        "%0aLINE",
        "%0d%0a",
        "\u{7f}",
        "\t",
        "\u{feff}",
        "{\"a\":1}",
        "${x}",
        "%REQ(:PATH)%",
        forged,
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    evil.extend([
        b"\xff\xfe".to_vec(),
        b"\xc0\x8a".to_vec(),
        b"\x80".to_vec(),
        b"\xed\xa0\x80".to_vec(),
        vec![b'a'; 4000],
    ]);
    evil.extend((0..=0xff_u8).map(|byte| vec![b'x', byte, b'y']));
    let mut expected = [0, 0];
    for (place, port) in expected.iter_mut().zip(ports) {
        for text in &evil {
            let target = [b"/p", &text[..]].concat();
            let agent = [b"host: h\r\nuser-agent: ", &text[..], b"\r\n"].concat();
            let from = [b"host: h\r\nx-forwarded-for: ", &text[..], b"\r\n"].concat();
            let host = [b"host: ", &text[..], b"\r\n"].concat();
            for request in [
                request(&target, b"host: h\r\n"),
                request(b"/agent", &agent),
                request(b"/from", &from),
                request(b"/host", &host),
                request(&[b"http://", &text[..], b"/"].concat(), b"host: h\r\n"),
            ] {
                let answer = exchange(port, &request).await;
                // What is no HTTP at all is refused, and has its line like any other.
                *place += usize::from(answer.status != 0);
            }
        }
    }
    let requests = evil.len() * 5;
    assert!(expected[0] > requests * 9 / 10, "{expected:?} of {requests}");
    let end = tokio::time::Instant::now() + LIMIT;
    let read = |path: &Path| std::fs::read(path).unwrap_or_default();
    let lines = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count();
    while lines(&read(&text_log)) < expected[0] || lines(&read(&json)) < expected[1] {
        let seen = (lines(&read(&text_log)), lines(&read(&json)));
        assert!(tokio::time::Instant::now() < end, "{seen:?} lines, of {expected:?} requests");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    proxy.stop();
    let found = [lines(&read(&text_log)), lines(&read(&json))];
    assert_eq!(found, expected, "as many lines as requests");
    for line in read(&text_log).split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let shown = line.escape_ascii();
        // What is no request has no method.
        let begins = [&b"LINE \"GET\" \""[..], b"LINE \"-\" \""];
        assert!(begins.iter().any(|begin| line.starts_with(begin)), "{shown}");
        assert!(std::str::from_utf8(line).is_ok_and(|line| !line.chars().any(char::is_control)), "{shown}");
        // Six quoted fields: no caller closed one early.
        let (mut quotes, mut escaped) = (0, false);
        for byte in line {
            quotes += usize::from(*byte == b'"' && !escaped);
            escaped = *byte == b'\\' && !escaped;
        }
        assert_eq!(quotes, 12, "{shown}");
    }
    for line in String::from_utf8(read(&json)).unwrap().lines() {
        let line: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(line.as_object().unwrap().len(), FIELDS.len(), "{line}");
        assert!(line["method"].is_null() || line["method"] == "GET", "{line}");
    }
    eprintln!("S-HO-07: {} requests, {found:?} lines", requests);
}
