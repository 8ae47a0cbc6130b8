//! Modules and data → a policy that can be judged, or every reason why not.

use std::collections::BTreeSet;
use std::num::{NonZeroU32, NonZeroUsize};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use regorus::{Engine, PolicyLengthConfig};

use crate::problem::{Problem, Problems};
use crate::reads::Reads;
use crate::syntax::{Call, Seen, Tree};
use crate::{builtins, calls, json, recursion, text};

/// One file of a policy.
#[derive(Debug, Clone)]
pub struct Module {
    /// As problems name it.
    pub name: String,
    /// Rego.
    pub text: String,
}

/// Which Rego a module is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RegoVersion {
    /// v1 where it is that, else v0, each module by itself.
    #[default]
    Auto,
    /// As of OPA 1.0: `if` and `contains` are words of the language.
    V1,
    /// As before.
    V0,
}

/// How a policy is asked, and how much it may cost.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The rule that decides: `envoy/authz/allow` or `data.envoy.authz.allow`.
    pub entry: String,
    /// Which Rego.
    pub version: RegoVersion,
    /// What a decision may cost.
    pub limits: Limits,
    /// Whether `io.jwt.decode_verify` takes tokens that never end, as OPA's does.
    pub jwt_without_exp: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            entry: "envoy/authz/allow".to_owned(),
            version: RegoVersion::Auto,
            limits: Limits::default(),
            jwt_without_exp: false,
        }
    }
}

/// Bounds of one decision and of a policy's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of the wall clock, which the engine reads itself between expressions: every 32 of them, that is about
    /// every 10 µs. One builtin's call is not broken off; what each may chew on is bounded instead. Who waited
    /// for a processor rather than worked is tried once more, so a policy without end costs twice this.
    pub time: Duration,
    /// What the builtins of one decision may give back in total.
    pub bytes: usize,
    /// Of all modules together.
    pub text_bytes: usize,
    /// How many modules.
    pub modules: usize,
    /// Values in the data document.
    pub data_values: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            time: Duration::from_millis(15),
            bytes: 8 * 1024 * 1024,
            text_bytes: 512 * 1024,
            modules: 128,
            data_values: 200_000,
        }
    }
}

/// Expressions between two looks at the clock.
const CHECK_INTERVAL: u32 = 32;
const LINES_MAX: usize = 20_000;
/// Calls within calls that are written in another form.
const REWRITES_MAX: u32 = 4;
/// The package of the one rule that is ours.
const ENTRY_PACKAGE: &str = "weft_entry";
const DATA_DEPTH_MAX: usize = 64;

/// A policy that passed the door. Shared by all workers; each makes a [`crate::Worker`] of it.
pub struct Compiled {
    engine: Engine,
    entry: String,
    /// The rule that the engine evaluates: the entry, or one that asks for it.
    rule: String,
    called: BTreeSet<&'static str>,
    reads: Reads,
    limits: Limits,
    jwt_without_exp: bool,
    versions: Vec<RegoVersion>,
}

impl std::fmt::Debug for Compiled {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Compiled")
            .field("entry", &self.entry)
            .field("reads", &self.reads)
            .finish_non_exhaustive()
    }
}

impl Compiled {
    /// What of a request the policy can see.
    pub fn reads(&self) -> &Reads {
        &self.reads
    }

    /// The rule that decides: `data.envoy.authz.allow`.
    pub fn entry(&self) -> &str {
        &self.entry
    }

    /// Which Rego each module turned out to be, in the order in which they came.
    pub fn versions(&self) -> &[RegoVersion] {
        &self.versions
    }

    /// The builtins that the policy calls, by name.
    pub fn builtins(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.called.iter().copied()
    }

    pub(crate) fn rule(&self) -> &str {
        &self.rule
    }

    pub(crate) fn engine(&self) -> Engine {
        self.engine.clone()
    }

    pub(crate) fn called(&self) -> &BTreeSet<&'static str> {
        &self.called
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn jwt_without_exp(&self) -> bool {
        self.jwt_without_exp
    }
}

/// Compiles `modules` over `data`, an object or null. Every problem that can be found beside the others is.
pub fn compile(
    modules: &[Module],
    data: &serde_json::Value,
    settings: &Settings,
) -> Result<Arc<Compiled>, Problems> {
    // A text on which the engine's parser panics is a text that is refused.
    catch_unwind(AssertUnwindSafe(|| compile_all(modules, data, settings))).unwrap_or_else(|_| {
        let problem = Problem::new("", (0, 0), "the engine failed on this policy");
        Err(Problems(vec![problem.hint("this is a fault of the mesh; please report it with the policy")]))
    })
}

