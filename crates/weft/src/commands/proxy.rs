//! `weft proxy` and `weft agent`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use tokio_util::sync::CancellationToken;
use weft_proxy::agent::AgentConfig;
use weft_proxy::config::{AppPort, Config, Control, Limits, Locality, PortsWanted};

use super::usage;

mod datagrams;

use datagrams::{DATAGRAMS_MAX, DatagramPort};

const OUTBOUND_PORT: u16 = 15001;
const INBOUND_PORT: u16 = 15006;

/// What a proxy and an agent share: who they are and whom they join.
#[derive(Args)]
struct Member {
    /// The control plane to join, https://HOST:7701.
    #[arg(long, value_name = "URL", env = "WEFT_CONTROL")]
    control: Option<String>,
    /// The service that this is an instance of.
    #[arg(long, value_name = "NAME", env = "WEFT_SERVICE", value_parser = super::service_name)]
    service: Option<String>,
    /// The service's namespace.
    #[arg(short, long, default_value = "default", env = "WEFT_NAMESPACE")]
    namespace: String,
    /// The workload's name (default: SERVICE and five random characters, kept in the state directory).
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// A port of the app, PORT or NAME:PORT; may be repeated.
    #[arg(long = "port", value_name = "PORT", allow_negative_numbers = true)]
    ports: Vec<String>,
    /// A label of the workload, KEY=VALUE, such as version=v2; may be repeated.
    #[arg(long = "label", value_name = "K=V")]
    labels: Vec<String>,
    /// The address that other members reach this one at (default: of --inbound where there is one, else 127.0.0.1).
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// Where it runs: REGION[/ZONE[/SUBZONE]].
    #[arg(long, value_name = "PLACE", env = "WEFT_LOCALITY")]
    locality: Option<String>,
    /// The file with the one-time join token; needed for the first start only.
    #[arg(long, value_name = "FILE", env = "WEFT_TOKEN_FILE")]
    token: Option<PathBuf>,
    /// The state directory: identity and agent.sock.
    #[arg(long, value_name = "DIR", env = "WEFT_STATE")]
    state: Option<PathBuf>,
    /// A YAML or JSON file of these settings, keys named as the flags.
    #[arg(long, value_name = "FILE", env = "WEFT_CONFIG")]
    config: Option<String>,
    /// Print each setting and where it comes from, and end.
    #[arg(long)]
    print_config: bool,
}

/// One proxy: a service's sidecar.
#[derive(Args)]
#[command(
    after_help = "Example: weft proxy --control https://10.0.0.1:7701 --service be1 --port 8080 --token be1.token"
)]
pub struct ProxyArgs {
    /// A standard Envoy v3 bootstrap, instead of --control and --service.
    #[arg(short = 'c', long = "bootstrap", value_name = "FILE", conflicts_with_all = ["control", "service"])]
    bootstrap: Option<PathBuf>,
    #[command(flatten)]
    member: Member,
    /// Where the app listens (default: --address when that is a loopback address, else 127.0.0.1).
    #[arg(long, value_name = "IP")]
    app_address: Option<IpAddr>,
    /// Threads that carry traffic (default: as many as this process may use CPUs; of a sidecar's two at most).
    #[arg(long, value_name = "N", env = "WEFT_WORKERS", value_parser = workers, allow_negative_numbers = true)]
    workers: Option<usize>,
    #[command(flatten)]
    limits: LimitArgs,
    /// The app's own calls go to this address (default: port 15001 of --address if that is loopback, else of
    /// 127.0.0.1). Whoever reaches it calls others as this workload: keep strangers away from any other address.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "bootstrap")]
    outbound: Option<SocketAddr>,
    /// Traffic from other members comes to this address (default: port 15006 of --address).
    #[arg(long, value_name = "ADDRESS", conflicts_with = "bootstrap")]
    inbound: Option<SocketAddr>,
    /// The app's datagrams to [ADDRESS:]PORT go to a port with protocol udp of the ExternalService NAME; may be
    /// repeated (ADDRESS: --address if that is loopback, else 127.0.0.1). They are not encrypted.
    #[arg(
        long = "udp",
        value_name = "[ADDRESS:]PORT=NAME:PORT",
        value_parser = DatagramPort::parse,
        conflicts_with = "bootstrap",
        allow_negative_numbers = true
    )]
    datagrams: Vec<DatagramPort>,
    /// Admin, on loopback.
    #[arg(long, default_value = "127.0.0.1:15000", value_name = "ADDRESS")]
    admin: SocketAddr,
    /// Metrics and /ready.
    #[arg(long, default_value = "127.0.0.1:15020", value_name = "ADDRESS")]
    metrics: SocketAddr,
    /// Print the chosen ports as one JSON line on stdout.
    #[arg(long)]
    print_ports: bool,
}

