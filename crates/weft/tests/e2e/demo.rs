//! Figure 3, from one command: every edge, equal to the services' own ledgers, all of it encrypted.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use weft_testkit::{Process, eventually, http};

use crate::{WEFT, ledger};

/// Checks a summary of `weft demo --for` against the ledgers.
pub fn summary_is_true(summary: &Value, state: &Path) {
    assert_eq!(summary["lost"], 0, "{summary}");
    assert_eq!(summary["mtls_share"], 1.0, "{summary}");
    let v1 = summary["split"]["be1-v1"].as_f64().unwrap();
    assert!((v1 - 90.0).abs() <= 3.0, "the split is {v1}: {summary}");
    assert!(summary["requests"].as_u64().unwrap() >= 300, "too little load to mean anything: {summary}");

    let mut mesh = BTreeMap::new();
    for edge in summary["edges"].as_array().unwrap() {
        let (from, to) = (edge["from"].as_str().unwrap(), edge["to"].as_str().unwrap());
        let tls = if to == "be3" { "tls" } else { "mtls" };
        assert_eq!(edge["tls"], tls, "{edge}");
        for (code, count) in edge["codes"].as_object().unwrap() {
            mesh.insert(
                (from.to_owned(), to.to_owned(), code.parse::<u64>().unwrap()),
                count.as_u64().unwrap(),
            );
        }
    }
    let mut services = ledger::received(state);
    // The user's requests to FE do not come through the mesh.
    services.retain(|(from, _, _), _| from != "user" && from != "warm-up");
    assert_eq!(mesh, services, "the mesh's counts are not the services' own");
    for (from, to) in [("fe", "be1"), ("fe", "be4"), ("be1", "be2"), ("be1", "be3")] {
        let some = mesh.iter().any(|((f, t, _), n)| f == from && t == to && *n > 0);
        assert!(some, "no traffic from {from} to {to}: {summary}");
    }
    assert!(mesh.get(&("fe".into(), "be4".into(), 500)).copied().unwrap_or(0) > 0, "be4 failed nothing");
    assert_eq!(ledger::unanswered(state), Vec::<String>::new());
}

