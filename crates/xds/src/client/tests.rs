//! The asking end's rules, one fact a test. The server is written out by hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3 as discovery;
use prost::Message;

use super::{Handler, Mode, Names, Request, Response, Session, Update};
use crate::{Any, CDS, EDS, LDS, Node, Resource, wire};

/// Writes down what it is told: `+name`, `-name`, `full`; refuses what is called `bad`.
#[derive(Default)]
struct Diary(Vec<String>);

impl Handler for Diary {
    fn apply(&mut self, _type_url: &str, update: Update) -> Result<(), String> {
        let mut line: Vec<String> =
            update.added.iter().map(|resource| format!("+{}", resource.name)).collect();
        line.extend(update.removed.iter().map(|name| format!("-{name}")));
        if update.full {
            line.push("full".to_owned());
        }
        self.0.push(line.join(" "));
        match update.added.iter().find(|resource| resource.name == "bad") {
            Some(_) => Err("bad: not so".to_owned()),
            None => Ok(()),
        }
    }
}

fn body(type_url: &str, name: &str, content: &str) -> Any {
    let mut value = Vec::new();
    wire::put_payload(&mut value, 1, name.as_bytes());
    wire::put_payload(&mut value, 2, content.as_bytes());
    Any { type_url: type_url.to_owned(), value }
}

fn sotw(type_url: &str, nonce: &str, names: &[&str]) -> Response {
    Response::Sotw(discovery::DiscoveryResponse {
        type_url: type_url.to_owned(),
        version_info: format!("v{nonce}"),
        nonce: nonce.to_owned(),
        resources: names.iter().map(|name| body(type_url, name, "")).collect(),
        ..Default::default()
    })
}

fn delta(type_url: &str, nonce: &str, names: &[&str], removed: &[&str]) -> Response {
    let resource = |name: &&str| discovery::Resource {
        name: (*name).to_owned(),
        version: "1".to_owned(),
        resource: Some(body(type_url, name, "")),
        ..Default::default()
    };
    Response::Delta(discovery::DeltaDiscoveryResponse {
        type_url: type_url.to_owned(),
        nonce: nonce.to_owned(),
        resources: names.iter().map(resource).collect(),
        removed_resources: removed.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    })
}

/// State of the world: `names @nonce vVERSION !error`; delta: `+names -names @nonce name=version !error`.
fn shown<'a>(requests: impl IntoIterator<Item = &'a Request>) -> Vec<String> {
    let line = |request: &Request| {
        let mut words = Vec::new();
        let (nonce, error, node) = match request {
            Request::Sotw(request) => {
                words.extend(request.resource_names.iter().cloned());
                if !request.version_info.is_empty() {
                    words.push(request.version_info.clone());
                }
                (&request.response_nonce, &request.error_detail, &request.node)
            }
            Request::Delta(request) => {
                words.extend(request.resource_names_subscribe.iter().map(|name| format!("+{name}")));
                words.extend(request.resource_names_unsubscribe.iter().map(|name| format!("-{name}")));
                let initial: BTreeMap<_, _> = request.initial_resource_versions.iter().collect();
                words.extend(initial.iter().map(|(name, version)| format!("{name}={version}")));
                (&request.response_nonce, &request.error_detail, &request.node)
            }
        };
        if !nonce.is_empty() {
            words.push(format!("@{nonce}"));
        }
        words.extend(error.iter().map(|error| format!("!{}", error.message)));
        words.extend(node.iter().map(|node| format!("from {}", node.id)));
        words.join(" ")
    };
    requests.into_iter().map(line).collect()
}

struct Scene {
    session: Session,
    diary: Diary,
}

impl Scene {
    fn new(mode: Mode) -> Self {
        let node = Node { id: "me".to_owned(), ..Default::default() };
        Self { session: Session::new(mode, node), diary: Diary::default() }
    }

    #[track_caller]
    fn want(&mut self, type_url: &str, names: Names, expected: &[&str]) {
        assert_eq!(shown(&self.session.subscribe(type_url, names)), expected);
    }

    #[track_caller]
    fn connect(&mut self, expected: &[&str]) {
        assert_eq!(shown(&self.session.connected()), expected);
    }

    #[track_caller]
    fn hear(&mut self, response: Response, applied: &str, answer: &str) {
        let request = self.session.on_response(response, &mut self.diary);
        assert_eq!(self.diary.0.drain(..).collect::<Vec<_>>().join("; "), applied);
        assert_eq!(shown(&request).join("; "), answer);
    }
}

#[test]
fn sotw_ack_nack_and_reconnect() {
    let mut scene = Scene::new(Mode::Sotw);
    scene.want(CDS, Names::All, &[]);
    scene.want(EDS, Names::only(["a"]), &[]);
    scene.connect(&["from me", "a"]);
    scene.hear(sotw(CDS, "1", &["a", "b"]), "+a +b full", "v1 @1");
    scene.hear(sotw(CDS, "2", &["bad"]), "+bad -a -b full", "v1 @2 !bad: not so");
    scene.hear(sotw(CDS, "3", &["b"]), "+b -a full", "v3 @3");
    scene.hear(sotw(EDS, "4", &["a", "unwanted"]), "+a", "a v4 @4");
    scene.want(EDS, Names::only(["a", "b"]), &["a b v4 @4"]);
    scene.want(EDS, Names::only(["a", "b"]), &[]);
    scene.session.disconnected();
    scene.want(EDS, Names::only(["b"]), &[]);
    scene.connect(&["v3 from me", "b v4"]);
    // What went away while we were away.
    scene.hear(sotw(CDS, "1", &["c"]), "+c -b full", "v1 @1");
}

