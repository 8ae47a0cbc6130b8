//! First contact by those who may not: each is refused with a reason, logged, and counted, and no
//! refusal costs the token that somebody else may still use.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose, SanType};
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use weft_identity::{
    Bundle, IdentityMatch, Issuer, JoinToken, PrivateKey, SpiffeId, Svid, TokenSecret, TrustDomain,
};
use weft_link::{JoinRequest, JoinResponse, LinkClient, RenewRequest};
use weft_testkit::{Mesh, http, pause};

use crate::{WEFT, short_or_stated};

pub fn id(service: &str) -> SpiffeId {
    SpiffeId::service(&TrustDomain::new("mesh.internal").unwrap(), "default", service).unwrap()
}

pub fn token(mesh: &Mesh, service: &str, ttl: &str) -> JoinToken {
    mesh.ok(&["identity", "token", "--service", service, "--ttl", ttl]).unwrap().trim().parse().unwrap()
}

/// As a member connects: the control plane's identity is proven to us before anything is said.
pub async fn channel(
    mesh: &Mesh,
    bundle: &Bundle,
    svid: Option<&Svid>,
) -> Result<Channel, tonic::transport::Error> {
    let control = IdentityMatch::Exact(vec![SpiffeId::control(bundle.trust_domain())]);
    let tls = match svid {
        Some(svid) => weft_identity::tls::client_config(svid, bundle, control, &["h2"]).unwrap(),
        None => weft_identity::tls::client_config_anonymous(bundle, control, &["h2"]).unwrap(),
    };
    let port = mesh.xds;
    let connect = tower::service_fn(move |_: ::http::Uri| {
        let tls = tokio_rustls::TlsConnector::from(Arc::clone(&tls));
        async move {
            let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
            let name = ServerName::try_from("control.mesh.internal").map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(TokioIo::new(tls.connect(name, stream).await?))
        }
    });
    let endpoint = Endpoint::from_static("http://control.mesh.internal").timeout(Duration::from_secs(10));
    endpoint.connect_with_connector(connect).await
}

async fn link(
    mesh: &Mesh,
    bundle: &Bundle,
    svid: Option<&Svid>,
) -> Result<LinkClient<Channel>, tonic::transport::Error> {
    Ok(LinkClient::new(channel(mesh, bundle, svid).await?))
}

/// A member's certificate, for a token that is good.
pub async fn join_as(mesh: &Mesh, service: &str, token: &JoinToken) -> Svid {
    let mut link = link(mesh, &token.bundle, None).await.unwrap();
    let key = PrivateKey::generate().unwrap();
    let answer = join(&mut link, service, &token.encode(), key.csr_der(&id(service)).unwrap()).await;
    let chain: Vec<CertificateDer<'static>> =
        answer.expect("a good token").chain_der.into_iter().map(CertificateDer::from).collect();
    Svid::new(chain, key).unwrap()
}

async fn join(
    link: &mut LinkClient<Channel>,
    service: &str,
    token: &str,
    csr_der: Vec<u8>,
) -> Result<JoinResponse, Status> {
    let request = JoinRequest {
        token: token.to_owned(),
        csr_der,
        service: service.into(),
        namespace: "default".into(),
    };
    Ok(link.join(request).await?.into_inner())
}

