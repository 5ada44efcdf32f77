//! The report as JSON.

use serde_json::{Value, json};

use super::advice::{levers, origin, sentences};
use super::measured::{AtOnce, Layout, Measured};
use super::model::{Layouts, Prediction};
use super::samples::Samples;

/// Everything that was measured and predicted; times are in seconds.
pub(crate) fn document(measured: &Measured, layouts: Option<&Layouts>) -> Value {
    let options = &measured.options;
    json!({
        "command": measured.command,
        "is_partial": measured.is_partial,
        "cores": measured.cores,
        "python": measured.python_version,
        "pytest": measured.pytest_version,
        "xdist": options.xdist,
        "coverage": options.coverage,
        "tests": measured.ids.len(),
        "phases": {
            "start_up": samples(&measured.start_up),
            "interpreter": samples(&measured.interpreter),
            "pytest": samples(&measured.pytest),
            "conftest": samples(&measured.conftest),
            "collection": samples(&measured.collection),
            "start_up_without_coverage": samples(&measured.start_up_without_coverage),
            "small_file": samples(&measured.small_file),
            "tests_with_coverage": samples(&measured.tests_with_coverage),
            "tests_without_coverage": samples(&measured.tests_without_coverage),
        },
        "small_file": measured.small_file_name,
        "imports": measured.lines.sorted().iter().take(20).map(|line| json!({
            "file": line.file, "line": line.line, "what": line.what, "seconds": line.seconds,
        })).collect::<Vec<_>>(),
        "conftests": measured.conftests.iter().map(|(file, took)| json!({"file": file, "seconds": took.median()})).collect::<Vec<_>>(),
        "packages": measured.packages.medians().iter().take(20).map(|(name, took)| json!({"name": name, "seconds": took})).collect::<Vec<_>>(),
        "durations": measured.durations.as_ref().map(|durations| json!({
            "origin": origin(&durations.origin),
            "seconds": durations.sum(),
            "file_fixtures_seconds": durations.file_fixtures.iter().fold(0.0, |sum, seconds| sum + seconds),
            "known": durations.known,
            "longest": durations.longest().map(|(id, seconds)| json!({"test": id, "seconds": seconds})),
        })),
        "sample": {"tests": measured.sample_size, "seconds": measured.sample_seconds},
        "at_once": measured.at_once.iter().map(at_once).collect::<Vec<_>>(),
        "database": measured.database.as_ref().map(|database| json!({
            "lease": samples(&database.lease),
            "session_fixtures": samples(&database.session),
            "test_fixtures_seconds": database.tests,
            "fixtures": database.fixtures.iter().map(|fixture| json!({
                "name": fixture.name, "scope": fixture.scope, "seconds": fixture.seconds,
            })).collect::<Vec<_>>(),
        })),
        "layouts": layouts.map(|layouts| {
            let of = |(number, one)| prediction(one, number == layouts.present, number == layouts.recommended);
            layouts.all.iter().enumerate().map(of).collect::<Vec<_>>()
        }),
        "levers": levers(measured, layouts).iter().map(|lever| json!({"text": lever.text, "seconds": lever.seconds})).collect::<Vec<_>>(),
        "sentences": sentences(measured, layouts),
        "not_seen": measured.not_seen.iter().map(|not| json!({"what": not.what, "why": not.why})).collect::<Vec<_>>(),
    })
}

fn samples(samples: &Samples) -> Value {
    json!({"median": samples.median(), "runs": samples.all()})
}

fn at_once(one: &AtOnce) -> Value {
    json!({
        "processes": one.processes,
        "wall": samples(&one.wall),
        "before": samples(&one.before),
        "start_up": samples(&one.start_up),
        "end": samples(&one.end),
        "slower": samples(&one.slower),
        "gap": samples(&one.gap),
        "session": samples(&one.session),
        "lease": samples(&one.databases),
    })
}

fn prediction(one: &Prediction, is_present: bool, is_recommended: bool) -> Value {
    let Layout { shards, workers, dist } = one.layout;
    json!({
        "shards": shards,
        "workers": workers,
        "dist": if workers == 0 { None } else { Some(dist.name()) },
        "processes": one.layout.processes(),
        "seconds": one.wall,
        "uncertainty": one.uncertainty,
        "is_extrapolated": one.is_extrapolated,
        "is_present": is_present,
        "is_recommended": is_recommended,
        "parts": {
            "start_up": one.start_up, "database": one.database, "tests": one.tests, "idle": one.idle, "end": one.end,
        },
    })
}
