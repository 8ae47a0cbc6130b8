//! Handles, shards and their merge.

use super::*;

fn find<'a>(merged: &'a Merged, name: &str) -> &'a [(Labels, Value)] {
    merged.families.iter().find(|family| family.metric.name == name).map_or(&[], |family| &family.series)
}

#[test]
fn one_handle_counts_in_every_worker() {
    let registry = Registry::new();
    let handle = registry.counter("requests", "Requests.", &[("code", "200")]);
    let mut workers = [registry.shard(), registry.shard(), registry.shard()];
    // A handle that is younger than the shards works too.
    let late = registry.timing("duration_seconds", "Durations.", &[]);
    for (n, worker) in workers.iter_mut().enumerate() {
        worker.add(handle, 10);
        worker.add(handle, n as u64);
        worker.observe(late, 1000);
    }
    let merged = registry.merge(&workers.each_ref().map(Shard::snapshot));
    assert_eq!(find(&merged, "requests"), [(vec![("code", "200".to_owned())], Value::Counter(33))]);
    let [(_, Value::Histogram(histogram))] = find(&merged, "duration_seconds") else {
        panic!("one histogram")
    };
    assert_eq!((histogram.count(), histogram.sum()), (3, 3000));
}

#[test]
fn the_same_labels_are_the_same_handle_in_any_order() {
    let registry = Registry::new();
    let one = registry.counter("requests", "Requests.", &[("a", "1"), ("b", "2")]);
    let same = registry.counter("requests", "Requests.", &[("b", "2"), ("a", "1")]);
    let other = registry.counter("requests", "Requests.", &[("a", "1"), ("b", "3")]);
    assert_eq!(one, same);
    assert_ne!(one, other);
}

#[test]
fn gauges_add_up_over_workers() {
    let registry = Registry::new();
    let open = registry.gauge("connections", "Open connections.", &[]);
    let (mut one, mut two) = (registry.shard(), registry.shard());
    one.gauge_set(open, 7);
    one.gauge_add(open, -2);
    two.gauge_add(open, 3);
    assert_eq!((one.gauge(open), two.gauge(open)), (5, 3));
    let merged = registry.merge(&[one.snapshot(), two.snapshot()]);
    assert_eq!(find(&merged, "connections"), [(Vec::new(), Value::Gauge(8))]);
}

#[test]
fn too_many_label_sets_fold_and_say_so() {
    let registry = Registry::with_series_max(3);
    let mut shard = registry.shard();
    for n in 0..10 {
        let handle = registry.counter("requests", "Requests.", &[("path", &n.to_string())]);
        shard.add(handle, 1);
    }
    let merged = registry.merge(&[shard.snapshot()]);
    let series = find(&merged, "requests");
    assert_eq!(series.len(), 4);
    assert!(series.contains(&(vec![("path", FOLDED.to_owned())], Value::Counter(7))));
    assert_eq!(registry.folded(), 7);
    let told = find(&merged, "weft_telemetry_folded_series");
    assert_eq!(told, [(vec![("metric", "requests".to_owned())], Value::Counter(7))]);
    let again = registry.counter("requests", "Requests.", &[("path", "1")]);
    assert_eq!(shard.counter(again), 1, "a known one stays itself");
}

#[test]
fn a_snapshot_is_a_copy() {
    let registry = Registry::new();
    let handle = registry.counter("requests", "Requests.", &[]);
    let mut shard = registry.shard();
    shard.add(handle, 1);
    let snapshot = shard.snapshot();
    shard.add(handle, 1);
    let count =
        |snapshot: &Snapshot| find(&registry.merge(std::slice::from_ref(snapshot)), "requests")[0].1.clone();
    assert_eq!((count(&snapshot), count(&shard.snapshot())), (Value::Counter(1), Value::Counter(2)));
}
