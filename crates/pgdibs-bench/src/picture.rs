//! The picture of a run: pgdibs beside the plain side, as an SVG without external references, for light and dark pages.

use std::fmt::Write as _;

use crate::results::{Pair, shown};

/// In pixels: the picture, the column of names, the longest bar, a row.
const WIDTH: f64 = 760.0;
const NAMES: f64 = 150.0;
const BARS: f64 = 540.0;
const ROW: f64 = 18.0;

const STYLE: &str = "
  text { font: 13px ui-sans-serif, system-ui, sans-serif; fill: #1f2933; }
  .head { font-size: 15px; font-weight: 600; }
  .small { font-size: 11px; fill: #52606d; }
  .pgdibs { fill: #2f855a; }
  .plain { fill: #9aa5b1; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .small { fill: #9fb3c8; } .pgdibs { fill: #48bb78; } .plain { fill: #627d98; }
  }
";

/// The picture of these pairs; `title` says where and when they were measured.
pub(crate) fn svg(title: &str, pairs: &[Pair]) -> String {
    let mut body = String::new();
    let mut y = 24.0;
    for (name, which) in [("pgdibs", 0.0), ("plain CREATE and DROP DATABASE", 90.0)] {
        let class = if which == 0.0 { "pgdibs" } else { "plain" };
        rectangle(&mut body, class, NAMES + which, y - 11.0, 12.0);
        text(&mut body, "", NAMES + which + 18.0, y, name);
    }
    let waits = pairs.iter().map(|pair| (pair.what.as_str(), pair.waits));
    y = panel(&mut body, y + 34.0, "Milliseconds until a caller has its database, median: shorter is better", waits);
    let rates = pairs.iter().map(|pair| (pair.what.as_str(), pair.rates));
    y = panel(&mut body, y + 22.0, "Databases used per second: longer is better", rates);
    text(&mut body, "small", 0.0, y + 12.0, title);
    let height = y + 22.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"-8 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\" \
         aria-labelledby=\"title desc\">\n<title id=\"title\">pgdibs beside plain Postgres</title>\n\
         <desc id=\"desc\">{}</desc>\n<style>{STYLE}</style>\n{body}</svg>\n",
        escaped(&description(pairs)),
    )
}

/// Draws two bars for each row; returns the y below them.
fn panel<'a>(body: &mut String, top: f64, head: &str, rows: impl Iterator<Item = (&'a str, [f64; 2])> + Clone) -> f64 {
    text(body, "head", 0.0, top, head);
    let longest = rows.clone().flat_map(|(_, values)| values).fold(f64::MIN_POSITIVE, f64::max);
    let mut y = top + 12.0;
    for (name, values) in rows {
        text(body, "", 0.0, y + ROW + 4.0, name);
        for (class, value) in ["pgdibs", "plain"].into_iter().zip(values) {
            let width = (BARS * value / longest).max(1.0);
            rectangle(body, class, NAMES, y + 2.0, width);
            text(body, "", NAMES + width + 6.0, y + ROW - 4.0, &shown(value));
            y += ROW;
        }
        y += 8.0;
    }
    y
}

fn rectangle(body: &mut String, class: &str, x: f64, y: f64, width: f64) {
    let height = ROW - 4.0;
    let _infallible = writeln!(
        body,
        "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width:.1}\" height=\"{height}\" rx=\"2\"/>"
    );
}

fn text(body: &mut String, class: &str, x: f64, y: f64, text: &str) {
    let _infallible = writeln!(body, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y}\">{}</text>", escaped(text));
}

/// What the bars say, for readers who do not see them.
fn description(pairs: &[Pair]) -> String {
    let sentence = |pair: &Pair| {
        let ([wait, plain_wait], [rate, plain_rate]) = (pair.waits.map(shown), pair.rates.map(shown));
        format!("{}: {wait} ms and {rate} per second; plain {plain_wait} ms and {plain_rate} per second.", pair.what)
    };
    pairs.iter().map(sentence).collect::<Vec<_>>().join(" ")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_in_proportion_and_text_is_escaped() {
        let pair = Pair { what: "1 caller <TCP>".to_owned(), rates: [50.0, 25.0], waits: [1.0, 20.0] };
        let picture = svg("a & b", &[pair]);
        for part in [
            ">1 caller &lt;TCP&gt;</text>",
            ">a &amp; b</text>",
            "class=\"pgdibs\" x=\"150\" y=\"72\" width=\"27.0\"",
            "width=\"540.0\"",
            "width=\"270.0\"",
            "prefers-color-scheme: dark",
        ] {
            assert!(picture.contains(part), "no {part}: {picture}");
        }
        assert_eq!(picture.matches("http").count(), 1, "only the name space: {picture}");
    }
}
