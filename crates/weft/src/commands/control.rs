//! `weft control`: the control plane, until it is told to stop; and who may use its API.

mod access;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

/// The control plane: API, xDS, certificate authority, history and DNS.
#[derive(Args)]
#[command(after_help = "Example: weft control --state /var/lib/weft", args_conflicts_with_subcommands = true)]
pub struct ControlArgs {
    #[command(subcommand)]
    what: Option<What>,
    /// The state directory (default: $STATE_DIRECTORY, else $XDG_STATE_HOME/weft).
    #[arg(long, value_name = "DIR", env = "WEFT_STATE")]
    state: Option<PathBuf>,
    /// Where objects are stored: a file's path (default: store.redb in the state directory).
    #[arg(long, value_name = "URL", env = "WEFT_STORE")]
    store: Option<String>,
    /// A YAML or JSON file of these settings, keys named as the flags.
    #[arg(long, value_name = "FILE", env = "WEFT_CONFIG")]
    config: Option<String>,
    /// API and console; port 0 for a free one.
    #[arg(long, default_value = "127.0.0.1:7700", value_name = "ADDRESS", env = "WEFT_API")]
    api: SocketAddr,
    /// xDS and the proxies' own link; port 0 for a free one.
    #[arg(long, default_value = "127.0.0.1:7701", value_name = "ADDRESS", env = "WEFT_XDS")]
    xds: SocketAddr,
    /// DNS over UDP and TCP; port 0 for a free one.
    #[arg(long, default_value = "127.0.0.1:7753", value_name = "ADDRESS", env = "WEFT_DNS")]
    dns: SocketAddr,
    /// The mesh's trust domain; fixed by the first start.
    #[arg(long, value_name = "NAME", env = "WEFT_TRUST_DOMAIN")]
    trust_domain: Option<String>,
    /// The address that proxies and users on other machines reach this one at.
    #[arg(long, value_name = "IP", env = "WEFT_ADVERTISE")]
    advertise: Option<IpAddr>,
    /// Print the chosen ports as one JSON line on stdout.
    #[arg(long)]
    print_ports: bool,
    /// Print each setting and where it comes from, and end.
    #[arg(long)]
    print_config: bool,
}

#[derive(Subcommand)]
enum What {
    Access(access::AccessArgs),
}

pub async fn run(args: ControlArgs) -> anyhow::Result<ExitCode> {
    if let Some(What::Access(args)) = args.what {
        return access::run(args).await;
    }
    let state = super::state_dir(args.state.as_ref());
    if !super::has_parent() {
        // A control plane that a person started makes a demo's leftovers a real mesh: no demo may empty it again.
        let _ = std::fs::remove_file(state.join(super::demo::state::MARKER));
    }
    let running = weft_control::start(weft_control::Config {
        state,
        api: args.api,
        xds: args.xds,
        dns: args.dns,
        store: args.store,
        trust_domain: args.trust_domain,
        advertise: args.advertise,
    })
    .await?;
    if args.print_ports {
        let port = |address: SocketAddr| address.port();
        println!(
            "{}",
            serde_json::json!({"api": port(running.api), "xds": port(running.xds), "dns": port(running.dns)})
        );
    } else {
        eprintln!("weft control: API http://{}, xDS {}, DNS {}", running.api, running.xds, running.dns);
    }
    super::told_to_stop().await;
    running.shutdown();
    running.stopped().await;
    Ok(ExitCode::SUCCESS)
}
