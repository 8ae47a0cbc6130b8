//! F-PX-14: an origin that answers before the body was sent, and then takes the body for a request.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use futures_util::future::join_all;
use http::Version;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use weft_proxy::static_config::StaticResources;

use crate::{
    beside::{Limits, Peer, Speak as PeerSpeak, Way, figure},
    client::{Got, ask, read_h1},
    mesh::{
        self, LIMIT, Proxy, free_port, try_head,
        xds::{Speak, cluster, http, listener, plain_chain, to, vhost},
    },
};

/// An origin that answers at the head and takes what follows for the next request.
async fn hasty(smuggled: Arc<AtomicU32>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let smuggled = Arc::clone(&smuggled);
            tokio::spawn(async move {
                while let Some(head) = try_head(&mut stream).await {
                    let path = head.split(' ').nth(1).unwrap_or("").to_owned();
                    let parts: Vec<&str> = path.split('/').collect();
                    let (status, text) = match parts[..] {
                        ["", "early", status, ..] => (status, "early"),
                        ["", "smuggled"] => {
                            smuggled.fetch_add(1, Ordering::SeqCst);
                            ("200", "smuggled")
                        }
                        _ => ("200", path.as_str()),
                    };
                    let mut answer = String::new();
                    if parts.contains(&"continue") {
                        answer.push_str("HTTP/1.1 100 Continue\r\n\r\n");
                    }
                    answer.push_str(&format!(
                        "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{text}",
                        text.len()
                    ));
                    if stream.write_all(answer.as_bytes()).await.is_err() || parts.contains(&"close") {
                        return;
                    }
                }
            });
        }
    });
    at
}

const INNER: &str = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";

/// What became of a request that was answered early.
enum Early {
    /// The answer came, and all others got their own.
    Fine,
    /// The client did not get the answer, and nobody got a wrong one.
    Lost,
    Wrong(String),
}

/// A request whose body looks like another one.
struct Case {
    status: &'static str,
    ending: &'static str,
    expect: &'static str,
    chunked: bool,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for status in ["200", "413", "417", "500"] {
        for ending in ["", "/close", "/continue"] {
            for expect in ["", "expect: 100-continue\r\n"] {
                for chunked in [false, true] {
                    cases.push(Case { status, ending, expect, chunked });
                }
            }
        }
    }
    cases
}

impl Case {
    fn name(&self) -> String {
        format!("{}{} {:?} chunked {}", self.status, self.ending, self.expect, self.chunked)
    }

