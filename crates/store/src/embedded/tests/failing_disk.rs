//! A disk that fills up or fails: commits say so, reads go on, and all is well once it is.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};

use redb::StorageBackend;
use redb::backends::FileBackend;
use tempfile::TempDir;

use super::super::*;
use super::{key, put};

const WELL: u8 = 0;
const FULL: u8 = 1;
const BROKEN: u8 = 2;
/// Everything is written, but the sync says that it failed.
const LYING: u8 = 3;

/// The file system says beforehand that there is no room.
const NO_ROOM: u8 = 4;

#[derive(Debug, Default)]
struct Mood(AtomicU8);

#[derive(Debug)]
struct FailingDisk {
    inner: FileBackend,
    mood: Arc<Mood>,
}

impl FailingDisk {
    fn write_allowed(&self) -> io::Result<()> {
        match self.mood.0.load(Ordering::SeqCst) {
            FULL => Err(io::Error::from_raw_os_error(28)),
            BROKEN => Err(io::Error::from_raw_os_error(5)),
            _ => Ok(()),
        }
    }
}

impl StorageBackend for FailingDisk {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.write_allowed()?;
        self.inner.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.write_allowed()?;
        self.inner.sync_data()?;
        if self.mood.0.compare_exchange(LYING, WELL, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            return Err(io::Error::from_raw_os_error(5));
        }
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.write_allowed()?;
        self.inner.write(offset, data)
    }
    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }
}

fn open(folder: &TempDir) -> (Embedded, Arc<Mood>) {
    let mood = Arc::new(Mood::default());
    let theirs = Arc::clone(&mood);
    let opener = Opener::with(
        &folder.path().join("store.redb"),
        Box::new(move |builder, file| {
            builder.create_with_backend(FailingDisk {
                inner: FileBackend::new(file)?,
                mood: Arc::clone(&theirs),
            })
        }),
        Box::new({
            let mood = Arc::clone(&mood);
            move |_| (mood.0.load(Ordering::SeqCst) == NO_ROOM).then_some(1 << 10)
        }),
    );
    (Embedded::start(opener, Limits::default()).unwrap(), mood)
}

async fn recovers_from(mood_value: u8) {
    let folder = TempDir::new().unwrap();
    let (store, mood) = open(&folder);
    let before = put(&store, "a", b"1").await;
    let mut watch = store.watch(Some(before), Selector::all()).await.unwrap();
    mood.0.store(mood_value, Ordering::SeqCst);
    for _ in 0..3 {
        let failed = store.commit(Transaction::put(key("a"), b"lost".to_vec())).await;
        assert!(
            matches!(
                failed,
                Err(CommitError::Full(_)
                    | CommitError::Io(_)
                    | CommitError::Unknown
                    | CommitError::Unavailable(_))
            ),
            "{failed:?}"
        );
        let stored = store.get(&key("a")).await.unwrap().unwrap();
        assert_eq!((&*stored.value, store.revision()), (b"1".as_slice(), before), "reads go on");
    }
    mood.0.store(WELL, Ordering::SeqCst);
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let after = put(&store, "a", b"2").await;
    assert_eq!(after, before + 1);
    let Some(crate::Batch::Changes { changes, .. }) = watch.next().await else { panic!("changes are known") };
    assert_eq!(changes[0].before.as_deref(), Some(b"1".as_slice()), "the failed writes never were");
    drop((store, watch));
    let store = Embedded::open(&folder.path().join("store.redb")).unwrap();
    assert_eq!(&*store.get(&key("a")).await.unwrap().unwrap().value, b"2");
}

#[tokio::test]
async fn a_disk_without_room_is_said_beforehand() {
    let folder = TempDir::new().unwrap();
    let (store, mood) = open(&folder);
    let before = put(&store, "a", b"1").await;
    mood.0.store(NO_ROOM, Ordering::SeqCst);
    let refused = store.commit(Transaction::put(key("a"), b"2".to_vec())).await;
    assert!(matches!(refused, Err(CommitError::Full(_))), "{refused:?}");
    assert_eq!(store.get(&key("a")).await.unwrap().unwrap().modified, before, "reads go on");
    mood.0.store(WELL, Ordering::SeqCst);
    assert_eq!(put(&store, "a", b"2").await, before + 1, "at once when there is room again");
}

#[tokio::test]
async fn a_full_disk_refuses_commits_and_recovers() {
    recovers_from(FULL).await;
}

#[tokio::test]
async fn a_broken_disk_refuses_commits_and_recovers() {
    recovers_from(BROKEN).await;
}

/// A sync that failed may have written all the same: what the file says is what the answer says.
#[tokio::test]
async fn a_failed_sync_is_decided_by_the_file() {
    let folder = TempDir::new().unwrap();
    let (store, mood) = open(&folder);
    let before = put(&store, "a", b"1").await;
    mood.0.store(LYING, Ordering::SeqCst);
    let answer = store.commit(Transaction::put(key("a"), b"2".to_vec())).await;
    let stored = store.get(&key("a")).await.unwrap().unwrap();
    match answer {
        Ok(revision) => {
            assert_eq!((revision, stored.modified, &*stored.value), (before + 1, before + 1, b"2".as_slice()))
        }
        Err(CommitError::Io(_)) => assert_eq!((stored.modified, &*stored.value), (before, b"1".as_slice())),
        Err(other) => panic!("{other:?}"),
    }
    let next = put(&store, "a", b"3").await;
    assert!(next > stored.modified);
}
