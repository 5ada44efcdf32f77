//! Which of the connections for requests a request gets.

use pgdibs_postgres::rights::Rights;

use crate::support::setting::on_each_server;

/// Regression: sqlx lends the connection that was idle for the longest time, so acquires went round eight backends, each with cold caches: the
/// statement took twice as long (found by the benchmark).
#[test]
fn sequential_acquires_use_one_connection() {
    on_each_server(Rights::Superuser, async |setting| {
        setting.suite.ready_pool(4, 4, 0).await;
        for _ in 0..4 {
            let lease = setting.suite.take(setting.suite.acquire_request()).await;
            setting.suite.release(&lease).await;
        }
        let used = "select count(*) from pg_stat_activity where application_name = 'pgdibs'
                    and (query like '%Leases one ready database%' or query like '%Ends live leases%')";
        assert_eq!(setting.catalog_text(used).await, "1");
    });
}
