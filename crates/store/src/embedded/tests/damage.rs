//! A damaged file: it opens at a state that was committed, or is refused in words that name it; it never
//! panics, and what opens takes writes and opens again.

use std::collections::BTreeMap;

use tempfile::TempDir;

use super::super::*;
use super::key;

type State = BTreeMap<String, Vec<u8>>;

/// A file of some history, and every state that it ever was in.
async fn history(file: &Path) -> Vec<State> {
    let store = Embedded::open(file).unwrap();
    let mut state = State::new();
    let mut states = vec![state.clone()];
    for n in 0..40_usize {
        let name = format!("k{}", n % 12);
        if n % 7 == 6 {
            let delete = Transaction { expect: Vec::new(), writes: vec![crate::Write::Delete(key(&name))] };
            store.commit(delete).await.unwrap();
            state.remove(&name);
        } else {
            let value = vec![n as u8; 50 * n];
            store.commit(Transaction::put(key(&name), value.clone())).await.unwrap();
            state.insert(name, value);
        }
        states.push(state.clone());
    }
    states
}

async fn check(file: &Path, states: &[State], what: &str) -> bool {
    let store = match Embedded::open(file) {
        Ok(store) => store,
        Err(error) => {
            let clear = matches!(
                error,
                StoreError::Damaged { .. }
                    | StoreError::Foreign { .. }
                    | StoreError::TooNew { .. }
                    | StoreError::Open { .. }
            );
            assert!(clear && error.to_string().contains("damaged.redb"), "{what}: {error:?}");
            return false;
        }
    };
    let (list, _) = store.list(&Selector::all()).await.unwrap();
    let state: State = list.into_iter().map(|stored| (stored.key.name, stored.value.to_vec())).collect();
    assert!(states.contains(&state), "{what}: it opened at a state that never was");
    // Writing meets pages that reading did not: free lists, allocator state.
    let before = store.revision();
    for n in 0..3_u8 {
        let written = store.commit(Transaction::put(key("after"), vec![n; 9000])).await;
        assert!(!matches!(written, Err(crate::CommitError::Conflict { .. })), "{what}: {written:?}");
        if let Ok(revision) = written {
            assert!(revision > before, "{what}: at {revision}, not after {before}");
            let found = store.get(&key("after")).await.unwrap().unwrap();
            assert_eq!((found.modified, found.value[0]), (revision, n), "{what}");
        }
    }
    let last = store.revision();
    let held = store.get(&key("after")).await.unwrap();
    drop(store);
    match Embedded::open(file) {
        Ok(store) => {
            assert_eq!(store.revision(), last, "{what}: an acknowledged write is lost");
            assert_eq!(store.get(&key("after")).await.unwrap(), held, "{what}");
        }
        Err(error) => assert!(matches!(error, StoreError::Damaged { .. }), "{what}: {error:?}"),
    }
    true
}

#[tokio::test]
async fn flipped_bits_are_refused_or_harmless() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("store.redb");
    let states = history(&file).await;
    let good = std::fs::read(&file).unwrap();
    let seed = fastrand::u64(..);
    println!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let damaged = folder.path().join("damaged.redb");
    let used = good.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let mut opened = 0;
    for round in 0..200 {
        let mut bytes = good.clone();
        // Half of the flips in the header, where they hurt most.
        let at = if round % 2 == 0 { random.usize(..512) } else { random.usize(..used) };
        bytes[at] ^= 1 << random.u8(..8);
        std::fs::write(&damaged, &bytes).unwrap();
        opened +=
            usize::from(check(&damaged, &states, &format!("seed {seed}, round {round}, byte {at}")).await);
    }
    println!("{opened} of 200 opened");
    assert!((10..195).contains(&opened), "{opened} of 200 opened: the flips hit nothing, or everything");
}

#[tokio::test]
async fn torn_files_are_refused_or_harmless() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("store.redb");
    let states = history(&file).await;
    let good = std::fs::read(&file).unwrap();
    let seed = fastrand::u64(..);
    println!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let damaged = folder.path().join("damaged.redb");
    for round in 0..60 {
        let mut bytes = good.clone();
        let at = random.usize(1..good.len());
        if round % 2 == 0 {
            bytes.truncate(at);
        } else {
            // A page that was never written.
            let page = at / 4096 * 4096;
            let end = (page + 4096).min(bytes.len());
            bytes[page..end].fill(0);
        }
        std::fs::write(&damaged, &bytes).unwrap();
        check(&damaged, &states, &format!("seed {seed}, round {round}, byte {at}")).await;
    }
    std::fs::write(&damaged, &good).unwrap();
    assert!(check(&damaged, &states, "undamaged").await, "the undamaged file opens");
}
