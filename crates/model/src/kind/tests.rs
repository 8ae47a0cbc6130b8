#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
use serde_json::json;

use super::*;

#[test]
fn each_row_stands_at_its_kind() {
    for kind in Kind::all() {
        let info = kind.info();
        assert_eq!(info.kind, *kind);
        // A name that two groups have is Gateway API's by itself.
        let bare = if *kind == Kind::SmiTCPRoute { Kind::TCPRoute } else { *kind };
        assert_eq!(info.name.parse::<Kind>().unwrap(), bare);
        assert_eq!(Kind::resolve(info.plural), Some(bare));
        assert_eq!(Kind::find(info.group, info.plural), Some(*kind));
        assert_eq!(Kind::from_api(&info.api_version(), info.name), Some(*kind));
        assert_eq!(info.name.to_lowercase(), info.singular);
        assert_eq!(info.ours, info.group == WEFT_GROUP);
    }
    assert_eq!(Kind::all().len(), INFO.len());
}

#[test]
fn a_word_of_the_command_line_finds_its_kind() {
    for (word, kind) in [
        ("svc", Kind::Service),
        ("Services", Kind::Service),
        ("ns", Kind::Namespace),
        ("httproute", Kind::HTTPRoute),
        ("HTTPRoute", Kind::HTTPRoute),
        ("httproutes.gateway.networking.k8s.io", Kind::HTTPRoute),
        ("httproutes.v1.gateway.networking.k8s.io", Kind::HTTPRoute),
        ("wl", Kind::Workload),
        ("es", Kind::ExternalService),
        ("tp", Kind::TrafficPolicy),
        ("ap", Kind::AccessPolicy),
        ("mesh", Kind::Mesh),
        ("tcproutes", Kind::TCPRoute),
        ("TCPRoute.specs.smi-spec.io", Kind::SmiTCPRoute),
        ("tt", Kind::TrafficTarget),
    ] {
        assert_eq!(Kind::resolve(word), Some(kind), "{word}");
    }
    assert_eq!(Kind::resolve("pod"), None);
    assert_eq!(Kind::resolve("httproutes.weft.dev"), None);
}

#[test]
fn a_column_reads_through_lists() {
    let service = json!({"spec": {"type": "ClusterIP", "ports": [{"port": 80}, {"port": 443}]}});
    let cells: Vec<String> =
        Kind::Service.info().columns.iter().map(|column| column.read(&service)).collect();
    assert_eq!(cells, ["ClusterIP", "", "80,443", ""]);
}
