//! WISHES: the objects that users write, read with all their problems at once.
//!
//! Text goes in at [`parse_text`] (files: YAML with several documents, JSON, `kind: List`) or
//! [`parse_value`] (the API's JSON). It becomes a tree with line numbers, is walked along the schema
//! of its kind, then checked by the kind's own rules; every [`Problem`] of the whole text comes back,
//! with file, line, field path and a hint. Only an object without an error becomes a typed [`Object`].
//! What is wrong *between* objects is told by [`findings`], with stable codes. [`openapi_v3`] tells
//! the same schemas to `kubectl`.
//!
//! This crate does no I/O, knows no clock, and knows nothing of xDS, proxies or the store.

mod findings;
mod kind;
pub mod names;
mod object;
mod openapi;
mod parse;
mod period;
mod problem;
mod protocol;
mod schema;
pub mod spec;
mod text;

pub use findings::{Code, Finding, codes, findings};
pub use kind::{
    Column, GATEWAY_GROUP, Kind, KindInfo, SMI_ACCESS_GROUP, SMI_SPECS_GROUP, UnknownKind, WEFT_GROUP,
};
pub use names::host_names;
pub use object::{Body, DEFAULT_NAMESPACE, Metadata, Object, OwnerReference};
pub use openapi::openapi_v3;
pub use parse::{Document, nearest, parse_text, parse_value};
pub use period::{Period, PeriodError};
pub use problem::{Problem, Severity, any_error};
pub use protocol::Protocol;
pub use spec::*;
