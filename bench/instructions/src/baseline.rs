//! The committed figures: instructions may move by 1 % either way, allocations only downwards.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::roads::Counts;

/// Either way: a gain that nobody wrote down is lost again unseen.
const TOLERANCE: f64 = 0.01;
/// What comes by time and not by request, such as a log's flush.
const ALLOCATIONS_BY_TIME: f64 = 0.05;

pub struct Measured {
    pub instructions: Vec<Counts>,
    pub allocations: Vec<Counts>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Baseline {
    /// `rustc --version` of the build: another compiler makes other code.
    rustc: String,
    /// By build profile.
    profiles: BTreeMap<String, Figures>,
}

/// By road.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Figures {
    instructions: BTreeMap<String, f64>,
    allocations: BTreeMap<String, f64>,
}

impl Figures {
    fn of(measured: &Measured) -> Figures {
        let by_road = |counts: &[Counts], unit: f64| {
            let rounded = |one: &Counts| (one.road.name().to_owned(), (one.least() * unit).round() / unit);
            counts.iter().map(rounded).collect()
        };
        Figures {
            instructions: by_road(&measured.instructions, 1.0),
            allocations: by_road(&measured.allocations, 100.0),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Held,
    Moved,
}

pub fn write(file: &Path, profile: &str, measured: &Measured) -> anyhow::Result<()> {
    let rustc = rustc()?;
    let mut baseline = read(file).unwrap_or_default();
    if baseline.rustc != rustc {
        // Figures of another compiler say nothing beside these.
        baseline = Baseline { rustc, profiles: BTreeMap::new() };
    }
    baseline.profiles.insert(profile.to_owned(), Figures::of(measured));
    let text = serde_json::to_string_pretty(&baseline)? + "\n";
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

fn read(file: &Path) -> anyhow::Result<Baseline> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no baseline", file.display()))
}

fn rustc() -> anyhow::Result<String> {
    let out = Command::new("rustc").arg("--version").output().context("cannot start rustc")?;
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

/// What was measured beside nothing.
pub fn figures(measured: &Measured) -> String {
    let now = Figures::of(measured);
    table(measured, &now, &now).0
}

/// What was measured beside the baseline, and whether that holds.
pub fn compare(file: &Path, profile: &str, measured: &Measured) -> anyhow::Result<(String, Verdict)> {
    let baseline = read(file)?;
    let rustc = rustc()?;
    let was = baseline.profiles.get(profile).cloned().unwrap_or_default();
    let (mut text, verdict) = table(measured, &was, &Figures::of(measured));
    if baseline.rustc != rustc {
        let _ = writeln!(text, "the baseline is of {}, this build of {rustc}", baseline.rustc);
    }
    match verdict {
        Verdict::Held => text.push_str("bench instructions: held\n"),
        Verdict::Moved => {
            let _ = writeln!(
                text,
                "bench instructions: MOVED. If that is meant, run `cargo xtask bench instructions --update` and commit \
                 {} with a message that says why",
                file.display()
            );
        }
    }
    Ok((text, verdict))
}

fn table(measured: &Measured, was: &Figures, now: &Figures) -> (String, Verdict) {
    let mut verdict = Verdict::Held;
    let mut text = format!(
        "{:<24} {:<10} {:>10} {:>10} {:>8} {:>8}\n",
        "A REQUEST'S", "ROAD", "BASELINE", "NOW", "MOVED", "SPREAD"
    );
    for (what, counts, was, now, most) in [
        ("instructions, worker", &measured.instructions, &was.instructions, &now.instructions, None),
        (
            "allocations, worker",
            &measured.allocations,
            &was.allocations,
            &now.allocations,
            Some(ALLOCATIONS_BY_TIME),
        ),
    ] {
        for one in counts {
            let road = one.road.name();
            let now = now.get(road).copied().unwrap_or(f64::NAN);
            let spread = one.spread() * 100.0;
            let Some(was) = was.get(road).copied() else {
                verdict = Verdict::Moved;
                let _ = writeln!(
                    text,
                    "{what:<24} {road:<10} {:>10} {now:>10} {:>8} {spread:>7.2}%  NEW",
                    "-", "-"
                );
                continue;
            };
            let moved = if was == now { 0.0 } else { (now - was) / was };
            let held = match most {
                Some(slack) => now <= was + slack,
                None => moved.abs() <= TOLERANCE,
            };
            let mark = if held { "" } else { "  MOVED" };
            if !held {
                verdict = Verdict::Moved;
            }
            let _ = writeln!(
                text,
                "{what:<24} {road:<10} {was:>10} {now:>10} {:>+7.2}% {spread:>7.2}%{mark}",
                moved * 100.0
            );
        }
    }
    (text, verdict)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roads::Road;

    fn measured(instructions: f64, allocations: f64) -> Measured {
        let counts = |each| vec![Counts { road: Road::Http1, each: vec![each; 3] }];
        Measured { instructions: counts(instructions), allocations: counts(allocations) }
    }

    fn verdict(was: &Measured, now: &Measured) -> Verdict {
        table(now, &Figures::of(was), &Figures::of(now)).1
    }

    #[test]
    fn instructions_may_move_by_a_hundredth_either_way() {
        let was = measured(20_000.0, 3.0);
        assert_eq!(verdict(&was, &measured(20_190.0, 3.0)), Verdict::Held);
        assert_eq!(verdict(&was, &measured(20_210.0, 3.0)), Verdict::Moved);
        assert_eq!(verdict(&was, &measured(19_790.0, 3.0)), Verdict::Moved);
    }

    #[test]
    fn allocations_may_only_become_fewer() {
        let was = measured(20_000.0, 3.0);
        assert_eq!(verdict(&was, &measured(20_000.0, 3.04)), Verdict::Held);
        assert_eq!(verdict(&was, &measured(20_000.0, 4.0)), Verdict::Moved);
        assert_eq!(verdict(&was, &measured(20_000.0, 0.0)), Verdict::Held);
        assert_eq!(verdict(&measured(20_000.0, 0.0), &measured(20_000.0, 1.0)), Verdict::Moved);
    }

    #[test]
    fn a_road_without_a_figure_is_not_passed_over() {
        let now = measured(20_000.0, 3.0);
        assert_eq!(table(&now, &Figures::default(), &Figures::of(&now)).1, Verdict::Moved);
    }
}
