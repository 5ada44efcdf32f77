//! Databases that tests create (`login = "createdb"`): each is dropped with its lease, and renamed if the daemon needs its name.

use pgdibs_core::backend::Backend as _;
use pgdibs_core::lease::Lease;
use pgdibs_core::name::{DatabaseName, Fingerprint};
use pgdibs_core::pool::{LoginRights, PoolPatch};
use pgdibs_core::request::ResetBegun;
use pgdibs_postgres::rights::Rights;
use pgdibs_testing::conformance::ConformanceServer as _;
use secrecy::ExposeSecret as _;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};

use crate::support::setting::{Setting, on_each_server_with};

const BOTH: [Rights; 2] = [Rights::Superuser, Rights::DatabasesAndRoles];

fn on_both(test: impl AsyncFn(&Setting)) {
    for rights in BOTH {
        on_each_server_with(&["max_prepared_transactions=10"], rights, async |setting| {
            setting.suite.ready_pool(2, 4, 1).await;
            let createdb = PoolPatch { login: Some(LoginRights::CreateDb), ..PoolPatch::default() };
            setting.suite.backend.put_pool(&setting.suite.pool, &createdb).await.unwrap();
            setting.suite.idle().await;
            test(setting).await;
        });
    }
}

async fn run(session: &mut PgConnection, sql: &str) {
    let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(session).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// Runs statements one by one as the holder of a lease.
async fn as_holder(setting: &Setting, lease: &Lease, statements: &[&str]) {
    let mut session = setting.suite.enter(lease).await;
    for sql in statements {
        run(&mut session, sql).await;
    }
    setting.suite.server.disconnect(session).await;
}

async fn exists(setting: &Setting, database: &str) -> bool {
    let sql = format!("select count(*) from pg_database where datname = '{database}'");
    setting.cluster.text("postgres", &sql).await == "1"
}

#[test]
fn database_given_to_pools_owner_is_dropped_with_leases() {
    on_both(async |setting| {
        let suite = &setting.suite;
        let (maker, sibling) = (suite.take(suite.acquire_request()).await, suite.take(suite.acquire_request()).await);
        let hand_over = ["create database handed_over", "alter database handed_over owner to pgdibs_suite"];
        as_holder(setting, &maker, &hand_over).await;
        suite.release(&maker).await;
        suite.idle().await;
        assert!(exists(setting, "handed_over").await, "the lease that goes on may have made it");
        let later = suite.take(suite.acquire_request()).await;
        suite.release(&sibling).await;
        suite.idle().await;
        assert!(!exists(setting, "handed_over").await, "only a lease that came later goes on");
        suite.release(&later).await;
        suite.idle().await;
    });
}

#[test]
fn older_database_of_pools_owner_stays() {
    on_both(async |setting| {
        let suite = &setting.suite;
        let lease = suite.take(suite.acquire_request()).await;
        // An administrator gives the role an older database: `template1` is older than every role of pgdibs.
        setting.cluster.sql("postgres", "alter database template1 owner to pgdibs_suite").await;
        suite.release(&lease).await;
        suite.idle().await;
        assert!(exists(setting, "template1").await);
    });
}

#[test]
fn database_of_tests_under_daemons_name_is_renamed() {
    on_both(async |setting| {
        let suite = &setting.suite;
        let (intruder, other) = (suite.take(suite.acquire_request()).await, suite.take(suite.acquire_request()).await);
        let of_other = setting.catalog_text("select max(id) from databases where state = 'leased'").await;
        let own = setting.catalog_text("select min(id) from databases where state = 'leased'").await;
        let next = setting.catalog_text("select last_value from numbers").await.parse::<i64>().unwrap();
        let second = Fingerprint::parse("second").unwrap();
        let mut taken: Vec<String> = vec![
            format!("suite_old_{of_other}"),
            format!("suite_old_{own}"),
            format!("suite_kept_{own}"),
            format!("suite_kept_{of_other}"),
            suite.slot(2),
            DatabaseName::template(&suite.pool, &second).to_string(),
        ];
        for number in next + 1..next + 12 {
            taken.extend([format!("suite_spare_{number}"), format!("suite_build_{number}")]);
        }
        let mut session = suite.enter(&intruder).await;
        for name in &taken {
            run(&mut session, &format!("create database {name}")).await;
        }
        // Given to the owner, with a prepared transaction, and with a session: it is renamed all the same.
        run(&mut session, &format!("alter database {} owner to pgdibs_suite", taken[0])).await;
        let credentials = intruder.credentials.clone().unwrap();
        let inside =
            |name: &str| setting.cluster.options(&credentials.user, credentials.password.expose_secret(), name);
        let mut prepared = PgConnection::connect_with(&inside(&taken[0])).await.unwrap();
        run(&mut prepared, "begin; create table t (n int); prepare transaction 'in the way'").await;

        match suite.backend.begin_reset(other.id, None, None).await {
            Ok(ResetBegun::Reserved { .. }) => suite.idle().await,
            other => panic!("a spare should be reserved, not {other:?}"),
        }
        assert_eq!(suite.backend.lease(other.id).await.unwrap().generation, 2);
        suite.build(&second).await;
        assert!(suite.ready_names().await.contains(&suite.slot(2)), "{:?}", suite.ready_names().await);
        let kept = suite.backend.keep(intruder.id, 3600, "inspection").await.unwrap();
        for lease in [&other, &intruder] {
            suite.release(lease).await;
        }
        suite.idle().await;
        let under = setting.catalog_text("select name from databases where state = 'kept' and slot is null").await;
        assert_eq!(under, kept.name.as_str());
        suite.backend.drop_kept(kept.name.as_str()).await.unwrap();
        suite.idle().await;
        let blocked = "select count(*) from databases where state = 'blocked' or attempts > 0";
        assert_eq!(setting.catalog_text(blocked).await, "0");
        let left = "select count(*) from pg_database d join pg_roles o on o.oid = d.datdba where o.rolname like 'pgdibs_l_%' or o.rolname = 'pgdibs_suite'";
        assert_eq!(setting.cluster.text("postgres", left).await, "0", "what was renamed goes with the lease");
    });
}

#[test]
fn transaction_prepared_in_closed_database_is_rolled_back() {
    on_both(async |setting| {
        let suite = &setting.suite;
        let logins = suite.server.logins().await.len();
        let lease = suite.take(suite.acquire_request()).await;
        let credentials = lease.credentials.clone().unwrap();
        as_holder(setting, &lease, &["create database own"]).await;
        let options = setting.cluster.options(&credentials.user, credentials.password.expose_secret(), "own");
        let mut inside = PgConnection::connect_with(&options).await.unwrap();
        run(&mut inside, "begin; create table t (n int); prepare transaction 'left behind'").await;
        inside.close().await.unwrap();
        let shut = [
            "revoke all on database own from public, current_user",
            "alter database own connection limit 0",
            "alter database own allow_connections = false",
        ];
        as_holder(setting, &lease, &shut).await;
        suite.release(&lease).await;
        suite.idle().await;
        assert!(!exists(setting, "own").await);
        assert_eq!(setting.cluster.text("postgres", "select count(*) from pg_prepared_xacts").await, "0");
        assert_eq!(suite.server.logins().await.len(), logins, "its login is dropped, another database has another");
    });
}

#[test]
fn transaction_prepared_elsewhere_is_rolled_back_with_login() {
    on_both(async |setting| {
        let suite = &setting.suite;
        let lease = suite.take(suite.acquire_request()).await;
        let credentials = lease.credentials.clone().unwrap();
        // It owns an object there, so that it cannot be dropped at once.
        setting
            .cluster
            .sql("postgres", &format!("create table thing (n int); alter table thing owner to {}", credentials.user))
            .await;
        let options = setting.cluster.options(&credentials.user, credentials.password.expose_secret(), "postgres");
        let mut elsewhere = PgConnection::connect_with(&options).await.unwrap();
        run(&mut elsewhere, "begin; lock table thing; prepare transaction 'elsewhere'").await;
        elsewhere.close().await.unwrap();
        suite.release(&lease).await;
        suite.idle().await;
        assert_eq!(setting.cluster.text("postgres", "select count(*) from pg_prepared_xacts").await, "0");
    });
}

#[test]
fn closed_database_of_tests_blocks_no_step() {
    on_both(async |setting| {
        let suite = &setting.suite;
        let (lease, other) = (suite.take(suite.acquire_request()).await, suite.take(suite.acquire_request()).await);
        let credentials = lease.credentials.clone().unwrap();
        let name = setting.catalog_text("select 'suite_old_' || max(id) from databases where state = 'leased'").await;
        as_holder(setting, &lease, &[&format!("create database {name}")]).await;
        let options = setting.cluster.options(&credentials.user, credentials.password.expose_secret(), &name);
        let mut inside = PgConnection::connect_with(&options).await.unwrap();
        as_holder(setting, &lease, &[&format!("alter database {name} allow_connections = false")]).await;
        // It cannot be opened: the prepared transaction in it locks the row that `allow_connections` changes.
        let hold = format!("begin; grant create on database {name} to current_user; prepare transaction 'for ever'");
        run(&mut inside, &hold).await;
        inside.close().await.unwrap();
        suite.release(&other).await;
        suite.release(&lease).await;
        suite.idle().await;
        assert_eq!(suite.ready_names().await.len(), 2);
        assert!(exists(setting, &name).await, "only a server in single-user mode gets in");
        suite.assert_dead(&credentials, &[&name]).await;
    });
}
