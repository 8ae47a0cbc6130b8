//! Formats, and that nothing a peer sends makes a second line.

use super::*;

struct Pairs<'a>(&'a [(&'a str, &'a [u8])], &'a [(&'a str, &'a [u8])]);

impl Headers for Pairs<'_> {
    fn value(&self, side: Side, named: &Named) -> Option<&[u8]> {
        let pairs = match side {
            Side::Request => self.0,
            Side::Response => self.1,
            Side::Trailer => return None,
        };
        pairs.iter().find(|(found, _)| *found == named.name).map(|(_, value)| *value)
    }
}

#[test]
fn names_have_their_places() {
    let format = Format::parse(
        "%REQ(A?B)% %REQ(:PATH)% %RESP(A)% %REQ(b)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %TRAILER(T)%",
    )
    .unwrap();
    assert_eq!(format.header_names(Side::Request), ["a", "b", "x-envoy-original-path"]);
    assert_eq!(format.header_names(Side::Response), ["a"]);
    assert_eq!(format.header_names(Side::Trailer), ["t"]);
}

fn sample<'a>(headers: &'a dyn Headers) -> Record<'a> {
    Record {
        // 2024-02-29T12:34:56.789012Z
        start_micros: 1_709_210_096_789_012,
        duration_micros: 12_900,
        protocol: "HTTP/1.1",
        method: "GET",
        authority: "be1",
        path: "/cart?token=secret",
        response_code: 503,
        response_flags: "UH",
        response_code_details: "no_healthy_upstream",
        bytes_received: 5,
        bytes_sent: 7,
        grpc_status: Some(14),
        upstream_host: "127.0.0.1:8080".parse().ok(),
        upstream_cluster: "outbound|80|be1.default",
        downstream_remote_address: "[::1]:5000".parse().ok(),
        downstream_peer_uri_san: "spiffe://mesh.internal/ns/default/sa/fe",
        route_name: "default/be1#0",
        headers,
        ..Record::default()
    }
}

fn line(format: &str, record: &Record<'_>) -> String {
    render(&Format::parse(format).unwrap(), record)
}

fn render(format: &Format, record: &Record<'_>) -> String {
    let mut out = Vec::new();
    format.render(record, &mut out);
    let line = String::from_utf8(out).expect("a line is UTF-8");
    line.strip_suffix('\n').expect("a line ends").to_owned()
}

#[test]
fn operators_show_their_fields() {
    let headers = Pairs(&[("user-agent", b"curl/8"), ("x-request-id", b"abc")], &[("server", b"be1")]);
    let record = sample(&headers);
    for (format, expected) in [
        ("", ""),
        ("plain text, 100%%", "plain text, 100%"),
        ("%START_TIME%", "2024-02-29T12:34:56.789Z"),
        ("%START_TIME(%Y/%m/%d %s %6f)%", "2024/02/29 1709210096 789012"),
        ("%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL%", "GET /cart HTTP/1.1"),
        ("%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", "/cart"),
        ("%REQ(User-Agent)%|%REQ(USER-AGENT):4%|%REQ(MISSING)%", "curl/8|curl|-"),
        ("%REQ(MISSING?X-REQUEST-ID):2%", "ab"),
        ("%RESP(SERVER)% %TRAILER(X)%", "be1 -"),
        ("%RESPONSE_CODE%%RESPONSE_FLAGS%", "503UH"),
        ("%RESPONSE_CODE_DETAILS%", "no_healthy_upstream"),
        ("%BYTES_RECEIVED%/%BYTES_SENT% %DURATION%", "5/7 12"),
        ("%GRPC_STATUS% %GRPC_STATUS(NUMBER)% %GRPC_STATUS_NUMBER%", "Unavailable 14 14"),
        ("%UPSTREAM_HOST% %UPSTREAM_CLUSTER%", "127.0.0.1:8080 outbound|80|be1.default"),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_REMOTE_PORT%", "::1 5000"),
        ("%DOWNSTREAM_LOCAL_ADDRESS%%DOWNSTREAM_LOCAL_PORT%", "--"),
        ("%DOWNSTREAM_PEER_URI_SAN%", "spiffe://mesh.internal/ns/default/sa/fe"),
        ("%REQUESTED_SERVER_NAME% %ROUTE_NAME%", "- default/be1#0"),
        ("%UPSTREAM_TRANSPORT_FAILURE_REASON%%CONNECTION_TERMINATION_DETAILS%", "--"),
        ("two\nlines\n", "two lines"),
    ] {
        assert_eq!(line(format, &record), expected, "{format}");
    }
}

