//! `pgdibs runs`: the test runs that go on, and the times of those that reported.

use jiff::Timestamp;
use pgdibs::api::run_report::{ListedRun, RunState, Runs};
use pgdibs::segment;

use super::args::RunsArgs;
use super::context::Context;
use super::error::CliError;
use super::render::age;
use super::table::{duration, fitted_table, shortened};

/// A run's name is mostly a UUID, whose beginning tells it from others.
const RUN_WIDTH: usize = 9;

/// Lists the runs.
///
/// # Errors
/// The daemon refuses.
pub(super) async fn runs(context: &Context, args: &RunsArgs) -> Result<(), CliError> {
    let of_pool = match &args.pool {
        Some(pool) => format!("?pool={}", segment(pool)?),
        None => String::new(),
    };
    let answer = context.client()?.get(&format!("/v1/runs{of_pool}")).await?;
    let runs: Runs = answer.json()?;
    if runs.runs.is_empty() {
        context
            .output
            .info("no runs: none goes on, and none has reported its times; the plugin for pytest does so at its end");
    }
    context.output.result(&answer.value()?, || match runs.runs.is_empty() {
        true => String::new(),
        false => runs_table(&runs.runs, Timestamp::now(), context.output.colour),
    })
}

/// START-UP has the imports, DATABASES everything that waits for one: leases, the template, resets.
fn runs_table(runs: &[ListedRun], now: Timestamp, colour: bool) -> String {
    let header = ["RUN", "POOL", "ENDED", "TOOK", "START-UP", "DATABASES", "TESTS", "WORKERS"];
    let rows = runs.iter().map(|run| {
        let of = |phases: &[&str]| {
            let known: Vec<f64> = phases.iter().filter_map(|phase| run.seconds.get(*phase).copied()).collect();
            if known.is_empty() { "-".to_owned() } else { duration(known.into_iter().sum()) }
        };
        let ended = match (run.state, run.reported_at.as_deref().and_then(|at| age(at, now))) {
            (RunState::Live, _) => format!("live, {} held", run.held),
            (_, Some(age)) => format!("{age} ago"),
            (_, None) => "-".to_owned(),
        };
        let workers = if run.workers.is_empty() { "-".to_owned() } else { run.workers.len().to_string() };
        vec![
            shortened(&run.run, RUN_WIDTH),
            run.pool.clone(),
            ended,
            of(&["total"]),
            of(&["start_up", "import"]),
            of(&["database", "template", "reset"]),
            of(&["tests"]),
            workers,
        ]
    });
    fitted_table(&header, rows.collect(), &[1], colour)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn table_shows_live_and_reported_runs() {
        let runs: Runs = serde_json::from_value(json!({"runs": [
            {"run": "7f3c2a10-0000", "pool": "myapp_test", "state": "live", "holder": "", "held": 3, "started_at": null,
             "reported_at": null, "seconds": {}, "workers": []},
            {"run": "51bd", "pool": "a_pool_with_the_longest_name_of_40_lette", "state": "ended", "holder": "ci-7", "held": 0,
             "started_at": null, "reported_at": "2026-11-21T11:58:00Z",
             "seconds": {"total": 73.4, "start_up": 8.5, "import": 12.5, "database": 0.25, "template": 4.5, "reset": 0.5, "tests": 41.0},
             "workers": [{"worker": "gw0", "peak_rss_mb": 210, "connections": 2}, {"worker": "gw1", "peak_rss_mb": null, "connections": null}]},
        ]}))
        .unwrap();
        let now = "2026-11-21T12:00:00Z".parse().unwrap();
        let expected = "\
RUN        POOL      ENDED          TOOK        START-UP  DATABASES  TESTS  WORKERS
7f3c2a10…  myapp_t…  live, 3 held   -           -         -          -      -
51bd       a_pool_…  2 min 0 s ago  1 min 13 s  21 s      5.2 s      41 s   2
";
        assert_eq!(runs_table(&runs.runs, now, false), expected);
    }
}
