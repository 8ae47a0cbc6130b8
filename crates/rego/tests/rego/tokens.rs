//! JSON Web Tokens: examples from outside, and every trick that must not pass.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use crate::support::{NOW_NS, decide, request};

/// RFC 7515, appendix A.2.
const RS256: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
const RS256_KEY: &str = r#"{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}"#;
/// RFC 7515, appendix A.3.
const ES256: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
const ES256_KEY: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
/// RFC 7519, section 3.1's claims, an hour before they end.
const BEFORE_ITS_END: i64 = (1_300_819_380 - 3600) * 1_000_000_000;

fn holds(body: &str, now_ns: i64) -> bool {
    let mut worker = crate::support::worker(&format!("package envoy.authz\nallow if {{\n{body}\n}}\n"));
    worker.decide(&request("/", &[]), now_ns).allow
}

fn part(value: &serde_json::Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn signed(header: &serde_json::Value, claims: &serde_json::Value, secret: &[u8]) -> String {
    let text = format!("{}.{}", part(header), part(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, text.as_bytes())))
}

#[test]
fn the_rfcs_examples_hold() {
    assert!(holds(&format!("io.jwt.verify_rs256(`{RS256}`, `{RS256_KEY}`)"), NOW_NS));
    assert!(holds(&format!("io.jwt.verify_es256(`{ES256}`, `{ES256_KEY}`)"), NOW_NS));
    assert!(holds(
        &format!("io.jwt.verify_rs256(`{RS256}`, `{{\"keys\":[{ES256_KEY},{RS256_KEY}]}}`)"),
        NOW_NS
    ));
    assert!(!holds(&format!("io.jwt.verify_rs256(`{RS256}`, `{ES256_KEY}`)"), NOW_NS));
    assert!(!holds(&format!("io.jwt.verify_rs384(`{RS256}`, `{RS256_KEY}`)"), NOW_NS));
    assert!(!holds(&format!("io.jwt.verify_ps256(`{RS256}`, `{RS256_KEY}`)"), NOW_NS));
    let changed = RS256.replacen("fQ.c", "fQ.d", 1);
    assert!(!holds(&format!("io.jwt.verify_rs256(`{changed}`, `{RS256_KEY}`)"), NOW_NS));
    assert!(holds(
        &format!(
            "[header, payload, signature] := io.jwt.decode(`{RS256}`)\nheader.alg == \"RS256\"\npayload.iss == \"joe\"\nstartswith(signature, \"702e2189\")"
        ),
        NOW_NS
    ));
    // The claims of RFC 7519: valid for a while, and only for whom they say.
    for (token, key) in [(RS256, RS256_KEY), (ES256, ES256_KEY)] {
        let verify = |more: &str| {
            format!(
                "[valid, _, payload] := io.jwt.decode_verify(`{token}`, {{\"cert\": `{key}`{more}}})\nvalid\npayload.iss == \"joe\""
            )
        };
        assert!(holds(&verify(""), BEFORE_ITS_END));
        assert!(holds(&verify(", \"iss\": \"joe\""), BEFORE_ITS_END));
        assert!(!holds(&verify(", \"iss\": \"jane\""), BEFORE_ITS_END));
        assert!(!holds(&verify(", \"aud\": \"me\""), BEFORE_ITS_END));
        assert!(!holds(&verify(", \"alg\": \"PS256\""), BEFORE_ITS_END));
        assert!(
            !holds(&verify(""), 1_300_819_380_000_000_000),
            "exp is the first moment at which it is over"
        );
        assert!(!holds(&verify(""), NOW_NS));
        assert!(holds(&verify(", \"time\": 1300815780000000000"), NOW_NS));
    }
}

#[test]
fn a_shared_secret() {
    // The example of jwt.io.
    let token = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c";
    assert!(holds(&format!("io.jwt.verify_hs256(`{token}`, `your-256-bit-secret`)"), NOW_NS));
    assert!(!holds(&format!("io.jwt.verify_hs256(`{token}`, `your-256-bit-secres`)"), NOW_NS));
    assert!(!holds(&format!("io.jwt.verify_hs384(`{token}`, `your-256-bit-secret`)"), NOW_NS));
    assert!(!holds(&format!("io.jwt.verify_hs256(`{token}`, ``)"), NOW_NS));
}

