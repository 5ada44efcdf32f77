//! Steps: carries out what the planner decided. Each step checks again what the plan assumed; a failure is written into its row.

mod build;
pub(crate) mod clone;
mod contended;
mod pre_drop;
pub(crate) mod drop;
mod drop_by_name;
mod fence;
mod held_spare;
mod login;
mod outcome;
mod transitions;
mod seal;
pub(crate) mod sessions;
mod swap;
mod tenants;
mod used;

use std::sync::atomic::Ordering;
use std::time::Duration;

use pgdibs_core::database::DatabaseId;
use pgdibs_core::error::StepError;
use pgdibs_core::name::RoleName;
use pgdibs_core::plan::Step;
use pgdibs_core::template::TemplateId;
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};
use tokio::time::Instant;

use crate::address::CATALOG;
use crate::blockers;
use crate::connections::{DDL_APPLICATION, RECONCILER};
use crate::context::{PgBackend, answer};

use self::outcome::{ServerProcess, sql};

pub(crate) async fn execute(backend: &PgBackend, steps: &[Step]) -> Vec<Result<(), StepError>> {
    let mut results: Vec<Option<Result<(), StepError>>> = vec![None; steps.len()];
    if steps.iter().any(|step| !step.is_slow()) {
        let mut leadership = backend.leadership.lock().await;
        match leadership.as_mut() {
            Some(held) => {
                let within = FAST + FAST_EACH * u32::try_from(steps.len()).unwrap_or(u32::MAX);
                let (began, process) = (Instant::now(), held.process());
                let done = tokio::select! {
                    done = tokio::time::timeout(within, fast(backend, &mut held.connection, steps, &mut results)) => done.is_ok(),
                    () = server_idle(backend, RECONCILER, None, || process) => false,
                    never = blockers::end(backend, blockers::FAST) => match never {},
                };
                if results.iter().flatten().any(Result::is_ok) {
                    held.used = Instant::now();
                }
                if !done {
                    let unreported =
                        steps.iter().zip(&mut results).filter(|(step, result)| !step.is_slow() && result.is_none());
                    for (_, result) in unreported {
                        let seconds = began.elapsed().as_secs();
                        *result = Some(Err(StepError::Unavailable(format!("no answer within {seconds} s"))));
                    }
                }
            }
            None => {
                for (step, result) in steps.iter().zip(&mut results).filter(|(step, _)| !step.is_slow()) {
                    *result = Some(Err(StepError::Unavailable(format!("not reconciling, so not done: {step:?}"))));
                }
            }
        }
        if results.iter().flatten().any(|result| matches!(result, Err(StepError::Unavailable(_)))) {
            // The lock went with the session, and the session may be gone: whoever gathers next applies for leadership again.
            backend.lose(&mut leadership).await;
        }
    }
    for (step, result) in steps.iter().zip(&mut results).filter(|(step, _)| step.is_slow()) {
        *result = Some(slow(backend, step).await);
    }
    let results: Vec<_> = results.into_iter().map(|result| result.unwrap_or(Ok(()))).collect();
    for (step, result) in steps.iter().zip(&results) {
        if let Err(StepError::Failed(why)) = result {
            let recorded = backend.within(async { answer(record(backend, step, why).await) }).await;
            if let Err(error) = recorded {
                tracing::warn!(?step, why, %error, "a step failed, and that could not be recorded; it is planned again");
            }
        }
    }
    results
}

