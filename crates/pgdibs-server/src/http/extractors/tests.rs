//! Malformed and hostile input: each error names the field and the rule.

use axum::http::header;
use serde_json::{Value, json};

use crate::http::tests::{Call, TestApi};

/// Sends each body and expects a 400 whose detail starts with the field and contains the rule.
async fn refused(api: &TestApi, method: &'static str, path: &str, cases: &[(Value, &str, &str)]) {
    for (body, field, rule) in cases {
        let answer = api.send(Call::new(method, path).json(body)).await;
        let detail = answer.problem(400, "invalid_request");
        assert!(detail.starts_with(&format!("{field}: ")), "{method} {path} {body}: {detail}");
        assert!(detail.contains(rule), "{method} {path} {body}: {detail}");
    }
}

#[tokio::test]
async fn acquire_refuses_field_out_of_bounds() {
    let api = TestApi::new();
    let long = "x".repeat(201);
    let ttl = "a whole number from 1 to 3600";
    let wait = "a number of seconds from 0 to 600";
    let text = "1 to 200 characters without control characters";
    refused(
        &api,
        "POST",
        "/v1/leases",
        &[
            (json!({}), "body", "missing field `pool`"),
            (json!({"pool": 7}), "pool", "expected a string"),
            (json!({"pool": null}), "pool", "expected a string"),
            (json!({"pool": "My-App"}), "pool", "1 to 40 characters"),
            (json!({"pool": "a\"; drop table x"}), "pool", "1 to 40 characters"),
            (json!({"pool": "é"}), "pool", "1 to 40 characters"),
            (json!({"pool": "a\0"}), "pool", "1 to 40 characters"),
            (json!({"pool": "x".repeat(64)}), "pool", "1 to 40 characters"),
            (json!({"pool": "app", "ttl_seconds": 0}), "ttl_seconds", ttl),
            (json!({"pool": "app", "ttl_seconds": 1_000_000_000_000_u64}), "ttl_seconds", ttl),
            (json!({"pool": "app", "ttl_seconds": -1}), "ttl_seconds", ttl),
            (json!({"pool": "app", "ttl_seconds": 1.5}), "ttl_seconds", ttl),
            (json!({"pool": "app", "ttl_seconds": 0.0}), "ttl_seconds", ttl),
            (json!({"pool": "app", "ttl_seconds": 1e300}), "ttl_seconds", ttl),
            (json!({"pool": "app", "ttl_seconds": "60"}), "ttl_seconds", ttl),
            (json!({"pool": "app", "ttl_seconds": true}), "ttl_seconds", ttl),
            (json!({"pool": "app", "wait_seconds": 600.1}), "wait_seconds", wait),
            (json!({"pool": "app", "wait_seconds": 601}), "wait_seconds", wait),
            (json!({"pool": "app", "wait_seconds": -0.1}), "wait_seconds", wait),
            (json!({"pool": "app", "wait_seconds": 1e300}), "wait_seconds", wait),
            (json!({"pool": "app", "wait_seconds": []}), "wait_seconds", wait),
            (json!({"pool": "app", "run": long}), "run", text),
            (json!({"pool": "app", "run": ""}), "run", text),
            (json!({"pool": "app", "run": "a\0b"}), "run", text),
            (json!({"pool": "app", "worker": "a\nb"}), "worker", text),
            (json!({"pool": "app", "worker": "\u{1b}[2J"}), "worker", text),
            (json!({"pool": "app", "alias": "\u{85}"}), "alias", text),
            (json!({"pool": "app", "holder": long}), "holder", "0 to 200 characters"),
            (json!({"pool": "app", "fingerprint": ""}), "fingerprint", "1 to 200 characters"),
            (json!({"pool": "app", "fingerprint": long}), "fingerprint", "1 to 200 characters"),
            (json!({"pool": "app", "fingerprint": "a\0"}), "fingerprint", "1 to 200 characters"),
            (json!({"pool": "app", "fresh": "yes"}), "fresh", "expected a boolean"),
            (json!({"pool": "app", "via": "nowhere"}), "via", "(compose, default)"),
            (json!({"pool": "app", "Pool": "app"}), "Pool", "unknown field"),
            (json!({"pool": "app", "ttl": 5}), "ttl", "unknown field `ttl`"),
        ],
    )
    .await;
}

