//! Which of a virtual host's routes may take a path, without asking each of them.
//!
//! The meaning stays Envoy's: the first route in order that fits. The index only leaves out routes whose
//! path cannot fit; those that may are asked in their order, so no request asks more routes than a walk
//! over all of them would. It costs a pass over the path's bytes and a look-up for each length that a
//! prefix has, however many routes there are.
//!
//! Texts are known by a hash alone: two with the same hash share a chain, and the route's own matcher
//! decides. The hash has no secret: what it holds comes from the configuration, and a request that hits
//! the hash of another text only has one more route asked.
//!
//! Routes that cannot be told apart by their path (the same prefix with other headers, patterns without
//! literal text in front, comparisons that ignore case) are still asked one after the other.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use smallvec::SmallVec;

use super::HeadView;
use crate::types::{PathMatch, Route, RouteMatch};

#[cfg(test)]
mod tests;

/// Up to so many routes are asked one by one, which is as quick.
const LINEAR_MAX: usize = 8;
/// No route.
const NONE: u32 = u32::MAX;

type ByHash = HashMap<u64, u32, foldhash::fast::RandomState>;

/// Chains of routes by what their paths must be or begin with. Empty for few routes.
#[derive(Debug, Clone)]
pub(crate) struct RouteIndex {
    /// The first route of the chain whose paths are this.
    exact: ByHash,
    /// No exact path is longer.
    exact_longest: usize,
    /// The first route of the chain whose paths begin with this.
    prefixes: ByHash,
    /// The lengths of those, each once, the shortest first.
    lengths: Vec<usize>,
    /// The first of the routes that any path may fit.
    rest: u32,
    /// The next route of the same chain; each route is in one.
    next: Vec<u32>,
}

impl Default for RouteIndex {
    fn default() -> Self {
        RouteIndex {
            exact: ByHash::default(),
            exact_longest: 0,
            prefixes: ByHash::default(),
            lengths: Vec::new(),
            rest: NONE,
            next: Vec::new(),
        }
    }
}

/// What a path must have for a route to take it.
enum Need<'a> {
    Exact(&'a str),
    Prefix(&'a str),
    Nothing,
}

impl RouteIndex {
    pub(crate) fn new(routes: &[Arc<Route>]) -> RouteIndex {
        let mut index = RouteIndex::default();
        // More routes than a u32 can number do not fit into a resource.
        let Ok(count) = u32::try_from(routes.len()) else { return index };
        if routes.len() <= LINEAR_MAX {
            return index;
        }
        index.next = vec![NONE; routes.len()];
        let mut lengths = BTreeSet::new();
        // From the last to the first, so that each becomes the head of its chain.
        for ((at, route), next) in (0..count).zip(routes).zip(&mut index.next).rev() {
            let head = match need(&route.matcher) {
                Need::Exact(path) => {
                    index.exact_longest = index.exact_longest.max(path.len());
                    index.exact.entry(extended(SEED, path.as_bytes())).or_insert(NONE)
                }
                Need::Prefix(prefix) => {
                    lengths.insert(prefix.len());
                    index.prefixes.entry(extended(SEED, prefix.as_bytes())).or_insert(NONE)
                }
                Need::Nothing => &mut index.rest,
            };
            *next = std::mem::replace(head, at);
        }
        index.lengths = lengths.into_iter().collect();
        index
    }

    /// The first of `routes` that fits; they are those that the index was made of.
    pub(super) fn find(&self, routes: &[Arc<Route>], head: &HeadView<'_>, random: u64) -> Option<usize> {
        let fits = |route: &Arc<Route>| route.matcher.matches(head, random);
        if self.next.is_empty() {
            return routes.iter().position(fits);
        }
        let mut chains = self.chains(head.path.as_bytes());
        loop {
            let first = chains.iter_mut().min()?;
            let at = *first as usize;
            if fits(routes.get(at)?) {
                return Some(at);
            }
            *first = self.next.get(at).copied().unwrap_or(NONE);
        }
    }

    /// The heads of the chains that may fit this path; `NONE` is no route's number.
    fn chains(&self, path: &[u8]) -> SmallVec<[u32; 16]> {
        let mut chains = SmallVec::new();
        let (mut hash, mut done) = (SEED, 0);
        for length in &self.lengths {
            let Some(part) = path.get(done..*length) else { break };
            (hash, done) = (extended(hash, part), *length);
            chains.extend(self.prefixes.get(&hash).copied());
        }
        if path.len() <= self.exact_longest {
            let hash = extended(hash, path.get(done..).unwrap_or_default());
            chains.extend(self.exact.get(&hash).copied());
        }
        chains.push(self.rest);
        chains
    }
}

fn need(matcher: &RouteMatch) -> Need<'_> {
    match &matcher.path {
        _ if matcher.ignore_case => Need::Nothing,
        PathMatch::Exact(path) => Need::Exact(path),
        PathMatch::Prefix(prefix) | PathMatch::SeparatedPrefix(prefix) => Need::Prefix(prefix),
        PathMatch::Regex(regex) => match literal_start(regex.as_str()) {
            "" => Need::Nothing,
            start => Need::Prefix(start),
        },
        PathMatch::Connect => Need::Nothing,
    }
}

/// The text that all paths of an anchored pattern begin with, as far as it is plain to see.
fn literal_start(pattern: &str) -> &str {
    let Some(pattern) = pattern.strip_prefix(r"\A(?:").and_then(|rest| rest.strip_suffix(r")\z")) else {
        return "";
    };
    // Another branch may begin otherwise, a flag may change what letters and blanks mean.
    if pattern.contains('|') || pattern.contains("(?") {
        return "";
    }
    let literal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'~' | b'%');
    let end = pattern.bytes().position(|byte| !literal(byte)).unwrap_or(pattern.len());
    // `ab?`: only the `a` must be there.
    let optional = matches!(pattern.as_bytes().get(end), Some(b'?' | b'*' | b'{'));
    pattern.get(..end - usize::from(optional && end > 0)).unwrap_or_default()
}

/// FNV-1a, since the hash of a text is then a step on the way to that of a longer one.
const SEED: u64 = 0xcbf2_9ce4_8422_2325;

fn extended(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
