//! Policies on trial: they refuse nothing, and what passes and they would refuse is counted by policy and caller. And
//! what a refused caller hears: its request's id, and no policy.

use envoy_types::pb::envoy::config::rbac::v3::{Rbac, rbac::Action};
use weft_proxy::static_config::StaticResources;

use crate::{
    mesh::{
        Proxy, eventually, get, metric,
        xds::{Speak, cluster},
    },
    origin::{Origin, addresses, exchange},
    rules::{anything, guarded, http_rbac, path_and_below, rbac},
};

fn named(name: &str, mut rules: Rbac) -> Rbac {
    rules.policies = rules.policies.into_values().map(|policy| (name.to_owned(), policy)).collect();
    rules
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_passes_and_would_be_refused_is_counted_by_policy() {
    let origin = Origin::start().await;
    let at = addresses(71, 1)[0];
    let deny = |name, path| named(name, rbac(Action::Deny, path_and_below(path, false)));
    let filters = vec![
        http_rbac(Some(deny("AccessPolicy/default/closed", "/closed")), None),
        http_rbac(Some(rbac(Action::Allow, vec![anything()])), None),
        http_rbac(None, Some(deny("AccessPolicy/default/tried#3", "/tried"))),
        http_rbac(
            None,
            Some(named("AccessPolicy/default/only", rbac(Action::Allow, path_and_below("/open", false)))),
        ),
    ];
    let proxy = Proxy::start(
        "edge",
        StaticResources {
            listeners: vec![guarded("trial", at, "app", filters)],
            clusters: vec![cluster("app", &[origin.address], Speak::Http1, None)],
            ..StaticResources::default()
        },
    );
    let ask = async |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
        exchange(at, request.as_bytes()).await
    };
    for (path, status) in
        [("/open", 200), ("/tried", 200), ("/tried/a", 200), ("/other", 200), ("/closed", 403)]
    {
        assert_eq!(ask(path).await.status, status, "{path}");
    }
    let counted = async |policy: &str| {
        let series = "weft_authorization_would_deny{caller=unknown,policy=AccessPolicy/default/";
        metric(proxy.admin, &format!("{series}{policy}}}")).await
    };
    // /tried and /tried/a; those and /other. What is refused anyway is no news.
    eventually("both are counted", async || (counted("tried").await, counted("only").await) == (2, 3)).await;
    assert_eq!(counted("closed").await, 0);
    let refused = get(at, "h", "/closed").await.to_lowercase();
    assert!(refused.contains("\r\nx-request-id: ") && !refused.contains("accesspolicy"), "{refused}");
}
