//! The callee's side: which policy lets the caller in, or which keeps it out.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::http::{HeaderMap, Method};
use weft_model::{Kind, ProxyKind};
use weft_routing::authorize::{self, PolicyInput};
use weft_routing::path::{self, Slashes};
use weft_routing::{
    ConnectionView, FilterChain, HeadView, HttpFilter, NetworkFilter, Permission, Policy, Principal, Rbac,
    RbacAction, TransportProtocol,
};

use super::outbound::Sent;
use super::{ObjectRef, Story, Verdict, table, words};
use crate::snapshot::Instance;
use crate::translate::names;

/// Policies shown of those that do not let it in.
const SHOWN: usize = 5;
/// The policy that stands for what the mesh allows where nobody says anything.
const MESH_DEFAULT: &str = "Mesh";
/// The one that there is.
const MESH_NAME: &str = "default";

type Ending = (Verdict, Option<u16>);

/// A connection as it comes to an endpoint's proxy.
pub(super) struct Arriving<'a> {
    /// Where it goes to.
    pub at: SocketAddr,
    /// Where it comes from.
    pub from: IpAddr,
    /// What its certificate says; `None` in the clear.
    pub identity: Option<String>,
    /// The name in its ClientHello.
    pub server_name: Option<Arc<str>>,
    pub method: &'a Method,
    /// The request; `None` for bytes.
    pub sent: Option<&'a Sent<'a>>,
}

pub(super) fn ask(
    story: &mut Story<'_>,
    instance: &Instance,
    arriving: &Arriving<'_>,
) -> Result<Ending, String> {
    if instance.inbound_port.is_none() {
        let because = format!("no proxy stands before {}, so no policy is enforced", instance.name);
        story.tell("policy", "none", because, None);
        return Ok((Verdict::Forward, None));
    }
    let table = table::table(story.snapshot, &table::of(instance))?;
    let source = SocketAddr::new(arriving.from, 40000);
    let tls = arriving.identity.is_some();
    let connection = ConnectionView {
        destination: arriving.at,
        source,
        direct: source,
        transport: if tls { TransportProtocol::Tls } else { TransportProtocol::RawBuffer },
        server_name: arriving.server_name.as_deref(),
        application_protocols: &[],
    };
    let chain = table.listener(names::INBOUND).and_then(|listener| listener.find_chain(&connection));
    let Some(chain) = chain else {
        let how = if tls { "mTLS" } else { "the clear" };
        let because = format!("the proxy of {} takes nothing in {how} for this port", instance.name);
        story.tell("policy", "closed", because, None);
        return Ok((Verdict::Deny, arriving.sent.map(|_| 503)));
    };
    let path = match (&chain.filter, arriving.sent) {
        (NetworkFilter::Http(http), Some(sent)) => match path::canonical(&sent.path, Slashes::of(&http.path))
        {
            Ok(canonical) => canonical.path.into_owned(),
            Err(problem) => {
                let because = format!("the proxy of {} refuses it: {problem}", instance.name);
                story.tell("policy", "400", because, ObjectRef::of(chain.stamp.as_ref()));
                return Ok((Verdict::Respond, Some(400)));
            }
        },
        _ => String::new(),
    };
    // As the callee's listener has it: an app may read `x_role` as `x-role`.
    let headers: HeaderMap = arriving
        .sent
        .iter()
        .flat_map(|sent| sent.headers)
        .filter(|(name, _)| !name.as_str().contains('_'))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let head = arriving.sent.map(|sent| HeadView {
        method: arriving.method,
        scheme: if tls { "https" } else { "http" },
        authority: &sent.authority,
        path: &path,
        query: sent.query,
        headers: &headers,
        protocol: None,
        tls_presented: tls,
        tls_validated: tls,
    });
    let input = PolicyInput {
        head: head.as_ref().filter(|_| matches!(chain.filter, NetworkFilter::Http(_))),
        principal: arriving.identity.as_deref(),
        authenticated: tls,
        direct_ip: arriving.from,
        source_ip: arriving.from,
        remote_ip: arriving.from,
        destination_ip: arriving.at.ip(),
        destination_port: arriving.at.port(),
        server_name: arriving.server_name.as_deref(),
    };
    let status = arriving.sent.map(|_| 403);
    for rules in rules(chain) {
        let verdict = authorize::decide(&rules, &input);
        let matched = verdict.policy.map(|policy| (told(&policy.name), object(story, policy)));
        match (verdict.allow, rules.action, matched) {
            (false, _, Some((name, object))) => {
                story.tell("policy", "deny", format!("{name} refuses it{}", by(instance)), object);
                return Ok((Verdict::Deny, status));
            }
            (false, _, None) => {
                let because = nobody_allows(&rules, &input, arriving, instance);
                story.tell("policy", "deny", because, mesh(story));
                return Ok((Verdict::Deny, status));
            }
            (true, RbacAction::Allow, Some((name, object))) => {
                let who = arriving.identity.as_deref().unwrap_or("whoever connects in the clear");
                let because = format!("{name} lets {who} in{}", by(instance));
                story.tell("policy", "allow", because, object);
            }
            (true, ..) => {}
        }
    }
    Ok((Verdict::Forward, None))
}

