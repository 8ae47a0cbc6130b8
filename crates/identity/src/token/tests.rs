//! A token's way from the operator's terminal to the proxy and back.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use super::*;
use crate::issuer::Issuer;

fn token() -> JoinToken {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let (issuer, _) = Issuer::create(&TrustDomain::default(), now).unwrap();
    JoinToken {
        secret: TokenSecret::from_random(std::array::from_fn(|i| i as u8)),
        bundle: issuer.bundle().clone(),
        namespace: "default".into(),
        service: "be1".into(),
        expires: now + Duration::from_secs(600),
    }
}

#[test]
fn a_token_survives_the_copy() {
    let token = token();
    let text = token.encode();
    assert!(text.starts_with("weft1."));
    assert!(
        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)),
        "fits any shell"
    );
    let read: JoinToken = format!("  {text}\n").parse().unwrap();
    assert!(token.secret.hash().matches(&read.secret));
    assert_eq!(read.bundle, token.bundle);
    assert_eq!((read.namespace.as_str(), read.service.as_str()), ("default", "be1"));
    assert_eq!(read.expires, token.expires);
    assert!(!read.expired(token.expires - Duration::from_secs(1)) && read.expired(token.expires));
}

#[test]
fn only_the_right_secret_matches() {
    let secret = TokenSecret::from_random([7; 32]);
    let hash = secret.hash();
    assert!(hash.matches(&secret));
    for bit in 0..256 {
        let mut other = [7; 32];
        other[bit / 8] ^= 1 << (bit % 8);
        assert!(!hash.matches(&TokenSecret::from_random(other)), "bit {bit}");
    }
}

#[test]
fn hashes_survive_the_store() {
    // SHA-256 of 32 zero bytes.
    let hash = TokenSecret::from_random([0; 32]).hash();
    let text = "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925";
    assert_eq!(hash.to_hex(), text);
    assert_eq!(TokenHash::from_hex(text), Some(hash));
    for bad in ["", &text[1..], &format!("{text}0"), &text.replace('6', "g"), &text.replacen("66", "+6", 1)] {
        assert_eq!(TokenHash::from_hex(bad), None, "{bad}");
    }
}

fn with(alter: impl FnOnce(&mut serde_json::Value)) -> String {
    let text = token().encode();
    let json = URL_SAFE_NO_PAD.decode(&text[PREFIX.len()..]).unwrap();
    let mut json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    alter(&mut json);
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(json.to_string()))
}

#[test]
fn damaged_tokens_say_what_is_wrong() {
    let good = token().encode();
    type Is = fn(&TokenError) -> bool;
    let cases: [(&str, String, Is); 13] = [
        ("empty", String::new(), |e| matches!(e, TokenError::Prefix)),
        ("another version", good.replacen("weft1", "weft2", 1), |e| matches!(e, TokenError::Prefix)),
        ("cut off", good[..good.len() - 3].to_owned(), |e| matches!(e, TokenError::Damaged)),
        ("line break inside", good.replacen("weft1.", "weft1.\n", 1), |e| matches!(e, TokenError::Damaged)),
        ("twice", format!("{good}{good}"), |e| matches!(e, TokenError::Damaged)),
        ("endless", format!("weft1.{}", "A".repeat(TOKEN_BYTES_MAX)), |e| {
            matches!(e, TokenError::TooLong(_))
        }),
        ("short secret", with(|t| t["t"] = "AAAA".into()), |e| matches!(e, TokenError::Secret)),
        ("no secret", with(|t| t["t"] = serde_json::Value::Null), |e| matches!(e, TokenError::Damaged)),
        ("bad trust domain", with(|t| t["td"] = "TD".into()), |e| matches!(e, TokenError::TrustDomain(_))),
        ("no CA", with(|t| t["ca"] = "".into()), |e| matches!(e, TokenError::Bundle(_))),
        ("no namespace", with(|t| t["svc"] = "be1".into()), |e| matches!(e, TokenError::Service)),
        ("a path", with(|t| t["svc"] = "a/b/c".into()), |e| matches!(e, TokenError::Service)),
        ("expires never", with(|t| t["exp"] = u64::MAX.into()), |e| matches!(e, TokenError::Damaged)),
    ];
    for (what, text, is) in cases {
        match text.parse::<JoinToken>() {
            Err(error) if is(&error) => {}
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let token = token();
    let secret = URL_SAFE_NO_PAD.encode(token.secret.0);
    for text in [format!("{token:?}"), format!("{:?}", token.secret)] {
        assert!(!text.contains(&secret) && !text.contains("[0, 1, 2"), "{text}");
    }
}
