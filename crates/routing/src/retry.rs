//! May a failed try be made again? Only when it is safe, allowed by the route, and in the budget.
//!
//! Safe means: nothing of the request reached the application (connect failure, refused stream,
//! reset before anything was sent), or the method may be repeated. `decide` gives a decision; the
//! caller waits and acts.

use std::time::Duration;

use http::{Method, StatusCode};

use crate::types::{RetryOn, RetryPolicy};

mod budget;
#[cfg(test)]
mod tests;

pub use budget::Budget;

impl RetryOn {
    pub const NONE: RetryOn = RetryOn(0);
    pub const STATUS_5XX: RetryOn = RetryOn(1);
    pub const GATEWAY_ERROR: RetryOn = RetryOn(1 << 1);
    pub const RESET: RetryOn = RetryOn(1 << 2);
    pub const RESET_BEFORE_REQUEST: RetryOn = RetryOn(1 << 3);
    pub const CONNECT_FAILURE: RetryOn = RetryOn(1 << 4);
    pub const RETRIABLE_4XX: RetryOn = RetryOn(1 << 5);
    pub const REFUSED_STREAM: RetryOn = RetryOn(1 << 6);
    pub const STATUS_CODES: RetryOn = RetryOn(1 << 7);
    pub const GRPC_CANCELLED: RetryOn = RetryOn(1 << 8);
    pub const GRPC_DEADLINE_EXCEEDED: RetryOn = RetryOn(1 << 9);
    pub const GRPC_INTERNAL: RetryOn = RetryOn(1 << 10);
    pub const GRPC_RESOURCE_EXHAUSTED: RetryOn = RetryOn(1 << 11);
    pub const GRPC_UNAVAILABLE: RetryOn = RetryOn(1 << 12);
    pub const RATE_LIMITED: RetryOn = RetryOn(1 << 13);

    /// Failures where the application saw nothing.
    pub const SAFE: RetryOn =
        RetryOn(Self::CONNECT_FAILURE.0 | Self::REFUSED_STREAM.0 | Self::RESET_BEFORE_REQUEST.0);

    /// Envoy's words.
    const WORDS: [(&str, RetryOn); 14] = [
        ("5xx", Self::STATUS_5XX),
        ("gateway-error", Self::GATEWAY_ERROR),
        ("reset", Self::RESET),
        ("reset-before-request", Self::RESET_BEFORE_REQUEST),
        ("connect-failure", Self::CONNECT_FAILURE),
        ("retriable-4xx", Self::RETRIABLE_4XX),
        ("refused-stream", Self::REFUSED_STREAM),
        ("retriable-status-codes", Self::STATUS_CODES),
        ("cancelled", Self::GRPC_CANCELLED),
        ("deadline-exceeded", Self::GRPC_DEADLINE_EXCEEDED),
        ("internal", Self::GRPC_INTERNAL),
        ("resource-exhausted", Self::GRPC_RESOURCE_EXHAUSTED),
        ("unavailable", Self::GRPC_UNAVAILABLE),
        ("envoy-ratelimited", Self::RATE_LIMITED),
    ];

    pub fn word(word: &str) -> Option<RetryOn> {
        Self::WORDS.iter().find(|(known, _)| *known == word).map(|(_, on)| *on)
    }

    /// Its words, in Envoy's order.
    pub fn words(self) -> Vec<&'static str> {
        Self::WORDS.iter().filter(|(_, on)| self.has(*on)).map(|(word, _)| *word).collect()
    }

    pub fn has(self, other: RetryOn) -> bool {
        self.0 & other.0 != 0
    }

    #[must_use]
    pub fn with(self, other: RetryOn) -> RetryOn {
        RetryOn(self.0 | other.0)
    }
}

impl std::fmt::Debug for RetryOn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RetryOn({:#b})", self.0)
    }
}

impl RetryPolicy {
    /// What a request without a policy of its own may use: safe failures, 2 tries.
    pub fn safe() -> RetryPolicy {
        RetryPolicy {
            on: RetryOn::SAFE,
            statuses: Vec::new(),
            retries_max: 1,
            per_try_timeout: None,
            backoff_base: Duration::from_millis(25),
            backoff_max: Duration::from_millis(250),
        }
    }
}

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection: refused, timed out, TLS failed.
    Connect,
    /// HTTP/2 REFUSED_STREAM, or GOAWAY below the stream's id.
    RefusedStream,
    /// The connection ended before a byte of the request was written.
    ResetBeforeSent,
    /// The stream or connection ended after that, before the response head.
    Reset,
    PerTryTimeout,
    /// A response; `grpc_status` of a trailers-only one.
    Status {
        status: StatusCode,
        grpc_status: Option<i32>,
    },
}

