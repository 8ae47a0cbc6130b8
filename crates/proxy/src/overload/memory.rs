//! How much memory there is and how much of it is used: by control groups of both versions, and by a limit of our own.
//!
//! Every group from ours up to the top may have a limit, and whichever is nearest to its own decides: the kernel kills
//! by any of them. Pages of files that nobody used lately don't count, since the kernel takes them back by itself. Limits
//! are read each time; they change while a container runs.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// "No limit" of version 1 is the largest number of whole pages.
const UNLIMITED: u64 = 1 << 60;

/// Where to look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    groups: Vec<Group>,
    /// Of this process alone, as the operator said.
    own_limit: Option<u64>,
}

/// One control group's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Group {
    V1(PathBuf),
    V2(PathBuf),
}

/// What was found, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pub used: u64,
    pub limit: u64,
}

impl Usage {
    pub fn per_mille(self) -> u32 {
        let share = u128::from(self.used) * 1000 / u128::from(self.limit.max(1));
        u32::try_from(share).unwrap_or(u32::MAX)
    }
}

impl Memory {
    /// This process's groups, and its own limit if the operator set one.
    pub fn of_process(own_limit: Option<u64>) -> Memory {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let groups = groups(&text("/proc/self/cgroup"), &text("/proc/self/mountinfo"), Path::new("/"));
        Memory { groups, own_limit }
    }

    /// The tightest of all limits now; `None`: there is none.
    pub fn look(&self) -> Option<Usage> {
        let own = self.own_limit.and_then(|limit| Some(Usage { used: resident()?, limit }));
        self.groups.iter().filter_map(Group::look).chain(own).max_by_key(|usage| usage.per_mille())
    }
}

impl Group {
    fn look(&self) -> Option<Usage> {
        let (directory, limit, current, inactive) = match self {
            Group::V1(directory) => {
                let limit = number(&directory.join("memory.limit_in_bytes"))?;
                (directory, limit, "memory.usage_in_bytes", "total_inactive_file")
            }
            Group::V2(directory) => {
                // `max`, the word, is no number; the top group has no such files.
                let limits =
                    ["memory.max", "memory.high"].iter().filter_map(|name| number(&directory.join(name)));
                (directory, limits.min()?, "memory.current", "inactive_file")
            }
        };
        if limit >= UNLIMITED {
            return None;
        }
        let used = number(&directory.join(current))?;
        let stat = fs::read_to_string(directory.join("memory.stat")).unwrap_or_default();
        let reclaimable = stat.lines().find_map(|line| line.strip_prefix(inactive)?.trim().parse().ok());
        Some(Usage { used: used.saturating_sub(reclaimable.unwrap_or(0)), limit })
    }
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// This process's resident memory.
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let text = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(text.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// The directories of all groups that this process is in, by `/proc/self/cgroup` and `/proc/self/mountinfo`. `under`:
/// what stands before every path, `/` but for tests.
fn groups(cgroup: &str, mountinfo: &str, under: &Path) -> Vec<Group> {
    let mut found = Vec::new();
    for line in cgroup.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let is_v2 = controllers.is_empty();
        if !is_v2 && !controllers.split(',').any(|name| name == "memory") {
            continue;
        }
        let mounted = mountinfo.lines().find_map(|line| mount(line, is_v2));
        let Some((root, point)) = mounted else { continue };
        // A container sees a part of the tree; what is not in it is the container's own top.
        let inside = Path::new(path).strip_prefix(&root).unwrap_or(Path::new(""));
        let make = if is_v2 { Group::V2 } else { Group::V1 };
        let tree = under.join(point.strip_prefix("/").unwrap_or(&point));
        found.extend(inside.ancestors().map(|inside| make(tree.join(inside))));
    }
    found
}

/// Root and mount point of a line that mounts the memory controller's tree.
fn mount(line: &str, is_v2: bool) -> Option<(PathBuf, PathBuf)> {
    let (mounted, kind) = line.split_once(" - ")?;
    let mut fields = mounted.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    let mut kind = kind.split(' ');
    let fits = match (kind.next()?, is_v2) {
        ("cgroup2", true) => true,
        ("cgroup", false) => kind.nth(1)?.split(',').any(|option| option == "memory"),
        _ => false,
    };
    let path = |text: &str| PathBuf::from(text.replace("\\040", " "));
    fits.then(|| (path(root), path(point)))
}

#[cfg(test)]
mod tests;
