//! Restores the dump of a template: pg_restore writes the SQL, psql runs it as the builder.
//!
//! Other than a dump of any database, this one keeps the objects of the pool's `roles`, and what no dump has, such as the settings of the
//! database.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::build::{BuildFailure, Runner, blocking, describe};
use super::copying::cannot_read;
use super::dump;
use super::dump_roles::DumpRoles;
use super::psql_report;
use super::source::{Source, SourceKind};
use super::target::BuildTarget;

/// The kinds of entries that only the owner of their object can restore. Of the others that are there, the daemon owns the objects: those
/// of extensions, on which it gives the same rights to each build.
const OF_OWNERS: [&str; 4] = ["ACL ", "COMMENT ", "DEFAULT ACL ", "SECURITY LABEL "];

/// Before the dump: the daemon makes a sealed template durable, and a build that a crash ends is lost anyway.
const SETTINGS: &str = "set synchronous_commit = off;\n";

/// The dump of a template, and what is not in it.
#[derive(Debug, Clone)]
pub struct TemplateDump {
    /// A dump in the custom format, with owners.
    pub archive: PathBuf,
    /// The roles that it names.
    pub roles: DumpRoles,
    /// SQL that follows the dump.
    pub after: String,
}

/// Restores a dump in the empty database of a build. `deadline` and `cancel` are those of [`build`](super::build).
///
/// # Errors
/// The first statement or program that failed.
pub async fn restore(
    dump: &TemplateDump,
    target: &BuildTarget,
    deadline: Duration,
    cancel: CancellationToken,
) -> Result<(), BuildFailure> {
    let directory = dump.archive.parent().unwrap_or(&dump.archive).to_owned();
    let source = Source {
        kind: SourceKind::SqlFile(dump.archive.clone()),
        inputs: Vec::new(),
        base: directory.clone(),
        env: BTreeMap::new(),
        directory,
        timeout: None,
        refresh: None,
        allow_empty: false,
    };
    Runner::new(&source, target, deadline, &cancel).template(dump).await
}

impl Runner<'_> {
    async fn template(&self, dump: &TemplateDump) -> Result<(), BuildFailure> {
        let step = "the template's dump";
        let (contents, listed, sql) = (self.new_file(step)?, self.new_file(step)?, self.new_file(step)?);
        self.restore(step, &["--list".as_ref()], contents.path(), &dump.archive).await?;
        let read = |error| cannot_read(step, &error);
        let list =
            listed_entries(&String::from_utf8_lossy(&std::fs::read(contents.path()).map_err(read)?), &dump.roles);
        std::fs::write(listed.path(), list).map_err(read)?;
        let arguments = ["--use-list".as_ref(), listed.path().as_os_str()];
        self.restore(step, &arguments, sql.path(), &dump.archive).await?;
        let (roles, path, after) = (dump.roles.clone(), sql.path().to_owned(), dump.after.clone());
        let copy = blocking(move || {
            let mut copy = dump::without_owners(&path, &roles)?;
            copy.as_file_mut().write_all(after.as_bytes())?;
            Ok(copy)
        });
        let copy = copy.await.map_err(read)?;
        let finished = self.psql(step, copy.path(), &["-v", "ON_ERROR_STOP=1", "-c", SETTINGS]).await?;
        let status = self.status(step, &finished)?;
        if !status.success() {
            let detail = match finished.output.first_error(&self.secrets) {
                Some(error) => psql_report::sentence(&error.replace(&copy.path().display().to_string(), "its SQL")),
                None => format!("psql {}{}", describe(status), self.last_output(&finished.output)),
            };
            return Err(BuildFailure::new(step, detail));
        }
        Ok(())
    }
}

/// The entries of `pg_restore --list` that the builder can restore. An entry ends with the owner of its object.
fn listed_entries(contents: &str, roles: &DumpRoles) -> String {
    let owner = roles.owner.iter().map(|(owner, _)| owner);
    let owners: Vec<String> = roles.kept.iter().chain(owner).map(|owner| format!(" {owner}")).collect();
    let is_restored = |line: &&str| {
        // `3408; 0 0 ACL public TABLE orders boss`
        let entry = line.splitn(4, ' ').nth(3).unwrap_or_default();
        let is_of_owner = OF_OWNERS.iter().any(|kind| entry.starts_with(kind));
        !is_of_owner || owners.iter().any(|owner| entry.ends_with(owner))
    };
    contents.lines().filter(is_restored).collect::<Vec<_>>().join("\n")
}