#[test]
fn problems_name_the_operator_and_its_column() {
    for (format, column, words) in [
        ("a %NONSENSE%", 3, "unknown operator `%NONSENSE%`"),
        ("%RESPONSE_COD%", 1, "did you mean `%RESPONSE_CODE%`"),
        ("é%PROTOCOLL%", 2, "did you mean `%PROTOCOL%`"),
        ("%PROTOCOL", 1, "no closing `%`"),
        ("100 % of", 5, "write `%%`"),
        ("%REQ()%", 1, "not a header name"),
        ("%REQ(A B)%", 1, "not a header name"),
        ("%REQ%", 1, "not a header name"),
        ("%REQ(A", 1, "no closing `)`"),
        ("%REQ(A):x%", 1, "not a length"),
        ("%REQ(A):", 1, "no closing `%`"),
        ("%PROTOCOL(X)%", 1, "takes no argument"),
        ("%PROTOCOL:5%", 1, "takes no length"),
        ("%START_TIME(%Y-%!)%", 1, "START_TIME"),
        ("%GRPC_STATUS(X)%", 1, "CAMEL_STRING and NUMBER"),
    ] {
        let error = Format::parse(format).expect_err(format);
        assert_eq!(error.column, column, "{format}: {error}");
        assert!(error.message.contains(words), "{format}: {error}");
    }
    let error = Format::json_of([("a", "%PROTOCOL%"), ("b", "%NOPE%")]).expect_err("unknown");
    assert!(error.message.contains("\"b\""), "{error}");
}

#[test]
fn the_built_in_formats_are_whole() {
    let record = sample(&NoHeaders);
    let text = render(&Format::text(), &record);
    assert_eq!(
        text,
        "[2024-02-29T12:34:56.789Z] \"GET /cart HTTP/1.1\" 503 UH 5 7 12 \"-\" \"-\" \"-\" \"be1\" \"127.0.0.1:8080\""
    );
    let json: serde_json::Value = serde_json::from_str(&render(&Format::json(), &record)).unwrap();
    assert_eq!(json["response_code"], 503);
    assert_eq!(json["duration"], 12);
    assert_eq!(json["path"], "/cart");
    assert_eq!(json["user_agent"], serde_json::Value::Null);
    assert_eq!(json.as_object().map(serde_json::Map::len), Some(json::DEFAULT_KEYS.len()));
}

#[test]
fn query_strings_stay_out_unless_asked_for() {
    let headers = Pairs(
        &[("x-envoy-original-path", b"/old?password=1"), ("referer", b"http://be1/?password=1")],
        &[("location", b"/new?x=1")],
    );
    let record = sample(&headers);
    let format = "%REQ(:PATH)% %REQ(X-ENVOY-ORIGINAL-PATH)% %REQ(REFERER)%";
    assert_eq!(line(format, &record), "/cart /old http://be1/");
    let with = Format::parse(format).unwrap().with_query(true);
    assert_eq!(render(&with, &record), "/cart?token=secret /old?password=1 http://be1/?password=1");
    let never = Format::parse("%REQ_WITHOUT_QUERY(:PATH)%").unwrap().with_query(true);
    assert_eq!(render(&never, &record), "/cart");
}

