//! The series that a request is counted in, found by what the request already holds: its caller, route and cluster.
//!
//! The labels of a series are texts; to put them together and hash them costs more than all else that is counted. So a
//! worker does it once for each (caller, route, cluster), for all of its connections, and knows them by their addresses
//! afterwards.

use std::{
    collections::{HashMap, HashSet},
    rc::{self, Rc},
    sync::{Arc, Weak},
};

use weft_routing::Route;
use weft_telemetry::buckets::SeriesId;

/// Beyond it all are forgotten, and put together again as they are needed.
const KNOWN_MAX: usize = 65_536;

/// One worker's.
#[derive(Default)]
pub struct KnownSeries {
    /// Those of connections; the same caller has the same address.
    callers: HashSet<Rc<str>>,
    // The keys are addresses of our own objects.
    known: HashMap<Key, Known, foldhash::fast::RandomState>,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    caller: usize,
    tls: &'static str,
    route: usize,
    cluster: usize,
}

struct Known {
    id: SeriesId,
    /// While these are here, their addresses are nobody else's.
    caller: Option<rc::Weak<str>>,
    route: Option<Weak<Route>>,
    cluster: Option<Weak<str>>,
}

/// What tells one series of a worker from another.
#[derive(Clone, Copy)]
pub struct Counted<'a> {
    /// From [`KnownSeries::caller`]; `None`: the proxy's own service.
    pub caller: Option<&'a Rc<str>>,
    pub tls: &'static str,
    pub route: Option<&'a Arc<Route>>,
    /// By name.
    pub cluster: Option<&'a Arc<str>>,
}

impl KnownSeries {
    /// The caller's name, as all of its connections have it.
    pub fn caller(&mut self, name: &str) -> Rc<str> {
        if let Some(known) = self.callers.get(name) {
            return Rc::clone(known);
        }
        let name: Rc<str> = name.into();
        self.callers.insert(Rc::clone(&name));
        name
    }

    pub fn get(&self, counted: Counted<'_>) -> Option<SeriesId> {
        self.known.get(&Key::of(counted)).map(|known| known.id)
    }

    pub fn learn(&mut self, counted: Counted<'_>, id: SeriesId) {
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        let known = Known {
            id,
            caller: counted.caller.map(Rc::downgrade),
            route: counted.route.map(Arc::downgrade),
            cluster: counted.cluster.map(Arc::downgrade),
        };
        self.known.insert(Key::of(counted), known);
    }

    /// Forgets routes and clusters of tables that are gone, and callers without a connection.
    pub fn sweep(&mut self) {
        self.callers.retain(|caller| Rc::strong_count(caller) > 1);
        self.known.retain(|_, known| {
            known.caller.as_ref().is_none_or(|caller| caller.strong_count() > 0)
                && known.route.as_ref().is_none_or(|route| route.strong_count() > 0)
                && known.cluster.as_ref().is_none_or(|cluster| cluster.strong_count() > 0)
        });
    }
}

impl Key {
    fn of(counted: Counted<'_>) -> Key {
        Key {
            caller: counted.caller.map_or(0, |caller| address(Rc::as_ptr(caller))),
            tls: counted.tls,
            route: counted.route.map_or(0, |route| address(Arc::as_ptr(route))),
            cluster: counted.cluster.map_or(0, |cluster| address(Arc::as_ptr(cluster))),
        }
    }
}

fn address<T: ?Sized>(at: *const T) -> usize {
    at.cast::<()>().addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted<'a>(caller: &'a Rc<str>, cluster: &'a Arc<str>) -> Counted<'a> {
        Counted { caller: Some(caller), tls: "mtls", route: None, cluster: Some(cluster) }
    }

    #[test]
    fn what_is_known_holds_for_all_connections_and_ends_with_them() {
        let mut window = weft_telemetry::Window::new(9);
        let id = window.series(weft_telemetry::buckets::SeriesKey::default());
        let mut series = KnownSeries::default();
        let (caller, cluster): (_, Arc<str>) = (series.caller("default/fe"), "be1".into());
        let other: Arc<str> = "be1".into();
        series.learn(counted(&caller, &cluster), id);
        let again = series.caller("default/fe");
        assert_eq!(series.get(counted(&again, &cluster)), Some(id), "another connection");
        assert_eq!(series.get(counted(&again, &other)), None, "another table's cluster");
        series.sweep();
        assert_eq!((series.known.len(), series.callers.len()), (1, 1));
        drop(caller);
        series.sweep();
        assert_eq!((series.known.len(), series.callers.len()), (1, 1), "one connection is left");
        drop(again);
        series.sweep();
        assert_eq!((series.known.len(), series.callers.len()), (0, 0));
        let caller = series.caller("default/fe");
        series.learn(counted(&caller, &cluster), id);
        drop(cluster);
        series.sweep();
        assert_eq!((series.known.len(), series.callers.len()), (0, 1), "the table is gone");
    }

    #[test]
    fn they_are_bounded() {
        let id = weft_telemetry::Window::new(9).series(weft_telemetry::buckets::SeriesKey::default());
        let mut series = KnownSeries::default();
        let caller = series.caller("default/fe");
        let clusters: Vec<Arc<str>> = (0..=KNOWN_MAX).map(|_| "be1".into()).collect();
        for cluster in &clusters {
            series.learn(counted(&caller, cluster), id);
            assert_eq!(series.get(counted(&caller, cluster)), Some(id));
        }
        assert_eq!(series.known.len(), 1);
    }
}
