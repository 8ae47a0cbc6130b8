//! Who guesses secrets is told to wait: after some wrong ones in a row a source hears 429, for a second at first and
//! twice as long after each further one.
//!
//! Whoever shows the right secret is let in all the same: those have 256 random bits, so that guessing is hopeless at any
//! rate, while a lock would shut out the admin who shares an address with a client whose token is stale. The wait is for
//! programs that would try for ever, and for the log. Sources are addresses; of IPv6 the network of 64 bits, of which
//! one guesser has all.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The mistake from which on there is a wait.
const FREE: u32 = 5;
const WAIT_FIRST: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Who made no mistake for so long is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
const SOURCES_MAX: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct Guesses(Mutex<HashMap<IpAddr, Source>>);

#[derive(Debug)]
struct Source {
    wrong: u32,
    last: Instant,
}

impl Guesses {
    /// It showed a secret that is none. How long it is to wait, if it is.
    pub(crate) fn wrong(&self, source: IpAddr, now: Instant) -> Option<Duration> {
        let mut sources = self.lock();
        let source = network(source);
        if sources.len() >= SOURCES_MAX && !sources.contains_key(&source) {
            make_room(&mut sources, now);
        }
        let source = sources.entry(source).or_insert(Source { wrong: 0, last: now });
        if now.duration_since(source.last) > FORGOTTEN_AFTER {
            source.wrong = 0;
        }
        source.wrong = source.wrong.saturating_add(1);
        source.last = now;
        let beyond = source.wrong.checked_sub(FREE)?;
        Some(WAIT_MAX.min(WAIT_FIRST * (1 << beyond.min(6))))
    }

    /// It showed one that is right.
    pub(crate) fn right(&self, source: IpAddr) {
        self.lock().remove(&network(source));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, Source>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops who is forgotten anyway; if nobody is, whoever made a mistake longest ago.
fn make_room(sources: &mut HashMap<IpAddr, Source>, now: Instant) {
    sources.retain(|_, source| now.duration_since(source.last) <= FORGOTTEN_AFTER);
    if sources.len() >= SOURCES_MAX
        && let Some(oldest) = sources.iter().min_by_key(|(_, source)| source.last).map(|(ip, _)| *ip)
    {
        sources.remove(&oldest);
    }
}

fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_fifth_mistake_costs_a_second_and_each_further_one_twice_as_much() {
        let (guesses, now, source) = (Guesses::default(), Instant::now(), ip("192.0.2.1"));
        let waits: Vec<u64> =
            (0..13).map(|_| guesses.wrong(source, now).map_or(0, |wait| wait.as_secs())).collect();
        assert_eq!(waits, [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(guesses.wrong(ip("192.0.2.2"), now), None, "others don't wait");
    }

    #[test]
    fn a_right_one_and_time_make_good() {
        let (guesses, now, source) = (Guesses::default(), Instant::now(), ip("192.0.2.1"));
        let wrong = |times: u32, at: Instant| (0..times).filter_map(|_| guesses.wrong(source, at)).last();
        assert_eq!(wrong(4, now), None);
        guesses.right(source);
        assert_eq!(wrong(4, now), None);
        let later = now + FORGOTTEN_AFTER + SECOND;
        assert_eq!(wrong(4, later), None);
        assert_eq!(wrong(1, later), Some(SECOND));
    }

    #[test]
    fn an_ipv6_network_is_one_source_and_ipv4_in_ipv6_is_ipv4() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        let last = (1..=5).map(|host| guesses.wrong(ip(&format!("2001:db8::{host}")), now)).last();
        assert_eq!(last, Some(Some(SECOND)));
        assert_eq!(guesses.wrong(ip("2001:db8:0:1::1"), now), None);
        (0..4).for_each(|_| assert_eq!(guesses.wrong(ip("::ffff:192.0.2.1"), now), None));
        assert_eq!(guesses.wrong(ip("192.0.2.1"), now), Some(SECOND));
    }

    #[test]
    fn sources_are_bounded_and_the_oldest_makes_room() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        let numbered = |n: usize| IpAddr::from((0x0a00_0000 + u32::try_from(n).unwrap()).to_be_bytes());
        let at = |n: usize| now + Duration::from_millis(n as u64);
        for n in 0..=SOURCES_MAX {
            (0..4).for_each(|_| assert_eq!(guesses.wrong(numbered(n), at(n)), None));
        }
        assert_eq!(guesses.lock().len(), SOURCES_MAX);
        assert_eq!(guesses.wrong(numbered(SOURCES_MAX), at(SOURCES_MAX)), Some(SECOND));
        assert_eq!(guesses.wrong(numbered(0), at(SOURCES_MAX)), None, "it was the oldest");
    }
}