#[test]
fn nasty_values_are_spelled_out() {
    let shown = |value: &'static [u8]| {
        let pairs = [("x", value)];
        let headers = Pairs(&pairs, &[]);
        let record = Record { headers: &headers, ..Record::default() };
        line("%REQ(X)%", &record)
    };
    assert_eq!(shown(b"a\r\nGET / 200"), "a\\r\\nGET / 200");
    assert_eq!(shown(b"\x1b[31mred"), "\\x1b[31mred");
    assert_eq!(shown(b"say \"hi\" \\"), "say \\\"hi\\\" \\\\");
    assert_eq!(shown(b"bad \xff\xfe utf"), "bad \\xff\\xfe utf");
    assert_eq!(shown("\u{85}\u{2028}\u{202e}".as_bytes()), "\\u{85}\\u{2028}\\u{202e}");
    assert_eq!(shown("caf\u{e9}".as_bytes()), "caf\u{e9}");
}

#[test]
fn one_request_is_one_line_and_json_always_parses() {
    let mut random = fastrand::Rng::with_seed(7);
    let formats = [Format::text(), Format::parse("%REQ(X):7% %RESP(Y)% %REQUESTED_SERVER_NAME%").unwrap()];
    let json = [
        Format::json(),
        Format::json_of([("mixed \"key\"\n", "a%REQ(X)%b%PROTOCOL%"), ("cut", "%REQ(X):3%"), ("none", "")])
            .unwrap(),
    ];
    for _ in 0..5000 {
        let mut noise = || -> Vec<u8> {
            (0..random.usize(..20))
                .map(|_| if random.bool() { random.u8(..) } else { b"\r\n\x1b\"\\\0"[random.usize(..6)] })
                .collect()
        };
        let (one, two) = (noise(), noise());
        let name = String::from_utf8_lossy(&noise()).into_owned();
        let request = [("x", one.as_slice()), ("user-agent", two.as_slice())];
        let headers = Pairs(&request, &request);
        let record = Record {
            path: &name,
            authority: &name,
            requested_server_name: &name,
            upstream_transport_failure_reason: &name,
            start_micros: u64::MAX,
            headers: &headers,
            ..Record::default()
        };
        for format in &formats {
            let line = render(format, &record);
            assert!(!line.chars().any(char::is_control), "{line:?}");
        }
        for format in &json {
            let line = render(format, &record);
            assert!(!line.chars().any(char::is_control), "{line:?}");
            let parsed = serde_json::from_str::<serde_json::Value>(&line);
            assert!(parsed.is_ok_and(|value| value.is_object()), "{line}");
        }
    }
}

#[test]
fn parsing_any_text_gives_a_format_or_an_error() {
    let mut random = fastrand::Rng::with_seed(8);
    let words = ["%", "%%", "REQ", "(", ")", ":", "PROTOCOL", "START_TIME", "é", "?", "9", "\n", "%Y"];
    for _ in 0..20_000 {
        let text: String = (0..random.usize(..10)).map(|_| words[random.usize(..words.len())]).collect();
        if let Ok(format) = Format::parse(&text) {
            let line = render(&format, &Record::default());
            assert!(!line.contains('\n'), "{text:?} gives {line:?}");
        }
    }
}

#[test]
fn times_of_other_seconds_are_not_mixed_up() {
    let at = |micros: u64| {
        let record = Record { start_micros: micros, ..Record::default() };
        line("%START_TIME%", &record)
    };
    let second = 1_709_210_096_000_000;
    for (micros, text) in [
        (second, "2024-02-29T12:34:56.000Z"),
        (second + 999_999, "2024-02-29T12:34:56.999Z"),
        (second + 1_000_000, "2024-02-29T12:34:57.000Z"),
        (second, "2024-02-29T12:34:56.000Z"),
        (0, "1970-01-01T00:00:00.000Z"),
    ] {
        assert_eq!(at(micros).trim_end(), text);
    }
}
