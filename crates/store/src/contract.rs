//! What every engine promises, as tests that use nothing but the trait.
//!
//! An engine calls [`run_all`] from a test of its own, with a function that makes a new, empty store.
//! Each promise is one function here; a broken one panics with its words.

#![expect(
    clippy::panic,
    clippy::expect_used,
    reason = "this is a test suite, public because each engine runs it"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::{
    Batch, Change, CommitError, Expect, Key, Revision, Selector, Store, StoreError, Transaction, Watch, Write,
};

type Subject = Arc<dyn Store>;

/// A batch that is due must come within this.
const BATCH_WAIT: Duration = Duration::from_secs(10);

/// Runs every promise, each on a new store.
pub async fn run_all<F, Made>(make: F)
where
    F: Fn() -> Made,
    Made: Future<Output = Subject>,
{
    revisions_increase_strictly(make().await).await;
    a_write_keeps_its_birth_and_its_last_change(make().await).await;
    compare_and_swap_refuses_what_has_moved(make().await).await;
    a_refused_transaction_leaves_nothing(make().await).await;
    what_can_not_be_is_refused(make().await).await;
    deleting_what_is_absent_is_no_change(make().await).await;
    a_list_is_in_key_order_and_by_selector(make().await).await;
    a_watch_starts_with_a_reset(make().await).await;
    a_watch_from_a_revision_gets_each_later_one_once(make().await).await;
    a_watch_sees_only_its_selector(make().await).await;
    a_transaction_is_never_split_over_batches(make().await).await;
    a_compacted_revision_is_refused_or_reset(make().await).await;
    deletions_survive_compaction_before_them(make().await).await;
    a_slow_watcher_gets_a_reset_after_compaction(make().await).await;
    compaction_never_goes_back_or_beyond_now(make().await).await;
    a_revision_of_the_future_is_refused(make().await).await;
    dropping_a_pending_next_loses_nothing(make().await).await;
    concurrent_increments_all_count(make().await).await;
    watchers_agree_with_the_list(make().await).await;
}

fn key(name: &str) -> Key {
    Key::new("weft.dev", "workloads", "default", name)
}

async fn put(store: &Subject, key: Key, value: &str) -> Revision {
    store.commit(Transaction::put(key, value.as_bytes().to_vec())).await.expect("a plain put is taken")
}

async fn delete(store: &Subject, key: Key) -> Revision {
    let transaction = Transaction { expect: Vec::new(), writes: vec![Write::Delete(key)] };
    store.commit(transaction).await.expect("a plain delete is taken")
}

async fn text(store: &Subject, key: &Key) -> Option<String> {
    let stored = store.get(key).await.expect("get answers")?;
    Some(String::from_utf8(stored.value.to_vec()).expect("the value as it was written"))
}

async fn watch(store: &Subject, from: Option<Revision>, selector: Selector) -> Watch {
    store.watch(from, selector).await.expect("the watch is taken")
}

async fn next(watch: &mut Watch) -> Batch {
    timeout(BATCH_WAIT, watch.next()).await.expect("a batch comes in time").expect("the store is open")
}

async fn changes(watch: &mut Watch) -> Vec<Change> {
    match next(watch).await {
        Batch::Changes { changes, .. } => changes,
        Batch::Reset { .. } => panic!("a reset where changes are known"),
    }
}

async fn reset(watch: &mut Watch) -> (Revision, Vec<String>) {
    match next(watch).await {
        Batch::Reset { revision, objects } => {
            (revision, objects.into_iter().map(|stored| stored.key.name).collect())
        }
        Batch::Changes { .. } => panic!("changes where a reset is due"),
    }
}

async fn quiet(watch: &mut Watch) {
    let batch = timeout(Duration::from_millis(50), watch.next()).await;
    assert!(batch.is_err(), "nothing happened, but the watch said {batch:?}");
}

