//! The door: objects that no proxy must ever hear of, each refused at the field that is wrong, with what would
//! be right. The same through the API (a value) and from a file (a text).

use super::*;

/// Kind, spec, and the field that is named.
type Row = (&'static str, Kind, String, &'static str);

fn route(rule: &str) -> String {
    format!("{{parentRefs: [{{group: '', kind: Service, name: be1}}], rules: [{rule}]}}")
}

fn to(backend: &str) -> String {
    route(&format!("{{backendRefs: [{{name: be1, port: 80}}, {backend}]}}"))
}

fn matching(wanted: &str) -> String {
    route(&format!("{{matches: [{wanted}], backendRefs: [{{name: be1, port: 80}}]}}"))
}

fn filtering(filter: &str) -> String {
    route(&format!("{{filters: [{filter}], backendRefs: [{{name: be1, port: 80}}]}}"))
}

fn regex(pattern: &str) -> String {
    matching(&format!("{{path: {{type: RegularExpression, value: '{pattern}'}}}}"))
}

fn on_be1(says: &str) -> String {
    format!("{{targetRefs: [{{name: be1}}], {says}}}")
}

fn smi(says: &str) -> String {
    let says = says.replace("SA", "{kind: ServiceAccount, name: fe}");
    format!("{{destination: {{kind: ServiceAccount, name: be1}}, {says}}}")
}

