//! The common roads through a proxy, and one request on each.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use weft_bench::weft::Proxy;

use crate::client::{Client, Http1, Http2};

/// A road, by the name that the baseline knows it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Road {
    /// HTTP/1.1 to a service outside of the mesh, 13 bytes of body.
    Http1,
    /// The same with 10 KiB.
    Http1Big,
    /// HTTP/2 in the clear on both sides, a gRPC-like unary call.
    Http2,
    /// 10 KiB and back through a TCP tunnel.
    Tcp,
    /// The caller's side of a hop between members: HTTP/1.1 in, mTLS and HTTP/2 out.
    HopOut,
    /// The callee's side of it.
    HopIn,
}

impl Road {
    /// Those through the caller's proxy.
    pub const OUTBOUND: [Road; 5] = [Road::Http1, Road::Http1Big, Road::Http2, Road::Tcp, Road::HopOut];

    pub fn name(self) -> &'static str {
        match self {
            Road::Http1 => "http1",
            Road::Http1Big => "http1-10k",
            Road::Http2 => "http2",
            Road::Tcp => "tcp-10k",
            Road::HopOut => "hop-out",
            Road::HopIn => "hop-in",
        }
    }

    /// A client on this road through the proxy at `port`, which has answered once: its configuration is there.
    pub fn client(self, port: u16) -> anyhow::Result<Box<dyn Client>> {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let attempt = self.connect(port).and_then(|mut client| {
                client.request()?;
                Ok(client)
            });
            match attempt {
                Ok(client) => return Ok(client),
                Err(error) if Instant::now() > end => {
                    return Err(error).with_context(|| format!("no answer on the road {}", self.name()));
                }
                Err(_) => std::thread::park_timeout(Duration::from_millis(100)),
            }
        }
    }

    fn connect(self, port: u16) -> anyhow::Result<Box<dyn Client>> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(match self {
            Road::Http1 => Box::new(Http1::new(stream, "/", "origin.example")),
            Road::Http1Big => Box::new(Http1::new(stream, "/10k", "origin.example")),
            Road::Http2 => Box::new(Http2::new(stream, "grpc.example")?),
            Road::Tcp => Box::new(Http1::tunnelled(stream, "bytes.example:9001", "/10k")?),
            Road::HopOut | Road::HopIn => Box::new(Http1::new(stream, "/", "be1.default.mesh.internal")),
        })
    }
}

/// One count a request, as often as was measured.
pub struct Counts {
    pub road: Road,
    pub each: Vec<f64>,
}

impl Counts {
    /// The least of the windows: what comes by time or by the other side's pace only adds.
    pub fn least(&self) -> f64 {
        self.each.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// From the least to the most, as a share of the least.
    pub fn spread(&self) -> f64 {
        let most = self.each.iter().copied().fold(0.0, f64::max);
        (most - self.least()) / self.least().max(1.0)
    }
}

/// `requests` on this road, one after the other.
pub fn drive(client: &mut dyn Client, requests: usize) -> anyhow::Result<()> {
    for number in 0..requests {
        client.request().with_context(|| format!("request {number} of {requests}"))?;
    }
    Ok(())
}

/// Fails if the proxy has ended, since its counts would then be nonsense.
pub fn alive(proxy: &mut Proxy) -> anyhow::Result<()> {
    if proxy.process.child.try_wait()?.is_some() {
        bail!("the proxy ended");
    }
    Ok(())
}
