//! S-AZ-01: no spelling of a path slips past a policy, whatever the origin makes of it.

use std::net::SocketAddr;

use envoy_types::pb::envoy::config::rbac::v3::rbac::Action;
use serde_json::json;
use weft_proxy::static_config::StaticResources;
use weft_routing::path::{Escaped, Slashes, canonical};

use crate::{
    corpus::SPELLINGS,
    envoy::{self, Envoy},
    mesh::{
        Proxy,
        xds::{Speak, cluster},
    },
    models::{MODELS, Model},
    origin::{Origin, addresses, exchange, request},
    rules::{guarded, http_rbac, path_and_below, rbac},
};

/// The two wishes of the row.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// Nobody may see `/admin`.
    Deny,
    /// Nobody may see anything but `/public`.
    Allow,
}

impl Form {
    const fn policy(self) -> (Action, &'static str) {
        match self {
            Form::Deny => (Action::Deny, "/admin"),
            Form::Allow => (Action::Allow, "/public"),
        }
    }

    /// Whether an origin of this kind, sent this target, hands out what it must not.
    fn broken(self, model: Model, target: &[u8]) -> bool {
        match self {
            Form::Deny => model.serves(target, b"/admin"),
            Form::Allow => !model.serves(target, b"/public"),
        }
    }
}

/// One proxy to ask: for each form, the port with the plain policy and the one whose policy ignores case.
struct Guard {
    name: &'static str,
    deny: [SocketAddr; 2],
    allow: [SocketAddr; 2],
}

/// Which spellings got through to what they must not, by model.
async fn bypasses(guard: &Guard, form: Form) -> Vec<Vec<String>> {
    let ports = if form == Form::Deny { guard.deny } else { guard.allow };
    let mut found = vec![Vec::new(); MODELS.len()];
    for spelling in SPELLINGS {
        for (index, port) in ports.into_iter().enumerate() {
            let answer = exchange(port, &request(spelling, b"host: h\r\n")).await;
            let Some(target) = answer.forwarded() else { continue };
            for (place, model) in found.iter_mut().zip(MODELS) {
                // An origin without case needs a policy without case.
                if (model == Model::LowerCase) == (index == 1) && form.broken(model, &target) {
                    place.push(format!("{} → {}", spelling.escape_ascii(), target.escape_ascii()));
                }
            }
        }
    }
    found
}

fn line(name: &str, counts: impl Iterator<Item = usize>) -> String {
    counts.fold(format!("{name:<24}"), |line, count| format!("{line} {count:>6}"))
}

