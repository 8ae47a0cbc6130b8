//! Seeded noise: no bytes make either end panic, grow without bound, or write what is no frame.

use http::StatusCode;

use super::*;
use crate::http2::{RECEIVING, SENDING};

struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

fn noise(random: &mut Random) -> Vec<u8> {
    let stream = random.below(8) as u32;
    let len = [0, 1, 4, 5, 6, 8, 40][random.below(7) as usize];
    let mut payload: Vec<u8> = (0..len).map(|_| random.below(256) as u8).collect();
    let kind = random.below(11) as u8;
    if kind == kind::HEADERS && random.below(4) > 0 {
        payload = SMALL.to_vec();
    }
    let flags = [0, 1, 4, 5, 8, 13, 32, 37][random.below(8) as usize];
    frame(kind, flags, stream, &payload)
}

#[test]
fn no_frames_in_any_order_harm_an_end() {
    for seed in 0..3000 {
        let random = &mut Random(seed);
        let mut server = server();
        for _ in 0..60 {
            let bytes = noise(random);
            let cut = random.below(bytes.len() as u64 + 1) as usize;
            if server.receive(&bytes[..cut]).and_then(|()| server.receive(&bytes[cut..])).is_err() {
                break;
            }
            for event in server.events() {
                let (Event::Opened(key) | Event::Readable(key) | Event::Writable(key)) = event else {
                    continue;
                };
                let _ = server.connection.take_request(key);
                match random.below(5) {
                    0 => drop(server.connection.read(key)),
                    1 => drop(server.connection.answer(key, StatusCode::OK, &HeaderMap::new(), false)),
                    2 => drop(server.connection.send_data(key, &mut Bytes::from(vec![0; 70_000]), true)),
                    3 => server.connection.release(key, SENDING),
                    _ => server.connection.release(key, RECEIVING),
                }
            }
            if random.below(3) == 0 {
                frames(&server.written());
            }
        }
        frames(&server.written());
        assert!(server.connection.streams() <= 8);
    }
}

#[test]
fn a_preface_and_bits_harm_nobody() {
    for seed in 0..3000 {
        let random = &mut Random(seed);
        let mut client = End::new(Config::new(Role::Client));
        for path in ["http://a/1", "http://a/2"] {
            client.connection.open(&request("GET", path), true).unwrap();
        }
        let mut bytes = client.written();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << random.below(8);
        }
        let mut server = End::new(Config::new(Role::Server));
        let _ = server.receive(&bytes);
        frames(&server.written());
    }
}
