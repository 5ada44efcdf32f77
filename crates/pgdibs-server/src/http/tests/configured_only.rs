//! What a template is built from comes from the configuration alone: no request can set or change it.

use serde_json::{Value, json};

use super::operations::{Operation, PreparedApi, document, operations};
use super::{Call, TestApi};
use crate::config::SourceTable;

/// Every name under which a caller could try to send a command.
fn attempts() -> Vec<(String, Value)> {
    let command = json!(["sh", "-c", "touch /tmp/owned"]);
    let mut attempts: Vec<(String, Value)> =
        SourceTable::KEYS.iter().map(|key| (key.name.to_owned(), command.clone())).collect();
    assert!(attempts.iter().any(|(key, _)| key == "command"), "{attempts:?}");
    for key in ["source", "sourced", "owner", "build_command", "cmd", "exec", "shell", "args", "psql", "pools"] {
        attempts.push((key.to_owned(), command.clone()));
        attempts.push((key.to_owned(), json!({"command": command})));
    }
    attempts
}

fn with(body: &Value, key: &str, value: &Value) -> Value {
    let mut body = if body.is_null() { json!({}) } else { body.clone() };
    body.as_object_mut().unwrap().insert(key.to_owned(), value.clone());
    body
}

async fn refusal_of(prepared: &PreparedApi, operation: &Operation, body: &Value) -> String {
    let call = Call::new(operation.method, prepared.path(operation))
        .json(body)
        .header("authorization", &format!("Bearer {}", super::operations::TOKEN));
    prepared.api.send(call).await.problem(400, "invalid_request")
}

#[tokio::test]
async fn request_with_build_command_is_refused() {
    let prepared = PreparedApi::new().await;
    let before = format!("{:#?}", prepared.api.snapshot());
    let mut tried = 0;
    for operation in operations().iter().filter(|operation| operation.takes_body) {
        let body = prepared.body(operation);
        for (key, value) in attempts() {
            let detail = refusal_of(&prepared, operation, &with(&body, &key, &value)).await;
            assert!(detail.starts_with(&format!("{key}: ")), "{operation:?} {key}: {detail}");
            tried += 1;
        }
    }
    let batch = operations().into_iter().find(|operation| operation.path.ends_with("/batch")).unwrap();
    for (key, value) in attempts() {
        let acquire_request = with(&json!({"pool": "app"}), &key, &value);
        let detail = refusal_of(&prepared, &batch, &json!({"leases": [acquire_request]})).await;
        assert!(detail.starts_with(&format!("leases[0].{key}: ")), "{key}: {detail}");
    }
    assert!(tried > 200, "{tried}");
    assert_eq!(format!("{:#?}", prepared.api.snapshot()), before, "nothing has changed");
}

/// A field that is added to a body later must be refused by default, and the document says so.
#[test]
fn document_refuses_unknown_fields_in_every_body() {
    let document = document();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let Some(schema) = operation.pointer("/requestBody/content/application~1json/schema/$ref") else {
                continue;
            };
            let name = schema.as_str().unwrap().rsplit('/').next().unwrap();
            let schema = &document["components"]["schemas"][name];
            assert_eq!(schema["additionalProperties"], false, "{method} {path}: {name}");
            for key in SourceTable::KEYS {
                assert!(schema["properties"].get(key.name).is_none(), "{name} takes {}", key.name);
            }
        }
    }
}

/// The catalog is shared with other daemons, so what is not stored there cannot be changed there either.
#[tokio::test]
async fn pool_shows_that_it_has_source_but_not_which() {
    let api = TestApi::new();
    api.put("/v1/pools/app", json!({})).await.expect(201);
    let pool = api.get("/v1/pools/app").await.expect(200).json;
    assert_eq!(pool["sourced"], false);
    for key in SourceTable::KEYS {
        assert!(pool.get(key.name).is_none(), "{}: {pool}", key.name);
    }
}
