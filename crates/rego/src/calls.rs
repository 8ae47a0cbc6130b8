//! Which functions a policy may call: its own, and the builtins of [`crate::builtins::TABLE`].

use std::collections::{BTreeMap, BTreeSet};

use crate::builtins;
use crate::problem::Problem;
use crate::syntax::{Seen, Tree};

/// Names that OPA knows and that no policy here may call, and why.
const REFUSED: &[(&str, &str)] = &[
    ("http.send", "it reaches the network; give the policy what it needs as data or in the request"),
    ("net.lookup_ip_addr", "it reaches the network; give the policy addresses as data"),
    ("opa.runtime", "it shows the machine's environment; give the policy its settings as data"),
    ("rego.parse_module", "it parses text while a request waits"),
    ("rand.intn", "a decision may not hang on chance"),
    ("uuid.rfc4122", "a decision may not hang on chance; the request's id is in x-request-id"),
    ("graph.reachable_paths", "its work has no bound"),
    ("io.jwt.encode_sign", "a policy judges tokens, it makes none"),
    ("io.jwt.encode_sign_raw", "a policy judges tokens, it makes none"),
    ("crypto.x509.parse_rsa_private_key", "a policy sees no private keys"),
    ("crypto.x509.parse_keypair", "a policy sees no private keys"),
    ("crypto.md5", "MD5 proves nothing any more; use `crypto.sha256`"),
    ("crypto.hmac.md5", "MD5 proves nothing any more; use `crypto.hmac.sha256`"),
    ("print", "it is left out before a policy is judged, and can't be named otherwise"),
];

/// What was found out about a policy's calls.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// Builtins that it calls.
    pub(crate) builtins: BTreeSet<&'static str>,
    pub(crate) problems: Vec<Problem>,
}

/// Checks each call of each module.
pub(crate) fn check(trees: &[Tree]) -> Calls {
    let mut functions = BTreeMap::new();
    for rule in trees.iter().flat_map(|tree| &tree.rules) {
        if let Some(arity) = rule.arity {
            functions.insert(rule.path.as_str(), arity);
        }
    }
    let mut calls = Calls::default();
    for tree in trees {
        let mut see = |seen: Seen<'_>| match seen {
            Seen::Call(call) => {
                let own = own(tree, &call.name).find_map(|path| functions.get(path.as_str()));
                if own.is_none() {
                    builtin(tree, &call, &mut calls);
                }
            }
            Seen::Chain(chain) => {
                let dotted = chain.dotted();
                if let Some((name, why)) = REFUSED.iter().find(|(name, _)| *name == dotted) {
                    let problem = Problem::new(&tree.name, chain.place, format!("`{name}` may not be named"));
                    calls.problems.push(problem.hint(*why));
                }
            }
            Seen::Local(_) => {}
        };
        for rule in &tree.rules {
            tree.visit(&rule.tree, &mut see);
        }
    }
    calls
}

/// The paths that a function's name may mean in this module.
fn own<'a>(tree: &'a Tree, name: &'a str) -> impl Iterator<Item = String> + 'a {
    let (root, rest) = name.split_once('.').map_or((name, None), |(root, rest)| (root, Some(rest)));
    let imported = tree.imports.iter().filter(move |(alias, _)| alias == root).map(move |(_, target)| {
        let target = target.join(".");
        rest.map_or_else(|| target.clone(), |rest| format!("{target}.{rest}"))
    });
    [name.to_owned(), format!("{}.{name}", tree.package)].into_iter().chain(imported)
}

fn builtin(tree: &Tree, call: &crate::syntax::Call, calls: &mut Calls) {
    let problem = |message: String| Problem::new(&tree.name, call.place, message);
    if let Some((name, why)) = REFUSED.iter().find(|(name, _)| *name == call.name) {
        calls.problems.push(problem(format!("builtin `{name}` is not supported")).hint(*why));
        return;
    }
    let Some(builtin) = builtins::find(&call.name) else {
        calls.problems.push(match nearest(&call.name) {
            Some(near) => problem(format!("function `{}` is not known", call.name))
                .hint(format!("did you mean `{near}`?")),
            None => problem(format!("builtin or function `{}` is not supported", call.name))
                .hint("it is neither a function of this policy nor a builtin that the mesh has"),
        });
        return;
    };
    let arity = usize::from(builtin.arity);
    // `f(x, y)` for `y = f(x)`: for ours it was written out before, where that could be done.
    if call.arguments == arity + 1 && builtin.added() {
        calls.problems.push(
            problem(format!("`{}` takes {arity} arguments, not {}", call.name, call.arguments))
                .hint(format!("write `result := {}(…)`", call.name)),
        );
        return;
    }
    if call.arguments != arity && call.arguments != arity + 1 {
        let message = format!("`{}` takes {arity} arguments, not {}", call.name, call.arguments);
        calls.problems.push(problem(message));
        return;
    }
    calls.builtins.insert(builtin.name);
}

/// A builtin whose name differs in little.
fn nearest(name: &str) -> Option<&'static str> {
    let close = |other: &str| {
        let (left, right) = (name.as_bytes(), other.as_bytes());
        let prefix = left.iter().zip(right).take_while(|(a, b)| a == b).count();
        let suffix = left.iter().rev().zip(right.iter().rev()).take_while(|(a, b)| a == b).count();
        let longer = left.len().max(right.len());
        longer > 3 && longer - (prefix + suffix).min(longer) <= 2
    };
    builtins::TABLE.iter().map(|builtin| builtin.name).find(|other| close(other))
}
