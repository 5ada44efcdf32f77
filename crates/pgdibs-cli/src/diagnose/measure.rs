//! Measures a pytest command: shortened runs of it, interleaved, each several times.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::budget::{Budget, Step};
use super::command::UserCommand;
use super::databases::{Databases, STRICT};
use super::durations::{Durations, Origin, file_of};
use super::events::{Process, packages};
use super::measured::Measured;
use super::runner::{Ending, Interrupted, Ran, Runner};
use super::take::{take_at_once, take_collection, take_fixtures, take_options};
use crate::context::Context;
use crate::error::CliError;
use crate::output::message;
use crate::progress::Progress;

/// How the failure of a run begins that pytest refused; the plugin of pgdibs ends a run in this way that has no lease.
const USAGE_ERROR: &str = "it ended with 4";
/// The part of the time that is left which `--quick` has for the run of all tests.
const PART_FOR_ALL: f64 = 0.3;
/// So many tests, evenly spread over the suite, come first in that run.
const FIRST_TESTS: usize = 60;
/// One in so many modules may have no compiled file.
const MAY_BE_MISSING: usize = 30;
/// The exit codes of pytest after which its times count: all passed, some failed, none collected.
const COUNTED: [u8; 3] = [0, 1, 5];

/// The measurement of one command.
#[derive(Debug)]
pub(crate) struct Measurement<'a> {
    pub(crate) context: &'a Context,
    pub(crate) command: UserCommand,
    pub(crate) runner: Runner,
    pub(crate) budget: Budget,
    pub(crate) pool: Option<String>,
    pub(crate) durations_from: Option<String>,
    /// How often each thing is measured.
    pub(crate) rounds: usize,
    pub(crate) measured: Measured,
    pub(crate) databases: Option<Databases>,
    pub(crate) progress: Progress,
    /// The steps that fail, which are not repeated.
    failed: Vec<Step>,
}

impl<'a> Measurement<'a> {
    pub(crate) fn new(
        context: &'a Context,
        command: UserCommand,
        runner: Runner,
        budget: Budget,
        measured: Measured,
    ) -> Self {
        Self {
            context,
            command,
            runner,
            budget,
            pool: None,
            durations_from: None,
            rounds: 3,
            measured,
            databases: None,
            progress: Progress::start("starting the command"),
            failed: Vec::new(),
        }
    }

    /// Measures until everything is seen, the deadline comes or a signal, which it returns.
    ///
    /// # Errors
    /// A file of durations cannot be read.
    pub(crate) async fn run(&mut self) -> Result<Option<Signal>, CliError> {
        let outcome = self.run_all().await;
        if let Some(databases) = &self.databases {
            databases.remove().await;
        }
        match outcome? {
            Ok(()) => Ok(None),
            Err(Interrupted(signal)) => {
                self.measured.is_partial = true;
                Ok(Some(signal))
            }
        }
    }

    async fn run_all(&mut self) -> Result<Result<(), Interrupted>, CliError> {
        match self.describe().await {
            Ok(true) => {}
            Ok(false) => return Ok(Ok(())),
            Err(interrupted) => return Ok(Err(interrupted)),
        }
        let most = self.counts().last().copied().unwrap_or(1);
        let options = self.measured.options.clone();
        match Databases::find(self.context, self.pool.as_deref(), &options, most).await {
            Ok(databases) => {
                databases.configure(&mut self.runner);
                self.databases = Some(databases);
            }
            Err(why) => self.measured.cannot_see("tests, database, durations", why),
        }
        if let Err(interrupted) = self.read_durations().await? {
            return Ok(Err(interrupted));
        }
        for round in 0..self.rounds {
            let mut steps = self.steps(round);
            steps.reverse();
            while let Some(step) = steps.pop() {
                if let Err(interrupted) = self.one(round, step, &steps).await {
                    return Ok(Err(interrupted));
                }
                if step == Step::AllTests {
                    self.choose_sample();
                }
            }
        }
        Ok(Ok(()))
    }

