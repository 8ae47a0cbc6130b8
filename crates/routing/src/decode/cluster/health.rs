//! Active health checks and outlier detection.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3 as cluster_pb;
use envoy_types::pb::envoy::config::core::v3 as pb;
use envoy_types::pb::envoy::config::core::v3::RequestMethod;
use envoy_types::pb::envoy::config::core::v3::health_check::payload::Payload;
use envoy_types::pb::envoy::config::core::v3::health_check::{
    HealthChecker, HttpHealthCheck, TcpHealthCheck,
};
use envoy_types::pb::envoy::r#type::v3::CodecClientType;
use envoy_types::pb::google::protobuf::UInt32Value;
use http::Method;

use super::super::reader::Reader;
use super::super::text;
use crate::types::{HealthCheck, HealthCheckKind, OutlierDetection};

pub(super) fn health_check(reader: &mut Reader, check: &pb::HealthCheck) -> Option<HealthCheck> {
    let mut needed = |step: &str, duration: Option<&_>| {
        reader.required(step, duration)?;
        reader.positive_duration(step, duration)
    };
    let timeout = needed("timeout", check.timeout.as_ref());
    let interval = needed("interval", check.interval.as_ref());
    let mut threshold = |step: &str, value: Option<&UInt32Value>| {
        let value = reader.required(step, value)?.value;
        if value == 0 {
            reader.problem_at(step, "must be at least 1");
        }
        Some(value)
    };
    let unhealthy_threshold = threshold("unhealthy_threshold", check.unhealthy_threshold.as_ref());
    let healthy_threshold = threshold("healthy_threshold", check.healthy_threshold.as_ref());
    let kind = match check.health_checker.as_ref() {
        Some(HealthChecker::HttpHealthCheck(check)) => {
            reader.at("http_health_check", |reader| http(reader, check))
        }
        Some(HealthChecker::TcpHealthCheck(check)) => {
            reader.at("tcp_health_check", |reader| tcp(reader, check))
        }
        Some(HealthChecker::GrpcHealthCheck(check)) => Some(HealthCheckKind::Grpc {
            service: check.service_name.as_str().into(),
            authority: (!check.authority.is_empty()).then(|| check.authority.as_str().into()),
        }),
        // The table has refused it.
        Some(HealthChecker::CustomHealthCheck(_)) => None,
        None => {
            reader.problem("needs one of http_health_check, tcp_health_check, grpc_health_check");
            None
        }
    };
    Some(HealthCheck {
        kind: kind?,
        timeout: timeout?,
        interval: interval?,
        interval_jitter: reader
            .duration("interval_jitter", check.interval_jitter.as_ref())
            .unwrap_or_default(),
        initial_jitter: reader.duration("initial_jitter", check.initial_jitter.as_ref()).unwrap_or_default(),
        unhealthy_threshold: unhealthy_threshold?,
        healthy_threshold: healthy_threshold?,
        unhealthy_interval: reader.positive_duration("unhealthy_interval", check.unhealthy_interval.as_ref()),
    })
}

fn http(reader: &mut Reader, check: &HttpHealthCheck) -> Option<HealthCheckKind> {
    let path = reader.required_text("path", &check.path);
    if !check.path.is_empty() && crate::path::canonical(&check.path, crate::path::Slashes::KEEP).is_err() {
        reader.problem_at("path", format!("is no path: {:?}", check.path));
    }
    if !check.host.is_empty() && crate::host::canonical(&check.host).is_err() {
        reader.problem_at("host", format!("is no host: {:?}", check.host));
    }
    let mut expected = reader.list("expected_statuses", &check.expected_statuses, |reader, range| {
        match (u16::try_from(range.start), u16::try_from(range.end)) {
            (Ok(start), Ok(end)) if (100..600).contains(&start) && start < end && end <= 600 => {
                Some((start, end))
            }
            _ => {
                reader.problem(format!("is no range of statuses: {} to {}", range.start, range.end));
                None
            }
        }
    });
    if expected.is_empty() {
        expected.push((200, 201));
    }
    let method = match reader.choice("method", check.method)? {
        RequestMethod::MethodUnspecified | RequestMethod::Get => Method::GET,
        RequestMethod::Head => Method::HEAD,
        RequestMethod::Post => Method::POST,
        RequestMethod::Put => Method::PUT,
        RequestMethod::Delete => Method::DELETE,
        RequestMethod::Options => Method::OPTIONS,
        RequestMethod::Trace => Method::TRACE,
        RequestMethod::Patch => Method::PATCH,
        RequestMethod::Connect => {
            reader.problem_at("method", "cannot be CONNECT");
            return None;
        }
    };
    let http2 = match reader.choice("codec_client_type", check.codec_client_type)? {
        CodecClientType::Http1 => false,
        CodecClientType::Http2 => true,
        CodecClientType::Http3 => {
            reader.problem_at("codec_client_type", "is HTTP/3, which is not spoken here");
            return None;
        }
    };
    Some(HealthCheckKind::Http {
        host: (!check.host.is_empty()).then(|| check.host.as_str().into()),
        path: path?,
        method,
        expected,
        http2,
        edits: text::edits(
            reader,
            "request",
            &check.request_headers_to_remove,
            &check.request_headers_to_add,
        ),
    })
}

