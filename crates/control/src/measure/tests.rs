//! Exactly once, across ends of the process that nobody announced.

use weft_history::{Callee, Dimension, Query};
use weft_link::Bin;

use super::*;

fn buckets(start_unix: u64, sequence: u64, code: u32, requests: u64) -> Buckets {
    let cell = Cell {
        caller: "default/fe".into(),
        service: "default/be4".into(),
        code,
        grpc_status: -1,
        tls: "mtls".into(),
        direction: "inbound".into(),
        requests,
        errors: if code >= 500 { requests } else { 0 },
        durations: vec![Bin { index: 100, count: requests }],
        ..Cell::default()
    };
    Buckets { start_unix, sequence, cells: vec![cell] }
}

fn by_code(measure: &Measure, now: u64) -> Vec<(u32, u64, u64)> {
    let query = Query {
        callees: vec![Callee::named("default/be4")],
        from: now - 1800,
        to: now,
        by: vec![Dimension::Code],
        ..Query::default()
    };
    let answer = measure.history().query(&query);
    answer.rows.iter().map(|row| (row.group.code.unwrap(), row.counts.requests, row.counts.errors)).collect()
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_kill_and_a_resend_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.redb");
    let now = clock::unix(SystemTime::now());
    let window = now - now % 10;
    let measure = Measure::open(&path, SystemTime::now()).unwrap();
    let (first, second) = tokio::join!(
        measure.add("default/be4-1", buckets(window, 1, 200, 7)),
        measure.add("default/be4-1", buckets(window, 2, 503, 3)),
    );
    assert_eq!((first, second), (Taken::Durable, Taken::Durable));
    assert_eq!(measure.add("default/be4-1", buckets(window, 2, 503, 3)).await, Taken::Durable);
    let before = by_code(&measure, now + 1);
    assert_eq!(before, [(200, 7, 0), (503, 3, 3)]);

    // As a kill leaves it: a copy of the file, while the first process still has it open.
    let copy = dir.path().join("copy.redb");
    std::fs::copy(&path, &copy).unwrap();
    let reopened = Measure::open(&copy, SystemTime::now()).unwrap();
    assert_eq!(by_code(&reopened, now + 1), before);
    // The proxy never saw the acknowledgement and sends again.
    assert_eq!(reopened.add("default/be4-1", buckets(window, 2, 503, 3)).await, Taken::Durable);
    // Another proxy's same numbers are its own.
    assert_eq!(reopened.add("default/be4-2", buckets(window, 2, 503, 1)).await, Taken::Durable);
    assert_eq!(by_code(&reopened, now + 1), [(200, 7, 0), (503, 4, 4)]);
}

#[tokio::test]
async fn a_window_of_long_ago_is_acknowledged_and_not_counted() {
    let dir = tempfile::tempdir().unwrap();
    let measure = Measure::open(&dir.path().join("history.redb"), SystemTime::now()).unwrap();
    let now = clock::unix(SystemTime::now());
    let old = now - now % 10 - 8 * 3600;
    assert_eq!(measure.add("default/be4-1", buckets(old, 1, 200, 5)).await, Taken::Durable);
    assert_eq!(measure.history().stats().cells, 0);
}
