#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop at the first surprise")]
use super::*;

/// What `kubectl explain` does to find a kind's schema.
fn explain(kind: Kind) -> Value {
    let info = kind.info();
    let document = openapi_v3(info.group, info.version);
    let prefix = if info.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", info.group) };
    let paths = [
        format!("{prefix}/{}/{}", info.version, info.plural),
        format!("{prefix}/{}/namespaces/{{namespace}}/{}", info.version, info.plural),
    ];
    let found = paths.iter().find_map(|path| {
        document["paths"].get(path)?.get("get")?.get("x-kubernetes-group-version-kind").cloned()
    });
    let identity = found.unwrap_or_else(|| panic!("{kind}: no path tells its kind"));
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let matching = |schema: &&Value| {
        schema["x-kubernetes-group-version-kind"].as_array().is_some_and(|list| list.contains(&identity))
    };
    schemas.values().find(matching).cloned().unwrap_or_else(|| panic!("{kind}: no schema"))
}

fn each_described(path: &str, schema: &Value, missing: &mut Vec<String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        if field["description"].as_str().unwrap_or_default().is_empty() {
            missing.push(path.clone());
        }
        let whole = field["type"].is_string()
            || field["allOf"].is_array()
            || field["oneOf"].is_array()
            || field["x-kubernetes-preserve-unknown-fields"] == true;
        assert!(whole, "{path} has no type: {field}");
        each_described(&path, field, missing);
        each_described(&path, &field["items"], missing);
    }
}

#[test]
fn kubectl_explain_finds_every_kind_and_a_description_of_every_field() {
    let mut missing = Vec::new();
    for kind in Kind::all() {
        each_described(kind.info().name, &explain(*kind), &mut missing);
    }
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn schemas_have_the_names_that_tools_expect() {
    let names = |group, version| {
        openapi_v3(group, version)["components"]["schemas"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert!(names("", "v1").contains(&"io.k8s.api.core.v1.Service".to_owned()));
    assert!(names("weft.dev", "v1").contains(&"dev.weft.v1.Workload".to_owned()));
    assert!(
        names("gateway.networking.k8s.io", "v1")
            .contains(&"io.k8s.networking.gateway.v1.HTTPRoute".to_owned())
    );
    assert!(
        names("gateway.networking.k8s.io", "v1alpha2")
            .contains(&"io.k8s.networking.gateway.v1alpha2.TCPRoute".to_owned())
    );
}

#[test]
fn no_null_no_unknown_format_and_every_reference_leads_somewhere() {
    for (group, version) in [
        ("", "v1"),
        ("weft.dev", "v1"),
        ("gateway.networking.k8s.io", "v1"),
        ("gateway.networking.k8s.io", "v1alpha2"),
        ("access.smi-spec.io", "v1alpha3"),
        ("specs.smi-spec.io", "v1alpha4"),
    ] {
        let document = openapi_v3(group, version);
        let text = document.to_string();
        assert!(!text.contains("\"null\"") && !text.contains("anyOf") && !text.contains("uint"), "{group}");
        for reference in text.split("\"$ref\":\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            assert!(document.pointer(reference).is_some(), "{reference}");
        }
    }
}

#[test]
fn types_read_as_kubectl_prints_them() {
    let route = explain(Kind::HTTPRoute);
    let backend =
        route.pointer("/properties/spec/properties/rules/items/properties/backendRefs/items").unwrap();
    assert_eq!(backend["properties"]["weight"]["type"], "integer");
    assert_eq!(backend["required"], json!(["name"]));
    let path_type = route.pointer("/properties/spec/properties/rules/items/properties/matches/items/properties/path/properties/type").unwrap();
    assert_eq!(path_type["enum"], json!(["Exact", "PathPrefix", "RegularExpression"]));
    assert!(path_type["description"].as_str().unwrap().contains("PathPrefix: "));
    let service = explain(Kind::Service);
    assert_eq!(
        service.pointer("/properties/spec/properties/selector/additionalProperties/type").unwrap(),
        "string"
    );
}

#[test]
fn kubectl_apply_leaves_the_checking_to_the_server() {
    let document = openapi_v3("weft.dev", "v1");
    let patch = document
        .pointer("/paths/~1apis~1weft.dev~1v1~1namespaces~1{namespace}~1workloads~1{name}/patch")
        .unwrap();
    assert!(
        patch["parameters"]
            .as_array()
            .unwrap()
            .iter()
            .any(|parameter| parameter["name"] == "fieldValidation")
    );
    assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Workload");
}
