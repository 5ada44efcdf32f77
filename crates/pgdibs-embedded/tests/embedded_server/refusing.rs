//! What is refused, each with a sentence that names the thing and the way out.

use pgdibs_embedded::Leave;

use crate::setup::{Setup, text};
use pgdibs_postgres::public_connect::PgProbe;

#[tokio::test]
async fn a_second_daemon_on_one_data_directory_is_told_who_has_it() {
    let setup = Setup::new();
    let mut daemon = setup.daemon();
    daemon.says("serving");
    let sentence = setup.try_start().await.err().unwrap().to_string();
    for part in [format!("process {}", daemon.pid()), setup.data_dir.display().to_string(), "--data-dir".to_owned()] {
        assert!(sentence.contains(&part), "{part}: {sentence}");
    }
    // The refused one has done no harm.
    daemon.signal(nix::sys::signal::Signal::SIGKILL);
    let server = setup.start().await;
    assert!(server.adopted());
    server.leave(Leave::Stop).await.unwrap();
}

#[tokio::test]
async fn a_directory_of_others_is_refused_and_untouched() {
    let setup = Setup::new();
    std::fs::create_dir(&setup.data_dir).unwrap();
    std::fs::write(setup.data_dir.join("thesis.txt"), "years of work").unwrap();
    let sentence = setup.try_start().await.err().unwrap().to_string();
    assert!(sentence.contains(&setup.data_dir.display().to_string()) && sentence.contains("--data-dir"), "{sentence}");
    let names: Vec<_> = std::fs::read_dir(&setup.data_dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["thesis.txt"]);
}

#[tokio::test]
async fn a_cluster_of_another_major_version_is_refused_and_untouched() {
    let setup = Setup::new();
    let server = setup.start().await;
    let major = server.major().to_string();
    server.leave(Leave::Stop).await.unwrap();
    let version_file = setup.data_dir.join("pgdata/PG_VERSION");
    std::fs::write(&version_file, "99\n").unwrap();
    let sentence = setup.try_start().await.err().unwrap().to_string();
    for part in ["PostgreSQL 99", major.as_str(), "--pg-bin-dir", &setup.data_dir.display().to_string()] {
        assert!(sentence.contains(part), "{part}: {sentence}");
    }
    std::fs::write(&version_file, format!("{major}\n")).unwrap();
    setup.start().await.leave(Leave::Stop).await.unwrap();
}

#[tokio::test]
async fn a_bin_dir_without_a_server_is_named() {
    let setup = Setup::new();
    let mut options = setup.options();
    options.bin_dir = Some("/usr/share".into());
    let result = pgdibs_embedded::start(&options, &PgProbe, |_| {}).await;
    let sentence = result.err().unwrap().to_string();
    assert!(sentence.contains("/usr/share") && sentence.contains("initdb"), "{sentence}");
}

#[tokio::test]
async fn a_lost_or_changed_password_is_told_apart_from_a_server_that_does_not_start() {
    let setup = Setup::new();
    let server = setup.start().await;
    let right = setup.read("superuser-password");
    drop(server);
    let file = setup.data_dir.join("superuser-password");
    std::fs::write(&file, "not the one").unwrap();
    let sentence = setup.try_start().await.err().unwrap().to_string();
    assert!(sentence.contains("refused by the server"), "{sentence}");
    std::fs::remove_file(&file).unwrap();
    let sentence = setup.try_start().await.err().unwrap().to_string();
    assert!(sentence.contains("missing") && sentence.contains(&file.display().to_string()), "{sentence}");
    std::fs::write(&file, right).unwrap();
    let server = setup.start().await;
    assert!(server.adopted());
    assert_eq!(text(&server, "select 'fine'").await, "fine");
    server.leave(Leave::Stop).await.unwrap();
}

#[tokio::test]
async fn a_server_that_cannot_start_says_the_end_of_its_log() {
    let setup = Setup::new();
    setup.start().await.leave(Leave::Stop).await.unwrap();
    let conf = setup.data_dir.join("pgdata/postgresql.conf");
    let good = std::fs::read_to_string(&conf).unwrap();
    std::fs::write(&conf, format!("{good}\nno_such_setting_exists = 1\n")).unwrap();
    let sentence = setup.try_start().await.err().unwrap().to_string();
    assert!(sentence.contains("no_such_setting_exists"), "{sentence}");
    setup.until_nothing_runs().await;
    std::fs::write(&conf, good).unwrap();
    setup.start().await.leave(Leave::Stop).await.unwrap();
}
