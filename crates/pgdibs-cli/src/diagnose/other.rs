//! Measures a command that is not pytest: the start of its program, several at once, the database, and one whole run.

use std::ffi::OsString;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::databases::Databases;
use super::events::Options;
use super::measure::Measurement;
use super::measured::Database;
use super::runner::{Ending, Interrupted};

/// A longer command runs once.
const REPEATED_UP_TO: f64 = 20.0;

impl Measurement<'_> {
    /// Measures a command of any kind until everything is seen, or a signal comes, which it returns.
    pub(crate) async fn run_any(&mut self) -> Option<Signal> {
        let outcome = self.see_all().await;
        if let Some(databases) = &self.databases {
            databases.remove().await;
        }
        let Interrupted(signal) = outcome.err()?;
        self.measured.is_partial = true;
        Some(signal)
    }

    async fn see_all(&mut self) -> Result<(), Interrupted> {
        self.measured.cannot_see(
            "imports, collection, durations, layouts",
            "the command is not pytest: only the start of its program, several at once, the database and a whole run are measured",
        );
        let Some(program) = self.command.program().cloned() else { return Ok(()) };
        let version = [program.clone(), OsString::from("--version")];
        let counts = self.counts();
        for round in 0..self.rounds {
            for count in &counts {
                let ran = self.runner.run_at_once(&version, &[], self.budget.limit(), *count).await?;
                if let Some(bad) = ran.iter().find(|ran| ran.ending != Ending::Exited(0)) {
                    let why = format!("`{} --version`: {}", program.to_string_lossy(), bad.failure());
                    self.measured.cannot_see("the start of the program", why);
                    break;
                }
                let slowest = ran.iter().map(super::runner::Ran::seconds).fold(0.0, f64::max);
                if *count == 1 {
                    self.measured.interpreter.add(slowest);
                }
                self.measured.at_once(*count).start_up.add(slowest);
            }
            if round == 0 {
                self.find_databases().await;
            }
            self.time_lease().await?;
        }
        self.whole_runs().await
    }

    async fn find_databases(&mut self) {
        // Any command can run on a lease: `pgdibs run` needs no plugin in it.
        let options = Options { pgdibs: true, ..Options::default() };
        match Databases::find(self.context, self.pool.as_deref(), &options, 1).await {
            Ok(databases) => self.databases = Some(databases),
            Err(why) => self.measured.cannot_see("database, a whole run", why),
        }
    }

    /// `pgdibs run -- true`: a lease, and its end.
    async fn time_lease(&mut self) -> Result<(), Interrupted> {
        let Some(words) = self.on_lease(&["true".into()]) else { return Ok(()) };
        let ran = self.runner.run(&words, &[], self.budget.limit()).await?;
        match ran.ending {
            Ending::Exited(0) => self.measured.database.get_or_insert_with(Database::default).lease.add(ran.seconds()),
            _ => self.measured.cannot_see("database", ran.failure()),
        }
        Ok(())
    }

    async fn whole_runs(&mut self) -> Result<(), Interrupted> {
        let command = self.command.words.clone();
        let Some(words) = self.on_lease(&command) else { return Ok(()) };
        for _ in 0..self.rounds {
            if self.measured.start_up.largest().is_some_and(|took| took > REPEATED_UP_TO || !self.budget.allows(took)) {
                break;
            }
            self.progress.set("one whole run of the command");
            let limit = self.budget.limit().max(Duration::from_secs(1));
            let ran = self.runner.run(&words, &[], limit).await?;
            match ran.ending {
                Ending::Exited(0) => self.measured.start_up.add(ran.seconds()),
                _ => {
                    self.measured.cannot_see("a whole run", ran.failure());
                    break;
                }
            }
        }
        Ok(())
    }

    /// The words that run a command on a lease; `None` without a daemon.
    fn on_lease(&self, command: &[OsString]) -> Option<Vec<OsString>> {
        let databases = self.databases.as_ref()?;
        let program = std::env::current_exe().ok()?;
        let mut words = vec![program.into_os_string()];
        words.extend(databases.run_command().into_iter().map(OsString::from));
        words.extend_from_slice(command);
        Some(words)
    }
}
