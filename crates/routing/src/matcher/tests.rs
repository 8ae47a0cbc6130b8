//! Which chain, which virtual host, which route, which cluster.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

use std::net::SocketAddr;

use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::core::v3::{DataSource, HeaderValue as PbHeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::config::route::v3 as pb;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, SchemeRewriteSpecifier,
};
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatchAndSubstitute, RegexMatcher, StringMatcher};
use envoy_types::pb::google::protobuf::UInt32Value;
use envoy_types::util::pack_any;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::{ConnectionView, HeadView, apply_edits};
use crate::types::*;

fn regex(pattern: &str) -> RegexMatcher {
    RegexMatcher { regex: pattern.to_owned(), ..RegexMatcher::default() }
}

fn to(cluster: &str) -> Action {
    Action::Route(pb::RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        ..pb::RouteAction::default()
    })
}

fn route(name: &str, path: PathSpecifier, action: Action) -> pb::Route {
    pb::Route {
        name: name.to_owned(),
        r#match: Some(pb::RouteMatch { path_specifier: Some(path), ..pb::RouteMatch::default() }),
        action: Some(action),
        ..pb::Route::default()
    }
}

fn prefix(text: &str) -> PathSpecifier {
    PathSpecifier::Prefix(text.to_owned())
}

fn vhost(name: &str, domains: &[&str], routes: Vec<pb::Route>) -> pb::VirtualHost {
    pb::VirtualHost {
        name: name.to_owned(),
        domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
        routes,
        ..pb::VirtualHost::default()
    }
}

fn read(config: pb::RouteConfiguration) -> RouteConfig {
    match crate::route_config(&pack_any(config), Strictness::Own) {
        Ok(decoded) => decoded.value,
        Err(problems) => panic!("{problems:#?}"),
    }
}

fn config(vhosts: Vec<pb::VirtualHost>) -> RouteConfig {
    read(pb::RouteConfiguration { virtual_hosts: vhosts, ..pb::RouteConfiguration::default() })
}

struct Request {
    method: Method,
    authority: &'static str,
    path: &'static str,
    query: Option<&'static str>,
    headers: HeaderMap,
}

fn get(url: &'static str) -> Request {
    let (authority, rest) = url.split_at(url.find('/').unwrap_or(url.len()));
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (rest, None),
    };
    Request { method: Method::GET, authority, path, query, headers: HeaderMap::new() }
}

impl Request {
    fn with(mut self, name: &'static str, value: &'static str) -> Request {
        self.headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        self
    }

    fn view(&self) -> HeadView<'_> {
        HeadView {
            method: &self.method,
            scheme: "http",
            authority: self.authority,
            path: self.path,
            query: self.query,
            headers: &self.headers,
            protocol: None,
            tls_presented: false,
            tls_validated: false,
        }
    }
}

fn found(config: &RouteConfig, request: &Request) -> Option<String> {
    config.find(&request.view(), 0).map(|found| found.route.name.to_string())
}

#[test]
fn hosts_find_their_virtual_host() {
    let any = |name: &str| vec![route(name, prefix("/"), to("c"))];
    let hosts = config(vec![
        vhost("exact", &["be1", "be1:8080", "a.x.com"], any("exact")),
        vhost("suffix", &["*.x.com"], any("suffix")),
        vhost("longer", &["*.b.x.com"], any("longer")),
        vhost("prefix", &["be1.*"], any("prefix")),
        vhost("rest", &["*"], any("rest")),
    ]);
    for (url, expected) in [
        ("be1/", "exact"),
        ("BE1/", "exact"),
        ("be1:8080/", "exact"),
        ("be1:9090/", "rest"),
        ("a.x.com/", "exact"),
        ("b.x.com/", "suffix"),
        ("a.b.x.com/", "longer"),
        (".x.com/", "rest"),
        ("x.com/", "rest"),
        ("be1.default/", "prefix"),
        ("be1./", "rest"),
    ] {
        assert_eq!(found(&hosts, &get(url)).as_deref(), Some(expected), "{url}");
    }
    let none = config(vec![vhost("one", &["be1"], any("one"))]);
    assert_eq!(found(&none, &get("be2/")), None);
    let ignoring = read(pb::RouteConfiguration {
        ignore_port_in_host_matching: true,
        virtual_hosts: vec![vhost("one", &["be1"], any("one"))],
        ..pb::RouteConfiguration::default()
    });
    assert_eq!(found(&ignoring, &get("be1:1234/")).as_deref(), Some("one"));
}

