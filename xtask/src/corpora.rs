//! `cargo xtask corpora [NAME…]`: what bad input does to us, and the same bytes, origins and verdicts with Envoy and
//! HAProxy in our place. `cargo xtask test` runs the same tests; here everybody gets all of it, and a table says what
//! came out.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

struct Group {
    name: &'static str,
    about: &'static str,
    package: &'static str,
    /// The test binary, and which of its tests.
    binary: &'static str,
    tests: &'static [&'static str],
}

const fn of_proxy(
    name: &'static str,
    about: &'static str,
    binary: &'static str,
    tests: &'static [&'static str],
) -> Group {
    Group { name, about, package: "weft-proxy", binary, tests }
}

const GROUPS: &[Group] = &[
    of_proxy(
        "requests",
        "requests: the corpus (S-H1-01), its cuts and its mutants (S-H1-02)",
        "corpus",
        &["requests::", "models::"],
    ),
    of_proxy("ledger", "the books of client, log and origin (S-H1-03)", "corpus", &["ledger::"]),
    of_proxy("responses", "answers of bad origins (S-H1-04)", "corpus", &["responses::"]),
    of_proxy("truncation", "answers cut short, early answers (F-PX-13, F-PX-14)", "truncation", &[]),
    of_proxy("downgrade", "HTTP/2 requests that would become others (S-H2-02)", "corpus", &["downgrade::"]),
    of_proxy("h2spec", "h2spec (S-H2-01)", "corpus", &["h2spec::"]),
    of_proxy("floods", "floods of HTTP/2 frames (S-H2-03 to S-H2-05)", "corpus", &["floods::"]),
    of_proxy("slow", "slow clients (F-PX-10)", "slow", &[]),
    of_proxy("exhaustion", "no descriptors, no memory (F-PX-16, F-PX-17)", "exhaustion", &[]),
    Group {
        name: "codec",
        about: "the HTTP/1 codec alone, against httparse and a strict reader",
        package: "weft-wire",
        binary: "http1",
        tests: &[],
    },
    Group {
        name: "parsers",
        about: "every parser: seeds, finds and mutations of them",
        package: "weft-fuzz",
        binary: "replay",
        tests: &[],
    },
];

const COLUMNS: [&str; 3] = ["Weft", "Envoy", "HAProxy"];

pub fn run(args: &[String]) -> anyhow::Result<()> {
    let groups = wanted(args)?;
    crate::peers::install(false)?;
    let (mut failed, mut table) = (Vec::new(), Table::default());
    for group in groups {
        println!("\n== {}", group.about);
        if !one(group, &mut table)? {
            failed.push(group.name);
        }
    }
    print!("\n{}", table.shown());
    println!(
        "WebSocket, by the Autobahn suite: cargo xtask websocket. Each parser, guided by coverage: cargo xtask fuzz --seconds 600."
    );
    if failed.is_empty() {
        println!("corpora: all hold");
        return Ok(());
    }
    bail!("these do not hold: {}", failed.join(", "));
}

/// All, or those that were named.
fn wanted(args: &[String]) -> anyhow::Result<Vec<&'static Group>> {
    if let Some(odd) = args.iter().find(|arg| !GROUPS.iter().any(|group| group.name == **arg)) {
        let names: Vec<&str> = GROUPS.iter().map(|group| group.name).collect();
        bail!("cargo xtask corpora knows no {odd}; there are {}", names.join(", "));
    }
    let named = |group: &&Group| args.is_empty() || args.iter().any(|arg| arg == group.name);
    Ok(GROUPS.iter().filter(named).collect())
}

