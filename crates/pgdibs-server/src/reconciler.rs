//! The reconciler: gather, plan, execute. It waits for time, and nobody else does.
//!
//! One activation takes no input: it looks at everything. What wakes it (a release, a finished clone, a notice from another
//! daemon, the timer) only says that looking may be worth it. Fast steps are carried out in the activation; slow ones run as
//! tasks of their own, and their end is the next activation.

mod stall_detector;
mod busy;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pgdibs_core::backend::Backend;
use pgdibs_core::database::{DatabaseId, DatabaseState};
use pgdibs_core::error::{Error, StepError};
use pgdibs_core::lease::{Lease, LeaseId};
use pgdibs_core::plan::{self, Class, Step, locks};
use pgdibs_core::snapshot::{PlannerContext, Snapshot};
use pgdibs_core::template::{TemplateId, TemplateState, Timestamp};
use pgdibs_core::watch::{ClockWatch, DemandWatch, ExpiryWatch};
use pgdibs_failpoint::{Point, reach};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::busy::Busy;
pub use self::report::{Done, Report};
use self::stall_detector::StallDetector;
use crate::service::wait_queue::WaitQueue;

/// The reconciler looks at least this often: expiry, demand that falls, and what other hands did are seen this late at most.
const TICK: Duration = Duration::from_secs(1);

/// What nobody waits for is gathered for this long: a look per grant would take the processor from the callers, who come in bursts.
const SOON: Duration = Duration::from_millis(10);

/// A daemon without leadership applies for it this often, so a successor is leading well within 5 s.
const APPLY: Duration = Duration::from_secs(1);

/// Drops that make no headway for this long are looked after.
const DROPS_HANG: Duration = Duration::from_secs(5);

/// Housekeeping that no plan needs.
const GARBAGE_COLLECTION: Duration = Duration::from_secs(5);

/// What a driver needs of a backend beside the steps: leadership, and whom to tell.
pub trait Leadership: Backend {
    /// Applies for leadership; true when this daemon holds it.
    fn lead(&self) -> impl Future<Output = Result<bool, Error>> + Send;
    /// Tells the other daemons that something changed.
    fn notify(&self) -> impl Future<Output = Result<(), Error>> + Send;
    /// What the next plan is made from, as of one moment.
    fn take_snapshot(&self) -> impl Future<Output = Result<Snapshot, Error>> + Send;
    /// Sessions of their own login, for leases that are overdue.
    fn sessions(&self, leases: &[&Lease]) -> impl Future<Output = Result<BTreeMap<LeaseId, u32>, Error>> + Send;
    /// Directories that a crash in the middle of a clone left behind; `None` when we may not look.
    fn orphans(&self) -> impl Future<Output = Result<Option<Vec<u32>>, Error>> + Send;
    /// The server's clock was set by so many microseconds.
    fn move_times(&self, microseconds: i64) -> impl Future<Output = Result<(), Error>> + Send;
    /// Sessions for which drops wait, in words.
    fn drop_blockers(&self) -> impl Future<Output = Result<BTreeSet<String>, Error>> + Send;
}

impl Leadership for pgdibs_postgres::backend::PgBackend {
    async fn lead(&self) -> Result<bool, Error> {
        Self::lead(self).await
    }

    async fn take_snapshot(&self) -> Result<Snapshot, Error> {
        Self::take_snapshot(self).await
    }

    async fn notify(&self) -> Result<(), Error> {
        if self.daemons().await? > 1 { Self::notify(self).await } else { Ok(()) }
    }

    async fn sessions(&self, leases: &[&Lease]) -> Result<BTreeMap<LeaseId, u32>, Error> {
        Self::sessions(self, leases).await
    }

    async fn orphans(&self) -> Result<Option<Vec<u32>>, Error> {
        Self::orphans(self).await
    }

    async fn move_times(&self, microseconds: i64) -> Result<(), Error> {
        Self::move_times(self, microseconds).await
    }

