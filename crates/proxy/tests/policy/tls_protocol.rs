//! S-TLS-03 and S-TLS-05: what the mesh port speaks, and to whom it does not listen. `openssl` is the peer where it
//! can say the thing; raw bytes say what it can't.

use std::{
    collections::HashSet,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use weft_identity::{IdentityMatch, tls};

use crate::{
    hello::{Hello, names, records},
    member::{Member, TCP, WEB, openssl},
};

const REQUEST: &[u8] = b"GET /x HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
/// The handshake's limit, and some for a busy machine.
const HANDSHAKE_MAX: Duration = Duration::from_millis(6500);

fn config(member: &Member, alpn: &[&str]) -> Arc<rustls::ClientConfig> {
    tls::client_config(&member.svid("fe"), member.issuer.bundle(), IdentityMatch::TrustDomain, alpn).unwrap()
}

/// S-TLS-03: TLS 1.3 and nothing older, our ALPN and no other, our names and no others, no session to come back to, no
/// word of whom we trust; and not a byte at the app of whoever is refused. (Renegotiation and heartbeats do not exist in
/// 1.3; a stray heartbeat record is among the garbage.)
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_mesh_port_speaks_tls13_to_members_only() {
    let member = Member::start(15).await;
    let said = member.lets_in("fe", &[]).await.unwrap_or_else(|said| panic!("a good member gets in: {said}"));
    assert!(said.contains("New, TLSv1.3"), "{said}");
    assert!(
        said.contains("No client certificate CA names sent"),
        "whom we trust is nobody's business: {said}"
    );
    for (what, more) in [
        ("the name in upper case", &["-servername", "P8080.MESH.INTERNAL"][..]),
        ("HTTP/1.1 by ALPN", &["-alpn", "http/1.1"]),
        ("1.2 offered beside 1.3", &["-min_protocol", "TLSv1.2"]),
    ] {
        member.lets_in("fe", more).await.unwrap_or_else(|said| panic!("{what}: {said}"));
    }
    let (heads, bytes) = (member.origin.heads(), member.origin.bytes());
    assert_eq!(heads, 4);
    let old = "DEFAULT:@SECLEVEL=0";
    for (what, service, more) in [
        ("TLS 1.0", "fe", &["-tls1", "-cipher", old][..]),
        ("TLS 1.1", "fe", &["-tls1_1", "-cipher", old]),
        ("TLS 1.2", "fe", &["-tls1_2"]),
        ("TLS 1.2, RSA key exchange, CBC", "fe", &["-tls1_2", "-cipher", "AES128-SHA:@SECLEVEL=0"]),
        ("TLS 1.2 without encryption", "fe", &["-tls1_2", "-cipher", "NULL-SHA256:@SECLEVEL=0"]),
        ("TLS 1.2 without authentication", "fe", &["-tls1_2", "-cipher", "ADH-AES128-SHA256:@SECLEVEL=0"]),
        ("CCM only", "fe", &["-ciphersuites", "TLS_AES_128_CCM_SHA256"]),
        ("P-521 only", "fe", &["-groups", "P-521"]),
        ("X448 only", "fe", &["-groups", "X448"]),
        ("ffdhe2048 only", "fe", &["-groups", "ffdhe2048"]),
        ("no certificate", "", &[]),
        ("a member that may not", "stranger", &[]),
        ("an unknown protocol", "fe", &["-alpn", "spdy/3"]),
        ("no name", "fe", &["-noservername"]),
        ("an address for a name", "fe", &["-servername", "127.0.0.1"]),
        ("a port that is not there", "fe", &["-servername", "p8081.mesh.internal"]),
        ("an underscore", "fe", &["-servername", "p8080_.mesh.internal"]),
        ("a name below ours", "fe", &["-servername", "x.p8080.mesh.internal"]),
    ] {
        if let Ok(said) = member.lets_in(service, more).await {
            panic!("{what}: got in: {said}");
        }
        assert_eq!(member.origin.bytes(), bytes, "{what}: bytes at the app");
    }
    // The refusal of `stranger` is an answer, not a broken handshake: the identity is good, the policy says no.
    let said = member.s_client("stranger", &[], REQUEST).await;
    assert!(said.contains("HTTP/1.1 403"), "{said}");
    // What was agreed on by ALPN is what is spoken.
    for (what, alpn, sent) in [
        ("HTTP/1 after h2 was agreed on", "h2", REQUEST),
        (
            "HTTP/2 after http/1.1 was agreed on",
            "http/1.1",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        ),
    ] {
        let said = member.s_client("fe", &["-alpn", alpn], sent).await;
        assert!(!said.contains("HTTP/1.1 200"), "{what}: {said}");
        assert_eq!(member.origin.bytes(), bytes, "{what}: bytes at the app");
    }
    // No ticket, so no resumption, and nothing that 0-RTT could hang on.
    let said = member.s_client("fe", &["-msg"], REQUEST).await;
    assert!(said.contains("HTTP/1.1 200") && !said.contains("NewSessionTicket"), "{said}");
    assert!(member.refused().await >= 15, "{}", member.refused().await);
    for suite in ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"] {
        assert!(member.lets_in("fe", &["-ciphersuites", suite]).await.is_ok(), "{suite}");
    }
    for group in ["X25519", "P-256", "P-384"] {
        assert!(member.lets_in("fe", &["-groups", group]).await.is_ok(), "{group}");
    }
}

