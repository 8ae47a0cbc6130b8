//! Rules that a schema can't say: how fields of one object go together.
//!
//! They look at the raw value through [`At`], where a missing or mistyped field is simply not there:
//! the structural check has told of it already, and the rules go on around it.

mod access;
mod core;
mod grant;
mod policy;
mod route;
mod smi;
mod target;
mod weft;

use std::collections::BTreeMap;

use serde_json::Value;

use super::Sink;
use super::path::Path;
use crate::kind::Kind;
use crate::period::Period;
use crate::text;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct At<'a> {
    pub value: &'a Value,
    pub path: Path,
}

impl<'a> At<'a> {
    /// The field, if it is there and says something.
    pub fn field(&self, name: &str) -> Option<At<'a>> {
        let value = self.value.get(name).filter(|value| !value.is_null())?;
        Some(At { value, path: self.path.field(name) })
    }

    /// The items of a list field; none when it is not there.
    pub fn items(&self, name: &str) -> Vec<At<'a>> {
        let Some(list) = self.field(name) else { return Vec::new() };
        let items = list.value.as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().enumerate().map(|(index, value)| At { value, path: list.path.index(index) }).collect()
    }

    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.value.get(name)?.as_str()
    }

    pub fn text_or(&self, name: &str, default: &'a str) -> &'a str {
        self.text(name).unwrap_or(default)
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        self.value.get(name)?.as_u64()
    }

    pub fn period(&self, name: &str) -> Option<Period> {
        self.text(name)?.parse().ok()
    }

    /// Whether the field says anything: not left out, not an empty list, object or text.
    pub fn says(&self, name: &str) -> bool {
        match self.value.get(name) {
            None | Some(Value::Null) => false,
            Some(Value::Array(items)) => !items.is_empty(),
            Some(Value::Object(fields)) => !fields.is_empty(),
            Some(Value::String(text)) => !text.is_empty(),
            Some(_) => true,
        }
    }

    pub fn error(&self, sink: &mut Sink, message: impl Into<String>, hint: &str) {
        sink.error(self.path.clone(), message, (!hint.is_empty()).then(|| hint.to_owned()));
    }

    pub fn warning(&self, sink: &mut Sink, message: impl Into<String>, hint: &str) {
        sink.warning(self.path.clone(), message, (!hint.is_empty()).then(|| hint.to_owned()));
    }

    /// The place of a field that may not be there.
    pub fn place(&self, name: &str) -> At<'a> {
        At { value: self.value.get(name).unwrap_or(&Value::Null), path: self.path.field(name) }
    }

    /// Checks a text field by the name of its format.
    pub fn check(&self, name: &str, format: &str, sink: &mut Sink) {
        if let Some(word) = self.text(name)
            && let Err(complaint) = text::check(format, word)
        {
            sink.error(self.path.field(name), complaint.message, complaint.hint);
        }
    }
}

/// Checks one object of `kind`.
pub fn check(kind: Kind, value: &Value, sink: &mut Sink) {
    let top = At { value, path: Path::default() };
    metadata(kind, &top, sink);
    let empty = Value::Object(serde_json::Map::new());
    let spec = top.field("spec").unwrap_or(At { value: &empty, path: Path::default().field("spec") });
    match kind {
        Kind::Namespace => {}
        Kind::Service => core::service(&spec, sink),
        Kind::Secret => core::secret(&top, sink),
        Kind::HTTPRoute => route::http(&spec, sink),
        Kind::GRPCRoute => route::grpc(&spec, sink),
        Kind::TCPRoute => route::tcp(&spec, sink),
        Kind::ReferenceGrant => grant::check(&spec, sink),
        Kind::Mesh => weft::mesh(&top, &spec, sink),
        Kind::Workload => weft::workload(&spec, sink),
        Kind::ExternalService => weft::external(&spec, sink),
        Kind::TrafficPolicy => policy::traffic(&spec, sink),
        Kind::AccessPolicy => access::check(&spec, sink),
        Kind::TrafficTarget => smi::target(&top, &spec, sink),
        Kind::HTTPRouteGroup => smi::group(&spec, sink),
        Kind::SmiTCPRoute | Kind::SmiUDPRoute => {}
    }
}

fn metadata(kind: Kind, top: &At<'_>, sink: &mut Sink) {
    let Some(metadata) = top.field("metadata") else { return };
    // These become parts of host names, so they are single labels.
    let is_label = matches!(kind, Kind::Service | Kind::Namespace | Kind::ExternalService);
    metadata.check("name", if is_label { "dns-label" } else { "dns-subdomain" }, sink);
    if kind.info().namespaced {
        metadata.check("namespace", "dns-label", sink);
    } else if metadata.says("namespace") {
        metadata.place("namespace").warning(sink, format!("a {kind} is in no namespace"), "leave it out");
    }
    if let Some(labels) = metadata.field("labels") {
        label_pairs(&labels, sink);
    }
    if let Some(Value::Object(annotations)) = metadata.value.get("annotations") {
        let path = metadata.path.field("annotations");
        for key in annotations.keys() {
            if let Err(complaint) = text::label_key(key) {
                sink.error(path.field(key), complaint.message, complaint.hint);
            }
        }
        let bytes: usize = annotations.values().filter_map(Value::as_str).map(str::len).sum();
        if bytes > ANNOTATION_BYTES_MAX {
            sink.error(
                path,
                format!("annotations take {bytes} bytes, more than {ANNOTATION_BYTES_MAX}"),
                None,
            );
        }
    }
}

/// As in Kubernetes.
const ANNOTATION_BYTES_MAX: usize = 256 << 10;

/// Checks a map of labels (also a selector's).
fn label_pairs(labels: &At<'_>, sink: &mut Sink) {
    for (key, value) in labels.value.as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        if let Err(complaint) = text::label_key(key).and_then(|()| text::label_value(value)) {
            sink.error(labels.path.field(key), complaint.message, complaint.hint);
        }
    }
}

/// Tells of every item whose `key` an item before it has.
fn unique<'a, K: Ord>(items: &[At<'a>], what: &str, key: impl Fn(&At<'a>) -> Option<K>, sink: &mut Sink) {
    let mut seen = BTreeMap::new();
    for item in items {
        let Some(key) = key(item) else { continue };
        if let Some(first) = seen.get(&key) {
            item.error(sink, format!("{what} is that of {first}"), "each only once");
        } else {
            seen.insert(key, item.path.to_string());
        }
    }
}
