//! What a cluster, a route and a listener ask for is done: limits, health, header fields, mirrors.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

mod mesh;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::{
                CircuitBreakers, Cluster, OutlierDetection, circuit_breakers::Thresholds,
                cluster::CommonLbConfig,
            },
            core::v3::{HealthCheck, health_check},
            endpoint::v3::cluster_load_assignment::{Policy, policy::DropOverload},
            route::v3::{VirtualHost, route_action::RequestMirrorPolicy, virtual_host::TlsRequirementType},
        },
        extensions::filters::network::http_connection_manager::v3::{
            HttpConnectionManager, http_connection_manager::StripPortMode,
        },
        r#type::v3::{FractionalPercent, Percent},
    },
    google::protobuf::{Any, BoolValue, UInt32Value},
};
use mesh::{
    App, LIMIT, Proxy, free_port, get, millis, read_head, send, status,
    xds::{
        Speak, changed, cluster, duration, http, led, listener, managed, plain_chain, to, to_with_retries,
        vhost,
    },
};
use tokio::{io::AsyncReadExt, io::AsyncWriteExt, net::TcpStream};
use weft_proxy::static_config::StaticResources;

fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

/// A proxy with one listener for all hosts.
fn edge(
    hosts: Vec<VirtualHost>,
    clusters: Vec<Any>,
    change: impl FnOnce(&mut HttpConnectionManager),
) -> (SocketAddr, Proxy) {
    let at = free_port();
    let web = managed(http("web", hosts, None), change);
    let resources = StaticResources {
        listeners: vec![listener("web", at, vec![plain_chain(web)])],
        clusters,
        ..StaticResources::default()
    };
    (at, Proxy::start("edge", resources))
}

