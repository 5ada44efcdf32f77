//! Events: what happened, one at a time, over `GET /v1/events`.

use std::collections::BTreeSet;

use pgdibs_core::event as domain;
use pgdibs_core::lease::LeaseId;
use pgdibs_core::name::{PoolName, shown};
use pgdibs_core::template::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use crate::bounded::PoolField;
use crate::time::rfc3339;

/// The closed list of kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventKind;

impl EventKind {
    /// Their names.
    pub fn names() -> impl Iterator<Item = &'static str> {
        domain::EventKind::ALL.iter().map(|kind| kind.as_str())
    }
}

impl PartialSchema for EventKind {
    fn schema() -> RefOr<Schema> {
        let object = ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("What happened; docs/events.md says when each kind comes."))
            .enum_values(Some(Self::names()))
            .build();
        RefOr::T(Schema::Object(object))
    }
}

impl ToSchema for EventKind {}

/// One event of a stream.
#[derive(Debug, Clone, ToSchema)]
pub struct ServerSentEvent {
    /// `<instance>-<number>`.
    pub id: String,
    /// What happened; or `gap`: events are missing here; or `status`, which follows a gap.
    #[schema(value_type = StreamedKind)]
    pub event: String,
    /// An Event as JSON; of `status` a Status.
    #[schema(content_media_type = "application/json")]
    pub data: String,
}

/// The kinds, and what a stream has beside them.
struct StreamedKind;

impl PartialSchema for StreamedKind {
    fn schema() -> RefOr<Schema> {
        let names = EventKind::names().chain(["gap", "status"]);
        RefOr::T(Schema::Object(ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names)).build()))
    }
}

impl ToSchema for StreamedKind {}

/// One thing that happened. Fields that do not apply are missing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// When, by the clock of the daemon where it happened.
    #[schema(format = DateTime)]
    pub at: String,
    /// What.
    // A text, so that a client can read the kinds of a newer daemon.
    #[schema(value_type = EventKind)]
    pub kind: String,
    /// The pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub pool: Option<String>,
    /// The id of the lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub lease: Option<String>,
    /// The test session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub run: Option<String>,
    /// The database, by its name at that moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub database: Option<String>,
    /// The fingerprint of the template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub template: Option<String>,
    /// The worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub worker: Option<String>,
    /// The free text of the holder or builder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub holder: Option<String>,
    /// How long it took; of the end of a lease, how long it was held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub seconds: Option<f64>,
    /// Why, at most 500 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub reason: Option<String>,
    /// The instance of the daemon where it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub daemon: Option<String>,
}

impl Event {
    /// The event as it goes over the wire.
    #[must_use]
    pub fn new(event: &domain::Event, at: Timestamp, daemon: i32) -> Self {
        Self {
            at: rfc3339(at),
            kind: event.kind.as_str().to_owned(),
            pool: event.pool.as_ref().map(ToString::to_string),
            lease: event.lease.map(|id| id.to_string()),
            run: event.run.clone(),
            database: event.database.clone(),
            template: event.template.clone(),
            worker: event.worker.clone(),
            holder: event.holder.clone(),
            seconds: event.seconds,
            reason: event.reason.clone(),
            daemon: Some(daemon.to_string()),
        }
    }

    /// The event that another daemon reported; `None` for a kind of a newer version, and for what no daemon writes.
    #[must_use]
    pub fn read(self) -> Option<domain::Event> {
        Some(domain::Event {
            kind: domain::EventKind::parse(&self.kind)?,
            pool: self.pool.map(|pool| PoolName::parse(&pool)).transpose().ok()?,
            lease: self.lease.map(|id| LeaseId::parse_str(&id)).transpose().ok()?,
            run: self.run,
            database: self.database,
            template: self.template,
            worker: self.worker,
            holder: self.holder,
            seconds: self.seconds,
            reason: self.reason,
        })
    }
}

/// Which events a stream has, in a query.
#[derive(Debug, Clone, PartialEq, Eq, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// Those of these pools only: repeated, or with commas. An event of a daemon or of the server has no pool.
    #[param(value_type = Vec<PoolField>, required = false)]
    pub pool: BTreeSet<PoolName>,
    /// Those of these kinds only: repeated, or with commas.
    #[param(value_type = Vec<EventKind>, required = false)]
    pub kind: BTreeSet<domain::EventKind>,
    /// The id of the last event that the caller knows. The header `Last-Event-ID`, which a browser sends when it connects again, has
    /// precedence.
    #[param(value_type = String, required = false)]
    pub since: Option<String>,
    /// Whether the stream goes on. With `false` the answer has the last 1,000 events that the daemon knows, or those after `since`, and ends.
    #[param(required = false, default = true)]
    pub follow: bool,
}

