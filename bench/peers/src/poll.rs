//! A readiness loop of the smallest size: edge-triggered epoll, one thread, streams of the standard library.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

/// What became possible on one descriptor.
#[derive(Debug, Clone, Copy)]
pub struct Ready {
    pub key: u64,
    pub read: bool,
    pub write: bool,
}

pub struct Poll {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Poll {
    pub fn new() -> io::Result<Poll> {
        Ok(Poll { epoll: epoll::create(CreateFlags::CLOEXEC)?, events: Vec::with_capacity(512) })
    }

    /// Reported once for each change, reading and writing alike.
    pub fn edge(&self, descriptor: impl AsFd, key: u64) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.epoll, descriptor, EventData::new_u64(key), flags)?)
    }

    /// Reported as long as somebody waits to be accepted.
    pub fn listener(&self, listener: &TcpListener, key: u64) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        Ok(epoll::add(&self.epoll, listener, EventData::new_u64(key), EventFlags::IN)?)
    }

    /// Waits, and fills `ready` with what it found.
    pub fn wait(&mut self, ready: &mut Vec<Ready>) -> io::Result<()> {
        self.events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        ready.clear();
        ready.extend(self.events.iter().map(|event| {
            let flags = event.flags;
            Ready {
                key: event.data.u64(),
                read: flags
                    .intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR),
                write: flags.contains(EventFlags::OUT),
            }
        }));
        Ok(())
    }
}

/// Whom a listener has, ready for a [`Poll`].
pub fn accept(listener: &TcpListener) -> Option<TcpStream> {
    let (stream, _) = listener.accept().ok()?;
    prepare(&stream).ok()?;
    Some(stream)
}

pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)
}

/// What a read came to.
pub enum Got {
    Bytes(usize),
    NothingNow,
    End,
}

pub fn read(mut stream: &TcpStream, buffer: &mut [u8]) -> Got {
    match stream.read(buffer) {
        Ok(0) => Got::End,
        Ok(read) => Got::Bytes(read),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Got::NothingNow
        }
        Err(_) => Got::End,
    }
}

/// Writes what the socket takes; the rest goes behind `pending`. False once the connection is lost.
pub fn write(mut stream: &TcpStream, bytes: &[u8], pending: &mut Vec<u8>) -> bool {
    if !pending.is_empty() {
        pending.extend_from_slice(bytes);
        return true;
    }
    match stream.write(bytes) {
        Ok(written) => pending.extend_from_slice(bytes.get(written..).unwrap_or_default()),
        Err(error) if can_wait(&error) => pending.extend_from_slice(bytes),
        Err(_) => return false,
    }
    true
}

/// Sends what was kept. False once the connection is lost.
pub fn flush(mut stream: &TcpStream, pending: &mut Vec<u8>) -> bool {
    while !pending.is_empty() {
        match stream.write(pending) {
            Ok(written) => drop(pending.drain(..written)),
            Err(error) => return can_wait(&error),
        }
    }
    true
}

/// Later it may go: no room, or a connection that is still being made.
fn can_wait(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::NotConnected)
}

pub fn close(stream: &TcpStream) {
    let _ = stream.shutdown(Shutdown::Both);
}

/// Places for what is open; a place is used again.
pub struct Places<T> {
    list: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Places { list: Vec::new(), free: Vec::new() }
    }
}

impl<T> Places<T> {
    pub fn put(&mut self, value: T) -> usize {
        match self.free.pop() {
            Some(place) => {
                self.list[place] = Some(value);
                place
            }
            None => {
                self.list.push(Some(value));
                self.list.len() - 1
            }
        }
    }

    pub fn get(&mut self, place: usize) -> Option<&mut T> {
        self.list.get_mut(place)?.as_mut()
    }

    pub fn take(&mut self, place: usize) {
        if self.list.get_mut(place).and_then(Option::take).is_some() {
            self.free.push(place);
        }
    }
}
