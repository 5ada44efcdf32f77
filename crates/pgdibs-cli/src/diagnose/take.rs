//! Takes the figures out of the runs of a pytest command.

use std::collections::HashMap;

use super::durations::Durations;
use super::events::{Fixture, Process, RanTest};
use super::measured::{Database, Measured};
use super::runner::Ran;
use super::schedule::Test;

/// The part of the gaps between tests that counts: the longest ones are waits for other workers, which the simulation has.
const GAPS_THAT_COUNT: f64 = 0.95;

/// What the command is, from the run that collects.
pub(crate) fn take_options(measured: &mut Measured, main: &Process) {
    measured.python.clone_from(&main.python);
    measured.prefix.clone_from(&main.prefix);
    measured.python_version.clone_from(&main.python_version);
    measured.pytest_version.clone_from(&main.pytest_version);
    measured.options = main.options.clone().unwrap_or_default();
    measured.shards = main.splits.unwrap_or(1);
    measured.ids = main.ids.clone().unwrap_or_default();
    measured.memory = main.memory.unwrap_or_default();
    if main.options.is_some() && measured.options.xdist.is_none() {
        measured.cannot_see(
            "workers",
            "pytest-xdist is not installed or not loaded: layouts with -n are predicted from processes without it",
        );
    }
    if measured.options.dist.as_deref() == Some("loadgroup") {
        measured.cannot_see("--dist loadgroup", "its groups are not known; it is shown as load");
    }
}

/// The phases of a run that collects.
pub(crate) fn take_collection(measured: &mut Measured, ran: &Ran) {
    let Some(main) = ran.main() else { return };
    measured.pytest.add(ran.until("conftest_begin").unwrap_or_default());
    measured.conftest.add(main.between("conftest_begin", "conftest_end").unwrap_or_default());
    measured.collection.add(main.between("collection_begin", "collection_end").unwrap_or_default());
    measured.start_up.add(ran.until("collection_end").unwrap_or_else(|| ran.seconds()));
    measured.lines.add(&main.imports);
    for (file, seconds) in &main.conftests {
        measured.conftests.entry(file.clone()).or_default().add(*seconds);
    }
}

/// What prepares databases, from a run of `tests` tests of the suite.
pub(crate) fn take_fixtures(measured: &mut Measured, main: &Process, tests: usize) {
    let mut sums: HashMap<(&str, &str), f64> = HashMap::new();
    for fixture in main.fixtures.iter().filter(|fixture| fixture.database) {
        *sums.entry((&fixture.name, &fixture.scope)).or_default() += fixture.seconds;
    }
    // A run that was cut short has seen a part of the tests.
    let whole = measured.ids.len() as f64 / tests.max(1) as f64;
    let mut fixtures: Vec<Fixture> = sums
        .into_iter()
        .map(|((name, scope), seconds)| {
            let seconds = if scope == "session" { seconds } else { seconds * whole };
            Fixture { name: name.to_owned(), scope: scope.to_owned(), seconds, database: true }
        })
        .collect();
    fixtures.sort_by(|one, other| other.seconds.total_cmp(&one.seconds));
    let database = measured.database.get_or_insert_with(Database::default);
    let of_tests = fixtures.iter().filter(|fixture| fixture.scope != "session");
    // Not `sum`, which is -0 of nothing.
    database.tests = of_tests.map(|fixture| fixture.seconds).fold(0.0, |sum, seconds| sum + seconds);
    database.fixtures = fixtures;
}

