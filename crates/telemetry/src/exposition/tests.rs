//! The two texts, to the letter.

use super::*;
use crate::Registry;

fn sample() -> Merged {
    let registry = Registry::new();
    let mut shard = registry.shard();
    shard.add(registry.counter("weft_requests", "Requests \"carried\".", &[("route", "a\"b\\c\nd")]), 3);
    shard.add(registry.counter_of("weft_sent_bytes", "bytes", "Bytes sent.", &[]), 5);
    shard.gauge_set(registry.gauge("weft_connections", "Open connections.", &[]), -1);
    registry.merge(&[shard.snapshot()])
}

#[test]
fn openmetrics_to_the_letter() {
    let expected = "\
# HELP weft_connections Open connections.
# TYPE weft_connections gauge
weft_connections -1
# HELP weft_requests Requests \\\"carried\\\".
# TYPE weft_requests counter
weft_requests_total{route=\"a\\\"b\\\\c\\nd\"} 3
# HELP weft_sent_bytes Bytes sent.
# TYPE weft_sent_bytes counter
# UNIT weft_sent_bytes bytes
weft_sent_bytes_total 5
# EOF
";
    assert_eq!(Exposition::OpenMetrics.render(&sample()), expected);
}

#[test]
fn prometheus_to_the_letter() {
    let expected = "\
# HELP weft_connections Open connections.
# TYPE weft_connections gauge
weft_connections -1
# HELP weft_requests_total Requests \"carried\".
# TYPE weft_requests_total counter
weft_requests_total{route=\"a\\\"b\\\\c\\nd\"} 3
# HELP weft_sent_bytes_total Bytes sent.
# TYPE weft_sent_bytes_total counter
weft_sent_bytes_total 5
";
    assert_eq!(Exposition::Prometheus.render(&sample()), expected);
}

#[test]
fn a_histogram_has_growing_buckets_a_sum_and_a_count() {
    let registry = Registry::new();
    let mut shard = registry.shard();
    let timing = registry.timing("weft_request_seconds", "Durations.", &[("code", "200")]);
    for micros in [100, 3_000, 3_000, 2_000_000, 7_200_000_000] {
        shard.observe(timing, micros);
    }
    let text = Exposition::OpenMetrics.render(&registry.merge(&[shard.snapshot()]));
    let has = |line: &str| assert!(text.lines().any(|found| found == line), "{line}\nin\n{text}");
    has("# UNIT weft_request_seconds seconds");
    has("weft_request_seconds_bucket{code=\"200\",le=\"0.0005\"} 1");
    has("weft_request_seconds_bucket{code=\"200\",le=\"0.0025\"} 1");
    has("weft_request_seconds_bucket{code=\"200\",le=\"0.005\"} 3");
    has("weft_request_seconds_bucket{code=\"200\",le=\"2.5\"} 4");
    has("weft_request_seconds_bucket{code=\"200\",le=\"3600.0\"} 4");
    has("weft_request_seconds_bucket{code=\"200\",le=\"+Inf\"} 5");
    has("weft_request_seconds_sum{code=\"200\"} 7202.006100");
    has("weft_request_seconds_count{code=\"200\"} 5");
    assert!(BOUNDS.is_sorted());
}

#[test]
fn an_empty_scrape_still_ends() {
    assert_eq!(Exposition::OpenMetrics.render(&Merged::default()), "# EOF\n");
    assert_eq!(Exposition::Prometheus.render(&Merged::default()), "");
}

#[test]
fn the_scraper_chooses() {
    let check =
        |accept: Option<&str>, expected| assert_eq!(Exposition::negotiate(accept), expected, "{accept:?}");
    check(None, Exposition::Prometheus);
    check(Some("*/*"), Exposition::Prometheus);
    check(Some("text/plain"), Exposition::Prometheus);
    check(Some("text/html, application/json;q=0.5, garbage;;q=x"), Exposition::Prometheus);
    check(Some("application/openmetrics-text"), Exposition::OpenMetrics);
    check(Some("application/openmetrics-text; version=2.0.0"), Exposition::Prometheus);
    check(Some("application/openmetrics-text;q=0, text/plain"), Exposition::Prometheus);
    check(Some("application/openmetrics-text;q=0.3,text/plain;q=0.9"), Exposition::Prometheus);
    // What Prometheus itself sends.
    check(
        Some(
            "application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        ),
        Exposition::OpenMetrics,
    );
}
