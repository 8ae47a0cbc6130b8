//! The guides' commands, run as they stand: a guide that can't be followed is a failed test.
//!
//! Each guide runs in a network namespace of its own, so that its default ports are free whatever else
//! this machine runs, and in a folder of its own, with the built `weft` first on PATH.

use std::path::Path;
use std::process::Command;

use super::WEFT;

/// The ```sh blocks of a guide. A person pauses after starting something in the background; so does this.
fn script(guide: &str) -> String {
    let mut script = String::from("set -eu\nip link set lo up\n");
    let mut inside = false;
    for line in guide.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
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
    let out = Command::new("unshare")
        .args(["--map-root-user", "--net", "--pid", "--fork", "--kill-child", "bash", "-c", &script(&text)])
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
