//! Requests on a fixed schedule, latency counted from the scheduled time: a slow answer delays no other's clock
//! (no coordinated omission). A thread a connection; each owns every n-th request of the schedule.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::json;

const CONNECTIONS: u32 = 32;
const WARM_UP: Duration = Duration::from_secs(1);

/// `open-loop PORT HOST RATE SECONDS`; prints one JSON line, microseconds.
pub fn run(args: &[String]) -> anyhow::Result<()> {
    let [port, host, rate, seconds] = args else { bail!("open-loop PORT HOST RATE SECONDS") };
    let (port, rate): (u16, u32) = (port.parse()?, rate.parse()?);
    let length = Duration::from_secs(seconds.parse()?);
    let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nuser-agent: open-loop\r\naccept: */*\r\n\r\n");
    let start = Instant::now() + Duration::from_millis(200);
    let threads: Vec<_> = (0..CONNECTIONS)
        .map(|place| {
            let request = request.clone();
            std::thread::spawn(move || connection(port, &request, start, place, rate, length))
        })
        .collect();
    let mut micros = Vec::new();
    for thread in threads {
        let done = thread.join().map_err(|_| anyhow::anyhow!("a connection's thread panicked"))?;
        micros.extend(done.context("a connection failed")?);
    }
    micros.sort_unstable();
    let at = |share: f64| micros.get((micros.len() as f64 * share) as usize).copied().unwrap_or(0);
    println!("{}", json!({"n": micros.len(), "p50": at(0.5), "p99": at(0.99), "p999": at(0.999)}));
    Ok(())
}

fn connection(
    port: u16,
    request: &str,
    start: Instant,
    place: u32,
    rate: u32,
    length: Duration,
) -> anyhow::Result<Vec<u64>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let step = Duration::from_secs(1) / rate;
    let mut micros = Vec::new();
    let mut buffer = [0; 4096];
    let mut number = place;
    loop {
        let offset = step * number;
        if offset > WARM_UP + length {
            return Ok(micros);
        }
        let due = start + offset;
        #[expect(
            clippy::disallowed_methods,
            reason = "the schedule is the point, and the thread has nothing else to do"
        )]
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        stream.write_all(request.as_bytes())?;
        let mut filled = 0;
        while !complete(&buffer[..filled])? {
            let read = stream.read(buffer.get_mut(filled..).context("an answer that is too long")?)?;
            if read == 0 {
                bail!("the connection was closed");
            }
            filled += read;
        }
        if offset >= WARM_UP {
            micros.push(u64::try_from(due.elapsed().as_micros())?);
        }
        number += CONNECTIONS;
    }
}

/// Whether a whole answer is there: the origin's body is known.
pub fn complete(answer: &[u8]) -> anyhow::Result<bool> {
    if !answer.ends_with(b"hello, world\n") && !answer.ends_with(b"hello, world\n\r\n0\r\n\r\n") {
        return Ok(false);
    }
    if !answer.starts_with(b"HTTP/1.1 200") {
        bail!("not a 200: {}", String::from_utf8_lossy(answer));
    }
    Ok(true)
}
