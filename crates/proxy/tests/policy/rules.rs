//! Policies and listeners for these tests, as our control plane writes them.

use std::net::SocketAddr;

use envoy_types::pb::{
    envoy::{
        config::{
            rbac::v3::{Permission, Policy, Principal, Rbac, permission, principal, rbac::Action},
            route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier},
        },
        extensions::filters::{
            http::rbac::v3::Rbac as HttpRbac,
            network::http_connection_manager::v3::{
                HttpConnectionManager, HttpFilter, http_connection_manager::PathWithEscapedSlashesAction,
                http_filter,
            },
        },
        r#type::matcher::v3::{PathMatcher, StringMatcher, path_matcher, string_matcher::MatchPattern},
    },
    google::protobuf::Any,
};

use crate::mesh::xds::{any, http, listener, managed, plain_chain, to, vhost};

pub fn text(pattern: MatchPattern, ignore_case: bool) -> StringMatcher {
    StringMatcher { match_pattern: Some(pattern), ignore_case }
}

pub fn exact(value: &str) -> StringMatcher {
    text(MatchPattern::Exact(value.to_owned()), false)
}

fn permission(rule: permission::Rule) -> Permission {
    Permission { rule: Some(rule) }
}

pub fn anything() -> Permission {
    permission(permission::Rule::Any(true))
}

pub fn nothing() -> Permission {
    permission(permission::Rule::DestinationPort(1))
}

fn url_path(test: StringMatcher) -> Permission {
    permission(permission::Rule::UrlPath(PathMatcher { rule: Some(path_matcher::Rule::Path(test)) }))
}

/// A path and all below it, as `paths: [/a, /a/*]` of an AccessPolicy.
pub fn path_and_below(path: &str, ignore_case: bool) -> Vec<Permission> {
    vec![
        url_path(text(MatchPattern::Exact(path.to_owned()), ignore_case)),
        url_path(text(MatchPattern::Prefix(format!("{path}/")), ignore_case)),
    ]
}

/// A header whose text fits, or, turned round, does not.
pub fn header(name: &str, test: StringMatcher, invert: bool) -> Permission {
    permission(permission::Rule::Header(HeaderMatcher {
        name: name.to_owned(),
        invert_match: invert,
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(test)),
        ..HeaderMatcher::default()
    }))
}

pub fn not(one: Permission) -> Permission {
    permission(permission::Rule::NotRule(Box::new(one)))
}

/// One policy about everybody.
pub fn rbac(action: Action, permissions: Vec<Permission>) -> Rbac {
    let everybody = Principal { identifier: Some(principal::Identifier::Any(true)) };
    let policy = Policy { permissions, principals: vec![everybody], ..Policy::default() };
    Rbac {
        action: action as i32,
        policies: [("AccessPolicy/default/p".to_owned(), policy)].into(),
        ..Rbac::default()
    }
}

pub fn http_rbac(rules: Option<Rbac>, shadow: Option<Rbac>) -> HttpFilter {
    let filter = HttpRbac { rules, shadow_rules: shadow, ..HttpRbac::default() };
    HttpFilter {
        name: "envoy.filters.http.rbac".to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(any(&filter))),
        ..HttpFilter::default()
    }
}

/// Paths as the control plane has them where a policy or a route looks at paths.
pub fn paths_matter(manager: &mut HttpConnectionManager) {
    manager.merge_slashes = true;
    manager.path_with_escaped_slashes_action = PathWithEscapedSlashesAction::RejectRequest as i32;
}

/// A plain listener that sends all to `cluster`, behind these filters.
pub fn guarded(name: &str, at: SocketAddr, cluster: &str, filters: Vec<HttpFilter>) -> Any {
    let manager = http(name, vec![vhost("all", &["*"], vec![to("/", cluster)])], None);
    let manager = managed(manager, |manager| {
        paths_matter(manager);
        manager.http_filters.splice(0..0, filters);
    });
    listener(name, at, vec![plain_chain(manager)])
}