impl Default for EventsQuery {
    fn default() -> Self {
        Self { pool: BTreeSet::new(), kind: BTreeSet::new(), since: None, follow: true }
    }
}

impl EventsQuery {
    /// Reads the parameters of a query.
    ///
    /// # Errors
    /// The parameter and its rule.
    pub fn parse(parameters: &[(String, String)]) -> Result<Self, (String, String)> {
        let mut query = Self::default();
        for (name, value) in parameters {
            let wrong = |rule: String| (name.clone(), rule);
            // An empty one is an error: `pool=$POOL` with an unset variable must not mean every pool.
            let listed = value.split(',').map(str::trim);
            match name.as_str() {
                "pool" => {
                    for text in listed {
                        query.pool.insert(PoolName::parse(text).map_err(|error| wrong(error.rule))?);
                    }
                }
                "kind" => {
                    for text in listed {
                        query.kind.insert(domain::EventKind::parse(text).ok_or_else(|| wrong(no_kind(text)))?);
                    }
                }
                "since" => query.since = Some(value.clone()),
                "follow" => {
                    let follow =
                        value.parse().map_err(|_| wrong(format!("must be true or false, not \"{}\"", shown(value))))?;
                    query.follow = follow;
                }
                _ => {
                    let rule =
                        format!("unknown field `{}`, expected one of `pool`, `kind`, `since`, `follow`", shown(name));
                    return Err(("query".to_owned(), rule));
                }
            }
        }
        Ok(query)
    }

    /// Whether the stream has this event.
    #[must_use]
    pub fn matches(&self, event: &domain::Event) -> bool {
        (self.kind.is_empty() || self.kind.contains(&event.kind))
            && (self.pool.is_empty() || event.pool.as_ref().is_some_and(|pool| self.pool.contains(pool)))
    }
}

fn no_kind(text: &str) -> String {
    let kinds: Vec<&str> = EventKind::names().collect();
    format!("\"{}\" is no kind of event; the kinds are {}", shown(text), kinds.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &[(&str, &str)]) -> Result<EventsQuery, (String, String)> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        EventsQuery::parse(&query.iter().map(owned).collect::<Vec<_>>())
    }

    #[test]
    fn pools_and_kinds_are_repeated_or_listed() {
        let query =
            parse(&[("pool", "a,b"), ("pool", "c"), ("kind", "run_ended, server_lost"), ("follow", "false")]).unwrap();
        assert_eq!(query.pool.iter().map(PoolName::as_str).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(query.kind.len(), 2);
        assert!(!query.follow);
        let of = |kind, pool: Option<&str>| domain::Event {
            pool: pool.map(|pool| PoolName::parse(pool).unwrap()),
            ..domain::Event::new(kind)
        };
        assert!(query.matches(&of(domain::EventKind::RunEnded, Some("b"))));
        assert!(!query.matches(&of(domain::EventKind::RunEnded, Some("d"))), "another pool");
        assert!(!query.matches(&of(domain::EventKind::ServerLost, None)), "of no pool");
        assert!(!query.matches(&of(domain::EventKind::RunAdmitted, Some("b"))), "another kind");
        assert!(EventsQuery::default().matches(&of(domain::EventKind::ServerLost, None)));
    }

    #[test]
    fn wrong_parameter_is_named_with_what_there_is() {
        let (field, rule) = parse(&[("kind", "lease_lost")]).unwrap_err();
        assert_eq!(field, "kind");
        assert!(
            rule.starts_with("\"lease_lost\" is no kind of event; the kinds are lease_granted, ")
                && rule.ends_with("run_ended")
        );
        assert_eq!(parse(&[("pool", "A b")]).unwrap_err().0, "pool");
        assert_eq!(parse(&[("follow", "maybe")]).unwrap_err().1, "must be true or false, not \"maybe\"");
        assert!(parse(&[("kinds", "x")]).unwrap_err().1.starts_with("unknown field `kinds`"));
    }

    #[test]
    fn event_of_another_daemon_is_read_or_left_out() {
        let event = domain::Event::of_pool(domain::EventKind::LeaseGranted, &PoolName::parse("app").unwrap());
        let event = event.with_run("r").because("x");
        let wire = Event::new(&event, Timestamp(0), 7);
        assert_eq!(
            serde_json::to_string(&wire).unwrap(),
            r#"{"at":"1970-01-01T00:00:00.000000Z","kind":"lease_granted","pool":"app","run":"r","reason":"x","daemon":"7"}"#
        );
        assert_eq!(wire.clone().read(), Some(event));
        assert_eq!(Event { kind: "of_a_newer_version".to_owned(), ..wire }.read(), None);
    }
}
