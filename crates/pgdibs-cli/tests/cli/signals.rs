//! Signals to `pgdibs run`: passed to the command, and handled before its start.

use nix::sys::signal::Signal;

use crate::process::pgdibs;
use crate::stub::{LEASED, Reply, Stub, lease, pools};

fn grants() -> Stub {
    Stub::start(|received, _| match received.what.as_str() {
        "POST /v1/leases" => Reply::Json(201, lease(0, "u", 20.0)),
        _ => Reply::Json(200, pools(&["shop_test"])),
    })
}

/// A shell that prints each signal and continues until its standard input ends. A shell handles signals between its commands, so
/// each `read` has a timeout.
fn print_signals(name: &str) -> String {
    format!("trap 'echo got {name}' {name}; echo started; while read -t 0.1 line || [ $? -gt 128 ]; do :; done; exit 6")
}

#[test]
fn run_passes_each_signal_and_waits() {
    let stub = grants();
    let all = [(Signal::SIGINT, "INT"), (Signal::SIGTERM, "TERM"), (Signal::SIGHUP, "HUP"), (Signal::SIGQUIT, "QUIT")];
    for (signal, name) in all {
        let mut running = pgdibs(&["run", "--", "bash", "-c", &print_signals(name)])
            .with_daemon(&stub.url)
            .with_default_signals()
            .start();
        running.wait_for_line("started");
        running.signal(signal);
        running.wait_for_line(&format!("got {name}"));
        // The command also receives a second one.
        running.signal(signal);
        running.wait_for_line(&format!("got {name}"));
        running.close_stdin();
        let done = running.done();
        assert_eq!((done.code, done.stderr.as_str()), (Some(6), LEASED), "{name}");
    }
}

#[test]
fn uncaught_signal_ends_command_and_releases_lease() {
    let stub = grants();
    let mut running = pgdibs(&["run", "--", "sh", "-c", "echo started; read line"])
        .with_daemon(&stub.url)
        .with_default_signals()
        .start();
    running.wait_for_line("started");
    running.signal(Signal::SIGTERM);
    assert_eq!(running.done_by_itself().code, Some(143));
    assert!(stub.calls().last().unwrap().starts_with("DELETE /v1/runs/"), "{:?}", stub.calls());
}

#[test]
fn interrupted_wait_starts_no_command() {
    let stub = Stub::start(|received, _| match received.what.as_str() {
        "POST /v1/leases" => Reply::Never,
        _ => Reply::Json(200, pools(&["shop_test"])),
    });
    let running = pgdibs(&["run", "--", "echo", "never"]).with_daemon(&stub.url).with_default_signals().start();
    stub.wait_for("POST /v1/leases", 1);
    running.signal(Signal::SIGINT);
    let done = running.done_by_itself();
    assert_eq!((done.code, done.stdout.as_str()), (Some(130), ""));
    assert_eq!(done.stderr, "pgdibs: SIGINT came before the command was started\n");
    assert!(stub.calls().last().unwrap().starts_with("DELETE /v1/runs/"), "{:?}", stub.calls());
}

#[test]
fn ignored_signal_stays_ignored_for_the_command() {
    let stub = grants();
    let pgdibs_path = env!("CARGO_BIN_EXE_pgdibs");
    let mut program = pgdibs(&[]).with_daemon(&stub.url);
    let script =
        format!("trap '' HUP; exec {pgdibs_path} run -- sh -c 'echo started; kill -HUP $$; echo alive; read line'");
    let mut shell = std::process::Command::new("sh");
    shell.arg("-c").arg(script).env("PGDIBS_URL", &stub.url).current_dir(program.directory.path());
    program.command = shell;
    let mut running = program.start();
    running.wait_for_line("started");
    running.signal(Signal::SIGHUP);
    running.wait_for_line("alive");
    assert_eq!(running.done().code, Some(1));
}
