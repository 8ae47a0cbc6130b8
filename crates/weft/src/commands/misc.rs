//! `weft version`, `weft completion`, and the reference pages made from the code.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

/// The version of this binary.
#[derive(Args)]
#[command(after_help = "Example: weft version -o json")]
pub struct VersionArgs {
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: crate::output::Format,
}

pub fn version(args: VersionArgs) -> anyhow::Result<ExitCode> {
    let value = serde_json::json!({"version": env!("CARGO_PKG_VERSION"), "target": std::env::consts::ARCH});
    crate::output::print(args.output, &value, || {
        format!("weft {} {}", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// A completion script for your shell.
#[derive(Args)]
#[command(after_help = "Example: source <(weft completion bash)")]
pub struct CompletionArgs {
    /// The shell.
    shell: clap_complete::Shell,
}

pub fn completion(args: CompletionArgs, mut command: clap::Command) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "weft", &mut script);
    crate::output::line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Args)]
pub struct ReferenceArgs {
    /// Which page.
    page: Page,
}

#[derive(Clone, Copy, ValueEnum)]
enum Page {
    Cli,
    Xds,
    Findings,
}

pub fn reference(args: ReferenceArgs, mut command: clap::Command) -> anyhow::Result<ExitCode> {
    match args.page {
        Page::Cli => print!("{}", cli(&mut command)),
        Page::Xds => print!("{}", weft_routing::fields::docs_page()),
        Page::Findings => {
            println!(
                "# Findings\n\nThe stable codes that `weft check` prints. A code never gets another meaning.\n"
            );
            println!("| code | severity | what | so | do |\n|---|---|---|---|---|");
            for code in weft_model::codes() {
                println!(
                    "| {} | {} | {} | {} | {} |",
                    code.code, code.severity, code.title, code.meaning, code.remedy
                );
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn cli(command: &mut clap::Command) -> String {
    command.build();
    let mut text = String::from("# Commands\n\nMade from the code by `cargo xtask docs`.\n");
    for sub in command.get_subcommands_mut().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
        let help = sub.clone().term_width(100).render_long_help();
        text.push_str(&format!(
            "\n## weft {}\n\n```\n{}\n```\n",
            sub.get_name(),
            help.to_string().trim_end()
        ));
    }
    text
}
