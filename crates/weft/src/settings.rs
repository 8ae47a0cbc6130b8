//! Where a setting comes from: the flag, else the `WEFT_*` variable, else the file that `--config`
//! names, else the default. `--print-config` prints each value with its source and ends.
//!
//! A file is YAML or JSON with the flags' long names as keys. It is laid under the command line as
//! default values, so clap's own parsing, errors and types apply to it too.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches};

/// Parses the process's arguments. `Err` carries the exit status when clap has printed help or an error.
pub fn parse<C: CommandFactory + FromArgMatches>() -> Result<C, ExitCode> {
    let args: Vec<_> = std::env::args_os().collect();
    let command = C::command();
    let first = matches(command.clone(), &args)?;
    let file = match config_file(&first) {
        None => BTreeMap::new(),
        Some(path) => read(&path).map_err(|message| {
            crate::output::error(&anyhow::anyhow!(message));
            ExitCode::from(2)
        })?,
    };
    let matches = if file.is_empty() {
        first
    } else {
        let name = first.subcommand_name().unwrap_or_default().to_owned();
        let command = under(command, &name, &file).map_err(|message| {
            crate::output::error(&anyhow::anyhow!(message));
            ExitCode::from(2)
        })?;
        matches(command, &args)?
    };
    if print_wanted(&matches) {
        print(&matches, &file);
        return Err(ExitCode::SUCCESS);
    }
    C::from_arg_matches(&matches).map_err(|error| usage(&error))
}

fn matches(command: clap::Command, args: &[std::ffi::OsString]) -> Result<ArgMatches, ExitCode> {
    command.try_get_matches_from(args).map_err(|error| usage(&error))
}

fn usage(error: &clap::Error) -> ExitCode {
    // A closed pipe (`weft --help | head -1`) is not worth a word.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn config_file(matches: &ArgMatches) -> Option<String> {
    let (_, sub) = matches.subcommand()?;
    sub.try_get_one::<String>("config").ok().flatten().cloned()
}

fn print_wanted(matches: &ArgMatches) -> bool {
    matches
        .subcommand()
        .and_then(|(_, sub)| sub.try_get_one::<bool>("print_config").ok().flatten().copied())
        .unwrap_or(false)
}

fn read(path: &str) -> Result<BTreeMap<String, serde_json::Value>, String> {
    let text =
        std::fs::read_to_string(path).map_err(|e| format!("cannot read the settings file {path}: {e}"))?;
    serde_saphyr::from_str(&text).map_err(|e| format!("settings file {path}: {e}"))
}

/// Lays the file's values under one subcommand as defaults.
fn under(
    command: clap::Command,
    name: &str,
    file: &BTreeMap<String, serde_json::Value>,
) -> Result<clap::Command, String> {
    let known: Vec<(String, String)> = command
        .find_subcommand(name)
        .map(|sub| {
            sub.get_arguments()
                .filter_map(|a| Some((a.get_long()?.to_owned(), a.get_id().to_string())))
                .collect()
        })
        .unwrap_or_default();
    for key in file.keys() {
        if !known.iter().any(|(long, _)| long == key) {
            let names: Vec<&str> = known.iter().map(|(long, _)| long.as_str()).collect();
            return Err(format!(
                "the settings file names `{key}`, which `weft {name}` does not know (it knows: {})",
                names.join(", ")
            ));
        }
    }
    Ok(command.mut_subcommand(name, |mut sub| {
        for (key, value) in file {
            let Some((_, id)) = known.iter().find(|(long, _)| long == key) else { continue };
            let values: Vec<String> = match value {
                serde_json::Value::Array(items) => items.iter().map(plain).collect(),
                other => vec![plain(other)],
            };
            sub = sub.mut_arg(id, |arg| arg.default_values(values).required(false));
        }
        sub
    }))
}

fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn print(matches: &ArgMatches, file: &BTreeMap<String, serde_json::Value>) {
    let Some((_, sub)) = matches.subcommand() else { return };
    for id in sub.ids() {
        let name = id.as_str();
        // A group of arguments is listed too, and is no setting.
        if name.starts_with(|c: char| c.is_uppercase()) {
            continue;
        }
        let Some(raw) = sub.get_raw(name) else { continue };
        if name == "print_config" || name == "log" {
            continue;
        }
        let long = name.replace('_', "-");
        let source = match sub.value_source(name) {
            Some(ValueSource::CommandLine) => "flag",
            Some(ValueSource::EnvVariable) => "variable",
            _ if file.contains_key(&long) => "file",
            _ => "default",
        };
        let values: Vec<String> = raw.map(|v| v.to_string_lossy().into_owned()).collect();
        println!("{long}: {}  # {source}", values.join(", "));
    }
}
