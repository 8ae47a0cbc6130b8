//! The two sockets of DNS. UDP is one task; TCP is a task a connection, with questions in a row
//! answered as they are ready (RFC 7766).

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::message::{Answerer, Step, Transport};

const CONNECTIONS_MAX: usize = 512;
/// Questions of one connection that wait for upstream.
const PIPELINED_MAX: usize = 64;
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Larger questions are cut off by the kernel and fail to parse; real ones have a hundred bytes.
const QUESTION_BYTES_MAX: usize = 4096;

pub(crate) fn start(
    answerer: Arc<Answerer>,
    tcp: TcpListener,
    udp: UdpSocket,
    shutdown: CancellationToken,
) -> anyhow::Result<JoinHandle<()>> {
    tcp.set_nonblocking(true).context("the DNS listener")?;
    udp.set_nonblocking(true).context("the DNS socket")?;
    let tcp = tokio::net::TcpListener::from_std(tcp).context("the DNS listener")?;
    let udp = Arc::new(tokio::net::UdpSocket::from_std(udp).context("the DNS socket")?);
    Ok(tokio::spawn(async move {
        tokio::select! {
            () = packets(answerer.clone(), udp) => {}
            () = connections(answerer, tcp) => {}
            () = shutdown.cancelled() => {}
        }
    }))
}

async fn packets(answerer: Arc<Answerer>, socket: Arc<tokio::net::UdpSocket>) {
    let mut asking = JoinSet::new();
    let mut packet = vec![0_u8; QUESTION_BYTES_MAX];
    loop {
        while asking.try_join_next().is_some() {}
        let (length, peer) = match socket.recv_from(&mut packet).await {
            Ok(received) => received,
            Err(error) => {
                // The echo of an answer that nobody took (ECONNREFUSED); never the socket's end.
                tracing::debug!(%error, "DNS packet");
                tokio::time::sleep(Duration::from_millis(1)).await;
                continue;
            }
        };
        match answerer.step(&packet[..length], peer.ip(), Transport::Udp) {
            Step::Silence => {}
            Step::Reply(reply) => send(&socket, &reply, peer).await,
            // The upstream part bounds how many of these do more than fail at once.
            Step::Ask(pending) => {
                let (answerer, socket) = (answerer.clone(), socket.clone());
                asking.spawn(async move {
                    if let Some(reply) = answerer.ask(*pending).await {
                        send(&socket, &reply, peer).await;
                    }
                });
            }
        }
    }
}

async fn send(socket: &tokio::net::UdpSocket, reply: &[u8], peer: SocketAddr) {
    if let Err(error) = socket.send_to(reply, peer).await {
        tracing::debug!(%error, %peer, "a DNS answer was not sent");
    }
}

async fn connections(answerer: Arc<Answerer>, listener: tokio::net::TcpListener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut open = JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "DNS can't accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let answerer = answerer.clone();
        open.spawn(async move {
            if let Err(error) = converse(answerer, stream, peer).await {
                tracing::debug!(%error, %peer, "a DNS connection broke");
            }
            drop(place);
        });
    }
}

/// Reads questions until the client is done; answers go out in the order in which they are ready.
async fn converse(answerer: Arc<Answerer>, stream: TcpStream, peer: SocketAddr) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = stream.into_split();
    let (replies, mut ready) = mpsc::channel::<Vec<u8>>(PIPELINED_MAX);
    let write = async move {
        while let Some(reply) = ready.recv().await {
            let length = u16::try_from(reply.len()).unwrap_or(u16::MAX);
            let mut framed = length.to_be_bytes().to_vec();
            framed.extend_from_slice(&reply[..usize::from(length)]);
            timeout(WRITE_TIMEOUT, writer.write_all(&framed)).await??;
        }
        std::io::Result::Ok(())
    };
    let read = async move {
        let places = Arc::new(Semaphore::new(PIPELINED_MAX));
        let mut asking = JoinSet::new();
        loop {
            while asking.try_join_next().is_some() {}
            let Ok(length) = timeout(IDLE_TIMEOUT, reader.read_u16()).await else { break };
            let Ok(length) = length else { break };
            let mut packet = vec![0_u8; usize::from(length)];
            let Ok(filled) = timeout(IDLE_TIMEOUT, reader.read_exact(&mut packet)).await else { break };
            filled?;
            match answerer.step(&packet, peer.ip(), Transport::Tcp) {
                Step::Silence => break,
                Step::Reply(reply) => {
                    if replies.send(reply).await.is_err() {
                        break;
                    }
                }
                Step::Ask(pending) => {
                    // No more are read while this many wait: the client's own pace is the bound.
                    let Ok(place) = places.clone().acquire_owned().await else { break };
                    let (answerer, replies) = (answerer.clone(), replies.clone());
                    asking.spawn(async move {
                        if let Some(reply) = answerer.ask(*pending).await {
                            let _ = replies.send(reply).await;
                        }
                        drop(place);
                    });
                }
            }
        }
        // Half-closed by the client: what is still being asked is still answered.
        drop(replies);
        while asking.join_next().await.is_some() {}
        std::io::Result::Ok(())
    };
    let (read, write) = tokio::join!(read, write);
    read.and(write)
}
