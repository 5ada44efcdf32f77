//! What the routes do: pools, templates, leases, runs and kept databases from the first call to the last.

use pgdibs_core::lease::Credentials;
use serde_json::{Value, json};

use super::{Call, Edge};

fn lease_path(lease: &Value, verb: &str) -> String {
    format!("/v1/leases/{}{verb}", lease["id"].as_str().unwrap())
}

/// Logs in with what a lease handed out.
fn enters(edge: &Edge, lease: &Value) -> Result<pgdibs_testing::fake::Session, String> {
    let text = |field: &str| lease[field].as_str().unwrap();
    edge.backend.connect(&credentials(text("user"), text("password")), text("database"))
}

fn credentials(user: &str, password: &str) -> Credentials {
    Credentials { user: user.to_owned(), password: password.into() }
}

#[tokio::test]
async fn a_pool_is_made_changed_shown_and_dropped() {
    let edge = Edge::new();
    let made =
        edge.put("/v1/pools/app", json!({"warm": 2, "max": 5, "roles": ["reporting"], "extensions": ["citext"]}));
    let made = made.await.expect(201).json;
    assert_eq!((&made["warm"], &made["max"], &made["spares"]), (&json!(2), &json!(5), &json!(2)));
    let changed = edge.put("/v1/pools/app", json!({"max": 6, "strategy": "wal_log"})).await.expect(200).json;
    assert_eq!((&changed["warm"], &changed["max"]), (&json!(2), &json!(6)));
    assert_eq!((&changed["strategy"], &changed["roles"]), (&json!("wal_log"), &json!(["reporting"])));
    assert_eq!(edge.get("/v1/pools/app").await.expect(200).json, changed);
    // Without a body nothing changes.
    assert_eq!(edge.send(Call::new("PUT", "/v1/pools/app")).await.expect(200).json, changed);
    assert_eq!(edge.get("/v1/pools").await.expect(200).json, json!({"pools": [changed]}));
    let gone = edge.delete("/v1/pools/app").await.expect(204);
    assert_eq!(gone.text, "");
    edge.until("the pool is gone", |edge| edge.snapshot().pools.is_empty()).await;
    edge.delete("/v1/pools/app").await.problem(404, "pool_not_found");
}

#[tokio::test]
async fn dropping_a_pool_by_force_revokes_its_leases() {
    let edge = Edge::new();
    edge.ready_pool(1, 2, 0).await;
    let lease = edge.take(json!({})).await;
    edge.delete("/v1/pools/app?force=false").await.problem(409, "pool_in_use");
    edge.delete("/v1/pools/app?force=true").await.expect(204);
    let ended = edge.get(&lease_path(&lease, "")).await.expect(200).json;
    assert_eq!((&ended["state"], ended.get("password")), (&json!("revoked"), None));
    edge.until("its login is dead", |edge| enters(edge, &lease).is_err()).await;
}

#[tokio::test]
async fn one_builds_and_the_others_wait() {
    let edge = Edge::new();
    edge.put("/v1/pools/app", json!({"warm": 1})).await.expect(201);
    let path = "/v1/pools/app/templates/v1";
    let begun = edge.put(path, json!({"holder": "ci-7/controller", "via": "compose"})).await.expect(201).json;
    assert_eq!(begun["state"], "building");
    let build = &begun["build"];
    let url = build["url"].as_str().unwrap();
    assert!(url.starts_with("postgresql://pgdibs_l_") && url.contains("@[fd00::5]:6000/app_build_"), "{url}");
    enters(&edge, build).expect("the builder gets in");

    let second = edge.put(path, json!({"wait_seconds": 0.02})).await.expect(202);
    assert_eq!((&second.json["state"], &second.json["holder"]), (&json!("building"), &json!("ci-7/controller")));
    assert!(second.json["since"].is_string() && second.json.get("build").is_none());
    assert_eq!(second.headers["retry-after"], "1");

    let token = json!({"token": build["token"]});
    edge.post(&format!("{path}/renew"), token.clone()).await.expect(200);
    let waiter = edge.put(path, json!({"wait_seconds": 20}));
    let seal_path = format!("{path}/seal");
    let seal = edge.post(&seal_path, token.clone());
    let (waited, sealed) = tokio::join!(waiter, seal);
    let sealed = sealed.expect(200).json;
    assert_eq!(waited.expect(200).json["database"], sealed["database"]);
    assert!(sealed["database"].as_str().unwrap().starts_with("app_template_"), "{sealed}");
    // Repeated with the same token: the same answer.
    let again = edge.post(&format!("{path}/seal"), token).await.expect(200).json;
    assert_eq!((&again["state"], &again["database"]), (&sealed["state"], &sealed["database"]));
    assert_eq!(edge.get(path).await.expect(200).json["state"], "ready");
    edge.delete(path).await.expect(204);
    edge.post("/v1/leases", json!({"pool": "app", "fingerprint": "v1"})).await.problem(404, "template_not_found");
}

