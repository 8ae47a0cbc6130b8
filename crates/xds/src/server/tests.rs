//! The serving end's rules, one fact a test. Clients are written out by hand here: what they say
//! is part of the fact.

use std::sync::Arc;

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use envoy_types::pb::google::rpc;

use super::{Out, Report, Session, Violation};
use crate::client::Mode;
use crate::{Any, CDS, EDS, LDS, RDS, Resource, Resources, SDS};

/// `"cds a=1"`: a cluster named a with content 1. The short names keep scenarios readable.
fn url(short: &str) -> &'static str {
    match short {
        "cds" => CDS,
        "eds" => EDS,
        "lds" => LDS,
        "rds" => RDS,
        "sds" => SDS,
        "other" => "type.googleapis.com/nobody.Knows",
        _ => panic!("no type {short}"),
    }
}

fn short(type_url: &str) -> &'static str {
    let known = ["cds", "eds", "lds", "rds", "sds", "other"];
    known.into_iter().find(|known| url(known) == type_url).unwrap_or("?")
}

fn version(content: &str) -> String {
    resource("cds", "x", content).version
}

fn resource(kind: &str, name: &str, content: &str) -> Resource {
    let body = Any { type_url: url(kind).to_owned(), value: content.as_bytes().to_vec() };
    Resource::new(name, body)
}

/// `"cds a=1 b=2; eds a=1"`
fn snapshot(text: &str) -> Arc<Resources> {
    let mut builder = Resources::builder();
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let mut words = part.split_whitespace();
        let kind = words.next().unwrap_or_default();
        for word in words {
            let (name, content) = word.split_once('=').unwrap_or((word, "1"));
            builder.put(resource(kind, name, content));
        }
    }
    Arc::new(builder.build(""))
}

/// `"cds#1 a=1 b=2 -c"`: type, nonce, contents, removals.
fn shown(out: &[Out]) -> Vec<String> {
    let mut lines = Vec::new();
    for out in out {
        match out {
            Out::Send(push) => {
                let mut line = format!("{}#{}", short(&push.type_url), push.nonce);
                for resource in &push.resources {
                    line += &format!(" {}={}", resource.name, String::from_utf8_lossy(&resource.body.value));
                }
                for name in &push.removed {
                    line += &format!(" -{name}");
                }
                lines.push(line);
            }
            Out::Report(Report::Ack { type_url, .. }) => lines.push(format!("ack {}", short(type_url))),
            Out::Report(Report::Nack { type_url, resources, .. }) => {
                lines.push(format!("nack {} {}", short(type_url), resources.join(",")).trim_end().to_owned())
            }
            Out::Report(Report::Settled { refused, .. }) => {
                lines.push(if *refused { "settled refused" } else { "settled" }.to_owned());
            }
            Out::Report(Report::Closed) => lines.push("closed".to_owned()),
        }
    }
    lines
}

struct Scene(Session);

impl Scene {
    fn sotw(text: &str) -> Self {
        Self(Session::new(Mode::Sotw, snapshot(text)))
    }

    fn delta(text: &str) -> Self {
        Self(Session::new(Mode::Delta, snapshot(text)))
    }

    #[track_caller]
    fn update(&mut self, text: &str, expected: &[&str]) {
        assert_eq!(shown(&self.0.update(snapshot(text))), expected);
    }

    #[track_caller]
    fn ask(&mut self, kind: &str, names: &[&str], nonce: &str, error: &str, expected: &[&str]) {
        let request = DiscoveryRequest {
            type_url: url(kind).to_owned(),
            resource_names: owned(names),
            response_nonce: nonce.to_owned(),
            error_detail: detail(error),
            ..Default::default()
        };
        match self.0.on_request(request) {
            Ok(out) => assert_eq!(shown(&out), expected),
            Err(violation) => panic!("{violation}"),
        }
    }

    #[track_caller]
    fn change(&mut self, kind: &str, add: &[&str], remove: &[&str], expected: &[&str]) {
        self.delta_request(kind, add, remove, &[], "", "", expected);
    }

    #[track_caller]
    fn answer(&mut self, kind: &str, nonce: &str, error: &str, expected: &[&str]) {
        self.delta_request(kind, &[], &[], &[], nonce, error, expected);
    }

