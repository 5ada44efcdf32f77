//! What the reconciler's steps change, as events.

use std::collections::BTreeMap;
use std::time::Duration;

use pgdibs_core::error::StepError;
use pgdibs_core::event::{Event, EventKind};
use pgdibs_core::name::{DatabaseName, PoolName};
use pgdibs_core::plan::Step;
use pgdibs_core::pool::{Pool, PoolSettings};
use pgdibs_core::snapshot::Snapshot;

use crate::events::Events;

/// What a step works on, taken before it runs: a slow one outlives its snapshot.
#[derive(Debug)]
pub(super) struct StepEvents {
    subject: Event,
    /// The kind of its success; `None` if that is no event.
    done: Option<EventKind>,
    failed: EventKind,
}

impl StepEvents {
    pub(super) fn of(step: &Step, snapshot: &Snapshot) -> Self {
        let subject = Event::of_step(EventKind::StepFailed, step, snapshot);
        let subject = match step {
            Step::FailBuild { reason, .. } => subject.because(reason),
            Step::RetireTemplate { reason, .. } => subject.because(&reason.to_string()),
            // The seal is the end of the build.
            Step::Seal { template } => match snapshot.template(*template) {
                Some(template) => {
                    let published = DatabaseName::template(&template.pool, &template.fingerprint);
                    let subject = subject.taking(template.build_started_at.until(snapshot.taken_at));
                    Event { database: Some(published.to_string()), ..subject }
                }
                None => subject,
            },
            _ => subject,
        };
        // The build has failed with them.
        let fails_build = matches!(step, Step::Seal { .. } | Step::CreateBuild { .. });
        let failed = if fails_build { EventKind::TemplateFailed } else { EventKind::StepFailed };
        Self { subject, done: kind_of_success(step), failed }
    }

    /// Publishes what the step came to.
    pub(super) fn publish(self, events: &Events, step: &Step, took: Duration, result: &Result<(), StepError>) {
        match (result, self.done) {
            (Ok(()), Some(kind)) => {
                let event = Event { kind, ..self.subject };
                events.publish(match kind {
                    EventKind::TemplateFailed | EventKind::TemplateRetired => event,
                    _ => {
                        let before = Duration::try_from_secs_f64(event.seconds.unwrap_or(0.0)).unwrap_or_default();
                        event.taking(before.saturating_add(took))
                    }
                });
            }
            (Err(StepError::Failed(why)), _) => {
                let event = Event { kind: self.failed, seconds: None, ..self.subject };
                events.publish(event.because(&format!("{}: {why}", name(step))));
            }
            _ => {}
        }
    }
}

fn kind_of_success(step: &Step) -> Option<EventKind> {
    match step {
        Step::Clone { .. } => Some(EventKind::DatabaseCloned),
        Step::Drop { .. } => Some(EventKind::DatabaseDropped),
        Step::Reset { .. } => Some(EventKind::LeaseReset),
        Step::Seal { .. } => Some(EventKind::TemplateBuilt),
        Step::FailBuild { .. } => Some(EventKind::TemplateFailed),
        Step::RetireTemplate { .. } => Some(EventKind::TemplateRetired),
        _ => None,
    }
}

/// Publishes what a fast step came to, while its snapshot is at hand.
pub(super) fn publish_fast(
    events: &Events,
    step: &Step,
    snapshot: &Snapshot,
    took: Duration,
    result: &Result<(), StepError>,
) {
    if result.is_ok() {
        publish_end(events, step, snapshot);
    }
    if result.is_err() || kind_of_success(step).is_some() {
        StepEvents::of(step, snapshot).publish(events, step, took, result);
    }
}

/// The name of a step: `Clone`, `Drop`.
fn name(step: &Step) -> String {
    let text = format!("{step:?}");
    text.split([' ', '{']).next().unwrap_or_default().to_owned()
}

/// Publishes the end of a lease by the reconciler.
fn publish_end(events: &Events, step: &Step, snapshot: &Snapshot) {
    if let Step::EndLease { lease: id, end, reason, .. } = step {
        match snapshot.leases.iter().find(|lease| lease.id == *id) {
            Some(lease) => events.lease_ended(lease, *end, reason),
            None => _ = events.known_lease_ended(*id, *end, reason),
        }
    }
}

/// The settings of the pools in the last snapshot, by which the next one shows what has changed.
#[derive(Debug, Default)]
pub(super) struct KnownSettings(Option<BTreeMap<PoolName, PoolSettings>>);

impl KnownSettings {
    /// Publishes what has changed since the last snapshot. The first one of a leader shows nothing.
    pub(super) fn observe(&mut self, events: &Events, pools: &[Pool]) {
        let settings = || pools.iter().map(|pool| (pool.name.clone(), pool.settings.clone())).collect();
        let Some(known) = &self.0 else {
            self.0 = Some(settings());
            return;
        };
        let is_same =
            known.len() == pools.len() && pools.iter().all(|pool| known.get(&pool.name) == Some(&pool.settings));
        if is_same {
            return;
        }
        for pool in pools.iter().filter(|pool| known.get(&pool.name) != Some(&pool.settings)) {
            let reason = match known.get(&pool.name) {
                None => {
                    let PoolSettings { warm, max, spares, .. } = pool.settings;
                    format!("the pool was made: warm = {warm}, max = {max}, spares = {spares}")
                }
                Some(before) => before.changes(&pool.settings).join(", "),
            };
            events.publish(Event::of_pool(EventKind::SettingChanged, &pool.name).because(&reason));
        }
        self.0 = Some(settings());
    }

    /// Another daemon leads: what it changes is its to publish.
    pub(super) fn forget(&mut self) {
        self.0 = None;
    }
}