fn rows() -> Vec<Row> {
    use Kind::{
        AccessPolicy as Ap, ExternalService as Es, GRPCRoute as Grpc, HTTPRoute as Http,
        HTTPRouteGroup as Group, Mesh, ReferenceGrant as Grant, Service as Svc, TCPRoute as Tcp,
        TrafficPolicy as Tp, TrafficTarget as Target, Workload as Wl,
    };
    let text = str::to_owned;
    vec![
        // Routes: where to.
        ("a backend of port 0", Http, to("{name: x, port: 0}"), "spec.rules[0].backendRefs[1].port"),
        ("a backend of port 70000", Http, to("{name: x, port: 70000}"), "spec.rules[0].backendRefs[1].port"),
        ("a backend without port", Http, to("{name: x}"), "spec.rules[0].backendRefs[1].port"),
        ("a backend without name", Http, to("{port: 80}"), "spec.rules[0].backendRefs[1].name"),
        (
            "a negative weight",
            Http,
            to("{name: x, port: 80, weight: -1}"),
            "spec.rules[0].backendRefs[1].weight",
        ),
        (
            "a huge weight",
            Http,
            to("{name: x, port: 80, weight: 9999999}"),
            "spec.rules[0].backendRefs[1].weight",
        ),
        (
            "a weight in words",
            Http,
            to("{name: x, port: 80, weight: half}"),
            "spec.rules[0].backendRefs[1].weight",
        ),
        (
            "a kind that is none",
            Http,
            to("{kind: Servce, name: x, port: 80}"),
            "spec.rules[0].backendRefs[1].kind",
        ),
        (
            "a kind that takes no calls",
            Http,
            to("{kind: Secret, name: x}"),
            "spec.rules[0].backendRefs[1].kind",
        ),
        (
            "a kind of another group",
            Http,
            to("{kind: ExternalService, name: x}"),
            "spec.rules[0].backendRefs[1].group",
        ),
        ("a name of two words", Http, to("{name: 'a b', port: 80}"), "spec.rules[0].backendRefs[1].name"),
        (
            "a path into the file system",
            Http,
            to("{name: ../x, port: 80}"),
            "spec.rules[0].backendRefs[1].name",
        ),
        (
            "a namespace with a dot",
            Http,
            to("{name: x, namespace: a.b, port: 80}"),
            "spec.rules[0].backendRefs[1].namespace",
        ),
        ("backends as a map", Http, route("{backendRefs: {name: x}}"), "spec.rules[0].backendRefs"),
        // Routes: from whom.
        (
            "a parent of a kind that is none",
            Http,
            text("{parentRefs: [{group: '', kind: Servce, name: be1}]}"),
            "spec.parentRefs[0].kind",
        ),
        (
            "a parent that takes no routes",
            Http,
            text("{parentRefs: [{group: weft.dev, kind: Workload, name: be1}]}"),
            "spec.parentRefs[0].kind",
        ),
        (
            "a Service of the wrong group",
            Http,
            text("{parentRefs: [{kind: Service, name: be1}]}"),
            "spec.parentRefs[0].group",
        ),
        (
            "a parent without name",
            Http,
            text("{parentRefs: [{group: '', kind: Service}]}"),
            "spec.parentRefs[0].name",
        ),
        ("a parent twice", Http, text("{parentRefs: [{name: a}, {name: a}]}"), "spec.parentRefs[1]"),
        (
            "a parent's port 70000",
            Http,
            text("{parentRefs: [{group: '', kind: Service, name: be1, port: 70000}]}"),
            "spec.parentRefs[0].port",
        ),
        (
            "a host name that is a URL",
            Http,
            text("{parentRefs: [{name: a}], hostnames: ['http://x']}"),
            "spec.hostnames[0]",
        ),
        // Routes: which requests.
        ("a path without slash", Http, matching("{path: {value: a}}"), "spec.rules[0].matches[0].path.value"),
        (
            "a path with a query",
            Http,
            matching("{path: {value: '/a?b'}}"),
            "spec.rules[0].matches[0].path.value",
        ),
        (
            "a path with dots",
            Http,
            matching("{path: {value: /a/../b}}"),
            "spec.rules[0].matches[0].path.value",
        ),
        (
            "a match of no known type",
            Http,
            matching("{path: {type: Glob, value: /a}}"),
            "spec.rules[0].matches[0].path.type",
        ),
        ("a method in small letters", Http, matching("{method: get}"), "spec.rules[0].matches[0].method"),
        ("an open parenthesis", Http, regex("/(a"), "spec.rules[0].matches[0].path.value"),
        ("a look-ahead", Http, regex("/(?=a)b"), "spec.rules[0].matches[0].path.value"),
        ("a back reference", Http, regex(r"/(a)\1"), "spec.rules[0].matches[0].path.value"),
        (
            "a long expression",
            Http,
            regex(&format!("/{}", "a".repeat(1024))),
            "spec.rules[0].matches[0].path.value",
        ),
        (
            "nested repetitions",
            Http,
            regex("/(((a{99}){99}){99}){99}"),
            "spec.rules[0].matches[0].path.value",
        ),
        (
            "a header's name with a space",
            Http,
            matching("{headers: [{name: 'a b', value: c}]}"),
            "spec.rules[0].matches[0].headers[0].name",
        ),
        (
            "a header twice",
            Http,
            matching("{headers: [{name: a, value: b}, {name: A, value: c}]}"),
            "spec.rules[0].matches[0].headers[1]",
        ),
        (
            "a header's bad expression",
            Http,
            matching("{headers: [{name: a, type: RegularExpression, value: '['}]}"),
            "spec.rules[0].matches[0].headers[0].value",
        ),
        (
            "a header without value",
            Http,
            matching("{headers: [{name: a}]}"),
            "spec.rules[0].matches[0].headers[0].value",
        ),
        (
            "a gRPC method with a slash",
            Grpc,
            matching("{method: {service: a/b}}"),
            "spec.rules[0].matches[0].method.service",
        ),
        ("a gRPC method that is empty", Grpc, matching("{method: {}}"), "spec.rules[0].matches[0].method"),
        // Routes: what is done.
        (
            "a filter without its part",
            Http,
            filtering("{type: URLRewrite}"),
            "spec.rules[0].filters[0].urlRewrite",
        ),
        ("a filter of no known type", Http, filtering("{type: Teleport}"), "spec.rules[0].filters[0].type"),
        (
            "a header with a line break",
            Http,
            filtering(
                "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: \"b\\r\\nc: d\"}]}}",
            ),
            "spec.rules[0].filters[0].requestHeaderModifier.set[0].value",
        ),
        (
            "a redirect that also forwards",
            Http,
            filtering("{type: RequestRedirect, requestRedirect: {scheme: https}}"),
            "spec.rules[0].backendRefs",
        ),
        (
            "a redirect by 200",
            Http,
            route("{filters: [{type: RequestRedirect, requestRedirect: {statusCode: 200}}]}"),
            "spec.rules[0].filters[0].requestRedirect.statusCode",
        ),
        (
            "a mirror of more than all",
            Http,
            filtering(
                "{type: RequestMirror, requestMirror: {percent: 101, backendRef: {name: x, port: 80}}}",
            ),
            "spec.rules[0].filters[0].requestMirror.percent",
        ),
        ("a time without a unit", Http, route("{timeouts: {request: 10}}"), "spec.rules[0].timeouts.request"),
        (
            "a try that is longer than all",
            Http,
            route("{timeouts: {request: 1s, backendRequest: 2s}}"),
            "spec.rules[0].timeouts.backendRequest",
        ),
        ("a retry of a success", Http, route("{retry: {codes: [200]}}"), "spec.rules[0].retry.codes[0]"),
        (
            "connections to nowhere",
            Tcp,
            text("{parentRefs: [{group: '', kind: Service, name: db}], rules: [{}]}"),
            "spec.rules[0].backendRefs",
        ),
        // Services.
        ("a Service without ports", Svc, text("{selector: {app: a}}"), "spec.ports"),
        ("a Service's port 0", Svc, text("{ports: [{port: 0}]}"), "spec.ports[0].port"),
        ("a Service's port 70000", Svc, text("{ports: [{port: 70000}]}"), "spec.ports[0].port"),
        (
            "two ports of one number",
            Svc,
            text("{ports: [{name: a, port: 80}, {name: b, port: 80}]}"),
            "spec.ports[1]",
        ),
        (
            "two ports of one name",
            Svc,
            text("{ports: [{name: a, port: 80}, {name: a, port: 81}]}"),
            "spec.ports[1]",
        ),
        ("two ports without names", Svc, text("{ports: [{port: 80}, {port: 81}]}"), "spec.ports[0].name"),
        (
            "a target port in quotes",
            Svc,
            text("{ports: [{port: 80, targetPort: '8080'}]}"),
            "spec.ports[0].targetPort",
        ),
        (
            "a cluster address that is none",
            Svc,
            text("{clusterIP: 10.0.0.256, ports: [{port: 80}]}"),
            "spec.clusterIP",
        ),
        (
            "a selector that no label can be",
            Svc,
            text("{selector: {'a b': c}, ports: [{port: 80}]}"),
            "spec.selector[\"a b\"]",
        ),
        // External services.
        ("no hosts", Es, text("{hosts: [], ports: [{port: 80}]}"), "spec.hosts"),
        ("a host twice", Es, text("{hosts: [a.example, a.example], ports: [{port: 80}]}"), "spec.hosts[1]"),
        ("a host that is an address", Es, text("{hosts: [192.0.2.1], ports: [{port: 80}]}"), "spec.hosts[0]"),
        ("a host that is everything", Es, text("{hosts: ['*'], ports: [{port: 80}]}"), "spec.hosts[0]"),
        (
            "a wildcard that DNS can't find",
            Es,
            text("{hosts: ['*.a.example'], ports: [{port: 80}]}"),
            "spec.hosts[0]",
        ),
        (
            "a protocol of no known name",
            Es,
            text("{hosts: [a.example], ports: [{port: 80, protocol: gopher}]}"),
            "spec.ports[0].protocol",
        ),
        (
            "static without addresses",
            Es,
            text("{hosts: [a.example], ports: [{port: 80}], resolution: Static}"),
            "spec.endpoints",
        ),
        (
            "roots that are no certificate",
            Es,
            text("{hosts: [a.example], ports: [{port: 80}], tls: {ca: hello}}"),
            "spec.tls.ca",
        ),
        (
            "roots in two ways",
            Es,
            text(
                "{hosts: [a.example], ports: [{port: 80, protocol: http}], tls: {ca: hello, caSecretRef: {name: a}}}",
            ),
            "spec.tls.caSecretRef",
        ),
        (
            "a field that we don't have",
            Es,
            text("{hosts: [a.example], ports: [{port: 80}], dnsRefresh: 5s}"),
            "spec.dnsRefresh",
        ),
        // Policies.
        ("a policy without target", Tp, text("{targetRefs: [], retry: {}}"), "spec.targetRefs"),
        (
            "a target of no known kind",
            Tp,
            text("{targetRefs: [{kind: Servise, name: a}], retry: {}}"),
            "spec.targetRefs[0].kind",
        ),
        (
            "a target of a foreign kind",
            Tp,
            text("{targetRefs: [{group: apps, kind: Deployment, name: a}], retry: {}}"),
            "spec.targetRefs[0].kind",
        ),
        ("a hundred retries", Tp, on_be1("retry: {attempts: 100}"), "spec.retry.attempts"),
        ("a retry on a mood", Tp, on_be1("retry: {on: [tuesday]}"), "spec.retry.on[0]"),
        (
            "a first wait beyond the longest",
            Tp,
            on_be1("retry: {backoff: {base: 2s, max: 1s}}"),
            "spec.retry.backoff.base",
        ),
        (
            "no connections at all",
            Tp,
            on_be1("circuitBreaking: {maxConnections: 0}"),
            "spec.circuitBreaking.maxConnections",
        ),
        ("checks without pause", Tp, on_be1("healthCheck: {interval: 1ms}"), "spec.healthCheck.interval"),
        ("a check at port 70000", Tp, on_be1("healthCheck: {port: 70000}"), "spec.healthCheck.port"),
        (
            "more than all put out",
            Tp,
            on_be1("outlierDetection: {maxEjectionPercent: 101}"),
            "spec.outlierDetection.maxEjectionPercent",
        ),
        (
            "a balancer of no known name",
            Tp,
            on_be1("loadBalancing: {policy: Best}"),
            "spec.loadBalancing.policy",
        ),
        ("a PROXY header of version 3", Tp, on_be1("proxyProtocol: v3"), "spec.proxyProtocol"),
        ("headers of nobody", Tp, on_be1("acceptProxyProtocol: {from: []}"), "spec.acceptProxyProtocol.from"),
        ("headers of who knows", Tp, on_be1("acceptProxyProtocol: {}"), "spec.acceptProxyProtocol.from"),
        (
            "headers of no network",
            Tp,
            on_be1("acceptProxyProtocol: {from: [10.0.0.0/8, balancer.example]}"),
            "spec.acceptProxyProtocol.from[1]",
        ),
        (
            "headers of a network too long",
            Tp,
            on_be1("acceptProxyProtocol: {from: [10.0.0.0/33]}"),
            "spec.acceptProxyProtocol.from[0]",
        ),
        (
            "headers of a network with bits behind",
            Tp,
            on_be1("acceptProxyProtocol: {from: [10.0.0.1/8]}"),
            "spec.acceptProxyProtocol.from[0]",
        ),
        (
            "headers of an address",
            Tp,
            on_be1("acceptProxyProtocol: {from: [10.0.0.1]}"),
            "spec.acceptProxyProtocol.from[0]",
        ),
        (
            "headers of everybody, by more digits",
            Tp,
            on_be1("acceptProxyProtocol: {from: [0.0.0.0/00]}"),
            "spec.acceptProxyProtocol.from[0]",
        ),
        (
            "headers of IPv4 in IPv6",
            Tp,
            on_be1("acceptProxyProtocol: {from: ['::ffff:192.0.2.0/124']}"),
            "spec.acceptProxyProtocol.from[0]",
        ),
        (
            "headers of everybody",
            Tp,
            on_be1("acceptProxyProtocol: {from: ['::/0']}"),
            "spec.acceptProxyProtocol.from[0]",
        ),
        (
            "TLS over datagrams",
            Es,
            text("{hosts: [a.example], ports: [{port: 443, protocol: udp}], tls: {sni: a.example}}"),
            "spec.tls",
        ),
        (
            "an external protocol in capitals",
            Es,
            text("{hosts: [a.example], ports: [{port: 53, protocol: UDP}]}"),
            "spec.ports[0].protocol",
        ),
        (
            "access to a route",
            Ap,
            text("{targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: a}], rules: [{}]}"),
            "spec.targetRefs[0].kind",
        ),
        (
            "a caller that is everybody by mistake",
            Ap,
            text("{rules: [{from: [{}]}]}"),
            "spec.rules[0].from[0]",
        ),
        (
            "an identity that is none",
            Ap,
            text("{rules: [{from: [{identities: ['http://a']}]}]}"),
            "spec.rules[0].from[0].identities[0]",
        ),
        (
            "a path with a star within",
            Ap,
            text("{rules: [{to: [{paths: ['/a/*/b']}]}]}"),
            "spec.rules[0].to[0].paths[0]",
        ),
        ("access to port 0", Ap, text("{rules: [{to: [{ports: [0]}]}]}"), "spec.rules[0].to[0].ports[0]"),
        (
            "a network with bits behind its length",
            Ap,
            text("{rules: [{from: [{ipBlocks: [10.1.2.3/8]}]}]}"),
            "spec.rules[0].from[0].ipBlocks[0]",
        ),
        (
            "an address for a network",
            Ap,
            text("{rules: [{from: [{notIpBlocks: [10.1.2.3]}]}]}"),
            "spec.rules[0].from[0].notIpBlocks[0]",
        ),
        (
            "a trust domain as a URI",
            Ap,
            text("{rules: [{from: [{trustDomains: ['spiffe://a']}]}]}"),
            "spec.rules[0].from[0].trustDomains[0]",
        ),
        (
            "a gRPC method as a path",
            Ap,
            text("{rules: [{to: [{grpcMethods: [/a.B/C]}]}]}"),
            "spec.rules[0].to[0].grpcMethods[0]",
        ),
        (
            "a gRPC method of all services",
            Ap,
            text("{rules: [{to: [{grpcMethods: ['*/C']}]}]}"),
            "spec.rules[0].to[0].grpcMethods[0]",
        ),
        (
            "a gRPC method beside paths",
            Ap,
            text("{rules: [{to: [{grpcMethods: [a.B/C], paths: [/a]}]}]}"),
            "spec.rules[0].to[0].grpcMethods",
        ),
        (
            "a host with a port",
            Ap,
            text("{rules: [{to: [{hosts: ['a.example:80']}]}]}"),
            "spec.rules[0].to[0].hosts[0]",
        ),
        (
            "a header of which nothing is said",
            Ap,
            text("{rules: [{to: [{headers: [{name: x}]}]}]}"),
            "spec.rules[0].to[0].headers[0]",
        ),
        (
            "a header that is absent with a value",
            Ap,
            text("{rules: [{to: [{headers: [{name: x, present: false, values: [a]}]}]}]}"),
            "spec.rules[0].to[0].headers[0].present",
        ),
        (
            "the host as a header",
            Ap,
            text("{rules: [{to: [{headers: [{name: Host, values: [a]}]}]}]}"),
            "spec.rules[0].to[0].headers[0].name",
        ),
        (
            "a certificate as a header",
            Ap,
            text("{rules: [{to: [{headers: [{name: X-Forwarded-Client-Cert, present: true}]}]}]}"),
            "spec.rules[0].to[0].headers[0].name",
        ),
        (
            "a pseudo header",
            Ap,
            text("{rules: [{to: [{headers: [{name: ':path', values: [/a]}]}]}]}"),
            "spec.rules[0].to[0].headers[0].name",
        ),
        (
            "a value of nothing",
            Ap,
            text("{rules: [{to: [{headers: [{name: x, values: ['']}]}]}]}"),
            "spec.rules[0].to[0].headers[0].values[0]",
        ),
        (
            "a value with a blank behind it",
            Ap,
            text("{rules: [{to: [{headers: [{name: x, notValues: ['a ']}]}]}]}"),
            "spec.rules[0].to[0].headers[0].notValues[0]",
        ),
        (
            "values without end",
            Ap,
            format!(
                "{{rules: [{{to: [{{headers: [{{name: x, values: [{}]}}]}}]}}]}}",
                (0..200).map(|n| format!("value{n}")).collect::<Vec<_>>().join(", ")
            ),
            "spec.rules[0].to[0].headers[0].values",
        ),
        ("a trial of another sort", Ap, text("{mode: Dryrun, rules: [{}]}"), "spec.mode"),
        // The Service Mesh Interface.
        ("a target without rules", Target, smi("sources: [SA], rules: []"), "spec.rules"),
        ("a target without sources", Target, smi("rules: [{kind: TCPRoute, name: a}]"), "spec.sources"),
        (
            "a rule of a kind that is none",
            Target,
            smi("sources: [SA], rules: [{kind: HTTPRoute, name: a}]"),
            "spec.rules[0].kind",
        ),
        (
            "a source without identity",
            Target,
            smi("sources: [{kind: Group, name: a}], rules: [{kind: TCPRoute, name: a}]"),
            "spec.sources[0].kind",
        ),
        (
            "another namespace's destination",
            Target,
            smi("sources: [SA], rules: [{kind: TCPRoute, name: a}]")
                .replace("name: be1}", "name: be1, namespace: elsewhere}"),
            "spec.destination.namespace",
        ),
        (
            "a path that is no expression",
            Group,
            text("{matches: [{name: a, pathRegex: '/a('}]}"),
            "spec.matches[0].pathRegex",
        ),
        (
            "a path with an operation of sets",
            Group,
            text("{matches: [{name: a, pathRegex: '/[a-z&&[^b]]'}]}"),
            "spec.matches[0].pathRegex",
        ),
        (
            "a path that looks ahead",
            Group,
            text("{matches: [{name: a, pathRegex: '/(?!admin).*'}]}"),
            "spec.matches[0].pathRegex",
        ),
        (
            "a header that is no expression",
            Group,
            text("{matches: [{name: a, headers: {x-a: '['}}]}"),
            "spec.matches[0].headers.x-a",
        ),
        (
            "a header that is no name",
            Group,
            text("{matches: [{name: a, headers: {'x a': b}}]}"),
            "spec.matches[0].headers[\"x a\"]",
        ),
        (
            "a method in small letters",
            Group,
            text("{matches: [{name: a, methods: [get]}]}"),
            "spec.matches[0].methods[0]",
        ),
        ("a match twice", Group, text("{matches: [{name: a}, {name: a}]}"), "spec.matches[1]"),
        ("a TCP port 0", Kind::SmiTCPRoute, text("{matches: {ports: [0]}}"), "spec.matches.ports[0]"),
        ("a grant to nobody", Grant, text("{from: [], to: [{kind: Service}]}"), "spec.from"),
        (
            "a grant from a kind that is none",
            Grant,
            text(
                "{from: [{group: gateway.networking.k8s.io, kind: HTTPRout, namespace: a}], to: [{kind: Service}]}",
            ),
            "spec.from[0].kind",
        ),
        // The mesh and its instances.
        ("a life of a second", Mesh, text("{certificates: {ttl: 1s}}"), "spec.certificates.ttl"),
        ("a network that is none", Mesh, text("{vip: {cidr: 240.240.0.0/99}}"), "spec.vip.cidr"),
        ("a trust domain with a scheme", Mesh, text("{trustDomain: 'spiffe://a'}"), "spec.trustDomain"),
        ("mTLS sometimes", Mesh, text("{mtls: {mode: Sometimes}}"), "spec.mtls.mode"),
        ("an instance everywhere", Wl, text("{service: a, address: 0.0.0.0}"), "spec.address"),
        ("an instance nowhere", Wl, text("{service: a}"), "spec.address"),
        (
            "an instance's port 70000",
            Wl,
            text("{service: a, address: 127.0.0.1, inboundPort: 70000}"),
            "spec.inboundPort",
        ),
        (
            "a health of no known name",
            Wl,
            text("{service: a, address: 127.0.0.1, health: Splendid}"),
            "spec.health",
        ),
    ]
}

