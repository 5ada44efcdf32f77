//! Attacks of a tenant outside its own database: the catalog's name, sessions that outlive their role, transactions prepared elsewhere,
//! another pool's owner.

use std::time::{Duration, Instant};

use pgdibs_core::backend::Backend as _;
use pgdibs_core::error::Error;
use pgdibs_core::name::{PoolName, RoleName};
use pgdibs_core::pool::PoolPatch;
use pgdibs_core::request::TicketId;
use pgdibs_postgres::rights::Rights;
use pgdibs_testing::conformance::ConformanceServer as _;
use pgdibs_testing::wait::until_async;
use secrecy::ExposeSecret as _;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use crate::support::setting::{Setting, on_each_server, on_each_server_with};

/// A session of a lease's login in `postgres`, which on these servers PUBLIC may enter.
async fn elsewhere(setting: &Setting, user: &str, password: &str) -> PgConnection {
    PgConnection::connect_with(&setting.cluster.options(user, password, "postgres")).await.unwrap()
}

#[test]
fn foreign_database_under_catalogs_name_is_never_read() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.ready_pool(1, 1, 0).await;
        setting
            .cluster
            .sql("postgres", "create role stranger login createdb password 'x'; create table trap (n int)")
            .await;
        setting.cluster.sql("postgres", "grant insert on trap to public").await;
        let rename = "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'pgdibs';
                      alter database pgdibs rename to taken_away";
        until_async("the catalog is renamed", async || {
            let mut boss = PgConnection::connect_with(&setting.cluster.superuser_options("postgres")).await.unwrap();
            boss.execute(sqlx::raw_sql(rename)).await.map(|_| ()).map_err(|error| error.to_string())
        })
        .await;
        setting.cluster.sql("postgres", "create database pgdibs owner stranger").await;
        let fires = "create function public.fire() returns trigger language plpgsql as
                       $$ begin raise exception 'fired as %', current_user; end $$;
                     create table public.tickets (id bigint);
                     create trigger fires before delete on public.tickets for each statement execute function public.fire()";
        setting.cluster.sql("pgdibs", fires).await;
        let refused = suite.backend.drop_ticket(TicketId(1)).await.expect_err("a foreign database");
        assert!(matches!(&refused, Error::ServerUnavailable(_)), "{refused}");
        let address = pgdibs_postgres::connect::ServerAddress::parse(&setting.cluster.url().into()).unwrap();
        let why = pgdibs_postgres::connect::prepare(&address).await.expect_err("a foreign database").to_string();
        assert!(why.contains("not ours"), "{why}");
        assert!(!setting.cluster.log().contains("fired as"), "a function of a foreign role ran");
    });
}

#[test]
fn return_ends_sessions_of_login_in_other_databases() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        let logins = suite.server.logins().await;
        suite.ready_pool(2, 3, 1).await;
        let (one, two) = (suite.take(suite.acquire_request()).await, suite.take(suite.acquire_request()).await);
        let shared = suite.backend.share_login(&[one.id, two.id]).await.unwrap();
        let credentials = shared[0].credentials.clone().unwrap();
        let mut ghost = elsewhere(setting, &credentials.user, credentials.password.expose_secret()).await;
        for lease in [&one, &two] {
            suite.release(lease).await;
        }
        suite.idle().await;
        assert!(ghost.execute("select 1").await.is_err(), "the session of the dropped login still answers");
        suite.finish(&logins).await;
    });
}

#[test]
fn seal_ends_builders_sessions_in_other_databases() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.make_pool(1, 1, 0).await;
        let fingerprint = pgdibs_core::name::Fingerprint::parse("first").unwrap();
        let template = suite.begin_build(&fingerprint, "builder").await;
        suite.idle().await;
        let place = suite.backend.build_place(template.id, "builder").await.unwrap().unwrap();
        let mut ghost = elsewhere(setting, &place.credentials.user, place.credentials.password.expose_secret()).await;
        suite.backend.request_seal(&suite.pool, &fingerprint, "builder").await.unwrap();
        suite.idle().await;
        assert!(
            ghost.execute("select 1").await.is_err(),
            "the template is published, and the builder's session still answers"
        );
    });
}

#[test]
fn transaction_prepared_elsewhere_is_rolled_back_when_it_blocks() {
    on_each_server_with(&["max_prepared_transactions=10"], Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.ready_pool(2, 4, 2).await;
        let (tenant, other) = (suite.take(suite.acquire_request()).await, suite.take(suite.acquire_request()).await);
        let credentials = tenant.credentials.clone().unwrap();
        let mut session = elsewhere(setting, &credentials.user, credentials.password.expose_secret()).await;
        let hold = format!(
            "begin; alter role current_user in database {} set work_mem to '1MB'; prepare transaction 'elsewhere'",
            other.database_name
        );
        session.execute(sqlx::raw_sql(AssertSqlSafe(hold))).await.unwrap();
        drop(session);
        suite.release(&other).await;
        let began = Instant::now();
        suite.idle().await;
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        let left = "select count(*) from pg_prepared_xacts";
        assert_eq!(setting.cluster.text("postgres", left).await, "0");
    });
}

#[test]
fn put_pool_refuses_role_that_owns_another_pool() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.make_pool(1, 1, 0).await;
        let roles = Some(vec![RoleName::of_pool(&suite.pool)]);
        let evil = PoolName::parse("evil").unwrap();
        let refused = suite.backend.put_pool(&evil, &PoolPatch { roles, ..PoolPatch::default() }).await;
        assert!(matches!(&refused, Err(Error::Invalid(why)) if why.field == "roles"), "{refused:?}");
    });
}
