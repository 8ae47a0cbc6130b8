//! When a try may be made again.

use std::time::Duration;

use http::{Method, StatusCode};

use super::{Budget, Decision, Failure, Tried, Why, decide};
use crate::types::{RetryOn, RetryPolicy};

fn policy(words: &str) -> RetryPolicy {
    let on = words.split(',').filter_map(RetryOn::word).fold(RetryOn::NONE, RetryOn::with);
    RetryPolicy { on, retries_max: 2, ..RetryPolicy::safe() }
}

fn status(code: u16) -> Failure {
    Failure::Status { status: StatusCode::from_u16(code).unwrap_or_default(), grpc_status: None }
}

/// None: it may be tried again.
fn why(words: &str, failure: Failure, method: Method) -> Option<Why> {
    let tried =
        Tried { method: &method, tries: 1, body_replayable: true, response_started: false, elsewhere: false };
    match decide(&policy(words), failure, &tried, &mut Budget::default(), Duration::ZERO, 7) {
        Decision::Retry { .. } => None,
        Decision::GiveUp(why) => Some(why),
    }
}

#[test]
fn only_what_is_asked_and_safe_is_retried() {
    use Failure::{Connect, PerTryTimeout, RefusedStream, Reset, ResetBeforeSent};
    let (get, post) = (Method::GET, Method::POST);
    let cases = [
        ("connect-failure", Connect, &post, None),
        ("refused-stream", RefusedStream, &post, None),
        ("reset-before-request", ResetBeforeSent, &post, None),
        ("reset", Reset, &get, None),
        ("reset", Reset, &post, Some(Why::NotSafe)),
        ("5xx", status(503), &get, None),
        ("5xx", status(503), &post, Some(Why::NotSafe)),
        ("gateway-error", status(502), &get, None),
        ("gateway-error", status(500), &get, Some(Why::NotAsked)),
        ("connect-failure", status(503), &get, Some(Why::NotAsked)),
        ("connect-failure", Reset, &get, Some(Why::NotAsked)),
        ("retriable-4xx", status(409), &Method::PUT, None),
        ("retriable-4xx", status(404), &get, Some(Why::NotAsked)),
        ("5xx", PerTryTimeout, &get, None),
        ("5xx", PerTryTimeout, &post, Some(Why::NotSafe)),
    ];
    for (words, failure, method, expected) in cases {
        assert_eq!(why(words, failure, method.clone()), expected, "{words} {failure:?} {method}");
    }
}

#[test]
fn grpc_words_say_that_calls_may_be_repeated() {
    let unavailable = Failure::Status { status: StatusCode::OK, grpc_status: Some(14) };
    assert_eq!(why("unavailable", unavailable, Method::POST), None);
    assert_eq!(why("cancelled", unavailable, Method::POST), Some(Why::NotAsked));
}

#[test]
fn listed_statuses_are_retried() {
    let policy = RetryPolicy { statuses: vec![StatusCode::IM_A_TEAPOT], ..policy("retriable-status-codes") };
    let tried = Tried {
        method: &Method::GET,
        tries: 1,
        body_replayable: true,
        response_started: false,
        elsewhere: false,
    };
    let decision = |code| decide(&policy, status(code), &tried, &mut Budget::default(), Duration::ZERO, 0);
    assert!(matches!(decision(418), Decision::Retry { .. }));
    assert_eq!(decision(503), Decision::GiveUp(Why::NotAsked));
}

#[test]
fn tries_bodies_and_started_responses_end_it() {
    let policy = policy("connect-failure");
    let fresh = Tried {
        method: &Method::GET,
        tries: 1,
        body_replayable: true,
        response_started: false,
        elsewhere: false,
    };
    let ask = |tried: Tried<'_>| {
        decide(&policy, Failure::Connect, &tried, &mut Budget::default(), Duration::ZERO, 0)
    };
    assert!(matches!(ask(Tried { tries: 2, ..fresh }), Decision::Retry { .. }));
    assert_eq!(ask(Tried { tries: 3, ..fresh }), Decision::GiveUp(Why::Exhausted));
    assert_eq!(ask(Tried { body_replayable: false, ..fresh }), Decision::GiveUp(Why::NotSafe));
    assert_eq!(ask(Tried { response_started: true, ..fresh }), Decision::GiveUp(Why::NotSafe));
}

#[test]
fn backoff_grows_and_is_capped() {
    let policy = RetryPolicy {
        retries_max: 40,
        backoff_base: Duration::from_millis(25),
        backoff_max: Duration::from_millis(250),
        ..policy("connect-failure")
    };
    for (tries, top) in [(1, 25), (2, 50), (3, 100), (4, 200), (5, 250), (40, 250)] {
        let tried = Tried {
            method: &Method::GET,
            tries,
            body_replayable: true,
            response_started: false,
            elsewhere: false,
        };
        for random in [0, 1, u64::MAX, 24_999_999] {
            let decision =
                decide(&policy, Failure::Connect, &tried, &mut Budget::default(), Duration::ZERO, random);
            assert!(
                matches!(decision, Decision::Retry { after } if after < Duration::from_millis(top)),
                "{tries}: {decision:?}"
            );
        }
    }
}

#[test]
fn the_budget_is_ten_a_second_and_a_fifth_of_the_traffic() {
    let mut budget = Budget::default();
    let spend = |budget: &mut Budget, now: Duration| (0..1000).filter(|_| budget.withdraw(now)).count();
    assert_eq!(spend(&mut budget, Duration::ZERO), 10, "a second's worth at once");
    assert_eq!(spend(&mut budget, Duration::from_millis(500)), 5);
    assert_eq!(spend(&mut budget, Duration::from_secs(60)), 10, "quiet time saves no more than a second");
    for _ in 0..100 {
        budget.deposit();
    }
    assert_eq!(spend(&mut budget, Duration::from_secs(60)), 20);
    for _ in 0..1_000_000 {
        budget.deposit();
    }
    assert_eq!(spend(&mut budget, Duration::from_secs(60)), 100, "what traffic earned is capped");
    assert_eq!(spend(&mut budget, Duration::ZERO), 0, "a clock that goes back gives nothing");
}

#[test]
fn small_steps_of_time_add_up() {
    let mut budget = Budget::new(0, 10);
    while budget.withdraw(Duration::ZERO) {}
    let spent = (1..=1_000_000u64)
        .step_by(250)
        .filter(|micros| budget.withdraw(Duration::from_micros(*micros)))
        .count();
    assert!((9..=10).contains(&spent), "{spent}");
}

#[test]
fn another_endpoint_after_a_refused_connection_costs_no_budget() {
    let mut empty = Budget::new(0, 0);
    let here = Tried {
        method: &Method::POST,
        tries: 1,
        body_replayable: true,
        response_started: false,
        elsewhere: false,
    };
    let elsewhere = Tried { elsewhere: true, ..here };
    let mut ask = |failure, tried: &Tried<'_>| {
        decide(&RetryPolicy::safe(), failure, tried, &mut empty, Duration::ZERO, 7)
    };
    assert_eq!(ask(Failure::Connect, &elsewhere), Decision::Retry { after: Duration::ZERO });
    assert_eq!(ask(Failure::Connect, &here), Decision::GiveUp(Why::Budget));
    assert_eq!(ask(Failure::RefusedStream, &elsewhere), Decision::GiveUp(Why::Budget));
    assert_eq!(ask(Failure::Connect, &Tried { tries: 2, ..elsewhere }), Decision::GiveUp(Why::Exhausted));
}
