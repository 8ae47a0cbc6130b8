//! `weft demo`: the five services of the whitepaper's Figure 3, meshed, on this machine, as an ordinary
//! user. The parent only starts processes, plays the user, and asks the control plane's query API for
//! the figures that it prints; each proxy, each service and the control plane is a process of its own.

mod client;
mod load;
mod plan;
pub mod service;
pub mod state;
mod summary;
mod supervise;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use tokio::sync::mpsc;

use self::load::Load;
use self::plan::Instance;
use self::supervise::{Kept, Recipe, keep};
use crate::client::Client;

/// The five services of the whitepaper's Figure 3, meshed, here: no root, no Kubernetes.
///
/// Without --for it runs until Ctrl-C; with it, a JSON summary is the last thing printed.
#[derive(Args)]
#[command(after_help = "Example: weft demo --for 20s")]
pub struct DemoArgs {
    /// End after this long and print a JSON summary (20s, 5m).
    #[arg(long = "for", value_name = "DURATION", value_parser = super::duration)]
    duration: Option<Duration>,
    /// Start no load: send requests yourself, to the address that is printed.
    #[arg(long)]
    no_load: bool,
    /// The state directory, made anew by each demo (default: the standard one).
    #[arg(long, value_name = "DIR", env = "WEFT_STATE")]
    state: Option<PathBuf>,
    /// The API's address; port 0 for a free one.
    #[arg(long, default_value = "127.0.0.1:7700", value_name = "ADDRESS")]
    api: std::net::SocketAddr,
}

struct Mesh {
    control: Kept,
    proxies: Vec<Kept>,
    services: Vec<Kept>,
    client: Client,
    load: Arc<Load>,
    fe: std::net::SocketAddr,
    apps: Vec<std::net::SocketAddr>,
    api: String,
    said: mpsc::UnboundedReceiver<String>,
    _block: plan::Block,
}

pub async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let since = service::unix_ms() / 1000;
    let state = super::state_dir(args.state.as_ref());
    state::prepare(&state)?;
    let mut mesh = match start(&args, &state).await {
        Ok(mesh) => mesh,
        Err(error) => {
            return Err(error
                .context(format!("the demo did not start; logs are in {}", state.join("logs").display())));
        }
    };
    await_current(&mesh.client, mesh.proxies.len()).await;
    await_apps(&mesh.apps).await;
    let served = mesh.load.first(Duration::from_secs(20)).await;
    let startup = started.elapsed();
    let playing = Instant::now();
    let mut played = Duration::ZERO;
    if served {
        story(&mesh, &state, startup, args.duration.is_some());
        if !args.no_load {
            mesh.load.start();
        }
        play(&mut mesh, args.duration).await;
        played = playing.elapsed();
    }
    mesh.load.stop().await;
    // The proxies leave first: their last measurements are durable when they have ended.
    futures_util::future::join_all(mesh.proxies.drain(..).map(|p| p.stop(Duration::from_secs(9)))).await;
    let answer = summary::ask(&mesh.client, since, played, startup, &mesh.load).await;
    futures_util::future::join_all(mesh.services.drain(..).map(|s| s.stop(Duration::from_secs(3)))).await;
    mesh.control.stop(Duration::from_secs(5)).await;
    if !served {
        bail!("no request went through the mesh within 20 s; logs are in {}", state.join("logs").display());
    }
    let answer = answer?;
    if args.duration.is_some() {
        println!("{}", serde_json::to_string_pretty(&answer)?);
    }
    Ok(ExitCode::SUCCESS)
}

