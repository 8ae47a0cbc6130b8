//! What each proxy says about itself and has acknowledged: the registry behind `weft status`.
//!
//! The xDS server reports, the link stream reports, `query` reads. A proxy that has gone stays for
//! a while as not connected, so that `status` can say what is missing.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use serde::Serialize;

/// Proxies remembered; the longest gone are forgotten first.
const PROXIES_MAX: usize = 20_000;
/// How long a proxy that left is still shown.
const GONE_SHOWN: Duration = Duration::from_secs(600);

/// A resource that a proxy refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Nack {
    /// The resources that its message names, or the type.
    pub resource: String,
    /// The proxy's own words.
    pub message: String,
}

/// One proxy.
#[derive(Clone, Debug, Default)]
pub struct Proxy {
    /// `NS/SERVICE`.
    pub service: String,
    /// weft, envoy or grpc.
    pub kind: String,
    /// Open streams (xDS and link).
    pub streams: u32,
    /// The version made for it last, and when.
    pub latest: Option<(String, SystemTime)>,
    /// The version that it has, as a whole.
    pub acked: Option<String>,
    /// From made to acknowledged, the last time.
    pub lag: Duration,
    /// The end of its certificate.
    pub certificate_expires: Option<SystemTime>,
    /// What it refused last, by type, until it accepts another version of that type.
    pub nack: BTreeMap<String, Nack>,
    /// When the control plane last stood behind the configuration on its disk.
    pub kept: Option<SystemTime>,
    /// When its last stream closed.
    pub gone: Option<SystemTime>,
}

/// A row of `weft status`.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// `NS/WORKLOAD`.
    pub name: String,
    /// `NS/SERVICE`.
    pub service: String,
    /// weft, envoy or grpc.
    pub kind: String,
    /// Whether a stream is open.
    pub connected: bool,
    /// The version that it acknowledged.
    pub acked: String,
    /// The version that it should have.
    pub latest: String,
    /// How long it has been behind, or took last.
    pub lag_ms: u64,
    /// RFC 3339, when known.
    pub certificate_expires: Option<String>,
    /// What it refused.
    pub nack: Option<Nack>,
    /// The age of its last known good, when it reports one.
    pub lkg_age_s: Option<u64>,
}

/// All proxies seen, by `NS/WORKLOAD`.
#[derive(Debug, Default)]
pub struct Proxies {
    by_name: Mutex<BTreeMap<String, Proxy>>,
}

impl Proxies {
    fn edit(&self, name: &str, change: impl FnOnce(&mut Proxy)) {
        let mut all = self.by_name.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if !all.contains_key(name) && all.len() >= PROXIES_MAX {
            let longest = all.iter().filter(|(_, p)| p.streams == 0).min_by_key(|(_, p)| p.gone);
            match longest.map(|(n, _)| n.clone()) {
                Some(gone) => all.remove(&gone),
                None => return,
            };
        }
        change(all.entry(name.to_owned()).or_default());
    }

    /// A stream opened.
    pub fn connected(&self, name: &str, service: &str, kind: &str) {
        self.edit(name, |proxy| {
            proxy.service = service.to_owned();
            proxy.kind = kind.to_owned();
            proxy.streams += 1;
            proxy.gone = None;
        });
    }

    /// A stream closed.
    pub fn closed(&self, name: &str, now: SystemTime) {
        self.edit(name, |proxy| {
            proxy.streams = proxy.streams.saturating_sub(1);
            if proxy.streams == 0 {
                proxy.gone = Some(now);
            }
        });
    }

    /// A version was made for it.
    pub fn offered(&self, name: &str, version: &str, now: SystemTime) {
        self.edit(name, |proxy| {
            if proxy.latest.as_ref().is_none_or(|(latest, _)| latest != version) {
                proxy.latest = Some((version.to_owned(), now));
            }
        });
    }

    /// The proxy has all of a version.
    pub fn settled(&self, name: &str, version: &str, now: SystemTime) {
        self.edit(name, |proxy| {
            if proxy.acked.as_deref() == Some(version) {
                return;
            }
            proxy.acked = Some(version.to_owned());
            if let Some((latest, at)) = &proxy.latest
                && latest == version
            {
                proxy.lag = now.duration_since(*at).unwrap_or_default();
            }
        });
    }

    /// The proxy accepted a version of a type: what it refused of that type is over.
    pub fn accepted(&self, name: &str, type_url: &str) {
        self.edit(name, |proxy| {
            proxy.nack.remove(type_url);
        });
    }

