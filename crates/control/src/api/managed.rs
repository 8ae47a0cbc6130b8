//! Server-side apply: which manager owns which field, kept as Kubernetes keeps it. Pure.
//!
//! A field is a path to a leaf; a list is a leaf too, but for those that merge by a key (`ports`,
//! `conditions`, `ownerReferences`) or are sets (`finalizers`). A manager that applies owns what it
//! says; what it no longer says goes, unless somebody else owns it; what it says otherwise than an
//! owner is a conflict. Until somebody applies an object, nobody's fields are kept in it, and then all
//! that was there is `before-first-apply`'s, as Kubernetes did when it began to keep them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// Owns what was there before anybody applied.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Managers of one object; the one that updated first makes room.
const MANAGERS_MAX: usize = 32;
/// What is in `metadata` and nobody's to own.
const SERVER_METADATA: [&str; 10] = [
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "generation",
    "resourceVersion",
    "managedFields",
    "selfLink",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];

/// A path in the words of FieldsV1: `f:spec`, `k:{"port":80}`, `v:"a"`.
type Path = Vec<String>;
type Paths = BTreeSet<Path>;

/// Which half of an object is written: ownership of the two is apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    Main,
    Status,
}

impl Half {
    fn subresource(self) -> &'static str {
        match self {
            Half::Main => "",
            Half::Status => "status",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    manager: String,
    applies: bool,
    api_version: String,
    time: String,
    subresource: String,
    fields: Paths,
}

/// Somebody else owns a field that an apply wants otherwise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Conflict {
    /// `"kubectl-edit" using v1`
    pub(crate) owner: String,
    /// `.spec.ports[port=80].name`
    pub(crate) field: String,
}

/// Who applies what, and when.
pub(crate) struct Apply<'a> {
    pub(crate) manager: &'a str,
    pub(crate) wanted: &'a Value,
    pub(crate) force: bool,
    pub(crate) half: Half,
    pub(crate) now: &'a str,
}

/// The object after an apply, `managedFields` in it; `current` is `None` for a new object.
pub(crate) fn apply(current: Option<&Value>, apply: &Apply<'_>) -> Result<Value, Vec<Conflict>> {
    let wanted = leaves(apply.wanted, apply.half);
    let api_version = apply.wanted["apiVersion"].as_str().unwrap_or_default();
    let empty = json!({ "metadata": {} });
    let live_object = current.unwrap_or(&empty);
    let live = leaves(live_object, apply.half);
    let mut entries = read(live_object);
    if entries.is_empty() && current.is_some() {
        for half in [Half::Main, Half::Status] {
            let fields: Paths = leaves(live_object, half).into_keys().collect();
            if !fields.is_empty() {
                entries.push(Entry {
                    manager: BEFORE_FIRST_APPLY.to_owned(),
                    applies: false,
                    api_version: live_object["apiVersion"].as_str().unwrap_or_default().to_owned(),
                    time: apply.now.to_owned(),
                    subresource: half.subresource().to_owned(),
                    fields,
                });
            }
        }
    }
    let mine = |entry: &Entry| {
        entry.manager == apply.manager && entry.applies && entry.subresource == apply.half.subresource()
    };
    let of_half = |entry: &Entry| entry.subresource == apply.half.subresource();
    // To say `{}` of what has something in it changes nothing: objects merge.
    let is_within =
        |path: &Path, value: &Value| is_empty(value) && live.keys().any(|other| other.starts_with(path));
    let changed: Paths = wanted
        .iter()
        .filter(|(path, value)| live.get(*path) != Some(*value) && !is_within(path, value))
        .map(|(path, _)| path.clone())
        .collect();

    let mut conflicts = BTreeSet::new();
    let mut taken = Paths::new();
    for entry in entries.iter().filter(|entry| of_half(entry) && !mine(entry)) {
        for field in &entry.fields {
            // What others deleted is nobody's to defend.
            if live.contains_key(field) && changed.iter().any(|path| overlap(path, field)) {
                taken.insert(field.clone());
                let owner = format!("\"{}\" using {}", entry.manager, entry.api_version);
                conflicts.insert(Conflict { owner, field: spoken(field) });
            }
        }
    }
    // kubectl's own client-side apply noted what it wrote: to take that over is no conflict.
    let upgrade =
        apply.manager == "kubectl" && taken.is_subset(&last_applied(live_object, &live, apply.half));
    if !conflicts.is_empty() && !apply.force && !upgrade {
        return Err(conflicts.into_iter().collect());
    }

    let before: Paths =
        entries.iter().filter(|entry| mine(entry)).flat_map(|entry| entry.fields.clone()).collect();
    let others: Paths = entries
        .iter()
        .filter(|entry| of_half(entry) && !mine(entry))
        .flat_map(|entry| entry.fields.clone())
        .collect();
    let mut object = live_object.clone();
    let is_gone =
        |path: &&Path| !wanted.contains_key(*path) && !others.contains(*path) && live.contains_key(*path);
    for gone in before.iter().filter(is_gone) {
        // A member of a list goes with all that nobody else has in it.
        let shared = others.iter().any(|other| other.starts_with(gone));
        if !shared {
            remove(&mut object, gone);
        }
    }
    let mut added = apply.wanted.clone();
    if let Some(fields) = added.as_object_mut() {
        match apply.half {
            Half::Main => drop(fields.remove("status")),
            Half::Status => fields.retain(|name, _| name == "status"),
        }
    }
    if let Some(meta) = added.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.retain(|name, _| !SERVER_METADATA.contains(&name.as_str()));
    }
    merge(&mut object, &added, "");

    for entry in &mut entries {
        if of_half(entry) && !mine(entry) {
            entry.fields.retain(|path| !taken.contains(path));
        }
    }
    let fields: Paths = wanted.into_keys().collect();
    match entries.iter_mut().find(|entry| mine(entry)) {
        Some(entry) if entry.fields == fields && entry.api_version == api_version => {}
        found => {
            let entry = Entry {
                manager: apply.manager.to_owned(),
                applies: true,
                api_version: api_version.to_owned(),
                time: apply.now.to_owned(),
                subresource: apply.half.subresource().to_owned(),
                fields,
            };
            match found {
                Some(old) => *old = entry,
                None => entries.push(entry),
            }
        }
    }
    write(&mut object, entries);
    Ok(object)
}

