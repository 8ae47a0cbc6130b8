//! Any bytes, in any order: nothing panics, no byte is counted twice, and none that is not there is proved.

use weft_proof::record::{Follower, Side};
use weft_proof::{Segment, Table};

use crate::flows::{self, BE1, FE, at, scope};
use crate::talk::{Kind, Talk};

fn seeds() -> impl Iterator<Item = u64> {
    let said = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    said.map_or(0..200, |seed: u64| seed..seed + 1)
}

fn spoilt(random: &mut fastrand::Rng, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.usize(0..4) {
        let place = random.usize(0..bytes.len());
        match random.u8(0..4) {
            0 => bytes[place] = random.u8(..),
            1 => bytes.truncate(place.max(1)),
            2 => bytes.insert(place, random.u8(..)),
            _ => bytes.splice(place..place, b"GET / HTTP/1.1\r\n\r\n".iter().copied()).for_each(drop),
        }
    }
    bytes
}

#[test]
fn a_follower_accounts_for_every_byte() {
    let talks = [Talk::new(&Kind::Tls13, 5, 6000), Talk::new(&Kind::Tls12, 5, 60)];
    for seed in seeds() {
        let mut random = fastrand::Rng::with_seed(seed);
        let side = if random.bool() { Side::Client } else { Side::Server };
        let talk = &talks[random.usize(0..2)];
        let bytes = spoilt(&mut random, &talk.of(side));
        let mut follower = if random.bool() { Follower::from_start(side) } else { Follower::joining(side) };
        let (mut fed, mut lost) = (0, 0);
        let mut rest = &bytes[random.usize(0..bytes.len())..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(random.usize(1..=rest.len().min(3000)));
            rest = after;
            if random.u8(..) < 10 {
                follower.gap(piece.len() as u64);
                lost += piece.len() as u64;
            } else {
                follower.feed(piece);
                fed += piece.len() as u64;
            }
        }
        follower.finish();
        let counts = follower.counts();
        assert_eq!((counts.seen(), counts.lost), (fed, lost), "SEED={seed}: {counts:?}");
    }
}

#[test]
fn random_bytes_are_never_proved() {
    for seed in seeds() {
        let mut random = fastrand::Rng::with_seed(seed);
        let bytes: Vec<u8> = (0..random.usize(1..30_000)).map(|_| random.u8(..)).collect();
        let mut follower = Follower::joining(Side::Server);
        bytes.chunks(random.usize(1..2000)).for_each(|piece| follower.feed(piece));
        follower.finish();
        assert_eq!(follower.counts().tls, 0, "SEED={seed}");
    }
}

#[test]
fn a_table_takes_any_segment() {
    let talk = Talk::new(&Kind::Tls13, 3, 3000).of(Side::Client);
    let places = [FE, BE1, "10.0.0.2:8080", "[fd00::2]:15006", "10.0.0.1:7701"].map(at);
    for seed in seeds() {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut table = Table::new(scope());
        let mut sent = 0;
        for _ in 0..200 {
            let from = random.usize(0..talk.len());
            let payload = &talk[from..random.usize(from..=talk.len().min(from + 2000))];
            let segment = Segment {
                from: places[random.usize(0..places.len())],
                to: places[random.usize(0..places.len())],
                sequence: if random.bool() { from as u32 + 1 } else { random.u32(..) },
                syn: random.u8(..) < 20,
                ack: random.bool(),
                payload,
            };
            sent += payload.len() as u64;
            table.on_segment(&segment);
        }
        let all = flows::flows(table);
        assert!(all.iter().map(|flow| flow.counts().seen()).sum::<u64>() <= sent, "SEED={seed}");
    }
}

#[test]
fn any_packet_is_read_or_not() {
    let mut packet = vec![0x45, 0, 0, 60, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    packet.extend([0x9c, 0x40, 0x3a, 0x9e, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x18, 1, 0, 0, 0, 0, 0]);
    packet.extend([7; 20]);
    for seed in seeds() {
        let mut random = fastrand::Rng::with_seed(seed);
        let bytes = spoilt(&mut random, &packet);
        if let Some(segment) = Segment::parse(&bytes) {
            assert!(segment.payload.len() <= bytes.len(), "SEED={seed}");
        }
    }
}
