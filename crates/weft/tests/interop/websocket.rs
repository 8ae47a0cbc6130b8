//! The Autobahn suite, which nobody here wrote: its fuzzing client and its echo server give the same outcome in each
//! case with nothing between them, with the callee's proxy between them, and with both proxies and mTLS.

use std::{collections::BTreeMap, path::PathBuf, process::Command, time::Duration};

use serde_json::Value;
use weft_testkit::{Mesh, Process, mesh::port, peers};

use crate::WEFT;

/// Framing, ping and pong, reserved bits, opcodes, fragments, UTF-8, closing: all of these.
const CASES: &str = r#"{"cases": ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"], "without": []}"#;
/// Limits and compression: what is no test of Python's speed.
const LONG: &str = r#"{"cases": ["9.1.1", "12.1.1", "13.4.2"], "without": []}"#;
const CASES_COUNT: usize = 247 + 3;
/// The rest is informational.
const PASSED_MIN: usize = CASES_COUNT - 3;
const PATIENCE: Duration = Duration::from_secs(60);

/// Behaviour, behaviour at the close, the server's close code, and whether the close was clean.
type Outcomes = BTreeMap<String, Value>;

struct Suite {
    python: PathBuf,
    script: PathBuf,
    files: PathBuf,
}

impl Suite {
    /// `None` only where peers were left out on purpose.
    fn find() -> Option<Suite> {
        // The last release is for Python 2.
        let python = peers::program("python2-of-autobahn")?;
        let files = python.parent()?.parent()?.join("autobahn");
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/interop/websocket/autobahn.py");
        Some(Suite { python, script, files })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.python);
        command.arg("-B").arg(&self.script).arg(&self.files).args(args);
        command
    }

    /// All cases against the server that is called `be` and is reached over `port`.
    fn run(&self, mesh: &Mesh, way: &str, port: u16) -> Outcomes {
        let mut outcomes = Outcomes::new();
        // The long ones one at a time: they fill a core, and others wait meanwhile.
        for (cases, at_a_time) in [(CASES, "24"), (LONG, "1")] {
            let mut command =
                self.command(&["run", &format!("127.0.0.1:{port}"), "ws://be", cases, at_a_time]);
            let log = mesh.log(&format!("autobahn-{way}"));
            let mut client = Process::start("autobahn", &mut command, &log).unwrap();
            assert!(client.wait(PATIENCE).is_some(), "the suite goes on and on: {}", client.log_text());
            let text = client.log_text();
            let last = text.lines().rfind(|line| line.starts_with('{')).unwrap_or_else(|| panic!("{text}"));
            outcomes.extend(serde_json::from_str::<Outcomes>(last).unwrap());
        }
        assert_eq!(outcomes.len(), CASES_COUNT, "{way}: {outcomes:?}");
        outcomes
    }
}

#[test]
fn autobahn_finds_no_difference() {
    let Some(suite) = Suite::find() else { return };
    let mut mesh = Mesh::start(WEFT).unwrap();
    let (_server, ports) =
        Process::start_with_ports("be", &mut suite.command(&["serve"]), &mesh.log("autobahn-server"))
            .unwrap();
    let app = port(&ports, "app");
    mesh.apply(&format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: be}}\nspec: {{selector: {{app: be}}, ports: [{{name: http, port: 80, targetPort: {app}}}]}}\n---\napiVersion: v1\nkind: Service\nmetadata: {{name: fe}}\nspec: {{selector: {{app: fe}}, ports: [{{port: 80}}]}}\n"
    ))
    .unwrap();
    let be = mesh.proxy("be", "be-1", app, &[]).unwrap();
    let fe = mesh.proxy("fe", "fe-1", 0, &[]).unwrap();
    let direct = suite.run(&mesh, "direct", app);
    // The guard: what the suite says of its own server.
    let passed = direct.values().filter(|outcome| outcome[0] == "OK" && outcome[1] == "OK").count();
    assert!(passed >= PASSED_MIN, "{passed} of {}: {direct:?}", direct.len());
    let ways = [("one-proxy", be.port("outbound")), ("both-proxies", fe.port("outbound"))];
    let mut different = Vec::new();
    for (way, port) in ways {
        let through = suite.run(&mesh, way, port);
        println!("{way}: {} cases of the Autobahn suite", through.len());
        for (case, outcome) in &through {
            if direct.get(case) != Some(outcome) {
                different.push(format!("{case} {way}: {outcome}, directly {:?}", direct.get(case)));
            }
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
}
