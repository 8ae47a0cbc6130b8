#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use envoy_types::pb::google::protobuf::Duration as PbDuration;

use super::*;

fn seconds(seconds: i64) -> Option<PbDuration> {
    Some(PbDuration { seconds, nanos: 0 })
}

fn value(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

#[test]
fn http2_options_are_read_and_their_mistakes_are_told() {
    let good = core_pb::Http2ProtocolOptions {
        allow_connect: true,
        max_consecutive_inbound_frames_with_empty_payload: value(0),
        max_inbound_priority_frames_per_stream: value(7),
        max_inbound_window_update_frames_per_data_frame_sent: value(3),
        connection_keepalive: Some(core_pb::KeepaliveSettings {
            interval: seconds(20),
            timeout: seconds(2),
            interval_jitter: None,
            connection_idle_interval: None,
        }),
        ..Default::default()
    };
    let mut reader = Reader::new("l");
    let read = http2(&mut reader, "h2", Some(&good));
    let keepalive = Http2Keepalive {
        interval: Some(Duration::from_secs(20)),
        timeout: Duration::from_secs(2),
        jitter_percent: 15,
    };
    let expected = Http2Options {
        extended_connect: true,
        empty_frames_max: Some(0),
        priorities_per_stream_max: Some(7),
        window_updates_per_data_max: Some(3),
        keepalive: Some(keepalive),
        ..Http2Options::default()
    };
    assert_eq!(read, expected);
    let wrong = core_pb::Http2ProtocolOptions {
        max_inbound_window_update_frames_per_data_frame_sent: value(0),
        connection_keepalive: Some(core_pb::KeepaliveSettings {
            interval: seconds(0),
            timeout: None,
            interval_jitter: Some(Percent { value: 101.0 }),
            connection_idle_interval: None,
        }),
        ..Default::default()
    };
    http2(&mut reader, "h2", Some(&wrong));
    let paths: Vec<String> = reader.into_problems().into_iter().map(|problem| problem.0).collect();
    let expected = [
        "h2.max_inbound_window_update_frames_per_data_frame_sent",
        "h2.connection_keepalive.timeout",
        "h2.connection_keepalive.interval",
        "h2.connection_keepalive.interval_jitter",
    ];
    assert_eq!(paths, expected);
}

#[test]
fn a_connections_life_is_read() {
    let options = core_pb::HttpProtocolOptions {
        max_connection_duration: seconds(60),
        max_connection_duration_jitter: Some(Percent { value: 20.0 }),
        max_requests_per_connection: value(1000),
        ..Default::default()
    };
    let mut reader = Reader::new("l");
    let life = connection_life(&mut reader, &options);
    let expected = ConnectionLife {
        duration_max: Some(Duration::from_secs(60)),
        jitter_percent: 20,
        requests_max: Some(1000),
    };
    assert_eq!(life, expected);
    let unlimited =
        core_pb::HttpProtocolOptions { max_requests_per_connection: value(0), ..Default::default() };
    assert_eq!(connection_life(&mut reader, &unlimited), ConnectionLife::default());
}

#[test]
fn more_fields_than_can_be_held_are_no_limit() {
    let options = core_pb::HttpProtocolOptions { max_headers_count: value(50_000), ..Default::default() };
    let mut reader = Reader::new("l");
    let (_, limits) = timeouts_and_limits(&mut reader, &pb::HttpConnectionManager::default(), &options);
    assert_eq!(limits.headers_max, Some(16 * 1024));
    let told: Vec<String> = reader.take_not_done().into_iter().map(|(path, _)| path).collect();
    assert_eq!(told, ["common_http_protocol_options.max_headers_count"]);
    assert!(reader.into_problems().is_empty());
}
