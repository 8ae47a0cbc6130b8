//! Allocations a request: a proxy in this process, whose allocator counts by thread.

#![expect(unsafe_code, reason = "a global allocator cannot be written without it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio_util::sync::CancellationToken;
use weft_bench::weft::Mesh;
use weft_proxy::{Config, Control, PortsWanted};

use crate::roads::{Counts, Road, drive};

/// Counted from the thousandth request to the three-thousandth.
const WARM_UP: usize = 1_000;
const REQUESTS: usize = 2_000;

const THREADS_MAX: usize = 256;
static THREADS: AtomicUsize = AtomicUsize::new(0);
static IDS: [AtomicI32; THREADS_MAX] = [const { AtomicI32::new(0) }; THREADS_MAX];
static COUNTS: [AtomicU64; THREADS_MAX] = [const { AtomicU64::new(0) }; THREADS_MAX];

thread_local! {
    /// This thread's place in the tables; 0 is nobody's.
    static PLACE: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: each call goes to the system's allocator with the same arguments; counting touches no heap.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, handed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise, handed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

fn count() {
    // A thread that ends has no place any more; it is none that is measured.
    let _ = PLACE.try_with(|place| {
        if place.get() == 0 {
            let next = THREADS.fetch_add(1, Ordering::Relaxed) + 1;
            place.set(next.min(THREADS_MAX - 1));
            IDS[place.get()].store(rustix::thread::gettid().as_raw_nonzero().get(), Ordering::Release);
        }
        COUNTS[place.get()].fetch_add(1, Ordering::Relaxed);
    });
}

/// What the thread of that name has allocated so far.
fn allocated_by(name: &str) -> anyhow::Result<u64> {
    for (id, count) in IDS.iter().zip(&COUNTS) {
        let id = id.load(Ordering::Acquire);
        let comm = std::fs::read_to_string(format!("/proc/self/task/{id}/comm")).unwrap_or_default();
        if id != 0 && comm.trim() == name {
            return Ok(count.load(Ordering::Relaxed));
        }
    }
    bail!("no thread {name} has allocated")
}

pub fn measure(mesh: &Mesh, dir: &Path) -> anyhow::Result<Vec<Counts>> {
    let _callee = mesh.proxy("be1")?;
    let stop = CancellationToken::new();
    let (ready, ports) = mpsc::channel();
    let config = config(mesh, dir, stop.clone(), ready)?;
    let proxy = std::thread::Builder::new().name("proxy".to_owned()).spawn(|| weft_proxy::run(config))?;
    let port = ports.recv_timeout(Duration::from_secs(30)).context("the proxy did not start")?;
    let counts = Road::OUTBOUND.into_iter().map(|road| count_road(road, port)).collect();
    stop.cancel();
    proxy.join().map_err(|_| anyhow::anyhow!("the proxy panicked"))?.context("the proxy")?;
    counts
}

fn count_road(road: Road, port: u16) -> anyhow::Result<Counts> {
    let mut client = road.client(port)?;
    drive(client.as_mut(), WARM_UP)?;
    let mut each = Vec::new();
    for _ in 0..3 {
        let before = allocated_by("worker-0")?;
        drive(client.as_mut(), REQUESTS)?;
        each.push((allocated_by("worker-0")? - before) as f64 / REQUESTS as f64);
    }
    Ok(Counts { road, each })
}

fn config(
    mesh: &Mesh,
    dir: &Path,
    stop: CancellationToken,
    ready: mpsc::Sender<u16>,
) -> anyhow::Result<Config> {
    let loopback = || Some(([127, 0, 0, 1], 0).into());
    let mut config = Config::new("default", "fe", dir.join("counted"));
    let token = mesh.token("fe")?.trim().to_owned();
    config.control = Some(Control { address: format!("https://127.0.0.1:{}", mesh.xds), token: Some(token) });
    config.ports =
        PortsWanted { outbound: loopback(), inbound: loopback(), admin: loopback(), metrics: loopback() };
    config.signals = false;
    config.stop = stop;
    config.drain.delay = Duration::ZERO;
    config.drain.timeout = Duration::from_secs(1);
    config.on_ready = Some(Box::new(move |ports| {
        let _ = ready.send(ports.outbound.map_or(0, |address| address.port()));
    }));
    Ok(config)
}
