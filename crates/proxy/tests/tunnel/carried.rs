//! What is carried arrives as it was sent: first words, halves, bulk, stalls, resets.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use weft_telemetry::buckets::{Cell, CellKey};

use crate::{
    Pair, app, greeting,
    mesh::{self, LIMIT, eventually},
    read_all, read_line,
};

const BULK_BYTES: usize = 64 << 20;

/// A stream of bytes that no mix-up leaves as it was.
fn pattern(seed: u64, bytes: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let block: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(65_521).collect();
    // By whole blocks: an iterator of so many bytes takes seconds, in which nobody would carry them.
    let mut all = block.repeat(bytes.div_ceil(block.len()));
    all.truncate(bytes);
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_speaks_first_is_heard_and_the_caller_is_known() {
    let pair = Pair::start(greeting().await).await;
    for _ in 0..3 {
        let mut stream = pair.connect().await;
        assert_eq!(read_line(&mut stream).await, "welcome\n");
        stream.write_all(b"SELECT 1").await.unwrap();
        stream.shutdown().await.unwrap();
        // The caller's half has ended, the server's has not.
        assert_eq!(read_all(&mut stream).await.unwrap(), "8 bytes\n");
    }
    assert_eq!(pair.relay.accepted(), 1, "one connection carries them all");
    // As without tunnels: code 0, by the callee alone.
    pair.expect(&[("fe", "inbound", "mtls", 0, 3, 0)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_may_close_its_half_first() {
    let (say, heard) = tokio::sync::mpsc::unbounded_channel();
    let server = app(move |mut stream| {
        let say = say.clone();
        async move {
            stream.write_all(b"all that I have").await?;
            stream.shutdown().await?;
            let mut rest = String::new();
            stream.read_to_string(&mut rest).await?;
            say.send(rest).unwrap();
            Ok(())
        }
    });
    let (pair, mut heard) = (Pair::start(server.await).await, heard);
    let mut stream = pair.connect().await;
    assert_eq!(read_all(&mut stream).await.unwrap(), "all that I have");
    stream.write_all(b"still ").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    stream.write_all(b"here").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(timeout(LIMIT, heard.recv()).await.unwrap().unwrap(), "still here");
    pair.expect(&[("fe", "inbound", "mtls", 0, 1, 0)]).await;
}

/// Both ways at once, and how long it took.
async fn bulk(pair: &Pair) -> Duration {
    let mut stream = pair.connect().await;
    let started = Instant::now();
    let (mut reader, mut writer) = stream.split();
    let (up, down) = (pattern(1, BULK_BYTES), pattern(2, BULK_BYTES));
    let sending = async {
        writer.write_all(&up).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let reading = async {
        let mut all = Vec::with_capacity(down.len() + 1);
        reader.read_to_end(&mut all).await.unwrap();
        assert!(all == down, "{} bytes came, and not those that were sent", all.len());
    };
    timeout(Duration::from_secs(60), async { tokio::join!(sending, reading) }).await.expect("bulk in time");
    started.elapsed()
}

async fn bulk_server() -> SocketAddr {
    app(|mut stream| async move {
        let (mut reader, mut writer) = stream.split();
        let (up, down) = (pattern(1, BULK_BYTES), pattern(2, BULK_BYTES));
        let sending = async {
            writer.write_all(&down).await?;
            Ok::<_, io::Error>(())
        };
        let reading = async {
            let mut all = Vec::with_capacity(up.len() + 1);
            reader.read_to_end(&mut all).await?;
            assert!(all == up, "{} bytes came, and not those that were sent", all.len());
            Ok(())
        };
        tokio::try_join!(sending, reading)?;
        stream.shutdown().await
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_arrives_whole_both_ways() {
    let pair = Pair::start(bulk_server().await).await;
    eprintln!("64 MiB both ways: {:?}", bulk(&pair).await);
    let mut bytes = (0, 0);
    eventually("the bytes in the record", async || {
        let add = |_: &CellKey, cell: &Cell| {
            bytes = (bytes.0 + cell.request_bytes, bytes.1 + cell.response_bytes);
        };
        pair.db.take(add).await;
        bytes == (BULK_BYTES as u64, BULK_BYTES as u64)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_share_few_connections() {
    let pair = Pair::start(greeting().await).await;
    let mut streams = Vec::new();
    for stream in futures_util::future::join_all((0..200).map(|_| pair.connect())).await {
        streams.push(stream);
    }
    for stream in &mut streams {
        assert_eq!(read_line(stream).await, "welcome\n");
    }
    let shared = pair.relay.accepted();
    assert!(shared <= 3, "{shared} connections for 200 tunnels");
    for (index, stream) in streams.iter_mut().enumerate() {
        stream.write_all(&vec![b'x'; index]).await.unwrap();
        stream.shutdown().await.unwrap();
    }
    for (index, stream) in streams.iter_mut().enumerate() {
        assert_eq!(read_all(stream).await.unwrap(), format!("{index} bytes\n"));
    }
    pair.expect(&[("fe", "inbound", "mtls", 0, 200, 0)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_that_nobody_reads_stops_no_other() {
    let pair = Pair::start(mesh::echo().await).await;
    // The echo of these comes back until there is no room anywhere.
    let mut stuck = Vec::new();
    for _ in 0..4 {
        let stream = pair.connect().await;
        let full = async {
            loop {
                stream.writable().await.unwrap();
                let _ = stream.try_write(&[0; 64 << 10]);
            }
        };
        let _: Result<(), _> = timeout(Duration::from_millis(300), full).await;
        stuck.push(stream);
    }
    let mut stream = pair.connect().await;
    for _ in 0..10 {
        stream.write_all(b"ping").await.unwrap();
        let mut back = [0; 4];
        timeout(LIMIT, stream.read_exact(&mut back)).await.expect("an echo in time").unwrap();
    }
    assert_eq!(pair.relay.accepted(), 1, "they share a connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_arrives_as_a_reset_in_both_directions() {
    let (say, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let server = app(move |mut stream| {
        let say = say.clone();
        async move {
            stream.write_all(b"half of it\n").await?;
            let mut asked = [0; 3];
            stream.read_exact(&mut asked).await?;
            if &asked == b"RST" {
                stream.set_zero_linger()?;
                return Ok(());
            }
            let end = stream.read(&mut asked).await;
            say.send(end.map_err(|error| error.kind())).unwrap();
            Ok(())
        }
    })
    .await;
    let pair = Pair::start(server).await;
    let mut stream = pair.connect().await;
    assert_eq!(read_line(&mut stream).await, "half of it\n");
    stream.write_all(b"RST").await.unwrap();
    let end = read_all(&mut stream).await.map_err(|error| error.kind());
    assert_eq!(end, Err(io::ErrorKind::ConnectionReset), "what the server broke off looks whole");

    let mut stream = pair.connect().await;
    assert_eq!(read_line(&mut stream).await, "half of it\n");
    stream.write_all(b"...").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    stream.set_zero_linger().unwrap();
    drop(stream);
    let end = timeout(LIMIT, heard.recv()).await.unwrap().unwrap();
    assert_eq!(end, Err(io::ErrorKind::ConnectionReset), "what the client broke off looks whole");
    pair.expect(&[("fe", "inbound", "mtls", 0, 2, 0)]).await;
}
