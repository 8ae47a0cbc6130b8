//! What was: exact counts and durations of who called whom, for thirty days.
//!
//! Measurement cells come in by [`History::add`] and are kept in windows of three lengths: 10 s for
//! 6 h, 1 min for 48 h, 10 min for 30 d. A cell is added to all three at once, so a longer window is
//! the exact sum of its shorter ones by construction and a query may take whichever it likes.
//! [`History::query`] and [`History::edges`] answer and say which window the answer covers.
//! [`Seen`] makes an increment that is sent again count once.
//!
//! It keeps nothing on disk: [`History::take_dirty`] gives the windows that changed as bytes for
//! whoever persists them, [`History::load`] takes them back. It knows no objects, no xDS, no clock.

mod codec;
mod counts;
mod history;
mod query;
mod ring;
mod seen;
mod series;

pub use codec::{DecodeError, decode_cell, encode_cell};
pub use counts::{BUCKETS, Counts, bucket, lower_bound, upper_bound};
pub use history::{Added, Blob, History, Limits, Stats, WindowKey};
pub use query::{Answer, Callee, Counted, Dimension, Edge, Edges, Group, Query, Row};
pub use ring::Resolution;
pub use seen::{Seen, SeenBlob, SeenKey, Verdict};
pub use series::Series;
