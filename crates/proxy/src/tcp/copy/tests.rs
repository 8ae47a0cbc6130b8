//! Copies over real sockets, each time by splice and without it; and what must not be left of a tunnel.

use std::net::Ipv4Addr;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{super::pipe::DRAINED, *};

const LONG: Duration = Duration::from_secs(60);
const LIMIT: Duration = Duration::from_secs(20);

/// A socket that does not say that it is one: nothing can be spliced.
struct Opaque(TcpStream);

impl Io for Opaque {
    fn abort(&self) {
        self.0.abort();
    }
}

impl AsyncRead for Opaque {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Opaque {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Two ends of one connection.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let there = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (here, _) = listener.accept().await.unwrap();
    (there, here)
}

/// A client and a server with a copy between them.
async fn tunnel(splice: bool) -> (TcpStream, TcpStream, tokio::task::JoinHandle<(Copied, io::Result<()>)>) {
    let (client, mut downstream) = pair().await;
    let (server, mut upstream) = pair().await;
    let copying = tokio::spawn(async move {
        if splice {
            copy(&mut downstream, &mut upstream, LONG, std::future::pending()).await
        } else {
            copy(&mut Opaque(downstream), &mut Opaque(upstream), LONG, std::future::pending()).await
        }
    });
    (client, server, copying)
}

/// Bytes that repeat after a prime number of them, so that a lost or moved block shows.
struct Pattern {
    block: Vec<u8>,
    at: usize,
}

impl Pattern {
    fn new(seed: u64) -> Pattern {
        let mut random = fastrand::Rng::with_seed(seed);
        Pattern { block: std::iter::repeat_with(|| random.u8(..)).take(1_000_003).collect(), at: 0 }
    }

    /// The next bytes, at most so many.
    fn next(&mut self, count: usize) -> &[u8] {
        let end = self.block.len().min(self.at + count);
        let next = &self.block[self.at..end];
        self.at = end % self.block.len();
        next
    }

    fn check(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let expected = self.next(bytes.len());
            assert!(bytes.starts_with(expected), "other bytes than were sent");
            bytes = &bytes[expected.len()..];
        }
    }
}

