//! The benchmark's report: samples, percentiles, and rows with measurements and goals.

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};

/// The measurements of one quantity, in order.
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    pub(crate) fn extend(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    pub(crate) fn all(&self) -> &[f64] {
        &self.0
    }

    /// The nearest-rank percentile, always a measured value: of two values, the 50th is the lower one.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
    }
}

/// The goal of a row.
#[derive(Debug, Clone, Copy)]
enum Goal {
    None,
    AtMost(f64),
    AtLeast(f64),
}

/// One measured quantity: the value that its goal is about, and the spread of its samples.
#[derive(Debug)]
pub(crate) struct Row {
    what: String,
    value: f64,
    unit: &'static str,
    goal: Goal,
    samples: Vec<f64>,
}

impl Row {
    /// The median of samples.
    pub(crate) fn median(what: impl Into<String>, samples: &Samples, unit: &'static str) -> Self {
        Self { samples: samples.all().to_vec(), ..Self::single(what, samples.percentile(50), unit) }
    }

    /// One number.
    pub(crate) fn single(what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { what: what.into(), value, unit, goal: Goal::None, samples: Vec::new() }
    }

    /// With the goal that the value is at most this.
    pub(crate) fn at_most(self, most: f64) -> Self {
        Self { goal: Goal::AtMost(most), ..self }
    }

    /// With the goal that the value is at least this.
    pub(crate) fn at_least(self, least: f64) -> Self {
        Self { goal: Goal::AtLeast(least), ..self }
    }

    /// A row with a goal about another percentile of the same samples.
    pub(crate) fn percentile(what: impl Into<String>, samples: &Samples, percent: usize, unit: &'static str) -> Self {
        Self::single(what, samples.percentile(percent), unit)
    }

    fn met(&self) -> Option<bool> {
        match self.goal {
            Goal::None => None,
            Goal::AtMost(most) => Some(self.value <= most),
            Goal::AtLeast(least) => Some(self.value >= least),
        }
    }

    /// The 95th and the 99th percentile and the greatest sample; a single number has none.
    fn spread(&self) -> Option<[f64; 3]> {
        let samples = Samples(self.samples.clone());
        (self.samples.len() > 1).then(|| [95, 99, 100].map(|percent| samples.percentile(percent)))
    }
}

/// The report.
#[derive(Debug)]
pub(crate) struct Results {
    /// The server, the template and the machine.
    pub(crate) title: String,
    /// Ratios to plain Postgres and to smaller sizes first: they depend least on the machine.
    pub(crate) ratios: Vec<Row>,
    pub(crate) rows: Vec<Row>,
    /// Further data of the JSON output.
    pub(crate) about: Value,
}

impl Results {
    fn all(&self) -> impl Iterator<Item = &Row> {
        self.ratios.iter().chain(&self.rows)
    }

    /// The text output.
    pub(crate) fn table(&self) -> String {
        let cells = |row: &Row| {
            let goal = match row.goal {
                Goal::None => String::new(),
                Goal::AtMost(most) => format!("<= {most}"),
                Goal::AtLeast(least) => format!(">= {least}"),
            };
            let met = row.met().map_or("", |met| if met { "met" } else { "missed" });
            let spread = row.spread().map(|spread| spread.map(|value| format!("{value:.2}"))).unwrap_or_default();
            let value = format!("{:.2}", row.value);
            [vec![row.what.clone(), value], spread.to_vec(), vec![row.unit.to_owned(), goal, met.to_owned()]].concat()
        };
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(["WHAT", "MEDIAN", "P95", "P99", "MAX", "UNIT", "GOAL", ""]);
        table.add_rows(self.all().map(cells));
        let missed = self.all().filter(|row| row.met() == Some(false)).count();
        let goals = self.all().filter(|row| row.met().is_some()).count();
        format!("{}\n\n{} of {goals} goals met", table.trim_fmt(), goals - missed)
    }

    /// The JSON output.
    pub(crate) fn json(&self) -> Value {
        let row = |row: &Row| {
            let goal = match row.goal {
                Goal::None => Value::Null,
                Goal::AtMost(most) => json!({"at_most": most}),
                Goal::AtLeast(least) => json!({"at_least": least}),
            };
            json!({
                "what": row.what.trim(), "measured": row.value, "unit": row.unit, "goal": goal, "met": row.met(),
                "spread": row.spread().map(|[p95, p99, max]| json!({"p95": p95, "p99": p99, "max": max})),
                "samples": row.samples,
            })
        };
        json!({"title": self.title, "rows": self.all().map(row).collect::<Vec<_>>(), "about": self.about})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentile_is_a_measured_value() {
        let mut samples = Samples::default();
        for value in [5.0, 1.0, 4.0, 2.0, 3.0] {
            samples.add(value);
        }
        assert_eq!([0, 20, 21, 50, 95, 100].map(|percent| samples.percentile(percent)), [1.0, 1.0, 2.0, 3.0, 5.0, 5.0]);
        assert!(Samples::default().percentile(50).is_nan());
    }

    #[test]
    fn goal_is_met_at_its_bound() {
        let met = |row: Row| row.met();
        assert_eq!(met(Row::single("", 10.0, "ms").at_most(10.0)), Some(true));
        assert_eq!(met(Row::single("", 10.1, "ms").at_most(10.0)), Some(false));
        assert_eq!(met(Row::single("", 0.9, "x").at_least(0.9)), Some(true));
        assert_eq!(met(Row::single("", 0.8, "x").at_least(0.9)), Some(false));
        assert_eq!(met(Row::single("", f64::NAN, "ms").at_most(10.0)), Some(false));
        assert_eq!(met(Row::single("", 1.0, "ms")), None);
    }
}
