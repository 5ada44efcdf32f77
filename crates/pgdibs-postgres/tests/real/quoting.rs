//! Quoting and escaping of random text, judged by its readers: Postgres itself, sqlx and psql.

use std::process::Command;

use pgdibs_core::name::{DatabaseName, PoolName, RoleName};
use pgdibs_postgres::connect::ServerAddress;
use pgdibs_postgres::ddl;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};

use crate::connecting::on_each_cluster;

/// Text with characters that quoting has to handle.
const HOSTILE: [&str; 12] = [
    "a\"; drop role boss; --",
    "'; drop table t; --",
    "\\'; select 1; --",
    "E'\\x'",
    "$$a$$",
    "a\nb\tc\r",
    "ünïcode \u{1F418}",
    "%s %I %L",
    "\"\"",
    "select",
    "A b",
    "/?#@:&=%+",
];

/// Random text, printable and not.
fn samples(strategy: impl Strategy<Value = String>, count: usize) -> Vec<String> {
    let mut runner = TestRunner::default();
    let random = (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current());
    HOSTILE
        .into_iter()
        .map(str::to_owned)
        .chain(random)
        .filter(|text| !text.is_empty() && !text.contains('\0'))
        .collect()
}

/// sqlx refuses names and passwords with control characters, private characters, or both directions of writing (SCRAM, RFC 4013).
fn scram_takes(text: &str) -> bool {
    text.chars().all(|c| (' '..='ÿ').contains(&c) && !c.is_control())
}

async fn text(connection: &mut PgConnection, sql: &'static str, parameter: &str) -> String {
    sqlx::query_scalar(sql)
        .bind(parameter)
        .fetch_one(connection)
        .await
        .unwrap_or_else(|error| panic!("{parameter:?}: {error}"))
}

#[test]
fn identifiers_and_literals_are_quoted_as_by_postgres() {
    on_each_cluster(&[], async |cluster| {
        let mut boss = PgConnection::connect_with(&cluster.superuser_options("postgres")).await.unwrap();
        let pool = PoolName::parse("quoted").unwrap();
        let database = DatabaseName::spare(&pool, 1);
        sqlx::raw_sql("create database quoted_spare_1").execute(&mut boss).await.unwrap();
        let mut made = 0;
        for given in samples(any::<String>(), 150) {
            // Postgres's own function leaves plain names unquoted; pgdibs quotes every name, which means the same.
            let quoted = text(
                &mut boss,
                "select case when quote_ident($1) = $1 then '\"' || $1 || '\"' else quote_ident($1) end",
                &given,
            )
            .await;
            let literal = text(&mut boss, "select quote_literal($1)", &given).await;
            if let Ok(role) = RoleName::parse("role", &given) {
                let create = ddl::create_nologin_role(&role);
                assert_eq!(create.as_sql(), format!("create role {quoted} nologin"));
                create.run(&mut boss).await.unwrap_or_else(|error| panic!("{given:?}: {error}"));
                let found: bool = sqlx::query_scalar("select exists (select from pg_roles where rolname = $1)")
                    .bind(&given)
                    .fetch_one(&mut boss)
                    .await
                    .unwrap();
                assert!(found, "a role of another name was made: {given:?}");
                ddl::drop_role(&role).run(&mut boss).await.unwrap();
                made += 1;
            }
            for conforming in ["on", "off"] {
                let setting = format!("set standard_conforming_strings = {conforming}; set backslash_quote = on");
                sqlx::raw_sql(AssertSqlSafe(setting)).execute(&mut boss).await.unwrap();
                let set = ddl::database_setting(&database, "my.setting", &given);
                assert_eq!(
                    set.as_sql(),
                    format!("alter database \"quoted_spare_1\" set \"my\".\"setting\" to {literal}")
                );
                set.run(&mut boss).await.unwrap_or_else(|error| panic!("{given:?}: {error}"));
                let kept = "select setconfig[1] from pg_db_role_setting where setdatabase = (select oid from pg_database where datname = $1)";
                assert_eq!(text(&mut boss, kept, "quoted_spare_1").await, format!("my.setting={given}"));
            }
        }
        assert!(made >= 50, "{made}");
        boss.close().await.unwrap();
    });
}

#[test]
fn url_connects_with_any_user_password_and_database() {
    on_each_cluster(&[], async |cluster| {
        let mut boss = PgConnection::connect_with(&cluster.superuser_options("postgres")).await.unwrap();
        let address = ServerAddress::parse(&cluster.url().into()).unwrap();
        // sqlx 0.9 sends the user name in SCRAM, where libpq sends none, and does not escape these two.
        let fits = |text: &String| {
            !text.contains([',', '=']) && scram_takes(text) && !text.starts_with("pg_") && text != "select"
        };
        let names: Vec<String> = samples("[ -~éß]{1,15}", 8);
        let mut names: Vec<String> = names.into_iter().filter(fits).collect();
        names.sort();
        names.dedup();
        let passwords = samples("[ -~éß]{1,30}", 2 * names.len());
        let mut passwords = passwords.into_iter().filter(|text| scram_takes(text));
        for name in &names {
            let password = passwords.next().unwrap();
            // Not the role's name, and no text that libpq would take for a connection string.
            let database = format!("d{name}");
            for form in ["create role %I login password %L", "create database %3$I owner %1$I"] {
                let sql: String = sqlx::query_scalar("select format($1, $2::text, $3::text, $4::text)")
                    .bind(form)
                    .bind(name)
                    .bind(&password)
                    .bind(&database)
                    .fetch_one(&mut boss)
                    .await
                    .unwrap();
                sqlx::raw_sql(AssertSqlSafe(sql))
                    .execute(&mut boss)
                    .await
                    .unwrap_or_else(|error| panic!("{name:?}: {error}"));
            }
            let url = address.url_for(name, &SecretString::from(password.clone()), &database);
            let url = url.expose_secret();
            let mut session = PgConnection::connect(url).await.unwrap_or_else(|error| panic!("sqlx: {url}: {error}"));
            let found: (String, String) = sqlx::query_as("select current_user::text, current_database()::text")
                .fetch_one(&mut session)
                .await
                .unwrap();
            assert_eq!((&found.0, &found.1), (name, &database), "{url}");
            session.close().await.unwrap();

            let mut psql: Command = cluster.binaries.command("psql");
            let ask = "select encode(convert_to(current_user || '/' || current_database(), 'UTF8'), 'hex')";
            let done = psql.args(["--no-psqlrc", "-qAtc", ask]).arg(url).output().unwrap();
            let said = String::from_utf8_lossy(&done.stdout).trim().to_owned();
            let wanted: String = format!("{name}/{database}").bytes().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(said, wanted, "psql: {url}: {}", String::from_utf8_lossy(&done.stderr));
        }
        assert!(names.len() >= 10, "{names:?}");
        boss.close().await.unwrap();
    });
}
