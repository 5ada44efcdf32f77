//! What a clone has beside its contents: settings and grants of the template's database, extensions, roles, and its strategy.

use pgdibs_core::backend::Backend as _;
use pgdibs_core::error::Error;
use pgdibs_core::lease::Lease;
use pgdibs_core::name::{Fingerprint, RoleName};
use pgdibs_core::plan::{Step, locks};
use pgdibs_core::pool::{Extension, PoolPatch, Strategy, StrategyChoice};
use pgdibs_postgres::rights::Rights;
use pgdibs_testing::conformance::ConformanceServer as _;
use sqlx::AssertSqlSafe;

use crate::support::setting::{DAEMON, Setting, on_each_server};

/// Builds a template; before the seal, `statements` run on its database as the superuser, with `{}` for its name.
async fn build_with(setting: &Setting, statements: &str, by_builder: &str) {
    let suite = &setting.suite;
    let fingerprint = Fingerprint::parse("first").unwrap();
    let template = suite.begin_build(&fingerprint, "one").await;
    suite.idle().await;
    let place = suite.backend.build_place(template.id, "one").await.unwrap().expect("its database exists");
    let mut session = suite.server.connect(&place.credentials, place.database.as_str()).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(by_builder.to_owned())).execute(&mut session).await.unwrap();
    suite.server.disconnect(session).await;
    setting.cluster.sql(place.database.as_str(), &statements.replace("{}", place.database.as_str())).await;
    suite.backend.request_seal(&suite.pool, &fingerprint, "one").await.unwrap();
    suite.idle().await;
}

