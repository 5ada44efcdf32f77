//! The driver: gather, plan, execute. It waits for time, and nobody else does.
//!
//! One activation takes no input: it looks at everything. What wakes it (a release, a finished clone, a notice from another
//! daemon, the timer) only says that looking may be worth it. Fast steps are carried out in the activation; slow ones run as
//! tasks of their own, and their end is the next activation.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pgdibs_core::database::{DatabaseId, DatabaseState};
use pgdibs_core::error::{Error, StepError};
use pgdibs_core::lease::{Lease, LeaseId};
use pgdibs_core::plan::{self, Step, locks};
use pgdibs_core::snapshot::{Driven, Snapshot};
use pgdibs_core::template::{TemplateId, TemplateState, Timestamp};
use pgdibs_core::watch::{DemandWatch, ExpiryWatch};
use pgdibs_core::world::World;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::service::bell::Bell;

/// The driver looks at least this often: expiry, demand that falls, and what other hands did are seen this late at most.
const TICK: Duration = Duration::from_secs(1);

/// What nobody waits for is gathered for this long: a look per grant would take the processor from the callers, who come in bursts.
const SOON: Duration = Duration::from_millis(10);

/// A daemon without the office applies for it this often, so a successor is in office well within 5 s.
const APPLY: Duration = Duration::from_secs(1);

/// Housekeeping that no plan needs.
const SWEEP: Duration = Duration::from_secs(5);

/// Clones at once. More than the machine has cores still pays, because each waits for checkpoints half of its time. Measured by
/// `pgdibs bench` with 8 callers on 2 busy cores, against plain Postgres: a fifth more cycles with 8 than with 4, no more with 12.
const CLONES_AT_ONCE: usize = 8;

/// Drops at once: those that wait for a checkpoint at the same time share it. Fewer than clones, and drops fall behind.
const DROPS_AT_ONCE: usize = 8;

/// What a driver needs of a world beside the steps: the office, and whom to tell.
pub trait Office: World {
    /// Applies for the office; true when this daemon holds it.
    fn lead(&self) -> impl Future<Output = Result<bool, Error>> + Send;
    /// Tells the other daemons that something changed.
    fn notify(&self) -> impl Future<Output = Result<(), Error>> + Send;
    /// What the next plan is made from, as of one moment.
    fn look(&self) -> impl Future<Output = Result<Snapshot, Error>> + Send;
    /// Sessions of their own login, for leases that are overdue.
    fn sessions(&self, leases: &[&Lease]) -> impl Future<Output = Result<BTreeMap<LeaseId, u32>, Error>> + Send;
}

impl Office for pgdibs_postgres::world::PgWorld {
    async fn lead(&self) -> Result<bool, Error> {
        Self::lead(self).await
    }

    async fn look(&self) -> Result<Snapshot, Error> {
        Self::look(self).await
    }

    async fn notify(&self) -> Result<(), Error> {
        if self.daemons().await? > 1 { Self::notify(self).await } else { Ok(()) }
    }

    async fn sessions(&self, leases: &[&Lease]) -> Result<BTreeMap<LeaseId, u32>, Error> {
        Self::sessions(self, leases).await
    }
}

/// What the driver last saw and did, for `/v1/status` and `/readyz`.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Whether this daemon holds the office.
    pub reconciling: bool,
    /// Why the server cannot be reached at present.
    pub unreachable: Option<String>,
    /// What people should know of pools, in words.
    pub warnings: BTreeSet<String>,
    /// When the driver last planned anything.
    pub planned_at: Option<Timestamp>,
    /// The steps of that plan, in words.
    pub last_plan: Vec<String>,
    /// What became of the last steps, newest last.
    pub last_steps: VecDeque<Done>,
}

