//! Just enough of a parser for Envoy's `.proto` files: messages and their fields.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

pub(super) struct Protos {
    /// By full name.
    pub messages: HashMap<String, Vec<Field>>,
}

pub(super) struct Field {
    pub number: u32,
    pub name: String,
    /// As written; of a map, its values'.
    pub kind: String,
    pub repeated: bool,
    pub map: bool,
}

/// All files of the envoy-types package that the workspace's lock file names.
pub(super) fn load() -> Protos {
    let mut protos = Protos { messages: HashMap::new() };
    let mut folders = vec![package().join("proto")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the package's folders can be read") {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "proto") {
                let text = std::fs::read_to_string(&path).unwrap();
                Parser { tokens: tokens(&text), at: 0, protos: &mut protos }.file();
            }
        }
    }
    protos
}

fn package() -> PathBuf {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.lock");
    let lock = std::fs::read_to_string(lock).expect("the workspace has a lock file");
    let after = lock.split("name = \"envoy-types\"\nversion = \"").nth(1).expect("envoy-types is locked");
    let version = after.split('"').next().unwrap();
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cargo"));
    let registries = std::fs::read_dir(home.join("registry/src")).expect("cargo has a registry");
    registries
        .map(|registry| registry.unwrap().path().join(format!("envoy-types-{version}")))
        .find(|path| path.is_dir())
        .expect("cargo has unpacked envoy-types")
}

/// Words, numbers, texts and single signs, without comments.
fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let char = chars[at];
        if char == '/' && chars.get(at + 1) == Some(&'/') {
            while at < chars.len() && chars[at] != '\n' {
                at += 1;
            }
        } else if char == '/' && chars.get(at + 1) == Some(&'*') {
            at += 2;
            while !(chars[at] == '*' && chars[at + 1] == '/') {
                at += 1;
            }
            at += 2;
        } else if char == '"' || char == '\'' {
            let start = at;
            at += 1;
            while chars[at] != char {
                at += if chars[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
            tokens.push(chars[start..at].iter().collect());
        } else if char.is_alphanumeric() || char == '_' || char == '.' {
            let start = at;
            while at < chars.len() && (chars[at].is_alphanumeric() || chars[at] == '_' || chars[at] == '.') {
                at += 1;
            }
            tokens.push(chars[start..at].iter().collect());
        } else {
            if !char.is_whitespace() {
                tokens.push(char.to_string());
            }
            at += 1;
        }
    }
    tokens
}

struct Parser<'a> {
    tokens: Vec<String>,
    at: usize,
    protos: &'a mut Protos,
}

impl Parser<'_> {
    fn file(&mut self) {
        let mut package = String::new();
        while self.at < self.tokens.len() {
            match self.next().as_str() {
                "package" => {
                    package = self.next();
                    self.statement();
                }
                "message" => self.message(&package),
                "enum" | "service" | "extend" => self.block(),
                ";" => {}
                _ => self.statement(),
            }
        }
    }

    fn message(&mut self, outer: &str) {
        let name = format!("{outer}.{}", self.next());
        let mut fields = Vec::new();
        assert_eq!(self.next(), "{");
        self.body(&name, &mut fields);
        self.protos.messages.insert(name, fields);
    }

    /// To the closing bracket of a message or a oneof.
    fn body(&mut self, name: &str, fields: &mut Vec<Field>) {
        loop {
            match self.next().as_str() {
                "}" => return,
                "message" => self.message(name),
                "enum" => self.block(),
                "oneof" => {
                    self.next();
                    assert_eq!(self.next(), "{");
                    self.body(name, fields);
                }
                "option" | "reserved" | "extensions" => self.statement(),
                ";" => {}
                first => {
                    let field = self.field(first.to_owned());
                    fields.push(field);
                }
            }
        }
    }

    fn field(&mut self, first: String) -> Field {
        let repeated = first == "repeated";
        let mut kind = if repeated || first == "optional" { self.next() } else { first };
        let map = kind == "map";
        if map {
            assert_eq!(self.next(), "<");
            self.next();
            assert_eq!(self.next(), ",");
            kind = self.next();
            assert_eq!(self.next(), ">");
        }
        let name = self.next();
        assert_eq!(self.next(), "=");
        let number = self.next().parse().unwrap();
        self.statement();
        Field { number, name, kind, repeated, map }
    }

    /// Past the next `;` outside of brackets.
    fn statement(&mut self) {
        let mut depth = 0i32;
        loop {
            match self.next().as_str() {
                ";" if depth == 0 => return,
                "{" | "[" => depth += 1,
                "}" | "]" => depth -= 1,
                _ => {}
            }
        }
    }

    /// Past the next block in curly brackets.
    fn block(&mut self) {
        while self.next() != "{" {}
        let mut depth = 1;
        while depth > 0 {
            match self.next().as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
        }
    }

    fn next(&mut self) -> String {
        let token = self.tokens[self.at].clone();
        self.at += 1;
        token
    }
}
