//! How many CPUs this process may use: the whole ones of its control groups' quotas, and never more than there are.
//!
//! A quota below the number of threads that want to run stops all of them together for the rest of each period: what
//! more threads would win by day, their tail latency would lose.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Of a sidecar, which is to leave the CPUs to its app.
const SIDECAR_MAX: usize = 2;

/// Workers, unless the operator says how many.
pub fn workers(sidecar: bool) -> usize {
    let most = if sidecar { SIDECAR_MAX } else { usize::MAX };
    // Those that the scheduler may give us.
    let there = std::thread::available_parallelism().map_or(1, usize::from);
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let quota = quota(&text("/proc/self/cgroup"), &text("/proc/self/mountinfo"), Path::new("/"));
    whole(quota).min(there).min(most)
}

/// CPUs in hundredths; a started one is no whole one, but nobody has less than one worker.
fn whole(quota: Option<u64>) -> usize {
    quota.map_or(usize::MAX, |hundredths| usize::try_from(hundredths / 100).unwrap_or(usize::MAX).max(1))
}

/// The least quota of all groups from ours up to the top, in hundredths of a CPU. `under`: what stands before every
/// path, `/` but for tests.
fn quota(cgroup: &str, mountinfo: &str, under: &Path) -> Option<u64> {
    let lines = cgroup.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        Some((fields.next()?, Path::new(fields.next()?)))
    });
    let quotas = lines.flat_map(|(controllers, path)| {
        let v2 = controllers.is_empty();
        let ours = v2 || controllers.split(',').any(|name| name == "cpu");
        let mounted = mountinfo.lines().find_map(|line| mount(line, v2)).filter(|_| ours);
        let groups = mounted.map(|(root, point)| {
            // A container sees a part of the tree; what is not in it is the container's own top.
            let inside = path.strip_prefix(&root).unwrap_or(Path::new("")).to_owned();
            (under.join(point.strip_prefix("/").unwrap_or(&point)), inside)
        });
        groups.into_iter().flat_map(move |(tree, inside)| {
            let quotas = inside.ancestors().map(|inside| {
                let group = tree.join(inside);
                if v2 { quota_v2(&group) } else { quota_v1(&group) }
            });
            quotas.collect::<Vec<_>>()
        })
    });
    quotas.flatten().min()
}

/// `max 100000`, or microseconds a period of so many.
fn quota_v2(group: &Path) -> Option<u64> {
    let text = fs::read_to_string(group.join("cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    share(quota.parse().ok()?, period.parse().ok()?)
}

/// -1 without one.
fn quota_v1(group: &Path) -> Option<u64> {
    let number = |name: &str| fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
    share(number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?)
}

fn share(quota: u64, period: u64) -> Option<u64> {
    quota.checked_mul(100)?.checked_div(period)
}

/// Root and mount point of a line that mounts the CPU controller's tree.
fn mount(line: &str, v2: bool) -> Option<(PathBuf, PathBuf)> {
    let (mounted, kind) = line.split_once(" - ")?;
    let mut fields = mounted.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    let mut kind = kind.split(' ');
    let fits = match kind.next()? {
        "cgroup2" => v2,
        "cgroup" => !v2 && kind.nth(1)?.split(',').any(|option| option == "cpu"),
        _ => false,
    };
    fits.then(|| (PathBuf::from(root), PathBuf::from(point)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &str = "34 24 0:29 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
    const V1: &str = "30 24 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        33 24 0:29 /docker/c1 /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct\n";

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join("sys/fs/cgroup").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn quotas_of_version_2_hold_from_any_group_above() {
        let own = "0::/pods/pod7/proxy\n";
        for (files, expected) in [
            (&[("pods/pod7/proxy/cpu.max", "max 100000\n")][..], None),
            (&[("pods/pod7/proxy/cpu.max", "150000 100000\n")], Some(150)),
            (&[("pods/pod7/proxy/cpu.max", "max 100000"), ("pods/cpu.max", "400000 200000")], Some(200)),
            (
                &[("pods/pod7/proxy/cpu.max", "300000 100000"), ("pods/pod7/cpu.max", "50000 100000")],
                Some(50),
            ),
            (&[("elsewhere/cpu.max", "50000 100000")], None),
            (&[("pods/pod7/proxy/cpu.max", "100 0")], None),
            (&[("pods/pod7/proxy/cpu.max", "rubbish")], None),
        ] {
            let dir = tree(files);
            assert_eq!(quota(own, V2, dir.path()), expected, "{files:?}");
        }
        // In a container's own namespace the path is the top.
        let dir = tree(&[("cpu.max", "250000 100000")]);
        assert_eq!(quota("0::/\n", V2, dir.path()), Some(250));
        assert_eq!(quota("", "", dir.path()), None);
    }

    #[test]
    fn quotas_of_version_1_are_found_where_a_container_sees_them() {
        let own = "4:memory:/docker/c1\n3:cpu,cpuacct:/docker/c1/inner\n0::/\n";
        for (quota_us, inner_us, expected) in
            [("-1", "-1", None), ("200000", "-1", Some(200)), ("200000", "50000", Some(50))]
        {
            let dir = tree(&[
                ("cpu,cpuacct/cpu.cfs_quota_us", quota_us),
                ("cpu,cpuacct/cpu.cfs_period_us", "100000"),
                ("cpu,cpuacct/inner/cpu.cfs_quota_us", inner_us),
                ("cpu,cpuacct/inner/cpu.cfs_period_us", "100000"),
                ("memory/cpu.cfs_quota_us", "1"),
            ]);
            assert_eq!(quota(own, V1, dir.path()), expected, "{quota_us} {inner_us}");
        }
    }

    #[test]
    fn whole_cpus_and_never_none() {
        for (quota, expected) in
            [(None, usize::MAX), (Some(20), 1), (Some(199), 1), (Some(200), 2), (Some(850), 8)]
        {
            assert_eq!(whole(quota), expected, "{quota:?}");
        }
        assert!((1..=2).contains(&workers(true)));
        assert!(workers(false) >= workers(true));
        // One CPU that the scheduler gives us is one worker, whatever the quota.
        let bound = std::thread::spawn(|| {
            let mut one = rustix::thread::CpuSet::new();
            let all = rustix::thread::sched_getaffinity(None).unwrap();
            one.set((0..rustix::thread::CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu)).unwrap());
            rustix::thread::sched_setaffinity(None, &one).unwrap();
            workers(false)
        });
        assert_eq!(bound.join().unwrap(), 1);
    }
}
