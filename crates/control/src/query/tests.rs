//! Windows and dimensions of questions, read from their text.

use super::*;

fn window(since: Option<&str>, from: Option<&str>, to: Option<&str>) -> Result<(u64, u64), String> {
    let text = |text: Option<&str>| text.map(str::to_owned);
    let window = Window { since: text(since), from: text(from), to: text(to) };
    window.read(10_000).map_err(|wrong| wrong.1)
}

#[test]
fn a_window_is_half_an_hour_unless_said() {
    assert_eq!(window(None, None, None), Ok((8200, 10_001)));
    assert_eq!(window(Some("10m"), None, None), Ok((9400, 10_001)));
    assert_eq!(window(Some("10m"), Some("100"), Some("200")), Ok((100, 200)));
    assert_eq!(window(None, Some("1970-01-01T00:01:40Z"), Some("200")), Ok((100, 200)));
    assert!(window(Some("soon"), None, None).unwrap_err().contains("write a duration"));
    assert!(window(None, Some("300"), Some("200")).is_err());
}

#[test]
fn dimensions_are_named_and_wrong_ones_are_answered_with_the_right_ones() {
    assert_eq!(dimensions("caller, code").ok().unwrap(), [Dimension::Caller, Dimension::Code]);
    assert_eq!(dimensions("").ok().unwrap(), []);
    assert!(dimensions("colour").err().unwrap().1.contains("caller, service, version, route, code"));
}

#[test]
fn a_finding_is_told_once_though_two_have_found_it() {
    let finding = |code, object: &str, message: &str, hint: &str| Finding {
        code,
        severity: Severity::Error,
        object: object.into(),
        message: message.into(),
        hint: hint.into(),
    };
    let told = distinct(vec![
        finding("WFT0011", "Secret default/me", "it is missing", "of the objects"),
        finding("WFT0001", "Secret default/me", "it is missing", ""),
        finding("WFT0011", "Secret shop/me", "it is missing", ""),
        finding("WFT0011", "Secret default/me", "it is empty", ""),
        finding("WFT0011", "Secret default/me", "it is missing", "of the translation"),
    ]);
    assert_eq!(told.len(), 4);
    assert_eq!(told[0].hint, "of the objects");
}

#[test]
fn a_row_has_the_groups_that_were_asked_for() {
    let mut counts = Counts { requests: 2, errors: 1, ..Counts::default() };
    counts.observe(1000);
    counts.observe(2000);
    let group = Group { code: Some(500), ..Group::default() };
    let row = stat_row(&group, &counts, &[Dimension::Code]);
    assert_eq!((&row["code"], &row["requests"], &row["errors"]), (&json!(500), &json!(2), &json!(1)));
    assert!(row.get("caller").is_none());
    assert!((row["p50_ms"].as_f64().unwrap() - 1.0).abs() < 0.05, "{row}");
}

/// be1 in two versions behind three Services, one Service by a label that the record does not keep, a workload
/// without a Service, one external service.
fn world() -> Snapshot {
    let object = |kind: Kind, name: &str, labels: Value, spec: Value| {
        let mut object = crate::seed::object(kind, "default", name, spec, SystemTime::UNIX_EPOCH);
        object["metadata"]["labels"] = labels;
        let value = object.to_string().into_bytes().into();
        let key = crate::seed::key(kind, "default", name);
        weft_store::Stored { key, created: 1, modified: 1, value }
    };
    let service = |name: &str, selector: Value| {
        object(Kind::Service, name, json!({}), json!({"selector": selector, "ports": [{"port": 80}]}))
    };
    let workload = |name: &str, service: &str, labels: Value| {
        object(Kind::Workload, name, labels, json!({"service": service, "address": "127.0.0.3"}))
    };
    let objects = vec![
        service("be1", json!({"app": "be1"})),
        service("be1-v1", json!({"app": "be1", "version": "v1"})),
        service("be1-v2", json!({"app": "be1", "version": "v2"})),
        service("gold", json!({"tier": "gold"})),
        service("empty", json!({"tier": "none"})),
        workload("be1-a", "be1", json!({"app": "be1", "version": "v1", "tier": "gold"})),
        workload("be1-b", "be1", json!({"app": "be1", "version": "v2"})),
        workload("cart-1", "cart", json!({"app": "cart", "version": "v7", "tier": "gold"})),
        workload("cart-2", "cart", json!({"app": "cart", "version": "v7"})),
    ];
    let mut world = crate::world::World::new("mesh.internal", "mesh.internal");
    world.apply(weft_store::Batch::Reset { revision: 1, objects });
    world.snapshot()
}

#[test]
fn a_service_that_nobody_knows_is_a_mistake() {
    let now = world();
    let ask = |name: &str| known(&now, &ServiceId::parse(name, "default")).map_err(|wrong| wrong.1);
    assert_eq!((ask("be1"), ask("cart")), (Ok(()), Ok(())));
    assert_eq!(ask("bee1").unwrap_err(), "no service default/bee1; did you mean \"be1\"?");
    assert_eq!(
        ask("zzzzzzzz").unwrap_err(),
        "no service default/zzzzzzzz; the namespace default has be1, be1-v1, be1-v2, cart, empty, gold"
    );
    assert_eq!(
        ask("shop/cart").unwrap_err(),
        "no service shop/cart; there is one in another namespace: default/cart"
    );
    assert_eq!(
        ask("shop/zzzzzzzz").unwrap_err(),
        "no service shop/zzzzzzzz; the namespace shop has none yet"
    );
    for name in ["be4 x", "Be4", "-a", "a/b/c", "", "ä"] {
        let wrong = service_named(name, "default").unwrap_err();
        assert!(wrong.0 == StatusCode::BAD_REQUEST && wrong.1.contains("a-z, 0-9 and -"), "{}", wrong.1);
    }
}

#[test]
fn a_service_means_what_its_selector_chooses() {
    use weft_history::{Callee, Counted};
    let now = world();
    let callee = |service: &str, version: Option<&str>, counted: Counted| Callee {
        service: format!("default/{service}"),
        version: version.map(str::to_owned),
        counted,
    };
    let ask = |name: &str| callees::resolve(&now, &ServiceId::new("default", name));
    assert_eq!(
        ask("be1-v1").callees,
        [callee("be1", Some("v1"), Counted::ByCallee), callee("be1-v1", None, Counted::ByCaller)]
    );
    assert_eq!(
        ask("be1").callees,
        [
            callee("be1", None, Counted::ByCallee),
            callee("be1", None, Counted::ByCaller),
            callee("be1-v1", None, Counted::ByCaller),
            callee("be1-v2", None, Counted::ByCaller),
        ]
    );
    let gold = ask("gold");
    assert_eq!(
        gold.callees,
        [
            callee("be1", Some("v1"), Counted::ByCallee),
            callee("cart", Some("v7"), Counted::ByCallee),
            callee("gold", None, Counted::ByCaller),
        ]
    );
    let note = gold.note.unwrap();
    assert!(note.contains("other workloads"), "cart-2 is not gold, and is counted: {note}");
    for name in ["cart", "empty", "partner"] {
        assert_eq!(ask(name).callees, [callee(name, None, Counted::ByEither)], "{name}");
    }
    assert_eq!(callees::members_of(&now, "default/be1-v1").as_deref(), Some("default/be1"));
    for name in ["default/be1", "default/gold", "default/cart", ""] {
        assert_eq!(callees::members_of(&now, name), None, "{name}");
    }
}
