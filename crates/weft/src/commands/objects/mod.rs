//! `weft apply`, `get`, `describe` and `delete`: the objects of the mesh, from files and as tables.
//!
//! Files are read and checked here as a whole before the first word with the control plane: with one
//! mistake in one file nothing is applied, and every mistake of every file is told at once.

mod apply;
mod delete;
mod files;
mod get;
mod merge;
mod place;

pub use apply::{ApplyArgs, apply, apply_text};
pub use delete::{DeleteArgs, delete};
pub use files::read_paths;
pub use get::{DescribeArgs, GetArgs, describe, get};
pub use place::encoded;
