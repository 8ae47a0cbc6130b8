//! A module's tree as the engine parsed it, and the questions that the door asks of it.
//!
//! The engine keeps the types of its tree to itself but writes the tree out; [`Tree`] reads what it wrote.

use serde_json::{Map, Value as Json};

/// What the names in one module mean.
pub(crate) struct Tree {
    pub(crate) name: String,
    pub(crate) text: String,
    /// `data.envoy.authz`.
    pub(crate) package: String,
    /// Alias → what it stands for: `["input", "attributes"]`.
    pub(crate) imports: Vec<(String, Vec<String>)>,
    pub(crate) rules: Vec<Rule>,
}

/// One rule, or one of several of the same name.
pub(crate) struct Rule {
    /// `data.envoy.authz.allow`.
    pub(crate) path: String,
    /// How many arguments, for a function.
    pub(crate) arity: Option<usize>,
    pub(crate) place: (u32, u32),
    pub(crate) tree: Json,
}

/// A reference: `input.attributes.request.http.headers[name]`.
pub(crate) struct Chain<'a> {
    pub(crate) root: &'a str,
    /// The names and strings that follow the root, up to the first that is computed.
    pub(crate) path: Vec<String>,
    /// Whether something computed ended the path.
    pub(crate) open: bool,
    pub(crate) place: (u32, u32),
    /// Where its text begins.
    pub(crate) start: usize,
}

impl Chain<'_> {
    /// With dots, as a builtin is named.
    pub(crate) fn dotted(&self) -> String {
        let mut text = self.root.to_owned();
        for part in &self.path {
            text.push('.');
            text.push_str(part);
        }
        text
    }
}

/// A function's call.
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) arguments: usize,
    pub(crate) place: (u32, u32),
    /// Where its text begins.
    pub(crate) start: usize,
}

impl Tree {
    /// From the engine's own writing of one module.
    pub(crate) fn read(name: &str, text: &str, module: &Json) -> Option<Self> {
        let package = names(module.get("package")?.get("refr")?, text)?;
        let package = std::iter::once("data".to_owned()).chain(package).collect::<Vec<_>>().join(".");
        let mut imports = Vec::new();
        for import in list(module, "imports") {
            let path = names(import.get("refr")?, text)?;
            let alias = match import.get("as") {
                Some(span) if span.is_object() => slice(span, text)?.to_owned(),
                _ => path.last()?.clone(),
            };
            imports.push((alias, path));
        }
        let mut rules = Vec::new();
        for rule in list(module, "rules") {
            let (kind, body) = rule.as_object()?.iter().next()?;
            let (head, arity) = if kind == "Default" {
                let arguments = list(body, "args").len();
                (body.get("refr")?, (arguments > 0).then_some(arguments))
            } else {
                let (kind, head) = body.get("head")?.as_object()?.iter().next()?;
                (head.get("refr")?, (kind == "Func").then(|| list(head, "args").len()))
            };
            let chain = chain(head, text)?;
            let path = format!("{package}.{}", chain.dotted());
            rules.push(Rule { path, arity, place: chain.place, tree: rule.clone() });
        }
        Some(Self { name: name.to_owned(), text: text.to_owned(), package, imports, rules })
    }

    /// What a reference's first name stands for, with its path behind it.
    pub(crate) fn resolve(&self, chain: &Chain<'_>) -> Vec<String> {
        let imported = self.imports.iter().find(|(alias, _)| alias == chain.root);
        let mut path = match imported {
            Some((_, target)) => target.clone(),
            None => vec![chain.root.to_owned()],
        };
        path.extend(chain.path.iter().cloned());
        path
    }

    /// Every reference and every call in `tree`.
    pub(crate) fn visit<'a>(&'a self, tree: &'a Json, see: &mut dyn FnMut(Seen<'a>)) {
        walk(tree, &self.text, see);
    }
}

/// What a walk over a tree comes across.
pub(crate) enum Seen<'a> {
    /// A reference that is no function's name.
    Chain(Chain<'a>),
    /// A call; its arguments are seen after it.
    Call(Call),
    /// `:=`, `some` and other places that give a name of their own.
    Local(&'a str),
}

fn walk<'a>(node: &'a Json, text: &'a str, see: &mut dyn FnMut(Seen<'a>)) {
    match node {
        Json::Array(items) => items.iter().for_each(|item| walk(item, text, see)),
        Json::Object(map) => {
            for (key, value) in map {
                match key.as_str() {
                    "Var" | "RefDot" | "RefBrack" => reference(node, text, see),
                    "Call" => call(value, text, see),
                    "AssignExpr" => {
                        if value.get("op").and_then(Json::as_str) == Some("ColEq") {
                            value.get("lhs").into_iter().for_each(|left| locals(left, text, see));
                        }
                        walk(value, text, see);
                    }
                    "SomeVars" => {
                        for span in list(value, "vars") {
                            slice(span, text).into_iter().for_each(|name| see(Seen::Local(name)));
                        }
                    }
                    "SomeIn" => {
                        for part in ["key", "value"] {
                            value.get(part).into_iter().for_each(|pattern| locals(pattern, text, see));
                        }
                        walk(value, text, see);
                    }
                    "Every" => {
                        for part in ["key", "value"] {
                            let name = value.get(part).and_then(|span| slice(span, text));
                            name.into_iter().for_each(|name| see(Seen::Local(name)));
                        }
                        walk(value, text, see);
                    }
                    "span" | "eidx" | "sidx" | "qidx" => {}
                    _ => walk(value, text, see),
                }
            }
        }
        _ => {}
    }
}

