//! The demo services' HTTP client: sends through `HTTP_PROXY`, as any program that honours it does.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::Full;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;

/// `HTTP_PROXY` as `host:port`, if the environment has one.
pub fn proxy_from_env() -> Option<String> {
    let text = std::env::var("HTTP_PROXY").or_else(|_| std::env::var("http_proxy")).ok()?;
    let host = text.strip_prefix("http://").unwrap_or(&text).trim_end_matches('/');
    (!host.is_empty()).then(|| host.to_owned())
}

pub struct ProxyClient(hyper_util::client::legacy::Client<Dial, Full<Bytes>>);

impl ProxyClient {
    pub fn new(proxy: Option<String>) -> ProxyClient {
        let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(std::time::Duration::from_secs(30))
            .build(Dial { proxy });
        ProxyClient(client)
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> anyhow::Result<(u16, Bytes)> {
        let response = self.0.request(request).await?;
        Ok(super::service::drain(response).await?)
    }
}

/// Dials the proxy where there is one, else the URL's own host.
#[derive(Clone)]
struct Dial {
    proxy: Option<String>,
}

struct Dialled {
    stream: TokioIo<TcpStream>,
    proxied: bool,
}

impl tower::Service<Uri> for Dial {
    type Response = Dialled;
    type Error = std::io::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Dialled, std::io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let proxied = self.proxy.is_some();
        let target = self.proxy.clone().unwrap_or_else(|| {
            format!("{}:{}", uri.host().unwrap_or("localhost"), uri.port_u16().unwrap_or(80))
        });
        Box::pin(async move {
            let stream = TcpStream::connect(target).await?;
            stream.set_nodelay(true)?;
            Ok(Dialled { stream: TokioIo::new(stream), proxied })
        })
    }
}

impl Connection for Dialled {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.proxied)
    }
}

impl hyper::rt::Read for Dialled {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl hyper::rt::Write for Dialled {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
