//! Text or JSON in, objects and **all** their problems out.
//!
//! The road of one object: header (`apiVersion`, `kind`) → [`shape`] along the schema → [`rules`] of its
//! kind on the raw value, so that one bad field hides no other → typed [`Object`], if no error was
//! found. A text goes through [`tree`] first, which gives each value its line; a mistake in one document
//! does not hide the others.

mod path;
mod rules;
mod shape;
mod suggest;
mod tree;

use serde_json::{Value, json};

use self::path::Path;
pub use self::suggest::nearest;
use self::tree::{Node, Shape};
use crate::kind::Kind;
use crate::object::{Body, DEFAULT_NAMESPACE, Metadata, Object};
use crate::problem::{Problem, Severity};
use crate::schema;
use crate::text::quote;

/// Problems told of one text; beyond them the text is not of this world.
pub(crate) const PROBLEMS_MAX: usize = 1000;

/// One object of a text, whether it could be read or not.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its JSON, as the API takes it: with its namespace set.
    pub value: Value,
    /// Line on which it starts, from 1.
    pub line: u32,
    /// The object, if nothing is wrong with it but warnings.
    pub object: Option<Object>,
    node: Node,
}

impl Document {
    /// The line of a field (`spec.rules[0].matches`), or of its nearest parent that is there.
    #[must_use]
    pub fn line_of(&self, path: &str) -> u32 {
        self.node.line_at(&Path::parse(path))
    }
}

/// Reads a file's text: YAML with any number of documents, JSON, and lists of objects in either.
#[must_use]
pub fn parse_text(file: &str, text: &str) -> (Vec<Document>, Vec<Problem>) {
    let tree = tree::read(text);
    let mut documents = Vec::new();
    let mut problems = Vec::new();
    let mut labels = std::collections::BTreeMap::new();
    for (place, node) in tree.documents {
        let whole = node.to_value();
        let place_text = format!("document {}", place + 1);
        labels.insert(place, label(&whole, &place_text));
        for (node, value) in objects(node, whole) {
            let reading = read(value, &place_text);
            problems.extend(reading.found.into_iter().map(|found| Problem {
                severity: found.severity,
                file: Some(file.to_owned()),
                line: Some(node.line_at(&found.path)),
                object: reading.label.clone(),
                path: found.path.to_string(),
                message: found.message,
                hint: found.hint,
            }));
            documents.push(Document { value: reading.value, line: node.line, object: reading.object, node });
        }
    }
    problems.extend(tree.flaws.into_iter().map(|flaw| Problem {
        severity: Severity::Error,
        file: Some(file.to_owned()),
        line: Some(flaw.line),
        object:
            labels.get(&flaw.document).cloned().unwrap_or_else(|| format!("document {}", flaw.document + 1)),
        path: flaw.path.to_string(),
        message: flaw.message,
        hint: flaw.hint,
    }));
    problems.sort_by_key(|problem| problem.line);
    problems.truncate(PROBLEMS_MAX);
    (documents, problems)
}

/// Reads one object's JSON, as the API gets it.
#[must_use]
pub fn parse_value(value: &Value) -> (Option<Object>, Vec<Problem>) {
    let reading = read(value.clone(), "the object");
    let label = reading.label;
    let problem = |found: Found| Problem {
        severity: found.severity,
        file: None,
        line: None,
        object: label.clone(),
        path: found.path.to_string(),
        message: found.message,
        hint: found.hint,
    };
    (reading.object, reading.found.into_iter().take(PROBLEMS_MAX).map(problem).collect())
}

/// A document's objects: itself, or the items of a `kind: List`, also of lists in lists.
fn objects(node: Node, value: Value) -> Vec<(Node, Value)> {
    let is_list = value.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"));
    let (true, Some(Value::Array(values)), Shape::Map(entries)) = (is_list, value.get("items"), &node.shape)
    else {
        return vec![(node, value)];
    };
    let nodes = entries.iter().find(|(key, _)| key == "items").map(|(_, items)| &items.shape);
    let Some(Shape::List(nodes)) = nodes else { return vec![(node, value)] };
    nodes.iter().cloned().zip(values.iter().cloned()).flat_map(|(node, value)| objects(node, value)).collect()
}

/// A mistake, before it has a file and a line.
#[derive(Debug)]
pub(crate) struct Found {
    severity: Severity,
    path: Path,
    message: String,
    hint: Option<String>,
}

/// Where the checks put what they find.
#[derive(Debug)]
pub(crate) struct Sink {
    found: Vec<Found>,
    /// Whether the kind is ours, so that an unknown field is an error.
    ours: bool,
    /// Whether values must not be repeated in messages.
    secret: bool,
}

impl Sink {
    /// Nothing more will be told, so nothing more need be looked for.
    fn is_full(&self) -> bool {
        self.found.len() >= PROBLEMS_MAX
    }

    fn put(&mut self, severity: Severity, path: Path, message: impl Into<String>, hint: Option<String>) {
        if !self.is_full() {
            self.found.push(Found { severity, path, message: message.into(), hint });
        }
    }

    fn error(&mut self, path: Path, message: impl Into<String>, hint: Option<String>) {
        self.put(Severity::Error, path, message, hint);
    }

    fn warning(&mut self, path: Path, message: impl Into<String>, hint: Option<String>) {
        self.put(Severity::Warning, path, message, hint);
    }

    fn unknown(&mut self, path: Path, message: String, hint: Option<String>) {
        let severity = if self.ours { Severity::Error } else { Severity::Warning };
        self.put(severity, path, message, hint);
    }
}

