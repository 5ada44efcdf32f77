//! Pools: made, changed, shown, dropped.

use serde_json::json;

use crate::http::tests::{Call, TestApi, connect, lease_path};

#[tokio::test]
async fn pool_is_made_changed_shown_and_dropped() {
    let api = TestApi::new();
    let made = api.put("/v1/pools/app", json!({"warm": 2, "max": 5, "roles": ["reporting"], "extensions": ["citext"]}));
    let made = made.await.expect(201).json;
    assert_eq!((&made["warm"], &made["max"], &made["spares"]), (&json!(2), &json!(5), &json!(2)));
    let changed = api.put("/v1/pools/app", json!({"max": 6, "strategy": "wal_log"})).await.expect(200).json;
    assert_eq!((&changed["warm"], &changed["max"]), (&json!(2), &json!(6)));
    assert_eq!((&changed["strategy"], &changed["roles"]), (&json!("wal_log"), &json!(["reporting"])));
    assert_eq!(api.get("/v1/pools/app").await.expect(200).json, changed);
    // Without a body nothing changes.
    assert_eq!(api.send(Call::new("PUT", "/v1/pools/app")).await.expect(200).json, changed);
    assert_eq!(api.get("/v1/pools").await.expect(200).json, json!({"pools": [changed]}));
    let gone = api.delete("/v1/pools/app").await.expect(204);
    assert_eq!(gone.text, "");
    api.until("the pool is gone", |api| api.snapshot().pools.is_empty()).await;
    api.delete("/v1/pools/app").await.problem(404, "pool_not_found");
}

#[tokio::test]
async fn drop_pool_with_force_revokes_leases() {
    let api = TestApi::new();
    api.ready_pool(1, 2, 0).await;
    let lease = api.take(json!({})).await;
    api.delete("/v1/pools/app?force=false").await.problem(409, "pool_in_use");
    api.delete("/v1/pools/app?force=true").await.expect(204);
    let ended = api.get(&lease_path(&lease, "")).await.expect(200).json;
    assert_eq!((&ended["state"], ended.get("password")), (&json!("revoked"), None));
    api.until("its login is dead", |api| connect(api, &lease).is_err()).await;
}

#[tokio::test]
async fn login_above_max_login_is_refused() {
    let api = TestApi::new();
    let made = api.put("/v1/pools/app", json!({"login": "createdb", "act_as": "login"})).await.expect(201).json;
    assert_eq!((&made["login"], &made["act_as"]), (&json!("createdb"), &json!("login")));
    let refused = api.put("/v1/pools/app", json!({"login": "superuser"})).await.problem(400, "invalid_request");
    let rule = "\"superuser\" is above the most that this daemon gives over HTTP, max_login = \"createdb\"; where the daemon runs, set \
                PGDIBS_MAX_LOGIN=superuser, or login = \"superuser\" in [pools.app] of pgdibs.toml";
    assert!(refused.contains(rule), "{refused}");
    assert_eq!(api.get("/v1/pools/app").await.expect(200).json["login"], "createdb");
    api.put("/v1/pools/app", json!({"login": "root"})).await.problem(400, "invalid_request");
}

#[tokio::test]
async fn extensions_have_schemas_and_templates_locales() {
    let api = TestApi::new();
    let extensions = json!(["citext", {"name": "pgcrypto", "schema": "ext"}]);
    let body = json!({"extensions": extensions, "locale": "C.UTF-8", "encoding": "UTF8", "icu_locale": "de-AT"});
    let made = api.put("/v1/pools/app", body).await.expect(201).json;
    assert_eq!(made["extensions"], extensions);
    let locale = [&made["locale"], &made["encoding"], &made["icu_locale"]];
    assert_eq!(locale, ["C.UTF-8", "UTF8", "de-AT"].map(|text| json!(text)).each_ref());
    let refused = api.put("/v1/pools/app", json!({"extensions": [{"name": "pgcrypto"}]})).await;
    let refused = refused.problem(400, "invalid_request");
    assert!(refused.contains("an object with `name` and `schema`"), "{refused}");
}
