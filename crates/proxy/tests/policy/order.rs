//! S-AZ-08: the truth table of DENY, ALLOW and AUDIT, for HTTP, for TCP, and for bytes that are neither.

use std::net::SocketAddr;

use envoy_types::pb::{
    envoy::{
        config::{
            listener::v3::{Filter, FilterChain, filter},
            rbac::v3::{Rbac, rbac::Action},
        },
        extensions::filters::network::rbac::v3::Rbac as NetworkRbac,
    },
    google::protobuf::Any,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use weft_proxy::static_config::StaticResources;

use crate::{
    mesh::{
        LIMIT, Proxy,
        xds::{Speak, any, cluster, listener, tcp},
    },
    origin::{Origin, addresses},
    rules::{anything, exact, guarded, header, http_rbac, nothing, rbac},
};

/// What one action's policies say about a caller.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Says {
    /// No filter of this action.
    None,
    /// A filter without policies.
    Empty,
    Match,
    Miss,
    /// A match by what only HTTP has.
    HttpMatch,
}

impl Says {
    fn rules(self, action: Action) -> Option<Rbac> {
        Some(match self {
            Says::None => return None,
            Says::Empty => Rbac { action: action as i32, ..Rbac::default() },
            Says::Match => rbac(action, vec![anything()]),
            Says::Miss => rbac(action, vec![nothing()]),
            Says::HttpMatch => rbac(action, vec![header(":method", exact("GET"), false)]),
        })
    }
}

const DENIES: [Says; 4] = [Says::None, Says::Match, Says::Miss, Says::HttpMatch];
const ALLOWS: [Says; 5] = [Says::None, Says::Empty, Says::Match, Says::Miss, Says::HttpMatch];

/// As documented: a deny that fits refuses; else, where there is an allow, one must fit. Without HTTP, its attributes
/// count as a fit in a deny and as none in an allow. An audit changes nothing.
fn expected(deny: Says, allow: Says, http: bool) -> bool {
    let denied = matches!(deny, Says::Match | Says::HttpMatch);
    let allowed = match allow {
        Says::None | Says::Match => true,
        Says::Empty | Says::Miss => false,
        Says::HttpMatch => http,
    };
    !denied && allowed
}

fn on_http(name: &str, at: SocketAddr, deny: Says, allow: Says, audit: bool) -> Any {
    let shadow = || audit.then(|| rbac(Action::Deny, vec![anything()]));
    let deny = http_rbac(deny.rules(Action::Deny), shadow());
    let allow = http_rbac(allow.rules(Action::Allow), shadow());
    guarded(name, at, "app", vec![deny, allow])
}

fn on_tcp(name: &str, at: SocketAddr, deny: Says, allow: Says, audit: bool) -> Any {
    let filter = |rules: Option<Rbac>| {
        let shadow_rules = audit.then(|| rbac(Action::Deny, vec![anything()]));
        let stat_prefix = "tcp".to_owned();
        let filter = NetworkRbac { rules, shadow_rules, stat_prefix, ..NetworkRbac::default() };
        Filter {
            name: "envoy.filters.network.rbac".to_owned(),
            config_type: Some(filter::ConfigType::TypedConfig(any(&filter))),
        }
    };
    let filters = vec![filter(deny.rules(Action::Deny)), filter(allow.rules(Action::Allow)), tcp("app-tcp")];
    listener(name, at, vec![FilterChain { name: "plain".to_owned(), filters, ..FilterChain::default() }])
}

/// Whether the app answers these bytes with success.
async fn answered(to: SocketAddr, bytes: &[u8]) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(to).await.unwrap();
        let mut answer = [0; 12];
        stream.write_all(bytes).await.is_ok()
            && stream.read_exact(&mut answer).await.is_ok()
            && answer == *b"HTTP/1.1 200"
    };
    tokio::time::timeout(LIMIT, ask).await.expect("an answer or an end in time")
}

/// S-AZ-08: 120 rows: {no, matching, missing, HTTP-matching} DENY × {no, empty, matching, missing, HTTP-matching} ALLOW ×
/// {no, contradicting} AUDIT × {HTTP, TCP, bytes of neither on an HTTP port}. (CUSTOM is no kind of ours yet. That a
/// Mesh without policies has an empty ALLOW is the control plane's; its simulation has that row.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deny_beats_allow_beats_default_and_audit_never_counts() {
    let origin = Origin::start().await;
    let mut listeners = Vec::new();
    let mut rows = Vec::new();
    let mut free = addresses(10, 80).into_iter();
    for deny in DENIES {
        for allow in ALLOWS {
            for audit in [false, true] {
                let (web, bytes) = (free.next().unwrap(), free.next().unwrap());
                listeners.push(on_http(&format!("http-{}", rows.len()), web, deny, allow, audit));
                listeners.push(on_tcp(&format!("tcp-{}", rows.len()), bytes, deny, allow, audit));
                rows.push((deny, allow, audit, web, bytes));
            }
        }
    }
    let _proxy = Proxy::start(
        "edge",
        StaticResources {
            listeners,
            clusters: vec![
                cluster("app", &[origin.address], Speak::Http1, None),
                cluster("app-tcp", &[origin.address], Speak::Tcp, None),
            ],
            ..StaticResources::default()
        },
    );
    let (mut judged, mut passed) = (0, 0);
    for (deny, allow, audit, web, bytes) in rows {
        let row = format!("DENY {deny:?}, ALLOW {allow:?}, AUDIT {audit}");
        let before = origin.bytes();
        assert!(!answered(web, b"\x00\x01neither\r\n\r\n").await, "undetected: {row}");
        assert_eq!(origin.bytes(), before, "undetected: {row}: a byte reached the app");
        for (what, to, request, http) in [
            ("HTTP", web, &b"GET /x HTTP/1.1\r\nhost: h\r\n\r\n"[..], true),
            ("TCP", bytes, b"not HTTP\r\n\r\n", false),
        ] {
            let before = origin.bytes();
            let (found, wanted) = (answered(to, request).await, expected(deny, allow, http));
            assert_eq!(found, wanted, "{what}: {row}");
            assert_eq!(origin.bytes() > before, wanted, "{what}: {row}: bytes at the app");
            passed += usize::from(found);
            judged += 1;
        }
        judged += 1;
    }
    eprintln!("S-AZ-08: {judged} rows, {passed} passed the policies");
    assert_eq!((judged, passed), (120, 20));
}
