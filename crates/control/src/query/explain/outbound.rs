//! The caller's side: listener, route, weights, retries, endpoint.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::header::CONNECTION;
use axum::http::{HeaderMap, HeaderValue};
use weft_routing::matcher::{Picked, apply_edits};
use weft_routing::path::{self, Slashes};
use weft_routing::table::{ClusterSlot, RoutingTable};
use weft_routing::{
    Address, ClusterChoice, ConnectionView, EditPart, Endpoint, FilterChain, Forward, HeadView, HostRewrite,
    Listener, NetworkFilter, Route, RouteAction, RouteConfig, TransportProtocol, VirtualHost, host,
};

use super::inbound::{self, Arriving};
use super::{ObjectRef, Question, Story, Target, Verdict, table, words};
use crate::snapshot::ServiceId;
use crate::translate::names;

/// RFC 9110 section 7.6.1, and what older clients send.
const HOP_BY_HOP: [&str; 6] =
    ["connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"];
/// Rules and names shown of those that did not fit.
const SHOWN: usize = 5;

type Ending = (Verdict, Option<u16>);

pub(super) fn ask(story: &mut Story<'_>, question: &Question) -> Result<Ending, String> {
    let view = table::caller(story.snapshot, &question.from);
    let table = table::table(story.snapshot, &view)?;
    let caller = Caller { question, table: &table, address: view.inbound };
    match &question.target {
        Target::Http { authority, path } => caller.http(story, authority, path),
        Target::Tls { host } => caller.tls(story, host),
        Target::Tcp { host, port } => caller.tcp(story, host, *port),
    }
}

struct Caller<'a> {
    question: &'a Question,
    table: &'a RoutingTable,
    /// Where its own proxy listens.
    address: SocketAddr,
}

