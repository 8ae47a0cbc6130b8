//! The power fails in the middle of a commit: of what was written but not yet synced, any part may be
//! on the disk, also half sectors' runs. What was acknowledged is there.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::StorageBackend;
use tempfile::TempDir;

use super::super::*;
use super::key;
use crate::Write;

const IMAGES_MAX: usize = 60;
const SECTOR: usize = 512;

#[derive(Debug)]
enum Pending {
    Length(usize),
    Bytes(usize, Vec<u8>),
}

#[derive(Debug)]
struct Platter {
    synced: Vec<u8>,
    current: Vec<u8>,
    pending: Vec<Pending>,
    random: fastrand::Rng,
    /// What the disk may look like after a failure, with what was acknowledged by then.
    images: Vec<(Revision, Vec<u8>)>,
}

impl Platter {
    fn image(&mut self) -> Vec<u8> {
        let mut image = self.synced.clone();
        for write in &self.pending {
            match write {
                Pending::Length(length) => image.resize(*length, 0),
                Pending::Bytes(offset, bytes) => {
                    for (place, sector) in bytes.chunks(SECTOR).enumerate() {
                        let at = offset + place * SECTOR;
                        if self.random.bool() {
                            image.resize(image.len().max(at + sector.len()), 0);
                            image[at..at + sector.len()].copy_from_slice(sector);
                        }
                    }
                }
            }
        }
        image
    }
}

#[derive(Clone, Debug)]
struct Disk {
    platter: Arc<Mutex<Platter>>,
    acknowledged: Arc<AtomicU64>,
}

impl Disk {
    fn with<T>(&self, act: impl FnOnce(&mut Platter) -> T) -> io::Result<T> {
        Ok(act(&mut self.platter.lock().unwrap()))
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.with(|platter| platter.current.len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = offset as usize;
        self.with(|platter| out.copy_from_slice(&platter.current[at..at + out.len()]))
    }
    fn set_len(&self, length: u64) -> io::Result<()> {
        self.with(|platter| {
            platter.current.resize(length as usize, 0);
            platter.pending.push(Pending::Length(length as usize));
        })
    }
    fn sync_data(&self) -> io::Result<()> {
        let acknowledged = self.acknowledged.load(Ordering::SeqCst);
        self.with(|platter| {
            if acknowledged > 0 && platter.images.len() < IMAGES_MAX && platter.random.u8(..3) == 0 {
                let image = platter.image();
                platter.images.push((acknowledged, image));
            }
            platter.pending.clear();
            platter.synced.clone_from(&platter.current);
        })
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let at = offset as usize;
        self.with(|platter| {
            platter.current[at..at + data.len()].copy_from_slice(data);
            platter.pending.push(Pending::Bytes(at, data.to_vec()));
        })
    }
}

#[tokio::test]
async fn acknowledged_commits_survive_a_power_loss() {
    let seed = fastrand::u64(..);
    println!("SEED={seed}");
    let platter = Platter {
        synced: Vec::new(),
        current: Vec::new(),
        pending: Vec::new(),
        random: fastrand::Rng::with_seed(seed),
        images: Vec::new(),
    };
    let disk = Disk { platter: Arc::new(Mutex::new(platter)), acknowledged: Arc::default() };
    let folder = TempDir::new().unwrap();
    let opener = Opener::with(
        &folder.path().join("only-its-name-is-used"),
        Box::new({
            let disk = disk.clone();
            move |builder, _| builder.create_with_backend(disk.clone())
        }),
        Box::new(|_| None),
    );
    let limits = Limits { log_revisions_max: 50, ..Limits::default() };
    let store = Embedded::start(opener, limits).unwrap();
    for n in 0..200_u32 {
        // Each transaction writes its number under three keys, with a growing value.
        let value = n.to_string().repeat(1 + n as usize % 900).into_bytes();
        let writes = ["x", "y", "z"].map(|name| Write::Put(key(name), value.clone()));
        let transaction = Transaction { expect: Vec::new(), writes: writes.into() };
        let revision = store.commit(transaction).await.unwrap();
        disk.acknowledged.store(revision, Ordering::SeqCst);
    }
    drop(store);
    let images = disk.with(|platter| std::mem::take(&mut platter.images)).unwrap();
    assert!(images.len() > 20, "{} images", images.len());
    for (round, (acknowledged, image)) in images.iter().enumerate() {
        let file = folder.path().join(format!("{round}.redb"));
        std::fs::write(&file, image).unwrap();
        let store =
            Embedded::open(&file).unwrap_or_else(|error| panic!("seed {seed}, image {round}: {error}"));
        let revision = store.revision();
        assert!(
            (*acknowledged..=acknowledged + 1).contains(&revision),
            "seed {seed}, image {round}: at {revision}, {acknowledged} was acknowledged"
        );
        let (list, _) = store.list(&Selector::all()).await.unwrap();
        assert!(
            list.len() == 3 && list.iter().all(|one| one.modified == revision && one.value == list[0].value),
            "seed {seed}, image {round}: half a transaction"
        );
    }
}