async fn revisions_increase_strictly(store: Subject) {
    let mut last = store.revision();
    for n in 0..20 {
        let revision = put(&store, key(&format!("w{}", n % 3)), "v").await;
        assert!(revision > last, "{revision} after {last}");
        assert!(store.revision() >= revision, "a committed revision is readable");
        last = revision;
    }
}

async fn a_write_keeps_its_birth_and_its_last_change(store: Subject) {
    let born = put(&store, key("a"), "one").await;
    let changed = put(&store, key("a"), "two").await;
    let stored = store.get(&key("a")).await.expect("get answers").expect("it is there");
    assert_eq!((stored.created, stored.modified, &*stored.value), (born, changed, b"two".as_slice()));
    delete(&store, key("a")).await;
    let again = put(&store, key("a"), "three").await;
    let stored = store.get(&key("a")).await.expect("get answers").expect("it is there again");
    assert_eq!((stored.created, stored.modified), (again, again), "a deleted key is born anew");
}

async fn compare_and_swap_refuses_what_has_moved(store: Subject) {
    let conflict = |result: Result<Revision, CommitError>| match result {
        Err(CommitError::Conflict { expected, found, .. }) => (expected, found),
        other => panic!("expected a conflict, got {other:?}"),
    };
    let first = store.commit(Transaction::create(key("a"), b"1".to_vec())).await.expect("it was absent");
    let again = store.commit(Transaction::create(key("a"), b"2".to_vec())).await;
    assert_eq!(conflict(again), (0, first));
    let second =
        store.commit(Transaction::update(key("a"), first, b"2".to_vec())).await.expect("it is at first");
    let late = store.commit(Transaction::update(key("a"), first, b"3".to_vec())).await;
    assert_eq!(conflict(late), (first, second));
    store.commit(Transaction::delete(key("a"), second)).await.expect("it is at second");
    let gone = store.commit(Transaction::update(key("a"), second, b"4".to_vec())).await;
    assert_eq!(conflict(gone), (second, 0));
    store.commit(Transaction::create(key("a"), b"5".to_vec())).await.expect("it is absent again");
    assert_eq!(text(&store, &key("a")).await.as_deref(), Some("5"));
}

async fn a_refused_transaction_leaves_nothing(store: Subject) {
    let at = put(&store, key("a"), "1").await;
    let before = store.revision();
    let transaction = Transaction {
        expect: vec![Expect::At(key("a"), at), Expect::At(key("missing"), at)],
        writes: vec![
            Write::Put(key("a"), b"2".to_vec()),
            Write::Put(key("b"), b"2".to_vec()),
            Write::Delete(key("a2")),
        ],
    };
    let refused = store.commit(transaction).await;
    assert!(matches!(refused, Err(CommitError::Conflict { .. })), "{refused:?}");
    assert_eq!(text(&store, &key("a")).await.as_deref(), Some("1"));
    assert_eq!(text(&store, &key("b")).await, None);
    assert_eq!(store.revision(), before, "a refused transaction takes no revision");
}

async fn what_can_not_be_is_refused(store: Subject) {
    let twice = Transaction {
        expect: Vec::new(),
        writes: vec![Write::Put(key("a"), b"1".to_vec()), Write::Delete(key("a"))],
    };
    for transaction in [
        twice,
        Transaction::put(key("zero\0byte"), Vec::new()),
        Transaction::put(key(""), Vec::new()),
        Transaction::put(key(&"long".repeat(2000)), Vec::new()),
    ] {
        let refused = store.commit(transaction).await;
        assert!(matches!(refused, Err(CommitError::Invalid(_) | CommitError::TooLarge(_))), "{refused:?}");
    }
    put(&store, key("a"), "still works").await;
}

async fn deleting_what_is_absent_is_no_change(store: Subject) {
    let from = put(&store, key("a"), "1").await;
    let mut watch = watch(&store, Some(from), Selector::all()).await;
    let revision = delete(&store, key("nothing")).await;
    assert!(revision > from, "it is a transaction all the same");
    quiet(&mut watch).await;
}