/// The names that a pattern gives: `x`, `[_, y]`, `{"a": z}`.
fn locals<'a>(node: &'a Json, text: &'a str, see: &mut dyn FnMut(Seen<'a>)) {
    match node {
        Json::Array(items) => items.iter().for_each(|item| locals(item, text, see)),
        Json::Object(map) => {
            for (key, value) in map {
                if key == "Var" {
                    let name = value.get("span").and_then(|span| slice(span, text));
                    name.into_iter().for_each(|name| see(Seen::Local(name)));
                } else if !matches!(key.as_str(), "span" | "RefDot" | "RefBrack" | "Call") {
                    locals(value, text, see);
                }
            }
        }
        _ => {}
    }
}

/// A whole chain at once; what stands in its brackets, and what it hangs on, is walked by itself.
fn reference<'a>(node: &'a Json, text: &'a str, see: &mut dyn FnMut(Seen<'a>)) {
    if let Some(chain) = chain(node, text) {
        see(Seen::Chain(chain));
    }
    let mut node = node;
    while let Some((kind, value)) = variant(node) {
        match kind {
            "RefDot" => {}
            "RefBrack" => value.get("index").into_iter().for_each(|index| walk(index, text, see)),
            "Var" => return,
            _ => return walk(node, text, see),
        }
        match value.get("refr") {
            Some(next) => node = next,
            None => return,
        }
    }
}

fn call<'a>(value: &'a Json, text: &'a str, see: &mut dyn FnMut(Seen<'a>)) {
    let arguments = list(value, "params");
    let chain = value.get("fcn").and_then(|function| chain(function, text));
    if let Some(chain) = chain {
        see(Seen::Call(Call {
            name: chain.dotted(),
            arguments: arguments.len(),
            place: chain.place,
            start: chain.start,
        }));
    }
    arguments.iter().for_each(|argument| walk(argument, text, see));
}

/// A reference that hangs on a name; `None` for `f(x).y` and the like.
pub(crate) fn chain<'a>(node: &'a Json, text: &'a str) -> Option<Chain<'a>> {
    let mut parts = Vec::new();
    let mut node = node;
    loop {
        let (kind, value) = variant(node)?;
        match kind {
            "Var" => {
                let span = value.get("span")?;
                parts.reverse();
                let mut path = Vec::new();
                let mut open = false;
                for part in parts {
                    match part {
                        Some(part) => path.push(part),
                        None => {
                            open = true;
                            break;
                        }
                    }
                }
                let (place, start) = (place(span), number(span, "start"));
                return Some(Chain { root: slice(span, text)?, path, open, place, start });
            }
            "RefDot" => parts.push(Some(slice(value.get("field")?.get(0)?, text)?.to_owned())),
            "RefBrack" => parts.push(constant(value.get("index")?)),
            _ => return None,
        }
        node = value.get("refr")?;
    }
}

/// A string written out; anything else is computed.
fn constant(node: &Json) -> Option<String> {
    let (kind, value) = variant(node)?;
    if !matches!(kind, "String" | "RawString") {
        return None;
    }
    Some(value.get("value")?.as_str()?.to_owned())
}

fn names(node: &Json, text: &str) -> Option<Vec<String>> {
    let chain = chain(node, text)?;
    (!chain.open).then(|| std::iter::once(chain.root.to_owned()).chain(chain.path).collect())
}

fn variant(node: &Json) -> Option<(&str, &Json)> {
    let map: &Map<String, Json> = node.as_object()?;
    let (kind, value) = map.iter().next()?;
    (map.len() == 1).then_some((kind.as_str(), value))
}

pub(crate) fn list<'a>(node: &'a Json, key: &str) -> &'a [Json] {
    node.get(key).and_then(Json::as_array).map_or(&[], Vec::as_slice)
}

fn slice<'a>(span: &Json, text: &'a str) -> Option<&'a str> {
    text.get(number(span, "start")..number(span, "end"))
}

fn number(span: &Json, key: &str) -> usize {
    span.get(key).and_then(Json::as_u64).and_then(|value| usize::try_from(value).ok()).unwrap_or(0)
}

fn place(span: &Json) -> (u32, u32) {
    let part = |key| u32::try_from(number(span, key)).unwrap_or(u32::MAX);
    (part("line"), part("col"))
}