#[tokio::test]
async fn an_abandoned_build_goes_to_the_next_one_who_asks() {
    let edge = Edge::new();
    edge.put("/v1/pools/app", json!({"warm": 1})).await.expect(201);
    let path = "/v1/pools/app/templates/v1";
    let first = edge.put(path, json!({})).await.expect(201).json;
    let token = first["build"]["token"].clone();
    let given_up = json!({"token": token, "detail": "psql: error\n  line 2"});
    edge.post(&format!("{path}/abandon"), given_up).await.expect(204);
    edge.post(&format!("{path}/seal"), json!({"token": token})).await.problem(409, "build_token_stale");
    let second = edge.put(path, json!({})).await.expect(201).json;
    assert_ne!(second["build"]["token"], token);
}

#[tokio::test]
async fn a_lease_lives_from_acquire_to_release() {
    let edge = Edge::new();
    edge.ready_pool(2, 4, 2).await;
    let acquire_request =
        json!({"pool": "app", "run": "r", "worker": "gw1", "holder": "me", "ttl_seconds": 90, "via": "compose"});
    let lease = edge.post("/v1/leases", acquire_request.clone()).await.expect(201).json;
    assert_eq!((&lease["database"], &lease["slot"], &lease["state"]), (&json!("app_gw1"), &json!(1), &json!("live")));
    assert_eq!((&lease["host"], &lease["port"]), (&json!("fd00::5"), &json!(6000)));
    assert_eq!((&lease["ttl_seconds"], &lease["renew_after_seconds"]), (&json!(90), &json!(30.0)));
    assert_eq!((&lease["generation"], &lease["alias"]), (&json!(1), &json!("default")));
    let session = enters(&edge, &lease).expect("the holder gets in");

    // The same key gets the same lease, credentials and all.
    let again = edge.post("/v1/leases", acquire_request).await.expect(200).json;
    for field in ["id", "url", "password", "generation"] {
        assert_eq!(again[field], lease[field], "{field}");
    }
    let other = edge.take(json!({"run": "r", "worker": "gw1", "alias": "second"})).await;
    assert_ne!(other["id"], lease["id"]);

    edge.backend.advance(30.0);
    let renewed = edge.post(&lease_path(&lease, "/renew"), json!({"ttl_seconds": 120})).await.expect(200).json;
    assert_eq!((&renewed["ttl_seconds"], &renewed["expires_at"]), (&json!(120), &json!("1970-01-01T00:02:30.000000Z")));
    assert_eq!(renewed["host"], "127.0.0.1", "the default address, unless `via` says otherwise");
    let seen = edge.get(&lease_path(&lease, "?via=compose")).await.expect(200).json;
    assert_eq!(seen["url"], lease["url"]);

    let listed = edge.get("/v1/leases?pool=app&run=r&state=live").await.expect(200);
    assert_eq!(listed.json["leases"].as_array().unwrap().len(), 2);
    for secret in [lease["password"].as_str().unwrap(), "postgresql://"] {
        for path in ["/v1/leases", "/v1/status", "/v1/databases", "/v1/pools"] {
            assert!(!edge.get(path).await.expect(200).text.contains(secret), "{path} shows credentials");
        }
    }
    assert_eq!(edge.get("/v1/leases?run=other").await.expect(200).json, json!({"leases": []}));

    edge.delete(&lease_path(&lease, "")).await.expect(204);
    edge.delete(&lease_path(&lease, "")).await.expect(204);
    let ended = edge.get(&lease_path(&lease, "")).await.expect(200).json;
    assert_eq!(ended["state"], "released");
    assert_eq!((&ended["ended_reason"], ended.get("url")), (&json!("released by its holder"), None));
    assert!(ended["ended_at"].is_string());
    edge.until("the used database is gone", |edge| edge.count("retiring") == 0).await;
    assert!(!edge.backend.is_connected(session));
    assert!(enters(&edge, &lease).is_err());
}

