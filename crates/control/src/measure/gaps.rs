//! What may be missing from the record: proxies that ended without a word.
//!
//! A proxy counts in its memory and sends each second, so one that is killed takes with it what it had not sent. Its
//! stream ends without a leave; whether the process ended too is known later: when its lease ends (it vanished), or
//! when that name says hello again, with when its process started. The same start: it had only been cut off and nothing
//! is lost, since it sends what it kept. Another: another process took its place. Where nobody knows the start of
//! before (after a restart of ours, or of a proxy that doesn't say), the numbers of its increments tell: they go on, or
//! start anew. Until then the gap is unsettled, and answers name it all the same: better a doubt too many than a count
//! that is called complete and isn't.
//!
//! Pure: time comes in. Settled gaps are persisted by the writer with the counts that they are about; unsettled ones
//! are not, since the workload in the store says after a restart which proxies had not left.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// A proxy sends at least this often when it counted something.
const SEND_SECONDS: u64 = 1;
/// How long a stream may be dead before its end is seen: the server's ping and the wait for its answer.
const NOTICE_SECONDS: u64 = 15;
/// A proxy numbers its increments from the microsecond of its start, one after the other: numbers this far apart are
/// of two processes.
const SAME_PROCESS_MAX: u64 = 500_000;
/// What a proxy has kept while it was cut off comes within this of its hello.
const CATCH_UP_SECONDS: u64 = 5;
/// As long as the longest windows.
const KEPT_SECONDS: u64 = 30 * 86_400;
/// Settled gaps kept; beyond it the oldest go.
const GAPS_MAX: usize = 10_000;

/// What became of a proxy whose stream ended without a leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// Not known yet: it may come back and send what it kept.
    Away,
    /// Another process of that name took its place.
    Restarted,
    /// Its lease ended.
    Vanished,
}

/// Counts of `proxy` between `from` and `to` (Unix seconds) may be missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// `NS/WORKLOAD`.
    pub proxy: String,
    /// `NS/SERVICE`: whose requests it counted.
    pub service: String,
    /// What came before this moment is recorded.
    pub from: u64,
    /// When it was found to be gone.
    pub to: u64,
    /// What became of it.
    pub fate: Fate,
}

/// A settled gap's key, and its bytes or `None` when it is gone.
pub type Change = ((String, u64), Option<Vec<u8>>);

/// A proxy that is known to run.
struct Running {
    service: String,
    /// When its process started, in Unix microseconds; 0: it doesn't say.
    started: u64,
    streams: u32,
    /// When it last sent an increment, or said hello.
    heard: u64,
    left: bool,
}

struct Unsettled {
    gap: Gap,
    /// As in [`Running`], of the process whose stream ended.
    started: u64,
    /// The control plane itself was away; the proxy most likely was not.
    by_us: bool,
    /// When the name said hello again.
    back: Option<u64>,
    /// It did so as the same process.
    same: bool,
}

/// All gaps, and what is needed to find the next one.
#[derive(Default)]
pub struct Gaps {
    running: BTreeMap<String, Running>,
    unsettled: BTreeMap<String, Unsettled>,
    settled: BTreeMap<(String, u64), Gap>,
    dirty: BTreeSet<(String, u64)>,
}

impl Gaps {
    /// A proxy said hello; `started` is when its process did, 0 if it doesn't say.
    pub fn opened(&mut self, proxy: &str, service: &str, started: u64, now: u64) {
        if self.running.get(proxy).is_some_and(|running| running.streams > 0) {
            // The older stream's end was not seen yet.
            self.lost(proxy, now);
        }
        let running = self.running.entry(proxy.to_owned()).or_insert_with(|| Running {
            service: service.to_owned(),
            started,
            streams: 0,
            heard: now,
            left: false,
        });
        running.streams += 1;
        running.started = started;
        running.heard = now;
        running.left = false;
        let Some(unsettled) = self.unsettled.get_mut(proxy) else { return };
        unsettled.back = Some(now);
        unsettled.same = started != 0 && started == unsettled.started;
        let both_said = started != 0 && unsettled.started != 0;
        if both_said && !unsettled.same {
            self.restarted(proxy);
        }
    }

