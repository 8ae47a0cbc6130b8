//! The three ways a client describes a change: JSON merge patch, JSON patch, strategic merge patch.
//!
//! Pure: a document and a patch in, the new document out. Strategic merge is spoken for the core
//! kinds only, as in Kubernetes; its merge keys are those of Service, Namespace and Secret.

use serde_json::{Map, Value};

const OPERATIONS_MAX: usize = 1000;

/// RFC 7396: `null` removes, objects merge, everything else replaces.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    let fields = object_of(target);
    for (name, change) in changes {
        if change.is_null() {
            fields.remove(name);
        } else {
            merge(fields.entry(name).or_insert(Value::Null), change);
        }
    }
}

/// RFC 6902: a list of operations that succeed or fail together.
pub(crate) fn json_patch(document: &Value, patch: &Value) -> Result<Value, String> {
    let operations = patch.as_array().ok_or("a JSON patch is a list of operations")?;
    if operations.len() > OPERATIONS_MAX {
        return Err(format!("a JSON patch has at most {OPERATIONS_MAX} operations"));
    }
    let mut result = document.clone();
    for (index, operation) in operations.iter().enumerate() {
        apply_operation(&mut result, operation)
            .map_err(|why| format!("operation {index} of the JSON patch: {why}"))?;
    }
    Ok(result)
}

fn apply_operation(document: &mut Value, operation: &Value) -> Result<(), String> {
    let text = |field: &str| {
        operation[field].as_str().ok_or_else(|| format!("\"{field}\" is missing or not a string"))
    };
    let value = || operation.get("value").cloned().ok_or_else(|| "\"value\" is missing".to_owned());
    let path = text("path")?;
    match text("op")? {
        "add" => insert(document, path, value()?),
        "remove" => remove(document, path).map(drop),
        "replace" => {
            let slot = document.pointer_mut(path).ok_or_else(|| format!("{path} does not exist"))?;
            *slot = value()?;
            Ok(())
        }
        "move" => {
            let from = text("from")?;
            if path.starts_with(&format!("{from}/")) {
                return Err(format!("{from} cannot be moved into itself"));
            }
            let moved = remove(document, from)?;
            insert(document, path, moved)
        }
        "copy" => {
            let from = text("from")?;
            let copied = document.pointer(from).cloned().ok_or_else(|| format!("{from} does not exist"))?;
            insert(document, path, copied)
        }
        "test" => match document.pointer(path) {
            Some(found) if *found == value()? => Ok(()),
            _ => Err(format!("the test of {path} failed")),
        },
        other => Err(format!("unknown operation \"{other}\"")),
    }
}

fn parent<'a>(document: &'a mut Value, path: &str) -> Result<(&'a mut Value, String), String> {
    let (above, last) = path.rsplit_once('/').ok_or_else(|| format!("\"{path}\" is not a JSON pointer"))?;
    let parent = document.pointer_mut(above).ok_or_else(|| format!("{above} does not exist"))?;
    Ok((parent, last.replace("~1", "/").replace("~0", "~")))
}

fn insert(document: &mut Value, path: &str, value: Value) -> Result<(), String> {
    if path.is_empty() {
        *document = value;
        return Ok(());
    }
    match parent(document, path)? {
        (Value::Object(fields), name) => {
            fields.insert(name, value);
            Ok(())
        }
        (Value::Array(items), index) => {
            let at = if index == "-" { items.len() } else { position(&index)? };
            if at > items.len() {
                return Err(format!("{path} is beyond the list's end"));
            }
            items.insert(at, value);
            Ok(())
        }
        _ => Err(format!("{path} has no object or list above it")),
    }
}

fn remove(document: &mut Value, path: &str) -> Result<Value, String> {
    let missing = || format!("{path} does not exist");
    match parent(document, path)? {
        (Value::Object(fields), name) => fields.remove(&name).ok_or_else(missing),
        (Value::Array(items), index) => {
            let at = position(&index)?;
            if at < items.len() { Ok(items.remove(at)) } else { Err(missing()) }
        }
        _ => Err(missing()),
    }
}

