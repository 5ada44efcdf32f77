//! The results: samples, percentiles, and rows with measurements and goals, as text, Markdown and JSON.

use comfy_table::{ContentArrangement, Table, TableStyle, presets};
use serde_json::{Value, json};

/// The percentiles of a row.
const PERCENTS: [usize; 4] = [50, 95, 99, 100];

/// The measurements of one quantity, in order.
#[derive(Debug, Default, Clone)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    pub(crate) fn extend(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The nearest-rank percentile, always a measured value: of two values, the 50th is the lower one.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
    }
}

impl Samples {
    /// Each sample divided by that of the same round of `other`.
    pub(crate) fn ratios_to(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(one, another)| one / another).collect())
    }
}

impl From<f64> for Samples {
    fn from(value: f64) -> Self {
        Self(vec![value])
    }
}

/// What a percentile of a row should be.
#[derive(Debug, Clone, Copy)]
struct Goal {
    percent: usize,
    bound: Bound,
}

#[derive(Debug, Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// One measured quantity and its goals.
#[derive(Debug)]
pub(crate) struct Row {
    what: String,
    unit: &'static str,
    samples: Samples,
    goals: Vec<Goal>,
}

impl Row {
    pub(crate) fn new(what: impl Into<String>, unit: &'static str, samples: impl Into<Samples>) -> Self {
        Self { what: what.into(), unit, samples: samples.into(), goals: Vec::new() }
    }

    /// With the goal that this percentile is at most this.
    pub(crate) fn at_most(mut self, percent: usize, most: f64) -> Self {
        self.goals.push(Goal { percent, bound: Bound::AtMost(most) });
        self
    }

    /// With the goal that the median is at least this.
    pub(crate) fn at_least(mut self, least: f64) -> Self {
        self.goals.push(Goal { percent: 50, bound: Bound::AtLeast(least) });
        self
    }

    fn is_met(&self, goal: Goal) -> bool {
        let value = self.samples.percentile(goal.percent);
        match goal.bound {
            Bound::AtMost(most) => value <= most,
            Bound::AtLeast(least) => value >= least,
        }
    }

    /// A goal and whether it is met, such as `p95 <= 15: missed`.
    fn verdict(&self, goal: Goal) -> String {
        let percentile = if self.samples.len() > 1 { name_of(goal.percent) + " " } else { String::new() };
        let bound = match goal.bound {
            Bound::AtMost(most) => format!("<= {most}"),
            Bound::AtLeast(least) => format!(">= {least}"),
        };
        format!("{percentile}{bound}: {}", if self.is_met(goal) { "met" } else { "missed" })
    }

    fn cells(&self) -> Vec<String> {
        let percents = &PERCENTS[..if self.samples.len() > 1 { 4 } else { 1 }];
        let mut numbers: Vec<String> =
            percents.iter().map(|percent| shown(self.samples.percentile(*percent))).collect();
        numbers.resize(PERCENTS.len(), String::new());
        let goals: Vec<String> = self.goals.iter().map(|goal| self.verdict(*goal)).collect();
        [vec![self.what.clone()], numbers, vec![self.unit.to_owned(), goals.join(", ")]].concat()
    }

    fn json(&self) -> Value {
        let goal = |goal: &Goal| {
            let (kind, bound) = match goal.bound {
                Bound::AtMost(most) => ("at_most", most),
                Bound::AtLeast(least) => ("at_least", least),
            };
            json!({"of": name_of(goal.percent), kind: bound, "met": self.is_met(*goal)})
        };
        let [p50, p95, p99, max] = PERCENTS.map(|percent| self.samples.percentile(percent));
        json!({
            "what": self.what, "unit": self.unit, "samples": self.samples.len(), "p50": p50, "p95": p95, "p99": p99, "max": max,
            "goals": self.goals.iter().map(goal).collect::<Vec<_>>(),
        })
    }
}

fn name_of(percent: usize) -> String {
    if percent == 100 { "max".to_owned() } else { format!("p{percent}") }
}

/// Three significant digits are more than any of these repeats.
pub(crate) fn shown(value: f64) -> String {
    let decimals = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

/// pgdibs beside the plain side, for the picture.
#[derive(Debug)]
pub(crate) struct Pair {
    /// The callers and the way to the server.
    pub(crate) what: String,
    /// Cycles per second.
    pub(crate) rates: [f64; 2],
    /// The median milliseconds from a caller's request until its database is there.
    pub(crate) waits: [f64; 2],
}

/// What a run has measured.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// Date, versions, machine; known once the server runs.
    pub(crate) title: String,
    /// Ratios to plain Postgres and to smaller sizes first: they depend least on the machine.
    pub(crate) ratios: Vec<Row>,
    pub(crate) rows: Vec<Row>,
    pub(crate) pairs: Vec<Pair>,
    /// Goals that this run did not measure, and what measures them.
    pub(crate) not_measured: Vec<[String; 2]>,
    /// Whether each part ran to its end.
    pub(crate) complete: bool,
}

