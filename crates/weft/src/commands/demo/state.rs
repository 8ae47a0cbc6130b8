//! The demo's state directory, made anew by each run, and the outside partner's certificate.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use crate::files::{private_dir, write_private};
use anyhow::{Context, bail};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// Marks a directory that a demo made, and so may empty.
pub const MARKER: &str = ".demo";

/// Empties an earlier demo's state; refuses a directory that holds anything else.
pub fn prepare(state: &Path) -> anyhow::Result<()> {
    if state.join("control.sock").exists()
        && std::os::unix::net::UnixStream::connect(state.join("control.sock")).is_ok()
    {
        bail!(
            "a control plane runs on {} already; stop it, or give the demo a directory of its own with --state",
            state.display()
        );
    }
    let occupied = std::fs::read_dir(state).is_ok_and(|mut entries| entries.next().is_some());
    if occupied {
        if !state.join(MARKER).exists() {
            bail!(
                "{} holds something that no demo made; give the demo an empty directory with --state",
                state.display()
            );
        }
        empty(state).with_context(|| format!("cannot empty {}", state.display()))?;
    }
    for dir in ["", "ledger", "logs", "proxies", "partner"] {
        let dir = if dir.is_empty() { state.to_path_buf() } else { state.join(dir) };
        private_dir(&dir)?;
    }
    write_private(&state.join(MARKER), "made by `weft demo`, which empties this directory when it starts\n")
}

/// Removes what is in the directory, which stays: it may be a mount, or a link to another disk. The marker goes last,
/// so that an emptying that was cut short can be done again.
fn empty(state: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(state)? {
        let entry = entry?;
        if entry.file_name() == MARKER {
            continue;
        }
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    std::fs::remove_file(state.join(MARKER))
}

/// The address itself when its port is free, else one that the system picks on the same host.
pub fn free_or(wanted: SocketAddr) -> SocketAddr {
    let free = |address: SocketAddr| TcpListener::bind(address).and_then(|l| l.local_addr());
    if let Ok(address) = free(wanted) {
        return address;
    }
    let picked = free(SocketAddr::new(wanted.ip(), 0)).unwrap_or(wanted);
    eprintln!("port {wanted} is taken; using {picked}");
    picked
}

pub struct Partner {
    pub ca_pem: String,
    pub chain_and_key: PathBuf,
}

/// A private CA of the partner's, no kin of the mesh's, and BE3's certificate from it.
pub fn partner_certificate(state: &Path) -> anyhow::Result<Partner> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::<String>::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    ca.distinguished_name.push(DnType::CommonName, "Partner Inc. private CA");
    let ca_pem = ca.self_signed(&ca_key)?.pem();
    let key = KeyPair::generate()?;
    let mut leaf = CertificateParams::new(vec![super::plan::BE3_HOST.to_owned()])?;
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let leaf = leaf.signed_by(&key, &Issuer::new(ca, ca_key))?;
    let dir = state.join("partner");
    let chain_and_key = dir.join("be3.pem");
    write_private(&chain_and_key, &format!("{}{}", leaf.pem(), key.serialize_pem()))?;
    write_private(&dir.join("ca.pem"), &ca_pem)?;
    Ok(Partner { ca_pem, chain_and_key })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
    use super::*;

    #[test]
    fn a_linked_directory_is_emptied_and_stays_linked() {
        let folder = tempfile::tempdir().unwrap();
        let (disk, link, other) =
            (folder.path().join("disk"), folder.path().join("link"), folder.path().join("other"));
        std::fs::create_dir(&disk).unwrap();
        std::fs::write(&other, "not ours").unwrap();
        std::os::unix::fs::symlink(&disk, &link).unwrap();
        prepare(&link).unwrap();
        std::os::unix::fs::symlink(&other, disk.join("logs/elsewhere")).unwrap();
        prepare(&link).unwrap();
        assert!(link.is_symlink() && disk.join("ledger").is_dir(), "the link was replaced");
        assert!(!disk.join("logs/elsewhere").exists() && other.exists());
        std::fs::remove_file(disk.join(MARKER)).unwrap();
        assert!(prepare(&link).is_err(), "no demo made it");
    }
}
