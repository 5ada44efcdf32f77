//! Measures what a commit, a checkpoint, and a database made and dropped cost on the server now.

use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;

use super::finding::Examination;
use crate::ddl::{self, ProbeDatabase};
use crate::sqlstate::{self, ErrorClass};

/// The name of this process's sessions on the server; the databases of its probes have the same number in their names.
pub(super) fn application() -> String {
    format!("pgdibs-doctor {}", std::process::id())
}

const COMMITS: usize = 9;
const CLONES: usize = 3;

/// Medians in milliseconds; `None` was not measured.
#[derive(Debug, Default)]
pub(super) struct Costs {
    commit: Option<f64>,
    checkpoint: Option<f64>,
    clone_and_drop: Option<f64>,
}

impl Costs {
    pub(super) fn of_commit(&self) -> Option<String> {
        self.commit.map(|ms| format!("a commit took {ms:.1} ms here"))
    }

    pub(super) fn of_checkpoint(&self) -> Option<String> {
        self.checkpoint.map(|ms| format!("a checkpoint took {ms:.0} ms here"))
    }

    pub(super) fn of_clone(&self) -> Option<String> {
        self.clone_and_drop.map(|ms| format!("an empty database took {ms:.0} ms here to make and drop"))
    }

    /// Of an empty database, with its drop.
    pub(super) fn clone_seconds(&self) -> Option<f64> {
        self.clone_and_drop.map(|ms| ms / 1000.0)
    }
}

fn milliseconds(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}

fn median(mut all: Vec<f64>) -> Option<f64> {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied()
}

pub(super) async fn measure(session: &mut PgConnection, report: &mut Examination) -> Result<Costs, sqlx::Error> {
    remove_left_over(session).await?;
    let mut commits = Vec::new();
    for _ in 0..COMMITS {
        // Assigns a transaction number, so that its commit is written to WAL.
        let began = Instant::now();
        sqlx::query("select pg_current_xact_id()").execute(&mut *session).await?;
        commits.push(milliseconds(began.elapsed()));
    }
    let clone_and_drop = match clones(session).await {
        Ok(taken) => median(taken),
        Err(error) if sqlstate::class(&error) == ErrorClass::Unavailable => return Err(error),
        Err(error) => {
            report.not_seen("clone", format!("no database could be made: {}", sqlstate::sentence(&error)));
            None
        }
    };
    let began = Instant::now();
    let checkpoint = match ddl::checkpoint().run(session).await {
        Ok(()) => Some(milliseconds(began.elapsed())),
        Err(error) if sqlstate::class(&error) == ErrorClass::Forbidden => {
            report.not_seen(
                "checkpoint",
                "only a superuser, or from Postgres 15 on a member of pg_checkpoint, may run one",
            );
            None
        }
        Err(error) => return Err(error),
    };
    Ok(Costs { commit: median(commits), checkpoint, clone_and_drop })
}

async fn clones(session: &mut PgConnection) -> Result<Vec<f64>, sqlx::Error> {
    let mut taken = Vec::new();
    for _ in 0..CLONES {
        let name = ProbeDatabase::of_process(std::process::id());
        let began = Instant::now();
        ddl::create_probe(&name).run(session).await?;
        ddl::drop_database(&name).run(session).await?;
        taken.push(milliseconds(began.elapsed()));
    }
    Ok(taken)
}

/// What a doctor left that was interrupted, whose process has no session any more. Its name and its owner say that it is one's own.
pub(super) async fn remove_left_over(session: &mut PgConnection) -> Result<(), sqlx::Error> {
    let left: Vec<String> = sqlx::query_scalar(
        "select d.datname::text from pg_database d join pg_roles o on o.oid = d.datdba
         where d.datname ~ '^pgdibs_doctor_[0-9]+$' and o.rolname = current_user
           and not exists (select from pg_stat_activity a
                           where a.application_name = 'pgdibs-doctor ' || substring(d.datname from '[0-9]+$') and a.pid <> pg_backend_pid())",
    )
    .fetch_all(&mut *session)
    .await?;
    for name in left.iter().filter_map(|name| ProbeDatabase::recognise(name)) {
        ddl::drop_database(&name).run(session).await?;
    }
    Ok(())
}