struct Reading {
    value: Value,
    label: String,
    object: Option<Object>,
    found: Vec<Found>,
}

fn read(mut value: Value, place: &str) -> Reading {
    let mut sink = Sink { found: Vec::new(), ours: false, secret: false };
    let kind = header(&value, &mut sink);
    if let Some(kind) = kind {
        complete(kind, &mut value);
    }
    let label = label(&value, place);
    let object = kind.and_then(|kind| {
        sink.ours = kind.info().ours;
        sink.secret = kind == Kind::Secret;
        shape::walk(schema::schema(kind), &value, &Path::default(), &mut sink);
        rules::check(kind, &value, &mut sink);
        let refused = sink.found.iter().any(|found| found.severity == Severity::Error);
        if refused { None } else { typed(kind, &value, &mut sink) }
    });
    Reading { value, label, object, found: sink.found }
}

/// What the object says that it is.
fn header(value: &Value, sink: &mut Sink) -> Option<Kind> {
    let Value::Object(fields) = value else {
        sink.error(
            Path::default(),
            "is not an object",
            Some("it needs apiVersion, kind, metadata and spec".to_owned()),
        );
        return None;
    };
    let mut said = |name: &str| match fields.get(name) {
        Some(Value::String(word)) if !word.is_empty() => Some(word.as_str()),
        None | Some(Value::Null) => {
            // The other of the two may tell what is meant.
            let hint = match (
                name,
                fields.get("kind").and_then(Value::as_str).and_then(|kind| kind.parse::<Kind>().ok()),
            ) {
                ("apiVersion", Some(kind)) => Some(format!("apiVersion: {}", kind.info().api_version())),
                _ => None,
            };
            sink.error(Path::default().field(name), "is missing", hint);
            None
        }
        Some(_) => {
            sink.error(Path::default().field(name), "must be a text", None);
            None
        }
    };
    let (api_version, word) = (said("apiVersion"), said("kind"));
    let (api_version, word) = (api_version?, word?);
    let kind = Kind::from_api(api_version, word);
    if kind.is_none() {
        let names = Kind::all().iter().map(|kind| kind.info().name);
        match word.parse::<Kind>() {
            Ok(kind) => {
                let hint = format!("apiVersion: {}", kind.info().api_version());
                sink.error(
                    Path::default().field("apiVersion"),
                    format!("{} has no kind {word}", quote(api_version)),
                    Some(hint),
                );
            }
            Err(_) => {
                let hint =
                    match suggest::nearest(word, names.clone()).and_then(|near| near.parse::<Kind>().ok()) {
                        Some(near) => {
                            format!("did you mean kind: {near}, apiVersion: {}?", near.info().api_version())
                        }
                        None => format!("known kinds: {}", names.collect::<Vec<_>>().join(", ")),
                    };
                sink.error(
                    Path::default().field("kind"),
                    format!("unknown kind {} of {}", quote(word), quote(api_version)),
                    Some(hint),
                );
            }
        }
    }
    kind
}

/// Says what the object leaves to us: its namespace, and the version that we keep.
fn complete(kind: Kind, value: &mut Value) {
    let info = kind.info();
    value["apiVersion"] = json!(info.api_version());
    if info.namespaced
        && let Some(Value::Object(metadata)) = value.get_mut("metadata")
    {
        let namespace = metadata.entry("namespace").or_insert(Value::Null);
        if namespace.is_null() || namespace.as_str() == Some("") {
            *namespace = json!(DEFAULT_NAMESPACE);
        }
    }
}

fn label(value: &Value, place: &str) -> String {
    let text = |value: Option<&Value>| {
        value.and_then(Value::as_str).map(|text| text.chars().take(253).collect::<String>())
    };
    let Some(kind) = text(value.get("kind")) else { return place.to_owned() };
    let metadata = value.get("metadata");
    let name = text(metadata.and_then(|metadata| metadata.get("name"))).unwrap_or_else(|| "?".to_owned());
    let namespace = text(metadata.and_then(|metadata| metadata.get("namespace")));
    let cluster_scoped = kind.parse::<Kind>().is_ok_and(|kind| !kind.info().namespaced);
    match namespace {
        Some(namespace) if !cluster_scoped => format!("{kind} {namespace}/{name}"),
        None if kind.parse::<Kind>().is_ok_and(|kind| kind.info().namespaced) => {
            format!("{kind} {DEFAULT_NAMESPACE}/{name}")
        }
        _ => format!("{kind} {name}"),
    }
}

fn typed(kind: Kind, value: &Value, sink: &mut Sink) -> Option<Object> {
    let bare = without_nulls(value);
    let metadata = bare.get("metadata").cloned().unwrap_or_default();
    let read =
        serde_json::from_value::<Metadata>(metadata).and_then(|meta| Ok((meta, Body::read(kind, &bare)?)));
    match read {
        Ok((mut meta, body)) => {
            if !kind.info().namespaced {
                meta.namespace.clear();
            }
            Some(Object { kind, meta, body })
        }
        Err(error) => {
            // The schema and the types come from one source, so this is a mistake of ours; refuse, and say so.
            debug_assert!(false, "the schema of {kind} let through what its type refuses: {error}");
            sink.error(Path::default(), format!("can't be read: {error}"), None);
            None
        }
    }
}

/// The value without fields that say nothing, so that defaults stand in for them.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| (name.clone(), without_nulls(value)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(without_nulls).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests;
