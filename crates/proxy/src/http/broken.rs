//! Why a try has no answer, and what the caller, the log and the retry policy are told of it.

use http::StatusCode;
use weft_routing::retry::Failure;
use weft_wire::grpc_web::Fault;

use super::{
    body::BodyError,
    h1::client::{Cause, Failed},
    h2,
    reply::Reason,
    target::Target,
};
use crate::{record::flags, upstream::connect::ConnectError};

/// A try without an answer.
pub struct Broken {
    pub failure: Failure,
    status: StatusCode,
    flags: &'static str,
    details: &'static str,
    /// For the log only: it names addresses.
    pub text: String,
    /// The head, for another try.
    pub head: Option<Target>,
    /// No other try may follow: the time is over, or a limit is met.
    pub last: bool,
    /// The other side answered for the stream, so it has read the head.
    pub seen: bool,
    /// A kept connection ended without a word, and the request may be made twice; or it left, and has not looked at it.
    pub stale: bool,
    /// The endpoint did nothing wrong: what the client is told instead.
    blameless: Option<&'static str>,
}

const NOT_SENDABLE: &str = "the request cannot be sent on\n";

/// What is wrong with a request's body: for the log, and for the client.
fn fault(error: &BodyError) -> (&'static str, &'static str) {
    match error.downcast_ref::<Fault>() {
        Some(fault) => (fault.label(), fault.text()),
        None => ("request_body_broke_off", NOT_SENDABLE),
    }
}

impl Broken {
    pub fn connect(error: &ConnectError, head: Option<Target>) -> Broken {
        if matches!(error, ConnectError::Overflow) {
            return Broken {
                flags: flags::OVERFLOW,
                details: "upstream_overflow",
                last: true,
                text: String::new(),
                ..Broken::connect(&ConnectError::NoCertificate, head)
            };
        }
        Broken {
            failure: Failure::Connect,
            status: StatusCode::SERVICE_UNAVAILABLE,
            flags: flags::CONNECT_FAILURE,
            details: "upstream_connection_failure",
            text: explain(error),
            head,
            last: false,
            seen: false,
            stale: false,
            blameless: None,
        }
    }

    /// An exchange over HTTP/1 without an answer.
    pub fn h1(failed: &Failed, target: Target, reused: bool) -> Broken {
        let broken = Broken {
            failure: Failure::Reset,
            status: StatusCode::SERVICE_UNAVAILABLE,
            flags: flags::CONNECTION_TERMINATION,
            details: "upstream_reset_before_response_started{connection_termination}",
            text: explain(&failed.cause),
            stale: reused && failed.written && !failed.heard && target.method.is_idempotent(),
            head: Some(target),
            last: false,
            seen: failed.heard,
            blameless: None,
        };
        let bad_gateway = StatusCode::BAD_GATEWAY;
        match &failed.cause {
            Cause::Io(_) | Cause::Ended if !failed.written => {
                Broken { failure: Failure::ResetBeforeSent, ..broken }
            }
            Cause::Io(_) | Cause::Ended => broken,
            Cause::Refused(_) => {
                let details = "upstream_protocol_error";
                let flags = flags::UPSTREAM_PROTOCOL;
                Broken { status: bad_gateway, flags, details, stale: false, ..broken }
            }
            Cause::Unwritable(_) => Broken {
                status: bad_gateway,
                details: "request_not_writable",
                last: true,
                stale: false,
                blameless: Some(NOT_SENDABLE),
                ..broken
            },
            Cause::Request(error) => Broken {
                status: StatusCode::BAD_REQUEST,
                flags: flags::PROTOCOL,
                details: fault(error).0,
                last: true,
                stale: false,
                blameless: Some(fault(error).1),
                ..broken
            },
        }
    }

    /// An exchange over HTTP/2 without an answer.
    pub fn h2(failed: &h2::client::Failed, head: Option<Target>) -> Broken {
        let h2::client::Failed { cause, unsent, heard } = failed;
        let (text, unsent) = (explain(cause), *unsent);
        let error = match cause {
            h2::client::Cause::Http2(error) => error,
            h2::client::Cause::Request(error) => {
                return Broken {
                    failure: Failure::Reset,
                    status: StatusCode::BAD_REQUEST,
                    flags: flags::PROTOCOL,
                    details: fault(error).0,
                    text,
                    head,
                    last: true,
                    seen: false,
                    stale: false,
                    blameless: Some(fault(error).1),
                };
            }
        };
        let failure = match (unsent, error.is_unprocessed()) {
            (true, _) => Failure::ResetBeforeSent,
            (false, true) => Failure::RefusedStream,
            (false, false) => Failure::Reset,
        };
        Broken {
            failure,
            status: StatusCode::SERVICE_UNAVAILABLE,
            flags: flags::CONNECTION_TERMINATION,
            details: "upstream_reset_before_response_started{connection_termination}",
            text,
            seen: *heard || !unsent && error.is_reset_by_peer(),
            head,
            last: false,
            stale: !heard && error.is_left_out(),
            blameless: None,
        }
    }

    pub fn timeout(whole: bool) -> Broken {
        Broken {
            failure: Failure::PerTryTimeout,
            status: StatusCode::GATEWAY_TIMEOUT,
            flags: flags::TIMEOUT,
            details: if whole { "upstream_response_timeout" } else { "upstream_per_try_timeout" },
            text: String::new(),
            head: None,
            last: whole,
            seen: true,
            stale: false,
            blameless: None,
        }
    }

    /// The endpoint did nothing wrong: we did not try it.
    pub fn is_overflow(&self) -> bool {
        self.flags == flags::OVERFLOW
    }

    /// The endpoint did nothing wrong: the fault is the request's.
    pub fn is_blameless(&self) -> bool {
        self.blameless.is_some()
    }

    /// The stream was quiet for too long.
    pub fn quiet() -> Broken {
        Broken { flags: flags::STREAM_IDLE, details: "stream_idle_timeout", ..Broken::timeout(true) }
    }

    /// The client kept the request's end for itself for too long, or its stream has no time left.
    pub fn unsent() -> Broken {
        Broken { blameless: Some("the request did not come to its end in time\n"), ..Broken::quiet() }
    }

    pub fn reason(&self) -> Reason {
        let text = match self.failure {
            _ if let Some(text) = self.blameless => text,
            Failure::Connect => "no connection to the upstream\n",
            Failure::PerTryTimeout => "the upstream did not answer in time\n",
            _ if self.status == StatusCode::BAD_GATEWAY => "the upstream's answer is wrong\n",
            _ => "the upstream broke the connection\n",
        };
        Reason::new(self.status, self.flags, self.details, text)
    }
}

/// An error with its causes, on one line.
pub fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
