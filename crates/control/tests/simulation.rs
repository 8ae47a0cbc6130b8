//! What objects mean, without a socket: objects as users write them, translated for a proxy, read by
//! the data plane's own reader, and asked.
//!
//! Each page in `simulation/` holds `yaml` blocks (objects; all blocks of a page together) and
//! `calls` blocks, a line a fact:
//! - `fe: GET http://be1/x [name=value …] => ANSWER`: what fe's proxy does with its app's request;
//! - `fe: tls HOST => CLUSTER`, `fe: tcp ADDRESS => CLUSTER`: captured bytes;
//! - `at be1 8080: GET /x by fe => ANSWER`: what be1's proxy does with a member's request. The caller
//!   is `NAME`, `NS/NAME`, a SPIFFE id, or `nobody`, with ` from ADDRESS` where that matters; `TCP` as the
//!   method is a connection. `GET http://HOST/x` is for a host;
//! - `trial be1 8080: GET /x by fe => POLICY …`: by which policies on trial the same would be refused;
//! - `findings => CODE …`: what translation noted, over all proxies of the page.
//!
//! For every page all resources of every proxy must be understood without a problem or a warning,
//! be consistent, and come out the same twice.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use prost::Message as _;
use weft_control::snapshot::{ServiceId, Snapshot};
use weft_control::translate::view::{ProxyKind, ProxyView};
use weft_control::translate::{self, Translation};
use weft_control::world::World;
use weft_control::{seed, vip};
use weft_routing::authorize::{self, PolicyInput};
use weft_routing::table::{RoutingTable, Staged};
use weft_routing::{
    ClusterChoice, ConnectionView, Forward, HeadView, HttpConfig, HttpFilter, NetworkFilter, RouteAction,
    Strictness, TransportProtocol,
};
use weft_store::{Batch, Stored};

const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 40000);

fn snapshot(text: &str, page: &str) -> Snapshot {
    let (documents, problems) = weft_model::parse_text(page, text);
    assert!(problems.iter().all(|problem| !problem.is_error()), "{page}: {problems:?}");
    let mut world = World::new("mesh.internal", "mesh.internal");
    let objects = documents.iter().zip(1..).map(|(document, revision)| {
        let object = document.object.as_ref().expect("an object");
        let namespace = if object.kind.info().namespaced && object.meta.namespace.is_empty() {
            "default"
        } else {
            &object.meta.namespace
        };
        let key = seed::key(object.kind, namespace, &object.meta.name);
        let value = object.to_value().to_string().into_bytes().into();
        Stored { key, created: revision, modified: revision, value }
    });
    let objects: Vec<Stored> = objects.collect();
    world.apply(Batch::Reset { revision: objects.len() as u64, objects });
    vip::allocate(&mut world);
    world.snapshot()
}

fn view(snapshot: &Snapshot, who: &str, kind: ProxyKind) -> ProxyView {
    let id = ServiceId::parse(who, "default");
    let own = snapshot.instances.values().find(|i| i.namespace == id.namespace && i.service == id.name);
    let workload = own.map_or_else(|| format!("{}-none", id.name), |own| own.name.clone());
    ProxyView { kind, ..ProxyView::newest(&id, &workload, "127.0.0.2:15006".parse().unwrap()) }
}

/// An Envoy has its policies at the routes, ours at the listener: the one thing that ours would not read.
fn without_policies(resource: &weft_xds::Resource) -> weft_xds::Resource {
    let mut config: envoy_types::pb::envoy::config::route::v3::RouteConfiguration =
        resource.decode().unwrap();
    for host in &mut config.virtual_hosts {
        assert_eq!(
            host.typed_per_filter_config.is_empty(),
            !resource.name.starts_with("inbound|"),
            "{}",
            resource.name
        );
        host.typed_per_filter_config.clear();
    }
    let body = weft_xds::Any { type_url: resource.body.type_url.clone(), value: config.encode_to_vec() };
    weft_xds::Resource::new(resource.name.as_str(), body)
}

