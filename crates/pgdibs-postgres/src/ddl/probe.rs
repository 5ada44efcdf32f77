//! DDL of the doctor: databases to measure on, and lines for people to run.

use pgdibs_core::name::DatabaseName;

use super::text::{Ddl, ident};

/// A database of the doctor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeDatabase(String);

impl ProbeDatabase {
    /// The one of a process of this machine.
    pub fn of_process(pid: u32) -> Self {
        Self(format!("pgdibs_doctor_{pid}"))
    }

    /// Whether that is the name of one.
    pub fn recognise(name: &str) -> Option<Self> {
        let pid = name.strip_prefix("pgdibs_doctor_")?.parse().ok()?;
        Some(Self::of_process(pid)).filter(|probe| probe.0 == name)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Empty, and closed to connections.
pub fn create_probe(name: &ProbeDatabase) -> Ddl {
    Ddl::of(format!("create database {} template = template0 allow_connections = false", ident(name.as_str())))
}

/// A clone of a template, closed to connections until [`open_probe`]: `create database` runs in no transaction with other statements.
pub fn create_probe_of(name: &ProbeDatabase, template: &DatabaseName) -> Ddl {
    let (name, template) = (ident(name.as_str()), ident(template));
    Ddl::of(format!("create database {name} template = {template} allow_connections = false"))
}

/// Opens it to the doctor alone.
pub fn open_probe(name: &ProbeDatabase) -> Ddl {
    let name = ident(name.as_str());
    Ddl::of(format!("revoke all on database {name} from public; alter database {name} allow_connections = true"))
}

/// In the session's own database.
pub fn drop_public_schema() -> Ddl {
    Ddl::of("drop schema public cascade".to_owned())
}

pub fn checkpoint() -> Ddl {
    Ddl::of("checkpoint".to_owned())
}

/// The line that changes a setting of the server, for people to run.
pub fn shown_alter_system(setting: &str, value: &str, needs_restart: bool) -> String {
    let then = if needs_restart { "; then restart the server" } else { "; select pg_reload_conf()" };
    format!("alter system set {setting} = '{value}'{then}")
}
