//! A member's inbound port in STRICT mode before an [`Origin`], a CA whose keys the test holds, and `openssl` as the
//! foreign peer that knocks.

use std::{
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use weft_identity::{Issuer, IssuerPem, PrivateKey, SpiffeId, Svid, TrustDomain};
use weft_proxy::static_config::StaticResources;
use weft_testkit::peers;

use crate::{
    mesh::{
        Proxy, get, id,
        xds::{Speak, allow, cluster, http, listener, member_chain, tcp, to, vhost},
    },
    origin::{Origin, addresses},
};

pub const WEB: &str = "p8080.mesh.internal";
pub const TCP: &str = "p5432.mesh.internal";
const HELLO: &str = "GET /x HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";

/// `be` behind its proxy; only `fe` may call it.
pub struct Member {
    pub proxy: Proxy,
    pub inbound: SocketAddr,
    pub origin: Origin,
    pub issuer: Issuer,
    /// `chain.pem`, `key.pem` and `bundle.pem` of each service asked for, and the CA's `intermediate.pem`.
    pub folder: tempfile::TempDir,
}

impl Member {
    pub async fn start(number: u8) -> Member {
        let trust_domain = TrustDomain::new("mesh.internal").unwrap();
        let (issuer, pem) = Issuer::create(&trust_domain, SystemTime::now()).unwrap();
        let origin = Origin::start().await;
        let inbound = addresses(number, 1)[0];
        let policies = Some(vec![allow("AccessPolicy/default/fe", &[&id("fe")], None)]);
        let web = http("inbound|8080", vec![vhost("all", &["*"], vec![to("/", "inbound|8080")])], policies);
        let chains =
            vec![member_chain(WEB, &["h2", "http/1.1"], web), member_chain(TCP, &[], tcp("inbound|5432"))];
        let be = svid(&issuer, "be");
        let proxy = Proxy::start(
            "be",
            StaticResources {
                listeners: vec![listener("inbound", inbound, chains)],
                clusters: vec![
                    cluster("inbound|8080", &[origin.address], Speak::Http1, None),
                    cluster("inbound|5432", &[origin.address], Speak::Tcp, None),
                ],
                identity: Some((be, issuer.bundle().clone())),
                ..StaticResources::default()
            },
        );
        let folder = tempfile::tempdir().unwrap();
        write_ca(folder.path(), &pem);
        for service in ["fe", "stranger"] {
            svid(&issuer, service).write(issuer.bundle(), &folder.path().join(service)).unwrap();
        }
        Member { proxy, inbound, origin, issuer, folder }
    }

    pub fn svid(&self, service: &str) -> Svid {
        svid(&self.issuer, service)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the proxy has counted as failed handshakes, and as connections that no chain takes.
    pub async fn refused(&self) -> u64 {
        let stats = get(self.proxy.admin, "admin", "/stats").await;
        let of = |name: &str| -> u64 {
            let ours = stats.lines().filter_map(|line| {
                let rest = line.strip_prefix(name)?.strip_prefix("{listener=inbound")?;
                rest.rsplit(' ').next()?.parse::<u64>().ok()
            });
            ours.sum()
        };
        of("weft_tls_failures") + of("weft_no_filter_chain")
    }

    /// `openssl s_client` as `service` with these further words (later ones count), sending `bytes`; what it printed.
    pub async fn s_client(&self, service: &str, more: &[&str], bytes: &[u8]) -> String {
        let mut args: Vec<String> =
            ["s_client", "-ign_eof", "-connect", &self.inbound.to_string()].map(String::from).to_vec();
        if !more.contains(&"-servername") && !more.contains(&"-noservername") {
            args.extend(["-servername".to_owned(), WEB.to_owned()]);
        }
        if !service.is_empty() {
            for (flag, file) in [("-cert", "chain.pem"), ("-cert_chain", "chain.pem"), ("-key", "key.pem")] {
                let path = self.file(service).join(file);
                args.extend([flag.to_owned(), path.to_string_lossy().into_owned()]);
            }
        }
        args.extend(more.iter().map(|word| (*word).to_owned()));
        let bytes = bytes.to_vec();
        tokio::task::spawn_blocking(move || openssl(&args, &bytes)).await.unwrap()
    }

    /// Whether the app answered a plain request of that client.
    pub async fn lets_in(&self, service: &str, more: &[&str]) -> Result<String, String> {
        let said = self.s_client(service, more, HELLO.as_bytes()).await;
        if said.contains("HTTP/1.1 200") { Ok(said) } else { Err(said) }
    }
}

fn svid(issuer: &Issuer, service: &str) -> Svid {
    let id = SpiffeId::service(issuer.trust_domain(), "default", service).unwrap();
    let key = PrivateKey::generate().unwrap();
    let serial = weft_identity::random::secure().unwrap();
    let hour = Duration::from_secs(3600);
    let issued = issuer.issue(&key.csr_der(&id).unwrap(), &id, SystemTime::now(), hour, serial).unwrap();
    Svid::new(issued.chain, key).unwrap()
}

fn write_ca(folder: &Path, pem: &IssuerPem) {
    std::fs::write(folder.join("intermediate.pem"), &pem.intermediate).unwrap();
    std::fs::write(folder.join("intermediate.key"), &pem.intermediate_key).unwrap();
}

/// Runs `openssl` for at most ten seconds; both its outputs.
pub fn openssl(args: &[String], input: &[u8]) -> String {
    let Some(program) = peers::program("openssl") else { panic!("openssl is part of every Debian") };
    let mut child = Command::new("timeout")
        .arg("10")
        .arg(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A peer that has hung up takes no input; that is its answer.
    let _ = child.stdin.take().unwrap().write_all(input);
    let out = child.wait_with_output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}
