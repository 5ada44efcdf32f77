//! The reconciler: takes a snapshot, plans, executes. Steps on databases start here and nowhere else.
//!
//! One activation takes no input: it compares everything. A wake-up (a release, a finished clone, a notification from another daemon, the
//! timer) is only a hint that a snapshot may be worth it. The activation executes the fast steps; slow ones run as tasks, and the end of
//! each is the next activation.

mod stall_detector;
mod backend;
mod busy;
mod effects;
mod outage;
mod publish;
mod state;
mod timer;
mod waiters;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pgdibs_core::database::DatabaseId;
use pgdibs_core::error::{Error, StepError};
use pgdibs_core::event::{Event, EventKind};
use pgdibs_core::lease::Lease;
use pgdibs_core::plan::{self, Class, Step, locks};
use pgdibs_core::snapshot::{PlannerContext, Snapshot};
use pgdibs_core::template::{TemplateId, TemplateState};
use pgdibs_core::watch::{ClockWatch, DemandWatch, EffectWatch, ExpiryWatch, StepIdentity, Tick};
use pgdibs_failpoint::{Failpoint, reach};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::backend::LeaderBackend;
use self::busy::Busy;
use self::publish::{KnownSettings, StepEvents, publish_fast};
use self::stall_detector::StallDetector;
pub use self::state::ReconcilerState;
use self::timer::{APPLY, Timer};
use self::waiters::{entering, ready_for_waiters};
use crate::events::{Events, now};
use crate::metrics::Metrics;
use crate::service::shortages::Shortages;
use crate::service::wait_queue::{WaitQueue, Written};

/// Wake-ups that no caller waits for are collected for this long: a snapshot per grant would take the processor from callers, who come in bursts.
const SOON: Duration = Duration::from_millis(10);

/// While the reconciler pauses, it looks at the renewals that came in this often.
const TICK: Duration = Duration::from_secs(1);

/// A daemon that is not the leader looks for shortages this often, which its status lists.
const SHORTAGES: Duration = Duration::from_secs(30);

/// When no drop has ended for this long while some run, the reconciler asks what blocks them.
const DROPS_HANG: Duration = Duration::from_secs(5);

/// Interval of the garbage collection, which no plan needs.
const GARBAGE_COLLECTION: Duration = Duration::from_secs(5);

/// Keeps one server as the catalog wants it.
pub struct Reconciler<B> {
    backend: Arc<B>,
    wait_queue: Arc<WaitQueue>,
    tasks: TaskTracker,
    max_ttl: Duration,
    report: Arc<Mutex<ReconcilerState>>,
    busy: Arc<Mutex<Busy>>,
    began: Instant,
    stall_detector: StallDetector,
    /// Since when the server is unreachable.
    unreachable_since: Option<Instant>,
    expiry: ExpiryWatch,
    demand: DemandWatch,
    /// Whether `demand` knows of no use before this daemon became the leader.
    demand_is_new: bool,
    clock: ClockWatch,
    effects: Arc<Mutex<EffectWatch>>,
    timer: Timer,
    /// When it last collected garbage, or when a daemon that does not lead last looked for shortages.
    collected_at: Option<Instant>,
    warned_of_locks: BTreeSet<TemplateId>,
    events: Arc<Events>,
    settings: KnownSettings,
    pub(crate) metrics: Arc<Metrics>,
}