impl Caller<'_> {
    fn http(&self, story: &mut Story<'_>, authority: &str, target: &str) -> Result<Ending, String> {
        let from = &self.question.from;
        let taken = self.chain(TransportProtocol::RawBuffer, None);
        let Some(NetworkFilter::Http(http)) = taken.map(|chain| &chain.filter) else {
            return Ok(closed(story, "its outbound listener takes no HTTP"));
        };
        let authority = match host::canonical(authority) {
            Ok(authority) => authority,
            Err(problem) => return Ok(refused(story, &format!("the host {authority:?}: {problem}"))),
        };
        let canonical = match path::canonical(target, Slashes::of(&http.path)) {
            Ok(canonical) => canonical,
            Err(problem) => return Ok(refused(story, &problem.to_string())),
        };
        let as_sent = target.split('?').next().unwrap_or_default();
        let form = if canonical.path == as_sent {
            String::new()
        } else {
            format!("; the path in its one form is {}", canonical.path)
        };
        let because = format!("the proxy of {from} takes what its app sends in HTTP{form}");
        story.tell("listener", names::OUTBOUND, because, None);
        let head = HeadView {
            method: &self.question.method,
            scheme: "http",
            authority: &authority,
            path: &canonical.path,
            query: canonical.query,
            headers: &self.question.headers,
            protocol: None,
            tls_presented: false,
            tls_validated: false,
        };
        let Some(bound) = self.table.routes(http.routes.key()) else {
            return Ok(closed(story, "its routes are not there"));
        };
        let config = &bound.config;
        let Some((_, vhost)) = config.vhost(head.authority) else {
            return Ok(unknown_host(story, from, config, head.authority));
        };
        let Some(found) = config.find(&head, 0) else { return Ok(no_rule(story, vhost, &head)) };
        let earlier = vhost.routes.iter().take_while(|route| !Arc::ptr_eq(route, found.route)).count();
        let passed = match earlier {
            0 => String::new(),
            1 => "; 1 rule before it does not fit".to_owned(),
            more => format!("; {more} rules before it do not fit"),
        };
        let because = format!(
            "{} is {}; {}{passed}",
            head.authority,
            called(&vhost.name),
            words::route(&found.route.matcher)
        );
        story.tell("route", &*found.route.name, because, ObjectRef::of(found.route.stamp.as_ref()));
        match &found.route.action {
            RouteAction::Forward(forward) => {
                self.forward(story, (config, vhost, found.route), forward, &head)
            }
            RouteAction::Redirect(redirect) => Ok((Verdict::Respond, Some(redirect.status.as_u16()))),
            RouteAction::Respond(direct) => Ok((Verdict::Respond, Some(direct.status.as_u16()))),
            RouteAction::NonForwarding => Ok((Verdict::None, Some(404))),
        }
    }

    fn forward(
        &self,
        story: &mut Story<'_>,
        (config, vhost, route): (&RouteConfig, &VirtualHost, &Route),
        forward: &Forward,
        head: &HeadView<'_>,
    ) -> Result<Ending, String> {
        let stamp = ObjectRef::of(route.stamp.as_ref());
        let Some(picked) = likeliest(&forward.clusters, head) else {
            let because = "the header that names the backend is missing";
            story.tell("weight", "none", because, stamp);
            return Ok((Verdict::Respond, Some(forward.cluster_not_found.as_u16())));
        };
        if let Some(shares) = shares(&forward.clusters) {
            story.tell("weight", called(picked.name()), shares, stamp.clone());
        }
        let tries = forward.retry.as_ref().map_or_else(
            || "only where the app has seen nothing of the request".to_owned(),
            |retry| format!("on {}", retry.on.words().join(", ")),
        );
        let more = forward.retry.as_ref().map_or(1, |retry| retry.retries_max);
        let timeout = match forward.timeout {
            None => "15 s to the answer's head".to_owned(),
            Some(limit) if limit.is_zero() => "no limit of time".to_owned(),
            Some(limit) => format!("{limit:?} for the whole answer"),
        };
        let (plural, because) = (if more == 1 { "y" } else { "ies" }, format!("{tries}; {timeout}"));
        story.tell("retry", format!("{more} more tr{plural}"), because, stamp.clone());
        let slot = self.table.cluster_index(picked.name()).and_then(|index| self.table.cluster(index));
        let Some(slot) = slot else {
            let because = format!("there is no backend {}", called(picked.name()));
            story.tell("endpoint", "none", because, stamp);
            return Ok((Verdict::Respond, Some(forward.cluster_not_found.as_u16())));
        };
        let Some(endpoint) = endpoint(story, slot) else { return Ok((Verdict::Respond, Some(503))) };
        // As it leaves this proxy.
        let mut headers = between_proxies(head.headers);
        let weighted =
            if let Picked::Weighted(cluster) = &picked { Some(&cluster.edits.request) } else { None };
        let mut edits =
            [weighted, Some(&route.edits.request), Some(&vhost.edits.request), Some(&config.edits.request)];
        if config.most_specific_edits_win {
            edits.reverse();
        }
        for edits in edits.into_iter().flatten() {
            apply_edits(edits, &mut headers, &|part, out| {
                if let EditPart::Text(text) = part {
                    out.extend_from_slice(text.as_bytes());
                }
            });
        }
        let authority = match &forward.host {
            HostRewrite::Literal(name) => name.to_str().unwrap_or(head.authority).to_owned(),
            _ => head.authority.to_owned(),
        };
        let path = forward.rewritten_path(route, head.path).unwrap_or_else(|| head.path.to_owned());
        self.arrive(
            story,
            slot,
            &endpoint,
            Some(Sent { authority, path, query: head.query, headers: &headers }),
        )
    }

    fn tls(&self, story: &mut Story<'_>, name: &str) -> Result<Ending, String> {
        let chain = self.chain(TransportProtocol::Tls, Some(name));
        let Some(chain) = chain.filter(|chain| matches!(chain.filter, NetworkFilter::Tcp(_))) else {
            let because = format!(
                "no ExternalService has {name:?} with protocol tls, and nothing else leaves the mesh"
            );
            story.tell("listener", "closed", because, None);
            return Ok((Verdict::None, None));
        };
        let because = format!("the name in its ClientHello is {name}; what is encrypted stays so");
        story.tell("listener", &*chain.name, because, ObjectRef::of(chain.stamp.as_ref()));
        self.bytes(story, chain)
    }

    fn tcp(&self, story: &mut Story<'_>, name: &str, port: u16) -> Result<Ending, String> {
        let Some(address) = self.address_of(story, name) else {
            let because = format!("no service is called {name}");
            story.tell("listener", "none", because, None);
            return Ok((Verdict::None, None));
        };
        let at = SocketAddr::new(address, port);
        let listener = self.table.listener_for(at).filter(|listener| !listener.bind_to_port);
        let Some((listener, chain)) = listener.and_then(|found| Some((found, first(found)?))) else {
            let because = format!("no TCP port of the mesh is at {at}: it is HTTP, or nobody's");
            story.tell("listener", "none", because, None);
            return Ok((Verdict::None, None));
        };
        let because = format!("a captured connection to {at}");
        story.tell("listener", &*listener.name, because, ObjectRef::of(listener.stamp.as_ref()));
        self.bytes(story, chain)
    }

    fn address_of(&self, story: &Story<'_>, name: &str) -> Option<std::net::IpAddr> {
        if let Ok(address) = name.parse() {
            return Some(address);
        }
        let short = name.strip_suffix(&format!(".{}", story.snapshot.zone)).unwrap_or(name);
        let (service, namespace) = short.split_once('.').unwrap_or((short, &self.question.from.namespace));
        let id = ServiceId::new(namespace, service);
        let own = story.snapshot.services.get(&id).and_then(|service| service.vip);
        own.or_else(|| story.snapshot.external_vips.get(&id).copied()).map(Into::into)
    }

    fn bytes(&self, story: &mut Story<'_>, chain: &FilterChain) -> Result<Ending, String> {
        let NetworkFilter::Tcp(tcp) = &chain.filter else {
            return Ok(closed(story, "it is no listener of bytes"));
        };
        let name = match &tcp.clusters {
            ClusterChoice::One { name, .. } => Some(name),
            ClusterChoice::Weighted { clusters, .. } => {
                clusters.iter().max_by_key(|cluster| cluster.weight).map(|cluster| &cluster.name)
            }
            ClusterChoice::Header(_) => None,
        };
        if let (Some(name), Some(shares)) = (name, shares(&tcp.clusters)) {
            story.tell("weight", called(name), shares, ObjectRef::of(chain.stamp.as_ref()));
        }
        let slot = name.and_then(|name| self.table.cluster(self.table.cluster_index(name)?));
        let Some(slot) = slot else { return Ok(closed(story, "its backend is not there")) };
        match endpoint(story, slot) {
            Some(endpoint) => self.arrive(story, slot, &endpoint, None),
            None => Ok((Verdict::None, None)),
        }
    }

    /// At the endpoint's own proxy, where it has one.
    fn arrive(
        &self,
        story: &mut Story<'_>,
        slot: &ClusterSlot,
        endpoint: &Endpoint,
        sent: Option<Sent<'_>>,
    ) -> Result<Ending, String> {
        let workload = endpoint.label("workload").zip(endpoint.label("namespace"));
        let instance = workload.and_then(|(name, namespace)| {
            story.snapshot.instances.get(&ServiceId::new(&**namespace, &**name)).cloned()
        });
        let Some(instance) = instance else {
            story.tell("policy", "none", "it is outside the mesh, where no policy of ours is enforced", None);
            return Ok((Verdict::Forward, None));
        };
        let Address::Ip(at) = endpoint.address else { return Ok((Verdict::Forward, None)) };
        let tls = slot.cluster.tls.as_ref();
        let arriving = Arriving {
            at,
            from: self.address.ip(),
            identity: tls.map(|_| {
                let ServiceId { namespace, name } = &self.question.from;
                names::identity(&story.snapshot.trust_domain, namespace, name)
            }),
            server_name: tls.and_then(|tls| tls.sni.clone()),
            method: &self.question.method,
            sent: sent.as_ref(),
        };
        inbound::ask(story, &instance, &arriving)
    }

    fn chain(&self, transport: TransportProtocol, name: Option<&str>) -> Option<&Arc<FilterChain>> {
        let app = SocketAddr::new(self.address.ip(), 40000);
        self.table.listener(names::OUTBOUND)?.find_chain(&ConnectionView {
            destination: SocketAddr::new(self.address.ip(), 15001),
            source: app,
            direct: app,
            transport,
            server_name: name,
            application_protocols: &[],
        })
    }
}