async fn a_list_is_in_key_order_and_by_selector(store: Subject) {
    let keys = [
        Key::new("", "services", "default", "be1"),
        Key::new("", "services", "default", "be1-a"),
        Key::new("", "services", "default-2", "be1"),
        Key::new("", "servicesx", "default", "be1"),
        Key::new("weft.dev", "meshes", "", "default"),
        Key::new("weft.dev", "workloads", "default", "b"),
    ];
    let mut revision = 0;
    for key in keys.iter().rev() {
        revision = put(&store, key.clone(), "v").await;
    }
    let list = async |selector: Selector| {
        let (found, at) = store.list(&selector).await.expect("list answers");
        assert_eq!(at, revision, "the list says at which revision it was so");
        found.into_iter().map(|stored| stored.key).collect::<Vec<_>>()
    };
    let mut sorted = keys.to_vec();
    sorted.sort();
    assert_eq!(list(Selector::all()).await, sorted);
    assert_eq!(list(Selector::kind("", "services")).await, &sorted[..3]);
    let selector = Selector { namespace: Some("default".to_owned()), ..Selector::kind("", "services") };
    assert_eq!(list(selector).await, &sorted[..2]);
    let selector = Selector { namespace: Some("default".to_owned()), ..Selector::all() };
    assert_eq!(list(selector).await.len(), 4);
    let selector = Selector { kind: Some("meshes".to_owned()), ..Selector::all() };
    assert_eq!(list(selector).await.len(), 1);
}

async fn a_watch_starts_with_a_reset(store: Subject) {
    let mut empty = watch(&store, None, Selector::all()).await;
    assert_eq!(reset(&mut empty).await.1, Vec::<String>::new(), "also of an empty store");
    put(&store, key("a"), "1").await;
    let at = put(&store, key("b"), "1").await;
    let mut watch = watch(&store, None, Selector::all()).await;
    assert_eq!(reset(&mut watch).await, (at, vec!["a".to_owned(), "b".to_owned()]));
    quiet(&mut watch).await;
    let later = put(&store, key("c"), "1").await;
    let changes = changes(&mut watch).await;
    assert_eq!(changes.iter().map(|change| change.revision).collect::<Vec<_>>(), [later]);
}

async fn a_watch_from_a_revision_gets_each_later_one_once(store: Subject) {
    let from = put(&store, key("a"), "1").await;
    let second = put(&store, key("a"), "2").await;
    let third = put(&store, key("b"), "1").await;
    let fourth = delete(&store, key("a")).await;
    let mut watch = watch(&store, Some(from), Selector::all()).await;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.extend(changes(&mut watch).await);
    }
    let fifth = put(&store, key("c"), "1").await;
    seen.extend(changes(&mut watch).await);
    quiet(&mut watch).await;
    let told: Vec<_> = seen
        .iter()
        .map(|change| {
            let after = change.after.as_ref().map(|stored| (stored.modified, stored.value.to_vec()));
            (change.revision, change.key.name.as_str(), change.before.as_deref(), after)
        })
        .collect();
    assert_eq!(
        told,
        [
            (second, "a", Some(b"1".as_slice()), Some((second, b"2".to_vec()))),
            (third, "b", None, Some((third, b"1".to_vec()))),
            (fourth, "a", Some(b"2".as_slice()), None),
            (fifth, "c", None, Some((fifth, b"1".to_vec()))),
        ]
    );
}

async fn a_watch_sees_only_its_selector(store: Subject) {
    let mut watch = watch(&store, None, Selector::kind("", "services")).await;
    put(&store, key("a"), "1").await;
    let (_, names) = reset(&mut watch).await;
    assert!(names.is_empty(), "{names:?}");
    put(&store, key("b"), "1").await;
    let wanted = put(&store, Key::new("", "services", "default", "be1"), "1").await;
    let changes = changes(&mut watch).await;
    assert_eq!(changes.iter().map(|change| change.revision).collect::<Vec<_>>(), [wanted]);
}

