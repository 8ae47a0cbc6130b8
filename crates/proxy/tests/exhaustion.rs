//! Nothing left: no file descriptors, no memory. Nobody is killed, nothing spins, the pages answer, and all is well again
//! when those who took it have gone. The same with Envoy and HAProxy in our place, with limits like ours.

#![expect(unsafe_code, reason = "one function of the allocator's")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests stop at the first surprise"
)]

mod beside;
mod mesh;
mod own_process;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use beside::{Limits, Peer, Running, Speak, Way, figure};
use mesh::{App, echo, free_port, metric, millis, status, try_head};
use own_process::{Limited, Process, Wanted};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

/// As the binary's: the system's own keeps what was freed, and the proxy would stay overloaded.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

// SAFETY: as the binary declares it.
unsafe extern "C" {
    safe fn mi_collect(force: bool);
}

const MIB: u64 = 1 << 20;
/// For what should take no time at all.
const PATIENCE: Duration = Duration::from_secs(1);

/// Not a test by itself.
#[test]
fn is_a_proxy_when_told_to() {
    own_process::RELEASE.get_or_init(|| || mi_collect(true));
    own_process::be_one_if_told();
}

async fn started(nofile: Option<u64>, limited: Limited) -> Process {
    let (app, echo) = (App::start().await, echo().await);
    let (drain_delay, drain_timeout) = (Duration::ZERO, millis(500));
    let wanted = Wanted { app: app.address, echo, drain_delay, drain_timeout, nofile };
    tokio::task::spawn_blocking(move || wanted.start_limited(&limited)).await.unwrap()
}

/// Listens there before an app; `None`: peers were left out.
async fn beside_us(peer: Peer, limits: &Limits) -> Option<(SocketAddr, Running)> {
    let (app, at) = (App::start().await, free_port());
    let running = peer.start_limited(&[Way::plain(Speak::Http1, at, app.address)], limits)?;
    Some((at, running))
}

/// Whether a request is answered well, on a connection of its own.
async fn answers(to: SocketAddr, path: &str) -> bool {
    let exchange = async {
        let mut stream = TcpStream::connect(to).await.ok()?;
        let asked = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(asked.as_bytes()).await.ok()?;
        Some(status(&try_head(&mut stream).await?) == 200)
    };
    timeout(PATIENCE, exchange).await.ok().flatten().unwrap_or(false)
}

/// How long until it serves again.
async fn well_after(to: SocketAddr) -> Option<Duration> {
    let gone = Instant::now();
    while gone.elapsed() < millis(15_000) {
        if answers(to, "/").await {
            return Some(gone.elapsed());
        }
        tokio::time::sleep(millis(20)).await;
    }
    None
}

fn shown(well_after: Option<Duration>) -> String {
    well_after.map_or("never".to_owned(), |after| format!("{:.1} s", after.as_secs_f64()))
}

/// What 1,000 connections do to one that may have 256 descriptors.
struct Starved {
    /// Of 10 times that the admin page was asked.
    pages: usize,
    /// Of a core.
    share: f64,
    /// Who got in is served.
    inside: bool,
    well_after: Option<Duration>,
}

const DESCRIPTORS: u64 = 256;

async fn starve(http: SocketAddr, admin: SocketAddr, cpu: impl Fn() -> Duration) -> (Starved, u64) {
    assert!(answers(http, "/").await);
    let mut held = Vec::new();
    let mut left_waiting = 0;
    // Who takes none lets them wait in the kernel's queue, and then at its door.
    while held.len() < 1000 && left_waiting < 5 {
        match timeout(millis(200), TcpStream::connect(http)).await {
            Ok(Ok(stream)) => held.push(stream),
            _ => left_waiting += 1,
        }
    }
    tokio::time::sleep(millis(300)).await;
    let (before, since, mut pages) = (cpu(), Instant::now(), 0);
    for _ in 0..10 {
        pages += usize::from(answers(admin, "/ready").await);
        tokio::time::sleep(millis(100)).await;
    }
    let share = (cpu() - before).as_secs_f64() / since.elapsed().as_secs_f64();
    // One of those who got in: its request needs a descriptor more.
    let first = &mut held[0];
    let _ = first.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let head = timeout(PATIENCE, try_head(first)).await;
    let inside = head.is_ok_and(|head| head.is_some_and(|head| status(&head) == 200));
    let had = held.len() as u64;
    drop(held);
    (Starved { pages, share, inside, well_after: well_after(http).await }, had)
}

