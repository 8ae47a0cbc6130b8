//! Findings on the rules of AccessPolicies: what can never match, and what another rule covers.
//!
//! Whether one rule covers another is answered by comparing what they say, part by part: a yes is certain, a no may
//! only mean that it is not plain. So nothing is told that does not hold.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::super::codes::{WFT0021, WFT0022, WFT0023, WFT0024};
use super::super::{Finding, View};
use crate::names;
use crate::object::Object;
use crate::spec::{
    AccessAction, AccessFrom, AccessHeader, AccessMode, AccessPolicy, AccessRule, AccessTo, TargetRef,
};

/// A text, or all that begins with it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    text: String,
    open: bool,
}

impl Pattern {
    fn of(text: &str) -> Pattern {
        match text.strip_suffix('*') {
            Some(start) => Pattern { text: start.to_owned(), open: true },
            None => Pattern { text: text.to_owned(), open: false },
        }
    }

    fn covers(&self, other: &Pattern) -> bool {
        if self.open { other.text.starts_with(&self.text) } else { self == other }
    }

    fn meets(&self, other: &Pattern) -> bool {
        self.covers(other) || other.covers(self)
    }
}

/// A policy and its object.
pub type Stated<'a> = (&'a Object, &'a AccessPolicy);

pub fn look(view: &View<'_>, policies: &[Stated<'_>], found: &mut Vec<Finding>) {
    for (object, policy) in policies {
        if policy.lets_in() && policy.rules.is_empty() {
            found.push(Finding::new(WFT0022, object, "has no rule: it lets nobody in".to_owned()));
        }
        let mut tell = |message: String| found.push(Finding::new(WFT0021, object, message));
        for (index, rule) in policy.rules.iter().enumerate() {
            never(view, object, policy, (index, rule), &mut tell);
        }
    }
    // Only those of one namespace can be about the same calls.
    let mut by_namespace: BTreeMap<&str, Vec<Stated<'_>>> = BTreeMap::new();
    for (object, policy) in policies {
        by_namespace.entry(&object.meta.namespace).or_default().push((*object, *policy));
    }
    for (namespace, policies) in by_namespace {
        covered(&Home { namespace, trust_domain: view.trust_domain }, &policies, found);
    }
}

fn never(
    view: &View<'_>,
    object: &Object,
    policy: &AccessPolicy,
    (index, rule): (usize, &AccessRule),
    tell: &mut impl FnMut(String),
) {
    let home = Home { namespace: &object.meta.namespace, trust_domain: view.trust_domain };
    for (place, from) in rule.from.iter().enumerate() {
        if home.who(from).is_some_and(|who| all_within(&who, &home.not_who(from))) {
            tell(format!("rules[{index}].from[{place}] leaves out everybody whom it names"));
        }
        let (blocks, not_blocks) = (nets(&from.ip_blocks), nets(&from.not_ip_blocks));
        let all_out = blocks.iter().all(|block| not_blocks.iter().any(|not| not.contains(block)));
        if !blocks.is_empty() && all_out {
            tell(format!("rules[{index}].from[{place}] leaves out every network that it names"));
        }
    }
    for (place, to) in rule.to.iter().enumerate() {
        let at = format!("rules[{index}].to[{place}]");
        if !to.methods.is_empty() && to.methods.iter().all(|method| to.not_methods.contains(method)) {
            tell(format!("{at} leaves out every method that it names"));
        }
        let paths = paths(to);
        if !paths.is_empty() && all_within(&paths, &patterns(&to.not_paths)) {
            tell(format!("{at} leaves out every path that it names"));
        }
        if let Some(name) = absent_and_wanted(&to.headers) {
            tell(format!("{at} wants a value of header {name}, and that it is absent"));
        }
        if !to.ports.is_empty() && !has_port(view, object, policy, &to.ports) {
            let ports: Vec<String> = to.ports.iter().map(u16::to_string).collect();
            tell(format!("{at} names port {}, which none of its targets has", ports.join(", ")));
        }
    }
}

fn absent_and_wanted(headers: &[AccessHeader]) -> Option<&str> {
    let absent = headers.iter().filter(|header| header.present == Some(false));
    let wanted = |name: &str| {
        headers.iter().any(|header| {
            header.name.eq_ignore_ascii_case(name)
                && (header.present == Some(true) || !header.values.is_empty() || !header.prefixes.is_empty())
        })
    };
    absent.map(|header| header.name.as_str()).find(|name| wanted(name))
}

