//! Steps: executes what the planner decided. Each step checks again what the plan assumed; a failure is written into its row.

mod step_context;
mod extensions;
mod build;
mod clone;
mod contended;
mod pre_drop;
mod made_roles;
pub(crate) mod drop;
mod drop_by_name;
mod fence;
mod held_spare;
mod listed_roles;
mod login;
mod placement;
mod roles;
mod transitions;
mod seal;
pub(crate) mod sessions;
mod swap;
pub(crate) mod tenants;
mod row;

use std::time::Duration;

use pgdibs_core::database::DatabaseId;
use pgdibs_core::error::StepError;
use pgdibs_core::name::RoleName;
use pgdibs_core::plan::Step;
use pgdibs_core::template::TemplateId;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use tokio::time::{Instant, sleep, timeout};

use crate::address::CATALOG;
use crate::blockers;
use crate::connections::RECONCILER;
use crate::context::PgBackend;
use crate::error::Result;

pub(crate) use self::roles::drop_unused_roles;
use self::step_context::ServerProcess;
pub(crate) use self::step_context::StepContext;

/// None while a step has not run.
type Results = [Option<Result<(), StepError>>];

pub(crate) async fn execute(backend: &PgBackend, steps: &[Step]) -> Vec<Result<(), StepError>> {
    let mut results = vec![None; steps.len()];
    if steps.iter().any(|step| !step.is_slow()) {
        run_fast(backend, steps, &mut results).await;
    }
    for (step, result) in steps.iter().zip(&mut results).filter(|(step, _)| step.is_slow()) {
        *result = Some(run_slow(backend, step).await.map_err(Into::into));
    }
    let results: Vec<_> = results.into_iter().map(|result| result.unwrap_or(Ok(()))).collect();
    for (step, result) in steps.iter().zip(&results) {
        if let Err(StepError::Failed(why)) = result
            && let Err(error) = backend.within(record(backend, step, why)).await
        {
            tracing::warn!(?step, why, %error, "cannot record failed step, which will be planned again");
        }
    }
    results
}

/// Each wait of a fast step has its own limit (statements, sessions that end); the server does not answer when all last longer than this.
const FAST: Duration = Duration::from_secs(20);
const FAST_EACH: Duration = Duration::from_secs(3);

/// Runs the fast steps on leadership's connection.
async fn run_fast(backend: &PgBackend, steps: &[Step], results: &mut Results) {
    let mut leadership = backend.leadership.lock().await;
    let mut why = "this daemon does not lead".to_owned();
    if let Some(held) = leadership.as_mut() {
        let limit = FAST + FAST_EACH * u32::try_from(steps.len()).unwrap_or(u32::MAX);
        let (began, process) = (Instant::now(), held.session.process);
        let mut ctx = StepContext { backend, connection: &mut held.connection };
        tokio::select! {
            _ = timeout(limit, fast(&mut ctx, steps, results)) => {}
            () = server_idle(backend, RECONCILER, None, || process) => {}
            never = blockers::end(backend, blockers::FAST) => match never {},
        };
        if results.iter().flatten().any(Result::is_ok) {
            held.used = Instant::now();
        }
        why = format!("no answer within {} s", began.elapsed().as_secs());
    }
    for (_, result) in steps.iter().zip(results.iter_mut()).filter(|(step, _)| !step.is_slow()) {
        result.get_or_insert_with(|| Err(StepError::Unavailable(why.clone())));
    }
    if results.iter().flatten().any(|result| matches!(result, Err(StepError::Unavailable(_)))) {
        // The session may have ended, and the lock with it: the next snapshot takes leadership again.
        backend.discard_leadership(&mut leadership).await;
    }
}