    /// What a round measures, in this order.
    fn steps(&self, round: usize) -> Vec<Step> {
        let has_tests = !self.measured.ids.is_empty();
        let runs_tests = has_tests && self.databases.is_some();
        let is_quick = self.measured.is_quick;
        let mut steps = vec![Step::Interpreter, Step::Collection];
        if runs_tests && (!is_quick || round == 0) {
            // Before all tests, because the first run may build the template.
            steps.push(Step::SmallFile);
        }
        if !is_quick {
            steps.push(Step::Imports);
        }
        if self.measured.options.coverage.is_some() {
            steps.push(Step::CollectionWithoutCoverage);
        }
        let mut at_once = self.counts();
        if !has_tests {
            at_once.clear();
        }
        if runs_tests {
            if round == 0 && self.measured.durations.is_none() {
                steps.push(Step::AllTests);
            }
            at_once.insert(0, 0);
        }
        if is_quick {
            // First what the prediction cannot do without: as many processes as cores, then more. One process is the run of all tests.
            let (cores, present) = (self.measured.cores, self.measured.present().workers);
            at_once
                .sort_by_key(|count| (*count != cores, *count != present || present == 0, std::cmp::Reverse(*count)));
        }
        steps.extend(at_once.into_iter().map(Step::AtOnce));
        if runs_tests && self.measured.options.coverage.is_some() {
            steps.push(Step::SampleWithoutCoverage);
        }
        if is_quick {
            // A prediction does not need them.
            steps.push(Step::Imports);
        }
        steps
    }

    /// 1, 2, 4, … up to twice the cores, and the present number of workers.
    pub(crate) fn counts(&self) -> Vec<usize> {
        let most = 2 * self.measured.cores.max(1);
        let mut counts: Vec<usize> =
            std::iter::successors(Some(1), |count| Some(count * 2)).take_while(|count| *count < most).collect();
        counts.push(most);
        let present = self.measured.present().workers;
        if present > 0 && present <= most && !counts.contains(&present) {
            counts.push(present);
            counts.sort_unstable();
        }
        counts
    }

    /// Runs one step, if there is time for it and it has not failed; `rest` is what comes after it in this round.
    async fn one(&mut self, round: usize, step: Step, rest: &[Step]) -> Result<(), Interrupted> {
        if self.failed.contains(&step) || !self.has_memory(step) {
            return Ok(());
        }
        let estimate = self.estimate(step);
        let is_cut = step == Step::AllTests;
        if !is_cut && !self.budget.allows(estimate) {
            self.measured.is_partial = true;
            if round == 0 {
                self.measured.cannot_see(step.name(), "there was no time left for it");
            }
            return Ok(());
        }
        self.show(round, step, rest);
        let begun = std::time::Instant::now();
        let outcome = self.measure(step).await?;
        self.budget.add(step, begun.elapsed().as_secs_f64());
        let Err(why) = outcome else { return Ok(()) };
        self.failed.push(step);
        // Without a lease the other runs of tests would fail, too, each after its time.
        if self.measured.durations.is_none()
            && why.starts_with(USAGE_ERROR)
            && why.contains("pgdibs: ")
            && let Some(databases) = self.databases.take()
        {
            databases.remove().await;
            self.failed.extend([Step::SmallFile, Step::AllTests, Step::AtOnce(0), Step::SampleWithoutCoverage]);
            self.measured.cannot_see("tests, database, durations", why);
        } else {
            self.measured.cannot_see(step.name(), why);
        }
        Ok(())
    }

    /// Whether so many processes fit into the memory that is free.
    fn has_memory(&mut self, step: Step) -> bool {
        let Step::AtOnce(count) = step else { return true };
        let (needed, free) = (self.measured.memory.saturating_mul(count as u64), free_memory());
        let fits = free.is_none_or(|free| needed <= free);
        if !fits {
            let size = crate::table::size;
            let why = format!(
                "{count} × {} are more than the {} that are free",
                size(self.measured.memory),
                size(free.unwrap_or(0))
            );
            self.measured.cannot_see(step.name(), why);
        }
        fits
    }