impl<B: LeaderBackend + 'static> Reconciler<B> {
    /// A reconciler without a snapshot yet. `idle` is the time after which a pool falls back to its `warm`.
    pub fn new(
        backend: Arc<B>,
        wait_queue: Arc<WaitQueue>,
        max_ttl: Duration,
        idle: Duration,
        report: Arc<Mutex<ReconcilerState>>,
    ) -> Self {
        Self {
            backend,
            wait_queue,
            tasks: TaskTracker::new(),
            max_ttl,
            report,
            busy: Arc::default(),
            began: Instant::now(),
            stall_detector: StallDetector::new(),
            unreachable_since: None,
            expiry: ExpiryWatch::default(),
            demand: DemandWatch::new(idle),
            demand_is_new: true,
            clock: ClockWatch::default(),
            effects: Arc::default(),
            timer: Timer::default(),
            collected_at: None,
            warned_of_locks: BTreeSet::new(),
            events: Arc::default(),
            settings: KnownSettings::default(),
            metrics: Arc::default(),
        }
    }

    /// Runs until `stopping`, then waits for the running steps.
    pub async fn run(mut self, stopping: CancellationToken) {
        let mut pause = Duration::ZERO;
        self.stall_detector.spawn(&self.tasks, stopping.clone());
        let wait_queue = Arc::clone(&self.wait_queue);
        while !stopping.is_cancelled() {
            tokio::select! {
                () = stopping.cancelled() => break,
                () = wait_queue.reconciler_woken(), if pause.is_zero() => self.timer.woken(),
                () = wait_queue.reconciler_woken_soon(), if pause.is_zero() => {
                    self.timer.woken();
                    tokio::select! {
                        () = stopping.cancelled() => break,
                        () = wait_queue.reconciler_woken() => {}
                        () = tokio::time::sleep(SOON) => {}
                    }
                }
                () = self.due(), if pause.is_zero() => {}
                () = tokio::time::sleep(pause), if !pause.is_zero() => {}
            }
            pause = match self.activate().await {
                Ok(()) => {
                    self.server_answers();
                    Duration::ZERO
                }
                Err(error) => {
                    self.server_is_unreachable(&error);
                    // Each waiter tries again and answers its caller.
                    self.wait_queue.wake_all();
                    (pause * 2).clamp(Duration::from_millis(100), APPLY)
                }
            };
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Resolves when time alone may have changed the plan. A renewal that came in puts the expiry of its lease off, without a snapshot.
    async fn due(&mut self) {
        loop {
            self.take_renewals();
            let due = self.next_activation();
            if due <= self.began.elapsed() {
                return;
            }
            // A renewal may have shortened a TTL. Without leases there is none.
            let renewals = self.expiry.next().map_or(due, |_| self.began.elapsed() + TICK);
            tokio::time::sleep_until(self.began + due.min(renewals)).await;
        }
    }

    fn next_activation(&self) -> Tick {
        let deadlines = [self.expiry.next(), self.demand.next(), self.effects.lock().next()];
        self.timer.due(deadlines.into_iter().flatten().min())
    }

    /// Passes the renewals that were written since the last call on to the watch over expiry.
    fn take_renewals(&mut self) {
        let (written, unwritten) = self.wait_queue.take_renewals();
        for (lease, Written { renewals, ttl, at }) in written {
            self.expiry.renewed(lease, renewals, ttl, at.saturating_duration_since(self.began));
        }
        self.expiry.restart_leases(&unwritten);
    }

    /// One activation: applies for leadership, then runs cycles until a snapshot gives no fast step.
    async fn activate(&mut self) -> Result<(), Error> {
        self.take_renewals();
        let is_leader = self.backend.acquire_leadership().await?;
        let before = {
            let mut report = self.report.lock();
            report.unreachable = None;
            std::mem::replace(&mut report.reconciling, is_leader)
        };
        self.wait_queue.set_outage(None);
        if is_leader != before {
            if is_leader {
                self.events.publish(Event::new(EventKind::LeadershipChanged));
            } else {
                tracing::info!("another daemon is the leader");
            }
            self.settings.forget();
            self.expiry = ExpiryWatch::default();
            self.demand_is_new = true;
        }
        if !is_leader {
            self.report.lock().unready.clear();
            // The wake-up is for the leader, and its changes may serve the waiters of this daemon.
            if self.wait_queue.take_own_change()
                && let Err(error) = self.backend.notify().await
            {
                self.wait_queue.wake_reconciler();
                return Err(error);
            }
            self.expiry = ExpiryWatch::default();
            self.wait_queue.wake_for_ready(None);
            if self.collected_at.is_none_or(|time| time.elapsed() >= SHORTAGES) {
                self.report.lock().shortages = Shortages::of(&self.backend.take_snapshot().await?);
                self.collected_at = Some(Instant::now());
            }
            self.timer.applied(self.began.elapsed());
            return Ok(());
        }
        // Bounded: fast steps without an end are a bug, and the next activation is the retry.
        for _ in 0..100 {
            match self.reconcile().await? {
                Due::AtOnce => {}
                Due::Soon => {
                    self.wait_queue.wake_reconciler_soon();
                    break;
                }
                Due::Nothing => break,
            }
        }
        if self.collected_at.is_none_or(|time| time.elapsed() >= GARBAGE_COLLECTION) {
            // After the snapshots, which notice when the clock was set.
            self.backend.collect_garbage().await?;
            self.find_orphans().await?;
            self.find_drop_blockers().await?;
            self.collected_at = Some(Instant::now());
            reach(Failpoint::ReconcileGarbageCollected).await;
        }
        let is_working = !self.busy.lock().is_idle();
        self.timer.ended(self.began.elapsed(), is_working);
        Ok(())
    }

    /// Logs each new directory once; the status lists all that are there.
    async fn find_orphans(&self) -> Result<(), Error> {
        let orphans = self.backend.orphans().await?;
        let mut report = self.report.lock();
        let known = std::mem::replace(&mut report.orphans, orphans).unwrap_or_default();
        let new: Vec<u32> = report.orphans.iter().flatten().copied().filter(|oid| !known.contains(oid)).collect();
        if !new.is_empty() {
            tracing::warn!(
                directories = ?new,
                "found directories of no database below base/: a crash in the middle of a clone left them; Postgres never removes them, and you may while the server is stopped"
            );
        }
        Ok(())
    }

    /// Logs each session that blocks drops once; the status lists it for as long as it does.
    async fn find_drop_blockers(&self) -> Result<(), Error> {
        let hang = self.busy.lock().drops_hang_for(DROPS_HANG);
        let drop_blockers = if hang { self.backend.drop_blockers().await? } else { BTreeSet::new() };
        let mut report = self.report.lock();
        for sentence in drop_blockers.difference(&report.drop_blockers) {
            tracing::warn!("{sentence}");
        }
        report.drop_blockers = drop_blockers;
        Ok(())
    }

    /// One cycle: snapshot, plan, steps. Returns when the next one is due.
    async fn reconcile(&mut self) -> Result<Due, Error> {
        let asked = self.began.elapsed();
        // Before the snapshot: a step that ends in between then counts as running, and is planned again by the next cycle.
        let busy = {
            let busy = self.busy.lock();
            (busy.databases.clone(), busy.templates.clone())
        };
        self.wait_queue.counting_started();
        let snapshot = self.backend.take_snapshot_as_leader().await?;
        self.timer.snapshot_taken(&snapshot, self.began.elapsed());
        self.settings.observe(&self.events, &snapshot.pools);
        self.warn_of_pools(&snapshot);
        if let Some(jump) = self.clock.observe(snapshot.taken_at, asked, self.began.elapsed()) {
            tracing::warn!(
                seconds = jump / 1_000_000,
                "the server's clock was set; builds, kept databases and announced runs keep the time that they had left"
            );
            self.backend.move_times(jump).await?;
            return Ok(Due::AtOnce);
        }
        self.warn_of_disk(&snapshot);
        self.report.lock().shortages = Shortages::of(&snapshot);
        self.warn_of_locks(&snapshot);
        let context = self.context(&snapshot, asked, busy).await?;
        let mut steps = plan::plan(&snapshot, &context);
        let inputs = (&snapshot, &context);
        let sinks = (&*self.report, &*self.events);
        effects::delay_repeated(&*self.backend, &self.effects, sinks, &mut steps, inputs, asked).await?;
        let mut ready = ready_for_waiters(&snapshot, &steps);
        if steps.is_empty() {
            self.wait_queue.wake_for_ready(Some(ready));
            return Ok(Due::Nothing);
        }
        self.timer.planned();
        {
            let mut report = self.report.lock();
            report.planned_at = Some(now());
            report.last_plan = steps.iter().map(|step| format!("{step:?}")).collect();
        }
        reach(Failpoint::ReconcilePlanned).await;
        let (slow, fast): (Vec<Step>, Vec<Step>) = steps.into_iter().partition(Step::is_slow);
        let (urgent, later): (Vec<Step>, Vec<Step>) = fast.into_iter().partition(|step| step.class() == Class::Urgent);
        // Cloning and dropping would only take the processor from the steps that callers wait for.
        let served = self.execute(&urgent, &snapshot).await?;
        let entered = urgent.iter().filter_map(|step| entering(step, &snapshot));
        for template in entered {
            // A template without an entry gets none: `wake_for_ready` wakes every waiter of such a template.
            ready.entry(template).and_modify(|count| *count += 1);
        }
        self.wait_queue.wake_for_ready(Some(ready));
        for step in slow {
            let identity = StepIdentity::of(&step, &snapshot);
            self.start(step, identity, &snapshot);
        }
        let changed = self.execute(&later, &snapshot).await? || served;
        if later.iter().any(|step| step.template().is_some() || matches!(step, Step::ForgetPool { .. })) {
            self.wait_queue.wake_all();
        }
        if !changed {
            return Ok(Due::Nothing);
        }
        self.backend.notify().await?;
        // A return follows the end of a lease, and a caller may wait for its slot. After other steps only clones and drops follow.
        let goes_on = urgent.iter().any(|step| matches!(step, Step::EndLease { .. }));
        Ok(if goes_on { Due::AtOnce } else { Due::Soon })
    }

    /// Logs each warning about a pool once; the status lists it for as long as it holds.
    fn warn_of_pools(&self, snapshot: &Snapshot) {
        let warnings = plan::warnings(snapshot);
        let mut report = self.report.lock();
        for sentence in warnings.difference(&report.warnings) {
            tracing::warn!("{sentence}");
        }
        report.warnings = warnings;
        report.unready = plan::unready(snapshot);
    }

    /// Logs when a lack of disk space stops cloning, and when cloning resumes.
    fn warn_of_disk(&self, snapshot: &Snapshot) {
        let ready = snapshot.templates.iter().filter(|template| template.state == TemplateState::Ready);
        let short = ready.map(|template| template.id).any(|id| snapshot.disk_is_short_for(id));
        let mut report = self.report.lock();
        if short != std::mem::replace(&mut report.disk_is_short, short) {
            let free_mib = snapshot.limits.free_disk_bytes.unwrap_or(0) >> 20;
            let floor_mib = snapshot.limits.disk_floor_bytes >> 20;
            if short {
                tracing::warn!(free_mib, floor_mib, "cloning stops: too little disk space is left");
            } else {
                tracing::info!(free_mib, floor_mib, "cloning resumes: there is enough disk space again");
            }
        }
    }

    /// Executes fast steps; true when one of them changed something. A step that finds the server unreachable ends the activation, so that
    /// the outage is logged: later calls would wait until the server is back.
    async fn execute(&self, fast: &[Step], snapshot: &Snapshot) -> Result<bool, Error> {
        if fast.is_empty() {
            return Ok(false);
        }
        tracing::debug!(?fast, "executing steps");
        let began = Instant::now();
        let results = self.backend.execute(fast).await;
        for (step, result) in fast.iter().zip(&results) {
            state::record(&self.report, step, began.elapsed(), result);
            self.metrics.step(step, began.elapsed(), result);
            effects::record_end(&self.effects, StepIdentity::of(step, snapshot), result, self.began);
            publish_fast(&self.events, step, snapshot, began.elapsed(), result);
        }
        let unreachable = results.iter().find_map(|result| match result {
            Err(StepError::Unavailable(why)) => Some(why.clone()),
            _ => None,
        });
        match unreachable {
            Some(why) => Err(Error::ServerUnavailable(format!("{why} ({})", snapshot.server_address))),
            None => Ok(results.iter().any(Result::is_ok)),
        }
    }

    /// Logs each template for which the lock table is too small once; the status lists them.
    fn warn_of_locks(&mut self, snapshot: &Snapshot) {
        for lack in locks::too_few(snapshot) {
            if self.warned_of_locks.insert(lack.template) {
                tracing::warn!("{lack}");
            }
        }
        self.warned_of_locks.retain(|id| snapshot.template(*id).is_some());
    }

    /// The planner's inputs beside the snapshot, which was asked for at `asked`.
    async fn context(
        &mut self,
        snapshot: &Snapshot,
        asked: Duration,
        (busy_databases, busy_templates): (BTreeSet<DatabaseId>, BTreeSet<TemplateId>),
    ) -> Result<PlannerContext, Error> {
        if let Some(stalled_for) = self.stall_detector.stalled_for() {
            // Renewals may wait in the sockets.
            self.expiry.restart();
            let seconds = stalled_for.as_secs_f64();
            tracing::warn!("this process did not run for {seconds:.1} s; every lease starts a full time to live");
        }
        self.stall_detector.watch(!snapshot.leases.is_empty());
        if std::mem::take(&mut self.demand_is_new) {
            self.demand.forget_use();
            self.demand.observe(&plan::recently_in_use(snapshot), asked);
        }
        let mut overdue = self.expiry.observe(&snapshot.leases, asked, self.began.elapsed());
        overdue.retain(|&lease, _| !self.wait_queue.is_being_renewed(lease));
        let leases: Vec<&Lease> = snapshot.leases.iter().filter(|lease| overdue.contains_key(&lease.id)).collect();
        let sessions = if leases.is_empty() { BTreeMap::new() } else { self.backend.sessions(&leases).await? };
        Ok(PlannerContext {
            busy_databases,
            busy_templates,
            overdue,
            sessions,
            max_ttl: self.max_ttl,
            recent_peak: self.demand.observe(&plan::in_use(snapshot), asked),
        })
    }

    /// Starts a slow step. At the limit of its kind it does nothing; a later cycle plans the step again.
    fn start(&self, step: Step, identity: StepIdentity, snapshot: &Snapshot) {
        {
            let mut busy = self.busy.lock();
            if !busy.has_capacity_for(&step) {
                return;
            }
            busy.count(&step, true);
        }
        let (backend, wait_queue, busy, report) =
            (Arc::clone(&self.backend), Arc::clone(&self.wait_queue), Arc::clone(&self.busy), Arc::clone(&self.report));
        let (effects, clock, metrics) = (Arc::clone(&self.effects), self.began, Arc::clone(&self.metrics));
        let (events, step_events) = (Arc::clone(&self.events), StepEvents::of(&step, snapshot));
        self.tasks.spawn(async move {
            let began = Instant::now();
            let result = backend.execute(std::slice::from_ref(&step)).await.pop().unwrap_or(Ok(()));
            busy.lock().count(&step, false);
            state::record(&report, &step, began.elapsed(), &result);
            step_events.publish(&events, &step, began.elapsed(), &result);
            metrics.step(&step, began.elapsed(), &result);
            effects::record_end(&effects, identity, &result, clock);
            // No caller waits for what follows a drop.
            if matches!((&step, &result), (Step::Drop { .. }, Ok(()))) {
                wait_queue.wake_reconciler_soon();
            } else {
                wait_queue.wake_reconciler();
            }
            match (&step, &result) {
                // A clone may serve a reset; callers that wait for a slot are woken when it enters one.
                (Step::Clone { .. }, Ok(())) | (Step::Drop { .. } | Step::Fence { .. }, _) => {
                    wait_queue.wake_with_last_counts();
                }
                _ => wait_queue.wake_all(),
            }
        });
    }
}

/// When the next cycle is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// At the next wake-up.
    Nothing,
    /// After a moment in which more wake-ups may arrive: no caller waits for it.
    Soon,
    /// At once.
    AtOnce,
}

#[cfg(test)]
mod tests;