    /// The proxy refused a version of a type.
    pub fn nacked(&self, name: &str, type_url: &str, nack: Nack) {
        self.edit(name, |proxy| {
            proxy.nack.insert(type_url.to_owned(), nack);
        });
    }

    /// The end of its certificate, as seen in a handshake or at issue.
    pub fn certificate(&self, name: &str, expires: SystemTime) {
        self.edit(name, |proxy| proxy.certificate_expires = Some(expires));
    }

    /// Its disk has the configuration that was confirmed then; `None` until it says.
    pub fn kept(&self, name: &str, confirmed: Option<SystemTime>) {
        self.edit(name, |proxy| proxy.kept = confirmed);
    }

    /// A copy of one proxy.
    pub fn get(&self, name: &str) -> Option<Proxy> {
        self.by_name.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get(name).cloned()
    }

    /// The rows of `weft status`, by name.
    pub fn rows(&self, now: SystemTime) -> Vec<Row> {
        let mut all = self.by_name.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        all.retain(|_, p| {
            p.gone.is_none_or(|gone| now.duration_since(gone).unwrap_or_default() < GONE_SHOWN)
        });
        all.iter().map(|(name, proxy)| row(name, proxy, now)).collect()
    }
}

fn row(name: &str, proxy: &Proxy, now: SystemTime) -> Row {
    let latest = proxy.latest.as_ref();
    let behind = latest.filter(|(version, _)| proxy.acked.as_ref() != Some(version));
    let lag = behind.map_or(proxy.lag, |(_, at)| now.duration_since(*at).unwrap_or_default());
    Row {
        name: name.to_owned(),
        service: proxy.service.clone(),
        kind: proxy.kind.clone(),
        connected: proxy.streams > 0,
        acked: proxy.acked.clone().unwrap_or_default(),
        latest: latest.map(|(version, _)| version.clone()).unwrap_or_default(),
        lag_ms: u64::try_from(lag.as_millis()).unwrap_or(u64::MAX),
        certificate_expires: proxy.certificate_expires.map(crate::clock::rfc3339),
        nack: proxy.nack.values().next().cloned(),
        lkg_age_s: proxy.kept.map(|kept| now.duration_since(kept).unwrap_or_default().as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nack_stays_until_another_version_of_its_type_is_accepted() {
        let proxies = Proxies::default();
        let t = |s| SystemTime::UNIX_EPOCH + Duration::from_secs(s);
        proxies.connected("default/fe-1", "default/fe", "weft");
        proxies.offered("default/fe-1", "7", t(1));
        proxies.settled("default/fe-1", "7", t(2));
        proxies.offered("default/fe-1", "8", t(3));
        proxies.nacked("default/fe-1", "LDS", Nack { resource: "inbound".into(), message: "no".into() });
        let row = &proxies.rows(t(5))[0];
        assert_eq!((row.acked.as_str(), row.latest.as_str(), row.lag_ms), ("7", "8", 2000));
        assert!(row.nack.is_some() && row.connected);
        proxies.accepted("default/fe-1", "LDS");
        proxies.settled("default/fe-1", "8", t(6));
        let row = &proxies.rows(t(7))[0];
        assert_eq!((row.nack.is_none(), row.acked.as_str(), row.lag_ms), (true, "8", 3000));
    }

    #[test]
    fn the_age_of_a_last_known_good_counts_from_its_confirmation() {
        let proxies = Proxies::default();
        let t = |s| SystemTime::UNIX_EPOCH + Duration::from_secs(s);
        proxies.connected("default/fe-1", "default/fe", "weft");
        assert_eq!(proxies.rows(t(5))[0].lkg_age_s, None, "none was reported");
        proxies.kept("default/fe-1", Some(t(5)));
        assert_eq!(proxies.rows(t(65))[0].lkg_age_s, Some(60));
        proxies.kept("default/fe-1", Some(t(70)));
        assert_eq!(proxies.rows(t(65))[0].lkg_age_s, Some(0), "a proxy's clock ahead of ours");
    }

    #[test]
    fn a_proxy_that_left_is_shown_and_then_forgotten() {
        let proxies = Proxies::default();
        let t = |s| SystemTime::UNIX_EPOCH + Duration::from_secs(s);
        proxies.connected("default/fe-1", "default/fe", "weft");
        proxies.closed("default/fe-1", t(10));
        assert!(!proxies.rows(t(20))[0].connected);
        assert!(proxies.rows(t(611)).is_empty());
    }
}
