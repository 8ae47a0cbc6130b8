//! Who may: RBAC compiled to a tree of comparisons. `authorize` decides with it.

use std::sync::Arc;

use ipnet::IpNet;

use super::{HeaderMatch, Stamp, StringMatch};

#[derive(Debug, Clone)]
pub struct Rbac {
    pub action: RbacAction,
    /// By name, in order.
    pub policies: Vec<Policy>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RbacAction {
    /// Allowed only if a policy fits.
    Allow,
    /// Refused if a policy fits.
    Deny,
    /// Never refuses; the fitting policy is noted.
    Log,
}

#[derive(Debug, Clone)]
pub struct Policy {
    /// Ours are `KIND/NS/NAME`.
    pub name: Arc<str>,
    pub permissions: Vec<Permission>,
    pub principals: Vec<Principal>,
    pub stamp: Option<Arc<Stamp>>,
}

impl Policy {
    /// The object that it is of: ours with several rules have a policy for each, `KIND/NS/NAME#RULE`.
    pub fn object(&self) -> &str {
        match self.name.rsplit_once('#') {
            Some((object, rule)) if !rule.is_empty() && rule.bytes().all(|byte| byte.is_ascii_digit()) => {
                object
            }
            _ => &self.name,
        }
    }
}

#[derive(Debug, Clone)]
pub enum Permission {
    Any,
    And(Vec<Permission>),
    Or(Vec<Permission>),
    Not(Box<Permission>),
    Header(HeaderMatch),
    UrlPath(StringMatch),
    DestinationIp(IpNet),
    DestinationPort(u16),
    /// start..end
    DestinationPortRange {
        start: u32,
        end: u32,
    },
    RequestedServerName(StringMatch),
}

#[derive(Debug, Clone)]
pub enum Principal {
    Any,
    And(Vec<Principal>),
    Or(Vec<Principal>),
    Not(Box<Principal>),
    /// Over mTLS; with a name, the URI SAN (else the subject) fits it.
    Authenticated(Option<StringMatch>),
    /// The connection's other end, whatever it says of itself.
    DirectRemoteIp(IpNet),
    /// By the PROXY header where one is read, else as `DirectRemoteIp`.
    SourceIp(IpNet),
    RemoteIp(IpNet),
    Header(HeaderMatch),
    UrlPath(StringMatch),
}

/// One `envoy.filters.network.rbac`.
#[derive(Debug, Clone)]
pub struct NetworkRbac {
    pub rules: Option<Arc<Rbac>>,
    pub shadow: Option<Arc<Rbac>>,
    pub stat_prefix: Arc<str>,
}

/// One comparison with a subject alternative name of a certificate.
#[derive(Debug, Clone, PartialEq)]
pub struct SanMatch {
    pub kind: SanKind,
    pub value: StringMatch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SanKind {
    Uri,
    Dns,
    Email,
    Ip,
}

impl SanMatch {
    /// True if a name of that kind, as in the certificate, fits.
    pub fn fits(&self, kind: SanKind, name: &str) -> bool {
        self.kind == kind
            && match (&self.value, kind) {
                // A certificate's `*.x` covers one label, RFC 6125; only an exact wish can meet a wildcard.
                (StringMatch::Exact { value, .. }, SanKind::Dns) if name.starts_with("*.") => value
                    .split_once('.')
                    .is_some_and(|(label, rest)| !label.is_empty() && name[2..].eq_ignore_ascii_case(rest)),
                (StringMatch::Exact { value, .. }, SanKind::Dns) => value.eq_ignore_ascii_case(name),
                (test, _) => test.matches(name),
            }
    }
}