async fn text_of(setting: &Setting, lease: &Lease, sql: &str) -> String {
    let mut session = setting.suite.enter(lease).await;
    let text = sqlx::query_scalar(AssertSqlSafe(format!("select ({sql})::text"))).fetch_one(&mut session).await;
    setting.suite.server.disconnect(session).await;
    text.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// Regression: settings of the database won over those of its owner on clones (found by conformance suite and a second
/// reading).
#[test]
fn clone_has_settings_and_grants_of_template() {
    for rights in [Rights::Superuser, Rights::DatabasesAndRoles] {
        on_each_server(rights, async |setting| {
            let suite = &setting.suite;
            suite.make_pool(2, 2, 1).await;
            // Only a superuser may set custom parameters on databases; 14 cannot grant that.
            let may_set = rights == Rights::Superuser || suite.backend.facts().major >= 15;
            if rights != Rights::Superuser && may_set {
                let grant = format!("grant set on parameter my.setting to \"{DAEMON}\"");
                setting.cluster.sql("postgres", &grant).await;
            }
            let own = if may_set { "alter database {} set my.setting to 'it''s \\ 1';" } else { "" };
            let statements = "create role reader; create schema app;
                alter database {} set search_path to \"$user\", app, \"odd, one\";
                alter database {} set work_mem to '5MB';
                alter role pgdibs_suite in database {} set work_mem to '6MB';
                alter database {} set datestyle to 'ISO, DMY';
                grant connect on database {} to reader with grant option;
                grant temporary on database {} to reader";
            build_with(setting, &format!("{own}{statements}"), "create table t (n int)").await;
            let leases = [suite.take(suite.acquire_request()).await, suite.take(suite.acquire_request()).await];
            suite.idle().await;
            suite.backend.begin_reset(leases[0].id, None, None).await.unwrap();
            suite.idle().await;
            for lease in &leases {
                for (sql, wanted) in [
                    ("current_setting('search_path')", "\"$user\", app, \"odd, one\""),
                    ("coalesce(current_setting('my.setting', true), '')", if may_set { "it's \\ 1" } else { "" }),
                    ("current_setting('work_mem')", "6MB"),
                    // Drivers set this one when they connect.
                    (
                        "select setting from pg_db_role_setting s, unnest(s.setconfig) setting, pg_database d
                         where d.datname = current_database() and s.setdatabase = d.oid and setting ilike 'datestyle=%'",
                        "DateStyle=ISO, DMY",
                    ),
                    ("current_user", "pgdibs_suite"),
                    (
                        "select string_agg(a.privilege_type || case when a.is_grantable then '*' else '' end, ' ' order by a.privilege_type)
                         from pg_database d, aclexplode(d.datacl) a
                         where d.datname = current_database() and a.grantee = 'reader'::regrole",
                        "CONNECT* TEMPORARY",
                    ),
                    (
                        "select count(*) from pg_database d, aclexplode(d.datacl) a
                         where d.datname = current_database() and a.grantee = 0",
                        "0",
                    ),
                ] {
                    assert_eq!(text_of(setting, lease, sql).await, wanted, "{sql} in {}", lease.database_name);
                }
            }
            setting.cluster.sql("postgres", "drop owned by reader").await;
        });
    }
}

#[test]
fn extensions_and_roles_exist_before_builder_connects() {
    for rights in [Rights::Superuser, Rights::DatabasesAndRoles] {
        on_each_server(rights, async |setting| {
            let suite = &setting.suite;
            let patch = PoolPatch {
                warm: Some(1),
                extensions: Some(["citext", "uuid-ossp"].map(Extension::named).to_vec()),
                roles: Some(vec![RoleName::parse("roles", "Shop Readers").unwrap()]),
                ..PoolPatch::default()
            };
            suite.backend.put_pool(&suite.pool, &patch).await.unwrap();
            let by_builder = "create table people (name citext, id uuid default uuid_generate_v4());
                grant select on people to \"Shop Readers\"";
            build_with(setting, "", by_builder).await;
            let lease = suite.take(suite.acquire_request()).await;
            let mut session = suite.enter(&lease).await;
            sqlx::raw_sql("insert into people values ('Ada'); set role \"Shop Readers\"")
                .execute(&mut session)
                .await
                .unwrap();
            let found: i64 = sqlx::query_scalar("select count(*) from people where name = 'ADA'")
                .fetch_one(&mut session)
                .await
                .unwrap();
            assert_eq!(found, 1);
            let refused = sqlx::raw_sql("delete from people").execute(&mut session).await;
            assert!(refused.is_err(), "a role that may only read");
            suite.server.disconnect(session).await;
        });
    }
}

/// Regression: a pool could name `pgdibs_owner`, or a member of a privileged role, as owner (found by a second reading).
#[test]
fn put_pool_refuses_foreign_role() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        setting
            .cluster
            .sql(
                "postgres",
                "create role theirs; create role privileged createrole; create role follower in role privileged",
            )
            .await;
        let role = |name: &str| RoleName::parse("roles", name).unwrap();
        let refused = [
            PoolPatch { roles: Some(vec![role("theirs")]), ..PoolPatch::default() },
            PoolPatch { owner: Some(role("privileged")), ..PoolPatch::default() },
            PoolPatch { owner: Some(role("follower")), ..PoolPatch::default() },
            PoolPatch { owner: Some(role(pgdibs_testing::seed::SUPERUSER)), ..PoolPatch::default() },
            PoolPatch { roles: Some(vec![RoleName::database_owner()]), ..PoolPatch::default() },
            PoolPatch { owner: Some(RoleName::database_owner()), ..PoolPatch::default() },
        ];
        for patch in refused {
            let answer = suite.backend.put_pool(&suite.pool, &patch).await;
            assert!(matches!(&answer, Err(Error::Invalid(_))), "{patch:?}: {answer:?}");
        }
        let patch = PoolPatch { owner: Some(role("theirs")), warm: Some(1), ..PoolPatch::default() };
        suite.backend.put_pool(&suite.pool, &patch).await.unwrap();
        build_with(setting, "", "create table t (n int)").await;
        let lease = suite.take(suite.acquire_request()).await;
        assert_eq!(text_of(setting, &lease, "select tableowner from pg_tables where tablename = 't'").await, "theirs");
    });
}

#[test]
fn template_has_number_of_its_relations() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.make_pool(1, 1000, 0).await;
        build_with(
            setting,
            "",
            "do 'begin for n in 1..600 loop execute format($f$create table t%s (n int)$f$, n); end loop; end'",
        )
        .await;
        let snapshot = suite.snapshot().await;
        assert_eq!(snapshot.templates[0].relations, Some(600));
        let entries = "select current_setting('max_locks_per_transaction')::int
            * (current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int)";
        let entries = setting.cluster.text("postgres", entries).await;
        assert_eq!(snapshot.limits.lock_entries.map(|entries| entries.to_string()), Some(entries));
        let lacks = locks::too_few(&snapshot);
        assert_eq!((lacks.len(), lacks[0].relations), (1, 600));
    });
}