fn compile_all(
    modules: &[Module],
    data: &serde_json::Value,
    settings: &Settings,
) -> Result<Arc<Compiled>, Problems> {
    let entry = entry(&settings.entry)?;
    sizes(modules, data, &settings.limits)?;
    let versions = parse_each(modules, settings.version)?;
    let (texts, early): (Vec<String>, Vec<Option<Tree>>) =
        modules.iter().zip(&versions).map(|(module, version)| rewritten(module, *version)).unzip();
    // Before the engine looks at what depends on what: it would call the names of unknown functions unsafe.
    if let Some(trees) = early.into_iter().collect::<Option<Vec<Tree>>>() {
        let calls = calls::check(&trees);
        if !calls.problems.is_empty() {
            return Err(sorted(calls.problems));
        }
    }
    let (mut rule, mut prepared) = (entry.clone(), prepare(modules, &texts, &versions, data, &entry, None));
    if prepared.is_err() {
        // A package, or the beginning of several rules' names: one more rule asks for it.
        let asked = format!("package {ENTRY_PACKAGE}\n\nanswer := {entry}\n");
        let through = format!("data.{ENTRY_PACKAGE}.answer");
        let second = prepare(modules, &texts, &versions, data, &through, Some(&asked));
        if second.as_ref().is_ok_and(|(_, trees)| is_there(trees, &entry)) {
            (rule, prepared) = (through, second);
        }
    }
    let (mut engine, trees) = prepared?;
    let calls = calls::check(&trees);
    let mut problems = calls.problems;
    problems.extend(recursion::check(&trees));
    if !problems.is_empty() {
        return Err(sorted(problems));
    }
    let reads = Reads::of(&trees, builtins::first_fleeting(&calls.builtins));
    engine.set_gather_prints(true);
    engine.set_execution_timer_config(regorus::utils::limits::ExecutionTimerConfig {
        limit: settings.limits.time,
        check_interval: NonZeroU32::new(CHECK_INTERVAL).unwrap_or(NonZeroU32::MIN),
    });
    Ok(Arc::new(Compiled {
        engine,
        entry,
        rule,
        called: calls.builtins,
        reads,
        limits: settings.limits,
        jwt_without_exp: settings.jwt_without_exp,
        versions,
    }))
}

fn sorted(mut problems: Vec<Problem>) -> Problems {
    problems.sort_by(|left, right| {
        (&left.module, left.line, left.column).cmp(&(&right.module, right.line, right.column))
    });
    problems.dedup();
    Problems(problems)
}

