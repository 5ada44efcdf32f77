//! Copies a database of the same server: pg_dump as the daemon, pg_restore and psql as the builder.
//!
//! `create database … template` would fail while a session is connected to the database, which is usual for a developer's, and the copy's
//! objects would keep their owners. The dump is in the custom format, whose table of contents tells its entries apart by kind and oid.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use secrecy::ExposeSecret as _;
use tempfile::NamedTempFile;
use tokio::process::Command;

use super::build::{BuildFailure, Runner, blocking, describe};
use super::capture::Capture;
use super::{database, dump, environment};

impl Runner<'_> {
    /// Returns what the copy lacks.
    pub(super) async fn copy(&self, name: &str) -> Result<Vec<String>, BuildFailure> {
        let step = format!("the copy of database \"{name}\"");
        let Some(copied) = &self.target.copied else {
            return Err(BuildFailure::new(step, "pgdibs has no login for it"));
        };
        let archive = self.new_file(&step)?;
        let arguments = ["--format=custom", "--compress=0", "--file"].map(OsStr::new);
        self.client_program(&step, "pg_dump", &[&arguments[..], &[archive.path().as_os_str()]].concat()).await?;
        let contents = self.new_file(&step)?;
        self.restore(&step, &["--list".as_ref()], contents.path(), archive.path()).await?;
        let read = contents.path().to_owned();
        let contents = blocking(move || std::fs::read(read)).await.map_err(|error| cannot_read(&step, &error))?;
        let (needed, optional) = database::lists(&String::from_utf8_lossy(&contents), &copied.left_out);
        let needed = self.restored_by(&step, &needed, archive.path()).await?;
        self.run_file(step.clone(), needed.path()).await.map_err(|failure| {
            let detail = failure.detail.replace(&needed.path().display().to_string(), "the dump");
            BuildFailure { detail, ..failure }
        })?;
        let optional = self.restored_by(&step, &optional, archive.path()).await?;
        let prepared = self.prepare(&step, optional.path()).await?;
        let read = prepared.copy.as_ref().map_or(optional.path(), NamedTempFile::path);
        let finished = self.psql(&step, read, &[]).await?;
        let status = self.status(&step, &finished)?;
        match status.success() {
            true => Ok(missing(&finished.output.text(&self.secrets))),
            false => {
                Err(BuildFailure::new(step, format!("psql {}{}", describe(status), self.last_output(&finished.output))))
            }
        }
    }

    /// The SQL of the listed entries of a dump.
    async fn restored_by(&self, step: &str, list: &str, archive: &Path) -> Result<NamedTempFile, BuildFailure> {
        let (listed, file) = (self.new_file(step)?, self.new_file(step)?);
        std::fs::write(listed.path(), list).map_err(|error| cannot_read(step, &error))?;
        let arguments = ["--no-owner".as_ref(), "--use-list".as_ref(), listed.path().as_os_str()];
        self.restore(step, &arguments, file.path(), archive).await?;
        Ok(file)
    }

    pub(super) async fn restore(
        &self,
        step: &str,
        arguments: &[&OsStr],
        file: &Path,
        archive: &Path,
    ) -> Result<(), BuildFailure> {
        let files = ["--file".as_ref(), file.as_os_str(), archive.as_os_str()];
        self.client_program(step, "pg_restore", &[arguments, &files].concat()).await
    }

    /// Runs a program of Postgres with the daemon's login.
    async fn client_program(&self, step: &str, name: &str, arguments: &[&OsStr]) -> Result<(), BuildFailure> {
        let program = self.target.psql.with_file_name(name);
        let mut command = Command::new(&program);
        environment::clean(&mut command);
        let login = self.target.copied.iter().flat_map(|copied| &copied.login);
        command.args(arguments).envs(login.map(|(name, value)| (name, value.expose_secret())));
        command.env_remove("LC_ALL").env("LC_MESSAGES", "C");
        let finished = self.run_as_is(step, command, Capture::default()).await?.map_err(|error| {
            let detail = format!(
                "cannot run {}: {error}; install Postgres's client programs or set pg_bin_dir (PGDIBS_PG_BIN_DIR)",
                program.display()
            );
            BuildFailure::new(step, detail)
        })?;
        let status = self.status(step, &finished)?;
        match status.success() {
            true => Ok(()),
            false => Err(BuildFailure::new(
                step,
                format!("{name} {}{}", describe(status), self.last_output(&finished.output)),
            )),
        }
    }

    pub(super) fn new_file(&self, step: &str) -> Result<NamedTempFile, BuildFailure> {
        dump::new_copy().map_err(|error| BuildFailure::new(step, format!("cannot create a file for the dump: {error}")))
    }
}

pub(super) fn cannot_read(step: &str, error: &io::Error) -> BuildFailure {
    BuildFailure::new(step, format!("cannot read or write the dump's table of contents: {error}"))
}

/// The statements that failed, and those after which the server warned that a privilege was not given or taken.
fn missing(output: &str) -> Vec<String> {
    let mut sentences = Vec::new();
    let mut lines = output.lines().filter(|line| line.starts_with("psql:")).peekable();
    while let Some(line) = lines.next() {
        let Some((_, message)) = [": ERROR:  ", ": WARNING:  "].iter().find_map(|kind| line.split_once(kind)) else {
            continue;
        };
        let message =
            message.split_once(":  ").or_else(|| message.split_once(": ")).map_or(message, |(_, words)| words);
        let statement = lines.next_if(|next| next.contains(": STATEMENT:  "));
        sentences.push(match statement.and_then(|line| line.split_once(": STATEMENT:  ")) {
            Some((_, statement)) => format!("`{statement}`: {message}"),
            None => message.to_owned(),
        });
    }
    sentences.dedup();
    sentences
}

#[cfg(test)]
mod tests {
    use super::missing;

    #[test]
    fn missing_has_each_failed_statement() {
        let output = "psql:/tmp/x.sql:3: ERROR:  42501: permission denied for table spatial_ref_sys\nLOCATION:  aclcheck_error, aclchk.c:3507\n\
                      psql:/tmp/x.sql:3: STATEMENT:  GRANT SELECT ON TABLE public.spatial_ref_sys TO app;\n\
                      psql:/tmp/x.sql:9: WARNING:  01006: no privileges could be revoked for \"pg_sleep\"\nLOCATION:  x\n";
        let expected = [
            "`GRANT SELECT ON TABLE public.spatial_ref_sys TO app;`: permission denied for table spatial_ref_sys",
            "no privileges could be revoked for \"pg_sleep\"",
        ];
        assert_eq!(missing(output), expected);
    }
}
