//! Rules that need themselves, and chains of rules that are too long.
//!
//! OPA refuses recursion when it compiles; the engine finds it while it runs, and for functions not at all.
//! A rule costs the stack a few frames, so the longest chain is bounded too.

use std::collections::{BTreeMap, BTreeSet};

use crate::problem::Problem;
use crate::syntax::{Seen, Tree};

/// Rules that call rules that call rules.
const CHAIN_MAX: u32 = 32;

struct Rule {
    module: usize,
    place: (u32, u32),
    needs: BTreeSet<String>,
}

/// Every rule that can't end, or ends too deep.
pub(crate) fn check(trees: &[Tree]) -> Vec<Problem> {
    let mut rules: BTreeMap<String, Rule> = BTreeMap::new();
    for (module, tree) in trees.iter().enumerate() {
        for rule in &tree.rules {
            let entry = rules.entry(rule.path.clone()).or_insert_with(|| Rule {
                module,
                place: rule.place,
                needs: BTreeSet::new(),
            });
            entry.needs.extend(needs(tree, &rule.tree));
        }
    }
    let names: Vec<String> = rules.keys().cloned().collect();
    // Paths to rules: `data.a.b` needs `data.a.b`, all under it, and what it lies under.
    let mut edges: Vec<Vec<usize>> = Vec::with_capacity(names.len());
    for name in &names {
        let Some(rule) = rules.get(name) else { continue };
        let mut next = Vec::new();
        for (index, other) in names.iter().enumerate() {
            if rule.needs.iter().any(|path| under(path, other) || under(other, path)) {
                next.push(index);
            }
        }
        edges.push(next);
    }
    let mut problems = Vec::new();
    let mut search = Search { edges: &edges, depth: vec![State::Unseen; names.len()], cycle: None };
    for start in 0..names.len() {
        let depth = search.depth(start, 0);
        let rule = names.get(start).and_then(|name| rules.get(name).map(|rule| (name, rule)));
        let Some((name, rule)) = rule else { continue };
        let module = trees.get(rule.module).map_or("", |tree| tree.name.as_str());
        if let Some(cycle) = search.cycle.take() {
            let path: Vec<&str> =
                cycle.nodes.iter().filter_map(|at| names.get(*at)).map(String::as_str).collect();
            let name = path.first().copied().unwrap_or_default();
            let rule = rules.get(name).unwrap_or(rule);
            let module = trees.get(rule.module).map_or("", |tree| tree.name.as_str());
            let message = format!("rule `{name}` needs itself: {}", path.join(" → "));
            problems.push(Problem::new(module, rule.place, message).hint("Rego has no recursion"));
            break;
        }
        if depth > CHAIN_MAX {
            let message = format!("rule `{name}` begins a chain of more than {CHAIN_MAX} rules");
            problems.push(Problem::new(module, rule.place, message));
            break;
        }
    }
    problems
}

fn under(path: &str, of: &str) -> bool {
    path == of || path.strip_prefix(of).is_some_and(|rest| rest.starts_with('.'))
}

/// The paths in `data` that a rule's text names.
fn needs(tree: &Tree, rule: &serde_json::Value) -> BTreeSet<String> {
    let mut local = BTreeSet::new();
    tree.visit(rule, &mut |seen| {
        if let Seen::Local(name) = seen {
            local.insert(name);
        }
    });
    // Arguments are names of their own too.
    let arguments = rule.get("Spec").and_then(|rule| rule.get("head")).and_then(|head| head.get("Func"));
    for argument in arguments.map_or(&[][..], |head| crate::syntax::list(head, "args")) {
        if let Some(chain) = crate::syntax::chain(argument, &tree.text) {
            local.insert(chain.root);
        }
    }
    let mut needs = BTreeSet::new();
    let own_head = rule
        .get("Spec")
        .and_then(|rule| rule.get("head"))
        .and_then(|head| head.as_object()?.values().next()?.get("refr"))
        .or_else(|| rule.get("Default").and_then(|rule| rule.get("refr")))
        .and_then(|refr| crate::syntax::chain(refr, &tree.text))
        .map(|chain| chain.place);
    tree.visit(rule, &mut |seen| match seen {
        Seen::Chain(chain) if Some(chain.place) != own_head && !local.contains(chain.root) => {
            let path = tree.resolve(&chain);
            if path.first().is_some_and(|root| root == "data") {
                needs.insert(path.join("."));
            } else if path.first().is_some_and(|root| root != "input") {
                needs.insert(format!("{}.{}", tree.package, path.join(".")));
            }
        }
        Seen::Call(call) => {
            needs.insert(format!("{}.{}", tree.package, call.name));
            let (root, rest) = call.name.split_once('.').unwrap_or((&call.name, ""));
            if root == "data" {
                needs.insert(call.name.clone());
            }
            for (_, target) in tree.imports.iter().filter(|(alias, _)| alias == root) {
                let target = target.join(".");
                needs.insert(if rest.is_empty() { target } else { format!("{target}.{rest}") });
            }
        }
        _ => {}
    });
    needs
}

#[derive(Clone, Copy)]
enum State {
    Unseen,
    Open,
    Done(u32),
}

struct Search<'a> {
    edges: &'a [Vec<usize>],
    depth: Vec<State>,
    cycle: Option<Cycle>,
}

/// Found at its last rule, and complete once its first is seen again on the way back.
struct Cycle {
    nodes: Vec<usize>,
    complete: bool,
}

impl Search<'_> {
    /// How many rules the longest chain from here has. Stops going down where the answer is settled.
    fn depth(&mut self, node: usize, above: u32) -> u32 {
        match self.depth.get(node) {
            Some(State::Done(depth)) => return *depth,
            Some(State::Open) => {
                self.cycle.get_or_insert_with(|| Cycle { nodes: vec![node], complete: false });
                return 0;
            }
            _ => {}
        }
        if above > CHAIN_MAX {
            return 1;
        }
        if let Some(state) = self.depth.get_mut(node) {
            *state = State::Open;
        }
        let mut deepest = 0;
        for &next in self.edges.get(node).map_or(&[][..], Vec::as_slice) {
            deepest = deepest.max(self.depth(next, above + 1));
            if let Some(cycle) = self.cycle.as_mut() {
                cycle.complete |= cycle.nodes.last() == Some(&node);
                if !cycle.complete {
                    cycle.nodes.insert(0, node);
                }
                break;
            }
        }
        if let Some(state) = self.depth.get_mut(node) {
            *state = State::Done(deepest + 1);
        }
        deepest + 1
    }
}
