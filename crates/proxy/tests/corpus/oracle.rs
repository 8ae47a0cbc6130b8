//! The origin that tells the truth: it audits every byte of every connection with the strict reader, and
//! answers by path. Verdicts come from here and from what the client got, never from the proxy's own counts.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::strict::{self, Request, show};

/// What happened at the origin, in order.
#[derive(Debug, Clone)]
pub enum Event {
    Request(Request),
    /// Bytes that no strict reader takes, and why.
    Problem(String),
    /// Of these, two readers read other requests in them (see [`models`](crate::models)).
    Ambiguous(String),
    /// A connection ended inside a request.
    Cut,
}

/// For the rest of what a strict reader refused.
const REST_TIME: Duration = Duration::from_millis(40);

/// What becomes of the connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Keep,
    Close,
}

/// Writes the answer.
pub type Answer = dyn Fn(&Request, &mut TcpStream) -> Next + Send + Sync;

pub struct Oracle {
    pub address: SocketAddr,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Oracle {
    /// Answers 200, saying what it was asked for.
    pub fn start() -> Oracle {
        Oracle::answering(plain)
    }

    pub fn answering(answer: impl Fn(&Request, &mut TcpStream) -> Next + Send + Sync + 'static) -> Oracle {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let events = Arc::new(Mutex::new(Vec::new()));
        let answer: Arc<Answer> = Arc::new(answer);
        let log = Arc::clone(&events);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream, &*answer, &log));
            }
        });
        Oracle { address, events }
    }

    /// What happened since the last call.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock().unwrap())
    }

    /// Waits for a request with this target; what came before it and itself are taken.
    pub fn wait_for(&self, target: &str) -> Vec<Event> {
        let deadline = Instant::now() + crate::mesh::LIMIT;
        loop {
            let mut events = self.events.lock().unwrap();
            let wanted = |event: &Event| matches!(event, Event::Request(request) if request.target == target);
            if let Some(place) = events.iter().position(wanted) {
                return events.drain(..=place).collect();
            }
            drop(events);
            assert!(Instant::now() < deadline, "{target} did not come to the origin");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// 200, with the target in a field and the body's length in another.
pub fn plain(request: &Request, stream: &mut TcpStream) -> Next {
    let text = format!("{} {}", request.method, request.target);
    let shown = if request.method == "HEAD" { "" } else { text.as_str() };
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nx-body-bytes: {}\r\n\r\n{shown}",
        text.len(),
        request.body.len()
    );
    let _ = stream.write_all(answer.as_bytes());
    Next::Keep
}

fn serve(mut stream: TcpStream, answer: &Answer, log: &Mutex<Vec<Event>>) {
    stream.set_nodelay(true).unwrap();
    let say = |event| log.lock().unwrap().push(event);
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match strict::read(&bytes) {
            Err(text) => {
                let text = format!("{text} in {:?}", show(&bytes[..bytes.len().min(400)]));
                say(Event::Problem(text));
                // What else comes decides how it can be read.
                let _ = stream.set_read_timeout(Some(REST_TIME));
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    bytes.extend_from_slice(&buffer[..count]);
                }
                if let Some(text) = crate::models::differ(&bytes) {
                    say(Event::Ambiguous(text));
                }
                return;
            }
            Ok(Some((request, length))) => {
                bytes.drain(..length);
                say(Event::Request(request.clone()));
                if answer(&request, &mut stream) == Next::Close {
                    // Bytes of the other side that nobody read would turn the end into a reset.
                    let _ = stream.shutdown(std::net::Shutdown::Write);
                    let _ = stream.set_read_timeout(Some(Duration::from_millis(500)));
                    while matches!(stream.read(&mut buffer), Ok(1..)) {}
                    return;
                }
            }
            Ok(None) => match stream.read(&mut buffer) {
                Ok(count @ 1..) => bytes.extend_from_slice(&buffer[..count]),
                _ => {
                    if !bytes.is_empty() {
                        say(Event::Cut);
                    }
                    return;
                }
            },
        }
    }
}
