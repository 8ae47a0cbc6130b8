//! Ownership, told as who applies what after whom.

#![allow(clippy::unwrap_used, reason = "a test's failure is its message")]

use super::*;

fn service(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": spec})
}

fn try_apply(
    current: Option<&Value>,
    manager: &str,
    spec: Value,
    force: bool,
) -> Result<Value, Vec<Conflict>> {
    let wanted = service(spec);
    apply(current, &Apply { manager, wanted: &wanted, force, half: Half::Main, now: "2026-01-01T00:00:00Z" })
}

fn applied(current: Option<&Value>, manager: &str, spec: Value) -> Value {
    try_apply(current, manager, spec, false).unwrap()
}

fn owned(object: &Value, manager: &str) -> Vec<String> {
    read(object)
        .iter()
        .filter(|entry| entry.manager == manager)
        .flat_map(|entry| entry.fields.iter().map(spoken).collect::<Vec<_>>())
        .collect()
}

#[test]
fn who_applies_owns_what_it_says_and_takes_away_what_it_no_longer_says() {
    let first = applied(
        None,
        "ana",
        json!({"selector": {"app": "a", "tier": "web"}, "ports": [{"port": 80, "name": "http"}]}),
    );
    assert_eq!(
        owned(&first, "ana"),
        [
            ".spec.ports[port=80]",
            ".spec.ports[port=80].name",
            ".spec.ports[port=80].port",
            ".spec.selector.app",
            ".spec.selector.tier"
        ]
    );
    assert_eq!(applied(Some(&first), "ana", first["spec"].clone()), first, "the same again is the same");
    // Another manager adds a port; both own what both say.
    let second = applied(Some(&first), "bo", json!({"selector": {"app": "a"}, "ports": [{"port": 443}]}));
    assert_eq!(second["spec"]["ports"], json!([{"port": 80, "name": "http"}, {"port": 443}]));
    let third = applied(Some(&second), "ana", json!({"ports": [{"port": 80}]}));
    assert_eq!(
        third["spec"],
        json!({"selector": {"app": "a"}, "ports": [{"port": 80}, {"port": 443}]}),
        "tier and the port's name went, app stays: bo says it too"
    );
    let fourth = applied(Some(&third), "ana", json!({}));
    assert_eq!(fourth["spec"], json!({"selector": {"app": "a"}, "ports": [{"port": 443}]}));
    assert_eq!(owned(&fourth, "ana"), [".spec"]);
    let fifth = applied(Some(&fourth), "ana", json!({"type": "ClusterIP"}));
    assert_eq!(fifth["spec"]["selector"]["app"], "a", "what is bo's outlives ana's empty spec");
}

#[test]
fn to_say_otherwise_is_a_conflict_unless_forced() {
    let first =
        applied(None, "ana", json!({"selector": {"app": "a"}, "ports": [{"port": 80, "name": "http"}]}));
    let wanted = json!({"selector": {"app": "b"}, "ports": [{"port": 80, "name": "web"}]});
    let conflicts = try_apply(Some(&first), "bo", wanted.clone(), false).unwrap_err();
    let told: Vec<String> = conflicts.iter().map(|c| format!("{} {}", c.owner, c.field)).collect();
    assert_eq!(told, ["\"ana\" using v1 .spec.ports[port=80].name", "\"ana\" using v1 .spec.selector.app"]);
    let forced = try_apply(Some(&first), "bo", wanted, true).unwrap();
    assert_eq!(forced["spec"], json!({"selector": {"app": "b"}, "ports": [{"port": 80, "name": "web"}]}));
    assert_eq!(owned(&forced, "ana"), [".spec.ports[port=80]", ".spec.ports[port=80].port"]);
    // Now ana is the one who is in conflict.
    assert!(try_apply(Some(&forced), "ana", json!({"selector": {"app": "a"}}), false).is_err());
    // To turn a leaf that another owns into an object is one, too.
    let leaf = applied(None, "ana", json!({"x": 1}));
    assert!(try_apply(Some(&leaf), "bo", json!({"x": {"y": 1}}), false).is_err());
}

#[test]
fn an_update_takes_what_it_changes() {
    let first = applied(None, "ana", json!({"selector": {"app": "a", "tier": "web"}}));
    let mut edited = first.clone();
    edited["spec"]["selector"] = json!({"app": "z", "more": "x"});
    update(&first, &mut edited, "kubectl-edit", Half::Main, "now");
    assert_eq!(owned(&edited, "ana"), Vec::<String>::new());
    assert_eq!(owned(&edited, "kubectl-edit"), [".spec.selector.app", ".spec.selector.more"]);
    let conflict = try_apply(Some(&edited), "ana", json!({"selector": {"app": "a"}}), false).unwrap_err();
    assert_eq!(conflict[0].owner, "\"kubectl-edit\" using v1");
    // An object that nobody applied keeps no owners.
    let bare = service(json!({"x": 1}));
    let mut changed = service(json!({"x": 2}));
    update(&bare, &mut changed, "curl", Half::Main, "now");
    assert!(changed["metadata"].get("managedFields").is_none());
}

#[test]
fn what_was_there_before_is_not_lost_to_the_first_who_applies() {
    let bare = service(json!({"selector": {"app": "a"}, "type": "ClusterIP"}));
    let refused = try_apply(Some(&bare), "ana", json!({"selector": {"app": "b"}}), false).unwrap_err();
    assert_eq!(refused[0].owner, "\"before-first-apply\" using v1");
    let same = applied(Some(&bare), "ana", json!({"selector": {"app": "a"}}));
    assert_eq!(same["spec"], bare["spec"]);
    // What kubectl itself applied from the client is kubectl's to change.
    let mut noted = bare.clone();
    noted["metadata"]["annotations"][LAST_APPLIED] =
        service(json!({"selector": {"app": "a"}})).to_string().into();
    assert!(try_apply(Some(&noted), "kubectl", json!({"selector": {"app": "b"}}), false).is_ok());
    assert!(try_apply(Some(&noted), "kubectl", json!({"type": "x"}), false).is_err());
    assert!(try_apply(Some(&noted), "ana", json!({"selector": {"app": "b"}}), false).is_err());
}

#[test]
fn status_and_object_have_owners_apart() {
    let first = applied(None, "ana", json!({"x": 1}));
    let status = json!({"apiVersion": "v1", "kind": "Service", "status": {"phase": "on"}, "spec": {"x": 9}});
    let apply_status =
        Apply { manager: "ana", wanted: &status, force: false, half: Half::Status, now: "now" };
    let second = apply(Some(&first), &apply_status).unwrap();
    assert_eq!((&second["spec"]["x"], &second["status"]["phase"]), (&1.into(), &"on".into()));
    let third = applied(Some(&second), "ana", json!({"x": 1}));
    assert_eq!(third["status"]["phase"], "on", "an apply to the object leaves the status");
}

#[test]
fn what_is_written_reads_back() {
    let first = applied(
        None,
        "ana",
        json!({"ports": [{"port": 80, "name": "h"}], "list": [1, 2], "empty": {}, "none": []}),
    );
    let entries = read(&first);
    let mut again = json!({"metadata": {}});
    write(&mut again, entries.clone());
    assert_eq!(read(&again), entries);
    let fields = &first["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"];
    assert_eq!(
        fields,
        &json!({
            "f:empty": {}, "f:list": {}, "f:none": {},
            "f:ports": {"k:{\"port\":80}": {".": {}, "f:name": {}, "f:port": {}}},
        })
    );
}
