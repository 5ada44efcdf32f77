//! Limits of time: announcements lapse, keeps end, templates retire, rows of ended leases are deleted. The tests change the rows' times
//! instead of waiting.

use pgdibs_core::backend::Backend as _;
use pgdibs_core::database::DatabaseState;
use pgdibs_core::error::Error;
use pgdibs_core::name::Fingerprint;
use pgdibs_core::pool::PoolPatch;
use pgdibs_core::request::{Acquire, Announce, TemplatePut};
use pgdibs_postgres::rights::Rights;
use pgdibs_testing::conformance::ConformanceServer as _;

use crate::support::setting::{Setting, on_each_server};
use pgdibs_testing::wait::until_async;

fn named(text: &str) -> Fingerprint {
    Fingerprint::parse(text).unwrap()
}

fn announcement(setting: &Setting, run: &str) -> Announce {
    Announce { run: run.to_owned(), pool: setting.suite.pool.clone(), fingerprint: None, workers: 3, aliases: 1 }
}

#[test]
fn announced_run_lapses_after_60_seconds() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.ready_pool(1, 4, 0).await;
        let announce = announcement(setting, &suite.run_id());
        suite.backend.announce(&announce).await.unwrap();
        setting.catalog("update announced_runs set put_at = now() - interval '58 s'").await;
        suite.idle().await;
        assert_eq!(suite.ready_names().await.len(), 3);
        setting.catalog("update announced_runs set put_at = now() - interval '61 s'").await;
        suite.idle().await;
        assert_eq!(suite.ready_names().await.len(), 1);
        assert_eq!(setting.catalog_text("select count(*) from announced_runs").await, "0", "the sweep has taken it");
        suite.backend.announce(&announce).await.unwrap();
        suite.idle().await;
        assert_eq!(suite.ready_names().await.len(), 3, "a new PUT is a new announcement");
    });
}

#[test]
fn announced_run_with_lease_does_not_lapse() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.ready_pool(1, 4, 0).await;
        let run = suite.run_id();
        suite.backend.announce(&announcement(setting, &run)).await.unwrap();
        let lease = suite.take(suite.acquire_request_of(&run, "gw0")).await;
        setting.catalog("update announced_runs set put_at = now() - interval '1 hour'").await;
        suite.idle().await;
        assert_eq!(suite.ready_names().await.len(), 2, "it announced three and holds one");
        suite.release(&lease).await;
        suite.idle().await;
        assert_eq!(suite.ready_names().await.len(), 1);
    });
}

#[test]
fn kept_database_is_dropped_after_its_time() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.ready_pool(1, 1, 0).await;
        let lease = suite.take(suite.acquire_request()).await;
        let kept = suite.backend.keep(lease.id, 3600, "test_x failed").await.unwrap();
        suite.release(&lease).await;
        suite.idle().await;
        let session = suite.server.connect(&kept.credentials, kept.name.as_str()).await.unwrap();
        setting.catalog("update databases set keep_until = now() - interval '1 s' where keep_until is not null").await;
        suite.idle().await;
        suite.server.disconnect(session).await;
        suite.assert_dead(&kept.credentials, &[kept.name.as_str()]).await;
        assert!(
            !suite.names_on_the_server().await.contains(&kept.name.to_string()),
            "with its session, without asking"
        );
        assert!(!suite.server.logins().await.contains(&kept.credentials.user));
    });
}

#[test]
fn expired_keep_keeps_no_database() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.ready_pool(1, 1, 0).await;
        let lease = suite.take(suite.acquire_request()).await;
        suite.backend.keep(lease.id, 3600, "test_x failed").await.unwrap();
        setting.catalog("update databases set keep_until = now() - interval '1 s' where keep_until is not null").await;
        suite.release(&lease).await;
        suite.idle().await;
        assert_eq!(suite.in_state(DatabaseState::Kept).await, []);
        assert_eq!(suite.ready_names().await, [suite.slot(0)]);
    });
}