#[tokio::test]
async fn batch_error_names_the_lease() {
    let api = TestApi::new();
    let many: Vec<Value> = (0..101).map(|_| json!({"pool": "app"})).collect();
    refused(
        &api,
        "POST",
        "/v1/leases/batch",
        &[
            (json!({}), "body", "missing field `leases`"),
            (json!({"leases": []}), "leases", "must have 1 to 100 entries, not 0"),
            (json!({"leases": many}), "leases", "must have 1 to 100 entries, not 101"),
            (json!({"leases": {"pool": "app"}}), "leases", "expected a sequence"),
            (
                json!({"leases": [{"pool": "app"}, {"pool": "app", "ttl_seconds": 0}]}),
                "leases[1].ttl_seconds",
                "1 to 3600",
            ),
            (json!({"leases": [{"pool": "app", "wait_seconds": 1}]}), "leases[0].wait_seconds", "unknown field"),
            (json!({"leases": [{"pool": "app"}], "fresh": true}), "fresh", "unknown field"),
        ],
    )
    .await;
}

#[tokio::test]
async fn other_routes_refuse_field_out_of_bounds() {
    let api = TestApi::new();
    api.ready_pool(1, 2, 1).await;
    let lease = api.take(json!({})).await;
    let lease = |verb: &str| format!("/v1/leases/{}/{verb}", lease["id"].as_str().unwrap());
    let configured = "configuration file only";
    refused(
        &api,
        "PUT",
        "/v1/pools/app",
        &[
            (json!({"warm": -1}), "warm", "0 to 1000"),
            (json!({"warm": 9}), "warm", "must be 0 to max, which is 2"),
            (json!({"max": 0}), "max", "1 to 1000"),
            (json!({"max": 1001}), "max", "1 to 1000"),
            (json!({"spares": 2.5}), "spares", "0 to 1000"),
            (json!({"strategy": "copy"}), "strategy", "`auto`, `file_copy`, `wal_log`"),
            (json!({"extensions": ["citext", ""]}), "extensions[1]", "1 to 63 characters"),
            (json!({"extensions": ["x".repeat(64)]}), "extensions[0]", "1 to 63 characters"),
            (json!({"roles": ["pg_monitor"]}), "roles[0]", "no role name"),
            (json!({"roles": "app"}), "roles", "expected a sequence"),
            (json!({"keep_templates": 1001}), "keep_templates", "0 to 1000"),
            (json!({"template_max_age_seconds": 1_000_000_000_000_u64}), "template_max_age_seconds", "0 to 315360000"),
            (json!({"owner": "app"}), "owner", configured),
            (json!({"source": {"sql": "db"}}), "source", configured),
            (json!({"sourced": true}), "sourced", configured),
            (json!({"min": 1}), "min", "unknown field"),
        ],
    )
    .await;
    let template = "/v1/pools/app/templates/v1";
    refused(
        &api,
        "PUT",
        template,
        &[
            (json!({"holder": "a\rb"}), "holder", "control characters"),
            (json!({"wait_seconds": 1e9}), "wait_seconds", "0 to 600"),
            (json!({"via": "moon"}), "via", "PGDIBS_ADVERTISE"),
            (json!({"token": "x"}), "token", "unknown field"),
        ],
    )
    .await;
    for verb in ["seal", "renew", "abandon"] {
        refused(
            &api,
            "POST",
            &format!("{template}/{verb}"),
            &[
                (json!({}), "body", "missing field `token`"),
                (json!({"token": 1}), "token", "expected a string"),
                (json!({"token": "x".repeat(201)}), "token", "1 to 200 characters"),
                (json!({"token": "x", "reason": "y"}), "reason", "unknown field"),
            ],
        )
        .await;
    }
    let abandoned = [(json!({"token": "x", "detail": "\0"}), "detail", "without NUL")];
    refused(&api, "POST", &format!("{template}/abandon"), &abandoned).await;
    refused(&api, "POST", &lease("renew"), &[(json!({"ttl_seconds": 3601}), "ttl_seconds", "1 to 3600")]).await;
    refused(
        &api,
        "POST",
        &lease("reset"),
        &[
            (json!({"generation": 0}), "generation", "1 to 2147483647"),
            (json!({"wait_seconds": "1"}), "wait_seconds", "0 to 600"),
        ],
    )
    .await;
    refused(
        &api,
        "POST",
        &lease("keep"),
        &[
            (json!({"seconds": 0}), "seconds", "1 to 604800"),
            (json!({"seconds": 604_801}), "seconds", "1 to 604800"),
            (json!({"reason": "\u{7f}"}), "reason", "control characters"),
        ],
    )
    .await;
    refused(
        &api,
        "PUT",
        "/v1/runs/r",
        &[
            (json!({"workers": 1}), "body", "missing field `pool`"),
            (json!({"pool": "app", "workers": 0}), "workers", "1 to 1000"),
            (json!({"pool": "app", "workers": 1001}), "workers", "1 to 1000"),
            (json!({"pool": "app", "aliases": 101}), "aliases", "1 to 100"),
        ],
    )
    .await;
}

