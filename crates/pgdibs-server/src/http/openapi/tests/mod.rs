//! `/openapi.json` matches the routes, the codes and the golden answers.

mod generate;

use std::collections::{BTreeMap, BTreeSet};

use axum::http::header;
use pgdibs_testing::fake::FakeBackend;
use serde_json::{Value, json};

use crate::http::routes;
use crate::http::tests::{Call, TestApi};
use pgdibs_api::problem::Code;

/// A path with something harmless for each variable.
fn filled(path: &str) -> String {
    path.split('/').map(|part| if part.starts_with('{') { "x" } else { part }).collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn document_lists_exactly_the_routes() {
    let api = TestApi::new();
    let document = api.get("/openapi.json").await.expect(200).json;
    assert_eq!(document["openapi"], "3.1.0");
    let described: BTreeMap<String, BTreeSet<String>> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys();
            (path.clone(), methods.map(|method| method.to_uppercase()).collect())
        })
        .collect();
    let mut served = BTreeMap::new();
    for (path, _) in routes::<FakeBackend>() {
        // A method that no route takes makes the router say which ones this route takes.
        let refused = api.send(Call::new("TRACE", filled(path))).await.expect(405);
        let methods = refused.headers[header::ALLOW].to_str().unwrap().split(',').filter(|method| *method != "HEAD");
        served.insert(path.to_owned(), methods.map(str::to_owned).collect::<BTreeSet<_>>());
    }
    assert_eq!(described, served);
}

#[tokio::test]
async fn document_lists_exactly_the_codes() {
    let api = TestApi::new();
    let document = api.get("/openapi.json").await.expect(200).json;
    let described = &document["components"]["schemas"]["Code"]["enum"];
    let ours: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(described, &json!(ours));
}

/// Every `$ref` leads somewhere, every variable in a path is declared, every operation has an id of its own.
#[tokio::test]
async fn document_is_consistent() {
    let api = TestApi::new();
    let document = api.get("/openapi.json").await.expect(200).json;
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > 30, "{references:?}");
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    let mut ids = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let used: BTreeSet<&str> =
            path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        for (method, operation) in methods.as_object().unwrap() {
            let declared: BTreeSet<&str> = operation["parameters"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|parameter| parameter["in"] == "path")
                .map(|parameter| parameter["name"].as_str().unwrap())
                .collect();
            assert_eq!(declared, used, "{method} {path}");
            assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{method} {path}");
            assert!(!operation["responses"].as_object().unwrap().is_empty());
        }
    }
}

fn collect<'a>(value: &'a Value, references: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                references.push(reference);
            }
            fields.values().for_each(|value| collect(value, references));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, references)),
        _ => {}
    }
}

/// Golden answers carry exactly the fields that the document describes for them.
#[tokio::test]
async fn document_describes_golden_responses() {
    let api = TestApi::new();
    let document = api.get("/openapi.json").await.expect(200).json;
    for (name, schema) in [
        ("lease_granted", "Lease"),
        ("lease_ended", "Lease"),
        ("pool", "Pool"),
        ("template_ready", "Template"),
        ("template_build", "TemplateBuild"),
        ("runs", "Runs"),
        ("lease_kept", "Kept"),
        ("status", "Status"),
        ("problem_invalid_request", "Problem"),
    ] {
        let path = format!("{}/../../api/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let described = &document["components"]["schemas"][schema];
        let properties: BTreeSet<&String> = described["properties"].as_object().unwrap().keys().collect();
        let fields: BTreeSet<&String> = golden["body"].as_object().unwrap().keys().collect();
        let unknown: Vec<_> = fields.difference(&properties).collect();
        assert!(unknown.is_empty(), "{name}: {schema} does not describe {unknown:?}");
        for required in described["required"].as_array().into_iter().flatten() {
            assert!(fields.contains(&required.as_str().unwrap().to_owned()), "{name} lacks {required}");
        }
    }
}
