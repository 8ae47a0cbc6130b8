//! The schemas as `kubectl` wants them: OpenAPI v3, one document a group and version.
//!
//! `kubectl explain` finds a resource's kind by looking up its paths (list paths, cluster-wide or in a
//! namespace) and the `x-kubernetes-group-version-kind` of an operation there, then the schema that
//! carries the same. `kubectl apply` looks for the `fieldValidation` parameter of a kind's patch
//! operation; finding it, it leaves the checking to the server, which tells every problem at once.

use serde_json::{Map, Value, json};

use crate::kind::{Kind, KindInfo};
use crate::schema;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

/// The OpenAPI v3 document of one group (`""` is core) and version; without kinds when there are none.
#[must_use]
pub fn openapi_v3(group: &str, version: &str) -> Value {
    let mut schemas = Map::new();
    let mut paths = Map::new();
    for kind in Kind::all() {
        let info = kind.info();
        if info.group != group || info.version != version {
            continue;
        }
        schemas.insert(schema_name(info), kind_schema(*kind));
        schemas.insert(format!("{}List", schema_name(info)), list_schema(info));
        add_paths(info, &mut paths);
    }
    let mut metadata = served(schema::metadata_schema().clone());
    if let Value::Object(fields) = &mut metadata {
        // Each kind's `metadata` field carries it.
        fields.remove("description");
    }
    schemas.insert(META.to_owned(), metadata);
    schemas.insert(INT_OR_STRING.to_owned(), int_or_string());
    schemas.insert(LIST_META.to_owned(), list_metadata());
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Weft", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "components": {"schemas": schemas},
    })
}

/// `dev.weft.v1.Workload`, `io.k8s.api.core.v1.Service`, `io.k8s.networking.gateway.v1.HTTPRoute`: the
/// group backwards, as Kubernetes names the schemas of custom resources.
fn schema_name(info: &KindInfo) -> String {
    if info.group.is_empty() {
        return format!("io.k8s.api.core.{}.{}", info.version, info.name);
    }
    let reversed: Vec<&str> = info.group.rsplit('.').collect();
    format!("{}.{}.{}", reversed.join("."), info.version, info.name)
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn identity(info: &KindInfo, name: &str) -> Value {
    json!({"group": info.group, "version": info.version, "kind": name})
}

fn kind_schema(kind: Kind) -> Value {
    let mut value = served(schema::schema(kind).clone());
    if let Some(metadata) = value.pointer_mut("/properties/metadata") {
        let description = metadata.get("description").cloned().unwrap_or_default();
        *metadata = json!({"description": description, "allOf": [reference(META)]});
    }
    value["x-kubernetes-group-version-kind"] = json!([identity(kind.info(), kind.info().name)]);
    value
}

fn list_schema(info: &KindInfo) -> Value {
    let name = format!("{}List", info.name);
    json!({
        "type": "object",
        "description": format!("A list of {}.", info.plural),
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": "Group and version of the list."},
            "kind": {"type": "string", "description": format!("What this is: {name}.")},
            "metadata": {"description": "Revision of the store that the list shows.", "allOf": [reference(LIST_META)]},
            "items": {"type": "array", "description": "The objects.", "items": reference(&schema_name(info))},
        },
        "x-kubernetes-group-version-kind": [identity(info, &name)],
    })
}

fn int_or_string() -> Value {
    json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
}

fn list_metadata() -> Value {
    json!({
        "type": "object",
        "description": "What a list says of itself.",
        "properties": {
            "resourceVersion": {"type": "string", "description": "Revision of the store; a watch goes on from here."},
            "continue": {"type": "string", "description": "Mark to go on from, when the list was cut."},
            "remainingItemCount": {"type": "integer", "format": "int64", "description": "How many objects follow."},
        },
    })
}

/// A schema as served: our names of text formats stay inside, but for those that OpenAPI knows.
fn served(mut value: Value) -> Value {
    strip(&mut value);
    value
}

fn strip(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    if fields.remove("x-kubernetes-int-or-string").is_some() {
        // By reference, so that `kubectl explain` calls the type by its name.
        fields.remove("format");
        fields.insert("allOf".to_owned(), json!([reference(INT_OR_STRING)]));
    } else if let Some(format) = fields.get("format").and_then(Value::as_str)
        && !matches!(format, "int32" | "int64" | "byte" | "date-time")
    {
        fields.remove("format");
    }
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(strip);
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get_mut(inner) {
            strip(inner);
            // `kubectl explain` prints the field's description and the items' below it: once is enough.
            if let Value::Object(inner) = inner {
                inner.remove("description");
            }
        }
    }
}

fn add_paths(info: &KindInfo, paths: &mut Map<String, Value>) {
    let top = if info.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", info.group) };
    let all = format!("{top}/{}/{}", info.version, info.plural);
    let list = if info.namespaced {
        let listed = json!({"get": operation(info, "list", "", &[])});
        paths.insert(all, listed);
        format!("{top}/{}/namespaces/{{namespace}}/{}", info.version, info.plural)
    } else {
        all
    };
    let namespace = info.namespaced.then(|| path_parameter("namespace", "Namespace of the object."));
    let name = path_parameter("name", "Name of the object.");
    let mut collection = json!({
        "get": operation(info, "list", "Namespaced", &[]),
        "post": operation(info, "post", "", &["fieldManager", "fieldValidation"]),
    });
    let mut item = json!({
        "get": operation(info, "get", "", &[]),
        "put": operation(info, "put", "", &["fieldManager", "fieldValidation"]),
        "patch": operation(info, "patch", "", &["fieldManager", "fieldValidation"]),
        "delete": operation(info, "delete", "", &[]),
    });
    collection["parameters"] = namespace.iter().cloned().collect();
    item["parameters"] = namespace.into_iter().chain([name]).collect();
    paths.insert(format!("{list}/{{name}}"), item);
    paths.insert(list, collection);
}

fn path_parameter(name: &str, about: &str) -> Value {
    json!({"name": name, "in": "path", "required": true, "description": about, "schema": {"type": "string"}})
}

fn operation(info: &KindInfo, action: &str, scope: &str, query: &[&str]) -> Value {
    let content = match action {
        "list" => reference(&format!("{}List", schema_name(info))),
        _ => reference(&schema_name(info)),
    };
    let parameters: Vec<Value> =
        query.iter().map(|name| json!({"name": name, "in": "query", "schema": {"type": "string"}})).collect();
    let mut operation = json!({
        "operationId": format!("{action}{scope}{}{}", info.version, info.name),
        "parameters": parameters,
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": content}}}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": identity(info, info.name),
    });
    if action == "patch" {
        operation["requestBody"] =
            json!({"content": {"application/merge-patch+json": {"schema": {"type": "object"}}}});
    } else if matches!(action, "post" | "put") {
        operation["requestBody"] = json!({"content": {"application/json": {"schema": content}}});
    }
    operation
}

#[cfg(test)]
mod tests;