/// Reads everything as our proxy does, and insists on what must always hold.
fn read(snapshot: &Snapshot, view: &ProxyView) -> (RoutingTable, Translation) {
    let made = translate::for_view(snapshot, view);
    let again = translate::for_view(snapshot, view);
    assert_eq!(made.resources.version, again.resources.version, "the same twice");
    let mut staged = Staged::default();
    let who = format!("{}/{}", view.namespace, view.service);
    macro_rules! decoded {
        ($resource:expr, $read:path, $into:ident) => {{
            let decoded = $read(&$resource.body, Strictness::Own)
                .unwrap_or_else(|problems| panic!("{who} {}: {problems:#?}", $resource.name));
            assert!(decoded.warnings.is_empty(), "{who} {}: {:?}", $resource.name, decoded.warnings);
            staged.$into.insert($resource.name.as_str().into(), std::sync::Arc::new(decoded.value));
        }};
    }
    for resource in made.resources.iter() {
        match weft_xds::types::short(resource.type_url()) {
            "clusters" => decoded!(resource, weft_routing::cluster, clusters),
            "endpoints" => decoded!(resource, weft_routing::load_assignment, endpoints),
            "listeners" => decoded!(resource, weft_routing::listener, listeners),
            "routes" if view.kind == ProxyKind::Envoy => {
                let resource = without_policies(resource);
                decoded!(resource, weft_routing::route_config, routes);
            }
            "routes" => decoded!(resource, weft_routing::route_config, routes),
            other => panic!("{who}: a resource of type {other}"),
        }
    }
    staged.consistent().unwrap_or_else(|found| panic!("{who}: {found:?}"));
    (staged.build(None), made)
}

struct Call<'a> {
    method: Method,
    authority: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    headers: HeaderMap,
}

impl<'a> Call<'a> {
    fn parse(text: &'a str) -> Call<'a> {
        let mut words = text.split_whitespace();
        let method: Method = words.next().unwrap().parse().unwrap();
        let target = words.next().unwrap();
        let (authority, rest) = match target.strip_prefix("http://") {
            Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
            None if target.starts_with('/') => ("app", target),
            None => (target, ""),
        };
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        let mut headers = HeaderMap::new();
        for word in words {
            let (name, value) = word.split_once('=').expect("a header as name=value");
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap());
        }
        Call { method, authority, path: if path.is_empty() { "/" } else { path }, query, headers }
    }

    fn head(&self) -> HeadView<'_> {
        HeadView {
            method: &self.method,
            scheme: "http",
            authority: self.authority,
            path: self.path,
            query: self.query,
            headers: &self.headers,
            protocol: None,
            tls_presented: true,
            tls_validated: true,
        }
    }
}

fn chain(table: &RoutingTable, listener: &str, tls: bool, sni: Option<&str>) -> Option<NetworkChain> {
    chain_offered(table, listener, tls, sni, &[])
}

fn chain_offered(
    table: &RoutingTable,
    listener: &str,
    tls: bool,
    sni: Option<&str>,
    alpn: &[&[u8]],
) -> Option<NetworkChain> {
    let connection = ConnectionView {
        destination: LOCAL,
        source: LOCAL,
        direct: LOCAL,
        transport: if tls { TransportProtocol::Tls } else { TransportProtocol::RawBuffer },
        server_name: sni,
        application_protocols: alpn,
    };
    Some(table.listener(listener)?.find_chain(&connection)?.clone())
}
type NetworkChain = std::sync::Arc<weft_routing::FilterChain>;

fn outbound(table: &RoutingTable, text: &str) -> String {
    if let Some(host) = text.strip_prefix("tls ") {
        let Some(chain) = chain(table, "outbound", true, Some(host)) else { return "closed".to_owned() };
        return tcp(&chain.filter);
    }
    if let Some(address) = text.strip_prefix("tcp ") {
        let Some(listener) = table.listener_for(address.parse().unwrap()) else { return "http".to_owned() };
        assert!(!listener.bind_to_port);
        return tcp(&listener.chains[0].filter);
    }
    let call = Call::parse(text);
    let chain = chain(table, "outbound", false, None).expect("outbound takes plain HTTP");
    let NetworkFilter::Http(http) = &chain.filter else { panic!("outbound is no HTTP") };
    route(table, http, &call)
}

fn tcp(filter: &NetworkFilter) -> String {
    match filter {
        NetworkFilter::Tcp(tcp) => choice(&tcp.clusters),
        NetworkFilter::Http(_) => "http".to_owned(),
    }
}

fn choice(clusters: &ClusterChoice) -> String {
    match clusters {
        ClusterChoice::One { name, .. } => name.to_string(),
        ClusterChoice::Weighted { clusters, .. } => {
            let parts: Vec<String> = clusters.iter().map(|c| format!("{}={}", c.name, c.weight)).collect();
            parts.join("+")
        }
        ClusterChoice::Header(name) => format!("by {name}"),
    }
}

