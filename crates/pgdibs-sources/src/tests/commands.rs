//! Tests of commands with real processes: their environment, their output, and the termination of their process group.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::super::capture::Capture;
use super::super::group::is_running_member;
use super::super::process;
use super::super::{BuildFailure, BuildPlan, BuildReport, Source, SourceKind, build, plan};
use super::{PASSWORD, eventually, runs, source, unreachable_target};

fn shell(base: &Path, script: &str) -> Source {
    source(SourceKind::Command(["sh", "-c", script].map(str::to_owned).to_vec()), base)
}

async fn built_within(source: &Source, seconds: u64) -> Result<BuildReport, BuildFailure> {
    build(source, plan(source)?, &unreachable_target(), Duration::from_secs(seconds), CancellationToken::new()).await
}

#[track_caller]
fn read(base: &Path, name: &str) -> String {
    let mut text = String::new();
    eventually(name, || {
        text = std::fs::read_to_string(base.join(name)).unwrap_or_default();
        text.ends_with('\n')
    });
    text
}

#[tokio::test]
async fn command_gets_target_variables_and_directory() {
    let base = tempfile::tempdir().unwrap();
    std::fs::create_dir(base.path().join("backend")).unwrap();
    let script = "{ pwd; printf '%s\\n' \"$DATABASE_URL\" \"$PGHOST|$PGPORT|$PGUSER|$PGPASSWORD|$PGDATABASE|$PGSSLMODE\" \"$KEY\" \"$HOME\"; \
                  env | grep -c '^PG'; cat; } > out";
    let mut source = shell(base.path(), script);
    source.directory = base.path().join("backend");
    source.env = [("KEY".to_owned(), "value with ' and \"".into())].into();
    let report = built_within(&source, 10).await.unwrap();
    assert!(matches!(report.plan, BuildPlan::Command(_)) && report.log.ends_with("> out\n"));
    let out = read(&source.directory, "out");
    let expected = format!(
        "{}\npostgresql://builder:pa%2Fss%20w%3Ard%407f3c@127.0.0.1:9/shop_build_1?sslmode=disable\n127.0.0.1|9|builder|{PASSWORD}|shop_build_1|disable\nvalue with ' and \"\n{}\n6\n",
        source.directory.canonicalize().unwrap().display(),
        std::env::var("HOME").unwrap_or_default(),
    );
    assert_eq!(out, expected);
}

#[tokio::test]
async fn failed_command_shows_last_lines_without_password() {
    let base = tempfile::tempdir().unwrap();
    let script = "for i in $(seq 1 100); do echo out $i; echo err $i >&2; done; echo \"at $DATABASE_URL with $PGPASSWORD\"; exit 7";
    let failure = built_within(&shell(base.path(), script), 10).await.unwrap_err();
    assert!(!failure.timed_out && !failure.cancelled && failure.step.starts_with("sh -c for i in"));
    let lines: Vec<&str> = failure.detail.lines().collect();
    assert_eq!(lines[0], "the command failed with exit code 7; its last lines:");
    assert_eq!(lines[1], "(161 earlier lines left out)");
    assert!(failure.log.contains("\nout 1\nerr 1\n") && failure.log.contains("\nout 100\n"), "{}", failure.log);
    assert!(failure.log.contains("with ********\n") && !failure.log.contains("7f3c"), "{}", failure.log);
    assert_eq!(lines[lines.len() - 3..lines.len() - 1], ["out 100", "err 100"], "merged in the order of writing");
    let last = "at postgresql://builder:********@127.0.0.1:9/shop_build_1?sslmode=disable with ********";
    assert_eq!(lines[lines.len() - 1], last);
    assert_eq!(lines.len(), 42);

    let silent = built_within(&shell(base.path(), "kill -9 $$"), 10).await.unwrap_err();
    assert_eq!(silent.detail, "the command was terminated by signal 9; it printed nothing");
}

#[tokio::test]
async fn command_that_cannot_start_is_error_with_reason() {
    let base = tempfile::tempdir().unwrap();
    std::fs::write(base.path().join("plain"), "x").unwrap();
    let of = |words: &[&str]| {
        source(SourceKind::Command(words.iter().map(|word| (*word).to_owned()).collect()), base.path())
    };
    let missing = built_within(&of(&["no-such-program", "x"]), 10).await.unwrap_err();
    assert_eq!(missing.step, "no-such-program x");
    assert!(
        missing.detail.starts_with("there is no program `no-such-program` on the daemon's PATH; install it"),
        "{}",
        missing.detail
    );
    let plain = built_within(&of(&["./plain"]), 10).await.unwrap_err();
    assert!(
        plain.detail.ends_with("is not executable; make it executable or run it with its interpreter"),
        "{}",
        plain.detail
    );
    let without_directory = Source { directory: base.path().join("none"), ..of(&["true"]) };
    let failure = built_within(&without_directory, 10).await.unwrap_err();
    assert!(
        failure.detail.starts_with("there is no working directory ") && failure.detail.ends_with("correct `directory`")
    );
}

