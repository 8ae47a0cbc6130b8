//! Every route and every kind of caller: what each may, and that no route was forgotten.

use std::collections::BTreeSet;
use std::path::Path;

use http_body_util::Full;
use rcgen::{CertificateParams, KeyPair, SanType};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use super::*;
use crate::api::access::ROUTES as TABLE;
use crate::api::access::{self, Need};

const USERS: &str = "/access/v1/users";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Who {
    Anonymous,
    /// A member of the mesh that shows its SVID: an identity, but no user of the API.
    Proxy,
    Viewer,
    Operator,
    OperatorOfShop,
    OperatorOfDefault,
    Admin,
}

/// What the documentation says, written a second time and without the table.
fn may(who: Who, method: &Method, path: &str) -> bool {
    let reads = *method == Method::GET;
    let object = path.starts_with("/api/v1/") || path.starts_with("/apis/") && path.split('/').count() > 4;
    let secret = path.contains("/secrets");
    let namespaces = ["/api/v1/namespaces", "/api/v1/namespaces/shop", "/api/v1/namespaces/shop/status"];
    let in_shop = path.contains("/namespaces/shop");
    // Kinds of no namespace: the whole mesh's.
    let mesh_wide = path.contains("/meshes");
    let namespaced = object && !mesh_wide && !namespaces.contains(&path);
    match who {
        Who::Anonymous | Who::Proxy => false,
        Who::Admin => true,
        Who::Viewer if object => reads && !secret,
        Who::Operator if object => reads || namespaced,
        Who::OperatorOfShop if namespaced => in_shop,
        Who::OperatorOfDefault if namespaced => false,
        Who::OperatorOfShop if object => reads && (mesh_wide || in_shop),
        Who::OperatorOfDefault if object => reads && mesh_wide,
        _ if path.starts_with("/query/v1/bundle") => reads,
        Who::Viewer | Who::Operator if path == "/query/v1/token" => false,
        Who::Viewer | Who::Operator if path == "/query/v1/connections" => who == Who::Operator,
        Who::Viewer | Who::Operator if path.starts_with("/query/") => reads,
        Who::Viewer | Who::Operator if path.starts_with("/identity/") => reads,
        _ => {
            reads
                && !["/query/", "/access/", "/audit/", "/identity/"].iter().any(|root| path.starts_with(root))
        }
    }
}

/// All routes, from the documents that the server itself publishes, and from the table.
async fn walk(server: &Server) -> Vec<(Method, String)> {
    let mut all = Vec::new();
    let index = server.get("/openapi/v3").await.value;
    for document in index["paths"].as_object().unwrap().values() {
        let document = server.get(document["serverRelativeURL"].as_str().unwrap()).await.value;
        for (path, operations) in document["paths"].as_object().unwrap() {
            let path = path.replace("{namespace}", "shop").replace("{name}", "shop");
            for verb in operations.as_object().unwrap().keys().filter(|verb| *verb != "parameters") {
                all.push((verb.to_uppercase().parse().unwrap(), path.clone()));
            }
        }
    }
    let published = all.len();
    assert!(published > 100, "the documents name {published} operations");
    for route in TABLE.iter().filter(|route| route.read != Need::Objects) {
        let path = route.path.replace('*', "v1");
        all.push((Method::GET, path.clone()));
        all.push((Method::POST, path));
    }
    all
}

/// A certificate of a member, and of nobody whom this API knows.
fn certificate(name: &str) -> (String, CertificateDer<'static>, PrivateKeyDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(name.try_into().unwrap())];
    let made = params.self_signed(&key).unwrap();
    let secret = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    (made.pem(), made.der().clone(), secret)
}

/// A request over TLS that shows a client certificate.
async fn over_tls(
    server: &Server,
    certificate: (CertificateDer<'static>, PrivateKeyDer<'static>),
    method: Method,
    path: &str,
) -> Answer {
    let ca = std::fs::read(server.dir.path().join("api/ca.pem")).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate.0], certificate.1)
        .unwrap();
    let stream = TcpStream::connect(server.address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
    let mut request = server.request(method, path).body(Full::default()).unwrap();
    request.headers_mut().remove("authorization");
    answer(exchange(stream, request).await).await
}