/// What all clients together may have.
#[derive(Args)]
struct LimitArgs {
    /// Resident memory, such as 256Mi: at 85 % idle connections are closed, at 92 % no new ones are taken, at 95 %
    /// requests get 503. Limits of control groups hold in any case.
    #[arg(long, value_name = "SIZE", env = "WEFT_MEMORY_LIMIT", value_parser = size, allow_negative_numbers = true)]
    memory_limit: Option<u64>,
    /// Open connections of clients, in all (0: no limit; default: half of the file descriptors).
    #[arg(long, value_name = "N", env = "WEFT_MAX_CONNECTIONS", value_parser = count, allow_negative_numbers = true)]
    max_connections: Option<u32>,
    /// Open connections of clients to one listener (0: no limit).
    #[arg(
        long,
        value_name = "N",
        default_value_t = 10_000,
        env = "WEFT_MAX_CONNECTIONS_PER_LISTENER",
        value_parser = count,
        allow_negative_numbers = true
    )]
    max_connections_per_listener: u32,
    /// Open connections from one IPv4 address or one /64 of IPv6 (0: no limit; default: a quarter of a listener's, not
    /// for clients of this machine). The app's own calls are never counted so.
    #[arg(
        long,
        value_name = "N",
        env = "WEFT_MAX_CONNECTIONS_PER_SOURCE",
        value_parser = count,
        allow_negative_numbers = true
    )]
    max_connections_per_source: Option<u32>,
}

/// A host's identity agent: SPIFFE Workload API and SDS on a Unix socket.
#[derive(Args)]
#[command(
    after_help = "Example: weft agent --control https://10.0.0.1:7701 --service be2 --port 8080 --kind envoy --token be2.token"
)]
pub struct AgentArgs {
    #[command(flatten)]
    member: Member,
    /// What serves the traffic beside this agent: envoy, grpc, or none.
    #[arg(long, default_value = "none", value_parser = ["envoy", "grpc", "none"])]
    kind: String,
    /// The port at which that proxy takes members' traffic.
    #[arg(long, default_value_t = 15006, value_parser = clap::value_parser!(u16).range(1..))]
    inbound_port: u16,
    /// Print the socket as one JSON line on stdout, once it is there.
    #[arg(long)]
    print_ports: bool,
}

