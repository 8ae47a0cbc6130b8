//! The file of a last known good: what it holds, and when it is believed.
//!
//! `WEFT-LKG`, the format's number (u32, big endian), HMAC-SHA256 of what comes before and after it, a protobuf body.
//! Nothing of the body is looked at before the MAC is right. The key is in the identity's directory: a file of another
//! proxy, a flipped byte and a cut end all fail there. What the body says of its owner is checked all the same, for a
//! state directory that was given to another service.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::hmac;
use prost::Message as _;
use weft_xds::{Any, Resource};

use super::Good;
use crate::config::VERSION;

const MAGIC: &[u8; 8] = b"WEFT-LKG";
/// What a format change counts up.
const FORMAT: u32 = 1;
const MAC_AT: usize = MAGIC.len() + 4;
const BODY_AT: usize = MAC_AT + 32;
/// More than any configuration that one response may carry.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Whose configuration it is; another's is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The SPIFFE id, or what stands for it under a foreign control plane.
    pub identity: String,
    /// `NS/WORKLOAD`.
    pub node: String,
}

/// Where the configuration's own listeners are: elsewhere it would be of no use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    pub outbound: Option<std::net::SocketAddr>,
    pub inbound: Option<std::net::SocketAddr>,
}

/// What a file held.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    pub good: Good,
    pub places: Places,
}

/// Why a file is not believed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("read it")]
    Read(#[from] io::Error),
    #[error("its mode is {mode:o}, others may touch it; it must be 600")]
    Mode { mode: u32 },
    #[error("it belongs to user {uid}")]
    Owned { uid: u32 },
    #[error("it is no regular file, or larger than {FILE_BYTES_MAX} bytes")]
    Size,
    #[error("it is not a last known good, or cut short")]
    Shape,
    #[error("its format {found} is newer than this binary's ({FORMAT}): start the newer weft again")]
    Newer { found: u32 },
    #[error("its MAC is wrong: damaged, or another proxy's")]
    Mac,
    #[error("it is of {found}, not of {wanted}")]
    Owner { found: String, wanted: String },
    #[error("its last confirmation is {} s old, more than the {} s allowed", age.as_secs(), max.as_secs())]
    Old { age: Duration, max: Duration },
}