/// Fast steps: resets first, so that none waits for the fence of another lease; returns together, so that their sessions end concurrently;
/// then the others in their order.
async fn fast(ctx: &mut StepContext<'_>, steps: &[Step], results: &mut Results) {
    for (step, result) in steps.iter().zip(results.iter_mut()) {
        if let Step::Reset { lease, used, spare } = step {
            let done = swap::reset(ctx, *lease, *used, *spare).await;
            if done.is_err() {
                roll_back(ctx.connection).await;
            }
            *result = Some(done.map_err(Into::into));
        }
    }
    let is_return = |step: &&Step| matches!(step, Step::Return { .. });
    let returns: Vec<&Step> = steps.iter().filter(is_return).collect();
    if !returns.is_empty() {
        let returned = swap::return_all(ctx, &returns).await;
        if returned.iter().any(Result::is_err) {
            roll_back(ctx.connection).await;
        }
        let places = steps.iter().zip(results.iter_mut()).filter(|(step, _)| is_return(step));
        for ((_, result), returned) in places.zip(returned) {
            *result = Some(returned);
        }
    }
    for (step, result) in steps.iter().zip(results.iter_mut()) {
        let done = match step {
            Step::EndLease { lease, end, renewals, reason } => {
                transitions::end_lease(ctx.connection, *lease, *end, *renewals, reason).await
            }
            Step::Fill { spare, slot } => swap::fill(ctx, *spare, *slot).await,
            Step::Move { database, slot, displaced } => {
                placement::move_to(ctx.connection, *database, *slot, *displaced).await
            }
            Step::Retire { database, reason } => transitions::retire(ctx.connection, *database, *reason).await,
            Step::NewDatabases { template, count } => {
                transitions::new_databases(ctx.connection, *template, *count).await
            }
            Step::Adopt { database, oid } => transitions::adopt(ctx.connection, *database, *oid).await,
            Step::Forget { database, reason } => transitions::forget(ctx.connection, *database, *reason).await,
            Step::FailBuild { template, reason } => transitions::lose_build(ctx.connection, *template, reason).await,
            Step::RetireTemplate { template, reason } => {
                transitions::retire_template(ctx.connection, *template, *reason).await
            }
            Step::ForgetPool { pool } => transitions::forget_pool(ctx.connection, pool).await,
            Step::Reset { .. }
            | Step::Return { .. }
            | Step::Fence { .. }
            | Step::Clone { .. }
            | Step::Drop { .. }
            | Step::CreateBuild { .. }
            | Step::Seal { .. }
            | Step::DropTemplate { .. } => continue,
        };
        if done.is_err() {
            roll_back(ctx.connection).await;
        }
        *result = Some(done.map_err(Into::into));
    }
}

/// Ends what a failed step left open. Dropping a transaction only queues its rollback for the connection's next statement, and until then
/// it holds its locks: a slow step on another connection would wait for them, and this daemon for that step.
async fn roll_back(connection: &mut PgConnection) {
    // If the connection has ended, so have its locks, and the next step fails.
    let _ = connection.ping().await;
}

/// Runs a slow step. A `create` or `drop database` has no time limit, so instead of a timeout a separate connection checks now and then
/// that the backend is still working; when it is not, the answer was lost.
async fn run_slow(backend: &PgBackend, step: &Step) -> Result<()> {
    let connections = if step.is_background() { &backend.connections.background } else { &backend.connections.ddl };
    let (pool, number) = connections.pool();
    let mut connection = pool.acquire().await?;
    let server = ServerProcess::default();
    let application = backend.ddl_application();
    // A build or a seal uses a further connection, inside its database; so every session of this daemon's DDL counts as work on it.
    let alone = match step {
        Step::CreateBuild { template } | Step::Seal { template } => Some(*template),
        _ => None,
    };
    let mut ctx = StepContext { backend, connection: &mut connection };
    let result = tokio::select! {
        result = slow(&mut ctx, &server, step) => result,
        never = blockers::end(backend, blockers::SLOW) => match never {},
        () = server_idle(backend, &application, alone, || server.id()) => {
            // Otherwise the pool would wait for this connection, and never lend it again.
            connections.discard(number);
            Err(StepError::Unavailable("the answer was lost; the next snapshot shows the outcome".to_owned()).into())
        }
    };
    if result.is_err() && connections.pool().1 != number {
        connection.close_on_drop();
    }
    result
}