fn position(index: &str) -> Result<usize, String> {
    let canonical = index == "0" || (!index.starts_with('0') && index.bytes().all(|b| b.is_ascii_digit()));
    index.parse().ok().filter(|_| canonical).ok_or_else(|| format!("\"{index}\" is not a position in a list"))
}

/// Kubernetes' strategic merge: like a merge patch, but lists of objects merge by key, and
/// `$patch`, `$retainKeys`, `$setElementOrder/…` and `$deleteFromPrimitiveList/…` direct it.
pub(crate) fn strategic(target: &mut Value, patch: &Value) -> Result<(), String> {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return Ok(());
    };
    match changes.get("$patch").and_then(Value::as_str) {
        None | Some("merge") => {}
        Some("replace") => {
            *target = without_directives(patch);
            return Ok(());
        }
        Some("delete") => {
            *target = Value::Object(Map::new());
            return Ok(());
        }
        Some(other) => return Err(format!("unknown $patch directive \"{other}\"")),
    }
    let fields = object_of(target);
    if let Some(Value::Array(kept)) = changes.get("$retainKeys") {
        fields.retain(|name, _| kept.iter().any(|keep| keep.as_str() == Some(name)));
    }
    for (directive, gone) in changes {
        if let (Some(name), Value::Array(gone)) = (directive.strip_prefix("$deleteFromPrimitiveList/"), gone)
            && let Some(Value::Array(items)) = fields.get_mut(name)
        {
            items.retain(|item| !gone.contains(item));
        }
    }
    for (name, change) in changes.iter().filter(|(name, _)| !name.starts_with('$')) {
        match change {
            Value::Null => {
                fields.remove(name);
            }
            Value::Array(items) => strategic_list(fields, name, items)?,
            _ => strategic(fields.entry(name).or_insert(Value::Null), change)?,
        }
    }
    for (directive, order) in changes {
        if let (Some(name), Value::Array(order)) = (directive.strip_prefix("$setElementOrder/"), order)
            && let Some(Value::Array(items)) = fields.get_mut(name)
        {
            reorder(name, items, order);
        }
    }
    Ok(())
}

/// The key by which a list of objects merges, from Kubernetes' `patchMergeKey` tags.
pub(crate) fn merge_key(list: &str) -> Option<&'static str> {
    match list {
        "ports" => Some("port"),
        "conditions" => Some("type"),
        "ownerReferences" => Some("uid"),
        _ => None,
    }
}

fn strategic_list(fields: &mut Map<String, Value>, name: &str, changes: &[Value]) -> Result<(), String> {
    let replaced = changes.iter().any(|change| change["$patch"] == "replace");
    let union = name == "finalizers";
    let Some(key) = merge_key(name).filter(|_| !replaced) else {
        let mut items: Vec<Value> =
            changes.iter().filter(|change| change["$patch"] != "replace").map(without_directives).collect();
        if union && let Some(Value::Array(current)) = fields.get(name) {
            let added: Vec<Value> = items.into_iter().filter(|item| !current.contains(item)).collect();
            items = current.iter().cloned().chain(added).collect();
        }
        fields.insert(name.to_owned(), Value::Array(items));
        return Ok(());
    };
    let slot = fields.entry(name).or_insert_with(|| Value::Array(Vec::new()));
    if !slot.is_array() {
        *slot = Value::Array(Vec::new());
    }
    let Value::Array(items) = slot else { return Ok(()) };
    for change in changes {
        let wanted = change
            .get(key)
            .ok_or_else(|| format!("an element of {name} in the patch lacks its merge key \"{key}\""))?;
        let at = items.iter().position(|item| item.get(key) == Some(wanted));
        match (change["$patch"].as_str(), at) {
            (Some("delete"), Some(_)) => items.retain(|item| item.get(key) != Some(wanted)),
            (Some("delete"), None) => {}
            (_, Some(at)) => strategic(&mut items[at], change)?,
            (_, None) => items.push(without_directives(change)),
        }
    }
    Ok(())
}

