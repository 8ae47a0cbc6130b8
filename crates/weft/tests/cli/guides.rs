//! The guides' commands, run as they stand: a guide that can't be followed is a failed test.
//!
//! Each guide runs in a network namespace of its own, so that its default ports are free whatever else
//! this machine runs, and in a folder of its own, with the built `weft` first on PATH.

use std::path::Path;
use std::process::Command;

use super::WEFT;

/// A guide that takes longer has hung.
const GUIDE_SECONDS_MAX: &str = "60";

/// The ```sh blocks of a guide. A person pauses after starting something in the background, and waits for the demo's
/// last word; so does this.
fn script(guide: &str) -> String {
    let mut script = String::from("set -eu\nip link set lo up\n");
    let mut inside = false;
    for line in guide.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            demo if inside && demo.starts_with("weft demo") => {
                script.push_str(&format!(
                    "{} 2> demo.log &\nuntil grep -q 'Ctrl-C ends it' demo.log; do sleep 0.1; done\n",
                    demo.trim_end_matches('&')
                ));
            }
            command if inside => {
                script.push_str(command);
                script.push('\n');
                if command.ends_with('&') {
                    script.push_str("sleep 1.5\n");
                }
            }
            _ => {}
        }
    }
    // What was started ends with the namespace's own process tree.
    script.push_str("kill $(jobs -p) 2>/dev/null || true\nwait || true\n");
    script
}

fn follow(name: &str) -> String {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guides").join(name);
    let text = std::fs::read_to_string(&guide).expect("the guide is there");
    let folder = tempfile::tempdir().unwrap();
    let bin = Path::new(WEFT).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    // An ordinary user gets the namespace by way of a user namespace.
    let out = Command::new("timeout")
        .args(["--kill-after=5", GUIDE_SECONDS_MAX, "unshare", "--map-root-user", "--net", "--pid", "--fork"])
        .args(["--kill-child", "bash", "-c", &script(&text)])
        .current_dir(folder.path())
        .env("PATH", path)
        .env_remove("WEFT_STATE")
        .output()
        .expect("unshare and bash are there");
    let shown = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "docs/guides/{name} can't be followed:\n{shown}");
    shown
}

#[test]
fn the_first_mesh_guide_can_be_followed() {
    let shown = follow("first-mesh.md");
    assert!(shown.contains("default/web") && shown.contains("mtls"), "no traffic was shown:\n{shown}");
}

#[test]
fn the_progressive_delivery_guide_can_be_followed() {
    let shown = follow("progressive-delivery.md");
    let counts: Vec<u32> = shown
        .lines()
        .filter(|line| line.ends_with(r#""version":"v1""#) || line.ends_with(r#""version":"v2""#))
        .map(|line| line.split_whitespace().next().unwrap().parse().unwrap())
        .collect();
    // The split, nobody but the tester, the tester, the mirror's origin, half and half.
    let [v1, v2, others, tester, mirrored, half1, half2] = counts[..] else { panic!("{counts:?}:\n{shown}") };
    assert_eq!((v1 + v2, others, tester, mirrored, half1 + half2), (60, 60, 60, 60, 60), "{shown}");
    assert!(v1 > v2 && half1.abs_diff(half2) <= 36, "{shown}");
}

#[test]
fn the_security_guide_can_be_followed() {
    let shown = follow("security-basics.md");
    let codes: Vec<&str> = shown
        .lines()
        .filter(|line| line.starts_with("http://be") || line.starts_with("-X POST"))
        .filter_map(|line| line.rsplit(' ').next())
        .collect();
    assert_eq!(codes, ["200", "200", "403", "200", "403", "403", "403", "200"], "{shown}");
    assert!(shown.contains("spiffe://mesh.internal/ns/default/sa/be1") && shown.contains("mtls"), "{shown}");
}

#[test]
fn the_troubleshooting_guide_can_be_followed() {
    let shown = follow("troubleshooting.md");
    for word in
        ["current", "WFT0008", r#"did you mean "weight"?"#, "broken.yaml:7", "exit status 1", "\n503\n"]
    {
        assert!(shown.contains(word), "{word:?} is not shown:\n{shown}");
    }
    assert!(shown.lines().any(|line| line.contains("default/be4") && line.contains("inbound")), "{shown}");
}

#[test]
fn the_limits_guide_can_be_followed() {
    let shown = follow("limits.md");
    let answers = shown.lines().filter(|line| !line.starts_with("weft_"));
    let codes: Vec<&str> = answers
        .filter_map(|line| line.split_once(": "))
        .map(|(_, code)| code)
        .filter(|code| code.len() == 3)
        .collect();
    // At first, the third, when they have gone; before and after the flood.
    assert_eq!(codes, ["200", "000", "200", "200", "200"], "{shown}");
    for word in [
        "reason=max_connections_per_source}: 1",
        "too many are open from this source",
        "weft_overload_level{resource=memory}: ",
        "reason=overload}: ",
        "LIVE",
        "level=normal before=",
    ] {
        assert!(shown.contains(word), "{word:?} is not shown:\n{shown}");
    }
}

/// The guides for who sends xDS have no commands; a real Envoy takes their resources.
#[test]
fn the_resources_of_the_xds_guides_are_envoys() {
    let Some(envoy) = weft_testkit::peers::program("envoy") else { return };
    for name in ["udp.md", "proxy-protocol.md"] {
        let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guides").join(name);
        let text = std::fs::read_to_string(guide).expect("the guide is there");
        let (_, yaml) = text.split_once("```yaml\n").expect("a block of resources");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("envoy.yaml");
        std::fs::write(&file, yaml.split("```").next().unwrap()).unwrap();
        let out = Command::new(&envoy)
            .args(["--mode", "validate", "--use-dynamic-base-id", "-c"])
            .arg(&file)
            .output()
            .expect("Envoy starts");
        assert!(out.status.success(), "docs/guides/{name}: {}", String::from_utf8_lossy(&out.stderr));
    }
}