/// Templates of the pool that are ready, oldest first.
async fn ready(setting: &Setting) -> Vec<String> {
    let sql =
        "select coalesce(string_agg(fingerprint, ' ' order by built_at), '') from templates where state = 'ready'";
    setting.catalog_text(sql).await.split_whitespace().map(str::to_owned).collect()
}

async fn unused_for(setting: &Setting, seconds: u32) {
    setting.catalog(&format!("update templates set last_used_at = now() - interval '{seconds} s'")).await;
    setting.suite.idle().await;
}

async fn two_templates(setting: &Setting, keep: u32, age: u64) {
    let suite = &setting.suite;
    suite.make_pool(0, 2, 0).await;
    let patch = PoolPatch { keep_templates: Some(keep), template_max_age_seconds: Some(age), ..PoolPatch::default() };
    suite.backend.put_pool(&suite.pool, &patch).await.unwrap();
    suite.build(&named("old")).await;
    suite.build(&named("new")).await;
}

#[test]
fn unused_template_is_outnumbered_after_ten_minutes() {
    on_each_server(Rights::Superuser, async |setting| {
        two_templates(setting, 1, 1_000_000).await;
        unused_for(setting, 590).await;
        assert_eq!(ready(setting).await, ["old", "new"]);
        unused_for(setting, 601).await;
        assert_eq!(ready(setting).await, ["new"]);
        assert_eq!(setting.suite.names_on_the_server().await.len(), 1, "its database is dropped");
        unused_for(setting, 2_000_000).await;
        assert_eq!(ready(setting).await, ["new"], "the current one stays");
        setting.suite.begin_build(&named("old"), "again").await;
    });
}

#[test]
fn template_is_too_old_unless_used() {
    on_each_server(Rights::Superuser, async |setting| {
        two_templates(setting, 3, 5000).await;
        unused_for(setting, 4990).await;
        assert_eq!(ready(setting).await, ["old", "new"]);
        setting.catalog("update templates set last_used_at = now() - interval '6000 s'").await;
        let suite = &setting.suite;
        let put = suite.backend.put_template(&suite.pool, &named("old"), "holder", "token").await;
        assert!(matches!(put, Ok(TemplatePut::Ready(_))), "{put:?}");
        suite.idle().await;
        assert_eq!(ready(setting).await, ["old"], "a PUT is a use, and makes the template the current one");
        unused_for(setting, 5001).await;
        assert_eq!(ready(setting).await, ["old"], "the current one stays");
    });
}

#[test]
fn template_with_live_lease_is_not_retired() {
    on_each_server(Rights::Superuser, async |setting| {
        two_templates(setting, 1, 700).await;
        let suite = &setting.suite;
        let acquire_request = Acquire { fingerprint: Some(named("old")), ..suite.acquire_request() };
        let wanted = suite.must_wait(acquire_request.clone()).await;
        let ticket = suite
            .backend
            .take_ticket(
                &wanted,
                1,
                pgdibs_core::request::TicketKind::Acquire,
                &pgdibs_core::request::TicketHolder::default(),
            )
            .await
            .unwrap();
        unused_for(setting, 100_000).await;
        assert_eq!(ready(setting).await, ["old", "new"], "a request waits for it");
        setting.catalog("update templates set last_used_at = now() - interval '100000 s'").await;
        let pgdibs_core::request::Acquired::Granted(leases) =
            suite.backend.acquire(&[acquire_request], Some(ticket)).await.unwrap()
        else {
            panic!("the waiter should be served")
        };
        suite.backend.drop_ticket(ticket).await.unwrap();
        let old = suite.snapshot().await.templates.into_iter().find(|t| t.fingerprint == named("old")).unwrap();
        assert!(old.unused_seconds < 10, "a lease is a use: {} s", old.unused_seconds);
        unused_for(setting, 100_000).await;
        assert_eq!(ready(setting).await, ["old", "new"], "it has a live lease");
        suite.release(&leases[0]).await;
        let announce = Announce { fingerprint: Some(named("old")), ..announcement(setting, &suite.run_id()) };
        suite.backend.announce(&Announce { workers: 1, ..announce.clone() }).await.unwrap();
        unused_for(setting, 100_000).await;
        assert_eq!(ready(setting).await, ["old", "new"], "a run has announced that it will need it");
        suite.backend.end_run(&announce.run).await.unwrap();
        unused_for(setting, 100_000).await;
        assert_eq!(ready(setting).await, ["new"]);
    });
}

