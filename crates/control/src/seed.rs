//! What a new mesh starts with: the namespace `default`, the Mesh `default`, and one visible policy,
//! `same-namespace`, which lets members of that namespace call each other. Written once in a store's
//! life: who deletes the policy has made the mesh strict, and a restart must not undo that.

use std::time::SystemTime;

use serde_json::{Value, json};
use weft_model::Kind;
use weft_store::{CommitError, Expect, Key, Store, Transaction, Write};

use crate::clock;

/// The group of keys that are ours and no objects.
pub const INTERNAL_GROUP: &str = "internal.weft.dev";

/// The key under which an object is stored.
pub fn key(kind: Kind, namespace: &str, name: &str) -> Key {
    let info = kind.info();
    Key::new(info.group, info.plural, namespace, name)
}

/// Writes the first objects, if this store has never had them.
pub async fn seed(store: &dyn Store, trust_domain: &str, now: SystemTime) -> Result<(), CommitError> {
    let marker = Key::new(INTERNAL_GROUP, "seeds", "", "v1");
    let mut transaction = Transaction::default();
    transaction.expect.push(Expect::Absent(marker.clone()));
    transaction.writes.push(Write::Put(marker, b"{}".to_vec()));
    for (kind, namespace, name, spec) in [
        (Kind::Namespace, "", "default", json!({})),
        (Kind::Mesh, "", "default", json!({"trustDomain": trust_domain})),
        (
            Kind::AccessPolicy,
            "default",
            "same-namespace",
            json!({"action": "Allow", "rules": [{"from": [{"namespaces": ["default"]}]}]}),
        ),
    ] {
        let key = key(kind, namespace, name);
        if matches!(store.get(&key).await, Ok(Some(_))) {
            continue;
        }
        let object = object(kind, namespace, name, spec, now);
        transaction.expect.push(Expect::Absent(key.clone()));
        transaction.writes.push(Write::Put(key, object.to_string().into_bytes()));
    }
    match store.commit(transaction).await {
        Ok(_) | Err(CommitError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// A new object as the API would have stored it.
pub fn object(kind: Kind, namespace: &str, name: &str, spec: Value, now: SystemTime) -> Value {
    let info = kind.info();
    let mut metadata = json!({
        "name": name,
        "uid": uid(),
        "generation": 1,
        "creationTimestamp": clock::rfc3339(now),
    });
    if !namespace.is_empty() {
        metadata["namespace"] = namespace.into();
    }
    json!({"apiVersion": info.api_version(), "kind": info.name, "metadata": metadata, "spec": spec})
}

/// A random UUID (version 4). Uniqueness is all that it is for: no secret.
pub fn uid() -> String {
    let bits = fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_is_a_uuid() {
        let uid = uid();
        let parts: Vec<_> = uid.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12], "{uid}");
        assert_eq!(uid.as_bytes()[14], b'4');
        assert!(matches!(uid.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
    }

    #[tokio::test]
    async fn a_deleted_seed_stays_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let store = weft_store::embedded::Embedded::open(&dir.path().join("store.redb")).unwrap();
        seed(&store, "mesh.internal", SystemTime::now()).await.unwrap();
        let policy = key(Kind::AccessPolicy, "default", "same-namespace");
        let stored = store.get(&policy).await.unwrap().unwrap();
        let value: Value = serde_json::from_slice(&stored.value).unwrap();
        let (object, problems) = weft_model::parse_value(&value);
        assert!(object.is_some() && problems.is_empty(), "{problems:?}");
        store.commit(Transaction::delete(policy.clone(), stored.modified)).await.unwrap();
        seed(&store, "mesh.internal", SystemTime::now()).await.unwrap();
        assert!(store.get(&policy).await.unwrap().is_none());
    }
}
