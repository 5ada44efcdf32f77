//! `pgdibs status --watch` on a terminal: a screen with keys. A thread of its own draws and reads keys; requests run beside it.

mod draw;
mod model;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use pgdibs::api::lease::Kept;
use pgdibs::api::status::Status;
use pgdibs::{Client, Method, segment};
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use self::draw::{Palette, draw};
use self::model::{Command, Model};
use super::args::PsqlArgs;
use super::context::Context;
use super::error::CliError;
use super::psql;

/// The time between two requests for the status.
const EVERY: Duration = Duration::from_secs(1);
/// How long the screen waits for a key before it looks for a new status.
const TICK: Duration = Duration::from_millis(100);
/// How long the screen may take to leave the terminal after a signal.
const LEAVE: Duration = Duration::from_secs(1);
/// How long `k` keeps a database.
const KEEP_SECONDS: u32 = 3600;

/// News for the screen.
enum Update {
    Status(Result<Box<Status>, String>),
    /// What a command came to, and whether it failed.
    Outcome(String, bool),
}

/// Shows the screen until its user quits or a signal ends the process. The terminal is as before then.
///
/// # Errors
/// The terminal cannot be used.
pub(super) async fn watch(context: &Context) -> Result<(), CliError> {
    let client = context.client()?;
    let (updates, news) = mpsc::channel();
    let (orders, mut commands) = unbounded_channel();
    let stop = Arc::new(AtomicBool::new(false));
    let polling = tokio::spawn(poll(client.clone(), updates.clone()));
    let screen = Screen { model: Model::new(client.url()), palette: Palette(context.output.colour), news, orders };
    // A thread that the process does not wait for: on a terminal that is gone, crossterm reads for ever.
    let (ended, mut ending) = oneshot::channel();
    let thread = std::thread::Builder::new().name("screen".to_owned()).spawn({
        let stop = Arc::clone(&stop);
        move || {
            let _gone = ended.send(screen.run(&stop));
        }
    });
    thread.map_err(|error| CliError::failed(format!("cannot start a thread: {error}")))?;
    let cannot_catch = |error: io::Error| CliError::failed(format!("cannot catch signals: {error}"));
    let mut terminated = signal(SignalKind::terminate()).map_err(cannot_catch)?;
    let mut hung_up = signal(SignalKind::hangup()).map_err(cannot_catch)?;
    let mut interrupted = signal(SignalKind::interrupt()).map_err(cannot_catch)?;
    let ended = loop {
        tokio::select! {
            ended = &mut ending => break ended,
            Some(order) = commands.recv() => {
                if let Command::Psql { database } = order.command {
                    let opened = open(context, database).await;
                    show_outcome(opened, &client, &updates).await;
                    let _ended = order.done.send(());
                    // Ctrl-C in psql was for psql.
                    interrupted = signal(SignalKind::interrupt()).map_err(cannot_catch)?;
                } else {
                    tokio::spawn(carry_out(order.command, client.clone(), updates.clone()));
                }
                continue;
            }
            _ = terminated.recv() => {}
            _ = hung_up.recv() => {}
            _ = interrupted.recv() => {}
        }
        stop.store(true, Ordering::Relaxed);
        match tokio::time::timeout(LEAVE, &mut ending).await {
            Ok(ended) => break ended,
            Err(_) => return Ok(()),
        }
    };
    polling.abort();
    match ended {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(CliError::failed(format!("cannot use the terminal: {error}"))),
        Err(_) => Err(CliError::failed("the screen ended by a panic, which stands above")),
    }
}

async fn poll(client: Client, updates: mpsc::Sender<Update>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let status = status(&client).await.map_err(|error| error.to_string());
        if updates.send(Update::Status(status)).is_err() {
            return;
        }
    }
}

async fn status(client: &Client) -> Result<Box<Status>, CliError> {
    Ok(client.get("/v1/status").await?.json()?)
}

/// A command, and who waits for its end.
struct Order {
    command: Command,
    done: mpsc::Sender<()>,
}