async fn start(args: &DemoArgs, state: &Path) -> anyhow::Result<Mesh> {
    let block = plan::claim_block()?;
    let base = block.base;
    let instances = plan::instances(base);
    let (voice, said) = supervise::voice();
    let recipe = |name: &str, args: Vec<String>, env: Vec<(String, String)>, prints_ports| Recipe {
        name: name.to_owned(),
        args: args.into_iter().map(Into::into).collect(),
        env,
        prints_ports,
        log: state.join("logs").join(format!("{}.log", name.replace("'s", "").replace(' ', "-"))),
    };
    let text = |path: PathBuf| path.to_string_lossy().into_owned();

    let api = state::free_or(args.api);
    let control_args = |api: String, xds: String, dns: String| {
        [
            "control",
            "--print-ports",
            "--state",
            &text(state.to_path_buf()),
            "--api",
            &api,
            "--xds",
            &xds,
            "--dns",
            &dns,
        ]
        .map(String::from)
        .to_vec()
    };
    // A control plane that is started again must come back on the same ports: so they are chosen now.
    let (xds, dns) =
        (state::free_or(([127, 0, 0, 1], 7701).into()), state::free_or(([127, 0, 0, 1], 7753).into()));
    let control = keep(
        recipe(
            "the control plane",
            control_args(api.to_string(), xds.to_string(), dns.to_string()),
            vec![],
            true,
        ),
        voice.clone(),
    )
    .await?;
    let client = Client::from_state(state)?;
    let be3 = state::partner_certificate(state)?;
    crate::commands::objects::apply_text(&client, "demo.yaml", &plan::objects(base, &be3.ca_pem))
        .await
        .context("cannot apply the demo's objects")?;

    let mut starting = Vec::new();
    for instance in &instances {
        let mut args = vec![
            "service".into(),
            "--name".into(),
            instance.service.into(),
            "--version".into(),
            instance.version.into(),
        ];
        args.extend([
            "--listen".into(),
            instance.app().to_string(),
            "--fail-every".into(),
            instance.fails_every.to_string(),
        ]);
        args.extend([
            "--ledger".into(),
            text(state.join("ledger").join(format!("{}.jsonl", instance.service))),
        ]);
        for url in instance.calls {
            args.extend(["--call".into(), (*url).to_owned()]);
        }
        if !instance.meshed {
            args.extend(["--tls".into(), text(be3.chain_and_key.clone())]);
        }
        let env = vec![("HTTP_PROXY".to_owned(), format!("http://{}", instance.port(15001)))];
        starting.push((false, recipe(instance.name, args, env, false)));
        if instance.meshed {
            let args = proxy_args(instance, &client, state, xds).await?;
            starting.push((true, recipe(&format!("{}'s proxy", instance.name), args, vec![], true)));
        }
    }
    let kept = futures_util::future::try_join_all(starting.into_iter().map(|(proxy, recipe)| {
        let voice = voice.clone();
        async move { keep(recipe, voice).await.map(|kept| (proxy, kept)) }
    }))
    .await?;
    let (proxies, services): (Vec<_>, Vec<_>) = kept.into_iter().partition(|(proxy, _)| *proxy);
    let fe = instances.iter().find(|i| i.service == "fe").map_or_else(|| instances[0].app(), Instance::app);
    Ok(Mesh {
        control,
        proxies: proxies.into_iter().map(|(_, kept)| kept).collect(),
        services: services.into_iter().map(|(_, kept)| kept).collect(),
        client,
        load: Load::new(fe),
        fe,
        apps: instances.iter().map(Instance::app).collect(),
        api: format!("http://{api}"),
        said,
        _block: block,
    })
}

