//! The picture of the table: each figure as a share of Envoy's, bars side by side, as plain SVG.

use std::fmt::Write as _;

/// One scenario's bars.
pub struct Bars {
    pub title: &'static str,
    /// Peer and its share of Envoy's figure.
    pub shares: Vec<(&'static str, f64)>,
}

const LEFT: f64 = 300.0;
const WIDTH: f64 = 900.0;
const BAR: f64 = 11.0;
const GAP: f64 = 14.0;
/// A longer bar is cut, and its figure says so.
const SHARE_MAX: f64 = 1.6;

fn colour(peer: &str) -> &'static str {
    match peer {
        "weft" => "#0b7285",
        "envoy" => "#adb5bd",
        "haproxy" => "#e8a33d",
        "nginx" => "#7cb76b",
        _ => "#343a40",
    }
}

pub fn svg(scenarios: &[Bars]) -> String {
    let rows: f64 = scenarios.iter().map(|bars| bars.shares.len() as f64 * BAR + GAP).sum();
    let height = rows + 60.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    let scale = (WIDTH - LEFT - 60.0) / SHARE_MAX;
    for (index, peer) in ["weft", "envoy", "haproxy", "nginx", "floor"].into_iter().enumerate() {
        let x = LEFT + index as f64 * 90.0;
        let _ = writeln!(
            text,
            "<rect x=\"{x}\" y=\"12\" width=\"11\" height=\"11\" fill=\"{}\"/><text x=\"{}\" y=\"22\">{peer}</text>",
            colour(peer),
            x + 16.0
        );
    }
    let _ = writeln!(
        text,
        "<line x1=\"{0}\" x2=\"{0}\" y1=\"34\" y2=\"{1}\" stroke=\"#adb5bd\" stroke-dasharray=\"3 3\"/>",
        LEFT + scale,
        height - 10.0
    );
    let mut y = 40.0;
    for bars in scenarios {
        let middle = y + bars.shares.len() as f64 * BAR / 2.0 + 4.0;
        let _ = writeln!(
            text,
            "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{}</text>",
            LEFT - 10.0,
            escaped(bars.title)
        );
        for (peer, share) in bars.shares.iter().filter(|(_, share)| share.is_finite()) {
            let length = share.clamp(0.0, SHARE_MAX) * scale;
            let cut = if *share > SHARE_MAX { "…" } else { "" };
            let _ = writeln!(
                text,
                "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{length:.1}\" height=\"{:.1}\" fill=\"{}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" font-size=\"9\">{share:.2}{cut}</text>",
                BAR - 1.5,
                colour(peer),
                LEFT + length + 4.0,
                y + BAR - 3.0
            );
            y += BAR;
        }
        y += GAP;
    }
    text.push_str("</svg>\n");
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_for_each_peer_and_none_for_nonsense() {
        let bars = Bars { title: "a < b", shares: vec![("weft", 0.3), ("envoy", 1.0), ("nginx", f64::NAN)] };
        let picture = svg(&[bars]);
        assert_eq!(picture.matches("font-size=\"9\"").count(), 2, "{picture}");
        assert!(picture.contains("a &lt; b") && picture.ends_with("</svg>\n"));
    }
}
