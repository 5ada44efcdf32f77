//! `pgdibs run`: a daemon, a lease, a command; and all of it put away in the end.

mod daemon;
mod environment;
mod acquire_requests;

use crate::answer::Answer as _;
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

/// What has to be put away in the end, however far we came.
#[derive(Debug, Default)]
struct Taken {
    /// Of a daemon that may hold leases for our run.
    client: Option<Client>,
    /// Started for the command.
    daemon: Option<StartedDaemon>,
}

/// Runs the command; gives its exit code.
///
/// # Errors
/// When there is no database for it, or it cannot be started.
pub(super) async fn run(context: &Context, args: RunArgs) -> Result<u8, CliError> {
    environment::check_kept(&args)?;
    let mut signals = Signals::catch()?;
    let run = Uuid::new_v4().to_string();
    let mut taken = Taken::default();
    let prepared = tokio::select! {
        prepared = prepare(context, &args, &run, &mut taken) => prepared,
        received = signals.next() => {
            message(&format!("{} came before the command was started", received.signal));
            taken.put_away(&run, &mut signals).await;
            return Ok(exit_code_of(received.signal as i32));
        }
    };
    let ended = match prepared {
        Ok((client, leases)) => with_leases(&client, &leases, &args, &mut signals).await,
        Err(error) => Err(error),
    };
    taken.put_away(&run, &mut signals).await;
    ended
}

/// Finds or starts a daemon and leases what the command needs.
async fn prepare(
    context: &Context,
    args: &RunArgs,
    run: &str,
    taken: &mut Taken,
) -> Result<(Client, Vec<Lease>), CliError> {
    let wait = Duration::from_secs_f64(args.wait);
    let progress = Progress::start("looking for the daemon");
    let mut client = context.client()?;
    match client.get("/livez").await {
        Ok(_) => {}
        Err(ClientError::Unavailable { .. }) if context.url.is_none() => {
            client = daemon::find_or_start(context, client.token(), &mut taken.daemon, wait, &progress).await?;
        }
        Err(error) => return Err(error.into()),
    }
    let pool = acquire_requests::choose_pool(&client, args.pool.as_deref(), wait, &progress).await?;
    progress.now(format!("waiting for a database of pool {pool}"));
    let client = taken.client.insert(client).clone();
    let leases = acquire_requests::acquire(&client, args, run, &pool, wait, &progress).await?;
    Ok((client, leases))
}

/// Runs the command and keeps its leases alive.
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
    let ended = command.end(signals).await;
    heartbeats.shutdown().await;
    Ok(ended?.code)
}

impl Taken {
    /// Ends the leases, then the daemon. A signal meanwhile cuts it short: somebody wants us gone, and the leases end by themselves.
    async fn put_away(self, run: &str, signals: &mut Signals) {
        let _progress = Progress::start("putting away");
        let cut_short = tokio::select! {
            () = self.end_leases(run) => None,
            received = signals.next() => Some(received.signal),
        };
        if let Some(signal) = cut_short {
            message(&format!(
                "{signal} came while the lease was being ended; it ends by itself after its time to live"
            ));
        }
        match self.daemon {
            // It ends by itself when they are done.
            Some(_) if self.others_hold_leases().await => {}
            Some(mut daemon) => daemon.stop(signals).await,
            None => {}
        }
    }

    /// Whether other runs have come to the daemon that we started.
    async fn others_hold_leases(&self) -> bool {
        let Some(client) = &self.client else { return false };
        let Ok(answer) = client.get("/v1/leases").await else { return false };
        answer.read::<Leases>().is_ok_and(|leases| !leases.leases.is_empty())
    }

    /// The run as a whole: that also ends a lease whose grant never reached us.
    async fn end_leases(&self, run: &str) {
        let Some(client) = &self.client else { return };
        if let Err(error) = client.call(Method::DELETE, &format!("/v1/runs/{run}"), None, Duration::ZERO).await {
            message(&format!("the lease could not be ended and ends by itself after its time to live: {error}"));
        }
    }
}

/// Renews the lease until it is over. The command is never ended for it: it may not need its database any more, and its user should see
/// its own failure.
async fn keep_alive(client: Client, lease: Lease) {
    let database = &lease.database;
    let Ok(heartbeat) = Heartbeat::of(client, &lease) else { return };
    let refusal = heartbeat
        .run(|renewal| match renewal {
            Renewal::Recovered => message(&format!("the lease of {database} is renewed again")),
            Renewal::Failing(error) => {
                message(&format!("the lease of {database} could not be renewed, trying again: {error}"))
            }
        })
        .await;
    message(&format!("the lease of {database} is over while its command still runs: {refusal}"));
}
