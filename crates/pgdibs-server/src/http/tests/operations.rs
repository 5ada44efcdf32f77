//! Every operation of `openapi.json`, as a request that would succeed, for tests of authentication and of bodies.

use std::sync::Arc;

use secrecy::SecretString;
use serde_json::{Value, json};

use super::{Answer, Call, TestApi};
use crate::http::Authenticator;
use crate::service::NoSources;

pub(in crate::http) const TOKEN: &str = "correct-horse-battery-staple";

/// Every operation that needs a token, with its variables filled in, and two that do not exist.
pub(in crate::http) fn routes() -> Vec<(&'static str, String)> {
    let variables = [
        ("{pool}", "app"),
        ("{fingerprint}", "v1"),
        ("{id}", "0192d1a0-0000-7000-8000-000000000000"),
        ("{run}", "r1"),
        ("{database}", "app_kept_1"),
    ];
    let filled = |path: &str| variables.iter().fold(path.to_owned(), |path, (name, value)| path.replace(name, value));
    let documented = operations().into_iter().filter(|operation| !operation.open);
    documented
        .map(|operation| (operation.method, filled(&operation.path) + operation.query()))
        .chain([("GET", "/nowhere".to_owned()), ("POST", "/v1/nowhere".to_owned())])
        .collect()
}

/// One method of one path.
#[derive(Debug, Clone)]
pub(in crate::http) struct Operation {
    pub(in crate::http) method: &'static str,
    /// With its variables: `/v1/pools/{pool}`.
    pub(in crate::http) path: String,
    /// Whether it needs no token.
    pub(in crate::http) open: bool,
    /// Whether it takes a body.
    pub(in crate::http) takes_body: bool,
}

impl Operation {
    /// What makes its answer end.
    fn query(&self) -> &'static str {
        match (self.method, self.path.as_str()) {
            ("GET", "/v1/events") => "?follow=false",
            _ => "",
        }
    }
}

/// The document, read from the repository.
pub(in crate::http) fn document() -> Value {
    serde_json::from_str(include_str!("../../../../../api/openapi.json")).unwrap()
}

/// All of them.
pub(in crate::http) fn operations() -> Vec<Operation> {
    let mut found = Vec::new();
    for (path, methods) in document()["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let method = ["get", "put", "post", "delete"].into_iter().find(|known| known == method).unwrap();
            found.push(Operation {
                method: match method {
                    "get" => "GET",
                    "put" => "PUT",
                    "post" => "POST",
                    _ => "DELETE",
                },
                path: path.clone(),
                open: operation["security"] == json!([]),
                takes_body: operation.get("requestBody").is_some(),
            });
        }
    }
    assert!(found.len() >= 29, "{found:#?}");
    found
}

/// An api that wants a token, on which each operation has something to work on.
pub(in crate::http) struct PreparedApi {
    pub(in crate::http) api: TestApi,
    lease: String,
    build_token: String,
}

impl PreparedApi {
    pub(in crate::http) async fn new() -> Self {
        let authenticator = Authenticator { token: Some(SecretString::from(TOKEN)), ..Authenticator::default() };
        let api = TestApi::with(authenticator, Arc::new(NoSources));
        let mut prepared = Self { api, lease: String::new(), build_token: String::new() };
        prepared.make("PUT", "/v1/pools/app", json!({"warm": 2, "max": 4, "spares": 1}), 201).await;
        let template = prepared.make("PUT", "/v1/pools/app/templates/v1", json!({}), 201).await;
        let token = json!({"token": template["build"]["token"]});
        prepared.make("POST", "/v1/pools/app/templates/v1/seal", token, 200).await;
        prepared.api.until("it is warm", |api| api.count("ready") >= 2 && api.count("spare") >= 1).await;
        let acquire_request = json!({"pool": "app", "worker": "gw0"});
        let kept = prepared.make("POST", "/v1/leases", acquire_request.clone(), 201).await;
        let path = format!("/v1/leases/{}", kept["id"].as_str().unwrap());
        prepared.make("POST", &format!("{path}/keep"), json!({}), 200).await;
        prepared.make("DELETE", &path, Value::Null, 204).await;
        let stands = |api: &TestApi| api.backend.databases().values().any(|database| database.name.contains("_kept_"));
        prepared.api.until("a kept one stands apart", stands).await;
        prepared.lease =
            prepared.make("POST", "/v1/leases", acquire_request, 201).await["id"].as_str().unwrap().to_owned();
        let building = prepared.make("PUT", "/v1/pools/app/templates/v2", json!({}), 201).await;
        prepared.build_token = building["build"]["token"].as_str().unwrap().to_owned();
        let rested = |api: &TestApi| api.count("ready") >= 2 && api.count("spare") >= 1 && api.count("retiring") == 0;
        prepared.api.until("it is at rest", rested).await;
        prepared
    }

    async fn make(&self, method: &'static str, path: &str, body: Value, status: u16) -> Value {
        let call = Call::new(method, path).header("authorization", &format!("Bearer {TOKEN}"));
        let call = if body.is_null() { call } else { call.json(&body) };
        self.api.send(call).await.expect(status).json
    }

    /// The path with something that is there for each variable.
    pub(in crate::http) fn path(&self, operation: &Operation) -> String {
        let kept = self.api.backend.databases().into_values().map(|database| database.name);
        let kept = kept.into_iter().find(|name| name.contains("_kept_")).unwrap_or_default();
        let fingerprint = match (operation.method, operation.path.rsplit('/').next()) {
            ("POST", _) => "v2",
            ("PUT", _) => "v3",
            // No lease is from it.
            ("DELETE", _) => "v2",
            _ => "v1",
        };
        let forced =
            if operation.method == "DELETE" && operation.path == "/v1/pools/{pool}" { "?force=true" } else { "" };
        let path = operation.path.replace("{pool}", "app").replace("{fingerprint}", fingerprint);
        let path = path.replace("{id}", &self.lease).replace("{run}", "r1").replace("{database}", &kept);
        format!("{path}{forced}{}", operation.query())
    }

    /// A body that it takes; none when it takes none.
    pub(in crate::http) fn body(&self, operation: &Operation) -> Value {
        let last = operation.path.rsplit('/').next().unwrap();
        match (operation.takes_body, last) {
            (false, _) => Value::Null,
            (true, "seal" | "renew" | "abandon") if operation.path.contains("templates") => {
                json!({"token": self.build_token})
            }
            (true, "leases" | "{run}") => json!({"pool": "app"}),
            (true, "batch") => json!({"leases": [{"pool": "app"}]}),
            (true, _) => json!({}),
        }
    }

    /// The operation as a request without a token.
    pub(in crate::http) fn call(&self, operation: &Operation) -> Call {
        let call = Call::new(operation.method, self.path(operation));
        match self.body(operation) {
            Value::Null => call,
            body => call.json(&body),
        }
    }

    /// The operation with the token.
    pub(in crate::http) async fn send(&self, operation: &Operation) -> Answer {
        self.api.send(self.call(operation).header("authorization", &format!("Bearer {TOKEN}"))).await
    }
}
