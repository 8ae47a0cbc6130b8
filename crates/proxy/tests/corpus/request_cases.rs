//! Row S-H1-01: the requests. `{P}` is `POST / HTTP/1.1\r\nHost: a\r\n`, `{G}` the same with GET, `{S}` a whole `GET /smug`.

use super::requests::Expect::{self, Accept as A, Normalise as N, Reject as R};

/// Class and number, what it is about, what must become of it, the bytes.
pub type Case = (&'static str, Expect, &'static [u8]);

pub const CASES: &[Case] = &[
    // A: Transfer-Encoding and Content-Length against each other.
    ("A01 CL+TE chunked", R, b"{P}Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{S}"),
    ("A02 TE chunked+CL", R, b"{P}Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n{S}"),
    ("A03 two CL differ", R, b"{P}Content-Length: 0\r\nContent-Length: 34\r\n\r\n{S}"),
    ("A04 two CL equal", N, b"{P}Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
    ("A05 CL list differ", R, b"{P}Content-Length: 0, 34\r\n\r\n{S}"),
    ("A06 CL list equal", N, b"{P}Content-Length: 3, 3\r\n\r\nabc"),
    (
        "A07 two TE chunked",
        R,
        b"{P}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("A08 TE chunked, chunked", R, b"{P}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    ("A09 TE identity", R, b"{P}Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc"),
    ("A10 TE chunked, identity", R, b"{P}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{S}"),
    ("A11 TE gzip,chunked", R, b"{P}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("A12 TE chunked,", R, b"{P}Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n{S}"),
    ("A13 TE ,chunked + CL", R, b"{P}Transfer-Encoding: ,chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
    ("A14 TE empty + CL", R, b"{P}Transfer-Encoding:\r\nContent-Length: 3\r\n\r\nabc"),
    ("A15 TE xchunked", R, b"{P}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("A16 TE VT chunked", R, b"{P}Transfer-Encoding: \x0bchunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
    ("A17 TE NBSP chunked", R, b"{P}Transfer-Encoding: \xa0chunked\xa0\r\n\r\n0\r\n\r\n"),
    (
        "A18 TE name trailing space",
        R,
        b"{P}Transfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ),
    ("A19 TE obs-fold", R, b"{P}Transfer-Encoding:\r\n chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
    (
        "A20 TE in HTTP/1.0",
        R,
        b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{S}",
    ),
    ("A21 TE quoted", R, b"{P}Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
    ("A22 TE underscore name", N, b"{P}Transfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
    ("A23 TE chunked;q=1", R, b"{P}Transfer-Encoding: chunked;foo=bar\r\n\r\n0\r\n\r\n"),
    ("A24 GET with TE + CL", R, b"{G}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n{S}"),
    // B: the syntax of Content-Length.
    ("B01 CL +3", R, b"{P}Content-Length: +3\r\n\r\nabc"),
    ("B02 CL -1", R, b"{P}Content-Length: -1\r\n\r\nabc"),
    ("B03 CL 0x3", R, b"{P}Content-Length: 0x3\r\n\r\nabc"),
    ("B04 CL 3.0", R, b"{P}Content-Length: 3.0\r\n\r\nabc"),
    ("B05 CL empty", R, b"{P}Content-Length: \r\n\r\nabc"),
    ("B06 CL with inner space", R, b"{P}Content-Length: 3 4\r\n\r\nabc"),
    ("B07 CL 2^64+3", R, b"{P}Content-Length: 18446744073709551619\r\n\r\nabc"),
    ("B08 CL 2^64-1", R, b"{P}Content-Length: 18446744073709551615\r\n\r\nabc"),
    ("B09 CL quoted", R, b"{P}Content-Length: \"3\"\r\n\r\nabc"),
    ("B10 CL VT", R, b"{P}Content-Length: \x0b3\r\n\r\nabc"),
    ("B11 CL NUL", R, b"{P}Content-Length: 3\x00\r\n\r\nabc"),
    ("B12 CL trailing comma", R, b"{P}Content-Length: 3,\r\n\r\nabc"),
    ("B13 CL leading zeros", N, b"{P}Content-Length: 0003\r\n\r\nabc"),
    ("B14 CL NBSP", R, b"{P}Content-Length: \xa03\r\n\r\nabc"),
    ("B15 CL obs-fold", R, b"{P}Content-Length:\r\n 3\r\n\r\nabc"),
    ("B16 CL other digits", R, b"{P}Content-Length: \xd9\xa3\r\n\r\nabc"),
    ("B17 GET with CL body", N, b"{G}Content-Length: 3\r\n\r\nabc"),
    // C: the syntax of chunks.
    ("C01 chunk 0x prefix", R, b"{P}Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n"),
    ("C02 chunk +3", R, b"{P}Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n"),
    ("C03 chunk -0", R, b"{P}Transfer-Encoding: chunked\r\n\r\n-0\r\n\r\n"),
    ("C04 chunk 2^64+3", R, b"{P}Transfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n0\r\n\r\n"),
    ("C05 chunk space before", R, b"{P}Transfer-Encoding: chunked\r\n\r\n 3\r\nabc\r\n0\r\n\r\n"),
    ("C06 chunk space after", R, b"{P}Transfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n"),
    ("C07 chunk ext", N, b"{P}Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n"),
    ("C08 chunk ext bare LF", R, b"{P}Transfer-Encoding: chunked\r\n\r\n3;a\nabc\r\n0\r\n\r\n"),
    ("C09 chunk ext bare CR", R, b"{P}Transfer-Encoding: chunked\r\n\r\n3;a\rb\r\nabc\r\n0\r\n\r\n"),
    ("C10 chunk size LF only", R, b"{P}Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n"),
    ("C11 chunk-data LF only", R, b"{P}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\n0\r\n\r\n"),
    ("C12 chunk-data without end", R, b"{P}Transfer-Encoding: chunked\r\n\r\n3\r\nabc0\r\n\r\n"),
    ("C13 chunk empty size", R, b"{P}Transfer-Encoding: chunked\r\n\r\n\r\n\r\n"),
    ("C14 chunk longer than said", R, b"{P}Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n"),
    ("C15 last-chunk LF", R, b"{P}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\n\n"),
    ("C16 last-chunk 000", N, b"{P}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n000\r\n\r\n"),
    (
        "C17 trailer CL",
        N,
        b"{P}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nContent-Length: 50\r\n\r\n",
    ),
    (
        "C18 trailer TE",
        N,
        b"{P}Transfer-Encoding: chunked\r\n\r\n0\r\nTransfer-Encoding: chunked\r\nHost: b\r\n\r\n",
    ),
    (
        "C19 trailer no colon",
        R,
        b"{P}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX:GET / HTTP/1.1\r\nbad line\r\n\r\n",
    ),
    ("C20 size in letters", R, b"{P}Transfer-Encoding: chunked\r\n\r\nG\r\nabc\r\n0\r\n\r\n"),
    ("C21 chunk size NUL", R, b"{P}Transfer-Encoding: chunked\r\n\r\n3\x00\r\nabc\r\n0\r\n\r\n"),
    ("C22 trailer name with space", R, b"{P}Transfer-Encoding: chunked\r\n\r\n0\r\nX : y\r\n\r\n{S}"),
    // D: the syntax of the head.
    ("D01 bare LF lines", R, b"GET / HTTP/1.1\nHost: a\n\n"),
    ("D02 CR CR LF", R, b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n"),
    ("D03 CR as line end", R, b"{G}X: a\rSmug: 1\r\n\r\n"),
    ("D04 NUL in value", R, b"{G}X: a\x00b\r\n\r\n"),
    ("D05 NUL in name", R, b"{G}X\x00y: a\r\n\r\n"),
    ("D06 space before first name", R, b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    ("D07 name trailing space", R, b"{G}Xy : a\r\n\r\n"),
    ("D08 name trailing tab", R, b"{G}Xy\t: a\r\n\r\n"),
    ("D09 obs-fold", R, b"{G}X: a\r\n b\r\n\r\n"),
    ("D10 obs-fold tab", R, b"{G}X: a\r\n\tb\r\n\r\n"),
    ("D11 no colon", R, b"{G}nocolon\r\n\r\n"),
    ("D12 empty name", R, b"{G}: a\r\n\r\n"),
    ("D13 8bit value", N, b"{G}X: a\xffb\r\n\r\n"),
    ("D14 8bit name", R, b"{G}X\xff: a\r\n\r\n"),
    ("D15 name parens", R, b"{G}X(y): a\r\n\r\n"),
    ("D16 control in value", R, b"{G}X: a\x01b\r\n\r\n"),
    ("D17 header end LFLF", R, b"{G}X: a\n\n{S}"),
    // E: the request line.
    ("E01 tab sep", R, b"GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n"),
    ("E02 two spaces", R, b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("E03 trailing space", R, b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
    ("E04 no version", R, b"GET /\r\nHost: a\r\n\r\n"),
    ("E05 HTTP/1.2", R, b"GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
    ("E06 HTTP/2.0", R, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    ("E07 http/1.1 lower", R, b"GET / http/1.1\r\nHost: a\r\n\r\n"),
    ("E08 HTTP/1.10", R, b"GET / HTTP/1.10\r\nHost: a\r\n\r\n"),
    ("E09 method specials", R, b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("E10 leading space", R, b" GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("E11 target with space", R, b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("E12 target with NUL", R, b"GET /a\x00b HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("E13 target 8bit", N, b"GET /a\xffb HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("E14 fragment", R, b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("E15 no leading slash", R, b"GET admin HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("E16 asterisk with GET", R, b"GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("E17 CONNECT no port", R, b"CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("E18 control in target", R, b"GET /a\x0bb HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("E19 100KB target", R, b"GET /{100K} HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("E20 empty line first", N, b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    // F: Host and authority.
    ("F01 no Host", R, b"GET / HTTP/1.1\r\n\r\n"),
    ("F02 empty Host", R, b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    ("F03 two Host equal", R, b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    ("F04 two Host differ", R, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    ("F05 Host userinfo", R, b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
    ("F06 Host slash", R, b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    ("F07 Host space", R, b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    ("F08 Host list", R, b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
    ("F09 Host port junk", R, b"GET / HTTP/1.1\r\nHost: a:80x\r\n\r\n"),
    ("F10 Host port 65536", R, b"GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n"),
    ("F11 abs-form userinfo", R, b"GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("F12 abs-form other Host", N, b"GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n"),
    ("F13 abs-form bad scheme", R, b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("F14 Host backslash", R, b"GET / HTTP/1.1\r\nHost: a\\b\r\n\r\n"),
    ("F15 Host NUL", R, b"GET / HTTP/1.1\r\nHost: a\x00.b\r\n\r\n"),
    ("F16 Host brackets open", R, b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"),
    ("F17 HTTP/1.0 no host", N, b"GET / HTTP/1.0\r\n\r\n"),
    // G: the meaning of the connection, and gadgets.
    ("G01 Upgrade then pipelined", N, b"{G}Connection: upgrade\r\nUpgrade: foo\r\n\r\n{S}"),
    (
        "G02 h2c Upgrade",
        N,
        b"{G}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    ),
    ("G03 Connection strips CL", R, b"{P}Connection: Content-Length\r\nContent-Length: 3\r\n\r\nabc"),
    ("G04 Connection strips Host", R, b"{G}Connection: Host\r\n\r\n"),
    ("G05 Connection strips XFF", N, b"{G}Connection: X-Forwarded-For\r\n\r\n"),
    ("G06 close then pipelined", N, b"{G}Connection: close\r\n\r\n{S}"),
    ("G07 Expect obfuscated", N, b"{P}Expect: y 100-continue\r\nContent-Length: 3\r\n\r\nabc"),
    ("G08 Expect on GET", N, b"{G}Expect: 100-continue\r\n\r\n{S}"),
    ("G09 pipelined bad second", N, b"{G}\r\nBAD\x00 / HTTP/1.1\r\n\r\n"),
    ("G10 body shorter than said", R, b"{P}Content-Length: 300\r\n\r\n{S}"),
    ("G11 TRACE", N, b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (
        "G12 HTTP/1.0 keep-alive pipelined",
        N,
        b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n{S}",
    ),
    ("G13 CONNECT early data", N, b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n{S}"),
    // H: limits.
    ("H01 101 headers", N, b"{G}{101}\r\n"),
    ("H02 90 headers", A, b"{G}{90}\r\n"),
    ("H03 70KB one value", R, b"{G}X: {70K}\r\n\r\n"),
    ("H04 8KB target", A, b"GET /{8K} HTTP/1.1\r\nHost: a\r\n\r\n"),
    // What must always work.
    ("Z01 GET", A, b"{G}\r\n"),
    ("Z02 POST with CL", A, b"{P}Content-Length: 3\r\n\r\nabc"),
    ("Z03 POST chunked", A, b"{P}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
    ("Z04 chunked in capitals", A, b"{P}TRANSFER-ENCODING: Chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n"),
    (
        "Z05 chunked with a trailer",
        A,
        b"{P}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n",
    ),
    ("Z06 two pipelined", A, b"{G}\r\n{G}\r\n"),
    ("Z07 no space after the colon", A, b"GET / HTTP/1.1\r\nHost:a\r\n\r\n"),
    ("Z08 tabs around the value", A, b"{G}X: \t y \t\r\n\r\n"),
    ("Z09 OPTIONS *", N, b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("Z10 absolute form", A, b"GET http://a/x?y=http://b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("Z11 IPv6 host with port", A, b"GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n"),
    ("Z12 own method", A, b"M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("Z13 empty value", A, b"{G}X:\r\n\r\n"),
    ("Z14 Expect 100-continue", A, b"{P}Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc"),
    ("Z15 many chunks", A, b"{P}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n02\r\nbc\r\n0\r\n\r\n"),
    ("Z16 percent and query signs", A, b"GET /a%20b/c;d=e?x=%2F&y[]='1'|2 HTTP/1.1\r\nHost: a\r\n\r\n"),
];

/// The bytes of a case.
pub fn bytes(case: &[u8]) -> Vec<u8> {
    let many = |count: usize| (0..count).map(|n| format!("X{n}: 1\r\n")).collect::<String>().into_bytes();
    let marks: [(&[u8], Vec<u8>); 8] = [
        (b"{P}", b"POST / HTTP/1.1\r\nHost: a\r\n".to_vec()),
        (b"{G}", b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec()),
        (b"{S}", b"GET /smug HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        (b"{100K}", vec![b'a'; 100_000]),
        (b"{70K}", vec![b'a'; 70_000]),
        (b"{8K}", vec![b'a'; 8000]),
        (b"{101}", many(101)),
        (b"{90}", many(90)),
    ];
    let mut out = Vec::new();
    let mut rest = case;
    while !rest.is_empty() {
        match marks.iter().find(|(mark, _)| rest.starts_with(mark)) {
            Some((mark, text)) => {
                out.extend_from_slice(text);
                rest = &rest[mark.len()..];
            }
            None => {
                out.push(rest[0]);
                rest = &rest[1..];
            }
        }
    }
    out
}
