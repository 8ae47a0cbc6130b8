//! What the World keeps when its source is odd.

use serde_json::json;
use weft_store::Change;

use super::*;
use crate::seed::key;
use crate::vip;

fn stored(kind: Kind, name: &str, revision: Revision, value: Value) -> Stored {
    let namespace = if kind.info().namespaced { "default" } else { "" };
    let key = key(kind, namespace, name);
    Stored { key, created: revision, modified: revision, value: value.to_string().into_bytes().into() }
}

fn service(name: &str, revision: Revision, spec: Value) -> Stored {
    let value = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"}, "spec": spec});
    stored(Kind::Service, name, revision, value)
}

fn change(stored: Stored) -> Batch {
    let revision = stored.modified;
    Batch::Changes {
        revision,
        changes: vec![Change { revision, key: stored.key.clone(), before: None, after: Some(stored) }],
    }
}

fn world(objects: Vec<Stored>) -> World {
    let mut world = World::new("mesh.internal", "mesh.internal");
    world.apply(Batch::Reset { revision: 10, objects });
    world
}

fn vips(world: &World) -> Vec<String> {
    let snapshot = world.snapshot();
    snapshot.services.values().map(|s| s.vip.map(|v| v.to_string()).unwrap_or_default()).collect()
}

#[test]
fn a_value_that_does_not_parse_keeps_its_last_good_reading() {
    let mut world = world(vec![service("be1", 1, json!({"ports": [{"port": 80}]}))]);
    assert!(world.apply(change(service("be1", 11, json!({"ports": [{"port": "eighty"}]})))));
    let snapshot = world.snapshot();
    let view = snapshot.services.values().next().unwrap();
    assert_eq!(view.ports[0].port, 80);
    assert!(snapshot.findings.iter().any(|finding| finding.code == "WFT0900"), "{:?}", snapshot.findings);
}

#[test]
fn a_reset_that_repeats_what_is_known_parses_nothing_again() {
    let be1 = service("be1", 1, json!({"ports": [{"port": 80}]}));
    let mut world = world(vec![be1.clone()]);
    let before = world.snapshot();
    world.apply(Batch::Reset { revision: 12, objects: vec![be1] });
    let after = world.snapshot();
    let of = |snapshot: &Snapshot| snapshot.objects.values().next().unwrap().clone();
    assert!(Arc::ptr_eq(&of(&before), &of(&after)));
    assert_eq!(after.revision, 12);
}

#[test]
fn keys_that_are_no_objects_are_no_news() {
    let mut world = world(Vec::new());
    let key = Key::new(crate::seed::INTERNAL_GROUP, "jointokens", "", "abc");
    let token = Stored { key, created: 11, modified: 11, value: b"{}".to_vec().into() };
    assert!(!world.apply(change(token)));
}

#[test]
fn virtual_addresses_are_given_in_order_and_kept_for_ever() {
    let mut world = world(vec![
        service("a", 1, json!({"ports": [{"port": 80}]})),
        service("b", 2, json!({"clusterIP": "None", "ports": [{"port": 80}]})),
        service("c", 3, json!({"clusterIP": "240.240.0.1", "ports": [{"port": 80}]})),
        service("d", 4, json!({"ports": [{"port": 80}]})),
    ]);
    let wanted = vip::allocate(&mut world);
    assert_eq!(vips(&world), ["240.240.0.2", "", "240.240.0.1", "240.240.0.3"]);
    let names: Vec<_> =
        wanted.iter().map(|assignment| (assignment.key.name.as_str(), assignment.at)).collect();
    assert_eq!(names, [("a", 1), ("d", 4)]);
    // Somebody replaces d without the annotation, after a was deleted: d keeps its own.
    let a = key(Kind::Service, "default", "a");
    world.apply(Batch::Changes {
        revision: 11,
        changes: vec![Change { revision: 11, key: a, before: None, after: None }],
    });
    world.apply(change(service("d", 12, json!({"ports": [{"port": 81}]}))));
    assert_eq!(vip::allocate(&mut world).len(), 1);
    assert_eq!(vips(&world), ["", "240.240.0.1", "240.240.0.3"]);
}

#[test]
fn a_service_selects_workloads_of_its_namespace_by_labels() {
    let workload = |name: &str, labels: Value| {
        let value = json!({
            "apiVersion": "weft.dev/v1", "kind": "Workload",
            "metadata": {"name": name, "namespace": "default", "labels": labels},
            "spec": {"service": "be1", "address": "127.0.0.3", "inboundPort": 15006, "ports": [{"port": 8080}]},
        });
        stored(Kind::Workload, name, 5, value)
    };
    let world = world(vec![
        service("be1", 1, json!({"selector": {"app": "be1"}, "ports": [{"port": 80}]})),
        service("be1-v2", 2, json!({"selector": {"app": "be1", "version": "v2"}, "ports": [{"port": 80}]})),
        workload("be1-a", json!({"version": "v1"})),
        workload("be1-b", json!({"version": "v2"})),
    ]);
    let snapshot = world.snapshot();
    let names = |service: &str| -> Vec<&str> {
        let view = &snapshot.services[&ServiceId::new("default", service)];
        view.instances.iter().map(|instance| instance.name.as_str()).collect()
    };
    assert_eq!((names("be1"), names("be1-v2")), (vec!["be1-a", "be1-b"], vec!["be1-b"]));
    let identity = snapshot.instances.values().next().unwrap().identity.clone();
    assert_eq!(identity.as_deref(), Some("spiffe://mesh.internal/ns/default/sa/be1"));
}