/// A request as it left the caller's proxy.
pub(super) struct Sent<'a> {
    pub authority: String,
    pub path: String,
    pub query: Option<&'a str>,
    pub headers: &'a HeaderMap,
}

fn first(listener: &Listener) -> Option<&Arc<FilterChain>> {
    listener.chains.first().or(listener.default_chain.as_ref())
}

fn closed(story: &mut Story<'_>, because: &str) -> Ending {
    story.tell("listener", "closed", because, None);
    (Verdict::None, None)
}

fn refused(story: &mut Story<'_>, because: &str) -> Ending {
    story.tell("listener", "400", format!("no proxy takes it: {because}"), None);
    (Verdict::Respond, Some(400))
}

fn unknown_host(story: &mut Story<'_>, from: &ServiceId, config: &RouteConfig, authority: &str) -> Ending {
    let known: Vec<&str> =
        config.vhosts.iter().filter_map(|vhost| vhost.domains.first()).map(|name| &**name).collect();
    let hint = match weft_model::nearest(authority, known.iter().copied()) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("{from} may call {}", words::some(&known, SHOWN)),
    };
    let because = format!("no service that {from} may hear of is called {authority:?}; {hint}");
    story.tell("route", "none", because, None);
    (Verdict::None, Some(404))
}

fn no_rule(story: &mut Story<'_>, vhost: &VirtualHost, head: &HeadView<'_>) -> Ending {
    let wanted: Vec<String> = vhost
        .routes
        .iter()
        .map(|route| format!("{} wants: {}", route.name, words::route(&route.matcher)))
        .collect();
    let because = format!(
        "{} {} fits no rule of {}; {}",
        head.method,
        head.path,
        called(&vhost.name),
        words::some(&wanted, SHOWN)
    );
    story.tell("route", "none", because, ObjectRef::of(vhost.stamp.as_ref()));
    (Verdict::None, Some(404))
}