#[test]
fn the_first_route_that_fits_is_taken() {
    let header = |name: &str, test: HeaderMatchSpecifier, invert_match: bool| pb::HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(test),
        invert_match,
        ..pb::HeaderMatcher::default()
    };
    let text = |pattern: MatchPattern| {
        HeaderMatchSpecifier::StringMatch(StringMatcher { match_pattern: Some(pattern), ignore_case: false })
    };
    let with = |name: &str, headers: Vec<pb::HeaderMatcher>| {
        let mut found = route(name, prefix("/h"), to("c"));
        found.r#match.as_mut().unwrap().headers = headers;
        found
    };
    let mut query = route("query", prefix("/q"), to("c"));
    query.r#match.as_mut().unwrap().query_parameters = vec![pb::QueryParameterMatcher {
        name: "user".to_owned(),
        query_parameter_match_specifier: Some(QueryParameterMatchSpecifier::StringMatch(StringMatcher {
            match_pattern: Some(MatchPattern::Exact("a b".to_owned())),
            ignore_case: false,
        })),
    }];
    let mut half = route("half", prefix("/half"), to("c"));
    half.r#match.as_mut().unwrap().case_sensitive =
        Some(envoy_types::pb::google::protobuf::BoolValue { value: false });
    let hosts = config(vec![vhost(
        "v",
        &["*"],
        vec![
            route("exact", PathSpecifier::Path("/a".to_owned()), to("c")),
            route("separated", PathSpecifier::PathSeparatedPrefix("/a".to_owned()), to("c")),
            route("regex", PathSpecifier::SafeRegex(regex("/v[0-9]+/x|/y")), to("c")),
            with("post", vec![header(":method", text(MatchPattern::Exact("POST".to_owned())), false)]),
            with("version", vec![header("x-v", text(MatchPattern::Prefix("v2".to_owned())), false)]),
            with("not", vec![header("x-not", text(MatchPattern::Exact("1".to_owned())), true)]),
            with("absent", vec![header("x-a", HeaderMatchSpecifier::PresentMatch(false), false)]),
            query,
            half,
            route("connect", PathSpecifier::ConnectMatcher(pb::route_match::ConnectMatcher {}), to("c")),
            route("rest", prefix("/rest"), to("c")),
        ],
    )]);
    let mut post = get("x/h").with("x-a", "");
    post.method = Method::POST;
    let mut connect = get("x:443");
    connect.method = Method::CONNECT;
    for (request, expected) in [
        (get("x/a"), Some("exact")),
        (get("x/a/b"), Some("separated")),
        (get("x/ab"), None),
        (get("x/v12/x"), Some("regex")),
        (get("x/y"), Some("regex")),
        (get("x/y/more"), None),
        (get("x/a/v12/x"), Some("separated")),
        (post, Some("post")),
        (get("x/h").with("x-v", "v2.1"), Some("version")),
        (get("x/h").with("x-not", "2").with("x-a", ""), Some("not")),
        // A missing header fits no inverted test either.
        (get("x/h").with("x-a", ""), None),
        (get("x/h"), Some("absent")),
        (get("x/q?other=1&user=a%20b"), Some("query")),
        (get("x/q?user=b"), None),
        (get("x/q"), None),
        (get("x/HALF/x"), Some("half")),
        (connect, Some("connect")),
        (get("x/rest"), Some("rest")),
    ] {
        assert_eq!(found(&hosts, &request).as_deref(), expected, "{} {}", request.method, request.path);
    }
}

#[test]
fn clusters_are_picked_by_weight() {
    let weight = |name: &str, value| ClusterWeight {
        name: name.to_owned(),
        weight: Some(UInt32Value { value }),
        ..ClusterWeight::default()
    };
    let split = Action::Route(pb::RouteAction {
        cluster_specifier: Some(ClusterSpecifier::WeightedClusters(pb::WeightedCluster {
            clusters: vec![weight("v1", 90), weight("none", 0), weight("v2", 10)],
            ..pb::WeightedCluster::default()
        })),
        ..pb::RouteAction::default()
    });
    let hosts = config(vec![vhost("v", &["*"], vec![route("r", prefix("/"), split)])]);
    let RouteAction::Forward(forward) = &hosts.vhosts[0].routes[0].action else { panic!() };
    let picks: Vec<String> =
        (0..100).map(|random| forward.clusters.pick(None, random).unwrap().name().to_owned()).collect();
    assert_eq!(picks.iter().filter(|name| *name == "v1").count(), 90);
    assert_eq!(picks.iter().filter(|name| *name == "v2").count(), 10);
    assert_eq!(hosts.cluster_names.len(), 3);
}