    /// A proxy says that it leaves.
    pub fn left(&mut self, proxy: &str) {
        if let Some(running) = self.running.get_mut(proxy) {
            running.left = true;
        }
    }

    /// A stream ended.
    pub fn closed(&mut self, proxy: &str, now: u64) {
        let Some(running) = self.running.get_mut(proxy) else { return };
        running.streams = running.streams.saturating_sub(1);
        if running.streams > 0 {
            return;
        }
        if !running.left {
            self.lost(proxy, now);
        }
        self.running.remove(proxy);
    }

    fn lost(&mut self, proxy: &str, now: u64) {
        let Some(running) = self.running.get(proxy) else { return };
        let from = running.heard.max(now.saturating_sub(SEND_SECONDS + NOTICE_SECONDS)).min(now);
        let gap = Gap {
            proxy: proxy.to_owned(),
            service: running.service.clone(),
            from,
            to: now,
            fate: Fate::Away,
        };
        let started = running.started;
        let unsettled = Unsettled { gap, started, by_us: false, back: None, same: false };
        self.unsettled.entry(proxy.to_owned()).or_insert(unsettled);
    }

    /// After a start: a workload that has not left, and the last window that it counted in.
    pub fn expected(&mut self, proxy: &str, service: &str, last_window: Option<u64>, now: u64) {
        let gap = Gap {
            proxy: proxy.to_owned(),
            service: service.to_owned(),
            from: last_window.unwrap_or(now).min(now),
            to: now,
            fate: Fate::Away,
        };
        let unsettled = Unsettled { gap, started: 0, by_us: true, back: None, same: false };
        self.unsettled.entry(proxy.to_owned()).or_insert(unsettled);
    }

    /// A new increment; `last` is the greatest number that was known before.
    pub fn counted(&mut self, proxy: &str, last: Option<u64>, sequence: u64, now: u64) {
        let mut started = 0;
        if let Some(running) = self.running.get_mut(proxy) {
            running.heard = now;
            started = running.started;
        }
        let goes_on = |last: u64| last >= started && last.abs_diff(sequence) <= SAME_PROCESS_MAX;
        match self.unsettled.get(proxy) {
            Some(unsettled) if unsettled.same || last.is_some_and(goes_on) => {
                self.unsettled.remove(proxy);
            }
            _ => self.restarted(proxy),
        }
    }

    fn restarted(&mut self, proxy: &str) {
        let Some(Unsettled { gap, by_us, back, .. }) = self.unsettled.remove(proxy) else { return };
        // What came to an end while nobody watched did so before the name's next hello.
        let to = if by_us { back.unwrap_or(gap.to) } else { gap.to };
        self.settle(Gap { fate: Fate::Restarted, to, ..gap });
    }

    /// The lease ended: nobody comes back.
    pub fn vanished(&mut self, proxy: &str, now: u64) {
        if let Some(Unsettled { gap, by_us, .. }) = self.unsettled.remove(proxy) {
            let to = if by_us { now } else { gap.to };
            self.settle(Gap { fate: Fate::Vanished, to, ..gap });
        }
        self.running.remove(proxy);
    }

    fn settle(&mut self, gap: Gap) {
        let key = (gap.proxy.clone(), gap.from);
        self.settled.insert(key.clone(), gap);
        self.dirty.insert(key);
        if self.settled.len() > GAPS_MAX
            && let Some(oldest) =
                self.settled.iter().min_by_key(|(_, gap)| gap.to).map(|(key, _)| key.clone())
        {
            self.settled.remove(&oldest);
            self.dirty.insert(oldest);
        }
    }

    /// Those that touch a span of time, the newest first.
    pub fn between(&mut self, from: u64, to: u64, now: u64) -> Vec<Gap> {
        self.forget_caught_up(now);
        let all = self.settled.values().chain(self.unsettled.values().map(|unsettled| &unsettled.gap));
        let mut found: Vec<Gap> = all.filter(|gap| gap.from < to && gap.to >= from).cloned().collect();
        found.sort_by(|a, b| (b.to, &b.proxy).cmp(&(a.to, &a.proxy)));
        found
    }

