//! Every target: its seeds, all that was ever found, and seeded mutations of both.

use std::path::Path;

use weft_fuzz::{
    TARGETS,
    mutations::{Random, spoil},
};

const MUTATIONS: usize = 2_000;
const SEED: u64 = 20_261_123;

#[test]
fn corpora_and_mutations_hold() {
    for target in TARGETS {
        let mut inputs = (target.seeds)();
        assert!(!inputs.is_empty(), "{} has no seeds", target.name);
        let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("found").join(target.name);
        let files = std::fs::read_dir(&found).into_iter().flatten().flatten();
        let found: Vec<Vec<u8>> = files.filter_map(|file| std::fs::read(file.path()).ok()).collect();
        println!(
            "{}: {} seeds, {} found, {MUTATIONS} mutations of seed {SEED}",
            target.name,
            inputs.len(),
            found.len()
        );
        inputs.extend(found);
        for input in &inputs {
            (target.run)(input);
        }
        let mut random = Random::new(SEED);
        for _ in 0..MUTATIONS {
            let (one, other) = (&inputs[random.below(inputs.len())], &inputs[random.below(inputs.len())]);
            let mut data = spoil(one, other, &mut random);
            data.truncate(target.bytes_max);
            (target.run)(&data);
        }
    }
}
