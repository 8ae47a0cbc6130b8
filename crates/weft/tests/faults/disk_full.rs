//! The control plane's disk is full (F-ST-04): changes are refused in clear words, reading and watching go
//! on, nothing is damaged, and all is well by itself when there is room again.
//!
//! The disk is a tmpfs of 4 MiB in a mount namespace of the control plane's own: nothing of it outlives the
//! process. Making one takes root, which CI has.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weft_testkit::{Process, eventually, http, mesh, pause};

use crate::WEFT;

const SERVICES: &str = "/api/v1/namespaces/default/services";
const RECOVERED_MAX: Duration = Duration::from_secs(5);

struct Small {
    control: Process,
    api: String,
    bearer: String,
    /// The state directory, seen from outside its namespace.
    state: PathBuf,
}

impl Small {
    fn start(folder: &Path) -> Small {
        let state = folder.join("small");
        std::fs::create_dir(&state).unwrap();
        let script = "mount -t tmpfs -o size=4m tmpfs \"$0\" && exec \"$1\" control --state \"$0\" --api 127.0.0.1:0 --xds 127.0.0.1:0 --dns 127.0.0.1:0 --print-ports";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(&state).arg(WEFT);
        let (control, ports) =
            Process::start_with_ports("control", &mut command, &folder.join("control.log")).unwrap();
        let inside = PathBuf::from(format!("/proc/{}/root{}", control.pid(), state.display()));
        let token = std::fs::read_to_string(inside.join("admin.token")).unwrap();
        Small {
            api: format!("127.0.0.1:{}", mesh::port(&ports, "api")),
            bearer: format!("Bearer {}", token.trim()),
            control,
            state: inside,
        }
    }

    fn get(&self, path: &str) -> (u16, Value) {
        let answer = http::get(&self.api, path, &[("authorization", &self.bearer)]).unwrap();
        (answer.status, serde_json::from_str(&answer.body).unwrap_or(Value::Null))
    }

    fn create(&self, name: &str, bytes: usize) -> (u16, Value) {
        let object = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "annotations": {"fill": "x".repeat(bytes)}},
            "spec": {"ports": [{"port": 80}]},
        });
        let headers = [("authorization", self.bearer.as_str()), ("content-type", "application/json")];
        let answer = http::send(&self.api, "POST", SERVICES, &headers, &object.to_string()).unwrap();
        (answer.status, serde_json::from_str(&answer.body).unwrap_or(Value::Null))
    }

    fn names(&self) -> Vec<String> {
        let (code, list) = self.get(SERVICES);
        assert_eq!(code, 200, "{list}");
        list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].to_string()).collect()
    }

    /// Writes into a file until not one more byte fits.
    fn fill(&self) -> PathBuf {
        let path = self.state.join("fill");
        let mut file = std::fs::File::create(&path).unwrap();
        for size in [64 << 10, 4096, 1] {
            let block = vec![7_u8; size];
            while file.write_all(&block).is_ok() {}
        }
        path
    }
}

#[test]
fn a_full_disk_refuses_changes_and_recovers_by_itself() {
    assert!(weft_testkit::peers::root(), "a small disk takes root: run this test as root, as CI does");
    let folder = tempfile::tempdir().unwrap();
    let mut small = Small::start(folder.path());
    for n in 0..5 {
        let (code, said) = small.create(&format!("before{n}"), 10);
        assert_eq!(code, 201, "4 MiB are enough to begin with: {said} {}", small.control.log_text());
    }
    // A watch that is open all the while.
    let log = folder.path().join("watch.log");
    let url = format!("http://{}{SERVICES}?watch=true", small.api);
    let mut watch = Command::new("curl");
    watch.args(["-sN", "-H", &format!("Authorization: {}", small.bearer), &url]);
    let _watch = Process::start("watch", &mut watch, &log).unwrap();
    let watched = |name: &str| {
        eventually(name, Duration::from_secs(10), || {
            std::fs::read_to_string(&log)
                .unwrap_or_default()
                .contains(&format!("\"name\":\"{name}\""))
                .then_some(())
        });
    };
    watched("before4");

    for round in 0..2 {
        let fill = small.fill();
        let before = small.names();
        let mut refused = 0;
        for n in 0..20 {
            let (code, said) = small.create(&format!("full{round}-{n}"), 20_000);
            assert_eq!(code, 507, "round {round}, try {n}: {said}");
            let message = said["message"].as_str().unwrap_or_default();
            assert!(
                message.contains("nothing was changed") && message.contains("free some space"),
                "{message}"
            );
            refused += 1;
            assert_eq!(small.names(), before, "reads go on, and what was refused is not there");
            assert_eq!(small.get("/readyz").0, 200);
            assert_eq!(small.get("/query/v1/check").0, 200);
        }
        assert_eq!(refused, 20);
        assert!(small.control.running(), "{}", small.control.log_text());
        std::fs::remove_file(fill).unwrap();
        let freed = Instant::now();
        let name = format!("after{round}");
        loop {
            let (code, said) = small.create(&name, 10);
            if code == 201 {
                break;
            }
            assert!(freed.elapsed() < RECOVERED_MAX, "{code} {said}");
            pause(Duration::from_millis(50));
        }
        println!("round {round}: {:?} after space was freed", freed.elapsed());
        watched(&name);
    }
    // Filled by the objects themselves: the last that fits is there, the next is refused.
    let mut stored = small.names().len();
    let mut last = 0;
    for n in 0..200 {
        let (code, said) = small.create(&format!("grow{n}"), 40_000);
        last = code;
        match code {
            201 => stored += 1,
            507 => break,
            other => panic!("grow{n}: {other} {said}"),
        }
    }
    assert_eq!(last, 507, "200 objects of 40 kB did not fill 4 MiB");
    assert_eq!(small.names().len(), stored);
    let whole = small.get("/audit/v1/verify").1;
    assert_eq!(whole["ok"], true, "{whole}");
    let log = small.control.log_text();
    assert!(!log.contains("panicked"), "{log}");
}