    /// A proxy that came back, after a restart of ours or as the same process, and had nothing to send lost nothing.
    fn forget_caught_up(&mut self, now: u64) {
        self.unsettled.retain(|_, unsettled| {
            !(unsettled.by_us || unsettled.same)
                || unsettled.back.is_none_or(|back| now < back + CATCH_UP_SECONDS)
        });
    }

    /// Drops what is older than any window.
    pub fn expire(&mut self, now: u64) {
        self.forget_caught_up(now);
        let horizon = now.saturating_sub(KEPT_SECONDS);
        let gone: Vec<_> =
            self.settled.iter().filter(|(_, gap)| gap.to < horizon).map(|(key, _)| key.clone()).collect();
        for key in gone {
            self.settled.remove(&key);
            self.dirty.insert(key);
        }
    }

    /// What has changed since the last call: bytes to keep, or `None` to delete.
    pub fn take_dirty(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.dirty)
            .into_iter()
            .map(|key| {
                let bytes = self.settled.get(&key).and_then(|gap| serde_json::to_vec(gap).ok());
                (key, bytes)
            })
            .collect()
    }

    /// Takes back what `take_dirty` gave. A gap of a newer version is left out: it is a remark, not a count.
    pub fn load(&mut self, bytes: &[u8]) {
        if let Ok(gap) = serde_json::from_slice::<Gap>(bytes) {
            self.settled.insert((gap.proxy.clone(), gap.from), gap);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: &str = "default/be4-1";
    const MICROS: u64 = 1_000_000;

    /// A proxy that counted at 100 s and whose stream ended at 101 s.
    fn cut_off() -> Gaps {
        let mut gaps = Gaps::default();
        gaps.opened(PROXY, "default/be4", 0, 50);
        gaps.counted(PROXY, None, 50 * MICROS, 60);
        gaps.counted(PROXY, Some(50 * MICROS), 50 * MICROS + 1, 100);
        gaps.closed(PROXY, 101);
        gaps
    }

    fn told(gaps: &mut Gaps, now: u64) -> Vec<(Fate, u64, u64)> {
        gaps.between(0, now, now).iter().map(|gap| (gap.fate, gap.from, gap.to)).collect()
    }

    #[test]
    fn a_killed_proxy_vanishes_and_its_unsent_second_is_named() {
        let mut gaps = cut_off();
        assert_eq!(told(&mut gaps, 102), [(Fate::Away, 100, 101)]);
        gaps.vanished(PROXY, 116);
        assert_eq!(told(&mut gaps, 200), [(Fate::Vanished, 100, 101)]);
        assert_eq!(gaps.between(0, 100, 200), [], "before it");
        assert_eq!(gaps.between(102, 200, 200), [], "after it");
    }

    #[test]
    fn one_that_was_only_cut_off_lost_nothing() {
        let mut gaps = cut_off();
        gaps.opened(PROXY, "default/be4", 0, 103);
        gaps.counted(PROXY, Some(50 * MICROS + 1), 50 * MICROS + 2, 103);
        assert_eq!(told(&mut gaps, 200), []);
    }

    #[test]
    fn another_process_of_the_name_is_told_by_its_numbers() {
        let mut gaps = cut_off();
        gaps.opened(PROXY, "default/be4", 0, 103);
        gaps.counted(PROXY, Some(50 * MICROS + 1), 102 * MICROS, 104);
        assert_eq!(told(&mut gaps, 200), [(Fate::Restarted, 100, 101)]);
    }

    /// Started at 50 s and counted until 100 s; its stream ended, and the name came back as a process of `started`.
    fn back_as(started: u64) -> Gaps {
        let mut gaps = Gaps::default();
        gaps.opened(PROXY, "default/be4", 50 * MICROS, 50);
        gaps.counted(PROXY, None, 50 * MICROS, 100);
        gaps.closed(PROXY, 101);
        gaps.opened(PROXY, "default/be4", started, 103);
        gaps
    }

    #[test]
    fn a_hello_says_at_once_whether_it_is_another_process() {
        assert_eq!(told(&mut back_as(102 * MICROS), 103), [(Fate::Restarted, 100, 101)], "before it counts");
        // A clock that was set back: its numbers alone would look as if they went on.
        let mut set_back = back_as(50 * MICROS - 3);
        set_back.counted(PROXY, Some(50 * MICROS), 50 * MICROS + 1, 104);
        assert_eq!(told(&mut set_back, 104), [(Fate::Restarted, 100, 101)]);
    }

    #[test]
    fn the_same_process_has_lost_nothing_also_when_it_has_nothing_to_send() {
        let mut quiet = back_as(50 * MICROS);
        assert_eq!(told(&mut quiet, 104), [(Fate::Away, 100, 101)], "what it kept may be on its way");
        assert_eq!(told(&mut quiet, 103 + CATCH_UP_SECONDS), []);
        // So much in between that its numbers alone would look like another's.
        let mut busy = back_as(50 * MICROS);
        busy.counted(PROXY, Some(50 * MICROS), 51 * MICROS, 104);
        assert_eq!(told(&mut busy, 104), []);
    }

    #[test]
    fn after_a_restart_of_ours_a_process_that_started_since_the_last_number_is_another() {
        let last = 50 * MICROS;
        for (started, gaps_found) in [(last - 5, 0), (last + 5, 1)] {
            let mut gaps = Gaps::default();
            gaps.expected(PROXY, "default/be4", Some(90), 100);
            gaps.opened(PROXY, "default/be4", started, 101);
            gaps.counted(PROXY, Some(last), last + 6, 101);
            assert_eq!(told(&mut gaps, 200).len(), gaps_found, "started {started}");
        }
    }

    #[test]
    fn a_new_process_before_the_old_stream_s_end_is_seen() {
        let mut gaps = Gaps::default();
        gaps.opened(PROXY, "default/be4", 0, 50);
        gaps.counted(PROXY, None, 50 * MICROS, 60);
        gaps.opened(PROXY, "default/be4", 0, 62);
        gaps.closed(PROXY, 63);
        gaps.counted(PROXY, Some(50 * MICROS), 61 * MICROS, 64);
        assert_eq!(told(&mut gaps, 200), [(Fate::Restarted, 60, 62)]);
    }

    #[test]
    fn one_that_says_goodbye_leaves_no_gap() {
        let mut gaps = Gaps::default();
        gaps.opened(PROXY, "default/be4", 0, 50);
        gaps.left(PROXY);
        gaps.closed(PROXY, 101);
        gaps.vanished(PROXY, 120);
        assert_eq!(told(&mut gaps, 200), []);
    }

    #[test]
    fn a_restart_of_the_control_plane_is_no_gap_unless_a_proxy_ended_meanwhile() {
        let mut gaps = Gaps::default();
        for proxy in ["quiet", "busy", "restarted", "gone"] {
            gaps.expected(proxy, "default/be4", Some(90), 100);
        }
        assert_eq!(told(&mut gaps, 100).len(), 4, "until they come back nobody knows");
        for proxy in ["quiet", "busy", "restarted"] {
            gaps.opened(proxy, "default/be4", 0, 101);
        }
        gaps.counted("busy", Some(7), 8, 101);
        gaps.counted("restarted", Some(7), 7 + 2 * SAME_PROCESS_MAX, 102);
        gaps.vanished("gone", 116);
        let rest: Vec<(String, u64, u64)> =
            gaps.between(0, 200, 200).into_iter().map(|gap| (gap.proxy, gap.from, gap.to)).collect();
        assert_eq!(rest, [("gone".to_owned(), 90, 116), ("restarted".to_owned(), 90, 101)]);
    }

    #[test]
    fn they_outlive_a_restart_and_are_bounded_in_time_and_number() {
        let mut gaps = cut_off();
        gaps.vanished(PROXY, 116);
        let dirty = gaps.take_dirty();
        let mut again = Gaps::default();
        again.load(dirty[0].1.as_ref().unwrap());
        assert_eq!(told(&mut again, 200), [(Fate::Vanished, 100, 101)]);
        again.expire(101 + KEPT_SECONDS + 1);
        assert_eq!(again.take_dirty(), [((PROXY.to_owned(), 100), None)]);
        for number in 0..GAPS_MAX as u64 + 5 {
            again.opened("p", "default/p", 0, number * 2);
            again.closed("p", number * 2 + 1);
            again.vanished("p", number * 2 + 1);
        }
        assert_eq!(again.settled.len(), GAPS_MAX);
    }
}
