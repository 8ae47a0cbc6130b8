//! `weft apply`: makes the mesh say what the files say.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use http::Method;
use serde_json::Value;
use weft_model::Kind;

use super::{files, merge, place};
use crate::client::{Client, Refusal};
use crate::commands::questions::Connection;

const TRIES_MAX: usize = 8;

/// Create or update objects from YAML or JSON: files, folders, or - for stdin.
#[derive(Args)]
#[command(after_help = "Example: weft apply -f mesh.yaml -f services/")]
pub struct ApplyArgs {
    /// A file, a folder or - for stdin; may be repeated.
    #[arg(short = 'f', long = "filename", value_name = "PATH", required = true)]
    files: Vec<PathBuf>,
    /// Check everything, here and there, and change nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    connection: Connection,
}

pub async fn apply(args: ApplyArgs) -> anyhow::Result<ExitCode> {
    let objects = files::parse(&files::read_paths(&args.files)?)?;
    let client = args.connection.client()?;
    apply_objects(&client, objects, args.dry_run).await
}

/// Applies the objects of one text, as `weft apply` does with a file of that name.
pub async fn apply_text(client: &Client, name: &str, text: &str) -> anyhow::Result<()> {
    for object in in_order(files::parse(&[(name.to_owned(), text.to_owned())])?)? {
        apply_one(client, &object, false).await?;
    }
    Ok(())
}

async fn apply_objects(client: &Client, objects: Vec<Value>, dry_run: bool) -> anyhow::Result<ExitCode> {
    let mut refused = 0_usize;
    for object in in_order(objects)? {
        let (info, _, name) = place::of(&object)?;
        match apply_one(client, &object, dry_run).await {
            Ok(outcome) => {
                for warning in &outcome.warnings {
                    eprintln!("warning: {}/{name}: {warning}", info.singular);
                }
                let dry = if dry_run { " (dry run)" } else { "" };
                crate::output::line(&format!("{}/{name} {}{dry}", info.singular, outcome.word))?;
            }
            // One object that is refused does not keep the others back: they may be of other owners.
            Err(error) if error.downcast_ref::<Refusal>().is_some() => {
                refused += 1;
                let source =
                    object["metadata"]["annotations"][files::SOURCE_ANNOTATION].as_str().unwrap_or_default();
                eprintln!("{source}: {}/{name}: {error}", info.singular);
            }
            Err(error) => return Err(error),
        }
    }
    match refused {
        0 => Ok(ExitCode::SUCCESS),
        1 => bail!("1 object was refused"),
        many => bail!("{many} objects were refused"),
    }
}

/// Namespaces first, since the others live in them; an object that is written twice is a mistake.
fn in_order(mut objects: Vec<Value>) -> anyhow::Result<Vec<Value>> {
    let mut seen = BTreeSet::new();
    for object in &objects {
        let (info, namespace, name) = place::of(object)?;
        if !seen.insert((info.kind, namespace.clone(), name.clone())) {
            let source =
                object["metadata"]["annotations"][files::SOURCE_ANNOTATION].as_str().unwrap_or_default();
            bail!("{source}: {} {namespace}/{name} is there twice; nothing was changed", info.name);
        }
    }
    objects.sort_by_key(|object| object["kind"] != Kind::Namespace.info().name);
    Ok(objects)
}

struct Outcome {
    word: &'static str,
    warnings: Vec<String>,
}

/// Creates the object or brings it up to date, again when somebody else writes at the same time.
async fn apply_one(client: &Client, object: &Value, dry_run: bool) -> anyhow::Result<Outcome> {
    let (info, namespace, name) = place::of(object)?;
    let path = place::object(info, &namespace, &name)?;
    // Unknown fields were told when the file was read, with their lines.
    let query = if dry_run { "?fieldValidation=Ignore&dryRun=All" } else { "?fieldValidation=Ignore" };
    let desired = merge::with_last_applied(object);
    for _ in 0..TRIES_MAX {
        // As it was written: what the control plane computes is in no file.
        let refused = match client.get(&format!("{path}?computed=false")).await {
            Ok(live) => {
                let Some(mut patch) = merge::three_way(&merge::last_applied(&live), &desired, &live) else {
                    return Ok(Outcome { word: "unchanged", warnings: Vec::new() });
                };
                let word = if merge::only_moved(&patch) { "unchanged" } else { "configured" };
                patch["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
                let media_type = "application/merge-patch+json";
                match client.ask(Method::PATCH, &format!("{path}{query}"), Some(&patch), media_type).await {
                    Ok(answer) => return Ok(Outcome { word, warnings: answer.warnings }),
                    Err(error) => error,
                }
            }
            Err(error) if is(&error, "NotFound") => {
                let collection = format!("{}{query}", place::collection(info, Some(&namespace))?);
                match client.ask(Method::POST, &collection, Some(&desired), "application/json").await {
                    Ok(answer) => return Ok(Outcome { word: "created", warnings: answer.warnings }),
                    Err(error) => error,
                }
            }
            Err(error) => return Err(error),
        };
        if !is(&refused, "Conflict") && !is(&refused, "AlreadyExists") {
            return Err(refused);
        }
    }
    Err(anyhow::anyhow!("others keep changing it"))
        .with_context(|| format!("{}/{name} was not applied", info.singular))
}

fn is(error: &anyhow::Error, reason: &str) -> bool {
    error.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.reason == reason)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's failure is its message")]
    use super::*;
    use serde_json::json;

    #[test]
    fn namespaces_come_first_and_nothing_comes_twice() {
        let object = |kind: &str, name: &str| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "default"}});
        let sorted =
            in_order(vec![object("Service", "a"), object("Namespace", "n"), object("Service", "b")]).unwrap();
        let names: Vec<&str> = sorted.iter().filter_map(|o| o["metadata"]["name"].as_str()).collect();
        assert_eq!(names, ["n", "a", "b"]);
        assert!(in_order(vec![object("Service", "a"), object("Service", "a")]).is_err());
    }
}
