//! Kubernetes' protobuf bodies, as far as typed clients send them for core kinds.
//!
//! `kubectl create namespace` and client-go's typed clients write protobuf and read JSON. A body is
//! the magic `k8s\0`, then an envelope with the kind and the object's bytes. The messages here are
//! written from Kubernetes' field numbers; a field that we don't name is dropped by the decoder, so
//! only kinds whose every meaningful field is named are read, and all others are refused.

use std::collections::HashMap;

use prost::Message;
use serde_json::{Map, Value, json};

/// The media type.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
const MAGIC: &[u8] = b"k8s\0";

#[derive(Clone, PartialEq, Message)]
struct TypeMeta {
    #[prost(string, optional, tag = "1")]
    api_version: Option<String>,
    #[prost(string, optional, tag = "2")]
    kind: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Unknown {
    #[prost(message, optional, tag = "1")]
    type_meta: Option<TypeMeta>,
    #[prost(bytes = "vec", optional, tag = "2")]
    raw: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct ObjectMeta {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    generate_name: Option<String>,
    #[prost(string, optional, tag = "3")]
    namespace: Option<String>,
    #[prost(string, optional, tag = "5")]
    uid: Option<String>,
    #[prost(string, optional, tag = "6")]
    resource_version: Option<String>,
    #[prost(map = "string, string", tag = "11")]
    labels: HashMap<String, String>,
    #[prost(map = "string, string", tag = "12")]
    annotations: HashMap<String, String>,
    #[prost(string, repeated, tag = "14")]
    finalizers: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Namespace {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ObjectMeta>,
}

#[derive(Clone, PartialEq, Message)]
struct Secret {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ObjectMeta>,
    #[prost(map = "string, bytes", tag = "2")]
    data: HashMap<String, Vec<u8>>,
    #[prost(string, optional, tag = "3")]
    kind: Option<String>,
    #[prost(map = "string, string", tag = "4")]
    string_data: HashMap<String, String>,
    #[prost(bool, optional, tag = "5")]
    immutable: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
struct IntOrString {
    #[prost(int64, optional, tag = "1")]
    kind: Option<i64>,
    #[prost(int32, optional, tag = "2")]
    number: Option<i32>,
    #[prost(string, optional, tag = "3")]
    text: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct ServicePort {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    protocol: Option<String>,
    #[prost(int32, optional, tag = "3")]
    port: Option<i32>,
    #[prost(message, optional, tag = "4")]
    target_port: Option<IntOrString>,
    #[prost(int32, optional, tag = "5")]
    node_port: Option<i32>,
    #[prost(string, optional, tag = "6")]
    app_protocol: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct ServiceSpec {
    #[prost(message, repeated, tag = "1")]
    ports: Vec<ServicePort>,
    #[prost(map = "string, string", tag = "2")]
    selector: HashMap<String, String>,
    #[prost(string, optional, tag = "3")]
    cluster_ip: Option<String>,
    #[prost(string, optional, tag = "4")]
    kind: Option<String>,
    #[prost(string, repeated, tag = "5")]
    external_ips: Vec<String>,
    #[prost(string, optional, tag = "7")]
    session_affinity: Option<String>,
    #[prost(string, optional, tag = "10")]
    external_name: Option<String>,
    #[prost(bool, optional, tag = "13")]
    publish_not_ready_addresses: Option<bool>,
    #[prost(string, repeated, tag = "18")]
    cluster_ips: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Service {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ObjectMeta>,
    #[prost(message, optional, tag = "2")]
    spec: Option<ServiceSpec>,
}

#[derive(Clone, PartialEq, Message)]
struct Preconditions {
    #[prost(string, optional, tag = "1")]
    uid: Option<String>,
    #[prost(string, optional, tag = "2")]
    resource_version: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct DeleteOptions {
    #[prost(message, optional, tag = "2")]
    preconditions: Option<Preconditions>,
    #[prost(string, repeated, tag = "5")]
    dry_run: Vec<String>,
}

/// The JSON that a protobuf body means, or why it is not read.
pub(crate) fn to_json(body: &[u8]) -> Result<Value, String> {
    let wrong = |error: prost::DecodeError| format!("the protobuf body can't be read: {error}");
    let envelope = body.strip_prefix(MAGIC).ok_or("the protobuf body lacks its magic number")?;
    let envelope = Unknown::decode(envelope).map_err(wrong)?;
    let raw = envelope.raw.unwrap_or_default();
    let named = envelope.type_meta.unwrap_or_default();
    let (api_version, kind) = (named.api_version.unwrap_or_default(), named.kind.unwrap_or_default());
    let mut object = match (api_version.as_str(), kind.as_str()) {
        ("v1", "Namespace") => {
            json!({ "metadata": metadata(Namespace::decode(&*raw).map_err(wrong)?.metadata) })
        }
        ("v1", "Secret") => secret(Secret::decode(&*raw).map_err(wrong)?),
        ("v1", "Service") => service(Service::decode(&*raw).map_err(wrong)?),
        (_, "DeleteOptions") => delete_options(DeleteOptions::decode(&*raw).map_err(wrong)?),
        _ => {
            return Err(format!(
                "{kind:?} of {api_version:?} is not read as protobuf; send application/json"
            ));
        }
    };
    object["apiVersion"] = api_version.into();
    object["kind"] = kind.into();
    Ok(object)
}

fn metadata(meta: Option<ObjectMeta>) -> Value {
    let meta = meta.unwrap_or_default();
    fields([
        ("name", text(meta.name)),
        ("generateName", text(meta.generate_name)),
        ("namespace", text(meta.namespace)),
        ("uid", text(meta.uid)),
        ("resourceVersion", text(meta.resource_version)),
        ("labels", map(meta.labels)),
        ("annotations", map(meta.annotations)),
        ("finalizers", list(meta.finalizers)),
    ])
}

fn secret(secret: Secret) -> Value {
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::STANDARD;
    let data = secret.data.into_iter().map(|(name, bytes)| (name, engine.encode(bytes))).collect();
    fields([
        ("metadata", Some(metadata(secret.metadata))),
        ("data", map(data)),
        ("type", text(secret.kind)),
        ("stringData", map(secret.string_data)),
        ("immutable", secret.immutable.filter(|set| *set).map(Value::Bool)),
    ])
}

fn service(service: Service) -> Value {
    let spec = service.spec.unwrap_or_default();
    let number = |number: Option<i32>| number.filter(|number| *number != 0).map(Value::from);
    let ports: Vec<Value> = spec
        .ports
        .into_iter()
        .map(|port| {
            let target = port.target_port.and_then(|target| match target.kind.unwrap_or(0) {
                0 => number(target.number),
                _ => text(target.text),
            });
            fields([
                ("name", text(port.name)),
                ("protocol", text(port.protocol)),
                ("port", number(port.port)),
                ("targetPort", target),
                ("nodePort", number(port.node_port)),
                ("appProtocol", text(port.app_protocol)),
            ])
        })
        .collect();
    let spec = fields([
        ("ports", (!ports.is_empty()).then_some(Value::Array(ports))),
        ("selector", map(spec.selector)),
        ("clusterIP", text(spec.cluster_ip)),
        ("clusterIPs", list(spec.cluster_ips)),
        ("type", text(spec.kind)),
        ("externalIPs", list(spec.external_ips)),
        ("sessionAffinity", text(spec.session_affinity)),
        ("externalName", text(spec.external_name)),
        ("publishNotReadyAddresses", spec.publish_not_ready_addresses.filter(|set| *set).map(Value::Bool)),
    ]);
    json!({ "metadata": metadata(service.metadata), "spec": spec })
}

fn delete_options(options: DeleteOptions) -> Value {
    let preconditions = options.preconditions.unwrap_or_default();
    let preconditions =
        fields([("uid", text(preconditions.uid)), ("resourceVersion", text(preconditions.resource_version))]);
    fields([("preconditions", Some(preconditions)), ("dryRun", list(options.dry_run))])
}

/// Go writes every field, the empty ones too; what is empty was not said.
fn text(text: Option<String>) -> Option<Value> {
    text.filter(|text| !text.is_empty()).map(Value::String)
}

fn map(entries: HashMap<String, String>) -> Option<Value> {
    let entries: Map<String, Value> = entries.into_iter().map(|(name, value)| (name, value.into())).collect();
    (!entries.is_empty()).then_some(Value::Object(entries))
}

fn list(items: Vec<String>) -> Option<Value> {
    (!items.is_empty()).then(|| items.into_iter().map(Value::String).collect())
}

fn fields<const N: usize>(all: [(&str, Option<Value>); N]) -> Value {
    Value::Object(all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's failure is its message")]
    use super::*;

    fn body(kind: &str, raw: Vec<u8>) -> Vec<u8> {
        let type_meta = Some(TypeMeta { api_version: Some("v1".into()), kind: Some(kind.into()) });
        let mut body = MAGIC.to_vec();
        Unknown { type_meta, raw: Some(raw) }.encode(&mut body).unwrap();
        body
    }

    #[test]
    fn core_kinds_are_read_and_others_refused() {
        let metadata =
            Some(ObjectMeta { name: Some("a".into()), namespace: Some(String::new()), ..Default::default() });
        let namespace = Namespace { metadata: metadata.clone() };
        assert_eq!(
            to_json(&body("Namespace", namespace.encode_to_vec())).unwrap(),
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}})
        );
        let target = IntOrString { kind: Some(0), number: Some(8080), text: Some(String::new()) };
        let port = ServicePort {
            port: Some(80),
            target_port: Some(target),
            node_port: Some(0),
            ..Default::default()
        };
        let service =
            Service { metadata, spec: Some(ServiceSpec { ports: vec![port], ..Default::default() }) };
        let value = to_json(&body("Service", service.encode_to_vec())).unwrap();
        assert_eq!(value["spec"], json!({"ports": [{"port": 80, "targetPort": 8080}]}));
        assert!(to_json(&body("Pod", Vec::new())).is_err());
        assert!(to_json(b"{}").is_err());
        assert!(to_json(b"k8s\0\xff\xff\xff").is_err());
    }
}