impl Results {
    fn all(&self) -> impl Iterator<Item = &Row> {
        self.ratios.iter().chain(&self.rows)
    }

    /// How many goals are met, of how many.
    fn goals(&self) -> (usize, usize) {
        let met: Vec<bool> = self.all().flat_map(|row| row.goals.iter().map(|goal| row.is_met(*goal))).collect();
        (met.iter().filter(|met| **met).count(), met.len())
    }

    fn table(&self, style: TableStyle) -> String {
        let mut table = Table::new();
        table.load_style(style).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(["what", "p50", "p95", "p99", "max", "unit", "goal"]);
        table.add_rows(self.all().map(Row::cells));
        table.trim_fmt()
    }

    fn sentence(&self) -> String {
        let (met, goals) = self.goals();
        let part = if self.complete { "" } else { " Parts were left out, or did not end." };
        format!("{met} of {goals} measured goals are met.{part}")
    }

    /// For a terminal.
    pub(crate) fn text(&self) -> String {
        let not_measured: String =
            self.not_measured.iter().map(|[goal, command]| format!("\n  {goal}: {command}")).collect();
        let title = &self.title;
        format!("{title}\n\n{}\n\n{}\n\nNot measured:{not_measured}", self.table(presets::NOTHING), self.sentence())
    }

    /// For a page.
    pub(crate) fn markdown(&self) -> String {
        let not_measured: String =
            self.not_measured.iter().map(|[goal, command]| format!("\n- {goal}: {command}")).collect();
        format!(
            "{}\n\n{}\n\n{} Not measured:\n{not_measured}",
            self.title,
            self.table(presets::ASCII_MARKDOWN),
            self.sentence()
        )
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let not_measured: Vec<Value> =
            self.not_measured.iter().map(|[goal, command]| json!({"goal": goal, "command": command})).collect();
        let rows: Vec<Value> = self.all().map(Row::json).collect();
        json!({"title": self.title, "complete": self.complete, "rows": rows, "not_measured": not_measured})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[f64]) -> Samples {
        Samples(values.to_vec())
    }

    #[test]
    fn percentile_is_a_measured_value() {
        let five = samples(&[5.0, 1.0, 4.0, 2.0, 3.0]);
        assert_eq!([0, 20, 21, 50, 95, 100].map(|percent| five.percentile(percent)), [1.0, 1.0, 2.0, 3.0, 5.0, 5.0]);
        assert!(Samples::default().percentile(50).is_nan());
    }

    #[test]
    fn goal_is_met_at_its_bound() {
        let verdicts = |row: Row| row.goals.iter().map(|goal| row.verdict(*goal)).collect::<Vec<_>>();
        assert_eq!(verdicts(Row::new("", "ms", 10.0).at_most(50, 10.0)), ["<= 10: met"]);
        assert_eq!(verdicts(Row::new("", "ms", 10.1).at_most(50, 10.0)), ["<= 10: missed"]);
        assert_eq!(verdicts(Row::new("", "x", 0.9).at_least(0.9)), [">= 0.9: met"]);
        assert_eq!(verdicts(Row::new("", "x", f64::NAN).at_least(0.9)), [">= 0.9: missed"]);
        let spread = Row::new("", "ms", samples(&[1.0, 2.0, 9.0])).at_most(50, 2.0).at_most(95, 8.0);
        assert_eq!(verdicts(spread), ["p50 <= 2: met", "p95 <= 8: missed"]);
    }

    #[test]
    fn formats_have_missed_goals_and_what_is_not_measured() {
        let results = Results {
            title: "a machine".to_owned(),
            ratios: vec![Row::new("ratio", "x", 0.8).at_least(1.0)],
            rows: vec![Row::new("wait", "ms", samples(&[1.0, 2.0])).at_most(50, 1.5)],
            not_measured: vec![["10 GB".to_owned(), "a command".to_owned()]],
            ..Results::default()
        };
        for text in [results.text(), results.markdown()] {
            let position = |needle: &str| text.find(needle).unwrap_or_else(|| panic!("no {needle}: {text}"));
            assert!(position(">= 1: missed") < position("p50 <= 1.5: met"));
            position("1 of 2 measured goals are met. Parts were left out, or did not end.");
            position("10 GB: a command");
        }
        let json = results.json();
        assert_eq!(json["rows"][0]["goals"][0], json!({"of": "p50", "at_least": 1.0, "met": false}));
        assert_eq!(json["rows"][1]["max"], 2.0);
        assert_eq!(json["not_measured"][0]["command"], "a command");
    }

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!([0.123, 1.234, 12.34, 123.4].map(shown), ["0.12", "1.23", "12.3", "123"]);
    }
}
