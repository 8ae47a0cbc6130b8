//! What the server alone writes into an object's metadata, and how a stored object is shown.
//!
//! The store keeps the object's JSON as its writer gave it, fields that we don't know included; the
//! resource version is the store's revision and is put in when the object is read.

use std::time::SystemTime;

use serde_json::{Map, Value, json};
use weft_model::{Kind, KindInfo};
use weft_store::{Revision, Stored};

use crate::clock;

/// Fields of the metadata that a client can neither set nor change.
const SERVER_FIELDS: [&str; 5] =
    ["uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds"];

/// Marks a new object: who it is for ever, and since when.
pub(crate) fn newborn(object: &mut Value, now: SystemTime) {
    let meta = metadata(object);
    for field in SERVER_FIELDS {
        meta.remove(field);
    }
    meta.remove("managedFields");
    tidy(meta);
    meta.insert("uid".into(), crate::seed::uid().into());
    meta.insert("creationTimestamp".into(), clock::rfc3339(now).into());
    meta.insert("generation".into(), 1.into());
}

/// Carries over from the stored object what a write cannot change; counts a change of meaning.
pub(crate) fn successor(object: &mut Value, before: &Value) {
    let same = meaning(object) == meaning(before);
    let generation = before["metadata"]["generation"].as_i64().unwrap_or(1);
    let meta = metadata(object);
    for field in SERVER_FIELDS {
        match before["metadata"].get(field) {
            Some(kept) => meta.insert(field.into(), kept.clone()),
            None => meta.remove(field),
        };
    }
    tidy(meta);
    let generation = if same { generation } else { generation.saturating_add(1) };
    meta.insert("generation".into(), generation.into());
}

/// The revision is the store's, and a self link means nothing.
fn tidy(meta: &mut Map<String, Value>) {
    for field in ["resourceVersion", "selfLink"] {
        meta.remove(field);
    }
    meta.retain(|_, value| !value.is_null());
}

/// What an object says, without its metadata and status.
fn meaning(object: &Value) -> Map<String, Value> {
    let mut fields = object.as_object().cloned().unwrap_or_default();
    for field in ["metadata", "status", "apiVersion", "kind"] {
        fields.remove(field);
    }
    fields
}

/// Brings an object into the form in which it is kept: the stored version, Kubernetes' own
/// conveniences resolved.
pub(crate) fn normalize(object: &mut Value, info: &KindInfo) {
    object["apiVersion"] = info.api_version().into();
    object["kind"] = info.name.into();
    match info.kind {
        Kind::Namespace => object["status"] = json!({ "phase": "Active" }),
        Kind::Secret => fold_string_data(object),
        _ => {}
    }
}

/// `stringData` is the writer's convenience: Kubernetes keeps it as base64 in `data`.
fn fold_string_data(secret: &mut Value) {
    use base64::Engine as _;
    let Some(fields) = secret.as_object_mut() else { return };
    let all_text = |data: &Map<String, Value>| data.values().all(Value::is_string);
    // A wrong `stringData` stays, so that the check of the model can name it.
    if !fields.get("stringData").is_some_and(|data| data.as_object().is_some_and(all_text)) {
        return;
    }
    if let Some(Value::Object(texts)) = fields.remove("stringData") {
        let data = fields.entry("data").or_insert_with(|| json!({}));
        for (name, text) in texts {
            let text = text.as_str().unwrap_or_default();
            data[name] = base64::engine::general_purpose::STANDARD.encode(text).into();
        }
    }
}

/// A stored object as clients see it, in the version that they asked for.
pub(crate) fn shown(stored: &Stored, api_version: &str, info: &KindInfo) -> Result<Value, serde_json::Error> {
    shown_bytes(&stored.value, stored.modified, stored.created, api_version, info)
}

/// The same for a value that is no longer in the store: the last state of a deleted object.
pub(crate) fn shown_bytes(
    bytes: &[u8],
    modified: Revision,
    created: Revision,
    api_version: &str,
    info: &KindInfo,
) -> Result<Value, serde_json::Error> {
    let mut object: Value = serde_json::from_slice(bytes)?;
    if !object.is_object() {
        object = json!({});
    }
    object["apiVersion"] = api_version.into();
    object["kind"] = info.name.into();
    if info.kind == Kind::Namespace && object.get("status").is_none() {
        object["status"] = json!({ "phase": "Active" });
    }
    let meta = metadata(&mut object);
    meta.insert("resourceVersion".into(), modified.to_string().into());
    // Objects that other parts of the control plane make carry no uid; clients need a stable one.
    if !meta.contains_key("uid") {
        meta.insert("uid".into(), format!("00000000-0000-4000-8000-{created:012x}").into());
    }
    Ok(object)
}

/// The object's metadata, made when it is missing.
pub(crate) fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = json!({});
    }
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    match &mut object["metadata"] {
        Value::Object(meta) => meta,
        _ => unreachable!("made an object just above"),
    }
}

/// Completes `generateName` as Kubernetes does: five letters that spell no words.
pub(crate) fn generated_name(prefix: &str) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let tail: String = (0..5).map(|_| char::from(LETTERS[fastrand::usize(..LETTERS.len())])).collect();
    format!("{prefix}{tail}")
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn a_write_cannot_change_who_an_object_is() {
        let mut first = json!({"metadata": {"name": "a", "uid": "forged", "managedFields": [{}], "labels": null}, "spec": {"x": 1}});
        newborn(&mut first, UNIX_EPOCH);
        let uid = first["metadata"]["uid"].clone();
        assert_ne!(uid, "forged");
        assert_eq!(uid.as_str().map(str::len), Some(36));
        assert_eq!(first["metadata"]["creationTimestamp"], "1970-01-01T00:00:00Z");
        assert!(first["metadata"].get("managedFields").is_none());
        assert!(first["metadata"].get("labels").is_none());

        let mut second = json!({"metadata": {"name": "a", "uid": "forged", "resourceVersion": "7", "generation": 99}, "spec": {"x": 1}});
        successor(&mut second, &first);
        assert_eq!(second, first, "nothing changed, nothing counts up");
        second["spec"]["x"] = 2.into();
        let mut third = second.clone();
        successor(&mut third, &first);
        assert_eq!(third["metadata"]["generation"], 2);
        assert_eq!(third["metadata"]["uid"], uid);
    }

    #[test]
    fn string_data_is_kept_as_base64() {
        let mut secret = json!({"data": {"a": "eA=="}, "stringData": {"b": "y"}});
        normalize(&mut secret, Kind::Secret.info());
        assert_eq!(secret["data"], json!({"a": "eA==", "b": "eQ=="}));
        assert!(secret.get("stringData").is_none());
    }
}
