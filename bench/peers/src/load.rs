//! The generators, run on their own core; what a run was not valid for is an error, never a figure.

use std::path::Path;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::machine::{LOAD_CORE, output, pinned};

/// `wrk` over 64 connections; completed requests.
pub fn wrk(port: u16, host: &str, path: &str, seconds: u32) -> anyhow::Result<f64> {
    wrk_with(&[], &format!("http://127.0.0.1:{port}{path}"), host, seconds)
}

/// The same, asking for `count` paths in turn.
pub fn wrk_round(dir: &Path, port: u16, host: &str, count: usize, seconds: u32) -> anyhow::Result<f64> {
    let script = dir.join(format!("round-{count}.lua"));
    let text = format!(
        "local all, at = {{}}, 0\n\
         init = function(args) for i = 0, {count} - 1 do all[i] = wrk.format('GET', string.format('/r%05d/x', i)) end end\n\
         request = function() at = (at + 1) % {count}; return all[at] end\n"
    );
    std::fs::write(&script, text)?;
    let script = script.to_string_lossy();
    wrk_with(&["-s", &script], &format!("http://127.0.0.1:{port}/"), host, seconds)
}

fn wrk_with(more: &[&str], url: &str, host: &str, seconds: u32) -> anyhow::Result<f64> {
    let mut command = pinned(LOAD_CORE, "wrk");
    command.args(["-t1", "-c64"]).arg(format!("-d{seconds}s")).args(more);
    let text = output(command.args(["-H", &format!("Host: {host}"), url]))?;
    if let Some(bad) = text.lines().find(|line| line.contains("Non-2xx") || line.contains("Socket errors")) {
        bail!("the run is not valid: {}", bad.trim());
    }
    let line = text.lines().find(|line| line.contains("requests in")).context("wrk printed no count")?;
    Ok(line.trim().split(' ').next().unwrap_or_default().parse()?)
}

/// `h2load` with a gRPC-like unary call: 8 connections of 16 streams; completed requests.
pub fn h2load(dir: &Path, port: u16, host: &str, seconds: u32) -> anyhow::Result<f64> {
    let body = dir.join("unary");
    std::fs::write(&body, b"\0\0\0\0\x0d\x0a\x0bHello World")?;
    let text = output(
        pinned(LOAD_CORE, "h2load")
            .args(["-c8", "-m16", "-t1", &format!("-D{seconds}"), "-d"])
            .arg(&body)
            .args(["-H", "content-type: application/grpc", "-H", "te: trailers", "-H"])
            .arg(format!(":authority: {host}"))
            .arg(format!("http://127.0.0.1:{port}/pkg.Greeter/SayHello")),
    )?;
    let line = text.lines().find(|line| line.starts_with("requests:")).context("h2load printed no count")?;
    let figure = |what: &str| -> Option<f64> {
        line.split([':', ',']).find_map(|part| part.trim().strip_suffix(what)?.trim().parse().ok())
    };
    let (done, good) = (figure("done").context("no done")?, figure("succeeded").context("no succeeded")?);
    // What is under way when the time is over counts as done and not as good.
    if done - good > done / 1000.0 + 128.0 {
        bail!("the run is not valid: {line}");
    }
    Ok(good)
}

/// One of this program's own generators.
pub fn own(args: &[&str]) -> anyhow::Result<Value> {
    let text = output(pinned(LOAD_CORE, std::env::current_exe()?).args(args))?;
    serde_json::from_str(&text).with_context(|| format!("{args:?} printed {text}"))
}

pub fn number(value: &Value, name: &str) -> anyhow::Result<f64> {
    value[name].as_f64().with_context(|| format!("no {name} in {value}"))
}