#[test]
fn strategy_is_measured_unless_set() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.ready_pool(2, 8, 0).await;
        let template = suite.snapshot().await.templates[0].clone();
        assert_eq!(template.strategy, None, "two clones do not tell");
        suite.make_pool(8, 8, 0).await;
        suite.idle().await;
        let template = suite.snapshot().await.templates[0].clone();
        if suite.backend.facts().major < 15 {
            assert_eq!((template.strategy, template.measured), (None, Vec::new()), "14 has one way only");
            return;
        }
        assert!(template.strategy.is_some(), "{:?}", template.measured);
        let counts: Vec<_> = template.measured.iter().map(|&(strategy, count, _)| (strategy, count)).collect();
        assert_eq!(counts, [(Strategy::FileCopy, 3), (Strategy::WalLog, 3)]);
        let faster = template.measured.iter().min_by(|a, b| a.2.total_cmp(&b.2)).map(|measured| measured.0);
        assert_eq!(template.strategy, faster);

        let fixed = PoolPatch { strategy: Some(StrategyChoice::Fixed(Strategy::WalLog)), ..PoolPatch::default() };
        suite.backend.put_pool(&suite.pool, &fixed).await.unwrap();
        suite.build(&Fingerprint::parse("second").unwrap()).await;
        let second = suite.snapshot().await.templates[1].clone();
        assert!(second.measured.iter().all(|&(strategy, ..)| strategy == Strategy::WalLog), "{:?}", second.measured);
    });
}

#[test]
fn only_databases_in_slots_are_open() {
    for rights in [Rights::Superuser, Rights::DatabasesAndRoles] {
        on_each_server(rights, async |setting| {
            let suite = &setting.suite;
            suite.ready_pool(2, 2, 1).await;
            let lease = suite.take(suite.acquire_request()).await;
            let open = format!(
                "select string_agg(datname, ' ' order by datname) from pg_database
                 where datallowconn and starts_with(datname::text, '{}_')",
                suite.pool
            );
            let slots = format!("{} {}", suite.slot(0), suite.slot(1));
            // The others are a spare and the template, and after the return the used one.
            assert_eq!(setting.cluster.text("postgres", &open).await, slots);
            suite.release(&lease).await;
            setting.only(|step| matches!(step, Step::Return { .. })).await;
            assert_eq!(setting.cluster.text("postgres", &open).await, slots);
        });
    }
}

#[test]
fn clone_does_not_belong_to_role_of_tests() {
    for rights in [Rights::Superuser, Rights::DatabasesAndRoles] {
        on_each_server(rights, async |setting| {
            let suite = &setting.suite;
            suite.ready_pool(2, 2, 1).await;
            let (lease, sibling) =
                (suite.take(suite.acquire_request()).await, suite.take(suite.acquire_request()).await);
            let mut session = suite.enter(&lease).await;
            let (own, other) = (&lease.database_name, &sibling.database_name);
            for reset in ["", "reset role"] {
                sqlx::raw_sql(reset).execute(&mut session).await.unwrap();
                for refused in [
                    format!("drop database {other}"),
                    format!("alter database {other} rename to mine"),
                    format!("alter database {own} set work_mem to '1MB'"),
                    format!("alter database {own} rename to mine"),
                    format!("alter database {own} owner to current_user"),
                    format!("alter database {own} allow_connections = false"),
                    format!("grant connect on database {other} to current_user"),
                    "create database mine".to_owned(),
                    "create role mine".to_owned(),
                    "set role pgdibs_owner".to_owned(),
                    "set session authorization pgdibs_owner".to_owned(),
                    "alter role current_user createdb".to_owned(),
                    "select * from pg_authid".to_owned(),
                    "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'pgdibs%'
                     or usename <> session_user"
                        .to_owned(),
                ] {
                    let answer = sqlx::raw_sql(AssertSqlSafe(refused.clone())).execute(&mut session).await;
                    let code = answer.as_ref().err().and_then(pgdibs_postgres::sqlstate::code);
                    // Postgres 15 and earlier refuse such a grant with 0LP01.
                    assert!(matches!(code.as_deref(), Some("42501" | "0LP01")) || (refused.starts_with("grant") && code.is_none()
                        && text_of(setting, &sibling, "select count(*) from pg_database d, aclexplode(d.datacl) a where d.datname = current_database() and a.privilege_type = 'CONNECT' and a.grantee <> d.datdba").await == "1"),
                        "{refused}: {answer:?}");
                }
            }
            // On 14 schema `public` belongs to the bootstrap superuser, unless a superuser daemon gives it to the owner.
            let public = match rights {
                Rights::DatabasesAndRoles if suite.backend.facts().major < 15 => "",
                _ => "drop schema public cascade; create schema public;",
            };
            sqlx::raw_sql(AssertSqlSafe(format!(
                "set role pgdibs_suite; create table t (n serial); insert into t default values; truncate t restart identity;
                 create temporary table tt (n int); create schema other; create extension citext;
                 {public} create table public.u (n int);
                 create function public.f() returns int language sql as 'select 1'; create type public.mood as enum ('fine')"
            )))
            .execute(&mut session)
            .await
            .unwrap();
            suite.server.disconnect(session).await;
            let catalog = suite.server.connect(lease.credentials.as_ref().unwrap(), "pgdibs").await;
            assert!(catalog.is_err(), "the catalog is closed");
        });
    }
}
