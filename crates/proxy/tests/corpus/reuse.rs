//! What a worker lends to one message after the other (parsed heads, readers of bodies, buffers, answers on their way
//! out) keeps nothing of the one before, however that ended.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use weft_proxy::static_config::StaticResources;

use crate::{
    edge::{Answer, Edge, answers, connect, find},
    mesh::{
        LIMIT, free_port,
        xds::{Speak, cluster, http, listener, plain_chain, to, vhost},
    },
};

const ROUNDS: usize = 4;
const CLIENTS: usize = 6;

/// Bytes that only this message has.
fn text(number: usize, bytes: usize) -> String {
    let unit = format!("<{number}>");
    let mut all = unit.repeat(bytes / unit.len() + 1);
    all.truncate(bytes);
    all
}

/// How a message's body is sent, and whether it is whole.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    Length,
    Chunked,
    Trailers,
    Empty,
    /// Half of it, then the end of the connection.
    Cut,
    CutChunked,
}

const FORMS: [Form; 6] =
    [Form::Length, Form::Chunked, Form::Trailers, Form::Empty, Form::Cut, Form::CutChunked];

/// A message's head fields and body.
fn framed(form: Form, body: &str) -> String {
    let (length, half) = (body.len(), &body[..body.len() / 2]);
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    match form {
        Form::Length => format!("Content-Length: {length}\r\n\r\n{body}"),
        Form::Chunked => {
            let rest = &body[half.len()..];
            format!("Transfer-Encoding: chunked\r\n\r\n{}{}0\r\n\r\n", chunk(half), chunk(rest))
        }
        Form::Trailers => {
            format!("Transfer-Encoding: chunked\r\n\r\n{}0\r\nX-Sum: {length}\r\n\r\n", chunk(body))
        }
        Form::Empty => "Content-Length: 0\r\n\r\n".to_owned(),
        Form::Cut => format!("Content-Length: {length}\r\n\r\n{half}"),
        Form::CutChunked => format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{half}"),
    }
}

fn is_cut(form: Form) -> bool {
    matches!(form, Form::Cut | Form::CutChunked)
}

/// One whole message at the front of what came.
fn whole(bytes: &[u8]) -> Option<Answer> {
    answers(bytes).into_iter().next().filter(|message| message.whole)
}

/// Answers `/NUMBER/FORM/BYTES` with that, and says what it got of the request's body.
fn serve(mut stream: TcpStream) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 * 1024];
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    loop {
        let asked = loop {
            // A request reads like an answer but for its first line.
            if let Some(end) = find(&bytes, b"\r\n\r\n")
                && let Some(line) = find(&bytes, b"\r\n")
            {
                let target = String::from_utf8_lossy(&bytes[..line]).split(' ').nth(1).unwrap().to_owned();
                let has_body = String::from_utf8_lossy(&bytes[..end]).to_lowercase().contains("length:")
                    || String::from_utf8_lossy(&bytes[..end]).to_lowercase().contains("chunked");
                let as_answer = [b"HTTP/1.1 200 OK", &bytes[line..]].concat();
                if !has_body {
                    break (target, String::new());
                }
                if let Some(message) = whole(&as_answer) {
                    break (target, message.text());
                }
            }
            match stream.read(&mut buffer) {
                Ok(count @ 1..) => bytes.extend_from_slice(&buffer[..count]),
                _ => return,
            }
        };
        bytes.clear(); // the proxy sends one after the other
        let (target, body) = asked;
        let mut parts = target[1..].split('/').map(|part| part.parse::<usize>().unwrap());
        let (number, form, length) =
            (parts.next().unwrap(), FORMS[parts.next().unwrap()], parts.next().unwrap());
        let answer = framed(form, &text(number, length));
        let got = format!("HTTP/1.1 200 OK\r\nX-Got: {} {}\r\n", body.len(), is_own(number, &body));
        if stream.write_all([got, answer].concat().as_bytes()).is_err() || is_cut(form) {
            return;
        }
    }
}

fn is_own(number: usize, body: &str) -> bool {
    body == text(number, body.len())
}

fn origin() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in socket.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    at
}

/// One client's requests on one connection after the other; each is answered with its own, or cut.
fn ask(at: SocketAddr, client: usize) {
    let mut random = fastrand::Rng::with_seed(client as u64);
    let mut stream = connect(at);
    for round in 0..ROUNDS * FORMS.len() * FORMS.len() {
        let number = client * 100_000 + round;
        let (asked, answered) = (FORMS[round % FORMS.len()], FORMS[round / FORMS.len() % FORMS.len()]);
        let (up, down) = (random.usize(2..40_000), random.usize(2..40_000));
        let target = format!("/{number}/{}/{down}", round / FORMS.len() % FORMS.len());
        let case = format!("{target}, asked {asked:?}, {up} bytes up");
        let request = format!("PUT {target} HTTP/1.1\r\nHost: a\r\n{}", framed(asked, &text(number, up)));
        stream.write_all(request.as_bytes()).unwrap();
        if is_cut(asked) {
            // Leaves in the middle of its request, and of what may come of it.
            std::thread::sleep(Duration::from_millis(random.u64(0..3)));
            stream = connect(at);
            continue;
        }
        let mut bytes = Vec::new();
        let mut buffer = [0; 16 * 1024];
        let ended = loop {
            if whole(&bytes).is_some() {
                break false;
            }
            match stream.read(&mut buffer) {
                Ok(count @ 1..) => bytes.extend_from_slice(&buffer[..count]),
                _ => break true,
            }
        };
        let all = answers(&bytes);
        let [answer] = &all[..] else { panic!("{case}: {} answers", all.len()) };
        assert_eq!(answer.status, 200, "{case}: {}", answer.text());
        let sent = if asked == Form::Empty { 0 } else { up };
        assert_eq!(answer.one("x-got"), Some(&*format!("{sent} true")), "{case}");
        let body = answer.text();
        assert!(is_own(number, &body), "{case}: {} bytes of another's", body.len());
        match answered {
            Form::Cut | Form::CutChunked => {
                assert!(ended && !answer.whole, "{case}: half of it looks whole");
                stream = connect(at);
            }
            Form::Empty => assert_eq!(body.len(), 0, "{case}"),
            _ => assert_eq!((body.len(), ended), (down, false), "{case}"),
        }
        if random.u8(..) < 30 {
            // Leaves in the middle of an answer.
            let target = format!("GET /{number}/0/900000 HTTP/1.1\r\nHost: a\r\n\r\n");
            stream.write_all(target.as_bytes()).unwrap();
            stream.read_exact(&mut [0; 100]).unwrap();
            stream = connect(at);
        }
    }
}

/// All of them share one worker, and so what it lends.
#[test]
fn no_message_has_bytes_of_another() {
    let (origin, at) = (origin(), free_port());
    let web = http("web", vec![vhost("all", &["*"], vec![to("/", "o")])], None);
    let edge = Edge::start(StaticResources {
        listeners: vec![listener("web", at, vec![plain_chain(web)])],
        clusters: vec![cluster("o", &[origin], Speak::Http1, None)],
        ..StaticResources::default()
    });
    let asking: Vec<_> = (0..CLIENTS).map(|client| std::thread::spawn(move || ask(at, client))).collect();
    for client in asking {
        client.join().unwrap();
    }
    drop(edge);
}