/// Elements that the order names come first, in that order; those that it doesn't know follow.
fn reorder(name: &str, items: &mut [Value], order: &[Value]) {
    let key = merge_key(name);
    let rank = |item: &Value| {
        order
            .iter()
            .position(|wanted| match key {
                Some(key) => wanted.get(key) == item.get(key),
                None => wanted == item,
            })
            .unwrap_or(usize::MAX)
    };
    items.sort_by_key(rank);
}

fn without_directives(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .filter(|(name, value)| !name.starts_with('$') && !value.is_null())
                .map(|(name, value)| (name.clone(), without_directives(value)))
                .collect(),
        ),
        other => other.clone(),
    }
}

fn object_of(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(fields) => fields,
        _ => unreachable!("made an object just above"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's failure is its message")]
    use super::*;
    use serde_json::json;

    #[test]
    fn merge_patch_follows_rfc_7396() {
        let rows = [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b", "b": 1}), json!({"a": null}), json!({"b": 1})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [1]}), json!({"a": [2]}), json!({"a": [2]})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
            (json!(["a"]), json!({"a": "b"}), json!({"a": "b"})),
        ];
        for (mut document, patch, expected) in rows {
            merge(&mut document, &patch);
            assert_eq!(document, expected, "patch {patch}");
        }
    }

    #[test]
    fn json_patch_operations_apply_in_order_or_not_at_all() {
        let document = json!({"a": {"b/c": 1}, "l": [1, 3]});
        let patch = json!([
            {"op": "test", "path": "/a/b~1c", "value": 1},
            {"op": "add", "path": "/l/1", "value": 2},
            {"op": "add", "path": "/l/-", "value": 4},
            {"op": "move", "from": "/a/b~1c", "path": "/d"},
            {"op": "copy", "from": "/d", "path": "/e"},
            {"op": "remove", "path": "/a"},
            {"op": "replace", "path": "/d", "value": 9},
        ]);
        assert_eq!(json_patch(&document, &patch).unwrap(), json!({"l": [1, 2, 3, 4], "d": 9, "e": 1}));
        for wrong in [
            json!([{"op": "test", "path": "/l", "value": []}]),
            json!([{"op": "remove", "path": "/nothing"}]),
            json!([{"op": "add", "path": "/l/9", "value": 1}]),
            json!([{"op": "add", "path": "/l/01", "value": 1}]),
            json!([{"op": "move", "from": "/a", "path": "/a/x"}]),
            json!([{"op": "dance", "path": "/a"}]),
            json!({"op": "add"}),
        ] {
            assert!(json_patch(&document, &wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn strategic_merge_joins_ports_by_number() {
        let mut service = json!({"spec": {"ports": [{"port": 80, "name": "http"}, {"port": 90}], "selector": {"app": "a"}}});
        let patch = json!({"spec": {
            "$setElementOrder/ports": [{"port": 443}, {"port": 80}],
            "ports": [{"port": 80, "targetPort": 8080}, {"port": 443}, {"port": 90, "$patch": "delete"}],
            "selector": {"app": null, "tier": "web"},
        }});
        strategic(&mut service, &patch).unwrap();
        assert_eq!(
            service,
            json!({"spec": {"ports": [{"port": 443}, {"port": 80, "name": "http", "targetPort": 8080}], "selector": {"tier": "web"}}})
        );
    }

    #[test]
    fn strategic_directives_replace_retain_and_delete() {
        let mut object =
            json!({"metadata": {"finalizers": ["a", "b"]}, "spec": {"a": 1, "b": 2, "ports": [{"port": 1}]}});
        strategic(
            &mut object,
            &json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"]},
                    "spec": {"$retainKeys": ["b", "ports"], "ports": [{"$patch": "replace"}, {"port": 2}]}}),
        )
        .unwrap();
        assert_eq!(
            object,
            json!({"metadata": {"finalizers": ["b", "c"]}, "spec": {"b": 2, "ports": [{"port": 2}]}})
        );
        strategic(&mut object, &json!({"spec": {"$patch": "replace", "x": 1}})).unwrap();
        assert_eq!(object["spec"], json!({"x": 1}));
        assert!(strategic(&mut object, &json!({"spec": {"ports": [{"name": "x"}]}})).is_err());
        assert!(strategic(&mut object, &json!({"$patch": "dance"})).is_err());
    }
}
