//! What a process has used, as the kernel says it.

use std::{net::SocketAddr, time::Duration};

/// User and system time, in ticks of 10 ms.
pub fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before the parenthesis may hold anything.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    Duration::from_millis(fields.filter_map(|field| field.parse::<u64>().ok()).sum::<u64>() * 10)
}

/// Resident memory in bytes; 0 where there is no such process any more.
pub fn resident(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

/// Connections that who listens there still holds open. Those that wait to be taken count too.
pub fn connections(listener: SocketAddr) -> usize {
    const ESTABLISHED: &str = "01";
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let local = format!(":{:04X}", listener.port());
    let held = table.lines().filter(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let at = fields.next().unwrap_or_default();
        at.ends_with(&local) && fields.nth(1) == Some(ESTABLISHED)
    });
    held.count()
}

/// Bytes that the kernel holds on the connections to who listens there, in both directions, at both ends.
pub fn queued(listener: SocketAddr) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let port = format!(":{:04X}", listener.port());
    let mut held = 0;
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, remote, "01", queues, ..] = fields[..] else { continue };
        if local.ends_with(&port) || remote.ends_with(&port) {
            let queues = queues.split(':').filter_map(|bytes| usize::from_str_radix(bytes, 16).ok());
            held += queues.sum::<usize>();
        }
    }
    held
}