#[tokio::test]
async fn body_that_is_no_object_is_refused() {
    let api = TestApi::new();
    let bomb = format!("{{\"leases\":{}", "[".repeat(30_000));
    let deep = format!("{{\"via\":{}1{}}}", "[".repeat(20_000), "]".repeat(20_000));
    let bodies =
        ["[]", "[\"app\"]", "null", "7", "\"app\"", "{", "{\"pool\":\"app\"", "{\"pool\":\"app\"} x", "{'pool':1}"];
    for body in bodies.into_iter().chain([
        bomb.as_str(),
        deep.as_str(),
        "{\"pool\":\"\\ud800\"}",
        "{\"pool\":\"app\",\"pool\":\"b\"}",
    ]) {
        for path in ["/v1/leases", "/v1/leases/batch"] {
            api.send(Call::new("POST", path).text(body)).await.problem(400, "invalid_request");
        }
    }
    for path in ["/v1/leases", "/v1/leases/batch"] {
        let detail = api.send(Call::new("POST", path)).await.problem(400, "invalid_request");
        assert!(detail.starts_with("body: ") && detail.contains("there is none"), "{detail}");
    }
    let not_text = Call { body: vec![b'{', b'"', 0xff, b'"', b'}'], ..Call::new("POST", "/v1/leases") };
    api.send(not_text.header("content-type", "application/json")).await.problem(400, "invalid_request");
}

/// Clients of a newer version find the name by these texts: the API promises them.
#[tokio::test]
async fn detail_names_unknown_field_and_value() {
    let api = TestApi::new();
    for (method, path, body, text) in [
        ("POST", "/v1/leases", json!({"pool": "app", "news": 1}), "unknown field `news`"),
        ("POST", "/v1/leases/batch", json!({"leases": [{"pool": "app", "news": 1}]}), "unknown field `news`"),
        ("PUT", "/v1/pools/app", json!({"strategy": "news"}), "unknown variant `news`"),
        ("GET", "/v1/leases?news=1", Value::Null, "unknown field `news`"),
        ("GET", "/v1/leases?state=news", Value::Null, "unknown variant `news`"),
    ] {
        let call = Call::new(method, path);
        let answer = api.send(if body.is_null() { call } else { call.json(&body) }).await;
        let detail = answer.problem(400, "invalid_request");
        assert!(detail.contains(text), "{method} {path}: {detail}");
    }
}