/// Row 35 of S-TLS-01, by certificates that only an old tool makes: what our CA would have to sign with SHA-1
/// (with MD5 an ECDSA key can't sign at all), and RSA keys that are too short.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn weak_signatures_and_keys_are_refused() {
    let member = Member::start(16).await;
    for (name, key, digest, in_) in [
        ("sha256", &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"], "-sha256", true),
        ("sha1", &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"], "-sha1", false),
        ("rsa2048", &["RSA", "-pkeyopt", "rsa_keygen_bits:2048"], "-sha256", true),
        ("rsa4096", &["RSA", "-pkeyopt", "rsa_keygen_bits:4096"], "-sha256", true),
        ("rsa1024", &["RSA", "-pkeyopt", "rsa_keygen_bits:1024"], "-sha256", false),
    ] {
        let dir = member.file(name);
        std::fs::create_dir(&dir).unwrap();
        let at = |file: &str| dir.join(file).to_string_lossy().into_owned();
        let said = tokio::task::spawn_blocking({
            let (key_file, csr, leaf, extensions) =
                (at("key.pem"), at("csr.pem"), at("leaf.pem"), at("x.cnf"));
            let ca = [member.file("intermediate.pem"), member.file("intermediate.key")]
                .map(|path| path.to_string_lossy().into_owned());
            move || {
                let text = "subjectAltName=critical,URI:spiffe://mesh.internal/ns/default/sa/fe\n\
                            keyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth,serverAuth\n";
                std::fs::write(&extensions, text).unwrap();
                let run = |words: &[&str]| {
                    openssl(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(), b"")
                };
                let mut said = run(&[&["genpkey", "-out", &key_file, "-algorithm"][..], key].concat());
                said += &run(&["req", "-new", "-key", &key_file, "-subj", "/", "-out", &csr]);
                said += &run(&[
                    "x509",
                    "-req",
                    "-in",
                    &csr,
                    "-CA",
                    &ca[0],
                    "-CAkey",
                    &ca[1],
                    "-days",
                    "1",
                    digest,
                    "-extfile",
                    &extensions,
                    "-out",
                    &leaf,
                ]);
                let chain = std::fs::read_to_string(&leaf).unwrap_or_default()
                    + &std::fs::read_to_string(&ca[0]).unwrap();
                std::fs::write(key_file.replace("key.pem", "chain.pem"), chain).unwrap();
                said
            }
        })
        .await
        .unwrap();
        assert!(
            std::fs::read_to_string(at("leaf.pem")).is_ok_and(|leaf| leaf.contains("BEGIN")),
            "{name}: {said}"
        );
        let bytes = member.origin.bytes();
        // Without its level of security openssl shows also what it would not take itself.
        let found = member.lets_in(name, &["-cipher", "DEFAULT:@SECLEVEL=0"]).await;
        assert_eq!(found.is_ok(), in_, "{name}: {}", found.unwrap_or_else(|said| said));
        assert_eq!(member.origin.bytes() > bytes, in_, "{name}: bytes at the app");
    }
}

/// Writes bytes, then reads until the other side ends it; how long that took.
fn knock(to: SocketAddr, bytes: &[u8]) -> Duration {
    let start = Instant::now();
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    let _ = stream.write_all(bytes);
    let mut said = [0; 4096];
    loop {
        match stream.read(&mut said) {
            Ok(0) => return start.elapsed(),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("still open after 15 s"),
            Err(_) => return start.elapsed(),
        }
    }
}

/// S-TLS-03: hellos that are wrong in one place, and bytes that are none: the connection ends, at once, the app hears
/// nothing, and the port goes on serving. SNI forms, compression, record shapes, garbage (seeded).
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn odd_hellos_end_the_connection() {
    let member = Member::start(17).await;
    let config = config(&member, &["http/1.1"]);
    let good = || Hello::of(&config, WEB);
    let web = WEB.as_bytes();
    let named = |list: &[(u8, &[u8])]| good().named(names(list)).records();
    let mut compressed = good();
    compressed.compression = vec![1, 0];
    let mut only_compressed = good();
    only_compressed.compression = vec![1];
    let mut twice = good();
    twice.extensions.push((0, names(&[(0, web)])));
    let mut fat = good();
    fat.extensions.insert(0, (0xfafa, vec![0; 20_000]));
    let cut = good().records();
    let seed = fastrand::u64(..);
    eprintln!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut cases: Vec<(String, Vec<u8>)> = [
        ("an empty name", named(&[(0, b"")])),
        ("an empty list of names", named(&[])),
        ("two names", named(&[(0, web), (0, b"p8081.mesh.internal")])),
        ("two names, ours last", named(&[(0, b"other.example"), (0, web)])),
        ("a name of another type", named(&[(9, web)])),
        ("a NUL in the name", named(&[(0, b"p8080.mesh.internal\0.evil")])),
        ("a line break in the name", named(&[(0, b"p8080.mesh\ninternal.xx")])),
        ("an escape in the name", named(&[(0, b"\x1b[2Jp8080")])),
        ("a name that is no UTF-8", named(&[(0, b"\xff\xfep8080")])),
        ("a name of 256 bytes", named(&[(0, &[b'a'; 256])])),
        ("a name of 16,000 bytes", named(&[(0, &[b'a'; 16_000])])),
        ("a list that says more than it has", good().named(vec![0xff, 0xff, 0, 0, 1, b'a']).records()),
        ("a name that says more than it has", good().named(vec![0, 4, 0, 0, 9, b'a']).records()),
        ("the extension twice", twice.records()),
        ("compression offered", compressed.records()),
        ("nothing but compression", only_compressed.records()),
        ("a hello beyond 16 KiB", fat.records()),
        ("1,000 empty records", [22, 3, 1, 0, 0].repeat(1000)),
        ("a record of another version", [&[22, 9, 9][..], &cut[3..]].concat()),
        ("a record longer than may be", [&[22, 3, 1, 0xff, 0xff][..], &[1; 60_000]].concat()),
        ("an alert first", vec![21, 3, 1, 0, 2, 1, 0]),
        ("a heartbeat first", vec![24, 3, 3, 0, 3, 1, 0x40, 0]),
        ("application data first", vec![23, 3, 3, 0, 3, 1, 2, 3]),
        ("SSLv2", vec![0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10, 1, 0, 0x80]),
        ("a hello that is no hello", records(&[2, 0, 0, 4, 1, 2, 3, 4], 100)),
        ("plaintext HTTP", REQUEST.to_vec()),
        ("plaintext HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
    ]
    .map(|(what, bytes)| (what.to_owned(), bytes))
    .into();
    for round in 0..100 {
        let mut bytes: Vec<u8> = (0..random.usize(1..2000)).map(|_| random.u8(..)).collect();
        if round % 2 == 0 {
            bytes = good().records();
            (0..random.usize(1..5)).for_each(|_| {
                let at = random.usize(..bytes.len());
                bytes[at] ^= 1 << random.u8(..8);
            });
        }
        cases.push((format!("garbage {round}, SEED={seed}"), bytes));
    }
    let inbound = member.inbound;
    // A flipped bit may lie where nobody looks (the random, say); then the handshake waits for its limit. So all
    // at once.
    let mut knocks = tokio::task::JoinSet::new();
    for (what, bytes) in cases {
        // Most must end at once, whole as they are; those which a bit made wait for more may take their five seconds.
        let limit = if what.starts_with("garbage") { HANDSHAKE_MAX } else { Duration::from_secs(4) };
        knocks.spawn_blocking(move || (knock(inbound, &bytes), limit, what));
    }
    for (took, limit, what) in knocks.join_all().await {
        assert!(took <= limit, "{what}: {took:?}");
    }
    assert_eq!(member.origin.bytes(), 0, "a byte reached the app");
    assert!(member.refused().await >= 20, "{}", member.refused().await);
    assert!(member.lets_in("fe", &[]).await.is_ok(), "the port serves on");
}

/// A stream that cuts what is written first, a ClientHello, into records of one byte, and those into small segments.
struct Shredder {
    stream: TcpStream,
    first: bool,
}

impl Write for Shredder {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if std::mem::take(&mut self.first) {
            let shreds = records(&bytes[5..], 1);
            for (index, part) in shreds.chunks(3).enumerate() {
                self.stream.write_all(part)?;
                if index % 50 == 0 {
                    weft_testkit::pause(Duration::from_millis(1));
                }
            }
            return Ok(bytes.len());
        }
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

impl Read for Shredder {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        self.stream.read(bytes)
    }
}

/// S-TLS-03: a hello in records of one byte, in small segments, is a hello all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hello_in_records_of_one_byte_is_understood() {
    let member = Member::start(18).await;
    let (config, inbound) = (config(&member, &["http/1.1"]), member.inbound);
    let said = tokio::task::spawn_blocking(move || {
        let stream = TcpStream::connect(inbound).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let client = rustls::ClientConnection::new(config, WEB.try_into().unwrap()).unwrap();
        let mut tls = rustls::StreamOwned::new(client, Shredder { stream, first: true });
        tls.write_all(REQUEST).unwrap();
        let mut said = [0; 12];
        tls.read_exact(&mut said).unwrap();
        said
    });
    assert_eq!(&said.await.unwrap(), b"HTTP/1.1 200");
}

/// S-TLS-03: whoever stalls in a handshake is gone after five seconds, wherever he stalls, also if he drips.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stalled_handshake_ends_in_time() {
    let member = Member::start(19).await;
    let hello = Hello::of(&config(&member, &[]), TCP).records();
    let inbound = member.inbound;
    let mut stalls = tokio::task::JoinSet::new();
    for (what, sent) in [
        ("nothing", vec![]),
        ("a byte", hello[..1].to_vec()),
        ("a record's head", hello[..5].to_vec()),
        ("half a hello", hello[..hello.len() / 2].to_vec()),
        ("a whole hello, and no more", hello.clone()),
        ("a hello's last byte missing", hello[..hello.len() - 1].to_vec()),
    ] {
        stalls.spawn_blocking(move || (what, knock(inbound, &sent)));
    }
    stalls.spawn_blocking(move || {
        let start = Instant::now();
        let mut stream = TcpStream::connect(inbound).unwrap();
        while start.elapsed() < Duration::from_secs(12) {
            let next = (start.elapsed().as_millis() / 100) as usize;
            if stream.write_all(&hello[next..=next]).is_err() {
                break;
            }
            weft_testkit::pause(Duration::from_millis(100));
        }
        ("a byte each 100 ms", start.elapsed())
    });
    for (what, took) in stalls.join_all().await {
        assert!(took <= HANDSHAKE_MAX, "{what}: open for {took:?}");
        assert!(took >= Duration::from_secs(4), "{what}: not stalled at all, it ended after {took:?}");
    }
    assert_eq!(member.origin.bytes(), 0);
}

