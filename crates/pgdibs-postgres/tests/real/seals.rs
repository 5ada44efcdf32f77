//! Seals of a build in which the builder left code, settings, prepared transactions, or whose pool is dropped during the seal.

use pgdibs_core::backend::Backend as _;
use pgdibs_core::lease::Credentials;
use pgdibs_core::name::Fingerprint;
use pgdibs_core::request::BuildPlace;
use pgdibs_postgres::rights::Rights;
use pgdibs_postgres::sqlstate;
use pgdibs_testing::conformance::ConformanceServer as _;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};

use crate::support::setting::{Setting, on_each_server_with};
use pgdibs_testing::wait::until_async;

fn wanted() -> Fingerprint {
    Fingerprint::parse("first").unwrap()
}

/// Starts a build, and runs a builder's statements in it, with `{database}` for its name.
async fn built(setting: &Setting, statements: &str) -> BuildPlace {
    let suite = &setting.suite;
    suite.make_pool(1, 1, 0).await;
    let template = suite.begin_build(&wanted(), "one").await;
    suite.idle().await;
    let place = suite.backend.build_place(template.id, "one").await.unwrap().expect("its database exists");
    let mut session = suite.server.connect(&place.credentials, place.database.as_str()).await.unwrap();
    let statements = statements.replace("{database}", place.database.as_str());
    let done = sqlx::raw_sql(AssertSqlSafe(statements.clone())).execute(&mut session).await;
    done.unwrap_or_else(|error| panic!("{statements}: {error}"));
    suite.server.disconnect(session).await;
    place
}

async fn seal(setting: &Setting) {
    setting.suite.backend.request_seal(&setting.suite.pool, &wanted(), "one").await.unwrap();
    setting.suite.idle().await;
}

#[test]
fn builder_cannot_return_during_its_own_seal() {
    // In the order of their oids: the first table's expression sets a password, the second's waits for a lock.
    let plant = "set role none;
        create function set_password() returns void language plpgsql as
            $f$ begin execute format('alter role %I password ''mine''', current_user); end $f$;
        create function wait() returns void language plpgsql as
            $f$ begin loop exit when exists (select from pg_catalog.pg_roles where rolname = 'go_on'); perform pg_sleep(0.01); end loop; end $f$;
        create function first(n int) returns int language plpgsql immutable as
            $f$ begin if exists (select from pg_catalog.pg_roles where rolname = 'sealing') then perform public.set_password(); end if; return n; end $f$;
        create function second(n int) returns int language plpgsql immutable as
            $f$ begin if exists (select from pg_catalog.pg_roles where rolname = 'sealing') then perform public.wait(); end if; return n; end $f$;
        create table one (n int); insert into one values (1); create index on one (first(n));
        create table two (n int); insert into two values (1); create index on two (second(n))";
    on_each_server_with(&[], Rights::Superuser, async |setting| {
        setting.cluster.sql("postgres", "grant all on schema public to public").await;
        let place = built(setting, &format!("grant all on schema public to current_user; {plant}")).await;
        setting.cluster.sql("postgres", "create role sealing").await;
        let returning = async {
            let waits = format!(
                "select count(*) from pg_stat_activity where usename = '{}' and wait_event = 'PgSleep'",
                place.credentials.user
            );
            setting.cluster.until_text("postgres", &waits, "1").await;
            let back = Credentials { user: place.credentials.user.clone(), password: "mine".to_owned().into() };
            let options = setting.cluster.options(&back.user, "mine", place.database.as_str());
            let entered = PgConnection::connect_with(&options).await;
            setting.cluster.sql("postgres", "create role go_on").await;
            entered
        };
        let ((), entered) = tokio::join!(seal(setting), returning);
        let refused = entered.expect_err("the builder is in its database while it is sealed");
        assert_eq!(sqlstate::code(&refused).as_deref(), Some("53300"), "the password is right: {refused}");
        assert_eq!(setting.suite.ready_names().await.len(), 1);
    });
}