async fn carry_out(command: Command, client: Client, updates: mpsc::Sender<Update>) {
    let outcome = match command {
        Command::Release { lease, database } => release(&client, &lease, &database).await,
        Command::Keep { lease, database, reason } => keep(&client, &lease, &database, &reason).await,
        Command::Psql { .. } | Command::Quit => return,
    };
    show_outcome(outcome, &client, &updates).await;
}

/// Tells the screen what a command came to, and how things stand after it.
async fn show_outcome(outcome: Result<String, CliError>, client: &Client, updates: &mpsc::Sender<Update>) {
    let (text, failed) = outcome.map_or_else(|error| (error.to_string(), true), |text| (text, false));
    let status = status(client).await.map_err(|error| error.to_string());
    // The screen may have ended.
    let _ended = updates.send(Update::Status(status)).and_then(|()| updates.send(Update::Outcome(text, failed)));
}

async fn release(client: &Client, lease: &str, database: &str) -> Result<String, CliError> {
    client.call(Method::DELETE, &format!("/v1/leases/{}", segment(lease)?), None, Duration::ZERO).await?;
    Ok(format!("released {database}"))
}

async fn keep(client: &Client, lease: &str, database: &str, reason: &str) -> Result<String, CliError> {
    let body = json!({"seconds": KEEP_SECONDS, "reason": reason});
    let path = format!("/v1/leases/{}/keep", segment(lease)?);
    let kept: Kept = client.call(Method::POST, &path, Some(&body), Duration::ZERO).await?.json()?;
    Ok(format!("{database} will stay as {}", kept.kept_database))
}

/// Runs psql on the terminal that the screen has left.
async fn open(context: &Context, database: String) -> Result<String, CliError> {
    let args = PsqlArgs { name: Some(database.clone()), ..PsqlArgs::default() };
    let mut command = psql::command(context, args).await?;
    let run = tokio::task::spawn_blocking(move || command.status());
    let status = run.await.map_err(io::Error::other).and_then(|status| status);
    match status {
        Ok(status) if status.success() => Ok(format!("left psql on {database}")),
        Ok(status) => Err(CliError::failed(format!("psql on {database} ended with {status}"))),
        Err(error) => Err(CliError::failed(format!("cannot run psql: {error}"))),
    }
}

struct Screen {
    model: Model,
    palette: Palette,
    news: mpsc::Receiver<Update>,
    orders: UnboundedSender<Order>,
}

impl Screen {
    /// Draws and reads keys. A panic restores the terminal as well: `try_init` sees to it.
    fn run(mut self, stop: &AtomicBool) -> io::Result<()> {
        let mut terminal = ratatui::try_init()?;
        let result = self.show(&mut terminal, stop);
        ratatui::try_restore()?;
        result
    }

    fn show(&mut self, terminal: &mut ratatui::DefaultTerminal, stop: &AtomicBool) -> io::Result<()> {
        while !stop.load(Ordering::Relaxed) {
            for update in self.news.try_iter() {
                match update {
                    Update::Status(status) => self.model.update(status.map(|status| *status)),
                    Update::Outcome(text, failed) => self.model.outcome = Some((text, failed)),
                }
            }
            terminal.draw(|frame| draw(frame, &self.model, self.palette))?;
            if !event::poll(TICK)? {
                continue;
            }
            // A resize is drawn above; keys that are released do nothing.
            let Event::Key(key) = event::read()? else { continue };
            if key.kind == KeyEventKind::Release {
                continue;
            }
            match self.model.key(key) {
                None => {}
                Some(Command::Quit) => return Ok(()),
                Some(command @ Command::Psql { .. }) => {
                    ratatui::try_restore()?;
                    let done = self.order(command);
                    let _ended = done.recv();
                    *terminal = ratatui::try_init()?;
                }
                Some(command) => {
                    self.model.outcome = Some(("…".to_owned(), false));
                    self.order(command);
                }
            }
        }
        Ok(())
    }

    /// Hands a command on; the receiver says when it is done.
    fn order(&self, command: Command) -> mpsc::Receiver<()> {
        let (done, ended) = mpsc::channel();
        let _ended = self.orders.send(Order { command, done });
        ended
    }
}
