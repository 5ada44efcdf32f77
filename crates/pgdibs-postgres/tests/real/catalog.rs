//! What the catalog itself refuses, from the daemon and from an administrator with `psql`.

use pgdibs_postgres::rights::Rights;

use crate::support::external::session;
use crate::support::setting::{on_each_server, on_each_server_with};

#[test]
fn unique_indexes_refuse_second_row() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.ready_pool(2, 2, 0).await;
        suite.take(suite.acquire_request()).await;
        setting.catalog("update leases set run = 'r'").await;
        let mut catalog = session(&setting.cluster.superuser_options("pgdibs")).await;
        for (index, again) in [
            (
                "leases_one_per_database",
                "insert into leases (id, pool, fingerprint, template_id, database_id, database_name, slot, alias, holder, state, ttl_seconds)
                 select gen_random_uuid(), pool, fingerprint, template_id, database_id, database_name, slot, alias, holder, state, ttl_seconds
                 from leases",
            ),
            (
                "leases_one_per_key",
                "insert into leases (id, pool, fingerprint, template_id, database_id, database_name, slot, run, alias, holder, state, ttl_seconds)
                 select gen_random_uuid(), l.pool, fingerprint, l.template_id, d.id, d.name, d.slot, run, alias, holder, l.state, ttl_seconds
                 from leases l join databases d on d.state = 'ready'",
            ),
            ("databases_one_per_slot", "update databases set slot = (select slot from leases) where state = 'ready'"),
            (
                "templates_one_per_fingerprint",
                "insert into templates (id, pool, fingerprint, state, name, token, holder, password)
                 select nextval('numbers'), pool, fingerprint, 'building', name || '_', token, holder, password from templates",
            ),
        ] {
            let refused = sqlx::raw_sql(again).execute(&mut catalog).await.map(|_| ()).expect_err(index);
            assert_eq!(refused.as_database_error().and_then(|error| error.constraint()), Some(index), "{refused}");
        }
    });
}

/// Without index scans, as in a plan that was made when there were few databases, and that a connection keeps.
///
/// Regression: such a plan compared each ready database with the server before it sorted them: 13 ms with a thousand (found by the benchmark).
#[test]
fn acquire_compares_one_candidate_with_server() {
    on_each_server_with(
        &["track_functions=all", "plan_cache_mode=force_generic_plan", "enable_indexscan=off", "enable_bitmapscan=off"],
        Rights::Superuser,
        async |setting| {
            let suite = &setting.suite;
            suite.ready_pool(12, 12, 0).await;
            for _ in 0..10 {
                suite.take(suite.acquire_request()).await;
            }
            // The end of a session reports its calls.
            suite.backend.close().await;
            let calls =
                "select coalesce(sum(calls), 0)::text from pg_stat_user_functions where funcname = 'is_untouched'";
            setting.cluster.until_text("pgdibs", calls, "10").await;
        },
    );
}
