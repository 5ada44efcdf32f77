//! The reconciler of a scenario: a cycle can fail, stop in the middle, or run concurrently with requests.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pgdibs_core::backend::Backend;
use pgdibs_core::error::StepError;
use pgdibs_core::lease::{End, LeaseId};
use pgdibs_core::plan::{Step, in_use, plan};
use pgdibs_core::snapshot::{PlannerContext, Snapshot};
use pgdibs_testing::fake::FaultPoint;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::{MAX_TTL, Scenario, ready};

/// Sessions per lease.
fn sessions(by_login: &BTreeMap<String, u32>, snapshot: &Snapshot) -> BTreeMap<LeaseId, u32> {
    let of = |lease: &pgdibs_core::lease::Lease| by_login.get(&lease.credentials.as_ref()?.user).copied();
    snapshot.leases.iter().filter_map(|lease| Some((lease.id, of(lease)?))).collect()
}

impl Scenario {
    /// Updates the watches with a snapshot and returns the planner's context.
    pub(crate) fn context(&mut self, snapshot: &Snapshot) -> PlannerContext {
        let now = Duration::from_secs_f64(self.backend.now());
        PlannerContext {
            busy_databases: BTreeSet::new(),
            busy_templates: BTreeSet::new(),
            overdue: self.expiry.observe(&snapshot.leases, now, now),
            sessions: sessions(&self.backend.sessions_of_login(), snapshot),
            max_ttl: MAX_TTL,
            recent_peak: self.demand.observe(&in_use(snapshot), now),
        }
    }

    /// Runs one cycle, a part of one, or one twice, with other operations in between.
    pub(crate) fn reconcile(&mut self) {
        self.set_random_faults();
        let snapshot = self.snapshot();
        let context = self.context(&snapshot);
        let steps = plan(&snapshot, &context);
        for step in &steps {
            self.expect_session_holds_lease(step);
        }
        let stops_after = if self.chance(4) { self.random.random_range(0..=steps.len()) } else { steps.len() };
        let twice = self.chance(8);
        for step in &steps[..stops_after] {
            self.execute(step);
            self.check();
            if self.chance(6) {
                self.operate();
                self.check();
            }
            if twice && self.chance(2) {
                self.execute(step);
                self.check();
            }
        }
        self.backend.clear_faults();
    }

    pub(crate) fn execute(&mut self, step: &Step) {
        let result = ready(self.backend.execute(std::slice::from_ref(step))).remove(0);
        self.log(|| format!("step {step:?}: {result:?}"));
        if result.is_ok() {
            self.expect_full_ttl(step);
        }
    }

    /// A connected session holds its lease until `max_ttl`.
    fn expect_session_holds_lease(&self, step: &Step) {
        let Step::EndLease { lease, end: End::Expired, .. } = step else { return };
        let Some(held) = self.held.get(lease) else { return };
        let connected = held.session.is_some_and(|session| self.backend.is_connected(session));
        let unrenewed = self.backend.now() - held.renewed;
        assert!(
            !connected || unrenewed >= MAX_TTL.as_secs_f64(),
            "lease {lease} expires with a connected session: {step:?}"
        );
    }

    /// A TTL is a lower bound.
    fn expect_full_ttl(&self, step: &Step) {
        let Step::EndLease { lease, end: End::Expired, .. } = step else { return };
        let Some(held) = self.held.get(lease) else { return };
        let unrenewed = self.backend.now() - held.renewed;
        #[allow(clippy::cast_precision_loss, reason = "seconds")]
        let ttl = held.lease.ttl_seconds as f64;
        assert!(unrenewed >= ttl, "lease {lease} expires {unrenewed} s after its last renewal, its TTL is {ttl} s");
    }

    fn set_random_faults(&mut self) {
        let one_in = [0, 0, 40, 8][self.random.random_range(0..4)];
        if one_in == 0 {
            return self.backend.clear_faults();
        }
        let mut random = StdRng::seed_from_u64(self.random.random());
        self.backend.set_faults(move |_, point| {
            if random.random_range(0..one_in) != 0 {
                return None;
            }
            let fails = point == FaultPoint::Before || random.random_range(0..2) == 0;
            Some(if fails {
                StepError::Failed("XX000: a random fault".to_owned())
            } else {
                StepError::Unavailable("the daemon died".to_owned())
            })
        });
    }
}