#[test]
fn the_figure_runs_from_one_command_and_its_figures_equal_the_ledgers() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let out = Command::new(WEFT)
        .args(["demo", "--for", "12s", "--api", "127.0.0.1:0", "--state"])
        .arg(&state)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{stderr}");
    let summary: Value = serde_json::from_slice(&out.stdout).expect("the summary is JSON");
    summary_is_true(&summary, &state);
    for file in ["admin.token", "kubeconfig"] {
        let mode = std::fs::metadata(state.join(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{file}");
    }
}

#[test]
fn an_ordinary_user_runs_it_too() {
    if !weft_testkit::peers::root() {
        // Already an ordinary user: the test above was this one.
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    // The binary is copied where that user may read it.
    let weft = folder.path().join("weft");
    std::fs::copy(WEFT, &weft).unwrap();
    std::fs::set_permissions(&weft, std::fs::Permissions::from_mode(0o755)).unwrap();
    let home = folder.path().join("home");
    std::fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(65534), Some(65534)).unwrap();
    let out = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(&weft)
        .args(["demo", "--for", "6s", "--api", "127.0.0.1:0"])
        .env("HOME", &home)
        .env_remove("XDG_STATE_HOME")
        .env_remove("STATE_DIRECTORY")
        .env_remove("WEFT_STATE")
        .current_dir(folder.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{stderr}");
    let summary: Value = serde_json::from_slice(&out.stdout).expect("the summary is JSON");
    summary_is_true(&summary, &home.join(".local/state/weft"));
}

/// A running demo without load; the test is its user.
pub struct Demo {
    pub process: Process,
    pub state: std::path::PathBuf,
    pub fe: String,
    _folder: tempfile::TempDir,
}

impl Demo {
    pub fn start(more: &[&str]) -> Demo {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let mut command = Command::new(WEFT);
        command.args(["demo", "--api", "127.0.0.1:0", "--state"]).arg(&state).args(more);
        let mut process = Process::start("demo", &mut command, &folder.path().join("demo.log")).unwrap();
        let fe = eventually("the demo says where its front end is", Duration::from_secs(40), || {
            assert!(process.running(), "the demo ended: {}", process.log_text());
            let text = process.log_text();
            let address = text.split("curl http://").nth(1)?.split('/').next()?.to_owned();
            text.contains("Ctrl-C ends it").then_some(address)
        });
        Demo { process, state, fe, _folder: folder }
    }

    pub fn json(&self, args: &[&str]) -> Value {
        let out = Command::new(WEFT)
            .args(args)
            .args(["-o", "json"])
            .env("WEFT_STATE", &self.state)
            .output()
            .unwrap();
        serde_json::from_slice(&out.stdout).unwrap_or_else(|e| {
            panic!(
                "weft {args:?}: {e}: {}{}",
                String::from_utf8_lossy(&out.stdout),
                String::from_utf8_lossy(&out.stderr)
            )
        })
    }

    pub fn call(&self, count: usize) {
        for _ in 0..count {
            let answer = http::get(&self.fe, "/", &[]).unwrap();
            assert_eq!(answer.status, 200, "{}", answer.body);
        }
    }

    /// The control plane's pid, found by its state directory on the command line.
    pub fn control_pid(&self) -> i32 {
        let state = self.state.to_string_lossy().into_owned();
        eventually("the control plane runs", Duration::from_secs(10), || {
            for entry in std::fs::read_dir("/proc").ok()?.flatten() {
                let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
                let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let args: Vec<&str> = line.split('\0').collect();
                if args.get(1) == Some(&"control") && args.contains(&state.as_str()) {
                    return Some(pid);
                }
            }
            None
        })
    }
}

#[test]
fn how_many_500s_came_from_be4_is_exact_across_kills_of_the_control_plane() {
    let demo = Demo::start(&["--no-load"]);
    for round in 0..3 {
        demo.call(50);
        let pid = demo.control_pid();
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(pid).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
        // The data plane does not notice: these go through while there is no control plane.
        demo.call(50);
        let back = eventually("the demo starts the control plane again", Duration::from_secs(10), || {
            let now = demo.control_pid();
            (now != pid).then_some(now)
        });
        assert_ne!(back, pid, "round {round}");
    }
    let want: BTreeMap<u64, u64> = ledger::received(&demo.state)
        .into_iter()
        .filter(|((_, to, _), _)| to == "be4")
        .fold(BTreeMap::new(), |mut sums, ((_, _, code), n)| {
            *sums.entry(code).or_default() += n;
            sums
        });
    assert!(want[&500] >= 25, "{want:?}");
    let mut last = Value::Null;
    let equal = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually("the mesh's count equals the ledger's", Duration::from_secs(15), || {
            last = demo.json(&["stat", "be4", "--since", "30m", "--by", "caller,code"]);
            let rows = last["rows"].as_array()?;
            let have: BTreeMap<u64, u64> = rows
                .iter()
                .map(|row| {
                    assert_eq!(row["caller"], "default/fe", "{row}");
                    let code = row["code"].as_u64().or_else(|| row["code"].as_str()?.parse().ok()).unwrap();
                    (code, row["requests"].as_u64().unwrap())
                })
                .collect();
            (have == want).then_some(())
        });
    }));
    assert!(equal.is_ok(), "ledger {want:?}, mesh {last}");
}

#[test]
fn ctrl_c_ends_it_and_leaves_no_process() {
    let mut demo = Demo::start(&["--no-load"]);
    let control = demo.control_pid();
    demo.process.signal(rustix::process::Signal::INT);
    let status = demo.process.wait(Duration::from_secs(25)).expect("the demo ends on Ctrl-C");
    assert!(status.success(), "{}", demo.process.log_text());
    assert!(!Path::new(&format!("/proc/{control}")).exists(), "the control plane outlived the demo");
}