/// Whether any target of the policy has any of these ports, as far as objects tell. In doubt it has.
fn has_port(view: &View<'_>, object: &Object, policy: &AccessPolicy, ports: &[u16]) -> bool {
    let namespace = object.meta.namespace.as_str();
    let mut services = view.services.iter().filter(|((ns, name), _)| {
        *ns == namespace
            && (policy.target_refs.is_empty() || policy.target_refs.iter().any(|t| t.name == *name))
    });
    // Ports that only instances know are theirs to name.
    let instances = policy.target_refs.is_empty() && view.workloads.contains_key(namespace);
    let any = services.clone().next().is_some();
    let named = services.any(|(_, service)| {
        service.ports.iter().any(|port| {
            let target = port.target_number();
            ports.contains(&port.port)
                || target.is_some_and(|number| ports.contains(&number))
                || (target.is_none() && port.target_port.is_some())
        })
    });
    named || !any || instances
}

fn covered(home: &Home<'_>, policies: &[Stated<'_>], found: &mut Vec<Finding>) {
    let rules: Vec<Vec<Rule<'_>>> = policies
        .iter()
        .map(|(_, policy)| policy.rules.iter().map(|rule| Rule::of(rule, home)).collect())
        .collect();
    for (place, (object, policy)) in policies.iter().enumerate() {
        for (index, rule) in rules[place].iter().enumerate() {
            let others = policies.iter().enumerate().flat_map(|(at, (other, says))| {
                rules[at].iter().enumerate().map(move |(number, broad)| (at, *other, *says, number, broad))
            });
            let others = others.filter(|(at, _, says, number, broad)| {
                (*at, *number) != (place, index)
                    && targets_cover(&says.target_refs, &policy.target_refs)
                    && broad.covers(rule)
            });
            let mut by_deny = None;
            let mut by_same = None;
            for (at, other, says, number, broad) in others {
                let same = (says.action, says.mode) == (policy.action, policy.mode);
                // Of two that say the same, the later one is told.
                let mutual = targets_cover(&policy.target_refs, &says.target_refs) && rule.covers(broad);
                if says.action == AccessAction::Deny && says.mode == AccessMode::Enforce && !same {
                    by_deny.get_or_insert((other, number));
                } else if same && (!mutual || (at, number) < (place, index)) {
                    by_same.get_or_insert((other, number));
                }
            }
            let by = |(other, number): (&Object, usize)| match std::ptr::eq(other, *object) {
                true => format!("rules[{number}]"),
                false => format!("{} (rules[{number}])", other.label()),
            };
            if let Some(deny) = by_deny.filter(|_| policy.action == AccessAction::Allow) {
                let message = format!("all that rules[{index}] allows is denied by {}", by(deny));
                found.push(Finding::new(WFT0023, object, message));
            } else if let Some(broad) = by_same {
                let message = format!("rules[{index}] is covered by {}", by(broad));
                found.push(Finding::new(WFT0024, object, message));
            }
        }
    }
}

fn targets_cover(broad: &[TargetRef], narrow: &[TargetRef]) -> bool {
    let within = |target: &TargetRef| {
        broad.iter().any(|other| {
            (&other.group, &other.kind, &other.name) == (&target.group, &target.kind, &target.name)
                && (other.section_name.is_none() || other.section_name == target.section_name)
        })
    };
    broad.is_empty() || (!narrow.is_empty() && narrow.iter().all(within))
}

/// A rule with its callers' names written out, which are compared with those of many others.
struct Rule<'a> {
    from: Vec<Caller>,
    to: &'a [AccessTo],
}

struct Caller {
    who: Option<Vec<Pattern>>,
    not_who: Vec<Pattern>,
    blocks: Vec<IpNet>,
    not_blocks: Vec<IpNet>,
}

impl Rule<'_> {
    fn of<'a>(rule: &'a AccessRule, home: &Home<'_>) -> Rule<'a> {
        let caller = |from: &AccessFrom| Caller {
            who: home.who(from),
            not_who: home.not_who(from),
            blocks: nets(&from.ip_blocks),
            not_blocks: nets(&from.not_ip_blocks),
        };
        Rule { from: rule.from.iter().map(caller).collect(), to: &rule.to }
    }

    fn covers(&self, narrow: &Rule<'_>) -> bool {
        let from = |from: &Caller| self.from.iter().any(|other| other.covers(from));
        let to = |to: &AccessTo| self.to.iter().any(|other| to_covers(other, to));
        (self.from.is_empty() || (!narrow.from.is_empty() && narrow.from.iter().all(from)))
            && (self.to.is_empty() || (!narrow.to.is_empty() && narrow.to.iter().all(to)))
    }
}