pub fn run(args: ProxyArgs) -> anyhow::Result<ExitCode> {
    let state = super::state_dir(args.member.state.as_ref());
    let mut config = match &args.bootstrap {
        Some(path) => weft_proxy::bootstrap::load(path, state)?,
        None => joined(&args.member, args.inbound, state)?,
    };
    let address = config.node.address;
    let near = near(address);
    let sidecar = args.bootstrap.is_none();
    config.workers = args.workers.unwrap_or_else(|| weft_proxy::cpus::workers(sidecar).max(1));
    config.limits = Limits {
        memory: args.limits.memory_limit,
        connections: args.limits.max_connections,
        connections_per_listener: args.limits.max_connections_per_listener,
        connections_per_source: args.limits.max_connections_per_source,
        release_memory: Some(crate::allocator::release),
    };
    config.node.app_address = args.app_address.unwrap_or(near);
    if args.datagrams.len() > DATAGRAMS_MAX {
        return Err(usage(format!(
            "--udp: {} are too many; a proxy takes {DATAGRAMS_MAX} at most",
            args.datagrams.len()
        )));
    }
    for one in &args.datagrams {
        let wanted = one.at(near);
        if config.node.datagrams.iter().any(|other| other.at == wanted.at) {
            return Err(usage(format!(
                "--udp: {} is given twice; give each service a port of its own",
                wanted.at
            )));
        }
        config.node.datagrams.push(wanted);
    }
    if args.bootstrap.is_none() {
        config.ports = listeners(&args, address);
    }
    if args.print_ports {
        config.on_ready = Some(Box::new(|ports| {
            println!("{}", serde_json::to_string(&ports).unwrap_or_default());
        }));
    }
    weft_proxy::run(config)?;
    Ok(ExitCode::SUCCESS)
}

/// Where others reach this member, when they are told nothing else.
fn reached_at(told: Option<IpAddr>, inbound: Option<SocketAddr>) -> anyhow::Result<IpAddr> {
    match (told, inbound.map(|inbound| inbound.ip())) {
        (Some(told), _) if told.is_unspecified() => Err(usage(format!(
            "--address {told}: nobody is reached there; write the address that others use"
        ))),
        (None, Some(inbound)) if inbound.is_unspecified() => Err(usage(format!(
            "--inbound takes traffic at every address: say with --address which one others use, not {inbound}"
        ))),
        (Some(address), _) | (None, Some(address)) => Ok(address),
        (None, None) => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
    }
}

fn listeners(args: &ProxyArgs, address: IpAddr) -> PortsWanted {
    PortsWanted {
        outbound: Some(args.outbound.unwrap_or(SocketAddr::new(near(address), OUTBOUND_PORT))),
        inbound: Some(args.inbound.unwrap_or(SocketAddr::new(address, INBOUND_PORT))),
        admin: Some(args.admin),
        metrics: Some(args.metrics),
    }
}

/// Where only this machine reaches what listens.
pub(super) fn near(address: IpAddr) -> IpAddr {
    if address.is_loopback() { address } else { IpAddr::V4(Ipv4Addr::LOCALHOST) }
}

fn joined(member: &Member, inbound: Option<SocketAddr>, state: PathBuf) -> anyhow::Result<Config> {
    let Some(service) = &member.service else {
        return Err(usage("which service is this? give --service NAME, or a bootstrap with -c FILE"));
    };
    let Some(control) = &member.control else {
        return Err(usage(
            "which control plane? give --control https://HOST:7701, or a bootstrap with -c FILE",
        ));
    };
    let mut config = Config::new(&member.namespace, service, state);
    config.node.name.clone_from(&member.name);
    config.node.address = reached_at(member.address, inbound)?;
    config.node.labels = labels(&member.labels)?;
    config.node.ports = member.ports.iter().map(|text| port(text)).collect::<anyhow::Result<_>>()?;
    config.node.locality = locality(member.locality.as_deref());
    config.control = Some(Control { address: control.clone(), token: token(member)? });
    Ok(config)
}

fn token(member: &Member) -> anyhow::Result<Option<String>> {
    let Some(path) = &member.token else { return Ok(None) };
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the join token {}", path.display()))?;
    Ok(Some(text.trim().to_owned()))
}

fn labels(pairs: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    pairs
        .iter()
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(usage(format!("--label {pair}: write KEY=VALUE, such as version=v2"))),
        })
        .collect()
}

fn port(text: &str) -> anyhow::Result<AppPort> {
    let (name, number) = text.rsplit_once(':').unwrap_or(("", text));
    match number.parse::<u16>() {
        Ok(port) if port > 0 => Ok(AppPort { name: name.to_owned(), port }),
        _ => Err(usage(format!("--port {text}: write a port from 1 to 65535, or NAME:PORT"))),
    }
}

