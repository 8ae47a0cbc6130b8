//! Bytes: what goes comes back, and damage is an error.

use super::*;

fn sample(random: &mut fastrand::Rng) -> (Series, Counts) {
    let series = Series {
        caller: format!("default/c{}", random.u8(..)),
        service: "default/be4\u{1f980}".to_owned(),
        version: "v1".to_owned(),
        route: String::new(),
        code: random.u32(..),
        grpc_status: random.i32(..),
        tls: "mtls".to_owned(),
        direction: "inbound".to_owned(),
    };
    let counts = Counts {
        requests: random.u64(..),
        errors: random.u64(..100),
        request_bytes: random.u64(..),
        response_bytes: 0,
        durations: Vec::new(),
    };
    (
        series,
        counts
            .with_durations((0..random.usize(..40)).map(|_| (random.u32(..BUCKETS), random.u64(1..1 << 40)))),
    )
}

#[test]
fn a_cell_comes_back_as_it_went() {
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..500 {
        let (series, counts) = sample(&mut random);
        assert_eq!(decode_cell(&encode_cell(&series, &counts)).unwrap(), (series, counts));
    }
}

#[test]
fn a_newer_version_is_named() {
    let mut bytes = encode_cell(&Series::default(), &Counts::default());
    bytes[0] = 2;
    assert_eq!(decode_cell(&bytes), Err(DecodeError::Version(2)));
}

#[test]
fn damage_is_an_error_or_another_cell_and_never_a_panic() {
    let mut random = fastrand::Rng::with_seed(2);
    let (series, counts) = sample(&mut random);
    let packed = pack(&counts);
    let cell = encode_cell(&series, &counts);
    let window = encode_window(1, 1000, [(&series, &*packed), (&Series::default(), &*packed)].into_iter());
    for good in [cell, window] {
        for end in 0..good.len() {
            assert!(decode_cell(&good[..end]).is_err());
            assert!(decode_window(&good[..end]).is_err());
        }
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            let at = random.usize(..bytes.len());
            bytes[at] = random.u8(..);
            let _ = decode_cell(&bytes);
            let _ = decode_window(&bytes);
        }
    }
}

#[test]
fn numbers_of_any_size_come_back() {
    for number in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
        let mut bytes = Vec::new();
        put(&mut bytes, number);
        let mut input = Input { rest: &bytes };
        assert_eq!((input.number(), input.end()), (Ok(number), Ok(())));
    }
    assert!(Input { rest: &[0xff; 11] }.number().is_err());
}
