//! What `weft stat` answers: about Services that select others' workloads, about a service that is down, and about
//! what may be missing.

use std::time::Duration;

use serde_json::Value;
use weft_testkit::{Mesh, eventually, http};

use crate::WEFT;

const OBJECTS: &str = r"
apiVersion: v1
kind: Service
metadata: {name: fe}
spec: {selector: {app: fe}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: be4}
spec: {selector: {app: be4}, ports: [{name: http, port: 80, targetPort: PORT}]}
---
apiVersion: v1
kind: Service
metadata: {name: be4-v1}
spec: {selector: {app: be4, version: v1}, ports: [{name: http, port: 80, targetPort: PORT}]}
---
apiVersion: v1
kind: Service
metadata: {name: be4-v2}
spec: {selector: {app: be4, version: v2}, ports: [{name: http, port: 80, targetPort: PORT}]}
";

fn requests(mesh: &Mesh, service: &str) -> u64 {
    mesh.json(&["stat", service]).unwrap()["total"]["requests"].as_u64().unwrap()
}

/// Requests of a question, by the named group, as `(group, requests)`.
fn rows(mesh: &Mesh, service: &str, by: &str) -> Vec<(String, u64)> {
    let answer = mesh.json(&["stat", service, "--by", by]).unwrap();
    let row = |row: &Value| {
        let group = row[by].as_str().map_or_else(|| row[by].to_string(), str::to_owned);
        (group, row["requests"].as_u64().unwrap())
    };
    answer["rows"].as_array().unwrap().iter().map(row).collect()
}

#[test]
fn a_service_is_what_it_selects_its_outage_is_seen_and_a_killed_proxy_is_named() {
    let app = http::Origin::start("be4").unwrap();
    let mut mesh = Mesh::start(WEFT).unwrap();
    mesh.apply(&OBJECTS.replace("PORT", &app.port.to_string())).unwrap();
    mesh.proxy("be4", "be4-a", app.port, &["--label", "version=v1"]).unwrap();
    mesh.proxy("be4", "be4-b", app.port, &["--label", "version=v2"]).unwrap();
    let fe = mesh.proxy("fe", "fe-a", 0, &[]).unwrap();
    let outbound = format!("127.0.0.1:{}", fe.port("outbound"));
    let call = |url: &str| http::get(&outbound, url, &[]).unwrap().status;
    // A call before there is an endpoint would fail, and be counted.
    let admin = format!("127.0.0.1:{}", fe.port("admin"));
    eventually("fe knows every endpoint", Duration::from_secs(5), || {
        let known = http::get(&admin, "/clusters", &[]).ok()?.body;
        let of = |service: &str| known.matches(&format!("|80|{service}.default::127.0.0.1")).count() / 2;
        (of("be4") == 2 && of("be4-v1") == 1 && of("be4-v2") == 1).then_some(())
    });
    for host in ["be4", "be4-v1", "be4-v2"] {
        let url = format!("http://{host}/");
        eventually("fe can call it", Duration::from_secs(5), || (call(&url) == 200).then_some(()));
    }
    for _ in 0..7 {
        assert_eq!(call("http://be4-v1/"), 200);
    }

    // Each request is in exactly one version, and the Service of all versions has all.
    eventually("all are counted", Duration::from_secs(5), || {
        let (all, one, two) = (requests(&mesh, "be4"), requests(&mesh, "be4-v1"), requests(&mesh, "be4-v2"));
        (one >= 8 && two >= 1 && all == one + two && all >= 10).then_some(())
    });
    for (service, version) in [("be4-v1", "v1"), ("be4-v2", "v2")] {
        let versions: Vec<String> = rows(&mesh, service, "version").into_iter().map(|(v, _)| v).collect();
        assert_eq!(versions, [version], "{service}");
    }
    let healthy = mesh.json(&["stat", "be4"]).unwrap();
    assert_eq!(healthy["coverage"]["complete"], true, "{healthy}");
    assert_eq!(healthy["total"]["errors"], 0, "{healthy}");

    // A typing mistake is not an empty table.
    let out = mesh.cli(&["stat", "be5"]).unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.code() == Some(1) && said.contains("no service default/be5; did you mean"), "{said}");

    // The outage: whoever calls sees 5xx, and so does the question.
    mesh.proxies[0].kill();
    mesh.proxies[1].kill();
    let failed = (0..5).filter(|_| call("http://be4-v1/") >= 500).count();
    assert_eq!(failed, 5, "nobody is there to answer");
    for service in ["be4", "be4-v1"] {
        let mut last = Value::Null;
        let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually("the callers' failures are in the answer", Duration::from_secs(5), || {
                last = mesh.json(&["stat", service, "--by", "caller,code,direction"]).unwrap();
                let failures = last["rows"].as_array().unwrap().iter().find(|row| {
                    row["code"] == 503 && row["caller"] == "default/fe" && row["direction"] == "external"
                })?;
                (failures["requests"] == 5 && last["total"]["errors"] == 5).then_some(())
            });
        }));
        assert!(seen.is_ok(), "5 requests got 5xx, and the answer is {last}");
    }
    assert_eq!(
        rows(&mesh, "be4-v2", "code"),
        [("200".to_owned(), requests(&mesh, "be4-v2"))],
        "v2 was not called"
    );
    let edges = mesh.json(&["edges"]).unwrap();
    let edge = &edges["edges"].as_array().unwrap()[0];
    assert_eq!((&edge["to"], edges["edges"].as_array().unwrap().len()), (&Value::from("default/be4"), 1));
    assert_eq!((&edge["codes"]["503"], &edge["tls"]), (&Value::from(5), &Value::from("mtls")), "{edge}");

    // What the killed proxies had not sent is gone, and the answer says so.
    let gap = |fate: &str| {
        let answer = mesh.json(&["stat", "be4"]).unwrap();
        let gaps = answer["coverage"]["gaps"].as_array().unwrap().clone();
        (answer["coverage"]["complete"] == false
            && gaps.len() == 2
            && gaps.iter().all(|gap| gap["fate"] == fate && gap["seconds_max"].as_u64().unwrap() <= 17))
        .then_some(gaps)
    };
    eventually("they are away", Duration::from_secs(3), || gap("away"));
    let gaps = eventually("their leases end", Duration::from_secs(20), || gap("vanished"));
    assert!(gaps.iter().any(|gap| gap["proxy"] == "default/be4-a"), "{gaps:?}");
    let said = mesh.ok(&["stat", "be4"]).unwrap();
    assert!(said.contains("default/be4-a ended without goodbye: up to"), "{said}");
    let about_fe = mesh.json(&["stat", "fe"]).unwrap();
    assert_eq!(about_fe["coverage"]["complete"], true, "{about_fe}");
}