    async fn run(&self, at: SocketAddr) -> Early {
        let (frame, body) = if self.chunked {
            let body = format!("{:x}\r\n{INNER}\r\n0\r\n\r\n", INNER.len());
            ("transfer-encoding: chunked\r\n".to_owned(), body)
        } else {
            (format!("content-length: {}\r\n", INNER.len()), INNER.to_owned())
        };
        let mut client = TcpStream::connect(at).await.unwrap();
        let Case { status, ending, expect, .. } = self;
        let request = format!("POST /early/{status}{ending} HTTP/1.1\r\nhost: a\r\n{frame}{expect}\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        // The answer first, then the body: it is early.
        let told = timeout(LIMIT, answer(&mut client)).await.ok().flatten();
        let lost = match told {
            Some((head, text)) => {
                if !head.starts_with(&format!("HTTP/1.1 {status} ")) || text != "early" {
                    return Early::Wrong(format!("{head}{text}"));
                }
                false
            }
            None => true,
        };
        let _ = client.write_all(body.as_bytes()).await;
        // Others meet no answer but their own, whatever connection they get.
        let others = (0..4).map(|n| async move {
            let path = format!("/own/{n}");
            (ask(at, Version::HTTP_11, "GET", "a", &path).await, path)
        });
        for (got, path) in join_all(others).await {
            if got != Got::Whole(200, path) {
                return Early::Wrong(format!("another: {got:?}"));
            }
        }
        // And the client itself: closed, or in step.
        let _ = client.write_all(b"GET /own/last HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        let mut rest = String::new();
        let Ok(read) = timeout(LIMIT, client.read_to_string(&mut rest)).await else {
            return Early::Wrong("itself: no end in time".to_owned());
        };
        let own = Got::Whole(200, "/own/last".to_owned());
        match read {
            Ok(_) if !rest.is_empty() && read_h1(&rest) != own => Early::Wrong(format!("itself: {rest}")),
            _ if lost => Early::Lost,
            _ => Early::Fine,
        }
    }
}

/// The final answer's head and its five bytes.
async fn answer(client: &mut TcpStream) -> Option<(String, String)> {
    let mut told = try_head(client).await?;
    if told.starts_with("HTTP/1.1 100") {
        told = try_head(client).await?;
    }
    let mut text = [0; 5];
    client.read_exact(&mut text).await.ok()?;
    Some((told, String::from_utf8_lossy(&text).into_owned()))
}

/// How many answers did not come, and what was wrong; so many cases at once.
async fn run(at: SocketAddr, at_once: usize) -> (usize, Vec<String>) {
    let (mut lost, mut wrong) = (0, Vec::new());
    for cases in cases().chunks(at_once) {
        for (early, case) in join_all(cases.iter().map(|case| case.run(at))).await.into_iter().zip(cases) {
            match early {
                Early::Fine => {}
                Early::Lost => lost += 1,
                Early::Wrong(what) => wrong.push(format!("{}: {what}", case.name())),
            }
        }
    }
    (lost, wrong)
}

fn tell(who: &str, lost: usize, wrong: usize) {
    figure(
        &format!("{} early answers: out of step / not delivered", cases().len()),
        who,
        format!("{wrong} / {lost}"),
    );
}

/// F-PX-14: the early answer arrives; what is left of the body never becomes somebody's answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_answer_costs_its_connection_and_nothing_else() {
    let smuggled = Arc::new(AtomicU32::new(0));
    let origin = hasty(Arc::clone(&smuggled)).await;
    let at = free_port();
    let web = http("web", vec![vhost("all", &["*"], vec![to("/", "app")])], None);
    let resources = StaticResources {
        listeners: vec![listener("web", at, vec![plain_chain(web)])],
        clusters: vec![cluster("app", &[origin], Speak::Http1, None)],
        ..StaticResources::default()
    };
    let _proxy = Proxy::start("edge", resources);
    assert_eq!(cases().len(), 48);
    let (lost, wrong) = run(at, 1).await;
    tell("Weft", lost, wrong.len());
    assert!(lost == 0 && wrong.is_empty(), "{lost} answers did not come; {wrong:#?}");
    // The guard: the origin does take bodies for requests, so that a reused connection would have shown it.
    let before = smuggled.load(Ordering::SeqCst);
    let told =
        format!("POST /early/200 HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{INNER}", INNER.len());
    let mut direct = TcpStream::connect(origin).await.unwrap();
    direct.write_all(told.as_bytes()).await.unwrap();
    mesh::eventually("the body taken for a request", async || smuggled.load(Ordering::SeqCst) > before).await;
}

/// F-PX-14 with Envoy and HAProxy in our place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn early_answers_beside_peers() {
    for peer in Peer::ALL {
        let (origin, at) = (hasty(Arc::default()).await, free_port());
        let way = Way::plain(PeerSpeak::Http1, at, origin);
        let Some(_running) = peer.start_limited(&[way], &Limits::default()) else { return };
        // Each ends a connection only after a while.
        let (lost, wrong) = run(at, 8).await;
        tell(peer.name(), lost, wrong.len());
        println!("F-PX-14 {}: {:#?}", peer.name(), &wrong[..wrong.len().min(3)]);
        assert!(lost + wrong.len() < 40, "{peer:?} was not there");
    }
}
