//! What a policy answered, as the proxy carries it out. Whatever is not clearly an allow is a deny.

use regorus::Value;

use crate::json;

/// How much an answer may hold, in nodes and in sixteenths of bytes of text.
const ANSWER_MAX: usize = 16 * 1024;
const PAIRS_MAX: usize = 64;
const BODY_MAX: usize = 64 * 1024;
/// The status of a denied request unless the policy says another.
pub const DENIED: u16 = 403;
/// The status of a request that could not even be shown to the policy.
pub const UNREADABLE: u16 = 400;

/// The answer to one request.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Whether the request goes on.
    pub allow: bool,
    /// Why, for the record, the metric and the log.
    pub reason: Reason,
    /// What exactly, where the reason alone does not say it. For logs, not for the client.
    pub detail: String,
    /// Of the answer to a denied request.
    pub status: u16,
    /// Of the answer to a denied request.
    pub body: String,
    /// On allow: set on the request, in place of what stands there under these names. On deny: headers of the
    /// answer. A name may come several times, and then has several values.
    pub headers: Vec<(String, String)>,
    /// On allow: taken from the request before `headers` are set.
    pub headers_to_remove: Vec<String>,
    /// On allow: added to the answer that the app gives.
    pub response_headers: Vec<(String, String)>,
    /// On allow: set in the query, each in place of what stands there under its name; see
    /// [`Decision::path`].
    pub query_to_set: Vec<(String, String)>,
    /// On allow: taken from the query.
    pub query_to_remove: Vec<String>,
    /// For later filters and the access log.
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
}

/// Why a decision is what it is: one label each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The policy said yes.
    Allowed,
    /// The policy said no.
    Denied,
    /// The policy said nothing.
    Undefined,
    /// The policy's answer has not the form of a decision.
    WrongType,
    /// The policy asks for something that the proxy can't do.
    Unsupported,
    /// Two rules answered differently.
    Conflict,
    /// The policy took too long.
    TimeLimit,
    /// The policy built too much.
    MemoryLimit,
    /// The policy failed in another way.
    Failed,
    /// The request could not be shown to the policy.
    Unreadable,
}

impl Reason {
    /// As a label of metrics and a word in logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Undefined => "undefined",
            Self::WrongType => "wrong_type",
            Self::Unsupported => "unsupported",
            Self::Conflict => "conflict",
            Self::TimeLimit => "time_limit",
            Self::MemoryLimit => "memory_limit",
            Self::Failed => "failed",
            Self::Unreadable => "unreadable",
        }
    }

    /// Whether the policy itself came to this answer, so that the same request would get it again.
    pub fn settled(self) -> bool {
        matches!(self, Self::Allowed | Self::Denied | Self::Undefined | Self::WrongType | Self::Unsupported)
    }
}

impl Decision {
    pub(crate) fn deny(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            allow: false,
            reason,
            detail: detail.into(),
            status: if reason == Reason::Unreadable { UNREADABLE } else { DENIED },
            body: String::new(),
            headers: Vec::new(),
            headers_to_remove: Vec::new(),
            response_headers: Vec::new(),
            query_to_set: Vec::new(),
            query_to_remove: Vec::new(),
            metadata: None,
        }
    }

    fn of(allow: bool) -> Self {
        let reason = if allow { Reason::Allowed } else { Reason::Denied };
        Self { allow, ..Self::deny(reason, "") }
    }

    /// The path that goes upstream, where the policy changes the query of `path`.
    pub fn path(&self, path: &str) -> Option<String> {
        if self.query_to_set.is_empty() && self.query_to_remove.is_empty() {
            return None;
        }
        let (bare, query) = crate::url::split(path);
        let gone = |name: &str| {
            let name = crate::url::plain(name);
            self.query_to_remove.contains(&name) || self.query_to_set.iter().any(|(set, _)| *set == name)
        };
        let kept = query.split('&').filter(|part| !part.is_empty());
        let kept = kept.filter(|part| !gone(part.split('=').next().unwrap_or_default())).map(str::to_owned);
        let set = self
            .query_to_set
            .iter()
            .map(|(name, value)| format!("{}={}", crate::url::escaped(name), crate::url::escaped(value)));
        let parts: Vec<String> = kept.chain(set).collect();
        Some(if parts.is_empty() { bare.to_owned() } else { format!("{bare}?{}", parts.join("&")) })
    }

    /// About what it holds, in bytes.
    pub(crate) fn weight(&self) -> usize {
        let pairs = self.headers.iter().chain(&self.response_headers).chain(&self.query_to_set);
        let pairs: usize = pairs.map(|(name, value)| name.len() + value.len() + 48).sum();
        let names = self.headers_to_remove.iter().chain(&self.query_to_remove);
        let names: usize = names.map(|name| name.len() + 24).sum();
        let metadata = self.metadata.as_ref().map_or(0, |map| map.len() * 256);
        self.body.len() + self.detail.len() + pairs + names + metadata
    }

    /// From the value of the policy's rule.
    pub(crate) fn read(value: &Value) -> Self {
        match value {
            Value::Bool(allow) => Self::of(*allow),
            Value::Undefined => Self::deny(Reason::Undefined, "the rule has no value for this request"),
            Value::Object(_) => object(value).unwrap_or_else(|deny| *deny),
            other => Self::deny(
                Reason::WrongType,
                format!("a decision is a boolean or an object, not {}", kind(other)),
            ),
        }
    }
}