#[test]
fn prefixes_and_patterns_are_rewritten() {
    let rewritten = |path: PathSpecifier, prefix_rewrite: &str, pattern: Option<(&str, &str)>, sent: &str| {
        let action = Action::Route(pb::RouteAction {
            prefix_rewrite: prefix_rewrite.to_owned(),
            regex_rewrite: pattern.map(|(pattern, substitution)| RegexMatchAndSubstitute {
                pattern: Some(regex(pattern)),
                substitution: substitution.to_owned(),
            }),
            cluster_specifier: Some(ClusterSpecifier::Cluster("c".to_owned())),
            ..pb::RouteAction::default()
        });
        let hosts = config(vec![vhost("v", &["*"], vec![route("r", path, action)])]);
        let route = &hosts.vhosts[0].routes[0];
        let RouteAction::Forward(forward) = &route.action else { panic!() };
        forward.rewritten_path(route, sent)
    };
    let separated = |text: &str| PathSpecifier::PathSeparatedPrefix(text.to_owned());
    let cases = [
        (rewritten(prefix("/api/"), "/", None, "/api/x"), Some("/x")),
        (rewritten(prefix("/api"), "/v2", None, "/api/x"), Some("/v2/x")),
        (rewritten(separated("/api"), "/", None, "/api/x"), Some("/x")),
        (rewritten(separated("/api"), "/", None, "/api"), Some("/")),
        (rewritten(PathSpecifier::Path("/a".to_owned()), "/b", None, "/a"), Some("/b")),
        (rewritten(prefix("/"), "", Some(("^/user/(\\d+)", "/u-\\1-$")), "/user/7/x"), Some("/u-7-$/x")),
        (rewritten(prefix("/"), "", None, "/x"), None),
    ];
    for (found, expected) in cases {
        assert_eq!(found.as_deref(), expected);
    }
}

#[test]
fn redirects_and_answers() {
    let location = |redirect: pb::RedirectAction, url: &'static str| {
        let hosts =
            config(vec![vhost("v", &["*"], vec![route("r", prefix("/old"), Action::Redirect(redirect))])]);
        let route = &hosts.vhosts[0].routes[0];
        let RouteAction::Redirect(redirect) = &route.action else { panic!() };
        redirect.location(route, &get(url).view())
    };
    let https = Some(SchemeRewriteSpecifier::HttpsRedirect(true));
    let empty = pb::RedirectAction::default();
    let cases = [
        (
            pb::RedirectAction { scheme_rewrite_specifier: https.clone(), ..empty.clone() },
            "h:80/old?q=1",
            "https://h/old?q=1",
        ),
        (
            pb::RedirectAction { scheme_rewrite_specifier: https, ..empty.clone() },
            "h:8080/old",
            "https://h:8080/old",
        ),
        (
            pb::RedirectAction { host_redirect: "new".to_owned(), port_redirect: 81, ..empty.clone() },
            "h/old",
            "http://new:81/old",
        ),
        (
            pb::RedirectAction {
                path_rewrite_specifier: Some(PathRewriteSpecifier::PrefixRewrite("/new".to_owned())),
                strip_query: true,
                ..empty.clone()
            },
            "h/old/x?q",
            "http://h/new/x",
        ),
        (
            pb::RedirectAction {
                path_rewrite_specifier: Some(PathRewriteSpecifier::PathRedirect("/p?z".to_owned())),
                ..empty
            },
            "h/old?q",
            "http://h/p?z",
        ),
    ];
    for (redirect, url, expected) in cases {
        assert_eq!(location(redirect, url), expected);
    }
    let answer = Action::DirectResponse(pb::DirectResponseAction {
        status: 418,
        body: Some(DataSource {
            specifier: Some(Specifier::InlineString("tea".to_owned())),
            ..DataSource::default()
        }),
        ..pb::DirectResponseAction::default()
    });
    let hosts = config(vec![vhost("v", &["*"], vec![route("r", prefix("/"), answer)])]);
    let RouteAction::Respond(response) = &hosts.vhosts[0].routes[0].action else { panic!() };
    assert_eq!((response.status.as_u16(), &*response.body), (418, b"tea".as_slice()));
}

#[test]
fn headers_are_edited_in_order() {
    let option = |key: &str, value: &str, action: i32| HeaderValueOption {
        header: Some(PbHeaderValue {
            key: key.to_owned(),
            value: value.to_owned(),
            ..PbHeaderValue::default()
        }),
        append_action: action,
        ..HeaderValueOption::default()
    };
    let mut edited = route("r", prefix("/"), to("c"));
    edited.request_headers_to_remove = vec!["x-gone".to_owned()];
    edited.request_headers_to_add = vec![
        option("x-append", "2", 0),
        option("x-absent", "2", 1),
        option("x-over", "2", 2),
        option("x-exists", "2", 3),
        option("x-new", "100%% from %DOWNSTREAM_REMOTE_ADDRESS%", 0),
    ];
    let hosts = config(vec![vhost("v", &["*"], vec![edited])]);
    let mut request =
        get("x/").with("x-gone", "1").with("x-append", "1").with("x-absent", "1").with("x-over", "1");
    apply_edits(&hosts.vhosts[0].routes[0].edits.request, &mut request.headers, &|part, out| {
        assert_eq!(*part, EditPart::DownstreamRemoteAddress);
        out.extend(b"10.0.0.1:5");
    });
    let all = |name: &str| -> Vec<String> {
        request.headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    };
    assert_eq!(all("x-gone"), Vec::<String>::new());
    assert_eq!(all("x-append"), ["1", "2"]);
    assert_eq!(all("x-absent"), ["1"]);
    assert_eq!(all("x-over"), ["2"]);
    assert_eq!(all("x-exists"), Vec::<String>::new());
    assert_eq!(all("x-new"), ["100% from 10.0.0.1:5"]);
}

