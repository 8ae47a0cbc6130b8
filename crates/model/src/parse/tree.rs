//! Text → documents as trees whose every node knows its line.
//!
//! YAML 1.2's core rules tell numbers and words apart; JSON is a part of YAML. The builder is a loop
//! over the parser's events with its own stack, and it pays for every node and byte from a budget, also
//! for those that an alias repeats: text that would grow beyond it is refused, not expanded.

use std::collections::{HashMap, HashSet};

use granit_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Map, Number, Value};

use super::path::{Path, Step};

/// Largest text that is looked at.
pub const TEXT_BYTES_MAX: usize = 100 << 20;
/// Deepest nesting; objects of ours stay below 20.
pub const DEPTH_MAX: usize = 64;
/// Nodes of one text, those included that aliases repeat.
pub const NODES_MAX: usize = 1_000_000;

/// A value, and the line of its key (in a list: of the item).
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub line: u32,
    pub shape: Shape,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    Scalar(Value),
    List(Vec<Node>),
    /// In the order of the text, each key once.
    Map(Vec<(String, Node)>),
}

/// A mistake in the text itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// Which document, from 0.
    pub document: usize,
    pub line: u32,
    pub path: Path,
    pub message: String,
    pub hint: Option<String>,
}

/// What a text is made of.
#[derive(Debug, Default)]
pub struct Tree {
    /// The documents that could be read, with their place among all. Empty documents are left out.
    pub documents: Vec<(usize, Node)>,
    pub flaws: Vec<Flaw>,
}

impl Node {
    pub fn to_value(&self) -> Value {
        match &self.shape {
            Shape::Scalar(value) => value.clone(),
            Shape::List(items) => Value::Array(items.iter().map(Node::to_value).collect()),
            Shape::Map(entries) => Value::Object(
                entries.iter().map(|(key, node)| (key.clone(), node.to_value())).collect::<Map<_, _>>(),
            ),
        }
    }

