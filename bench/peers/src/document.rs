//! `docs/benchmarks.md` has two parts, each replaced by the run that writes it.

use std::path::Path;

use anyhow::Context;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Peers,
    Soak,
}

/// What the second part begins with.
const SOAK: &str = "\n# The last soak\n";

/// Writes `text` as that part and keeps the other.
pub fn replace(file: &Path, part: Part, text: &str) -> anyhow::Result<()> {
    let was = std::fs::read_to_string(file).unwrap_or_default();
    std::fs::write(file, with(&was, part, text)).with_context(|| format!("cannot write {}", file.display()))
}

fn with(was: &str, part: Part, text: &str) -> String {
    let (peers, soak) = was.split_at(was.find(SOAK).unwrap_or(was.len()));
    match part {
        Part::Peers => format!("{}\n{soak}", text.trim_end()),
        Part::Soak => format!("{}\n{SOAK}\n{}\n", peers.trim_end(), text.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_is_replaced_and_the_other_kept() {
        let both = with(&with("", Part::Peers, "# Peers\n\nold"), Part::Soak, "30 minutes");
        let new = with(&both, Part::Peers, "# Peers\n\nnew\n");
        assert_eq!(new, "# Peers\n\nnew\n\n# The last soak\n\n30 minutes\n");
        assert_eq!(with(&new, Part::Soak, "31 minutes"), new.replace("30", "31"));
        assert_eq!(with(&new, Part::Peers, "# Peers\n\nnew\n"), new, "the same again changes nothing");
    }
}
