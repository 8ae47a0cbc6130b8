//! The split follows its object within a second, whoever edits it.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use weft_testkit::{eventually, http, peers};

use crate::WEFT;
use crate::demo::Demo;

const ALL_TO_V2: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: be1, namespace: default}
spec:
  parentRefs: [{group: "", kind: Service, name: be1}]
  rules:
    - backendRefs:
        - {name: be1-v1, port: 80, weight: 0}
        - {name: be1-v2, port: 80, weight: 100}
"#;

/// Versions of BE1 that answered `count` requests sent straight to FE's own proxy.
fn versions(demo: &Demo, count: usize) -> (usize, usize) {
    let host = demo.fe.rsplit_once(':').unwrap().0.to_owned();
    let mut counts = (0, 0);
    for _ in 0..count {
        let answer = http::get(&format!("{host}:15001"), "http://be1/", &[]).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        if answer.body.contains(r#""version":"v2""#) { counts.1 += 1 } else { counts.0 += 1 }
    }
    counts
}

/// Waits for 20 requests in a row to v2, and holds the second since the object was written.
fn follows_within_a_second(demo: &Demo, applied: Instant) {
    eventually("20 requests in a row go to v2", Duration::from_secs(5), || {
        (versions(demo, 20).0 == 0).then_some(())
    });
    assert!(applied.elapsed() < Duration::from_secs(1), "traffic followed after {:?}", applied.elapsed());
    assert_eq!(versions(demo, 200), (0, 200));
}

#[test]
fn weft_apply_moves_traffic_within_a_second() {
    let demo = Demo::start(&["--no-load"]);
    let (v1, v2) = versions(&demo, 300);
    assert!((v1 as f64 / 3.0 - 90.0).abs() < 8.0, "{v1} to v1, {v2} to v2");
    let file = demo.state.join("all-to-v2.yaml");
    std::fs::write(&file, ALL_TO_V2).unwrap();
    let out =
        Command::new(WEFT).args(["apply", "-f"]).arg(&file).env("WEFT_STATE", &demo.state).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    follows_within_a_second(&demo, Instant::now());
}

#[test]
fn kubectl_apply_moves_traffic_within_a_second() {
    let Some(kubectl) = peers::program("kubectl") else { return };
    let demo = Demo::start(&["--no-load"]);
    let apply = |file: &Path| {
        let out = Command::new(&kubectl)
            .arg("--kubeconfig")
            .arg(demo.state.join("kubeconfig"))
            .args(["apply", "-f"])
            .arg(file)
            .env("HOME", demo.state.parent().unwrap())
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        Instant::now()
    };
    let file = demo.state.join("all-to-v2.yaml");
    std::fs::write(&file, ALL_TO_V2).unwrap();
    let applied = apply(&file);
    follows_within_a_second(&demo, applied);
    // And back, by the example that the README names.
    apply(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/split.yaml"));
    eventually("v1 gets most again", Duration::from_secs(2), || (versions(&demo, 20).0 >= 10).then_some(()));
}
