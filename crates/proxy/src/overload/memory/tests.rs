use super::*;

/// A file tree that looks like a machine's.
struct Machine(tempfile::TempDir);

impl Machine {
    fn with(files: &[(&str, &str)]) -> Machine {
        let machine = Machine(tempfile::tempdir().unwrap());
        files.iter().for_each(|(path, text)| machine.set(path, text));
        machine
    }

    fn set(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn memory(&self, cgroup: &str, mountinfo: &str) -> Memory {
        Memory { groups: groups(cgroup, mountinfo, self.0.path()), own_limit: None }
    }
}

const V2_MOUNT: &str =
    "30 24 0:26 / /sys/fs/cgroup rw,nosuid,nodev shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
const V1_MOUNTS: &str = "25 18 0:22 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
26 25 0:23 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
27 25 0:24 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory
28 25 0:25 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

#[test]
fn version_two_takes_the_lower_of_its_limits_less_what_the_kernel_takes_back() {
    let machine = Machine::with(&[
        ("sys/fs/cgroup/mesh/edge/memory.max", "1000000\n"),
        ("sys/fs/cgroup/mesh/edge/memory.high", "max\n"),
        ("sys/fs/cgroup/mesh/edge/memory.current", "900000\n"),
        ("sys/fs/cgroup/mesh/edge/memory.stat", "anon 500000\nfile 400000\ninactive_file 300000\n"),
        ("sys/fs/cgroup/mesh/memory.max", "max\n"),
        ("sys/fs/cgroup/mesh/memory.current", "2000000\n"),
    ]);
    let memory = machine.memory("0::/mesh/edge\n", V2_MOUNT);
    assert_eq!(memory.look(), Some(Usage { used: 600_000, limit: 1_000_000 }));
    machine.set("sys/fs/cgroup/mesh/edge/memory.high", "800000\n");
    assert_eq!(memory.look().map(Usage::per_mille), Some(750));
    // A slice above us that is nearer to its end.
    machine.set("sys/fs/cgroup/mesh/memory.max", "2100000\n");
    assert_eq!(memory.look(), Some(Usage { used: 2_000_000, limit: 2_100_000 }));
    for limit in ["edge/memory.max", "edge/memory.high", "memory.max"] {
        machine.set(&format!("sys/fs/cgroup/mesh/{limit}"), "max\n");
    }
    assert_eq!(memory.look(), None, "nobody limits it");
}

#[test]
fn version_one_has_other_names_and_a_number_for_no_limit() {
    let group = "sys/fs/cgroup/memory/mesh";
    let machine = Machine::with(&[
        (&format!("{group}/memory.limit_in_bytes"), "67108864\n"),
        (&format!("{group}/memory.usage_in_bytes"), "60000000\n"),
        (&format!("{group}/memory.stat"), "inactive_file 1\ntotal_rss 9\ntotal_inactive_file 10000000\n"),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ("sys/fs/cgroup/memory/memory.usage_in_bytes", "99999999999\n"),
    ]);
    // The hybrid: version 2 is there too, without memory.
    let cgroup = "4:memory:/mesh\n1:cpu,cpuacct:/mesh\n0::/mesh\n";
    let memory = machine.memory(cgroup, V1_MOUNTS);
    assert_eq!(memory.look(), Some(Usage { used: 50_000_000, limit: 67_108_864 }));
    machine.set(&format!("{group}/memory.limit_in_bytes"), "9223372036854771712\n");
    assert_eq!(memory.look(), None);
}

#[test]
fn a_container_that_sees_a_part_of_the_tree_finds_itself() {
    let files = [("sys/fs/cgroup/memory.max", "1000\n"), ("sys/fs/cgroup/memory.current", "900\n")];
    let machine = Machine::with(&files);
    for (cgroup, mount) in [
        // With a name space of its own, and without.
        ("0::/\n", V2_MOUNT.to_owned()),
        ("0::/kube/pod1\n", V2_MOUNT.replace(" / /sys", " /kube/pod1 /sys")),
        ("0::/somewhere/else\n", V2_MOUNT.replace(" / /sys", " /kube/pod1 /sys")),
    ] {
        let memory = machine.memory(cgroup, &mount);
        assert_eq!(memory.look().map(Usage::per_mille), Some(900), "{cgroup}");
    }
}

#[test]
fn what_cannot_be_read_limits_nothing() {
    let machine = Machine::with(&[("sys/fs/cgroup/a/memory.max", "nonsense\n")]);
    for (cgroup, mounts) in [
        ("", ""),
        ("0::/a\n", V2_MOUNT),
        ("junk\n4:memory\n::\n", V1_MOUNTS),
        ("0::/a\n", "1 2 3 - cgroup2\n - \n"),
    ] {
        assert_eq!(machine.memory(cgroup, mounts).look(), None, "{cgroup:?}");
    }
    let usage = Usage { used: 5, limit: 0 };
    assert_eq!(usage.per_mille(), 5000, "a limit of nothing is exceeded");
}

#[test]
fn our_own_limit_is_of_resident_memory() {
    let held = vec![1_u8; 16 << 20];
    let usage = Memory { groups: Vec::new(), own_limit: Some(1 << 40) }.look().unwrap();
    assert!(usage.used > 16 << 20 && usage.limit == 1 << 40, "{usage:?}");
    drop(held);
    // Of this very process: only that reading it works.
    let _ = Memory::of_process(None).look();
}
