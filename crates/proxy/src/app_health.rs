//! Is the app there? The proxy opens a TCP connection to each declared port and tells its control plane what it found,
//! so that callers stop being sent to an app that died, and are sent to it again when it is back.
//!
//! The checks go straight to the app, past every listener: they are no traffic, and are counted nowhere. Two misses in
//! a row are a dead app, two hits in a row a living one again; an app that was never there is up at its first hit.

use std::{net::SocketAddr, time::Duration};

use tokio::{net::TcpStream, sync::watch, time::Instant};

const INTERVAL: Duration = Duration::from_secs(1);
/// While an app starts, its first callers are waiting.
const STARTING_INTERVAL: Duration = Duration::from_millis(100);
const STARTING_LIMIT: Duration = Duration::from_secs(30);
/// A listening app's kernel answers in microseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// In a row, before the verdict turns.
const TURN: u32 = 2;

/// What is told to the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppHealth {
    Healthy,
    Unhealthy,
}

impl AppHealth {
    /// As in `Workload.spec.health`.
    pub fn as_str(self) -> &'static str {
        match self {
            AppHealth::Healthy => "Healthy",
            AppHealth::Unhealthy => "Unhealthy",
        }
    }
}

/// The verdict, with its hysteresis.
#[derive(Debug)]
enum Judge {
    /// Not seen yet.
    Starting,
    /// How many checks in a row say the opposite.
    Decided(AppHealth, u32),
}

impl Judge {
    fn on(&mut self, there: bool) -> AppHealth {
        let found = if there { AppHealth::Healthy } else { AppHealth::Unhealthy };
        *self = match *self {
            Judge::Starting if there => Judge::Decided(found, 0),
            Judge::Starting => Judge::Starting,
            Judge::Decided(now, against) if found != now && against + 1 >= TURN => Judge::Decided(found, 0),
            Judge::Decided(now, against) if found != now => Judge::Decided(now, against + 1),
            Judge::Decided(now, _) => Judge::Decided(now, 0),
        };
        self.verdict()
    }

    fn verdict(&self) -> AppHealth {
        match self {
            Judge::Starting => AppHealth::Unhealthy,
            Judge::Decided(now, _) => *now,
        }
    }
}

/// Starts to look at these ports; `None` without any.
pub fn watch(ports: Vec<SocketAddr>) -> Option<watch::Receiver<AppHealth>> {
    if ports.is_empty() {
        return None;
    }
    let (sender, receiver) = watch::channel(AppHealth::Unhealthy);
    tokio::spawn(keep(ports, sender));
    Some(receiver)
}

async fn keep(ports: Vec<SocketAddr>, verdict: watch::Sender<AppHealth>) {
    let mut judge = Judge::Starting;
    let started = Instant::now();
    while !verdict.is_closed() {
        let missing = missing(&ports).await;
        let next = judge.on(missing.is_none());
        verdict.send_if_modified(|now| {
            match (*now == next, missing) {
                (true, _) => return false,
                (_, Some(port)) => tracing::warn!(%port, "the app does not answer; no traffic is sent here"),
                (_, None) => tracing::info!("the app answers"),
            }
            *now = next;
            true
        });
        let starting = matches!(judge, Judge::Starting) && started.elapsed() < STARTING_LIMIT;
        tokio::time::sleep(if starting { STARTING_INTERVAL } else { INTERVAL }).await;
    }
}

/// The first port at which nobody listens.
async fn missing(ports: &[SocketAddr]) -> Option<SocketAddr> {
    for port in ports {
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(port)).await;
        if !matches!(connected, Ok(Ok(_))) {
            return Some(*port);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `+` a hit, `-` a miss; the verdict after each: `H` or `U`.
    #[track_caller]
    fn check(checks: &str, verdicts: &str) {
        let mut judge = Judge::Starting;
        let said: String = checks
            .chars()
            .map(|check| if judge.on(check == '+') == AppHealth::Healthy { 'H' } else { 'U' })
            .collect();
        assert_eq!(said, verdicts, "after {checks}");
    }

    #[test]
    fn two_checks_in_a_row_turn_the_verdict() {
        check("--+", "UUH"); // the first hit is enough for an app that was never there
        check("+-+-+-+", "HHHHHHH"); // a flapping check turns nothing
        check("+--", "HHU");
        check("+---+-+-++", "HHUUUUUUUH");
    }
}
