//! Roles of pgdibs that an administrator drops: a pool's owner role is created again, a login counts as closed.

use pgdibs_core::backend::Backend as _;
use pgdibs_core::name::{Fingerprint, RoleName};
use pgdibs_core::pool::PoolPatch;
use pgdibs_postgres::rights::Rights;
use pgdibs_testing::conformance::ConformanceServer as _;

use crate::support::setting::on_each_server;

const BOTH: [Rights; 2] = [Rights::Superuser, Rights::DatabasesAndRoles];

#[test]
fn dropped_owner_role_is_created_for_next_build() {
    for rights in BOTH {
        on_each_server(rights, async |setting| {
            let suite = &setting.suite;
            suite.make_pool(1, 1, 0).await;
            let first = Fingerprint::parse("first").unwrap();
            suite.begin_build(&first, "one").await;
            suite.idle().await;
            suite.backend.abandon_build(&suite.pool, &first, "one", "given up").await.unwrap();
            suite.idle().await;
            assert!(suite.server.has_owner(&RoleName::of_pool(&suite.pool)).await);
            setting.cluster.sql("postgres", "drop role pgdibs_suite").await;
            suite.ready_pool(1, 1, 0).await;
            drop(suite.enter(&suite.take(suite.acquire_request()).await).await);
        });
    }
}

#[test]
fn dropped_owner_role_is_created_for_next_clone() {
    for rights in BOTH {
        on_each_server(rights, async |setting| {
            let suite = &setting.suite;
            suite.make_pool(0, 1, 0).await;
            let template = suite.build(&Fingerprint::parse("first").unwrap()).await;
            setting
                .cluster
                .sql("postgres", &format!("alter database {} allow_connections = true", template.name))
                .await;
            let take =
                "reassign owned by pgdibs_suite to current_user; drop owned by pgdibs_suite; drop role pgdibs_suite";
            setting.cluster.sql(template.name.as_str(), take).await;
            setting
                .cluster
                .sql("postgres", &format!("alter database {} allow_connections = false", template.name))
                .await;
            suite.backend.put_pool(&suite.pool, &PoolPatch { warm: Some(1), ..PoolPatch::default() }).await.unwrap();
            suite.idle().await;
            drop(suite.enter(&suite.take(suite.acquire_request()).await).await);
        });
    }
}

#[test]
fn dropped_login_blocks_no_return() {
    for rights in BOTH {
        on_each_server(rights, async |setting| {
            let suite = &setting.suite;
            suite.ready_pool(2, 2, 1).await;
            let (released, kept) =
                (suite.take(suite.acquire_request()).await, suite.take(suite.acquire_request()).await);
            for lease in [&released, &kept] {
                let user = &lease.credentials.as_ref().unwrap().user;
                setting.cluster.sql("postgres", &format!("drop owned by {user}; drop role {user}")).await;
            }
            suite.backend.keep(kept.id, 3600, "inspection").await.unwrap();
            suite.release(&released).await;
            suite.release(&kept).await;
            suite.idle().await;
            assert_eq!(suite.ready_names().await, [suite.slot(0), suite.slot(1)]);
            assert_eq!(
                setting.catalog_text("select count(*) from databases where state = 'kept' and slot is null").await,
                "1"
            );
        });
    }
}
