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
    follow_with(name, None)
}

/// With the programs of a folder before all others of the machine.
fn follow_with(name: &str, programs: Option<&Path>) -> String {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guides").join(name);
    let text = std::fs::read_to_string(&guide).expect("the guide is there");
    let folder = tempfile::tempdir().unwrap();
    let bin = Path::new(WEFT).parent().unwrap();
    let programs = programs.map_or(String::new(), |folder| format!("{}:", folder.display()));
    let path = format!("{}:{programs}{}", bin.display(), std::env::var("PATH").unwrap_or_default());
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
fn the_guide_to_proof_can_be_followed() {
    let shown = follow("prove.md");
    assert!(shown.contains("proved: ") && shown.contains("X25519MLKEM768"), "nothing was proved:\n{shown}");
    assert!(shown.contains("found: exit status 1") && shown.contains("ID-SEG-REC-1"), "{shown}");
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
fn the_access_policies_guide_can_be_followed() {
    let shown = follow("access-policies.md");
    let codes: Vec<&str> = shown
        .lines()
        .filter(|line| line.contains("http://be"))
        .filter_map(|line| line.rsplit(' ').next())
        .filter(|code| code.len() == 3 && code.parse::<u16>().is_ok())
        .collect();
    assert_eq!(codes, ["200", "200", "403", "200", "403", "200", "200", "200", "403"], "{shown}");
    let counted = shown.lines().find(|line| line.starts_with("weft_authorization_would_deny_total{"));
    let counted = counted.unwrap_or_else(|| panic!("nothing is counted:\n{shown}"));
    for word in [r#"policy="AccessPolicy/default/be4-readers""#, r#"caller="default/fe""#] {
        assert!(counted.contains(word), "{counted}");
    }
    for word in ["x-request-id: ", "WFT0023", "fe-reads-be2"] {
        assert!(shown.to_lowercase().contains(&word.to_lowercase()), "{word:?} is not shown:\n{shown}");
    }
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

#[test]
fn the_udp_guide_can_be_followed() {
    let shown = follow("udp.md");
    let heard: Vec<&str> = shown.lines().filter(|line| line.contains(" heard ")).collect();
    let [first, second, third, fourth, mesh] = heard[..] else { panic!("{heard:?}:\n{shown}") };
    // A source stays where it is; the next one is at the other, by turns.
    for (hello, again) in [(first, second), (third, fourth)] {
        assert_eq!(hello.replace("hello", "again"), again, "{shown}");
    }
    assert_ne!(first, third, "{shown}");
    assert_eq!(mesh, "one heard what time is it", "{shown}");
    for word in [
        "weft_udp_sessions{listener=names}: 2",
        " takes no datagrams at 127.0.0.1:12301 for default/clock, port 124",
        "port 53 is UDP, which nothing would encrypt between members",
    ] {
        assert!(shown.contains(word), "{word:?} is not shown:\n{shown}");
    }
}

#[test]
fn the_proxy_protocol_guide_can_be_followed() {
    if weft_testkit::peers::program("haproxy").is_none() {
        return;
    }
    let shown = follow("proxy-protocol.md");
    let lines: Vec<&str> =
        shown.lines().filter(|line| line.starts_with("the app got") || *line == "closed").collect();
    // Of a header the client's port is chance.
    let said: Vec<String> = lines
        .iter()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["the", "app", "got", "PROXY", "TCP4", from, to, port, at] if port != "1" => {
                    format!("{from} to {to}:{at}")
                }
                _ => (*line).to_owned(),
            }
        })
        .collect();
    assert_eq!(
        said,
        [
            "127.0.0.5 to 127.0.0.1:8000",
            "the app got by the balancer",
            "closed",
            "closed",
            "127.0.0.5 to 127.0.0.1:8001",
            "the app got by the balancer",
            "127.0.0.6 to 127.0.0.1:15006",
            "the app got PROXY TCP4 192.0.2.9 192.0.2.1 1 2",
            "closed",
        ],
        "{shown}"
    );
    let word = "weft_proxy_headers_refused{listener=front,reason=absent}: 1";
    assert!(shown.contains(word), "{word:?} is not shown:\n{shown}");
}

#[test]
fn the_grpc_web_guide_can_be_followed() {
    // The one with grpcio.
    let Some(python) = weft_testkit::peers::program("python3") else { return };
    let shown = follow_with("grpc-web.md", python.parent());
    let trailers = "M-^@^@^@^@";
    let told = [
        format!("^@^@^@^@^Khello world{trailers}"),
        format!("^@^@^@^@^Cone^@^@^@^@^Ctwo^@^@^@^@^Ethree{trailers}"),
        // "hello world" as a message, and the beginning of trailers.
        "\nAAAAAAtoZWxsbyB3b3JsZA==gAAAA".to_owned(),
        "\ngrpc-status: 5\r\n".to_owned(),
        "\ngrpc-message: no such greeting\r\n".to_owned(),
        "\ngrpc-message: the body is not base64\r\n".to_owned(),
        "\ngrpc-message: the body ends inside of a message\r\n".to_owned(),
    ];
    for told in told {
        assert!(shown.contains(&told), "{told:?} is not shown:\n{shown}");
    }
    assert_eq!(shown.matches("HTTP/1.1 400 ").count(), 2, "{shown}");
    // By the mesh twice as bytes, and through the door.
    assert_eq!(shown.matches("hello worldM-^@").count(), 2, "{shown}");
    // Good ones, one without a greeting, two that were none.
    for row in [
        ["default/web", "200", "0", "3"],
        ["default/web", "200", "5", "1"],
        ["default/web", "400", "13", "2"],
    ] {
        let found = shown.lines().any(|line| line.split_whitespace().take(4).eq(row));
        assert!(found, "{row:?} is not shown:\n{shown}");
    }
}

/// What these guides say of a file holds for a real Envoy too.
#[test]
fn the_files_of_the_guides_are_envoys() {
    let Some(envoy) = weft_testkit::peers::program("envoy") else { return };
    for name in ["udp.md", "proxy-protocol.md", "grpc-web.md"] {
        let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guides").join(name);
        let text = std::fs::read_to_string(guide).expect("the guide is there");
        let (_, yaml) = text.split_once(".yaml <<'YAML'\n").expect("a file");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("envoy.yaml");
        std::fs::write(&file, yaml.split("\nYAML\n").next().unwrap()).unwrap();
        let out = Command::new(&envoy)
            .args(["--mode", "validate", "--use-dynamic-base-id", "-c"])
            .arg(&file)
            .output()
            .expect("Envoy starts");
        assert!(out.status.success(), "docs/guides/{name}: {}", String::from_utf8_lossy(&out.stderr));
    }
}
