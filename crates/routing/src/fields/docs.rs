//! The table as a page of the reference.

use super::{Class, Kind, Row, Shape, areas};

/// Markdown for `docs/reference/xds.md`.
pub fn docs_page() -> String {
    let mut page = String::from(
        "# Envoy's fields\n\n\
         What the proxy does with each field of the xDS resources that it reads. The page is made from \
         the table that the proxy itself works by.\n\n\
         - **supported**: read and done\n\
         - **harmless**: not read; it changes nothing that a caller or an operator relies on\n\
         - **warning**: not done; a warning if the control plane is declared foreign, else the resource is refused\n\
         - **refused**: the resource is refused if the field is set\n\n\
         A field or a type that is not on this page is refused.\n",
    );
    for (area, schemas) in areas() {
        page.push_str(&format!("\n## {area}\n"));
        for schema in schemas {
            page.push_str(&format!("\n### `{}`\n\n", schema.name));
            if schema.rows.is_empty() {
                page.push_str("No fields.\n");
                continue;
            }
            page.push_str("| no. | field | kind | what becomes of it |\n|---|---|---|---|\n");
            for row in schema.rows {
                page.push_str(&format!(
                    "| {} | `{}` | {} | {} |\n",
                    row.number,
                    row.name,
                    kind(row),
                    class(row.class)
                ));
            }
        }
    }
    page
}

fn kind(row: &Row) -> String {
    let kind = match row.kind {
        Kind::Varint | Kind::Fixed32 | Kind::Fixed64 => "number".to_owned(),
        Kind::Text => "text".to_owned(),
        Kind::Bytes => "bytes".to_owned(),
        Kind::Opaque => "message".to_owned(),
        Kind::Message(schema) => format!("`{}`", last(schema.name)),
        Kind::Any(allowed) => {
            let names: Vec<String> =
                allowed.iter().map(|schema| format!("`{}`", last(schema.name))).collect();
            format!("one of {}", names.join(", "))
        }
    };
    match row.shape {
        Shape::One => kind,
        Shape::Many => format!("list of {kind}"),
        Shape::Map => format!("map to {kind}"),
    }
}

fn class(class: Class) -> String {
    match class {
        Class::Supported => "supported".to_owned(),
        Class::Harmless(why) => format!("harmless: {why}"),
        Class::Warn(why) => format!("warning: {why}"),
        Class::Problem(why) => format!("refused: {why}"),
    }
}

fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}
