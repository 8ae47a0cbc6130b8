//! The JSON shape of a line.

use super::escape;
use super::ops::{Op, View};

pub const DEFAULT_KEYS: [(&str, &str); 24] = [
    ("start_time", "%START_TIME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("grpc_status", "%GRPC_STATUS_NUMBER%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_peer_uri_san", "%DOWNSTREAM_PEER_URI_SAN%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("route_name", "%ROUTE_NAME%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
];

pub fn object(members: &[(String, Vec<Op>)], view: &View<'_>, out: &mut Vec<u8>) {
    out.push(b'{');
    for (place, (key, ops)) in members.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        out.push(b'"');
        escape::json(key.as_bytes(), out);
        out.extend_from_slice(b"\":");
        member(ops, view, out);
    }
    out.push(b'}');
}

fn member(ops: &[Op], view: &View<'_>, out: &mut Vec<u8>) {
    if let [op] = ops {
        match op.value(view) {
            Some(value) if value.is_number() => value.json(out),
            Some(value) => {
                out.push(b'"');
                value.json(out);
                out.push(b'"');
            }
            None => out.extend_from_slice(b"null"),
        }
        return;
    }
    out.push(b'"');
    for op in ops {
        match op.value(view) {
            Some(value) => value.json(out),
            None => out.push(b'-'),
        }
    }
    out.push(b'"');
}
