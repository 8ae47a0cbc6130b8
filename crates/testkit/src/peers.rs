//! The real peers: where they are, and what happens when one is missing.

use std::path::PathBuf;

/// A peer's program. `None` only when `--offline-peers` was asked for, which is said aloud; in every
/// other case a missing peer is a failed test, never a skipped one.
pub fn program(name: &str) -> Option<PathBuf> {
    if std::env::var_os("WEFT_OFFLINE_PEERS").is_some() {
        eprintln!("LEFT OUT: this test needs {name}, and --offline-peers was asked for");
        return None;
    }
    let folder = std::env::var_os("WEFT_PEERS").map(PathBuf::from);
    let candidates = folder.iter().map(|f| f.join("bin")).chain(path_dirs());
    for dir in candidates {
        let file = dir.join(name);
        if file.is_file() {
            return Some(file);
        }
    }
    #[expect(clippy::panic, reason = "a test that can't run is a failure, and this is how a test fails")]
    {
        panic!("{name} is not installed; `cargo xtask test` installs it (looked in WEFT_PEERS and PATH)");
    }
}

fn path_dirs() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    dirs.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    dirs
}

/// Whether this process may make network namespaces; CI must be able to.
pub fn root() -> bool {
    rustix::process::geteuid().is_root()
}
