//! What a request costs, counted: user-space instructions and allocations of the proxy's worker, held to ±1 %.
//!
//! Times drift on shared machines; counts don't. The shipped binary runs under callgrind, on configuration from its own
//! control plane, and answers one connection; another proxy runs in this process, whose allocator counts. Only the
//! worker's thread is counted, so what the control thread does meanwhile is not.

mod allocations;
mod baseline;
mod callgrind;
mod client;
mod roads;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use weft_bench::machine::Scheduling;
use weft_bench::origin::{self, Origin};
use weft_bench::weft::Mesh;

use baseline::{Measured, Verdict};

const HELP: &str = "\
weft-instructions --weft FILE --baseline FILE --dir DIR [--profile NAME] [--update]
  counts instructions and allocations a request, and compares them with the baseline; --update writes it instead
";

struct Options {
    weft: PathBuf,
    baseline: PathBuf,
    dir: PathBuf,
    /// The build profile of both this program and the proxy; each has figures of its own.
    profile: String,
    update: bool,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let outcome = if args == ["origin"] { origin::serve().map(|()| true) } else { run(&args) };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("weft-instructions: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> anyhow::Result<bool> {
    let options = options(args)?;
    let _ = std::fs::remove_dir_all(&options.dir);
    std::fs::create_dir_all(&options.dir)
        .with_context(|| format!("cannot make {}", options.dir.display()))?;
    let origin = Origin::start(&options.dir, Scheduling::Free)?;
    let mesh = Mesh::start(&options.weft, &options.dir, origin.ports, Scheduling::Free, "")?;
    let allocations = allocations::measure(&mesh, &options.dir)?;
    let instructions = callgrind::measure(&mesh, &options.weft, &options.dir)?;
    let measured = Measured { instructions, allocations };
    if options.update {
        baseline::write(&options.baseline, &options.profile, &measured)?;
        print!("{}", baseline::figures(&measured));
        println!("wrote {}; commit it with a message that says why it moved", options.baseline.display());
        return Ok(true);
    }
    let (text, verdict) = baseline::compare(&options.baseline, &options.profile, &measured)?;
    print!("{text}");
    Ok(verdict == Verdict::Held)
}

fn options(args: &[String]) -> anyhow::Result<Options> {
    let (mut weft, mut baseline, mut dir, mut profile, mut update) = (None, None, None, None, false);
    let mut args = args.iter();
    while let Some(flag) = args.next() {
        if flag == "--update" {
            update = true;
            continue;
        }
        let value = args.next().with_context(|| format!("{flag} wants a value\n{HELP}"))?;
        match flag.as_str() {
            "--weft" => weft = Some(value.into()),
            "--baseline" => baseline = Some(value.into()),
            "--dir" => dir = Some(value.into()),
            "--profile" => profile = Some(value.clone()),
            _ => bail!("{flag} is not known here\n{HELP}"),
        }
    }
    Ok(Options {
        weft: weft.context(HELP)?,
        baseline: baseline.context(HELP)?,
        dir: dir.context(HELP)?,
        profile: profile.unwrap_or_else(|| "fast".to_owned()),
        update,
    })
}