impl Starved {
    fn tell(&self, who: &str) {
        let Starved { pages, share, inside, well_after } = self;
        let inside = if *inside { "served" } else { "LOST" };
        let line = format!("1,000 connections, {DESCRIPTORS} descriptors: pages, CPU, who is in, well after");
        figure(&line, who, format!("{pages}/10, {share:.2}, {inside}, {}", shown(*well_after)));
    }
}

/// F-PX-16: 1,000 connections and 256 descriptors. The pages answer, those who are in are served, nothing spins, and
/// all is well again when they have gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_descriptors_the_pages_answer_and_nothing_spins() {
    let process = started(Some(DESCRIPTORS), Limited::default()).await;
    let (starved, had) = starve(process.http, process.admin, || process.cpu()).await;
    starved.tell("Weft");
    let refused = metric(process.admin, "weft_connections_refused").await;
    assert!(had == 1000 && refused > 500, "the guard: it was too much, {refused} refused of {had}");
    assert_eq!(starved.pages, 10, "the pages answer");
    assert!(starved.share <= 0.2, "it spins: {:.2} of a core", starved.share);
    assert!(starved.inside, "who is in is served");
    assert!(starved.well_after.is_some_and(|after| after < millis(2000)), "{:?}", starved.well_after);
}

/// F-PX-16 with Envoy and HAProxy in our place. Each is told a limit of connections, somewhat below the one that we
/// find by ourselves: HAProxy's own, by the descriptors, would count its admin page too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn descriptors_beside_peers() {
    for peer in Peer::ALL {
        let limits = Limits { descriptors: Some(DESCRIPTORS), connections: Some(100), ..Limits::default() };
        let Some((at, running)) = beside_us(peer, &limits).await else { return };
        let (starved, had) = starve(at, running.admin, || running.cpu()).await;
        starved.tell(peer.name());
        assert!(had >= 100, "the guard: {peer:?} took {had}");
    }
}

/// A control group of the test's own, where the machine allows that.
struct Group(PathBuf);

impl Group {
    fn make(who: &str, bytes: u64) -> Option<Group> {
        let name = format!("weft-test-{who}-{}", std::process::id());
        let path = PathBuf::from(format!("/sys/fs/cgroup/memory/{name}"));
        let limit = path.join("memory.limit_in_bytes");
        // Only where there is such a hierarchy: elsewhere this would be an error to make, or a plain directory.
        if !Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists()
            || std::fs::create_dir(&path).is_err()
        {
            return None;
        }
        let group = Group(path);
        std::fs::write(limit, bytes.to_string()).ok().map(|()| group)
    }

    fn kills(&self) -> u64 {
        let text = std::fs::read_to_string(self.0.join("memory.oom_control")).unwrap();
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok()).unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The kernel needs a moment for those who have just left.
        for _ in 0..50 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::yield_now();
        }
    }
}

/// What more halves of large heads than the memory holds do.
struct Drowned {
    sent: u64,
    worst: u64,
    /// Of 10 times that the admin page was asked.
    pages: usize,
    ended: bool,
    well_after: Option<Duration>,
}

const MEMORY: u64 = 96 * MIB;

