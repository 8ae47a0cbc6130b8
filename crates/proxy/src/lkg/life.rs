//! Where in a proxy's life its last known good is used: read before the first connection is accepted, written ever after.

use std::{path::PathBuf, time::SystemTime};

use super::{Keeper, Kept, Owner, Places};
use crate::{
    certificates::Identity,
    config::{Config, XdsMode},
    config_feed::ConfigFeed,
};

/// Whose configuration this proxy gets, and where it is kept.
#[derive(Clone)]
pub struct Place {
    state: PathBuf,
    node: String,
    from: From,
}

#[derive(Clone)]
enum From {
    /// Our control plane: without a certificate of our own its configuration is of no use.
    Control(Identity),
    /// Its address.
    Foreign(String),
}

/// What the disk held at the start.
#[derive(Default)]
pub struct Found {
    kept: Vec<Kept>,
    refused: u64,
}

impl Place {
    /// `None` where none can be kept: with static resources, and by delta xDS, where a server does not say what
    /// went away while we were down.
    pub fn of(config: &Config, identity: &Identity, workload: &str) -> Option<Place> {
        if !config.resources.is_empty() {
            return None;
        }
        let from = match (&config.control, &config.foreign) {
            (Some(_), _) => From::Control(identity.clone()),
            (None, Some(foreign)) if foreign.mode == XdsMode::StateOfTheWorld => {
                From::Foreign(foreign.address.clone())
            }
            _ => return None,
        };
        let node = match &config.node.raw {
            Some(raw) => raw.id.clone(),
            None => format!("{}/{workload}", config.node.namespace),
        };
        Some(Place { state: config.state.clone(), node, from })
    }

    /// Reads what is there, if this proxy is already somebody.
    pub fn find(&self, config: &Config) -> Found {
        let Some(keeper) = self.keeper() else { return Found::default() };
        match keeper {
            Ok(keeper) => {
                let (kept, refused) = keeper.load(SystemTime::now(), config.lkg_age_max);
                Found { kept, refused }
            }
            Err(error) => {
                tracing::warn!(error, "a last known good cannot be kept");
                Found::default()
            }
        }
    }

    /// Writes for ever.
    pub async fn keep(self, feed: ConfigFeed, places: Places) {
        if let From::Control(identity) = &self.from {
            identity.ready().await;
        }
        match self.keeper() {
            Some(Ok(keeper)) => keeper.keep(feed, places).await,
            Some(Err(error)) => {
                tracing::warn!(error, "no last known good is kept");
                feed.note_lkg(|status| (status.failing, status.write_failures) = (true, 1));
            }
            None => {}
        }
    }

    fn keeper(&self) -> Option<Result<Keeper, String>> {
        let identity = match &self.from {
            From::Control(identity) => identity.credentials()?.svid.id().to_string(),
            From::Foreign(address) => format!("xds server {address}"),
        };
        Some(Keeper::open(&self.state, Owner { identity, node: self.node.clone() }))
    }
}

impl Found {
    /// Where the proxy listened when it was written.
    pub fn places(&self) -> Places {
        self.kept.first().map(|kept| kept.places.clone()).unwrap_or_default()
    }

    /// Puts the newest good generation in force; without one nothing is.
    pub fn restore(self, feed: &ConfigFeed, places: &Places) {
        let mut refused = self.refused;
        let mut on_disk = None;
        for kept in self.kept {
            let why = if kept.places == *places {
                feed.restore(&kept.good).err()
            } else {
                Some("the proxy listens elsewhere now".to_owned())
            };
            let age = kept.good.confirmed.elapsed().unwrap_or_default().as_secs();
            match why {
                None => {
                    tracing::info!(
                        age_s = age,
                        "the last known good is in force until the control plane is heard"
                    );
                    on_disk = Some(kept.good.confirmed);
                    break;
                }
                Some(why) => {
                    refused += 1;
                    tracing::warn!(age_s = age, why, "a last known good is not used");
                }
            }
        }
        feed.note_lkg(|status| (status.on_disk, status.refused) = (on_disk, refused));
    }
}