#[tokio::test]
async fn path_and_query_out_of_bounds_are_refused() {
    let api = TestApi::new();
    for pool in ["A", "a-b", "%22", "a%00", "%C3%A9", "app;drop", &"x".repeat(64)] {
        let path = format!("/v1/pools/{pool}");
        for call in [Call::new("GET", &path), Call::new("PUT", &path).text("{}"), Call::new("DELETE", &path)] {
            assert!(api.send(call).await.problem(400, "invalid_request").starts_with("pool: "), "{pool}");
        }
    }
    api.get("/v1/pools/%FF").await.problem(400, "invalid_request");
    api.put("/v1/pools/app", json!({"warm": 0})).await.expect(201);
    for fingerprint in ["a%00b", &"x".repeat(201)] {
        let answer = api.put(&format!("/v1/pools/app/templates/{fingerprint}"), json!({})).await;
        assert!(answer.problem(400, "invalid_request").starts_with("fingerprint: "));
    }
    for run in ["%0A", &"r".repeat(201), "%00"] {
        let answer = api.delete(&format!("/v1/runs/{run}")).await;
        assert!(answer.problem(400, "invalid_request").starts_with("run: "));
    }
    for (path, named) in [
        ("/v1/leases?state=gone", "state"),
        ("/v1/leases?pool=A", "pool"),
        ("/v1/leases?run=%00", "run"),
        ("/v1/leases?colour=red", "colour"),
        ("/v1/databases?pol=app", "pol"),
        ("/v1/leases/0192d1a0-0000-7000-8000-000000000000?via=%0A", "via"),
    ] {
        let detail = api.get(path).await.problem(400, "invalid_request");
        assert!(detail.starts_with("query: ") && detail.contains(named), "{path}: {detail}");
    }
    let detail = api.delete("/v1/pools/app?force=maybe").await.problem(400, "invalid_request");
    assert!(detail.contains("force"), "{detail}");
    let detail = api.get("/v1/leases/0192d1a0-0000-7000-8000-000000000000?via=moon").await;
    assert!(detail.problem(400, "invalid_request").starts_with("via: "));
}

#[tokio::test]
async fn fingerprint_run_and_holder_may_be_any_text() {
    let api = TestApi::new();
    api.put("/v1/pools/app", json!({"warm": 1, "max": 4})).await.expect(201);
    for (number, fingerprint) in
        ["a/b?c#d", "'; drop table x; --", "CAPITALS \"quoted\"", "é漢字💥", "..", "a b c", &"x".repeat(200)]
            .into_iter()
            .enumerate()
    {
        let encoded = percent_encoding::utf8_percent_encode(fingerprint, percent_encoding::NON_ALPHANUMERIC);
        api.build(&encoded.to_string()).await;
        let run = format!("{number}/{}", fingerprint.chars().last().unwrap());
        let acquire_request = json!({"fingerprint": fingerprint, "run": run, "worker": "w/\"é", "holder": "💥 '; --"});
        let lease = api.take(acquire_request).await;
        assert_eq!(lease["fingerprint"], fingerprint);
        assert_eq!(lease["run"], run.as_str());
        assert_eq!((&lease["worker"], &lease["holder"]), (&json!("w/\"é"), &json!("💥 '; --")));
        let encoded = percent_encoding::utf8_percent_encode(&run, percent_encoding::NON_ALPHANUMERIC);
        let listed = api.get(&format!("/v1/leases?run={encoded}")).await.expect(200);
        assert_eq!(listed.json["leases"].as_array().unwrap().len(), 1);
        let ended = api.delete(&format!("/v1/runs/{encoded}")).await.expect(200);
        assert_eq!(ended.json, json!({"released": 1}));
    }
}

#[tokio::test]
async fn wrong_method_media_type_or_size_is_refused() {
    let api = TestApi::new();
    for (path, allowed) in [
        ("/v1/leases", "GET,HEAD,POST"),
        ("/v1/pools/app", "GET,HEAD,PUT,DELETE"),
        ("/v1/leases/batch", "POST"),
        ("/v1/runs/r", "PUT,DELETE"),
        ("/v1/runs/r/report", "POST"),
        ("/livez", "GET,HEAD"),
    ] {
        let refused = api.send(Call::new("PATCH", path)).await;
        assert_eq!(refused.headers[header::ALLOW], allowed, "{path}");
        refused.problem(405, "method_not_allowed");
    }
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx", ""] {
        let call = Call::new("POST", "/v1/leases").text("{\"pool\":\"app\"}").header("content-type", kind);
        api.send(call).await.problem(415, "unsupported_media_type");
    }
    let call = Call::new("POST", "/v1/leases").text("{\"pool\":\"app\"}");
    api.send(call.header("content-type", "Application/JSON; charset=utf-8")).await.problem(404, "pool_not_found");
    let text = format!("{{\"pool\":\"app\",\"holder\":\"{}\"}}", "x".repeat(64 * 1024));
    let detail = api.send(Call::new("POST", "/v1/leases").text(&text)).await.problem(413, "body_too_large");
    assert!(detail.contains("64 KiB"), "{detail}");
}
