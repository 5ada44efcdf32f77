//! Tests of the errors of a start: each names what is wrong and what to do.

use crate::setup::{Setup, text};
use pgdibs_postgres::public_connect::PgProbe;

#[tokio::test]
async fn start_on_used_data_directory_names_other_daemon() {
    let setup = Setup::new();
    let mut daemon = setup.daemon();
    daemon.wait_for_line("serving");
    let message = setup.try_start().await.err().unwrap().to_string();
    for part in [format!("process {}", daemon.pid()), setup.data_dir.display().to_string(), "--data-dir".to_owned()] {
        assert!(message.contains(&part), "{part}: {message}");
    }
    // The refused start did not affect the running server.
    daemon.signal(nix::sys::signal::Signal::SIGKILL);
    let server = setup.start().await;
    assert!(server.adopted());
    server.stop().await.unwrap();
}

#[tokio::test]
async fn start_refuses_foreign_directory_untouched() {
    let setup = Setup::new();
    std::fs::create_dir(&setup.data_dir).unwrap();
    std::fs::write(setup.data_dir.join("thesis.txt"), "years of work").unwrap();
    let message = setup.try_start().await.err().unwrap().to_string();
    assert!(message.contains(&setup.data_dir.display().to_string()) && message.contains("--data-dir"), "{message}");
    let names: Vec<_> = std::fs::read_dir(&setup.data_dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["thesis.txt"]);
}

#[tokio::test]
async fn start_refuses_cluster_of_other_major_version() {
    let setup = Setup::new();
    let server = setup.start().await;
    let major = server.major().to_string();
    server.stop().await.unwrap();
    let version_file = setup.data_dir.join("pgdata/PG_VERSION");
    std::fs::write(&version_file, "99\n").unwrap();
    let message = setup.try_start().await.err().unwrap().to_string();
    for part in ["PostgreSQL 99", major.as_str(), "--pg-bin-dir", &setup.data_dir.display().to_string()] {
        assert!(message.contains(part), "{part}: {message}");
    }
    std::fs::write(&version_file, format!("{major}\n")).unwrap();
    setup.start().await.stop().await.unwrap();
}

#[tokio::test]
async fn start_names_bin_dir_without_server() {
    let setup = Setup::new();
    let mut options = setup.options();
    options.bin_dir = Some("/usr/share".into());
    let result = pgdibs_embedded::start(&options, &PgProbe, |_| {}).await;
    let message = result.err().unwrap().to_string();
    assert!(message.contains("/usr/share") && message.contains("initdb"), "{message}");
}

#[tokio::test]
async fn start_reports_missing_and_wrong_password() {
    let setup = Setup::new();
    let server = setup.start().await;
    let right = setup.read("superuser-password");
    drop(server);
    let file = setup.data_dir.join("superuser-password");
    std::fs::write(&file, "not the one").unwrap();
    let message = setup.try_start().await.err().unwrap().to_string();
    assert!(message.contains("refused by the server"), "{message}");
    std::fs::remove_file(&file).unwrap();
    let message = setup.try_start().await.err().unwrap().to_string();
    assert!(message.contains("missing") && message.contains(&file.display().to_string()), "{message}");
    std::fs::write(&file, right).unwrap();
    let server = setup.start().await;
    assert!(server.adopted());
    assert_eq!(text(&server, "select 'fine'").await, "fine");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn failed_start_shows_end_of_server_log() {
    let setup = Setup::new();
    setup.start().await.stop().await.unwrap();
    let conf = setup.data_dir.join("pgdata/postgresql.conf");
    let good = std::fs::read_to_string(&conf).unwrap();
    std::fs::write(&conf, format!("{good}\nno_such_setting_exists = 1\n")).unwrap();
    let message = setup.try_start().await.err().unwrap().to_string();
    assert!(message.contains("no_such_setting_exists"), "{message}");
    setup.until_nothing_runs().await;
    std::fs::write(&conf, good).unwrap();
    setup.start().await.stop().await.unwrap();
}