/// S-TLS-03: 10,000 KeyUpdates cost their sender the connection, after a few dozen.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flood_of_key_updates_is_cut_short() {
    let member = Member::start(20).await;
    let (config, inbound) = (config(&member, &[]), member.inbound);
    let sent = tokio::task::spawn_blocking(move || {
        let stream = TcpStream::connect(inbound).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let client = rustls::ClientConnection::new(config, TCP.try_into().unwrap()).unwrap();
        let mut tls = rustls::StreamOwned::new(client, stream);
        tls.write_all(b"hello").unwrap();
        for sent in 0..10_000 {
            if tls.conn.refresh_traffic_keys().is_err() || tls.flush().is_err() {
                return sent;
            }
            // Reads what comes back, so that an end is noticed.
            match tls.read(&mut [0; 64]) {
                Ok(0) => return sent,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return sent,
            }
        }
        10_000
    });
    let sent = sent.await.unwrap();
    eprintln!("S-TLS-03: the connection ended after {sent} key updates");
    assert!(sent < 1000, "{sent} key updates were taken");
    assert!(member.lets_in("fe", &[]).await.is_ok(), "the port serves on");
}

/// S-TLS-05: serials are unique over 100,000 draws and carry 126 random bits; a certificate carries the one it was
/// given.
#[test]
fn serials_are_unique_and_random() {
    let draws = 100_000;
    let mut seen = HashSet::new();
    let mut ones = [0_u32; 128];
    for _ in 0..draws {
        let serial: [u8; 16] = weft_identity::random::secure().unwrap();
        for (bit, count) in ones.iter_mut().enumerate() {
            *count += u32::from(serial[bit / 8] >> (bit % 8) & 1);
        }
        assert!(seen.insert(serial), "a serial came twice");
    }
    // Six standard deviations: a fair coin fails this once in 10^7 runs.
    let (half, spread) = (draws / 2, 950);
    let loaded: Vec<_> = ones.iter().enumerate().filter(|(_, count)| count.abs_diff(half) > spread).collect();
    assert!(loaded.is_empty(), "bits that are no fair coin: {loaded:?}");
}
