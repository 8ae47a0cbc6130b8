//! S-AZ-04 and S-AZ-05: a host and a header mean one thing, however they are spelt and however often they come.

use std::net::SocketAddr;

use envoy_types::pb::envoy::config::rbac::v3::{Permission, rbac::Action};
use weft_proxy::static_config::StaticResources;

use crate::{
    mesh::{
        Proxy,
        xds::{Speak, cluster},
    },
    origin::{Origin, addresses, exchange},
    rules::{exact, guarded, header, http_rbac, not, rbac},
};

/// A proxy with one listener for each of these policies.
fn proxy(number: u8, origin: &Origin, policies: Vec<(Action, Permission)>) -> (Proxy, Vec<SocketAddr>) {
    let ports = addresses(number, 4);
    let listeners = ports.iter().zip(policies).enumerate().map(|(index, (at, (action, permission)))| {
        let filter = http_rbac(Some(rbac(action, vec![permission])), None);
        guarded(&format!("rule-{index}"), *at, "app", vec![filter])
    });
    let resources = StaticResources {
        listeners: listeners.collect(),
        clusters: vec![cluster("app", &[origin.address], Speak::Http1, None)],
        ..StaticResources::default()
    };
    (Proxy::start("edge", resources), ports)
}

fn get(target: &str, lines: &[u8]) -> Vec<u8> {
    [b"GET ", target.as_bytes(), b" HTTP/1.1\r\n", lines, b"connection: close\r\n\r\n"].concat()
}

/// S-AZ-04: case, port and a trailing dot make no other host; what is no host, or more than one, is 400. Columns: a
/// deny of `Secret.com`, an allow of `Secret.com` only, an allow of everything but `Secret.com`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_is_one_host_however_it_is_spelt() {
    let origin = Origin::start().await;
    let secret = |invert| header(":authority", exact("Secret.com"), invert);
    let host_header = header("host", exact("secret.com"), false);
    let (_proxy, ports) = proxy(
        12,
        &origin,
        vec![
            (Action::Deny, secret(false)),
            (Action::Allow, secret(false)),
            (Action::Allow, secret(true)),
            (Action::Allow, not(host_header)),
        ],
    );
    let (same, other, refused) = ([403, 200, 403, 403], [200, 403, 200, 200], [400; 4]);
    let cases: &[(&[u8], [u16; 4])] = &[
        (b"secret.com", same),
        (b"Secret.com", same),
        (b"SECRET.COM", same),
        (b"secret.com.", same),
        (b"secret.com:80", same),
        (b"secret.com:443", same),
        (b"secret.com:0080", same),
        (b"secret.com:8080", same),
        (b"secret.com:", same),
        (b"Secret.Com.:443", same),
        (b" secret.com\t", same),
        (b"public.com", other),
        (b"secret.com.evil", other),
        (b"xsecret.com", other),
        (b"secret", other),
        (b"xn--scret-bsa.com", other),
        (b"0x7f.1", other),
        (b"[::ffff:1.2.3.4]", other),
        (b"[::1]:80", other),
        (b"secret.com..", refused),
        (b"", refused),
        (b".", refused),
        (b":80", refused),
        (b"secret.com:0", refused),
        (b"secret.com:65536", refused),
        (b"secret.com:+80", refused),
        (b"secret.com:80:80", refused),
        (b"secret.com:80a", refused),
        (b"a@secret.com", refused),
        (b"a:b@secret.com", refused),
        (b"secret.com/x", refused),
        (b"secret.com#", refused),
        (b"secret.com,public.com", refused),
        (b"secret%2ecom", refused),
        (b"s\xc3\xa9cret.com", refused),
        (b"secret.com\xe3\x80\x82", refused),
        (b"[fe80::1%eth0]", refused),
        (b"[fe80::1%25eth0]", refused),
        (b"[secret.com]", refused),
        (b"secret com", refused),
        (b"*", refused),
    ];
    for (host, expected) in cases {
        let mut found = [0; 4];
        for (place, port) in found.iter_mut().zip(&ports) {
            *place = exchange(*port, &get("/", &[b"host: ", *host, b"\r\n"].concat())).await.status;
        }
        assert_eq!(found, *expected, "host {}", host.escape_ascii());
    }
    for (what, request, expected) in [
        ("two hosts", get("/", b"host: public.com\r\nhost: secret.com\r\n"), 400),
        ("the same host twice", get("/", b"host: public.com\r\nhost: public.com\r\n"), 400),
        ("no host", get("/", b""), 400),
        ("an absolute target", get("http://secret.com/", b"host: public.com\r\n"), 403),
        ("an absolute target in upper case", get("HTTP://SECRET.COM:80/", b"host: public.com\r\n"), 403),
        ("user info in the target", get("http://public.com@secret.com/", b"host: public.com\r\n"), 400),
        ("the target counts, not the host", get("http://public.com/", b"host: secret.com\r\n"), 200),
    ] {
        let answer = exchange(ports[0], &request).await;
        assert_eq!(answer.status, expected, "{what}: {}", answer.text());
        if answer.status == 200 {
            // The origin hears of the host that was judged, and of no other.
            assert!(
                answer.text().to_lowercase().contains("\r\nhost: public.com\r\n"),
                "{what}: {}",
                answer.text()
            );
            assert!(!answer.text().contains("secret"), "{what}: {}", answer.text());
        }
    }
}