#[tokio::test]
async fn a_reset_brings_a_clean_database_under_the_same_url() {
    let edge = Edge::new();
    edge.ready_pool(1, 2, 1).await;
    let lease = edge.take(json!({"run": "r", "worker": "gw0"})).await;
    let session = enters(&edge, &lease).unwrap();
    edge.backend.write(session, "dirt").unwrap();
    let reset = edge.post(&lease_path(&lease, "/reset"), json!({"generation": 1})).await.expect(200).json;
    assert_eq!((&reset["id"], &reset["url"], &reset["generation"]), (&lease["id"], &lease["url"], &json!(2)));
    let session = enters(&edge, &lease).expect("the same credentials still work");
    assert!(!edge.backend.read(session).unwrap().contains(&"dirt".to_owned()));
    let repeated = edge.post(&lease_path(&lease, "/reset"), json!({"generation": 1})).await.expect(200).json;
    assert_eq!(repeated["generation"], 2, "a repeated call does not reset twice");
    let without_body = edge.send(Call::new("POST", lease_path(&lease, "/reset"))).await.expect(200).json;
    assert_eq!(without_body["generation"], 3);

    let fresh = json!({"pool": "app", "run": "r", "worker": "gw0", "fresh": true});
    let fresh = edge.post("/v1/leases", fresh).await.expect(200).json;
    assert_eq!((&fresh["id"], &fresh["generation"]), (&lease["id"], &json!(4)));
    let new = edge.take(json!({"run": "r", "worker": "gw1", "fresh": true})).await;
    assert_eq!(new["generation"], 1, "a new lease is fresh already");
}

