//! The inventory is what was issued, and what is taken back reaches members, and nobody gets more by it.

use std::collections::BTreeSet;
use std::time::Instant;

use http_body_util::{BodyExt as _, Full};
use weft_identity::{Crl, SignedList};

use super::*;

/// A request over the owner's socket.
async fn api(state: &Path, method: &str, path: &str, body: serde_json::Value) -> (u16, serde_json::Value) {
    let stream = tokio::net::UnixStream::connect(state.join("control.sock")).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Full<bytes::Bytes>>(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::from(body.to_string()))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let code = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or_default())
}

async fn revoke(state: &Path, of: &str) -> serde_json::Value {
    let wish = json!({"of": of, "reason": "key-compromise"});
    let (code, done) = api(state, "POST", "/identity/v1/revocations", wish).await;
    assert_eq!(code, 200, "{done}");
    done
}

/// Serial, identity and evidence of each certificate in the inventory.
async fn inventory(state: &Path) -> BTreeSet<(String, String, String)> {
    let (code, all) = api(state, "GET", "/identity/v1/certificates", json!(null)).await;
    assert_eq!(code, 200, "{all}");
    let text = |one: &serde_json::Value, key: &str| one[key].as_str().unwrap().to_owned();
    let all = all["certificates"].as_array().unwrap().iter();
    all.map(|one| {
        assert!(one["issuer"].as_str().unwrap().len() > 8 && one["not_after"].is_string(), "{one}");
        (text(one, "serial"), text(one, "id"), text(one, "evidence"))
    })
    .collect()
}

fn told(svid: &Svid, evidence: &str) -> (String, String, String) {
    (svid.serial_hex().to_owned(), svid.id().to_string(), evidence.to_owned())
}

async fn renew(channel: Channel, service: &str) -> Result<Svid, Status> {
    let key = PrivateKey::generate().unwrap();
    let answer =
        LinkClient::new(channel).renew(RenewRequest { csr_der: csr(&key, service) }).await?.into_inner();
    Ok(Svid::new(answer.chain_der.into_iter().map(CertificateDer::from).collect(), key).unwrap())
}

