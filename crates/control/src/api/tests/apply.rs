//! Server-side apply, pages, and what is computed when an object is read.

use http_body_util::Full;

use super::*;

const APPLY: &str = "application/apply-patch+yaml";

impl Server {
    async fn apply(&self, path: &str, manager: &str, body: &Value) -> Answer {
        let path = format!("{path}?fieldManager={manager}");
        self.call(Method::PATCH, &path, APPLY, body.to_string()).await
    }

    /// Reads until the snapshot shows the object.
    async fn settled(&self, path: &str) -> Value {
        for _ in 0..200 {
            let value = self.get(path).await.value;
            if !value["status"].to_string().contains("Pending") {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{path} stays pending");
    }
}

#[tokio::test]
async fn server_side_apply_makes_changes_and_conflicts() {
    let server = Server::start().await;
    let path = format!("{SERVICES}/be1");
    let made = server.apply(&path, "ana", &service("be1")).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.value);
    assert_eq!(made.value["metadata"]["managedFields"][0]["manager"], "ana");
    let again = server.apply(&path, "ana", &service("be1")).await;
    assert_eq!(again.value["metadata"]["resourceVersion"], made.value["metadata"]["resourceVersion"]);

    let mut other = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "be1"}});
    other["spec"] = json!({"ports": [{"port": 80, "name": "web"}, {"port": 443, "name": "tls"}]});
    let refused = server.apply(&path, "bo", &other).await;
    assert_eq!((refused.status, &refused.value["reason"]), (StatusCode::CONFLICT, &"Conflict".into()));
    let cause = &refused.value["details"]["causes"][0];
    assert_eq!(
        (&cause["reason"], &cause["field"]),
        (&"FieldManagerConflict".into(), &".spec.ports[port=80].name".into())
    );
    assert!(refused.value["message"].as_str().unwrap().contains("conflict with \"ana\" using v1"));
    let forced = format!("{path}?fieldManager=bo&force=true");
    let forced = server.call(Method::PATCH, &forced, APPLY, other.to_string()).await;
    assert_eq!(forced.status, StatusCode::OK, "{}", forced.value);
    assert_eq!(forced.value["spec"]["ports"].as_array().unwrap().len(), 2);
    assert_eq!(forced.value["spec"]["selector"], json!({"app": "be1"}), "ana's stays");

    // An edit takes its field over, and the next apply says so.
    server.merge(&format!("{path}?fieldManager=editor"), &json!({"spec": {"selector": {"app": "x"}}})).await;
    let refused = server.apply(&path, "ana", &service("be1")).await;
    let fields: Vec<&str> = refused.value["details"]["causes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cause| cause["field"].as_str().unwrap())
        .collect();
    assert_eq!(fields, [".spec.ports[port=80].name", ".spec.selector.app"]);
    // YAML is read; so are mistakes, and nothing is stored then.
    let before = server.store.revision();
    let yaml = "apiVersion: v1\nkind: Service\nmetadata: {name: be9}\nspec: {ports: [{port: 80000}]}\n";
    let wrong = server.call(Method::PATCH, &format!("{SERVICES}/be9?fieldManager=a"), APPLY, yaml).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", wrong.value);
    let yaml = yaml.replace("80000", "80");
    let nobody = server.call(Method::PATCH, &format!("{SERVICES}/be9"), APPLY, yaml.clone()).await;
    assert_eq!(nobody.status, StatusCode::BAD_REQUEST);
    assert_eq!(server.store.revision(), before);
    let dry = format!("{SERVICES}/be9?fieldManager=a&dryRun=All");
    assert_eq!(server.call(Method::PATCH, &dry, APPLY, yaml.clone()).await.status, StatusCode::CREATED);
    assert_eq!(server.get(&format!("{SERVICES}/be9")).await.status, StatusCode::NOT_FOUND);
    let made = server.call(Method::PATCH, &format!("{SERVICES}/be9?fieldManager=a"), APPLY, yaml).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.value);
    server.stop().await;
}

