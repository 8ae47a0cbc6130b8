//! Last known good: the configuration in force, on disk, so that a proxy restarted while its control plane is away
//! serves on, with the same routes, endpoints and access policies.
//!
//! `STATE/lkg/current` and `previous`, see [`file`]. Written when the control plane has confirmed a whole set (at most
//! once a second, and every ten minutes to renew its age), read once at the start, before the control plane is heard.
//! What is read goes through the same checks as what comes by xDS, whole or not at all; if neither generation is good,
//! nothing is served. Private keys are never written: a resource that holds one is left out, so that what needs it is
//! a 503 after a restart until the control plane is back.

pub mod file;
pub mod life;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_lc_rs::hmac;
use tokio::time::Instant;
use weft_identity::{
    files::{create_private_dir, write_private},
    random::secure,
};
use weft_telemetry::{Registry, Shard, Snapshot};
use weft_xds::Resource;

use crate::config_feed::ConfigFeed;

pub use file::{Kept, Owner, Places, Refused};

pub const CURRENT: &str = "current";
pub const PREVIOUS: &str = "previous";

/// Between two writes.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// How often an unchanged configuration's age is renewed.
const RENEW_INTERVAL: Duration = Duration::from_secs(600);

/// Room may be found on the disk.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// A configuration that the control plane stood behind.
#[derive(Debug, Clone, PartialEq)]
pub struct Good {
    /// When it did so last.
    pub confirmed: SystemTime,
    /// By type, its short name.
    pub versions: BTreeMap<String, String>,
    pub resources: Vec<Arc<Resource>>,
}

/// For the admin pages and metrics.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// How old the last confirmation is that a restart would find; `None` without a file.
    pub age: Option<Duration>,
    /// Of what is on disk.
    pub on_disk: Option<SystemTime>,
    /// The disk could not take the newest one.
    pub failing: bool,
    pub writes: u64,
    pub write_failures: u64,
    /// Files that were not believed at the start.
    pub refused: u64,
}

impl Status {
    /// What the control plane confirms now needs no new file.
    pub fn age_at(&self, now: SystemTime, confirmed: Option<SystemTime>) -> Option<Duration> {
        let newest = match confirmed {
            Some(confirmed) if !self.failing => confirmed.max(self.on_disk?),
            _ => self.on_disk?,
        };
        Some(now.duration_since(newest).unwrap_or_default())
    }
}

/// The directory of one proxy's last known good.
#[derive(Clone)]
pub struct Keeper {
    dir: PathBuf,
    key: hmac::Key,
    owner: Owner,
}

impl Keeper {
    /// Makes directory and key if they are not there.
    pub fn open(state: &Path, owner: Owner) -> Result<Keeper, String> {
        let (dir, identity) = (state.join("lkg"), state.join("identity"));
        for dir in [&dir, &identity] {
            create_private_dir(dir).map_err(|error| chain(&error))?;
        }
        let key = key(&identity.join("lkg.key"))?;
        Ok(Keeper { dir, key: hmac::Key::new(hmac::HMAC_SHA256, &key), owner })
    }

