//! The corpora and their mutations against httparse.

use crate::{
    mutations::{Random, spoil},
    requests, responses,
    second::{request, response},
};

const MUTATIONS: usize = 10_000;

#[test]
fn httparse_sees_the_same_in_what_we_take() {
    let requests: Vec<Vec<u8>> =
        requests::corpus().into_iter().map(|case| case.bytes).filter(|bytes| bytes.len() < 4000).collect();
    let responses: Vec<responses::Case> = responses::corpus()
        .into_iter()
        .filter(|case| case.bytes.len() < 4000 && !case.bytes.is_empty())
        .collect();
    let mut taken = requests.iter().filter(|bytes| request(bytes)).count();
    taken += responses.iter().filter(|case| response(&case.bytes, case.asked)).count();
    assert!(taken > 100, "only {taken} of the corpora were taken");
    let mut random = Random::new(7);
    println!("seed 7");
    let mut taken = 0;
    for _ in 0..MUTATIONS {
        let (one, other) = (random.below(requests.len()), random.below(requests.len()));
        taken += usize::from(request(&spoil(&requests[one], &requests[other], &mut random)));
        let (one, other) =
            (&responses[random.below(responses.len())], &responses[random.below(responses.len())]);
        taken += usize::from(response(&spoil(&one.bytes, &other.bytes, &mut random), one.asked));
    }
    assert!(taken > MUTATIONS / 10, "only {taken} mutations were taken");
}

#[test]
fn chunk_sizes_are_read_as_httparse_reads_them() {
    for size in [1_usize, 9, 10, 255, 0x1a3, 1 << 20] {
        let head = weft_wire::http1::ChunkHead::new(size).unwrap();
        let bytes = head.as_bytes();
        assert_eq!(
            httparse::parse_chunk_size(bytes),
            Ok(httparse::Status::Complete((bytes.len(), size as u64)))
        );
    }
}
