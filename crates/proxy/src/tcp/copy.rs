//! Copies bytes both ways until both directions have ended, and keeps half-closed connections half-closed.
//!
//! Each direction starts with a small buffer and grows it while reads fill it, so a thousand idle tunnels are cheap
//! and one bulk transfer needs few system calls (L4 at 256 KiB: 0.53 CPU s/GB; at 16 KiB: about 1.0).

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

const BUFFER_BYTES_MIN: usize = 8 * 1024;
const BUFFER_BYTES_MAX: usize = 256 * 1024;

/// Bytes that went each way, also when the copy ended with an error.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    pub to_upstream: u64,
    pub to_downstream: u64,
}

/// Copies until both ends have finished, one fails, nothing moved for `idle_timeout`, or `forbidden` is ready.
pub async fn copy<A, B>(
    downstream: &mut A,
    upstream: &mut B,
    idle_timeout: Duration,
    forbidden: impl Future<Output = ()>,
) -> (Copied, io::Result<()>)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut up = Direction::default();
    let mut down = Direction::default();
    let idle = tokio::time::sleep(idle_timeout);
    tokio::pin!(idle, forbidden);
    let mut seen = Copied::default();
    let result = poll_fn(|cx| {
        if forbidden.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::PermissionDenied.into()));
        }
        let first = up.poll(cx, downstream, upstream)?;
        let second = down.poll(cx, upstream, downstream)?;
        if first.is_ready() && second.is_ready() {
            return Poll::Ready(Ok(()));
        }
        // The timer is not re-armed per read: it looks when it fires whether something moved since.
        while idle.as_mut().poll_elapsed(cx).is_ready() {
            let now = Copied { to_upstream: up.bytes, to_downstream: down.bytes };
            if now == seen {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            seen = now;
            idle.as_mut().reset(Instant::now() + idle_timeout);
        }
        Poll::Pending
    })
    .await;
    (Copied { to_upstream: up.bytes, to_downstream: down.bytes }, result)
}

trait PollElapsed {
    fn poll_elapsed(self, cx: &mut Context<'_>) -> Poll<()>;
}

impl PollElapsed for Pin<&mut tokio::time::Sleep> {
    fn poll_elapsed(self, cx: &mut Context<'_>) -> Poll<()> {
        std::future::Future::poll(self, cx)
    }
}

/// One direction's buffer and progress.
#[derive(Default)]
struct Direction {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    need_flush: bool,
    finished: Finished,
    bytes: u64,
}

#[derive(Default, PartialEq)]
enum Finished {
    #[default]
    No,
    /// The reader said end; what is buffered is still to be written, then the writer is shut down.
    Reader,
    Both,
}

impl Direction {
    fn poll<R, W>(&mut self, cx: &mut Context<'_>, reader: &mut R, writer: &mut W) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            while self.start < self.end {
                let written =
                    ready!(Pin::new(&mut *writer).poll_write(cx, &self.buffer[self.start..self.end]))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.start += written;
                self.bytes += written as u64;
                self.need_flush = true;
            }
            match self.finished {
                Finished::Both => return Poll::Ready(Ok(())),
                Finished::Reader => {
                    ready!(Pin::new(&mut *writer).poll_shutdown(cx))?;
                    self.finished = Finished::Both;
                    self.buffer = Vec::new();
                    return Poll::Ready(Ok(()));
                }
                Finished::No => {}
            }
            match self.poll_fill(cx, reader) {
                Poll::Ready(result) => result?,
                Poll::Pending => {
                    // TLS keeps records back until it is flushed.
                    if self.need_flush {
                        ready!(Pin::new(&mut *writer).poll_flush(cx))?;
                        self.need_flush = false;
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    fn poll_fill<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
    ) -> Poll<io::Result<()>> {
        if self.end == self.buffer.len() && self.buffer.len() < BUFFER_BYTES_MAX {
            // The last read filled all of it: the sender has more than we asked for.
            let size = (self.buffer.len() * 4).clamp(BUFFER_BYTES_MIN, BUFFER_BYTES_MAX);
            self.buffer = vec![0; size];
        }
        let mut buffer = ReadBuf::new(&mut self.buffer);
        ready!(Pin::new(reader).poll_read(cx, &mut buffer))?;
        self.start = 0;
        self.end = buffer.filled().len();
        if self.end == 0 {
            self.finished = Finished::Reader;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn half_close_is_kept() {
        let (mut client, mut here) = duplex(64);
        let (mut there, mut server) = duplex(64);
        let copying =
            tokio::spawn(async move { copy(&mut here, &mut there, LONG, std::future::pending()).await });
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut question = String::new();
        server.read_to_string(&mut question).await.unwrap();
        assert_eq!(question, "question");
        // The answer still goes through the direction that is open.
        server.write_all(b"answer").await.unwrap();
        drop(server);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "answer");
        let (copied, result) = copying.await.unwrap();
        result.unwrap();
        assert_eq!(copied, Copied { to_upstream: 8, to_downstream: 6 });
    }

    #[tokio::test]
    async fn bulk_arrives_whole_and_grows_the_buffer() {
        let (mut client, mut here) = duplex(1 << 20);
        let (mut there, mut server) = duplex(1 << 20);
        tokio::spawn(async move { copy(&mut here, &mut there, LONG, std::future::pending()).await });
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
        let expected = sent.clone();
        tokio::spawn(async move {
            client.write_all(&sent).await.unwrap();
            client.shutdown().await.unwrap();
        });
        let mut received = Vec::new();
        server.read_to_end(&mut received).await.unwrap();
        assert!(received == expected);
    }

    #[tokio::test]
    async fn silence_ends_it() {
        let (_client, mut here) = duplex(64);
        let (mut there, _server) = duplex(64);
        let (copied, result) =
            copy(&mut here, &mut there, Duration::from_millis(20), std::future::pending()).await;
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(copied, Copied::default());
    }
}