#[test]
fn chains_are_found_criterion_by_criterion() {
    let chain = |name: &str, matches: ChainMatch| {
        std::sync::Arc::new(FilterChain {
            name: name.into(),
            matches,
            tls: None,
            network_rbac: Vec::new(),
            filter: NetworkFilter::Tcp(std::sync::Arc::new(TcpConfig {
                stat_prefix: "".into(),
                clusters: ClusterChoice::Header(HeaderName::from_static("x")),
                access_log: Vec::new(),
                idle_timeout: None,
                connect_attempts_max: 1,
                tunnel: None,
            })),
            transport_socket_connect_timeout: None,
            stamp: None,
        })
    };
    let sni = |name: &str| ChainMatch {
        server_names: vec![ServerName::Exact(name.into())],
        transport_protocol: Some(TransportProtocol::Tls),
        ..ChainMatch::default()
    };
    let listener = Listener {
        name: "inbound".into(),
        address: None,
        ipv4_compat: false,
        bind_to_port: true,
        use_original_dst: false,
        tls_inspector: true,
        http_inspector: false,
        proxy_protocol: None,
        original_dst: false,
        listener_filters_timeout: None,
        continue_on_listener_filters_timeout: false,
        chains: vec![
            chain("p8080", sni("p8080.mesh.internal")),
            chain("p9090", sni("p9090.mesh.internal")),
            chain(
                "wild",
                ChainMatch {
                    server_names: vec![ServerName::Suffix(".x.com".into())],
                    ..ChainMatch::default()
                },
            ),
            chain(
                "any-tls",
                ChainMatch { transport_protocol: Some(TransportProtocol::Tls), ..ChainMatch::default() },
            ),
            chain(
                "net",
                ChainMatch { prefix_ranges: vec!["10.1.0.0/16".parse().unwrap()], ..ChainMatch::default() },
            ),
            chain("port", ChainMatch { destination_port: Some(7000), ..ChainMatch::default() }),
            chain(
                "balancer",
                ChainMatch {
                    direct_source_prefix_ranges: vec!["192.0.2.0/28".parse().unwrap()],
                    ..ChainMatch::default()
                },
            ),
        ],
        udp: None,
        default_chain: None,
        stamp: None,
    };
    let tls = TransportProtocol::Tls;
    let near = "10.0.0.9:1000";
    for (destination, direct, transport, server_name, expected) in [
        ("10.0.0.1:15006", near, tls, Some("p8080.mesh.internal"), Some("p8080")),
        ("10.0.0.1:15006", near, tls, Some("p9090.mesh.internal"), Some("p9090")),
        ("10.0.0.1:15006", near, tls, Some("a.x.com"), Some("wild")),
        ("10.0.0.1:15006", near, tls, Some("other"), Some("any-tls")),
        ("10.0.0.1:15006", near, tls, None, Some("any-tls")),
        // No plaintext chain: the connection is closed.
        ("10.0.0.1:15006", near, TransportProtocol::RawBuffer, None, None),
        ("10.1.2.3:15006", near, tls, Some("p8080.mesh.internal"), Some("net")),
        ("10.1.2.3:7000", near, tls, Some("p8080.mesh.internal"), Some("port")),
        // Whoever it says that it speaks for.
        ("10.0.0.1:15006", "192.0.2.15:1", TransportProtocol::RawBuffer, None, Some("balancer")),
        ("10.0.0.1:15006", "192.0.2.16:1", TransportProtocol::RawBuffer, None, None),
    ] {
        let connection = ConnectionView {
            destination: destination.parse::<SocketAddr>().unwrap(),
            source: "10.0.0.9:1000".parse().unwrap(),
            direct: direct.parse().unwrap(),
            transport,
            server_name,
            application_protocols: &[b"h2"],
        };
        let found = listener.find_chain(&connection).map(|chain| &*chain.name);
        assert_eq!(found, expected, "{destination} {server_name:?}");
    }
}
