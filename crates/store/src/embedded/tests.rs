//! The embedded engine: the contract, and what only an engine on a disk must do.

mod compaction;
mod crash;
mod damage;
mod failing_disk;
mod power_loss;

use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

use super::*;
use crate::{Batch, contract};

fn key(name: &str) -> Key {
    Key::new("weft.dev", "workloads", "default", name)
}

async fn put(store: &Embedded, name: &str, value: &[u8]) -> Revision {
    store.commit(Transaction::put(key(name), value.to_vec())).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_contract() {
    let folder = TempDir::new().unwrap();
    let count = AtomicUsize::new(0);
    contract::run_all(async || {
        let file = folder.path().join(format!("{}.redb", count.fetch_add(1, Ordering::Relaxed)));
        Arc::new(Embedded::open(&file).unwrap()) as Arc<dyn Store>
    })
    .await;
}

#[tokio::test]
async fn all_is_there_after_opening_again() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("store.redb");
    let store = Embedded::open(&file).unwrap();
    put(&store, "a", b"1").await;
    let compacted = put(&store, "b", b"1").await;
    let last = store.commit(Transaction::delete(key("a"), 1)).await.unwrap();
    store.compact(compacted).await.unwrap();
    drop(store);
    let store = Embedded::open(&file).unwrap();
    assert_eq!(store.revision(), last);
    assert_eq!(store.list(&Selector::all()).await.unwrap().0.len(), 1);
    assert!(matches!(store.watch(Some(1), Selector::all()).await, Err(StoreError::Compacted { .. })));
    let mut watch = store.watch(Some(compacted), Selector::all()).await.unwrap();
    let Some(Batch::Changes { changes, .. }) = watch.next().await else { panic!("changes are known") };
    assert_eq!(changes[0].before.as_deref(), Some(b"1".as_slice()));
    assert_eq!(put(&store, "c", b"1").await, last + 1);
}

#[tokio::test]
async fn a_second_opener_gets_a_sentence() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("store.redb");
    let _first = Embedded::open(&file).unwrap();
    let Err(error) = Embedded::open(&file) else { panic!("opened twice") };
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn the_file_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("store.redb");
    drop(Embedded::open(&file).unwrap());
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_newer_file_is_refused() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("store.redb");
    drop(Embedded::open(&file).unwrap());
    let database = redb::Database::open(&file).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(file::META).unwrap().insert("format", 7).unwrap();
    write.commit().unwrap();
    drop(database);
    let Err(error) = Embedded::open(&file) else { panic!("opened a newer file") };
    assert!(error.to_string().contains("store format 7"), "{error}");
}

#[tokio::test]
async fn what_is_not_a_store_is_left_alone() {
    let folder = TempDir::new().unwrap();
    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "not a database at all").unwrap();
    assert!(matches!(Embedded::open(&text), Err(StoreError::Foreign { .. })));
    assert_eq!(std::fs::read(&text).unwrap(), b"not a database at all");
    let other = folder.path().join("other.redb");
    let database = redb::Database::create(&other).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(redb::TableDefinition::<u64, u64>::new("theirs")).unwrap();
    write.commit().unwrap();
    drop(database);
    assert!(Embedded::open(&other).is_err());
    assert!(matches!(Embedded::open(&folder.path().join("no/such/folder")), Err(StoreError::Open { .. })));
}

#[tokio::test]
async fn the_log_stays_within_its_limits() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("store.redb");
    let limits = Limits { log_revisions_max: 20, log_bytes_max: 10_000, ..Limits::default() };
    let store = Embedded::open_with(&file, limits).unwrap();
    let mut slow = store.watch(None, Selector::all()).await.unwrap();
    assert!(matches!(slow.next().await, Some(Batch::Reset { revision: 0, .. })));
    for n in 0..100_u32 {
        put(&store, "a", &n.to_le_bytes()).await;
    }
    assert!(store.shared.read().compacted() >= 80);
    assert!(matches!(slow.next().await, Some(Batch::Reset { revision: 100, .. })));
    let before = store.shared.read().compacted();
    put(&store, "large", &[0; 9_000]).await;
    put(&store, "large", &[1; 9_000]).await;
    assert!(store.shared.read().compacted() > before, "bytes count too");
    drop((store, slow));
    let store = Embedded::open_with(&file, limits).unwrap();
    assert!(store.watch(Some(50), Selector::all()).await.is_err(), "the disk forgot as well");
}

#[tokio::test]
async fn too_large_is_refused_and_the_rest_goes_on() {
    let folder = TempDir::new().unwrap();
    let limits = Limits {
        value_bytes_max: 100,
        transaction_bytes_max: 1000,
        transaction_writes_max: 4,
        ..Limits::default()
    };
    let store = Embedded::open_with(&folder.path().join("store.redb"), limits).unwrap();
    let writes = |count: usize, bytes: usize| Transaction {
        expect: Vec::new(),
        writes: (0..count).map(|n| crate::Write::Put(key(&n.to_string()), vec![0; bytes])).collect(),
    };
    for transaction in [writes(1, 101), writes(5, 1), writes(4, 1000)] {
        assert!(matches!(store.commit(transaction).await, Err(CommitError::TooLarge(_))));
    }
    store.commit(writes(4, 100)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_share_an_fsync_and_keep_their_own_verdicts() {
    let folder = TempDir::new().unwrap();
    let store = Arc::new(Embedded::open(&folder.path().join("store.redb")).unwrap());
    let tasks: Vec<_> = (0..200)
        .map(|n| {
            let store = Arc::clone(&store);
            // Four of five create a key of their own; each fifth wants the same one.
            let name = if n % 5 == 0 { "shared".to_owned() } else { format!("own-{n}") };
            tokio::spawn(async move { store.commit(Transaction::create(key(&name), b"v".to_vec())).await })
        })
        .collect();
    let mut revisions = std::collections::BTreeSet::new();
    let mut conflicts = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(revision) => assert!(revisions.insert(revision)),
            Err(CommitError::Conflict { .. }) => conflicts += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((revisions.len(), conflicts), (161, 39));
    assert_eq!(store.revision(), 161);
}

#[tokio::test]
async fn a_watch_ends_with_its_store() {
    let folder = TempDir::new().unwrap();
    let store = Embedded::open(&folder.path().join("store.redb")).unwrap();
    let mut watch = store.watch(Some(0), Selector::all()).await.unwrap();
    put(&store, "a", b"1").await;
    drop(store);
    assert!(matches!(watch.next().await, Some(Batch::Changes { .. })), "what was committed is still told");
    assert!(watch.next().await.is_none());
}

#[test]
fn engines_are_named_by_url() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("store.redb");
    let path = path.to_str().unwrap();
    assert!(crate::open(path).is_ok());
    assert!(crate::open(&format!("file:{path}")).is_ok());
    for engine in ["etcd://127.0.0.1:2379", "kubernetes", "mysql://x"] {
        assert!(matches!(crate::open(engine), Err(StoreError::UnknownEngine { .. })), "{engine}");
    }
}