/// The request as far as retries care.
#[derive(Debug, Clone, Copy)]
pub struct Tried<'a> {
    pub method: &'a Method,
    /// Tries made, the failed one too.
    pub tries: u32,
    /// The body can be sent again from its start (or nothing of it was taken).
    pub body_replayable: bool,
    /// Something of the response went to the caller.
    pub response_started: bool,
    /// No connection was made, and the next try goes to an endpoint that was not tried: that loads nobody twice.
    pub elsewhere: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Retry { after: Duration },
    GiveUp(Why),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The policy does not name this failure.
    NotAsked,
    /// The request may have been carried out, and its method may not be repeated.
    NotSafe,
    /// `retries_max` is used up (flag URX).
    Exhausted,
    /// Too large a share of the traffic would be retries.
    Budget,
}

/// `random` jitters the back-off; `now` is any clock that only goes forward.
pub fn decide(
    policy: &RetryPolicy,
    failure: Failure,
    tried: &Tried<'_>,
    budget: &mut Budget,
    now: Duration,
    random: u64,
) -> Decision {
    if !asked(policy, failure) {
        return Decision::GiveUp(Why::NotAsked);
    }
    if tried.response_started || !tried.body_replayable || !safe(failure, tried.method) {
        return Decision::GiveUp(Why::NotSafe);
    }
    if tried.tries > policy.retries_max {
        return Decision::GiveUp(Why::Exhausted);
    }
    if tried.elsewhere && failure == Failure::Connect {
        return Decision::Retry { after: Duration::ZERO };
    }
    if !budget.withdraw(now) {
        return Decision::GiveUp(Why::Budget);
    }
    Decision::Retry { after: backoff(policy, tried.tries, random) }
}

fn asked(policy: &RetryPolicy, failure: Failure) -> bool {
    let on = policy.on;
    match failure {
        Failure::Connect => {
            on.has(RetryOn::CONNECT_FAILURE.with(RetryOn::STATUS_5XX).with(RetryOn::GATEWAY_ERROR))
        }
        Failure::RefusedStream => {
            on.has(RetryOn::REFUSED_STREAM.with(RetryOn::STATUS_5XX).with(RetryOn::RESET))
        }
        Failure::ResetBeforeSent => {
            on.has(RetryOn::RESET_BEFORE_REQUEST.with(RetryOn::RESET).with(RetryOn::STATUS_5XX))
        }
        Failure::Reset => on.has(RetryOn::RESET.with(RetryOn::STATUS_5XX)),
        Failure::PerTryTimeout => on.has(RetryOn::STATUS_5XX.with(RetryOn::GATEWAY_ERROR)),
        Failure::Status { status, grpc_status } => {
            let code = status.as_u16();
            (on.has(RetryOn::STATUS_5XX) && status.is_server_error())
                || (on.has(RetryOn::GATEWAY_ERROR) && (502..=504).contains(&code))
                || (on.has(RetryOn::RETRIABLE_4XX) && code == 409)
                || (on.has(RetryOn::RATE_LIMITED) && code == 429)
                || (on.has(RetryOn::STATUS_CODES) && policy.statuses.contains(&status))
                || grpc_status.is_some_and(|grpc| grpc_asked(on, grpc))
        }
    }
}

fn grpc_asked(on: RetryOn, status: i32) -> bool {
    on.has(match status {
        1 => RetryOn::GRPC_CANCELLED,
        4 => RetryOn::GRPC_DEADLINE_EXCEEDED,
        8 => RetryOn::GRPC_RESOURCE_EXHAUSTED,
        13 => RetryOn::GRPC_INTERNAL,
        14 => RetryOn::GRPC_UNAVAILABLE,
        _ => RetryOn::NONE,
    })
}

fn safe(failure: Failure, method: &Method) -> bool {
    match failure {
        Failure::Connect | Failure::RefusedStream | Failure::ResetBeforeSent => true,
        Failure::Reset | Failure::PerTryTimeout => method.is_idempotent(),
        // Every gRPC call is a POST: whoever writes `unavailable` says that its calls may be repeated.
        Failure::Status { grpc_status: Some(status), .. } if status != 0 => true,
        Failure::Status { .. } => method.is_idempotent(),
    }
}

/// Full jitter: anything from zero to base × 2ⁿ, at most the maximum.
fn backoff(policy: &RetryPolicy, tries: u32, random: u64) -> Duration {
    let factor = 1u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX);
    let top = policy.backoff_base.saturating_mul(factor).min(policy.backoff_max);
    let nanos = u64::try_from(top.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(random.checked_rem(nanos).unwrap_or(0))
}
