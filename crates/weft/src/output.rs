//! How answers look: tables, JSON, YAML, and one way to print an error.

use std::io::{IsTerminal, Write};

use clap::ValueEnum;
use serde_json::Value;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub enum Format {
    #[default]
    Table,
    Json,
    Yaml,
}

/// Prints `value` as JSON or YAML, or calls `table` for the human form.
pub fn print(format: Format, value: &Value, table: impl FnOnce() -> String) -> anyhow::Result<()> {
    match format {
        Format::Table => write(&table()),
        Format::Json => write(&serde_json::to_string_pretty(value)?),
        Format::Yaml => write(&serde_saphyr::to_string(value)?),
    }
}

fn write(text: &str) -> anyhow::Result<()> {
    line(text.trim_end())
}

/// One line, or several, on stdout.
pub fn line(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}") {
        // `weft stat | head` closes the pipe; that is the reader's right.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Rows under a header, columns aligned, no frame: easy to read and to cut.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(header.iter().map(|h| h.to_uppercase()));
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// One error, its causes after it, on stderr.
pub fn error(error: &anyhow::Error) {
    let red = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let (on, off) = if red { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    let mut text = format!("{on}error{off}: {error}");
    let mut last = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // A message that already holds its cause is not said twice.
        if !last.contains(&cause) {
            text.push_str(&format!(": {cause}"));
        }
        last = cause;
    }
    let _ = writeln!(std::io::stderr(), "{text}");
}
