//! Files of the state directory: directories 0700, files 0600, replaced whole or not at all. A symbolic
//! link, a FIFO or a device in the place of one is refused: whoever put it there wants our bytes elsewhere.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::Context as _;

/// Makes a directory (and its parents) that only its owner may enter.
pub fn private_dir(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o700)))
        .with_context(|| format!("make the directory {}", path.display()))
}

/// Makes sure that a file exists and only its owner may read it, whoever opens it next.
pub fn private_file(path: &Path) -> anyhow::Result<()> {
    open(OpenOptions::new().create(true).append(true), path)
        .and_then(|file| file.set_permissions(fs::Permissions::from_mode(0o600)))
        .with_context(|| format!("open {}", path.display()))
}

/// Replaces a file: a reader sees the old or the new content, also after a power cut.
pub fn replace(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let written = || -> io::Result<()> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let beside = path.with_file_name(name);
        let mut file = open(OpenOptions::new().create(true).truncate(true).write(true), &beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        match path.parent() {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    };
    written().with_context(|| format!("write {}", path.display()))
}

/// The text of a file, or nothing if there is none.
pub fn read(path: &Path) -> anyhow::Result<Option<String>> {
    let mut text = String::new();
    match open(OpenOptions::new().read(true), path).and_then(|mut file| file.read_to_string(&mut text)) {
        Ok(_) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// Opens a regular file, and nothing that is only called so.
fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    // A FIFO without a writer must not hold us up.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    let file = options.mode(0o600).custom_flags(flags).open(path).map_err(|error| {
        match error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
            true => io::Error::new(error.kind(), "it is a symbolic link, which is not followed here"),
            false => error,
        }
    })?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no regular file")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_looks_like_a_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("target"), "precious").unwrap();
        std::os::unix::fs::symlink(at("target"), at("link")).unwrap();
        std::os::unix::fs::symlink(at("target"), at("token.new")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("fifo"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        for name in ["link", "fifo"] {
            assert!(read(&at(name)).is_err(), "{name}");
            assert!(private_file(&at(name)).is_err(), "{name}");
        }
        // The file beside, in which the new content grows, may have been put there too.
        assert!(replace(&at("token"), b"secret").is_err());
        assert!(replace(&at("link"), b"secret").is_ok(), "a rename replaces the link itself");
        assert_eq!(fs::read_to_string(at("target")).unwrap(), "precious");
    }

    #[test]
    fn what_is_written_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("state/ca");
        private_dir(&inner).unwrap();
        let file = inner.join("root.pem");
        replace(&file, b"one").unwrap();
        replace(&file, b"two").unwrap();
        assert_eq!(read(&file).unwrap().as_deref(), Some("two"));
        assert_eq!(read(&inner.join("none")).unwrap(), None);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&inner), mode(&file)), (0o700, 0o600));
        assert_eq!(fs::read_dir(&inner).unwrap().count(), 1);
    }
}
