//! Templates: one caller builds, the others wait.

use serde_json::json;

use crate::http::tests::{TestApi, connect};

#[tokio::test]
async fn template_is_built_by_one_caller_while_others_wait() {
    let api = TestApi::new();
    api.put("/v1/pools/app", json!({"warm": 1})).await.expect(201);
    let path = "/v1/pools/app/templates/v1";
    let begun = api.put(path, json!({"holder": "ci-7/controller", "via": "compose"})).await.expect(201).json;
    assert_eq!(begun["state"], "building");
    let build = &begun["build"];
    let url = build["url"].as_str().unwrap();
    assert!(url.starts_with("postgresql://pgdibs_l_") && url.contains("@[fd00::5]:6000/app_build_"), "{url}");
    connect(&api, build).expect("the builder gets in");

    let second = api.put(path, json!({"wait_seconds": 0.02})).await.expect(202);
    assert_eq!((&second.json["state"], &second.json["holder"]), (&json!("building"), &json!("ci-7/controller")));
    assert!(second.json["since"].is_string() && second.json.get("build").is_none());
    assert_eq!(second.headers["retry-after"], "1");

    let token = json!({"token": build["token"]});
    api.post(&format!("{path}/renew"), token.clone()).await.expect(200);
    let waiter = api.put(path, json!({"wait_seconds": 20}));
    let seal_path = format!("{path}/seal");
    let seal = api.post(&seal_path, token.clone());
    let (waited, sealed) = tokio::join!(waiter, seal);
    let sealed = sealed.expect(200).json;
    assert_eq!(waited.expect(200).json["database"], sealed["database"]);
    assert!(sealed["database"].as_str().unwrap().starts_with("app_template_"), "{sealed}");
    // Repeated with the same token: the same answer.
    let again = api.post(&format!("{path}/seal"), token).await.expect(200).json;
    assert_eq!((&again["state"], &again["database"]), (&sealed["state"], &sealed["database"]));
    assert_eq!(api.get(path).await.expect(200).json["state"], "ready");
    api.delete(path).await.expect(204);
    api.post("/v1/leases", json!({"pool": "app", "fingerprint": "v1"})).await.problem(404, "template_not_found");
}

#[tokio::test]
async fn abandoned_build_goes_to_next_caller() {
    let api = TestApi::new();
    api.put("/v1/pools/app", json!({"warm": 1})).await.expect(201);
    let path = "/v1/pools/app/templates/v1";
    let first = api.put(path, json!({})).await.expect(201).json;
    let token = first["build"]["token"].clone();
    let given_up = json!({"token": token, "detail": "psql: error\n  line 2"});
    api.post(&format!("{path}/abandon"), given_up).await.expect(204);
    let log = json!({"pool": "app", "fingerprint": "v1", "state": "failed", "log": "psql: error\n  line 2"});
    assert_eq!(api.get(&format!("{path}/log")).await.expect(200).json, log);
    api.get("/v1/pools/app/templates/v2/log").await.problem(404, "template_not_found");
    api.post(&format!("{path}/seal"), json!({"token": token})).await.problem(409, "build_token_stale");
    let second = api.put(path, json!({})).await.expect(201).json;
    assert_ne!(second["build"]["token"], token);
}

/// The daemon says which inputs have changed since the template before, to the builder and to everybody later.
#[tokio::test]
async fn template_names_inputs_that_changed_since_the_one_before() {
    let api = TestApi::new();
    api.put("/v1/pools/app", json!({"warm": 0})).await.expect(201);
    let build = async |fingerprint: &str, inputs: serde_json::Value| {
        let path = format!("/v1/pools/app/templates/{fingerprint}");
        let begun = api.put(&path, json!({"fingerprint_inputs": inputs})).await.expect(201).json;
        api.post(&format!("{path}/seal"), json!({"token": begun["build"]["token"]})).await.expect(200);
        begun["input_changes"].clone()
    };
    assert_eq!(build("v1", json!({"0041.sql": "a", "0042.sql": "b"})).await, json!(null));
    let changes = json!({"since": "v1", "changed": ["0042.sql"], "added": ["0043.sql"], "removed": [], "more": 0});
    assert_eq!(build("v2", json!({"0041.sql": "a", "0042.sql": "c", "0043.sql": "d"})).await, changes);
    assert_eq!(api.get("/v1/pools/app/templates/v2").await.expect(200).json["input_changes"], changes);
    // A caller that finds the template changes nothing.
    api.put("/v1/pools/app/templates/v2", json!({"fingerprint_inputs": {"other": "x"}})).await.expect(200);
    let pool = api.get("/v1/pools/app").await.expect(200).json;
    assert_eq!(pool["templates"][1]["input_changes"], changes, "{pool}");
}