/// What another kind of write does to the owners: what it changed is its manager's now.
pub(crate) fn update(before: &Value, after: &mut Value, manager: &str, half: Half, now: &str) {
    let said = after["metadata"].get("managedFields").cloned();
    // A client may put the list in order itself, as kubectl does when it moves to server-side apply.
    let was = before["metadata"].get("managedFields");
    let mut entries = match &said {
        Some(list) if Some(list) != was && decode(list).is_some() => decode(list).unwrap_or_default(),
        _ => read(before),
    };
    if entries.is_empty() {
        if let Some(meta) = after.get_mut("metadata").and_then(Value::as_object_mut) {
            meta.remove("managedFields");
        }
        return;
    }
    let (old, new) = (leaves(before, half), leaves(after, half));
    let changed: Paths = new
        .iter()
        .filter(|(path, value)| old.get(*path) != Some(*value))
        .map(|(path, _)| path.clone())
        .collect();
    let of_half = |entry: &Entry| entry.subresource == half.subresource();
    let is_mine = |entry: &Entry| of_half(entry) && entry.manager == manager && !entry.applies;
    for entry in entries.iter_mut().filter(|entry| of_half(entry)) {
        let mine = is_mine(entry);
        entry.fields.retain(|path| new.contains_key(path) && (mine || !changed.contains(path)));
    }
    if !changed.is_empty() {
        match entries.iter_mut().find(|entry| is_mine(entry)) {
            Some(entry) => {
                entry.fields.extend(changed);
                now.clone_into(&mut entry.time);
            }
            None => entries.push(Entry {
                manager: manager.to_owned(),
                applies: false,
                api_version: after["apiVersion"].as_str().unwrap_or_default().to_owned(),
                time: now.to_owned(),
                subresource: half.subresource().to_owned(),
                fields: changed,
            }),
        }
    }
    write(after, entries);
}

/// To set `.spec.a` touches who owns `.spec.a.b`, and the other way round; to set a field of a list's
/// member does not touch who owns that the member is there.
fn overlap(one: &Path, other: &Path) -> bool {
    let within = |path: &Path, above: &Path| {
        path.starts_with(above)
            && (path.len() == above.len() || !above.last().is_some_and(|last| last.starts_with("k:")))
    };
    within(one, other) || within(other, one)
}

