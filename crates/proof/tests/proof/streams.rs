use weft_proof::record::{Counts, Side};
use weft_proof::stream::Direction;

use crate::talk::{Kind, Talk};

/// A number near the end of all numbers, so that they begin again.
const FIRST: u32 = u32::MAX - 5_000;

fn segments(bytes: &[u8], size: usize) -> Vec<(u32, Vec<u8>)> {
    let at = |index: usize| FIRST.wrapping_add(1).wrapping_add((index * size) as u32);
    bytes.chunks(size).enumerate().map(|(index, chunk)| (at(index), chunk.to_vec())).collect()
}

fn counts(syn: bool, segments: &[(u32, Vec<u8>)]) -> Counts {
    let mut direction = Direction::new(Side::Client);
    if syn {
        direction.on_segment(FIRST, true, &[]);
    }
    segments.iter().for_each(|(number, bytes)| direction.on_segment(*number, false, bytes));
    direction.finish();
    *direction.follower().unwrap().counts()
}

fn tls(bytes: &[u8]) -> Counts {
    let mut follower = weft_proof::record::Follower::from_start(Side::Client);
    follower.feed(bytes);
    follower.finish();
    *follower.counts()
}

#[test]
fn each_byte_counts_once_in_whatever_order_it_comes() {
    let bytes = Talk::new(&Kind::Tls13, 5, 4000).of(Side::Client);
    let whole = tls(&bytes);
    let in_order = segments(&bytes, 1000);
    assert_eq!(counts(true, &in_order), whole);
    // Each segment twice, as on two devices.
    let twice: Vec<_> = in_order.iter().flat_map(|one| [one.clone(), one.clone()]).collect();
    assert_eq!(counts(true, &twice), whole);
    // Neighbours change places; then all of them the other way round.
    let mut swapped = in_order.clone();
    swapped.chunks_mut(2).for_each(<[_]>::reverse);
    assert_eq!(counts(true, &swapped), whole);
    let mut reversed = in_order.clone();
    reversed.reverse();
    assert_eq!(counts(true, &reversed), whole);
    // Sent again in other pieces.
    let mut again = in_order.clone();
    again.splice(3..3, segments(&bytes, 1700).into_iter().take(4));
    assert_eq!(counts(true, &again), whole);
    // Bytes in the SYN itself.
    let mut direction = Direction::new(Side::Client);
    direction.on_segment(FIRST, true, &bytes);
    direction.finish();
    assert_eq!(direction.follower().unwrap().counts(), &whole);
}

#[test]
fn a_segment_that_never_comes_is_lost_and_said_to_be() {
    let bytes = Talk::new(&Kind::Tls13, 40, 4000).of(Side::Client);
    let mut segments = segments(&bytes, 1000);
    segments.remove(30);
    let counts = counts(true, &segments);
    assert_eq!((counts.lost, counts.plaintext), (1000, 0), "{counts:?}");
    assert_eq!(counts.seen(), bytes.len() as u64 - 1000);
}

#[test]
fn what_waits_is_bounded() {
    let mut direction = Direction::new(Side::Client);
    direction.on_segment(FIRST, true, &[]);
    for n in 0..5000u32 {
        direction.on_segment(FIRST.wrapping_add(3 + 2 * n), false, b"x");
    }
    let counts = *direction.follower().unwrap().counts();
    assert!(
        counts.lost > 3000 && counts.seen() > 3000,
        "holes were given up long before the end: {counts:?}"
    );
}

#[test]
fn probes_of_an_idle_connection_begin_nothing() {
    let bytes = Talk::new(&Kind::Tls13, 40, 400).of(Side::Client);
    let late: Vec<_> = segments(&bytes, 429).into_iter().skip(10).collect();
    let mut direction = Direction::new(Side::Client);
    direction.on_segment(late[0].0.wrapping_sub(1), false, &[]);
    assert!(direction.follower().is_none());
    late.iter().for_each(|(number, bytes)| direction.on_segment(*number, false, bytes));
    direction.finish();
    let counts = *direction.follower().unwrap().counts();
    assert_eq!((counts.lost, counts.plaintext, counts.unproven), (0, 0, 0), "{counts:?}");
}
