//! Reading what `-f` names: files, folders, standard input.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::Value;
use weft_model::Problem;

/// Where an object of a file begins, kept with the object so that `explain` can point there.
pub const SOURCE_ANNOTATION: &str = "weft.dev/source";
const TEXT_BYTES_MAX: u64 = 64 * 1024 * 1024;
const DEPTH_MAX: usize = 16;
const FILES_MAX: usize = 10_000;

/// The name and text of each file: of a folder all `.yaml`, `.yml` and `.json` files below it, by name.
pub fn read_paths(paths: &[PathBuf]) -> anyhow::Result<Vec<(String, String)>> {
    let mut texts = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            texts.push(("stdin".to_owned(), bounded(std::io::stdin().lock(), "standard input")?));
            continue;
        }
        let mut files = Vec::new();
        let about = std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
        if about.is_dir() {
            collect(path, 0, &mut files)?;
            if files.is_empty() {
                bail!("{} has no .yaml, .yml or .json file", path.display());
            }
        } else {
            files.push(path.clone());
        }
        for file in files {
            let name = file.display().to_string();
            let opened = std::fs::File::open(&file).with_context(|| format!("cannot read {name}"))?;
            texts.push((name.clone(), bounded(opened, &name)?));
        }
    }
    Ok(texts)
}

fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if hidden {
            continue;
        }
        if path.is_dir() {
            if depth >= DEPTH_MAX {
                bail!("{} lies too deep", path.display());
            }
            collect(&path, depth + 1, files)?;
        } else if matches!(extension, "yaml" | "yml" | "json") {
            files.push(path);
        }
        if files.len() > FILES_MAX {
            bail!("{} has more than {FILES_MAX} files", folder.display());
        }
    }
    Ok(())
}

fn bounded(source: impl Read, name: &str) -> anyhow::Result<String> {
    let mut text = String::new();
    source
        .take(TEXT_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read {name}"))?;
    if text.len() as u64 > TEXT_BYTES_MAX {
        bail!("{name} is larger than {TEXT_BYTES_MAX} bytes");
    }
    Ok(text)
}

/// The objects of all texts, each with its source noted; every problem goes to stderr. Nothing is
/// given back if one of them is an error.
pub fn parse(texts: &[(String, String)]) -> anyhow::Result<Vec<Value>> {
    let mut objects = Vec::new();
    let mut problems: Vec<Problem> = Vec::new();
    for (name, text) in texts {
        let (documents, found) = weft_model::parse_text(name, text);
        problems.extend(found);
        for document in documents {
            let mut value = document.value;
            if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
                let annotations = metadata.entry("annotations").or_insert(Value::Null);
                if annotations.is_null() {
                    *annotations = Value::Object(serde_json::Map::new());
                }
                if let Some(annotations) = annotations.as_object_mut() {
                    annotations
                        .insert(SOURCE_ANNOTATION.to_owned(), format!("{name}:{}", document.line).into());
                }
            }
            objects.push(value);
        }
    }
    let mut out = std::io::stderr().lock();
    for problem in &problems {
        let _ = writeln!(out, "{problem}");
    }
    match problems.iter().filter(|problem| problem.is_error()).count() {
        0 if objects.is_empty() => bail!("there is no object in what was read"),
        0 => Ok(objects),
        1 => bail!("1 problem; nothing was changed"),
        many => bail!("{many} problems; nothing was changed"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's failure is its message")]
    use super::*;

    #[test]
    fn a_folder_is_read_in_order_and_without_other_files() {
        let dir = std::env::temp_dir().join(format!("weft-files-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("b")).unwrap();
        for (name, text) in
            [("c.yaml", "3"), ("a.yml", "1"), ("b/x.json", "2"), ("readme.md", "no"), (".h.yaml", "no")]
        {
            std::fs::write(dir.join(name), text).unwrap();
        }
        let texts: Vec<String> =
            read_paths(std::slice::from_ref(&dir)).unwrap().into_iter().map(|(_, text)| text).collect();
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(texts, ["1", "2", "3"]);
        assert!(read_paths(&[dir]).is_err());
    }

    #[test]
    fn every_mistake_keeps_everything_back() {
        let good = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n";
        let bad = "apiVersion: v1\nkind: Nothing\nmetadata: {name: a}\n";
        let text = |text: &str| ("f.yaml".to_owned(), text.to_owned());
        let objects = parse(&[text(good)]).unwrap();
        assert_eq!(objects[0]["metadata"]["annotations"][SOURCE_ANNOTATION], "f.yaml:1");
        let error = parse(&[text(good), text(bad)]).unwrap_err().to_string();
        assert!(error.contains("problem"), "{error}");
        assert!(parse(&[text("")]).is_err());
    }
}
