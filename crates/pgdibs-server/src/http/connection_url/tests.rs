//! Properties of the URLs that leases hand out: Python's own parser, sqlx's and the command line's read from them what went in.

use std::io::Write as _;
use std::process::{Command, Stdio};

use pgdibs_core::lease::Credentials;
use pgdibs_postgres::connect::ServerAddress;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use crate::http::connection_url::url;
use crate::service::Address;

/// Reads URLs as the applications under test do, most of which use this parser; answers with the parts, decoded.
const READER: &str = r"
import json, sys
from urllib.parse import unquote, urlsplit
for line in sys.stdin:
    parts = urlsplit(json.loads(line))
    print(json.dumps([parts.scheme, unquote(parts.username), unquote(parts.password), parts.hostname, parts.port,
                      unquote(parts.path[1:]), parts.query, parts.fragment]))
";

fn credentials(user: &str, password: &str) -> Credentials {
    Credentials { user: user.to_owned(), password: password.into() }
}

fn address(host: &str, port: u16, tls: &str) -> Address {
    Address { host: host.to_owned(), port, tls: tls.to_owned() }
}

/// Text without NUL, which no variable and no name can hold, and not empty.
fn texts() -> impl Strategy<Value = String> {
    let random = any::<String>().prop_map(|text| text.replace('\0', ""));
    prop_oneof![random, "[ -~]{1,20}", "[/?#@:&=%+ .\"'\\\\\\[\\]]{1,12}"]
        .prop_filter("a part of a URL", |text| !matches!(text.as_str(), "" | "." | ".."))
}

fn hosts() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["127.0.0.1", "::1", "fd00::5", "localhost", "db.example", "my_service", "db-1"])
        .prop_map(str::to_owned)
}

#[test]
fn python_reads_parts_of_url_unchanged() {
    let mut runner = TestRunner::default();
    let strategy = (texts(), texts(), texts(), hosts(), 1..=u16::MAX);
    let cases: Vec<_> = (0..500).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();
    let mut reader =
        Command::new("python3").args(["-c", READER]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = String::new();
    for (user, password, database, host, port) in &cases {
        let written = url(&credentials(user, password), &address(host, *port, ""), database);
        input.push_str(&format!("{}\n", Value::from(written)));
    }
    let mut stdin = reader.stdin.take().unwrap();
    let writing = std::thread::spawn(move || stdin.write_all(input.as_bytes()).unwrap());
    let output = reader.wait_with_output().unwrap();
    writing.join().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said.lines().count(), cases.len());
    for (line, (user, password, database, host, port)) in said.lines().zip(&cases) {
        let read: Value = serde_json::from_str(line).unwrap();
        assert_eq!(read, json!(["postgresql", user, password, host, port, database, "", ""]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn sqlx_and_command_line_read_parts_of_url_unchanged(
        user in texts(), password in texts(), database in texts(), host in hosts(), port in 1..=u16::MAX,
    ) {
        let written = url(&credentials(&user, &password), &address(&host, port, "sslmode=prefer"), &database);
        let variables = pgdibs::connection_url::libpq_variables(&written).unwrap();
        let read = |wanted: &str| variables.iter().find(|(name, _)| *name == wanted).map_or("", |(_, value)| value);
        prop_assert_eq!([read("PGHOST"), read("PGUSER"), read("PGPASSWORD"), read("PGDATABASE")], [&host, &user, &password, &database].map(String::as_str));
        let address = ServerAddress::parse(&SecretString::from(written.clone())).unwrap_or_else(|error| panic!("{error}: {written:?}"));
        prop_assert_eq!(address.host_and_port(), (host, port));
        let variables = address.libpq_variables(&database);
        let read = |wanted: &str| variables.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.expose_secret().to_owned());
        prop_assert_eq!(read("PGUSER"), Some(user));
        prop_assert_eq!(read("PGPASSWORD"), Some(password));
    }
}
