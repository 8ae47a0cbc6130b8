//! Paths, as they come and as they go on.

use super::{Escaped, PathRefusal, Slashes, canonical};

const UNESCAPE: Slashes = Slashes { escaped: Escaped::Unescape, merge: false };

#[test]
fn paths_become_canonical_and_stay_so() {
    let keep = Slashes::KEEP;
    let strict = Slashes::STRICT;
    let cases: &[(&str, Slashes, Result<&str, PathRefusal>)] = &[
        ("/", keep, Ok("/")),
        ("/a/b", keep, Ok("/a/b")),
        ("/a/./b", keep, Ok("/a/b")),
        ("/a/../b", keep, Ok("/b")),
        ("/a/b/..", keep, Ok("/a/")),
        ("/a/.", keep, Ok("/a/")),
        ("/..", keep, Ok("/")),
        ("/../../etc/passwd", keep, Ok("/etc/passwd")),
        ("/a/b/c/./../../g", keep, Ok("/a/g")),
        ("/a/%2e%2e/b", keep, Ok("/b")),
        ("/a/.%2E/b", keep, Ok("/b")),
        ("/a/%2e/b", keep, Ok("/a/b")),
        ("/a/...", keep, Ok("/a/...")),
        ("/a/.b/..c", keep, Ok("/a/.b/..c")),
        ("/a//b", keep, Ok("/a//b")),
        ("//a", keep, Ok("//a")),
        ("/a//../b", keep, Ok("/a/b")),
        ("/a//b", strict, Ok("/a/b")),
        ("//a///b//", strict, Ok("/a/b/")),
        ("/a//../b", strict, Ok("/b")),
        ("//", strict, Ok("/")),
        ("/a%2Fb", keep, Ok("/a%2Fb")),
        ("/a%2Fb", strict, Err(PathRefusal::EscapedSlash)),
        ("/a%2fb", strict, Err(PathRefusal::EscapedSlash)),
        ("/a%5Cb", strict, Err(PathRefusal::EscapedSlash)),
        ("/a%2F..%2Fb", UNESCAPE, Ok("/b")),
        ("/a%5c..%5cb", UNESCAPE, Ok("/b")),
        // One round of decoding only: what is encoded twice is not a slash.
        ("/a%252Fb", UNESCAPE, Ok("/a%252Fb")),
        // What needs no encoding is decoded, once; what is reserved stays as it came.
        ("/%61dmin", keep, Ok("/admin")),
        ("/%61%64%6D%69%6e/%7Ex", strict, Ok("/admin/~x")),
        ("/%41%2d%5F%30", UNESCAPE, Ok("/A-_0")),
        ("/%2561dmin", keep, Ok("/%2561dmin")),
        ("/%252e%252e/a", keep, Ok("/%252e%252e/a")),
        ("/a/%2e%2e/%61dmin", keep, Ok("/admin")),
        ("/%2e%2e/%2E/admin", strict, Ok("/admin")),
        ("/a%3Ab%20c%C3%A9", keep, Ok("/a%3Ab%20c%C3%A9")),
        // A stray `%` may not turn into an escape for the next one to look.
        ("/%%36%31dmin", keep, Ok("/admin")),
        ("/%2%66", strict, Err(PathRefusal::EscapedSlash)),
        ("/%%2e%2e/", keep, Ok("/%../")),
        ("/%0%30", keep, Err(PathRefusal::Control)),
        // Overlong for `/`, `.` and `a`, where it matters; a letter of Latin 1 and good UTF-8 are none.
        ("/a%c0%afb", strict, Err(PathRefusal::Overlong)),
        ("/%C0%AE%C0%AE/b", strict, Err(PathRefusal::Overlong)),
        ("/%e0%80%afb", strict, Err(PathRefusal::Overlong)),
        ("/%f0%80%80%af", strict, Err(PathRefusal::Overlong)),
        ("/a%c0%afb", keep, Ok("/a%c0%afb")),
        ("/%C0b/%C3%A9/%e0%a4%85/%f0%9f%98%80", strict, Ok("/%C0b/%C3%A9/%e0%a4%85/%f0%9f%98%80")),
        ("/a%00b", keep, Err(PathRefusal::Control)),
        ("/a%zz%", keep, Ok("/a%zz%")),
        ("/a\\b", keep, Err(PathRefusal::Backslash)),
        ("/a\0b", keep, Err(PathRefusal::Control)),
        ("/a\tb", keep, Err(PathRefusal::Control)),
        ("/a\x7fb", keep, Err(PathRefusal::Control)),
        ("/a b", keep, Err(PathRefusal::Control)),
        ("/a#b", keep, Err(PathRefusal::Fragment)),
        ("/a?b#c", keep, Err(PathRefusal::Fragment)),
        ("a/b", keep, Err(PathRefusal::Relative)),
        ("", keep, Err(PathRefusal::Relative)),
        ("*", keep, Ok("*")),
    ];
    for (target, slashes, expected) in cases {
        let found = canonical(target, *slashes).map(|found| found.path.into_owned());
        assert_eq!(found.as_deref().map_err(|refusal| *refusal), *expected, "{target:?}");
        if let Ok(once) = found {
            let twice = canonical(&once, *slashes).map(|found| found.path.into_owned());
            assert_eq!(twice, Ok(once), "twice: {target:?}");
        }
    }
}

#[test]
fn the_query_is_left_alone() {
    let found = canonical("/a/../b?x=/../%2F//y", Slashes::STRICT);
    assert_eq!(found.as_ref().map(|found| &*found.path), Ok("/b"));
    assert_eq!(found.map(|found| found.query), Ok(Some("x=/../%2F//y")));
}

#[test]
fn every_short_path_of_tricky_pieces_is_idempotent() {
    let pieces = ["/", ".", "..", "%2e", "%2F", "%5c", "%36", "a", "%", "2"];
    let mut paths = vec![String::from("/")];
    for _ in 0..5 {
        let longer: Vec<String> =
            paths.iter().flat_map(|path| pieces.iter().map(move |piece| format!("{path}{piece}"))).collect();
        for path in &longer {
            for slashes in [Slashes::KEEP, Slashes::STRICT, UNESCAPE] {
                let Ok(once) = canonical(path, slashes) else { continue };
                let once = once.path.into_owned();
                let twice = canonical(&once, slashes).map(|twice| twice.path.into_owned());
                assert_eq!(twice.as_deref(), Ok(&*once), "{path} with {slashes:?}");
                assert!(!once.split('/').any(|segment| segment == ".." || segment == "."), "{path} → {once}");
            }
        }
        paths = longer.into_iter().step_by(3).collect();
    }
}
