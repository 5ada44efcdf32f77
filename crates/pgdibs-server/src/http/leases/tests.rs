//! Leases from acquire to release.

use serde_json::{Value, json};

use crate::http::tests::{Call, TestApi, connect, lease_path};

#[tokio::test]
async fn lease_lives_from_acquire_to_release() {
    let api = TestApi::new();
    api.ready_pool(2, 4, 2).await;
    let acquire_request =
        json!({"pool": "app", "run": "r", "worker": "gw1", "holder": "me", "ttl_seconds": 90, "via": "compose"});
    let lease = api.post("/v1/leases", acquire_request.clone()).await.expect(201).json;
    assert_eq!((&lease["database"], &lease["slot"], &lease["state"]), (&json!("app_gw1"), &json!(1), &json!("live")));
    assert_eq!((&lease["host"], &lease["port"]), (&json!("fd00::5"), &json!(6000)));
    assert_eq!((&lease["ttl_seconds"], &lease["renew_after_seconds"]), (&json!(90), &json!(30.0)));
    assert_eq!((&lease["generation"], &lease["alias"]), (&json!(1), &json!("default")));
    let session = connect(&api, &lease).expect("the holder gets in");

    // The same key gets the same lease, credentials and all.
    let again = api.post("/v1/leases", acquire_request).await.expect(200).json;
    for field in ["id", "url", "password", "generation"] {
        assert_eq!(again[field], lease[field], "{field}");
    }
    let other = api.take(json!({"run": "r", "worker": "gw1", "alias": "second"})).await;
    assert_ne!(other["id"], lease["id"]);

    api.backend.advance(30.0);
    let renewed = api.post(&lease_path(&lease, "/renew"), json!({"ttl_seconds": 120})).await.expect(200).json;
    assert_eq!((&renewed["ttl_seconds"], &renewed["expires_at"]), (&json!(120), &json!("1970-01-01T00:02:30.000000Z")));
    assert_eq!(renewed["host"], "127.0.0.1", "the default address, unless `via` says otherwise");
    let seen = api.get(&lease_path(&lease, "?via=compose")).await.expect(200).json;
    assert_eq!(seen["url"], lease["url"]);

    let listed = api.get("/v1/leases?pool=app&run=r&state=live").await.expect(200);
    assert_eq!(listed.json["leases"].as_array().unwrap().len(), 2);
    for secret in [lease["password"].as_str().unwrap(), "postgresql://"] {
        for path in ["/v1/leases", "/v1/status", "/v1/databases", "/v1/pools"] {
            assert!(!api.get(path).await.expect(200).text.contains(secret), "{path} shows credentials");
        }
    }
    assert_eq!(api.get("/v1/leases?run=other").await.expect(200).json, json!({"leases": []}));

    api.delete(&lease_path(&lease, "")).await.expect(204);
    api.delete(&lease_path(&lease, "")).await.expect(204);
    let ended = api.get(&lease_path(&lease, "")).await.expect(200).json;
    assert_eq!(ended["state"], "released");
    assert_eq!((&ended["ended_reason"], ended.get("url")), (&json!("released by its holder"), None));
    assert!(ended["ended_at"].is_string());
    api.until("the used database is gone", |api| api.count("retiring") == 0).await;
    assert!(!api.backend.is_connected(session));
    assert!(connect(&api, &lease).is_err());
}

/// Regression: a lease without fingerprint got a schema that another caller had built since (issue 17, E1).
#[tokio::test]
async fn lease_without_fingerprint_stays_with_its_run() {
    let api = TestApi::new();
    api.ready_pool(2, 6, 0).await;
    let template = async |body: Value| api.take(body).await["fingerprint"].clone();
    assert_eq!(template(json!({"run": "r", "worker": "gw0"})).await, "v1");
    api.put("/v1/runs/announced", json!({"pool": "app", "workers": 1})).await.expect(200);
    api.build("v2").await;
    assert_eq!(template(json!({"run": "r", "worker": "gw1"})).await, "v1");
    assert_eq!(template(json!({"run": "announced"})).await, "v1");
    let held = json!({"pool": "app", "run": "r", "worker": "gw2", "fingerprint": "v2"});
    let held = api.post("/v1/leases", held).await.expect(201).json;
    let again = json!({"pool": "app", "run": "r", "worker": "gw2"});
    assert_eq!(
        api.post("/v1/leases", again).await.expect(200).json["id"],
        held["id"],
        "its key holds another template"
    );
    for run in ["r", "announced"] {
        api.delete(&format!("/v1/runs/{run}")).await.expect(200);
    }
    assert_eq!(template(json!({"run": "next"})).await, "v2");
    api.delete("/v1/runs/next").await.expect(200);
    api.put("/v1/pools/app/templates/v1", json!({})).await.expect(200);
    assert_eq!(template(json!({})).await, "v1", "the one that a PUT named last");
}