    fn show(&self, round: usize, step: Step, rest: &[Step]) {
        let rounds_left = self.rounds.saturating_sub(1 + round);
        let of = |steps: &[Step]| steps.iter().map(|step| self.estimate(*step)).sum::<f64>();
        let seconds = of(&[step]) + of(rest) + of(&self.steps(1)) * rounds_left as f64;
        let seconds = self.budget.left().map_or(seconds, |left| left.min(seconds));
        let text =
            format!("round {} of {}: {}; about {:.0} s left", round + 1, self.rounds, step.name(), seconds.ceil());
        self.progress.set(text.clone());
        if !std::io::IsTerminal::is_terminal(&std::io::stderr()) {
            message(&text);
        }
    }

    fn estimate(&self, step: Step) -> f64 {
        let start_up = self.measured.start_up.median().unwrap_or(2.0);
        let cores = self.measured.cores.max(1) as f64;
        let sample = if self.databases.is_some() { self.measured.sample_seconds.max(1.0) } else { 0.0 };
        let guess = match step {
            Step::Interpreter => 0.1,
            Step::Imports | Step::Collection | Step::CollectionWithoutCoverage => start_up,
            Step::SmallFile => start_up + 1.0,
            Step::AllTests => start_up + 30.0,
            Step::AtOnce(0) | Step::SampleWithoutCoverage => start_up + sample,
            Step::AtOnce(count) => {
                let busy = (count as f64 / cores).max(1.0);
                start_up * (1.0 + busy) + sample / cores.min(count as f64)
            }
        };
        self.budget.estimate(step, guess)
    }

    async fn measure(&mut self, step: Step) -> Result<Result<(), String>, Interrupted> {
        match step {
            Step::Interpreter => self.interpreter().await,
            Step::Imports => self.imports().await,
            Step::Collection => self.collection(true).await,
            Step::CollectionWithoutCoverage => self.collection(false).await,
            Step::SmallFile => self.small_file().await,
            Step::AllTests => self.all_tests().await,
            Step::SampleWithoutCoverage => self.sample_without_coverage().await,
            Step::AtOnce(count) => self.processes_at_once(count).await,
        }
    }

    /// Options that keep the command from writing into the user's tree, and `options` behind them.
    fn words(&self, options: &[&str]) -> Vec<OsString> {
        let cache = format!("cache_dir={}", self.runner.place("cache").display());
        let mut all: Vec<&str> = Vec::new();
        if !self.command.names("no:cacheprovider") {
            all.extend(["-o", &cache]);
        }
        all.extend(["--maxfail=0"]);
        all.extend(options);
        self.command.with(&all)
    }

    /// The first run, which is not counted: what the command is, and whether it can be collected. When its modules are not compiled, as
    /// after a check-out, a second run compiles them into the temporary directory.
    async fn describe(&mut self) -> Result<bool, Interrupted> {
        let words = self.words(&["--collect-only", "-qq"]);
        let mut ran = self.runner.run(&words, &[], self.budget.limit()).await?;
        let (modules, missing) = ran.main().map_or((0, 0), |main| main.modules);
        if missing > modules / MAY_BE_MISSING && self.runner.compile_elsewhere() {
            ran = self.runner.run(&words, &[], self.budget.limit()).await?;
        }
        let Some(main) = ran.main().filter(|main| !main.marks.is_empty()) else {
            self.measured.cannot_see("the command", format!("pytest began no session in it; {}", ran.failure()));
            self.measured.has_failed = true;
            return Ok(false);
        };
        take_options(&mut self.measured, main);
        if ran.ending == Ending::Exited(5) || self.measured.ids.is_empty() && ran.ending == Ending::Exited(0) {
            self.measured.cannot_see("tests", "the command collects no test");
        } else if ran.ending != Ending::Exited(0) || main.ids.is_none() {
            let hint = match ran.ending {
                Ending::TimedOut => ". A command that waits for a terminal does that, too",
                _ => "",
            };
            self.measured.cannot_see("collection", format!("{}{hint}", ran.failure()));
            self.measured.has_failed = true;
            // What is known of a command that cannot be collected.
            let python = main.python.clone();
            self.measured.conftest.add(main.between("conftest_begin", "conftest_end").unwrap_or_default());
            for _ in 0..self.rounds {
                if let Err(why) = self.time_interpreter(&python).await? {
                    self.measured.cannot_see("interpreter start", why);
                }
            }
            return Ok(false);
        }
        Ok(true)
    }

