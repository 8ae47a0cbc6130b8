//! Health checks that other members' proxies make of our app: answered here, from what our own check finds.
//!
//! A check says of itself that it is one, and so can any request that wants not to be counted. So what a check asks
//! for is never passed on. The proxy asks its app itself, a GET without query, body or any field of the caller's, at
//! most once in [`FRESH`] for each path, and tells every checker the status and nothing else. What could be hidden
//! that way is worth nothing, and a hundred callers cost the app no more than one. Access policies come first, as for
//! any request.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header::USER_AGENT, uri::PathAndQuery};

/// Set on our own checks of members.
pub const HEALTH_CHECK: HeaderName = HeaderName::from_static("x-weft-health-check");
/// By TLS, for checks that only open a connection.
pub const HEALTH_CHECK_ALPN: &str = "weft-health-check";
pub const USER: HeaderValue = HeaderValue::from_static("weft-health-check");
const ENVOY_USER: &str = "Envoy/HC";

/// For how long an answer is good for everybody.
const FRESH: Duration = Duration::from_millis(500);
/// What can be asked for at one app; more is traffic and counts as such.
const ASKED_MAX: usize = 8;
/// What nobody asked for makes room.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// The checks of one cluster's app.
#[derive(Default)]
pub struct Probes {
    known: RefCell<Vec<Rc<Probe>>>,
}

/// One thing that is asked, and what the app said last.
pub struct Probe {
    host: HeaderValue,
    path: PathAndQuery,
    found: Cell<Option<(Instant, StatusCode)>>,
    used: Cell<Instant>,
    /// Held while the app is asked, so that it is asked once.
    asking: tokio::sync::Mutex<()>,
}

/// Whether a member's request can be a check: it says so and carries nothing.
pub fn is_health_check(method: &Method, path: &PathAndQuery, headers: &HeaderMap, has_body: bool) -> bool {
    let says = || {
        headers.contains_key(HEALTH_CHECK)
            || headers.get(USER_AGENT).is_some_and(|user| user.as_bytes() == ENVOY_USER.as_bytes())
    };
    (method == Method::GET || method == Method::HEAD) && !has_body && path.query().is_none() && says()
}

impl Probes {
    /// `None`: too many different things are asked.
    pub fn find(&self, host: &HeaderValue, path: &PathAndQuery, now: Instant) -> Option<Rc<Probe>> {
        let mut known = self.known.borrow_mut();
        if let Some(probe) = known.iter().find(|probe| probe.host == *host && probe.path == *path) {
            probe.used.set(now);
            return Some(Rc::clone(probe));
        }
        if known.len() >= ASKED_MAX {
            known.retain(|probe| now.saturating_duration_since(probe.used.get()) < FORGOTTEN_AFTER);
        }
        if known.len() >= ASKED_MAX {
            return None;
        }
        let probe = Rc::new(Probe {
            host: host.clone(),
            path: path.clone(),
            found: Cell::default(),
            used: Cell::new(now),
            asking: tokio::sync::Mutex::default(),
        });
        known.push(Rc::clone(&probe));
        Some(probe)
    }
}

impl Probe {
    /// The app's status, found by `ask` unless it is known.
    pub async fn status<F: Future<Output = StatusCode>>(&self, ask: impl FnOnce() -> F) -> StatusCode {
        if let Some(status) = self.fresh() {
            return status;
        }
        let _one_at_a_time = self.asking.lock().await;
        if let Some(status) = self.fresh() {
            return status;
        }
        let status = ask().await;
        self.found.set(Some((Instant::now(), status)));
        status
    }

    fn fresh(&self) -> Option<StatusCode> {
        self.found.get().and_then(|(at, status)| (at.elapsed() < FRESH).then_some(status))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests stop at the first surprise")]

    use super::*;

    #[test]
    fn a_check_carries_nothing() {
        let mut says = HeaderMap::new();
        says.insert(HEALTH_CHECK, HeaderValue::from_static("1"));
        let path = PathAndQuery::from_static("/healthz");
        assert!(is_health_check(&Method::GET, &path, &says, false));
        assert!(!is_health_check(&Method::POST, &path, &says, false));
        assert!(!is_health_check(&Method::GET, &path, &says, true), "a body");
        assert!(!is_health_check(&Method::GET, &PathAndQuery::from_static("/healthz?x"), &says, false));
        assert!(!is_health_check(&Method::GET, &path, &HeaderMap::new(), false), "does not say so");
    }

    #[tokio::test]
    async fn the_app_is_asked_once_for_all() {
        let (probes, now) = (Probes::default(), Instant::now());
        let (host, path) = (HeaderValue::from_static("be"), PathAndQuery::from_static("/healthz"));
        let asked = Cell::new(0);
        for _ in 0..5 {
            let probe = probes.find(&host, &path, now).unwrap();
            let ask = || {
                asked.set(asked.get() + 1);
                std::future::ready(StatusCode::OK)
            };
            assert_eq!(probe.status(ask).await, StatusCode::OK);
        }
        assert_eq!(asked.get(), 1);
    }

    #[test]
    fn there_is_no_room_for_traffic() {
        let (probes, now) = (Probes::default(), Instant::now());
        let host = HeaderValue::from_static("be");
        let path = |n: usize| PathAndQuery::try_from(format!("/{n}")).unwrap();
        assert!((0..ASKED_MAX).all(|n| probes.find(&host, &path(n), now).is_some()));
        assert!(probes.find(&host, &path(ASKED_MAX), now).is_none());
        assert!(probes.find(&host, &path(0), now).is_some(), "what is known stays");
        assert!(probes.find(&host, &path(ASKED_MAX), now + FORGOTTEN_AFTER).is_some());
    }
}
