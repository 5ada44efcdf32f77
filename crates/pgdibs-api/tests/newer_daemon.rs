//! Answers of a newer daemon: unknown fields everywhere, and unknown values in every enumeration.
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, and helpers of tests are meant too")]

use std::path::Path;

use pgdibs_api::database::{DatabaseState, Databases};
use pgdibs_api::lease::{Lease, LeaseState, Leases};
use pgdibs_api::pool::{LoginRights, Pool};
use pgdibs_api::status::{Status, Waiter, WaiterKind};
use pgdibs_api::template::{Strategy, Template, TemplateBuild, TemplateState};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Fields whose values are enumerations.
const ENUMERATIONS: [&str; 4] = ["state", "strategy", "login", "wants"];

/// The golden answer of this name, as a newer daemon could give it.
fn newer<T: DeserializeOwned>(golden: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../api").join(format!("{golden}.json"));
    let exchange: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    read(exchange["body"].clone())
}

fn read<T: DeserializeOwned>(mut answer: Value) -> T {
    add(&mut answer);
    serde_json::from_value(answer.clone()).unwrap_or_else(|error| panic!("{error}: {answer:#}"))
}

fn add(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            // Its entries are named by the configuration.
            let is_map = |name: &str| name == "addresses";
            for (name, value) in fields.iter_mut().filter(|(name, _)| !is_map(name)) {
                if ENUMERATIONS.contains(&name.as_str()) && value.is_string() {
                    *value = json!("newer");
                }
                add(value);
            }
            fields.insert("newer".to_owned(), json!({"than": ["this", "client"]}));
        }
        Value::Array(values) => values.iter_mut().for_each(add),
        _ => {}
    }
}

#[test]
fn answers_of_newer_daemon_are_read() {
    assert_eq!(newer::<Lease>("lease_granted").state, LeaseState::Unknown);
    assert!(newer::<Lease>("lease_granted").url().is_some());
    assert_eq!(newer::<Leases>("lease_batch").leases[0].state, LeaseState::Unknown);
    let pool: Pool = newer("pool");
    assert_eq!((pool.login, pool.strategy.as_str()), (LoginRights::Unknown, "newer"));
    assert_eq!(newer::<Template>("template_ready").state, TemplateState::Unknown);
    assert_eq!(newer::<TemplateBuild>("template_build").template.state.as_str(), "unknown");
    assert_eq!(newer::<Databases>("databases").databases[0].state, DatabaseState::Unknown);
    assert!(!newer::<Status>("status").databases.is_empty());
    let waiter =
        json!({"ticket": 1, "pool": "app", "fingerprint": null, "wants": "", "count": 1, "waited_seconds": 0.5});
    assert_eq!(read::<Waiter>(waiter).wants, WaiterKind::Unknown);
    assert_eq!(serde_json::from_value::<Strategy>(json!("newer")).unwrap(), Strategy::Unknown);
}

/// A request must not be accepted with a value that nothing carries out.
#[test]
fn unknown_strategy_in_request_is_refused() {
    let request = serde_json::from_value::<pgdibs_api::pool::PoolRequest>(json!({"strategy": "newer"}));
    assert!(request.unwrap_err().to_string().contains("unknown variant `newer`"));
}

#[test]
fn status_without_level_has_level_0() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../api/status.json");
    let exchange: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut status = exchange["body"].clone();
    status["daemon"].as_object_mut().unwrap().remove("api_level");
    assert_eq!(serde_json::from_value::<Status>(status).unwrap().daemon.api_level, 0);
}
