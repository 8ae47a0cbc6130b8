//! What is written is found whole; what was tampered with is found out.

#![allow(clippy::unwrap_used, reason = "a test's failure is its message")]

use serde_json::Value;

use super::*;

fn entry<'a>(verb: &'a str, object: &'a str) -> Entry<'a> {
    Entry {
        who: "ana",
        peer: "127.0.0.1:1".to_owned(),
        verb,
        object,
        result: 201,
        reason: "",
        revision: Some(7),
    }
}

/// A log of `count` changes in small files.
fn written(state: &Path, count: usize, bytes_max: u64, kept_max: usize) {
    let audit = Audit::open_with(state, bytes_max, kept_max).unwrap();
    for n in 0..count {
        audit.change(&entry("create", &format!("Service default/s{n}")), SystemTime::now());
    }
}

#[test]
fn knocking_does_not_fill_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let audit = Audit::open(dir.path()).unwrap();
    let now = SystemTime::now();
    for _ in 0..REFUSALS_PER_SECOND_MAX + 5 {
        audit.refusal(&entry("GET", "/api\nforged line"), now);
    }
    audit.change(&entry("create", "x"), now);
    let text = std::fs::read_to_string(dir.path().join(AUDIT_FILE)).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len() as u32, REFUSALS_PER_SECOND_MAX + 1);
    assert_eq!(lines[lines.len() - 1]["refusals_left_out"], 5);
    assert_eq!(lines[0]["object"], "/api\nforged line");
    assert!(verify(dir.path()).unwrap().ok);
}

#[test]
fn an_altered_or_missing_line_is_found() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 30, 1 << 20, 3);
    let whole = verify(dir.path()).unwrap();
    assert_eq!((whole.ok, whole.entries, whole.first, whole.last), (true, 30, 1, 30), "{whole:?}");
    let file = dir.path().join(AUDIT_FILE);
    let good = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    let joined = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    for at in 0..lines.len() {
        let mut without = lines.clone();
        without.remove(at);
        let altered_line = lines[at].replace("\"result\":201", "\"result\":403");
        assert_ne!(altered_line, lines[at]);
        let mut altered = lines.clone();
        altered[at] = &altered_line;
        let mut swapped = lines.clone();
        swapped.swap(at, (at + 1) % lines.len());
        for (what, text) in [
            ("removed", joined(&without)),
            ("altered", joined(&altered)),
            ("swapped", joined(&swapped)),
            ("cut off", joined(&lines[..at])),
        ] {
            std::fs::write(&file, text).unwrap();
            let found = verify(dir.path()).unwrap();
            assert!(!found.ok && !found.problems.is_empty(), "line {at} {what}: {found:?}");
        }
    }
    std::fs::write(&file, &good).unwrap();
    assert!(verify(dir.path()).unwrap().ok, "and as it was it is whole");
    std::fs::remove_file(dir.path().join(HEAD_FILE)).unwrap();
    assert!(!verify(dir.path()).unwrap().ok);
}

#[test]
fn a_restart_goes_on_with_the_chain_and_hides_no_loss() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(AUDIT_FILE);
    written(dir.path(), 5, 1 << 20, 3);
    // A crash in the middle of a line.
    let mut torn = std::fs::read(&file).unwrap();
    torn.extend_from_slice(b"{\"time\":\"20");
    std::fs::write(&file, &torn).unwrap();
    written(dir.path(), 5, 1 << 20, 3);
    let found = verify(dir.path()).unwrap();
    assert_eq!((found.ok, found.entries, found.last), (true, 10, 10), "{found:?}");
    // Somebody cuts the last lines off while nobody runs: the next start does not paper over it.
    let text = std::fs::read_to_string(&file).unwrap();
    let kept: String = text.lines().take(8).map(|line| format!("{line}\n")).collect();
    std::fs::write(&file, kept).unwrap();
    written(dir.path(), 3, 1 << 20, 3);
    assert!(!verify(dir.path()).unwrap().ok, "lines were lost before the restart");
}

#[test]
fn it_rotates_keeps_so_many_files_and_the_chain_goes_through() {
    let dir = tempfile::tempdir().unwrap();
    // About 230 bytes a line: 5 lines a file or so.
    written(dir.path(), 12, 1000, 4);
    let found = verify(dir.path()).unwrap();
    assert_eq!((found.ok, found.entries, found.first), (true, 12, 1), "{found:?}");
    assert!(dir.path().join("audit.1.jsonl").exists());
    written(dir.path(), 100, 1000, 4);
    let found = verify(dir.path()).unwrap();
    assert!(found.ok && found.first > 1 && found.last == 112, "{found:?}");
    assert_eq!(found.entries, found.last - found.first + 1);
    let mut files: Vec<String> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(
        files,
        ["audit.1.jsonl", "audit.2.jsonl", "audit.3.jsonl", "audit.4.jsonl", "audit.head", "audit.jsonl"]
    );
    // A whole file taken out of the middle, or the oldest before its time.
    for gone in ["audit.2.jsonl", "audit.4.jsonl"] {
        let bytes = std::fs::read(dir.path().join(gone)).unwrap();
        std::fs::remove_file(dir.path().join(gone)).unwrap();
        assert!(!verify(dir.path()).unwrap().ok, "{gone}");
        std::fs::write(dir.path().join(gone), bytes).unwrap();
    }
    assert!(verify(dir.path()).unwrap().ok);
}
