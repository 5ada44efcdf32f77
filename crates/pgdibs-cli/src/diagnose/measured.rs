//! Everything that was measured about a command, and what could not be seen.

use std::collections::BTreeMap;

use super::durations::Durations;
use super::events::{Fixture, Options};
use super::repeated::{ImportKey, Repeated};
use super::samples::Samples;
use super::schedule::Dist;

/// A way to run the command: on how many machines, with how many workers each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Layout {
    pub(crate) shards: usize,
    /// 0 without xdist.
    pub(crate) workers: usize,
    pub(crate) dist: Dist,
}

impl Layout {
    /// The processes that import the application, on all machines: with xdist the controller imports it too.
    pub(crate) fn processes(self) -> usize {
        self.shards * if self.workers == 0 { 1 } else { self.workers + 1 }
    }

    /// The options of pytest, and of pytest-split.
    pub(crate) fn options(self) -> String {
        let workers = match self.workers {
            0 => "no -n".to_owned(),
            workers => format!("-n {workers} --dist {}", self.dist.name()),
        };
        if self.shards == 1 { workers } else { format!("{} machines, {workers}", self.shards) }
    }
}

/// What several processes at once took.
#[derive(Debug, Clone, Default)]
pub(crate) struct AtOnce {
    /// How many; 0 for pytest without xdist.
    pub(crate) processes: usize,
    /// From the start to the end of the command.
    pub(crate) wall: Samples,
    /// From the start to the workers' start; without xdist 0.
    pub(crate) before: Samples,
    /// Until the last of the processes has collected.
    pub(crate) start_up: Samples,
    /// From the last test to the end of the command.
    pub(crate) end: Samples,
    /// How many times longer the sampled tests, with the fixtures of their files, took than `durations` says.
    pub(crate) slower: Samples,
    /// Seconds between two tests of a worker.
    pub(crate) gap: Samples,
    /// Seconds of session fixtures, per worker.
    pub(crate) session: Samples,
    /// Seconds for databases, per worker, within the start-up.
    pub(crate) databases: Samples,
}

/// The database's part in the run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Database {
    /// Seconds that a process waits for its lease.
    pub(crate) lease: Samples,
    /// Seconds of session fixtures that prepare a database, per process.
    pub(crate) session: Samples,
    /// Seconds of other fixtures that prepare a database, in all tests together.
    pub(crate) tests: f64,
    /// Their names and seconds, the largest first.
    pub(crate) fixtures: Vec<Fixture>,
}

/// What could not be seen, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotSeen {
    pub(crate) what: String,
    pub(crate) why: String,
}

/// The measurements.
#[derive(Debug, Clone, Default)]
pub(crate) struct Measured {
    pub(crate) command: String,
    pub(crate) cores: usize,
    pub(crate) is_quick: bool,
    /// The interpreter, and the directory of its environment.
    pub(crate) python: String,
    pub(crate) prefix: String,
    pub(crate) python_version: String,
    pub(crate) pytest_version: String,
    pub(crate) options: Options,
    pub(crate) shards: usize,
    pub(crate) ids: Vec<String>,
    pub(crate) interpreter: Samples,
    /// Until the initial conftests are about to be imported: interpreter, pytest, its plugins.
    pub(crate) pytest: Samples,
    pub(crate) conftest: Samples,
    pub(crate) collection: Samples,
    /// From the start to the end of collection.
    pub(crate) start_up: Samples,
    pub(crate) start_up_without_coverage: Samples,
    pub(crate) small_file: Samples,
    pub(crate) small_file_name: String,
    /// The sampled tests in one process, with and without coverage.
    pub(crate) tests_with_coverage: Samples,
    pub(crate) tests_without_coverage: Samples,
    pub(crate) lines: Repeated<ImportKey>,
    pub(crate) conftests: BTreeMap<String, Samples>,
    pub(crate) packages: Repeated<String>,
    pub(crate) durations: Option<Durations>,
    /// The sum of the sampled tests' durations, as `durations` has them.
    pub(crate) sample_seconds: f64,
    pub(crate) sample_size: usize,
    pub(crate) at_once: Vec<AtOnce>,
    pub(crate) database: Option<Database>,
    pub(crate) not_seen: Vec<NotSeen>,
    /// A signal or the deadline ended the measurements.
    pub(crate) is_partial: bool,
    /// The command could not be measured: it cannot be collected, or no pytest runs in it.
    pub(crate) has_failed: bool,
    /// The largest memory of a process, in bytes.
    pub(crate) memory: u64,
}

impl Measured {
    pub(crate) fn cannot_see(&mut self, what: impl Into<String>, why: impl Into<String>) {
        let not_seen = NotSeen { what: what.into(), why: why.into() };
        if !self.not_seen.iter().any(|other| other.what == not_seen.what) {
            self.not_seen.push(not_seen);
        }
    }

    /// How the command runs now.
    pub(crate) fn present(&self) -> Layout {
        let dist = self.options.dist.as_deref().and_then(Dist::named).unwrap_or(Dist::Load);
        let workers = if self.options.xdist.is_some() { self.options.workers.unwrap_or(0) } else { 0 };
        Layout { shards: self.shards.max(1), workers, dist }
    }

    pub(crate) fn at_once(&mut self, processes: usize) -> &mut AtOnce {
        let place = self.at_once.iter().position(|one| one.processes == processes).unwrap_or_else(|| {
            self.at_once.push(AtOnce { processes, ..AtOnce::default() });
            self.at_once.len() - 1
        });
        &mut self.at_once[place]
    }
}

#[cfg(test)]
impl Measured {
    /// What tests measured that take `seconds` each, dealt out to `files`, on two cores; each process starts within `start_up` seconds.
    pub(crate) fn of_equal_tests(start_up: f64, tests: usize, files: usize, seconds: f64) -> Self {
        use std::collections::HashMap;

        use super::durations::Origin;

        let ids: Vec<String> = (0..tests).map(|number| format!("test_{}.py::t{number}", number % files)).collect();
        let known: HashMap<String, f64> = ids.iter().map(|id| (id.clone(), seconds)).collect();
        let mut measured = Self { cores: 2, shards: 1, ids: ids.clone(), ..Self::default() };
        measured.options.xdist = Some("3.8".to_owned());
        measured.start_up = Samples::of(&[start_up]);
        measured.durations = Some(Durations::new(Origin::Run, &ids, &known, &HashMap::new()));
        for processes in [0, 1, 2, 4] {
            let busy = (processes as f64 / 2.0).max(1.0);
            let at_once = measured.at_once(processes);
            at_once.before = Samples::of(&[if processes == 0 { 0.0 } else { start_up }]);
            at_once.start_up = Samples::of(&[start_up * busy]);
            at_once.slower = Samples::of(&[busy]);
        }
        measured
    }
}
