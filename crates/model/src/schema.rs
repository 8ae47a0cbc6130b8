//! The schema of each kind, made once from the spec types and tidied for two readers: the parser,
//! which walks values along it, and `kubectl explain`.
//!
//! Tidied means OpenAPI 3.0 as Kubernetes writes it: everything inline, no `null` types, an enum is
//! one list of words, `format` of a list's or map's texts sits at the texts.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::kind::Kind;
use crate::object::Metadata;
use crate::spec::{
    AccessPolicy, ExternalService, GrpcRoute, HttpRoute, HttpRouteGroup, Mesh, ReferenceGrant, Secret,
    Service, SmiPorts, TcpRoute, TrafficPolicy, TrafficTarget, Workload,
};

static SCHEMAS: LazyLock<BTreeMap<Kind, Value>> =
    LazyLock::new(|| Kind::all().iter().map(|kind| (*kind, envelope(*kind))).collect());
static METADATA: LazyLock<Value> = LazyLock::new(schema_of::<Metadata>);

/// The whole schema of a kind, metadata inline.
pub fn schema(kind: Kind) -> &'static Value {
    // Every kind is in the map: it is built from the list of all of them.
    SCHEMAS.get(&kind).unwrap_or(&Value::Null)
}

/// The schema of `metadata`.
pub fn metadata_schema() -> &'static Value {
    &METADATA
}

fn envelope(kind: Kind) -> Value {
    let info = kind.info();
    let spec = match kind {
        Kind::Service => schema_of::<Service>(),
        Kind::Namespace => namespace_spec(),
        Kind::Secret => schema_of::<Secret>(),
        Kind::HTTPRoute => schema_of::<HttpRoute>(),
        Kind::GRPCRoute => schema_of::<GrpcRoute>(),
        Kind::TCPRoute => schema_of::<TcpRoute>(),
        Kind::ReferenceGrant => schema_of::<ReferenceGrant>(),
        Kind::Mesh => schema_of::<Mesh>(),
        Kind::Workload => schema_of::<Workload>(),
        Kind::ExternalService => schema_of::<ExternalService>(),
        Kind::TrafficPolicy => schema_of::<TrafficPolicy>(),
        Kind::AccessPolicy => schema_of::<AccessPolicy>(),
        Kind::TrafficTarget => schema_of::<TrafficTarget>(),
        Kind::HTTPRouteGroup => schema_of::<HttpRouteGroup>(),
        Kind::SmiTCPRoute | Kind::SmiUDPRoute => schema_of::<SmiPorts>(),
    };
    let about = spec.get("description").cloned().unwrap_or_else(|| json!("A scope for names."));
    let mut properties = json!({
        "apiVersion": {"type": "string", "description": format!("Group and version of this kind: {}.", info.api_version())},
        "kind": {"type": "string", "description": format!("What this object is: {}.", info.name)},
        "metadata": METADATA.clone(),
    });
    let mut required = vec!["metadata"];
    if kind == Kind::Secret {
        if let (Some(into), Some(from)) =
            (properties.as_object_mut(), spec.get("properties").and_then(Value::as_object))
        {
            into.extend(from.clone());
        }
    } else {
        properties["status"] = json!({"type": "object", "description": "What the mesh has made of it. Set by the server.", "x-kubernetes-preserve-unknown-fields": true});
        // Where a spec has nothing that must be said, it may be left out whole.
        if spec.get("required").is_some() {
            required.push("spec");
        }
        properties["spec"] = spec;
    }
    json!({"type": "object", "description": about, "properties": properties, "required": required})
}

fn namespace_spec() -> Value {
    json!({
        "type": "object",
        "description": "A scope for names.",
        "properties": {"finalizers": {"type": "array", "items": {"type": "string"}, "description": "What has to happen before the namespace may go."}},
    })
}

fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut value = settings.into_generator().into_root_schema_for::<T>().to_value();
    tidy(&mut value);
    value
}

fn tidy(schema: &mut Value) {
    let Value::Object(fields) = schema else {
        // `true`: anything goes.
        *schema = json!({"x-kubernetes-preserve-unknown-fields": true});
        return;
    };
    fields.remove("title");
    fields.remove("default");
    drop_null(fields);
    flatten_enum(fields);
    if fields.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
        // OpenAPI knows int32 and int64 only.
        fields.insert("format".to_owned(), json!("int32"));
    }
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(tidy);
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(texts) =
            fields.get_mut(inner).filter(|texts| !texts.is_boolean() || inner == "additionalProperties")
        {
            tidy(texts);
        }
    }
    let kind = fields.get("type").and_then(Value::as_str).map(str::to_owned);
    if matches!(kind.as_deref(), Some("array" | "object"))
        && let Some(format) = fields.remove("format")
    {
        for inner in ["items", "additionalProperties"] {
            if let Some(Value::Object(texts)) = fields.get_mut(inner) {
                texts.insert("format".to_owned(), format.clone());
            }
        }
    }
}

/// `type: [x, null]` → `type: x`; `anyOf: [x, null]` → x. Absence is said by leaving a field out.
fn drop_null(fields: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = fields.get("type") {
        let first = types.iter().find(|name| name.as_str() != Some("null")).cloned().unwrap_or_default();
        fields.insert("type".to_owned(), first);
    }
    if let Some(Value::Array(words)) = fields.get_mut("enum") {
        words.retain(|word| !word.is_null());
    }
    if let Some(Value::Array(choices)) = fields.remove("anyOf") {
        let some =
            choices.into_iter().find(|choice| choice.get("type").and_then(Value::as_str) != Some("null"));
        if let Some(Value::Object(some)) = some {
            for (name, value) in some {
                // A description at the field says more than the type's own.
                fields.entry(name).or_insert(value);
            }
        }
    }
}

/// An enum whose variants carry documentation comes as `oneOf`; Kubernetes wants one list of words,
/// with the documentation behind the description.
fn flatten_enum(fields: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = fields.remove("oneOf") else { return };
    let mut words = Vec::new();
    let mut lines = Vec::new();
    for choice in &choices {
        if let Some(word) = choice.get("const") {
            let about = choice.get("description").and_then(Value::as_str).unwrap_or_default();
            lines.push(format!("{}: {about}", word.as_str().unwrap_or_default()));
            words.push(word.clone());
        } else if let Some(Value::Array(more)) = choice.get("enum") {
            words.extend(more.iter().cloned());
        }
    }
    let mut description = fields.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
    for line in lines {
        description.push('\n');
        description.push_str(&line);
    }
    fields.insert("type".to_owned(), json!("string"));
    fields.insert("enum".to_owned(), Value::Array(words));
    fields.insert("description".to_owned(), json!(description));
}