/// Sends so many bytes and the end, and meanwhile reads the other side's and checks them.
async fn both_ways(stream: TcpStream, sends: u64, gets: u64, count: usize, slow: bool) {
    let (mut read, mut write) = stream.into_split();
    let sending = tokio::spawn(async move {
        let (mut pattern, mut left) = (Pattern::new(sends), count);
        while left > 0 {
            let bytes = pattern.next(fastrand::usize(1..100_000).min(left));
            left -= bytes.len();
            write.write_all(bytes).await.unwrap();
        }
        write.shutdown().await.unwrap();
    });
    let (mut pattern, mut got) = (Pattern::new(gets), 0);
    let mut buffer = vec![0; 50_000];
    loop {
        let count = read.read(&mut buffer).await.unwrap();
        if count == 0 {
            break;
        }
        pattern.check(&buffer[..count]);
        got += count;
        if slow && fastrand::u8(..) < 10 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    assert_eq!(got, count);
    sending.await.unwrap();
}

#[tokio::test]
async fn half_close_is_kept_both_ways() {
    for splice in [true, false] {
        for bulk in [0, 300_000] {
            let (mut client, mut server, copying) = tunnel(splice).await;
            let question = vec![b'q'; 8 + bulk];
            let asking = question.clone();
            let client = tokio::spawn(async move {
                client.write_all(&asking).await.unwrap();
                client.shutdown().await.unwrap();
                let mut answer = Vec::new();
                client.read_to_end(&mut answer).await.unwrap();
                answer
            });
            let mut asked = Vec::new();
            server.read_to_end(&mut asked).await.unwrap();
            assert!(asked == question, "splice {splice}: {} bytes", asked.len());
            // The answer still goes through the direction that is open.
            server.write_all(b"answer").await.unwrap();
            drop(server);
            assert_eq!(client.await.unwrap(), b"answer");
            let (copied, result) = copying.await.unwrap();
            result.unwrap();
            assert_eq!(copied, Copied { to_upstream: question.len() as u64, to_downstream: 6 });
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_both_ways_at_once_arrives_whole_by_splice_and_without() {
    const COUNT: usize = 64 << 20;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    for splice in [true, false] {
        let (client, server, copying) = tunnel(splice).await;
        let client = tokio::spawn(both_ways(client, seed, seed + 1, COUNT, false));
        let server = tokio::spawn(both_ways(server, seed + 1, seed, COUNT, true));
        let both = async { (client.await.unwrap(), server.await.unwrap()) };
        tokio::time::timeout(LIMIT, both).await.expect("64 MiB both ways in time");
        let (copied, result) = copying.await.unwrap();
        result.unwrap();
        assert_eq!(copied, Copied { to_upstream: COUNT as u64, to_downstream: COUNT as u64 });
    }
}

#[tokio::test]
async fn most_of_bulk_goes_by_splice_and_only_between_sockets() {
    const COUNT: usize = 8 << 20;
    for splice in [true, false] {
        let before = DRAINED.get();
        let (client, server, copying) = tunnel(splice).await;
        let both = async {
            tokio::join!(both_ways(client, 1, 2, COUNT, false), both_ways(server, 2, 1, COUNT, false))
        };
        tokio::time::timeout(LIMIT, both).await.expect("8 MiB both ways in time");
        copying.await.unwrap().1.unwrap();
        let spliced = DRAINED.get() - before;
        println!("{spliced} of {} bytes by splice", 2 * COUNT);
        if splice {
            assert!(spliced > COUNT, "{spliced} of {} bytes", 2 * COUNT);
        } else {
            assert_eq!(spliced, 0);
        }
    }
}

#[tokio::test]
async fn a_reset_is_no_end() {
    for splice in [true, false] {
        let (mut client, mut server, copying) = tunnel(splice).await;
        server.write_all(b"half of").await.unwrap();
        let mut half = [0; 7];
        client.read_exact(&mut half).await.unwrap();
        server.abort();
        drop(server);
        let seen = client.read(&mut half).await;
        assert!(seen.is_err(), "splice {splice}: an end where a reset was: {seen:?}");
        let (copied, result) = copying.await.unwrap();
        assert!(result.is_err());
        assert_eq!(copied, Copied { to_upstream: 0, to_downstream: 7 });
    }
}

/// A server has answered, and left without reading its question, which goes on: what the client sees.
async fn left(splice: bool, says_end: bool, answer: &[u8]) -> (Vec<u8>, io::Result<usize>, io::Error) {
    let (mut client, mut downstream) = pair().await;
    let (mut server, mut upstream) = pair().await;
    client.write_all(b"too long").await.unwrap();
    upstream.write_all(b"its start").await.unwrap();
    server.readable().await.unwrap();
    server.write_all(answer).await.unwrap();
    if says_end {
        server.shutdown().await.unwrap();
    }
    drop(server); // with bytes unread: a reset follows
    // The error itself is to be met by the copy only.
    tokio::time::timeout(LIMIT, upstream.ready(tokio::io::Interest::ERROR)).await.expect("a reset").unwrap();
    let copying = tokio::spawn(async move {
        if splice {
            copy(&mut downstream, &mut upstream, LONG, std::future::pending()).await
        } else {
            copy(&mut Opaque(downstream), &mut Opaque(upstream), LONG, std::future::pending()).await
        }
    });
    let mut got = vec![0; answer.len()];
    client.read_exact(&mut got).await.unwrap();
    let then = client.read(&mut [0; 1]).await;
    let (copied, result) = copying.await.unwrap();
    assert_eq!(copied, Copied { to_upstream: 0, to_downstream: answer.len() as u64 });
    (got, then, result.unwrap_err())
}

#[tokio::test]
async fn an_answer_arrives_though_its_server_did_not_read_the_question() {
    let short = b"413".to_vec();
    let long = vec![b'4'; 30_000]; // less than a window: a reset takes with it what is not sent
    for splice in [true, false] {
        for answer in [&short, &long] {
            let (got, then, _) = left(splice, true, answer).await;
            assert!(got == *answer);
            assert_eq!(then.unwrap(), 0, "its end was said");
            let (got, then, error) = left(splice, false, answer).await;
            assert!(got == *answer);
            assert!(then.is_err(), "splice {splice}, {error}: an end that was none: {then:?}");
        }
    }
}

/// How we end a copy.
#[derive(Debug, Clone, Copy, PartialEq)]
enum OurEnd {
    Silence,
    Forbidden,
    /// As a worker does that stops.
    Dropped,
}

/// A client and a server whose copy ends by us after a moment.
async fn ended_by_us(splice: bool, end: OurEnd) -> (TcpStream, TcpStream, tokio::task::JoinHandle<()>) {
    let moment = Duration::from_millis(300);
    let (client, mut downstream) = pair().await;
    let (server, mut upstream) = pair().await;
    for stream in [&client, &server] {
        socket2::SockRef::from(stream).set_recv_buffer_size(16 * 1024).unwrap();
    }
    let copying = tokio::spawn(async move {
        let forbidden = async {
            match end {
                OurEnd::Forbidden => tokio::time::sleep(moment).await,
                _ => std::future::pending().await,
            }
        };
        let idle = if end == OurEnd::Silence { moment } else { LONG };
        let limit = if end == OurEnd::Dropped { moment } else { LONG };
        let copying = async {
            if splice {
                copy(&mut downstream, &mut upstream, idle, forbidden).await
            } else {
                copy(&mut Opaque(downstream), &mut Opaque(upstream), idle, forbidden).await
            }
        };
        let kind =
            tokio::time::timeout(limit, copying).await.ok().map(|(_, result)| result.unwrap_err().kind());
        let expected = match end {
            OurEnd::Silence => Some(io::ErrorKind::TimedOut),
            OurEnd::Forbidden => Some(io::ErrorKind::PermissionDenied),
            OurEnd::Dropped => None,
        };
        assert_eq!(kind, expected);
    });
    (client, server, copying)
}

async fn to_the_end(stream: &mut TcpStream) -> (usize, io::Result<usize>) {
    let mut got = Vec::new();
    let end = tokio::time::timeout(LIMIT, stream.read_to_end(&mut got)).await.expect("an end in time");
    (got.len(), end)
}

#[tokio::test]
async fn what_we_end_looks_like_no_end_to_who_has_not_got_it_all() {
    for splice in [true, false] {
        for end in [OurEnd::Silence, OurEnd::Forbidden, OurEnd::Dropped] {
            // Neither side has said its end.
            let (mut client, mut server, copying) = ended_by_us(splice, end).await;
            client.write_all(b"half of").await.unwrap();
            server.read_exact(&mut [0; 7]).await.unwrap();
            copying.await.unwrap();
            assert!(to_the_end(&mut server).await.1.is_err(), "half a question, splice {splice}, {end:?}");
            assert!(to_the_end(&mut client).await.1.is_err(), "no answer, splice {splice}, {end:?}");

            // One side has, and the other has it all; its own half goes nowhere.
            let (mut client, mut server, copying) = ended_by_us(splice, end).await;
            client.write_all(b"half of").await.unwrap();
            server.read_exact(&mut [0; 7]).await.unwrap();
            server.write_all(b"413").await.unwrap();
            server.shutdown().await.unwrap();
            copying.await.unwrap();
            assert_eq!(to_the_end(&mut client).await.1.unwrap(), 3, "whole, splice {splice}, {end:?}");
            assert!(to_the_end(&mut server).await.1.is_err(), "half a question, splice {splice}, {end:?}");

            // The end was said, and bytes before it wait for a slow reader.
            let (client, mut server, copying) = ended_by_us(splice, end).await;
            let mut size = 0;
            while let Ok(Ok(count)) =
                tokio::time::timeout(Duration::from_millis(50), write_some(&client)).await
            {
                size += count;
            }
            let mut client = client;
            client.shutdown().await.unwrap();
            copying.await.unwrap();
            let (got, seen) = to_the_end(&mut server).await;
            assert!(seen.is_err(), "{got} of {size} bytes, splice {splice}, {end:?}");
        }
    }
}

async fn write_some(stream: &TcpStream) -> io::Result<usize> {
    loop {
        stream.writable().await?;
        match stream.try_write(&[7; 64 * 1024]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            written => return written,
        }
    }
}

#[tokio::test]
async fn a_cut_ends_bulk_in_the_midst_and_its_pipe_serves_nobody_else() {
    let (mut client, mut downstream) = pair().await;
    let (mut server, mut upstream) = pair().await;
    let (cut, forbidden) = tokio::sync::oneshot::channel::<()>();
    let copying = tokio::spawn(async move {
        let forbidden = async {
            let _ = forbidden.await;
        };
        copy(&mut downstream, &mut upstream, LONG, forbidden).await
    });
    let sending = tokio::spawn(async move { while client.write_all(&[1; 10_000]).await.is_ok() {} });
    let mut first = vec![0; 1_000_000];
    server.read_exact(&mut first).await.unwrap();
    // The server stops reading, so that the pipe is full; then the tunnel is forbidden.
    tokio::time::sleep(Duration::from_millis(50)).await;
    cut.send(()).unwrap();
    let (copied, result) = copying.await.unwrap();
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    assert!(copied.to_upstream >= 1_000_000);
    sending.await.unwrap();
    // The next tunnels of this worker see their own bytes only.
    for _ in 0..4 {
        let (client, server, copying) = tunnel(true).await;
        tokio::join!(both_ways(client, 1, 2, 500_000, false), both_ways(server, 2, 1, 500_000, false));
        copying.await.unwrap().1.unwrap();
    }
}

#[tokio::test]
async fn a_waiting_direction_holds_nothing() {
    let (mut client, mut downstream) = pair().await;
    let (mut server, mut upstream) = pair().await;
    let mut up = Direction::default();
    let sent = vec![7; 400_000];
    let expected = sent.clone();
    let sending = tokio::spawn(async move {
        client.write_all(&sent).await.unwrap();
        client
    });
    let mut got = vec![0; expected.len()];
    let reading = tokio::spawn(async move {
        server.read_exact(&mut got).await.unwrap();
        (server, got)
    });
    poll_fn(|cx| {
        let polled = up.poll(cx, &mut downstream, &mut upstream);
        assert!(polled.is_pending());
        if up.bytes == expected.len() as u64 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    assert!(up.bytes >= BULK_BYTES, "it was no bulk, so nothing was tried");
    assert!(up.rest.capacity() == 0 && up.pipe.is_none());
    let (_client, (_server, got)) = (sending.await.unwrap(), reading.await.unwrap());
    assert!(got == expected);
}
