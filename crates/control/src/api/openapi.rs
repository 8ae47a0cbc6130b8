//! OpenAPI v3: the model's schemas, joined with the paths that this API serves.
//!
//! `kubectl explain` finds a kind by its path here, and `kubectl apply` learns from the parameters
//! of PATCH that the server itself validates fields and knows dry runs.

use serde_json::{Map, Value, json};
use weft_model::KindInfo;

use super::discovery;
use super::target::has_status;

/// `/openapi/v3`: where the documents are.
pub(crate) fn index() -> Value {
    let mut paths = Map::new();
    let mut add = |prefix: String| {
        // The hash makes a client's cache forget the document of another version of the server.
        let address = format!("/openapi/v3/{prefix}?hash={}", env!("CARGO_PKG_VERSION"));
        paths.insert(prefix, json!({ "serverRelativeURL": address }));
    };
    add("api/v1".to_owned());
    for group in discovery::groups() {
        for version in discovery::group_versions(group) {
            add(format!("apis/{group}/{version}"));
        }
    }
    json!({ "paths": paths })
}

/// `/openapi/v3/api/v1`, `/openapi/v3/apis/GROUP/VERSION`
pub(crate) fn document(group: &str, version: &str) -> Option<Value> {
    let kinds = discovery::kinds_of(group, version);
    if kinds.is_empty() {
        return None;
    }
    let mut document = weft_model::openapi_v3(group, version);
    if !document.is_object() {
        document = json!({});
    }
    document["openapi"] = "3.0.0".into();
    if !document["info"].is_object() {
        document["info"] = json!({ "title": "Weft", "version": env!("CARGO_PKG_VERSION") });
    }
    let schemas = document["components"]["schemas"].as_object().cloned().unwrap_or_default();
    let mut paths = Map::new();
    for info in kinds {
        let schema = schema_of(&schemas, info, version);
        add_paths(&mut paths, info, version, schema.as_deref());
    }
    document["paths"] = Value::Object(paths);
    Some(document)
}

/// The name of the schema that says it is this kind.
fn schema_of(schemas: &Map<String, Value>, info: &KindInfo, version: &str) -> Option<String> {
    schemas
        .iter()
        .find(|(_, schema)| {
            schema["x-kubernetes-group-version-kind"].as_array().is_some_and(|kinds| {
                kinds.iter().any(|kind| {
                    kind["group"] == info.group && kind["version"] == version && kind["kind"] == info.name
                })
            })
        })
        .map(|(name, _)| name.clone())
}

fn add_paths(paths: &mut Map<String, Value>, info: &KindInfo, version: &str, schema: Option<&str>) {
    let root = match info.group {
        "" => format!("/api/{version}"),
        group => format!("/apis/{group}/{version}"),
    };
    let inside = if info.namespaced { format!("{root}/namespaces/{{namespace}}") } else { root.clone() };
    let collection = format!("{inside}/{}", info.plural);
    let object = format!("{collection}/{{name}}");
    let operations = Operations { info, version, schema };
    if info.namespaced {
        paths.insert(format!("{root}/{}", info.plural), json!({ "get": operations.of("list", &[]) }));
    }
    let place = if info.namespaced { vec![parameter("namespace", "path")] } else { Vec::new() };
    paths.insert(
        collection,
        json!({
            "get": operations.of("list", &[]),
            "post": operations.of("post", &["dryRun", "fieldManager", "fieldValidation"]),
            "parameters": place,
        }),
    );
    let mut place = place;
    place.push(parameter("name", "path"));
    let named = json!({
        "get": operations.of("get", &[]),
        "put": operations.of("put", &["dryRun", "fieldManager", "fieldValidation"]),
        "patch": operations.of("patch", &["dryRun", "fieldManager", "fieldValidation", "force"]),
        "delete": operations.of("delete", &["dryRun", "gracePeriodSeconds", "propagationPolicy"]),
        "parameters": place,
    });
    paths.insert(object.clone(), named);
    if has_status(info) {
        let status = json!({
            "get": operations.of("get", &[]),
            "put": operations.of("put", &["dryRun", "fieldManager", "fieldValidation"]),
            "patch": operations.of("patch", &["dryRun", "fieldManager", "fieldValidation", "force"]),
            "parameters": place,
        });
        paths.insert(format!("{object}/status"), status);
    }
}

struct Operations<'a> {
    info: &'a KindInfo,
    version: &'a str,
    schema: Option<&'a str>,
}

impl Operations<'_> {
    fn of(&self, action: &str, parameters: &[&str]) -> Value {
        let schema = match self.schema {
            Some(name) => json!({ "$ref": format!("#/components/schemas/{name}") }),
            None => json!({ "type": "object" }),
        };
        let answer = if action == "list" { json!({ "type": "object" }) } else { schema.clone() };
        let mut operation = json!({
            "operationId": format!("{action}{}{}", self.info.name, self.version),
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {
                "group": self.info.group,
                "version": self.version,
                "kind": self.info.name,
            },
            "parameters": parameters.iter().map(|name| parameter(name, "query")).collect::<Vec<_>>(),
            "responses": { "200": { "description": "OK", "content": { "application/json": { "schema": answer } } } },
        });
        match action {
            "post" | "put" => {
                operation["requestBody"] = json!({ "content": { "application/json": { "schema": schema } } });
            }
            "patch" => {
                // Strategic merge is spoken for core kinds, but not offered here: a client that reads
                // this would take merge keys from the schema instead of from its own types.
                operation["requestBody"] = json!({ "content": {
                    "application/merge-patch+json": { "schema": { "type": "object" } },
                    "application/apply-patch+yaml": { "schema": { "type": "object" } },
                    "application/json-patch+json": { "schema": { "type": "array", "items": { "type": "object" } } },
                } });
            }
            _ => {}
        }
        operation
    }
}

fn parameter(name: &str, place: &str) -> Value {
    json!({
        "name": name,
        "in": place,
        "required": place == "path",
        "schema": { "type": if name == "force" { "boolean" } else { "string" } },
    })
}