/// Waits until every service accepts connections.
async fn await_apps(apps: &[std::net::SocketAddr]) {
    let deadline = Instant::now() + Duration::from_secs(10);
    for app in apps {
        while Instant::now() < deadline && tokio::net::TcpStream::connect(app).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Waits until every proxy has joined and has the configuration that names all the others: a request before that is
/// answered 503 by its caller's proxy, and counted.
async fn await_current(client: &Client, proxies: usize) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut seen = 0;
    while Instant::now() < deadline && seen < 2 {
        seen = if all_current(client, proxies).await.unwrap_or(false) { seen + 1 } else { 0 };
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn all_current(client: &Client, proxies: usize) -> anyhow::Result<bool> {
    let workloads = client.get("/apis/weft.dev/v1/namespaces/default/workloads").await?;
    let number = |value: &serde_json::Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
    let joined = workloads["items"].as_array().map_or(0, Vec::len);
    let written = number(&workloads["metadata"]["resourceVersion"]);
    let status = client.get("/query/v1/status").await?;
    let rows = status["proxies"].as_array().map_or(&[][..], Vec::as_slice);
    let current = |p: &serde_json::Value| {
        p["connected"] == true
            && p["acked"].as_str().is_some_and(|acked| !acked.is_empty())
            && p["acked"] == p["latest"]
    };
    Ok(joined == proxies
        && number(&status["revision"]) >= written
        && rows.len() == proxies
        && rows.iter().all(current))
}

async fn proxy_args(
    instance: &Instance,
    client: &Client,
    state: &Path,
    xds: std::net::SocketAddr,
) -> anyhow::Result<Vec<String>> {
    let dir = state.join("proxies").join(instance.name);
    crate::files::private_dir(&dir)?;
    let token = client
        .post(
            "/query/v1/token",
            &serde_json::json!({"service": instance.service, "namespace": "default", "ttl": "600s"}),
        )
        .await?;
    let token_file = dir.join("token");
    crate::files::write_private(
        &token_file,
        token["token"].as_str().context("the control plane gave no token")?,
    )?;
    let at = |port| instance.port(port).to_string();
    let mut args: Vec<String> = ["proxy", "--print-ports", "--workers", "1"].map(String::from).to_vec();
    for (flag, value) in [
        ("--control", format!("https://{xds}")),
        ("--service", instance.service.to_owned()),
        ("--name", instance.name.to_owned()),
        ("--port", plan::APP_PORT.to_string()),
        ("--label", format!("version={}", instance.version)),
        ("--address", instance.address.to_string()),
        ("--admin", at(15000)),
        ("--outbound", at(15001)),
        ("--inbound", at(15006)),
        ("--metrics", at(15020)),
        ("--state", dir.to_string_lossy().into_owned()),
        ("--token", token_file.to_string_lossy().into_owned()),
    ] {
        args.extend([flag.to_owned(), value]);
    }
    Ok(args)
}

/// Runs until the time is up or Ctrl-C, saying what happens.
async fn play(mesh: &mut Mesh, duration: Option<Duration>) {
    let end = async {
        match duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(end);
    let told = super::told_to_stop();
    tokio::pin!(told);
    let live = std::io::stderr().is_terminal();
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            () = &mut end => break,
            () = &mut told => { eprintln!("\nending the demo …"); break }
            Some(word) = mesh.said.recv() => eprintln!("{}{word}", if live { "\r\x1b[K" } else { "" }),
            _ = tick.tick(), if live => {
                if let Ok(line) = summary::rates(&mesh.client, mesh.load.sent.load(Ordering::Relaxed)).await {
                    eprint!("\r\x1b[K{line}");
                }
            }
        }
    }
    if live {
        eprintln!();
    }
}

fn story(mesh: &Mesh, state: &Path, startup: Duration, short: bool) {
    let at =
        if state == super::state_dir(None) { String::new() } else { format!(" --state {}", state.display()) };
    eprintln!(
        "Figure 3 is running, meshed, since {} ms: fe calls be1 and be4; be1 calls be2 and be3.",
        startup.as_millis()
    );
    eprintln!(
        "be3 is outside the mesh and speaks TLS only; be1 is v1 and v2, split 90/10; be4 fails one request in {}.",
        plan::BE4_FAILS_EVERY
    );
    if short {
        return;
    }
    eprintln!("\n  the front end     curl http://{}/", mesh.fe);
    eprintln!("  the API           {}  (token in {})", mesh.api, state.join("admin.token").display());
    eprintln!("\nTry in a second terminal:");
    eprintln!("  weft stat be4 --since 30m --by caller,code{at}     how many 500s came from be4?");
    eprintln!("  weft edges{at}                                     who calls whom, with what encryption");
    eprintln!(
        "  weft status{at}                                    each proxy: version, certificate, errors"
    );
    eprintln!("  sudo weft prove --state {}   is it encrypted? asked of the wire", state.display());
    eprintln!(
        "  weft get httproute be1 -o yaml{at}                 the split: edit it, apply it, watch it follow"
    );
    eprintln!("  kubectl --kubeconfig {} get svc\n", state.join("kubeconfig").display());
    eprintln!("Ctrl-C ends it.");
}
