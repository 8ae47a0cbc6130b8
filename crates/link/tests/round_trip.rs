//! All three methods over a real loopback connection, both ends ours.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Response, Status, Streaming};
use weft_link::*;

struct Echo;

#[tonic::async_trait]
impl LinkService for Echo {
    type ConnectStream = ReceiverStream<Result<Down, Status>>;

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let request = request.into_inner();
        if request.token != "weft1.good" {
            return Err(Status::permission_denied("the join token is not valid"));
        }
        Ok(Response::new(JoinResponse {
            chain_der: vec![request.csr_der, vec![2]],
            bundle_pem: format!("{}/{}", request.namespace, request.service),
            trust_domain: "mesh.internal".into(),
        }))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<JoinResponse>, Status> {
        Ok(Response::new(JoinResponse {
            chain_der: vec![request.into_inner().csr_der],
            ..JoinResponse::default()
        }))
    }

    async fn connect(
        &self,
        request: Request<Streaming<Up>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let mut ups = request.into_inner();
        let (downs, answers) = tokio::sync::mpsc::channel(4);
        tokio::spawn(async move {
            while let Ok(Some(up)) = ups.message().await {
                let down: Down = match up.message {
                    Some(up::Message::Hello(hello)) if hello.labels.contains_key("version") => {
                        Welcome { lease_seconds: 15, bundle_pem: hello.workload_name }.into()
                    }
                    Some(up::Message::Hello(_)) => Refused { reason: "no version".into() }.into(),
                    Some(up::Message::Buckets(b)) => {
                        Ack { start_unix: b.start_unix, sequence: b.sequence }.into()
                    }
                    Some(up::Message::Health(health)) => Bundle { bundle_pem: health.status }.into(),
                    Some(up::Message::Kept(kept)) => {
                        Ack { start_unix: kept.confirmed_unix, sequence: 0 }.into()
                    }
                    Some(up::Message::Connections(page)) => {
                        ListConnections { id: page.id, remember_seconds: 0 }.into()
                    }
                    Some(up::Message::Leave(_)) | None => return,
                };
                if downs.send(Ok(down)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

/// A client of a served [`Echo`]; the test's runtime ends both.
async fn client() -> LinkClient<Channel> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Server::builder()
        .add_service(LinkServer::new(Echo))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(serve);
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    LinkClient::new(channel)
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), work).await.expect("within 10 s")
}

#[tokio::test]
async fn join_and_renew_answer() {
    within(async {
        let mut client = client().await;
        let request = JoinRequest {
            token: "weft1.good".into(),
            csr_der: vec![1],
            service: "be1".into(),
            namespace: "default".into(),
        };
        let answer = client.join(request.clone()).await.unwrap().into_inner();
        assert_eq!(answer.chain_der, [vec![1], vec![2]]);
        assert_eq!(answer.bundle_pem, "default/be1");
        assert_eq!(answer.trust_domain, "mesh.internal");

        let refused = client.join(JoinRequest { token: "weft1.bad".into(), ..request }).await.unwrap_err();
        assert_eq!(
            (refused.code(), refused.message()),
            (Code::PermissionDenied, "the join token is not valid")
        );

        let renewed = client.renew(RenewRequest { csr_der: vec![7] }).await.unwrap().into_inner();
        assert_eq!(renewed.chain_der, [vec![7]]);
    })
    .await;
}

#[tokio::test]
async fn connect_carries_every_kind_both_ways() {
    within(async {
        let mut client = client().await;
        let hello = Hello {
            workload_name: "be1-x".into(),
            labels: [("version".into(), "v2".into())].into(),
            ports: vec![Port { name: "http".into(), port: 8080 }],
            locality: Some(Locality { region: "r".into(), ..Locality::default() }),
            ..Hello::default()
        };
        let ups: Vec<Up> = vec![
            hello.into(),
            Hello::default().into(),
            Buckets { start_unix: 20, sequence: 5, cells: vec![Cell::default()] }.into(),
            Health { status: "Healthy".into() }.into(),
            Kept { confirmed_unix: 7 }.into(),
            Connections { id: 9, last: true, ..Connections::default() }.into(),
            Leave {}.into(),
        ];
        let downs = client.connect(tokio_stream::iter(ups)).await.unwrap().into_inner();
        let downs: Vec<Down> = downs.map(Result::unwrap).collect().await;
        assert_eq!(
            downs,
            [
                Welcome { lease_seconds: 15, bundle_pem: "be1-x".into() }.into(),
                Refused { reason: "no version".into() }.into(),
                Ack { start_unix: 20, sequence: 5 }.into(),
                Bundle { bundle_pem: "Healthy".into() }.into(),
                Ack { start_unix: 7, sequence: 0 }.into(),
                ListConnections { id: 9, remember_seconds: 0 }.into(),
            ]
        );
    })
    .await;
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused() {
    within(async {
        let mut client = client().await.max_encoding_message_size(usize::MAX);
        let refused =
            client.renew(RenewRequest { csr_der: vec![0; MESSAGE_BYTES_MAX + 1] }).await.unwrap_err();
        assert_eq!(refused.code(), Code::OutOfRange);
        let still_serves = client.renew(RenewRequest { csr_der: vec![0; MESSAGE_BYTES_MAX - 100] }).await;
        assert!(still_serves.is_ok());
    })
    .await;
}
