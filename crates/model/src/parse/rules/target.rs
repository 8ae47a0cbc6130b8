//! References by group and kind: whether what they name can be meant at all.
//!
//! A group that is nobody's we know may be anybody's, so its kinds are only warned of; a kind that does
//! not exist in a group that we know is a slip, and refused with what was probably meant.

use super::At;
use crate::kind::{GATEWAY_GROUP, Kind, WEFT_GROUP};
use crate::parse::{Sink, suggest};
use crate::text::quote;

/// Group and kind.
pub type Target = (&'static str, &'static str);

/// A reference that can't be meant here.
#[derive(Debug, PartialEq, Eq)]
pub enum Stray<'a> {
    /// The kind is right, and is of this group.
    Group { kind: &'a str, said: &'a str, right: &'static str },
    /// A kind that can't stand here: it is not known, or it is another sort of thing.
    Kind { kind: &'a str, hint: String },
    /// Of a group that others define.
    Foreign { kind: &'a str, group: &'a str },
}

/// Whether a reference is to one of `known`.
pub fn known<'a>(known: &[Target], (group, kind): (&'a str, &'a str)) -> Result<(), Stray<'a>> {
    let said = group;
    let group = if group == "core" { "" } else { group };
    if known.contains(&(group, kind)) {
        return Ok(());
    }
    if let Some((right, _)) = known.iter().find(|(_, name)| *name == kind) {
        return Err(Stray::Group { kind, said, right });
    }
    if !matches!(group, "" | GATEWAY_GROUP | WEFT_GROUP) {
        return Err(Stray::Foreign { kind, group });
    }
    let mut names: Vec<&str> = known.iter().map(|(_, name)| *name).collect();
    // What is written rightly is no slip of the pen: then only say what fits.
    let hint = match kind.parse::<Kind>() {
        Ok(_) => format!("known here: {}", names.join(", ")),
        Err(_) => {
            names.dedup();
            suggest::hint(kind, names.into_iter()).unwrap_or_default()
        }
    };
    Err(Stray::Kind { kind, hint })
}

impl Stray<'_> {
    /// Tells of it at the reference; `verb` is what can't be done to such a kind.
    pub fn tell(&self, reference: &At<'_>, verb: &str, sink: &mut Sink) {
        match self {
            Stray::Group { kind, said, right } => reference.place("group").error(
                sink,
                format!("a {kind} is not of the group {said:?}"),
                &format!("group: {right:?}"),
            ),
            Stray::Kind { kind, hint } => {
                reference.place("kind").error(sink, format!("{verb} a {}", quote(kind)), hint);
            }
            Stray::Foreign { kind, group } => {
                reference.warning(sink, format!("{verb} a {kind} of {group}"), "it has no effect here");
            }
        }
    }
}