fn route(table: &RoutingTable, http: &HttpConfig, call: &Call<'_>) -> String {
    let bound = table.routes(http.routes.key()).expect("the routes are bound");
    let head = call.head();
    let Some(found) = bound.config.find(&head, 0) else { return "404".to_owned() };
    match &found.route.action {
        RouteAction::Forward(forward) => format!(
            "{} route {}{}",
            choice(&forward.clusters),
            found.route.name,
            extras(found.route, forward)
        ),
        RouteAction::Redirect(redirect) => format!(
            "redirect {} {} {:?}",
            redirect.status.as_u16(),
            redirect.host.as_deref().unwrap_or("-"),
            redirect.path
        ),
        RouteAction::Respond(response) => {
            format!("respond {} route {}", response.status.as_u16(), found.route.name)
        }
        RouteAction::NonForwarding => "none".to_owned(),
    }
}

/// What a forward says beyond its cluster, in a fixed order.
fn extras(route: &weft_routing::Route, forward: &Forward) -> String {
    let mut extras = String::new();
    if let Some(timeout) = forward.timeout {
        extras += &format!(" timeout {timeout:?}");
    }
    if let Some(retry) = forward.retry.as_ref().filter(|retry| retry.retries_max != 2) {
        extras += &format!(" retries {}", retry.retries_max);
    }
    if let weft_routing::HostRewrite::Literal(host) = &forward.host {
        extras += &format!(" host {}", host.to_str().unwrap());
    }
    for mirror in &forward.mirrors {
        extras += &format!(" mirror {}@{}", mirror.name, mirror.fraction_millionths);
    }
    let edits = route.edits.request.len() + route.edits.response.len();
    if edits > 0 {
        extras += &format!(" edits {edits}");
    }
    match forward.upgrades.connect {
        None => {}
        Some(weft_routing::ConnectMode::Forward) => extras += " sent on",
        Some(_) => extras += " tunnel",
    }
    extras
}

/// Who calls, from where, and with what.
struct Asked<'a> {
    id: Option<String>,
    from: IpAddr,
    /// `None`: a connection of bytes.
    call: Option<Call<'a>>,
    port: u16,
}

impl<'a> Asked<'a> {
    fn parse(port: u16, text: &'a str) -> Asked<'a> {
        let (text, by) = text.split_once(" by ").expect("by whom");
        let (by, from) = by.trim().split_once(" from ").unwrap_or((by.trim(), "127.0.0.1"));
        let id = match by {
            "nobody" => None,
            id if id.starts_with("spiffe://") => Some(id.to_owned()),
            by => {
                let id = ServiceId::parse(by, "default");
                Some(format!("spiffe://mesh.internal/ns/{}/sa/{}", id.namespace, id.name))
            }
        };
        let call = (text.trim() != "TCP").then(|| Call::parse(text));
        Asked { id, from: from.parse().expect("an address"), call, port }
    }

    fn input<'b>(&'b self, head: Option<&'b HeadView<'b>>) -> PolicyInput<'b> {
        PolicyInput {
            head,
            principal: self.id.as_deref(),
            authenticated: self.id.is_some(),
            direct_ip: self.from,
            source_ip: self.from,
            remote_ip: self.from,
            destination_ip: LOCAL.ip(),
            destination_port: self.port,
            server_name: None,
        }
    }
}

/// The rules of a chain, in their order: enforced, and on trial.
fn rules_of(chain: &weft_routing::FilterChain) -> [Vec<std::sync::Arc<weft_routing::Rbac>>; 2] {
    let pairs: Vec<_> = match &chain.filter {
        NetworkFilter::Http(http) => {
            let filters = http.filters.iter().filter_map(HttpFilter::rbac);
            filters.map(|rbac| (rbac.rules.clone(), rbac.shadow.clone())).collect()
        }
        NetworkFilter::Tcp(_) => {
            chain.network_rbac.iter().map(|rbac| (rbac.rules.clone(), rbac.shadow.clone())).collect()
        }
    };
    let (rules, shadows): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    [rules, shadows].map(|list| list.into_iter().flatten().collect())
}

