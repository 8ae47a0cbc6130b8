//! Objects: discovery, reading, writing, conflicts, refusals.

use std::collections::BTreeSet;

use http::{Method, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use super::*;

#[tokio::test]
async fn discovery_lists_every_kind_in_both_forms() {
    let server = Server::start().await;
    assert_eq!(server.get("/api").await.value["versions"], json!(["v1"]));
    let core = server.get("/api/v1").await.value;
    let names: Vec<&str> =
        core["resources"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert!(
        names.contains(&"services")
            && names.contains(&"services/status")
            && !names.contains(&"secrets/status"),
        "{names:?}"
    );
    let groups = server.get("/apis").await.value;
    assert!(groups["groups"].as_array().unwrap().iter().any(|group| group["name"] == "weft.dev"));
    assert_eq!(server.get("/apis/weft.dev").await.value["kind"], "APIGroup");
    assert_eq!(server.get("/apis/weft.dev/v1").await.value["kind"], "APIResourceList");
    for path in
        ["/apis/other", "/apis/weft.dev/v9", "/openapi/v3/apis/weft.dev/v9", "/nothing", "/openapi/v2"]
    {
        assert_eq!(server.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let request =
        server.request(Method::GET, "/apis").header("accept", accept).body(Full::default()).unwrap();
    let aggregated = answer(server.send(request).await).await;
    assert_eq!(aggregated.value["kind"], "APIGroupDiscoveryList");
    assert!(aggregated.headers["content-type"].to_str().unwrap().contains("as=APIGroupDiscoveryList"));
    let document = server.get("/openapi/v3/apis/weft.dev/v1").await.value;
    let path = "/apis/weft.dev/v1/namespaces/{namespace}/accesspolicies/{name}";
    assert_eq!(document["paths"][path]["patch"]["x-kubernetes-group-version-kind"]["kind"], "AccessPolicy");
    server.stop().await;
}

#[tokio::test]
async fn an_object_lives_from_create_to_delete() {
    let server = Server::start().await;
    let made = server.post(SERVICES, &service("be1")).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let meta = &made.value["metadata"];
    assert_eq!((&meta["generation"], &meta["namespace"]), (&1.into(), &"default".into()));
    assert!(
        meta["uid"].is_string()
            && meta["creationTimestamp"].is_string()
            && meta["resourceVersion"].is_string()
    );
    assert_eq!(server.post(SERVICES, &service("be1")).await.value["reason"], "AlreadyExists");

    let path = format!("{SERVICES}/be1");
    assert_eq!(plain(&server.get(&path).await.value), plain(&made.value));
    let changed =
        server.merge(&path, &json!({"spec": {"selector": {"tier": "web"}}, "metadata": {"uid": null}})).await;
    assert_eq!(changed.status, StatusCode::OK);
    assert_eq!(changed.value["metadata"]["generation"], 2);
    assert_eq!(changed.value["metadata"]["uid"], meta["uid"]);
    let labelled = server.merge(&path, &json!({"metadata": {"labels": {"x": "y"}}})).await;
    assert_eq!(labelled.value["metadata"]["generation"], 2, "a label is no new meaning");
    let again = server.merge(&path, &json!({"metadata": {"labels": {"x": "y"}}})).await;
    assert_eq!(again.value["metadata"]["resourceVersion"], labelled.value["metadata"]["resourceVersion"]);

    let list = server.get("/api/v1/services?labelSelector=x%3Dy").await.value;
    assert_eq!((&list["kind"], list["items"].as_array().unwrap().len()), (&"ServiceList".into(), 1));
    assert!(
        server.get("/api/v1/services?fieldSelector=metadata.name%3Dno").await.value["items"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    assert_eq!(server.get("/api/v1/services?fieldSelector=spec.x%3Dy").await.status, StatusCode::BAD_REQUEST);

    let gone = server.delete(&path).await;
    assert_eq!((&gone.value["status"], &gone.value["details"]["uid"]), (&"Success".into(), &meta["uid"]));
    assert_eq!(server.get(&path).await.value["reason"], "NotFound");
    assert_eq!(server.delete(&path).await.status, StatusCode::NOT_FOUND);
    let verbs: Vec<String> = server
        .audit()
        .iter()
        .map(|line| format!("{} {} {}", line["verb"], line["object"], line["result"]))
        .collect();
    assert_eq!(verbs.first().unwrap(), "\"create\" \"Service default/be1\" 201");
    assert_eq!(verbs.last().unwrap(), "\"delete\" \"Service default/be1\" 404");
    server.stop().await;
}

#[tokio::test]
async fn the_trust_domain_is_fixed_by_the_first_start() {
    let server = Server::start().await;
    let (meshes, path) = ("/apis/weft.dev/v1/meshes", "/apis/weft.dev/v1/meshes/default");
    let other = json!({"spec": {"trustDomain": "other.example"}});
    let mut refused = vec![server.merge(path, &other).await];
    let mut mesh = server.get(path).await.value;
    mesh["spec"]["trustDomain"] = "other.example".into();
    refused.push(server.put(path, &mesh).await);
    assert_eq!(server.delete(path).await.status, StatusCode::OK);
    let meta = mesh["metadata"].as_object_mut().unwrap();
    meta.retain(|field, _| field == "name");
    refused.push(server.post(meshes, &mesh).await);
    for answer in refused {
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", answer.value);
        let message = answer.value["message"].as_str().unwrap();
        assert!(message.contains("fixed by the first start"), "{message}");
    }
    mesh["spec"] = json!({"mtls": {"mode": "Permissive"}});
    let made = server.post(meshes, &mesh).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.value);
    server.stop().await;
}

#[tokio::test]
async fn every_mistake_comes_back_and_nothing_is_stored() {
    let server = Server::start().await;
    let before = server.store.revision();
    let mut wrong = policy("p");
    wrong["spec"]["action"] = "Perhaps".into();
    wrong["spec"]["ruels"] = json!([]);
    let refused = server.post(POLICIES, &wrong).await;
    assert_eq!(
        (refused.status, &refused.value["reason"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &"Invalid".into())
    );
    let fields: BTreeSet<&str> = refused.value["details"]["causes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cause| cause["field"].as_str().unwrap())
        .collect();
    assert!(fields.contains("spec.action") && fields.contains("spec.ruels"), "{fields:?}");

    let mut other = service("be1");
    other["kind"] = "Pod".into();
    assert_eq!(server.post(SERVICES, &other).await.status, StatusCode::BAD_REQUEST);
    let mut elsewhere = service("be1");
    elsewhere["metadata"]["namespace"] = "shop".into();
    assert_eq!(server.post(SERVICES, &elsewhere).await.status, StatusCode::BAD_REQUEST);
    let missing = server.post("/api/v1/namespaces/shop/services", &service("be1")).await;
    assert_eq!(
        (missing.status, &missing.value["details"]["kind"]),
        (StatusCode::NOT_FOUND, &"namespaces".into())
    );
    for name in ["", "UPPER", "a/b", "a\0b", &"x".repeat(300)] {
        let refused = server.post(SERVICES, &service(name)).await;
        assert!(refused.status.is_client_error(), "{name:?}");
    }
    for body in ["", "{", "[]", "null", "\u{feff}{}"] {
        let refused = server.call(Method::POST, SERVICES, "application/json", body).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{body:?}");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(
        server.call(Method::POST, SERVICES, "application/json", deep).await.status,
        StatusCode::BAD_REQUEST
    );
    let large = vec![b' '; crate::api::routes::BODY_BYTES_MAX + 1];
    assert_eq!(
        server.call(Method::POST, SERVICES, "application/json", large).await.status,
        StatusCode::PAYLOAD_TOO_LARGE
    );
    assert_eq!(
        server.call(Method::POST, SERVICES, "text/yaml", "a: b").await.status,
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    );
    assert_eq!(server.store.revision(), before);
    server.stop().await;
}

#[tokio::test]
async fn unknown_fields_of_others_kinds_warn_or_fail_as_asked() {
    let server = Server::start().await;
    let mut odd = route("be1");
    odd["spec"]["colour"] = "red".into();
    let strict = server.post(&format!("{ROUTES}?fieldValidation=Strict"), &odd).await;
    assert_eq!(strict.status, StatusCode::BAD_REQUEST);
    assert!(strict.value["message"].as_str().unwrap().contains("strict decoding error"));
    let dry = server.post(&format!("{ROUTES}?dryRun=All&fieldValidation=Ignore"), &odd).await;
    assert_eq!((dry.status, dry.headers.contains_key("warning")), (StatusCode::CREATED, false));
    assert_eq!(
        server.get(&format!("{ROUTES}/be1")).await.status,
        StatusCode::NOT_FOUND,
        "a dry run stores nothing"
    );
    let warned = server.post(ROUTES, &odd).await;
    assert_eq!(warned.status, StatusCode::CREATED);
    assert!(warned.headers["warning"].to_str().unwrap().starts_with("299 - \""));
    assert_eq!(warned.value["spec"]["colour"], "red", "what others understand is kept");
    server.stop().await;
}

#[tokio::test]
async fn two_writers_lose_nothing() {
    let server = Arc::new(Server::start().await);
    let made = server.post(SERVICES, &service("be1")).await.value;
    let path = format!("{SERVICES}/be1");
    let mut first = made.clone();
    first["metadata"]["labels"]["first"] = "yes".into();
    assert_eq!(server.put(&path, &first).await.status, StatusCode::OK);
    let mut second = made.clone();
    second["metadata"]["labels"]["second"] = "yes".into();
    let refused = server.put(&path, &second).await;
    assert_eq!((refused.status, &refused.value["reason"]), (StatusCode::CONFLICT, &"Conflict".into()));
    let stale = json!({"metadata": {"resourceVersion": made["metadata"]["resourceVersion"], "labels": {"third": "yes"}}});
    assert_eq!(server.merge(&path, &stale).await.status, StatusCode::CONFLICT);

    let writers: Vec<_> = (0..12)
        .map(|n| {
            let (server, path) = (server.clone(), path.clone());
            tokio::spawn(async move {
                server.merge(&path, &json!({"metadata": {"labels": {format!("w{n}"): "x"}}})).await.status
            })
        })
        .collect();
    for writer in writers {
        assert_eq!(writer.await.unwrap(), StatusCode::OK);
    }
    let labels = server.get(&path).await.value["metadata"]["labels"].as_object().unwrap().clone();
    assert_eq!(labels.keys().filter(|name| name.starts_with('w')).count(), 12);
    Arc::into_inner(server).unwrap().stop().await;
}

#[tokio::test]
async fn patches_come_in_the_forms_that_a_kind_takes() {
    let server = Server::start().await;
    server.post(SERVICES, &service("be1")).await;
    server.post(ROUTES, &route("be1")).await;
    let (service, route) = (format!("{SERVICES}/be1"), format!("{ROUTES}/be1"));
    let strategic = "application/strategic-merge-patch+json";
    let ports = json!({"spec": {"ports": [{"port": 443, "name": "tls"}]}}).to_string();
    let merged = server.call(Method::PATCH, &service, strategic, ports).await;
    assert_eq!(merged.value["spec"]["ports"].as_array().unwrap().len(), 2, "ports merge by number");
    assert_eq!(
        server.call(Method::PATCH, &route, strategic, "{}").await.status,
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    );
    let binary = server.call(Method::PATCH, &route, "application/apply-patch+cbor", "{}").await;
    assert_eq!(binary.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let operations = json!([{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}]).to_string();
    let patched = server.call(Method::PATCH, &route, "application/json-patch+json", operations).await;
    assert_eq!(patched.value["metadata"]["labels"]["a"], "b");
    for wrong in [json!({"metadata": {"name": "other"}}), json!({"kind": "Secret"}), json!(null)] {
        assert!(server.merge(&route, &wrong).await.status.is_client_error(), "{wrong}");
    }
    assert_eq!(server.merge(&format!("{ROUTES}/none"), &json!({})).await.status, StatusCode::NOT_FOUND);
    server.stop().await;
}

#[tokio::test]
async fn status_is_written_apart_from_the_object() {
    let server = Server::start().await;
    let mut with_status = route("be1");
    with_status["status"] = json!({"parents": []});
    with_status["status"]["note"] = "from the object".into();
    assert!(server.post(ROUTES, &with_status).await.value["status"].get("note").is_none());
    let path = format!("{ROUTES}/be1");
    let status = json!({"status": {"note": "kept"}, "spec": {"hostnames": ["a.example"]}});
    let written = server.merge(&format!("{path}/status"), &status).await;
    assert_eq!((written.status, &written.value["status"]["note"]), (StatusCode::OK, &"kept".into()));
    assert!(written.value["spec"].get("hostnames").is_none());
    assert_eq!(written.value["metadata"]["generation"], 1);
    let kept = server.merge(&path, &json!({"status": null, "metadata": {"labels": {"a": "b"}}})).await;
    assert_eq!(kept.value["status"]["note"], "kept");
    server.stop().await;
}

#[tokio::test]
async fn a_namespace_goes_with_its_contents() {
    let server = Server::start().await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    assert_eq!(server.post("/api/v1/namespaces", &namespace).await.status, StatusCode::CREATED);
    let inside = "/api/v1/namespaces/shop/services";
    assert_eq!(server.post(inside, &service("be1")).await.status, StatusCode::CREATED);
    assert_eq!(server.delete("/api/v1/namespaces/shop").await.status, StatusCode::OK);
    assert_eq!(server.get(&format!("{inside}/be1")).await.status, StatusCode::NOT_FOUND);
    assert_eq!(server.delete("/api/v1/namespaces/default").await.status, StatusCode::FORBIDDEN);
    server.stop().await;
}

#[tokio::test]
async fn preconditions_and_finalizers_hold_a_delete_back() {
    let server = Server::start().await;
    let mut held = service("be1");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    let uid = server.post(SERVICES, &held).await.value["metadata"]["uid"].clone();
    let path = format!("{SERVICES}/be1");
    let wrong = json!({"preconditions": {"uid": "other"}}).to_string();
    assert_eq!(
        server.call(Method::DELETE, &path, "application/json", wrong).await.status,
        StatusCode::CONFLICT
    );
    let right = json!({"preconditions": {"uid": uid}, "dryRun": ["All"]}).to_string();
    assert_eq!(server.call(Method::DELETE, &path, "application/json", right).await.status, StatusCode::OK);
    let leaving = server.delete(&path).await.value;
    assert!(leaving["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(server.get(&path).await.status, StatusCode::OK);
    assert_eq!(server.merge(&path, &json!({"metadata": {"finalizers": null}})).await.status, StatusCode::OK);
    assert_eq!(server.get(&path).await.status, StatusCode::NOT_FOUND);
    server.stop().await;
}

#[tokio::test]
async fn tables_and_older_versions_are_served() {
    let server = Server::start().await;
    server.post(ROUTES, &route("be1")).await;
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let request = server.request(Method::GET, ROUTES).header("accept", accept).body(Full::default()).unwrap();
    let table = answer(server.send(request).await).await.value;
    assert_eq!((&table["kind"], &table["rows"][0]["cells"][0]), (&"Table".into(), &"be1".into()));
    let older = ROUTES.replace("/v1/", "/v1beta1/");
    let found = server.get(&format!("{older}/be1")).await.value;
    assert_eq!(found["apiVersion"], "gateway.networking.k8s.io/v1beta1");
    let mut old = route("be2");
    old["apiVersion"] = "gateway.networking.k8s.io/v1beta1".into();
    assert_eq!(server.post(&older, &old).await.status, StatusCode::CREATED);
    assert_eq!(
        server.get(&format!("{ROUTES}/be2")).await.value["apiVersion"],
        "gateway.networking.k8s.io/v1"
    );
    assert_eq!(server.post(ROUTES, &old).await.status, StatusCode::BAD_REQUEST);
    server.stop().await;
}

#[tokio::test]
async fn odd_verbs_and_paths_are_refused() {
    let server = Server::start().await;
    for (method, path) in [(Method::DELETE, SERVICES), (Method::PUT, SERVICES), (Method::OPTIONS, SERVICES)] {
        let refused = server.call(method.clone(), path, "application/json", service("x").to_string()).await;
        assert_eq!(refused.status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
    }
    let created = server.post(&format!("{SERVICES}?dryRun=Some"), &service("x")).await;
    assert_eq!(created.status, StatusCode::BAD_REQUEST);
    assert_eq!(server.get("/api/v1/namespaces/default/services/a%2Fb").await.status, StatusCode::NOT_FOUND);
    assert_eq!(server.get("/api/v1/namespaces/%ff/services").await.status, StatusCode::BAD_REQUEST);
    let none: Value = server.get(&format!("{SERVICES}?resourceVersion=999999")).await.value;
    assert_eq!(none["reason"], "Timeout");
    server.stop().await;
}