#[test]
fn what_is_wrong_is_refused_where_it_is_wrong_with_what_would_be_right() {
    let rows = rows();
    assert!(rows.len() >= 60, "{}", rows.len());
    let mut wrong = Vec::new();
    for (what, kind, spec, path) in &rows {
        let name = if *kind == Kind::Mesh { "default" } else { "x" };
        let version = kind.info().api_version();
        let yaml =
            format!("{{apiVersion: {version}, kind: {kind}, metadata: {{name: {name}}}, spec: {spec}}}");
        let (documents, in_file) = parse_text("f.yaml", &yaml);
        let Some(document) = documents.first() else {
            wrong.push(format!("{what}: no document: {in_file:?}"));
            continue;
        };
        let (object, by_api) = parse_value(&document.value);
        if document.object.is_some() || object.is_some() {
            wrong.push(format!("{what}: let in"));
        }
        for (way, problems) in [("file", &in_file), ("API", &by_api)] {
            let Some(found) = problems.iter().find(|it| it.is_error() && it.path == *path) else {
                wrong.push(format!("{what}, {way}: nothing at {path}: {problems:?}"));
                continue;
            };
            // A message without a hint must itself say what would be right.
            let says = [
                "is not within",
                "must be",
                "is missing",
                "more than",
                "longer than",
                "less than",
                "needs",
                "not one of",
                "labels of",
            ];
            if found.hint.is_none() && !says.iter().any(|word| found.message.contains(word)) {
                wrong.push(format!("{what}, {way}: no hint: {}", found.message));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[test]
fn what_gateway_api_lets_in_is_let_in_and_warned_of() {
    // Weights that are all 0 are legal there: every request is answered with an error.
    let spec = route("{backendRefs: [{name: be1, port: 80, weight: 0}, {name: be2, port: 80, weight: 0}]}");
    let version = Kind::HTTPRoute.info().api_version();
    let yaml = format!("{{apiVersion: {version}, kind: HTTPRoute, metadata: {{name: x}}, spec: {spec}}}");
    let (documents, problems) = parse_text("f.yaml", &yaml);
    assert!(documents[0].object.is_some());
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].path, "spec.rules[0].backendRefs");
}
