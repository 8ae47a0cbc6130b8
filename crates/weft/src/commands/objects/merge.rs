//! What `apply` changes: the difference of three documents. Pure.
//!
//! *Last* is what was applied before (kept in an annotation, the one that kubectl uses, so that both
//! tools may take turns), *desired* is the file, *live* is what the control plane has. A field that
//! the file has dropped since last time goes; a field that others have set stays.

use serde_json::{Map, Value};

use super::files::SOURCE_ANNOTATION;

/// Where the last applied document is kept.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The JSON merge patch that makes *live* say what *desired* says; `None` when it does.
pub fn three_way(last: &Value, desired: &Value, live: &Value) -> Option<Value> {
    let (Value::Object(wanted), Value::Object(present)) = (desired, live) else {
        return (desired != live).then(|| desired.clone());
    };
    let mut patch = Map::new();
    for (name, value) in wanted {
        if value.is_null() {
            if present.contains_key(name) {
                patch.insert(name.clone(), Value::Null);
            }
            continue;
        }
        match present.get(name) {
            None => {
                patch.insert(name.clone(), value.clone());
            }
            Some(found) => {
                if let Some(change) = three_way(last.get(name).unwrap_or(&Value::Null), value, found) {
                    patch.insert(name.clone(), change);
                }
            }
        }
    }
    if let Value::Object(before) = last {
        for name in before.keys().filter(|name| !wanted.contains_key(*name) && present.contains_key(*name)) {
            patch.insert(name.clone(), Value::Null);
        }
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// Whether a patch says no more than where the object now stands in its file.
pub fn only_moved(patch: &Value) -> bool {
    let is_only = |value: &Value, name: &str| {
        value.as_object().is_some_and(|fields| fields.len() == 1 && fields.contains_key(name))
    };
    is_only(patch, "metadata")
        && is_only(&patch["metadata"], "annotations")
        && patch["metadata"]["annotations"].as_object().is_some_and(|annotations| {
            annotations.keys().all(|name| name == SOURCE_ANNOTATION || name == LAST_APPLIED)
        })
}

/// The object with a note of itself in it, for the next apply.
pub fn with_last_applied(desired: &Value) -> Value {
    let mut noted = desired.clone();
    noted["metadata"]["annotations"][LAST_APPLIED] = desired.to_string().into();
    noted
}

/// What was applied last, if anybody noted it.
pub fn last_applied(live: &Value) -> Value {
    let note = live["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap_or("null");
    serde_json::from_str(note).unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_file_drops_goes_and_what_others_set_stays() {
        let last = json!({"spec": {"a": 1, "b": {"x": 1, "y": 2}, "l": [1, 2]}});
        let live = json!({"spec": {"a": 1, "b": {"x": 1, "y": 2, "z": 9}, "l": [1, 2], "other": true}, "status": {}});
        let check = |desired: Value, expected: Option<Value>| {
            assert_eq!(three_way(&last, &desired, &live), expected, "{desired}");
        };
        check(last.clone(), None);
        check(json!({"spec": {"a": 1, "b": {"x": 1, "y": 2}}}), Some(json!({"spec": {"l": null}})));
        check(
            json!({"spec": {"a": 2, "b": {"x": 1}, "l": [2]}}),
            Some(json!({"spec": {"a": 2, "b": {"y": null}, "l": [2]}})),
        );
        check(
            json!({"spec": {"a": null, "b": {"x": 1, "y": 2}, "l": [1, 2], "n": {"m": 1}}}),
            Some(json!({"spec": {"a": null, "n": {"m": 1}}})),
        );
    }

    #[test]
    fn a_line_number_is_no_change() {
        let annotations = |name: &str| json!({"metadata": {"annotations": {name: "x"}}});
        assert!(only_moved(&annotations(SOURCE_ANNOTATION)));
        assert!(!only_moved(&annotations("mine")));
        assert!(!only_moved(&json!({"metadata": {"labels": {}}})));
        let object = json!({"metadata": {"annotations": {}}, "spec": 1});
        assert_eq!(last_applied(&with_last_applied(&object)), object);
        assert_eq!(last_applied(&json!({})), Value::Null);
    }
}
