//! What the demo is made of: Figure 3 of the whitepaper as objects, addresses and processes.
//!
//! FE calls BE1 and BE4; BE1 calls BE2 and BE3. BE3 is outside the mesh and mandates TLS. BE1 runs in
//! two versions behind a 90/10 split, and BE4 answers some 500s.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use anyhow::bail;

pub const APP_PORT: u16 = 8080;
/// What an instance listens on: app, admin, outbound, inbound, metrics.
const PORTS: [u16; 5] = [APP_PORT, 15000, 15001, 15006, 15020];
const CLAIM_PORT: u16 = 15099;
/// One request in this many to BE4 fails.
pub const BE4_FAILS_EVERY: u64 = 10;
pub const BE3_HOST: &str = "be3.partner.example";

/// One running instance: a service, and (inside the mesh) the proxy in front of it.
pub struct Instance {
    /// Process and workload name: `be1-v2`.
    pub name: &'static str,
    pub service: &'static str,
    pub version: &'static str,
    pub calls: &'static [&'static str],
    pub fails_every: u64,
    pub meshed: bool,
    pub address: IpAddr,
}

impl Instance {
    pub fn app(&self) -> SocketAddr {
        SocketAddr::new(self.address, APP_PORT)
    }
    pub fn port(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address, port)
    }
}

pub fn instances(base: [u8; 3]) -> Vec<Instance> {
    let address = |last: u8| IpAddr::V4(Ipv4Addr::new(base[0], base[1], base[2], last));
    let be1: &[&str] = &["http://be2/", "http://be3.partner.example/"];
    let make = |name, service, version, calls, fails_every, meshed, last| Instance {
        name,
        service,
        version,
        calls,
        fails_every,
        meshed,
        address: address(last),
    };
    vec![
        make("fe", "fe", "v1", &["http://be1/", "http://be4/"], 0, true, 1),
        make("be1-v1", "be1", "v1", be1, 0, true, 2),
        make("be1-v2", "be1", "v2", be1, 0, true, 3),
        make("be2", "be2", "v1", &[], 0, true, 4),
        make("be3", "be3", "v1", &[], 0, false, 5),
        make("be4", "be4", "v1", &[], BE4_FAILS_EVERY, true, 6),
    ]
}

/// A block of loopback addresses that nobody else uses; the claim holds while this lives.
pub struct Block {
    pub base: [u8; 3],
    _claim: TcpListener,
}

/// Two demos can run side by side: each claims a block by listening on one address of it that it has no
/// other use for.
pub fn claim_block() -> anyhow::Result<Block> {
    for n in 0..64u8 {
        let base = [127, 70 + n / 8, n % 8];
        let at = |last: u8| Ipv4Addr::new(base[0], base[1], base[2], last);
        let Ok(claim) = TcpListener::bind((at(250), CLAIM_PORT)) else { continue };
        let free = (1..=6).all(|last| PORTS.iter().all(|port| TcpListener::bind((at(last), *port)).is_ok()));
        if free {
            return Ok(Block { base, _claim: claim });
        }
    }
    bail!(
        "no block of loopback addresses from 127.70.0.1 on has its ports free; is something listening on 0.0.0.0:15006 or :8080?"
    )
}

/// The objects of the demo, ordinary ones: edit the split with `weft apply` or kubectl while it runs.
pub fn objects(base: [u8; 3], be3_ca_pem: &str) -> String {
    let be3 = format!("{}.{}.{}.5", base[0], base[1], base[2]);
    let mut text = String::new();
    for (name, selector) in [
        ("fe", "app: fe"),
        ("be1", "app: be1"),
        ("be1-v1", "app: be1, version: v1"),
        ("be1-v2", "app: be1, version: v2"),
        ("be2", "app: be2"),
        ("be4", "app: be4"),
    ] {
        text.push_str(&format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  selector: {{{selector}}}\n  ports: [{{name: http, port: 80, targetPort: {APP_PORT}}}]\n---\n"
        ));
    }
    let pem: String = be3_ca_pem.lines().map(|line| format!("      {line}\n")).collect();
    text.push_str(&format!(
        "{SPLIT}---\napiVersion: weft.dev/v1\nkind: ExternalService\nmetadata: {{name: be3, namespace: default}}\nspec:\n  hosts: [{BE3_HOST}]\n  ports: [{{name: http, port: 80, protocol: http, targetPort: {APP_PORT}}}]\n  resolution: Static\n  endpoints: [{{address: {be3}}}]\n  tls:\n    mode: Originate\n    sni: {BE3_HOST}\n    ca: |\n{pem}"
    ));
    text
}

/// The split of BE1, also in `examples/split.yaml`.
pub const SPLIT: &str = include_str!("../../../../../examples/split.yaml");

#[cfg(test)]
mod tests {
    #[test]
    fn the_demo_s_objects_are_valid() {
        let text =
            super::objects([127, 70, 0], "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let (documents, problems) = weft_model::parse_text("demo.yaml", &text);
        let errors: Vec<_> = problems.iter().filter(|p| !p.message.contains("PEM")).collect();
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(documents.len(), 8);
    }
}
