//! Who comes in: TLS, plain, the Unix socket; tokens, hosts; what the audit log says about it.

use std::sync::Arc;

use http::{Method, StatusCode};
use http_body_util::Full;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use super::*;

#[tokio::test]
async fn without_the_token_nothing_but_health_is_told() {
    let server = Server::start().await;
    let bare = |path: &str| {
        Request::get(path).header("host", server.address.to_string()).body(Full::default()).unwrap()
    };
    for path in ["/", "/api", "/apis", "/version", SERVICES, "/openapi/v3", "/query/v1/echo", "/metrics"] {
        let refused = answer(server.send(bare(path)).await).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(refused.value["kind"], "Status", "{path}");
        assert!(refused.headers.contains_key("www-authenticate"));
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(answer(server.send(bare(path)).await).await.status, StatusCode::OK, "{path}");
    }
    let lines = server.audit();
    assert_eq!(lines.len(), 8);
    assert_eq!(
        (&lines[4]["object"], &lines[4]["result"], &lines[4]["who"]),
        (&SERVICES.into(), &401.into(), &"unknown".into())
    );
    server.stop().await;
}

#[tokio::test]
async fn a_foreign_host_is_refused_even_with_the_token() {
    let server = Server::start().await;
    let named = |host: &str| {
        let request = Request::get("/api")
            .header("host", host)
            .header("authorization", format!("Bearer {}", server.token));
        request.body(Full::default()).unwrap()
    };
    let port = server.address.port();
    for (host, status) in [
        ("evil.example".to_owned(), 421),
        (format!("evil.example:{port}"), 421),
        ("localhost".to_owned(), 200),
        (format!("127.0.0.1:{port}"), 200),
        (format!("[::1]:{port}"), 200),
    ] {
        assert_eq!(answer(server.send(named(&host)).await).await.status.as_u16(), status, "{host}");
    }
    assert_eq!(server.audit()[0]["result"], 421);
    server.stop().await;
}

#[tokio::test]
async fn the_owner_needs_no_token_on_the_socket() {
    let server = Server::start().await;
    let stream = UnixStream::connect(server.dir.path().join("control.sock")).await.unwrap();
    let request =
        Request::get("/api/v1/namespaces/default").header("host", "anything").body(Full::default()).unwrap();
    let found = answer(exchange(stream, request).await).await;
    assert_eq!((found.status, &found.value["kind"]), (StatusCode::OK, &"Namespace".into()));
    server.stop().await;
}

#[tokio::test]
async fn the_same_port_speaks_tls_with_the_ca_of_the_kubeconfig() {
    let server = Server::start().await;
    let kubeconfig = std::fs::read_to_string(server.dir.path().join("kubeconfig")).unwrap();
    let kubeconfig: Value = serde_saphyr::from_str(&kubeconfig).unwrap();
    let cluster = &kubeconfig["clusters"][0]["cluster"];
    assert_eq!(cluster["server"], format!("https://{}", server.address));
    assert_eq!(kubeconfig["users"][0]["user"]["token"], server.token.as_str());

    use base64::Engine as _;
    let ca = base64::engine::general_purpose::STANDARD
        .decode(cluster["certificate-authority-data"].as_str().unwrap())
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    for name in ["localhost", "127.0.0.1"] {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let stream = connector.connect(ServerName::try_from(name).unwrap(), stream).await.unwrap();
        let request = server.request(Method::GET, "/version").body(Full::default()).unwrap();
        let found = answer(exchange(stream, request).await).await;
        assert_eq!(found.status, StatusCode::OK, "{name}");
        assert!(found.value["gitVersion"].as_str().unwrap().contains("weft"));
    }
    let stranger = TcpStream::connect(server.address).await.unwrap();
    assert!(connector.connect(ServerName::try_from("evil.example").unwrap(), stranger).await.is_err());
    server.stop().await;
}

#[tokio::test]
async fn secrets_of_the_state_directory_are_the_owners() {
    use std::os::unix::fs::PermissionsExt as _;
    let server = Server::start().await;
    for file in ["admin.token", "kubeconfig", "audit.jsonl", "audit.head", "control.sock", "api/ca-key.pem"] {
        let mode = std::fs::metadata(server.dir.path().join(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{file}");
    }
    server.stop().await;
}

#[tokio::test]
async fn rubbish_on_the_port_is_closed_and_harms_nobody() {
    let server = Server::start().await;
    for rubbish in [
        &b"\x16\x03\x01\x00\x05hello"[..],
        b"\0\0\0\0",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\xff\xff\xff\xff\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(rubbish).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("the server closes");
        assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    }
    assert_eq!(server.get("/api").await.status, StatusCode::OK);
    server.stop().await;
}

#[tokio::test]
async fn questions_pass_the_same_gate_and_what_they_make_is_written_down() {
    let server = Server::start().await;
    assert_eq!(server.get("/query/v1/echo").await.value, "asked");
    assert_eq!(server.post("/query/v1/echo", &Value::Null).await.value, "made");
    let lines = server.audit();
    assert_eq!(lines.len(), 1);
    assert_eq!((&lines[0]["verb"], &lines[0]["who"]), (&"POST".into(), &"admin".into()));
    let missing = server.get("/query/v1/nothing").await;
    assert_eq!((missing.status, &missing.value["kind"]), (StatusCode::NOT_FOUND, &"Status".into()));
    let wrong = server.delete("/query/v1/echo").await;
    assert_eq!((wrong.status, &wrong.value["kind"]), (StatusCode::METHOD_NOT_ALLOWED, &"Status".into()));
    server.stop().await;
}
