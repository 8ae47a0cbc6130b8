//! The file: its tables, its format version, and what each way of failing to open it is called.
//!
//! Opening verifies every checksum and decodes every record, so damage is found at the start and not
//! in the middle of a change. redb may panic on what it never wrote; here that is damage too.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageError,
    TableDefinition, TableError, TableHandle,
};

use super::record;
use super::view::{Revised, View};
use crate::{Revision, StoreError};

/// The format this binary writes. A greater one in a file is refused.
const FORMAT: u64 = 1;

pub const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
pub const OBJECTS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("objects");
/// Revision → its changes.
pub const LOG: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("log");

const META_FORMAT: &str = "format";
pub const META_REVISION: &str = "revision";
pub const META_COMPACTED: &str = "compacted";

const MAGIC: &[u8] = b"redb";
/// Readers use the view, so redb needs little.
const CACHE_BYTES: usize = 16 << 20;

/// Of a disk, this much stays free: a sixteenth of it, within these bounds. redb takes nothing more once
/// a write failed in the middle, and opening its file again needs some room too.
const RESERVE_BYTES: std::ops::RangeInclusive<u64> = (256 << 10)..=(4 << 20);

/// How much room the disk has for commits; `None` when nobody knows.
type FreeBytes = Box<dyn Fn(&Path) -> Option<u64> + Send>;
type MakeDatabase = Box<dyn Fn(&redb::Builder, File) -> Result<Database, DatabaseError> + Send>;

/// Opens the file; again after an I/O error.
pub struct Opener {
    path: PathBuf,
    make: MakeDatabase,
    free: FreeBytes,
}

impl Opener {
    pub fn file(path: &Path) -> Self {
        let make: MakeDatabase =
            Box::new(|builder, file| builder.create_with_backend(FileBackend::new(file)?));
        Self::with(path, make, Box::new(free_bytes))
    }

    /// With another backend between redb and the file.
    pub fn with(path: &Path, make: MakeDatabase, free: FreeBytes) -> Self {
        Self { path: path.to_owned(), make, free }
    }

    pub fn free_bytes(&self) -> Option<u64> {
        (self.free)(&self.path)
    }

    /// The database, and all that is in it.
    pub fn open(&self) -> Result<(Database, View), StoreError> {
        let opened = catch_unwind(AssertUnwindSafe(|| self.try_open()));
        opened.unwrap_or_else(|_| Err(self.damaged("its pages contradict each other")))
    }

    fn try_open(&self) -> Result<(Database, View), StoreError> {
        let file = self.open_file().map_err(|source| self.open_error(source))?;
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
        let database = (self.make)(&builder, file).map_err(|error| self.database_error(error))?;
        let format = self.format(&database).map_err(|error| self.redb_error(error))?;
        match format {
            Some(format) if format > FORMAT => {
                return Err(StoreError::TooNew { path: self.path.clone(), found: format, known: FORMAT });
            }
            Some(0) => return Err(self.damaged("its format version is 0")),
            Some(_) => {}
            None => initialize(&database).map_err(|error| self.redb_error(error))?,
        }
        let view = self.load(&database)?;
        Ok((database, view))
    }