/// The grandchild ignores SIGTERM, so that only SIGKILL to the whole group terminates it.
#[tokio::test]
async fn hanging_command_is_killed_with_grandchildren() {
    let base = tempfile::tempdir().unwrap();
    let script = "echo begun; sh -c 'trap \"\" TERM; echo $$ > grandchild; while :; do sleep 1000; done' & echo $$ > child; wait";
    let started = Instant::now();
    let failure = built_within(&shell(base.path(), script), 1).await.unwrap_err();
    assert!(failure.timed_out && !failure.cancelled);
    let expected = "the build took longer than 1 seconds and was terminated with all its processes; make it faster or raise the \
                  pool's source.timeout_seconds (or build_timeout_seconds); its last lines:\nbegun";
    assert_eq!(failure.detail, expected);
    assert!(started.elapsed() >= Duration::from_secs(3), "SIGKILL comes two seconds after SIGTERM");
    for name in ["child", "grandchild"] {
        let pid = read(base.path(), name);
        eventually("all processes of the group have exited", || !runs(&pid));
    }
}

#[tokio::test]
async fn command_that_exits_on_sigterm_is_not_delayed() {
    let base = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let failure =
        built_within(&shell(base.path(), "trap 'echo ending; exit 0' TERM; sleep 1000 & wait"), 1).await.unwrap_err();
    assert!(failure.timed_out && failure.detail.ends_with("its last lines:\nending"), "{}", failure.detail);
    assert!(started.elapsed() < Duration::from_millis(2900), "{:?}", started.elapsed());
}

#[tokio::test]
async fn cancel_terminates_group_and_reports_it() {
    let base = tempfile::tempdir().unwrap();
    let source = shell(base.path(), "sleep 1000 & echo $! > grandchild; wait");
    let cancel = CancellationToken::new();
    let building = tokio::spawn({
        let cancel = cancel.clone();
        async move { build(&source, plan(&source)?, &unreachable_target(), Duration::from_secs(60), cancel).await }
    });
    let directory = base.path().to_owned();
    let pid = tokio::task::spawn_blocking(move || read(&directory, "grandchild")).await.unwrap();
    cancel.cancel();
    let failure = building.await.unwrap().unwrap_err();
    assert!(failure.cancelled && !failure.timed_out);
    assert_eq!(failure.detail, "the build was cancelled and terminated with all its processes; it printed nothing");
    eventually("the grandchild has exited", || !runs(&pid));
}

#[tokio::test]
async fn dropped_future_kills_group() {
    let base = tempfile::tempdir().unwrap();
    let source = shell(base.path(), "sleep 1000 & echo $! > grandchild; wait");
    let building = tokio::spawn(async move {
        build(&source, plan(&source)?, &unreachable_target(), Duration::from_secs(60), CancellationToken::new()).await
    });
    let directory = base.path().to_owned();
    let pid = tokio::task::spawn_blocking(move || read(&directory, "grandchild")).await.unwrap();
    assert!(runs(&pid));
    building.abort();
    assert!(building.await.unwrap_err().is_cancelled());
    eventually("the grandchild has exited", || !runs(&pid));
}

#[tokio::test]
async fn background_child_with_open_pipe_does_not_delay_build() {
    let base = tempfile::tempdir().unwrap();
    let started = Instant::now();
    built_within(&shell(base.path(), "sleep 1000 & echo $! > grandchild; echo done"), 60).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let pid = read(base.path(), "grandchild");
    eventually("the background child has exited", || !runs(&pid));
}

/// Tests the parser, because it depends on the machine how soon process 1 reaps.
///
/// Regression: a zombie in the group delayed the end of a build.
#[test]
fn zombie_is_no_running_member_of_group() {
    let group = nix::unistd::Pid::from_raw(77);
    assert!(is_running_member("78 (sleep) S 1 77 77 0 -1", group));
    assert!(is_running_member("78 (a) Z 1 5) T 1 77 77 0 -1", group), "a name may contain text like fields");
    for line in ["78 (sleep) Z 1 77 77 0 -1", "78 (sleep) S 1 78 77 0 -1", "78 (sleep) S 77 78 0", ""] {
        assert!(!is_running_member(line, group), "{line}");
    }
}

/// The child left the group, so it survives; the build ends, and has its output.
#[tokio::test]
async fn child_that_left_group_does_not_delay_build() {
    let base = tempfile::tempdir().unwrap();
    let script = "setsid sh -c 'echo $$ > grandchild; while :; do echo noise; done' & while [ ! -s grandchild ]; do sleep 0.01; done; exit 3";
    let started = Instant::now();
    let failure = built_within(&shell(base.path(), script), 60).await.unwrap_err();
    let pid = read(base.path(), "grandchild");
    // Its pipe is closed, so that its next write terminates it.
    eventually("the writer has exited", || !runs(&pid));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(failure.detail.starts_with("the command failed with exit code 3"), "{}", failure.detail);
}

#[tokio::test]
async fn output_of_200_megabytes_stays_in_bounded_memory() {
    let mut command = tokio::process::Command::new("sh");
    command.args(["-c", "yes 'a line of thirty-one characters' | head -c 209715200; echo; echo the end"]);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(120);
    let finished = process::run(command, Capture::default(), deadline, &CancellationToken::new()).await.unwrap();
    assert!(matches!(finished.outcome, process::Outcome::Exited(status) if status.success()));
    assert_eq!(finished.output.bytes(), 209_715_200 + 9);
    assert!(finished.output.last_lines(&[]).ends_with("\nthe end"));
    assert!(finished.output.held() < 512 * 1024, "{}", finished.output.held());
}