    async fn drop_blockers(&self) -> Result<BTreeSet<String>, Error> {
        Self::drop_blockers(self).await
    }
}

/// Drives one world.
pub struct Reconciler<W> {
    backend: Arc<W>,
    wait_queue: Arc<WaitQueue>,
    tasks: TaskTracker,
    max_ttl: Duration,
    report: Arc<Mutex<Report>>,
    busy: Arc<Mutex<Busy>>,
    began: Instant,
    stall_detector: StallDetector,
    /// Since when the server cannot be reached.
    lost: Option<Instant>,
    expiry: ExpiryWatch,
    demand: DemandWatch,
    clock: ClockWatch,
    swept: Option<Instant>,
    warned_of_locks: BTreeSet<TemplateId>,
}

impl<W: Leadership + 'static> Reconciler<W> {
    /// A reconciler that has not looked yet. `idle` is the time after which a pool falls back to its `warm`.
    pub fn new(
        backend: Arc<W>,
        wait_queue: Arc<WaitQueue>,
        max_ttl: Duration,
        idle: Duration,
        report: Arc<Mutex<Report>>,
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
            lost: None,
            expiry: ExpiryWatch::default(),
            demand: DemandWatch::new(idle),
            clock: ClockWatch::default(),
            swept: None,
            warned_of_locks: BTreeSet::new(),
        }
    }

    /// Runs until `stopping`, then waits for the steps under way.
    pub async fn run(mut self, stopping: CancellationToken) {
        let mut pause = Duration::ZERO;
        self.stall_detector.spawn(&self.tasks, stopping.clone());
        while !stopping.is_cancelled() {
            tokio::select! {
                () = stopping.cancelled() => break,
                () = self.wait_queue.reconciler_woken(), if pause.is_zero() => {}
                () = self.wait_queue.reconciler_woken_soon(), if pause.is_zero() => {
                    tokio::select! {
                        () = stopping.cancelled() => break,
                        () = self.wait_queue.reconciler_woken() => {}
                        () = tokio::time::sleep(SOON) => {}
                    }
                }
                () = tokio::time::sleep(if pause.is_zero() { TICK } else { pause }) => {}
            }
            pause = match self.activate().await {
                Ok(()) => {
                    self.found();
                    Duration::ZERO
                }
                Err(error) => {
                    self.lose(&error);
                    // Waiters look again and answer for themselves.
                    self.wait_queue.wake_for_ready(None);
                    (pause * 2).clamp(Duration::from_millis(100), APPLY)
                }
            };
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Says once that the server is gone; every later failure is the same outage.
    fn lose(&mut self, error: &Error) {
        if self.lost.is_none() {
            self.lost = Some(Instant::now());
            let why = if let Error::ServerUnavailable(why) = error { why.clone() } else { error.to_string() };
            tracing::warn!(why, "the server is gone: callers are told to try again, and no lease ends meanwhile");
        }
        self.tell(|report| report.unreachable = Some(error.to_string()));
        // Renewals cannot be written down either.
        self.expiry.restart();
    }

    fn found(&mut self) {
        if let Some(lost) = self.lost.take() {
            let seconds = lost.elapsed().as_secs_f64();
            tracing::info!("the server is back after {seconds:.1} s; every lease starts a full time to live");
        }
    }

    fn tell(&self, change: impl FnOnce(&mut Report)) {
        change(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// One activation: applies for leadership, then looks and acts until a look finds nothing fast to do.
    async fn activate(&mut self) -> Result<(), Error> {
        self.expiry.restart_leases(&self.wait_queue.take_unwritten());
        let leads = self.backend.lead().await?;
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
            // What woke us is for the one leading; and what it did may be for our waiters.
            self.backend.notify().await?;
            self.wait_queue.wake_for_ready(None);
            return Ok(());
        }
        // Bounded: a plan whose fast steps never end is a bug, and the next activation is the retry.
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
        if self.swept.is_none_or(|at| at.elapsed() >= GARBAGE_COLLECTION) {
            // After the looks, which see it when the clock was set.
            self.backend.collect_garbage().await?;
            self.find_orphans().await?;
            self.find_drop_blockers().await?;
            self.swept = Some(Instant::now());
            reach(Point::ReconcileGarbageCollected).await;
        }
        Ok(())
    }

    /// Tells of new ones in the log; of all of them, as long as they are there, in the status.
    async fn find_orphans(&self) -> Result<(), Error> {
        let orphans = self.backend.orphans().await?;
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        let known = std::mem::replace(&mut report.orphans, orphans).unwrap_or_default();
        let new: Vec<u32> = report.orphans.iter().flatten().copied().filter(|oid| !known.contains(oid)).collect();
        if !new.is_empty() {
            tracing::warn!(
                directories = ?new,
                "a crash in the middle of a clone left directories of no database below base/; Postgres never removes them, and you may, while the server is stopped"
            );
        }
        Ok(())
    }

    /// Tells of each once in the log, and in the status for as long as drops wait for it.
    async fn find_drop_blockers(&self) -> Result<(), Error> {
        let hang = self.busy.lock().unwrap_or_else(PoisonError::into_inner).drops_hang_for(DROPS_HANG);
        let held_up = if hang { self.backend.drop_blockers().await? } else { BTreeSet::new() };
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        for sentence in held_up.difference(&report.held_up) {
            tracing::warn!("{sentence}");
        }
        report.held_up = held_up;
        Ok(())
    }

    /// Looks once and does what is to be done; says when another look is due.
    async fn reconcile(&mut self) -> Result<Due, Error> {
        // Before the look: a step that ends in between is then merely taken for one that is still under way.
        let busy = {
            let busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            (busy.databases.clone(), busy.templates.clone())
        };
        self.wait_queue.counting_started();
        let asked = self.began.elapsed();
        let snapshot = self.backend.take_snapshot().await?;
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
        self.warn_of_locks(&snapshot);
        let context = self.context(&snapshot, asked, busy).await?;
        let steps = plan::plan(&snapshot, &context);
        let mut ready = ready_for_waiters(&snapshot, &steps);
        if steps.is_empty() {
            self.wait_queue.wake_for_ready(Some(ready));
            return Ok(Due::Nothing);
        }
        self.tell(|report| {
            report.planned_at = Some(now());
            report.last_plan = steps.iter().map(|step| format!("{step:?}")).collect();
        });
        reach(Point::ReconcilePlanned).await;
        let (slow, fast): (Vec<Step>, Vec<Step>) = steps.into_iter().partition(Step::is_slow);
        let (urgent, later): (Vec<Step>, Vec<Step>) = fast.into_iter().partition(|step| step.class() == Class::Urgent);
        // Cloning and dropping would only take the processor from the steps that callers wait for.
        let served = self.carry_out(&urgent).await?;
        let entered = urgent.iter().filter_map(|step| entering(step, &snapshot));
        for template in entered {
            // Of a template that is not named nothing is known, and so it stays.
            ready.entry(template).and_modify(|count| *count += 1);
        }
        self.wait_queue.wake_for_ready(Some(ready));
        for step in slow {
            self.start(step);
        }
        let changed = self.carry_out(&later).await? || served;
        if !later.iter().all(|step| matches!(step, Step::NewDatabases { .. } | Step::Retire { .. })) {
            self.wait_queue.wake_all();
        }
        if !changed {
            return Ok(Due::Nothing);
        }
        self.backend.notify().await?;
        // An ended lease leaves its slot, and somebody may wait for that. What else may follow now is clones and drops.
        let goes_on = urgent.iter().any(|step| matches!(step, Step::EndLease { .. }));
        Ok(if goes_on { Due::AtOnce } else { Due::Soon })
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

    /// Says when cloning stops for want of space, and when it goes on.
    fn warn_of_disk(&self, snapshot: &Snapshot) {
        let ready = snapshot.templates.iter().filter(|template| template.state == TemplateState::Ready);
        let short = ready.map(|template| template.id).any(|id| snapshot.disk_is_short_for(id));
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        if short != std::mem::replace(&mut report.disk_is_short, short) {
            let free_mib = snapshot.limits.free_disk_bytes.unwrap_or(0) >> 20;
            let floor_mib = snapshot.limits.disk_floor_bytes >> 20;
            if short {
                tracing::warn!(
                    free_mib,
                    floor_mib,
                    "too little disk space is left: nothing is cloned until there is more"
                );
            } else {
                tracing::info!(free_mib, floor_mib, "there is disk space again: cloning goes on");
            }
        }
    }

    /// Carries out fast steps; true when one of them changed something. When the server went away meanwhile, that ends the activation:
    /// whatever else is asked of the server waits until it is back, and then nobody would have been told.
    async fn carry_out(&self, fast: &[Step]) -> Result<bool, Error> {
        if fast.is_empty() {
            return Ok(false);
        }
        tracing::debug!(?fast, "carrying out");
        let began = Instant::now();
        let results = self.backend.execute(fast).await;
        for (step, result) in fast.iter().zip(&results) {
            report::note(&self.report, step, began.elapsed(), result);
        }
        let gone = results.iter().find_map(|result| match result {
            Err(StepError::Unavailable(why)) => Some(why.clone()),
            _ => None,
        });
        gone.map_or_else(|| Ok(results.iter().any(Result::is_ok)), |why| Err(Error::ServerUnavailable(why)))
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

    /// `asked` is from before the look.
    async fn context(
        &mut self,
        snapshot: &Snapshot,
        asked: Duration,
        (busy_databases, busy_templates): (BTreeSet<DatabaseId>, BTreeSet<TemplateId>),
    ) -> Result<PlannerContext, Error> {
        if let Some(stalled_for) = self.stall_detector.stalled_for() {
            // Renewals may be waiting in the sockets.
            self.expiry.restart();
            let seconds = stalled_for.as_secs_f64();
            tracing::warn!("this process did not run for {seconds:.1} s; every lease starts a full time to live");
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

    /// Starts a slow step unless as many of its kind are under way as may be; then it is planned again when one ends.
    fn start(&self, step: Step) {
        {
            let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            if !busy.has_capacity_for(&step) {
                return;
            }
            busy.count(&step, true);
        }
        let (backend, wait_queue, busy, report) =
            (Arc::clone(&self.backend), Arc::clone(&self.wait_queue), Arc::clone(&self.busy), Arc::clone(&self.report));
        self.tasks.spawn(async move {
            let began = Instant::now();
            let result = backend.execute(std::slice::from_ref(&step)).await.pop().unwrap_or(Ok(()));
            busy.lock().unwrap_or_else(PoisonError::into_inner).count(&step, false);
            report::note(&report, &step, began.elapsed(), &result);
            // Nobody waits for what follows a drop.
            if matches!((&step, &result), (Step::Drop { .. }, Ok(()))) {
                wait_queue.wake_reconciler_soon();
            } else {
                wait_queue.wake_reconciler();
            }
            match (&step, &result) {
                // A clone may serve a reset; whoever waits for a slot hears of it when it has entered one.
                (Step::Clone { .. } | Step::Drop { .. }, Ok(())) => wait_queue.wake_again(),
                _ => wait_queue.wake_all(),
            }
        });
    }
}

/// When the next look is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// When somebody wakes the reconciler.
    Nothing,
    /// When some more may have come together: nobody waits for it.
    Soon,
    /// Before anything else.
    AtOnce,
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

fn now() -> Timestamp {
    let micros = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
    Timestamp(i64::try_from(micros).unwrap_or(i64::MAX))
}
