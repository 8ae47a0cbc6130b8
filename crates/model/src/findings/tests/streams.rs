//! What connections and datagrams can't do.

use super::*;

#[test]
fn a_proxy_header_where_there_can_be_none_is_told() {
    let names = "{apiVersion: v1, kind: Service, metadata: {name: db}, spec: {ports: [{name: sql, port: 5432}, {name: http, port: 80}, {name: udp, port: 53, protocol: UDP}]}}
---
{apiVersion: weft.dev/v1, kind: ExternalService, metadata: {name: out}, spec: {hosts: [a.example], ports: [{name: dns, port: 53, protocol: udp}, {name: bytes, port: 5, protocol: tcp}]}}
";
    let on = |target: &str, says: &str| {
        let policy = format!(
            "{names}---\n{{apiVersion: weft.dev/v1, kind: TrafficPolicy, metadata: {{name: p}}, spec: {{targetRefs: [{target}], {says}}}}}"
        );
        let found = findings(&objects(&policy));
        found
            .into_iter()
            .filter(|it| it.code != "WFT0019")
            .map(|it| format!("{} {}", it.code, it.message))
            .collect::<Vec<_>>()
    };
    let out = |section: &str| format!("{{group: weft.dev, kind: ExternalService, name: out{section}}}");
    let accept = "acceptProxyProtocol: {from: [192.0.2.0/28]}";
    let vain = |part: &str, target: &str| format!("WFT0020 {part} has no effect on {target}");
    let no_bytes = |target: &str| vec![vain("proxyProtocol", target) + ": no port of it carries bytes alone"];
    assert_eq!(on("{name: db}", "proxyProtocol: v2"), [""; 0]);
    assert_eq!(on("{name: db, sectionName: sql}", "proxyProtocol: v2"), [""; 0]);
    assert_eq!(on("{name: db, sectionName: http}", "proxyProtocol: v2"), no_bytes("Service db"));
    assert_eq!(on("{name: db, sectionName: udp}", "proxyProtocol: v2"), no_bytes("Service db"));
    assert_eq!(on(&out(""), "proxyProtocol: v1"), [""; 0]);
    assert_eq!(on(&out(", sectionName: dns"), "proxyProtocol: v1"), no_bytes("ExternalService out"));
    assert_eq!(on("{name: db}", accept), [""; 0]);
    assert_eq!(on("{name: db, sectionName: sql}", accept), [vain("acceptProxyProtocol", "Service db")]);
    assert_eq!(on(&out(""), accept), [vain("acceptProxyProtocol", "ExternalService out")]);
    let route = "{group: gateway.networking.k8s.io, kind: TCPRoute, name: r}";
    let on_route = on(route, &format!("proxyProtocol: v1, {accept}"));
    assert!(
        on_route
            .iter()
            .any(|it| it == "WFT0016 proxyProtocol, acceptProxyProtocol has no effect on TCPRoute r"),
        "{on_route:?}"
    );
}

#[test]
fn no_route_leads_to_datagrams() {
    let external = "{apiVersion: weft.dev/v1, kind: ExternalService, metadata: {name: dns}, spec: {hosts: [dns.example], ports: [{port: 53, protocol: udp}]}}
";
    let backend = "{backendRefs: [{group: weft.dev, kind: ExternalService, name: dns, port: 53}]}";
    check(
        "datagrams",
        &format!("{external}{}", route("r", "be1", backend)),
        &["WFT0002 error HTTPRoute default/r: ExternalService default/dns has no port 53 for connections"],
    );
}
