//! Who may call a port of the app, as filters: of HTTP, of bytes, and at an Envoy's routes.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::config::rbac::v3 as rbac;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::{Rbac as HttpRbac, RbacPerRoute};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::extensions::filters::network::rbac::v3::Rbac as NetworkRbac;
use envoy_types::pb::google::protobuf as google;

use super::super::policies::{self, Rules};
use super::super::proto::any;
use super::super::{manager, names};

/// What the filters are called by which an Envoy's routes give their rules.
const DENY: &str = "weft.deny";
const ALLOW: &str = "weft.allow";
const WOULD_DENY: &str = "weft.would-deny";
const WOULD_ALLOW: &str = "weft.would-allow";

/// Paths that mean one thing before they are made regular, or rid of parameters, and another thing after it.
const AMBIGUOUS: &str = r".*(//|%2[fF]|%5[cC]|/\.?\.?(;|%3[bB])).*";

pub fn http_rbac(rules: &Rules) -> Vec<hcm::HttpFilter> {
    let one = |rules: Option<&rbac::Rbac>, shadow: Option<&rbac::Rbac>| {
        manager::http_filter("envoy.filters.http.rbac", any(&rbac_filter(rules, shadow)))
    };
    let deny = rules.deny.iter().map(|deny| one(Some(deny), None));
    // Last: what is refused anyway is no news of a policy on trial.
    let on_trial = rules.would_deny.iter().chain(&rules.would_allow).map(|rules| one(None, Some(rules)));
    deny.chain([one(Some(&rules.allow), None)]).chain(on_trial).collect()
}

fn rbac_filter(rules: Option<&rbac::Rbac>, shadow: Option<&rbac::Rbac>) -> HttpRbac {
    HttpRbac { rules: rules.cloned(), shadow_rules: shadow.cloned(), ..Default::default() }
}

/// The filters that take their rules from the route, always the same. A route that says nothing is let in
/// by nobody.
pub fn rbac_for_routes() -> Vec<hcm::HttpFilter> {
    let nobody = rbac::Rbac::default();
    let nothing = any(&rbac_filter(None, None));
    vec![
        manager::http_filter(DENY, nothing.clone()),
        manager::http_filter(ALLOW, any(&rbac_filter(Some(&nobody), None))),
        manager::http_filter(WOULD_DENY, nothing.clone()),
        manager::http_filter(WOULD_ALLOW, nothing),
    ]
}

pub fn rbac_of_routes(rules: &Rules) -> HashMap<String, google::Any> {
    let one = |name: &str, rules: Option<&rbac::Rbac>, shadow: Option<&rbac::Rbac>| {
        (name.to_owned(), any(&RbacPerRoute { rbac: Some(rbac_filter(rules, shadow)) }))
    };
    let would_deny = rules.would_deny.iter().map(|rules| one(WOULD_DENY, None, Some(rules)));
    let would_allow = rules.would_allow.iter().map(|rules| one(WOULD_ALLOW, None, Some(rules)));
    let mut deny = rules.deny.clone();
    if rules.paths {
        // That paths are merged and escaped slashes refused is a setting of the connection too, and one that
        // is older than the first policy about paths lacks it.
        let deny = deny.get_or_insert_with(|| rbac::Rbac {
            action: rbac::rbac::Action::Deny as i32,
            ..Default::default()
        });
        deny.policies.insert("weft/ambiguous-path".to_owned(), policies::ambiguous_paths(AMBIGUOUS));
    }
    let deny = deny.iter().map(|deny| one(DENY, Some(deny), None));
    deny.chain([one(ALLOW, Some(&rules.allow), None)]).chain(would_deny).chain(would_allow).collect()
}

pub fn network_rbac(number: u16, rules: &Rules) -> Vec<listener::Filter> {
    let one = |enforced: Option<&rbac::Rbac>, shadow: Option<&rbac::Rbac>| {
        let filter = NetworkRbac {
            rules: enforced.cloned(),
            shadow_rules: shadow.cloned(),
            stat_prefix: names::inbound(number),
            ..Default::default()
        };
        listener::Filter {
            name: "envoy.filters.network.rbac".to_owned(),
            config_type: Some(listener::filter::ConfigType::TypedConfig(any(&filter))),
        }
    };
    let deny = rules.deny.iter().map(|deny| one(Some(deny), None));
    // Last: what is refused anyway is no news of a policy on trial.
    let on_trial = rules.would_deny.iter().chain(&rules.would_allow).map(|rules| one(None, Some(rules)));
    deny.chain([one(Some(&rules.allow), None)]).chain(on_trial).collect()
}
