//! The demand for one template, and its share of the pool.

use crate::database::{Database, DatabaseState};
use crate::request::TicketKind;
use crate::snapshot::Snapshot;
use crate::template::Template;

/// The current demand for one template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Demand {
    /// Leased databases.
    pub(super) leased: u32,
    /// Databases that waiting requests need.
    pub(super) waiting: u32,
    /// Databases that announced runs still need.
    pub(super) announced: u32,
    /// Spares that waiting resets need.
    pub(super) resets: u32,
    /// Whether it is the pool's current template, and the pool is in use.
    pub(super) current: bool,
    /// Whether it was in use within `idle_seconds`, and the pool is in use.
    pub(super) recent: bool,
}

impl Demand {
    pub(super) fn of(snapshot: &Snapshot, template: &Template) -> Self {
        let current = snapshot.current_template(&template.pool).is_some_and(|found| found.id == template.id);
        let waiting = |kind| {
            let tickets = snapshot.tickets.iter().filter(|t| t.template == template.id && t.kind == kind);
            tickets.map(|t| t.count).sum::<u32>()
        };
        let announced = snapshot
            .runs
            .iter()
            .filter(|run| run.pool == template.pool)
            .filter(|run| run.fingerprint.as_ref().map_or(current, |wanted| wanted == &template.fingerprint))
            .map(|run| run.wanted.saturating_sub(run.held))
            .sum();
        Self {
            leased: snapshot.count_databases(|d| d.template == template.id && d.state == DatabaseState::Leased),
            waiting: waiting(TicketKind::Acquire) + waiting(TicketKind::Exact),
            announced,
            resets: waiting(TicketKind::Reset),
            current,
            recent: false,
        }
    }

    pub(super) fn is_active(self) -> bool {
        self.current || self.recent || self.leased + self.waiting + self.announced + self.resets > 0
    }
}

/// One template's share of the pool while the plan is made.
pub(super) struct Share<'a> {
    pub(super) template: &'a Template,
    pub(super) demand: Demand,
    /// Databases promised to waiting requests; see [`SharedCapacity`].
    pub(super) claimed: u32,
    /// Ready databases that stay, by slot.
    pub(super) ready: Vec<&'a Database>,
    /// Unreserved spares, oldest first.
    pub(super) spares: Vec<&'a Database>,
    /// Rows without a clone.
    pub(super) creating: Vec<&'a Database>,
    /// Ready databases to have; after the fills are planned, those still missing.
    pub(super) desired_ready: u32,
}
