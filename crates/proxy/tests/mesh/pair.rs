//! The smallest mesh: a caller's proxy, a callee's, and the callee's app.

use std::net::SocketAddr;

use weft_proxy::static_config::StaticResources;

use super::{
    Ca, Proxy, free_port, id,
    xds::{Speak, cluster, http, listener, member_chain, plain_chain, to, vhost},
};

/// All that the caller `fe` is asked goes to the callee `be`, and all that it is asked to the app.
pub struct Pair {
    /// Where `fe` is asked, and where `be` is.
    pub at: SocketAddr,
    pub be_at: SocketAddr,
    pub fe: Proxy,
    pub be: Proxy,
}

impl Pair {
    pub fn start(app: SocketAddr, between: Speak) -> Pair {
        const SNI: &str = "p80.mesh.internal";
        let (ca, at, be_at) = (Ca::new(), free_port(), free_port());
        let all = |cluster: &str| http(cluster, vec![vhost("all", &["*"], vec![to("/", cluster)])], None);
        let (inbound, outbound) = ("inbound|80", "outbound|80|be.default");
        let chain = member_chain(SNI, &["h2", "http/1.1"], all(inbound));
        let be = Proxy::start(
            "be",
            StaticResources {
                identity: Some(ca.identity("be")),
                listeners: vec![listener("inbound", be_at, vec![chain])],
                clusters: vec![cluster(inbound, &[app], Speak::Http1, None)],
                ..StaticResources::default()
            },
        );
        let fe = Proxy::start(
            "fe",
            StaticResources {
                identity: Some(ca.identity("fe")),
                listeners: vec![listener("outbound", at, vec![plain_chain(all(outbound))])],
                clusters: vec![cluster(outbound, &[be_at], between, Some((SNI, &id("be"))))],
                ..StaticResources::default()
            },
        );
        Pair { at, be_at, fe, be }
    }
}
