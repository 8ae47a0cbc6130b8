//! Watches: what is there, what changes, how they end.

use http_body_util::Full;
use serde_json::Value;

use super::*;

/// A running watch, frame by frame.
struct Frames {
    body: Incoming,
    rest: Vec<u8>,
}

impl Frames {
    async fn open(server: &Server, path: &str, accept: &str) -> Frames {
        let request =
            server.request(Method::GET, path).header("accept", accept).body(Full::default()).unwrap();
        let response = server.send(request).await;
        assert_eq!(response.status(), StatusCode::OK);
        Frames { body: response.into_body(), rest: Vec::new() }
    }

    /// The next frame as `TYPE name`, and whole.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                let frame: Value = serde_json::from_slice(&line).unwrap();
                let name = frame["object"]["metadata"]["name"].as_str().unwrap_or("-");
                return Some((format!("{} {name}", frame["type"].as_str().unwrap()), frame));
            }
            let data = timeout(PATIENCE, self.body.frame()).await.expect("a frame in time")?;
            self.rest.extend_from_slice(&data.unwrap().into_data().unwrap());
        }
    }

    async fn expect(&mut self, expected: &str) -> Value {
        let (label, frame) = self.next().await.expect("a frame");
        assert_eq!(label, expected);
        frame
    }
}

#[tokio::test]
async fn a_watch_begins_with_what_is_there_and_tells_each_change() {
    let server = Server::start().await;
    server.post(SERVICES, &service("a")).await;
    let mut frames =
        Frames::open(&server, "/api/v1/services?watch=true&resourceVersion=0", "application/json").await;
    frames.expect("ADDED a").await;
    server.post(SERVICES, &service("b")).await;
    frames.expect("ADDED b").await;
    let changed =
        server.merge(&format!("{SERVICES}/a"), &json!({"spec": {"selector": {"x": "y"}}})).await.value;
    assert_eq!(plain(&frames.expect("MODIFIED a").await["object"]), plain(&changed));
    server.post(ROUTES, &route("c")).await;
    server.delete(&format!("{SERVICES}/b")).await;
    let gone = frames.expect("DELETED b").await;
    assert_eq!(gone["object"]["metadata"]["resourceVersion"], server.store.revision().to_string());
    server.stop().await;
}

#[tokio::test]
async fn a_watch_continues_after_a_revision() {
    let server = Server::start().await;
    let first = server.post(SERVICES, &service("a")).await.value;
    server.post(SERVICES, &service("b")).await;
    let after = first["metadata"]["resourceVersion"].as_str().unwrap();
    let path = format!("{SERVICES}?watch=1&resourceVersion={after}");
    Frames::open(&server, &path, "application/json").await.expect("ADDED b").await;
    server.stop().await;
}

#[tokio::test]
async fn a_selector_makes_objects_come_and_go() {
    let server = Server::start().await;
    server.post(SERVICES, &service("a")).await;
    server.post(SERVICES, &service("b")).await;
    let path = format!("{SERVICES}?watch=true&labelSelector=tier%3Dgold");
    let mut frames = Frames::open(&server, &path, "application/json").await;
    let tier = |tier: Value| json!({"metadata": {"labels": {"tier": tier}}});
    let a = format!("{SERVICES}/a");
    server.merge(&a, &tier("gold".into())).await;
    frames.expect("ADDED a").await;
    server.merge(&a, &tier("tin".into())).await;
    frames.expect("DELETED a").await;
    server.merge(&format!("{SERVICES}/b"), &tier("gold".into())).await;
    frames.expect("ADDED b").await;
    server.stop().await;
}

#[tokio::test]
async fn a_list_by_watch_ends_with_a_bookmark() {
    let server = Server::start().await;
    server.post(SERVICES, &service("a")).await;
    let path = format!(
        "{SERVICES}?watch=true&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=1"
    );
    let mut frames = Frames::open(&server, &path, "application/json").await;
    frames.expect("ADDED a").await;
    let bookmark = frames.expect("BOOKMARK -").await;
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(bookmark["object"]["metadata"]["resourceVersion"], server.store.revision().to_string());
    frames.expect("BOOKMARK -").await;
    assert!(frames.next().await.is_none(), "the watch ends when its time is over");
    server.stop().await;
}

#[tokio::test]
async fn a_forgotten_or_future_revision_is_gone() {
    let server = Server::start().await;
    let first = server.post(SERVICES, &service("a")).await.value;
    server.post(SERVICES, &service("b")).await;
    server.store.compact(server.store.revision()).await.unwrap();
    let revision = first["metadata"]["resourceVersion"].as_str().unwrap();
    for revision in [revision, "999999"] {
        let gone = server.get(&format!("{SERVICES}?watch=true&resourceVersion={revision}")).await;
        assert_eq!((gone.status, &gone.value["reason"]), (StatusCode::GONE, &"Expired".into()), "{revision}");
    }
    assert_eq!(
        server.get(&format!("{SERVICES}?watch=true&resourceVersion=x")).await.status,
        StatusCode::BAD_REQUEST
    );
    server.stop().await;
}

#[tokio::test]
async fn a_watch_may_come_as_table_rows() {
    let server = Server::start().await;
    server.post(SERVICES, &service("a")).await;
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let mut frames = Frames::open(&server, &format!("{SERVICES}?watch=true"), accept).await;
    let (_, first) = frames.next().await.unwrap();
    assert_eq!(first["object"]["rows"][0]["cells"][0], "a");
    assert!(first["object"]["columnDefinitions"].is_array());
    server.post(SERVICES, &service("b")).await;
    let (_, second) = frames.next().await.unwrap();
    assert_eq!(second["object"]["rows"][0]["cells"][0], "b");
    assert!(second["object"]["columnDefinitions"].is_null());
    server.stop().await;
}

#[tokio::test]
async fn open_watches_do_not_hold_up_a_shutdown() {
    let server = Server::start().await;
    let mut frames = Frames::open(&server, "/api/v1/services?watch=true", "application/json").await;
    let stopped = tokio::spawn(server.stop());
    assert!(frames.next().await.is_none());
    stopped.await.unwrap();
}
