//! The path and the authority in their one form: routing, policy and the origin must not see different ones.

use weft_routing::{
    host,
    path::{Escaped, Slashes, canonical},
};

const READINGS: [Slashes; 6] = [
    Slashes::STRICT,
    Slashes::KEEP,
    Slashes { escaped: Escaped::Refuse, merge: false },
    Slashes { escaped: Escaped::Keep, merge: true },
    Slashes { escaped: Escaped::Unescape, merge: false },
    Slashes { escaped: Escaped::Unescape, merge: true },
];

pub fn path(data: &[u8]) {
    let Ok(target) = std::str::from_utf8(data) else { return };
    for slashes in READINGS {
        let Ok(first) = canonical(target, slashes) else { continue };
        let text = match first.query {
            Some(query) => format!("{}?{query}", first.path),
            None => first.path.to_string(),
        };
        let second = canonical(&text, slashes);
        assert_eq!(second.as_ref(), Ok(&first), "{text:?} from {target:?}, {slashes:?}");
        let lower = first.path.to_ascii_lowercase();
        assert!(first.path == "*" || first.path.starts_with('/'), "{:?}", first.path);
        let dots = lower
            .split('/')
            .any(|segment| matches!(segment, "." | ".." | "%2e" | "%2e%2e" | ".%2e" | "%2e."));
        assert!(!dots && !lower.contains('\\'), "{lower:?} from {target:?}, {slashes:?}");
        if slashes.escaped != Escaped::Keep {
            assert!(
                !lower.contains("%2f") && !lower.contains("%5c"),
                "{lower:?} from {target:?}, {slashes:?}"
            );
        }
        if slashes.merge {
            assert!(!lower.contains("//"), "{lower:?} from {target:?}, {slashes:?}");
        }
        if slashes == Slashes::STRICT {
            strictly_one(&first.path, target);
        }
    }
}

/// No way of reading that origins have finds another path in a strictly canonical one, but for `%25`, which stands for a
/// percent sign, and for bytes that are no path's own.
fn strictly_one(path: &str, target: &str) {
    let decoded = decoded(path.as_bytes());
    let segments = decoded.split(|byte| *byte == b'/');
    let dots = segments.clone().any(|segment| segment == b"." || segment == b"..");
    let count = path.split('/').count();
    assert!(!dots && segments.count() == count, "decoded, {path:?} from {target:?} is another path");
}

fn decoded(path: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(byte) = path.get(at) {
        match (digit(path.get(at + 1)), digit(path.get(at + 2))) {
            (Some(high), Some(low)) if *byte == b'%' => {
                out.push(u8::try_from(high * 16 + low).unwrap());
                at += 3;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    out
}

pub fn path_seeds() -> Vec<Vec<u8>> {
    [
        "/",
        "*",
        "/a/b?c=d",
        "/a//b/./../c",
        "/%61/%2e%2E/b",
        "/a%2fb%5C",
        "/%%36%31",
        "/%c0%af",
        "/a;b=c/..;/d",
        "/%252e%252e/",
        "/a?b#c",
        "/%e4%b8%ad",
        "/a/%2e%2e%2fb",
        "//",
        "/..",
        "/%",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

pub fn host(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (name, port) = host::split_port(text);
    assert!(text.starts_with(name), "{name:?} of {text:?}");
    assert_eq!(host::without_port(text), name, "{port:?}");
    let Ok(first) = host::canonical(text) else { return };
    assert_eq!(host::canonical(&first).as_deref(), Ok(&*first), "{text:?}");
    assert_eq!(host::canonical(&text.to_ascii_uppercase()).as_deref(), Ok(&*first), "{text:?}");
    assert_eq!(host::canonical(&text.to_ascii_lowercase()).as_deref(), Ok(&*first), "{text:?}");
    assert!(first.bytes().all(|byte| byte.is_ascii_graphic() && !b"/\\@?#".contains(&byte)), "{first:?}");
    let (name, _) = host::split_port(&first);
    assert!(!name.is_empty() && (!name.ends_with('.') || name.len() == 1), "{name:?} from {text:?}");
}

pub fn host_seeds() -> Vec<Vec<u8>> {
    [
        "a",
        "A.example.",
        "a:80",
        "a:0080",
        "[::1]:8080",
        "[::1]",
        "[::ffff:1.2.3.4]",
        "fe80::1%eth0",
        "a.:1",
        "a@b",
        "a:",
        "10.0.0.1:65536",
        "xn--a",
        "a_b.c",
        "[fe80::1%25eth0]:1",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