async fn drown(
    http: SocketAddr,
    admin: SocketAddr,
    resident: impl Fn() -> u64,
    mut runs: impl FnMut() -> bool,
) -> Drowned {
    assert!(answers(http, "/").await);
    let field = format!("x: {}\r\n", "y".repeat(500));
    let half = format!("GET / HTTP/1.1\r\nhost: a\r\n{}", field.repeat(95));
    let (mut sent, mut held, mut worst, mut pages, mut ended) = (0, Vec::new(), 0, 0, false);
    let mut left_waiting = 0;
    for round in 0..40 {
        for _ in 0..100 {
            if left_waiting >= 5 {
                break;
            }
            let Ok(connected) = timeout(millis(200), TcpStream::connect(http)).await else {
                left_waiting += 1;
                continue;
            };
            let Ok(mut stream) = connected else { continue };
            if stream.try_write(half.as_bytes()).is_ok_and(|count| count == half.len())
                || timeout(millis(20), stream.write_all(half.as_bytes())).await.is_ok_and(|done| done.is_ok())
            {
                sent += half.len() as u64;
            }
            held.push(stream);
        }
        worst = worst.max(resident());
        if round % 4 == 0 {
            pages += usize::from(answers(admin, "/ready").await);
        }
        ended = !runs();
        if ended {
            break;
        }
    }
    drop(held);
    let well_after = if ended { None } else { well_after(http).await };
    Drowned { sent, worst, pages, ended, well_after }
}

impl Drowned {
    fn tell(&self, who: &str) {
        let Drowned { worst, pages, ended, well_after, .. } = self;
        let ended = if *ended { "KILLED" } else { "lives" };
        let line = "190 MB of half heads, 96 MiB: resident, pages, alive, well after";
        figure(line, who, format!("{} MiB, {pages}/10, {ended}, {}", worst / MIB, shown(*well_after)));
    }
}

/// F-PX-17: a flood of halves of large heads, more than the limit holds, in a control group where there is one. Nobody
/// is killed, the pages answer, and it serves again when they have gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_heads_than_memory_kill_nobody() {
    let group = Group::make("weft", MEMORY);
    println!("limited by {}", if group.is_some() { "a control group" } else { "--memory-limit" });
    let limited = Limited {
        memory: group.is_none().then_some(MEMORY),
        group: group.as_ref().map(|group| group.0.clone()),
        ..Limited::default()
    };
    let process = std::sync::Mutex::new(started(None, limited).await);
    let (http, admin) = {
        let process = process.lock().unwrap();
        (process.http, process.admin)
    };
    let resident = || process.lock().unwrap().resident();
    let runs = || process.lock().unwrap().ended(Duration::ZERO).is_none();
    let drowned = drown(http, admin, resident, runs).await;
    drowned.tell("Weft");
    let process = process.into_inner().unwrap();
    let refused = metric(process.admin, "weft_connections_refused{listener=web,reason=overload}").await;
    println!(
        "{} MiB sent, {} MiB resident at most, {refused} refused",
        drowned.sent / MIB,
        drowned.worst / MIB
    );
    assert!(!drowned.ended, "it was killed");
    assert!(refused > 0, "the guard: it was never too much, {} MiB at most", drowned.worst / MIB);
    assert!(group.as_ref().is_none_or(|group| group.kills() == 0), "somebody was killed");
    assert_eq!(drowned.pages, 10, "the pages answer");
    // What others have mapped too counts as resident, and not in the group.
    assert!(group.is_some() || drowned.worst <= MEMORY, "{} MiB", drowned.worst / MIB);
    assert!(
        drowned.well_after.is_some_and(|after| after < Duration::from_secs(10)),
        "{:?}",
        drowned.well_after
    );
    drop(process);
}

/// F-PX-17 with Envoy and HAProxy in our place. They know of no control group, so they are told a limit that leaves
/// room for what they don't count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_beside_peers() {
    for peer in Peer::ALL {
        let group = Group::make(peer.name(), MEMORY);
        let limits = Limits {
            memory: Some(MEMORY / 3 * 2),
            group: group.as_ref().map(|group| group.0.clone()),
            ..Limits::default()
        };
        let Some((at, running)) = beside_us(peer, &limits).await else { return };
        let admin = running.admin;
        let running = std::sync::Mutex::new(running);
        let resident = || running.lock().unwrap().resident();
        let drowned = drown(at, admin, resident, || running.lock().unwrap().runs()).await;
        drowned.tell(peer.name());
        assert!(drowned.sent > MIB, "the guard: {peer:?} took {} bytes", drowned.sent);
        drop(running);
    }
}
