//! The one thread that looks: memory, file descriptors, and whether the workers come round in time.
//!
//! A thread of its own, since a control thread that decodes a large configuration must not be what keeps the proxy from
//! seeing that it runs out. It looks once a second, and sooner the less memory is left.

use std::{
    fs,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use super::{Level, Overload, Resource, memory::Memory};
use crate::net::descriptors::Descriptors;

/// How often a worker's loop comes round of its own.
pub const BEAT: Duration = Duration::from_millis(500);
/// A worker that is late by this much is as busy as can be.
const LATE_MAX: Duration = Duration::from_secs(1);
/// Of 8: how much one look at the CPU counts against those before it. A process that was stopped for a while is late
/// once, which is no overload.
const NEW_OF_EIGHT: u32 = 2;

const LOOK_MAX: Duration = Duration::from_secs(1);
const LOOK_MIN: Duration = Duration::from_millis(5);
/// How often memory is given back at most.
const RELEASE_INTERVAL: Duration = Duration::from_millis(50);
/// Three times what a flood of half heads over loopback fills: a look comes before a third of what is left is gone.
const FILLED_A_SECOND_MAX: u64 = 1024 * 1024 * 1024;

/// By how many microseconds a beat is late that follows the one of `last`.
pub fn lateness(last: u64, now: u64) -> u64 {
    let beat = u64::try_from(BEAT.as_micros()).unwrap_or(0);
    now.saturating_sub(last).saturating_sub(beat)
}

/// Ends the sampler when it is dropped.
pub struct Sampler(Option<(mpsc::Sender<()>, std::thread::JoinHandle<()>)>);

impl Drop for Sampler {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.0.take() {
            drop(stop);
            let _ = thread.join();
        }
    }
}

/// Looks until the answer is dropped.
pub fn start(overload: Arc<Overload>, memory: Memory) -> std::io::Result<Sampler> {
    let (stop, stopped) = mpsc::channel();
    let look = move || {
        let mut cpu = 0;
        let mut wait = LOOK_MIN;
        let mut released = Instant::now();
        while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
            if overload.level(Resource::Memory) > Level::Normal && released.elapsed() >= RELEASE_INTERVAL {
                overload.release_memory();
                released = Instant::now();
            }
            wait = self::look(&overload, &memory, &mut cpu);
        }
    };
    let thread = std::thread::Builder::new().name("overload".to_owned()).spawn(look)?;
    Ok(Sampler(Some((stop, thread))))
}

/// Looks at everything once; says when to look again.
fn look(overload: &Overload, memory: &Memory, cpu: &mut u32) -> Duration {
    let mut wait = LOOK_MAX;
    if let Some(usage) = memory.look() {
        overload.note(Resource::Memory, usage.per_mille());
        let left = usage.limit.saturating_sub(usage.used);
        let full_in = Duration::from_millis(left.saturating_mul(1000) / FILLED_A_SECOND_MAX);
        wait = full_in.clamp(LOOK_MIN, LOOK_MAX);
    }
    if let Some(open) = open_descriptors() {
        overload.note(Resource::Descriptors, Descriptors::of_process().per_mille(open));
    }
    let late = overload.latest().min(LATE_MAX).as_millis();
    let late = u32::try_from(late).unwrap_or(u32::MAX);
    // By time and not by look, else more looks would make it hasty.
    let weight = NEW_OF_EIGHT * u32::try_from(wait.as_millis()).unwrap_or(1000);
    *cpu = (*cpu * (8000 - weight) + late * weight) / 8000;
    overload.note(Resource::Cpu, *cpu);
    wait
}

/// How many descriptors this process has open.
fn open_descriptors() -> Option<u64> {
    // Since Linux 6.2 the directory's size is the number; before, it is 0.
    let size = fs::metadata("/proc/self/fd").ok()?.len();
    if size > 0 {
        return Some(size);
    }
    Some(fs::read_dir("/proc/self/fd").ok()?.count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;

    #[test]
    fn this_process_has_descriptors_and_each_more_counts() {
        let before = open_descriptors().unwrap();
        let more: Vec<_> = (0..50).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        let open = open_descriptors().unwrap();
        drop(more);
        // Other tests of this process come and go.
        assert!(before > 2 && open > before + 25, "{before}, then {open}");
    }

    #[test]
    fn one_stop_is_no_overload_and_lasting_lateness_is() {
        let overload = Overload::new(&Limits::default(), 1);
        let memory = Memory::default();
        let mut cpu = 0;
        overload.beats[0].late.store(9_000_000, super::super::Ordering::Relaxed);
        look(&overload, &memory, &mut cpu);
        assert_eq!(cpu, 250);
        assert!(!overload.actions().refuses());
        let mut looks = 1;
        while !overload.actions().refuses() {
            overload.beats[0].late.store(2_000_000, super::super::Ordering::Relaxed);
            look(&overload, &memory, &mut cpu);
            looks += 1;
            assert!(looks < 30, "never");
        }
        assert!(looks > 8, "{looks} seconds are too hasty");
        assert!(!overload.actions().closed() && !overload.actions().shrinks());
        for _ in 0..3 {
            look(&overload, &memory, &mut cpu);
        }
        assert!(!overload.actions().refuses(), "{cpu}");
    }

    #[test]
    fn beats_come_with_their_delay() {
        assert_eq!(lateness(1_000_000, 1_400_000), 0);
        assert_eq!(lateness(1_000_000, 1_700_000), 200_000);
    }
}
