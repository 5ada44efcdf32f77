//! Commands with real processes: what they get, what is shown of them, and that nothing of them is left.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::super::capture::Capture;
use super::super::group::is_living_member;
use super::super::process;
use super::super::{BuildFailure, BuildPlan, BuildReport, Source, SourceKind, build};
use super::{PASSWORD, eventually, nowhere, runs, source};

fn shell(base: &Path, script: &str) -> Source {
    source(SourceKind::Command(["sh", "-c", script].map(str::to_owned).to_vec()), base)
}

async fn built_within(source: &Source, seconds: u64) -> Result<BuildReport, BuildFailure> {
    build(source, &nowhere(), Duration::from_secs(seconds), CancellationToken::new()).await
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
async fn a_command_gets_the_target_its_variables_and_its_directory() {
    let base = tempfile::tempdir().unwrap();
    std::fs::create_dir(base.path().join("backend")).unwrap();
    let script = "{ pwd; printf '%s\\n' \"$DATABASE_URL\" \"$PGHOST|$PGPORT|$PGUSER|$PGPASSWORD|$PGDATABASE|$PGSSLMODE\" \"$KEY\" \"$HOME\"; \
                  env | grep -c '^PG'; cat; } > out";
    let mut given = shell(base.path(), script);
    given.directory = base.path().join("backend");
    given.env = [("KEY".to_owned(), "value with ' and \"".into())].into();
    let report = built_within(&given, 10).await.unwrap();
    assert!(matches!(report.plan, BuildPlan::Command(_)) && report.output_bytes == 0);
    let out = read(&given.directory, "out");
    let wanted = format!(
        "{}\npostgresql://builder:pa%2Fss%20w%3Ard%407f3c@127.0.0.1:9/shop_build_1?sslmode=disable\n127.0.0.1|9|builder|{PASSWORD}|shop_build_1|disable\nvalue with ' and \"\n{}\n6\n",
        given.directory.canonicalize().unwrap().display(),
        std::env::var("HOME").unwrap_or_default(),
    );
    assert_eq!(out, wanted);
}

#[tokio::test]
async fn a_command_that_fails_shows_its_last_lines_without_the_password() {
    let base = tempfile::tempdir().unwrap();
    let script = "for i in $(seq 1 100); do echo out $i; echo err $i >&2; done; echo \"at $DATABASE_URL with $PGPASSWORD\"; exit 7";
    let failure = built_within(&shell(base.path(), script), 10).await.unwrap_err();
    assert!(!failure.timed_out && !failure.cancelled && failure.step.starts_with("sh -c for i in"));
    let lines: Vec<&str> = failure.detail.lines().collect();
    assert_eq!(lines[0], "the command ended with exit code 7; its last lines:");
    assert_eq!(lines[1], "(161 earlier lines left out)");
    assert_eq!(lines[lines.len() - 3..lines.len() - 1], ["out 100", "err 100"], "merged in the order of writing");
    let last = "at postgresql://builder:********@127.0.0.1:9/shop_build_1?sslmode=disable with ********";
    assert_eq!(lines[lines.len() - 1], last);
    assert_eq!(lines.len(), 42);

    let silent = built_within(&shell(base.path(), "kill -9 $$"), 10).await.unwrap_err();
    assert_eq!(silent.detail, "the command was ended by signal 9; it printed nothing");
}

#[tokio::test]
async fn what_cannot_be_started_is_a_sentence() {
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
        plain.detail.ends_with("may not be executed; make it executable or name its interpreter first"),
        "{}",
        plain.detail
    );
    let nowhere = Source { directory: base.path().join("none"), ..of(&["true"]) };
    let failure = built_within(&nowhere, 10).await.unwrap_err();
    assert!(failure.detail.starts_with("there is no directory ") && failure.detail.ends_with("correct `directory`"));
}

/// The grandchild ignores SIGTERM, so that only the SIGKILL to the whole group ends it.
#[tokio::test]
async fn a_command_that_hangs_is_ended_with_its_grandchildren() {
    let base = tempfile::tempdir().unwrap();
    let script = "echo begun; sh -c 'trap \"\" TERM; echo $$ > grandchild; while :; do sleep 1000; done' & echo $$ > child; wait";
    let begun = Instant::now();
    let failure = built_within(&shell(base.path(), script), 1).await.unwrap_err();
    assert!(failure.timed_out && !failure.cancelled);
    let wanted = "the build did not end within 1 seconds and was ended, with everything it had started; make it faster or raise the \
                  pool's source.timeout_seconds (or build_timeout_seconds); its last lines:\nbegun";
    assert_eq!(failure.detail, wanted);
    assert!(begun.elapsed() >= Duration::from_secs(3), "SIGTERM leaves two seconds before SIGKILL");
    for name in ["child", "grandchild"] {
        let pid = read(base.path(), name);
        eventually("everything of the group is gone", || !runs(&pid));
    }
}

