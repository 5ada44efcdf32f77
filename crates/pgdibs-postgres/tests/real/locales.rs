//! Locale and encoding of a pool's templates.

use pgdibs_core::backend::Backend as _;
use pgdibs_core::name::Fingerprint;
use pgdibs_core::pool::PoolPatch;
use pgdibs_postgres::rights::Rights;

use crate::support::setting::{on_each_server, text};

#[test]
fn template_has_locale_and_encoding_of_its_pool() {
    for rights in [Rights::Superuser, Rights::DatabasesAndRoles] {
        on_each_server(rights, async |setting| {
            let suite = &setting.suite;
            let sorted = "select string_agg(w, '' order by w) from unnest(array['a', 'B', 'c']) as w";
            let given = |text: &str| Some(text.to_owned());
            let base = PoolPatch { warm: Some(1), spares: Some(0), ..PoolPatch::default() };
            let mut session = suite.enter(&setting.lease_of_build(&base, "default", "select 1").await).await;
            assert_eq!(text(&mut session, sorted).await, "Bac", "by code point");

            let latin = PoolPatch { encoding: given("LATIN1"), locale: given("C"), ..base.clone() };
            let mut session = suite.enter(&setting.lease_of_build(&latin, "latin", "select 1").await).await;
            assert_eq!(text(&mut session, "current_setting('server_encoding')").await, "LATIN1");

            let icu = PoolPatch { encoding: given(""), icu_locale: given("de-AT"), ..base.clone() };
            let has_icu = "select exists (select from pg_collation where collname = 'und-x-icu')";
            let has_icu = setting.cluster.text("postgres", has_icu).await == "true";
            if suite.backend.facts().major >= 15 && has_icu {
                let mut session = suite.enter(&setting.lease_of_build(&icu, "icu", "select 1").await).await;
                assert_eq!(text(&mut session, sorted).await, "aBc", "by the rules of the language");
            } else {
                let refused = suite.backend.put_pool(&suite.pool, &icu).await.unwrap_err().to_string();
                assert!(refused.contains("needs Postgres 15 or later with ICU"), "{refused}");
            }
            let unknown = PoolPatch { locale: given("xx_YY"), ..base.clone() };
            suite.backend.put_pool(&suite.pool, &unknown).await.unwrap();
            suite.begin_build(&Fingerprint::parse("unknown").unwrap(), "one").await;
            let failures = setting.idle_with_failures().await;
            let why = "cannot be made with the pool's `locale`, `encoding` and `icu_locale`: invalid";
            assert!(failures[0].contains(why), "{failures:?}");
            for wrong in ["utf-16", "SJIS"] {
                let patch = PoolPatch { encoding: given(wrong), ..base.clone() };
                let refused = suite.backend.put_pool(&suite.pool, &patch).await.unwrap_err().to_string();
                assert!(refused.contains(&format!("such as UTF8, LATIN1 or SQL_ASCII, not \"{wrong}\"")), "{refused}");
            }
        });
    }
}
