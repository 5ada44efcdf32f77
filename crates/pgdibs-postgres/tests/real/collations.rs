//! Templates whose text the server sorts otherwise since an upgrade of its image, and templates of which no clone can be made.

use pgdibs_core::backend::Backend as _;
use pgdibs_core::error::Error;
use pgdibs_core::lease::Lease;
use pgdibs_core::name::{DatabaseName, Fingerprint};
use pgdibs_core::plan;
use pgdibs_core::request::TicketId;
use pgdibs_core::template::TemplateState;
use pgdibs_postgres::rights::Rights;
use pgdibs_testing::conformance::ConformanceServer as _;
use sqlx::AssertSqlSafe;

use crate::support::setting::{Setting, on_each_server};

fn wanted() -> Fingerprint {
    Fingerprint::parse("first").unwrap()
}

/// Builds the template, and returns the name of its database.
async fn build(setting: &Setting, token: &str) -> DatabaseName {
    let suite = &setting.suite;
    let template = suite.begin_build(&wanted(), token).await;
    suite.idle().await;
    let place = suite.backend.build_place(template.id, token).await.unwrap().expect("its database exists");
    let mut session = suite.server.connect(&place.credentials, place.database.as_str()).await.unwrap();
    let (collation, create) = setting.cluster.versioned_collation();
    let statements = format!(
        "{create} create table words (word text collate {collation} primary key);
         insert into words values ('b'), ('B'), ('a'), ('ä'), ('A')"
    );
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut session).await.unwrap();
    suite.server.disconnect(session).await;
    suite.backend.request_seal(&suite.pool, &wanted(), token).await.unwrap();
    suite.idle().await;
    assert_eq!(suite.ready_names().await.len(), 1);
    DatabaseName::template(&suite.pool, &wanted())
}

/// The template and all its clones but that of `lease` are gone, callers get the reason, and the next `PUT` builds.
async fn assert_image_changed(setting: &Setting, lease: &Lease) {
    let suite = &setting.suite;
    suite.idle().await;
    assert_eq!(suite.names_on_the_server().await, std::slice::from_ref(&lease.database_name));
    let refused = suite.backend.acquire(&[suite.acquire_request()], None).await;
    assert!(
        matches!(&refused, Err(Error::TemplateNotFound(why)) if why.contains("upgrade of its image")),
        "{refused:?}"
    );
    let refused = suite.backend.begin_reset(lease.id, None, None::<TicketId>).await;
    assert!(
        matches!(&refused, Err(Error::TemplateNotFound(why)) if why.contains("upgrade of its image")),
        "{refused:?}"
    );
}

/// Sorted by the collation, and the unique index finds what is there.
async fn assert_words_are_sorted(setting: &Setting, lease: &Lease) {
    let mut session = setting.suite.enter(lease).await;
    let sorted: Vec<String> =
        sqlx::query_scalar("select word from words order by word").fetch_all(&mut session).await.unwrap();
    let has_icu = setting.cluster.versioned_collation().0.contains("icu");
    assert_eq!(sorted, if has_icu { ["a", "A", "ä", "b", "B"] } else { ["A", "B", "a", "b", "ä"] });
    let twice = sqlx::query("insert into words values ('ä')").execute(&mut session).await.unwrap_err();
    assert_eq!(pgdibs_postgres::sqlstate::code(&twice).as_deref(), Some("23505"));
    setting.suite.server.disconnect(session).await;
}

#[test]
fn template_with_changed_collation_is_built_again() {
    on_each_server(Rights::DatabasesAndRoles, async |setting| {
        let (suite, cluster) = (&setting.suite, &setting.cluster);
        suite.make_pool(1, 2, 1).await;
        let template = build(setting, "first").await;
        let lease = suite.take(suite.acquire_request()).await;
        if suite.backend.facts().major >= 15 {
            let update =
                format!("update pg_database set datcollversion = 'of the old image' where datname = '{template}'");
            cluster.sql("postgres", &update).await;
            assert_image_changed(setting, &lease).await;
            build(setting, "second").await;
        }
        // A collation of a column, which only a session inside sees: a new leader looks, as after every restart of the server.
        cluster.sql("postgres", &format!("alter database {template} allow_connections true")).await;
        cluster
            .sql(
                template.as_str(),
                "update pg_collation set collversion = 'of the old image' where collversion is not null",
            )
            .await;
        cluster.sql("postgres", &format!("alter database {template} allow_connections false")).await;
        suite.idle().await;
        let old = suite.take(suite.acquire_request()).await;
        suite.release(&lease).await;
        suite.backend.step_down().await;
        assert!(suite.backend.acquire_leadership().await.unwrap());
        assert_image_changed(setting, &old).await;
        suite.release(&old).await;
        build(setting, "third").await;
        // The present one stays, also for a new leader.
        suite.backend.step_down().await;
        assert!(suite.backend.acquire_leadership().await.unwrap());
        suite.idle().await;
        let lease = suite.take(suite.acquire_request()).await;
        assert_words_are_sorted(setting, &lease).await;
    });
}

#[test]
fn template_whose_clones_fail_is_not_ready_and_gives_reason() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        let break_clones = "create function refuse() returns trigger language plpgsql as $$ begin raise 'made to fail'; end $$;
            create trigger refuse before update on databases for each row when (new.state = 'spare') execute function refuse()";
        suite.make_pool(1, 2, 0).await;
        setting.catalog(break_clones).await;
        let template = suite.begin_build(&wanted(), "builder").await;
        suite.idle().await;
        suite.backend.request_seal(&suite.pool, &wanted(), "builder").await.unwrap();
        let mut failures = Vec::new();
        for attempt in 0..3 {
            if attempt > 0 {
                assert!(plan::unready(&suite.snapshot().await).is_empty(), "it is tried again soon");
            }
            failures.extend(setting.idle_with_failures().await);
            setting.catalog("update databases set retry_at = null where state = 'creating'").await;
        }
        assert_eq!(failures.len(), 3, "{failures:?}");
        let snapshot = suite.snapshot().await;
        assert_eq!(snapshot.template(template.id).unwrap().state, TemplateState::Ready);
        let unready = plan::unready(&snapshot);
        assert!(unready.iter().all(|why| why.contains("made to fail")) && unready.len() == 1, "{unready:?}");
        let refused = suite.backend.acquire(&[suite.acquire_request()], None).await;
        assert!(matches!(&refused, Err(Error::TemplateFailed(why)) if why.contains("made to fail")), "{refused:?}");
        setting.catalog("drop function refuse cascade; update databases set retry_at = null").await;
        suite.idle().await;
        assert!(plan::unready(&suite.snapshot().await).is_empty());
        suite.take(suite.acquire_request()).await;
    });
}