#[tokio::test]
async fn a_yaml_bomb_is_a_small_error() {
    let server = Server::start().await;
    let mut laughs = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
    for n in 1..12 {
        let below = format!("*a{}", n - 1);
        laughs.push_str(&format!("a{n}: &a{n} [{}]\n", [below.as_str(); 9].join(",")));
    }
    let deep = format!("a: {}", "[".repeat(100_000));
    let anchors: String = (0..100_000).map(|n| format!("k{n}: &k{n} 1\n")).collect();
    for (what, body) in [("laughs", laughs), ("deep", deep), ("anchors", anchors)] {
        let began = std::time::Instant::now();
        let refused = server.call(Method::PATCH, &format!("{SERVICES}/x?fieldManager=a"), APPLY, body).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{what}: {}", refused.value);
        // Generous for a debug build on a busy machine; the bomb itself would take for ever.
        assert!(began.elapsed() < Duration::from_secs(10), "{what}: {:?}", began.elapsed());
    }
    server.stop().await;
}

#[tokio::test]
async fn a_list_comes_in_pages_of_one_revision() {
    let server = Server::start().await;
    for n in 0..7 {
        server.post(SERVICES, &service(&format!("s{n}"))).await;
    }
    let mut names = Vec::new();
    let mut path = format!("{SERVICES}?limit=3&labelSelector=app%21%3Ds3");
    let first = server.get(&path).await.value;
    let revision = first["metadata"]["resourceVersion"].clone();
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    // What happens meanwhile is not in the later pages.
    server.delete(&format!("{SERVICES}/s6")).await;
    server.post(SERVICES, &service("s9")).await;
    let mut page = first;
    loop {
        assert_eq!(page["metadata"]["resourceVersion"], revision);
        names.extend(page["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].clone()));
        let Some(next) = page["metadata"]["continue"].as_str() else { break };
        path = format!("{SERVICES}?limit=3&labelSelector=app%21%3Ds3&continue={next}");
        page = server.get(&path).await.value;
    }
    assert_eq!(names, ["s0", "s1", "s2", "s4", "s5", "s6"]);
    let gone = server.get(&format!("{SERVICES}?limit=3&continue=invented")).await;
    assert_eq!((gone.status, &gone.value["reason"]), (StatusCode::GONE, &"Expired".into()));
    assert_eq!(server.get(&format!("{SERVICES}?limit=many")).await.status, StatusCode::BAD_REQUEST);
    server.stop().await;
}

#[tokio::test]
async fn conditions_tell_what_the_findings_say_and_are_not_stored() {
    let server = Server::start().await;
    let path = format!("{ROUTES}/be1");
    let conditions = |value: &Value| -> Vec<String> {
        value["status"]["parents"][0]["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| format!("{}={} {}", c["type"], c["status"], c["reason"]).replace('"', ""))
            .collect()
    };
    server.post(ROUTES, &route("be1")).await;
    let alone = server.settled(&path).await;
    assert_eq!(
        conditions(&alone),
        ["Accepted=False NoMatchingParent", "ResolvedRefs=False BackendNotFound"],
        "{alone}"
    );
    server.post(SERVICES, &service("be1")).await;
    let mut told = Vec::new();
    for _ in 0..200 {
        told = conditions(&server.get(&path).await.value);
        if told == ["Accepted=True Accepted", "ResolvedRefs=True ResolvedRefs"] {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(told, ["Accepted=True Accepted", "ResolvedRefs=True ResolvedRefs"]);
    // What a client read and writes back is not stored.
    let read = server.get(&path).await.value;
    let written = server.put(&path, &read).await;
    assert_eq!(written.status, StatusCode::OK);
    let key = weft_store::Key::new("gateway.networking.k8s.io", "httproutes", "default", "be1");
    let stored = server.store.get(&key).await.unwrap().unwrap();
    let stored: Value = serde_json::from_slice(&stored.value).unwrap();
    assert!(stored.get("status").is_none(), "{stored}");
    let service_path = format!("{SERVICES}/be1");
    let shown = server.settled(&service_path).await;
    assert_eq!(
        (&shown["spec"]["type"], &shown["spec"]["ports"][0]["protocol"]),
        (&"ClusterIP".into(), &"TCP".into())
    );
    assert_eq!(shown["status"]["conditions"][1]["reason"], "NoWorkload");
    let raw = server.get(&format!("{service_path}?computed=false")).await.value;
    assert!(raw.get("status").is_none() && raw["spec"].get("type").is_none(), "{raw}");
    server.put(&service_path, &shown).await;
    assert_eq!(server.get(&format!("{service_path}?computed=false")).await.value["spec"], raw["spec"]);
    // A request that is no list of ours keeps its words.
    let request = server.request(Method::GET, "/nothing/at/all").body(Full::default()).unwrap();
    assert_eq!(answer(server.send(request).await).await.value["kind"], "Status");
    server.stop().await;
}