/// The audit log's lines about certificates: who, verb, object, result, reason.
fn audited(state: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(state.join("audit.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let lines = lines.filter(|line| line["object"].as_str().unwrap().starts_with("certificate"));
    lines
        .map(|line| {
            assert!(line["time"].is_string(), "{line}");
            let own = line["who"] == "control";
            assert_eq!(line["peer"].as_str().unwrap().is_empty(), own, "{line}");
            format!(
                "{} {} {} {} {}",
                line["who"], line["verb"], line["object"], line["result"], line["reason"]
            )
            .replace('"', "")
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_inventory_is_what_was_issued_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let (fe, bundle) = join(&running, "fe").await;
    let renewed = renew(as_member(&running, &fe, &bundle).await, "fe").await.unwrap();
    let (be1, _) = join(&running, "be1").await;
    let refused = renew(as_member(&running, &be1, &bundle).await, "be2").await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let known = until("the control plane's own", async || {
        Some(inventory(dir.path()).await).filter(|known| known.len() == 4)
    })
    .await;
    let expected =
        BTreeSet::from([told(&fe, "join-token"), told(&renewed, "renewal"), told(&be1, "join-token")]);
    let own: Vec<_> = known.difference(&expected).collect();
    assert!(known.is_superset(&expected), "{known:?}");
    assert!(matches!(own[..], [(_, _, evidence)] if evidence == "control-plane"), "{own:?}");

    // One line each, also for what was refused.
    let lines = audited(dir.path());
    for (svid, who) in [
        (&fe, "join token for default/fe"),
        (&renewed, "spiffe://mesh.internal/ns/default/sa/fe"),
        (&be1, "join token for default/be1"),
    ] {
        let about: Vec<_> = lines.iter().filter(|line| line.contains(svid.serial_hex())).collect();
        assert_eq!(about.len(), 1, "{lines:?}");
        assert!(
            about[0].starts_with(&format!("{who} issue certificate ")) && about[0].contains(" 200 "),
            "{about:?}"
        );
    }
    let refusals: Vec<_> = lines.iter().filter(|line| line.contains(" 403 ")).collect();
    assert!(matches!(refusals[..], [line] if line.ends_with("403 other_id")), "{refusals:?}");

    running.shutdown();
    running.stopped().await;
    let running = until("the store to be free", async || {
        let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let config = Config {
            state: dir.path().to_owned(),
            api: any,
            xds: any,
            dns: any,
            store: None,
            trust_domain: None,
            advertise: None,
        };
        weft_control::start(config).await.ok()
    })
    .await;
    let again = inventory(dir.path()).await;
    assert!(again.is_superset(&known), "{again:?}");
    drop(running);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_certificate_is_told_cut_and_renews_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let (fe, bundle) = join(&running, "fe").await;
    let (other, _) = join(&running, "fe").await;
    let member = as_member(&running, &fe, &bundle).await;
    let (_ups, mut its_downs) = say(member.clone(), hello("fe", "fe-1")).await.unwrap();
    let (be1, _) = join(&running, "be1").await;
    let (_others, mut downs) =
        say(as_member(&running, &be1, &bundle).await, hello("be1", "be1-1")).await.unwrap();
    let asked = Instant::now();
    let done = revoke(dir.path(), fe.serial_hex()).await;
    assert_eq!((&done["revoked"], &done["barred"]), (&json!([fe.serial_hex()]), &json!(false)));
    // All members hear of it, signed by a CA that they trust; so does its holder, before it is cut.
    for downs in [&mut downs, &mut its_downs] {
        let crl = until("the list", async || match downs.message().await.unwrap().unwrap().message {
            Some(down::Message::Crl(crl)) => Some(crl).filter(|crl| crl.lists[0].crl_der.len() > 1),
            _ => None,
        });
        let mut crl = crl.await;
        while !read(crl, &bundle).holds(fe.serial_hex()) {
            let Some(down::Message::Crl(next)) = downs.message().await.unwrap().unwrap().message else {
                unreachable!("nothing else is said")
            };
            crl = next;
        }
    }
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    let ended = tokio::time::timeout(PATIENCE, its_downs.message()).await.unwrap();
    assert!(ended.is_err(), "{ended:?}");
    assert!(asked.elapsed() < Duration::from_secs(10));
    assert!(renew(member, "fe").await.is_err());
    // By a new connection neither; another certificate of the same identity is good.
    let tls = weft_identity::tls::client_config(&fe, &bundle, control(&bundle), &["h2"]).unwrap();
    let connect = tokio::net::TcpStream::connect(running.xds).await.unwrap();
    let name = ServerName::try_from("control.mesh.internal").unwrap();
    if let Ok(mut stream) = tokio_rustls::TlsConnector::from(tls).connect(name, connect).await {
        use tokio::io::AsyncReadExt as _;
        let refused = tokio::time::timeout(PATIENCE, stream.read_u8()).await.unwrap();
        assert!(refused.is_err(), "the server takes no byte of it: {refused:?}");
    }
    renew(as_member(&running, &other, &bundle).await, "fe").await.unwrap();
    let (_, all) =
        api(dir.path(), "GET", &format!("/identity/v1/certificates?of={}", fe.serial_hex()), json!(null))
            .await;
    assert_eq!(all["certificates"][0]["revoked"]["reason"], "key-compromise", "{all}");
    let again = revoke(dir.path(), fe.serial_hex()).await;
    assert_eq!((&again["revoked"], &again["already"]), (&json!([]), &json!(1)));
}

fn read(crl: weft_link::Crl, bundle: &Bundle) -> Crl {
    let lists = crl.lists.into_iter();
    let lists = lists.map(|list| SignedList { der: list.crl_der, issuer: list.issuer_der.into() });
    Crl::read(lists.collect(), bundle).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_identity_comes_back_with_a_new_token_and_with_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let (first, bundle) = join(&running, "fe").await;
    let (second, _) = join(&running, "fe").await;
    let (be1, _) = join(&running, "be1").await;
    let old = token(&running, "fe").await;
    let open = as_member(&running, &first, &bundle).await;
    let id = first.id().to_string();
    let done = revoke(dir.path(), &id).await;
    let revoked: BTreeSet<_> =
        done["revoked"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
    assert_eq!(revoked, BTreeSet::from([first.serial_hex(), second.serial_hex()]));
    assert_eq!((&done["tokens"], &done["barred"]), (&json!(1), &json!(true)));
    // On a connection that stands for another moment.
    let refused = renew(open, "fe").await.unwrap_err();
    assert!(refused.message().contains("revoked") || refused.code() != Code::PermissionDenied, "{refused}");
    let key = PrivateKey::generate().unwrap();
    let refused =
        stranger(&running, &bundle).await.join(request(&old, "fe", csr(&key, "fe"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let (_, shown) = api(dir.path(), "GET", "/identity/v1/certificates", json!(null)).await;
    assert_eq!(shown["barred"][0]["id"], id, "{shown}");
    renew(as_member(&running, &be1, &bundle).await, "be1").await.unwrap();

    let (back, _) = join(&running, "fe").await;
    let renewed = renew(as_member(&running, &back, &bundle).await, "fe").await.unwrap();
    assert_ne!(renewed.serial_hex(), back.serial_hex());
    let refused =
        stranger(&running, &bundle).await.join(request(&old, "fe", csr(&key, "fe"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "the old one stays void");
    let (_, shown) = api(dir.path(), "GET", "/identity/v1/certificates", json!(null)).await;
    assert_eq!(shown["barred"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_revoked_is_said_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let _running = start(dir.path()).await;
    for (of, code, words) in [
        ("4a00ff00", 404, "no certificate that is valid now has the serial number 4a00ff00"),
        ("spiffe://mesh.internal/ns/default/sa/nobody", 404, "neither a certificate"),
        ("spiffe://other.example/ns/default/sa/fe", 400, "of mesh.internal"),
        ("fe", 400, "spiffe://mesh.internal/ns/NAMESPACE/sa/SERVICE"),
        ("default/fe", 400, "neither a serial number in hex nor a SPIFFE id"),
        ("", 400, "neither a serial number"),
    ] {
        let (found, said) = api(dir.path(), "POST", "/identity/v1/revocations", json!({"of": of})).await;
        assert_eq!(found, code, "{of}: {said}");
        assert!(said["message"].as_str().unwrap().contains(words), "{of}: {said}");
    }
    let td = TrustDomain::new("mesh.internal").unwrap();
    let control = SpiffeId::control(&td).to_string();
    let (code, said) = api(dir.path(), "POST", "/identity/v1/revocations", json!({"of": control})).await;
    assert_eq!(code, 400, "{said}");
    let wish = json!({"of": "4a00ff00", "reason": "boredom"});
    let (code, said) = api(dir.path(), "POST", "/identity/v1/revocations", wish).await;
    assert!(code == 400 && said["message"].as_str().unwrap().contains("key-compromise"), "{said}");
    let (code, _) = api(dir.path(), "GET", "/identity/v1/certificates?of=4a00ff00", json!(null)).await;
    assert_eq!(code, 404);
    let (_, all) = api(dir.path(), "GET", "/identity/v1/certificates", json!(null)).await;
    assert_eq!(all["barred"], json!([]));
}

/// A control plane whose own certificate is revoked is served by the next one.
#[tokio::test(flavor = "multi_thread")]
async fn the_control_plane_replaces_its_own_revoked_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let (fe, bundle) = join(&running, "fe").await;
    let own = until("the control plane's own", async || {
        inventory(dir.path()).await.into_iter().find(|(_, _, evidence)| evidence == "control-plane")
    })
    .await;
    revoke(dir.path(), &own.0).await;
    until("the next one", async || {
        Some(inventory(dir.path()).await.iter().filter(|one| one.1 == own.1).count())
            .filter(|count| *count == 2)
    })
    .await;
    let crl = until("the list", async || running.core().authority.bundle().crl().cloned()).await;
    let bundle = bundle.with_crl(Some(crl));
    renew(as_member(&running, &fe, &bundle).await, "fe").await.unwrap();
}