/// Fast steps, in their order, on the reconciler's own connection. Returns go together: their sessions end side by side.
async fn fast(
    backend: &PgBackend,
    connection: &mut PgConnection,
    steps: &[Step],
    results: &mut [Option<Result<(), StepError>>],
) {
    let returns: Vec<(usize, DatabaseId, Option<DatabaseId>)> = steps
        .iter()
        .enumerate()
        .filter_map(|(index, step)| match step {
            Step::Return { used, spare } => Some((index, *used, *spare)),
            _ => None,
        })
        .collect();
    if !returns.is_empty() {
        let returned = swap::return_all(backend, connection, &returns).await;
        if returned.iter().any(|(_, result)| result.is_err()) {
            roll_back(connection).await;
        }
        for (index, result) in returned {
            results[index] = Some(result);
        }
    }
    for (step, result) in steps.iter().zip(results.iter_mut()) {
        if step.is_slow() || matches!(step, Step::Return { .. }) {
            continue;
        }
        *result = Some(match step {
            Step::EndLease { lease, end, renewals, reason } => {
                transitions::end_lease(connection, *lease, *end, *renewals, reason).await
            }
            Step::Reset { lease, used, spare } => swap::reset(backend, connection, *lease, *used, *spare).await,
            Step::Fill { spare, slot } => swap::fill(backend, connection, *spare, *slot).await,
            Step::Retire { database, reason } => transitions::retire(connection, *database, *reason).await,
            Step::NewDatabases { template, count } => transitions::new_databases(connection, *template, *count).await,
            Step::Adopt { database, oid } => transitions::adopt(connection, *database, *oid).await,
            Step::Forget { database, reason } => transitions::forget(connection, *database, &reason.to_string()).await,
            Step::FailBuild { template, reason } => transitions::lose_build(connection, *template, reason).await,
            Step::RetireTemplate { template, reason } => {
                transitions::retire_template(connection, *template, *reason).await
            }
            Step::ForgetPool { pool } => transitions::forget_pool(connection, pool).await,
            Step::Return { .. }
            | Step::Fence { .. }
            | Step::Clone { .. }
            | Step::Drop { .. }
            | Step::CreateBuild { .. }
            | Step::Seal { .. }
            | Step::DropTemplate { .. } => Ok(()),
        });
        if matches!(result, Some(Err(_))) {
            roll_back(connection).await;
        }
    }
}

/// Ends what a failed step left open. Dropping a transaction only queues its rollback for the connection's next statement, and
/// until then it holds its locks: a slow step on another connection would wait for them, and we for it.
async fn roll_back(connection: &mut PgConnection) {
    // If the connection is gone, so are the locks, and the next step will notice.
    let _ = connection.ping().await;
}

/// Waits of fast steps are bounded one by one (statements, sessions that end); what lasts longer than all of them has no answer, if
/// the server could not be asked before.
const FAST: Duration = Duration::from_secs(20);
const FAST_EACH: Duration = Duration::from_secs(3);

/// Carries out a slow step. A `create` or `drop database` takes as long as it takes, so instead of a deadline the server is asked
/// now and then whether it is at it; an answer that was lost on its way is not waited for.
async fn slow(backend: &PgBackend, step: &Step) -> Result<(), StepError> {
    let (pool, number) = backend.connections.ddl.pool();
    let mut connection = sql(pool.acquire().await)?;
    let server = ServerProcess::default();
    let ours = format!("{DDL_APPLICATION}{}", backend.connections.instance);
    // Builds are made and sealed on a further connection, inside their database: there, nothing of ours may be under way at all.
    let alone = match step {
        Step::CreateBuild { template } | Step::Seal { template } => Some(*template),
        _ => None,
    };
    let result = tokio::select! {
        result = act(backend, &mut connection, &server, step) => result,
        // Nobody's number as long as there is none: a first statement, which only reads, has no such time.
        never = blockers::end(backend, blockers::SLOW) => match never {},
        () = server_idle(backend, &ours, alone, || server.0.load(Ordering::Relaxed)) => {
            // Else the pool would wait for it in turn, and never lend it again.
            backend.connections.ddl.discard(number);
            Err(StepError::Unavailable("its answer was lost; what became of it is seen when all is looked at again".to_owned()))
        }
    };
    if result.is_err() && backend.connections.ddl.pool().1 != number {
        connection.close_on_drop();
    }
    result
}

/// Between two questions whether the server is still at a step.
const ASK_AFTER_STEP: Duration = Duration::from_secs(5);

