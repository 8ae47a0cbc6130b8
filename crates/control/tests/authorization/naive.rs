//! AccessPolicies read word by word: deny, allow, refuse. It shares no code with the translation or the data plane.
//!
//! Each test has one of three answers, since what a request does not show (an identity, where there is none; a path,
//! where there are only bytes; a header that says two things) may fit or not. A deny fires on a perhaps, an allow only
//! on a yes.

use std::net::IpAddr;

use weft_model::{AccessAction, AccessFrom, AccessHeader, AccessMode, AccessPolicy, AccessRule, AccessTo};

#[derive(Clone, Debug)]
pub struct Request {
    pub id: Option<String>,
    pub ip: IpAddr,
    pub port: u16,
    /// `None`: bytes.
    pub http: Option<Http>,
}

#[derive(Clone, Debug)]
pub struct Http {
    pub method: String,
    pub host: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fits {
    No,
    Perhaps,
    Yes,
}

use Fits::{No, Perhaps, Yes};

impl From<bool> for Fits {
    fn from(truth: bool) -> Fits {
        if truth { Yes } else { No }
    }
}

fn not(fits: Fits) -> Fits {
    match fits {
        No => Yes,
        Perhaps => Perhaps,
        Yes => No,
    }
}

fn all(parts: impl IntoIterator<Item = Fits>) -> Fits {
    parts.into_iter().min().unwrap_or(Yes)
}

fn any(parts: impl IntoIterator<Item = Fits>) -> Fits {
    parts.into_iter().max().unwrap_or(No)
}

/// The verdict.
pub fn lets_in(policies: &[AccessPolicy], asked: &Request) -> bool {
    let of = |action| {
        let mine = policies.iter().filter(move |p| p.action == action && p.mode == AccessMode::Enforce);
        mine.filter(|policy| is_about(policy, asked.port)).flat_map(|policy| &policy.rules)
    };
    if of(AccessAction::Deny).any(|rule| fits(rule, asked) != No) {
        return false;
    }
    of(AccessAction::Allow).any(|rule| fits(rule, asked) == Yes)
}

/// The policies on trial that would refuse what is let in.
pub fn would_refuse(policies: &[AccessPolicy], asked: &Request) -> Vec<String> {
    let mut names = Vec::new();
    let (mut allows, mut let_in) = (Vec::new(), false);
    for (index, policy) in policies.iter().enumerate().filter(|(_, policy)| is_about(policy, asked.port)) {
        let name = format!("AccessPolicy/default/p{index}");
        let answers: Vec<Fits> = policy.rules.iter().map(|rule| fits(rule, asked)).collect();
        match (policy.action, policy.mode) {
            (AccessAction::Audit, _) | (AccessAction::Deny, AccessMode::DryRun)
                if answers.iter().any(|answer| *answer != No) =>
            {
                names.push(name);
            }
            (AccessAction::Allow, AccessMode::DryRun) => {
                let_in |= answers.contains(&Yes);
                allows.push(name);
            }
            _ => {}
        }
    }
    match allows.len() {
        _ if let_in => {}
        0 => {}
        1 => names.append(&mut allows),
        _ => names.push("none".to_owned()),
    }
    names
}

/// `api` has the ports 80 to 8080 (http), 5432 (tcp-db) and 443 to 8443 (https).
fn is_about(policy: &AccessPolicy, port: u16) -> bool {
    let section = match port {
        8080 => "http",
        5432 => "tcp-db",
        _ => "https",
    };
    policy.target_refs.is_empty()
        || policy.target_refs.iter().any(|target| {
            target.name == "api" && target.section_name.as_deref().is_none_or(|name| name == section)
        })
}

fn fits(rule: &AccessRule, asked: &Request) -> Fits {
    let from = rule.from.iter().map(|from| caller(from, asked));
    let to = rule.to.iter().map(|to| call(to, asked));
    all([if rule.from.is_empty() { Yes } else { any(from) }, if rule.to.is_empty() { Yes } else { any(to) }])
}

fn caller(from: &AccessFrom, asked: &Request) -> Fits {
    let full = |service: &String| match service.split_once('/') {
        Some((namespace, name)) => format!("spiffe://mesh.internal/ns/{namespace}/sa/{name}"),
        None => format!("spiffe://mesh.internal/ns/default/sa/{service}"),
    };
    let is = |identities: &[String], namespaces: &[String], services: &[String], domains: &[String]| {
        let Some(id) = &asked.id else { return Perhaps };
        let (domain, path) = id.strip_prefix("spiffe://").unwrap().split_once('/').unwrap();
        let lives = path.split('/').nth(1).filter(|_| domain == "mesh.internal" && path.starts_with("ns/"));
        let by_identity = identities.iter().any(|wanted| match wanted.strip_suffix("/*") {
            Some(above) => id.strip_prefix(above).is_some_and(|rest| rest.starts_with('/')),
            None => id == wanted,
        });
        let found = by_identity
            || namespaces.iter().any(|namespace| lives == Some(namespace.as_str()))
            || services.iter().any(|service| *id == full(service))
            || domains.iter().any(|wanted| wanted == domain);
        Fits::from(found)
    };
    let within = |blocks: &[String]| {
        Fits::from(blocks.iter().any(|block| block.parse::<ipnet::IpNet>().unwrap().contains(&asked.ip)))
    };
    let names = [&from.identities, &from.namespaces, &from.services, &from.trust_domains];
    let not_names = [&from.not_identities, &from.not_namespaces, &from.not_services];
    let mut parts = Vec::new();
    if names.iter().any(|list| !list.is_empty()) {
        parts.push(is(&from.identities, &from.namespaces, &from.services, &from.trust_domains));
    }
    if not_names.iter().any(|list| !list.is_empty()) {
        parts.push(not(is(&from.not_identities, &from.not_namespaces, &from.not_services, &[])));
    }
    if !from.ip_blocks.is_empty() {
        parts.push(within(&from.ip_blocks));
    }
    if !from.not_ip_blocks.is_empty() {
        parts.push(not(within(&from.not_ip_blocks)));
    }
    all(parts)
}

fn call(to: &AccessTo, asked: &Request) -> Fits {
    let mut parts = Vec::new();
    if !to.ports.is_empty() {
        let outside = match asked.port {
            8080 => 80,
            8443 => 443,
            port => port,
        };
        parts.push(Fits::from(to.ports.contains(&asked.port) || to.ports.contains(&outside)));
    }
    let mut of_http = |says: bool, test: &dyn Fn(&Http) -> Fits| {
        if says {
            parts.push(asked.http.as_ref().map_or(Perhaps, test));
        }
    };
    of_http(!to.methods.is_empty(), &|http| to.methods.contains(&http.method).into());
    of_http(!to.not_methods.is_empty(), &|http| not(to.not_methods.contains(&http.method).into()));
    of_http(!to.paths.is_empty(), &|http| any(to.paths.iter().map(|path| is_path(path, &http.path))));
    of_http(!to.not_paths.is_empty(), &|http| {
        not(any(to.not_paths.iter().map(|path| is_path(path, &http.path))))
    });
    of_http(!to.grpc_methods.is_empty(), &|http| {
        any(to.grpc_methods.iter().map(|method| is_path(&format!("/{method}"), &http.path)))
    });
    of_http(!to.hosts.is_empty(), &|http| {
        let host = http.host.split(':').next().unwrap();
        let is = |wanted: &String| match wanted.strip_prefix('*') {
            Some(end) => host.len() > end.len() && host.ends_with(end),
            None => host == wanted,
        };
        to.hosts.iter().any(is).into()
    });
    for wanted in &to.headers {
        of_http(true, &|http| header(wanted, http));
    }
    all(parts)
}

/// With and without parameters: two paths that may differ.
fn is_path(wanted: &str, path: &str) -> Fits {
    let plain: Vec<&str> = path.split('/').map(|element| element.split(';').next().unwrap()).collect();
    let is = |path: &str| match wanted.strip_suffix('*') {
        Some(start) => path.starts_with(start),
        None => path == wanted,
    };
    match (is(path), is(&plain.join("/"))) {
        (true, true) => Yes,
        (false, false) => No,
        _ => Perhaps,
    }
}

fn header(wanted: &AccessHeader, http: &Http) -> Fits {
    let named = http.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(&wanted.name));
    let lines: Vec<&str> = named.map(|(_, value)| value.as_str()).collect();
    if let Some(present) = wanted.present {
        return (lines.is_empty() != present).into();
    }
    let has = |values: &[String], prefixes: &[String]| {
        let value = |text: &str| values.iter().any(|value| value == text);
        let start = |text: &str| prefixes.iter().any(|start| text.starts_with(start.as_str()));
        let whole = |line: &&str| value(line) || start(line) && !line.contains(',');
        let part = |line: &&str| line.split(',').map(str::trim).any(|text| value(text) || start(text));
        match lines.is_empty() {
            true => No,
            false if lines.iter().all(whole) => Yes,
            false if lines.iter().any(|line| whole(line) || part(line)) => Perhaps,
            false => No,
        }
    };
    let mut parts = Vec::new();
    if !(wanted.values.is_empty() && wanted.prefixes.is_empty()) {
        parts.push(has(&wanted.values, &wanted.prefixes));
    }
    if !wanted.not_values.is_empty() {
        parts.push(not(has(&wanted.not_values, &[])));
    }
    all(parts)
}
