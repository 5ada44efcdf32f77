//! The client programs of Postgres, beside the version of the server.

use std::path::Path;

use pgdibs_server::offline::{Finding, SearchRoots, Severity, find_client_programs};

/// Each program, and what needs it.
const PROGRAMS: [(&str, &str); 3] = [
    ("psql", "sources of SQL and `pgdibs psql` run it"),
    ("pg_dump", "`pgdibs template export` and sources that copy a database run it"),
    ("pg_restore", "`pgdibs template import` and sources that are dumps run it"),
];

/// The programs that are missing, or older than a server of this major version.
pub(super) fn unfit(major: u32, configured: Option<&Path>, roots: &SearchRoots) -> Vec<Finding> {
    let unfit = |(program, needed): (&str, &str)| {
        let older = find_client_programs(&[program], major, configured, roots).err()?;
        let place = configured.map_or("on this machine".to_owned(), |dir| format!("in {}", dir.display()));
        let (severity, text) = match older.iter().max() {
            None => (Severity::Note, format!("{program} is not {place}: {needed}")),
            Some(newest) => (
                Severity::Warning,
                format!(
                    "{program} {place} is of version {newest}, older than the server's {major}: it refuses the server, or fails on what is new; {needed}"
                ),
            ),
        };
        let fix = format!("apt-get install postgresql-client-{major}, or name its directory in PGDIBS_PG_BIN_DIR");
        Some(Finding { fix: Some(fix), ..Finding::new("programs", severity, text) })
    };
    PROGRAMS.into_iter().filter_map(unfit).collect()
}
