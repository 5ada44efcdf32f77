//! The disk of the data directory: its kind, its free space, and directories that a crash left there.

use std::path::Path;

use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};
use nix::sys::statvfs::statvfs;
use sqlx::postgres::PgConnection;

use super::environment::Environment;
use super::finding::{Examination, Finding, Severity};
use super::probe::Costs;
use crate::facts::ServerFacts;
use crate::orphans::directories_without_database;
use crate::rights::Rights;

/// With less than this above the floor a few clones of an ordinary template reach it.
const LITTLE_BYTES: u64 = 1 << 30;

/// Directories of `base/` that no database has, with a transaction number that was assigned after they were seen.
#[derive(Default)]
pub(super) struct Suspects {
    directories: Vec<i64>,
    next: i64,
}

pub(super) async fn suspects(session: &mut PgConnection, facts: &ServerFacts) -> Result<Suspects, sqlx::Error> {
    let found = match facts.rights {
        Rights::Superuser => directories_without_database(&mut *session).await?,
        Rights::DatabasesAndRoles => Vec::new(),
    };
    let directories: Vec<i64> = found.into_iter().map(|(oid, _)| oid).collect();
    let next = match directories.is_empty() {
        true => 0,
        false => sqlx::query_scalar("select pg_current_xact_id()::text::int8").fetch_one(session).await?,
    };
    Ok(Suspects { directories, next })
}

pub(super) async fn examine(
    session: &mut PgConnection,
    facts: &ServerFacts,
    environment: &Environment,
    costs: &Costs,
    report: &mut Examination,
) -> Result<(), sqlx::Error> {
    let Some(directory) = facts.data_directory.as_deref() else {
        report.not_seen("disk", "the role may not read data_directory; a member of pg_read_all_settings may");
        return Ok(());
    };
    if !is_on_this_machine(session, facts, directory).await? {
        report.not_seen("disk", format!("the data directory {directory} is not one of this machine"));
        return Ok(());
    }
    let (Ok(kind), Ok(space)) = (statfs(directory), statvfs(directory)) else {
        report.not_seen("disk", format!("the data directory {directory} cannot be read"));
        return Ok(());
    };
    if !facts.non_durable && kind.filesystem_type() != FsType(TMPFS_MAGIC.0) {
        report.add(
            Finding::new(
                "tmpfs",
                Severity::Note,
                format!("the data directory {directory} is on a disk; in memory (tmpfs) clones and drops need not wait for it, whatever fsync is"),
            )
            .costing(costs.of_clone())
            .mended_by(format!("docker run --tmpfs {directory} …, or let pgdibs run its own server in memory")),
        );
    }
    #[allow(clippy::unnecessary_cast, reason = "narrower types than u64 on other systems than Linux")]
    let free = space.blocks_available() as u64 * space.fragment_size() as u64;
    let floor = environment.disk_floor_bytes;
    let shown = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
    if free < floor.saturating_add(LITTLE_BYTES) {
        let (severity, then) = match free < floor {
            true => (Severity::Error, "no clone is made"),
            false => (Severity::Warning, "a few clones more reach it, and then none is made"),
        };
        let text = format!(
            "{} are free on the disk of {directory}, and disk_floor_mb is {}: {then}",
            shown(free),
            shown(floor)
        );
        let fix = "free some space, or lower disk_floor_mb (PGDIBS_DISK_FLOOR_MB)";
        report.add(Finding::new("space", severity, format!("{text}; {fix}")));
    }
    Ok(())
}

/// A server in a container may name a directory that this machine has too, so the contents decide.
async fn is_on_this_machine(
    session: &mut PgConnection,
    facts: &ServerFacts,
    directory: &str,
) -> Result<bool, sqlx::Error> {
    let Ok(here) = std::fs::read_to_string(Path::new(directory).join("postmaster.pid")) else { return Ok(false) };
    if facts.rights != Rights::Superuser {
        return Ok(true);
    }
    let there: String = sqlx::query_scalar("select pg_read_file('postmaster.pid')").fetch_one(session).await?;
    Ok(here == there)
}

pub(super) async fn orphans(
    session: &mut PgConnection,
    facts: &ServerFacts,
    suspects: &Suspects,
    report: &mut Examination,
) -> Result<(), sqlx::Error> {
    if facts.rights != Rights::Superuser {
        report.not_seen("orphans", "only a superuser may list the data directory");
        return Ok(());
    }
    if suspects.directories.is_empty() {
        return Ok(());
    }
    let found = directories_without_database(session).await?;
    if found.iter().any(|(_, oldest)| *oldest <= suspects.next) {
        report.not_seen("orphans", "a transaction that may be making a database has run since the doctor began");
        return Ok(());
    }
    let left = found.iter().filter(|(oid, _)| suspects.directories.contains(oid));
    let left: Vec<String> = left.map(|(oid, _)| format!("base/{oid}")).collect();
    if !left.is_empty() {
        report.add(Finding::new(
            "orphans",
            Severity::Warning,
            format!("{} director(y/ies) of the data directory belong to no database: {}; a crash in the middle of `create database` leaves such ones, and they may be removed with the server stopped", left.len(), left.join(", ")),
        ));
    }
    Ok(())
}
