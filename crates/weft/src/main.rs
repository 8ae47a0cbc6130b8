//! The `weft` binary: arguments in, one module per command, exit status out.
//!
//! Nothing of the mesh is decided here. A command reads its settings (flag, then `WEFT_*` variable,
//! then file), calls the crate that does the work, and prints the answer.
//! Exit status: 0 done, 1 failed or unhealthy, 2 usage.

mod allocator;
mod client;
mod commands;
mod files;
mod output;
mod settings;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// A service mesh in one binary: control plane, proxy, certificate authority, history and CLI.
#[derive(Parser)]
#[command(name = "weft", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "Example: weft demo --for 20s\nMore: weft COMMAND --help")]
struct Cli {
    /// What to log, as `level` or `crate=level,…` (also: WEFT_LOG).
    #[arg(
        long,
        global = true,
        env = "WEFT_LOG",
        default_value = "warn",
        value_name = "FILTER",
        hide_default_value = true,
        value_parser = log_filter
    )]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(commands::demo::DemoArgs),
    Control(commands::control::ControlArgs),
    Proxy(commands::proxy::ProxyArgs),
    Agent(commands::proxy::AgentArgs),
    Apply(commands::objects::ApplyArgs),
    Get(commands::objects::GetArgs),
    Describe(commands::objects::DescribeArgs),
    Delete(commands::objects::DeleteArgs),
    Check(commands::check::CheckArgs),
    Status(commands::questions::StatusArgs),
    Stat(commands::questions::StatArgs),
    Edges(commands::questions::EdgesArgs),
    Prove(commands::prove::ProveArgs),
    Explain(commands::explain::ExplainArgs),
    Identity(commands::identity::IdentityArgs),
    Bootstrap(commands::bootstrap::BootstrapArgs),
    Audit(commands::audit::AuditArgs),
    Completion(commands::misc::CompletionArgs),
    Version(commands::misc::VersionArgs),
    /// One of the demo's small services (started by `weft demo`).
    #[command(hide = true)]
    Service(commands::demo::service::ServiceArgs),
    /// The reference pages, made from the code (used by `cargo xtask docs`).
    #[command(hide = true)]
    Reference(commands::misc::ReferenceArgs),
}

fn main() -> ExitCode {
    let cli = match settings::parse::<Cli>() {
        Ok(cli) => cli,
        Err(exit) => return exit,
    };
    init_log(&cli.log);
    commands::follow_parent();
    commands::keep_memory_private();
    let outcome = match cli.command {
        Command::Proxy(args) => commands::proxy::run(args),
        Command::Agent(args) => commands::proxy::run_agent(args),
        Command::Completion(args) => commands::misc::completion(args, Cli::command()),
        Command::Version(args) => commands::misc::version(args),
        Command::Reference(args) => commands::misc::reference(args, Cli::command()),
        command => commands::block_on(run(command)).map_err(Into::into).flatten(),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            output::error(&error);
            if error.is::<commands::Usage>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Demo(args) => commands::demo::run(args).await,
        Command::Control(args) => commands::control::run(args).await,
        Command::Apply(args) => commands::objects::apply(args).await,
        Command::Get(args) => commands::objects::get(args).await,
        Command::Describe(args) => commands::objects::describe(args).await,
        Command::Delete(args) => commands::objects::delete(args).await,
        Command::Check(args) => commands::check::run(args).await,
        Command::Status(args) => commands::questions::status(args).await,
        Command::Stat(args) => commands::questions::stat(args).await,
        Command::Edges(args) => commands::questions::edges(args).await,
        Command::Prove(args) => commands::prove::run(args).await,
        Command::Explain(args) => commands::explain::run(args).await,
        Command::Identity(args) => commands::identity::run(args).await,
        Command::Audit(args) => commands::audit::run(args).await,
        Command::Bootstrap(args) => commands::bootstrap::run(args).await,
        Command::Service(args) => commands::demo::service::run(args).await,
        // The other commands own their threads and were taken in `main`.
        Command::Proxy(_)
        | Command::Agent(_)
        | Command::Completion(_)
        | Command::Version(_)
        | Command::Reference(_) => Ok(ExitCode::SUCCESS),
    }
}

/// Accepts what [`init_log`] understands. tracing takes any word for the name of a module, so that a mistyped level
/// would silence everything: a word alone must be a level.
fn log_filter(text: &str) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = |word: &str| LEVELS.contains(&word.to_ascii_lowercase().as_str());
    let wrong = |part: &str| {
        let levels = LEVELS.join(", ");
        format!("`{part}` is no level; write one of {levels}, or crate=level, joined by commas")
    };
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
        if !is_level(level) {
            return Err(wrong(part));
        }
    }
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(wrong(text)),
    }
}

fn init_log(filter: &str) {
    use std::io::IsTerminal;
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let ansi = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi).init();
}