fn all(routes: Vec<envoy_types::pb::envoy::config::route::v3::Route>) -> Vec<VirtualHost> {
    vec![vhost("all", &["*"], routes)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_fields_are_as_the_listener_says() {
    let app = App::start().await;
    let mut host = vhost("all", &["be"], vec![to("/", "app")]);
    host.include_request_attempt_count = true;
    host.include_attempt_count_in_response = true;
    let mut secure = vhost("secure", &["secure"], vec![to("/", "app")]);
    secure.require_tls = TlsRequirementType::All as i32;
    let clusters = vec![cluster("app", &[app.address], Speak::Http1, None)];
    let (at, _proxy) = edge(vec![host, secure], clusters, |manager| {
        manager.use_remote_address = Some(BoolValue { value: true });
        manager.via = "1.1 weft".to_owned();
        manager.server_name = "edge".to_owned();
        manager.always_set_request_id_in_response = true;
        manager.strip_port_mode = Some(StripPortMode::StripAnyHostPort(true));
    });
    let request = "GET /x HTTP/1.1\r\nhost: be:8080\r\nx-forwarded-for: 1.2.3.4\r\nx-request-id: mine\r\n\
                   connection: close\r\n\r\n";
    let answer = send(at, request).await;
    let (head, seen) = answer.split_once("\r\n\r\n").unwrap();
    for line in [
        "host: be\n",
        "x-forwarded-for: 1.2.3.4,127.0.0.1\n",
        "via: 1.1 weft\n",
        "x-envoy-attempt-count: 1\n",
    ] {
        assert!(seen.contains(line), "{line} in {seen}");
    }
    assert!(!seen.contains("x-request-id: mine"), "{seen}");
    for line in ["server: edge\r\n", "via: 1.1 weft", "x-envoy-attempt-count: 1", "x-request-id: "] {
        assert!(head.contains(line), "{line} in {head}");
    }
    let redirected = get(at, "secure", "/a?b=c").await;
    assert_eq!(status(&redirected), 301, "{redirected}");
    assert!(redirected.contains("location: https://secure/a?b=c\r\n"), "{redirected}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_and_waits_are_bounded() {
    let app = App::start().await;
    let timed = led(to("/stall", "app"), |action| action.timeout = duration(millis(300)));
    let hosts =
        vec![vhost("timed", &["timed"], vec![timed]), vhost("quiet", &["quiet"], vec![to("/", "app")])];
    let clusters = vec![cluster("app", &[app.address], Speak::Http1, None)];
    let (at, _proxy) = edge(hosts, clusters, |manager| {
        manager.stream_idle_timeout = duration(millis(800));
        let options = manager.common_http_protocol_options.get_or_insert_default();
        options.max_headers_count = number(5);
    });
    let many: String = (0..6).map(|n| format!("x-{n}: 1\r\n")).collect();
    let answer = send(at, &format!("GET / HTTP/1.1\r\nhost: quiet\r\n{many}\r\n")).await;
    assert_eq!(status(&answer), 431, "{answer}");
    for (host, least) in [("timed", 250), ("quiet", 800)] {
        let started = Instant::now();
        let answer = get(at, host, "/stall").await;
        let took = started.elapsed();
        assert_eq!(status(&answer), 200, "{answer}");
        assert!(answer.contains("first") && !answer.ends_with("0\r\n\r\n"), "cut, not ended: {answer}");
        assert!(took >= millis(least) && took < millis(5000), "{host} took {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn circuit_breakers_hold_for_all_workers() {
    let app = App::start().await;
    let limited = |name: &str, limits: Thresholds| {
        changed(&cluster(name, &[app.address], Speak::Http1, None), |cluster: &mut Cluster| {
            cluster.circuit_breakers =
                Some(CircuitBreakers { thresholds: vec![limits], ..CircuitBreakers::default() });
        })
    };
    let hosts = ["requests", "refuse", "wait"].map(|name| vhost(name, &[name], vec![to("/", name)]));
    let clusters = vec![
        limited("requests", Thresholds { max_requests: number(1), ..Thresholds::default() }),
        limited(
            "refuse",
            Thresholds {
                max_connections: number(1),
                max_pending_requests: number(0),
                ..Thresholds::default()
            },
        ),
        limited("wait", Thresholds { max_connections: number(1), ..Thresholds::default() }),
    ];
    let (at, _proxy) = edge(hosts.into(), clusters, |_| {});
    for (host, expected) in [("requests", vec![200, 503, 503, 503]), ("wait", vec![200; 4])] {
        let asked = (0..4).map(|_| get(at, host, "/soon"));
        let mut found: Vec<u16> =
            futures_util::future::join_all(asked).await.iter().map(|answer| status(answer)).collect();
        found.sort_unstable();
        // A connection's first request is always let through, on each of the two workers.
        assert_eq!(found, expected, "{host}");
    }
    // Each worker may open one connection to an endpoint that it has none to, so three at once are too many.
    let asked = (0..6).map(|_| get(at, "refuse", "/soon"));
    let found = futures_util::future::join_all(asked).await;
    let served = found.iter().filter(|answer| status(answer) == 200).count();
    assert!((1..=2).contains(&served), "{served} of 6");
    assert!(found.iter().any(|answer| status(answer) == 503));
}

/// `max_retries` holds although every try gives its head back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_retries_than_the_cluster_allows() {
    let bad = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at_bad = bad.local_addr().unwrap();
    let tries = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counted = std::sync::Arc::clone(&tries);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = bad.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let answer = b"HTTP/1.1 503 Oh\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = stream.write_all(answer).await;
        }
    });
    let limited = |name: &str, retries| {
        changed(&cluster(name, &[at_bad], Speak::Http1, None), |cluster: &mut Cluster| {
            let limits = Thresholds { max_retries: number(retries), ..Thresholds::default() };
            cluster.circuit_breakers =
                Some(CircuitBreakers { thresholds: vec![limits], ..CircuitBreakers::default() });
        })
    };
    let hosts = ["none", "some"].map(|name| vhost(name, &[name], vec![to_with_retries("/", name)]));
    let (at, _proxy) = edge(hosts.into(), vec![limited("none", 0), limited("some", 1)], |_| {});
    for (host, expected) in [("none", 1), ("some", 3)] {
        assert_eq!(status(&get(at, host, "/").await), 503);
        assert_eq!(tries.swap(0, std::sync::atomic::Ordering::SeqCst), expected, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_fails_is_left_alone() {
    let (good, bad) = (App::start().await, free_port());
    let failing = tokio::net::TcpListener::bind(bad).await.unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = failing.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            let answer = b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = stream.write_all(answer).await;
        }
    });
    let watched =
        changed(&cluster("app", &[good.address, bad], Speak::Http1, None), |cluster: &mut Cluster| {
            cluster.outlier_detection = Some(OutlierDetection {
                consecutive_5xx: number(2),
                max_ejection_percent: number(50),
                base_ejection_time: duration(Duration::from_secs(60)),
                ..OutlierDetection::default()
            });
        });
    let (at, _proxy) = edge(all(vec![to("/", "app")]), vec![watched], |_| {});
    let mut failed = 0;
    for _ in 0..40 {
        failed += usize::from(status(&get(at, "a", "/").await) == 500);
    }
    // Two on each of the two workers.
    assert!((2..=4).contains(&failed), "{failed} requests failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_gets_the_body_and_drops_are_made() {
    let (app, mirror) = (App::start().await, App::start().await);
    let copied = led(to("/", "app"), |action| {
        action.request_mirror_policies =
            vec![RequestMirrorPolicy { cluster: "mirror".to_owned(), ..RequestMirrorPolicy::default() }];
    });
    let whole = FractionalPercent { numerator: 100, denominator: 0 };
    let dropped =
        changed(&cluster("dropped", &[app.address], Speak::Http1, None), |cluster: &mut Cluster| {
            cluster.load_assignment.as_mut().unwrap().policy = Some(Policy {
                drop_overloads: vec![DropOverload {
                    category: "all".to_owned(),
                    drop_percentage: Some(whole),
                }],
                ..Policy::default()
            });
        });
    let hosts =
        vec![vhost("be", &["be"], vec![copied]), vhost("dropped", &["dropped"], vec![to("/", "dropped")])];
    let clusters = vec![
        cluster("app", &[app.address], Speak::Http1, None),
        cluster("mirror", &[mirror.address], Speak::Http1, None),
        dropped,
    ];
    let (at, _proxy) = edge(hosts, clusters, |_| {});
    let post = "POST /x HTTP/1.1\r\nhost: be\r\nconnection: close\r\ncontent-length: 5\r\n\r\n";
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(post.as_bytes()).await.unwrap();
    for part in ["he", "llo"] {
        tokio::time::sleep(millis(50)).await;
        stream.write_all(part.as_bytes()).await.unwrap();
    }
    assert_eq!(status(&read_head(&mut stream).await), 200);
    let end = Instant::now() + LIMIT;
    while mirror.bodies.lock().unwrap().is_empty() && Instant::now() < end {
        tokio::time::sleep(millis(20)).await;
    }
    assert_eq!(*mirror.bodies.lock().unwrap(), ["hello"]);
    assert_eq!(*app.bodies.lock().unwrap(), ["hello"]);
    assert_eq!(status(&get(at, "dropped", "/").await), 503);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_checks_ask_the_endpoints() {
    use health_check::{GrpcHealthCheck, HealthChecker, HttpHealthCheck};
    let app = App::start().await;
    let checked = |name: &str, speak: Speak, checker: HealthChecker| {
        changed(&cluster(name, &[app.address], speak, None), |cluster: &mut Cluster| {
            cluster.common_lb_config = Some(CommonLbConfig {
                healthy_panic_threshold: Some(Percent { value: 0.0 }),
                ..CommonLbConfig::default()
            });
            cluster.health_checks = vec![HealthCheck {
                timeout: duration(millis(1000)),
                interval: duration(millis(100)),
                unhealthy_threshold: number(1),
                healthy_threshold: number(1),
                health_checker: Some(checker),
                ..HealthCheck::default()
            }];
        })
    };
    let web = |host: &str, codec: i32| {
        HealthChecker::HttpHealthCheck(HttpHealthCheck {
            host: host.to_owned(),
            path: "/healthy".to_owned(),
            codec_client_type: codec,
            ..HttpHealthCheck::default()
        })
    };
    let grpc = |service: &str| {
        HealthChecker::GrpcHealthCheck(GrpcHealthCheck {
            service_name: service.to_owned(),
            ..GrpcHealthCheck::default()
        })
    };
    let expected =
        [("web", 200), ("web-ill", 503), ("h2", 200), ("h2-ill", 503), ("grpc", 200), ("grpc-ill", 503)];
    let clusters = vec![
        checked("web", Speak::Http1, web("checked", 0)),
        checked("web-ill", Speak::Http1, web("other", 0)),
        checked("h2", Speak::Http2, web("checked", 1)),
        checked("h2-ill", Speak::Http2, web("other", 1)),
        checked("grpc", Speak::Http2, grpc("checked")),
        checked("grpc-ill", Speak::Http2, grpc("other")),
    ];
    let hosts = expected.iter().map(|(name, _)| vhost(name, &[name], vec![to("/", name)])).collect();
    let (at, _proxy) = edge(hosts, clusters, |_| {});
    tokio::time::sleep(millis(500)).await;
    for (host, code) in expected {
        assert_eq!(status(&get(at, host, "/").await), code, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_refuses_connections_costs_no_request() {
    let (good, gone) = (App::start().await, free_port());
    let uneven =
        changed(&cluster("app", &[good.address, gone], Speak::Http1, None), |cluster: &mut Cluster| {
            cluster.lb_policy =
                envoy_types::pb::envoy::config::cluster::v3::cluster::LbPolicy::LeastRequest as i32;
        });
    let (at, _proxy) = edge(all(vec![to("/", "app")]), vec![uneven], |_| {});
    for _ in 0..20 {
        let answers = futures_util::future::join_all((0..10).map(|_| get(at, "a", "/"))).await;
        let failed: Vec<&String> = answers.iter().filter(|answer| status(answer) != 200).collect();
        assert!(failed.is_empty(), "{failed:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_connection_does_not_hold_up_the_end() {
    let app = App::start().await;
    let clusters = vec![cluster("app", &[app.address], Speak::Http1, None)];
    let (at, proxy) = edge(all(vec![to("/", "app")]), clusters, |_| {});
    let mut silent = TcpStream::connect(at).await.unwrap();
    assert_eq!(status(&get(at, "a", "/").await), 200);
    let started = Instant::now();
    tokio::task::spawn_blocking(move || proxy.stop()).await.unwrap();
    let took = started.elapsed();
    assert!(took < millis(1700), "less than the drain's limit: {took:?}");
    assert_eq!(silent.read(&mut [0; 8]).await.unwrap_or(0), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_the_listeners_leaves_the_process() {
    let app = App::start().await;
    let clusters = vec![cluster("app", &[app.address], Speak::Http1, None)];
    let (at, proxy) = edge(all(vec![to("/", "app")]), clusters, |_| {});
    assert_eq!(status(&get(at, "a", "/").await), 200);
    let token = std::fs::read_to_string(proxy.state.join("admin.token")).unwrap();
    let ask = format!(
        "POST /drain_listeners HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\nconnection: close\r\n\r\n",
        token.trim()
    );
    assert_eq!(status(&send(proxy.admin, &ask).await), 200);
    let end = Instant::now() + LIMIT;
    while TcpStream::connect(at).await.is_ok() && Instant::now() < end {
        tokio::time::sleep(millis(20)).await;
    }
    assert!(TcpStream::connect(at).await.is_err(), "new connections are refused");
    assert_eq!(status(&get(proxy.admin, "a", "/stats").await), 200, "the process goes on");
}
