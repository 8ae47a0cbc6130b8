//! The grammar, one line per fact.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::SpiffeIdError::*;
use super::*;

#[test]
fn good_ids() {
    // (text, trust domain, path)
    for (text, trust_domain, path) in [
        ("spiffe://mesh.internal/ns/default/sa/be1", "mesh.internal", "/ns/default/sa/be1"),
        ("spiffe://mesh.internal", "mesh.internal", ""),
        ("spiffe://a/b", "a", "/b"),
        ("spiffe://1.2.3.4/a", "1.2.3.4", "/a"),
        ("spiffe://a-b_c.d/A.b-C_9", "a-b_c.d", "/A.b-C_9"),
        ("spiffe://td/.../a..b/.a", "td", "/.../a..b/.a"),
    ] {
        let id: SpiffeId = text.parse().unwrap();
        assert_eq!((id.as_str(), id.trust_domain_str(), id.path()), (text, trust_domain, path));
        assert_eq!(id.to_string(), text);
    }
}

#[test]
fn bad_ids() {
    for (text, error) in [
        ("", Scheme),
        ("mesh.internal/a", Scheme),
        ("https://mesh.internal/a", Scheme),
        ("SPIFFE://td/a", Scheme),
        ("spiffe:/td/a", Scheme),
        (" spiffe://td/a", Scheme),
        ("spiffe://", NoTrustDomain),
        ("spiffe:///a", NoTrustDomain),
        ("spiffe://TD/a", TrustDomainCharacter('T')),
        ("spiffe://t d/a", TrustDomainCharacter(' ')),
        ("spiffe://t\0d/a", TrustDomainCharacter('\0')),
        ("spiffe://bücher/a", TrustDomainCharacter('ü')),
        ("spiffe://[::1]/a", TrustDomainCharacter('[')),
        ("spiffe://t%64/a", PercentEncoding),
        ("spiffe://user@td/a", UserInfo),
        ("spiffe://user:password@td/a", UserInfo),
        ("spiffe://td:80/a", Port),
        ("spiffe://td:/a", Port),
        ("spiffe://td?a", Query),
        ("spiffe://td#a", Fragment),
        ("spiffe://td/", TrailingSlash),
        ("spiffe://td/a/", TrailingSlash),
        ("spiffe://td//a", EmptySegment),
        ("spiffe://td/a//b", EmptySegment),
        ("spiffe://td/./a", DotSegment),
        ("spiffe://td/a/..", DotSegment),
        ("spiffe://td/../a", DotSegment),
        ("spiffe://td/a%2fb", PercentEncoding),
        ("spiffe://td/a?b", Query),
        ("spiffe://td/a#b", Fragment),
        ("spiffe://td/a b", PathCharacter(' ')),
        ("spiffe://td/a\0b", PathCharacter('\0')),
        ("spiffe://td/a\nb", PathCharacter('\n')),
        ("spiffe://td/ä", PathCharacter('ä')),
        ("spiffe://td/a*", PathCharacter('*')),
        ("spiffe://td/a\\b", PathCharacter('\\')),
        ("spiffe://td/a@b", PathCharacter('@')),
        ("spiffe://td/a:b", PathCharacter(':')),
    ] {
        assert_eq!(text.parse::<SpiffeId>().unwrap_err(), error, "{text:?}");
    }
}

#[test]
fn limits_are_exact() {
    let id = |bytes: usize| format!("spiffe://td/{}", "a".repeat(bytes - "spiffe://td/".len()));
    assert_eq!(SpiffeId::parse(&id(2048)).unwrap().as_str().len(), 2048);
    assert_eq!(SpiffeId::parse(&id(2049)), Err(TooLong(2049)));
    assert!(TrustDomain::new(&"a".repeat(255)).is_ok());
    assert_eq!(TrustDomain::new(&"a".repeat(256)), Err(TrustDomainTooLong(256)));
    assert_eq!(SpiffeId::parse(&format!("spiffe://{}/a", "a".repeat(256))), Err(TrustDomainTooLong(256)));
}

#[test]
fn services_have_a_namespace_and_a_name() {
    let trust_domain = TrustDomain::default();
    let be1 = SpiffeId::service(&trust_domain, "default", "be1").unwrap();
    assert_eq!(be1.as_str(), "spiffe://mesh.internal/ns/default/sa/be1");
    assert_eq!((be1.namespace(), be1.service_account()), (Some("default"), Some("be1")));
    assert_eq!(be1.trust_domain(), trust_domain);
    // A name must not become a path, nor a path a name.
    assert_eq!(SpiffeId::service(&trust_domain, "default/sa/x", "be1"), Err(PathCharacter('/')));
    assert_eq!(SpiffeId::service(&trust_domain, "default", ".."), Err(DotSegment));
    assert_eq!(SpiffeId::service(&trust_domain, "", "be1"), Err(EmptySegment));
    assert_eq!(SpiffeId::service(&trust_domain, "default", ""), Err(TrailingSlash));
    for other in ["/ns/a/sa/b/c", "/ns/a/b/c", "/ns/a", "/x/ns/a/sa/b", "/weft/control", ""] {
        let id = SpiffeId::parse(&format!("spiffe://mesh.internal{other}")).unwrap();
        assert_eq!((id.namespace(), id.service_account()), (None, None), "{other}");
    }
    let control = SpiffeId::control(&trust_domain);
    assert_eq!(control, SpiffeId::parse("spiffe://mesh.internal/weft/control").unwrap());
    assert_eq!(control.path(), "/weft/control");
}

#[test]
fn membership_is_of_the_whole_name() {
    let trust_domain = TrustDomain::new("mesh.internal").unwrap();
    for (text, member) in [
        ("spiffe://mesh.internal/a", true),
        ("spiffe://mesh.internal.evil/a", false),
        ("spiffe://x.mesh.internal/a", false),
        ("spiffe://mesh.interna/la", false),
    ] {
        assert_eq!(SpiffeId::parse(text).unwrap().member_of(&trust_domain), member, "{text}");
    }
}

#[test]
fn ids_in_json_are_checked() {
    let good: SpiffeId = serde_json::from_str("\"spiffe://td/a\"").unwrap();
    assert_eq!(serde_json::to_string(&good).unwrap(), "\"spiffe://td/a\"");
    assert!(serde_json::from_str::<SpiffeId>("\"spiffe://td/a/\"").is_err());
    assert!(serde_json::from_str::<TrustDomain>("\"TD\"").is_err());
}
