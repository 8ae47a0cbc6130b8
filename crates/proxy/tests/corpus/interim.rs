//! RFC 9110 section 15.2: 1xx answers pass, over each protocol on each side, before the answer and not with it.

mod ends;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use ends::{Heads, Origin, Say};
use envoy_types::pb::envoy::config::route::v3::Route;
use http::Version;
use tokio::time::timeout;
use weft_proxy::static_config::StaticResources;

use crate::{
    edge::Edge,
    mesh::{
        LIMIT, free_port,
        pair::Pair,
        xds::{Speak, cluster, http, listener, plain_chain, to, to_with_retries, vhost, with_access_log},
    },
};

const BOTH: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];

fn speak(version: Version) -> Speak {
    if version == Version::HTTP_2 { Speak::Http2 } else { Speak::Http1 }
}

/// A proxy before these origins, each at the path of its place.
fn edge(origins: &[Origin], route: fn(&str, &str) -> Route) -> (SocketAddr, Edge) {
    let at = free_port();
    let routes = (0..origins.len()).map(|place| route(&format!("/{place}"), &format!("o{place}")));
    let clusters = origins
        .iter()
        .enumerate()
        .map(|(place, origin)| cluster(&format!("o{place}"), &[origin.at], speak(origin.version), None));
    let web = http("web", vec![vhost("all", &["*"], routes.collect())], None);
    let edge = Edge::start(StaticResources {
        listeners: vec![listener("web", at, vec![plain_chain(web)])],
        clusters: clusters.collect(),
        ..StaticResources::default()
    });
    (at, edge)
}

/// What a client got of these words, on a connection of its own.
async fn asked(version: Version, at: SocketAddr, path: &str, say: &Say) -> Heads {
    timeout(LIMIT, ends::ask(version, at, path, say)).await.expect("an answer in time")
}

/// The origin waits before its answer until the client has got all of them.
#[tokio::test]
async fn hints_pass_while_the_answer_is_awaited() {
    let cases = [(BOTH[0], false), (BOTH[0], true), (BOTH[1], false), (BOTH[1], true)];
    let (mut says, mut origins) = (Vec::new(), Vec::new());
    for (upstream, gets) in cases {
        let say = Arc::new(Say { hints: vec![102, 103, 103], waits: true, gets, ..Say::default() });
        origins.push(Origin::start(upstream, Arc::clone(&say)).await);
        says.push(say);
    }
    let (at, _edge) = edge(&origins, to);
    for (place, (upstream, gets)) in cases.into_iter().enumerate() {
        for downstream in BOTH {
            let heads = asked(downstream, at, &format!("/{place}"), &says[place]).await;
            let case = format!("{upstream:?} to {downstream:?}, bodiless {gets}");
            assert_eq!(heads.statuses(), [102, 103, 103, 200], "{case}");
            for (_, fields) in &heads.0[..3] {
                assert_eq!(fields["link"], "</a.css>; rel=preload", "{case}");
                assert_eq!(fields["server"], "weft", "as in the answer: {case}");
                for name in ["x-hop", "connection", "keep-alive", "content-length", "transfer-encoding"] {
                    assert!(!fields.contains_key(name), "{name}, {case}");
                }
            }
        }
    }
}

/// An origin of each kind, with these words.
async fn of_each(say: impl Fn() -> Say) -> Vec<Origin> {
    let mut origins = Vec::new();
    for upstream in BOTH {
        origins.push(Origin::start(upstream, Arc::new(say())).await);
    }
    origins
}

