//! How pytest-xdist 3 hands tests to its workers: its schedulers, run over measured durations.
//!
//! A worker starts a test only when it knows the one after it, or that there is none: xdist passes the next test to the teardown of
//! fixtures. So a worker keeps two tests, and waits when it has one.

use std::collections::VecDeque;

/// A scheduler of xdist (`--dist`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Dist {
    Load,
    WorkSteal,
    LoadFile,
    LoadScope,
}

impl Dist {
    pub(crate) const ALL: [Self; 4] = [Self::Load, Self::WorkSteal, Self::LoadFile, Self::LoadScope];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::WorkSteal => "worksteal",
            Self::LoadFile => "loadfile",
            Self::LoadScope => "loadscope",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dist| dist.name() == name)
    }
}

/// A test, in the order of the collection. The seconds are those of a process alone.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Test {
    pub(crate) seconds: f64,
    /// The number of its file.
    pub(crate) file: usize,
    /// The number of its file or class: what `loadscope` keeps together.
    pub(crate) scope: usize,
}

/// What the workers pay besides the tests.
#[derive(Debug, Default)]
pub(crate) struct Costs<'a> {
    /// Seconds of the session's fixtures, which each worker pays before its first test.
    pub(crate) session: f64,
    /// Seconds of the fixtures of each file, which a worker pays when it comes to the file.
    pub(crate) files: &'a [f64],
    /// Seconds between two tests of a worker.
    pub(crate) gap: f64,
    /// How many times slower a test is when so many workers run tests; the first element is for one.
    pub(crate) slower: &'a [f64],
    /// `--maxschedchunk`.
    pub(crate) chunk: Option<usize>,
    /// `--no-loadscope-reorder` was given.
    pub(crate) keeps_scope_order: bool,
}

/// The simulated test phase of a run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Schedule {
    /// Seconds until the last worker is done.
    pub(crate) seconds: f64,
    /// When each worker ended its last test.
    pub(crate) ends: Vec<f64>,
    /// The tests that each worker ran, in order.
    pub(crate) order: Vec<Vec<usize>>,
}

#[derive(Debug, Default)]
struct Worker {
    /// The tests that it was given; the first one may be running.
    pending: VecDeque<usize>,
    /// The work that is left of the running test, in seconds of a process alone.
    left: Option<f64>,
    /// When the running test began.
    begun: f64,
    is_shutting_down: bool,
    file: Option<usize>,
    has_run: bool,
}

/// xdist's own minimum of tests that a worker keeps.
const MIN_PENDING: usize = 2;

struct Simulation<'a> {
    dist: Dist,
    tests: &'a [Test],
    costs: &'a Costs<'a>,
    workers: Vec<Worker>,
    /// Tests that no worker has (`load`, `worksteal`).
    queue: VecDeque<usize>,
    /// Files or classes that no worker has (`loadfile`, `loadscope`).
    units: VecDeque<Vec<usize>>,
}

/// Runs the tests on so many workers.
pub(crate) fn simulate(dist: Dist, workers: usize, tests: &[Test], costs: &Costs<'_>) -> Schedule {
    let workers = workers.max(1);
    let mut simulation = Simulation {
        dist,
        tests,
        costs,
        workers: (0..workers).map(|_| Worker::default()).collect(),
        queue: VecDeque::new(),
        units: VecDeque::new(),
    };
    simulation.schedule();
    simulation.run()
}