/// What became of one step.
#[derive(Debug, Clone)]
pub struct Done {
    /// The step, in words.
    pub step: String,
    /// How long it took, or the plan it was part of.
    pub took: Duration,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// Steps that are remembered for `/v1/status`.
const REMEMBERED: usize = 50;

impl Report {
    fn note(&mut self, step: &Step, took: Duration, error: Option<String>) {
        if self.last_steps.len() >= REMEMBERED {
            self.last_steps.pop_front();
        }
        self.last_steps.push_back(Done { step: format!("{step:?}"), took, error });
    }
}

/// Steps under way, and how many of each slow kind.
#[derive(Debug, Default)]
struct Busy {
    databases: BTreeSet<DatabaseId>,
    templates: BTreeSet<TemplateId>,
    clones: usize,
    drops: usize,
}

impl Busy {
    fn has_room_for(&self, step: &Step) -> bool {
        match step {
            Step::Clone { .. } => self.clones < CLONES_AT_ONCE,
            Step::Drop { .. } => self.drops < DROPS_AT_ONCE,
            _ => true,
        }
    }

    fn count(&mut self, step: &Step, begins: bool) {
        let change = |count: &mut usize| if begins { *count += 1 } else { *count -= 1 };
        match step {
            Step::Clone { .. } => change(&mut self.clones),
            Step::Drop { .. } => change(&mut self.drops),
            _ => {}
        }
        if let Some(id) = step.database() {
            if begins {
                self.databases.insert(id)
            } else {
                self.databases.remove(&id)
            };
        }
        if let Some(id) = step.template() {
            if begins {
                self.templates.insert(id)
            } else {
                self.templates.remove(&id)
            };
        }
    }
}

/// Drives one world.
pub struct Driver<W> {
    world: Arc<W>,
    bell: Arc<Bell>,
    tasks: TaskTracker,
    max_ttl: Duration,
    report: Arc<Mutex<Report>>,
    busy: Arc<Mutex<Busy>>,
    began: Instant,
    expiry: ExpiryWatch,
    demand: DemandWatch,
    swept: Option<Instant>,
    warned_of_locks: BTreeSet<TemplateId>,
}

impl<W: Office + 'static> Driver<W> {
    /// A driver that has not looked yet. `quiet` is the time after which a pool falls back to its `warm`.
    pub fn new(world: Arc<W>, bell: Arc<Bell>, max_ttl: Duration, quiet: Duration, report: Arc<Mutex<Report>>) -> Self {
        Self {
            world,
            bell,
            tasks: TaskTracker::new(),
            max_ttl,
            report,
            busy: Arc::default(),
            began: Instant::now(),
            expiry: ExpiryWatch::default(),
            demand: DemandWatch::new(quiet),
            swept: None,
            warned_of_locks: BTreeSet::new(),
        }
    }