fn tcp(reader: &mut Reader, check: &TcpHealthCheck) -> Option<HealthCheckKind> {
    let send = match check.send.as_ref() {
        None => None,
        Some(send) => Some(reader.at("send", |reader| payload(reader, send))?),
    };
    let receive = reader.list("receive", &check.receive, payload);
    (receive.len() == check.receive.len()).then_some(HealthCheckKind::Tcp { send, receive })
}

fn payload(reader: &mut Reader, payload: &pb::health_check::Payload) -> Option<Arc<[u8]>> {
    match payload.payload.as_ref() {
        Some(Payload::Binary(bytes)) => Some(bytes.as_slice().into()),
        Some(Payload::Text(hex)) => {
            let bytes: Option<Vec<u8>> = hex
                .as_bytes()
                .chunks(2)
                .map(|pair| {
                    let text = std::str::from_utf8(pair).ok()?;
                    u8::from_str_radix(text, 16).ok().filter(|_| pair.len() == 2)
                })
                .collect();
            if bytes.is_none() {
                reader.problem_at("text", "is not hexadecimal");
            }
            bytes.map(Arc::from)
        }
        None => {
            reader.problem("needs text or binary");
            None
        }
    }
}

/// Envoy's defaults.
pub(super) fn outlier(
    reader: &mut Reader,
    outlier: &cluster_pb::OutlierDetection,
) -> Option<OutlierDetection> {
    let number = |value: Option<&UInt32Value>, default: u32| value.map_or(default, |value| value.value);
    let mut percent = |step: &str, value: Option<&UInt32Value>, default: u32| {
        let percent = number(value, default);
        if percent > 100 {
            reader.problem_at(step, format!("is more than 100: {percent}"));
        }
        percent
    };
    let max_ejection_percent = percent("max_ejection_percent", outlier.max_ejection_percent.as_ref(), 10);
    let enforcing_5xx = percent("enforcing_consecutive_5xx", outlier.enforcing_consecutive_5xx.as_ref(), 100);
    let enforcing_gateway = percent(
        "enforcing_consecutive_gateway_failure",
        outlier.enforcing_consecutive_gateway_failure.as_ref(),
        0,
    );
    let base = reader.positive_duration("base_ejection_time", outlier.base_ejection_time.as_ref());
    let base_ejection = base.unwrap_or(Duration::from_secs(30));
    let interval = reader.positive_duration("interval", outlier.interval.as_ref());
    let max = reader.positive_duration("max_ejection_time", outlier.max_ejection_time.as_ref());
    Some(OutlierDetection {
        consecutive_5xx: number(outlier.consecutive_5xx.as_ref(), 5),
        consecutive_gateway_failure: number(outlier.consecutive_gateway_failure.as_ref(), 5),
        consecutive_local_origin_failure: number(outlier.consecutive_local_origin_failure.as_ref(), 5),
        split_local_origin: outlier.split_external_local_origin_errors,
        interval: interval.unwrap_or(Duration::from_secs(10)),
        base_ejection,
        max_ejection: max.unwrap_or(Duration::from_secs(300)).max(base_ejection),
        max_ejection_percent,
        enforcing_consecutive_5xx_percent: enforcing_5xx,
        enforcing_consecutive_gateway_failure_percent: enforcing_gateway,
    })
}
