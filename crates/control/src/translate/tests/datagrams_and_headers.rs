//! Datagrams, and PROXY headers: as objects and flags say them, read by the data plane's own reader.

use weft_routing::{ProxyVersion, Strictness};

use super::*;
use crate::translate::view::Datagrams;

fn read_listener(made: &Translation, name: &str) -> Option<weft_routing::Listener> {
    let sent = made.resources.get(weft_xds::LDS, name)?;
    Some(weft_routing::listener(&sent.body, Strictness::Own).unwrap().value)
}

fn read_cluster(made: &Translation, name: &str) -> weft_routing::Cluster {
    let sent = made.resources.get(weft_xds::CDS, name).unwrap();
    weft_routing::cluster(&sent.body, Strictness::Own).unwrap().value
}

fn codes(made: &Translation) -> Vec<&'static str> {
    made.findings.iter().map(|finding| finding.code).collect()
}

fn asking(wanted: &[&str]) -> ProxyView {
    let datagrams = wanted.iter().map(|text| Datagrams::parse(text, "default").unwrap()).collect();
    ProxyView { datagrams, ..view(ProxyKind::Weft) }
}

fn clock() -> (Kind, &'static str, Value) {
    let spec = json!({
        "hosts": ["clock.example"], "resolution": "Static", "endpoints": [{"address": "192.0.2.9"}],
        "ports": [{"port": 123, "name": "ntp", "protocol": "udp", "targetPort": 5353}, {"port": 13, "protocol": "tcp"}],
    });
    (Kind::ExternalService, "clock", spec)
}

#[test]
fn datagrams_are_taken_where_the_proxy_was_told_to_and_nowhere_else() {
    let mut objects = vec![service(), clock()];
    let made = for_view(&snapshot(&objects), &asking(&["127.0.0.2:5300=clock:123"]));
    assert_eq!(codes(&made), [""; 0]);
    let udp = read_listener(&made, "udp|127.0.0.2:5300").unwrap().udp.unwrap();
    assert_eq!(
        (udp.address, &*udp.cluster),
        ("127.0.0.2:5300".parse().unwrap(), "external|123|clock.default")
    );
    assert_eq!(udp.idle_timeout, std::time::Duration::from_secs(60));
    let policy = json!({
        "targetRefs": [{"group": "weft.dev", "kind": "ExternalService", "name": "clock", "sectionName": "ntp"}],
        "timeouts": {"idle": "5s"}, "healthCheck": {"interval": "1s"}, "proxyProtocol": "v1",
    });
    objects.push((Kind::TrafficPolicy, "clock", policy));
    let made = for_view(&snapshot(&objects), &asking(&["127.0.0.2:5300=clock.default:123"]));
    let udp = read_listener(&made, "udp|127.0.0.2:5300").unwrap().udp.unwrap();
    assert_eq!(udp.idle_timeout, std::time::Duration::from_secs(5));
    let cluster = read_cluster(&made, "external|123|clock.default");
    assert!(cluster.health_checks.is_empty(), "a check would be a connection");
    assert_eq!(cluster.proxy_protocol, None);
    // Connections find the port of connections alone.
    let unasked = for_view(&snapshot(&objects), &view(ProxyKind::Weft));
    assert!(!unasked.resources.iter().any(|resource| resource.name.starts_with("udp|")));
    let hosts = made.resources.get(weft_xds::RDS, "outbound").unwrap().body.value.clone();
    let says = |text: &str| hosts.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(says("clock.example:13") && !says("clock.example:123"));
}

#[test]
fn datagrams_for_what_is_not_there_or_a_member_are_told_and_not_taken() {
    let wanted =
        ["127.0.0.2:1=clock:13", "127.0.0.2:2=clok:123", "127.0.0.2:3=be1:80", "127.0.0.2:4=clock.other:123"];
    let made = for_view(&snapshot(&[service(), clock()]), &asking(&wanted));
    assert!(!made.resources.iter().any(|resource| resource.name.starts_with("udp|")));
    assert_eq!(codes(&made), ["WFT0916"; 4]);
    let of = |part: &str| made.findings.iter().find(|finding| finding.message.contains(part)).unwrap();
    assert!(of("default/be1").message.contains("nothing encrypts datagrams between members"));
    assert!(of("default/clok").message.contains("fe-1 takes no datagrams at 127.0.0.2:2"));
    for wrong in
        ["", "5300=clock:123", "127.0.0.2:5300=clock", "127.0.0.2:5300=clock:0", "127.0.0.2:x=clock:1"]
    {
        assert_eq!(Datagrams::parse(wrong, "default"), None, "{wrong}");
    }
}

fn with_policy(spec: Value) -> Snapshot {
    let [service, workload] = db("weft");
    snapshot(&[service, workload, (Kind::TrafficPolicy, "db", spec)])
}

