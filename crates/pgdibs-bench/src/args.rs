//! The flags of `pgdibs-bench`, and how much it measures.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// The format of the results on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

/// A part of the benchmark, which runs alone with `--only`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Group {
    /// One caller and 64 callers acquire from a full pool, at rest and beside returns
    Acquire,
    /// A return with a connected session until the name is clean again; resets beside TRUNCATE
    Return,
    /// 1,000 callers wait for one database
    Waiters,
    /// Cycles of 1 and of 8 callers beside plain CREATE and DROP DATABASE
    Churn,
    /// 1,000 ready databases: acquire, status, reconciler, rest
    Size,
}

impl Group {
    /// In the order in which they run.
    pub(crate) const ALL: [Self; 5] = [Self::Acquire, Self::Return, Self::Waiters, Self::Churn, Self::Size];
}

/// Measure this pgdibs on this machine, beside plain Postgres
///
/// Starts daemons with Postgres servers of their own, builds a template of 50 tables, and prints each measurement beside its goal. It
/// compares each database that it acquires with the template, and stops at one that differs. It does not use your data, and removes its
/// own. A missed goal is printed and is no failure.
#[derive(Debug, Parser)]
#[command(
    name = "pgdibs-bench",
    version,
    after_help = "\
The plain side is as fast as it can be without pgdibs. Each caller keeps its connections for CREATE DATABASE and DROP DATABASE. \
Before the rounds it tries both strategies of CREATE DATABASE, and drops at once or beside the next cycle; the fastest takes part. It waits \
until a session has ended before it drops its database, because DROP DATABASE would wait 100 ms. pgdibs and the plain side use the same \
server in turns; a ratio compares turns of the same round. The turn of pgdibs ends when its pool is full again.

--server-url: the role needs CREATEDB and CREATEROLE, or SUPERUSER. The server must not have a database `pgdibs`: the benchmark starts a \
daemon that creates it. At the end, on Ctrl-C and on failure it drops what it has made: the databases bench…, pgdibs and \
pgdibs_bench_plain…, and the roles pgdibs_…. If it was killed, run `pgdibs purge --server-url URL`.

Ctrl-C prints what is known.

Examples:
  pgdibs-bench
  pgdibs-bench --quick --output json
  pgdibs-bench --only churn --write churn.svg --write churn.json
  PGPASSWORD=secret pgdibs-bench --server-url postgresql://postgres@db.example:5432/postgres"
)]
pub(crate) struct Options {
    /// Less of everything, within a minute
    #[arg(long)]
    pub(crate) quick: bool,
    /// Measure this part alone; may be given several times
    #[arg(long, value_enum, value_name = "PART")]
    only: Vec<Group>,
    /// Measure this server, in place of servers of the benchmark's own. Other users of this machine can read flags: set PGPASSWORD
    #[arg(long, value_name = "URL")]
    pub(crate) server_url: Option<String>,
    /// Write the results to a file as well: NAME.json, NAME.svg, or NAME.md, between the comments `<!-- bench -->` and `<!-- /bench -->`
    #[arg(long, value_name = "FILE", value_parser = known_suffix)]
    pub(crate) write: Vec<PathBuf>,
    /// The format of the results on standard output
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: Format,
    /// The directory of initdb and postgres [default: that of pg_config, /usr/lib/postgresql/*/bin, Homebrew]
    #[arg(long, value_name = "PATH", env = "PGDIBS_PG_BIN_DIR")]
    pub(crate) pg_bin_dir: Option<PathBuf>,
    /// The program to measure [default: the `pgdibs` beside this program]
    #[arg(long, value_name = "PATH")]
    pgdibs: Option<PathBuf>,
    /// The log filter of the benchmark's daemons
    #[arg(long, value_name = "FILTER", default_value = "error")]
    pub(crate) log: String,
}

fn known_suffix(path: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(path);
    match path.extension().and_then(|suffix| suffix.to_str()) {
        Some("json" | "svg" | "md") => Ok(path),
        _ => Err("the name must end in .json, .svg or .md, which is the format".to_owned()),
    }
}

impl Options {
    pub(crate) fn groups(&self) -> Vec<Group> {
        Group::ALL.into_iter().filter(|group| self.only.is_empty() || self.only.contains(group)).collect()
    }

    pub(crate) fn effort(&self) -> Effort {
        if self.quick { Effort::QUICK } else { Effort::FULL }
    }

    /// The program to measure.
    pub(crate) fn program(&self) -> std::io::Result<PathBuf> {
        match &self.pgdibs {
            Some(program) => std::path::absolute(program),
            None => std::env::current_exe().map(|program| program.with_file_name("pgdibs")),
        }
    }
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Timed acquires of one caller (half as many beside returns), returns and resets.
    pub(crate) acquires: usize,
    pub(crate) returns: usize,
    /// Bursts, and batches of acquires with few and many databases ready.
    pub(crate) batches: usize,
    /// Rounds in which sides take turns, and the duration of a turn.
    pub(crate) rounds: u32,
    pub(crate) turn: Duration,
    /// Ready databases of the large pool, and callers that wait for one database.
    pub(crate) ready: u32,
    pub(crate) waiters: usize,
    /// How long the daemon is watched at rest.
    pub(crate) rest: Duration,
}

impl Effort {
    const FULL: Self = Self {
        acquires: 200,
        returns: 100,
        batches: 6,
        rounds: 4,
        turn: Duration::from_secs(3),
        ready: 1000,
        waiters: 1000,
        rest: Duration::from_secs(30),
    };
    const QUICK: Self = Self {
        acquires: 20,
        returns: 10,
        batches: 1,
        rounds: 2,
        turn: Duration::from_millis(400),
        ready: 60,
        waiters: 100,
        rest: Duration::from_secs(2),
    };

    /// About how many seconds a part takes, as measured on two cores; for the time left.
    pub(crate) fn seconds(self, group: Group) -> f64 {
        let turns = self.turn.as_secs_f64() * f64::from(self.rounds);
        match group {
            Group::Acquire => 4.0 + self.acquires as f64 * 0.15 + self.batches as f64 * 3.0,
            Group::Return => self.returns as f64 * 0.12 + turns * 2.0,
            Group::Waiters => 4.0 + self.waiters as f64 * 0.03,
            // Two servers with two numbers of callers; three sides after the tries of the plain one.
            Group::Churn => 4.0 + 4.0 * (4.0 * self.turn.as_secs_f64() / 2.0 + turns * 3.0 + f64::from(self.rounds)),
            Group::Size => 14.0 + f64::from(self.ready) * 0.02 + self.rest.as_secs_f64(),
        }
    }
}
