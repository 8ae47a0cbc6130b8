//! Leaving without losing anything: one switch a worker, seen by each of its connections, and a count of them.

use std::{cell::Cell, rc::Rc, time::Duration};

use tokio::sync::watch;

/// Once the drain has started: a request that is on its way arrives by then, and the silent do not hold us up.
const PATIENCE: Duration = Duration::from_millis(500);

/// Whether this worker drains, and how many connections it still serves.
pub struct Drain {
    started: watch::Sender<bool>,
    /// The same, for those who look at each request.
    is_started: Cell<bool>,
    connections: Rc<Cell<usize>>,
    /// Also those of tunnels, whose connection is nobody's any more.
    requests: Cell<usize>,
}

/// Counts one connection until it is dropped.
pub struct Connection(Rc<Cell<usize>>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Default for Drain {
    fn default() -> Self {
        Drain {
            started: watch::Sender::new(false),
            is_started: Cell::new(false),
            connections: Rc::default(),
            requests: Cell::new(0),
        }
    }
}

impl Drain {
    /// Tells every connection, also those to come, to finish what it carries and close.
    pub fn start(&self) {
        self.is_started.set(true);
        self.started.send_replace(true);
    }

    pub fn is_started(&self) -> bool {
        self.is_started.get()
    }

    /// Waits until the drain starts.
    pub async fn started(&self) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self.started.subscribe().wait_for(|started| *started).await;
    }

    /// Waits until the drain has started, and then as long as a connection may take that has not said what it is.
    pub async fn out_of_patience(&self) {
        self.started().await;
        tokio::time::sleep(PATIENCE).await;
    }

    pub fn connection(&self) -> Connection {
        self.connections.set(self.connections.get() + 1);
        Connection(Rc::clone(&self.connections))
    }

    pub fn connections(&self) -> usize {
        self.connections.get()
    }

    pub fn on_request(&self) {
        self.requests.set(self.requests.get() + 1);
    }

    pub fn on_request_end(&self) {
        self.requests.set(self.requests.get() - 1);
    }

    /// What the end has to wait for: zero when there is nothing.
    pub fn active(&self) -> usize {
        self.connections.get() + self.requests.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn late_comers_see_the_drain_too() {
        let drain = Drain::default();
        let connection = drain.connection();
        assert_eq!((drain.connections(), drain.is_started()), (1, false));
        drain.start();
        drain.started().await;
        drop(connection);
        assert_eq!((drain.connections(), drain.is_started()), (0, true));
    }
}
