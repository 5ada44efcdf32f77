//! `pgdibs run`: finds or starts a daemon, leases databases, runs the command, and cleans up.

mod daemon;
mod environment;
mod acquire;
mod log;

use std::time::Duration;

use pgdibs::Method;
use tokio::task::JoinSet;
use uuid::Uuid;

use self::daemon::StartedDaemon;
use super::args::RunArgs;
use super::command::RunningCommand;
use super::context::Context;
use super::error::CliError;
use super::inherited::Inherited;
use super::output::message;
use super::progress::Progress;
use super::signals::{Signals, exit_code_of};
use pgdibs::api::lease::{Lease, Leases};
use pgdibs::{Client, Error as ClientError, Heartbeat, Renewal};

/// The resources of a run, to be cleaned up however it ends.
#[derive(Debug, Default)]
struct Cleanup {
    /// The client for a daemon that may have granted leases to this run.
    client: Option<Client>,
    /// The daemon that was started for the command.
    daemon: Option<StartedDaemon>,
}

/// Runs the command; returns its exit code.
///
/// # Errors
/// No database could be leased, or the command cannot be started.
pub(super) async fn run(context: &Context, args: RunArgs) -> Result<u8, CliError> {
    environment::check_kept(&args)?;
    let mut signals = Signals::catch()?;
    let run = Uuid::new_v4().to_string();
    let mut cleanup = Cleanup::default();
    let prepared = tokio::select! {
        prepared = prepare(context, &args, &run, &mut cleanup) => prepared,
        received = signals.next() => {
            message(&format!("{} came before the command was started", received.signal));
            cleanup.run(&run, &mut signals).await;
            return Ok(exit_code_of(received.signal as i32));
        }
    };
    let outcome = match prepared {
        Ok((client, leases)) => with_leases(&client, &leases, &args, &mut signals).await,
        Err(error) => Err(error),
    };
    cleanup.run(&run, &mut signals).await;
    outcome
}

/// Finds or starts a daemon and leases what the command needs.
async fn prepare(
    context: &Context,
    args: &RunArgs,
    run: &str,
    cleanup: &mut Cleanup,
) -> Result<(Client, Vec<Lease>), CliError> {
    let wait = Duration::from_secs_f64(args.wait);
    let progress = Progress::start("connecting to the daemon");
    let mut client = context.client()?;
    match client.get("/livez").await {
        Ok(_) => {}
        Err(ClientError::Unavailable { .. }) if context.url.is_none() => {
            client = daemon::find_or_start(context, client.token(), &mut cleanup.daemon, wait, &progress).await?;
        }
        Err(error) => return Err(error.into()),
    }
    let pool = acquire::choose_pool(&client, args.pool.as_deref(), wait, &progress).await?;
    progress.set(format!("waiting for a database of pool {pool}"));
    let client = cleanup.client.insert(client).clone();
    let leases = acquire::acquire(&client, args, run, &pool, wait, &progress).await?;
    drop(progress);
    context.output.info(&acquire::summary(&leases));
    Ok((client, leases))
}

/// Runs the command and renews its leases.
async fn with_leases(client: &Client, leases: &[Lease], args: &RunArgs, signals: &mut Signals) -> Result<u8, CliError> {
    let inherited = Inherited::of_this_process();
    let variables = environment::variables(client, leases, args, &inherited)?;
    if let Some(warning) = environment::warning(&inherited, &variables, &args.keep_env) {
        message(&warning);
    }
    let removed = environment::removed(&args.keep_env);
    let mut command = RunningCommand::start(&args.command, &variables, removed)?;
    let mut heartbeats = JoinSet::new();
    for lease in leases {
        heartbeats.spawn(keep_alive(client.clone(), lease.clone()));
    }
    let outcome = command.wait(signals).await;
    heartbeats.shutdown().await;
    Ok(outcome?.code)
}

impl Cleanup {
    /// Releases the leases, then stops the daemon. A signal skips the release: the leases expire.
    async fn run(self, run: &str, signals: &mut Signals) {
        let _progress = Progress::start("cleaning up");
        let interrupted = tokio::select! {
            () = self.release_leases(run) => None,
            received = signals.next() => Some(received.signal),
        };
        if let Some(signal) = interrupted {
            message(&format!("{signal} interrupted the release of the lease, which expires after its time to live"));
        }
        match self.daemon {
            // It stops when they have ended.
            Some(_) if self.others_hold_leases().await => {}
            Some(mut daemon) => daemon.stop(signals).await,
            None => {}
        }
    }

    /// Whether other runs use the daemon that this run started.
    async fn others_hold_leases(&self) -> bool {
        let Some(client) = &self.client else { return false };
        let Ok(answer) = client.get("/v1/leases").await else { return false };
        answer.json::<Leases>().is_ok_and(|leases| !leases.leases.is_empty())
    }

    /// Ends the whole run, and so also a lease whose grant did not reach this process.
    async fn release_leases(&self, run: &str) {
        let Some(client) = &self.client else { return };
        if let Err(error) = client.call(Method::DELETE, &format!("/v1/runs/{run}"), None, Duration::ZERO).await {
            message(&format!("cannot release the lease, which expires after its time to live: {error}"));
        }
    }
}

/// Renews the lease until it has ended. That does not stop the command, which may not need its database any more.
async fn keep_alive(client: Client, lease: Lease) {
    let database = &lease.database;
    let Ok(heartbeat) = Heartbeat::of(client, &lease) else { return };
    let error = heartbeat
        .run(|renewal| match renewal {
            Renewal::Recovered => message(&format!("the lease of {database} is renewed again")),
            Renewal::Failing(error) => {
                message(&format!("the lease of {database} could not be renewed, trying again: {error}"))
            }
        })
        .await;
    message(&format!("the lease of {database} is over while its command still runs: {error}"));
}
