//! The durations that a file has, and the tests that stand for all of them.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;

use super::durations::{Durations, Origin, junit_key};
use super::measure::Measurement;
use super::runner::Interrupted;
use crate::error::CliError;

/// Seconds of tests in a sample.
const SAMPLE: f64 = 24.0;
const QUICK_SAMPLE: f64 = 5.0;

impl Measurement<'_> {
    /// The durations of `--durations-from`, or of pytest-split in the root of the project.
    pub(crate) async fn read_durations(&mut self) -> Result<Result<(), Interrupted>, CliError> {
        let of_split = Path::new(&self.measured.options.root).join(".test_durations");
        let path = match &self.durations_from {
            Some(path) => Path::new(path).to_owned(),
            None if of_split.is_file() => of_split,
            None => return Ok(Ok(())),
        };
        let unreadable = |why: &str| {
            CliError::failed(format!("cannot read the durations in {}: {why}", path.display()))
                .hint("give the JSON file of pytest-split (`pytest --store-durations`) or the JUnit file of `pytest --junitxml=FILE`")
        };
        let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&error.to_string()))?;
        let ids = self.measured.ids.clone();
        let mut seconds: HashMap<String, f64> = if text.trim_start().starts_with('<') {
            let mut words =
                vec![OsString::from(&self.measured.python), self.runner.probe().into(), path.clone().into()];
            words.truncate(3);
            let ran = match self.runner.run(&words, &[], self.budget.limit()).await {
                Ok(ran) => ran,
                Err(interrupted) => return Ok(Err(interrupted)),
            };
            let of_junit: HashMap<String, f64> =
                serde_json::from_str(ran.printed()).map_err(|_| unreadable("it is no JUnit file"))?;
            ids.iter().filter_map(|id| Some((id.clone(), *of_junit.get(&junit_key(id))?))).collect()
        } else {
            serde_json::from_str(&text).map_err(|error| unreadable(&error.to_string()))?
        };
        // A clock that was set back, or a file that was edited.
        seconds.retain(|_, seconds| seconds.is_finite() && *seconds >= 0.0);
        let known = ids.iter().filter(|id| seconds.contains_key(*id)).count();
        if known == 0 && !ids.is_empty() {
            return Err(unreadable("it has none of the tests that the command collects"));
        }
        self.measured.durations =
            Some(Durations::new(Origin::File(path.display().to_string()), &ids, &seconds, &HashMap::new()));
        self.choose_sample();
        Ok(Ok(()))
    }

    /// Chooses the tests that the runs at once run, and writes them for the probe.
    pub(crate) fn choose_sample(&mut self) {
        let Some(durations) = &self.measured.durations else { return };
        let sample = durations.sample(if self.measured.is_quick { QUICK_SAMPLE } else { SAMPLE });
        let ids: Vec<&str> = sample.iter().filter_map(|test| durations.ids.get(*test)).map(String::as_str).collect();
        let _unwritable = std::fs::write(self.runner.place("sample"), ids.join("\n"));
        self.measured.sample_seconds = sample.iter().map(|test| durations.tests[*test].seconds).sum();
        self.measured.sample_size = sample.len();
    }
}