    async fn interpreter(&mut self) -> Result<Result<(), String>, Interrupted> {
        let python = self.measured.python.clone();
        self.time_interpreter(&python).await
    }

    async fn time_interpreter(&mut self, python: &str) -> Result<Result<(), String>, Interrupted> {
        let words = [python, "-c", "pass"].map(OsString::from);
        let ran = self.runner.run(&words, &[], self.budget.limit()).await?;
        if ran.ending != Ending::Exited(0) {
            return Ok(Err(ran.failure()));
        }
        self.measured.interpreter.add(ran.seconds());
        Ok(Ok(()))
    }

    async fn imports(&mut self) -> Result<Result<(), String>, Interrupted> {
        // -s: the lines go to the file descriptor of standard error, which pytest would capture.
        let words = self.words(&["--collect-only", "-qq", "-s"]);
        let variables = [("PYTHONPROFILEIMPORTTIME", "1".to_owned())];
        let ran = self.runner.run(&words, &variables, self.budget.limit()).await?;
        if !counted(&ran) {
            return Ok(Err(ran.failure()));
        }
        self.measured.packages.add(&packages(&ran.errors));
        Ok(Ok(()))
    }

    async fn collection(&mut self, with_coverage: bool) -> Result<Result<(), String>, Interrupted> {
        let options: &[&str] =
            if with_coverage { &["--collect-only", "-qq"] } else { &["--collect-only", "-qq", "--no-cov"] };
        let ran = self.runner.run(&self.words(options), &[], self.budget.limit()).await?;
        if !counted(&ran) {
            return Ok(Err(ran.failure()));
        }
        if with_coverage {
            take_collection(&mut self.measured, &ran);
        } else if let Some(seconds) = ran.until("collection_end") {
            self.measured.start_up_without_coverage.add(seconds);
        }
        Ok(Ok(()))
    }