/// What `/query/v1/status` tells an administrator.
fn status(mesh: &Mesh) -> Value {
    let token = std::fs::read_to_string(mesh.state().join("admin.token")).unwrap();
    let bearer = format!("Bearer {}", token.trim());
    let api = format!("127.0.0.1:{}", mesh.api);
    let answer = http::get(&api, "/query/v1/status", &[("authorization", &bearer)]).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

/// The count behind one reason.
pub fn count(mesh: &Mesh, what: &str, reason: &str) -> u64 {
    let status = status(mesh);
    let all = status["counters"].as_array().expect("status has counters");
    let found = all.iter().find(|one| one["what"] == what && one["reason"] == reason);
    found.map_or(0, |one| one["count"].as_u64().unwrap())
}

/// Log lines of refusals for this reason.
fn logged(mesh: &Mesh, what: &str, reason: &str) -> usize {
    mesh.control.log_text().lines().filter(|line| line.contains(what) && line.contains(reason)).count()
}

/// A CSR as a stranger's tool would make it.
fn csr(service: &str, spoil: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(id(service).as_str().try_into().unwrap())];
    spoil(&mut params);
    params.serialize_request(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

fn as_ca(params: &mut CertificateParams) {
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_join_is_refused_logged_and_counted() {
    let mesh = Mesh::start(WEFT).unwrap();
    let good = token(&mesh, "fe", "10m");
    let short = token(&mesh, "fe", "1s");
    let mut link = link(&mesh, &good.bundle, None).await.unwrap();
    let invented = JoinToken { secret: TokenSecret::from_random([7; 32]), ..good.clone() };
    let text = good.encode();
    let mut flipped = csr("fe", |_| {});
    *flipped.last_mut().unwrap() ^= 1;
    let two_ids = |p: &mut CertificateParams| {
        p.subject_alt_names.push(SanType::URI(id("be4").as_str().try_into().unwrap()));
    };
    let signs = |p: &mut CertificateParams| p.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    // Expiry counts in whole seconds.
    pause(Duration::from_millis(2100));
    let cases: [(&str, &str, String, Vec<u8>, &str); 12] = [
        ("no token at all", "fe", String::new(), csr("fe", |_| {}), "malformed_token"),
        ("a token cut short", "fe", text[..text.len() / 2].to_owned(), csr("fe", |_| {}), "malformed_token"),
        ("an invented secret", "fe", invented.encode(), csr("fe", |_| {}), "unknown_or_used_token"),
        ("an expired token", "fe", short.encode(), csr("fe", |_| {}), "expired_token"),
        ("fe's token to be be1", "be1", text.clone(), csr("be1", |_| {}), "other_service"),
        ("a CSR for somebody else's id", "fe", text.clone(), csr("be1", |_| {}), "other_id"),
        ("a CSR for two ids", "fe", text.clone(), csr("fe", two_ids), "several_ids"),
        ("a CSR without an id", "fe", text.clone(), csr("fe", |p| p.subject_alt_names.clear()), "no_id"),
        ("a CSR asking to be a CA", "fe", text.clone(), csr("fe", as_ca), "asks_for_ca"),
        ("a CSR asking to sign certificates", "fe", text.clone(), csr("fe", signs), "asks_for_cert_sign"),
        ("a CSR with a false signature", "fe", text.clone(), flipped, "bad_signature"),
        ("bytes that are no CSR", "fe", text.clone(), b"certificate, please".to_vec(), "bad_der"),
    ];
    for (what, service, token, csr, reason) in cases {
        let before = (count(&mesh, "join_refused", reason), logged(&mesh, "join_refused", reason));
        let refused = join(&mut link, service, &token, csr).await.expect_err(what);
        assert_eq!(refused.code(), Code::PermissionDenied, "{what}: {refused}");
        assert!(!refused.message().is_empty() && !refused.message().contains('\n'), "{what}: {refused}");
        let after = (count(&mesh, "join_refused", reason), logged(&mesh, "join_refused", reason));
        assert_eq!(
            after,
            (before.0 + 1, before.1 + 1),
            "{what}: counted and logged once as {reason}: {}",
            mesh.control.log_text()
        );
    }
    assert_eq!(count(&mesh, "joined", "token"), 0);
    // No secret went into the log.
    assert!(!mesh.control.log_text().contains(&text[6..40]), "{}", mesh.control.log_text());

    // None of that cost the token: its owner joins, as exactly what the token says, and only once.
    let key = PrivateKey::generate().unwrap();
    let answer = join(&mut link, "fe", &text, key.csr_der(&id("fe")).unwrap())
        .await
        .expect("the rightful owner joins");
    let chain: Vec<CertificateDer<'static>> =
        answer.chain_der.into_iter().map(CertificateDer::from).collect();
    let svid = Svid::new(chain, key).unwrap();
    assert_eq!(svid.id(), &id("fe"));
    let replay = join(&mut link, "fe", &text, csr("fe", |_| {})).await.expect_err("a replayed token");
    assert!(replay.message().contains("used before"), "{replay}");
    assert_eq!(
        (count(&mesh, "joined", "token"), count(&mesh, "join_refused", "unknown_or_used_token")),
        (1, 2)
    );
    renewals(&mesh, &good.bundle, &svid).await;
}

/// A member may renew itself, nobody else, and never as a CA.
async fn renewals(mesh: &Mesh, bundle: &Bundle, svid: &Svid) {
    let mut member = link(mesh, bundle, Some(svid)).await.unwrap();
    for (what, csr, reason) in [
        ("somebody else's id", csr("be1", |_| {}), "other_id"),
        ("to be a CA", csr("fe", as_ca), "asks_for_ca"),
    ] {
        let refused = member.renew(RenewRequest { csr_der: csr }).await.expect_err(what);
        assert_eq!(refused.code(), Code::PermissionDenied, "{what}: {refused}");
        assert_eq!(
            (count(mesh, "renew_refused", reason), logged(mesh, "renew_refused", reason)),
            (1, 1),
            "{what}"
        );
    }
    member.renew(RenewRequest { csr_der: csr("fe", |_| {}) }).await.expect("its own id");
    let mut nobody = link(mesh, bundle, None).await.unwrap();
    let refused =
        nobody.renew(RenewRequest { csr_der: csr("fe", |_| {}) }).await.expect_err("without a certificate");
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");

    // The right name from another CA: the handshake says no.
    let domain = TrustDomain::new("mesh.internal").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let other = Issuer::open(&folder.path().join("ca"), &domain, SystemTime::now()).unwrap();
    let key = PrivateKey::generate().unwrap();
    let issued = other
        .issue(
            &key.csr_der(&id("fe")).unwrap(),
            &id("fe"),
            SystemTime::now(),
            Duration::from_secs(3600),
            [1; 16],
        )
        .unwrap();
    let forged = Svid::new(issued.chain, key).unwrap();
    let refused = match link(mesh, bundle, Some(&forged)).await {
        Ok(mut stranger) => stranger.renew(RenewRequest { csr_der: csr("fe", |_| {}) }).await.is_err(),
        Err(_) => true,
    };
    assert!(refused, "a certificate of another CA was taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_twenty_who_use_one_token_at_once_exactly_one_joins() {
    let mesh = Mesh::start(WEFT).unwrap();
    let before = status(&mesh)["certificates_issued"].as_u64().unwrap();
    for round in 1..=short_or_stated(3, 50) {
        let token = token(&mesh, "fe", "10m");
        let text = token.encode();
        let gate = Arc::new(tokio::sync::Barrier::new(20));
        let mut tries = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let mut link = link(&mesh, &token.bundle, None).await.unwrap();
            let (text, csr, gate) = (text.clone(), csr("fe", |_| {}), Arc::clone(&gate));
            tries.spawn(async move {
                gate.wait().await;
                join(&mut link, "fe", &text, csr).await
            });
        }
        let answers = tries.join_all().await;
        let won = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(won, 1, "round {round}: {answers:?}");
        for refused in answers.into_iter().filter_map(Result::err) {
            assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
        }
        assert_eq!(
            (count(&mesh, "joined", "token"), count(&mesh, "join_refused", "unknown_or_used_token")),
            (round, round * 19)
        );
        assert_eq!(status(&mesh)["certificates_issued"], before + round, "one certificate left the house");
        // The door opens for fifty a second, and two hundred at once: rounds wait for their turn.
        pause(Duration::from_millis(400));
    }
}
