//! Flag over variable over file over default, for a setting of each kind, with the origin of what won.

use std::time::Duration;

use super::super::{Config, HostPort, LogFormat};
use super::{Given, row};
use crate::config::table::Scope;

#[test]
fn empty_configuration_has_the_defaults() {
    let loaded = Given::nothing().load().unwrap();
    let config = &loaded.config;
    assert_eq!(config.listen, HostPort { host: "127.0.0.1".to_owned(), port: 7432 });
    assert!(config.token.is_none() && config.server_url.is_none());
    assert!(config.data_dir.is_none() && config.pg_bin_dir.is_none() && config.allowed_hosts.is_empty());
    assert!(!config.insecure_no_token && !config.stop_server && config.pools.is_empty());
    assert_eq!(config.max_ttl_seconds.seconds(), Duration::from_secs(3600));
    assert_eq!(config.disk_floor_mb.0, 512);
    assert_eq!(config.linger_seconds.seconds(), Duration::from_secs(180));
    assert_eq!(config.build_timeout_seconds.seconds(), Duration::from_secs(600));
    assert_eq!(config.idle_seconds.seconds(), Duration::from_secs(300));
    assert_eq!((config.log.as_str(), config.log_format), ("info", LogFormat::Auto));
    assert!(loaded.file.is_none() && loaded.warnings.is_empty());
    let names: Vec<&str> = loaded.rows.iter().map(|row| row.setting.as_str()).collect();
    let settings = Config::KEYS.iter().filter(|key| key.scope != Scope::FileOnly);
    assert_eq!(names, settings.map(|key| key.name).collect::<Vec<_>>(), "each setting has one row, in order");
    assert!(loaded.rows.iter().all(|row| row.origin.to_string() == "default"));
    assert_eq!(row(&loaded, "server_url"), "(the embedded server) · default");
}

/// Loads the setting from all layers, then without the highest, and so on; returns the rows.
fn layered(name: &str, in_file: &str, in_variable: &str, in_flag: &str) -> [String; 4] {
    let variable = format!("PGDIBS_{}", name.to_uppercase());
    let flag = format!("--{}={in_flag}", name.replace('_', "-"));
    let file = format!("# a comment\n\n{name} = {in_file}\n");
    let found = |given: Given| row(&given.load().unwrap(), name);
    [
        found(Given::nothing().file(&file).variable(&variable, in_variable).flags(&[&flag])),
        found(Given::nothing().file(&file).variable(&variable, in_variable)),
        found(Given::nothing().file(&file)),
        found(Given::nothing()),
    ]
}

#[test]
fn text_takes_the_highest_layer() {
    assert_eq!(
        layered("listen", "\"127.0.0.1:1\"", "127.0.0.1:2", "[::1]:0"),
        [
            "[::1]:0 · flag --listen",
            "127.0.0.1:2 · environment PGDIBS_LISTEN",
            "127.0.0.1:1 · file ./pgdibs.toml line 3",
            "127.0.0.1:7432 · default"
        ]
    );
}

#[test]
fn number_takes_the_highest_layer() {
    assert_eq!(
        layered("idle_seconds", "1_000", "20", "30"),
        [
            "30 · flag --idle-seconds",
            "20 · environment PGDIBS_IDLE_SECONDS",
            "1000 · file ./pgdibs.toml line 3",
            "300 · default"
        ]
    );
}

#[test]
fn boolean_takes_the_highest_layer() {
    assert_eq!(
        layered("insecure_no_token", "true", "0", "true"),
        [
            "true · flag --insecure-no-token",
            "false · environment PGDIBS_INSECURE_NO_TOKEN",
            "true · file ./pgdibs.toml line 3",
            "false · default"
        ]
    );
    let bare = Given::nothing().variable("PGDIBS_INSECURE_NO_TOKEN", "no").flags(&["--insecure-no-token"]);
    assert!(bare.load().unwrap().config.insecure_no_token);
}

