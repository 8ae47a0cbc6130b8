//! Tables, made by the server, as `kubectl get` prints them.
//!
//! The columns come from the model's table of kinds; the name stands first and the age last.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use weft_model::{Column, KindInfo};

use crate::{clock, vip};

/// Which object a row carries beside its cells; Kubernetes' `includeObject`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowObject {
    None,
    Metadata,
    Whole,
}

/// A table of these objects. A watch sends the column definitions with the first row only.
pub(crate) fn table(
    info: &KindInfo,
    objects: &[Value],
    revision: &str,
    object: RowObject,
    headed: bool,
    now: SystemTime,
) -> Value {
    let rows: Vec<Value> = objects.iter().map(|value| row(info, value, object, now)).collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": { "resourceVersion": revision },
        "columnDefinitions": if headed { columns(info) } else { Value::Null },
        "rows": rows,
    })
}

fn columns(info: &KindInfo) -> Value {
    let definition = |name: &str, kind: &str, format: &str, description: &str, wide: bool| {
        json!({
            "name": name,
            "type": kind,
            "format": format,
            "description": description,
            "priority": i32::from(wide),
        })
    };
    let mut all = vec![definition("Name", "string", "name", "Name of the object.", false)];
    all.extend(
        info.columns
            .iter()
            .map(|column| definition(column.name, column.kind, "", column.description, column.wide)),
    );
    all.push(definition("Age", "string", "", "How long ago the object was made.", false));
    Value::Array(all)
}

fn row(info: &KindInfo, object: &Value, carried: RowObject, now: SystemTime) -> Value {
    let mut cells = vec![object["metadata"]["name"].clone()];
    cells.extend(info.columns.iter().map(|column| match said(column, object) {
        text if text.is_empty() => "<none>".into(),
        text => match (column.kind, text.parse::<i64>()) {
            ("integer", Ok(number)) => number.into(),
            ("date", _) => age(&text, now).into(),
            _ => text.into(),
        },
    }));
    cells.push(age(object["metadata"]["creationTimestamp"].as_str().unwrap_or_default(), now).into());
    let mut row = json!({ "cells": cells });
    match carried {
        RowObject::None => {}
        RowObject::Whole => row["object"] = object.clone(),
        RowObject::Metadata => {
            row["object"] = json!({
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": object["metadata"],
            });
        }
    }
    row
}

/// A Service's address is given by the control plane and kept in an annotation, since `spec` is the user's.
fn said(column: &Column, object: &Value) -> String {
    let text = column.read(object);
    if text.is_empty() && column.json_path == "spec.clusterIP" {
        return object["metadata"]["annotations"][vip::ANNOTATION].as_str().unwrap_or_default().to_owned();
    }
    text
}

fn age(since: &str, now: SystemTime) -> String {
    match clock::parse_instant(since) {
        Some(then) => human(Duration::from_secs(clock::unix(now).saturating_sub(then))),
        None => "<unknown>".to_owned(),
    }
}

/// A duration in the two units that matter, as `kubectl` writes it: `45s`, `3m20s`, `5h`, `12d`.
fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let pair = |big: u64, unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{big}{unit}"),
        _ => format!("{big}{unit}{small}{small_unit}"),
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => pair(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => pair(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => pair(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        _ => pair(days / 365, "y", days % 365, "d"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use weft_model::Kind;

    #[test]
    fn ages_read_as_kubectl_writes_them() {
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (200, "3m20s"),
            (3600, "60m"),
            (3 * 3600 + 300, "3h5m"),
            (20 * 3600, "20h"),
            (3 * 86_400 + 3600, "3d1h"),
            (30 * 86_400, "30d"),
            (3 * 365 * 86_400, "3y"),
        ] {
            assert_eq!(human(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_table_has_the_models_columns_between_name_and_age() {
        let service = json!({
            "metadata": {"name": "be1", "creationTimestamp": "1970-01-01T00:00:10Z"},
            "spec": {"ports": [{"port": 80}, {"port": 443}]},
        });
        let now = UNIX_EPOCH + Duration::from_secs(40);
        let table = table(Kind::Service.info(), &[service], "7", RowObject::Metadata, true, now);
        let names: Vec<&str> = table["columnDefinitions"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|c| c["name"].as_str())
            .collect();
        assert_eq!((names.first(), names.last()), (Some(&"Name"), Some(&"Age")));
        let cells = table["rows"][0]["cells"].as_array().cloned().unwrap_or_default();
        assert_eq!(cells.len(), names.len());
        assert_eq!((&cells[0], &cells[cells.len() - 1]), (&"be1".into(), &"30s".into()));
        assert!(cells.contains(&"80,443".into()), "{cells:?}");
        assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    }
}
