//! Ten thousand writes happen and are forgotten while a watcher is away: it gets the whole instead, and
//! no deletion is missed.

use std::collections::BTreeMap;
use std::time::Duration;

use tempfile::TempDir;

use super::super::*;
use super::key;
use crate::{Batch, Watch, Write};

type Known = BTreeMap<String, Vec<u8>>;

/// What a watcher knows after one more batch; whether it was the whole.
async fn learn(watch: &mut Watch, known: &mut Known) -> (Revision, bool) {
    let next = tokio::time::timeout(Duration::from_secs(20), watch.next()).await;
    match next.expect("a batch in time").expect("the store is open") {
        Batch::Reset { revision, objects } => {
            *known = objects.into_iter().map(|stored| (stored.key.name, stored.value.to_vec())).collect();
            (revision, true)
        }
        Batch::Changes { revision, changes } => {
            for change in changes {
                match change.after {
                    Some(stored) => drop(known.insert(change.key.name, stored.value.to_vec())),
                    None => drop(known.remove(&change.key.name)),
                }
            }
            (revision, false)
        }
    }
}

async fn truth(store: &Embedded) -> Known {
    let (list, _) = store.list(&Selector::all()).await.unwrap();
    list.into_iter().map(|stored| (stored.key.name, stored.value.to_vec())).collect()
}

#[tokio::test]
async fn a_watcher_behind_a_compaction_misses_no_deletion() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("store.redb");
    let store = Embedded::open(&file).unwrap();
    for n in 0..300 {
        store.commit(Transaction::put(key(&format!("k{n}")), b"first".to_vec())).await.unwrap();
    }
    // One watcher that stays and does not listen, one that goes away and comes back.
    let mut slow = store.watch(None, Selector::all()).await.unwrap();
    let mut known_to_slow = Known::new();
    let (seen, whole) = learn(&mut slow, &mut known_to_slow).await;
    assert!(whole && seen == store.revision());
    let mut known_to_other = known_to_slow.clone();
    let seed = fastrand::u64(..);
    println!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut deleted = 0;
    for round in 0..100 {
        let mut writes: BTreeMap<String, Write> = BTreeMap::new();
        while writes.len() < 100 {
            let name = format!("k{}", random.u32(..400));
            let write = match random.u8(..3) {
                0 => Write::Delete(key(&name)),
                _ => Write::Put(key(&name), format!("{round}").into_bytes()),
            };
            deleted += usize::from(matches!(write, Write::Delete(_)));
            writes.insert(name, write);
        }
        let writes = writes.into_values().collect();
        store.commit(Transaction { expect: Vec::new(), writes }).await.unwrap();
    }
    let compacted = store.compact(store.revision()).await.unwrap();
    let expected = truth(&store).await;
    let gone = known_to_slow.keys().filter(|name| !expected.contains_key(*name)).count();
    assert!(deleted > 2000 && gone > 30 && compacted > seen, "{deleted} deletions, {gone} gone for good");

    let (_, whole) = learn(&mut slow, &mut known_to_slow).await;
    assert!(whole, "what was forgotten can't be told change by change");
    assert_eq!(known_to_slow, expected);
    drop((slow, store));

    // The control plane starts anew, and somebody continues from long ago.
    let store = Embedded::open(&file).unwrap();
    let refused = store.watch(Some(seen), Selector::all()).await;
    assert!(matches!(refused, Err(StoreError::Compacted { asked, .. }) if asked == seen), "{refused:?}");
    let mut watch = store.watch_or_reset(Some(seen), Selector::all()).await.unwrap();
    let (revision, whole) = learn(&mut watch, &mut known_to_other).await;
    assert!(whole && revision == compacted);
    assert_eq!(known_to_other, expected, "no deletion is missed");
    store
        .commit(Transaction {
            expect: Vec::new(),
            writes: vec![Write::Delete(key("k0")), Write::Put(key("new"), vec![1])],
        })
        .await
        .unwrap();
    let (_, whole) = learn(&mut watch, &mut known_to_other).await;
    assert!(!whole, "from here on it is told what changes");
    assert_eq!(known_to_other, truth(&store).await);
}