/// Whether the chain's enforced rules refuse, and by what.
fn refusal(chain: &weft_routing::FilterChain, input: &PolicyInput<'_>) -> Option<String> {
    let [rules, _] = rules_of(chain);
    rules.iter().find_map(|rules| {
        let verdict = authorize::decide(rules, input);
        (!verdict.allow).then(|| format!("deny {}", verdict.policy_name().unwrap_or("-")))
    })
}

/// What becomes of a connection in a tunnel: whatever its CONNECT says, the same as without one.
fn tunnelled(table: &RoutingTable, sni: &str, input: &PolicyInput<'_>) -> String {
    let chain = chain_offered(table, "inbound", true, Some(sni), &[b"h2"]).expect("a chain");
    let NetworkFilter::Http(http) = &chain.filter else { panic!("{sni} takes no tunnels") };
    let mut call = Call::parse("CONNECT elsewhere.example:1");
    call.method = Method::CONNECT;
    let head = call.head();
    if let Some(refused) = refusal(&chain, &PolicyInput { head: Some(&head), ..*input }) {
        return refused;
    }
    let get = Call::parse("GET http://elsewhere.example/");
    assert_eq!(route(table, http, &get), "404", "{sni} takes more than tunnels");
    route(table, http, &call).split(" route ").next().unwrap().to_owned()
}

fn entrance(table: &RoutingTable, asked: &Asked<'_>) -> Option<NetworkChain> {
    let sni = asked.id.as_ref().map(|_| format!("p{}.mesh.internal", asked.port));
    chain(table, "inbound", sni.is_some(), sni.as_deref())
}

fn inbound(table: &RoutingTable, port: u16, text: &str) -> String {
    let asked = Asked::parse(port, text);
    let Some(chain) = entrance(table, &asked) else { return "closed".to_owned() };
    let head = asked.call.as_ref().map(Call::head);
    let input = asked.input(head.as_ref());
    let refused = refusal(&chain, &input);
    match &chain.filter {
        NetworkFilter::Http(http) => refused.unwrap_or_else(|| {
            let found = route(table, http, asked.call.as_ref().expect("HTTP has a head"));
            found.split(" route ").next().unwrap().to_owned()
        }),
        NetworkFilter::Tcp(tcp) => {
            let found = refused.unwrap_or_else(|| choice(&tcp.clusters));
            if asked.id.is_some() {
                let sni = format!("p{port}.mesh.internal");
                assert_eq!(tunnelled(table, &sni, &input), found, "a tunnel to {sni}, {text}");
            }
            found
        }
    }
}

/// Which policies on trial would refuse what passes; nothing is said of what is refused anyway.
fn trial(table: &RoutingTable, port: u16, text: &str) -> String {
    let asked = Asked::parse(port, text);
    let chain = entrance(table, &asked).expect("a chain");
    let head = asked.call.as_ref().map(Call::head);
    let input = asked.input(head.as_ref());
    if refusal(&chain, &input).is_some() {
        return "refused".to_owned();
    }
    let [_, shadows] = rules_of(&chain);
    let names: Vec<&str> = shadows.iter().flat_map(|rules| authorize::would_refuse(rules, &input)).collect();
    if names.is_empty() { "-".to_owned() } else { names.join(" ") }
}

fn blocks<'a>(page: &'a str, kind: &str) -> Vec<&'a str> {
    let open = format!("```{kind}\n");
    page.split(open.as_str()).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

fn check(name: &str, page: &str) -> Vec<String> {
    let snapshot = snapshot(&blocks(page, "yaml").join("\n---\n"), name);
    let mut tables: BTreeMap<String, RoutingTable> = BTreeMap::new();
    let mut codes = BTreeSet::new();
    for service in snapshot.services.keys() {
        let (table, made) = read(&snapshot, &view(&snapshot, &service.to_string(), ProxyKind::Weft));
        codes.extend(made.findings.iter().map(|finding| finding.code));
        // A real Envoy is sent nothing that we would not understand ourselves.
        read(&snapshot, &view(&snapshot, &service.to_string(), ProxyKind::Envoy));
        let grpc = translate::for_view(&snapshot, &view(&snapshot, &service.to_string(), ProxyKind::Grpc));
        codes.extend(grpc.findings.iter().map(|finding| finding.code));
        tables.insert(service.to_string(), table);
    }
    let mut wrong = Vec::new();
    for line in blocks(page, "calls").join("\n").lines().filter(|line| !line.trim().is_empty()) {
        let (question, expected) = line.split_once(" => ").unwrap_or_else(|| panic!("{name}: {line}"));
        let table = |who: &str| &tables[&ServiceId::parse(who.trim(), "default").to_string()];
        let found = if question.trim() == "findings" {
            codes.iter().copied().collect::<Vec<_>>().join(" ")
        } else if let Some((word @ ("at" | "trial"), rest)) = question.split_once(' ') {
            let (whom, call) = rest.split_once(": ").unwrap();
            let (who, port) = whom.split_once(' ').unwrap();
            let answer: fn(&RoutingTable, u16, &str) -> String = if word == "at" { inbound } else { trial };
            answer(table(who), port.parse().unwrap(), call)
        } else {
            let (who, call) = question.split_once(": ").unwrap();
            outbound(table(who), call)
        };
        if found != expected.trim() {
            wrong.push(format!(
                "{name}: {}\n  expected {}\n  found    {found}",
                question.trim(),
                expected.trim()
            ));
        }
    }
    wrong
}

