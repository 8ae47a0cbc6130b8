//! Where in an object: `spec.rules[0].backendRefs[1].weight`.

use std::fmt;

/// One step down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Field(String),
    Index(usize),
}

/// A way from an object's top to a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(Vec<Step>);

impl Path {
    pub fn field(&self, name: &str) -> Path {
        self.with(Step::Field(name.to_owned()))
    }

    pub fn index(&self, index: usize) -> Path {
        self.with(Step::Index(index))
    }

    fn with(&self, step: Step) -> Path {
        let mut steps = Vec::with_capacity(self.0.len() + 1);
        steps.extend_from_slice(&self.0);
        steps.push(step);
        Path(steps)
    }

    pub fn push(&mut self, step: Step) {
        self.0.push(step);
    }

    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Reads what [`Path`]'s `Display` writes. Text that is no path gives as many steps as it has.
    pub fn parse(text: &str) -> Path {
        let mut path = Path::default();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('.') {
                rest = after;
            } else if let Some(after) = rest.strip_prefix("[\"") {
                let Some((name, after)) = after.split_once("\"]") else { return path };
                path.push(Step::Field(name.to_owned()));
                rest = after;
            } else if let Some(after) = rest.strip_prefix('[') {
                let Some((index, after)) = after.split_once(']') else { return path };
                let Ok(index) = index.parse() else { return path };
                path.push(Step::Index(index));
                rest = after;
            } else {
                let end = rest.find(['.', '[']).unwrap_or(rest.len());
                path.push(Step::Field(rest[..end].to_owned()));
                rest = &rest[end..];
            }
        }
        path
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Field(name) => {
                    let plain = !name.is_empty()
                        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
                    match (plain, position) {
                        (true, 0) => f.write_str(name)?,
                        (true, _) => write!(f, ".{name}")?,
                        // Names of users' making: kept on one line and of one length.
                        (false, _) => {
                            write!(f, "[\"{}\"]", name.chars().take(80).collect::<String>().escape_debug())?
                        }
                    }
                }
            }
        }
        Ok(())
    }
}