async fn slow(ctx: &mut StepContext<'_>, server: &ServerProcess, step: &Step) -> Result<()> {
    if let Step::Fence { database } = step {
        return fence::fence_apart(ctx, *database).await;
    }
    let writer = ctx.backend.disk.start();
    match step {
        Step::Clone { database, .. } => clone::clone(ctx, server, *database, &writer).await,
        Step::Drop { database } => drop::drop_database(ctx, server, *database).await,
        Step::CreateBuild { template } => build::create(ctx, *template).await,
        Step::Seal { template } => build::seal(ctx, *template).await,
        Step::DropTemplate { template } => drop::drop_template(ctx, server, *template).await,
        _ => Ok(()),
    }
}

/// Between two checks that the server still works on a step.
const IDLE_CHECK: Duration = Duration::from_secs(5);

/// Resolves when two checks in a row find that the server process (or, for the build `alone`, any that serves this application) does
/// nothing. Every session may set any application name, so the login counts as well: the daemon's, or in a seal the build's, which is
/// closed to its builder by then.
async fn server_idle(backend: &PgBackend, application: &str, alone: Option<TemplateId>, process: impl Fn() -> i32) {
    let mut idle = 0;
    let mut logins = vec![backend.facts().role.to_string()];
    logins.extend(alone.map(|template| RoleName::login(template.0).to_string()));
    while idle < 2 {
        sleep(IDLE_CHECK).await;
        let process = process();
        // On a new connection, because those of the pool may be dead too.
        let checking = async {
            let mut connection = backend.connections.address.connect(CATALOG, "pgdibs").await?;
            let query = sqlx::query_scalar(
                "select exists (select from pg_stat_activity
                   where application_name = $1 and usename = any($4::name[]) and (pid = $2 or $3)
                   and (state = 'active' or state_change > now() - interval '3 s'))",
            );
            let query = query.bind(application).bind(process).bind(alone.is_some()).bind(&logins);
            let busy: bool = query.fetch_one(&mut connection).await?;
            connection.close().await?;
            Ok::<_, sqlx::Error>(busy)
        };
        match timeout(IDLE_CHECK, checking).await {
            Ok(Ok(true)) => idle = 0,
            Ok(Ok(false)) => idle += 1,
            // A server that does not answer says nothing about the step.
            Ok(Err(_)) | Err(_) => {}
        }
    }
}

/// Attempts after which a database is blocked: shown with its reason, and tried again once a minute.
const ATTEMPTS: i32 = 3;

/// Writes a failure into the row it concerns; the next plan after `retry_at` has the retry.
pub(crate) async fn record(backend: &PgBackend, step: &Step, why: &str) -> Result<(), sqlx::Error> {
    let (template, statement) = match step {
        Step::CreateBuild { template } | Step::Seal { template } => (
            template,
            "update templates set state = 'failed', detail = $2, last_used_at = now() where id = $1 and state = 'building'",
        ),
        Step::DropTemplate { template } => (
            template,
            "update templates set attempts = attempts + 1, detail = coalesce(detail || '; ', '') || $2,
                    retry_at = now() + least(60, 2 ^ attempts) * interval '1 s' where id = $1",
        ),
        _ => {
            return match step.database() {
                Some(database) => record_database(backend, database, why).await,
                None => Ok(()),
            };
        }
    };
    sqlx::query(statement).bind(template.0).bind(why).execute(&backend.catalog()).await?;
    Ok(())
}

async fn record_database(backend: &PgBackend, database: DatabaseId, why: &str) -> Result<(), sqlx::Error> {
    let recorded: Option<(String, bool)> = sqlx::query_as(
        "update databases set attempts = attempts + 1, last_error = $2,
                retry_at = now() + case when state = 'leased' then least(4, 2 ^ attempts)
                                        when attempts + 1 >= $3 then 60 else 2 ^ attempts end * interval '1 s',
                state = case when attempts + 1 >= $3 and state in ('creating', 'spare', 'retiring') then 'blocked' else state end,
                reason = case when attempts + 1 >= $3 and state in ('creating', 'spare', 'retiring')
                         then state || ' failed three times: ' || $2 else reason end
         where id = $1 returning name, state = 'blocked' and attempts = $3",
    )
    .bind(database.0)
    .bind(why)
    .bind(ATTEMPTS)
    .fetch_optional(&backend.catalog())
    .await?;
    if let Some((database, true)) = recorded {
        tracing::warn!(database, why, "database is blocked after three attempts, retrying once a minute");
    }
    Ok(())
}
