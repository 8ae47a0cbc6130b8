//! Network namespaces of a test: made with exact names, joined by veth pairs, removed when dropped.
//!
//! Nothing is changed outside them: the veth pairs are born inside and end with them.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// One namespace with its loopback up.
pub struct Namespace {
    pub name: String,
}

impl Namespace {
    /// `role` and this process's id make the name, so that two runs side by side don't meet.
    pub fn create(role: &str) -> anyhow::Result<Namespace> {
        let name = format!("weft-{}-{role}", std::process::id());
        ip(&["netns", "add", &name])?;
        let made = Namespace { name };
        ip(&["-n", &made.name, "link", "set", "lo", "up"])?;
        Ok(made)
    }

    /// A veth pair from here to `other`; each end has its name and its address (`10.0.0.1/30`).
    pub fn join(&self, here: (&str, &str), other: &Namespace, there: (&str, &str)) -> anyhow::Result<()> {
        ip(&[
            "-n",
            &self.name,
            "link",
            "add",
            here.0,
            "type",
            "veth",
            "peer",
            "name",
            there.0,
            "netns",
            &other.name,
        ])?;
        for (namespace, (device, address)) in [(self, here), (other, there)] {
            ip(&["-n", &namespace.name, "address", "add", address, "dev", device])?;
            ip(&["-n", &namespace.name, "link", "set", device, "up"])?;
        }
        Ok(())
    }

    /// Packets from here to `address` go by `gateway`.
    pub fn route(&self, address: &str, gateway: &str) -> anyhow::Result<()> {
        ip(&["-n", &self.name, "route", "add", address, "via", gateway])
    }

    /// `program` started inside; `ip netns exec` becomes the program, so its pid is the child's.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs `work` on a thread inside. Sockets that it opens, and threads that it starts, stay inside.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        let file = File::open(Path::new("/run/netns").join(&self.name))?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || -> anyhow::Result<T> {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok(work())
            });
            thread.join().map_err(|_| anyhow::anyhow!("the work inside {} panicked", self.name))?
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = ip(&["netns", "delete", &self.name]);
    }
}

fn ip(args: &[&str]) -> anyhow::Result<()> {
    let out = Command::new("ip").args(args).output().context("cannot run ip")?;
    if !out.status.success() {
        bail!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(())
}