/// The fields that kubectl's client-side apply wrote and nobody has changed since.
fn last_applied(object: &Value, live: &BTreeMap<Path, Value>, half: Half) -> Paths {
    let note = object["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap_or("null");
    let noted: Value = serde_json::from_str(note).unwrap_or(Value::Null);
    let mut paths: Paths = leaves(&noted, half)
        .into_iter()
        .filter(|(path, value)| live.get(path) == Some(value))
        .map(|(path, _)| path)
        .collect();
    paths.insert(["f:metadata", "f:annotations", &format!("f:{LAST_APPLIED}")].map(str::to_owned).to_vec());
    paths
}

/// The key by which a list's members are told apart.
fn list_key(name: &str) -> Option<&'static str> {
    super::patch::merge_key(name)
}

/// All leaves of one half of an object, with their values.
fn leaves(object: &Value, half: Half) -> BTreeMap<Path, Value> {
    let mut found = BTreeMap::new();
    for (name, value) in object.as_object().into_iter().flatten() {
        let field = format!("f:{name}");
        match (name.as_str(), half) {
            ("apiVersion" | "kind", _) => {}
            ("status", Half::Status) => collect(name, value, vec![field], &mut found),
            ("status", Half::Main) | (_, Half::Status) => {}
            ("metadata", Half::Main) => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    if !SERVER_METADATA.contains(&name.as_str()) {
                        collect(name, value, vec![field.clone(), format!("f:{name}")], &mut found);
                    }
                }
            }
            _ => collect(name, value, vec![field], &mut found),
        }
    }
    found
}

fn collect(name: &str, value: &Value, path: Path, found: &mut BTreeMap<Path, Value>) {
    let below = |segment: String| path.iter().cloned().chain([segment]).collect::<Path>();
    match value {
        Value::Null => {}
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                collect(name, value, below(format!("f:{name}")), found);
            }
        }
        Value::Array(items) if name == "finalizers" => {
            for item in items {
                found.insert(below(format!("v:{item}")), item.clone());
            }
        }
        Value::Array(items) => {
            match list_key(name).filter(|key| items.iter().all(|item| item.get(key).is_some())) {
                Some(key) if !items.is_empty() => {
                    for item in items {
                        let member = below(format!("k:{}", json!({ key: item[key] })));
                        // The member itself is a field: who owns it keeps it in the list.
                        found.insert(member.clone(), item[key].clone());
                        for (name, value) in item.as_object().into_iter().flatten() {
                            let path = member.iter().cloned().chain([format!("f:{name}")]).collect();
                            collect(name, value, path, found);
                        }
                    }
                }
                _ => drop(found.insert(path, value.clone())),
            }
        }
        other => drop(found.insert(path, other.clone())),
    }
}

