//! The CA at rest: PEM texts, and their files in the control plane's state directory.

use crate::files::{self, FileError};
use crate::pem;
use std::path::Path;

/// The CA as PEM texts: both keys are secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct IssuerPem {
    /// The root certificate.
    pub root: String,
    /// The root's key; only needed to sign an intermediate.
    pub root_key: String,
    /// The intermediate certificate.
    pub intermediate: String,
    /// The intermediate's key.
    pub intermediate_key: String,
}

impl std::fmt::Debug for IssuerPem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IssuerPem([secret])")
    }
}

impl IssuerPem {
    pub(super) const ROOT_FILE: &'static str = "root.pem";
    pub(super) const ROOT_KEY_FILE: &'static str = "root-key.pem";
    pub(super) const INTERMEDIATE_FILE: &'static str = "intermediate.pem";
    const BEFORE_FILE: &'static str = "intermediate-before.pem";

    /// Keeps the intermediate that is about to be replaced, with its key.
    pub(super) fn write_before(&self, dir: &Path) -> Result<(), FileError> {
        let text = format!("{}{}", self.intermediate, self.intermediate_key);
        files::write_private(&dir.join(IssuerPem::BEFORE_FILE), &text)
    }

    /// This CA with the intermediate that was replaced last in the place of its own, if one was.
    pub(super) fn read_before(&self, dir: &Path) -> Option<IssuerPem> {
        let text = files::read(&dir.join(IssuerPem::BEFORE_FILE)).ok()?;
        let (intermediate, intermediate_key) = parted(&text);
        Some(IssuerPem { intermediate, intermediate_key, ..self.clone() })
    }

    /// Writes three files into `dir` (0700; files 0600).
    ///
    /// The intermediate's certificate and key share a file, so that a crash while it is renewed never parts
    /// them. The root comes last: without it there is no CA, so a crash in the first write leaves no half of
    /// one.
    pub fn write(&self, dir: &Path) -> Result<(), FileError> {
        files::create_private_dir(dir)?;
        let intermediate = format!("{}{}", self.intermediate, self.intermediate_key);
        files::write_private(&dir.join(IssuerPem::INTERMEDIATE_FILE), &intermediate)?;
        files::write_private(&dir.join(IssuerPem::ROOT_KEY_FILE), &self.root_key)?;
        files::write_private(&dir.join(IssuerPem::ROOT_FILE), &self.root)
    }

    /// Reads what [`IssuerPem::write`] wrote.
    pub fn read(dir: &Path) -> Result<IssuerPem, FileError> {
        let root = files::read(&dir.join(IssuerPem::ROOT_FILE))?;
        let root_key = files::read(&dir.join(IssuerPem::ROOT_KEY_FILE))?;
        let intermediate = files::read(&dir.join(IssuerPem::INTERMEDIATE_FILE))?;
        let (intermediate, intermediate_key) = parted(&intermediate);
        Ok(IssuerPem { root, root_key, intermediate, intermediate_key })
    }
}

/// Certificate and key of one file. Without a key, loading says so.
fn parted(text: &str) -> (String, String) {
    let key_start = text.find(pem::PRIVATE_KEY_BEGIN).unwrap_or(text.len());
    let (certificate, key) = text.split_at(key_start);
    (certificate.to_owned(), key.to_owned())
}
