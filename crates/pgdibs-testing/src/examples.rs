//! Complete API responses for tests that need a few fields: an example of `api/` with those fields replaced.

use serde_json::{Map, Value};

/// A type of response.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "each is named as the type in the API")]
pub enum Example {
    Lease,
    Pool,
    Template,
    Build,
    Database,
    Status,
}

impl Example {
    fn body(self) -> Value {
        let text = match self {
            Self::Lease => include_str!("../../../api/lease_granted.json"),
            Self::Pool => include_str!("../../../api/pool.json"),
            Self::Template => include_str!("../../../api/template_ready.json"),
            Self::Build => include_str!("../../../api/template_build.json"),
            Self::Database => include_str!("../../../api/databases.json"),
            Self::Status => include_str!("../../../api/status.json"),
        };
        let exchange: Value = serde_json::from_str(text).unwrap_or_default();
        match self {
            Self::Database => exchange["body"]["databases"][0].clone(),
            _ => exchange["body"].clone(),
        }
    }

    /// The example with these fields replaced.
    ///
    /// # Panics
    /// When `fields` is no object.
    #[must_use]
    pub fn with(self, fields: &Value) -> Value {
        let (Value::Object(mut example), Value::Object(fields)) = (self.body(), fields) else {
            panic!("the fields of an example must be an object: {fields}")
        };
        merge(&mut example, fields);
        Value::Object(example)
    }

    /// One example for each entry.
    #[must_use]
    pub fn each(self, entries: &[Value]) -> Value {
        entries.iter().map(|fields| self.with(fields)).collect()
    }
}

fn merge(example: &mut Map<String, Value>, fields: &Map<String, Value>) {
    for (name, value) in fields {
        match (example.get_mut(name), value) {
            (Some(Value::Object(inner)), Value::Object(fields)) => merge(inner, fields),
            _ => {
                example.insert(name.clone(), value.clone());
            }
        }
    }
}
