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

/// One measured number.
#[derive(Debug)]
pub(crate) struct Row {
    what: String,
    value: f64,
    unit: &'static str,
    goal: Goal,
}

impl Row {
    pub(crate) fn at_most(what: &str, value: f64, unit: &'static str, most: f64) -> Self {
        Self { what: what.to_owned(), value, unit, goal: Goal::AtMost(most) }
    }

    pub(crate) fn at_least(what: &str, value: f64, unit: &'static str, least: f64) -> Self {
        Self { what: what.to_owned(), value, unit, goal: Goal::AtLeast(least) }
    }

    /// A number without a goal.
    pub(crate) fn without_goal(what: &str, value: f64, unit: &'static str) -> Self {
        Self { what: what.to_owned(), value, unit, goal: Goal::None }
    }

    fn met(&self) -> Option<bool> {
        match self.goal {
            Goal::None => None,
            Goal::AtMost(most) => Some(self.value <= most),
            Goal::AtLeast(least) => Some(self.value >= least),
        }
    }
}

/// The report.
#[derive(Debug)]
pub(crate) struct Results {
    /// The server, the template and the machine.
    pub(crate) title: String,
    pub(crate) rows: Vec<Row>,
    /// Further data of the JSON output.
    pub(crate) about: Value,
}

impl Results {
    /// The text output.
    pub(crate) fn table(&self) -> String {
        let cells = |row: &Row| {
            let goal = match row.goal {
                Goal::None => String::new(),
                Goal::AtMost(most) => format!("<= {most} {}", row.unit),
                Goal::AtLeast(least) => format!(">= {least} {}", row.unit),
            };
            let met = row.met().map_or("", |met| if met { "yes" } else { "no" });
            [row.what.clone(), format!("{:.2} {}", row.value, row.unit), goal, met.to_owned()]
        };
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(["WHAT", "MEASURED", "GOAL", "MET"]);
        table.add_rows(self.rows.iter().map(cells));
        table.trim_fmt()
    }

    /// The JSON output.
    pub(crate) fn json(&self) -> Value {
        let row = |row: &Row| {
            let goal = match row.goal {
                Goal::None => Value::Null,
                Goal::AtMost(most) => json!({"at_most": most}),
                Goal::AtLeast(least) => json!({"at_least": least}),
            };
            json!({"what": row.what.trim(), "measured": row.value, "unit": row.unit, "goal": goal, "met": row.met()})
        };
        json!({"rows": self.rows.iter().map(row).collect::<Vec<_>>(), "about": self.about})
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
        assert_eq!(met(Row::at_most("", 10.0, "ms", 10.0)), Some(true));
        assert_eq!(met(Row::at_most("", 10.1, "ms", 10.0)), Some(false));
        assert_eq!(met(Row::at_least("", 0.9, "x", 0.9)), Some(true));
        assert_eq!(met(Row::at_least("", 0.8, "x", 0.9)), Some(false));
        assert_eq!(met(Row::at_most("", f64::NAN, "ms", 10.0)), Some(false));
        assert_eq!(met(Row::without_goal("", 1.0, "ms")), None);
    }
}
