//! A child process of a test: its output kept in a file, ended by its own pid when dropped.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

pub struct Process {
    child: Child,
    pub name: String,
    pub log: PathBuf,
}

impl Process {
    /// Starts `command` with stdout and stderr in `log`.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> anyhow::Result<Process> {
        let file = std::fs::File::options().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Process { child, name: name.to_owned(), log: log.to_path_buf() })
    }

    /// Starts `command` and reads the first line of its stdout as JSON (the `--print-ports` line).
    pub fn start_with_ports(
        name: &str,
        command: &mut Command,
        log: &Path,
    ) -> anyhow::Result<(Process, serde_json::Value)> {
        let file = std::fs::File::options().create(true).append(true).open(log)?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let Some(stdout) = child.stdout.take() else { bail!("{name} has no stdout") };
        let (send, lines) = mpsc::channel();
        // Reads on, so that the child's later lines never block it.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        let process = Process { child, name: name.to_owned(), log: log.to_path_buf() };
        let Ok(line) = lines.recv_timeout(Duration::from_secs(30)) else {
            bail!("{name} printed no ports in 30 s: {}", process.log_text());
        };
        let ports = serde_json::from_str(&line).with_context(|| format!("{name} printed `{line}`"))?;
        Ok((process, ports))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for its end; `None` when it still runs after `patience`.
    pub fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            if Instant::now() > deadline {
                return None;
            }
            crate::wait::pause(Duration::from_millis(10));
        }
    }

    pub fn running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Resident memory in KiB.
    pub fn rss_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        line.and_then(|l| l.trim().trim_end_matches(" kB").trim().parse().ok()).unwrap_or(0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.running() {
            self.signal(rustix::process::Signal::TERM);
            if self.wait(Duration::from_secs(3)).is_none() {
                self.kill();
            }
        }
    }
}

/// Runs a command to its end within a minute and returns what it printed.
pub fn run<S: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = S>,
) -> anyhow::Result<Output> {
    let mut command = Command::new(&program);
    command.args(args).stdin(Stdio::null());
    command.output().with_context(|| format!("cannot run {}", program.as_ref().to_string_lossy()))
}