/// Resolves when the server says, twice in a row, that its process (or, for the build `alone`, any that serves this application) is not at
/// anything, while we still wait for it. Every session may take the name of an application, so the login counts as well: the daemon's, or
/// in a seal the build's, which is closed to its builder by then.
async fn server_idle(backend: &PgBackend, application: &str, alone: Option<TemplateId>, process: impl Fn() -> i32) {
    let mut idle = 0;
    let mut logins = vec![backend.connections.facts.role.to_string()];
    if let Some(template) = alone {
        logins.push(RoleName::login(template.0).to_string());
    }
    while idle < 2 {
        tokio::time::sleep(ASK_AFTER_STEP).await;
        let process = process();
        // On a line of its own: those there are may be dead as well.
        let asked = async {
            let mut line = backend.connections.address.connect(CATALOG, "pgdibs").await?;
            let query = sqlx::query_scalar(
                "select exists (select from pg_stat_activity
                   where application_name = $1 and usename = any($4::name[]) and (pid = $2 or $3)
                   and (state = 'active' or state_change > now() - interval '3 s'))",
            );
            let busy: bool =
                query.bind(application).bind(process).bind(alone.is_some()).bind(&logins).fetch_one(&mut line).await?;
            line.close().await?;
            Ok::<_, sqlx::Error>(busy)
        };
        match tokio::time::timeout(ASK_AFTER_STEP, asked).await {
            Ok(Ok(true)) => idle = 0,
            Ok(Ok(false)) => idle += 1,
            // Who does not answer at all says nothing of the step.
            Ok(Err(_)) | Err(_) => {}
        }
    }
}

async fn act(
    backend: &PgBackend,
    connection: &mut PgConnection,
    server: &ServerProcess,
    step: &Step,
) -> Result<(), StepError> {
    match step {
        // Its statements are short, and bounded one by one.
        Step::Fence { database } => fence::fence_apart(backend, connection, *database).await,
        Step::Clone { database } => clone::clone(backend, connection, server, *database).await,
        Step::Drop { database } => drop::drop_database(backend, connection, server, *database).await,
        // Both are judged by whatever of ours is under way.
        Step::CreateBuild { template } => build::create(backend, connection, *template).await,
        Step::Seal { template } => build::seal(backend, connection, *template).await,
        Step::DropTemplate { template } => drop::drop_template(backend, connection, server, *template).await,
        _ => Ok(()),
    }
}

/// Attempts after which a database is blocked: shown with its reason, and tried again once a minute only.
const ATTEMPTS: i32 = 3;

/// Writes a failure into the row it concerns; the next activation after `retry_at` is the retry.
async fn record(backend: &PgBackend, step: &Step, why: &str) -> Result<(), sqlx::Error> {
    match step {
        Step::CreateBuild { template } | Step::Seal { template } => fail_build(backend, *template, why).await,
        Step::DropTemplate { template } => sqlx::query(
            "update templates set attempts = attempts + 1, detail = coalesce(detail || '; ', '') || $2,
                    retry_at = now() + least(60, 2 ^ attempts) * interval '1 s' where id = $1",
        )
        .bind(template.0)
        .bind(why)
        .execute(&backend.connections.catalog)
        .await
        .map(|_| ()),
        _ => match step.database() {
            Some(database) => record_database(backend, database, why).await,
            None => Ok(()),
        },
    }
}

async fn fail_build(backend: &PgBackend, template: TemplateId, why: &str) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update templates set state = 'failed', detail = $2, last_used_at = now() where id = $1 and state = 'building'",
    )
    .bind(template.0)
    .bind(why)
    .execute(&backend.connections.catalog)
    .await
    .map(|_| ())
}

async fn record_database(backend: &PgBackend, database: DatabaseId, why: &str) -> Result<(), sqlx::Error> {
    let row = sqlx::query(
        "update databases set attempts = attempts + 1, last_error = $2,
                retry_at = now() + case when state = 'leased' then least(4, 2 ^ attempts)
                                        when attempts + 1 >= $3 then 60 else 2 ^ attempts end * interval '1 s',
                state = case when attempts + 1 >= $3 and state in ('creating', 'spare', 'retiring') then 'blocked' else state end,
                reason = case when attempts + 1 >= $3 and state in ('creating', 'spare', 'retiring')
                         then state || ' failed three times: ' || $2 else reason end
         where id = $1 returning name, state = 'blocked' and attempts = $3 as blocked",
    )
    .bind(database.0)
    .bind(why)
    .bind(ATTEMPTS)
    .fetch_optional(&backend.connections.catalog)
    .await?;
    if let Some(row) = row
        && row.try_get("blocked")?
    {
        tracing::warn!(
            database = row.try_get::<&str, _>("name")?,
            why,
            "a database is blocked after three attempts; its slot number rests, another serves, and it is tried again once a minute"
        );
    }
    Ok(())
}
