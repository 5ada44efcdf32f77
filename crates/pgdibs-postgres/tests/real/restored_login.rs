//! What a holder can change of its own login; a reset undoes all of it.

use pgdibs_core::backend::Backend as _;
use pgdibs_core::lease::Lease;
use pgdibs_core::request::ResetBegun;
use pgdibs_postgres::rights::Rights;
use sqlx::{AssertSqlSafe, Executor as _};

use crate::support::setting::{Setting, on_each_server};

async fn reset(setting: &Setting, lease: &Lease) {
    match setting.suite.backend.begin_reset(lease.id, None, None).await {
        Ok(ResetBegun::Reserved { .. }) => {}
        other => panic!("a spare should be reserved, not {other:?}"),
    }
    setting.suite.idle().await;
}

/// Acts as the login and not as the pool's owner.
async fn as_login(setting: &Setting, lease: &Lease, sql: &str) {
    let mut session = setting.suite.enter(lease).await;
    session.execute("set role none").await.unwrap();
    session.execute(AssertSqlSafe(sql.to_owned())).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

fn reset_restores(rights: Rights) {
    on_each_server(rights, async |setting| {
        let suite = &setting.suite;
        suite.ready_pool(1, 2, 1).await;
        let lease = suite.take(suite.acquire_request()).await;
        let user = lease.credentials.as_ref().unwrap().user.clone();
        let spare = setting.catalog_text("select name from databases where state = 'spare'").await;
        for sql in [
            format!("alter role {user} set search_path to elsewhere"),
            format!("alter role {user} in database {} set work_mem to '1MB'", lease.database_name),
            // For the database that comes with the reset.
            format!("alter role {user} in database {spare} set default_transaction_read_only to on"),
            format!("alter role {user} in database {spare} set role to none"),
        ] {
            as_login(setting, &lease, &sql).await;
        }
        as_login(setting, &lease, &format!("alter role {user} password 'mine'")).await;

        reset(setting, &lease).await;
        let mut session = suite.enter(&lease).await;
        let seen: (String, String, String) = sqlx::query_as(
            "select current_user::text, current_setting('search_path'), current_setting('default_transaction_read_only')",
        )
        .fetch_one(&mut session)
        .await
        .unwrap();
        assert_eq!(seen, (setting.pool_owner().await, "\"$user\", public".to_owned(), "off".to_owned()));
        let kept = format!(
            "select coalesce(string_agg(d.datname || ' ' || s.setconfig::text, ', '), '') from pg_db_role_setting s
             join pg_roles r on r.oid = s.setrole join pg_database d on d.oid = s.setdatabase where r.rolname = '{user}'
             and d.datname = '{}'",
            lease.database_name
        );
        assert_eq!(setting.cluster.text("postgres", &kept).await, "");
    });
}

#[test]
fn reset_restores_password_and_settings_superuser() {
    reset_restores(Rights::Superuser);
}

#[test]
fn reset_of_a_batch_restores_its_shared_login() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.ready_pool(2, 3, 1).await;
        let (one, two) = (suite.take(suite.acquire_request()).await, suite.take(suite.acquire_request()).await);
        let shared = suite.backend.share_login(&[one.id, two.id]).await.unwrap();
        let user = shared[0].credentials.as_ref().unwrap().user.clone();
        as_login(setting, &shared[0], &format!("alter role {user} set work_mem to '1MB'")).await;
        as_login(setting, &shared[0], &format!("alter role {user} password 'mine'")).await;
        reset(setting, &shared[0]).await;
        for lease in &shared {
            let mut session = suite.enter(lease).await;
            let set: String =
                sqlx::query_scalar("select current_setting('work_mem')").fetch_one(&mut session).await.unwrap();
            assert_eq!(set, "4MB");
        }
    });
}

/// These take long: `make test-all` runs them, `make test` does not.
mod long {
    use super::*;

    #[test]
    fn reset_restores_password_and_settings_createrole() {
        reset_restores(Rights::DatabasesAndRoles);
    }
}