impl Caller {
    fn covers(&self, narrow: &Caller) -> bool {
        let named = match (&self.who, &narrow.who) {
            (None, _) => true,
            (Some(broad), Some(narrow)) => all_within(narrow, broad),
            (Some(_), None) => false,
        };
        let left_out = |not: &Pattern| {
            narrow.not_who.iter().any(|other| other.covers(not))
                || narrow.who.as_ref().is_some_and(|who| !who.iter().any(|one| one.meets(not)))
        };
        let within = |net: &IpNet| self.blocks.iter().any(|wide| wide.contains(net));
        let from = self.blocks.is_empty() || (!narrow.blocks.is_empty() && narrow.blocks.iter().all(within));
        let outside = |not: &IpNet| narrow.not_blocks.iter().any(|other| other.contains(not));
        named && from && self.not_who.iter().all(left_out) && self.not_blocks.iter().all(outside)
    }
}

/// Where a policy stands, to read its short names.
struct Home<'a> {
    namespace: &'a str,
    trust_domain: &'a str,
}

impl Home<'_> {
    /// Whom an entry names; `None`: everybody, also without identity.
    fn who(&self, from: &AccessFrom) -> Option<Vec<Pattern>> {
        let domains = from.trust_domains.iter().map(|domain| format!("spiffe://{domain}/*"));
        let mut who = self.names(&from.identities, &from.namespaces, &from.services);
        who.extend(domains.map(|domain| Pattern::of(&domain)));
        (!who.is_empty()).then_some(who)
    }

    fn not_who(&self, from: &AccessFrom) -> Vec<Pattern> {
        self.names(&from.not_identities, &from.not_namespaces, &from.not_services)
    }

    fn names(&self, identities: &[String], namespaces: &[String], services: &[String]) -> Vec<Pattern> {
        let lives = namespaces.iter().map(|ns| format!("spiffe://{}/ns/{ns}/*", self.trust_domain));
        let services = services.iter().map(|text| {
            let (namespace, name) = names::service_reference(text, self.namespace);
            names::service_identity(self.trust_domain, namespace, name)
        });
        identities.iter().cloned().chain(lives).chain(services).map(|text| Pattern::of(&text)).collect()
    }
}

fn to_covers(broad: &AccessTo, narrow: &AccessTo) -> bool {
    let within = |wide: &[String], list: &[String]| {
        wide.is_empty() || (!list.is_empty() && list.iter().all(|one| wide.contains(one)))
    };
    let (wide, narrow_paths) = (paths(broad), paths(narrow));
    let by_path = wide.is_empty() || (!narrow_paths.is_empty() && all_within(&narrow_paths, &wide));
    let not_methods = broad.not_methods.iter().all(|not| {
        narrow.not_methods.contains(not) || (!narrow.methods.is_empty() && !narrow.methods.contains(not))
    });
    let not_narrow = patterns(&narrow.not_paths);
    let not_paths = patterns(&broad.not_paths).iter().all(|not| {
        not_narrow.iter().any(|other| other.covers(not))
            || (!narrow_paths.is_empty() && !narrow_paths.iter().any(|path| path.meets(not)))
    });
    let ports = broad.ports.is_empty()
        || (!narrow.ports.is_empty() && narrow.ports.iter().all(|port| broad.ports.contains(port)));
    within(&broad.methods, &narrow.methods)
        && within(&broad.hosts, &narrow.hosts)
        && broad.headers.iter().all(|header| narrow.headers.contains(header))
        && by_path
        && not_methods
        && not_paths
        && ports
}

/// Paths, those of gRPC's methods among them.
fn paths(to: &AccessTo) -> Vec<Pattern> {
    let calls = to.grpc_methods.iter().map(|method| Pattern::of(&format!("/{method}")));
    patterns(&to.paths).into_iter().chain(calls).collect()
}

fn patterns(texts: &[String]) -> Vec<Pattern> {
    texts.iter().map(|text| Pattern::of(text)).collect()
}

fn all_within(narrow: &[Pattern], wide: &[Pattern]) -> bool {
    narrow.iter().all(|one| wide.iter().any(|other| other.covers(one)))
}

fn nets(blocks: &[String]) -> Vec<IpNet> {
    let one = |block: &String| block.parse().unwrap_or(IpNet::from(IpAddr::from([0; 4])));
    blocks.iter().map(one).collect()
}