#[test]
fn the_apps_own_proxy_writes_headers_and_believes_whom_the_policy_names() {
    let snapshot = with_policy(json!({
        "targetRefs": [{"name": "db"}], "proxyProtocol": "v2",
        "acceptProxyProtocol": {"from": ["192.0.2.0/28", "2001:db8::/64"]},
    }));
    let of = |kind| {
        let view = ProxyView { service: "db".into(), workload: "db-1".into(), ..view(kind) };
        for_view(&snapshot, &view)
    };
    let ours = of(ProxyKind::Weft);
    assert_eq!(codes(&ours), [""; 0]);
    let taken = read_listener(&ours, "inbound").unwrap().proxy_protocol.unwrap();
    let from: Vec<String> = taken.from.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(from, ["192.0.2.0/28", "2001:db8::/64"]);
    assert!(!taken.optional, "who is believed has to say");
    assert_eq!(read_cluster(&ours, "inbound|5432").proxy_protocol, Some(ProxyVersion::V2));
    // An Envoy would believe everybody.
    let envoy = of(ProxyKind::Envoy);
    assert_eq!(codes(&envoy), ["WFT0917"]);
    assert_eq!(read_listener(&envoy, "inbound").unwrap().proxy_protocol, None);
    assert_eq!(read_cluster(&envoy, "inbound|5432").proxy_protocol, Some(ProxyVersion::V2));
    // An older proxy would refuse the listener, and with it all that changes there.
    let older = ProxyView {
        service: "db".into(),
        workload: "db-1".into(),
        proxy_headers: false,
        ..view(ProxyKind::Weft)
    };
    let older = for_view(&snapshot, &older);
    assert_eq!(codes(&older), ["WFT0917"]);
    assert_eq!(read_listener(&older, "inbound").unwrap().proxy_protocol, None);
    // Callers write none: the other proxy says who called.
    let caller = for_view(&snapshot, &view(ProxyKind::Weft));
    assert_eq!(read_cluster(&caller, "outbound|5432|db.default").proxy_protocol, None);
    assert!(read_listener(&caller, "inbound").is_none_or(|inbound| inbound.proxy_protocol.is_none()));
}

#[test]
fn members_who_would_be_shut_out_are_named() {
    let [service, workload] = db("weft");
    let identity = "spiffe://mesh.internal/ns/default/sa/fe";
    let fe = json!({"service": "fe", "address": "192.0.2.9", "identity": identity, "inboundPort": 15006});
    let of = |from: &str| {
        let spec = json!({"targetRefs": [{"name": "db"}], "acceptProxyProtocol": {"from": [from]}});
        let snapshot = snapshot(&[
            service.clone(),
            workload.clone(),
            (Kind::Workload, "fe-1", fe.clone()),
            (Kind::TrafficPolicy, "db", spec),
        ]);
        let view = ProxyView { service: "db".into(), workload: "db-1".into(), ..view(ProxyKind::Weft) };
        let made = for_view(&snapshot, &view);
        made.findings.iter().map(|found| format!("{} {}", found.code, found.message)).collect::<Vec<_>>()
    };
    assert_eq!(of("192.0.2.0/29"), [""; 0]);
    let found = of("192.0.2.0/28");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("WFT0918 ") && found[0].contains("default/fe-1 at 192.0.2.9:"), "{found:?}");
}

#[test]
fn without_a_policy_nobody_is_believed_and_no_header_is_written() {
    let snapshot = with_policy(json!({"targetRefs": [{"name": "db"}], "timeouts": {"connect": "1s"}}));
    let view = ProxyView { service: "db".into(), workload: "db-1".into(), ..view(ProxyKind::Weft) };
    let made = for_view(&snapshot, &view);
    assert_eq!(read_listener(&made, "inbound").unwrap().proxy_protocol, None);
    assert_eq!(read_cluster(&made, "inbound|5432").proxy_protocol, None);
}

#[test]
fn an_external_service_is_told_before_tls_and_http_never() {
    let target = |section: Option<&str>| {
        let mut target = json!({"group": "weft.dev", "kind": "ExternalService", "name": "pay"});
        target["sectionName"] = json!(section);
        target
    };
    let pay = json!({
        "hosts": ["pay.example"], "tls": {"sni": "pay.example"},
        "ports": [{"port": 5432, "name": "sql", "protocol": "tcp"}, {"port": 80, "name": "web", "protocol": "http"}],
    });
    for section in [None, Some("sql")] {
        let policy = json!({"targetRefs": [target(section)], "proxyProtocol": "v1"});
        let objects = [(Kind::ExternalService, "pay", pay.clone()), (Kind::TrafficPolicy, "pay", policy)];
        let made = for_view(&snapshot(&objects), &view(ProxyKind::Weft));
        let sql = read_cluster(&made, "external|5432|pay.default");
        assert_eq!((sql.proxy_protocol, sql.tls.is_some()), (Some(ProxyVersion::V1), true));
        let web = read_cluster(&made, "external|80|pay.default");
        assert_eq!((web.proxy_protocol, web.tls.is_some()), (None, true), "{section:?}");
    }
}