/// Puts what is applied into the object: objects and keyed lists merge, everything else replaces.
fn merge(into: &mut Value, from: &Value, name: &str) {
    match (into, from) {
        (_, Value::Null) => {}
        (Value::Object(fields), Value::Object(added)) => {
            for (name, value) in added.iter().filter(|(_, value)| !value.is_null()) {
                merge(fields.entry(name).or_insert(Value::Null), value, name);
            }
        }
        (Value::Array(items), Value::Array(added)) if name == "finalizers" => {
            for item in added {
                if !items.contains(item) {
                    items.push(item.clone());
                }
            }
        }
        (Value::Array(items), Value::Array(added)) if list_key(name).is_some() => {
            let key = list_key(name).unwrap_or_default();
            for item in added {
                match items
                    .iter_mut()
                    .find(|found| found.get(key).is_some() && found.get(key) == item.get(key))
                {
                    Some(found) => merge(found, item, ""),
                    None => items.push(item.clone()),
                }
            }
        }
        (into, from) => *into = from.clone(),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// Takes a field out, and what is empty without it.
fn remove(object: &mut Value, path: &[String]) {
    let Some((first, rest)) = path.split_first() else { return };
    if let Some(name) = first.strip_prefix("f:")
        && let Some(fields) = object.as_object_mut()
    {
        match fields.get_mut(name) {
            Some(value) if !rest.is_empty() => {
                remove(value, rest);
                if is_empty(value) {
                    fields.remove(name);
                }
            }
            _ => drop(fields.remove(name)),
        }
    } else if let Some(items) = object.as_array_mut()
        && let Some(at) = items.iter().position(|item| is_member(first, item))
    {
        if rest.is_empty() {
            items.remove(at);
        } else {
            remove(&mut items[at], rest);
        }
    }
}

fn is_member(segment: &str, item: &Value) -> bool {
    match segment.split_once(':') {
        Some(("v", value)) => serde_json::from_str::<Value>(value).is_ok_and(|value| value == *item),
        Some(("k", key)) => serde_json::from_str::<Map<String, Value>>(key)
            .is_ok_and(|key| key.iter().all(|(name, value)| item.get(name) == Some(value))),
        _ => false,
    }
}

/// A path as Kubernetes says it in a conflict.
fn spoken(path: &Path) -> String {
    path.iter()
        .map(|segment| match segment.split_once(':') {
            Some(("f", name)) if name.contains(['.', '/']) => format!("[\"{name}\"]"),
            Some(("f", name)) => format!(".{name}"),
            Some(("v", value)) => format!("[={value}]"),
            Some((_, key)) => {
                let key: Map<String, Value> = serde_json::from_str(key).unwrap_or_default();
                key.iter().map(|(name, value)| format!("[{name}={value}]")).collect()
            }
            None => segment.clone(),
        })
        .collect()
}

fn read(object: &Value) -> Vec<Entry> {
    decode(&object["metadata"]["managedFields"]).unwrap_or_default()
}

fn decode(list: &Value) -> Option<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in list.as_array()? {
        let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
        // `[{}]` says that there are none.
        if entry.as_object()?.is_empty() {
            continue;
        }
        let mut fields = Paths::new();
        unfold(entry["fieldsV1"].as_object()?, &mut Vec::new(), &mut fields);
        entries.push(Entry {
            manager: text("manager"),
            applies: entry["operation"] == "Apply",
            api_version: text("apiVersion"),
            time: text("time"),
            subresource: text("subresource"),
            fields,
        });
    }
    Some(entries)
}

fn unfold(fields: &Map<String, Value>, path: &mut Path, found: &mut Paths) {
    if fields.is_empty() || fields.contains_key(".") {
        found.insert(path.clone());
    }
    for (segment, below) in fields.iter().filter(|(segment, _)| *segment != ".") {
        path.push(segment.clone());
        match below {
            Value::Object(below) => unfold(below, path, found),
            _ => drop(found.insert(path.clone())),
        }
        path.pop();
    }
}

fn write(object: &mut Value, mut entries: Vec<Entry>) {
    entries.retain(|entry| !entry.fields.is_empty());
    while entries.len() > MANAGERS_MAX {
        match entries.iter().position(|entry| !entry.applies) {
            Some(oldest) => drop(entries.remove(oldest)),
            None => break,
        }
    }
    let list: Vec<Value> = entries.iter().map(encode).collect();
    let meta = super::stamp::metadata(object);
    if list.is_empty() {
        meta.remove("managedFields");
    } else {
        meta.insert("managedFields".to_owned(), Value::Array(list));
    }
}

fn encode(entry: &Entry) -> Value {
    let mut fields = Map::new();
    for path in &entry.fields {
        let mut place = &mut fields;
        for segment in path {
            let slot = place.entry(segment.clone()).or_insert_with(|| json!({}));
            place = match slot {
                Value::Object(below) => below,
                _ => unreachable!("only objects are put in"),
            };
        }
        // A field that has others below it is named by a dot.
        let has_more = entry.fields.iter().any(|other| other.len() > path.len() && other.starts_with(path));
        if has_more {
            place.insert(".".to_owned(), json!({}));
        }
    }
    let mut value = json!({
        "manager": entry.manager,
        "operation": if entry.applies { "Apply" } else { "Update" },
        "apiVersion": entry.api_version,
        "time": entry.time,
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    });
    if !entry.subresource.is_empty() {
        value["subresource"] = entry.subresource.clone().into();
    }
    value
}

#[cfg(test)]
mod tests;