    /// The line of the value at `path`, or of its nearest parent that is there.
    pub fn line_at(&self, path: &Path) -> u32 {
        let mut node = self;
        for step in path.steps() {
            let next = match (step, &node.shape) {
                (Step::Field(name), Shape::Map(entries)) => {
                    entries.iter().find(|(key, _)| key == name).map(|(_, node)| node)
                }
                (Step::Index(index), Shape::List(items)) => items.get(*index),
                _ => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node.line
    }

    fn is_null(&self) -> bool {
        self.shape == Shape::Scalar(Value::Null)
    }
}

/// Reads a whole text. Goes on behind a document that can't be read.
pub fn read(text: &str) -> Tree {
    let mut builder = Builder::default();
    if text.len() > TEXT_BYTES_MAX {
        builder.flaw(1, "the text is larger than 100 MB".to_owned(), Some("split it into files".to_owned()));
        return builder.tree;
    }
    let options = granit_parser::options! {
        emit_comments: false,
        emit_unresolved_aliases: true,
        disallow_directives: false,
    };
    let mut parser = Parser::new_from_str_with_options(text, options);
    loop {
        match parser.next_event() {
            None => break,
            Some(Ok((event, span))) => {
                let line = u32::try_from(span.start.line()).unwrap_or(u32::MAX);
                if builder.event(event, line).is_err() {
                    // Out of budget: what follows could be as large again.
                    return builder.tree;
                }
            }
            Some(Err(error)) => {
                let line = u32::try_from(error.marker().line()).unwrap_or(u32::MAX).max(1);
                let hint =
                    text.contains('\t').then(|| "YAML is indented with blanks, not with tabs".to_owned());
                builder.flaw(line, format!("can't be read: {}", error.info()), hint);
                builder.abandon();
                match parser.proceed_next_document() {
                    Ok(true) => {}
                    Ok(false) | Err(_) => break,
                }
            }
        }
    }
    builder.tree
}

/// The text is larger than the budget.
struct OverBudget;

/// What a subtree costs.
#[derive(Clone, Copy, Default)]
struct Cost {
    nodes: usize,
    bytes: usize,
    depth: usize,
}

struct Frame {
    line: u32,
    anchor: usize,
    cost: Cost,
    contents: Contents,
}

enum Contents {
    List(Vec<Node>),
    Map { entries: Vec<(String, Node)>, seen: HashSet<String>, key: Option<(String, u32)>, merged: Vec<Node> },
}

#[derive(Default)]
struct Builder {
    tree: Tree,
    stack: Vec<Frame>,
    anchors: HashMap<usize, (Node, Cost)>,
    spent: Cost,
    document: usize,
    started: usize,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, line: u32) -> Result<(), OverBudget> {
        match event {
            Event::DocumentStart(..) => {
                self.abandon();
                self.document = self.started;
                self.started += 1;
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let cost = Cost { nodes: 1, bytes: text.len(), depth: 0 };
                let value = self.scalar(&text, style, tag.as_deref(), line);
                self.place(Node { line, shape: Shape::Scalar(value) }, anchor, cost)
            }
            Event::SequenceStart(_, anchor, _) => self.open(line, anchor, Contents::List(Vec::new())),
            Event::MappingStart(_, anchor, _) => {
                let contents = Contents::Map {
                    entries: Vec::new(),
                    seen: HashSet::new(),
                    key: None,
                    merged: Vec::new(),
                };
                self.open(line, anchor, contents)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(id) => match self.anchors.get(&id).map(|(_, cost)| *cost) {
                Some(cost) => {
                    // Paid before it is copied: a bomb never gets to be large.
                    self.pay(cost, line)?;
                    if let Some((node, _)) = self.anchors.get(&id) {
                        let node = Node { line, shape: node.shape.clone() };
                        self.put(node, cost);
                    }
                    Ok(())
                }
                None => {
                    self.flaw(line, "an alias stands inside what it repeats".to_owned(), None);
                    self.place(Node { line, shape: Shape::Scalar(Value::Null) }, 0, Cost::default())
                }
            },
            Event::UnresolvedAlias(name) => {
                let name: String = name.chars().take(60).collect();
                self.flaw(
                    line,
                    format!("the alias *{name} repeats nothing"),
                    Some(format!("mark something with &{name} first")),
                );
                self.place(Node { line, shape: Shape::Scalar(Value::Null) }, 0, Cost::default())
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, line: u32, anchor: usize, contents: Contents) -> Result<(), OverBudget> {
        if self.stack.len() >= DEPTH_MAX {
            self.flaw(line, format!("is nested deeper than {DEPTH_MAX} levels"), None);
            return Err(OverBudget);
        }
        self.pay(Cost { nodes: 1, ..Cost::default() }, line)?;
        self.stack.push(Frame { line, anchor, cost: Cost { nodes: 1, ..Cost::default() }, contents });
        Ok(())
    }

    fn close(&mut self) -> Result<(), OverBudget> {
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        let shape = match frame.contents {
            Contents::List(items) => Shape::List(items),
            Contents::Map { mut entries, mut seen, merged, .. } => {
                for node in merged {
                    merge(node, &mut entries, &mut seen);
                }
                Shape::Map(entries)
            }
        };
        let node = Node { line: frame.line, shape };
        let cost = Cost { depth: frame.cost.depth + 1, ..frame.cost };
        self.remember(&node, frame.anchor, cost)?;
        self.put(node, cost);
        Ok(())
    }

    fn place(&mut self, node: Node, anchor: usize, cost: Cost) -> Result<(), OverBudget> {
        self.pay(cost, node.line)?;
        self.remember(&node, anchor, cost)?;
        self.put(node, cost);
        Ok(())
    }

    fn remember(&mut self, node: &Node, anchor: usize, cost: Cost) -> Result<(), OverBudget> {
        if anchor != 0 {
            self.pay(cost, node.line)?;
            self.anchors.insert(anchor, (node.clone(), cost));
        }
        Ok(())
    }

    fn pay(&mut self, cost: Cost, line: u32) -> Result<(), OverBudget> {
        self.spent.nodes = self.spent.nodes.saturating_add(cost.nodes);
        self.spent.bytes = self.spent.bytes.saturating_add(cost.bytes);
        let too_much = if self.spent.nodes > NODES_MAX {
            format!("the text grows beyond {NODES_MAX} values")
        } else if self.spent.bytes > TEXT_BYTES_MAX {
            "the text grows beyond 100 MB".to_owned()
        } else if self.stack.len() + cost.depth > DEPTH_MAX {
            format!("is nested deeper than {DEPTH_MAX} levels")
        } else {
            return Ok(());
        };
        self.flaw(line, too_much, Some("split the file; repeat less by aliases".to_owned()));
        Err(OverBudget)
    }

    /// Puts a finished node where it belongs: into the open collection, or as a document.
    fn put(&mut self, mut node: Node, cost: Cost) {
        let Some(frame) = self.stack.last_mut() else {
            if !node.is_null() {
                self.tree.documents.push((self.document, node));
            }
            return;
        };
        frame.cost.nodes = frame.cost.nodes.saturating_add(cost.nodes);
        frame.cost.bytes = frame.cost.bytes.saturating_add(cost.bytes);
        frame.cost.depth = frame.cost.depth.max(cost.depth);
        match &mut frame.contents {
            Contents::List(items) => items.push(node),
            Contents::Map { entries, seen, key, merged } => match key.take() {
                None => {
                    let (name, flawed) = key_text(&node);
                    *key = Some((name, node.line));
                    if flawed {
                        self.flaw(
                            node.line,
                            "a key is a list or a map".to_owned(),
                            Some("keys are words".to_owned()),
                        );
                    }
                }
                Some((name, _)) if name == "<<" && !matches!(node.shape, Shape::Scalar(_)) => {
                    merged.push(node)
                }
                Some((name, line)) => {
                    node.line = line;
                    if seen.insert(name.clone()) {
                        entries.push((name, node));
                    } else {
                        let first =
                            entries.iter().find(|(key, _)| *key == name).map_or(0, |(_, node)| node.line);
                        let message =
                            format!("{} is given twice, first on line {first}", crate::text::quote(&name));
                        let mut path = self.path();
                        path.push(Step::Field(name));
                        self.flaw_at(line, path, message, Some("keep one of them".to_owned()));
                    }
                }
            },
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, line: u32) -> Value {
        let tag = tag.and_then(Tag::core_suffix);
        match (tag, style) {
            (Some("str"), _) => Value::String(text.to_owned()),
            (None, ScalarStyle::Plain) => plain(text),
            (None, _) => Value::String(text.to_owned()),
            (Some(tag), _) => {
                let value = plain(text);
                let fits = match tag {
                    "int" => value.is_i64() || value.is_u64(),
                    "float" => value.is_number(),
                    "bool" => value.is_boolean(),
                    "null" => value.is_null(),
                    _ => true,
                };
                if !fits {
                    self.flaw(line, format!("{} is not of type !!{tag}", crate::text::quote(text)), None);
                }
                value
            }
        }
    }

    /// Forgets a document that can't be finished.
    fn abandon(&mut self) {
        self.stack.clear();
        self.anchors.clear();
    }

    fn path(&self) -> Path {
        let mut path = Path::default();
        for frame in &self.stack {
            match &frame.contents {
                Contents::List(items) => path.push(Step::Index(items.len())),
                Contents::Map { key: Some((name, _)), .. } => path.push(Step::Field(name.clone())),
                Contents::Map { key: None, .. } => {}
            }
        }
        path
    }

    fn flaw(&mut self, line: u32, message: String, hint: Option<String>) {
        let path = self.path();
        self.flaw_at(line, path, message, hint);
    }

    fn flaw_at(&mut self, line: u32, path: Path, message: String, hint: Option<String>) {
        if self.tree.flaws.len() < super::PROBLEMS_MAX {
            self.tree.flaws.push(Flaw { document: self.document, line, path, message, hint });
        }
    }
}

/// `<<: *base`: what the map itself does not say comes from the base.
fn merge(node: Node, entries: &mut Vec<(String, Node)>, seen: &mut HashSet<String>) {
    match node.shape {
        Shape::Map(more) => {
            for (name, node) in more {
                if seen.insert(name.clone()) {
                    entries.push((name, node));
                }
            }
        }
        Shape::List(bases) => {
            for base in bases {
                merge(base, entries, seen);
            }
        }
        Shape::Scalar(_) => {}
    }
}

fn key_text(node: &Node) -> (String, bool) {
    match &node.shape {
        Shape::Scalar(Value::String(text)) => (text.clone(), false),
        Shape::Scalar(value) => (value.to_string(), false),
        _ => ("?".to_owned(), true),
    }
}

/// YAML 1.2's core rules for a word without quotes.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let radix = |digits: &str, radix| {
        u64::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with(['+', '-']))
    };
    if let Some(number) = text.strip_prefix("0x").and_then(|digits| radix(digits, 16)) {
        return Value::from(number);
    }
    if let Some(number) = text.strip_prefix("0o").and_then(|digits| radix(digits, 8)) {
        return Value::from(number);
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let looks_like_number = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.contains(|c: char| c.is_ascii_digit())
        && unsigned.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    if looks_like_number {
        if let Ok(number) = text.strip_prefix('+').unwrap_or(text).parse::<i64>() {
            return Value::from(number);
        }
        if let Ok(number) = text.parse::<u64>() {
            return Value::from(number);
        }
        if let Some(number) = text.parse::<f64>().ok().and_then(Number::from_f64) {
            return Value::Number(number);
        }
    }
    Value::String(text.to_owned())
}
