//! DNS: a VIP for each service, SRV for each port, upstream for the rest. Asked with the real `dig`.

use weft_testkit::{Mesh, peers};

use crate::WEFT;

const SERVICE: &str = r"
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {selector: {app: shop}, ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp-db, port: 5432}]}
";

fn dig(mesh: &Mesh, args: &[&str]) -> Option<String> {
    let dig = peers::program("dig")?;
    let port = mesh.dns.to_string();
    let mut all = vec!["@127.0.0.1", "-p", &port, "+time=2", "+tries=2"];
    all.extend(args);
    let out = weft_testkit::run(dig, &all).unwrap();
    Some(String::from_utf8_lossy(&out.stdout).into_owned())
}

#[test]
fn services_have_addresses_and_srv_records() {
    let mesh = Mesh::start(WEFT).unwrap();
    mesh.apply(SERVICE).unwrap();
    let Some(a) = weft_testkit::eventually("the name resolves", std::time::Duration::from_secs(3), || {
        let answer = dig(&mesh, &["+noall", "+answer", "shop.default.mesh.internal", "A"]);
        match &answer {
            None => Some(None),
            Some(text) => text.contains("240.240.").then_some(answer),
        }
    }) else {
        return;
    };
    assert!(a.split_whitespace().nth(1) == Some("5"), "the TTL is 5 s: {a}");
    let tcp = dig(&mesh, &["+tcp", "+short", "shop.default.mesh.internal", "A"]).unwrap();
    assert!(tcp.starts_with("240.240."), "{tcp}");
    let aaaa = dig(&mesh, &["shop.default.mesh.internal", "AAAA"]).unwrap();
    assert!(aaaa.contains("status: NOERROR"), "{aaaa}");
    let http = dig(&mesh, &["+short", "_http._tcp.shop.default.mesh.internal", "SRV"]).unwrap();
    assert!(http.contains(" 80 "), "{http}");
    let db = dig(&mesh, &["+short", "_tcp-db._tcp.shop.default.mesh.internal", "SRV"]).unwrap();
    assert!(db.contains(" 5432 "), "{db}");
    let none = dig(&mesh, &["nobody.default.mesh.internal", "A"]).unwrap();
    assert!(none.contains("status: NXDOMAIN"), "{none}");
}