async fn a_transaction_is_never_split_over_batches(store: Subject) {
    let from = put(&store, key("first"), "1").await;
    let writes =
        |round: usize| (0..700).map(move |n| Write::Put(key(&format!("r{round}-{n:03}")), b"v".to_vec()));
    for round in 0..4 {
        let transaction = Transaction { expect: Vec::new(), writes: writes(round).collect() };
        store.commit(transaction).await.expect("a large transaction is taken");
    }
    let mut watch = watch(&store, Some(from), Selector::all()).await;
    let mut total = 0;
    while total < 2800 {
        let changes = changes(&mut watch).await;
        let mut by_revision: BTreeMap<Revision, usize> = BTreeMap::new();
        for change in &changes {
            *by_revision.entry(change.revision).or_default() += 1;
        }
        assert!(by_revision.values().all(|count| *count == 700), "{by_revision:?}");
        total += changes.len();
    }
}

async fn a_compacted_revision_is_refused_or_reset(store: Subject) {
    let first = put(&store, key("a"), "1").await;
    let second = put(&store, key("a"), "2").await;
    let third = put(&store, key("a"), "3").await;
    assert_eq!(store.compact(second).await.expect("compact answers"), second);
    let refused = store.watch(Some(first), Selector::all()).await;
    assert!(
        matches!(refused, Err(StoreError::Compacted { asked, compacted }) if asked == first && compacted == second),
        "{refused:?}"
    );
    let mut watch = watch(&store, Some(second), Selector::all()).await;
    assert_eq!(changes(&mut watch).await[0].revision, third, "after the compacted revision all is known");
    let mut watch = store.watch_or_reset(Some(first), Selector::all()).await.expect("a reset instead");
    assert_eq!(reset(&mut watch).await, (third, vec!["a".to_owned()]));
    assert_eq!(text(&store, &key("a")).await.as_deref(), Some("3"), "values stay");
}

async fn deletions_survive_compaction_before_them(store: Subject) {
    put(&store, key("a"), "1").await;
    let kept = put(&store, key("b"), "1").await;
    let deleted = delete(&store, key("a")).await;
    store.compact(kept).await.expect("compact answers");
    let mut later = watch(&store, Some(kept), Selector::all()).await;
    let told = changes(&mut later).await;
    assert_eq!((told[0].revision, told[0].key.name.as_str(), &told[0].after), (deleted, "a", &None));
    store.compact(deleted).await.expect("compact answers");
    let mut again = store.watch_or_reset(Some(kept), Selector::all()).await.expect("a reset instead");
    assert_eq!(reset(&mut again).await.1, ["b"], "a reset leaves out what was deleted");
}

async fn a_slow_watcher_gets_a_reset_after_compaction(store: Subject) {
    let from = put(&store, key("a"), "1").await;
    let mut slow = watch(&store, Some(from), Selector::all()).await;
    let mut last = from;
    for n in 0..50 {
        last = put(&store, key("a"), &n.to_string()).await;
    }
    store.compact(last).await.expect("compact answers");
    assert_eq!(reset(&mut slow).await, (last, vec!["a".to_owned()]));
    let next = put(&store, key("b"), "1").await;
    assert_eq!(changes(&mut slow).await[0].revision, next);
}

async fn compaction_never_goes_back_or_beyond_now(store: Subject) {
    put(&store, key("a"), "1").await;
    let now = put(&store, key("a"), "2").await;
    assert_eq!(store.compact(now + 1000).await.expect("compact answers"), now);
    assert_eq!(store.compact(0).await.expect("compact answers"), now);
    watch(&store, Some(now), Selector::all()).await;
}

async fn a_revision_of_the_future_is_refused(store: Subject) {
    let now = put(&store, key("a"), "1").await;
    let refused = store.watch(Some(now + 1), Selector::all()).await;
    assert!(matches!(refused, Err(StoreError::Ahead { .. })), "{refused:?}");
    let mut watch = store.watch_or_reset(Some(now + 1), Selector::all()).await.expect("a reset instead");
    assert_eq!(reset(&mut watch).await.0, now);
}

