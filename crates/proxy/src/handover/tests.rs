use std::{
    collections::HashMap,
    net::{Ipv4Addr, TcpStream},
    sync::Arc,
};

use tokio::sync::oneshot;
use weft_telemetry::Registry;

use super::*;
use crate::{
    access_log::Writer,
    config::Limits,
    net::reserve,
    overload::Overload,
    worker::{self, Direction, WorkerSettings},
};

const WORKERS: usize = 4;
const LIMIT: Duration = Duration::from_secs(10);

/// Workers that wait for connections on one socket, without any configuration: then a client's connection of the
/// outbound side stays open until its first request has come.
struct Proxy {
    workers: Vec<Mailbox>,
    address: SocketAddr,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Proxy {
    fn start(workers: usize) -> Proxy {
        let settings = WorkerSettings {
            registry: Registry::new(),
            service: Arc::from("default/fe"),
            version: Arc::from(""),
            overload: Overload::new(&Limits::default(), workers),
            access_log: Writer::start().unwrap().0,
        };
        let started = (0..workers).map(|index| worker::spawn(index, settings.clone()).unwrap());
        let (workers, threads): (Vec<Mailbox>, Vec<_>) = started.unzip();
        for (index, mailbox) in workers.iter().enumerate() {
            if let Some(crew) = Crew::of(&workers, index) {
                mailbox.send(Command::Crew(crew));
            }
        }
        let reserved =
            reserve((Ipv4Addr::LOCALHOST, 0).into(), crate::net::Ipv4::AsSystem, "a test").unwrap();
        let (address, role) = (reserved.address, Role::Outbound);
        workers[0].send(Command::Listen { role, address, socket: reserved.socket });
        Proxy { workers, address, threads }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    /// Open connections of each worker.
    fn open(&self) -> Vec<usize> {
        let ask = |worker: &Mailbox| {
            let (answer, count) = oneshot::channel();
            worker.send(Command::Connections(Direction::Outbound, answer));
            count.blocking_recv().unwrap()
        };
        self.workers.iter().map(ask).collect()
    }

    fn wait_for(&self, what: &str, expected: impl Fn(&[usize]) -> bool) -> Vec<usize> {
        let end = Instant::now() + LIMIT;
        loop {
            let open = self.open();
            if expected(&open) {
                return open;
            }
            assert!(Instant::now() < end, "{what}: {open:?}");
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.workers.iter().for_each(|worker| worker.send(Command::Stop));
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

#[test]
fn eight_connections_at_once_are_two_for_each_of_four_workers() {
    let proxy = Proxy::start(WORKERS);
    let clients: Vec<TcpStream> = std::thread::scope(|scope| {
        let connecting: Vec<_> = (0..8).map(|_| scope.spawn(|| proxy.connect())).collect();
        connecting.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let open = proxy.wait_for("eight", |open| open.iter().sum::<usize>() == 8);
    assert_eq!(open, [2; WORKERS]);
    // Who has lost some gets the next ones.
    drop(clients);
    proxy.wait_for("none", |open| open.iter().sum::<usize>() == 0);
    let _clients = [proxy.connect(), proxy.connect(), proxy.connect()];
    let open = proxy.wait_for("three", |open| open.iter().sum::<usize>() == 3);
    assert!(open.iter().all(|open| *open <= 1), "{open:?}");
}

#[test]
fn a_lone_worker_serves_what_it_accepts() {
    let proxy = Proxy::start(1);
    let _clients = [proxy.connect(), proxy.connect()];
    proxy.wait_for("two", |open| open == [2]);
    assert_eq!(proxy.workers[0].load().connections.load(Ordering::Relaxed), 0, "nobody asks for it");
}

#[test]
fn a_busy_worker_gets_fewer_than_one_with_idle_connections() {
    let proxy = Proxy::start(2);
    proxy.workers[1].load().busy.store(900, Ordering::Relaxed);
    let _clients: Vec<TcpStream> = (0..20).map(|_| proxy.connect()).collect();
    // It looks at itself twice a second; by then it is not busy any more.
    let open = proxy.wait_for("twenty", |open| open.iter().sum::<usize>() == 20);
    assert!(open[0] > open[1], "{open:?}");
}

/// Voluntary context switches of each thread of this process: how often it woke up.
fn switches() -> HashMap<u32, (String, u64)> {
    let mut found = HashMap::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().trim().to_owned()
        };
        let id = task.file_name().to_string_lossy().parse().unwrap();
        found.insert(id, (field("Name:"), field("voluntary_ctxt_switches:").parse().unwrap_or(0)));
    }
    found
}

#[test]
fn a_connection_wakes_up_nobody_but_those_who_carry_it() {
    const CONNECTIONS: usize = 300;
    let before = switches();
    let proxy = Proxy::start(WORKERS);
    proxy.wait_for("workers", |open| open.len() == WORKERS);
    // The last two have so much to do that they get nothing.
    for worker in &proxy.workers[2..] {
        worker.load().connections.store(1_000_000, Ordering::Relaxed);
    }
    let threads = switches();
    let mut clients = Vec::new();
    for number in 1..=CONNECTIONS {
        clients.push(proxy.connect());
        let end = Instant::now() + LIMIT;
        let carried = || -> usize {
            let loads = proxy.workers[..2].iter();
            loads.map(|worker| worker.load().connections.load(Ordering::Relaxed) as usize).sum()
        };
        while carried() < number {
            assert!(Instant::now() < end, "connection {number}");
            std::thread::park_timeout(Duration::from_micros(200));
        }
    }
    let after = switches();
    let woken = |name: &str| -> u64 {
        let ours = threads.iter().filter(|(id, (of, _))| of == name && !before.contains_key(id));
        ours.map(|(id, (_, then))| after.get(id).map_or(0, |(_, now)| now - then)).max().unwrap_or(0)
    };
    let (first, idle) = (woken("worker-0"), woken("worker-2").max(woken("worker-3")));
    assert!(first >= CONNECTIONS as u64 / 2, "the worker that accepts woke up {first} times");
    assert!(idle < CONNECTIONS as u64 / 5, "a worker without connections woke up {idle} times");
}