async fn as_user(server: &Server, token: &str, method: &Method, path: &str) -> Answer {
    let mut request = server
        .request(method.clone(), path)
        .header("content-type", "application/json")
        .body(Full::default())
        .unwrap();
    request.headers_mut().remove("authorization");
    if !token.is_empty() {
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    answer(server.send(request).await).await
}

async fn grant(server: &Server, user: Value) -> String {
    let made = server.post(USERS, &user).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.value);
    made.value["token"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn every_route_lets_in_whom_it_should_and_nobody_else() {
    let server = Server::start().await;
    let viewer = grant(&server, json!({"name": "vi", "role": "viewer"})).await;
    let operator = grant(&server, json!({"name": "op", "role": "operator"})).await;
    let shop = grant(&server, json!({"name": "os", "role": "operator", "namespaces": ["shop"]})).await;
    let default = grant(&server, json!({"name": "od", "role": "operator", "namespaces": ["default"]})).await;
    let admin = grant(&server, json!({"name": "ad", "role": "admin"})).await;
    let (_, svid, key) = certificate("spiffe://mesh.internal/ns/default/sa/fe");
    let (mut asked, mut refused) = (0, 0);
    for (method, path) in walk(&server).await {
        for (who, token) in [
            (Who::Anonymous, ""),
            (Who::Proxy, "svid"),
            (Who::Viewer, &viewer),
            (Who::Operator, &operator),
            (Who::OperatorOfShop, &shop),
            (Who::OperatorOfDefault, &default),
            (Who::Admin, &admin),
        ] {
            let found = match who {
                // A handshake each: a sample of the routes is enough, the gate is one.
                Who::Proxy if asked % 10 != 4 => continue,
                Who::Proxy => over_tls(&server, (svid.clone(), key.clone_key()), method.clone(), &path).await,
                _ => as_user(&server, token, &method, &path).await,
            };
            asked += 1;
            let known = !matches!(who, Who::Anonymous | Who::Proxy);
            // What an operator may not see is not there for it: nothing says whether it exists.
            let hidden = found.status == StatusCode::NOT_FOUND
                && found.value["message"].as_str().unwrap_or_default().contains("\"shop\" not found");
            let told_no = if known {
                found.status == StatusCode::FORBIDDEN
                    || hidden && who == Who::OperatorOfDefault && path.contains("/namespaces/shop")
            } else {
                found.status == StatusCode::UNAUTHORIZED
            };
            let expected = may(who, &method, &path);
            assert_eq!(!told_no, expected, "{who:?} {method} {path}: {} {}", found.status, found.value);
            refused += usize::from(told_no);
        }
    }
    println!("{asked} requests, {refused} refused");
    assert!(asked > 700 && refused > 300, "{asked} asked, {refused} refused");
    server.stop().await;
}

/// Every path that some part of the control plane answers has its line in the table.
#[test]
fn no_endpoint_is_without_an_entry() {
    fn sources(folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !path.components().any(|part| part.as_os_str() == "tests")
            {
                found.push(std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut texts = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut texts);
    let mut mounted = BTreeSet::new();
    for text in &texts {
        // `.route("/query/v1/stat", get(stat))`, on one line or two.
        for call in text.split(".route(").skip(1) {
            if let Some(path) = call.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next()) {
                mounted.insert(path.to_owned());
            }
        }
    }
    assert!(mounted.contains("/query/v1/stat"), "{mounted:?}");
    for path in &mounted {
        let pattern: Vec<&str> = path
            .trim_matches('/')
            .split('/')
            .map(|segment| if segment.starts_with('{') { "x" } else { segment })
            .collect();
        assert!(
            access::entry(&pattern).is_some(),
            "{path} is answered, but access::ROUTES does not say who may ask it: add a line"
        );
    }
    for route in TABLE.iter().filter(|route| route.path.starts_with("/query/")) {
        assert!(mounted.contains(route.path), "{} has a line, but nothing answers it", route.path);
    }
}

#[tokio::test]
async fn users_come_and_go_and_no_secret_is_kept() {
    let server = Server::start().await;
    let token = grant(&server, json!({"name": "vi", "role": "viewer", "ttl": "1h"})).await;
    assert_eq!(
        server.post(USERS, &json!({"name": "vi", "role": "admin"})).await.status,
        StatusCode::CONFLICT
    );
    for wrong in [
        json!({"name": "admin", "role": "viewer"}),
        json!({"name": "a/b", "role": "viewer"}),
        json!({"name": "", "role": "viewer"}),
        json!({"name": "x", "role": "king"}),
        json!({"name": "x", "role": "viewer", "namespaces": []}),
        json!({"name": "x", "role": "viewer", "ttl": "soon"}),
        json!({"name": "x", "role": "viewer", "certificate": "none"}),
    ] {
        assert_eq!(server.post(USERS, &wrong).await.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
    let list = server.get(USERS).await.value;
    assert_eq!(list["users"][0]["role"], "viewer");
    for place in ["store.redb", "audit.jsonl"] {
        let bytes = std::fs::read(server.dir.path().join(place)).unwrap();
        assert!(!bytes.windows(token.len()).any(|part| part == token.as_bytes()), "the token is in {place}");
    }
    assert!(!list.to_string().contains(&token));
    assert_eq!(as_user(&server, &token, &Method::GET, SERVICES).await.status, StatusCode::OK);
    assert_eq!(server.delete(&format!("{USERS}/vi")).await.status, StatusCode::OK);
    assert_eq!(as_user(&server, &token, &Method::GET, SERVICES).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(server.delete(&format!("{USERS}/vi")).await.status, StatusCode::NOT_FOUND);
    server.stop().await;
}

#[tokio::test]
async fn who_guesses_is_told_to_wait_and_locks_nobody_out() {
    let server = Server::start().await;
    let token = grant(&server, json!({"name": "vi", "role": "viewer"})).await;
    let guess = async |n: u32| as_user(&server, &format!("guess-{n}"), &Method::GET, SERVICES).await;
    for n in 1..5 {
        assert_eq!(guess(n).await.status, StatusCode::UNAUTHORIZED, "guess {n}");
    }
    for (n, wait) in [(5, "1"), (6, "2"), (7, "4")] {
        let refused = guess(n).await;
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS, "guess {n}");
        assert_eq!(refused.headers["retry-after"], wait);
        assert_eq!(refused.value["reason"], "TooManyRequests");
    }
    assert_eq!(as_user(&server, &token, &Method::GET, SERVICES).await.status, StatusCode::OK);
    assert_eq!(guess(8).await.status, StatusCode::UNAUTHORIZED, "it begins anew");
    server.stop().await;
}

#[tokio::test]
async fn a_client_certificate_is_its_users() {
    let server = Server::start().await;
    let (pem, der, key) = certificate("https://example.com/ana");
    let shown = || (der.clone(), key.clone_key());
    assert_eq!(over_tls(&server, shown(), Method::GET, SERVICES).await.status, StatusCode::UNAUTHORIZED);
    grant(&server, json!({"name": "ana", "role": "viewer", "certificate": pem})).await;
    assert_eq!(over_tls(&server, shown(), Method::GET, SERVICES).await.status, StatusCode::OK);
    let refused = over_tls(&server, shown(), Method::DELETE, &format!("{SERVICES}/x")).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.value);
    // Another certificate of the same name and another key is nobody.
    let (_, other, other_key) = certificate("https://example.com/ana");
    let stranger = over_tls(&server, (other, other_key), Method::GET, SERVICES).await;
    assert_eq!(stranger.status, StatusCode::UNAUTHORIZED);
    // One that does not have the key does not get through the handshake.
    let (_, _, false_key) = certificate("https://example.com/ana");
    let thief =
        std::panic::AssertUnwindSafe(over_tls(&server, (der.clone(), false_key), Method::GET, SERVICES));
    assert!(futures_util::FutureExt::catch_unwind(thief).await.is_err(), "no answer without the key");
    server.stop().await;
}

#[tokio::test]
async fn every_refusal_and_every_change_is_in_the_audit_log() {
    let server = Server::start().await;
    let viewer = grant(&server, json!({"name": "vi", "role": "viewer"})).await;
    as_user(&server, &viewer, &Method::POST, SERVICES).await;
    as_user(&server, "wrong", &Method::GET, SERVICES).await;
    let made = server.post(SERVICES, &service("be1")).await;
    server.get(SERVICES).await;
    let lines: Vec<String> = server
        .audit()
        .iter()
        .map(|line| {
            assert!(line["time"].is_string() && line["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
            format!(
                "{} {} {} {} {}",
                line["who"], line["verb"], line["object"], line["result"], line["revision"]
            )
            .replace('"', "")
        })
        .collect();
    let revision = made.value["metadata"]["resourceVersion"].as_str().unwrap();
    assert_eq!(
        lines,
        [
            "admin POST user vi 201 null".to_owned(),
            format!("vi POST {SERVICES} 403 null"),
            format!("unknown GET {SERVICES} 401 null"),
            format!("admin create Service default/be1 201 {revision}"),
        ]
    );
    let whole = server.get("/audit/v1/verify").await.value;
    assert_eq!((&whole["ok"], &whole["entries"]), (&true.into(), &4.into()));
    let refused = server.get("/audit/v1/entries?refused=true&who=vi").await.value;
    assert_eq!(refused["entries"].as_array().unwrap().len(), 1, "{refused}");
    assert_eq!(refused["entries"][0]["object"], SERVICES);
    let newest = server.get("/audit/v1/entries?limit=1").await.value;
    assert_eq!((&newest["entries"][0]["verb"], &newest["more"]), (&"create".into(), &true.into()));
    assert_eq!(server.get("/audit/v1/entries?limit=0").await.status, 400);
    assert_eq!(server.get("/audit/v1/entries?sinc=1h").await.status, 400);
    let file = server.dir.path().join("audit.jsonl");
    let altered = std::fs::read_to_string(&file).unwrap().replace("\"vi\"", "\"me\"");
    std::fs::write(&file, altered).unwrap();
    assert_eq!(server.get("/audit/v1/verify").await.value["ok"], false);
    server.stop().await;
}
