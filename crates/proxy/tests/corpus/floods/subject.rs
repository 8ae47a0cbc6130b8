//! Who is flooded: a process of its own, so that its memory and CPU time are its own.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use weft_proxy::static_config::StaticResources;

use crate::{
    beside::{self, Limits, Origin, Peer, Running, Way},
    edge::{Edge, answers, exchange_until},
    h2::{Client, End, GET},
    mesh::{
        LIMIT, free_port, usage,
        xds::{Speak, cluster, http, listener, plain_chain, to, vhost},
    },
    oracle::{Next, Oracle, plain},
    strict::Request,
};

pub struct Subject {
    pub at: SocketAddr,
    pub name: &'static str,
    process: Process,
    end: beside::End,
    _oracle: Oracle,
}

enum Process {
    Weft(Child),
    Peer(Running),
}

impl Subject {
    /// This same test program, told to be a proxy.
    pub fn weft() -> Subject {
        let (oracle, at) = (Oracle::answering(sized), free_port());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "floods::subject::a_proxy_in_a_process", "--nocapture"])
            .env("WEFT_CORPUS_PROXY", format!("{at} {}", oracle.address))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + LIMIT;
        while std::net::TcpStream::connect(at).is_err() {
            assert!(
                Instant::now() < deadline && child.try_wait().unwrap().is_none(),
                "the proxy did not start"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        let subject = Subject {
            at,
            name: "Weft",
            process: Process::Weft(child),
            end: beside::End::HalfClose,
            _oracle: oracle,
        };
        subject.warmed()
    }

    /// `None`: peers were left out.
    pub fn beside(peer: Peer) -> Option<Subject> {
        let (oracle, at) = (Oracle::answering(sized), free_port());
        let origins = vec![Origin { host: "*", at: oracle.address, http2: false }];
        let way = Way { at, speak: beside::Speak::Either, tls: false, origins };
        let running = peer.start_limited(&[way], &Limits::default())?;
        let process = Process::Peer(running);
        // It ends the connection as it was asked to, however busy it is.
        let end = beside::End::Quiet(LIMIT);
        Some(Subject { at, name: peer.name(), process, end, _oracle: oracle }.warmed())
    }

    /// What is made once is not growth.
    fn warmed(self) -> Subject {
        for _ in 0..20 {
            assert!(self.serves_others(), "{} serves before the flood", self.name);
        }
        self
    }

    fn pid(&self) -> u32 {
        match &self.process {
            Process::Weft(child) => child.id(),
            Process::Peer(running) => running.pid(),
        }
    }

    pub fn rss_kib(&self) -> u64 {
        usage::resident(self.pid()) / 1024
    }

    pub fn cpu(&self) -> Duration {
        usage::cpu(self.pid())
    }

    /// On both protocols.
    pub fn serves_others(&self) -> bool {
        let asked = [&b"GET /other HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"[..]];
        let told = answers(&exchange_until(self.at, self.end, asked));
        let mut client = Client::connect(self.at, &[]);
        client.request(1, &GET, true);
        told.first().is_some_and(|answer| answer.status == 200)
            && client.end_of(1) == End::Status(200, "GET /".to_owned())
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let Process::Weft(child) = &mut self.process else { return };
        drop(child.stdin.take());
        let deadline = Instant::now() + Duration::from_secs(5);
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                let _ = child.kill();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Not a test of anything unless told by the ones above: the proxy that they start.
#[test]
fn a_proxy_in_a_process() {
    let Ok(told) = std::env::var("WEFT_CORPUS_PROXY") else { return };
    let (at, origin) = told.split_once(' ').unwrap();
    let web = http("web", vec![vhost("all", &["*"], vec![to("/", "o")])], None);
    let _edge = Edge::start(StaticResources {
        listeners: vec![listener("web", at.parse().unwrap(), vec![plain_chain(web)])],
        clusters: vec![cluster("o", &[origin.parse().unwrap()], Speak::Http1, None)],
        ..StaticResources::default()
    });
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// `/bytes/N` is answered with N bytes.
fn sized(request: &Request, stream: &mut std::net::TcpStream) -> Next {
    let Some(count) = request.target.strip_prefix("/bytes/").and_then(|text| text.parse::<usize>().ok())
    else {
        return plain(request, stream);
    };
    let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {count}\r\n\r\n");
    let part = [b'x'; 8192];
    let mut left = count;
    while left > 0 {
        let now = left.min(part.len());
        if stream.write_all(&part[..now]).is_err() {
            return Next::Close;
        }
        left -= now;
    }
    Next::Keep
}
