//! `weft get` and `weft describe`: objects as tables, JSON, YAML or names, once or as they change.

use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use weft_model::KindInfo;

use super::place::{self, Namespaces};
use crate::client::{Client, Refusal};
use crate::commands::questions::Connection;
use crate::commands::usage;
use crate::output;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Default, Debug)]
pub enum View {
    #[default]
    Table,
    Wide,
    Json,
    Yaml,
    Name,
}

/// Show objects.
#[derive(Args)]
#[command(
    after_help = "Examples: weft get services -A\n          weft get httproute be1 -o yaml\n          weft get svc,httproutes -w"
)]
pub struct GetArgs {
    /// The kind in any of its names, several with commas, or KIND/NAME.
    kind: String,
    /// The names; all without one.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    namespaces: Namespaces,
    /// Only objects with these labels: app=be1,version!=v1.
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// How to print them.
    #[arg(short, long, value_enum, default_value_t)]
    output: View,
    /// Then go on with each change, until interrupted.
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    connection: Connection,
}

pub async fn get(args: GetArgs) -> anyhow::Result<ExitCode> {
    let mut kinds = Vec::new();
    let mut names = args.names.clone();
    match args.kind.split_once('/') {
        Some((kind, name)) => {
            kinds.push(place::kind(kind)?);
            names.insert(0, name.to_owned());
        }
        None => {
            for word in args.kind.split(',') {
                kinds.push(place::kind(word)?);
            }
        }
    }
    if !names.is_empty() && args.namespaces.all_namespaces {
        return Err(usage("a name is of one namespace: leave out -A, or the name"));
    }
    if args.watch && !matches!((kinds.as_slice(), names.as_slice()), ([_], [] | [_])) {
        return Err(usage("one kind can be watched, and one name of it or all"));
    }
    let client = args.connection.client()?;
    if let (true, [info]) = (args.watch, kinds.as_slice()) {
        return watch(&client, &args, info, names.first()).await;
    }
    match args.output {
        View::Table | View::Wide => tables(&client, &args, &kinds, &names).await?,
        View::Json | View::Yaml | View::Name => values(&client, &args, &kinds, &names).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The path of what is asked for, with its query begun.
fn path(args: &GetArgs, info: &KindInfo, name: Option<&String>) -> anyhow::Result<String> {
    let namespace = (!args.namespaces.all_namespaces).then_some(args.namespaces.namespace.as_str());
    let mut path = match name {
        Some(name) => place::object(info, &args.namespaces.namespace, name)?,
        None => place::collection(info, namespace)?,
    };
    path.push_str("?includeObject=Metadata");
    if let Some(selector) = &args.selector {
        path.push_str(&format!("&labelSelector={}", place::encoded(selector)));
    }
    Ok(path)
}

fn wanted(names: &[String]) -> Vec<Option<&String>> {
    if names.is_empty() { vec![None] } else { names.iter().map(Some).collect() }
}

async fn tables(
    client: &Client,
    args: &GetArgs,
    kinds: &[&KindInfo],
    names: &[String],
) -> anyhow::Result<()> {
    let mut blocks = Vec::new();
    for info in kinds {
        let mut table = Table::new(args, kinds.len() > 1);
        for name in wanted(names) {
            table.add(&client.table(&path(args, info, name)?).await?, info);
        }
        if !table.rows.is_empty() {
            blocks.push(output::table(&table.header(), &table.rows));
        }
    }
    if blocks.is_empty() {
        match args.namespaces.all_namespaces || kinds.iter().all(|info| !info.namespaced) {
            true => eprintln!("there are none"),
            false => eprintln!("there are none in the namespace {}", args.namespaces.namespace),
        }
        return Ok(());
    }
    crate::output::line(&blocks.join("\n\n"))?;
    Ok(())
}

async fn values(
    client: &Client,
    args: &GetArgs,
    kinds: &[&KindInfo],
    names: &[String],
) -> anyhow::Result<()> {
    let mut items = Vec::new();
    for info in kinds {
        for name in wanted(names) {
            let answer = client.get(&path(args, info, name)?).await?;
            match answer.get("items").and_then(Value::as_array) {
                Some(list) if name.is_none() => items.extend(list.clone()),
                _ => items.push(answer),
            }
        }
    }
    items.iter_mut().for_each(without_owners);
    match args.output {
        View::Name => {
            for item in &items {
                let (info, _, name) = place::of(item)?;
                crate::output::line(&format!("{}/{name}", info.singular))?;
            }
            Ok(())
        }
        view => {
            let format = if view == View::Json { output::Format::Json } else { output::Format::Yaml };
            let value = match (items.as_slice(), names) {
                ([only], [_]) => only.clone(),
                _ => json!({ "apiVersion": "v1", "kind": "List", "items": items }),
            };
            output::print(format, &value, String::new)
        }
    }
}

/// Prints what is there, then each change; a watch that ends is taken up again where it stopped.
async fn watch(
    client: &Client,
    args: &GetArgs,
    info: &KindInfo,
    name: Option<&String>,
) -> anyhow::Result<ExitCode> {
    let as_table = matches!(args.output, View::Table | View::Wide);
    let mut base = path(args, info, None)?;
    if let Some(name) = name {
        base.push_str(&format!("&fieldSelector={}", place::encoded(&format!("metadata.name={name}"))));
    }
    base.push_str("&watch=true&allowWatchBookmarks=true");
    let mut table = Table::new(args, false);
    let mut revision = String::new();
    let mut headed = false;
    loop {
        let mut stream = match client.stream(&format!("{base}&resourceVersion={revision}"), as_table).await {
            Ok(stream) => stream,
            Err(error) if error.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.code == 410) => {
                revision.clear();
                continue;
            }
            Err(error) => return Err(error),
        };
        while let Some(event) = stream.next().await? {
            let object = &event["object"];
            if let Some(seen) = object["metadata"]["resourceVersion"].as_str() {
                revision = seen.to_owned();
            }
            match event["type"].as_str().unwrap_or_default() {
                "BOOKMARK" => {}
                "ERROR" if object["code"] == 410 => revision.clear(),
                "ERROR" => {
                    bail!("the watch ended: {}", object["message"].as_str().unwrap_or("no reason was given"))
                }
                _ if as_table => {
                    table.rows.clear();
                    table.add(object, info);
                    crate::output::line(&table.lines(&mut headed))?;
                }
                kind => {
                    let mut object = object.clone();
                    without_owners(&mut object);
                    print_event(args.output, kind, &object)?;
                }
            }
        }
        // The server ends each watch after a while; this is no reason to ask without pause.
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

/// Who owns which field is server-side apply's bookkeeping, and longer than the object.
fn without_owners(object: &mut Value) {
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.remove("managedFields");
    }
}

fn print_event(view: View, kind: &str, object: &Value) -> anyhow::Result<()> {
    match view {
        View::Json => crate::output::line(&json!({ "type": kind, "object": object }).to_string())?,
        View::Name => {
            let (info, _, name) = place::of(object)?;
            crate::output::line(&format!("{}/{name} {}", info.singular, kind.to_lowercase()))?;
        }
        _ => crate::output::line(&format!("---\n{}", serde_saphyr::to_string(object)?.trim_end()))?,
    }
    Ok(())
}

/// A server's table, with the columns that this view shows.
struct Table {
    wide: bool,
    namespaced: bool,
    prefixed: bool,
    /// Heading and whether it is shown, of the server's columns.
    columns: Vec<(String, bool)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn new(args: &GetArgs, prefixed: bool) -> Table {
        let wide = args.output == View::Wide;
        Table {
            wide,
            namespaced: args.namespaces.all_namespaces,
            prefixed,
            columns: Vec::new(),
            rows: Vec::new(),
        }
    }

    fn add(&mut self, table: &Value, info: &KindInfo) {
        if let Some(definitions) = table["columnDefinitions"].as_array() {
            self.columns = definitions
                .iter()
                .map(|definition| {
                    let name = definition["name"].as_str().unwrap_or_default().to_owned();
                    (name, self.wide || definition["priority"].as_i64().unwrap_or(0) == 0)
                })
                .collect();
        }
        self.namespaced &= info.namespaced;
        for row in table["rows"].as_array().into_iter().flatten() {
            let mut cells = Vec::new();
            if self.namespaced {
                cells.push(text(&row["object"]["metadata"]["namespace"]));
            }
            let shown = self.columns.iter().zip(row["cells"].as_array().into_iter().flatten());
            cells.extend(shown.filter(|((_, shown), _)| *shown).map(|(_, cell)| text(cell)));
            if self.prefixed
                && let Some(name) = cells.get_mut(usize::from(self.namespaced))
            {
                *name = format!("{}/{name}", info.singular);
            }
            self.rows.push(cells);
        }
    }

    fn header(&self) -> Vec<&str> {
        let namespace = self.namespaced.then_some("namespace");
        namespace
            .into_iter()
            .chain(self.columns.iter().filter(|(_, shown)| *shown).map(|(name, _)| name.as_str()))
            .collect()
    }

    /// The rows for a screen that scrolls: columns of a fixed width, the header once.
    fn lines(&self, headed: &mut bool) -> String {
        let header: Vec<String> = self.header().iter().map(|name| name.to_uppercase()).collect();
        let line = |cells: &[String]| {
            let padded: Vec<String> = cells
                .iter()
                .zip(&header)
                .map(|(cell, name)| format!("{cell:width$}", width = name.len().max(14)))
                .collect();
            padded.join("  ").trim_end().to_owned()
        };
        let mut lines = Vec::new();
        if !std::mem::replace(headed, true) {
            lines.push(line(&header));
        }
        lines.extend(self.rows.iter().map(|row| line(row)));
        lines.join("\n")
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<none>".to_owned(),
        other => other.to_string(),
    }
}

/// Show one object with all that is known about it.
#[derive(Args)]
#[command(after_help = "Example: weft describe httproute be1")]
pub struct DescribeArgs {
    /// The kind, in any of its names.
    kind: String,
    /// The name.
    name: String,
    /// The namespace.
    #[arg(short, long, default_value = weft_model::DEFAULT_NAMESPACE)]
    namespace: String,
    #[command(flatten)]
    connection: Connection,
}

pub async fn describe(args: DescribeArgs) -> anyhow::Result<ExitCode> {
    let info = place::kind(&args.kind)?;
    let path = place::object(info, &args.namespace, &args.name)?;
    let client = args.connection.client()?;
    let object = client.get(&path).await?;
    // What the mesh's health says about it is worth having, and no reason to fail.
    let findings = match client.get("/query/v1/check").await {
        Ok(answer) => answer["findings"].as_array().cloned().unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    crate::output::line(description(info, &object, &findings)?.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

fn description(info: &KindInfo, object: &Value, findings: &[Value]) -> anyhow::Result<String> {
    let meta = &object["metadata"];
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        let title = if name.is_empty() { String::new() } else { format!("{name}:") };
        out.push_str(&format!("{title:<14}{value}\n"));
    };
    line("Name", text(&meta["name"]));
    if info.namespaced {
        line("Namespace", text(&meta["namespace"]));
    }
    line("Kind", format!("{} ({})", info.name, info.api_version()));
    line("Created", text(&meta["creationTimestamp"]));
    line(
        "Revision",
        format!("{} (generation {})", text(&meta["resourceVersion"]), text(&meta["generation"])),
    );
    for (title, field) in [("Labels", "labels"), ("Annotations", "annotations")] {
        let mut pairs = meta[field]
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, _)| *name != super::merge::LAST_APPLIED)
            .map(|(name, value)| format!("{name}={}", text(value)));
        line(title, pairs.next().unwrap_or_else(|| "<none>".to_owned()));
        for pair in pairs {
            line("", pair);
        }
    }
    let mut rest = object.as_object().cloned().unwrap_or_default();
    for known in ["apiVersion", "kind", "metadata"] {
        rest.remove(known);
    }
    if info.kind == weft_model::Kind::Secret {
        hide(&mut rest);
    }
    for (name, value) in &rest {
        let mut title = name.clone();
        if let Some(first) = title.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        match value {
            Value::Object(_) | Value::Array(_) => {
                out.push_str(&format!("{title}:\n"));
                for part in serde_saphyr::to_string(value)?.trim_end().lines() {
                    out.push_str(&format!("  {part}\n"));
                }
            }
            plain => out.push_str(&format!("{:<14}{}\n", format!("{title}:"), text(plain))),
        }
    }
    let name = text(&meta["name"]);
    let label = match meta["namespace"].as_str() {
        Some(namespace) if info.namespaced => format!("{} {namespace}/{name}", info.name),
        _ => format!("{} {name}", info.name),
    };
    let mine: Vec<&Value> = findings.iter().filter(|finding| finding["object"] == label.as_str()).collect();
    if !mine.is_empty() {
        out.push_str("Findings:\n");
    }
    for finding in mine {
        out.push_str(&format!(
            "  {} {}: {}\n",
            text(&finding["severity"]),
            text(&finding["code"]),
            text(&finding["message"])
        ));
    }
    Ok(out)
}

/// A secret's entries are told by their size.
fn hide(secret: &mut serde_json::Map<String, Value>) {
    for field in ["data", "stringData"] {
        if let Some(entries) = secret.get_mut(field).and_then(Value::as_object_mut) {
            for value in entries.values_mut() {
                *value = format!("{} bytes", value.as_str().map_or(0, |text| text.len() / 4 * 3)).into();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's failure is its message")]
    use super::*;
    use weft_model::Kind;

    #[test]
    fn a_description_shows_no_secret() {
        let object =
            json!({"metadata": {"name": "s", "namespace": "default"}, "data": {"password": "aHVudGVyMg=="}});
        let text = description(Kind::Secret.info(), &object, &[]).unwrap();
        assert!(text.contains("password") && !text.contains("aHVudGVyMg"), "{text}");
    }

    #[test]
    fn findings_of_the_object_are_shown_with_it() {
        let object = json!({"metadata": {"name": "a", "namespace": "default", "labels": {"x": "y"}}, "spec": {"ports": [{"port": 80}]}});
        let finding = |object: &str| json!({"severity": "error", "code": "WFT0001", "object": object, "message": "lost"});
        let text = description(
            Kind::Service.info(),
            &object,
            &[finding("Service default/a"), finding("Service default/b")],
        )
        .unwrap();
        assert_eq!(text.matches("WFT0001").count(), 1, "{text}");
        assert!(text.contains("x=y") && text.contains("port: 80"), "{text}");
    }
}