/// Runs one group, shows what it prints and keeps its figures; whether all of it holds.
fn one(group: &Group, table: &mut Table) -> anyhow::Result<bool> {
    table.row(group.about);
    let mut child = Command::new("cargo")
        .args(["test", "--profile", "fast", "--quiet", "--package", group.package, "--test", group.binary])
        .args(["--", "--nocapture", "--test-threads", "1"])
        .args(group.tests)
        .env("WEFT_PEERS", crate::peers::folder())
        .env("WEFT_CORPORA", "1")
        .current_dir(crate::root())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let printed = child.stdout.take().context("cargo has no output")?;
    for line in BufReader::new(printed).split(b'\n') {
        let line = line.context("cargo's output broke off")?;
        let line = String::from_utf8_lossy(&line);
        // Told again in the table.
        if !table.take(&line) {
            println!("{line}");
        }
    }
    let holds = child.wait().context("cargo was lost")?.success();
    table.row(group.about)[0] = if holds { "holds" } else { "DOES NOT HOLD" }.to_owned();
    Ok(holds)
}

/// Lines of bad input, and each one's figures; a line about a group stands before those of its figures.
#[derive(Default)]
struct Table {
    rows: Vec<(String, [String; 3])>,
}

impl Table {
    /// `FIGURE | line | who | what`; false for anything else.
    fn take(&mut self, line: &str) -> bool {
        let Some(figure) = line.strip_prefix("FIGURE | ") else { return false };
        let mut parts = figure.splitn(3, " | ");
        let (Some(line), Some(who), Some(what)) = (parts.next(), parts.next(), parts.next()) else {
            return false;
        };
        let Some(column) = COLUMNS.iter().position(|column| *column == who) else { return false };
        what.clone_into(&mut self.row(line)[column]);
        true
    }

    fn row(&mut self, line: &str) -> &mut [String; 3] {
        let place = self.rows.iter().position(|(have, _)| have == line).unwrap_or(self.rows.len());
        if place == self.rows.len() {
            self.rows.push((line.to_owned(), Default::default()));
        }
        &mut self.rows[place].1
    }

    fn shown(&self) -> String {
        let widest = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0);
        let first = widest(&mut self.rows.iter().map(|(line, _)| line.chars().count()));
        let widths = [0, 1, 2].map(|column| {
            let cells = widest(&mut self.rows.iter().map(|(_, cells)| cells[column].chars().count()));
            cells.max(COLUMNS[column].len())
        });
        let line = |name: &str, cells: [&str; 3]| {
            let cells = cells.iter().zip(widths).map(|(cell, width)| {
                let cell = if cell.is_empty() { "-" } else { cell };
                format!("  {cell:<width$}")
            });
            let text = format!("{name:<first$}{}", cells.collect::<String>());
            format!("{}\n", text.trim_end())
        };
        let mut text = line("BAD INPUT", COLUMNS);
        for (name, cells) in &self.rows {
            text.push_str(&line(name, [&cells[0], &cells[1], &cells[2]]));
        }
        text
    }
}

#[cfg(test)]
mod table {
    use super::*;

    #[test]
    fn figures_become_a_table() {
        let mut table = Table::default();
        for line in [
            "FIGURE | 150 requests: ambiguous | Weft | 0",
            "FIGURE | rapid reset | HAProxy | 0.06 s, goes on",
            "FIGURE | 150 requests: ambiguous | HAProxy | 5",
        ] {
            assert!(table.take(line), "{line}");
        }
        assert!(!table.take("test result: ok") && !table.take("FIGURE | a | nobody | 1"));
        let shown = table.shown();
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[1], "150 requests: ambiguous  0     -      5", "{shown}");
        assert_eq!(lines[2], "rapid reset              -     -      0.06 s, goes on", "{shown}");
    }

    #[test]
    fn a_group_that_is_none_is_told_before_anything_is_built() {
        let said = |name: &str| wanted(&[name.to_owned()]).err().map_or(String::new(), |e| e.to_string());
        assert!(said("--x").contains("knows no --x; there are requests, "), "{}", said("--x"));
        assert_eq!(wanted(&["floods".to_owned()]).map_or(0, |groups| groups.len()), 1);
    }
}
