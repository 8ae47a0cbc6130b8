//! The request corpus: what each of these byte strings is, in the words of [`served`](crate::served).
//!
//! Classes as in the published desync research: A length against encoding, B length syntax, C chunk syntax, D head
//! syntax, E request line, F Host and authority, G connection semantics, H limits. `smug` in an expectation that is not
//! a request of its own right would be a smuggled request.

use crate::{served, strict};

/// The beginning of a POST to host `a`, and a whole request that must never come out of another's body.
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\n";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n";
const SMUG: &str = "GET /smug HTTP/1.1\r\nHost: a\r\n\r\n";

pub struct Case {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    pub told: &'static str,
}

fn case(name: &'static str, parts: &[&[u8]], told: &'static str) -> Case {
    Case { name, bytes: parts.concat(), told }
}

/// A POST with these lines and what follows them.
fn post(name: &'static str, rest: &[u8], told: &'static str) -> Case {
    case(name, &[POST.as_bytes(), rest], told)
}

fn get(name: &'static str, rest: &[u8], told: &'static str) -> Case {
    case(name, &[GET.as_bytes(), rest], told)
}

fn raw(name: &'static str, bytes: &[u8], told: &'static str) -> Case {
    case(name, &[bytes], told)
}

fn chunked(name: &'static str, body: &[u8], told: &'static str) -> Case {
    case(name, &[POST.as_bytes(), b"Transfer-Encoding: chunked\r\n\r\n", body], told)
}

fn smuggling(name: &'static str, lines: &[u8], told: &'static str) -> Case {
    case(name, &[POST.as_bytes(), lines, SMUG.as_bytes()], told)
}

