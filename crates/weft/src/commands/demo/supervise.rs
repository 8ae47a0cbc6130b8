//! The demo's child processes: started, watched, started again when they die, and ended.
//!
//! Each child is in a process group of its own (Ctrl-C reaches only the parent, which then ends them in
//! order) and holds the read end of a pipe: when the parent is killed the pipe closes and it ends too.

use std::ffi::OsString;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{mpsc, oneshot, watch};

/// How to start one child, again and again.
#[derive(Clone)]
pub struct Recipe {
    pub name: String,
    pub args: Vec<OsString>,
    pub env: Vec<(String, String)>,
    /// Whether its first line on stdout is a JSON line of its ports.
    pub prints_ports: bool,
    pub log: PathBuf,
}

/// A child and the pipe whose end it watches. The pipe is held here because waiting
/// for a child closes the one that the child's handle holds.
struct Started {
    child: Child,
    _pipe: Option<ChildStdin>,
}

/// A child that is kept running until `stop`.
pub struct Kept {
    name: String,
    stop: watch::Sender<bool>,
    ended: oneshot::Receiver<()>,
}

/// Starts a child and a task that restarts it; returns when it has printed its ports (if it does).
pub async fn keep(recipe: Recipe, said: mpsc::UnboundedSender<String>) -> anyhow::Result<Kept> {
    let child = start(&recipe).await?;
    let (stop, stopped) = watch::channel(false);
    let (end, ended) = oneshot::channel();
    let name = recipe.name.clone();
    tokio::spawn(async move {
        watch_over(recipe, child, stopped, said).await;
        let _ = end.send(());
    });
    Ok(Kept { name, stop, ended })
}

impl Kept {
    /// Asks the child to end and waits; after `patience` it is killed.
    pub async fn stop(self, patience: Duration) {
        let _ = self.stop.send(true);
        if tokio::time::timeout(patience + Duration::from_secs(1), self.ended).await.is_err() {
            tracing::warn!(child = self.name, "did not end in time");
        }
    }
}

async fn watch_over(
    recipe: Recipe,
    mut running: Started,
    mut stopped: watch::Receiver<bool>,
    said: mpsc::UnboundedSender<String>,
) {
    loop {
        let status = tokio::select! {
            status = running.child.wait() => status,
            () = told(&mut stopped) => return end(&mut running.child).await,
        };
        let how = status.map_or_else(|e| e.to_string(), |s| s.to_string());
        let _ = said.send(format!("{} ended ({how}); starting it again on its state", recipe.name));
        // A child that can't start is tried again, slowly, for as long as the demo runs.
        loop {
            match start(&recipe).await {
                Ok(again) => {
                    running = again;
                    break;
                }
                Err(error) => {
                    let _ = said.send(format!("{} does not start: {error:#}", recipe.name));
                    tokio::select! {
                        () = tokio::time::sleep(Duration::from_secs(1)) => {}
                        () = told(&mut stopped) => return,
                    }
                }
            }
        }
    }
}

async fn told(stopped: &mut watch::Receiver<bool>) {
    // An error means that the demo itself is gone, which is the same news.
    let _ = stopped.wait_for(|stop| *stop).await;
}

async fn end(child: &mut Child) {
    if let Some(pid) =
        child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw)
    {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    if tokio::time::timeout(Duration::from_secs(8), child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

async fn start(recipe: &Recipe) -> anyhow::Result<Started> {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&recipe.log)
        .with_context(|| format!("cannot open the log {}", recipe.log.display()))?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(&recipe.args)
        .envs(recipe.env.iter().cloned())
        .env(crate::commands::FOLLOW_PARENT, "1")
        .stdin(Stdio::piped())
        .stdout(if recipe.prints_ports { Stdio::piped() } else { Stdio::from(log.try_clone()?) })
        .stderr(log)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {}", recipe.name))?;
    let pipe = child.stdin.take();
    if recipe.prints_ports {
        let Some(stdout) = child.stdout.take() else { bail!("{} has no output", recipe.name) };
        let mut lines = BufReader::new(stdout).lines();
        let line = tokio::time::timeout(Duration::from_secs(20), lines.next_line()).await;
        let Ok(Ok(Some(line))) = line else {
            let _ = child.kill().await;
            bail!("{} did not start: {}", recipe.name, last_lines(&recipe.log));
        };
        tracing::debug!(child = recipe.name, line, "started");
        // The pipe must stay open and be read, or the child's next line would end it.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    }
    Ok(Started { child, _pipe: pipe })
}

/// The end of a log, for an error message.
fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(3).collect();
    if lines.is_empty() {
        format!("nothing in {}", log.display())
    } else {
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}

/// What the restart tasks have to say, for the story's printer.
pub fn voice() -> (mpsc::UnboundedSender<String>, mpsc::UnboundedReceiver<String>) {
    mpsc::unbounded_channel()
}
