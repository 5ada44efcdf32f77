//! The simulation beside pytest-xdist 3.8's own schedulers: scripts/xdist-schedules.py wrote `golden/xdist.json` with them.

use serde_json::Value;

use super::*;

/// The tests of ids and seconds.
fn tests_of(suite: &Value) -> Vec<Test> {
    let ids: Vec<&str> = suite["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    let number = |known: &mut Vec<String>, name: &str| {
        known.iter().position(|other| other == name).unwrap_or_else(|| {
            known.push(name.to_owned());
            known.len() - 1
        })
    };
    let (mut files, mut scopes) = (Vec::new(), Vec::new());
    let seconds = suite["seconds"].as_array().unwrap().iter().map(|seconds| seconds.as_f64().unwrap());
    ids.iter()
        .zip(seconds)
        .map(|(id, seconds)| Test {
            seconds,
            file: number(&mut files, id.split("::").next().unwrap()),
            scope: number(&mut scopes, id.rsplit_once("::").unwrap().0),
        })
        .collect()
}

#[test]
fn each_scheduler_hands_out_tests_as_xdist_does() {
    let suites: Value = serde_json::from_str(include_str!("golden/xdist.json")).unwrap();
    let mut compared = 0;
    for suite in suites.as_array().unwrap() {
        let tests = tests_of(suite);
        for case in suite["cases"].as_array().unwrap() {
            let dist = Dist::named(case["dist"].as_str().unwrap()).unwrap();
            let workers = usize::try_from(case["workers"].as_u64().unwrap()).unwrap();
            let schedule = simulate(dist, workers, &tests, &Costs::default());
            let order: Vec<Vec<usize>> = serde_json::from_value(case["order"].clone()).unwrap();
            assert_eq!(schedule.order, order, "{dist:?} with {workers} workers and {} tests", tests.len());
            assert!((schedule.seconds - case["seconds"].as_f64().unwrap()).abs() < 0.002, "{dist:?} {workers}");
            compared += 1;
        }
    }
    assert_eq!(compared, 48);
}

#[test]
fn worker_pays_session_once_and_each_file_when_it_comes_to_it() {
    let test = |file| Test { seconds: 1.0, file, scope: file };
    let tests = [test(0), test(0), test(1), test(0)];
    let costs = Costs { session: 5.0, files: &[0.5, 0.25], gap: 0.1, ..Costs::default() };
    let schedule = simulate(Dist::Load, 1, &tests, &costs);
    assert!((schedule.seconds - (5.0 + 4.0 * 1.1 + 0.5 + 0.25 + 0.5)).abs() < 1e-9, "{schedule:?}");
}

#[test]
fn tests_are_slower_only_while_others_run() {
    let test = |seconds| Test { seconds, file: 0, scope: 0 };
    // Two workers at half the speed for 2 s, then one alone for the rest of its 9 s of work.
    let costs = Costs { slower: &[1.0, 2.0], ..Costs::default() };
    let schedule = simulate(Dist::Load, 2, &[test(1.0), test(10.0)], &costs);
    assert!((schedule.seconds - 11.0).abs() < 1e-9 && (schedule.ends[0] - 2.0).abs() < 1e-9, "{schedule:?}");
}
