//! Builders: when they lose the build, and what prevents one.

use pgdibs_core::backend::Backend as _;
use pgdibs_core::error::Error;
use pgdibs_core::name::Fingerprint;
use pgdibs_core::pool::{Extension, PoolPatch};
use pgdibs_core::request::{BuildPlace, TemplatePut};
use pgdibs_core::template::{Template, TemplateState};
use pgdibs_postgres::rights::Rights;
use pgdibs_testing::conformance::ConformanceServer as _;
use secrecy::ExposeSecret as _;

use crate::support::setting::{Setting, on_each_server};

fn wanted() -> Fingerprint {
    Fingerprint::parse("first").unwrap()
}

async fn begun(setting: &Setting) -> (Template, BuildPlace) {
    setting.suite.make_pool(0, 1, 0).await;
    let template = setting.suite.begin_build(&wanted(), "one").await;
    setting.suite.idle().await;
    let place = setting.suite.backend.build_place(template.id, "one").await.unwrap().expect("its database exists");
    (template, place)
}

async fn silent_for(setting: &Setting, seconds: u32) {
    setting.catalog(&format!("update templates set build_heard_at = now() - interval '{seconds} s'")).await;
    setting.suite.idle().await;
}

async fn state(setting: &Setting) -> TemplateState {
    setting.suite.snapshot().await.templates[0].state
}

#[test]
fn builder_without_heartbeat_loses_build_after_60_seconds() {
    on_each_server(Rights::Superuser, async |setting| {
        let (_, place) = begun(setting).await;
        silent_for(setting, 58).await;
        assert_eq!(state(setting).await, TemplateState::Building, "58 seconds are no silence yet");
        silent_for(setting, 61).await;
        assert_eq!(state(setting).await, TemplateState::Failed);
        let suite = &setting.suite;
        suite.assert_dead(&place.credentials, &[place.database.as_str()]).await;
        assert_eq!(suite.names_on_the_server().await, Vec::<String>::new(), "what was built is dropped");
        let stale = suite.backend.request_seal(&suite.pool, &wanted(), "one").await;
        assert!(matches!(stale, Err(Error::BuildTokenStale(_))), "{stale:?}");
        suite.begin_build(&wanted(), "two").await;
    });
}

#[test]
fn builder_that_renews_keeps_build() {
    on_each_server(Rights::Superuser, async |setting| {
        begun(setting).await;
        setting.catalog("update templates set build_heard_at = now() - interval '61 s'").await;
        let suite = &setting.suite;
        suite.backend.renew_build(&suite.pool, &wanted(), "one").await.unwrap();
        suite.idle().await;
        assert_eq!(state(setting).await, TemplateState::Building);
    });
}

#[test]
fn connected_builder_keeps_build() {
    for rights in [Rights::Superuser, Rights::DatabasesAndRoles] {
        on_each_server(rights, async |setting| {
            let (_, place) = begun(setting).await;
            let server = &setting.suite.server;
            let session = server.connect(&place.credentials, place.database.as_str()).await.unwrap();
            silent_for(setting, 3600).await;
            assert_eq!(state(setting).await, TemplateState::Building);
            server.disconnect(session).await;
            let sessions = format!("select count(*) from pg_stat_activity where datname = '{}'", place.database);
            setting.cluster.until_text("postgres", &sessions, "0").await;
            silent_for(setting, 61).await;
            assert_eq!(state(setting).await, TemplateState::Failed);
        });
    }
}

#[test]
fn abandon_masks_password_in_detail() {
    on_each_server(Rights::Superuser, async |setting| {
        let (_, place) = begun(setting).await;
        let suite = &setting.suite;
        let password = place.credentials.password.expose_secret();
        let detail = format!("cannot connect to postgresql://u:{password}@h/d");
        suite.backend.abandon_build(&suite.pool, &wanted(), "one", &detail).await.unwrap();
        let shown = suite.snapshot().await.templates[0].detail.clone();
        assert_eq!(shown.as_deref(), Some("cannot connect to postgresql://u:********@h/d"));
    });
}

#[test]
fn failed_build_is_shown_for_an_hour() {
    on_each_server(Rights::Superuser, async |setting| {
        begun(setting).await;
        let suite = &setting.suite;
        suite.backend.abandon_build(&suite.pool, &wanted(), "one", "a migration failed").await.unwrap();
        suite.idle().await;
        setting.catalog("update templates set last_used_at = now() - interval '3590 s'").await;
        suite.idle().await;
        assert_eq!(state(setting).await, TemplateState::Failed);
        setting.catalog("update templates set last_used_at = now() - interval '3601 s'").await;
        suite.idle().await;
        assert_eq!(suite.snapshot().await.templates, []);
    });
}

#[test]
fn build_database_of_dead_daemon_is_created_again() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.make_pool(0, 1, 0).await;
        let template = suite.begin_build(&wanted(), "one").await;
        setting
            .cluster
            .sql("postgres", &format!("create database {} template template0 owner pgdibs_owner", template.name))
            .await;
        suite.idle().await;
        let place = suite.backend.build_place(template.id, "one").await.unwrap().expect("its database exists");
        let session = suite.server.connect(&place.credentials, place.database.as_str()).await.unwrap();
        suite.server.disconnect(session).await;
        suite.backend.request_seal(&suite.pool, &wanted(), "one").await.unwrap();
        suite.idle().await;
        let found = suite.backend.put_template(&suite.pool, &wanted(), "two", "two").await;
        assert!(matches!(found, Ok(TemplatePut::Ready(_))), "{found:?}");
    });
}

/// Regression: pgdibs took a foreign database under a build's name for its own (found by conformance suite and a second
/// reading).
#[test]
fn foreign_database_under_name_of_build_stays() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.make_pool(0, 1, 0).await;
        let template = suite.begin_build(&wanted(), "one").await;
        suite.server.create_externally(template.name.as_str()).await;
        let acl =
            format!("select coalesce(datacl::text, 'as made') from pg_database where datname = '{}'", template.name);
        let failures = setting.idle_with_failures().await;
        assert!(failures[0].contains(&format!("dropdb '{}'", template.name)), "{failures:?}");
        let refused = suite.backend.build_place(template.id, "one").await;
        assert!(matches!(refused, Err(Error::TemplateFailed(_))), "{refused:?}");
        assert_eq!(setting.cluster.text("postgres", &acl).await, "as made", "its rights are untouched");
        suite.backend.drop_pool(&suite.pool, true).await.unwrap();
        suite.idle().await;
        assert_eq!(suite.names_on_the_server().await, [template.name.as_str()], "it is still there");
    });
}

#[test]
fn unknown_extension_fails_build_with_its_name() {
    on_each_server(Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        let patch = PoolPatch { extensions: Some(vec![Extension::named("no_such_extension")]), ..PoolPatch::default() };
        suite.backend.put_pool(&suite.pool, &patch).await.unwrap();
        let template = suite.begin_build(&wanted(), "one").await;
        let failures = setting.idle_with_failures().await;
        assert!(failures[0].contains("extension \"no_such_extension\" (pool setting `extensions`)"), "{failures:?}");
        let refused = suite.backend.build_place(template.id, "one").await;
        assert!(matches!(refused, Err(Error::TemplateFailed(why)) if why.contains("no_such_extension")));
        assert_eq!(suite.names_on_the_server().await, Vec::<String>::new(), "its database is dropped");
    });
}