/// A cluster or virtual host by the service and port that it is of: `NAMESPACE/NAME:PORT`.
fn called(resource: &str) -> String {
    let service = names::service_of(resource).or_else(|| names::external_of(resource));
    service.map_or_else(|| resource.to_owned(), |(service, port)| format!("{service}:{port}"))
}

/// What a caller's proxy makes of its app's headers before the route's own edits: those of one hop and those by which
/// proxies speak to each other go, and what every request gets comes.
fn between_proxies(sent: &HeaderMap) -> HeaderMap {
    let listed = |name: &str| {
        let mut lines = sent.get_all(CONNECTION).iter().filter_map(|line| line.to_str().ok());
        lines.any(|line| line.split(',').any(|word| word.trim().eq_ignore_ascii_case(name)))
    };
    let of_a_hop = |name: &str| HOP_BY_HOP.contains(&name) || listed(name);
    let of_proxies = |name: &str| {
        name.starts_with("x-envoy-") || name.starts_with("x-weft-") || name == "x-forwarded-client-cert"
    };
    let mut headers: HeaderMap = sent
        .iter()
        .filter(|(name, _)| !of_a_hop(name.as_str()) && !of_proxies(name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    headers.entry("x-request-id").or_insert(HeaderValue::from_static("00000000-0000-4000-8000-000000000000"));
    headers.insert("x-forwarded-proto", HeaderValue::from_static("http"));
    headers
}

/// The way that most requests go.
fn likeliest<'a>(clusters: &'a ClusterChoice, head: &HeadView<'_>) -> Option<Picked<'a>> {
    match clusters {
        ClusterChoice::Weighted { clusters, total } if *total > 0 => {
            clusters.iter().max_by_key(|cluster| cluster.weight).map(Picked::Weighted)
        }
        other => other.pick(Some(head), 0),
    }
}

fn shares(clusters: &ClusterChoice) -> Option<String> {
    let ClusterChoice::Weighted { clusters, total } = clusters else { return None };
    let parts: Vec<String> =
        clusters.iter().map(|cluster| format!("{} {}", called(&cluster.name), cluster.weight)).collect();
    Some(format!("of {total}: {}; the largest share is followed", parts.join(", ")))
}

/// One that serves, and why it may be that one.
fn endpoint(story: &mut Story<'_>, slot: &ClusterSlot) -> Option<Endpoint> {
    let cluster = &slot.cluster;
    let object = ObjectRef::of(cluster.stamp.as_ref());
    story.backend = Some(called(&cluster.name));
    let all: &[Arc<Endpoint>] = slot.endpoints.as_ref().map_or(&[], |endpoints| &endpoints.all);
    let serving = all.iter().filter(|one| one.health.usable()).count();
    let best = all.iter().min_by_key(|one| !one.health.usable());
    let Some(best) = best else {
        let because = format!("{} has no endpoint", called(&cluster.name));
        story.tell("endpoint", "none", because, object);
        return None;
    };
    let at = match &best.address {
        Address::Ip(at) => at.to_string(),
        Address::Name { host, port } => format!("{host}:{port}"),
        Address::Pipe(path) => path.to_string(),
    };
    let result = best.label("workload").map_or_else(|| at.clone(), |name| format!("{name} at {at}"));
    let because = match serving {
        0 => format!("none of {} is known to serve, so all are tried", all.len()),
        1 if all.len() == 1 => "it is the only one".to_owned(),
        some => format!("one of {some} that serve, of {}; which one, the load decides", all.len()),
    };
    story.tell("endpoint", result, because, object);
    story.endpoint = Some(at);
    Some((**best).clone())
}