/// Each request has its own, also where they share both connections.
#[tokio::test]
async fn hints_go_to_their_own_request() {
    let origins = of_each(|| Say { hints: vec![103], ..Say::default() }).await;
    let (at, _edge) = edge(&origins, to);
    let own = |heads: &Heads, path: &str| {
        assert_eq!(heads.statuses(), [103, 200]);
        assert!(heads.0.iter().all(|(_, fields)| fields["x-path"] == path), "{path}: {heads:?}");
    };
    for place in 0..origins.len() {
        let path = |number: usize| format!("/{place}/{number}");
        let mut client = ends::H1::connect(at).await;
        for number in 0..5 {
            own(
                &timeout(LIMIT, client.ask(&path(number), "1.1", &Say::default())).await.unwrap(),
                &path(number),
            );
        }
        let client = ends::h2_client(at).await;
        let asking = (0..20).map(|number| {
            let client = client.clone();
            async move { ends::ask_h2(client, &path(number), &Say::default()).await }
        });
        let all = timeout(LIMIT, futures_util::future::join_all(asking)).await.unwrap();
        for (number, heads) in all.iter().enumerate() {
            own(heads, &path(number));
        }
    }
}

#[tokio::test]
async fn hints_pass_between_members() {
    let say = Arc::new(Say { hints: vec![103, 102], waits: true, ..Say::default() });
    let origin = Origin::start(Version::HTTP_11, Arc::clone(&say)).await;
    let pair = Pair::start(origin.at, Speak::Http2);
    for downstream in BOTH {
        assert_eq!(asked(downstream, pair.at, "/", &say).await.statuses(), [103, 102, 200], "{downstream:?}");
    }
}

#[tokio::test]
async fn a_client_of_http10_gets_the_answer_alone() {
    let origins = of_each(|| Say { hints: vec![103, 102], ..Say::default() }).await;
    let (at, _edge) = edge(&origins, to);
    for (place, origin) in origins.iter().enumerate() {
        let mut client = ends::H1::connect(at).await;
        let (path, say) = (format!("/{place}"), Say::default());
        let asked = client.ask(&path, "1.0", &say);
        assert_eq!(timeout(LIMIT, asked).await.unwrap().statuses(), [200], "{:?}", origin.version);
    }
}

/// As many as are allowed pass; one more, or too large ones, are a failure of the upstream's.
#[tokio::test]
async fn hints_without_end_are_an_upstreams_failure() {
    let cases = [(100, 10, 100), (101, 10, 100), (5, 25_000, 2)];
    let mut origins = Vec::new();
    for (hints, pad, _) in cases {
        origins.extend(of_each(|| Say { hints: vec![103; hints], pad, ..Say::default() }).await);
    }
    let (at, _edge) = edge(&origins, to);
    for (place, origin) in origins.iter().enumerate() {
        let (hints, bytes, passed) = cases[place / 2];
        for downstream in BOTH {
            let heads = asked(downstream, at, &format!("/{place}"), &Say::default()).await.statuses();
            let case = format!("{hints} of {bytes}, {:?} to {downstream:?}: {heads:?}", origin.version);
            let (last, before) = heads.split_last().unwrap();
            assert_eq!(before, vec![103; passed], "{case}");
            let fits = if passed == hints { *last == 200 } else { matches!(last, 502 | 503) };
            assert!(fits, "{case}");
        }
    }
}

/// The proxy says 100 itself, once, when the body is wanted; what the upstream says of it is for nobody.
#[tokio::test]
async fn who_expects_a_continue_gets_one_and_nobody_else() {
    let origins = of_each(|| Say { hints: vec![100, 103, 100], ..Say::default() }).await;
    let (at, _edge) = edge(&origins, to);
    for (place, origin) in origins.iter().enumerate() {
        for downstream in BOTH {
            let case = format!("{:?} to {downstream:?}", origin.version);
            let expecting = Say { expects: true, ..Say::default() };
            let heads = asked(downstream, at, &format!("/{place}"), &expecting).await;
            assert_eq!(heads.statuses(), [100, 103, 200], "{case}");
            assert_eq!(heads.0[2].1["x-body"], "body", "{case}");
            assert_eq!(heads.0[2].1["x-expect"], "1", "the upstream may refuse: {case}");
            let heads = asked(downstream, at, &format!("/{place}"), &Say::default()).await;
            assert_eq!(heads.statuses(), [103, 200], "{case}");
        }
    }
}

