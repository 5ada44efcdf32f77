//! Predicts the wall time of layouts: start-up with its measured contention, tests as xdist hands them out, databases, coverage.

use super::durations::{Durations, Origin};
use super::measured::{AtOnce, Layout, Measured};
use super::samples::Samples;
use super::schedule::{Costs, Dist, Test, simulate};

/// Two walls that differ by less are taken for equal: the layout with fewer processes is better.
const EQUAL: f64 = 0.03;

/// The predicted run of a layout, in seconds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Prediction {
    pub(crate) layout: Layout,
    pub(crate) wall: f64,
    /// Half of the range in which the wall is, as far as the measurements spread.
    pub(crate) uncertainty: f64,
    /// A number of workers that was not measured, beyond those that were.
    pub(crate) is_extrapolated: bool,
    /// The parts of the wall, of an average worker.
    pub(crate) start_up: f64,
    pub(crate) database: f64,
    pub(crate) tests: f64,
    pub(crate) idle: f64,
    pub(crate) end: f64,
}

/// The layouts, and which of them is present and which recommended.
#[derive(Debug, Clone)]
pub(crate) struct Layouts {
    pub(crate) all: Vec<Prediction>,
    pub(crate) present: usize,
    pub(crate) recommended: usize,
}

impl Layouts {
    pub(crate) fn present(&self) -> &Prediction {
        &self.all[self.present]
    }

    pub(crate) fn recommended(&self) -> &Prediction {
        &self.all[self.recommended]
    }

    /// The quickest layout with or without workers, on as many machines as now.
    pub(crate) fn quickest(&self, has_workers: bool) -> Option<&Prediction> {
        let shards = self.present().layout.shards;
        let fits = |one: &&Prediction| one.layout.shards == shards && (one.layout.workers > 0) == has_workers;
        self.all.iter().filter(fits).min_by(|one, other| one.wall.total_cmp(&other.wall))
    }
}

/// Predicts all layouts; `None` when the durations or the start-up are not known.
pub(crate) fn layouts(measured: &Measured) -> Option<Layouts> {
    let durations = measured.durations.as_ref()?;
    if measured.start_up.is_empty() || durations.tests.is_empty() {
        return None;
    }
    let model = Model { measured, durations };
    let present = measured.present();
    let most = 2 * measured.cores.max(1);
    let mut counts: Vec<usize> =
        std::iter::successors(Some(1), |count| Some(count * 2)).take_while(|count| *count < most).collect();
    counts.extend([0, most, present.workers]);
    counts.sort_unstable();
    counts.dedup();
    let of = |workers| model.predict(Layout { workers, ..present });
    let mut all: Vec<Prediction> = counts.into_iter().map(of).collect();
    let quickest = |all: &[Prediction]| {
        let with_workers = all.iter().filter(|one| one.layout.workers > 1);
        with_workers.min_by(|one, other| one.wall.total_cmp(&other.wall)).map(|one| one.layout)
    };
    if let Some(quickest) = quickest(&all) {
        let others = Dist::ALL.into_iter().filter(|dist| *dist != present.dist);
        all.extend(others.map(|dist| model.predict(Layout { dist, ..quickest })));
    }
    let best = best_of(&all, present);
    for shards in [2, 4].into_iter().filter(|shards| *shards != present.shards) {
        all.push(model.predict(Layout { shards, ..all[best].layout }));
    }
    let present = all.iter().position(|one| one.layout == present).unwrap_or_default();
    Some(Layouts { all, present, recommended: best })
}

/// The quickest one; of those that are as quick, the present one or the one with the fewest processes.
fn best_of(all: &[Prediction], present: Layout) -> usize {
    let quickest = all.iter().map(|one| one.wall).fold(f64::INFINITY, f64::min);
    let cost = |one: &Prediction| (one.layout != present, one.layout.processes());
    let equal = all.iter().enumerate().filter(|(_, one)| one.wall <= quickest * (1.0 + EQUAL));
    equal.min_by_key(|(_, one)| cost(one)).map(|(number, _)| number).unwrap_or_default()
}

#[derive(Debug)]
struct Model<'a> {
    measured: &'a Measured,
    durations: &'a Durations,
}

/// The costs of so many workers.
#[derive(Debug, Default)]
struct Fixed {
    before: f64,
    start_up: f64,
    end: f64,
    session: f64,
    lease: f64,
    gap: f64,
}