#[test]
fn delta_ack_nack_and_reconnect_with_versions() {
    let mut scene = Scene::new(Mode::Delta);
    scene.want(CDS, Names::All, &[]);
    scene.want(EDS, Names::only(["a", "b"]), &[]);
    scene.connect(&["from me", "+a +b"]);
    scene.hear(delta(CDS, "1", &["a", "b"], &[]), "+a +b", "@1");
    scene.hear(delta(CDS, "2", &["bad"], &["a"]), "+bad -a", "@2 !bad: not so");
    scene.hear(delta(CDS, "3", &["c"], &["b"]), "+c -b", "@3");
    scene.hear(delta(EDS, "4", &["a"], &["b"]), "+a -b", "@4");
    scene.want(EDS, Names::only(["a", "c"]), &["+c -b"]);
    scene.want(EDS, Names::All, &["+* -a -c"]);
    scene.session.disconnected();
    scene.connect(&["a=1 c=1 from me", "+* a=1"]);
}

#[test]
fn nothing_is_asked_of_a_type_before_something_is_wanted() {
    let mut scene = Scene::new(Mode::Delta);
    scene.want(EDS, Names::only::<String>([]), &[]);
    scene.connect(&[]);
    scene.want(EDS, Names::only(["a"]), &["+a from me"]);
    scene.want(EDS, Names::only::<String>([]), &["-a"]);
}

#[test]
fn a_response_that_makes_no_sense_is_refused_before_the_handler_sees_it() {
    let mut scene = Scene::new(Mode::Sotw);
    scene.want(CDS, Names::All, &[]);
    scene.connect(&["from me"]);
    scene.hear(sotw(CDS, "1", &["a", "a"]), "", "@1 !a: twice in one response");
    let mut other = body(LDS, "x", "");
    other.value.push(0xff);
    let response = Response::Sotw(discovery::DiscoveryResponse {
        type_url: CDS.to_owned(),
        nonce: "2".to_owned(),
        resources: vec![other, Any { type_url: LDS.to_owned(), value: vec![0xff] }, body(LDS, "y", "")],
        ..Default::default()
    });
    // Damaged bytes still say whose they are, when the name comes before the damage.
    let problems = format!(
        "@2 !x: does not decode as {LDS}; a resource of {LDS} does not decode or has no name; \
         y: type {LDS} in a response of {CDS}"
    );
    scene.hear(response, "", &problems);
    scene.hear(sotw(LDS, "3", &["nobody asked"]), "", "");
    scene.hear(delta(CDS, "4", &[], &[]), "", "");
}

#[test]
fn a_wrapped_resource_is_unwrapped() {
    let inner = discovery::Resource {
        name: "a".to_owned(),
        version: "7".to_owned(),
        resource: Some(body(EDS, "other", "")),
        ..Default::default()
    };
    let wrapper = Any { type_url: crate::types::WRAPPER.to_owned(), value: inner.encode_to_vec() };
    let mut scene = Scene::new(Mode::Sotw);
    scene.want(EDS, Names::only(["a"]), &[]);
    scene.connect(&["a from me"]);
    let response = Response::Sotw(discovery::DiscoveryResponse {
        type_url: EDS.to_owned(),
        nonce: "1".to_owned(),
        resources: vec![wrapper],
        ..Default::default()
    });
    scene.hear(response, "+a", "a @1");
    let held = scene.session.held(EDS).and_then(|held| held.get("a")).map(String::as_str);
    assert_eq!(held, Some("7"));
}

#[test]
fn what_the_server_has_not_spoken_of_is_missing() {
    let mut scene = Scene::new(Mode::Delta);
    scene.want(LDS, Names::All, &[]);
    scene.want(EDS, Names::only(["a", "b", "c"]), &[]);
    scene.connect(&["+a +b +c from me", ""]);
    scene.hear(delta(EDS, "1", &["a"], &["b"]), "+a -b", "@1");
    let missing = scene.session.missing();
    assert_eq!(missing, [(EDS.to_owned(), vec!["c".to_owned()]), (LDS.to_owned(), Vec::new())]);
    scene.hear(delta(LDS, "2", &[], &[]), "", "@2");
    assert_eq!(scene.session.missing().len(), 1);
}

#[test]
fn a_nack_is_short_enough_to_send() {
    struct Talker;
    impl Handler for Talker {
        fn apply(&mut self, _: &str, _: Update) -> Result<(), String> {
            Err("ä".repeat(1 << 20))
        }
    }
    let mut scene = Scene::new(Mode::Sotw);
    scene.want(CDS, Names::All, &[]);
    scene.connect(&["from me"]);
    match scene.session.on_response(sotw(CDS, "1", &["a"]), &mut Talker) {
        Some(Request::Sotw(request)) => {
            let text = request.error_detail.map_or(0, |error| error.message.len());
            assert_eq!(text, 16 << 10);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_received_body_keeps_its_bytes() {
    let body = body(CDS, "a", "x");
    assert_eq!(Arc::new(Resource::received("a".to_owned(), None, body.clone())).body, body);
}
