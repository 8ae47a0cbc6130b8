//! Files that hold secrets: 0600 in directories of 0700, replaced as a whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// What could not be done with which file.
#[derive(Debug, thiserror::Error)]
#[error("{action} {}", path.display())]
pub struct FileError {
    /// The file or directory.
    pub path: PathBuf,
    /// E.g. `read`.
    pub action: &'static str,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl FileError {
    /// Is it only that the file isn't there (yet)?
    pub fn is_missing(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    move |source| FileError { path: path.to_owned(), action, source }
}

/// Creates the directory and its parents with mode 0700, unless it exists.
pub fn create_private_dir(path: &Path) -> Result<(), FileError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("create the directory", path))
}

/// Writes `contents` beside `path` and renames it there: a reader sees the old file or the new one, and a
/// crash leaves one of them. Mode 0600.
pub fn write_private(path: &Path, contents: &str) -> Result<(), FileError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    // A left-over of a crash, or a link that somebody planted: `create_new` below refuses to follow either.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove", &temporary)(error));
        }
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(failed("create", &temporary))?;
    file.write_all(contents.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed("write", &temporary))?;
    fs::rename(&temporary, path).map_err(failed("replace", path))?;
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        // So that the rename itself survives a power cut.
        File::open(parent).and_then(|dir| dir.sync_all()).map_err(failed("sync the directory", parent))?;
    }
    Ok(())
}

/// Reads a text file.
pub fn read(path: &Path) -> Result<String, FileError> {
    fs::read_to_string(path).map_err(failed("read", path))
}
