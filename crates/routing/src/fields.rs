//! THE TABLE: what becomes of every field of every message that we read.
//!
//! The decoder of protobuf drops what it does not know, and Rust code forgets what it does not
//! read; both would turn a rule off in silence. So each field stands here with its number and a
//! class, [`scan`] walks the raw bytes by it, a test holds it against Envoy's `.proto` files, and
//! [`docs_page`] prints it for operators. Whatever stands in no row is refused.

mod access_log;
mod any;
mod cluster;
mod core;
mod docs;
mod endpoint;
mod http;
mod listener;
mod rbac;
mod route;
mod scan;
#[cfg(test)]
mod tests;
mod tls;

pub use any::{API_LISTENERS, type_name};
pub use cluster::CLUSTER;
pub use docs::docs_page;
pub use endpoint::CLUSTER_LOAD_ASSIGNMENT;
pub use listener::LISTENER;
pub use route::ROUTE_CONFIGURATION;
pub use scan::{Found, scan};
pub use tls::SECRET;

/// One message: all of its fields.
#[derive(Debug)]
pub struct Schema {
    /// Full protobuf name.
    pub name: &'static str,
    pub rows: &'static [Row],
}

#[derive(Debug)]
pub struct Row {
    pub number: u32,
    pub name: &'static str,
    pub class: Class,
    pub kind: Kind,
    pub shape: Shape,
}

/// What becomes of a field; the text says why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Read and done.
    Supported,
    /// Not read: it changes nothing that a caller or an operator relies on.
    Harmless(&'static str),
    /// Not done, and one could notice: a warning from a foreign control plane, else a problem.
    Warn(&'static str),
    /// Not done, and it changes where requests go or who may send them.
    Problem(&'static str),
}

/// What the bytes of a field are.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Varint,
    Fixed32,
    Fixed64,
    Text,
    Bytes,
    Message(&'static Schema),
    /// A message that is not looked into.
    Opaque,
    /// A `google.protobuf.Any` with one of these inside.
    Any(&'static [&'static Schema]),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    One,
    Many,
    /// From texts to values of the kind.
    Map,
}

const NOT_DONE: Class = Class::Problem("it is not done here");
/// For limits that are not done: their zero switches them off, which is what we do.
const NO_LIMIT: Class = Class::Problem("only zero, no limit, is taken here");

// Short names, so that a row is a line.
const VARINT: Kind = Kind::Varint;
const FIXED64: Kind = Kind::Fixed64;
const TEXT: Kind = Kind::Text;
const BYTES: Kind = Kind::Bytes;
const OPAQUE: Kind = Kind::Opaque;

const fn one(number: u32, name: &'static str, class: Class, kind: Kind) -> Row {
    Row { number, name, class, kind, shape: Shape::One }
}

const fn many(number: u32, name: &'static str, class: Class, kind: Kind) -> Row {
    Row { number, name, class, kind, shape: Shape::Many }
}

const fn map(number: u32, name: &'static str, class: Class, kind: Kind) -> Row {
    Row { number, name, class, kind, shape: Shape::Map }
}

impl Schema {
    /// Rows are few and in order of their numbers.
    pub fn row(&self, number: u32) -> Option<&'static Row> {
        self.rows.iter().find(|row| row.number == number)
    }
}

/// Every consumed message, by area.
pub fn areas() -> [(&'static str, &'static [&'static Schema]); 9] {
    [
        ("Listeners", listener::ALL),
        ("HTTP", http::ALL),
        ("Routes", route::ALL),
        ("Clusters", cluster::ALL),
        ("Endpoints", endpoint::ALL),
        ("TLS", tls::ALL),
        ("Authorization", rbac::ALL),
        ("Access logs", access_log::ALL),
        ("Shared", core::ALL),
    ]
}
