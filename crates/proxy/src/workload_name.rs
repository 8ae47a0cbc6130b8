//! The name of this proxy's Workload: given, or remembered, or made once and then remembered.

use std::path::Path;

use weft_identity::files::write_private;

use crate::config::Node;

const SUFFIX_CHARS: usize = 5;

/// A name that survives restarts.
pub fn of(state: &Path, node: &Node) -> String {
    if let Some(name) = &node.name {
        return name.clone();
    }
    let file = state.join("name");
    if let Ok(name) = std::fs::read_to_string(&file) {
        let name = name.trim();
        // Another service's state directory must not lend its name.
        if name.strip_prefix(node.service.as_str()).is_some_and(|rest| rest.starts_with('-')) {
            return name.to_owned();
        }
    }
    let suffix: String = std::iter::repeat_with(|| fastrand::choice(b"abcdefghijklmnopqrstuvwxyz0123456789"))
        .flatten()
        .map(|byte| char::from(*byte))
        .take(SUFFIX_CHARS)
        .collect();
    let version = node.labels.get("version").map(|version| format!("-{version}")).unwrap_or_default();
    let name = format!("{}{version}-{suffix}", node.service);
    if let Err(error) = write_private(&file, &name) {
        tracing::warn!(%error, "the workload's name cannot be kept; a restart will choose another");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn name_is_made_once() {
        let state = std::env::temp_dir().join(format!("weft-name-{}", fastrand::u64(..)));
        std::fs::create_dir_all(&state).unwrap();
        let node = Config::new("default", "be1", state.clone()).node;
        let first = of(&state, &node);
        assert!(first.starts_with("be1-") && first.len() == "be1-".len() + SUFFIX_CHARS, "{first}");
        assert_eq!(of(&state, &node), first);
        let other = Config::new("default", "be2", state.clone()).node;
        assert!(of(&state, &other).starts_with("be2-"));
        std::fs::remove_dir_all(&state).unwrap();
    }
}
