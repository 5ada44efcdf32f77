//! What the probe in the user's command wrote: phases, imports, fixtures and tests of each process.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

/// What a process of the command was seen to do.
#[derive(Debug, Clone, Default)]
pub(crate) struct Process {
    /// `main`, or xdist's name of the worker.
    pub(crate) worker: String,
    pub(crate) python: String,
    /// The directory of its environment.
    pub(crate) prefix: String,
    pub(crate) python_version: String,
    pub(crate) pytest_version: String,
    /// When each phase began or ended, in seconds since the epoch.
    pub(crate) marks: HashMap<String, f64>,
    pub(crate) options: Option<Options>,
    pub(crate) splits: Option<usize>,
    pub(crate) ids: Option<Vec<String>>,
    pub(crate) imports: Vec<ImportLine>,
    pub(crate) conftests: Vec<(String, f64)>,
    pub(crate) tests: Vec<RanTest>,
    pub(crate) fixtures: Vec<Fixture>,
    /// Seconds that the plugin of pgdibs waited for databases.
    pub(crate) databases: Option<f64>,
    /// The largest memory of the process, in bytes.
    pub(crate) memory: Option<u64>,
    /// Modules that were imported from source, and those of them that have no compiled file.
    pub(crate) modules: (usize, usize),
}

/// The options of pytest that the layout of a run follows from.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Options {
    pub(crate) root: String,
    pub(crate) workers: Option<usize>,
    pub(crate) dist: Option<String>,
    pub(crate) chunk: Option<usize>,
    pub(crate) scope_order: Option<bool>,
    /// The version of pytest-xdist, if it is loaded.
    pub(crate) xdist: Option<String>,
    /// The version of pytest-cov, if the command measures coverage.
    pub(crate) coverage: Option<String>,
    pub(crate) pgdibs: bool,
    pub(crate) pool: Option<String>,
    /// The daemon that the project names.
    pub(crate) url: Option<String>,
}

/// An import statement of the user's own files.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct ImportLine {
    pub(crate) file: String,
    pub(crate) line: u32,
    pub(crate) what: String,
    pub(crate) seconds: f64,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct RanTest {
    pub(crate) id: String,
    pub(crate) begun: f64,
    pub(crate) ended: f64,
    /// Seconds of session fixtures within it.
    session: f64,
    /// Seconds of fixtures of its file or class within it.
    pub(crate) file: f64,
}

impl RanTest {
    /// Seconds of the session fixtures that it was the first to request, or the last to use.
    pub(crate) fn session(&self) -> f64 {
        self.session
    }

    /// Seconds of the test without the fixtures that it shares with others.
    pub(crate) fn own(&self) -> f64 {
        (self.ended - self.begun - self.session - self.file).max(0.0)
    }
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Fixture {
    pub(crate) name: String,
    pub(crate) scope: String,
    pub(crate) seconds: f64,
    /// Whether it prepares a database, by its name, its source or what it requests.
    pub(crate) database: bool,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Event {
    Process { worker: String, at: f64, python: String, prefix: String, version: String, pytest: String },
    Mark { name: String, at: f64 },
    Options(Options),
    Splits { splits: Option<usize> },
    Items { ids: Vec<String> },
    Import(ImportLine),
    Conftest { file: String, seconds: f64 },
    Test(RanTest),
    Fixture(Fixture),
    Databases { seconds: f64 },
    Memory { bytes: u64 },
    Compiled { modules: usize, missing: usize },
}

/// Reads what all processes of a run wrote into a directory. A line that a killed process left half written is skipped.
pub(crate) fn read(directory: &Path) -> Vec<Process> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "jsonl"));
    let mut processes: Vec<Process> =
        files.filter_map(|file| std::fs::read_to_string(file).ok()).map(|text| process(&text)).collect();
    processes.sort_by(|one, other| one.worker.cmp(&other.worker));
    processes
}

fn process(text: &str) -> Process {
    let mut process = Process::default();
    for event in text.lines().filter_map(|line| serde_json::from_str(line).ok()) {
        match event {
            Event::Process { worker, at, python, prefix, version, pytest } => {
                process.marks.insert("loaded".to_owned(), at);
                (process.worker, process.python, process.prefix) = (worker, python, prefix);
                (process.python_version, process.pytest_version) = (version, pytest);
            }
            Event::Mark { name, at } => {
                process.marks.insert(name, at);
            }
            Event::Options(options) => process.options = Some(options),
            Event::Splits { splits } => process.splits = splits,
            Event::Items { ids } => process.ids = Some(ids),
            Event::Import(line) => process.imports.push(line),
            Event::Conftest { file, seconds } => process.conftests.push((file, seconds)),
            Event::Test(test) => process.tests.push(test),
            Event::Fixture(fixture) => process.fixtures.push(fixture),
            Event::Databases { seconds } => process.databases = Some(seconds),
            Event::Memory { bytes } => process.memory = Some(bytes),
            Event::Compiled { modules, missing } => process.modules = (modules, missing),
        }
    }
    process
}

impl Process {
    pub(crate) fn is_main(&self) -> bool {
        self.worker == "main"
    }

    pub(crate) fn mark(&self, name: &str) -> Option<f64> {
        self.marks.get(name).copied()
    }

    /// Seconds between two marks.
    pub(crate) fn between(&self, from: &str, to: &str) -> Option<f64> {
        Some((self.mark(to)? - self.mark(from)?).max(0.0))
    }
}

/// Seconds that each top-level package took for its own modules, the largest first, from the output of `-X importtime`.
pub(crate) fn packages(output: &str) -> Vec<(String, f64)> {
    let mut seconds: HashMap<&str, f64> = HashMap::new();
    for line in output.lines() {
        let Some(at) = line.find("import time:") else { continue };
        let mut columns = line[at + "import time:".len()..].split('|');
        let (Some(own), Some(_), Some(module)) = (columns.next(), columns.next(), columns.next()) else { continue };
        // The first line is the header.
        let Ok(own) = own.trim().parse::<f64>() else { continue };
        *seconds.entry(module.trim().split('.').next().unwrap_or_default()).or_default() += own / 1e6;
    }
    let mut packages: Vec<(String, f64)> = seconds.into_iter().map(|(name, took)| (name.to_owned(), took)).collect();
    packages.sort_by(|one, other| other.1.total_cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_of_half_written_lines_keeps_what_it_had_seen() {
        let text = r#"{"kind": "process", "worker": "gw1", "at": 5.0, "python": "/p", "prefix": "/e", "version": "3.11.2", "pytest": "9.2.0"}
{"kind": "mark", "name": "collection_end", "at": 7.5}
{"kind": "unknown"}
{"kind": "test", "id": "a.py::x", "begun": 8.0, "ended": 9.0, "session": 0.25, "file": 0.25}
{"kind": "test", "id": "a.py"#;
        let process = process(text);
        assert_eq!((process.worker.as_str(), process.between("loaded", "collection_end")), ("gw1", Some(2.5)));
        assert_eq!(process.tests.iter().map(RanTest::own).collect::<Vec<_>>(), [0.5]);
    }

    #[test]
    fn packages_sum_up_own_seconds_by_top_level_name() {
        let output = "import time: self [us] | cumulative | imported package\nimport time:       500 |        500 |     app.models\n\
                      noise\nimport time:   1000000 |    1000500 |   app\nimport time:      2000 |       2000 | json\n";
        assert_eq!(packages(output), [("app".to_owned(), 1.0005), ("json".to_owned(), 0.002)]);
    }
}
