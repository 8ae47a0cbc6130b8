//! Packets, as the kernel shows them to a socket of AF_PACKET: of all devices here, from the IP header on.
//!
//! Before and after the time, a mark is sent over loopback and waited for. So a capture that sees nothing is told from
//! one that has nothing to see, and the kernel's count of what it dropped, which comes with a packet, is the last one.

use std::{
    io::{self, IoSliceMut},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd, OwnedFd},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType,
            recvmsg, setsockopt, socket, sockopt,
        },
        time::{TimeVal, TimeValLike},
    },
};
use socket2::SockRef;
use weft_proof::{Scope, Segment, Table};

use super::filter;

/// Packets the kernel may keep for us. More than the usual limit takes CAP_NET_ADMIN.
const BUFFER_BYTES: usize = 64 << 20;
const BUFFER_BYTES_UNPRIVILEGED: usize = 8 << 20;
/// The kernel joins segments to packets of up to 512 KiB.
const PACKET_BYTES_MAX: usize = 1 << 20;
/// How long the capture waits before it looks at the time.
const TURN_MS: i64 = 50;
const MARK_MAX: Duration = Duration::from_secs(10);

// Of `linux/if_packet.h` and `linux/if_arp.h`.
const PACKET_OUTGOING: u8 = 4;
const LOOPBACK: u16 = 772;

/// An open socket.
pub struct Capture {
    socket: OwnedFd,
    packet: Vec<u8>,
    control: Vec<u8>,
    dropped: u64,
}

/// What was captured.
pub struct Captured {
    pub table: Table,
    pub packets: u64,
    pub dropped: u64,
    pub time: Duration,
}

/// For who looks on.
#[derive(Default)]
pub struct Progress {
    pub began: AtomicBool,
    pub flows: AtomicU64,
    pub bytes: AtomicU64,
    /// Ends the capture before its time.
    pub stop: AtomicBool,
}

impl Capture {
    /// Takes CAP_NET_RAW.
    pub fn open() -> anyhow::Result<Capture> {
        let opened =
            socket(AddressFamily::Packet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll);
        let socket = match opened {
            Ok(socket) => socket,
            Err(Errno::EPERM | Errno::EACCES) => {
                let program =
                    std::env::current_exe().map_or_else(|_| "weft".into(), |path| path.display().to_string());
                bail!(
                    "packets can't be captured: this process has no CAP_NET_RAW; run it as root (sudo weft prove …), \
                     or give the program the capability once: sudo setcap cap_net_raw+ep {program}"
                );
            }
            Err(error) => return Err(error).context("open a socket that captures packets (AF_PACKET)"),
        };
        SockRef::from(&socket).attach_filter(&filter::nothing()).context("set the capture's filter")?;
        setsockopt(&socket, sockopt::RxqOvfl, &1).context("ask for the count of dropped packets")?;
        if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER_BYTES).is_err() {
            let _ = setsockopt(&socket, sockopt::RcvBuf, &BUFFER_BYTES_UNPRIVILEGED);
        }
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(TURN_MS))
            .context("set the capture's time-out")?;
        Ok(Capture { socket, packet: vec![0; PACKET_BYTES_MAX], control: nix::cmsg_space!(u32), dropped: 0 })
    }

    /// The next packet; empty if it is to be seen once more, `None` if none came for a while.
    fn next(&mut self) -> anyhow::Result<Option<&[u8]>> {
        let mut parts = [IoSliceMut::new(&mut self.packet)];
        let flags = MsgFlags::empty();
        let got = recvmsg::<LinkAddr>(self.socket.as_raw_fd(), &mut parts, Some(&mut self.control), flags);
        let got = match got {
            Ok(got) => got,
            // A device that goes down says so to all who look.
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENETDOWN) => return Ok(None),
            Err(error) => return Err(error).context("read a captured packet"),
        };
        for message in got.cmsgs().into_iter().flatten() {
            if let ControlMessageOwned::RxqOvfl(dropped) = message {
                self.dropped = self.dropped.max(dropped.into());
            }
        }
        // On loopback what goes out comes in, and is shown both times.
        let twice = got
            .address
            .is_some_and(|device| device.hatype() == LOOPBACK && device.pkttype() == PACKET_OUTGOING);
        let bytes = if twice { 0 } else { got.bytes };
        Ok(Some(self.packet.get(..bytes).unwrap_or_default()))
    }
}

/// Captures the hops of `scope` for this time.
pub fn run(
    mut capture: Capture,
    scope: Scope,
    time: Duration,
    progress: &Progress,
) -> anyhow::Result<Captured> {
    let (first, last) = (Mark::new()?, Mark::new()?);
    let mut ports = scope.ports();
    ports.extend([first.at.port(), last.at.port()]);
    SockRef::from(&capture.socket)
        .attach_filter(&filter::tcp_ports(&ports))
        .context("set the capture's filter")?;
    let mut table = Table::new(scope);
    let mut packets = 0;
    let mut read_until =
        |table: &mut Table, deadline: Instant, mark: Option<SocketAddr>| -> anyhow::Result<bool> {
            while Instant::now() < deadline && (mark.is_some() || !progress.stop.load(Ordering::Relaxed)) {
                let Some(packet) = capture.next()? else { continue };
                let Some(segment) = Segment::parse(packet) else { continue };
                if Some(segment.to) == mark {
                    return Ok(true);
                }
                packets += 1;
                table.on_segment(&segment);
                let (flows, bytes) = table.progress();
                progress.flows.store(flows as u64, Ordering::Relaxed);
                progress.bytes.store(bytes, Ordering::Relaxed);
            }
            Ok(false)
        };
    let _first = first.send()?;
    if !read_until(&mut table, Instant::now() + MARK_MAX, Some(first.at))? {
        bail!("the capture does not see its own packet on loopback; is another filter in its way?");
    }
    progress.began.store(true, Ordering::Relaxed);
    let began = Instant::now();
    read_until(&mut table, began + time, None)?;
    let time = began.elapsed();
    let _last = last.send()?;
    if !read_until(&mut table, Instant::now() + MARK_MAX, Some(last.at))? {
        bail!(
            "the capture did not come to its end within {} s: there is too much traffic",
            MARK_MAX.as_secs()
        );
    }
    Ok(Captured { table, packets, dropped: capture.dropped, time })
}

/// A place on loopback to which nobody else goes.
struct Mark {
    at: SocketAddr,
    _listener: TcpListener,
}

impl Mark {
    fn new() -> io::Result<Mark> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        Ok(Mark { at: listener.local_addr()?, _listener: listener })
    }

    fn send(&self) -> anyhow::Result<TcpStream> {
        TcpStream::connect_timeout(&self.at, MARK_MAX)
            .context("send a mark over loopback, which must be up (ip link set lo up)")
    }
}
