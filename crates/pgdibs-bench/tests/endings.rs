//! How the benchmark ends on a given server: at a database that is not as its template, and on Ctrl-C. It leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails with the place and the value")]

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use pgdibs_testing::cluster::Cluster;
use pgdibs_testing::process::signal;
use pgdibs_testing::wait::until;

mod long {
    use super::*;

    /// The template changes after it was sealed, so the clones of it differ from what the benchmark has built.
    #[test]
    fn dirty_database_ends_benchmark_without_results() {
        let cluster = Cluster::start(&[]);
        let directory = tempfile::tempdir().unwrap();
        let benchmark = start(&cluster, directory.path());
        let mut superuser = cluster.superuser("postgres");
        let sealed =
            "select min(datname) from pg_database where datname like 'bench\\_template\\_%' and not datallowconn";
        let template = until("the template is sealed", || match superuser.text(sealed).as_str() {
            "-" => Err(text_of(directory.path(), "err")),
            template => Ok(template.to_owned()),
        });
        superuser.run(&format!("alter database {template} allow_connections = true"));
        cluster.superuser(&template).run("update messaging_notes set title = 'dirty' where id = 7");
        superuser.run(&format!("alter database {template} allow_connections = false"));

        assert_eq!(code_of(benchmark), Some(1));
        let errors = text_of(directory.path(), "err");
        assert!(errors.contains("was leased and is not as its template"), "{errors}");
        assert_eq!(text_of(directory.path(), "out"), "");
        expect_nothing_left(&cluster);
    }

    #[test]
    fn interrupted_benchmark_prints_what_is_known() {
        let cluster = Cluster::start(&[]);
        let directory = tempfile::tempdir().unwrap();
        let benchmark = start(&cluster, directory.path());
        until("the first row is measured", || {
            let errors = text_of(directory.path(), "err");
            if errors.contains(" acquires at once") { Ok(()) } else { Err(errors) }
        });
        signal(i32::try_from(benchmark.id()).unwrap(), Signal::SIGINT);

        assert_eq!(code_of(benchmark), Some(130), "{}", text_of(directory.path(), "err"));
        let results = text_of(directory.path(), "out");
        assert!(results.contains("acquire, at rest"), "{results}");
        assert!(results.contains("Parts were left out, or did not end."), "{results}");
        expect_nothing_left(&cluster);
    }
}

/// Starts it with its outputs in files.
fn start(cluster: &Cluster, directory: &Path) -> Child {
    let output = |name: &str| Stdio::from(File::create(directory.join(name)).unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgdibs-bench"));
    command.args(["--quick", "--only", "acquire", "--only", "churn", "--server-url", &cluster.url()]);
    // A given server needs no programs.
    command.env("PGDIBS_PG_BIN_DIR", directory);
    command.stdin(Stdio::null()).stdout(output("out")).stderr(output("err"));
    command.spawn().unwrap()
}

fn text_of(directory: &Path, name: &str) -> String {
    std::fs::read_to_string(directory.join(name)).unwrap()
}

#[track_caller]
fn code_of(mut benchmark: Child) -> Option<i32> {
    let status = until("the benchmark ends", || benchmark.try_wait().unwrap().ok_or("it runs".to_owned()));
    status.code()
}

#[track_caller]
fn expect_nothing_left(cluster: &Cluster) {
    let mut superuser = cluster.superuser("postgres");
    let databases = "select datname::text from pg_database where datname not in ('postgres', 'template0', 'template1')";
    assert_eq!(superuser.list(databases), Vec::<String>::new());
    assert_eq!(superuser.list("select rolname::text from pg_roles where rolname like 'pgdibs%'"), Vec::<String>::new());
}