async fn dropping_a_pending_next_loses_nothing(store: Subject) {
    let mut watch = watch(&store, Some(store.revision()), Selector::all()).await;
    let mut seen = Vec::new();
    for n in 0..20_u64 {
        let committed = put(&store, key("a"), &n.to_string()).await;
        for _ in 0..3 {
            // As short as it gets: polled once, then dropped.
            if let Ok(Some(batch)) = timeout(Duration::ZERO, watch.next()).await {
                let Batch::Changes { changes, .. } = batch else { panic!("a reset where changes are known") };
                seen.extend(changes.iter().map(|change| change.revision));
            }
        }
        while seen.last() != Some(&committed) {
            seen.extend(changes(&mut watch).await.iter().map(|change| change.revision));
        }
    }
    assert!(seen.is_sorted_by(|left, right| left < right) && seen.len() == 20, "{seen:?}");
}

async fn concurrent_increments_all_count(store: Subject) {
    const TASKS: usize = 16;
    const EACH: usize = 10;
    put(&store, key("counter"), "0").await;
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut revisions = Vec::new();
                while revisions.len() < EACH {
                    let stored = store.get(&key("counter")).await.expect("get answers").expect("it is there");
                    let count: usize = std::str::from_utf8(&stored.value)
                        .ok()
                        .and_then(|n| n.parse().ok())
                        .expect("a number");
                    let next = (count + 1).to_string().into_bytes();
                    match store.commit(Transaction::update(key("counter"), stored.modified, next)).await {
                        Ok(revision) => revisions.push(revision),
                        Err(CommitError::Conflict { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                revisions
            })
        })
        .collect();
    let mut all = BTreeSet::new();
    for task in tasks {
        all.extend(task.await.expect("no task panics"));
    }
    assert_eq!(all.len(), TASKS * EACH, "no revision is given twice");
    assert_eq!(text(&store, &key("counter")).await, Some((TASKS * EACH).to_string()), "no increment is lost");
}

async fn watchers_agree_with_the_list(store: Subject) {
    let writer = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let mut random = 7_u64;
            let mut draw = move |below: u64| {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (random >> 33) % below
            };
            for n in 0..300 {
                let name = key(&format!("k{}", draw(20)));
                let revision = if draw(4) == 0 {
                    delete(&store, name).await
                } else {
                    put(&store, name, &n.to_string()).await
                };
                if draw(50) == 0 {
                    store.compact(revision).await.expect("compact answers");
                }
            }
            put(&store, key("end"), "1").await
        })
    };
    let mut watch = watch(&store, None, Selector::all()).await;
    let mut mirror: BTreeMap<Key, Vec<u8>> = BTreeMap::new();
    let mut last = None;
    while !mirror.contains_key(&key("end")) {
        let batch = next(&mut watch).await;
        assert!(last.is_none_or(|last| last < batch.revision()), "each revision once, in order");
        last = Some(batch.revision());
        match batch {
            Batch::Reset { objects, .. } => {
                mirror = objects.into_iter().map(|stored| (stored.key, stored.value.to_vec())).collect();
            }
            Batch::Changes { changes, .. } => {
                for change in changes {
                    let before = mirror.get(&change.key).map(Vec::as_slice);
                    assert_eq!(change.before.as_deref(), before, "the value before, at {}", change.revision);
                    match change.after {
                        Some(stored) => mirror.insert(change.key, stored.value.to_vec()),
                        None => mirror.remove(&change.key),
                    };
                }
            }
        }
    }
    writer.await.expect("the writer ends");
    let (list, _) = store.list(&Selector::all()).await.expect("list answers");
    let list: BTreeMap<_, _> = list.into_iter().map(|stored| (stored.key, stored.value.to_vec())).collect();
    assert_eq!(mirror, list);
}