fn object(value: &Value) -> Result<Decision, Box<Decision>> {
    let field = |name: &str| match &value[name] {
        Value::Undefined => None,
        other => Some(other),
    };
    let allow = match field("allowed") {
        Some(Value::Bool(allow)) => *allow,
        Some(other) => return Err(wrong("allowed", "a boolean", other)),
        None => return Err(deny(Reason::WrongType, "the decision has no `allowed`".to_owned())),
    };
    let mut decision = Decision::of(allow);
    if let Some(headers) = field("headers") {
        decision.headers = read_headers("headers", headers)?;
    }
    if let Some(metadata) = field("dynamic_metadata") {
        let mut left = ANSWER_MAX;
        match json::export(metadata, &mut left) {
            Some(serde_json::Value::Object(map)) => decision.metadata = Some(map),
            Some(_) => return Err(wrong("dynamic_metadata", "an object", metadata)),
            None => return Err(deny(Reason::WrongType, "`dynamic_metadata` is too large".to_owned())),
        }
    }
    if allow {
        if let Some(names) = field("query_parameters_to_remove") {
            decision.query_to_remove = read_texts("query_parameters_to_remove", names)?;
        }
        if let Some(fields) = field("query_parameters_to_set") {
            decision.query_to_set = read_pairs("query_parameters_to_set", fields)?;
        }
        if let Some(names) = field("request_headers_to_remove") {
            decision.headers_to_remove = read_names("request_headers_to_remove", names)?;
        }
        if let Some(headers) = field("response_headers_to_add") {
            decision.response_headers = read_headers("response_headers_to_add", headers)?;
        }
        return Ok(decision);
    }
    if let Some(body) = field("body") {
        let Value::String(text) = body else { return Err(wrong("body", "a string", body)) };
        if text.len() > BODY_MAX {
            return Err(deny(Reason::WrongType, format!("`body` has more than {BODY_MAX} bytes")));
        }
        decision.body = text.to_string();
    }
    if let Some(status) = field("http_status") {
        let code = match status {
            Value::Number(number) => number.as_u64().and_then(|code| u16::try_from(code).ok()),
            _ => None,
        };
        match code {
            Some(code) if (200..=599).contains(&code) => decision.status = code,
            _ => return Err(wrong("http_status", "a status from 200 to 599", status)),
        }
    }
    Ok(decision)
}

/// `{"name": "value"}`, `{"name": ["value", …]}`, or a list of such objects.
fn read_headers(field: &str, value: &Value) -> Result<Vec<(String, String)>, Box<Decision>> {
    let pairs = read_pairs(field, value)?;
    pairs
        .into_iter()
        .map(|(name, value)| Ok((header_name(field, &name)?, header_value(field, &name, &value)?)))
        .collect()
}

fn read_pairs(field: &str, value: &Value) -> Result<Vec<(String, String)>, Box<Decision>> {
    let mut pairs = Vec::new();
    let objects = match value {
        Value::Array(items) => items.iter().collect(),
        other => vec![other],
    };
    for object in objects {
        let Value::Object(fields) = object else { return Err(wrong(field, "an object", object)) };
        for (name, value) in fields.iter_sorted() {
            let Value::String(name) = name else { return Err(wrong(field, "an object of names", name)) };
            let values = match value {
                Value::Array(items) => items.iter().collect(),
                other => vec![other],
            };
            for value in values {
                let Value::String(text) = value else {
                    return Err(wrong(&format!("{field}[{name}]"), "a string", value));
                };
                pairs.push((name.to_string(), text.to_string()));
                if pairs.len() > PAIRS_MAX {
                    let what = format!("`{field}` has more than {PAIRS_MAX} values");
                    return Err(deny(Reason::Unsupported, what));
                }
            }
        }
    }
    Ok(pairs)
}

fn read_names(field: &str, value: &Value) -> Result<Vec<String>, Box<Decision>> {
    read_texts(field, value)?.iter().map(|name| header_name(field, name)).collect()
}

fn read_texts(field: &str, value: &Value) -> Result<Vec<String>, Box<Decision>> {
    let items: Vec<&Value> = match value {
        Value::Array(items) => items.iter().collect(),
        Value::Set(items) => items.iter().collect(),
        other => return Err(wrong(field, "a list of strings", other)),
    };
    if items.len() > PAIRS_MAX {
        return Err(deny(Reason::Unsupported, format!("`{field}` has more than {PAIRS_MAX} names")));
    }
    let text = |item: &Value| match item {
        Value::String(name) => Ok(name.to_string()),
        other => Err(wrong(field, "a list of strings", other)),
    };
    items.into_iter().map(text).collect()
}

/// Those that say where a message begins, ends and goes are the proxy's own.
fn header_name(field: &str, name: &str) -> Result<String, Box<Decision>> {
    const OWN: &[&str] =
        &["host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"];
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let lower = name.to_ascii_lowercase();
    if name.is_empty() || !name.bytes().all(token) || OWN.contains(&lower.as_str()) {
        let shown: String = name.chars().take(64).collect();
        return Err(deny(Reason::Unsupported, format!("`{field}` may not name the header {shown:?}")));
    }
    Ok(lower)
}

fn header_value(field: &str, name: &str, text: &str) -> Result<String, Box<Decision>> {
    if text.len() > 8192 || text.bytes().any(|byte| byte == 0x7f || (byte < 0x20 && byte != b'\t')) {
        let what = format!("`{field}` has a value for {name} that no header can carry");
        return Err(deny(Reason::Unsupported, what));
    }
    Ok(text.to_owned())
}

fn wrong(field: &str, expected: &str, found: &Value) -> Box<Decision> {
    deny(Reason::WrongType, format!("`{field}` is to be {expected}, not {}", kind(found)))
}

fn deny(reason: Reason, detail: String) -> Box<Decision> {
    Box::new(Decision::deny(reason, detail))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Set(_) => "a set",
        Value::Object(_) => "an object",
        Value::Undefined => "undefined",
    }
}