    /// The generations that are to be believed, the newest first, and how many files are not.
    pub fn load(&self, now: SystemTime, age_max: Duration) -> (Vec<Kept>, u64) {
        let mut found = Vec::new();
        let mut refused = 0;
        for name in [CURRENT, PREVIOUS] {
            match self.generation(name, now, age_max) {
                Ok(kept) => found.push(kept),
                Err(Refused::Read(error)) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    refused += 1;
                    let (path, error) = (self.dir.join(name), chain(&error));
                    tracing::warn!(path = %path.display(), error, "a last known good is not used");
                }
            }
        }
        (found, refused)
    }

    fn generation(&self, name: &str, now: SystemTime, age_max: Duration) -> Result<Kept, Refused> {
        let bytes = file::read(&self.dir.join(name))?;
        file::open(&self.key, &self.owner, &bytes, now, age_max)
    }

    /// Writes what is in force, each time that it changes, for ever.
    pub async fn keep(self, feed: ConfigFeed, places: Places) {
        let mut changes = feed.changes();
        let found = self.generation(CURRENT, SystemTime::now(), Duration::MAX);
        let mut on_disk = found.ok().filter(|kept| kept.places == places).map(|kept| kept.good.resources);
        let mut renew_at = Instant::now();
        loop {
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(renew_at.max(Instant::now() + WRITE_INTERVAL)) => {}
            }
            let Some(mut good) = feed.good() else { continue };
            good.resources.retain(|resource| !holds_private_key(resource));
            good.resources.sort_by(|a, b| (a.type_url(), &a.name).cmp(&(b.type_url(), &b.name)));
            let changed = on_disk.as_ref() != Some(&good.resources);
            // A name that resolves anew makes a new table too, of the same resources.
            if changed || Instant::now() >= renew_at {
                let written = self.write(&feed, &good, &places, changed).await;
                if written {
                    on_disk = Some(good.resources);
                }
                renew_at = Instant::now() + if written { RENEW_INTERVAL } else { RETRY_INTERVAL };
            }
            tokio::time::sleep(WRITE_INTERVAL).await;
        }
    }

    /// `changed`: the generation before stays beside it.
    async fn write(&self, feed: &ConfigFeed, good: &Good, places: &Places, changed: bool) -> bool {
        let confirmed = good.confirmed;
        let bytes = file::seal(&self.key, &self.owner, &Kept { good: good.clone(), places: places.clone() });
        let dir = self.dir.clone();
        let written = tokio::task::spawn_blocking(move || file::replace(&dir, &bytes, changed)).await;
        let written = written.unwrap_or_else(|error| Err(io::Error::other(error)));
        let path = self.dir.display();
        feed.note_lkg(|status| {
            match &written {
                Ok(()) => {
                    if status.failing {
                        tracing::info!(%path, "the last known good can be written again");
                    }
                    status.on_disk = Some(confirmed);
                    status.writes += 1;
                }
                Err(error) => {
                    if !status.failing {
                        tracing::warn!(%path, %error, "the last known good cannot be written; the one on disk stays");
                    }
                    status.write_failures += 1;
                }
            }
            status.failing = written.is_err();
        });
        written.is_ok()
    }
}

/// The proxy's own numbers about its configuration, beside those of its workers.
pub fn measured(feed: &ConfigFeed, registry: &Registry) -> Snapshot {
    let status = feed.status();
    let mut shard: Shard = registry.shard();
    let seconds = status.lkg.age.map_or(-1, |age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
    for (name, help, value) in [
        ("weft_lkg_age_seconds", "Age of the last known good on disk; -1 when there is none.", seconds),
        ("weft_lkg_stale", "1 while the configuration in force is from disk.", i64::from(status.stale)),
        ("weft_control_connected", "1 while the control plane answers.", i64::from(status.connected)),
    ] {
        shard.gauge_set(registry.gauge(name, help, &[]), value);
    }
    for (name, help, value) in [
        ("weft_lkg_writes", "Last known goods written.", status.lkg.writes),
        (
            "weft_lkg_write_failures",
            "Last known goods that the disk did not take.",
            status.lkg.write_failures,
        ),
        ("weft_lkg_refused", "Files of a last known good that were not believed.", status.lkg.refused),
    ] {
        shard.add(registry.counter(name, help, &[]), value);
    }
    shard.snapshot()
}

/// Made once; one that others may read is worth nothing, so it is made anew.
fn key(path: &Path) -> Result<Vec<u8>, String> {
    if let Ok(bytes) = file::read(path)
        && bytes.len() == 64
    {
        return Ok(bytes);
    }
    let random = secure::<32>().map_err(|error| error.to_string())?;
    let hex: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    write_private(path, &hex).map_err(|error| chain(&error))?;
    Ok(hex.into_bytes())
}

/// PEM, as xDS carries keys.
fn holds_private_key(resource: &Resource) -> bool {
    const MARK: &[u8] = b"PRIVATE KEY-----";
    let found = resource.body.value.windows(MARK.len()).any(|window| window == MARK);
    if found {
        tracing::debug!(name = resource.name, "it holds a private key and stays out of the last known good");
    }
    found
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