fn entry(text: &str) -> Result<String, Problems> {
    let dotted = match text.strip_prefix("data.") {
        Some(_) => text.to_owned(),
        None => format!("data.{}", text.trim_matches('/').replace('/', ".")),
    };
    let named = |part: &str| {
        let mut bytes = part.bytes();
        bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if dotted.split('.').count() < 2 || !dotted.split('.').all(named) {
        return Err(Problems(vec![
            Problem::new("", (0, 0), format!("the entry `{text}` names no rule"))
                .hint("write PACKAGE/RULE, as in `envoy/authz/allow`"),
        ]));
    }
    Ok(dotted)
}

fn sizes(modules: &[Module], data: &serde_json::Value, limits: &Limits) -> Result<(), Problems> {
    let mut problems = Vec::new();
    let mut whole = |message: String| problems.push(Problem::new("", (0, 0), message));
    if modules.is_empty() {
        whole("the policy has no module".to_owned());
    }
    if modules.len() > limits.modules {
        whole(format!("{} modules; at most {} fit", modules.len(), limits.modules));
    }
    let bytes: usize = modules.iter().map(|module| module.text.len()).sum();
    if bytes > limits.text_bytes {
        whole(format!("{bytes} bytes of Rego; at most {} fit", limits.text_bytes));
    }
    if !(data.is_object() || data.is_null()) {
        whole("data is to be an object".to_owned());
    }
    let mut left = limits.data_values;
    if !fits(data, &mut left, DATA_DEPTH_MAX) {
        whole(format!(
            "data has more than {} values, or lies deeper than {DATA_DEPTH_MAX}",
            limits.data_values
        ));
    }
    let mut seen = BTreeSet::new();
    for module in modules.iter().filter(|module| !seen.insert(module.name.as_str())) {
        whole(format!("two modules are named {}", module.name));
    }
    if problems.is_empty() {
        problems.extend(modules.iter().filter_map(|module| text::check(&module.name, &module.text)));
    }
    if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
}

fn fits(value: &serde_json::Value, left: &mut usize, depth: usize) -> bool {
    let (Some(rest), Some(depth)) = (left.checked_sub(1), depth.checked_sub(1)) else { return false };
    *left = rest;
    match value {
        serde_json::Value::Array(items) => items.iter().all(|item| fits(item, left, depth)),
        serde_json::Value::Object(fields) => fields.values().all(|field| fits(field, left, depth)),
        _ => true,
    }
}

fn parse_each(modules: &[Module], wanted: RegoVersion) -> Result<Vec<RegoVersion>, Problems> {
    let mut problems = Vec::new();
    let mut versions = Vec::new();
    for module in modules {
        let mut first: Option<Problem> = None;
        let tries: &[RegoVersion] = match wanted {
            RegoVersion::Auto => &[RegoVersion::V1, RegoVersion::V0],
            RegoVersion::V1 => &[RegoVersion::V1],
            RegoVersion::V0 => &[RegoVersion::V0],
        };
        let found = tries.iter().find(|version| {
            let mut engine = empty(module.text.len());
            match add(&mut engine, module, &module.text, **version) {
                Ok(()) => true,
                Err(problem) => {
                    first.get_or_insert(problem);
                    false
                }
            }
        });
        match (found, first) {
            (Some(version), _) => versions.push(*version),
            (None, Some(problem)) => problems.push(hinted(problem, module, wanted)),
            (None, None) => {}
        }
    }
    if problems.is_empty() { Ok(versions) } else { Err(Problems(problems)) }
}

/// A module that is asked to be one Rego and would be the other says so.
fn hinted(problem: Problem, module: &Module, wanted: RegoVersion) -> Problem {
    let (other, name) = match wanted {
        RegoVersion::Auto => return problem,
        RegoVersion::V1 => (RegoVersion::V0, "v0"),
        RegoVersion::V0 => (RegoVersion::V1, "v1"),
    };
    match add(&mut empty(module.text.len()), module, &module.text, other) {
        Ok(()) => problem.hint(format!("it is Rego {name}; say so, or `auto`")),
        Err(_) => problem,
    }
}

fn empty(bytes: usize) -> Engine {
    let mut engine = Engine::new();
    let bytes = bytes.max(1);
    // Keys and tokens stand in one long line; the length of all is bounded already.
    engine.set_policy_length_config(PolicyLengthConfig {
        max_col: u32::try_from(bytes)
            .ok()
            .and_then(|b| NonZeroU32::new(b.saturating_add(2)))
            .unwrap_or(NonZeroU32::MAX),
        max_file_bytes: NonZeroUsize::new(bytes).unwrap_or(NonZeroUsize::MIN),
        max_lines: NonZeroUsize::new(LINES_MAX).unwrap_or(NonZeroUsize::MIN),
    });
    engine
}

fn add(engine: &mut Engine, module: &Module, text: &str, version: RegoVersion) -> Result<(), Problem> {
    engine.set_rego_v0(version == RegoVersion::V0);
    engine
        .add_policy(module.name.clone(), text.to_owned())
        .map(drop)
        .map_err(|error| Problem::from_engine(&module.name, &error.to_string()))
}

/// All modules in one engine, analysed, and their trees.
fn prepare(
    modules: &[Module],
    texts: &[String],
    versions: &[RegoVersion],
    data: &serde_json::Value,
    entry: &str,
    asked: Option<&str>,
) -> Result<(Engine, Vec<Tree>), Problems> {
    let one = |problem: Problem| Problems(vec![problem]);
    let longest = texts.iter().map(String::len).chain(asked.map(str::len)).max().unwrap_or(0);
    let mut engine = empty(longest);
    for ((module, text), version) in modules.iter().zip(texts).zip(versions) {
        add(&mut engine, module, text, *version).map_err(one)?;
    }
    if let Some(asked) = asked {
        let entry = Module { name: "the entry".to_owned(), text: asked.to_owned() };
        add(&mut engine, &entry, asked, RegoVersion::V1).map_err(one)?;
    }
    if data.is_object() {
        engine
            .add_data(json::convert(data))
            .map_err(|error| one(Problem::new("data", (0, 0), error.to_string())))?;
    }
    let compiled = engine.compile_with_entrypoint(&Arc::from(entry)).map_err(|error| {
        let text = error.to_string();
        one(if text.contains("not a valid rule path") {
            Problem::new("", (0, 0), format!("no module has a rule `{entry}`"))
                .hint("the entry names a package and a rule in it, as in `envoy/authz/allow`")
        } else {
            Problem::from_engine("", &text)
        })
    })?;
    let mut trees = Vec::new();
    for ((module, text), parsed) in modules.iter().zip(texts).zip(compiled.get_modules()) {
        let written = serde_json::to_value(parsed).ok();
        let tree = written.and_then(|written| Tree::read(&module.name, text, &written));
        trees.push(tree.ok_or_else(|| {
            one(Problem::new(&module.name, (0, 0), "the module's tree can't be read")
                .hint("this is a fault of the mesh; please report it with the module"))
        })?);
    }
    Ok((engine, trees))
}

/// Whether `path` is a package, a rule, what several rules' names begin with, or a field of a rule's value.
fn is_there(trees: &[Tree], path: &str) -> bool {
    let under = |path: &str, of: &str| {
        path.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let mut rules = trees.iter().flat_map(|tree| &tree.rules);
    rules.any(|rule| under(&rule.path, path) || under(path, &rule.path))
}

/// Takes out what the engine has in another form or not at all: each `print(…)` becomes `true`, as OPA has it,
/// and `f(x, y)` for `y = f(x)` is written so where the function is ours. Lines stay where they were.
fn rewritten(module: &Module, version: RegoVersion) -> (String, Option<Tree>) {
    let mut text = module.text.clone();
    for _ in 0..REWRITES_MAX {
        // A tree too deep for this reader stays as it is: then the door refuses what stands in it.
        let Some(tree) = tree_of(module, &text, version) else { return (text, None) };
        let mut found: Vec<(usize, usize, String)> = Vec::new();
        for rule in &tree.rules {
            tree.visit(&rule.tree, &mut |seen| {
                if let Seen::Call(call) = seen
                    && let Some((end, new)) = rewrite(&tree, &call)
                {
                    found.push((call.start, end, new));
                }
            });
        }
        if found.is_empty() {
            return (text, Some(tree));
        }
        found.sort();
        found.dedup();
        // From the end, so that the places before still hold; one around another waits for the next round.
        let mut before = usize::MAX;
        for (start, end, new) in found.into_iter().rev() {
            if end <= before {
                text.replace_range(start..end, &new);
                before = start;
            }
        }
    }
    let tree = tree_of(module, &text, version);
    (text, tree)
}

/// One module's tree, without what the others say.
fn tree_of(module: &Module, text: &str, version: RegoVersion) -> Option<Tree> {
    let mut engine = empty(text.len());
    add(&mut engine, module, text, version).ok()?;
    let written: serde_json::Value = serde_json::from_str(&engine.get_ast_as_json().ok()?).ok()?;
    Tree::read(&module.name, text, written.get(0)?.get("ast")?)
}

/// Where the call ends, and what stands in its place.
fn rewrite(tree: &Tree, call: &Call) -> Option<(usize, String)> {
    if tree.rules.iter().any(|rule| rule.path == format!("{}.{}", tree.package, call.name)) {
        return None;
    }
    let open = call.start + tree.text.get(call.start..)?.find('(')?;
    let (comma, close) = text::call(&tree.text, open)?;
    let end = close + 1;
    let old = tree.text.get(call.start..end)?;
    if call.name == "print" {
        let blank = old.chars().skip(4).map(|one| if one == '\n' { '\n' } else { ' ' });
        return Some((end, "true".chars().chain(blank).collect()));
    }
    let builtin = builtins::find(&call.name).filter(|builtin| builtin.added())?;
    if call.arguments != usize::from(builtin.arity) + 1 {
        return None;
    }
    let (head, tail) = (tree.text.get(call.start..comma?)?, tree.text.get(comma? + 1..close)?);
    let result = tail.trim_end().strip_suffix(',').unwrap_or(tail).trim();
    Some((end, format!("{result} = {head})")))
}