impl Simulation<'_> {
    fn run(&mut self) -> Schedule {
        let mut now = 0.0;
        let mut ends = vec![0.0; self.workers.len()];
        let mut order = vec![Vec::new(); self.workers.len()];
        loop {
            for worker in 0..self.workers.len() {
                self.start_next(worker, now);
            }
            let active = self.workers.iter().filter(|worker| worker.left.is_some()).count();
            let left = |worker: &Worker| worker.left;
            let Some((first, work)) = self
                .workers
                .iter()
                .enumerate()
                .filter_map(|(number, worker)| left(worker).map(|left| (number, left)))
                .min_by(|one, other| one.1.total_cmp(&other.1))
            else {
                break;
            };
            now += work * self.slower(active);
            for worker in &mut self.workers {
                worker.left = worker.left.map(|left| (left - work).max(0.0));
            }
            let worker = &mut self.workers[first];
            worker.left = None;
            let duration = now - worker.begun;
            if let Some(test) = worker.pending.pop_front() {
                order[first].push(test);
            }
            ends[first] = now;
            self.completed(first, duration);
        }
        Schedule { seconds: now, ends, order }
    }

    fn slower(&self, active: usize) -> f64 {
        let known = self.costs.slower;
        known.get(active.saturating_sub(1)).or(known.last()).copied().unwrap_or(1.0).max(0.01)
    }

    /// Starts the worker's next test, if it knows the one after it or is shutting down.
    fn start_next(&mut self, number: usize, now: f64) {
        let (tests, costs) = (self.tests, self.costs);
        let worker = &mut self.workers[number];
        if worker.left.is_some() || (worker.pending.len() < MIN_PENDING && !worker.is_shutting_down) {
            return;
        }
        let Some(test) = worker.pending.front().and_then(|test| tests.get(*test)) else { return };
        let mut seconds = test.seconds + costs.gap;
        if worker.file != Some(test.file) {
            seconds += costs.files.get(test.file).copied().unwrap_or_default();
        }
        if !worker.has_run {
            seconds += costs.session;
        }
        (worker.file, worker.has_run, worker.left, worker.begun) = (Some(test.file), true, Some(seconds), now);
    }

    /// The first distribution.
    fn schedule(&mut self) {
        let (count, workers) = (self.tests.len(), self.workers.len());
        match self.dist {
            Dist::Load => {
                self.queue = (0..count).collect();
                if count < MIN_PENDING * workers {
                    for number in 0..count {
                        self.send(number % workers, 1);
                    }
                } else {
                    let chunk = (count / workers / 4).min(self.chunk()).max(MIN_PENDING);
                    for number in 0..workers {
                        self.send(number, chunk);
                    }
                }
                if self.queue.is_empty() {
                    self.shut_down_all();
                }
            }
            Dist::WorkSteal => {
                self.queue = (0..count).collect();
                self.steal();
            }
            Dist::LoadFile | Dist::LoadScope => {
                self.units = self.scopes();
                let used = workers.min(self.units.len());
                for worker in self.workers.iter_mut().skip(used) {
                    worker.is_shutting_down = true;
                }
                for number in 0..used {
                    self.assign_unit(number);
                }
                for number in 0..used {
                    self.reschedule(number);
                }
                if self.units.is_empty() {
                    self.shut_down_all();
                }
            }
        }
    }

    fn chunk(&self) -> usize {
        self.costs.chunk.filter(|chunk| *chunk > 0).unwrap_or(self.tests.len())
    }

    /// The tests of each file or class; those with most tests come first unless the order is kept.
    fn scopes(&self) -> VecDeque<Vec<usize>> {
        let mut units: Vec<(usize, Vec<usize>)> = Vec::new();
        let mut places = std::collections::HashMap::new();
        for (number, test) in self.tests.iter().enumerate() {
            let scope = if self.dist == Dist::LoadFile { test.file } else { test.scope };
            let place = *places.entry(scope).or_insert_with(|| {
                units.push((scope, Vec::new()));
                units.len() - 1
            });
            units[place].1.push(number);
        }
        if !self.costs.keeps_scope_order {
            units.sort_by_key(|(_, tests)| std::cmp::Reverse(tests.len()));
        }
        units.into_iter().map(|(_, tests)| tests).collect()
    }

    /// A worker has ended a test.
    fn completed(&mut self, number: usize, duration: f64) {
        match self.dist {
            Dist::Load => self.check_load(number, duration),
            Dist::WorkSteal => self.steal(),
            Dist::LoadFile | Dist::LoadScope => self.reschedule(number),
        }
        let is_distributed = self.queue.is_empty() && self.units.is_empty();
        if is_distributed && self.workers.iter().all(|worker| worker.pending.len() < MIN_PENDING) {
            self.shut_down_all();
        }
    }

    /// `LoadScheduling.check_schedule`.
    fn check_load(&mut self, number: usize, duration: f64) {
        let workers = self.workers.len();
        let worker = &mut self.workers[number];
        if worker.is_shutting_down {
            return;
        }
        if self.queue.is_empty() {
            worker.is_shutting_down = true;
            return;
        }
        let (pending, queued) = (worker.pending.len(), self.queue.len());
        let (least, most) = ((queued / workers / 4).max(2), (queued / workers / 2).max(2));
        if pending >= least || (duration >= 0.1 && pending >= MIN_PENDING) {
            return;
        }
        let chunk = self.chunk().max(MIN_PENDING.saturating_sub(pending));
        self.send(number, (most - pending).min(chunk));
    }

    /// `WorkStealingScheduling.check_schedule`; a worker gives tests back at once.
    fn steal(&mut self) {
        loop {
            let idle = self.idle();
            if idle.is_empty() {
                return;
            }
            if !self.queue.is_empty() {
                for (index, number) in idle.iter().enumerate() {
                    self.send(*number, self.queue.len() / (idle.len() - index));
                }
            }
            let idle = self.idle();
            if idle.is_empty() {
                return;
            }
            // The first one of the longest, as Python's max.
            let running = self.workers.iter_mut().filter(|worker| !worker.is_shutting_down);
            let longest = running.rev().max_by_key(|worker| worker.pending.len());
            let stolen = longest.map_or_else(VecDeque::new, |worker| {
                let count = worker.pending.len();
                worker.pending.split_off(count - (count / 2).min(count.saturating_sub(MIN_PENDING)))
            });
            if stolen.is_empty() {
                for number in idle {
                    self.workers[number].is_shutting_down = true;
                }
                return;
            }
            self.queue.extend(stolen);
        }
    }

    fn idle(&self) -> Vec<usize> {
        let is_idle = |worker: &Worker| !worker.is_shutting_down && worker.pending.len() < MIN_PENDING;
        self.workers.iter().enumerate().filter(|(_, worker)| is_idle(worker)).map(|(number, _)| number).collect()
    }

    /// `LoadScopeScheduling._reschedule`.
    fn reschedule(&mut self, number: usize) {
        let worker = &mut self.workers[number];
        if worker.is_shutting_down {
        } else if self.units.is_empty() {
            worker.is_shutting_down = true;
        } else if worker.pending.len() <= MIN_PENDING {
            self.assign_unit(number);
        }
    }

    fn assign_unit(&mut self, number: usize) {
        if let Some(unit) = self.units.pop_front() {
            self.workers[number].pending.extend(unit);
        }
    }

    fn send(&mut self, number: usize, count: usize) {
        let count = count.min(self.queue.len());
        self.workers[number].pending.extend(self.queue.drain(..count));
    }

    fn shut_down_all(&mut self) {
        for worker in &mut self.workers {
            worker.is_shutting_down = true;
        }
    }
}

#[cfg(test)]
mod tests;
