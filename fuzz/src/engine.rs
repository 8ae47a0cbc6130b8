//! libFuzzer around one target, which `WEFT_FUZZ_TARGET` names. Its seeds are written into `WEFT_FUZZ_SEEDS` first.

#![no_main]
#![allow(clippy::expect_used, reason = "without its settings it cannot run")]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

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
        run(data);
    }
});