#[test]
fn list_takes_the_highest_layer() {
    assert_eq!(
        layered("allowed_hosts", "[\"a\", \"b\"]", "c, D,", "e"),
        [
            "e · flag --allowed-hosts",
            "c, D, · environment PGDIBS_ALLOWED_HOSTS",
            "a,b · file ./pgdibs.toml line 3",
            "(none) · default"
        ]
    );
    let given = Given::nothing().variable("PGDIBS_ALLOWED_HOSTS", "c, D,[fe80::1]");
    assert_eq!(
        given.load().unwrap().config.allowed_hosts,
        ["c", "d", "[fe80::1]"],
        "hosts are compared in small letters"
    );
}

#[test]
fn secret_takes_the_highest_layer() {
    assert_eq!(
        layered("token", "\"one\"", "two", "three"),
        [
            "******** · flag --token",
            "******** · environment PGDIBS_TOKEN",
            "******** · file ./pgdibs.toml line 3",
            "(none: callers need no token) · default"
        ]
    );
}

#[test]
fn path_starts_at_the_directory_of_its_layer() {
    let file = "data_dir = \"data\"\npg_bin_dir = \"/opt/pg/bin\"\n";
    let given = Given::nothing().file_at("conf/p.toml", file).flags(&["--config", "conf/p.toml"]);
    let root = given.directory.path().to_path_buf();
    let loaded = given.load().unwrap();
    assert_eq!(loaded.config.data_dir, Some(root.join("conf/data")));
    assert_eq!(loaded.config.pg_bin_dir, Some("/opt/pg/bin".into()));
    assert_eq!(row(&loaded, "data_dir"), "data · file conf/p.toml line 1");
    let given = given.variable("PGDIBS_DATA_DIR", "other");
    assert_eq!(given.load().unwrap().config.data_dir, Some(root.join("other")));
}

#[test]
fn config_flag_wins_over_config_variable() {
    let given = Given::nothing()
        .file("log = \"error\"")
        .file_at("a.toml", "log = \"warn\"")
        .file_at("b.toml", "log = \"debug\"");
    assert_eq!(given.load().unwrap().config.log, "error");
    let given = given.variable("PGDIBS_CONFIG", "a.toml");
    assert_eq!(row(&given.load().unwrap(), "log"), "warn · file a.toml line 1");
    let given = given.flags(&["--config", "b.toml"]);
    assert_eq!(given.load().unwrap().config.log, "debug");
}

#[test]
fn empty_variable_counts_as_unset() {
    let given =
        Given::nothing().file("listen = \"127.0.0.1:5\"").variable("PGDIBS_LISTEN", "").variable("PGDIBS_TOKEN", "");
    let loaded = given.load().unwrap();
    assert_eq!(row(&loaded, "listen"), "127.0.0.1:5 · file ./pgdibs.toml line 1");
    assert!(loaded.config.token.is_none());
}

#[test]
fn stop_server_has_no_variable() {
    let given = Given::nothing().variable("PGDIBS_STOP_SERVER", "true");
    let loaded = given.load().unwrap();
    assert!(!loaded.config.stop_server);
    assert_eq!(loaded.warnings.len(), 1);
    let loaded = Given::nothing().flags(&["--stop-server"]).load().unwrap();
    assert!(loaded.config.stop_server);
    assert_eq!(row(&loaded, "stop_server"), "true · flag --stop-server");
}

#[test]
fn advertise_reads_default_and_named_addresses() {
    let given = Given::nothing().variable("PGDIBS_ADVERTISE", "localhost:55432,network=postgres:5432,six=[::1]:5433");
    let loaded = given.load().unwrap();
    let advertise = &loaded.config.advertise;
    assert_eq!(advertise.default, Some(HostPort { host: "localhost".to_owned(), port: 55432 }));
    assert_eq!(advertise.named["network"], HostPort { host: "postgres".to_owned(), port: 5432 });
    assert_eq!(advertise.named["six"], HostPort { host: "::1".to_owned(), port: 5433 });
    let listed = Given::nothing().file("advertise = [\"network=postgres:5432\"]").load().unwrap();
    assert!(listed.config.advertise.default.is_none() && listed.config.advertise.named.len() == 1);
}