/// The filters that decide, in order.
fn rules(chain: &FilterChain) -> Vec<Arc<Rbac>> {
    match &chain.filter {
        NetworkFilter::Http(http) => {
            http.filters.iter().filter_map(HttpFilter::rbac).filter_map(|rbac| rbac.rules.clone()).collect()
        }
        NetworkFilter::Tcp(_) => chain.network_rbac.iter().filter_map(|rbac| rbac.rules.clone()).collect(),
    }
}

fn by(instance: &Instance) -> &'static str {
    match instance.proxy {
        // What it can't tell it refuses (WFT0922), and paths that it may read otherwise.
        ProxyKind::Envoy => " (as a Weft proxy decides; the Envoy there may be stricter, see WFT0922)",
        _ => "",
    }
}

/// The name of a policy as people write it: `AccessPolicy NS/NAME, rule 0`.
fn told(name: &str) -> String {
    let Some((kind, rest)) = name.split_once('/') else { return name.to_owned() };
    if kind == MESH_DEFAULT {
        return "the Mesh's default".to_owned();
    }
    match rest.split_once('#') {
        Some((object, rule)) => format!("{kind} {object}, rule {rule},"),
        None => format!("{kind} {rest}"),
    }
}

fn object(story: &Story<'_>, policy: &Policy) -> Option<ObjectRef> {
    let (kind, rest) = policy.name.split_once('/')?;
    if kind == MESH_DEFAULT {
        return mesh(story);
    }
    let (namespace, rest) = rest.split_once('/')?;
    let (name, rule) = rest.split_once('#').unwrap_or((rest, "0"));
    let known = Kind::all().iter().find(|one| one.info().name == kind)?;
    let found = story.snapshot.object(*known, namespace, name)?;
    Some(ObjectRef {
        kind: kind.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        field: format!("spec.rules[{rule}]"),
        revision: found.revision,
    })
}

fn mesh(story: &Story<'_>) -> Option<ObjectRef> {
    let found = story.snapshot.object(Kind::Mesh, "", MESH_NAME)?;
    Some(ObjectRef {
        kind: MESH_DEFAULT.to_owned(),
        namespace: String::new(),
        name: MESH_NAME.to_owned(),
        field: "spec.authorization.default".to_owned(),
        revision: found.revision,
    })
}

/// Why each of the policies that let somebody in does not let this one in.
fn nobody_allows(
    rules: &Rbac,
    input: &PolicyInput<'_>,
    arriving: &Arriving<'_>,
    instance: &Instance,
) -> String {
    let who = arriving.identity.as_deref().unwrap_or("a caller in the clear");
    let service = format!("{}/{}", instance.namespace, instance.service);
    if rules.policies.is_empty() {
        return format!("no policy lets anybody call {service}, and the default is deny{}", by(instance));
    }
    let reasons: Vec<String> = rules
        .policies
        .iter()
        .map(|policy| {
            let who_fits = fits(Policy { permissions: vec![Permission::Any], ..policy.clone() }, input);
            let what_fits = fits(Policy { principals: vec![Principal::Any], ..policy.clone() }, input);
            let why = match (who_fits, what_fits) {
                (false, true) => "is for other callers",
                (true, false) => "is for other requests",
                _ => "is for other callers and other requests",
            };
            format!("{} {why}", told(&policy.name).trim_end_matches(','))
        })
        .collect();
    format!("nothing lets {who} call {service} so: {}{}", words::some(&reasons, SHOWN), by(instance))
}

fn fits(policy: Policy, input: &PolicyInput<'_>) -> bool {
    authorize::decide(&Rbac { action: RbacAction::Allow, policies: vec![policy] }, input).allow
}
