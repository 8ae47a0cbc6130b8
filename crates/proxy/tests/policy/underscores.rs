//! S-AZ-05, `X_Role` beside `x-role`: an app that reads both as one name must not be told by the first what a policy
//! has only looked for in the second.

use std::net::SocketAddr;

use envoy_types::pb::{
    envoy::config::core::v3::{HttpProtocolOptions, http_protocol_options::HeadersWithUnderscoresAction},
    google::protobuf::Any,
};
use weft_proxy::static_config::StaticResources;

use crate::{
    mesh::{
        Proxy,
        xds::{Speak, cluster, http, listener, managed, plain_chain, to, vhost},
    },
    origin::{Origin, addresses, exchange, request},
};

fn doing(action: HeadersWithUnderscoresAction, at: SocketAddr) -> Any {
    let name = format!("{action:?}");
    let filter = http(&name, vec![vhost("all", &["*"], vec![to("/", "app")])], None);
    let filter = managed(filter, |manager| {
        manager.common_http_protocol_options = Some(HttpProtocolOptions {
            headers_with_underscores_action: action as i32,
            ..HttpProtocolOptions::default()
        });
    });
    listener(&name, at, vec![plain_chain(filter)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_with_an_underscore_stays_goes_or_refuses_its_request() {
    use HeadersWithUnderscoresAction::{Allow, DropHeader, RejectRequest};
    let origin = Origin::start().await;
    let actions = [Allow, DropHeader, RejectRequest];
    let ports = addresses(61, 3);
    let listeners = actions.iter().zip(&ports).map(|(action, at)| doing(*action, *at)).collect();
    let clusters = vec![cluster("app", &[origin.address], Speak::Http1, None)];
    let _proxy = Proxy::start("be", StaticResources { clusters, listeners, ..StaticResources::default() });

    let tainted = request(b"/", b"host: a\r\nX_Role: admin\r\nx-role: user\r\n");
    let plain = request(b"/", b"host: a\r\nx-role: user\r\n");
    for (action, at) in actions.into_iter().zip(ports) {
        let before = origin.heads();
        let answer = exchange(at, &tainted).await;
        let head = answer.text().to_ascii_lowercase();
        let seen =
            (answer.status, head.contains("x_role"), head.contains("x-role: user"), origin.heads() - before);
        let expected = match action {
            Allow => (200, true, true, 1),
            DropHeader => (200, false, true, 1),
            RejectRequest => (400, false, false, 0),
        };
        assert_eq!(seen, expected, "{action:?}: {head}");
        assert_eq!(exchange(at, &plain).await.status, 200, "{action:?}");
    }
}
