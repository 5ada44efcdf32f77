//! Secrets: where they may come from, and that they appear nowhere.

use secrecy::ExposeSecret as _;

use super::super::masked_url;
use super::{Given, row};

#[test]
fn secret_is_read_from_its_file() {
    let given = Given::nothing()
        .file_at("run/token", "s3cret\n")
        .file_at("run/url", " postgresql://u:pw@db:5432/postgres \n")
        .variable("PGDIBS_TOKEN_FILE", "run/token")
        .variable("PGDIBS_SERVER_URL_FILE", "run/url");
    let loaded = given.load().unwrap();
    assert_eq!(loaded.config.token.as_ref().unwrap().expose_secret(), "s3cret");
    assert_eq!(loaded.config.server_url.as_ref().unwrap().expose_secret(), "postgresql://u:pw@db:5432/postgres");
    assert_eq!(row(&loaded, "token"), "******** · environment PGDIBS_TOKEN_FILE");
    assert_eq!(row(&loaded, "token_file"), "run/token · environment PGDIBS_TOKEN_FILE");
    assert_eq!(
        row(&loaded, "server_url"),
        "postgresql://********@db:5432/postgres · environment PGDIBS_SERVER_URL_FILE"
    );

    let in_file = Given::nothing().file_at("conf/p.toml", "token_file = \"t\"").file_at("conf/t", "abc");
    let in_file = in_file.flags(&["--config", "conf/p.toml"]);
    assert_eq!(in_file.load().unwrap().config.token.unwrap().expose_secret(), "abc");
}

#[test]
fn secret_hides_the_secret_file_of_lower_layer() {
    let given =
        Given::nothing().file_at("t", "from-file").variable("PGDIBS_TOKEN_FILE", "t").flags(&["--token", "from-flag"]);
    assert_eq!(given.load().unwrap().config.token.unwrap().expose_secret(), "from-flag");
    let given =
        Given::nothing().file("token = \"in-toml\"").file_at("t", "from-file").variable("PGDIBS_TOKEN_FILE", "t");
    assert_eq!(given.load().unwrap().config.token.unwrap().expose_secret(), "from-file");
}

#[test]
fn world_readable_secret_file_gives_a_warning() {
    use std::os::unix::fs::PermissionsExt as _;
    let given = Given::nothing().file_at("t", "s3cret").variable("PGDIBS_TOKEN_FILE", "t");
    let file = given.directory.path().join("t");
    let mode = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    for closed in [0o600, 0o640, 0o400] {
        mode(closed);
        assert_eq!(given.load().unwrap().warnings, [""; 0], "{closed:o}");
    }
    mode(0o644);
    let path = file.display();
    assert_eq!(
        given.load().unwrap().warnings,
        [format!(
            "token_file (environment PGDIBS_TOKEN_FILE): every user of this machine can read {path}; take that away with `chmod o-r`"
        )]
    );
    let url = Given::nothing().file_at("u", "postgresql://u:p@h/").variable("PGDIBS_SERVER_URL_FILE", "u");
    let warnings = url.load().unwrap().warnings;
    assert!(warnings.len() == 1 && warnings[0].starts_with("server_url_file"), "{warnings:?}");
}

#[test]
fn secrets_are_absent_from_errors_and_output() {
    let given = Given::nothing()
        .file(
            "token = \"hushhush1\"\n[pools.shop.source]\ncommand = [\"x\"]\ninputs = [\"*\"]\nenv = { KEY = \"hushhush2\" }\n",
        )
        .variable("PGDIBS_SERVER_URL", "postgresql://admin:hushhush3@db/postgres?sslkey=hushhush3")
        .flags(&["--token", "hushhush4"]);
    let loaded = given.load().unwrap();
    let everything = format!("{loaded:#?}");
    assert!(everything.contains("shop") && everything.contains("KEY"), "{everything}");
    assert!(!everything.contains("hushhush"), "{everything}");

    let cli =
        <super::Cli as clap::Parser>::try_parse_from(["pgdibs", "--token", "hushhush", "--server-url", "hushhush"]);
    let flags = format!("{:?}", cli.unwrap());
    assert!(!flags.contains("hushhush"), "{flags}");

    for given in [
        Given::nothing().variable("PGDIBS_TOKEN", "hushhush with blanks"),
        Given::nothing().variable("PGDIBS_SERVER_URL", "mysql://hushhush@db"),
        Given::nothing().file("token = [\"hushhush\", 3]"),
        Given::nothing().file("token = \"hushhush"),
        Given::nothing().file("[pools.shop.source]\nenv = \"hushhush\""),
        Given::nothing().file("[pools.shop.source]\nenv = { KEY = [\"hushhush\"] }"),
        Given::nothing().file("server_url = { password = \"hushhush\" }"),
        Given::nothing().file("token = \"hushhush\"\ntoken = \"hushhush\""),
    ] {
        let sentence = given.error();
        assert!(!sentence.contains("hushhush"), "{sentence}");
    }
    for number in ["4711471147114711", "99999999999999999999", "4711.25"] {
        let sentence = Given::nothing().file(&format!("token = {number}")).error();
        assert!(!sentence.contains(number), "{sentence}");
    }
}

#[test]
fn masked_url_shows_only_the_address() {
    let cases = [
        ("postgresql://u:p@db.example.com:5432/app?sslmode=require", "postgresql://********@db.example.com:5432/app"),
        ("postgresql://db:5432/app", "postgresql://db:5432/app"),
        ("postgresql://u:p@ss@[::1]:5432/app", "postgresql://********@[::1]:5432/app"),
        ("postgresql://u:p?w@db/app", "********"),
        ("postgresql://u:secret", "********"),
        ("postgresql://u:se#cret/", "********"),
        ("secret", "********"),
    ];
    for (url, shown) in cases {
        assert_eq!(masked_url(url), shown, "{url}");
    }
}
