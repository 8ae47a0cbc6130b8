//! Entries of the log, as somebody asks for them.

use std::io;
use std::path::Path;
use std::time::SystemTime;

use serde::Deserialize;
use serde_json::Value;

use super::{FILES_KEPT_MAX, chain};
use crate::clock;

/// Entries of an answer when nobody says how many.
const SHOWN: usize = 100;
const SHOWN_MAX: usize = 10_000;

/// Which entries; what is left out asks for all.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    /// A duration, or a moment.
    since: Option<String>,
    /// Exactly this one.
    who: Option<String>,
    /// A part of its path.
    object: Option<String>,
    /// Only what was refused or failed.
    #[serde(default)]
    refused: bool,
    limit: Option<usize>,
}

/// The same, read.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    since: u64,
    who: Option<String>,
    object: Option<String>,
    refused: bool,
    limit: usize,
}

/// The newest entries that were asked for, the oldest of them first.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    pub(crate) entries: Vec<Value>,
    /// There are older ones that fit too.
    pub(crate) more: bool,
}

impl Asked {
    pub(crate) fn read(self, now: SystemTime) -> Result<Wanted, String> {
        let since = match &self.since {
            None => 0,
            Some(text) => match (clock::parse_duration(text), clock::parse_instant(text)) {
                (Some(ago), _) => clock::unix(now).saturating_sub(ago.as_secs()),
                (None, Some(at)) => at,
                (None, None) => {
                    return Err(format!(
                        "since={text}: write a duration such as 24h, RFC 3339 or Unix seconds"
                    ));
                }
            },
        };
        let limit = self.limit.unwrap_or(SHOWN);
        if !(1..=SHOWN_MAX).contains(&limit) {
            return Err(format!("limit={limit}: write a number from 1 to {SHOWN_MAX}"));
        }
        Ok(Wanted { since, who: self.who, object: self.object, refused: self.refused, limit })
    }
}

impl Wanted {
    fn fits(&self, entry: &Value) -> bool {
        let text = |key: &str| entry[key].as_str().unwrap_or_default();
        self.who.as_deref().is_none_or(|who| text("who") == who)
            && self.object.as_deref().is_none_or(|part| text("object").contains(part))
            && (!self.refused || entry["result"].as_u64().is_none_or(|result| result >= 400))
    }

    fn is_older(&self, entry: &Value) -> bool {
        self.since > 0
            && entry["time"].as_str().and_then(clock::parse_instant).is_some_and(|at| at < self.since)
    }
}

/// Reads the files of a state directory, the newest first, and no more of them than it takes.
pub(crate) fn list(state: &Path, wanted: &Wanted) -> io::Result<Listed> {
    let mut found = Listed::default();
    'files: for age in 0..=FILES_KEPT_MAX {
        let bytes = match std::fs::read(state.join(chain::file_name(age))) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for line in bytes.rsplit(|byte| *byte == b'\n') {
            let Some((_, entry)) = chain::numbered(line) else { continue };
            if wanted.is_older(&entry) {
                break 'files;
            }
            if !wanted.fits(&entry) {
                continue;
            }
            if found.entries.len() == wanted.limit {
                found.more = true;
                break 'files;
            }
            found.entries.push(entry);
        }
    }
    found.entries.reverse();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn line(seq: u64, at: u64, who: &str, object: &str, result: u16) -> String {
        let time = clock::rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(at));
        serde_json::json!({"time": time, "seq": seq, "who": who, "object": object, "result": result})
            .to_string()
    }

    /// Three in an older file, three in the newest, which ends with half a line.
    fn log() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let write = |age: usize, lines: &[String]| {
            std::fs::write(dir.path().join(chain::file_name(age)), lines.join("\n")).unwrap();
        };
        let of = |seq: u64, who: &str, object: &str, result| line(seq, 1000 * seq, who, object, result);
        write(1, &[of(1, "ann", "/a", 200), of(2, "bob", "/b", 403), of(3, "ann", "/b/x", 201)]);
        write(0, &[of(4, "bob", "/a", 200), of(5, "ann", "/c", 409), "{\"seq\": 6, \"wh".to_owned()]);
        dir
    }

    fn listed(asked: Asked) -> (Vec<u64>, bool) {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(6000);
        let found = list(log().path(), &asked.read(now).unwrap()).unwrap();
        (found.entries.iter().map(|entry| entry["seq"].as_u64().unwrap()).collect(), found.more)
    }

    #[test]
    fn the_newest_come_and_the_last_is_the_newest() {
        assert_eq!(listed(Asked::default()), (vec![1, 2, 3, 4, 5], false));
        assert_eq!(listed(Asked { limit: Some(2), ..Asked::default() }), (vec![4, 5], true));
        assert_eq!(listed(Asked { limit: Some(5), ..Asked::default() }), (vec![1, 2, 3, 4, 5], false));
    }

    #[test]
    fn only_what_was_asked_for() {
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(listed(Asked { who: text("bob"), ..Asked::default() }).0, [2, 4]);
        assert_eq!(listed(Asked { object: text("/b"), ..Asked::default() }).0, [2, 3]);
        assert_eq!(listed(Asked { refused: true, ..Asked::default() }).0, [2, 5]);
        assert_eq!(listed(Asked { since: text("2500s"), ..Asked::default() }).0, [4, 5]);
        assert_eq!(listed(Asked { since: text("1970-01-01T00:50:00Z"), ..Asked::default() }).0, [3, 4, 5]);
    }

    #[test]
    fn what_is_wrongly_asked_says_how() {
        let now = SystemTime::now();
        let since = Asked { since: Some("yesterday".into()), ..Asked::default() };
        assert!(since.read(now).unwrap_err().contains("24h"));
        for limit in [0, SHOWN_MAX + 1] {
            let asked = Asked { limit: Some(limit), ..Asked::default() };
            assert!(asked.read(now).unwrap_err().contains("from 1 to"));
        }
    }

    #[test]
    fn a_log_that_is_not_there_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = Asked::default().read(SystemTime::now()).unwrap();
        assert!(list(dir.path(), &wanted).unwrap().entries.is_empty());
    }
}