#[tokio::test]
async fn a_command_that_obeys_is_ended_without_waiting_out_the_grace() {
    let base = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let failure =
        built_within(&shell(base.path(), "trap 'echo ending; exit 0' TERM; sleep 1000 & wait"), 1).await.unwrap_err();
    assert!(failure.timed_out && failure.detail.ends_with("its last lines:\nending"), "{}", failure.detail);
    assert!(begun.elapsed() < Duration::from_millis(2900), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn cancelling_ends_the_group_and_says_so() {
    let base = tempfile::tempdir().unwrap();
    let given = shell(base.path(), "sleep 1000 & echo $! > grandchild; wait");
    let cancel = CancellationToken::new();
    let building = tokio::spawn({
        let cancel = cancel.clone();
        async move { build(&given, &nowhere(), Duration::from_secs(60), cancel).await }
    });
    let directory = base.path().to_owned();
    let pid = tokio::task::spawn_blocking(move || read(&directory, "grandchild")).await.unwrap();
    cancel.cancel();
    let failure = building.await.unwrap().unwrap_err();
    assert!(failure.cancelled && !failure.timed_out);
    assert_eq!(failure.detail, "the build was cancelled, and everything it had started was ended; it printed nothing");
    eventually("the grandchild is gone", || !runs(&pid));
}

#[tokio::test]
async fn dropping_the_future_ends_the_group() {
    let base = tempfile::tempdir().unwrap();
    let given = shell(base.path(), "sleep 1000 & echo $! > grandchild; wait");
    let building =
        tokio::spawn(async move { build(&given, &nowhere(), Duration::from_secs(60), CancellationToken::new()).await });
    let directory = base.path().to_owned();
    let pid = tokio::task::spawn_blocking(move || read(&directory, "grandchild")).await.unwrap();
    assert!(runs(&pid));
    building.abort();
    assert!(building.await.unwrap_err().is_cancelled());
    eventually("the grandchild is gone", || !runs(&pid));
}

#[tokio::test]
async fn a_background_child_that_keeps_the_pipe_does_not_hold_up_the_build() {
    let base = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    built_within(&shell(base.path(), "sleep 1000 & echo $! > grandchild; echo done"), 60).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let pid = read(base.path(), "grandchild");
    eventually("the background child is gone", || !runs(&pid));
}

/// Whether process 1 reaps at once differs from machine to machine, so this asks about the lines of `/proc` themselves.
///
/// Regression: a dead grandchild that nobody reaped held up the end of a build (found by a second reading).
#[test]
fn the_dead_do_not_keep_a_group_alive() {
    let group = nix::unistd::Pid::from_raw(77);
    assert!(is_living_member("78 (sleep) S 1 77 77 0 -1", group));
    assert!(is_living_member("78 (a) Z 1 5) T 1 77 77 0 -1", group), "a name may look like fields");
    for line in ["78 (sleep) Z 1 77 77 0 -1", "78 (sleep) S 1 78 77 0 -1", "78 (sleep) S 77 78 0", ""] {
        assert!(!is_living_member(line, group), "{line}");
    }
}

/// It is out of the group, so it lives on; the build ends all the same, and keeps what was printed.
#[tokio::test]
async fn a_child_that_left_the_group_does_not_hold_up_the_build_either() {
    let base = tempfile::tempdir().unwrap();
    let script = "setsid sh -c 'echo $$ > grandchild; while :; do echo noise; done' & while [ ! -s grandchild ]; do sleep 0.01; done; exit 3";
    let begun = Instant::now();
    let failure = built_within(&shell(base.path(), script), 60).await.unwrap_err();
    let pid = read(base.path(), "grandchild");
    // The other end of its pipe is closed, so that its next word ends it.
    eventually("the writer noticed", || !runs(&pid));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(failure.detail.starts_with("the command ended with exit code 3"), "{}", failure.detail);
}

#[tokio::test]
async fn output_of_200_megabytes_takes_no_memory() {
    let mut command = tokio::process::Command::new("sh");
    command.args(["-c", "yes 'a line of thirty-one characters' | head -c 209715200; echo; echo the end"]);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(120);
    let ended = process::run(command, Capture::default(), deadline, &CancellationToken::new()).await.unwrap();
    assert!(matches!(ended.ending, process::Ending::Exited(status) if status.success()));
    assert_eq!(ended.output.bytes(), 209_715_200 + 9);
    assert!(ended.output.last_lines(&[]).ends_with("\nthe end"));
    assert!(ended.output.held() < 512 * 1024, "{}", ended.output.held());
}