#[test]
fn ended_leases_and_runs_are_deleted_after_a_day() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.ready_pool(1, 1, 0).await;
        let run = suite.run_id();
        let lease = suite.take(suite.acquire_request_of(&run, "gw0")).await;
        suite.backend.end_run(&run).await.unwrap();
        for table in ["leases", "ended_runs"] {
            setting.catalog(&format!("update {table} set ended_at = now() - interval '86390 s'")).await;
        }
        suite.idle().await;
        assert!(suite.backend.lease(lease.id).await.is_ok());
        let refused = suite.backend.acquire(&[suite.acquire_request_of(&run, "gw0")], None).await;
        assert!(matches!(refused, Err(Error::RunEnded(_))), "{refused:?}");
        for table in ["leases", "ended_runs"] {
            setting.catalog(&format!("update {table} set ended_at = now() - interval '86401 s'")).await;
        }
        suite.idle().await;
        let forgotten = suite.backend.lease(lease.id).await;
        assert!(matches!(forgotten, Err(Error::LeaseNotFound(_))), "{forgotten:?}");
        suite.take(suite.acquire_request_of(&run, "gw0")).await;
    });
}

#[test]
fn catalogs_are_vacuumed_after_many_dead_rows() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.ready_pool(1, 1, 0).await;
        let dead = "select sum(pg_stat_get_dead_tuples(name::regclass)) < 500
                    from unnest('{pg_database, pg_shdepend, tickets}'::text[]) as name";
        assert!(!suite.backend.vacuum_catalogs().await.unwrap(), "so few are not worth it");
        setting
            .catalog(
                "insert into tickets (pool, template_id, count, kind, daemon)
                 select t.pool, t.id, 1, 'acquire', 0 from templates t, generate_series(1, 600);
                 delete from tickets",
            )
            .await;
        // The server's statistics are a little late.
        until_async("the vacuum is due", async || match suite.backend.vacuum_catalogs().await {
            Ok(true) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        setting.cluster.until_text("pgdibs", dead, "true").await;
    });
}

/// Between a clock jump and the snapshot that shows it, builders renew by the new clock.
///
/// Regression: a builder that renewed between a jump backward and the next snapshot lost its build (found by the loop of clocks, on
/// a busy machine).
#[test]
fn times_written_after_clock_jump_are_not_shifted() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.make_pool(1, 1, 0).await;
        suite.backend.put_template(&suite.pool, &named("first"), "a builder", "token").await.unwrap();
        assert_eq!(suite.backend.acquire_leadership().await, Ok(true));
        for (jump, written, seconds_ago) in [
            (-3600, "now() + interval '3590 s'", 10),
            (-3600, "now()", 0),
            (3600, "now() - interval '3610 s'", 10),
            (3600, "now()", 0),
        ] {
            setting.catalog(&format!("update templates set build_heard_at = {written}")).await;
            suite.backend.move_times(jump * 1_000_000).await.unwrap();
            let ago = "select extract(epoch from now() - build_heard_at)::int from templates";
            let seen: i64 = setting.catalog_text(ago).await.parse().unwrap();
            assert!(
                (seconds_ago..seconds_ago + 5).contains(&seen),
                "{written}, the clock set by {jump} s: {seen} s ago"
            );
        }
    });
}

