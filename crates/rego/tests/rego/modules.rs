//! Go modules whose files serve as test cases: fetched by Go's own client, checked by their pinned sum, read
//! where they lie, never copied into the tree.

use std::path::PathBuf;
use std::process::Command;

/// The folder of a module, downloaded when it is not there yet. `None` only with `--offline-peers`.
pub fn folder(module: &str, version: &str, sum: &str) -> Option<PathBuf> {
    if std::env::var_os("WEFT_OFFLINE_PEERS").is_some() {
        eprintln!("LEFT OUT: this test needs the Go module {module}, and --offline-peers was asked for");
        return None;
    }
    let peers = std::env::var_os("WEFT_PEERS").map(PathBuf::from);
    let go_path =
        peers.as_ref().map_or_else(|| std::env::temp_dir().join("weft-go"), |peers| peers.join("go"));
    let programs = peers.iter().map(|peers| peers.join("bin/go")).chain([PathBuf::from("go")]);
    let mut last = String::new();
    for program in programs {
        let output = Command::new(&program)
            .args(["mod", "download", "-modcacherw", "-json", &format!("{module}@{version}")])
            .env("GOPATH", &go_path)
            .env("GOTOOLCHAIN", "local")
            .env("GOFLAGS", "-mod=mod")
            // The sum below is the check.
            .env("GONOSUMDB", "*")
            .current_dir(std::env::temp_dir())
            .output();
        let output = match output {
            Ok(output) => output,
            Err(error) => {
                last = format!("{}: {error}", program.display());
                continue;
            }
        };
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        if let Some(folder) = answer["Dir"].as_str() {
            assert_eq!(answer["Sum"], sum, "{module}@{version} is not what it was");
            return Some(PathBuf::from(folder));
        }
        last = format!("{}{}", answer["Error"], String::from_utf8_lossy(&output.stderr));
    }
    panic!("the Go module {module}@{version} can't be had (Go's client says: {last})");
}

/// Every file below `folder`, sorted.
pub fn files(folder: &std::path::Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}
