//! Windows, restarts, bounds.

use std::collections::BTreeMap;

use super::*;
use crate::{Query, decode_cell, encode_cell};

const NOW: u64 = 1_700_000_000;

fn series(caller: usize, code: u32) -> Series {
    Series {
        caller: format!("default/c{caller}"),
        service: "default/be4".to_owned(),
        code,
        grpc_status: -1,
        tls: "mtls".to_owned(),
        direction: "inbound".to_owned(),
        ..Series::default()
    }
}

fn one(micros: u64) -> Counts {
    let mut counts = Counts { requests: 1, ..Counts::default() };
    counts.observe(micros);
    counts
}

fn requests(history: &History, from: u64, to: u64) -> u64 {
    history.query(&Query { from, to, ..Query::default() }).total.requests
}

#[test]
fn longer_windows_are_the_sum_of_the_shorter_ones() {
    let mut random = fastrand::Rng::with_seed(5);
    let mut history = History::default();
    history.expire(NOW);
    for _ in 0..5000 {
        let start = (NOW - random.u64(..5 * 3600)) / 10 * 10;
        history.add(start, &series(random.usize(..4), 200), &one(random.u64(..1_000_000)));
    }
    let sums = |place: usize| {
        let mut sums: BTreeMap<(u64, SeriesId), Counts> = BTreeMap::new();
        for (start, cells) in &history.rings[place].windows {
            for (id, packed) in cells {
                let counts = codec::unpack_whole(packed).unwrap();
                sums.entry((start / 600 * 600, *id)).or_default().merge(&counts);
            }
        }
        sums
    };
    assert_eq!(sums(0), sums(2));
    assert_eq!(sums(1), sums(2));
}

#[test]
fn a_restart_keeps_every_count() {
    let mut random = fastrand::Rng::with_seed(6);
    for round in 0..20 {
        let mut history = History::default();
        let mut persisted: BTreeMap<WindowKey, Vec<u8>> = BTreeMap::new();
        let mut now = NOW + round * 77;
        history.expire(now);
        let mut total = 0;
        for _ in 0..300 {
            now += random.u64(..30);
            history.expire(now);
            // Mostly the open window, sometimes a late one.
            let late = if random.u8(..10) == 0 { random.u64(..2000) } else { 0 };
            history.add((now - late) / 10 * 10, &series(random.usize(..3), 200), &one(random.u64(..1000)));
            total += 1;
            if random.u8(..3) == 0 {
                for blob in history.take_dirty(now) {
                    persisted.insert(blob.key, blob.bytes);
                }
            }
            if random.u8(..40) == 0 {
                for blob in history.take_dirty(now) {
                    persisted.insert(blob.key, blob.bytes);
                }
                let mut again = History::default();
                for bytes in persisted.values() {
                    again.load(bytes).unwrap();
                }
                again.finish_load();
                again.expire(now);
                history = again;
            }
            let from = NOW - 10_000;
            assert_eq!(requests(&history, from, now + 1), total, "round {round}");
            let fine: u64 = history.rings[0]
                .windows
                .values()
                .flat_map(|cells| cells.values())
                .map(|packed| codec::unpack_whole(packed).unwrap().requests)
                .sum();
            assert_eq!(fine, total);
        }
    }
}

#[test]
fn an_unfinished_longer_window_is_not_given_out() {
    let mut history = History::default();
    let start = NOW / 600 * 600;
    history.expire(start);
    history.add(start, &series(0, 200), &one(1));
    let keys = |blobs: Vec<Blob>| blobs.iter().map(|blob| blob.key.resolution).collect::<Vec<_>>();
    assert_eq!(keys(history.take_dirty(start + 5)), [Resolution::Seconds10]);
    assert_eq!(keys(history.take_dirty(start + 59)), []);
    assert_eq!(keys(history.take_dirty(start + 60)), [Resolution::Minute1]);
    assert_eq!(keys(history.take_dirty(start + 600)), [Resolution::Minutes10]);
    history.mark_dirty([WindowKey { resolution: Resolution::Minute1, start }]);
    assert_eq!(keys(history.take_dirty(start + 600)), [Resolution::Minute1], "a failed write comes again");
}