#[test]
fn settings_that_end_sessions_prevent_no_seal_or_clone() {
    let statements = "create table t (n int); insert into t select generate_series(1, 40);
        create function seen() returns void language plpgsql as
            $f$ begin raise log 'SEEN %', (select reset_val from pg_catalog.pg_settings where name = 'idle_session_timeout'); end $f$;
        create function looking(n int) returns int language plpgsql immutable as
            $f$ begin perform public.seen(); return n; end $f$;
        set role none;
        alter role current_user in database {database} set idle_session_timeout = '40s';
        alter role current_user in database {database} set local_preload_libraries = 'no_such_library';
        reset role;
        create index on t (looking(n))";
    on_each_server_with(&[], Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        built(setting, statements).await;
        let before = setting.cluster.log().matches("SEEN").count();
        seal(setting).await;
        let log = setting.cluster.log();
        let seen: Vec<&str> = log.lines().filter(|line| line.contains("SEEN")).skip(before).collect();
        assert!(!seen.is_empty() && seen.iter().all(|line| line.ends_with("SEEN 0")), "{seen:?}");
        let lease = suite.take(suite.acquire_request()).await;
        let mut session = suite.enter(&lease).await;
        let rows: f32 = sqlx::query_scalar("select reltuples from pg_class where oid = 't'::regclass")
            .fetch_one(&mut session)
            .await
            .unwrap();
        assert!((rows - 40.0).abs() < f32::EPSILON, "the seal has analysed it: {rows}");
    });
}

#[test]
fn transactions_prepared_in_build_prevent_no_seal() {
    on_each_server_with(&["max_prepared_transactions=10"], Rights::Superuser, async |setting| {
        let prepare = "begin; create table left_behind (n int); prepare transaction 'left behind'";
        built(setting, prepare).await;
        seal(setting).await;
        assert_eq!(setting.suite.ready_names().await.len(), 1);
        assert_eq!(setting.cluster.text("postgres", "select count(*) from pg_prepared_xacts").await, "0");
    });
}

#[test]
fn pool_dropped_by_force_during_seal_is_deleted() {
    on_each_server_with(&[], Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        let logins = suite.server.logins().await;
        built(setting, "create table t (n int)").await;
        suite.backend.request_seal(&suite.pool, &wanted(), "one").await.unwrap();
        suite.finish(&logins).await;
        until_async("its roles are dropped", async || {
            let left =
                setting.cluster.text("postgres", "select count(*) from pg_roles where rolname = 'pgdibs_suite'").await;
            if left == "0" { Ok(()) } else { Err(left) }
        })
        .await;
    });
}

/// An expression index on a function that finds nothing without its schema fails every ANALYZE in a session with an empty search_path. So do
/// statistics on an expression, and an index of a partitioned table.
#[test]
fn functions_that_need_search_path_leave_other_tables_analysed() {
    let statements = "create function helper(n int) returns int language sql immutable as 'select n';
        create function bare(n int) returns int language plpgsql immutable as $f$ begin return helper(n); end $f$;
        create table indexed (n int); create index on indexed (bare(n)); insert into indexed select generate_series(1, 40);
        create table counted (n int, m int); create statistics counted_n on bare(n), m from counted;
        insert into counted select n, n from generate_series(1, 40) n;
        create table parts (n int) partition by range (n); create index on parts (bare(n));
        create table part partition of parts for values from (0) to (100); insert into parts select generate_series(1, 40);
        create table plain (n int); insert into plain select generate_series(1, 40)";
    on_each_server_with(&[], Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        built(setting, statements).await;
        seal(setting).await;
        let lease = suite.take(suite.acquire_request()).await;
        let mut session = suite.enter(&lease).await;
        let analysed: i64 = sqlx::query_scalar("select count(*) from pg_stats where tablename = 'plain'")
            .fetch_one(&mut session)
            .await
            .unwrap();
        assert_eq!(analysed, 1, "statistics of table `plain`");
        let rows: i64 =
            sqlx::query_scalar("select count(*) from indexed where bare(n) = 7").fetch_one(&mut session).await.unwrap();
        assert_eq!(rows, 1);
    });
}

/// A daemon that is no superuser cannot roll back a superuser's transaction.
#[test]
fn transaction_prepared_by_superuser_fails_seal_with_its_name() {
    on_each_server_with(&["max_prepared_transactions=10"], Rights::DatabasesAndRoles, async |setting| {
        let place = built(setting, "create table t (n int)").await;
        let prepare = "begin; lock table t in access exclusive mode; prepare transaction 'theirs'";
        setting.cluster.sql(place.database.as_str(), prepare).await;
        setting.suite.backend.request_seal(&setting.suite.pool, &wanted(), "one").await.unwrap();
        let began = std::time::Instant::now();
        let failures = setting.idle_with_failures().await.join("; ");
        assert!(failures.contains("prepared transaction \"theirs\" of role \"the-boss\""), "{failures}");
        assert!(began.elapsed().as_secs() < 15, "{:?}", began.elapsed());
    });
}
