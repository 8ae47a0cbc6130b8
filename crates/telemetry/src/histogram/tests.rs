//! The formula, the merge, the quantiles.

use super::*;

#[test]
fn buckets_follow_the_formula() {
    for (value, bucket) in [
        (0, 0),
        (31, 31),
        (32, 32),
        (63, 63),
        (64, 64),
        (65, 64),
        (66, 65),
        (127, 95),
        (128, 96),
        (1000, 190),
    ] {
        assert_eq!(index(value), bucket, "bucket of {value}");
    }
    assert_eq!(index(u64::MAX), BUCKETS - 1);
    for bucket in 0..BUCKETS {
        assert_eq!(index(lower_bound(bucket)), bucket);
        assert_eq!(index(upper_bound(bucket)), bucket);
        if bucket + 1 < BUCKETS {
            let width = lower_bound(bucket + 1) - lower_bound(bucket);
            assert!(width == 1 || width * 32 <= lower_bound(bucket), "bucket {bucket} is too wide");
        }
    }
    assert_eq!(lower_bound(BUCKETS + 7), lower_bound(BUCKETS - 1));
}

#[test]
fn pairs_are_sparse_and_come_back() {
    let mut histogram = Histogram::new();
    for value in [1, 1, 40, 1_000_000] {
        histogram.observe(value);
    }
    let pairs: Vec<_> = histogram.pairs().collect();
    assert_eq!(pairs, [(1, 2), (index(40) as u32, 1), (index(1_000_000) as u32, 1)]);
    let again = Histogram::from_pairs(pairs.iter().copied().chain([(1920, 5), (u32::MAX, 5)]));
    assert_eq!(
        (again.pairs().collect::<Vec<_>>(), again.count()),
        (pairs, 4),
        "indexes of no bucket are left out"
    );
    assert_eq!((histogram.count(), histogram.sum()), (4, 1_000_042));
}

#[test]
fn merging_is_counting_together() {
    let mut random = fastrand::Rng::with_seed(1);
    let (mut left, mut right, mut both) = (Histogram::new(), Histogram::new(), Histogram::new());
    for n in 0..2000 {
        let value = random.u64(..) >> random.u32(..64);
        if n % 3 == 0 { &mut left } else { &mut right }.observe(value);
        both.observe(value);
    }
    left.merge(&right);
    assert_eq!(left, both);
}

#[test]
fn quantiles_are_within_a_thirty_second() {
    let mut random = fastrand::Rng::with_seed(2);
    let mut histogram = Histogram::new();
    let mut values = Vec::new();
    for _ in 0..5000 {
        let value = random.u64(..1 << 40) >> random.u32(..40);
        histogram.observe(value);
        values.push(value);
    }
    values.sort_unstable();
    for q in [0.0, 0.5, 0.9, 0.99, 0.999, 1.0, 7.0, -1.0, f64::NAN] {
        let rank = ((q.clamp(0.0, 1.0) * 5000.0).ceil() as usize).clamp(1, 5000);
        let exact = values[rank - 1];
        let found = histogram.quantile(q).unwrap();
        assert!(found >= exact && (found - exact) * 32 <= exact, "p{q}: {found} for {exact}");
    }
    assert_eq!(Histogram::new().quantile(0.5), None);
}

#[test]
fn clearing_empties_and_extremes_do_not_overflow() {
    let mut histogram = Histogram::new();
    histogram.observe(u64::MAX);
    histogram.observe(u64::MAX);
    assert_eq!((histogram.sum(), histogram.quantile(0.5)), (u64::MAX, Some(u64::MAX)));
    histogram.clear();
    assert_eq!((histogram.count(), histogram.sum(), histogram.pairs().count()), (0, 0, 0));
}

#[test]
fn counting_up_to_a_bound() {
    let mut histogram = Histogram::new();
    for value in [100, 1_000, 2_000, 10_000] {
        histogram.observe(value);
    }
    assert_eq!([50, 100, 1_500, 5_000, u64::MAX].map(|bound| histogram.count_to(bound)), [0, 1, 2, 3, 4]);
}
