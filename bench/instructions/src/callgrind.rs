//! Instructions a request: the proxy under callgrind, dumped by thread before and after a counted window of requests.
//!
//! A dump sets the counts to zero, so a window holds neither the start nor the warm-up. What comes by time and not by
//! request (the access log's flush, sweeps) is in it with about a thousandth.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use weft_bench::weft::{Mesh, Proxy};

use crate::roads::{Counts, Road, alive, drive};

/// Enough for pools, tables and buffers to have their lasting size.
const WARM_UP: usize = 200;
const REQUESTS: usize = 400;
const WINDOWS: usize = 5;

pub fn measure(mesh: &Mesh, weft: &Path, dir: &Path) -> anyhow::Result<Vec<Counts>> {
    let mut all = Vec::new();
    {
        let _callee = mesh.proxy("be1")?;
        let mut caller = Counted::start(mesh, weft, dir, "fe")?;
        let port = caller.proxy.port("outbound")?;
        for road in Road::OUTBOUND {
            all.push(caller.count(road, port)?);
        }
    }
    let mut callee = Counted::start(mesh, weft, dir, "be1")?;
    let caller = mesh.proxy("fe")?;
    all.push(callee.count(Road::HopIn, caller.port("outbound")?)?);
    Ok(all)
}

/// A proxy under callgrind.
struct Counted {
    proxy: Proxy,
    dumps: PathBuf,
    dumped: u32,
}

impl Counted {
    fn start(mesh: &Mesh, weft: &Path, dir: &Path, service: &str) -> anyhow::Result<Counted> {
        let dumps = dir.join(format!("callgrind-{service}"));
        std::fs::create_dir_all(&dumps)?;
        let mut command = Command::new("valgrind");
        command
            .args(["--tool=callgrind", "--separate-threads=yes", "--quiet"])
            .arg(format!("--callgrind-out-file={}", dumps.join("out").display()))
            .arg(weft)
            .args(mesh.proxy_arguments(service)?);
        Ok(Counted { proxy: mesh.started(&mut command, service)?, dumps, dumped: 0 })
    }

    /// The instructions of each request on `road`, whose caller connects to `port`.
    fn count(&mut self, road: Road, port: u16) -> anyhow::Result<Counts> {
        let mut client = road.client(port)?;
        drive(client.as_mut(), WARM_UP)?;
        let mut each = Vec::new();
        self.dump()?;
        for _ in 0..WINDOWS {
            drive(client.as_mut(), REQUESTS)?;
            each.push(self.dump()? as f64 / REQUESTS as f64);
        }
        alive(&mut self.proxy)?;
        Ok(Counts { road, each })
    }

    /// Has callgrind write what it counted since the last dump; returns the busiest thread's sum, the worker's.
    fn dump(&mut self) -> anyhow::Result<u64> {
        self.dumped += 1;
        let pid = self.proxy.process.child.id();
        let out = Command::new("vgdb")
            .args([&format!("--pid={pid}"), "--wait=10", "dump"])
            .output()
            .context("cannot start vgdb (Debian: valgrind)")?;
        if !out.status.success() {
            bail!("callgrind made no dump: {}", String::from_utf8_lossy(&out.stderr).trim());
        }
        let prefix = format!("out.{}-", self.dumped);
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(sum) = busiest(&self.dumps, &prefix)? {
                return Ok(sum);
            }
            if Instant::now() > end {
                bail!("callgrind left no file {prefix}… in {}", self.dumps.display());
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

/// The largest sum of a dump's files, one a thread.
fn busiest(dir: &Path, prefix: &str) -> anyhow::Result<Option<u64>> {
    let mut most = None;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            let text = std::fs::read_to_string(entry.path())?;
            most = most.max(total(&text));
        }
    }
    Ok(most)
}

/// `totals: 123` at the end of a dump.
fn total(dump: &str) -> Option<u64> {
    dump.lines().rev().find_map(|line| line.strip_prefix("totals:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_says_its_sum_at_the_end() {
        assert_eq!(total("version: 1\nsummary: 9\n\nfn=(1)\n0 5\n\ntotals: 12345\n"), Some(12_345));
        assert_eq!(total("version: 1\n"), None, "a file that is still being written");
    }
}
