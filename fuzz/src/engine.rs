//! libFuzzer around one target, which `WEFT_FUZZ_TARGET` names. Its seeds are written into `WEFT_FUZZ_SEEDS` first.

#![no_main]
#![allow(clippy::expect_used, reason = "without its settings it cannot run")]

use std::{sync::OnceLock, time::Duration};

use libfuzzer_sys::fuzz_target;
use rustix::time::{ClockId, clock_gettime};

/// Of one input; more is a find. Time that goes by on a busy machine is none.
const INPUT_CPU_MAX: Duration = Duration::from_secs(5);

static RUN: OnceLock<fn(&[u8])> = OnceLock::new();

fn prepare() {
    let name = std::env::var("WEFT_FUZZ_TARGET").expect("WEFT_FUZZ_TARGET names a target");
    let target = weft_fuzz::target(&name).expect("a target of that name");
    if let Some(folder) = std::env::var_os("WEFT_FUZZ_SEEDS") {
        for (number, seed) in (target.seeds)().into_iter().enumerate() {
            let path = std::path::Path::new(&folder).join(format!("seed-{number}"));
            std::fs::write(path, seed).expect("a folder for the seeds");
        }
    }
    let _ = RUN.set(target.run);
}

fuzz_target!(init: prepare(), |data: &[u8]| {
    if let Some(run) = RUN.get() {
        let before = cpu_time();
        run(data);
        let spent = cpu_time().saturating_sub(before);
        assert!(spent <= INPUT_CPU_MAX, "one input took {spent:?} of CPU time");
    }
});

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}