#[tokio::test]
async fn a_batch_is_all_or_none() {
    let edge = Edge::new();
    edge.ready_pool(3, 3, 0).await;
    let acquire_request = |worker: &str| json!({"pool": "app", "run": "r", "worker": worker});
    let three =
        json!({"leases": [acquire_request("gw0"), acquire_request("gw1"), acquire_request("gw2")], "wait_seconds": 5});
    let taken = edge.post("/v1/leases/batch", three.clone()).await.expect(201).json;
    let names = |answer: &Value| -> Vec<String> {
        let leases = answer["leases"].as_array().unwrap().iter();
        leases.map(|lease| lease["database"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&taken), ["app_gw0", "app_gw1", "app_gw2"]);
    assert_eq!(names(&edge.post("/v1/leases/batch", three).await.expect(200).json), names(&taken));
    edge.delete(&lease_path(&taken["leases"][0], "")).await.expect(204);
    edge.until("one is ready again", |edge| edge.count("ready") == 1).await;
    let two = json!({"leases": [{"pool": "app"}, {"pool": "app"}], "wait_seconds": 0});
    edge.post("/v1/leases/batch", two).await.problem(503, "pool_exhausted");
    assert_eq!(edge.snapshot().leases.len(), 2, "none was taken");
}

/// Regression: a batch over several pools waited for databases of the first alone, and of the others none was made.
#[tokio::test]
async fn batch_over_two_empty_pools_is_served() {
    let edge = Edge::new();
    for pool in ["app", "other"] {
        edge.put(&format!("/v1/pools/{pool}"), json!({"warm": 0, "max": 1, "spares": 0})).await.expect(201);
        edge.build_in(pool, "v1").await;
    }
    let both = json!({"leases": [{"pool": "app"}, {"pool": "other"}], "wait_seconds": 10});
    let taken = edge.post("/v1/leases/batch", both.clone()).await.expect(201).json;
    assert_eq!(
        (&taken["leases"][0]["database"], &taken["leases"][1]["database"]),
        (&json!("app_gw0"), &json!("other_gw0"))
    );

    // Two that begin with another pool each do not wait for each other.
    let reversed = json!({"leases": [{"pool": "other"}, {"pool": "app"}], "wait_seconds": 10});
    let release_all = async |answer: Value| {
        for lease in answer["leases"].as_array().unwrap() {
            edge.delete(&format!("/v1/leases/{}", lease["id"].as_str().unwrap())).await.expect(204);
        }
    };
    let (first, second, ()) = tokio::join!(
        async { release_all(edge.post("/v1/leases/batch", both).await.expect(201).json).await },
        async { release_all(edge.post("/v1/leases/batch", reversed).await.expect(201).json).await },
        async {
            edge.until("both wait", |edge| edge.snapshot().tickets.len() == 2).await;
            release_all(taken.clone()).await;
        },
    );
    let ((), ()) = (first, second);
    edge.until("no ticket is left", |edge| edge.snapshot().tickets.is_empty()).await;
}

#[tokio::test]
async fn a_kept_database_outlives_its_lease_until_it_is_given_up() {
    let edge = Edge::new();
    edge.ready_pool(1, 2, 1).await;
    let lease = edge.take(json!({})).await;
    let session = enters(&edge, &lease).unwrap();
    edge.backend.write(session, "evidence").unwrap();
    let keep = json!({"seconds": 60, "reason": "test_x failed"});
    let kept = edge.post(&lease_path(&lease, "/keep?via=compose"), keep).await.expect(200).json;
    let name = kept["kept_database"].as_str().unwrap().to_owned();
    let url = kept["kept_url"].as_str().unwrap();
    assert!(url.contains("@[fd00::5]:6000/app_kept_"), "{url}");
    assert_eq!(kept["kept_until"], "1970-01-01T00:01:00.000000Z");
    edge.delete(&lease_path(&lease, "")).await.expect(204);
    edge.until("it stands under its own name", |edge| edge.backend.databases().values().any(|d| d.name == name)).await;
    let userinfo = url.strip_prefix("postgresql://").unwrap().split('@').next().unwrap();
    let (user, password) = userinfo.split_once(':').unwrap();
    let session = edge.backend.connect(&credentials(user, password), &name).expect("its own login gets in");
    assert!(edge.backend.read(session).unwrap().contains(&"evidence".to_owned()));

    let listed = edge.get("/v1/databases?pool=app").await.expect(200).json;
    let found = listed["databases"].as_array().unwrap().iter().find(|d| d["database"] == name.as_str()).unwrap();
    assert_eq!((&found["state"], &found["reason"]), (&json!("kept"), &json!("test_x failed")));
    assert_eq!(found["kept_until"], kept["kept_until"]);
    edge.delete(&format!("/v1/databases/{name}")).await.expect(204);
    edge.until("it is gone", |edge| edge.backend.databases().values().all(|d| d.name != name)).await;
    edge.delete(&format!("/v1/databases/{name}")).await.problem(404, "database_not_found");
}

#[tokio::test]
async fn an_announced_run_warms_the_pool_and_ends_with_all_it_holds() {
    let edge = Edge::new();
    edge.ready_pool(1, 8, 0).await;
    let announced = edge.put("/v1/runs/r", json!({"pool": "app", "workers": 3, "aliases": 2})).await.expect(200);
    assert_eq!(announced.json, json!({"run": "r", "pool": "app", "fingerprint": null, "workers": 3, "aliases": 2}));
    edge.until("six stand ready", |edge| edge.count("ready") >= 6).await;
    for worker in 0..4 {
        edge.take(json!({"run": "r", "worker": format!("gw{worker}")})).await;
    }
    let other = edge.take(json!({"run": "other"})).await;
    assert_eq!(edge.delete("/v1/runs/r").await.expect(200).json, json!({"released": 4}));
    assert_eq!(edge.delete("/v1/runs/r").await.expect(200).json, json!({"released": 0}));
    assert_eq!(edge.delete("/v1/runs/never-heard-of").await.expect(200).json, json!({"released": 0}));
    let live = edge.get("/v1/leases").await.expect(200).json;
    assert_eq!(live["leases"].as_array().unwrap().len(), 1);
    assert_eq!(live["leases"][0]["id"], other["id"]);
}

#[tokio::test]
async fn waiters_are_counted_while_they_wait() {
    let edge = Edge::new();
    edge.ready_pool(1, 1, 0).await;
    let lease = edge.take(json!({})).await;
    let waiter = edge.post("/v1/leases", json!({"pool": "app", "wait_seconds": 20}));
    let watcher = async {
        edge.until("somebody waits", |edge| !edge.snapshot().tickets.is_empty()).await;
        edge.backend.advance(3.5);
        let pool = edge.get("/v1/pools/app").await.expect(200).json;
        assert_eq!((&pool["counts"]["waiting"], &pool["counts"]["leased"]), (&json!(1), &json!(1)));
        assert_eq!(pool["longest_wait_seconds"], 3.5);
        let status = edge.get("/v1/status").await.expect(200).json;
        assert_eq!(status["waiters"][0]["wants"], "acquire");
        edge.delete(&lease_path(&lease, "")).await.expect(204);
    };
    let (waited, ()) = tokio::join!(waiter, watcher);
    let waited = waited.expect(201).json;
    assert!(waited["waited_seconds"].as_f64().unwrap() > 0.0, "{waited}");
    assert_eq!(waited["database"], "app_gw0");
}
