//! Exactly once, in any order, over restarts, within bounds.

use std::collections::HashSet;

use super::*;

const NOW: u64 = 1_700_000_000;
const START: u64 = NOW - NOW % 10;

#[test]
fn a_resend_counts_once() {
    let mut seen = Seen::new(10);
    for sequence in [7, 8, 9] {
        assert_eq!(seen.judge(NOW, "default/be1-x", START, sequence), Verdict::New);
        assert_eq!(seen.judge(NOW, "default/be1-x", START, sequence), Verdict::Repeat);
    }
    assert_eq!(seen.judge(NOW, "default/be1-x", START, 7), Verdict::Repeat);
    assert_eq!(seen.judge(NOW, "default/be1-x", START - 10, 7), Verdict::New, "another window");
    assert_eq!(seen.judge(NOW, "default/be2-x", START, 7), Verdict::New, "another proxy");
}

#[test]
fn any_order_of_sequences_is_judged_as_by_a_set() {
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..200 {
        let mut seen = Seen::new(1);
        let mut model = HashSet::new();
        for _ in 0..200 {
            let sequence = random.u64(..60);
            let expected = if model.insert(sequence) { Verdict::New } else { Verdict::Repeat };
            assert_eq!(seen.judge(NOW, "p", START, sequence), expected);
        }
    }
    let mut seen = Seen::new(1);
    for sequence in [u64::MAX, u64::MAX - 1, 0, 1] {
        assert_eq!(seen.judge(NOW, "p", START, sequence), Verdict::New);
        assert_eq!(seen.judge(NOW, "p", START, sequence), Verdict::Repeat);
    }
}

#[test]
fn a_restart_of_the_control_plane_forgets_nothing() {
    let mut random = fastrand::Rng::with_seed(4);
    let mut seen = Seen::new(10);
    let mut sent = Vec::new();
    let mut persisted = std::collections::BTreeMap::new();
    for round in 0..300 {
        let one = (format!("p{}", random.u8(..5)), START - 10 * random.u64(..300), random.u64(..1000));
        if seen.judge(NOW, &one.0, one.1, one.2) == Verdict::New {
            sent.push(one);
        }
        persisted.extend(seen.take_dirty().into_iter().map(|blob| (blob.key, blob.bytes)));
        if round % 50 == 49 {
            seen = Seen::new(10);
            for (key, bytes) in &persisted {
                assert_eq!(&seen.load(bytes).unwrap(), key);
            }
            for (proxy, start, sequence) in &sent {
                assert_eq!(seen.judge(NOW, proxy, *start, *sequence), Verdict::Repeat);
            }
            assert!(seen.take_dirty().is_empty(), "a repeat changes nothing");
        }
    }
}

#[test]
fn it_is_bounded_in_time_and_room() {
    let mut seen = Seen::new(1);
    assert_eq!(seen.judge(NOW, "p", START - KEPT_SECONDS - 10, 1), Verdict::TooOld);
    assert_eq!(seen.judge(NOW, "p", START + AHEAD_SECONDS_MAX + 10, 1), Verdict::Refused);
    for gap in 0..RANGES_MAX as u64 {
        assert_eq!(seen.judge(NOW, "p", START, gap * 2), Verdict::New);
    }
    assert_eq!(seen.judge(NOW, "p", START, 1000), Verdict::Refused, "too many gaps");
    assert_eq!(seen.judge(NOW, "p", START, 1), Verdict::New, "closing a gap makes room");
    for block in 0..100 {
        seen.judge(NOW, &format!("q{block}"), START, 1);
    }
    assert_eq!(seen.blocks(), 38);
    let later = NOW + KEPT_SECONDS + BLOCK_SECONDS;
    assert_eq!(seen.expire(later).len(), 38);
    assert_eq!(
        (seen.blocks(), seen.judge(later, "p", START, 1)),
        (0, Verdict::TooOld),
        "forgotten is too old"
    );
}

#[test]
fn damaged_blocks_are_refused() {
    let mut seen = Seen::new(10);
    seen.judge(NOW, "p", START, 5);
    let bytes = seen.take_dirty().remove(0).bytes;
    for end in 0..bytes.len() {
        assert!(seen.load(&bytes[..end]).is_err());
    }
    assert_eq!(seen.load(&[2]), Err(DecodeError::Version(2)));
}

#[test]
fn the_last_of_a_proxy_is_its_own() {
    let mut seen = Seen::new(10);
    assert_eq!(seen.last("default/a"), None);
    for (proxy, start, sequence) in [("default/a", 1000, 7), ("default/a", 1600, 8), ("default/b", 2000, 1)] {
        assert_eq!(seen.judge(2000, proxy, start, sequence), Verdict::New);
    }
    assert_eq!(seen.last("default/a"), Some((1600, 8)));
    assert_eq!(seen.last("default/b"), Some((2000, 1)));
    assert_eq!(seen.last("default"), None);
    let all = [("default/a".to_owned(), 1600), ("default/b".to_owned(), 2000)];
    assert_eq!(seen.last_windows(), all.into());
}
