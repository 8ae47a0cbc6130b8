//! What a proxy counts and writes down about the requests it carried.
//!
//! Four roads out of one record: [`shard`] (counters and histograms behind handles, merged on scrape
//! and written by [`exposition`]), [`buckets`] (measurement cells that go to the control plane's
//! history), and [`accesslog`] (one line for one request). [`histogram`] is the one form in which
//! durations are kept, everywhere.
//!
//! Pure: no sockets, no clock, no threads. Time comes in as an argument; a worker owns its shard and
//! window and hands out copies.

pub mod accesslog;
pub mod buckets;
pub mod exposition;
pub mod histogram;
pub mod shard;

pub use accesslog::{Format, FormatError, Record};
pub use buckets::{Cell, CellKey, Increment, Window};
pub use exposition::Exposition;
pub use histogram::Histogram;
pub use shard::{Counter, Gauge, Registry, Shard, Snapshot, Timing};