/// Less than a proxy has before its first connection would be overload for ever.
const MEMORY_MIN: u64 = 32 << 20;
/// Each is a thread with its own listeners; no machine has more CPUs for one process.
const WORKERS_MAX: usize = 1024;

/// Bytes, or a number of Ki, Mi, Gi, as Kubernetes writes them.
fn size(text: &str) -> Result<u64, String> {
    let units = [("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30), ("", 1)];
    let split = units.iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)));
    let bytes = split
        .and_then(|(number, bytes): (&str, u64)| number.parse::<u64>().ok()?.checked_mul(bytes))
        .ok_or("write a whole number of bytes, Ki, Mi or Gi, such as 256Mi")?;
    if bytes < MEMORY_MIN {
        return Err(format!(
            "{bytes} bytes are less than a proxy needs: 32Mi at least (a number without a unit is bytes)"
        ));
    }
    Ok(bytes)
}

/// A limit on how many there may be.
fn count(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("write a whole number up to {}, or 0 for no limit", u32::MAX))
}

fn workers(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=WORKERS_MAX).contains(number));
    number.ok_or_else(|| {
        format!("write a whole number from 1 to {WORKERS_MAX}, or leave it out for as many as there are CPUs")
    })
}

fn locality(text: Option<&str>) -> Locality {
    let mut parts = text.unwrap_or_default().splitn(3, '/').map(str::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    Locality { region: next(), zone: next(), subzone: next() }
}

pub fn run_agent(args: AgentArgs) -> anyhow::Result<ExitCode> {
    let state = super::state_dir(args.member.state.as_ref());
    let config = joined(&args.member, None, state)?;
    let Some(control) = config.control else {
        return Err(usage("which control plane? give --control https://HOST:7701"));
    };
    let mut node = config.node;
    node.kind = args.kind;
    let stop = CancellationToken::new();
    let agent = weft_proxy::agent::run(AgentConfig {
        node,
        control,
        state: config.state,
        inbound_port: args.inbound_port,
        socket: None,
        join_as_workload: true,
        stop: stop.clone(),
        on_ready: Some(Box::new(move |ready| {
            if args.print_ports {
                println!("{}", serde_json::json!({"agent": ready.socket}));
            } else {
                eprintln!("weft agent: serving {}", ready.socket.display());
            }
        })),
    });
    super::block_on(async move {
        tokio::spawn(async move {
            super::told_to_stop().await;
            stop.cancel();
        });
        agent.await
    })??;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{AgentArgs, ProxyArgs};

    #[derive(Parser)]
    struct ProxyLine {
        #[command(flatten)]
        args: ProxyArgs,
    }

    #[derive(Parser)]
    struct AgentLine {
        #[command(flatten)]
        _args: AgentArgs,
    }

    #[test]
    fn sizes_are_as_kubernetes_writes_them() {
        let right = [("67108864", 1 << 26), ("65536Ki", 1 << 26), ("256Mi", 1 << 28), ("2Gi", 1 << 31)];
        for (text, bytes) in right {
            assert_eq!(super::size(text), Ok(bytes), "{text}");
        }
        for text in ["", "0", "Mi", "1.5Gi", "1.5G", "256MB", "256", "-1", "99999999999Gi", "lots"] {
            assert!(super::size(text).is_err(), "{text}");
        }
        assert!(super::size("256").unwrap_err().contains("without a unit is bytes"));
    }

    /// Each limit, given what it can't be: the message names the flag, the value and what is allowed.
    #[test]
    fn wrong_limits_are_told_by_flag_value_and_range() {
        let count = "a whole number up to 4294967295, or 0 for no limit";
        let wrong = ["", "-1", "1.5G", "99999999999999999999", "256Zi", "lots"];
        for (flag, allowed, also) in [
            ("--memory-limit", "such as 256Mi", &["17179869184Gi"][..]),
            ("--max-connections", count, &["256Mi"]),
            ("--max-connections-per-listener", count, &["256Mi"]),
            ("--max-connections-per-source", count, &["256Mi"]),
            ("--workers", "a whole number from 1 to 1024", &["0", "1025"]),
        ] {
            for value in wrong.iter().chain(also) {
                for line in [vec!["proxy".to_owned(), flag.to_owned(), (*value).to_owned()], {
                    vec!["proxy".to_owned(), format!("{flag}={value}")]
                }] {
                    let Err(said) = ProxyLine::try_parse_from(&line) else { panic!("{line:?} is taken") };
                    let said = said.to_string();
                    for word in [flag, &format!("'{value}'"), allowed] {
                        assert!(said.contains(word), "{line:?} does not say {word:?}: {said}");
                    }
                }
            }
        }
        for flag in ["--max-connections", "--max-connections-per-listener", "--max-connections-per-source"] {
            assert!(ProxyLine::try_parse_from(["proxy", flag, "0"]).is_ok(), "{flag} 0 is no limit");
        }
        let taken = ProxyLine::try_parse_from(["proxy", "--workers", "3", "--memory-limit", "64Mi"]).unwrap();
        assert_eq!((taken.args.workers, taken.args.limits.memory_limit), (Some(3), Some(64 << 20)));
    }

    #[test]
    fn what_goes_out_is_taken_on_loopback() {
        for (line, listeners) in [
            (&[][..], Ok("127.0.0.1 127.0.0.1:15001 127.0.0.1:15006")),
            (&["--address", "10.0.0.5"], Ok("10.0.0.5 127.0.0.1:15001 10.0.0.5:15006")),
            (&["--address", "127.0.0.7"], Ok("127.0.0.7 127.0.0.7:15001 127.0.0.7:15006")),
            (&["--inbound", "10.0.0.5:80"], Ok("10.0.0.5 127.0.0.1:15001 10.0.0.5:80")),
            (
                &["--inbound", "10.0.0.5:80", "--outbound", "10.0.0.6:81"],
                Ok("10.0.0.5 10.0.0.6:81 10.0.0.5:80"),
            ),
            (
                &["--inbound", "0.0.0.0:0", "--address", "192.0.2.1"],
                Ok("192.0.2.1 127.0.0.1:15001 0.0.0.0:0"),
            ),
            (&["--inbound", "[::]:80"], Err("say with --address which one others use, not ::")),
            (&["--address", "0.0.0.0"], Err("--address 0.0.0.0: nobody is reached there")),
        ] {
            let args =
                ProxyLine::try_parse_from([&["proxy"], line].concat()).unwrap_or_else(|e| panic!("{e}")).args;
            let got = super::reached_at(args.member.address, args.inbound).map(|address| {
                let ports = super::listeners(&args, address);
                format!("{address} {} {}", ports.outbound.unwrap(), ports.inbound.unwrap())
            });
            match (got, listeners) {
                (Ok(got), Ok(wanted)) => assert_eq!(got, wanted, "{line:?}"),
                (Err(said), Err(words)) => assert!(said.to_string().contains(words), "{line:?}: {said}"),
                (got, wanted) => panic!("{line:?}: {got:?}, not {wanted:?}"),
            }
        }
    }

    #[test]
    fn port_0_is_no_port_to_reach_anybody_at() {
        let Err(said) = AgentLine::try_parse_from(["agent", "--inbound-port", "0"]) else { panic!("taken") };
        assert!(said.to_string().contains("1..=65535"), "{said}");
    }

    #[test]
    fn ports_and_labels_say_what_they_want() {
        assert_eq!(super::port("http:8080").unwrap().name, "http");
        assert_eq!(super::port("8080").unwrap().port, 8080);
        assert!(super::port("0").is_err() && super::port("x").is_err() && super::port("70000").is_err());
        assert!(super::port("-1").is_err() && super::port("").is_err());
        assert!(super::labels(&["version".into()]).is_err());
        assert_eq!(super::labels(&["a=b=c".into()]).unwrap()["a"], "b=c");
    }
}