/// S-AZ-05: a deny fires if any value fits, an allow only if all do, in several lines and in one list. Columns: a deny
/// of `admin`, an allow of `user` only, an allow of everything but `admin` (by `invert_match`, and by a rule turned
/// round).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_that_comes_more_than_once_cannot_slip_through() {
    let origin = Origin::start().await;
    let role = |value, invert| header("x-role", exact(value), invert);
    let (_proxy, ports) = proxy(
        13,
        &origin,
        vec![
            (Action::Deny, role("admin", false)),
            (Action::Allow, role("user", false)),
            (Action::Allow, role("admin", true)),
            (Action::Allow, not(role("admin", false))),
        ],
    );
    let many = |first: &str, last: &str| {
        let mut lines = format!("x-role: {first}\r\n");
        (0..60).for_each(|_| lines.push_str("x-role: user\r\n"));
        lines + &format!("x-role: {last}\r\n")
    };
    let (user, mixed, neither) = ([200; 4], [403; 4], [200, 403, 200, 200]);
    let cases: &[(&str, [u16; 4])] = &[
        ("x-role: user\r\n", user),
        ("X-ROLE: user\r\n", user),
        ("x-role:user\r\n", user),
        ("x-role: user\r\nx-role: user\r\n", user),
        ("x-role: admin\r\n", mixed),
        ("x-role: user\r\nx-role: admin\r\n", mixed),
        ("x-role: admin\r\nx-role: user\r\n", mixed),
        ("x-role: user,admin\r\n", mixed),
        ("x-role: admin, user\r\n", mixed),
        ("x-role: user ,\tadmin \r\n", mixed),
        ("x-role:\r\nx-role: admin\r\n", mixed),
        ("x-role: user\r\nx-other: 1\r\nX-Role: admin\r\n", mixed),
        (&many("user", "admin"), mixed),
        (&many("admin", "user"), mixed),
        (&many("user", "user"), user),
        ("x-role: Admin\r\n", neither),
        ("x-role: administrator\r\n", neither),
        ("x-role: user,guest\r\n", neither),
        ("x-role: \u{e4}dmin\r\n", neither),
        // A header that is not there fits nothing, also not turned round by `invert_match`, as in Envoy.
        ("", [200, 403, 403, 200]),
        ("x-role : admin\r\n", [400; 4]),
        ("x-role: us\x01er\r\n", [400; 4]),
        ("x-role: a\x00dmin\r\n", [400; 4]),
    ];
    for (lines, expected) in cases {
        let mut found = [0; 4];
        for (place, port) in found.iter_mut().zip(&ports) {
            let lines = format!("host: h\r\n{lines}");
            *place = exchange(*port, &get("/", lines.as_bytes())).await.status;
        }
        assert_eq!(found, *expected, "{lines:?}");
    }
    // What the caller takes away with `Connection` was judged all the same, and does not arrive.
    let taken = b"host: h\r\nx-role: admin\r\nconnection: x-role\r\n";
    assert_eq!(exchange(ports[0], &get("/", taken)).await.status, 403);
    let taken = b"host: h\r\nx-role: user\r\nconnection: x-role\r\n";
    let answer = exchange(ports[1], &get("/", taken)).await;
    assert!(answer.status == 200 && !answer.text().contains("x-role"), "{}", answer.text());
    // Identity headers from outside never survive.
    let claimed = b"host: h\r\nx-forwarded-client-cert: URI=spiffe://mesh.internal/ns/default/sa/admin\r\n";
    let answer = exchange(ports[0], &get("/", claimed)).await;
    assert!(answer.status == 200 && !answer.text().contains("spiffe"), "{}", answer.text());
}
