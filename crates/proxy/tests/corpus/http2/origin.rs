//! An HTTP/2 origin that counts what reaches it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};

pub struct Origin {
    pub at: SocketAddr,
    pub connections: Arc<AtomicU32>,
    pub requests: Arc<AtomicU32>,
}

impl Origin {
    /// `streams_max`: what its SETTINGS allow.
    pub async fn start(streams_max: u32) -> Origin {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (connections, requests) = (Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
        let (opened, asked) = (Arc::clone(&connections), Arc::clone(&requests));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                opened.fetch_add(1, Ordering::SeqCst);
                stream.set_nodelay(true).unwrap();
                let asked = Arc::clone(&asked);
                tokio::spawn(async move {
                    let mut builder = h2::server::Builder::new();
                    builder.max_concurrent_streams(streams_max);
                    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        tokio::spawn(answer(request, respond, asked.fetch_add(1, Ordering::SeqCst)));
                    }
                });
            }
        });
        Origin { at, connections, requests }
    }

    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn requests(&self) -> u32 {
        self.requests.load(Ordering::SeqCst)
    }
}

async fn answer(request: Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>, number: u32) {
    let path = request.uri().path().to_owned();
    if path == "/refuse-some" && number % 10 == 3 {
        return respond.send_reset(h2::Reason::REFUSED_STREAM);
    }
    if path == "/slow" {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    if path == "/hold" {
        std::future::pending::<()>().await;
    }
    let mut body = request.into_body();
    if path == "/read" {
        while let Some(Ok(data)) = body.data().await {
            let _ = body.flow_control().release_capacity(data.len());
        }
    }
    let Ok(mut stream) = respond.send_response(Response::new(()), false) else { return };
    let bytes = path.strip_prefix("/bytes/").and_then(|text| text.parse().ok()).unwrap_or(2);
    let mut left = bytes;
    while left > 0 {
        stream.reserve_capacity(left);
        let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
        let Some(Ok(room)) = room else { return };
        let now = room.min(left);
        left -= now;
        if stream.send_data(Bytes::from(vec![b'x'; now]), left == 0).is_err() {
            return;
        }
    }
}