#[derive(Clone, PartialEq, prost::Message)]
struct Body {
    #[prost(string, tag = "1")]
    identity: String,
    #[prost(string, tag = "2")]
    node: String,
    #[prost(uint64, tag = "3")]
    confirmed_unix_ms: u64,
    /// Of the weft that wrote it; for people.
    #[prost(string, tag = "4")]
    weft: String,
    #[prost(string, tag = "5")]
    outbound: String,
    #[prost(string, tag = "6")]
    inbound: String,
    /// By type, its short name.
    #[prost(btree_map = "string, string", tag = "7")]
    versions: BTreeMap<String, String>,
    #[prost(message, repeated, tag = "8")]
    resources: Vec<Stored>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Stored {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    version: String,
    #[prost(bytes = "vec", tag = "4")]
    body: Vec<u8>,
}

/// A file's bytes.
pub fn seal(key: &hmac::Key, owner: &Owner, kept: &Kept) -> Vec<u8> {
    let place = |address: Option<std::net::SocketAddr>| address.map_or_else(String::new, |it| it.to_string());
    let since = kept.good.confirmed.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut resources: Vec<Stored> = kept.good.resources.iter().map(|resource| stored(resource)).collect();
    // The same set has the same bytes.
    resources.sort_by(|left, right| (&left.type_url, &left.name).cmp(&(&right.type_url, &right.name)));
    let body = Body {
        identity: owner.identity.clone(),
        node: owner.node.clone(),
        confirmed_unix_ms: u64::try_from(since.as_millis()).unwrap_or(0),
        weft: VERSION.to_owned(),
        outbound: place(kept.places.outbound),
        inbound: place(kept.places.inbound),
        versions: kept.good.versions.clone(),
        resources,
    }
    .encode_to_vec();
    let mut bytes = Vec::with_capacity(BODY_AT + body.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORMAT.to_be_bytes());
    let mac = mac(key, &bytes, &body);
    bytes.extend_from_slice(mac.as_ref());
    bytes.extend_from_slice(&body);
    bytes
}

/// What the bytes hold, if they are to be believed.
pub fn open(
    key: &hmac::Key,
    owner: &Owner,
    bytes: &[u8],
    now: SystemTime,
    age_max: Duration,
) -> Result<Kept, Refused> {
    let (Some(head), Some(given), Some(rest)) =
        (bytes.get(..MAC_AT), bytes.get(MAC_AT..BODY_AT), bytes.get(BODY_AT..))
    else {
        return Err(Refused::Shape);
    };
    let (magic, format) = head.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(Refused::Shape);
    }
    let found = format.try_into().map(u32::from_be_bytes).map_err(|_| Refused::Shape)?;
    if found > FORMAT {
        return Err(Refused::Newer { found });
    }
    if aws_lc_rs::constant_time::verify_slices_are_equal(mac(key, head, rest).as_ref(), given).is_err() {
        return Err(Refused::Mac);
    }
    let body = Body::decode(rest).map_err(|_| Refused::Shape)?;
    let theirs = Owner { identity: body.identity, node: body.node };
    if theirs != *owner {
        let show = |owner: &Owner| format!("{} ({})", owner.node, owner.identity);
        return Err(Refused::Owner { found: show(&theirs), wanted: show(owner) });
    }
    let confirmed = UNIX_EPOCH + Duration::from_millis(body.confirmed_unix_ms);
    // A clock that was set back makes it young; the certificate's own dates bound that.
    let age = now.duration_since(confirmed).unwrap_or_default();
    if age > age_max {
        return Err(Refused::Old { age, max: age_max });
    }
    let place = |text: &str| text.parse().ok();
    Ok(Kept {
        places: Places { outbound: place(&body.outbound), inbound: place(&body.inbound) },
        good: Good {
            confirmed,
            versions: body.versions,
            resources: body.resources.into_iter().map(|one| Arc::new(resource(one))).collect(),
        },
    })
}

fn mac(key: &hmac::Key, head: &[u8], body: &[u8]) -> hmac::Tag {
    let mut signed = hmac::Context::with_key(key);
    signed.update(head);
    signed.update(body);
    signed.sign()
}

fn stored(resource: &Resource) -> Stored {
    Stored {
        type_url: resource.type_url().to_owned(),
        name: resource.name.clone(),
        version: resource.version.clone(),
        body: resource.body.value.clone(),
    }
}

fn resource(stored: Stored) -> Resource {
    let body = Any { type_url: stored.type_url, value: stored.body };
    Resource::received(stored.name, Some(stored.version), body)
}

/// Reads a file that only its owner may touch.
pub fn read(path: &Path) -> Result<Vec<u8>, Refused> {
    let nofollow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(nofollow).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        return Err(Refused::Size);
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(Refused::Mode { mode: metadata.mode() & 0o7777 });
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(Refused::Owned { uid: metadata.uid() });
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Puts `bytes` in the place of `current`, which becomes `previous` if it is to stay. A crash at any point leaves at
/// least one whole generation.
pub fn replace(dir: &Path, bytes: &[u8], keep_previous: bool) -> io::Result<()> {
    let (current, next) = (dir.join(super::CURRENT), dir.join("next"));
    match fs::remove_file(&next) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = write_new(&next, bytes);
    if written.is_err() {
        // A disk that is full has better use for the half that fitted.
        let _ = fs::remove_file(&next);
    }
    written?;
    if keep_previous {
        match fs::rename(&current, dir.join(super::PREVIOUS)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(&next, &current)?;
    File::open(dir)?.sync_all()
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests;
