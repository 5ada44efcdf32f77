//! The shapes of the answers, as golden files in `api/`; the Python client's tests read the same files.
//!
//! `PGDIBS_WRITE_GOLDEN=1 cargo nextest run --workspace --locked -E 'test(golden)'` writes them again; read the difference before committing it.

use serde_json::{Value, json};

use super::{Answer, Call, TestApi};

/// Fields whose values differ from run to run; only their type is compared.
const VARYING: [&str; 10] =
    ["id", "lease", "password", "token", "url", "kept_url", "waited_seconds", "wait_p95_seconds", "oid", "ticket"];

/// Fields that end in a number of the catalog; compared without it.
const NUMBERED: [&str; 3] = ["user", "database", "kept_database"];

fn check(name: &str, call: &Value, answer: &Answer) {
    let path = format!("{}/../../api/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let ours = json!({"request": call, "status": answer.status.as_u16(), "body": answer.json});
    if std::env::var_os("PGDIBS_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, format!("{ours:#}\n")).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let golden: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(golden["status"], ours["status"], "{name}: {ours:#}");
    same(name, "", &golden["body"], &ours["body"]);
}

fn same(at: &str, field: &str, golden: &Value, ours: &Value) {
    match (golden, ours) {
        (Value::Object(golden), Value::Object(ours)) => {
            let (left, right): (Vec<_>, Vec<_>) = (golden.keys().collect(), ours.keys().collect());
            assert_eq!(left, right, "fields of {at}");
            for (field, value) in golden {
                same(&format!("{at}.{field}"), field, value, &ours[field]);
            }
        }
        (Value::Array(golden), Value::Array(ours)) => {
            assert_eq!(golden.len(), ours.len(), "entries of {at}");
            for (number, (golden, ours)) in golden.iter().zip(ours).enumerate() {
                same(&format!("{at}[{number}]"), field, golden, ours);
            }
        }
        (golden, ours) if VARYING.contains(&field) => {
            assert_eq!(std::mem::discriminant(golden), std::mem::discriminant(ours), "{at}: {golden} and {ours}");
        }
        (Value::String(golden), Value::String(ours)) if field == "detail" => {
            let plain = |text: &str| -> Vec<String> {
                let words = text.split(' ').map(|word| if uuid::Uuid::parse_str(word).is_ok() { "{id}" } else { word });
                words.map(str::to_owned).collect()
            };
            assert_eq!(plain(golden), plain(ours), "{at}");
        }
        (Value::String(golden), Value::String(ours)) if NUMBERED.contains(&field) => {
            let plain = |text: &str| text.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
            assert_eq!(plain(golden), plain(ours), "{at}");
        }
        (golden, ours) => assert_eq!(golden, ours, "{at}"),
    }
}

/// Sends a request and compares its answer with `api/<name>.json`.
async fn golden(api: &TestApi, name: &str, method: &'static str, path: &str, body: Value) -> Value {
    let call = Call::new(method, path);
    let answer = api.send(if body.is_null() { call } else { call.json(&body) }).await;
    let shown: String = path
        .split('/')
        .map(|part| if uuid::Uuid::parse_str(part).is_ok() { "{id}" } else { part })
        .collect::<Vec<_>>()
        .join("/");
    check(name, &json!({"method": method, "path": shown, "body": body}), &answer);
    answer.json
}

#[tokio::test]
async fn responses_have_golden_shapes() {
    let api = TestApi::new();
    let pool = json!({"warm": 2, "max": 4, "spares": 1, "extensions": ["citext"], "roles": ["reporting"]});
    golden(&api, "pool_put", "PUT", "/v1/pools/app", pool).await;
    let path = "/v1/pools/app/templates/v1";
    let build = golden(&api, "template_build", "PUT", path, json!({"holder": "ci-7/controller"})).await;
    golden(&api, "template_building", "PUT", path, json!({"wait_seconds": 0})).await;
    let token = json!({"token": build["build"]["token"]});
    let sealed = api.post(&format!("{path}/seal"), token).await.expect(200);
    check(
        "template_sealed",
        &json!({"method": "POST", "path": format!("{path}/seal"), "body": {"token": "…"}}),
        &sealed,
    );
    golden(&api, "template_ready", "PUT", path, json!({})).await;
    let rest = |ready: usize, spare: usize| {
        move |api: &TestApi| {
            api.count("ready") == ready
                && api.count("spare") == spare
                && api.count("creating") == 0
                && api.count("retiring") == 0
        }
    };
    api.until("the pool is warm", rest(2, 1)).await;

    golden(&api, "run_put", "PUT", "/v1/runs/7f3c", json!({"pool": "app", "workers": 2})).await;
    let acquire_request = json!({"pool": "app", "fingerprint": "v1", "run": "7f3c", "worker": "gw0", "holder": "ci-7/pid 4312/gw0", "ttl_seconds": 60});
    let lease = golden(&api, "lease_granted", "POST", "/v1/leases", acquire_request.clone()).await;
    golden(&api, "lease_existing", "POST", "/v1/leases", acquire_request).await;
    let id = lease["id"].as_str().unwrap();
    golden(&api, "lease", "GET", &format!("/v1/leases/{id}"), Value::Null).await;
    golden(&api, "leases", "GET", "/v1/leases", Value::Null).await;
    golden(&api, "lease_renewed", "POST", &format!("/v1/leases/{id}/renew"), json!({"ttl_seconds": 30})).await;
    golden(&api, "lease_reset", "POST", &format!("/v1/leases/{id}/reset"), json!({"generation": 1})).await;
    golden(
        &api,
        "lease_kept",
        "POST",
        &format!("/v1/leases/{id}/keep"),
        json!({"seconds": 60, "reason": "test_x failed"}),
    )
    .await;
    api.until("the pool is at rest", |api| rest(1, 1)(api) || rest(2, 1)(api)).await;
    golden(&api, "pool", "GET", "/v1/pools/app", Value::Null).await;
    golden(&api, "databases", "GET", "/v1/databases", Value::Null).await;
    golden(&api, "status", "GET", "/v1/status", Value::Null).await;
    api.delete(&format!("/v1/leases/{id}")).await.expect(204);
    golden(&api, "lease_ended", "GET", &format!("/v1/leases/{id}"), Value::Null).await;
    golden(&api, "problem_lease_ended", "POST", &format!("/v1/leases/{id}/renew"), Value::Null).await;
    let batch = json!({"leases": [{"pool": "app", "worker": "gw1"}], "wait_seconds": 10});
    golden(&api, "lease_batch", "POST", "/v1/leases/batch", batch).await;
    golden(&api, "run_delete", "DELETE", "/v1/runs/7f3c", Value::Null).await;
    golden(&api, "problem_invalid_request", "POST", "/v1/leases", json!({"pool": "app", "ttl_seconds": 0})).await;
}
