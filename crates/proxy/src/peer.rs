//! The other end of one connection: who it is, where it came in, and what its requests share.
//!
//! Strings are made here, once a connection; a request only copies handles.

use std::{
    cell::{Cell, RefCell},
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use http::HeaderValue;
use weft_identity::tls::peer_id;
use weft_routing::{
    DownstreamTls, FilterChain, HttpConfig, Listener, NetworkFilter, Rbac, Route, authorize,
    table::BoundRoutes,
};
use weft_telemetry::buckets::{SeriesId, SeriesKey};
use weft_wire::proxy_protocol::Addresses;

use crate::{
    access_log::AccessLog,
    connections::Listed,
    drain::Drain,
    live::{ClusterLabels, Live},
    meters::ListenerMeters,
    overload::connections::Slot,
    series::Counted,
    trials::UNKNOWN_CALLER,
    worker::{Direction, Role, Worker},
};

/// What is known of a connection, for all of its requests.
pub struct Peer {
    pub worker: Rc<Worker>,
    /// The connection's other end.
    pub direct: SocketAddr,
    /// For whom it is, as its PROXY header says; few have one, and each that is idle pays for what it could hold.
    pub told: Option<Box<Addresses>>,
    pub local: SocketAddr,
    /// Where the caller wanted to go before a redirect, else `local`.
    pub destination: SocketAddr,
    pub server_name: Option<String>,
    /// The verified SPIFFE id.
    pub principal: Option<String>,
    /// The end of the certificate that says so: whoever has a newer one is asked to come with that.
    pub expires: Option<Instant>,
    /// `NS/NAME` of the verified caller, else empty.
    caller: Rc<str>,
    pub tls: &'static str,
    pub tls_version: &'static str,
    /// Ready to be sent to the app.
    pub client_cert: Option<HeaderValue>,
    pub direction: Direction,
    /// The switch that ends this connection.
    pub drain: Rc<Drain>,
    pub meters: Rc<ListenerMeters>,
    pub access_logs: Vec<Rc<AccessLog>>,
    pub open_requests: Rc<Cell<u32>>,
    /// Its place among the open connections, for as long as anything of it lives.
    pub slot: Option<Slot>,
    /// Its entry in the process's list.
    pub listed: Option<Listed>,
    /// Of HTTP, once it is known.
    pub protocol: Cell<&'static str>,
    /// The connection says that it is a check of a TCP service.
    pub checks_only: bool,
    listener: Arc<str>,
    chain: Arc<str>,
    /// What the chain asked of the client.
    terms: Option<Arc<DownstreamTls>>,
    view: RefCell<Option<Rc<ChainView>>>,
}

/// A chain's HTTP settings as one table has them.
pub struct ChainView {
    pub live: Rc<Live>,
    pub config: Arc<HttpConfig>,
    pub routes: Arc<BoundRoutes>,
}

impl Peer {
    /// A peer of whom nothing is known yet but where it came in.
    pub fn new(
        worker: &Rc<Worker>,
        role: Role,
        listener: &Listener,
        chain: &FilterChain,
        meters: Rc<ListenerMeters>,
    ) -> Peer {
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        Peer {
            access_logs: access_logs(worker, chain),
            direct: nowhere,
            told: None,
            local: nowhere,
            destination: nowhere,
            server_name: None,
            principal: None,
            expires: None,
            caller: worker.series.borrow_mut().caller(""),
            tls: "none",
            tls_version: "",
            client_cert: None,
            direction: match role {
                Role::Inbound => Direction::Inbound,
                _ if *listener.name == *"inbound" => Direction::Inbound,
                _ => Direction::Outbound,
            },
            drain: Rc::clone(worker.drain(role)),
            meters,
            open_requests: Rc::default(),
            slot: None,
            listed: None,
            protocol: Cell::new("HTTP/1.1"),
            checks_only: false,
            listener: Arc::clone(&listener.name),
            chain: Arc::clone(&chain.name),
            terms: chain.tls.clone(),
            view: RefCell::default(),
            worker: Rc::clone(worker),
        }
    }

    pub fn on_tls(&mut self, session: &rustls::ServerConnection) {
        self.tls = "tls";
        self.tls_version = match session.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "",
        };
        if let Some(name) = session.server_name() {
            self.server_name = Some(name.to_ascii_lowercase());
        }
        let Some(Ok(id)) = session.peer_certificates().map(peer_id) else {
            return;
        };
        self.tls = "mtls";
        if let (Some(namespace), Some(name)) = (id.namespace(), id.service_account()) {
            self.caller = self.worker.series.borrow_mut().caller(&format!("{namespace}/{name}"));
        }
        let own = self.worker.credentials();
        let by = own.as_ref().map_or("", |own| own.svid.id().as_str());
        self.client_cert = HeaderValue::try_from(format!("By={by};URI={}", id.as_str())).ok();
        self.principal = Some(id.as_str().to_owned());
    }

    /// The chain as the newest table has it; `None` when it is gone, and with it the right to be served.
    pub fn view(&self) -> Option<Rc<ChainView>> {
        let live = self.worker.live();
        if let Some(view) = &*self.view.borrow()
            && view.live.generation() == live.generation()
        {
            return Some(Rc::clone(view));
        }
        let view = self.renewed_view(live).map(Rc::new);
        self.view.replace(view.clone());
        view
    }

    #[cold]
    fn renewed_view(&self, live: Rc<Live>) -> Option<ChainView> {
        let chain = self.chain_in(&live).filter(|chain| self.permitted(chain))?;
        let NetworkFilter::Http(config) = &chain.filter else { return None };
        let routes = Arc::clone(live.table().routes(config.routes.key())?);
        Some(ChainView { config: Arc::clone(config), routes, live })
    }

    /// The chain's network policies, before a byte goes on.
    pub fn admitted(&self, chain: &FilterChain) -> bool {
        let permitted = self.permitted(chain);
        if permitted {
            for shadow in chain.network_rbac.iter().filter_map(|filter| filter.shadow.as_ref()) {
                self.on_trial(shadow, &self.policy_input(None));
            }
        }
        permitted
    }

    /// The same without a word of rules on trial.
    fn permitted(&self, chain: &FilterChain) -> bool {
        chain.network_rbac.iter().all(|filter| {
            let input = self.policy_input(None);
            let Some(rules) = &filter.rules else { return true };
            let verdict = authorize::decide(rules, &input);
            if !verdict.allow {
                tracing::info!(
                    remote = %self.remote(),
                    principal = self.principal.as_deref().unwrap_or(""),
                    policy = verdict.policy_name().unwrap_or("none allows it"),
                    "a connection is denied"
                );
            }
            verdict.allow
        })
    }

    /// Waits until a newer table would not admit this connection; for bytes, whose policies were asked only once.
    pub async fn forbidden(&self) {
        loop {
            let changed = self.worker.tables.notified();
            let admitted = {
                let live = self.worker.live();
                self.chain_in(&live).is_some_and(|chain| self.permitted(chain))
            };
            if !admitted {
                return;
            }
            changed.await;
        }
    }

    fn chain_in<'a>(&self, live: &'a Live) -> Option<&'a FilterChain> {
        let listener = live.table().listener(&self.listener)?;
        let mut chains = listener.chains.iter().chain(&listener.default_chain).map(|chain| &**chain);
        let chain = chains.find(|chain| chain.name == self.chain)?;
        chain.keeps(self.terms.as_ref(), self.remote().ip(), self.direct.ip()).then_some(chain)
    }

    pub fn listener_name(&self) -> &str {
        &self.listener
    }

    /// For whom the connection is: its other end, or whom its PROXY header names.
    pub fn remote(&self) -> SocketAddr {
        self.told.as_ref().map_or(self.direct, |told| told.source)
    }

    /// Where the caller wanted to go before it was redirected here.
    pub fn original(&self) -> Option<SocketAddr> {
        (self.destination != self.local).then_some(self.destination)
    }

    /// Rules on trial: what passes and they would refuse is counted by policy and caller.
    #[cold]
    pub fn on_trial(&self, rules: &Rbac, input: &authorize::PolicyInput<'_>) {
        let policies = authorize::would_refuse(rules, input);
        if policies.is_empty() {
            return;
        }
        let worker = &self.worker;
        let caller = match (&*self.caller, self.principal.as_deref()) {
            ("", None) => UNKNOWN_CALLER,
            // Of other trust domains, whose names need not be as ours.
            ("", Some(principal)) => principal,
            (caller, _) => caller,
        };
        let mut trials = worker.trials.borrow_mut();
        let mut shard = worker.shard.borrow_mut();
        shard.add(self.meters.shadow_denied, 1);
        for policy in policies {
            shard.add(trials.counter(&worker.settings.registry, policy, caller), 1);
            if let Some(left_out) = trials.line(worker.clock()) {
                tracing::info!(remote = %self.remote(), caller, policy, left_out, "on trial: would be denied");
            }
        }
    }

    pub fn policy_input<'a>(
        &'a self,
        head: Option<&'a weft_routing::HeadView<'a>>,
    ) -> authorize::PolicyInput<'a> {
        authorize::PolicyInput {
            head,
            principal: self.principal.as_deref(),
            authenticated: self.principal.is_some(),
            direct_ip: self.direct.ip(),
            source_ip: self.remote().ip(),
            remote_ip: self.remote().ip(),
            destination_ip: self.destination.ip(),
            destination_port: self.destination.port(),
            server_name: self.server_name.as_deref(),
        }
    }

    /// Where a request is measured, by the rule of [`crate::record`]. `callee_counts`: a member's proxy may have read it.
    pub fn series(
        &self,
        route: Option<&Arc<Route>>,
        cluster: Option<&ClusterLabels>,
        callee_counts: bool,
    ) -> Option<SeriesId> {
        let outside = cluster.and_then(|cluster| match &cluster.external {
            Some(service) => Some((service, cluster.tls.then_some("tls"))),
            None if callee_counts => None,
            None => Some((cluster.member.as_ref()?, cluster.tls.then_some("mtls"))),
        });
        let own = self.direction == Direction::Outbound;
        let counted = match outside {
            None if own => return None,
            Some((_, tls)) if own => {
                let cluster = cluster.map(|cluster| &cluster.name);
                Counted { caller: None, tls: tls.unwrap_or("none"), route, cluster }
            }
            _ => Counted { caller: Some(&self.caller), tls: self.tls, route, cluster: None },
        };
        if let Some(known) = self.worker.series.borrow().get(counted) {
            return Some(known);
        }
        let key = self.series_key(counted, outside.map_or("", |(service, _)| service));
        let id = self.worker.window.borrow_mut().series(key);
        self.worker.series.borrow_mut().learn(counted, id);
        Some(id)
    }

    #[cold]
    fn series_key(&self, counted: Counted<'_>, outside: &str) -> SeriesKey {
        let settings = &self.worker.settings;
        let route = counted.route.map_or_else(String::new, |route| route.name.to_string());
        let tls = counted.tls.to_owned();
        match counted.caller {
            None => SeriesKey {
                caller: settings.service.to_string(),
                service: outside.to_owned(),
                version: String::new(),
                route,
                tls,
                direction: "external".to_owned(),
            },
            Some(caller) => SeriesKey {
                caller: caller.to_string(),
                service: settings.service.to_string(),
                version: settings.version.to_string(),
                route,
                tls,
                direction: "inbound".to_owned(),
            },
        }
    }
}

fn access_logs(worker: &Worker, chain: &FilterChain) -> Vec<Rc<AccessLog>> {
    match &chain.filter {
        NetworkFilter::Http(config) => worker.access_logs.open(&config.access_log),
        NetworkFilter::Tcp(config) => worker.access_logs.open(&config.access_log),
    }
}
