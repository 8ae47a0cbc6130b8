//! `weft delete`: objects by name, or those that files name.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;

use super::{files, place};
use crate::client::Refusal;
use crate::commands::questions::Connection;

/// Delete objects: by kind and name, or those in files.
#[derive(Args)]
#[command(after_help = "Examples: weft delete httproute be1\n          weft delete -f mesh.yaml")]
pub struct DeleteArgs {
    /// The kind, in any of its names.
    #[arg(required_unless_present = "files", conflicts_with = "files")]
    kind: Option<String>,
    /// The names.
    #[arg(required_unless_present = "files", value_name = "NAME")]
    names: Vec<String>,
    /// Delete the objects of these files instead: a file, a folder or - for stdin; may be repeated.
    #[arg(short = 'f', long = "filename", value_name = "PATH")]
    files: Vec<PathBuf>,
    /// The namespace.
    #[arg(short, long, default_value = weft_model::DEFAULT_NAMESPACE)]
    namespace: String,
    /// An object that is not there is no failure.
    #[arg(long)]
    ignore_not_found: bool,
    #[command(flatten)]
    connection: Connection,
}

pub async fn delete(args: DeleteArgs) -> anyhow::Result<ExitCode> {
    let mut wanted = Vec::new();
    if let Some(word) = &args.kind {
        let info = place::kind(word)?;
        wanted.extend(args.names.iter().map(|name| (info, args.namespace.clone(), name.clone())));
    } else {
        for object in files::parse(&files::read_paths(&args.files)?)? {
            wanted.push(place::of(&object)?);
        }
        // The other way round than they were made: what refers goes before what it refers to.
        wanted.reverse();
    }
    let client = args.connection.client()?;
    let mut failed = 0_usize;
    for (info, namespace, name) in wanted {
        match client.delete(&place::object(info, &namespace, &name)?).await {
            Ok(_) => crate::output::line(&format!("{}/{name} deleted", info.singular))?,
            Err(error) => match error.downcast_ref::<Refusal>() {
                Some(refusal) if refusal.reason == "NotFound" && args.ignore_not_found => {}
                Some(refusal) => {
                    failed += 1;
                    eprintln!("{}/{name}: {refusal}", info.singular);
                }
                None => return Err(error),
            },
        }
    }
    match failed {
        0 => Ok(ExitCode::SUCCESS),
        1 => bail!("1 object was not deleted"),
        many => bail!("{many} objects were not deleted"),
    }
}
