//! Who is connected with whom: asks every proxy for its connections, and knows those of the port for proxies itself.
//!
//! A question goes down each link stream; pages come up and are gathered under its number. Who does not answer in time
//! is named: an older proxy does not know the question, and a foreign one has no link.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast, mpsc};
use weft_link::{Connection, ListConnections};

/// How long the proxies have for their answers.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Questions that a slow stream may be behind.
const QUESTIONS_MAX: usize = 16;
/// Pages that wait to be gathered.
const PAGES_MAX: usize = 1024;
/// Connections of the port for proxies that are remembered when they are closed.
const CLOSED_MAX: usize = 16_384;

/// The questions under way, and this control plane's own connections.
pub struct Connections {
    questions: broadcast::Sender<ListConnections>,
    /// Where the pages of each question go.
    asking: Mutex<HashMap<u64, mpsc::Sender<Page>>>,
    own: Mutex<Own>,
}

type Page = (String, weft_link::Connections);

#[derive(Default)]
struct Own {
    open: HashMap<u64, Connection>,
    next: u64,
    closed: Vec<Connection>,
    remember_until: Option<tokio::time::Instant>,
    missed: u64,
}

/// One proxy's connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// Its own SPIFFE id.
    pub identity: String,
    /// Open ones and remembered ones.
    pub connections: Vec<Connection>,
    /// How many it had no room for.
    pub missed: u64,
    whole: bool,
}

/// A connection of the port for proxies, until it is dropped.
pub struct Held<'a> {
    connections: &'a Connections,
    number: u64,
}

impl Default for Connections {
    fn default() -> Connections {
        Connections {
            questions: broadcast::Sender::new(QUESTIONS_MAX),
            asking: Mutex::default(),
            own: Mutex::default(),
        }
    }
}

impl Connections {
    /// The questions, for one link stream.
    pub fn questions(&self) -> broadcast::Receiver<ListConnections> {
        self.questions.subscribe()
    }

    /// A proxy's page.
    pub fn answered(&self, proxy: &str, page: weft_link::Connections) {
        let asking = lock(&self.asking).get(&page.id).cloned();
        // A page for which there is no room leaves its list without an end, and so the proxy among the silent.
        if let Some(asking) = asking {
            let _ = asking.try_send((proxy.to_owned(), page));
        }
    }

    /// Asks the proxies of these workloads; those that gave no whole answer in time are named.
    pub async fn ask(
        &self,
        remember: Duration,
        proxies: &BTreeSet<String>,
    ) -> (BTreeMap<String, List>, BTreeSet<String>) {
        let id = fastrand::u64(1..);
        let remember_seconds = u32::try_from(remember.as_secs()).unwrap_or(u32::MAX);
        let (sender, mut pages) = mpsc::channel(PAGES_MAX);
        lock(&self.asking).insert(id, sender);
        let _forgotten = Forgotten { connections: self, id };
        // Nobody listens where no proxy has joined.
        let _ = self.questions.send(ListConnections { id, remember_seconds });
        let mut lists: BTreeMap<String, List> = BTreeMap::new();
        let deadline = tokio::time::Instant::now() + ANSWER_MAX;
        let all_in = |lists: &BTreeMap<String, List>| {
            proxies.iter().all(|proxy| lists.get(proxy).is_some_and(|list| list.whole))
        };
        while !all_in(&lists) {
            let Ok(Some((proxy, page))) = tokio::time::timeout_at(deadline, pages.recv()).await else {
                break;
            };
            let list = lists.entry(proxy).or_default();
            list.identity = page.identity;
            list.connections.extend(page.connections);
            list.missed += page.missed;
            list.whole |= page.last;
        }
        let whole = |proxy: &String| lists.get(proxy).is_some_and(|list| list.whole);
        let silent = proxies.iter().filter(|proxy| !whole(proxy)).cloned().collect();
        (lists, silent)
    }