/// The same for times in the future: a keep from before the snapshot lasts as long as promised, and retries happen.
///
/// Regression: a keep between a jump forward and the next snapshot lasted longer, by the length of the jump (found by the loop of
/// clocks, on a very busy machine).
#[test]
fn future_times_written_before_clock_jump_are_shifted() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.ready_pool(1, 1, 0).await;
        let lease = suite.take(suite.acquire_request()).await;
        for (jump, written) in [
            (-7200, "now() + interval '7190 s'"),
            (-7200, "now()"),
            (31_536_000, "now() - interval '31536010 s'"),
            (31_536_000, "now()"),
        ] {
            suite.backend.keep(lease.id, 3600, "inspection").await.unwrap();
            let shift = "update databases set kept_at = kept_at + m, keep_until = keep_until + m, retry_at = now() + m + interval '2 s'";
            setting.catalog(&format!("{shift} from (select {written} - now()) written (m)")).await;
            suite.backend.move_times(jump * 1_000_000).await.unwrap();
            let left = "select extract(epoch from keep_until - now())::int || ' ' || extract(epoch from retry_at - now())::int from databases";
            let left: Vec<i64> = setting.catalog_text(left).await.split(' ').map(|n| n.parse().unwrap()).collect();
            let times = format!("written at {written}, the clock set by {jump} s: {left:?} s are left");
            assert!((3580..=3600).contains(&left[0]) && (-20..=2).contains(&left[1]), "{times}");
        }
    });
}

async fn pool_unused_for(setting: &Setting, seconds: u32) {
    setting.catalog(&format!("update pools set used_at = now() - interval '{seconds} s'")).await;
    setting.suite.idle().await;
}

#[test]
fn pool_unused_for_a_day_keeps_its_template_alone() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.ready_pool(2, 4, 1).await;
        let databases = async || suite.names_on_the_server().await.len();
        pool_unused_for(setting, 86_390).await;
        assert_eq!(databases().await, 4);
        pool_unused_for(setting, 86_401).await;
        assert_eq!(databases().await, 1, "the template");
        let logins = "select count(*) from pg_roles where rolname ~ '^pgdibs_l_'";
        assert_eq!(setting.cluster.text("postgres", logins).await, "0");

        // A lease waits for its database, and its end is a use as well.
        let target = suite.must_wait(suite.acquire_request()).await;
        let ticket = suite
            .backend
            .take_ticket(
                &target,
                1,
                pgdibs_core::request::TicketKind::Acquire,
                &pgdibs_core::request::TicketHolder::default(),
            )
            .await
            .unwrap();
        suite.idle().await;
        assert_eq!(databases().await, 4);
        suite.backend.drop_ticket(ticket).await.unwrap();
        let lease = suite.take(suite.acquire_request()).await;
        pool_unused_for(setting, 100_000).await;
        assert_eq!(databases().await, 5, "a live lease is a use");
        suite.release(&lease).await;
        suite.idle().await;
        assert_eq!(databases().await, 4, "the end of a lease is a use");

        // A run, which lapses, and a PUT.
        pool_unused_for(setting, 100_000).await;
        assert_eq!(databases().await, 1);
        let run = suite.run_id();
        let pool = suite.pool.clone();
        let announce = Announce { run, pool, fingerprint: None, workers: 1, aliases: 1 };
        suite.backend.announce(&announce).await.unwrap();
        suite.idle().await;
        assert_eq!(databases().await, 4);
        setting.catalog("update announced_runs set put_at = now() - interval '61 s'").await;
        suite.idle().await;
        assert_eq!(databases().await, 4, "the announcement was a use");
        pool_unused_for(setting, 100_000).await;
        assert_eq!(databases().await, 1);
        suite.backend.put_pool(&suite.pool, &PoolPatch::default()).await.unwrap();
        suite.idle().await;
        assert_eq!(databases().await, 4, "a PUT of the pool is a use");
        pool_unused_for(setting, 100_000).await;
        let fingerprint = suite.snapshot().await.templates[0].fingerprint.clone();
        let put = suite.backend.put_own_template(&suite.pool, &fingerprint, "daemon", "token", None).await;
        assert!(matches!(put, Ok(TemplatePut::Ready(_))), "{put:?}");
        suite.idle().await;
        assert_eq!(databases().await, 1, "the daemon's own PUT is no use");
        suite.backend.put_template(&suite.pool, &fingerprint, "client", "token").await.unwrap();
        suite.idle().await;
        assert_eq!(databases().await, 4, "a client's PUT of the template is one");
    });
}
