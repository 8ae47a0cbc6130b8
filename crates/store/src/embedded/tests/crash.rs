//! Killed at any moment: what was acknowledged is there, no transaction is there by half, and a watch
//! over the restarts sees each revision once and in order.
//!
//! The test runs its own binary again as a child that commits and prints each acknowledged revision,
//! kills it (SIGKILL) after a random while, and opens the file.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;

use super::super::*;
use super::key;
use crate::Write;

const CHILD: &str = "WEFT_STORE_CRASH_CHILD";
const ROUNDS: usize = 30;
/// Keys that each transaction writes with the same value: they must never differ.
const TOGETHER: usize = 5;

#[test]
fn acknowledged_commits_survive_a_kill() {
    if let Some(file) = std::env::var_os(CHILD) {
        commit_until_killed(Path::new(&file));
        return;
    }
    let seed = fastrand::u64(..);
    println!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("store.redb");
    let mut last = 0;
    let mut total = 0;
    let mut seen = BTreeMap::new();
    for round in 0..ROUNDS {
        let acknowledged = run_and_kill(&file, Duration::from_millis(random.u64(5..120)));
        let newest = acknowledged.iter().map(|(revision, _)| *revision).max().unwrap_or(0);
        total += acknowledged.len();
        let store = Embedded::open(&file).unwrap();
        let revision = store.revision();
        assert!(
            revision >= last.max(newest),
            "round {round}: at {revision}, but {last} and {newest} were promised"
        );
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(check(&store, &acknowledged));
        // Who watched before the kill goes on from there.
        runtime.block_on(follow(&store, last, revision, &mut seen));
        last = revision;
    }
    println!("{total} acknowledged commits, {last} revisions");
    assert!(total > ROUNDS, "the child hardly committed anything");
}

/// The child: several tasks commit at once, so that transactions share a group.
fn commit_until_killed(file: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Arc::new(Embedded::open(file).unwrap());
        let tasks: Vec<_> =
            (0..4).map(|task| tokio::spawn(commit_forever(Arc::clone(&store), task))).collect();
        // Ends by itself should nobody kill it.
        tokio::time::sleep(Duration::from_secs(20)).await;
        drop(tasks);
        std::process::exit(1);
    });
}

async fn commit_forever(store: Arc<Embedded>, task: usize) {
    for n in 0_u64.. {
        let value = format!("{task}-{n}-{}", std::process::id()).into_bytes();
        let together =
            (0..TOGETHER).map(|part| Write::Put(key(&format!("task{task}-part{part}")), value.clone()));
        let writes = together
            .chain([Write::Put(key(&format!("trace-{}-{task}-{n}", std::process::id())), value.clone())]);
        let transaction = Transaction { expect: Vec::new(), writes: writes.collect() };
        let revision = store.commit(transaction).await.unwrap();
        println!("ACK {revision} trace-{}-{task}-{n}", std::process::id());
    }
}

/// Answers what was acknowledged: revisions with the names of keys.
fn run_and_kill(file: &Path, after: Duration) -> Vec<(Revision, String)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "embedded::tests::crash::acknowledged_commits_survive_a_kill", "--nocapture"])
        .env(CHILD, file)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        BufReader::new(output)
            .lines()
            .map_while(Result::ok)
            .filter(|line| line.contains("ACK "))
            .collect::<Vec<_>>()
    });
    // Nobody ever sends: it waits.
    let (_never, wait) = mpsc::channel::<()>();
    let _ = wait.recv_timeout(Duration::from_millis(60) + after);
    child.kill().unwrap();
    child.wait().unwrap();
    // The test harness may print its own words before the first. The last line may be cut short by the
    // kill, also within its number: it is left out.
    let mut acknowledged: Vec<(Revision, String)> = Vec::new();
    for line in reader.join().unwrap() {
        let words: Vec<&str> = line.split_whitespace().skip_while(|word| *word != "ACK").collect();
        if let [_, revision, name] = words.as_slice() {
            acknowledged.push((revision.parse().unwrap(), (*name).to_owned()));
        }
    }
    acknowledged.pop();
    acknowledged
}

/// The changes after `from`, up to `to`: each revision once, in order, none left out; together with all
/// before they make what the store says.
async fn follow(store: &Embedded, from: Revision, to: Revision, seen: &mut BTreeMap<Vec<u8>, crate::Stored>) {
    let mut watch = store.watch(Some(from), Selector::all()).await.unwrap();
    let mut at = from;
    while at < to {
        let next = tokio::time::timeout(Duration::from_secs(20), watch.next());
        let Some(crate::Batch::Changes { revision, changes }) = next.await.expect("changes in time") else {
            panic!("the changes after {from} are known")
        };
        for change in changes {
            assert!(change.revision == at || change.revision == at + 1, "{} after {at}", change.revision);
            at = change.revision;
            match change.after {
                Some(stored) => drop(seen.insert(change.key.encode(), stored)),
                None => drop(seen.remove(&change.key.encode())),
            }
        }
        assert_eq!(at, revision);
    }
    let (list, _) = store.list(&Selector::all()).await.unwrap();
    assert!(list.iter().eq(seen.values()), "the watch and the list differ at {to}");
}

async fn check(store: &Embedded, acknowledged: &[(Revision, String)]) {
    for (revision, name) in acknowledged {
        let stored = store.get(&key(name)).await.unwrap();
        let stored = stored.unwrap_or_else(|| panic!("acknowledged {name} at {revision} is lost"));
        assert_eq!(stored.modified, *revision, "{name}");
    }
    for task in 0..4 {
        let mut found = Vec::new();
        for part in 0..TOGETHER {
            let stored = store.get(&key(&format!("task{task}-part{part}"))).await.unwrap();
            found.push(stored.map(|stored| (stored.modified, stored.value)));
        }
        assert!(found.windows(2).all(|pair| pair[0] == pair[1]), "half a transaction: {found:?}");
    }
}