#[tokio::test]
async fn reset_brings_clean_database_under_same_url() {
    let api = TestApi::new();
    api.ready_pool(1, 2, 1).await;
    let lease = api.take(json!({"run": "r", "worker": "gw0"})).await;
    let session = connect(&api, &lease).unwrap();
    api.backend.write(session, "dirt").unwrap();
    let reset = api.post(&lease_path(&lease, "/reset"), json!({"generation": 1})).await.expect(200).json;
    assert_eq!((&reset["id"], &reset["url"], &reset["generation"]), (&lease["id"], &lease["url"], &json!(2)));
    let session = connect(&api, &lease).expect("the same credentials still work");
    assert!(!api.backend.read(session).unwrap().contains(&"dirt".to_owned()));
    let repeated = api.post(&lease_path(&lease, "/reset"), json!({"generation": 1})).await.expect(200).json;
    assert_eq!(repeated["generation"], 2, "a repeated call does not reset twice");
    let without_body = api.send(Call::new("POST", lease_path(&lease, "/reset"))).await.expect(200).json;
    assert_eq!(without_body["generation"], 3);

    let fresh = json!({"pool": "app", "run": "r", "worker": "gw0", "fresh": true});
    let fresh = api.post("/v1/leases", fresh).await.expect(200).json;
    assert_eq!((&fresh["id"], &fresh["generation"]), (&lease["id"], &json!(4)));
    let new = api.take(json!({"run": "r", "worker": "gw1", "fresh": true})).await;
    assert_eq!(new["generation"], 1, "a new lease is fresh already");
}

#[tokio::test]
async fn batch_acquires_all_or_none() {
    let api = TestApi::new();
    api.ready_pool(3, 3, 0).await;
    let acquire_request = |worker: &str| json!({"pool": "app", "run": "r", "worker": worker});
    let three =
        json!({"leases": [acquire_request("gw0"), acquire_request("gw1"), acquire_request("gw2")], "wait_seconds": 5});
    let taken = api.post("/v1/leases/batch", three.clone()).await.expect(201).json;
    let names = |answer: &Value| -> Vec<String> {
        let leases = answer["leases"].as_array().unwrap().iter();
        leases.map(|lease| lease["database"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&taken), ["app_gw0", "app_gw1", "app_gw2"]);
    assert_eq!(names(&api.post("/v1/leases/batch", three).await.expect(200).json), names(&taken));
    api.delete(&lease_path(&taken["leases"][0], "")).await.expect(204);
    api.until("one is ready again", |api| api.count("ready") == 1).await;
    let two = json!({"leases": [{"pool": "app"}, {"pool": "app"}], "wait_seconds": 0});
    api.post("/v1/leases/batch", two).await.problem(503, "pool_exhausted");
    assert_eq!(api.snapshot().leases.len(), 2, "none was taken");
}

/// Regression: a batch over several pools waited for databases of the first alone, and of the others none was made.
#[tokio::test]
async fn batch_over_two_empty_pools_is_served() {
    let api = TestApi::new();
    for pool in ["app", "other"] {
        api.put(&format!("/v1/pools/{pool}"), json!({"warm": 0, "max": 1, "spares": 0})).await.expect(201);
        api.build_in(pool, "v1").await;
    }
    let both = json!({"leases": [{"pool": "app"}, {"pool": "other"}], "wait_seconds": 10});
    let taken = api.post("/v1/leases/batch", both.clone()).await.expect(201).json;
    assert_eq!(
        (&taken["leases"][0]["database"], &taken["leases"][1]["database"]),
        (&json!("app_gw0"), &json!("other_gw0"))
    );

    // Two that begin with another pool each do not wait for each other.
    let reversed = json!({"leases": [{"pool": "other"}, {"pool": "app"}], "wait_seconds": 10});
    let release_all = async |answer: Value| {
        for lease in answer["leases"].as_array().unwrap() {
            api.delete(&format!("/v1/leases/{}", lease["id"].as_str().unwrap())).await.expect(204);
        }
    };
    let (first, second, ()) = tokio::join!(
        async { release_all(api.post("/v1/leases/batch", both).await.expect(201).json).await },
        async { release_all(api.post("/v1/leases/batch", reversed).await.expect(201).json).await },
        async {
            api.until("both wait", |api| api.snapshot().tickets.len() == 2).await;
            release_all(taken.clone()).await;
        },
    );
    let ((), ()) = (first, second);
    api.until("no ticket is left", |api| api.snapshot().tickets.is_empty()).await;
}

#[tokio::test]
async fn waiters_are_counted_while_they_wait() {
    let api = TestApi::new();
    api.ready_pool(1, 1, 0).await;
    let lease = api.take(json!({})).await;
    let waiter = api.post("/v1/leases", json!({"pool": "app", "wait_seconds": 20}));
    let watcher = async {
        api.until("a caller waits", |api| !api.snapshot().tickets.is_empty()).await;
        api.backend.advance(3.5);
        let pool = api.get("/v1/pools/app").await.expect(200).json;
        assert_eq!((&pool["counts"]["waiting"], &pool["counts"]["leased"]), (&json!(1), &json!(1)));
        assert_eq!(pool["longest_wait_seconds"], 3.5);
        let status = api.get("/v1/status").await.expect(200).json;
        assert_eq!(status["waiters"][0]["wants"], "acquire");
        api.delete(&lease_path(&lease, "")).await.expect(204);
    };
    let (waited, ()) = tokio::join!(waiter, watcher);
    let waited = waited.expect(201).json;
    assert!(waited["waited_seconds"].as_f64().unwrap() > 0.0, "{waited}");
    assert_eq!(waited["database"], "app_gw0");
}