impl Model<'_> {
    fn predict(&self, layout: Layout) -> Prediction {
        let shards =
            if layout.shards == 1 { vec![self.durations.tests.clone()] } else { self.durations.shards(layout.shards) };
        let of = |tests: &Vec<Test>| self.predict_shard(layout, tests);
        let slowest = shards.iter().map(of).max_by(|one, other| one.wall.total_cmp(&other.wall));
        slowest.unwrap_or_else(|| self.predict_shard(layout, &Vec::new()))
    }

    /// One machine.
    fn predict_shard(&self, layout: Layout, tests: &[Test]) -> Prediction {
        let fixed = self.fixed(layout.workers);
        let slower: Vec<f64> =
            (1..=layout.workers.max(1)).map(|count| self.slower(if layout.workers == 0 { 0 } else { count })).collect();
        let full = slower.last().copied().unwrap_or(1.0);
        let costs = Costs {
            session: fixed.session / full,
            files: &self.durations.file_fixtures,
            gap: fixed.gap / full,
            slower: &slower,
            chunk: self.measured.options.chunk,
            keeps_scope_order: self.measured.options.scope_order == Some(false),
        };
        let schedule = simulate(layout.dist, layout.workers.max(1), tests, &costs);
        let busy = schedule.ends.iter().sum::<f64>() / schedule.ends.len().max(1) as f64;
        let prepared = self.prepared(full) / layout.workers.max(1) as f64;
        let session = self.session_databases(fixed.session);
        let database = fixed.lease + session + prepared;
        let wall = fixed.before + fixed.start_up + schedule.seconds + fixed.end;
        Prediction {
            layout,
            wall,
            uncertainty: self.uncertainty(layout.workers, schedule.seconds),
            is_extrapolated: layout.workers
                > self.measured.at_once.iter().map(|one| one.processes).max().unwrap_or_default(),
            start_up: (fixed.before + fixed.start_up - fixed.lease).max(0.0),
            database,
            tests: (busy - session - prepared).max(0.0),
            idle: (schedule.seconds - busy).max(0.0),
            end: fixed.end,
        }
    }

    /// Seconds of the fixtures of tests and files that prepare a database, at such a speed.
    fn prepared(&self, slower: f64) -> f64 {
        self.measured.database.as_ref().map_or(0.0, |database| database.tests * slower)
    }

    /// The part of the session's fixtures that prepares a database.
    fn session_databases(&self, session: f64) -> f64 {
        let of = |database: &super::measured::Database| database.session.median();
        self.measured.database.as_ref().and_then(of).unwrap_or_default().min(session)
    }

    fn fixed(&self, workers: usize) -> Fixed {
        let value = |of: fn(&AtOnce) -> &Samples| self.contended(workers, of);
        let before = match (self.measured.options.xdist.is_some(), workers) {
            (true, _) | (_, 0) => self.value(workers, |one| &one.before).unwrap_or_default(),
            // Without xdist a controller is predicted from what pytest takes until it would start its workers.
            (false, _) => {
                let parts = [&self.measured.pytest, &self.measured.conftest];
                parts.iter().filter_map(|part| part.median()).sum()
            }
        };
        let alone = self.measured.start_up.median().unwrap_or_default();
        Fixed {
            before: before.max(if workers == 0 { 0.0 } else { self.controller() }),
            start_up: value(|one| &one.start_up).unwrap_or(alone),
            end: value(|one| &one.end).unwrap_or_default(),
            session: value(|one| &one.session).unwrap_or_default(),
            lease: value(|one| &one.databases).unwrap_or_default(),
            gap: value(|one| &one.gap).unwrap_or_default(),
        }
    }

    /// What a controller takes at least: it imports the conftests, too.
    fn controller(&self) -> f64 {
        let has_seen = self.measured.at_once.iter().any(|one| one.processes > 0 && one.before.median() > Some(0.0));
        if has_seen {
            0.0
        } else {
            [&self.measured.pytest, &self.measured.conftest].iter().filter_map(|part| part.median()).sum()
        }
    }

    /// How many times slower a test is with so many workers at work, than its duration says.
    fn slower(&self, workers: usize) -> f64 {
        if let Some(slower) = self.contended(workers, |one| &one.slower) {
            return slower;
        }
        // No test was run: the tests are taken to slow down as the start-up does.
        let start_up = |count| self.contended(count, |one| &one.start_up);
        match (workers, start_up(workers), start_up(1)) {
            (0, ..) => 1.0,
            (_, Some(many), Some(one)) if one > 0.0 => (many / one).max(1.0),
            _ => 1.0,
        }
    }

    /// The median of what workers do at once. More of them than were measured, and than there are cores, share these.
    fn contended(&self, workers: usize, of: impl Fn(&AtOnce) -> &Samples) -> Option<f64> {
        let value = self.value(workers, &of)?;
        let measured = self.measured.at_once.iter().filter(|one| !of(one).is_empty() && one.processes > 0);
        let Some(most) = measured.max_by_key(|one| one.processes) else { return Some(value) };
        let shared = workers as f64 / most.processes.max(self.measured.cores).max(1) as f64;
        if workers <= most.processes || shared <= 1.0 {
            return Some(value);
        }
        Some(value.max(of(most).median().unwrap_or_default() * shared))
    }

    /// The median for so many workers; between the measured numbers, and beyond them, on a straight line.
    fn value(&self, workers: usize, of: impl Fn(&AtOnce) -> &Samples) -> Option<f64> {
        let mut known: Vec<(f64, f64)> = Vec::new();
        for one in &self.measured.at_once {
            let Some(median) = of(one).median() else { continue };
            if one.processes == workers {
                return Some(median);
            }
            // No xdist is another kind of run than one worker.
            if one.processes > 0 && workers > 0 {
                known.push((one.processes as f64, median));
            }
        }
        known.sort_by(|one, other| one.0.total_cmp(&other.0));
        let count = workers as f64;
        let after = known.iter().position(|(processes, _)| *processes > count).unwrap_or(known.len());
        let pair = match (known.len(), after) {
            (0, _) => return None,
            (1, _) => return known.first().map(|(_, value)| *value),
            (_, 0) => [known[0], known[1]],
            (length, after) if after == length => [known[length - 2], known[length - 1]],
            (_, after) => [known[after - 1], known[after]],
        };
        let slope = (pair[1].1 - pair[0].1) / (pair[1].0 - pair[0].0);
        // More processes at once are never quicker each.
        let slope = if after == known.len() { slope.max(0.0) } else { slope };
        Some((pair[1].1 + slope * (count - pair[1].0)).max(0.0))
    }

    /// From the spread of the start-ups and of the tests' speed, and the tests of which no duration is known.
    fn uncertainty(&self, workers: usize, tests: f64) -> f64 {
        let nearest = self.measured.at_once.iter().filter(|one| (one.processes == 0) == (workers == 0));
        let Some(nearest) = nearest.min_by_key(|one| one.processes.abs_diff(workers)) else {
            return self.half_range(&self.measured.start_up);
        };
        let starts = [&nearest.before, &nearest.start_up, &nearest.end].map(|samples| self.half_range(samples));
        let speed = nearest.slower.spread().unwrap_or_default() * tests;
        let unknown = match self.durations.origin {
            Origin::Run => 0.0,
            _ => 1.0 - self.durations.known as f64 / self.durations.tests.len().max(1) as f64,
        };
        starts.iter().chain([&speed, &(unknown * tests)]).map(|part| part * part).sum::<f64>().sqrt()
    }

    fn half_range(&self, samples: &Samples) -> f64 {
        samples.spread().unwrap_or_default() * samples.median().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    /// A suite of equal tests on a machine of two cores, with `start_up` seconds in each process.
    fn suite(start_up: f64, tests: usize, seconds: f64) -> Measured {
        let mut measured = Measured::of_equal_tests(start_up, tests, 5, seconds);
        for at_once in &mut measured.at_once {
            at_once.end = Samples::of(&[0.0]);
        }
        measured
    }

    #[test]
    fn long_suite_gets_as_many_workers_as_cores() {
        let layouts = layouts(&suite(1.0, 200, 0.5)).unwrap();
        let recommended = layouts.recommended();
        assert_eq!((recommended.layout.workers, recommended.layout.processes()), (2, 3));
        assert!((recommended.wall - 52.0).abs() < 1.5, "{recommended:?}");
        assert_eq!(layouts.present().layout.workers, 0);
        assert!((layouts.present().wall - 101.0).abs() < 1e-6);
        let four = layouts.all.iter().find(|one| one.layout.workers == 4).unwrap();
        assert!((four.wall - 53.0).abs() < 1.5 && !four.is_extrapolated, "{four:?}");
        let shards = layouts.all.iter().find(|one| one.layout.shards == 2).unwrap();
        assert!((shards.wall - 27.0).abs() < 1.5 && shards.layout.processes() == 6, "{shards:?}");
    }

    #[test]
    fn short_suite_with_long_start_up_gets_no_workers() {
        let layouts = layouts(&suite(19.0, 40, 0.25)).unwrap();
        assert_eq!(layouts.recommended().layout.workers, 0);
        assert!(layouts.quickest(true).unwrap().wall > layouts.recommended().wall + 10.0);
    }

    #[test]
    fn counts_between_and_beyond_measured_ones_lie_on_a_line() {
        let measured = suite(2.0, 10, 1.0);
        let model = Model { measured: &measured, durations: measured.durations.as_ref().unwrap() };
        assert_eq!((model.slower(3), model.slower(6)), (1.5, 3.0));
        assert_eq!(model.value(0, |one| &one.start_up), Some(2.0));
        let six = model.predict(Layout { shards: 1, workers: 6, dist: Dist::Load });
        assert!(six.is_extrapolated);
    }

    #[test]
    fn counts_beyond_the_cores_that_were_not_measured_share_the_cores() {
        let mut measured = suite(2.0, 200, 0.5);
        measured.at_once.retain(|one| one.processes <= 2);
        let model = Model { measured: &measured, durations: measured.durations.as_ref().unwrap() };
        assert_eq!((model.slower(2), model.slower(4), model.fixed(4).start_up), (1.0, 2.0, 4.0));
        assert_eq!(model.fixed(4).before, 2.0, "the controller is alone");
        assert_eq!(layouts(&measured).unwrap().recommended().layout.workers, 2);
    }

    #[test]
    fn present_layout_stays_when_it_is_as_quick() {
        let mut measured = suite(0.01, 200, 0.5);
        measured.options.workers = Some(4);
        let layouts = layouts(&measured).unwrap();
        assert_eq!(layouts.present, layouts.recommended);
    }

    #[test]
    fn without_durations_nothing_is_predicted() {
        let measured = Measured { durations: None, ..suite(1.0, 10, 1.0) };
        assert!(layouts(&measured).is_none());
    }
}
