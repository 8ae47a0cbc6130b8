//! Processes of a run: pinned to a core, measured by the scheduler's own figures, ended by their own pid.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

pub const PROXY_CORE: &str = "1";
pub const LOAD_CORE: &str = "0";

/// Where the processes of a run stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheduling {
    /// Each on its core: for figures in time.
    Pinned,
    /// Wherever the kernel puts them: for counts, on any machine.
    Free,
}

impl Scheduling {
    pub fn command(self, core: &str, program: impl AsRef<OsStr>) -> Command {
        match self {
            Scheduling::Pinned => pinned(core, program),
            Scheduling::Free => Command::new(program),
        }
    }
}

/// A command pinned to a core. As root it runs under `SCHED_FIFO`, so that other work cannot take the core away.
pub fn pinned(core: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = Command::new("chrt");
        command.args(["-f", "10", "taskset", "-c", core]);
        command
    } else {
        let mut command = Command::new("taskset");
        command.args(["-c", core]);
        command
    };
    command.arg(program);
    command
}

/// Lets this process and its children hold the connections of the largest scenario on both sides.
pub fn many_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const WANTED: u64 = 65_536;
    let now = getrlimit(Resource::Nofile);
    let hard = now.maximum.map(|hard| hard.max(WANTED));
    // Only root may raise the hard limit; else what it allows.
    if setrlimit(Resource::Nofile, Rlimit { current: Some(WANTED), maximum: hard }).is_err() {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum });
    }
}

/// How many connections a proxy can have that needs one descriptor for each side, some spared.
pub fn connections_max() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(65_536);
    usize::try_from(limit / 2).unwrap_or(usize::MAX).saturating_sub(100).min(12_000)
}

/// A child that ends with this value.
pub struct Running {
    pub child: Child,
    pub started: Instant,
    log: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    pub fn start(command: &mut Command, log: &Path) -> anyhow::Result<Running> {
        let file = std::fs::File::create(log).with_context(|| format!("cannot make {}", log.display()))?;
        let started = Instant::now();
        let child = command.stdin(Stdio::null()).stderr(file).spawn();
        let child = child.with_context(|| format!("cannot start {command:?}"))?;
        Ok(Running { child, started, log: log.to_owned() })
    }

    /// What it said before it ended, for whoever waited in vain.
    pub fn last_words(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default().trim().to_owned()
    }

    pub fn rss_kib(&self) -> anyhow::Result<f64> {
        self.processes().into_iter().try_fold(0.0, |sum, pid| {
            let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).context("no Rss")?;
            Ok(sum + line.trim().trim_end_matches("kB").trim().parse::<f64>()?)
        })
    }

    /// It and its children: nginx works in one.
    fn processes(&self) -> Vec<u32> {
        let pid = self.child.id();
        let children =
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        std::iter::once(pid).chain(children.split_whitespace().filter_map(|word| word.parse().ok())).collect()
    }

    /// Nanoseconds that all its threads have run.
    pub fn cpu_ns(&self) -> anyhow::Result<u64> {
        let mut sum = 0;
        for pid in self.processes() {
            for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
                let text = std::fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
                sum += text.split(' ').next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
            }
        }
        Ok(sum)
    }

    pub fn fail_if_ended(&mut self, what: &str) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{what} ended: {status}"),
            None => Ok(()),
        }
    }
}

/// Runs `work` and gives the CPU nanoseconds that `processes` used meanwhile.
pub fn cpu_of<T>(
    processes: &[&Running],
    work: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<(T, f64)> {
    let sum = || processes.iter().try_fold(0, |sum, one| anyhow::Ok(sum + one.cpu_ns()?));
    let before = sum()?;
    let done = work()?;
    Ok((done, (sum()? - before) as f64))
}

/// Runs to its end and returns what it printed.
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    let out = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {command:?}"))?;
    if !out.status.success() {
        bail!("{command:?} failed ({}): {}", out.status, String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Waits until `ready` says yes.
pub fn wait_until(what: &str, limit: Duration, mut ready: impl FnMut() -> bool) -> anyhow::Result<()> {
    let end = Instant::now() + limit;
    while !ready() {
        if Instant::now() > end {
            bail!("{what}: not in {limit:?}");
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    Ok(())
}

/// What this machine and its programs are, for the report.
pub fn about(peers: &Path) -> Vec<String> {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let first_line = |command: &mut Command| {
        let out = command.output().ok();
        let text = out.map(|out| [out.stdout, out.stderr].concat()).unwrap_or_default();
        String::from_utf8_lossy(&text).trim().lines().next().unwrap_or("not there").trim().to_owned()
    };
    let envoy = first_line(Command::new(peers.join("bin/envoy")).arg("--version"));
    vec![
        format!("{} × {}", cores, model.trim_start_matches([' ', '\t', ':'])),
        first_line(Command::new("uname").args(["-sr"])),
        format!("Envoy {}", envoy.rsplit('/').nth(3).unwrap_or(&envoy)),
        first_line(Command::new("haproxy").arg("-v")),
        first_line(Command::new("nginx").arg("-v")),
    ]
}