#[test]
fn pages() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/simulation");
    let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert!(!names.is_empty());
    let mut wrong = Vec::new();
    for path in names {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        wrong.extend(check(&name, &std::fs::read_to_string(&path).unwrap()));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// A mesh of `services` services with as many instances each, in four namespaces, with a route for each.
fn crowd(services: usize, instances: usize) -> Snapshot {
    let mut text = String::new();
    for service in 0..services {
        let namespace = format!("ns{}", service % 4);
        text += &format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: s{service}, namespace: {namespace}}}, spec: {{selector: {{app: s{service}}}, ports: [{{port: 80, targetPort: 8080}}]}}}}\n---\n\
             {{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {{name: s{service}, namespace: {namespace}}}, spec: {{parentRefs: [{{group: '', kind: Service, name: s{service}}}], rules: [{{matches: [{{path: {{value: /a}}}}], backendRefs: [{{name: s{service}, port: 80}}]}}, {{backendRefs: [{{name: s{service}, port: 80}}]}}]}}}}\n---\n"
        );
        for instance in 0..instances {
            text += &format!(
                "{{apiVersion: weft.dev/v1, kind: Workload, metadata: {{name: s{service}-{instance}, namespace: {namespace}, labels: {{app: s{service}}}}}, spec: {{service: s{service}, address: 127.1.{service}.{}, inboundPort: 15006, ports: [{{name: http, port: 8080}}]}}}}\n---\n",
                instance + 1
            );
        }
    }
    for namespace in 0..4 {
        text += &format!(
            "{{apiVersion: weft.dev/v1, kind: AccessPolicy, metadata: {{name: same, namespace: ns{namespace}}}, spec: {{rules: [{{from: [{{namespaces: [ns{namespace}]}}]}}]}}}}\n---\n"
        );
    }
    snapshot(&text, "crowd")
}

#[test]
fn two_hundred_proxies_share_what_they_have_in_common() {
    use weft_control::translate::shared::Shared;
    let snapshot = std::sync::Arc::new(crowd(40, 5));
    let views: Vec<ProxyView> = snapshot
        .instances
        .values()
        .map(|own| ProxyView {
            workload: own.name.clone(),
            inbound: SocketAddr::new(own.address, 15006),
            outbound: SocketAddr::new(own.address, 15001),
            ..view(&snapshot, &format!("{}/{}", own.namespace, own.service), ProxyKind::Weft)
        })
        .collect();
    assert_eq!(views.len(), 200);
    let start = std::time::Instant::now();
    let alone: Vec<Translation> = views.iter().map(|view| translate::for_view(&snapshot, view)).collect();
    let each = start.elapsed();
    let shared = Shared::new(snapshot.clone());
    let start = std::time::Instant::now();
    let builder = weft_xds::Resources::builder;
    let together: Vec<Translation> =
        views.iter().map(|view| translate::for_view_shared(&shared, view, builder())).collect();
    let once = start.elapsed();
    for ((view, alone), together) in views.iter().zip(&alone).zip(&together) {
        assert_eq!(alone.resources, together.resources, "{view:?}");
        assert_eq!(alone.findings, together.findings, "{view:?}");
    }
    // Four namespaces, nobody invited elsewhere: four ways out for two hundred proxies.
    assert_eq!(shared.len(), 4);
    eprintln!("200 views, each for itself {each:?}, shared {once:?}");
    // Measured at 8 and more; below 2 it is not shared at all.
    assert!(once * 2 < each, "each for itself {each:?}, shared {once:?}");
}
