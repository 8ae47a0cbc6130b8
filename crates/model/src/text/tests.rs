use super::*;

fn good(format: &str, texts: &[&str]) {
    for text in texts {
        assert_eq!(check(format, text), Ok(()), "{format} {text:?}");
    }
}

fn bad(format: &str, texts: &[&str]) {
    for text in texts {
        assert!(check(format, text).is_err(), "{format} {text:?}");
    }
}

#[test]
fn dns_names() {
    good("dns-label", &["a", "be1", "a-b", "0", &"a".repeat(63)]);
    bad("dns-label", &["", "-a", "a-", "A", "a.b", "a_b", "ä", &"a".repeat(64)]);
    good("dns-subdomain", &["a.b", "a"]);
    bad("dns-subdomain", &["a..b", ".a", "a.", "A.b", &"a.".repeat(127)]);
    good("hostname", &["be3.example", "x"]);
    bad("hostname", &["https://x", "x:80", "127.0.0.1", "x/y", "*.x", ""]);
    good("hostname-or-wildcard", &["*.example.com", "a.b"]);
    bad("hostname-or-wildcard", &["*", "a.*.b"]);
}

#[test]
fn addresses() {
    good("ip", &["127.0.0.1", "::1"]);
    bad("ip", &["127.0.0.1:80", "x", "1.2.3", ""]);
    good("ipv4-cidr", &["240.240.0.0/16", "10.0.0.0/8"]);
    good("cidr", &["192.0.2.7/32", "10.0.0.0/8", "2001:db8::/32", "::1/128"]);
    bad(
        "ipv4-cidr",
        &["240.240.0.1/16", "240.240.0.0", "127.0.0.0/8", "0.0.0.0/0", "10.0.0.0/32", "fd00::/8"],
    );
}

#[test]
fn http_words() {
    good("header-name", &["x-a", "X_B", "!#$"]);
    bad("header-name", &["", "a b", "a:", ":path", "ä", &"a".repeat(257)]);
    bad("header-value", &["a\nb", "a\0"]);
    good("http-path", &["/", "/a/b", "/a%20b", "/a.b/..c", "/ä"]);
    bad(
        "http-path",
        &[
            "", "a", "/a//b", "/a/../b", "/a/..", "/a/./b", "/a?b", "/a#b", "/a\\b", "/a%2Fb", "/a%5cb",
            "/a b",
        ],
    );
    good("path-or-prefix", &["/a", "/a/*", "/*"]);
    bad("path-or-prefix", &["*", "/a*", "/a/*/b", "a/*"]);
    good("http-method", &["GET", "PURGE"]);
    bad("http-method", &["get", "", "G T"]);
}

#[test]
fn regular_expressions_that_every_proxy_reads_alike() {
    let format = "portable-regex";
    good(
        format,
        &["/a.*", "[0-9]{1,9}", "/(a|b)/[^/]+", "[]a]", "[^]&-]", "[[:alpha:]_-]+", r"\[\]&&--", "(?i)a"],
    );
    good(format, &["a*?", "a??b", "a*5+", "(?:a*)*", "a{1000}", "(?:a{10}){100}", "[*+]+", "a{2,3}b?"]);
    bad(
        format,
        &[
            "/api/**",
            "a+*",
            "a?+",
            "a*??",
            "a{2}{3}",
            "a{1001}",
            "(?:a{40}){40}",
            "(?:(?:a{20}b){10}){6}",
            "[[:foo:]]",
            "[[:a]b]",
        ],
    );
    good(format, &[r"/authors/\d+", r"\bword\b", "a-b--c&&d", "(?P<year>[0-9]+)", r"[\[&]"]);
    bad(
        format,
        &[
            "",
            "(",
            "[a-z&&[^b]]",
            "[a-z--b]",
            "[a~~b]",
            "[a[bc]]",
            r"\u{61}",
            r"\<a\>",
            r"\b{start}a",
            "(?x)a b",
        ],
    );
    bad(format, &["(?=a)", "(?!a)", &"a".repeat(1025)]);
}

#[test]
fn grpc_methods() {
    let format = "grpc-method-or-service";
    good(format, &["shop.Cart/Add", "shop.v1.Cart/*", "Cart/Add", "a_b.C1/D_2"]);
    bad(
        format,
        &[
            "",
            "/shop.Cart/Add",
            "shop.Cart",
            "shop.Cart/",
            "*/Add",
            "shop.*/Add",
            "a/b/c",
            "shop..Cart/A",
            "1a/b",
            "a/b*",
        ],
    );
    assert_eq!(
        check(format, "/shop.Cart/Add").unwrap_err().hint.as_deref(),
        Some("did you mean \"shop.Cart/Add\"?")
    );
}

#[test]
fn regular_expressions() {
    good("regex", &["/a.*", "[0-9]{1,9}", ""]);
    bad("regex", &["(", "(?=a)b", r"(a)\1", "(((a{100}){100}){100})", &"a".repeat(1025)]);
}

#[test]
fn spiffe_ids() {
    good("spiffe-id", &["spiffe://mesh.internal/ns/default/sa/web", "spiffe://a/b"]);
    bad(
        "spiffe-id",
        &[
            "",
            "spiffe://",
            "spiffe://a",
            "spiffe://a/",
            "spiffe://A/b",
            "spiffe://a//b",
            "spiffe://a/../b",
            "spiffe://a/b/",
            "spiffe://a/b?c",
            "spiffe://a/b%20",
            "http://a/b",
            "spiffe://u@a/b",
            "spiffe://a:1/b",
        ],
    );
    bad("spiffe-id", &[&format!("spiffe://a/{}", "b".repeat(2048))]);
    good("spiffe-id-or-prefix", &["spiffe://a/*", "spiffe://a/b/*", "spiffe://a/b"]);
    bad("spiffe-id-or-prefix", &["*", "spiffe://*", "spiffe://a/b*", "spiffe://a/*/b"]);
}

#[test]
fn base64_has_one_spelling_a_value() {
    assert_eq!(base64("aGVsbG8=").as_deref(), Some(&b"hello"[..]));
    assert_eq!(base64("aGVs\n bG8h").as_deref(), Some(&b"hello!"[..]));
    assert_eq!(base64(""), Some(Vec::new()));
    assert_eq!(base64("/+8=").as_deref(), Some(&[0xff, 0xef][..]));
    for text in ["a", "a===", "aGVsbG9=", "aGVsbG8", "aG=sbG8=", "a-b_", "====", "aGVsbG8=aGVs"] {
        assert_eq!(base64(text), None, "{text}");
    }
}

#[test]
fn certificates_and_not_keys() {
    good("pem-certificates", &["-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n"]);
    bad(
        "pem-certificates",
        &[
            "",
            "x",
            "-----BEGIN CERTIFICATE-----\naGVsbG8=\n",
            "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----",
            "-----BEGIN PRIVATE KEY-----\n",
        ],
    );
}

#[test]
fn labels() {
    for key in ["app", "app.kubernetes.io/name", "A_b"] {
        assert_eq!(label_key(key), Ok(()));
    }
    for key in ["", "/a", "a/", "a/b/c", "-a", "A.B/c"] {
        assert!(label_key(key).is_err(), "{key}");
    }
    assert_eq!(label_value(""), Ok(()));
    assert!(label_value("a b").is_err());
}