/// The figures of processes that ran at once: one command with workers of xdist, or several commands.
pub(crate) fn take_at_once(measured: &mut Measured, count: usize, ran: &[Ran]) {
    let mut lanes: Vec<&Process> = ran.iter().flat_map(Ran::workers).collect();
    let has_workers = !lanes.is_empty();
    if !has_workers {
        lanes = ran.iter().filter_map(Ran::main).collect();
    }
    let lanes: Vec<&Process> = lanes.into_iter().filter(|lane| !lane.tests.is_empty()).collect();
    let begun = ran.iter().map(|ran| ran.begun).fold(f64::INFINITY, f64::min);
    let ended = ran.iter().map(|ran| ran.ended).fold(0.0, f64::max);
    let workers_begun =
        if has_workers { ran.first().and_then(Ran::main).and_then(|main| main.mark("workers_begin")) } else { None };
    let from = workers_begun.unwrap_or(begun);
    let tests = || lanes.iter().flat_map(|lane| &lane.tests);
    let first = median(lanes.iter().filter_map(|lane| lane.tests.first()).map(|test| test.begun).collect());
    let last = tests().map(|test| test.ended).fold(0.0, f64::max);
    let collected = ran.iter().filter_map(|ran| Some(ran.until("collection_end")? + ran.begun)).fold(begun, f64::max);
    let took: f64 = tests().map(RanTest::own).sum();
    let slower = measured.durations.as_ref().and_then(|durations| slower(durations, &lanes));
    let gaps: Vec<f64> = lanes.iter().flat_map(|lane| gaps_of(&lane.tests)).collect();
    let lanes_count = lanes.len().max(1) as f64;
    let session = lanes.iter().flat_map(|lane| &lane.tests).map(RanTest::session).sum::<f64>() / lanes_count;
    let waited: Vec<f64> = lanes.iter().filter_map(|lane| lane.databases).collect();
    let of_databases = lanes.iter().flat_map(|lane| &lane.fixtures);
    let prepared: f64 = of_databases
        .filter(|fixture| fixture.database && fixture.scope == "session")
        .map(|fixture| fixture.seconds)
        .sum();
    if count == 0 {
        measured.tests_with_coverage.add(took);
        if !waited.is_empty() || prepared > 0.0 {
            let database = measured.database.get_or_insert_with(Database::default);
            // Not `sum`, which is -0 of nothing.
            database.lease.add(waited.iter().fold(0.0, |sum, seconds| sum + seconds));
            database.session.add(prepared);
        }
    }
    let peak = ran.iter().flat_map(|ran| &ran.processes).filter_map(|process| process.memory).max();
    measured.memory = measured.memory.max(peak.unwrap_or_default());
    let at_once = measured.at_once(count);
    at_once.wall.add(ended - begun);
    at_once.before.add(from - begun);
    match first {
        Some(first) => {
            at_once.start_up.add(first - from);
            at_once.end.add(ended - last);
        }
        None => {
            at_once.start_up.add(collected - from);
            at_once.end.add(ended - collected);
        }
    }
    if let Some(slower) = slower {
        at_once.slower.add(slower);
        at_once.gap.add(mean_of_most(gaps));
        at_once.session.add(session);
        at_once.databases.add(waited.iter().sum::<f64>() / lanes_count);
    }
}

/// How many times longer the tests of all lanes, with the fixtures of their files, took than `durations` says.
fn slower(durations: &Durations, lanes: &[&Process]) -> Option<f64> {
    let known: HashMap<&str, &Test> = durations.ids.iter().map(String::as_str).zip(&durations.tests).collect();
    let (mut took, mut expected) = (0.0, 0.0);
    for lane in lanes {
        let mut file = None;
        for ran in &lane.tests {
            let Some(test) = known.get(ran.id.as_str()) else { continue };
            took += ran.own() + ran.file;
            expected += test.seconds;
            // A lane pays them when it comes to the file, as in the simulation.
            if file.replace(test.file) != Some(test.file) {
                expected += durations.file_fixtures.get(test.file).copied().unwrap_or_default();
            }
        }
    }
    (expected > 0.0).then(|| took / expected)
}

/// Seconds between each test and the next one.
fn gaps_of(tests: &[RanTest]) -> impl Iterator<Item = f64> + '_ {
    tests.windows(2).map(|pair| (pair[1].begun - pair[0].ended).max(0.0))
}

fn mean_of_most(mut gaps: Vec<f64>) -> f64 {
    gaps.sort_by(f64::total_cmp);
    gaps.truncate(((gaps.len() as f64 * GAPS_THAT_COUNT).ceil() as usize).max(1));
    if gaps.is_empty() { 0.0 } else { gaps.iter().sum::<f64>() / gaps.len() as f64 }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::super::durations::Origin;
    use super::*;

    /// A lane of tests of half a second each; the first one of a file has `file` seconds of its fixtures.
    fn lane(ids: &[&str], file: f64) -> Process {
        let mut seen = "";
        let mut process = Process::default();
        for id in ids {
            let of_file = if std::mem::replace(&mut seen, &id[..1]) == &id[..1] { 0.0 } else { file };
            let json =
                serde_json::json!({"id": id, "begun": 0.0, "ended": 0.5 + of_file, "session": 0.0, "file": of_file});
            process.tests.push(serde_json::from_value(json).unwrap());
        }
        process
    }

    #[test]
    fn slowness_counts_fixtures_of_files_once_for_each_lane() {
        let ids = ["a::1", "a::2", "b::1"].map(str::to_owned);
        let seconds = ids.iter().map(|id| (id.clone(), 0.5)).collect();
        let fixtures = [("a".to_owned(), 2.0)].into();
        let durations = Durations::new(Origin::Run, &ids, &seconds, &fixtures);
        let one = lane(&["a::1", "a::2", "b::1"], 0.0);
        assert_eq!(slower(&durations, &[&one]), Some(1.5 / 3.5));
        let (first, second) = (lane(&["a::1", "b::1"], 2.0), lane(&["a::2"], 2.0));
        assert_eq!(slower(&durations, &[&first, &second]), Some((1.5 + 6.0) / (1.5 + 4.0)));
        assert_eq!(slower(&durations, &[]), None);
    }
}