    fn open_file(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&self.path)?;
        let mut magic = [0; MAGIC.len()];
        if file.metadata()?.len() == 0 {
            // A new file's name must survive a crash as its content does.
            #[cfg(unix)]
            File::open(parent(&self.path))?.sync_all()?;
        } else if file.read_exact(&mut magic).is_err() || magic != MAGIC {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it does not begin as a store's file does",
            ));
        }
        Ok(file)
    }

    /// `None` for a database without any table: a new one.
    fn format(&self, database: &Database) -> Result<Option<u64>, redb::Error> {
        let read = database.begin_read()?;
        let table = match read.open_table(META) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) if read.list_tables()?.next().is_none() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(Some(table.get(META_FORMAT)?.map_or(0, |format| format.value())))
    }

    fn load(&self, database: &Database) -> Result<View, StoreError> {
        let loaded = read_all(database, 0).map_err(|error| self.redb_error(error))?;
        let Loaded { revision, compacted, objects: rows, log: entries, foreign } = loaded;
        if let Some(table) = foreign {
            return Err(StoreError::Foreign {
                path: self.path.clone(),
                detail: format!("it has a table {table:?}"),
            });
        }
        if compacted > revision {
            return Err(self.damaged("it forgot more than it knew"));
        }
        let mut objects = BTreeMap::new();
        for (key, bytes) in rows {
            let stored = record::decode_object(&key, &bytes)
                .filter(|stored| stored.created <= stored.modified && stored.modified <= revision)
                .ok_or_else(|| self.damaged("an object can't be read"))?;
            objects.insert(key, stored);
        }
        let mut log = VecDeque::new();
        for (at, bytes) in entries {
            let changes = record::decode_changes(at, &bytes)
                .filter(|_| at > compacted && at <= revision)
                .ok_or_else(|| self.damaged("a change can't be read"))?;
            log.push_back(Arc::new(Revised { revision: at, changes, bytes: bytes.len() }));
        }
        Ok(View::new(revision, compacted, objects, log))
    }

    fn damaged(&self, detail: impl Into<String>) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), detail: detail.into() }
    }

    fn open_error(&self, source: io::Error) -> StoreError {
        let path = self.path.clone();
        match source.kind() {
            io::ErrorKind::InvalidData => StoreError::Foreign { path, detail: source.to_string() },
            _ => StoreError::Open { path, source },
        }
    }

    fn database_error(&self, error: DatabaseError) -> StoreError {
        match error {
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
                StoreError::InUse { path: self.path.clone() }
            }
            DatabaseError::UpgradeRequired(version) => StoreError::Foreign {
                path: self.path.clone(),
                detail: format!("a file of redb's format {version}"),
            },
            DatabaseError::Storage(error) => self.redb_error(error.into()),
            other => self.damaged(other.to_string()),
        }
    }

    fn redb_error(&self, error: redb::Error) -> StoreError {
        match error {
            redb::Error::Io(source)
                if !matches!(source.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
            {
                StoreError::Open { path: self.path.clone(), source }
            }
            other => self.damaged(other.to_string()),
        }
    }
}

fn free_bytes(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    let reserve = (disk.f_blocks.saturating_mul(disk.f_frsize) / 16)
        .clamp(*RESERVE_BYTES.start(), *RESERVE_BYTES.end());
    // A file system that doesn't count its blocks says 0 of all.
    (disk.f_blocks > 0).then(|| disk.f_bavail.saturating_mul(disk.f_frsize).saturating_sub(reserve))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn initialize(database: &Database) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    {
        let mut meta = write.open_table(META)?;
        meta.insert(META_FORMAT, FORMAT)?;
        meta.insert(META_REVISION, 0)?;
        meta.insert(META_COMPACTED, 0)?;
        write.open_table(OBJECTS)?;
        write.open_table(LOG)?;
    }
    write.commit()?;
    Ok(())
}

/// The tables' rows, still encoded.
struct Loaded {
    revision: Revision,
    compacted: Revision,
    objects: Vec<(Vec<u8>, Vec<u8>)>,
    log: Vec<(Revision, Vec<u8>)>,
    /// A table that is not ours.
    foreign: Option<String>,
}

fn read_all(database: &Database, after: Revision) -> Result<Loaded, redb::Error> {
    let read = database.begin_read()?;
    let foreign = read
        .list_tables()?
        .map(|table| table.name().to_owned())
        .find(|name| ![META.name(), OBJECTS.name(), LOG.name()].contains(&name.as_str()));
    let meta = read.open_table(META)?;
    let number = |name: &str| -> Result<u64, StorageError> {
        let found = meta.get(name)?.map(|number| number.value());
        found.ok_or_else(|| StorageError::Corrupted(format!("no {name} is recorded")))
    };
    let mut loaded = Loaded {
        revision: number(META_REVISION)?,
        compacted: number(META_COMPACTED)?,
        objects: Vec::new(),
        log: Vec::new(),
        foreign,
    };
    let objects = read.open_table(OBJECTS)?;
    loaded.objects.reserve(usize::try_from(objects.len()?).unwrap_or(0).min(1 << 20));
    for row in objects.iter()? {
        let (key, value) = row?;
        loaded.objects.push((key.value().to_vec(), value.value().to_vec()));
    }
    for row in read.open_table(LOG)?.range(after..)? {
        let (revision, changes) = row?;
        loaded.log.push((revision.value(), changes.value().to_vec()));
    }
    Ok(loaded)
}