    /// Options for a run of tests in one process.
    fn alone(&self) -> Vec<&'static str> {
        let mut options = STRICT.to_vec();
        if self.measured.options.xdist.is_some() {
            options.extend(["-n", "0"]);
        }
        options
    }

    async fn small_file(&mut self) -> Result<Result<(), String>, Interrupted> {
        if self.measured.small_file_name.is_empty() {
            let mut counts: HashMap<&str, usize> = HashMap::new();
            for id in &self.measured.ids {
                *counts.entry(file_of(id)).or_default() += 1;
            }
            let smallest = counts.into_iter().min_by(|one, other| (one.1, one.0).cmp(&(other.1, other.0)));
            self.measured.small_file_name = smallest.map(|(file, _)| file.to_owned()).unwrap_or_default();
        }
        let file = Path::new(&self.measured.options.root).join(&self.measured.small_file_name);
        let variables = [("PGDIBS_DIAGNOSE_FILE", file.display().to_string())];
        let ran = self.runner.run(&self.words(&self.alone()), &variables, self.budget.limit()).await?;
        if !counted(&ran) {
            return Ok(Err(ran.failure()));
        }
        self.measured.small_file.add(ran.seconds());
        Ok(Ok(()))
    }

    /// One run of all tests, for their durations. Its deadline keeps what it has seen.
    async fn all_tests(&mut self) -> Result<Result<(), String>, Interrupted> {
        let limit = self.budget.left().map_or(self.budget.limit(), |left| Duration::from_secs_f64(left * PART_FOR_ALL));
        // A run that may be cut short begins with tests from all files.
        let stride = if self.measured.is_quick { self.measured.ids.len() / FIRST_TESTS } else { 1 };
        let variables = [("PGDIBS_DIAGNOSE_STRIDE", stride.max(1).to_string())];
        let ran = self.runner.run(&self.words(&self.alone()), &variables, limit).await?;
        let tests = ran.main().map(|main| main.tests.clone()).unwrap_or_default();
        if tests.is_empty() {
            return Ok(Err(ran.failure()));
        }
        let origin = if counted(&ran) { Origin::Run } else { Origin::PartOfRun };
        if origin == Origin::PartOfRun {
            let why = format!(
                "only {} of {} ran; the others count with the mean of their file",
                tests.len(),
                self.measured.ids.len()
            );
            self.measured.cannot_see("durations of some tests", format!("{why}. {}", ran.failure()));
        }
        let seconds = tests.iter().map(|test| (test.id.clone(), test.own())).collect();
        let mut fixtures: HashMap<String, f64> = HashMap::new();
        for test in &tests {
            *fixtures.entry(file_of(&test.id).to_owned()).or_default() += test.file;
        }
        // In the order of the collection when it was complete, because plugins may shuffle.
        self.measured.durations = Some(Durations::new(origin, &self.measured.ids, &seconds, &fixtures));
        if let Some(main) = ran.main() {
            take_fixtures(&mut self.measured, main, tests.len());
        }
        if self.measured.is_quick && counted(&ran) {
            // There may be no time for the sample in one process.
            take_at_once(&mut self.measured, 0, std::slice::from_ref(&ran));
        }
        Ok(Ok(()))
    }

    fn sample(&self) -> [(&'static str, String); 1] {
        [("PGDIBS_DIAGNOSE_ONLY", self.runner.place("sample").display().to_string())]
    }

    async fn sample_without_coverage(&mut self) -> Result<Result<(), String>, Interrupted> {
        let mut options = self.alone();
        options.push("--no-cov");
        let ran = self.runner.run(&self.words(&options), &self.sample(), self.budget.limit()).await?;
        if !counted(&ran) {
            return Ok(Err(ran.failure()));
        }
        let seconds = ran.main().map(|main| main.tests.iter().map(super::events::RanTest::own).sum());
        self.measured.tests_without_coverage.add(seconds.unwrap_or_default());
        Ok(Ok(()))
    }

    /// The sample on so many workers of xdist; without xdist, or without leases, as many processes that collect.
    async fn processes_at_once(&mut self, count: usize) -> Result<Result<(), String>, Interrupted> {
        let has_sample = self.databases.is_some() && self.measured.durations.is_some();
        let (workers, dist) = (count.to_string(), self.measured.present().dist.name());
        let limit = self.budget.limit();
        let ran = if has_sample && count == 0 {
            self.runner.run_at_once(&self.words(&self.alone()), &self.sample(), limit, 1).await?
        } else if has_sample && self.measured.options.xdist.is_some() {
            let mut options = STRICT.to_vec();
            options.extend(["-n", &workers, "--dist", dist]);
            self.runner.run_at_once(&self.words(&options), &self.sample(), limit, 1).await?
        } else if has_sample {
            self.runner.run_at_once(&self.words(&self.alone()), &self.sample(), limit, count).await?
        } else {
            self.runner.run_at_once(&self.words(&["--collect-only", "-qq"]), &[], limit, count).await?
        };
        if let Some(bad) = ran.iter().find(|ran| !counted(ran)) {
            return Ok(Err(bad.failure()));
        }
        take_at_once(&mut self.measured, count, &ran);
        Ok(Ok(()))
    }
}

/// Whether the times of a run count.
fn counted(ran: &Ran) -> bool {
    matches!(ran.ending, Ending::Exited(code) if COUNTED.contains(&code)) && ran.processes.iter().any(Process::is_main)
}

/// The memory that new processes can have, in bytes; `None` where there is no `/proc`.
fn free_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().split(' ').next()?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
