//! Lists in pages: `limit` and `continue`.
//!
//! The pages of one list show one revision, as Kubernetes promises: what the later pages will show is
//! kept, bounded in number and time, and costs pointers, since the store's values are shared. A token
//! that is forgotten (too old, too many lists since, a restart) is a 410, on which clients list anew.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use weft_store::{Revision, Stored};

use super::auth::random_token;
use super::status::Status;

/// Lists of which later pages are kept.
const LISTS_MAX: usize = 64;
const KEPT_FOR: Duration = Duration::from_secs(300);

struct Rest {
    token: String,
    /// Which collection it is of: a token opens no other.
    collection: String,
    made: Instant,
    revision: Revision,
    items: Vec<Stored>,
}

/// One page.
pub(crate) struct Page {
    pub(crate) items: Vec<Stored>,
    pub(crate) revision: Revision,
    /// The token of the next page and how many items are left, unless this is the last.
    pub(crate) next: Option<(String, usize)>,
}

#[derive(Default)]
pub(crate) struct Pages {
    lists: Mutex<VecDeque<Rest>>,
}

impl Pages {
    /// The first page of what was found.
    pub(crate) fn first(
        &self,
        collection: &str,
        items: Vec<Stored>,
        revision: Revision,
        limit: usize,
        now: Instant,
    ) -> Result<Page, Status> {
        self.cut(collection, items, revision, limit, now)
    }

    /// The page that a token names. It can be asked for again, should the answer have been lost.
    pub(crate) fn next(
        &self,
        collection: &str,
        token: &str,
        limit: usize,
        now: Instant,
    ) -> Result<Page, Status> {
        let found = {
            let lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
            lists
                .iter()
                .find(|rest| rest.token == token && rest.collection == collection)
                .filter(|rest| now.duration_since(rest.made) < KEPT_FOR)
                .map(|rest| (rest.items.clone(), rest.revision))
        };
        let (items, revision) = found.ok_or_else(|| {
            Status::expired(
                "The provided continue parameter is too old to display a consistent list result. You must start a new list without the continue parameter.",
            )
        })?;
        self.cut(collection, items, revision, limit, now)
    }

    fn cut(
        &self,
        collection: &str,
        mut items: Vec<Stored>,
        revision: Revision,
        limit: usize,
        now: Instant,
    ) -> Result<Page, Status> {
        if limit == 0 || items.len() <= limit {
            return Ok(Page { items, revision, next: None });
        }
        let rest = items.split_off(limit);
        let token = random_token().map_err(|error| Status::internal(format!("{error:#}")))?;
        let left = rest.len();
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        lists.retain(|rest| now.duration_since(rest.made) < KEPT_FOR);
        while lists.len() >= LISTS_MAX {
            lists.pop_front();
        }
        lists.push_back(Rest {
            token: token.clone(),
            collection: collection.to_owned(),
            made: now,
            revision,
            items: rest,
        });
        Ok(Page { items, revision, next: Some((token, left)) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's failure is its message")]
    use super::*;
    use weft_store::Key;

    fn items(count: u64) -> Vec<Stored> {
        (0..count)
            .map(|n| Stored {
                key: Key::new("", "services", "default", format!("s{n}")),
                created: n,
                modified: n,
                value: std::sync::Arc::from(&b"{}"[..]),
            })
            .collect()
    }

    #[test]
    fn pages_show_everything_once_and_tokens_end() {
        let (pages, now) = (Pages::default(), Instant::now());
        let first = pages.first("services", items(5), 9, 2, now).unwrap();
        let (token, left) = first.next.unwrap();
        assert_eq!((first.items.len(), left), (2, 3));
        assert!(pages.next("secrets", &token, 2, now).is_err(), "a token is of its collection");
        let second = pages.next("services", &token, 2, now).unwrap();
        assert_eq!(second.items[0].key.name, "s2");
        let last = pages.next("services", &second.next.unwrap().0, 2, now).unwrap();
        assert_eq!((last.items.len(), last.revision), (1, 9));
        assert!(last.next.is_none());
        assert!(pages.next("services", &token, 2, now + KEPT_FOR).is_err());
        let held = pages.first("services", items(3), 9, 1, now).unwrap().next.unwrap().0;
        for _ in 0..LISTS_MAX {
            pages.first("services", items(3), 9, 1, now).unwrap();
        }
        assert_eq!(pages.lists.lock().unwrap().len(), LISTS_MAX);
        assert!(pages.next("services", &held, 1, now).is_err(), "the oldest made room");
    }
}
