//! One file per command, and the little they share.

pub mod audit;
pub mod bootstrap;
pub mod check;
pub mod control;
pub mod demo;
pub mod explain;
pub mod identity;
pub mod misc;
pub mod objects;
pub mod prove;
pub mod proxy;
pub mod questions;

use std::path::PathBuf;
use std::time::Duration;

/// The state directory: `--state`, else `$STATE_DIRECTORY`, else `$XDG_STATE_HOME/weft`, else
/// `~/.local/state/weft`.
pub fn state_dir(flag: Option<&PathBuf>) -> PathBuf {
    if let Some(dir) = flag {
        return dir.clone();
    }
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(dir) = var("STATE_DIRECTORY") {
        return dir;
    }
    if let Some(dir) = var("XDG_STATE_HOME") {
        return dir.join("weft");
    }
    var("HOME").unwrap_or_else(|| PathBuf::from("/var/lib")).join(".local/state/weft")
}

/// A duration as people write it: `90s`, `1.5m`, `30m`, `24h`, `250ms`, `2d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 =
        number.parse().map_err(|_| format!("`{text}` is no duration; write 90s, 30m or 24h"))?;
    let seconds = match unit {
        "ms" => number / 1000.0,
        "s" | "" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        "d" => number * 86400.0,
        _ => return Err(format!("`{unit}` is no unit of time; use ms, s, m, h or d")),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| format!("`{text}` is out of range"))
}

/// A service's name on the command line: what can't be one is told before anything else about it.
pub fn service_name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let valid = (1..=63).contains(&text.len())
        && text.chars().all(|c| plain(c) || c == '-')
        && text.starts_with(plain)
        && text.ends_with(plain);
    if valid {
        Ok(text.to_owned())
    } else {
        Err("a name is of a-z, 0-9 and -, at most 63, and starts and ends with a letter or digit".to_owned())
    }
}

/// Set in the children of `weft demo`, whose standard input is a pipe that the parent holds open.
pub const FOLLOW_PARENT: &str = "WEFT_FOLLOW_PARENT";

/// Whether `weft demo` started this process.
pub fn has_parent() -> bool {
    std::env::var_os(FOLLOW_PARENT).is_some()
}

/// A child of the demo ends when its parent does, however the parent ended: the pipe closes.
pub fn follow_parent() {
    if !has_parent() {
        return;
    }
    std::thread::spawn(|| {
        let mut sink = [0u8; 64];
        while matches!(std::io::Read::read(&mut std::io::stdin(), &mut sink), Ok(n) if n > 0) {}
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM);
    });
}

/// No core file, and nothing for a program that takes cores through a pipe either: keys are in this memory. A limit of
/// one byte keeps the kernel from both, where 0 would stop files only (core(5)).
pub fn keep_memory_private() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    // Lowering a limit of one's own is always permitted; where it is not, there is nobody to be told.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(1), maximum: Some(1) });
}

/// A mistake in how a command was called, found after its arguments were parsed: exit status 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(String);

/// One sentence: what is wrong with the arguments, and what would be right.
pub fn usage(message: impl Into<String>) -> anyhow::Error {
    Usage(message.into()).into()
}

/// Runs a command's asynchronous part.
pub fn block_on<T>(work: impl Future<Output = T>) -> std::io::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    Ok(runtime.block_on(work))
}

/// SIGTERM or Ctrl-C.
pub async fn told_to_stop() {
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminate => {}
    }
}

#[cfg(test)]
mod tests {
    use super::duration;
    use std::time::Duration;

    #[test]
    fn names_of_services() {
        for text in ["be4", "a", "a-1", &"x".repeat(63)] {
            assert!(super::service_name(text).is_ok(), "{text}");
        }
        for text in ["", "Be4", "be4 x", "-a", "a-", "a/b", "a.b", &"x".repeat(64)] {
            assert!(super::service_name(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_as_people_write_them() {
        for (text, want) in
            [("90s", 90_000), ("1.5m", 90_000), ("250ms", 250), ("24h", 86_400_000), ("7", 7_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(want)), "{text}");
        }
        for text in ["", "x", "5 parsecs", "-3s", "1e99h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