#[test]
fn old_windows_go_and_longer_ones_answer_for_them() {
    let mut history = History::default();
    let start = NOW / 600 * 600;
    history.expire(start);
    history.add(start, &series(0, 200), &one(1));
    let gone = history.expire(start + 6 * 3600 + 600);
    assert_eq!(gone, [WindowKey { resolution: Resolution::Seconds10, start }]);
    assert_eq!(requests(&history, start, start + 10), 1, "by the minute");
    let gone = history.expire(start + 48 * 3600 + 600);
    assert_eq!(gone, [WindowKey { resolution: Resolution::Minute1, start }]);
    assert_eq!(requests(&history, start, start + 10), 1, "by ten minutes");
    history.expire(start + 30 * 24 * 3600 + 600);
    assert_eq!(requests(&history, start, start + 10), 0);
    assert_eq!(history.stats(), Stats::default(), "the series goes with its last window");
    assert_eq!(history.add(start, &series(0, 200), &one(1)), Added::OutOfTime);
    assert_eq!(history.stats().dropped_requests, 1);
}

#[test]
fn too_many_series_fold_then_are_refused_and_totals_say_so() {
    let mut history = History::new(Limits { series_max: 3, ..Limits::default() });
    history.expire(NOW);
    for caller in 0..10 {
        let added = history.add(NOW, &series(caller, 200), &one(1));
        assert_eq!(added, if caller < 3 { Added::Counted } else { Added::Folded });
    }
    assert_eq!(requests(&history, NOW, NOW + 10), 10, "folding loses no request");
    assert_eq!(history.stats().folded_requests, 7);
    // Each code makes one folded series more, until there is no room for those either.
    let added: Vec<Added> = (300..306).map(|code| history.add(NOW, &series(9, code), &one(1))).collect();
    assert_eq!(
        added,
        [Added::Folded, Added::Folded, Added::Refused, Added::Refused, Added::Refused, Added::Refused]
    );
    assert_eq!((history.stats().series, history.stats().dropped_requests), (6, 4));
}

#[test]
fn freed_series_make_room() {
    let mut history = History::new(Limits { series_max: 2, ..Limits::default() });
    let mut now = NOW;
    for caller in 0..10 {
        history.expire(now);
        assert_eq!(history.add(now, &series(caller, 200), &one(1)), Added::Counted);
        now += 31 * 24 * 3600;
    }
    assert!(history.series.len() <= 2, "their places are used again");
}

#[test]
fn a_far_future_is_refused() {
    let mut history = History::default();
    history.expire(NOW);
    assert_eq!(history.add(NOW + 3600, &series(0, 200), &one(1)), Added::OutOfTime);
    assert_eq!(history.add(NOW + 30, &series(0, 200), &one(1)), Added::Counted);
}

#[test]
fn a_cell_travels_as_bytes_and_counts_the_same() {
    let mut history = History::default();
    let (series, counts) = decode_cell(&encode_cell(&series(1, 503), &one(1234))).unwrap();
    history.add(NOW, &series, &counts);
    assert_eq!(requests(&history, NOW, NOW + 10), 1);
}

#[test]
fn cells_are_bounded_too() {
    let mut history = History::new(Limits { cells_max: 30, ..Limits::default() });
    history.expire(NOW);
    let mut answers = Vec::new();
    for window in 0..60 {
        for caller in 0..5 {
            answers.push(history.add(NOW - window * 600, &series(caller, 200), &one(1)));
        }
    }
    assert!(history.stats().cells <= 60 + 3, "{:?}", history.stats());
    let count = |wanted| answers.iter().filter(|answer| **answer == wanted).count() as u64;
    assert!(count(Added::Counted) >= 10 && count(Added::Folded) > 0 && count(Added::Refused) > 0);
    let stats = history.stats();
    assert_eq!(
        (stats.folded_requests, stats.dropped_requests),
        (count(Added::Folded), count(Added::Refused))
    );
    history.expire(NOW + 31 * 24 * 3600);
    assert_eq!(history.stats().cells, 0);
    assert_eq!(
        history.add(NOW + 31 * 24 * 3600, &series(0, 200), &one(1)),
        Added::Counted,
        "there is room again"
    );
}
