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

#[test]
fn a_service_that_nobody_knows_is_a_mistake() {
    let mut world = crate::world::World::new("mesh.internal", "mesh.internal");
    let object = |kind: Kind, name: &str, spec: Value| {
        let object = crate::seed::object(kind, "default", name, spec, SystemTime::UNIX_EPOCH);
        let value = object.to_string().into_bytes().into();
        let key = crate::seed::key(kind, "default", name);
        weft_store::Stored { key, created: 1, modified: 1, value }
    };
    let objects = vec![
        object(Kind::Service, "shop", json!({"ports": [{"port": 80}]})),
        object(Kind::Workload, "cart-1", json!({"service": "cart", "address": "127.0.0.3"})),
    ];
    world.apply(weft_store::Batch::Reset { revision: 1, objects });
    let now = world.snapshot();
    let ask = |name: &str| known(&now, &ServiceId::new("default", name)).map_err(|wrong| wrong.1);
    assert_eq!((ask("shop"), ask("cart")), (Ok(()), Ok(())));
    assert_eq!(ask("shpo").unwrap_err(), "no service default/shpo; did you mean \"shop\"?");
    assert_eq!(ask("zzzzzz").unwrap_err(), "no service default/zzzzzz");
}