#[rustfmt::skip] // a table: one row a line
fn a_length_against_encoding() -> Vec<Case> {
    vec![
        smuggling("A01 both", b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "refused length_and_encoding"),
        smuggling("A02 both, other order", b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n", "refused length_and_encoding"),
        smuggling("A03 two lengths", b"Content-Length: 0\r\nContent-Length: 34\r\n\r\n", "refused lengths_differ"),
        post("A04 equal lengths", b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "POST / a =abc"),
        smuggling("A05 list of lengths", b"Content-Length: 0, 34\r\n\r\n", "refused lengths_differ"),
        post("A06 list of equal lengths", b"Content-Length: 3, 3\r\n\r\nabc", "POST / a =abc"),
        post("A07 chunked twice", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "refused bad_encoding"),
        post("A08 chunked, chunked", b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", "refused bad_encoding"),
        post("A09 identity and length", b"Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc", "refused length_and_encoding"),
        post("A10 identity", b"Transfer-Encoding: identity\r\n\r\nabc", "refused unknown_encoding"),
        post("A11 gzip, chunked", b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "refused unknown_encoding"),
        post("A12 chunked, gzip", b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", "refused bad_encoding"),
        post("A13 empty element and length", b"Transfer-Encoding: ,chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "refused bad_encoding"),
        post("A14 chunked with comma", b"Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n", "refused bad_encoding"),
        post("A15 xchunked", b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "refused unknown_encoding"),
        post("A16 empty encoding", b"Transfer-Encoding: \r\n\r\n0\r\n\r\n", "refused bad_encoding"),
        post("A17 no-break spaces", b"Transfer-Encoding: \xa0chunked\xa0\r\n\r\n0\r\n\r\n", "refused bad_encoding"),
        post("A18 vertical tab", b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", "refused bad_field_value"),
        post("A19 folded encoding", b"Transfer-Encoding:\r\n chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "refused bad_encoding"),
        raw("A20 HTTP/1.0 chunked", b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "refused misplaced_encoding"),
        post("A21 quoted", b"Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", "refused bad_encoding"),
        post("A22 spaces within", b"Transfer-Encoding: chun ked\r\n\r\n0\r\n\r\n", "refused bad_encoding"),
        post("A23 parameter", b"Transfer-Encoding: chunked;foo=bar\r\n\r\n0\r\n\r\n", "refused bad_encoding"),
        post("A24 encoding by underscore", b"Transfer_Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc", "POST / a =abc"),
        post("A25 any case, tab before", b"TRANSFER-ENCODING:\tCHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "POST / a =abc"),
        post("A26 encoding, space before colon", b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", "refused bad_field_name"),
        post("A27 encoding behind NUL", b"Transfer-Encoding: chunked\x00\r\n\r\n0\r\n\r\n", "refused bad_field_value"),
        post("A28 length disguised, chunked", b"Content_Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "POST / a"),
        post("A29 next line", b"Transfer-Encoding: chunked\x85\r\n\r\n0\r\n\r\n", "refused bad_encoding"),
        post("A30 list over lines", b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "refused unknown_encoding"),
    ]
}

#[rustfmt::skip] // a table: one row a line
fn b_length_syntax() -> Vec<Case> {
    vec![
        post("B01 plus", b"Content-Length: +3\r\n\r\nabc", "refused bad_length"),
        post("B02 minus", b"Content-Length: -3\r\n\r\nabc", "refused bad_length"),
        post("B03 hex", b"Content-Length: 0x3\r\n\r\nabc", "refused bad_length"),
        post("B04 fraction", b"Content-Length: 3.0\r\n\r\nabc", "refused bad_length"),
        post("B05 empty", b"Content-Length: \r\n\r\nabc", "refused bad_length"),
        post("B06 2^63", b"Content-Length: 9223372036854775808\r\n\r\nabc", "refused bad_length"),
        post("B07 2^64+3", b"Content-Length: 18446744073709551619\r\n\r\nabc", "refused bad_length"),
        post("B08 trailing comma", b"Content-Length: 3,\r\n\r\nabc", "refused bad_length"),
        post("B09 quoted", b"Content-Length: \"3\"\r\n\r\nabc", "refused bad_length"),
        post("B10 underscore", b"Content-Length: 0_3\r\n\r\nabc", "refused bad_length"),
        post("B11 NUL", b"Content-Length: 3\x00\r\n\r\nabc", "refused bad_field_value"),
        post("B12 space within", b"Content-Length: 3 4\r\n\r\nabc", "refused bad_length"),
        post("B13 leading zeros", b"Content-Length: 0003\r\n\r\nabc", "POST / a =abc"),
        post("B14 many zeros", b"Content-Length: 000000000000000000000000000003\r\n\r\nabc", "POST / a =abc"),
        post("B15 folded", b"Content-Length:\r\n 3\r\n\r\nabc", "refused bad_length"),
        post("B16 superscript", b"Content-Length: \xc2\xb3\r\n\r\nabc", "refused bad_length"),
        get("B17 GET with a body", b"Content-Length: 3\r\n\r\nabc", "GET / a =abc"),
        post("B18 exponent", b"Content-Length: 3e0\r\n\r\nabc", "refused bad_length"),
        post("B19 white space around", b"Content-Length: \t 3 \t\r\n\r\nabc", "POST / a =abc"),
        post("B20 no white space", b"Content-Length:3\r\n\r\nabc", "POST / a =abc"),
        post("B21 short body", b"Content-Length: 4\r\n\r\nabc", "POST / a =abc | more"),
        case("B22 next behind the body", &[POST.as_bytes(), b"Content-Length: 3\r\n\r\nabc", SMUG.as_bytes()], "POST / a =abc | GET /smug a"),
        case("B23 no length, so no body", &[POST.as_bytes(), b"\r\n", SMUG.as_bytes()], "POST / a | GET /smug a"),
        post("B24 semicolon", b"Content-Length: 3;3\r\n\r\nabc", "refused bad_length"),
        post("B25 form feed", b"Content-Length: \x0c3\r\n\r\nabc", "refused bad_field_value"),
    ]
}

#[rustfmt::skip] // a table: one row a line
fn c_chunk_syntax() -> Vec<Case> {
    let cut = "POST / a | refused bad_chunk";
    vec![
        chunked("C01 0x", b"0x3\r\nabc\r\n0\r\n\r\n", cut),
        chunked("C02 plus", b"+3\r\nabc\r\n0\r\n\r\n", cut),
        chunked("C03 -0", b"-0\r\n\r\n", cut),
        chunked("C04 leading zeros", b"0003\r\nabc\r\n0\r\n\r\n", "POST / a =abc"),
        chunked("C05 space before", b" 3\r\nabc\r\n0\r\n\r\n", cut),
        chunked("C06 space behind", b"3 \r\nabc\r\n0\r\n\r\n", "POST / a | refused bad_extension"),
        chunked("C07 extension", b"3;a=b\r\nabc\r\n0\r\n\r\n", "POST / a =abc"),
        chunked("C08 quoted extension", b"3 ; a = \"b;\\\"\\\\\" ;c\r\nabc\r\n0;d\r\n\r\n", "POST / a =abc"),
        chunked("C09 bare CR in extension", b"3;a\rb\r\nabc\r\n0\r\n\r\n", cut),
        chunked("C10 LF in extension", b"3;a\nabc\r\n0\r\n\r\n", "POST / a | refused bad_extension"),
        chunked("C11 LF behind data", b"3\r\nabc\n0\r\n\r\n", "POST / a =abc | refused bad_chunk"),
        chunked("C12 LF behind size", b"3\nabc\r\n0\r\n\r\n", cut),
        chunked("C13 no size", b"\r\n\r\n", cut),
        chunked("C14 17 digits", b"00000000000000003\r\nabc\r\n0\r\n\r\n", cut),
        chunked("C15 last chunk by LF", b"3\r\nabc\r\n0\n\n", "POST / a =abc | refused bad_chunk"),
        chunked("C16 2^64", b"10000000000000003\r\nabc\r\n0\r\n\r\n", cut),
        chunked("C17 length as trailer", b"3\r\nabc\r\n0\r\nContent-Length: 50\r\n\r\n", "POST / a =abc"),
        chunked("C18 trailer", b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n", "POST / a =abc +X-Sum: 1"),
        chunked("C19 trailer without colon", b"3\r\nabc\r\n0\r\nX:GET / HTTP/1.1\r\nbad line\r\n\r\n", "POST / a =abc | refused bad_field_name"),
        chunked("C20 folded trailer", b"3\r\nabc\r\n0\r\nX: a\r\n b\r\n\r\n", "POST / a =abc | refused folded"),
        chunked("C21 NUL in size", b"3\x00\r\nabc\r\n0\r\n\r\n", cut),
        chunked("C22 data too long", b"3\r\nabcd\r\n0\r\n\r\n", "POST / a =abc | refused bad_chunk"),
        chunked("C23 upper and lower digits", b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", "POST / a =01234567890123456789"),
        chunked("C24 size above 2^63", b"8000000000000000\r\nabc", cut),
        chunked("C25 extension without name", b"3;\r\nabc\r\n0\r\n\r\n", "POST / a | refused bad_extension"),
        chunked("C26 open quote", b"3;a=\"b\r\nabc\r\n0\r\n\r\n", "POST / a | refused bad_extension"),
        chunked("C27 two CR", b"3\r\r\nabc\r\n0\r\n\r\n", cut),
        chunked("C28 trailer by LF", b"0\r\nX: a\n\r\n", "POST / a | refused bare_lf"),
        chunked("C29 barred trailers", b"0\r\nHost: b\r\nAuthorization: x\r\nSet-Cookie: y\r\nX-Forwarded-For: z\r\nOk: 1\r\n\r\n", "POST / a +Ok: 1"),
        case("C30 next behind the end", &[POST.as_bytes(), b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", SMUG.as_bytes()], "POST / a | GET /smug a"),
        chunked("C31 cut in data", b"5\r\nabc", "POST / a =abc | more"),
        chunked("C32 cut before the blank line", b"3\r\nabc\r\n0\r\n", "POST / a =abc | more"),
        chunked("C33 extension by equals", b"3=a\r\nabc\r\n0\r\n\r\n", cut),
        chunked("C34 underscore", b"0_3\r\nabc\r\n0\r\n\r\n", cut),
        chunked("C35 trailer of length syntax", b"0\r\nContent-Length: x\r\n\r\n", "POST / a | refused bad_length"),
        chunked("C36 control in extension", b"3;a=\x01\r\nabc\r\n0\r\n\r\n", "POST / a | refused bad_extension"),
    ]
}

#[rustfmt::skip] // a table: one row a line
fn d_head_syntax() -> Vec<Case> {
    vec![
        raw("D01 LF lines", b"GET / HTTP/1.1\nHost: a\n\n", "refused bare_lf"),
        raw("D02 LF behind a field", b"GET / HTTP/1.1\r\nHost: a\n\r\n", "refused bare_lf"),
        get("D03 CR in a value", b"X: a\rSmug: 1\r\n\r\n", "refused bare_cr"),
        get("D04 NUL in a value", b"X: a\x00b\r\n\r\n", "refused bad_field_value"),
        get("D05 NUL in a name", b"X\x00y: a\r\n\r\n", "refused bad_field_name"),
        get("D06 no name", b": a\r\n\r\n", "refused bad_field_name"),
        get("D07 space before the colon", b"Xy : a\r\n\r\n", "refused bad_field_name"),
        get("D08 tab before the colon", b"Xy\t: a\r\n\r\n", "refused bad_field_name"),
        get("D09 folded", b"X: a\r\n b\r\n\r\n", "refused folded"),
        get("D10 folded by tab", b"X: a\r\n\tb\r\n\r\n", "refused folded"),
        get("D11 no colon", b"nocolon\r\n\r\n", "refused bad_field_name"),
        raw("D12 space before the first field", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", "refused folded"),
        get("D13 8-bit value", b"X: a\xffb\r\n\r\n", "GET / a"),
        get("D14 8-bit name", b"X\xff: a\r\n\r\n", "refused bad_field_name"),
        get("D15 parentheses in a name", b"X(y): a\r\n\r\n", "refused bad_field_name"),
        get("D16 DEL in a value", b"X: a\x7f\r\n\r\n", "refused bad_field_value"),
        case("D17 end by LFLF", &[GET.as_bytes(), b"X: a\n\n", SMUG.as_bytes()], "refused bare_lf"),
        get("D18 end by CR", b"X: a\r\n\rGET", "refused bare_cr"),
        get("D19 empty value", b"X:\r\nY: \r\n\r\n", "GET / a"),
        get("D20 white space around a value", b"X:a\r\nY: \t b \t\r\n\r\n", "GET / a"),
        get("D21 all token bytes", b"!#$%&'*+-.^_`|~09azAZ: x\r\n\r\n", "GET / a"),
        get("D22 CR CR LF", b"X: a\r\r\n\r\n", "refused bare_cr"),
        get("D23 end never comes", b"X: a\r\n", "more"),
        get("D24 tab within a value", b"X: a\tb\r\n\r\n", "GET / a"),
        get("D25 escape in a value", b"X: \x1b[2J\r\n\r\n", "refused bad_field_value"),
        get("D26 line end in a name", b"X\r\nY: a\r\n\r\n", "refused bad_field_name"),
        get("D27 LF in a name", b"X\nY: a\r\n\r\n", "refused bare_lf"),
    ]
}

#[rustfmt::skip] // a table: one row a line
fn e_request_line() -> Vec<Case> {
    let end = b" HTTP/1.1\r\nHost: a\r\n\r\n";
    vec![
        raw("E01 tabs", b"GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n", "refused bad_method"),
        raw("E02 two spaces", b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "refused bad_target"),
        raw("E03 space behind", b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "refused bad_version"),
        raw("E04 space before", b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", "refused bad_method"),
        raw("E05 HTTP/1.2", b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", "refused unknown_version"),
        raw("E06 HTTP/0.9", b"GET /\r\n", "refused bad_version"),
        raw("E07 lower case", b"GET / http/1.1\r\nHost: a\r\n\r\n", "refused bad_version"),
        raw("E08 HTTP/2.0", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "refused unknown_version"),
        raw("E09 odd method", b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n", "refused bad_method"),
        raw("E10 lower-case method", b"get / HTTP/1.1\r\nHost: a\r\n\r\n", "get / a"),
        raw("E11 space in the target", b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "refused bad_version"),
        case("E12 NUL in the target", &[b"GET /a\0b", end], "refused bad_target"),
        case("E13 8-bit target", &[b"GET /a\xffb", end], "refused bad_target"),
        case("E14 fragment", &[b"GET /a#b", end], "refused bad_target"),
        case("E15 no slash", &[b"GET admin", end], "refused bad_target"),
        case("E16 star of GET", &[b"GET *", end], "refused bad_target"),
        case("E17 CONNECT without port", &[b"CONNECT a", end], "refused bad_target"),
        case("E18 CONNECT with path", &[b"CONNECT a:80/x", end], "refused bad_target"),
        case("E19 long target", &[b"GET /", &[b'a'; 100_000], end], "refused long_target"),
        case("E20 long method", &[&[b'A'; 1000], b" /", end], "refused long_method"),
        case("E21 backslash", &[b"GET /a\\b", end], "refused bad_target"),
        case("E22 OPTIONS *", &[b"OPTIONS *", end], "OPTIONS * a"),
        raw("E23 one blank line before", b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / a"),
        raw("E24 two blank lines before", b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "refused bad_method"),
        raw("E25 LF before", b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "refused bare_lf"),
        raw("E26 HTTP/1.10", b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", "refused bad_version"),
        raw("E27 HTTP/1", b"GET / HTTP/1\r\nHost: a\r\n\r\n", "refused bad_version"),
        raw("E28 no target", b"GET HTTP/1.1\r\nHost: a\r\n\r\n", "refused bad_version"),
        raw("E29 TLS", b"\x16\x03\x01\x00\xa5\x01\x00\x00", "refused bad_method"),
        case("E30 target at the limit", &[b"GET /", &[b'a'; 8191], end], LONG_TARGET.get()),
        case("E31 target above the limit", &[b"GET /", &[b'a'; 8192], end], "refused long_target"),
        case("E32 unwise bytes", &[b"GET /a|b{c}[d]^e`<f>\"?%zz", end], "GET /a|b{c}[d]^e`<f>\\\"?%zz a"),
        raw("E33 line ends within the version", b"GET / HTTP/1.1\nHost: a\r\n\r\n", "refused bare_lf"),
        raw("E34 version far off", b"GET / FTP/1.1\r\nHost: a\r\n\r\n", "refused bad_version"),
        case("E35 DEL in the target", &[b"GET /\x7f", end], "refused bad_target"),
    ]
}

/// A long expectation that is made once.
struct Long(std::sync::OnceLock<String>);
static LONG_TARGET: Long = Long(std::sync::OnceLock::new());

impl Long {
    fn get(&'static self) -> &'static str {
        self.0.get_or_init(|| format!("GET /{} a", "a".repeat(8191)))
    }
}

#[rustfmt::skip] // a table: one row a line
fn f_host_and_authority() -> Vec<Case> {
    let host = |name, value: &[u8], told| case(name, &[b"GET / HTTP/1.1\r\nHost: ", value, b"\r\n\r\n"], told);
    let absolute = |name, target: &[u8], value: &[u8], told| {
        case(name, &[b"GET ", target, b" HTTP/1.1\r\nHost: ", value, b"\r\n\r\n"], told)
    };
    vec![
        raw("F01 no Host", b"GET / HTTP/1.1\r\n\r\n", "refused no_host"),
        host("F02 empty Host", b"", "refused bad_host"),
        get("F03 two Hosts, equal", b"Host: a\r\n\r\n", "refused many_hosts"),
        get("F04 two Hosts", b"Host: b\r\n\r\n", "refused many_hosts"),
        host("F05 user", b"u@a", "refused bad_host"),
        host("F06 list", b"a, b", "refused bad_host"),
        host("F07 space", b"a b", "refused bad_host"),
        host("F08 path", b"a/b", "refused bad_host"),
        host("F09 port with junk", b"a:80x", "refused bad_host"),
        host("F10 port too high", b"a:65536", "refused bad_host"),
        absolute("F11 user in the target", b"http://u:p@a/", b"a", "refused bad_host"),
        absolute("F12 Host differs", b"http://b/", b"a", "GET / b"),
        absolute("F13 scheme", b"ftp://a/", b"a", "refused bad_target"),
        absolute("F14 absolute", b"http://a/x?y", b"a", "GET /x?y a"),
        host("F15 NUL", b"a\0.b", "refused bad_field_value"),
        absolute("F16 no path", b"http://a", b"a", "GET / a"),
        raw("F17 HTTP/1.0 without Host", b"GET / HTTP/1.0\r\n\r\n", "GET /  closes"),
        absolute("F18 query without path", b"HTTP://A?x", b"a", "GET /?x A"),
        host("F19 IPv6", b"[::1]:80", "GET / [::1]:80"),
        host("F20 IPv6 with zone", b"[fe80::1%25eth0]", "refused bad_host"),
        absolute("F21 usual port", b"http://a:80/", b"a", "GET / a:80"),
        absolute("F22 other port", b"http://a:81/", b"a", "GET / a:81"),
        absolute("F23 https", b"https://a/", b"a:443", "GET / a"),
        absolute("F24 no host", b"http:///x", b"a", "refused bad_host"),
        absolute("F25 one slash", b"http:/a/", b"a", "refused bad_target"),
        host("F26 bare colon", b"a:", "GET / a"),
        host("F27 underscore and dot", b"be_1.ns.", "GET / be_1.ns."),
        raw("F28 Host by underscore and dash", b"GET / HTTP/1.1\r\nHost: a\r\nX_Forwarded_For: 1\r\n\r\n", "GET / a"),
        raw("F29 Host of HTTP/1.0 malformed", b"GET / HTTP/1.0\r\nHost: u@a\r\n\r\n", "refused bad_host"),
        raw("F30 absolute, HTTP/1.0", b"GET http://a/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "GET / a closes"),
        raw("F31 OPTIONS absolute", b"OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * a"),
        host("F32 escape", b"%61", "refused bad_host"),
        host("F33 only a port", b":80", "refused bad_host"),
        raw("F34 Host folded", b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", "refused folded"),
        raw("F35 CONNECT to another", b"CONNECT a:80 HTTP/1.1\r\nHost: b:80\r\n\r\n", "refused host_differs"),
        raw("F36 CONNECT, Host without port", b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT  a:80 | tunnel 0"),
        absolute("F37 absolute, two slashes in path", b"http://a//b", b"a", "GET //b a"),
        absolute("F38 absolute, bare colon", b"http://a:/b", b"a", "GET /b a"),
    ]
}

#[rustfmt::skip] // a table: one row a line
fn g_connection_semantics() -> Vec<Case> {
    vec![
        case("G01 upgrade, then the next", &[GET.as_bytes(), b"Connection: upgrade\r\nUpgrade: foo\r\n\r\n", SMUG.as_bytes()], "GET / a | GET /smug a"),
        get("G02 Connection names Host", b"Connection: Host\r\n\r\n", "refused connection_names_end_to_end"),
        post("G03 Connection names the length", b"Connection: Content-Length\r\nContent-Length: 3\r\n\r\nabc", "refused connection_names_end_to_end"),
        post("G04 Connection names the encoding", b"Connection: close, transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "refused connection_names_end_to_end"),
        get("G05 Connection names X-Forwarded-For", b"X-Forwarded-For: 1\r\nConnection: X-Forwarded-For\r\n\r\n", "GET / a"),
        get("G06 Connection names Authorization", b"Connection: authorization\r\n\r\n", "refused connection_names_end_to_end"),
        post("G07 odd expectation", b"Expect: y 100-continue\r\nContent-Length: 3\r\n\r\nabc", "refused unknown_expectation"),
        post("G08 expectation", b"Expect: 100-Continue\r\nContent-Length: 3\r\n\r\nabc", "POST / a expects =abc"),
        case("G09 bad second", &[GET.as_bytes(), b"\r\nBAD\x00 / HTTP/1.1\r\n\r\n"], "GET / a | refused bad_method"),
        get("G10 expectation without a body", b"Expect: 100-continue\r\n\r\n", "GET / a"),
        raw("G11 TRACE", b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", "TRACE / a"),
        raw("G12 TRACE with a body", b"TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "refused misplaced_body"),
        case("G13 CONNECT with early bytes", &[b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", SMUG.as_bytes()], "CONNECT  a:80 | tunnel 31"),
        raw("G14 CONNECT with a length", b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nContent-Length: 3\r\n\r\nabc", "refused misplaced_body"),
        raw("G15 CONNECT chunked", b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "refused misplaced_encoding"),
        case("G16 close, then the next", &[GET.as_bytes(), b"Connection: close\r\n\r\n", SMUG.as_bytes()], "GET / a closes"),
        raw("G17 HTTP/1.0 closes", b"GET / HTTP/1.0\r\nHost: a\r\n\r\nGET /smug", "GET / a closes"),
        raw("G18 HTTP/1.0 keeps alive", b"GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n", "GET / a"),
        get("G19 close wins", b"Connection: keep-alive, close\r\n\r\n", "GET / a closes"),
        get("G20 Connection is no list of tokens", b"Connection: a b\r\n\r\n", "refused bad_connection"),
        get("G21 empty elements", b"Connection: ,keep-alive,,\r\n\r\n", "GET / a"),
        get("G22 too many names", b"Connection: a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q\r\n\r\n", "refused bad_connection"),
        post("G23 expectation of HTTP/1.0 is nothing", b"Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n", "POST / a"),
        raw("G24 HTTP/1.0 with odd expectation", b"POST / HTTP/1.0\r\nHost: a\r\nExpect: x\r\nContent-Length: 1\r\n\r\na", "POST / a =a closes"),
        get("G25 Proxy-Connection does not count", b"Proxy-Connection: close\r\n\r\n", "GET / a"),
        case("G26 h2c upgrade", &[GET.as_bytes(), b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n", SMUG.as_bytes()], "GET / a | GET /smug a"),
        post("G27 Connection names disguised length", b"Connection: Content_Length\r\nContent-Length: 3\r\n\r\nabc", "refused connection_names_end_to_end"),
        get("G28 TE: trailers", b"TE: trailers, gzip\r\nConnection: TE\r\n\r\n", "GET / a"),
    ]
}

#[rustfmt::skip] // a table: one row a line
fn h_limits() -> Vec<Case> {
    let many = |count: usize| (0..count).map(|n| format!("X{n}: 1\r\n")).collect::<String>();
    let (fits, above) = (many(99), many(100));
    let line = [b"X: ".as_slice(), &[b'a'; 1000], b"\r\n"].concat();
    vec![
        case("H01 101 fields", &[GET.as_bytes(), above.as_bytes(), b"\r\n"], "refused many_fields"),
        case("H02 100 fields", &[GET.as_bytes(), fits.as_bytes(), b"\r\n"], "GET / a"),
        case("H03 one value of 70 KB", &[GET.as_bytes(), b"X: ", &[b'a'; 70_000], b"\r\n\r\n"], "refused long_head"),
        case("H04 70 KB in lines", &[GET.as_bytes(), &line.repeat(70), b"\r\n"], "refused long_head"),
        case("H05 long name", &[GET.as_bytes(), &[b'x'; 2000], b": a\r\n\r\n"], "refused long_head"),
        case("H06 long trailers", &[POST.as_bytes(), b"Transfer-Encoding: chunked\r\n\r\n0\r\n", &line.repeat(9), b"\r\n"], "POST / a | refused long_trailers"),
        case("H07 many trailers", &[POST.as_bytes(), b"Transfer-Encoding: chunked\r\n\r\n0\r\n", many(33).as_bytes(), b"\r\n"], "POST / a | refused long_trailers"),
        case("H08 long extension", &[POST.as_bytes(), b"Transfer-Encoding: chunked\r\n\r\n1;", &[b'a'; 2000], b"\r\na\r\n0\r\n\r\n"], "POST / a | refused bad_extension"),
        case("H09 extensions outweigh data", &[POST.as_bytes(), b"Transfer-Encoding: chunked\r\n\r\n", &[&b"1;"[..], &[b'a'; 1000], b"\r\na\r\n"].concat().repeat(17)], "POST / a =aaaaaaaaaaaaaaaa | refused bad_extension"),
    ]
}

pub fn corpus() -> Vec<Case> {
    [
        a_length_against_encoding(),
        b_length_syntax(),
        c_chunk_syntax(),
        d_head_syntax(),
        e_request_line(),
        f_host_and_authority(),
        g_connection_semantics(),
        h_limits(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn each_request_has_its_verdict_however_it_is_cut() {
    let corpus = corpus();
    assert!(corpus.len() >= 130, "only {} cases", corpus.len());
    let mut wrong = Vec::new();
    for case in &corpus {
        let told = served::however_cut(&case.bytes, served::serve);
        if told.line != case.told {
            wrong.push(format!("{}\n  expected {}\n  but      {}", case.name, case.told, told.line));
        }
        for message in &told.messages {
            if let Err(why) = strict::request(message) {
                wrong.push(format!("{} sends on {why}: {}", case.name, message.escape_ascii()));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), corpus.len(), wrong.join("\n"));
    println!("{} requests", corpus.len());
}
