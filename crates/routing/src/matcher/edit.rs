//! Header edits, on a map of headers.

use http::header::Entry;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::types::{EditAction, EditPart, EditValue, HeaderEdit};

/// Applies the edits in order. `fill` writes the value of a command; nothing = an empty value.
pub fn apply(edits: &[HeaderEdit], headers: &mut HeaderMap, fill: &dyn Fn(&EditPart, &mut Vec<u8>)) {
    for edit in edits {
        match edit {
            HeaderEdit::Remove(name) => {
                headers.remove(name);
            }
            HeaderEdit::Add { name, value, action } => {
                if let Some(value) = rendered(value, fill) {
                    add(headers, name, value, *action);
                }
            }
        }
    }
}

fn add(headers: &mut HeaderMap, name: &HeaderName, value: HeaderValue, action: EditAction) {
    match action {
        EditAction::Append => {
            // More values than a map can hold: the edit is left out, the request goes on.
            let _full = headers.try_append(name, value);
        }
        EditAction::AddIfAbsent => {
            if let Ok(Entry::Vacant(slot)) = headers.try_entry(name) {
                let _full = slot.try_insert(value);
            }
        }
        EditAction::Overwrite => {
            let _full = headers.try_insert(name, value);
        }
        EditAction::OverwriteIfExists => {
            if headers.contains_key(name) {
                let _full = headers.try_insert(name, value);
            }
        }
    }
}

/// None: what the commands gave is no header value, or (all commands, no text) nothing came.
fn rendered(value: &EditValue, fill: &dyn Fn(&EditPart, &mut Vec<u8>)) -> Option<HeaderValue> {
    match value {
        EditValue::Literal(value) => Some(value.clone()),
        EditValue::Format(parts) => {
            let mut bytes = Vec::new();
            for part in parts.iter() {
                match part {
                    EditPart::Text(text) => bytes.extend_from_slice(text.as_bytes()),
                    command => fill(command, &mut bytes),
                }
            }
            if bytes.is_empty() {
                return None;
            }
            HeaderValue::from_bytes(&bytes).ok()
        }
    }
}