    #[track_caller]
    fn delta_request(
        &mut self,
        kind: &str,
        add: &[&str],
        remove: &[&str],
        initial: &[(&str, &str)],
        nonce: &str,
        error: &str,
        expected: &[&str],
    ) {
        let request = DeltaDiscoveryRequest {
            type_url: url(kind).to_owned(),
            resource_names_subscribe: owned(add),
            resource_names_unsubscribe: owned(remove),
            initial_resource_versions: initial
                .iter()
                .map(|(name, content)| ((*name).to_owned(), version(content)))
                .collect(),
            response_nonce: nonce.to_owned(),
            error_detail: detail(error),
            ..Default::default()
        };
        match self.0.on_delta(request) {
            Ok(out) => assert_eq!(shown(&out), expected),
            Err(violation) => panic!("{violation}"),
        }
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn detail(error: &str) -> Option<rpc::Status> {
    (!error.is_empty()).then(|| rpc::Status { code: 3, message: error.to_owned(), details: Vec::new() })
}

#[test]
fn ack_settles_and_nothing_is_sent_twice() {
    let mut scene = Scene::sotw("cds a=1");
    scene.ask("cds", &[], "", "", &["cds#1 a=1"]);
    scene.ask("cds", &[], "1", "", &["ack cds", "settled"]);
    scene.update("cds a=1", &[]);
    scene.update("cds a=2", &["cds#2 a=2"]);
    scene.ask("cds", &[], "2", "", &["ack cds", "settled"]);
}

#[test]
fn nack_is_reported_with_names_and_does_not_loop() {
    let mut scene = Scene::sotw("cds be1=1 be10=1");
    scene.ask("cds", &[], "", "", &["cds#1 be1=1 be10=1"]);
    let text = "Cluster be10: lb_policy: not supported";
    scene.ask("cds", &[], "1", text, &["nack cds be10", "settled refused"]);
    scene.ask("cds", &[], "1", text, &[]);
    scene.update("cds be1=1 be10=1; eds x=1", &["settled refused"]);
    // The content changes: all but the culprit first, the culprit alone afterwards.
    scene.update("cds be1=2 be10=1", &["cds#2 be1=2"]);
    scene.ask("cds", &[], "2", "", &["ack cds", "cds#3 be1=2 be10=1"]);
    scene.ask("cds", &[], "3", text, &["nack cds be10", "settled refused"]);
    scene.update("cds be1=2 be10=2", &["cds#4 be1=2 be10=2"]);
    scene.ask("cds", &[], "4", "", &["ack cds", "settled"]);
}

#[test]
fn what_a_refused_push_carried_is_said_anew_even_if_taken_back() {
    let mut scene = Scene::delta("rds a=1 b=1");
    scene.change("rds", &["a", "b"], &[], &["rds#1 a=1 b=1"]);
    scene.answer("rds", "1", "", &["ack rds", "settled"]);
    scene.update("rds a=2 b=2", &["rds#2 a=2 b=2"]);
    scene.answer("rds", "2", "nobody says why", &["nack rds", "settled refused"]);
    scene.update("rds a=2 b=1", &["rds#3 a=2 b=1"]);
    scene.answer("rds", "3", "a is bad", &["nack rds a", "settled refused"]);
    // Back to what the client had before; but an Envoy may have taken b=2, or now b=1.
    scene.update("rds a=1 b=1", &["rds#4 a=1 b=1"]);
    scene.answer("rds", "4", "", &["ack rds", "settled"]);
}

#[test]
fn a_refused_addition_that_is_taken_back_is_taken_back_at_the_client() {
    let mut scene = Scene::sotw("cds a=1");
    scene.ask("cds", &[], "", "", &["cds#1 a=1"]);
    scene.ask("cds", &[], "1", "", &["ack cds", "settled"]);
    scene.update("cds a=1 bad=1 good=1", &["cds#2 a=1 bad=1 good=1"]);
    scene.ask("cds", &[], "2", "bad: no roots", &["nack cds bad", "settled refused"]);
    scene.update("cds a=1", &["cds#3 a=1"]);
    scene.ask("cds", &[], "3", "", &["ack cds", "settled"]);

    let mut scene = Scene::delta("cds a=1");
    scene.change("cds", &[], &[], &["cds#1 a=1"]);
    scene.answer("cds", "1", "", &["ack cds", "settled"]);
    scene.update("cds a=1 bad=1 good=1", &["cds#2 bad=1 good=1"]);
    scene.answer("cds", "2", "bad: no roots", &["nack cds bad", "settled refused"]);
    scene.update("cds a=1", &["cds#3 -bad -good"]);
    scene.answer("cds", "3", "", &["ack cds", "settled"]);
}

#[test]
fn a_refused_resource_that_is_taken_away_is_forgotten() {
    let mut scene = Scene::sotw("cds a=1; lds l=1");
    scene.ask("cds", &[], "", "", &["cds#1 a=1"]);
    scene.ask("cds", &[], "1", "", &["ack cds", "settled"]);
    scene.ask("lds", &[], "", "", &["lds#2 l=1"]);
    scene.ask("lds", &[], "2", "l", &["nack lds l", "settled refused"]);
    scene.update("lds m=1", &["lds#3 m=1"]);
    scene.ask("lds", &[], "3", "", &["ack lds", "cds#4"]);
    scene.ask("cds", &[], "4", "", &["ack cds", "settled"]);
}

#[test]
fn dropped_and_wanted_again_behind_a_stale_nonce_is_sent_again() {
    let mut scene = Scene::sotw("eds a=1 b=1");
    scene.ask("eds", &["a", "b"], "", "", &["eds#1 a=1 b=1"]);
    scene.ask("eds", &["a", "b"], "1", "", &["ack eds", "settled"]);
    scene.update("eds a=1 b=2", &["eds#2 b=2"]);
    scene.ask("eds", &["b"], "1", "", &[]);
    scene.ask("eds", &["a", "b"], "1", "", &[]);
    scene.ask("eds", &["a", "b"], "2", "", &["ack eds", "eds#3 a=1"]);
}

#[test]
fn stale_nonce_is_ignored_in_sotw_and_its_subscriptions_count_in_delta() {
    let mut scene = Scene::sotw("eds a=1 b=1");
    scene.ask("eds", &["a"], "", "", &["eds#1 a=1"]);
    scene.ask("eds", &["a"], "1", "", &["ack eds", "settled"]);
    scene.update("eds a=2 b=1", &["eds#2 a=2"]);
    scene.ask("eds", &["a", "b"], "1", "", &[]);
    scene.ask("eds", &["a", "b"], "2", "", &["ack eds", "eds#3 b=1"]);

    let mut scene = Scene::delta("eds a=1 b=1");
    scene.change("eds", &["a"], &[], &["eds#1 a=1"]);
    scene.delta_request("eds", &["b"], &[], &[], "77", "", &[]);
    scene.answer("eds", "1", "", &["ack eds", "eds#2 b=1"]);
}

#[test]
fn one_in_flight_per_type_and_then_the_newest() {
    for mode in ["sotw", "delta"] {
        let mut scene = if mode == "sotw" { Scene::sotw("cds a=1") } else { Scene::delta("cds a=1") };
        let say = |scene: &mut Scene, nonce: &str, expected: &[&str]| match mode {
            "sotw" => scene.ask("cds", &[], nonce, "", expected),
            _ => scene.answer("cds", nonce, "", expected),
        };
        say(&mut scene, "", &["cds#1 a=1"]);
        for content in 2..50 {
            scene.update(&format!("cds a={content}"), &[]);
        }
        say(&mut scene, "1", &["ack cds", "cds#2 a=49"]);
        say(&mut scene, "2", &["ack cds", "settled"]);
    }
}

#[test]
fn a_change_that_is_undone_while_in_flight_is_undone_at_the_client() {
    let mut scene = Scene::delta("cds a=1");
    scene.change("cds", &[], &[], &["cds#1 a=1"]);
    scene.update("cds a=2", &[]);
    scene.update("cds a=1", &[]);
    scene.answer("cds", "1", "", &["ack cds", "settled"]);
}

#[test]
fn a_refused_first_push_does_not_count_as_the_first_word() {
    let mut scene = Scene::sotw("cds a=1");
    scene.ask("cds", &[], "", "", &["cds#1 a=1"]);
    scene.ask("cds", &[], "1", "no", &["nack cds", "settled refused"]);
    // The client may hold clusters from an earlier stream.
    scene.update("", &["cds#2"]);
    scene.ask("cds", &[], "2", "not even that", &["nack cds", "settled refused"]);
    scene.ask("cds", &[], "2", "not even that", &[]);
}

#[test]
fn a_roll_back_is_a_change_too() {
    let mut scene = Scene::delta("cds a=1");
    scene.change("cds", &[], &[], &["cds#1 a=1"]);
    scene.answer("cds", "1", "", &["ack cds", "settled"]);
    scene.update("cds a=2", &["cds#2 a=2"]);
    scene.update("cds a=1", &[]);
    scene.answer("cds", "2", "", &["ack cds", "cds#3 a=1"]);
}

#[test]
fn sotw_wildcard_by_silence_then_names_then_nothing() {
    let mut scene = Scene::sotw("lds a=1 b=1");
    scene.ask("lds", &[], "", "", &["lds#1 a=1 b=1"]);
    scene.ask("lds", &[], "1", "", &["ack lds", "settled"]);
    scene.ask("lds", &["b"], "1", "", &[]);
    scene.update("lds a=2 b=2", &["lds#2 b=2"]);
    scene.ask("lds", &["b"], "2", "", &["ack lds", "settled"]);
    // Names were given once: now an empty list means nothing.
    scene.ask("lds", &[], "2", "", &[]);
    scene.update("lds a=3 b=3", &["settled"]);
    scene.ask("lds", &["*"], "2", "", &["lds#3 a=3 b=3"]);
}

#[test]
fn sotw_full_types_carry_the_full_set_and_say_what_is_not_there() {
    let mut scene = Scene::sotw("lds a=1 b=1");
    scene.ask("lds", &["a"], "", "", &["lds#1 a=1"]);
    scene.ask("lds", &["a"], "1", "", &["ack lds", "settled"]);
    scene.ask("lds", &["a", "b"], "1", "", &["lds#2 a=1 b=1"]);
    scene.ask("lds", &["a", "b", "none"], "2", "", &["ack lds", "lds#3 a=1 b=1"]);
    scene.ask("lds", &["a", "b", "none"], "3", "", &["ack lds", "settled"]);
    scene.update("lds b=1", &["lds#4 b=1"]);
}

#[test]
fn sotw_named_types_send_what_is_new_only_when_named() {
    let mut scene = Scene::sotw("eds a=1 b=1 c=1");
    scene.ask("eds", &[], "", "", &["settled"]);
    scene.ask("eds", &["a"], "", "", &["eds#1 a=1"]);
    scene.ask("eds", &["a"], "1", "", &["ack eds", "settled"]);
    scene.ask("eds", &["a", "b"], "1", "", &["eds#2 b=1"]);
    scene.ask("eds", &["a", "b"], "2", "", &["ack eds", "settled"]);
    scene.update("eds a=2 b=1 c=2", &["eds#3 a=2"]);
    scene.ask("eds", &["b"], "3", "", &["ack eds", "settled"]);
    // Dropped and asked for again: sent again.
    scene.ask("eds", &["a", "b"], "3", "", &["eds#4 a=2"]);
}

#[test]
fn sotw_waits_with_a_named_resource_until_it_exists() {
    let mut scene = Scene::sotw("");
    scene.ask("rds", &["late"], "", "", &["settled"]);
    scene.update("rds late=1", &["rds#1 late=1"]);
}

#[test]
fn an_empty_world_and_an_unknown_type_are_answered_at_once() {
    let mut scene = Scene::sotw("");
    scene.ask("cds", &[], "", "", &["cds#1"]);
    scene.ask("other", &["x"], "", "", &["other#2"]);
    scene.ask("other", &["x"], "2", "", &["ack other"]);
    let mut scene = Scene::delta("");
    scene.change("cds", &[], &[], &["cds#1"]);
    scene.change("other", &["x"], &[], &["other#2 -x"]);
    scene.answer("other", "2", "", &["ack other"]);
}

#[test]
fn sotw_subscribing_before_the_first_answer_needs_no_nonce() {
    let mut scene = Scene::sotw("eds a=1 b=1");
    scene.ask("eds", &["a"], "", "", &["eds#1 a=1"]);
    scene.ask("eds", &["a", "b"], "", "", &[]);
    scene.ask("eds", &["a", "b"], "1", "", &["ack eds", "eds#2 b=1"]);
    scene.ask("eds", &["a", "b"], "2", "", &["ack eds", "settled"]);
    // Beginning anew on the same stream: everything again.
    scene.ask("eds", &["a", "b"], "", "", &["eds#3 a=1 b=1"]);
}

#[test]
fn delta_sends_differences_and_removals() {
    let mut scene = Scene::delta("rds a=1 b=1 c=1");
    scene.change("rds", &["a", "b", "none"], &[], &["rds#1 a=1 b=1 -none"]);
    scene.answer("rds", "1", "", &["ack rds", "settled"]);
    scene.update("rds b=2 c=2", &["rds#2 b=2 -a"]);
    scene.answer("rds", "2", "", &["ack rds", "settled"]);
    scene.update("rds a=3 b=2 none=1", &["rds#3 a=3 none=1"]);
}

#[test]
fn delta_unsubscribe() {
    let mut scene = Scene::delta("cds a=1 b=1");
    scene.change("cds", &[], &[], &["cds#1 a=1 b=1"]);
    scene.answer("cds", "1", "", &["ack cds", "settled"]);
    // A name on top of the wildcard, and gone again: the wildcard restores it.
    scene.change("cds", &["a"], &[], &["cds#2 a=1"]);
    scene.answer("cds", "2", "", &["ack cds", "settled"]);
    scene.change("cds", &[], &["a"], &["cds#3 a=1"]);
    scene.answer("cds", "3", "", &["ack cds", "settled"]);
    scene.change("cds", &["b"], &["*"], &["cds#4 b=1"]);
    scene.answer("cds", "4", "", &["ack cds", "settled"]);
    scene.update("cds a=2 b=2", &["cds#5 b=2"]);
    scene.answer("cds", "5", "", &["ack cds", "settled"]);
    scene.change("cds", &[], &["b"], &[]);
    scene.update("cds a=3 b=3", &["settled"]);
    scene.change("cds", &["*"], &[], &["cds#6 a=3 b=3"]);
}

#[test]
fn delta_reconnect_sends_only_the_difference() {
    let mut scene = Scene::delta("cds same=1 changed=2 new=1");
    let initial = [("same", "1"), ("changed", "1"), ("gone", "1")];
    scene.delta_request("cds", &[], &[], &initial, "", "", &["cds#1 changed=2 new=1"]);
    scene.answer("cds", "1", "", &["ack cds", "cds#2 -gone"]);
    scene.answer("cds", "2", "", &["ack cds", "settled"]);

    let mut scene = Scene::delta("eds a=1");
    scene.delta_request("eds", &["a"], &[], &[("a", "1")], "", "", &["settled"]);
}

#[test]
fn make_before_break() {
    let mut scene = Scene::delta("cds old=1; eds old=1; lds l=1; rds r=1");
    scene.change("cds", &[], &[], &["cds#1 old=1"]);
    scene.change("eds", &["old"], &[], &["eds#2 old=1"]);
    scene.change("lds", &[], &[], &["lds#3 l=1"]);
    scene.change("rds", &["r"], &[], &["rds#4 r=1"]);
    for (kind, nonce) in [("cds", "1"), ("eds", "2"), ("lds", "3")] {
        scene.answer(kind, nonce, "", &[&format!("ack {kind}")]);
    }
    scene.answer("rds", "4", "", &["ack rds", "settled"]);
    let next = "cds new=1; eds new=1; lds l=2; rds r=2";
    scene.update(next, &["cds#5 new=1", "lds#6 l=2", "rds#7 r=2"]);
    scene.answer("cds", "5", "", &["ack cds"]);
    scene.change("eds", &["new"], &[], &["eds#8 new=1"]);
    scene.answer("eds", "8", "", &["ack eds"]);
    scene.answer("lds", "6", "", &["ack lds"]);
    scene.answer("rds", "7", "", &["ack rds", "cds#9 -old", "eds#a -old"]);
    scene.change("eds", &[], &["old"], &[]);
    scene.answer("cds", "9", "", &["ack cds"]);
    scene.answer("eds", "a", "", &["ack eds", "settled"]);
}

#[test]
fn sotw_clusters_are_added_first_and_taken_away_last() {
    let mut scene = Scene::sotw("cds old=1; rds r=1");
    scene.ask("cds", &[], "", "", &["cds#1 old=1"]);
    scene.ask("rds", &["r"], "", "", &["rds#2 r=1"]);
    scene.ask("cds", &[], "1", "", &["ack cds"]);
    scene.ask("rds", &["r"], "2", "", &["ack rds", "settled"]);
    scene.update("cds new=1; rds r=2", &["cds#3 new=1 old=1", "rds#4 r=2"]);
    scene.ask("cds", &[], "3", "", &["ack cds"]);
    scene.ask("rds", &["r"], "4", "", &["ack rds", "cds#5 new=1"]);
    scene.ask("cds", &[], "5", "", &["ack cds", "settled"]);
}

#[test]
fn a_route_waits_for_the_cluster_that_waits() {
    let mut scene = Scene::sotw("cds a=1; rds r=1");
    scene.ask("cds", &[], "", "", &["cds#1 a=1"]);
    scene.ask("rds", &["r"], "", "", &["rds#2 r=1"]);
    scene.ask("rds", &["r"], "2", "", &["ack rds"]);
    scene.update("cds a=1 b=1; rds r=2", &[]);
    scene.ask("cds", &[], "1", "", &["ack cds", "cds#3 a=1 b=1", "rds#4 r=2"]);
}

#[test]
fn a_refused_route_keeps_the_cluster_that_the_old_one_uses() {
    let mut scene = Scene::sotw("cds old=1; rds r=1");
    scene.ask("cds", &[], "", "", &["cds#1 old=1"]);
    scene.ask("cds", &[], "1", "", &["ack cds", "settled"]);
    scene.ask("rds", &["r"], "", "", &["rds#2 r=1"]);
    scene.ask("rds", &["r"], "2", "", &["ack rds", "settled"]);
    scene.update("cds new=1; rds r=2", &["cds#3 new=1 old=1", "rds#4 r=2"]);
    scene.ask("cds", &[], "3", "", &["ack cds"]);
    scene.ask("rds", &["r"], "4", "r: bad regex", &["nack rds r", "settled refused"]);
    scene.update("cds new=1; rds r=3", &["rds#5 r=3"]);
    scene.ask("rds", &["r"], "5", "", &["ack rds", "cds#6 new=1"]);
}

#[test]
fn endpoints_follow_a_changed_cluster_so_that_it_warms() {
    let mut scene = Scene::sotw("cds a=1; eds a=1");
    scene.ask("cds", &[], "", "", &["cds#1 a=1"]);
    scene.ask("cds", &[], "1", "", &["ack cds", "settled"]);
    scene.ask("eds", &["a"], "", "", &["eds#2 a=1"]);
    scene.ask("eds", &["a"], "2", "", &["ack eds", "settled"]);
    scene.update("cds a=2; eds a=1", &["cds#3 a=2", "eds#4 a=1"]);
}

#[test]
fn secrets_wait_for_nobody() {
    let mut scene = Scene::sotw("cds a=1; sds default=1");
    scene.ask("cds", &[], "", "", &["cds#1 a=1"]);
    scene.update("cds a=2; sds default=1", &[]);
    scene.ask("sds", &["default"], "", "", &["sds#2 default=1"]);
}

#[test]
fn what_one_client_can_make_us_keep_is_bounded() {
    let ask = |session: &mut Session, type_url: String, names: usize| {
        session.on_request(DiscoveryRequest {
            type_url,
            resource_names: (0..names).map(|n| n.to_string()).collect(),
            ..Default::default()
        })
    };
    let mut session = Session::new(Mode::Sotw, snapshot(""));
    assert_eq!(ask(&mut session, String::new(), 0), Err(Violation::NoType));
    let too_many = Violation::TooManyNames { type_url: EDS.to_owned() };
    assert_eq!(ask(&mut session, EDS.to_owned(), 65_537), Err(too_many));
    for n in 0..64 {
        assert!(ask(&mut session, format!("t/{n}"), 0).is_ok());
    }
    assert_eq!(ask(&mut session, "t/64".to_owned(), 0), Err(Violation::TooManyTypes));
    let mut only = Session::new(Mode::Sotw, snapshot("sds default=1")).only(SDS);
    assert!(ask(&mut only, String::new(), 1).is_ok());
    assert!(matches!(ask(&mut only, CDS.to_owned(), 0), Err(Violation::OtherType { .. })));
}

#[test]
fn names_in_a_nack_stand_alone() {
    let names = ["outbound", "outbound|80|be1.default", "outbound|80|be1.default2", "be1", "x"];
    let check = |message: &str, expected: &[&str]| {
        assert_eq!(super::push::named_in(message, names), expected, "{message}");
    };
    check("Cluster outbound|80|be1.default: tls", &["outbound|80|be1.default"]);
    check("'outbound|80|be1.default2'", &["outbound|80|be1.default2"]);
    check("route_config outbound: x and be10", &["outbound", "x"]);
    check("nothing", &[]);
    check("", &[]);
}