    /// Runs until `stopping`, then waits for the steps under way.
    pub async fn run(mut self, stopping: CancellationToken) {
        let mut pause = Duration::ZERO;
        while !stopping.is_cancelled() {
            tokio::select! {
                () = stopping.cancelled() => break,
                () = self.bell.driver_woken(), if pause.is_zero() => {}
                () = self.bell.driver_woken_soon(), if pause.is_zero() => {
                    tokio::select! {
                        () = stopping.cancelled() => break,
                        () = self.bell.driver_woken() => {}
                        () = tokio::time::sleep(SOON) => {}
                    }
                }
                () = tokio::time::sleep(if pause.is_zero() { TICK } else { pause }) => {}
            }
            pause = match self.activate().await {
                Ok(true) => Duration::ZERO,
                Ok(false) => Duration::ZERO,
                Err(error) => {
                    self.tell(|report| report.unreachable = Some(error.to_string()));
                    // Waiters look again and answer for themselves.
                    self.bell.ring_for_ready(None);
                    (pause * 2).clamp(Duration::from_millis(100), APPLY)
                }
            };
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn tell(&self, change: impl FnOnce(&mut Report)) {
        change(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// One activation: applies for the office, then looks and acts until a look finds nothing fast to do.
    async fn activate(&mut self) -> Result<bool, Error> {
        let leads = self.world.lead().await?;
        let before = {
            let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
            report.unreachable = None;
            std::mem::replace(&mut report.reconciling, leads)
        };
        if leads != before {
            tracing::info!(
                reconciling = leads,
                "{}",
                if leads { "this daemon reconciles now" } else { "another daemon reconciles" }
            );
            self.expiry = ExpiryWatch::default();
        }
        if !leads {
            // What woke us is for the one in office; and what it did may be for our waiters.
            self.world.notify().await?;
            self.bell.ring_for_ready(None);
            return Ok(false);
        }
        if self.swept.is_none_or(|at| at.elapsed() >= SWEEP) {
            self.world.sweep().await?;
            self.swept = Some(Instant::now());
        }
        // Bounded: a plan whose fast steps never end is a bug, and the next activation is the retry.
        for _ in 0..100 {
            if !self.look_and_act().await? {
                break;
            }
        }
        Ok(true)
    }

    /// Looks once; true when fast steps changed something, so that another look is due.
    async fn look_and_act(&mut self) -> Result<bool, Error> {
        // Before the look: a step that ends in between is then merely taken for one that is still under way.
        let busy = {
            let busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            (busy.databases.clone(), busy.templates.clone())
        };
        self.bell.count_begins();
        let snapshot = self.world.look().await?;
        self.warn_of_pools(&snapshot);
        self.warn_of_locks(&snapshot);
        let driven = self.driven(&snapshot, busy).await?;
        let steps = plan::plan(&snapshot, &driven);
        let mut ready = ready_for_waiters(&snapshot, &steps);
        if steps.is_empty() {
            self.bell.ring_for_ready(Some(ready));
            return Ok(false);
        }
        self.tell(|report| {
            report.planned_at = Some(now());
            report.last_plan = steps.iter().map(|step| format!("{step:?}")).collect();
        });
        let (slow, fast): (Vec<Step>, Vec<Step>) = steps.into_iter().partition(Step::is_slow);
        let (urgent, later): (Vec<Step>, Vec<Step>) = fast.into_iter().partition(is_waited_for);
        // What somebody waits for comes first; cloning and dropping would only take the processor from it.
        let mut changed = self.carry_out(&urgent).await;
        let entered = urgent.iter().filter_map(|step| entering(step, &snapshot));
        for template in entered {
            // Of a template that is not named nothing is known, and so it stays.
            ready.entry(template).and_modify(|count| *count += 1);
        }
        self.bell.ring_for_ready(Some(ready));
        for step in slow {
            self.start(step);
        }
        changed |= self.carry_out(&later).await;
        if !later.iter().all(|step| matches!(step, Step::NewDatabases { .. } | Step::Retire { .. })) {
            self.bell.ring();
        }
        if changed {
            self.world.notify().await?;
        }
        Ok(changed)
    }

    /// Says it once of each pool, in the log; as long as it is so, in the status.
    fn warn_of_pools(&self, snapshot: &Snapshot) {
        let warnings = plan::warnings(snapshot);
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        for sentence in warnings.difference(&report.warnings) {
            tracing::warn!("{sentence}");
        }
        report.warnings = warnings;
    }

    /// Carries out fast steps; true when one of them changed something.
    async fn carry_out(&self, fast: &[Step]) -> bool {
        if fast.is_empty() {
            return false;
        }
        tracing::debug!(?fast, "carrying out");
        let began = Instant::now();
        let results = self.world.execute(fast).await;
        for (step, result) in fast.iter().zip(&results) {
            note(&self.report, step, began.elapsed(), result);
        }
        if results.iter().any(|result| matches!(result, Err(StepError::Unavailable(_)))) {
            self.bell.ring();
        }
        results.iter().any(Result::is_ok)
    }

    /// Once for each template; `/v1/status` says it as long as it is so.
    fn warn_of_locks(&mut self, snapshot: &Snapshot) {
        for lack in locks::too_few(snapshot) {
            if self.warned_of_locks.insert(lack.template) {
                tracing::warn!("{lack}");
            }
        }
        self.warned_of_locks.retain(|id| snapshot.template(*id).is_some());
    }

    async fn driven(
        &mut self,
        snapshot: &Snapshot,
        (busy_databases, busy_templates): (BTreeSet<DatabaseId>, BTreeSet<TemplateId>),
    ) -> Result<Driven, Error> {
        let now = self.began.elapsed();
        let overdue = self.expiry.look(&snapshot.leases, now);
        let leases: Vec<&Lease> = snapshot.leases.iter().filter(|lease| overdue.contains_key(&lease.id)).collect();
        let sessions = if leases.is_empty() { BTreeMap::new() } else { self.world.sessions(&leases).await? };
        Ok(Driven {
            busy_databases,
            busy_templates,
            overdue,
            sessions,
            max_ttl: self.max_ttl,
            recent_peak: self.demand.look(&plan::in_use(snapshot), now),
        })
    }

    /// Starts a slow step unless as many of its kind are under way as may be; then it is planned again when one ends.
    fn start(&self, step: Step) {
        {
            let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            if !busy.has_room_for(&step) {
                return;
            }
            busy.count(&step, true);
        }
        let (world, bell, busy, report) =
            (Arc::clone(&self.world), Arc::clone(&self.bell), Arc::clone(&self.busy), Arc::clone(&self.report));
        self.tasks.spawn(async move {
            let began = Instant::now();
            let result = world.execute(std::slice::from_ref(&step)).await.pop().unwrap_or(Ok(()));
            busy.lock().unwrap_or_else(PoisonError::into_inner).count(&step, false);
            note(&report, &step, began.elapsed(), &result);
            bell.wake_driver();
            match (&step, &result) {
                // A clone may serve a reset; whoever waits for a slot hears of it when it has entered one.
                (Step::Clone { .. } | Step::Drop { .. }, Ok(())) => bell.ring_again(),
                _ => bell.ring(),
            }
        });
    }
}

/// Whether callers may be waiting for the step itself.
fn is_waited_for(step: &Step) -> bool {
    matches!(step, Step::EndLease { .. } | Step::Reset { .. } | Step::Return { .. } | Step::Fill { .. })
}

/// The template of which a step makes a database ready.
fn entering(step: &Step, snapshot: &Snapshot) -> Option<TemplateId> {
    let (Step::Return { spare: Some(spare), .. } | Step::Fill { spare, .. }) = step else { return None };
    snapshot.databases.iter().find(|database| database.id == *spare).map(|database| database.template)
}

/// Ready databases of each template whose state this plan does not change: for how many of its waiters a look may be worth it.
fn ready_for_waiters(snapshot: &Snapshot, steps: &[Step]) -> BTreeMap<TemplateId, usize> {
    let lasting = snapshot.templates.iter().filter(|template| {
        template.state == TemplateState::Ready
            && !steps.iter().any(|step| step.template() == Some(template.id))
            && snapshot.pools.iter().any(|pool| pool.name == template.pool && !pool.dropping)
    });
    let count = |id| snapshot.databases.iter().filter(|d| d.template == id && d.state == DatabaseState::Ready).count();
    lasting.map(|template| (template.id, count(template.id))).collect()
}

/// Logs what became of a step, here, where it is handled; its row says when a failed one is tried again.
fn note(report: &Mutex<Report>, step: &Step, took: Duration, result: &Result<(), StepError>) {
    match result {
        Ok(()) => announce(step, took),
        Err(StepError::Stale(why)) => tracing::debug!(?step, why, "overtaken by events"),
        Err(StepError::Unavailable(why)) => tracing::warn!(?step, why, "the server went away"),
        Err(StepError::Failed(why)) => tracing::warn!(?step, why, "a step failed; it is tried again later"),
    }
    let error = result.as_ref().err().map(ToString::to_string);
    report.lock().unwrap_or_else(PoisonError::into_inner).note(step, took, error);
}

fn now() -> Timestamp {
    let micros = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
    Timestamp(i64::try_from(micros).unwrap_or(i64::MAX))
}

/// Steps that people look for in the log.
fn announce(step: &Step, took: Duration) {
    match step {
        Step::EndLease { lease, end, reason, .. } => {
            tracing::info!(lease.id = %lease, end = end.state().as_str(), reason, "ended a lease");
        }
        Step::RetireTemplate { template, reason } => {
            tracing::info!(template = template.0, %reason, "retired a template")
        }
        Step::LoseBuild { template, reason } => tracing::warn!(template = template.0, reason, "a build was lost"),
        Step::Retire { database, reason } => tracing::debug!(database = database.0, %reason, "retired a database"),
        _ => tracing::debug!(?step, seconds = took.as_secs_f64(), "done"),
    }
}
