//! Every operation of `openapi.json`, as a request that would succeed: what the tests of the door and of the bodies go through.

use std::sync::Arc;

use secrecy::SecretString;
use serde_json::{Value, json};

use super::{Answer, Call, Edge};
use crate::http::Authenticator;
use crate::service::NoSources;

pub(super) const TOKEN: &str = "correct-horse-battery-staple";

/// One method of one path.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    pub(super) method: &'static str,
    /// With its variables: `/v1/pools/{pool}`.
    pub(super) path: String,
    /// Whether it needs no token.
    pub(super) open: bool,
    /// Whether it takes a body.
    pub(super) takes_body: bool,
}

/// The document, read from the repository.
pub(super) fn document() -> Value {
    serde_json::from_str(include_str!("../../../../../api/openapi.json")).unwrap()
}

/// All of them.
pub(super) fn operations() -> Vec<Operation> {
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

/// An edge that wants a token, on which each operation has something to work on.
pub(super) struct Furnished {
    pub(super) edge: Edge,
    lease: String,
    build_token: String,
}

impl Furnished {
    pub(super) async fn new() -> Self {
        let authenticator = Authenticator { token: Some(SecretString::from(TOKEN)), ..Authenticator::default() };
        let edge = Edge::with(authenticator, Arc::new(NoSources));
        let mut furnished = Self { edge, lease: String::new(), build_token: String::new() };
        furnished.make("PUT", "/v1/pools/app", json!({"warm": 2, "max": 4, "spares": 1}), 201).await;
        let template = furnished.make("PUT", "/v1/pools/app/templates/v1", json!({}), 201).await;
        let token = json!({"token": template["build"]["token"]});
        furnished.make("POST", "/v1/pools/app/templates/v1/seal", token, 200).await;
        furnished.edge.until("it is warm", |edge| edge.count("ready") >= 2 && edge.count("spare") >= 1).await;
        let acquire_request = json!({"pool": "app", "worker": "gw0"});
        let kept = furnished.make("POST", "/v1/leases", acquire_request.clone(), 201).await;
        let path = format!("/v1/leases/{}", kept["id"].as_str().unwrap());
        furnished.make("POST", &format!("{path}/keep"), json!({}), 200).await;
        furnished.make("DELETE", &path, Value::Null, 204).await;
        let stands = |edge: &Edge| edge.backend.databases().values().any(|database| database.name.contains("_kept_"));
        furnished.edge.until("a kept one stands apart", stands).await;
        furnished.lease =
            furnished.make("POST", "/v1/leases", acquire_request, 201).await["id"].as_str().unwrap().to_owned();
        let building = furnished.make("PUT", "/v1/pools/app/templates/v2", json!({}), 201).await;
        furnished.build_token = building["build"]["token"].as_str().unwrap().to_owned();
        let rested = |edge: &Edge| edge.count("ready") >= 2 && edge.count("spare") >= 1 && edge.count("retiring") == 0;
        furnished.edge.until("it is at rest", rested).await;
        furnished
    }

    async fn make(&self, method: &'static str, path: &str, body: Value, status: u16) -> Value {
        let call = Call::new(method, path).header("authorization", &format!("Bearer {TOKEN}"));
        let call = if body.is_null() { call } else { call.json(&body) };
        self.edge.send(call).await.expect(status).json
    }

    /// The path with something that is there for each variable.
    pub(super) fn path(&self, operation: &Operation) -> String {
        let kept = self.edge.backend.databases().into_values().map(|database| database.name);
        let kept = kept.into_iter().find(|name| name.contains("_kept_")).unwrap_or_default();
        let fingerprint = match (operation.method, operation.path.rsplit('/').next()) {
            ("POST", _) => "v2",
            ("PUT", _) => "v3",
            // Nobody leases from it.
            ("DELETE", _) => "v2",
            _ => "v1",
        };
        let forced =
            if operation.method == "DELETE" && operation.path == "/v1/pools/{pool}" { "?force=true" } else { "" };
        let path = operation.path.replace("{pool}", "app").replace("{fingerprint}", fingerprint);
        let path = path.replace("{id}", &self.lease).replace("{run}", "r1").replace("{database}", &kept);
        format!("{path}{forced}")
    }

    /// A body that it takes; none when it takes none.
    pub(super) fn body(&self, operation: &Operation) -> Value {
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
    pub(super) fn call(&self, operation: &Operation) -> Call {
        let call = Call::new(operation.method, self.path(operation));
        match self.body(operation) {
            Value::Null => call,
            body => call.json(&body),
        }
    }

    /// The operation with the token.
    pub(super) async fn send(&self, operation: &Operation) -> Answer {
        self.edge.send(self.call(operation).header("authorization", &format!("Bearer {TOKEN}"))).await
    }
}
