//! A scrape's text: OpenMetrics 1.0 or Prometheus 0.0.4, whichever the scraper asks for.
//!
//! Histograms are kept log-linear and shown at fixed bounds in seconds; a value within 1/32 above a
//! bound counts as below it, as the bucket it fell into doesn't say more.

use std::fmt::Write;

use crate::Histogram;
use crate::shard::{Labels, Merged, MergedFamily, Type, Value};

/// Which of the two texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    OpenMetrics,
    Prometheus,
}

/// The bounds shown, in microseconds, with the text of the same in seconds.
const BOUNDS: [(u64, &str); 18] = [
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1.0"),
    (2_500_000, "2.5"),
    (5_000_000, "5.0"),
    (10_000_000, "10.0"),
    (30_000_000, "30.0"),
    (60_000_000, "60.0"),
    (300_000_000, "300.0"),
    (3_600_000_000, "3600.0"),
];

impl Exposition {
    /// By the scraper's `Accept`: OpenMetrics when it is named at least as warmly as plain text.
    pub fn negotiate(accept: Option<&str>) -> Self {
        let (mut open, mut plain) = (0.0_f32, 0.0_f32);
        for part in accept.unwrap_or_default().split(',') {
            let mut words = part.split(';').map(str::trim);
            let media = words.next().unwrap_or_default();
            let parameters: Vec<&str> = words.collect();
            let value = |name: &str| {
                parameters.iter().find_map(|word| word.strip_prefix(name)?.trim_start().strip_prefix('='))
            };
            let q = value("q").and_then(|q| q.trim().parse().ok()).unwrap_or(1.0);
            let version = value("version").map(|version| version.trim().trim_matches('"'));
            if media.eq_ignore_ascii_case("application/openmetrics-text")
                && version.is_none_or(|version| version.starts_with("1.") || version == "0.0.1")
            {
                open = open.max(q);
            } else if media.eq_ignore_ascii_case("text/plain") || media == "text/*" || media == "*/*" {
                plain = plain.max(q);
            }
        }
        if open > 0.0 && open >= plain { Self::OpenMetrics } else { Self::Prometheus }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    pub fn render(self, merged: &Merged) -> String {
        let mut out = String::new();
        for family in merged.families.iter().filter(|family| !family.series.is_empty()) {
            self.family(&mut out, family);
        }
        if self == Self::OpenMetrics {
            out.push_str("# EOF\n");
        }
        out
    }

    fn family(self, out: &mut String, family: &MergedFamily) {
        let metric = &family.metric;
        let kind = match metric.kind {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
            Type::Histogram => "histogram",
        };
        // Prometheus' older text names the family as its sample; OpenMetrics without `_total`.
        let suffix = if metric.kind == Type::Counter { "_total" } else { "" };
        let shown = if self == Self::Prometheus { suffix } else { "" };
        let name = metric.name;
        out.push_str("# HELP ");
        out.push_str(name);
        out.push_str(shown);
        out.push(' ');
        escape(out, metric.help, self == Self::OpenMetrics);
        line(out, format_args!("\n# TYPE {name}{shown} {kind}"));
        if let (Self::OpenMetrics, Some(unit)) = (self, metric.unit) {
            // The format demands that the name ends in its unit; without that the line is left out.
            if name.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_')) {
                line(out, format_args!("# UNIT {name} {unit}"));
            }
        }
        for (labels, value) in &family.series {
            match value {
                Value::Counter(count) => sample(out, name, suffix, labels, None, format_args!("{count}")),
                Value::Gauge(count) => sample(out, name, "", labels, None, format_args!("{count}")),
                Value::Histogram(histogram) => histogram_samples(out, name, labels, histogram),
            }
        }
    }
}

fn histogram_samples(out: &mut String, name: &str, labels: &Labels, histogram: &Histogram) {
    for (bound, le) in BOUNDS {
        sample(out, name, "_bucket", labels, Some(le), format_args!("{}", histogram.count_to(bound)));
    }
    let count = histogram.count();
    sample(out, name, "_bucket", labels, Some("+Inf"), format_args!("{count}"));
    let sum = histogram.sum();
    sample(out, name, "_sum", labels, None, format_args!("{}.{:06}", sum / 1_000_000, sum % 1_000_000));
    sample(out, name, "_count", labels, None, format_args!("{count}"));
}

fn sample(
    out: &mut String,
    name: &str,
    suffix: &str,
    labels: &Labels,
    le: Option<&str>,
    value: std::fmt::Arguments<'_>,
) {
    out.push_str(name);
    out.push_str(suffix);
    let mut open = false;
    let pairs = labels.iter().map(|(name, value)| (*name, value.as_str()));
    for (label, value) in pairs.chain(le.map(|le| ("le", le))) {
        out.push(if open { ',' } else { '{' });
        open = true;
        out.push_str(label);
        out.push_str("=\"");
        escape(out, value, true);
        out.push('"');
    }
    if open {
        out.push('}');
    }
    line(out, format_args!(" {value}"));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _ = out.write_fmt(text);
    out.push('\n');
}

/// Backslash and newline as both formats want them, and quotes where they are wanted too.
fn escape(out: &mut String, text: &str, quotes: bool) {
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests;