/// S-AZ-01: at least 90 spellings against a deny of `/admin` and an allow of `/public` only, with the paths as our
/// control plane has them; judged by what the origin got, under each model. Envoy is asked the same, with its own
/// defaults and with everything on that its edge guide asks for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_spelling_of_a_path_slips_past_a_policy() {
    assert!(SPELLINGS.len() >= 90, "{}", SPELLINGS.len());
    // The oracle finds something to find: with nobody in between each model is fooled often.
    for model in MODELS {
        let naive = |target: &&&[u8]| !target.starts_with(b"/admin") && model.serves(target, b"/admin");
        let count = SPELLINGS.iter().filter(naive).count();
        assert!(model == Model::Raw || count >= 10, "{model:?} is fooled by {count} spellings only");
    }
    let origin = Origin::start().await;
    let ports = addresses(14, 4);
    let cases = [(Form::Deny, false), (Form::Deny, true), (Form::Allow, false), (Form::Allow, true)];
    let listeners = ports.iter().zip(cases).enumerate().map(|(index, (at, (form, ignore_case)))| {
        let (action, path) = form.policy();
        let policy = http_rbac(Some(rbac(action, path_and_below(path, ignore_case))), None);
        guarded(&format!("paths-{index}"), *at, "app", vec![policy])
    });
    let _proxy = Proxy::start(
        "edge",
        StaticResources {
            listeners: listeners.collect(),
            clusters: vec![cluster("app", &[origin.address], Speak::Http1, None)],
            ..StaticResources::default()
        },
    );
    let ours = Guard { name: "Weft default", deny: [ports[0], ports[1]], allow: [ports[2], ports[3]] };
    // The plain cases first, so that no zero below is that of a proxy which refuses everything.
    for (at, target, status) in [
        (ours.deny[0], "/admin", 403),
        (ours.deny[0], "/public/x?y", 200),
        (ours.deny[0], "/administrator", 200),
        (ours.deny[0], "/map;lat=50;long=8/tile", 200),
        (ours.allow[0], "/admin", 403),
        (ours.allow[0], "/public/x?y", 200),
        (ours.allow[0], "/public/x;lang=de", 200),
        (ours.allow[0], "/publicity", 403),
    ] {
        let answer = exchange(at, &request(target.as_bytes(), b"host: h\r\n")).await;
        assert_eq!(answer.status, status, "{target}: {}", answer.text());
    }
    let manager = |(form, ignore_case): (Form, bool), hardened: bool| {
        let (action, path) = form.policy();
        let action = if action == Action::Deny { "DENY" } else { "ALLOW" };
        let mut manager = json!({"http_filters": envoy::filters(action, path, ignore_case)});
        if hardened {
            manager["normalize_path"] = json!(true);
            manager["merge_slashes"] = json!(true);
            manager["path_with_escaped_slashes_action"] = json!("REJECT_REQUEST");
        }
        manager
    };
    let peer_ports: Vec<envoy::Port> = (10_001..)
        .zip([false, true].into_iter().flat_map(|hardened| cases.map(|case| manager(case, hardened))))
        .collect();
    let address = origin.address;
    let peer = tokio::task::spawn_blocking(move || Envoy::start(9, address, &peer_ports)).await.unwrap();
    let mut guards = vec![ours];
    if let Some(envoy) = &peer {
        for (name, first) in [("Envoy 1.40 default", 10_001), ("Envoy 1.40 hardened", 10_005)] {
            let at = |offset: u16| envoy.at(first + offset);
            guards.push(Guard { name, deny: [at(0), at(1)], allow: [at(2), at(3)] });
        }
    }
    let mut table = line("S-AZ-01 bypasses", [].into_iter());
    for model in ["raw", "rfc", "decode", "servl.", "backsl", "lower", "overl."] {
        table.push_str(&format!(" {model:>6}"));
    }
    let mut of_ours = Vec::new();
    for guard in &guards {
        for (form, name) in [(Form::Deny, "deny /admin"), (Form::Allow, "allow /public")] {
            let found = bypasses(guard, form).await;
            let name = format!("{}, {name}", guard.name);
            table.push('\n');
            table.push_str(&line(&format!("{name:<36}"), found.iter().map(Vec::len)));
            if guard.name.starts_with("Weft") {
                of_ours.extend(found.into_iter().flatten().map(|what| format!("{name}: {what}")));
            }
        }
    }
    eprintln!("{} spellings\n{table}", SPELLINGS.len());
    assert!(of_ours.is_empty(), "{}\n{table}", of_ours.join("\n"));
}

/// S-AZ-01, Z08: c(c(x)) = c(x) for paths out of the pieces that trick canonicalisers, seeded.
#[test]
fn a_canonical_path_is_canonical() {
    let seed =
        std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    eprintln!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let pieces: &[&str] = &[
        "/",
        "//",
        ".",
        "..",
        "%2e",
        "%2E",
        "%2f",
        "%5c",
        "%",
        "%2",
        "25",
        "%25",
        "%c0%af",
        "%c0",
        "%61",
        "a",
        "é",
        ";",
        "%3b",
        ";x=1",
        "..;",
        "%00",
        "\\",
        "?",
        "#",
        "*",
        "admin",
        "%e0%80%af",
        "%7e",
        "~",
    ];
    let mut accepted = 0;
    for _ in 0..200_000 {
        let mut path = String::from("/");
        for _ in 0..random.usize(1..10) {
            path.push_str(pieces[random.usize(..pieces.len())]);
        }
        for slashes in [Slashes::KEEP, Slashes::STRICT, Slashes { escaped: Escaped::Unescape, merge: true }] {
            let Ok(once) = canonical(&path, slashes) else { continue };
            accepted += 1;
            let once = once.path.into_owned();
            let again = canonical(&once, slashes).map(|again| again.path.into_owned());
            assert_eq!(again.as_deref(), Ok(&*once), "SEED={seed}: {path} with {slashes:?}");
            let refused = ["/./", "/../", "%2e", "%2E", "\\", "#"];
            assert!(!refused.iter().any(|part| once.contains(part)), "SEED={seed}: {path} → {once}");
            if slashes == Slashes::STRICT {
                let lower = once.to_ascii_lowercase();
                assert!(
                    !["//", "%2f", "%5c"].iter().any(|part| lower.contains(part)),
                    "SEED={seed}: {path} → {once}"
                );
            }
        }
    }
    assert!(accepted > 100_000, "too few paths were accepted to say anything: {accepted}");
}
