//! The demo's gentle load: a user of FE, at a fixed rate, counting what was lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;

use super::client::ProxyClient;

pub const REQUESTS_PER_SECOND: u64 = 100;

pub struct Load {
    pub sent: AtomicU64,
    pub lost: AtomicU64,
    in_flight: AtomicU64,
    stop: AtomicBool,
    client: ProxyClient,
    url: String,
}

impl Load {
    pub fn new(fe: SocketAddr) -> Arc<Load> {
        Arc::new(Load {
            sent: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            client: ProxyClient::new(None),
            url: format!("http://{fe}/"),
        })
    }

    /// Waits for the first request that goes through the whole figure.
    pub async fn first(&self, patience: Duration) -> bool {
        let deadline = tokio::time::Instant::now() + patience;
        while tokio::time::Instant::now() < deadline {
            if self.once("warm-up").await {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }

    pub fn start(self: &Arc<Load>) {
        let load = self.clone();
        tokio::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_micros(1_000_000 / REQUESTS_PER_SECOND));
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while !load.stop.load(Ordering::Relaxed) {
                tick.tick().await;
                let load = load.clone();
                load.in_flight.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    load.sent.fetch_add(1, Ordering::Relaxed);
                    if !load.once("user").await {
                        load.lost.fetch_add(1, Ordering::Relaxed);
                    }
                    load.in_flight.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
    }

    /// Stops, and waits for the requests under way.
    pub async fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        for _ in 0..1200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if self.in_flight.load(Ordering::Relaxed) == 0 {
                return;
            }
        }
    }

    /// One request to FE; true when it was answered 200. FE itself degrades when BE4 says 500.
    async fn once(&self, from: &str) -> bool {
        let request = Request::get(&self.url).header("x-demo-from", from).body(Full::<Bytes>::default());
        let Ok(request) = request else { return false };
        matches!(
            tokio::time::timeout(Duration::from_secs(10), self.client.send(request)).await,
            Ok(Ok((200, _)))
        )
    }
}