/// What every policy of OPA's tutorials asks of a token that a request brings.
fn accepted(token: &str, key: &str) -> bool {
    let policy = format!(
        "package envoy.authz\nallow if {{\n  [_, token] := split(input.attributes.request.http.headers.authorization, \" \")\n  [valid, _, _] := io.jwt.decode_verify(token, {key})\n  valid\n}}\n"
    );
    let header = format!("Bearer {token}");
    decide(&policy, &request("/", &[("authorization", header.as_bytes())])).allow
}

#[test]
fn no_trick_passes() {
    let secret = b"a secret of more than sixteen bytes";
    let shared = r#"{"secret": "a secret of more than sixteen bytes"}"#;
    let public = format!("{{\"cert\": `{RS256_KEY}`}}");
    let set = RS256_KEY.replacen('{', "{\"kid\":\"one\",", 1);
    let set = format!("{{\"cert\": `{{\"keys\":[{set}]}}`}}");
    let claims = json!({"exp": 1_800_000_000, "sub": "x"});
    let good = json!({"alg": "HS256", "typ": "JWT"});
    assert!(accepted(&signed(&good, &claims, secret), shared), "else nothing is shown below");
    let unsigned = |header: serde_json::Value| format!("{}.{}.", part(&header), part(&claims));
    let mut tokens = vec![
        ("alg none", unsigned(json!({"alg": "none"}))),
        ("alg None", unsigned(json!({"alg": "None"}))),
        ("no alg", unsigned(json!({}))),
        ("alg is a list", unsigned(json!({"alg": ["HS256"]}))),
        ("the public key as the secret", signed(&good, &claims, RS256_KEY.as_bytes())),
        ("an empty secret", signed(&good, &claims, b"")),
        (
            "kid leads out of the folder",
            signed(&json!({"alg": "HS256", "kid": "../../../../dev/null"}), &claims, b""),
        ),
        ("kid is SQL", signed(&json!({"alg": "HS256", "kid": "x' UNION SELECT 'a"}), &claims, b"a")),
        ("jku", signed(&json!({"alg": "HS256", "jku": "http://evil.test/keys"}), &claims, b"evil")),
        (
            "jwk inside",
            signed(&json!({"alg": "HS256", "jwk": {"kty": "oct", "k": "ZXZpbA"}}), &claims, b"evil"),
        ),
        ("crit", signed(&json!({"alg": "HS256", "crit": ["x"], "x": 1}), &claims, secret)),
        ("an empty crit", signed(&json!({"alg": "HS256", "crit": []}), &claims, secret)),
        ("a token inside", signed(&json!({"alg": "HS256", "cty": "JWT"}), &claims, secret)),
        ("no exp", signed(&good, &json!({"sub": "x"}), secret)),
        ("exp is text", signed(&good, &json!({"exp": "1800000000"}), secret)),
        ("exp is null", signed(&good, &json!({"exp": null}), secret)),
        ("exp is negative", signed(&good, &json!({"exp": -1}), secret)),
        ("over", signed(&good, &json!({"exp": 1_700_000_000}), secret)),
        ("not yet", signed(&good, &json!({"exp": 1_900_000_000, "nbf": 1_800_000_000}), secret)),
        ("for somebody else", signed(&good, &json!({"exp": 1_800_000_000, "aud": "other"}), secret)),
        ("1 MB", signed(&good, &json!({"exp": 1_800_000_000, "pad": "x".repeat(1 << 20)}), secret)),
        ("two parts", format!("{}.{}", part(&good), part(&claims))),
        ("five parts", format!("{}.a.b.c.d", part(&good))),
        ("claims are a list", signed(&good, &json!([1]), secret)),
        ("nothing", String::new()),
        ("dots", "..".to_owned()),
    ];
    let whole = signed(&good, &claims, secret);
    tokens.push(("the signature cut", whole[..whole.len() - 3].to_owned()));
    tokens.push(("padding", format!("{whole}=")));
    tokens.push(("white space", format!("{whole}\t")));
    for (name, token) in &tokens {
        for key in [shared, public.as_str(), set.as_str()] {
            assert!(!accepted(token, key), "{name} with {key}");
        }
    }
    assert!(tokens.len() >= 28);
}