/// A hint is no answer: its try may fail, and another one answers.
#[tokio::test]
async fn a_request_is_tried_again_after_a_hint() {
    let mut origins = Vec::new();
    for _ in BOTH {
        origins.extend(of_each(|| Say { hints: vec![103], tries: 2, ..Say::default() }).await);
    }
    let (at, _edge) = edge(&origins, to_with_retries);
    for (place, origin) in origins.iter().enumerate() {
        let case = format!("{:?} to {:?}", origin.version, BOTH[place / 2]);
        let asking = Say { gets: true, ..Say::default() };
        let heads = asked(BOTH[place / 2], at, &format!("/{place}"), &asking).await;
        assert_eq!(heads.statuses(), [103, 103, 200], "{case}");
        let tries: Vec<_> = heads.0.iter().map(|(_, fields)| fields["x-try"].as_str()).collect();
        assert_eq!(tries, ["1", "2", "2"], "{case}");
    }
}

/// One line a request, of the final answer.
#[tokio::test]
async fn the_log_tells_of_the_answer() {
    let origin =
        Origin::start(Version::HTTP_11, Arc::new(Say { hints: vec![103, 102], ..Say::default() })).await;
    let at = free_port();
    let log = std::env::temp_dir().join(format!("weft-interim-{:x}.log", fastrand::u64(..)));
    let web = http("web", vec![vhost("all", &["*"], vec![to("/", "o")])], None);
    let web = with_access_log(web, &log, "%RESPONSE_CODE% %RESPONSE_FLAGS%\n");
    let edge = Edge::start(StaticResources {
        listeners: vec![listener("web", at, vec![plain_chain(web)])],
        clusters: vec![cluster("o", &[origin.at], Speak::Http1, None)],
        ..StaticResources::default()
    });
    for downstream in BOTH {
        assert_eq!(asked(downstream, at, "/", &Say::default()).await.statuses(), [103, 102, 200]);
    }
    tokio::task::spawn_blocking(move || drop(edge)).await.unwrap();
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "200 -\n200 -\n");
    let _ = std::fs::remove_file(log);
}

/// An answer's time goes on, and that in which nothing moves begins anew.
#[tokio::test]
async fn hints_keep_a_quiet_stream_open_and_prolong_no_deadline() {
    use crate::mesh::xds::{duration, led};
    let every = Duration::from_millis(300);
    let say = Arc::new(Say { hints: vec![102; 8], every, ..Say::default() });
    let origin = Origin::start(Version::HTTP_11, say).await;
    let at = free_port();
    let quiet = led(to("/quiet", "o"), |action| {
        action.timeout = duration(Duration::ZERO);
        action.idle_timeout = duration(Duration::from_millis(1200));
    });
    let short = led(to("/short", "o"), |action| action.timeout = duration(Duration::from_millis(1200)));
    let web = http("web", vec![vhost("all", &["*"], vec![quiet, short])], None);
    let _edge = Edge::start(StaticResources {
        listeners: vec![listener("web", at, vec![plain_chain(web)])],
        clusters: vec![cluster("o", &[origin.at], Speak::Http1, None)],
        ..StaticResources::default()
    });
    let client = ends::h2_client(at).await;
    let say = Say::default();
    let (quiet, short) = timeout(LIMIT, async {
        tokio::join!(
            ends::ask_h2(client.clone(), "/quiet", &say),
            ends::ask_h2(client.clone(), "/short", &say),
        )
    })
    .await
    .unwrap();
    assert_eq!(quiet.statuses().last(), Some(&200), "2.4 s of hints: {:?}", quiet.statuses());
    assert_eq!(short.statuses().last(), Some(&504), "{:?}", short.statuses());
}
