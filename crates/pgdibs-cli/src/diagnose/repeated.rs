//! Named seconds of several runs: import lines and packages, with their medians.

use std::collections::HashMap;

use super::events::ImportLine;
use super::samples::Samples;

/// The import lines of several runs, and the packages of several.
#[derive(Debug, Clone)]
pub(crate) struct Repeated<K> {
    seconds: HashMap<K, Vec<f64>>,
    runs: usize,
}

impl<K> Default for Repeated<K> {
    fn default() -> Self {
        Self { seconds: HashMap::new(), runs: 0 }
    }
}

impl<K: std::hash::Hash + Eq + Clone + Ord> Repeated<K> {
    fn add_all(&mut self, all: impl Iterator<Item = (K, f64)>) {
        self.runs += 1;
        for (key, seconds) in all {
            self.seconds.entry(key).or_default().push(seconds);
        }
    }

    /// The medians, the largest first; what a run did not have counts as 0 there.
    pub(crate) fn medians(&self) -> Vec<(K, f64)> {
        let of = |seconds: &Vec<f64>| {
            let mut padded = seconds.clone();
            padded.resize(self.runs.max(seconds.len()), 0.0);
            Samples::of(&padded).median().unwrap_or_default()
        };
        let mut medians: Vec<(K, f64)> = self.seconds.iter().map(|(key, seconds)| (key.clone(), of(seconds))).collect();
        medians.sort_by(|one, other| other.1.total_cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        medians
    }
}

impl Repeated<String> {
    pub(crate) fn add(&mut self, packages: &[(String, f64)]) {
        self.add_all(packages.iter().cloned());
    }
}

/// File, line, module.
pub(crate) type ImportKey = (String, u32, String);

impl Repeated<ImportKey> {
    pub(crate) fn add(&mut self, lines: &[ImportLine]) {
        self.add_all(lines.iter().map(|line| ((line.file.clone(), line.line, line.what.clone()), line.seconds)));
    }

    /// The lines with their medians, the largest first.
    pub(crate) fn sorted(&self) -> Vec<ImportLine> {
        let of = |((file, line, what), seconds)| ImportLine { file, line, what, seconds };
        self.medians().into_iter().map(of).collect()
    }
}