    /// Enters a connection that the port for proxies accepted and shook hands with.
    pub fn hold(&self, connection: Connection) -> Held<'_> {
        let mut own = lock(&self.own);
        let number = own.next;
        own.next += 1;
        own.open.insert(number, connection);
        Held { connections: self, number }
    }

    /// This control plane's own.
    pub fn own(&self, remember: Duration) -> List {
        let mut own = lock(&self.own);
        let now = tokio::time::Instant::now();
        if own.remember_until.is_none_or(|until| until < now) {
            own.closed = Vec::new();
            own.missed = 0;
        }
        if !remember.is_zero() {
            own.remember_until = own.remember_until.max(Some(now + remember));
        }
        let connections = own.open.values().chain(&own.closed).cloned().collect();
        List { connections, missed: own.missed, ..List::default() }
    }
}

/// A question that is over, however it ended.
struct Forgotten<'a> {
    connections: &'a Connections,
    id: u64,
}

impl Drop for Forgotten<'_> {
    fn drop(&mut self) {
        lock(&self.connections.asking).remove(&self.id);
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut own = lock(&self.connections.own);
        let Some(connection) = own.open.remove(&self.number) else { return };
        let remembers = own.remember_until.is_some_and(|until| tokio::time::Instant::now() < until);
        match remembers {
            true if own.closed.len() < CLOSED_MAX => {
                own.closed.push(Connection { closed: true, ..connection })
            }
            true => own.missed += 1,
            false => own.closed = Vec::new(),
        }
    }
}

/// A connection that we accepted, as the proxies tell theirs.
pub fn accepted(
    local: SocketAddr,
    remote: SocketAddr,
    session: &rustls::ServerConnection,
    peer: &str,
) -> Connection {
    Connection {
        local: local.to_string(),
        remote: remote.to_string(),
        accepted: true,
        version: session.protocol_version().map_or(0, |version| u16::from(version).into()),
        cipher: session.negotiated_cipher_suite().map_or(0, |suite| u16::from(suite.suite()).into()),
        group: session.negotiated_key_exchange_group().map_or(0, |group| u16::from(group.name()).into()),
        peer: peer.to_owned(),
        opened_unix: crate::clock::unix(std::time::SystemTime::now()),
        closed: false,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn page(id: u64, port: u16, last: bool) -> weft_link::Connections {
        let one = Connection { local: format!("127.0.0.1:{port}"), ..Connection::default() };
        weft_link::Connections {
            id,
            connections: vec![one],
            last,
            missed: u64::from(last),
            ..Default::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pages_make_a_list_and_who_gives_no_whole_one_is_named() {
        let connections = Connections::default();
        let mut questions = connections.questions();
        let wanted = names(&["default/a", "default/b", "default/c"]);
        let proxies = async {
            let asked = questions.recv().await.unwrap();
            assert_eq!(asked.remember_seconds, 30);
            connections.answered("default/a", page(asked.id, 1, false));
            connections.answered("default/b", page(asked.id, 2, false));
            connections.answered("default/a", page(asked.id, 3, true));
            connections.answered("default/c", page(asked.id + 1, 3, true)); // of another question
        };
        let (asked, ()) = tokio::join!(connections.ask(Duration::from_secs(30), &wanted), proxies);
        let (lists, silent) = asked;
        assert_eq!(silent, names(&["default/b", "default/c"]));
        assert_eq!((lists["default/a"].connections.len(), lists["default/a"].missed), (2, 1));
        assert!(lock(&connections.asking).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn own_connections_are_remembered_only_while_somebody_asks() {
        let connections = Connections::default();
        let one = || Connection { remote: "192.0.2.1:1".into(), ..Connection::default() };
        drop(connections.hold(one()));
        assert!(connections.own(Duration::from_secs(10)).connections.is_empty());
        let held = connections.hold(one());
        drop(connections.hold(one()));
        let list = connections.own(Duration::ZERO);
        assert_eq!(list.connections.iter().filter(|one| one.closed).count(), 1);
        assert_eq!(list.connections.len(), 2);
        tokio::time::advance(Duration::from_secs(11)).await;
        drop(held);
        assert!(connections.own(Duration::ZERO).connections.is_empty());
    }
}
