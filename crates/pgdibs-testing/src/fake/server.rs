//! The server of the fake backend: databases, logins and sessions with the rules of Postgres that pgdibs depends on.

use std::collections::{BTreeMap, BTreeSet};

use secrecy::{ExposeSecret as _, SecretString};

/// The number of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Session(pub u64);

/// A database on the fake server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeDatabase {
    /// Its current name; unique on the server.
    pub name: String,
    /// Whether `pgdibs_owner` owns it.
    pub owned: bool,
    /// `datallowconn`.
    pub allow_connections: bool,
    /// `datconnlimit = -2`: a drop of it was interrupted.
    pub invalid: bool,
    /// Logins with the CONNECT right; superusers need none.
    pub connect: BTreeSet<String>,
    /// Sessions since its creation.
    pub sessions_ever: u64,
    /// The rows that sessions wrote, in order. A clone starts with those of its template.
    pub contents: Vec<String>,
}

/// A role that can log in.
#[derive(Debug, Clone)]
pub(super) struct FakeLogin {
    pub(super) password: SecretString,
    pub(super) can_login: bool,
}

/// Databases by oid, logins by name, sessions by number.
#[derive(Debug, Clone, Default)]
pub(super) struct Server {
    pub(super) databases: BTreeMap<u32, FakeDatabase>,
    pub(super) logins: BTreeMap<String, FakeLogin>,
    /// The owner roles of the pools.
    pub(super) owners: BTreeSet<String>,
    pub(super) sessions: BTreeMap<Session, (u32, Option<String>)>,
    oids: u32,
    session_numbers: u64,
}

impl Server {
    pub(super) fn oid_of(&self, name: &str) -> Option<u32> {
        self.databases.iter().find(|(_, found)| found.name == name).map(|(&oid, _)| oid)
    }

    /// `create database`, closed to connections; a clone of `source` if given.
    pub(super) fn create(&mut self, name: &str, owned: bool, source: Option<u32>) -> Result<u32, String> {
        if self.oid_of(name).is_some() {
            return Err(format!("42P04: database \"{name}\" already exists"));
        }
        let contents = match source {
            None => Vec::new(),
            Some(oid) => {
                let source = self.databases.get(&oid).ok_or("3D000: template database does not exist")?;
                if source.invalid {
                    return Err(format!("55000: cannot use invalid database \"{}\" as template", source.name));
                }
                if self.sessions_of(oid) > 0 {
                    return Err(format!("55006: source database \"{}\" is being accessed", source.name));
                }
                source.contents.clone()
            }
        };
        self.oids += 1;
        self.databases.insert(
            16_384 + self.oids,
            FakeDatabase {
                name: name.to_owned(),
                owned,
                allow_connections: false,
                invalid: false,
                connect: BTreeSet::new(),
                sessions_ever: 0,
                contents,
            },
        );
        Ok(16_384 + self.oids)
    }

    /// Whether the database with this oid has this name, so that DDL by name affects it.
    pub(super) fn is_named(&self, oid: u32, name: &str) -> bool {
        self.databases.get(&oid).is_some_and(|found| found.name == name)
    }

    /// The error of `alter database … rename`, if it would fail.
    pub(super) fn rename_error(&self, oid: u32, to: &str) -> Option<String> {
        let Some(found) = self.databases.get(&oid) else {
            return Some("3D000: database does not exist".to_owned());
        };
        if found.invalid {
            return Some(format!("55000: cannot alter invalid database \"{}\"", found.name));
        }
        match self.oid_of(to) {
            Some(other) if other != oid => Some(format!("42P04: database \"{to}\" already exists")),
            _ if self.sessions_of(oid) > 0 => Some(format!("55006: database \"{}\" is being accessed", found.name)),
            _ => None,
        }
    }

    pub(super) fn rename(&mut self, oid: u32, to: &str) -> Result<(), String> {
        if let Some(error) = self.rename_error(oid, to) {
            return Err(error);
        }
        if let Some(found) = self.databases.get_mut(&oid) {
            found.name = to.to_owned();
        }
        Ok(())
    }

    /// `drop database … with (force)`.
    pub(super) fn drop(&mut self, oid: u32) {
        self.terminate(oid);
        self.databases.remove(&oid);
    }

    pub(super) fn sessions_of(&self, oid: u32) -> u32 {
        u32::try_from(self.sessions.values().filter(|(found, _)| *found == oid).count()).unwrap_or(u32::MAX)
    }

    pub(super) fn terminate(&mut self, oid: u32) {
        self.sessions.retain(|_, (found, _)| *found != oid);
    }

    pub(super) fn terminate_login(&mut self, login: &str) {
        self.sessions.retain(|_, (_, found)| found.as_deref() != Some(login));
    }

    /// Removes LOGIN from a login, and ends its sessions.
    pub(super) fn close_login(&mut self, login: &str) {
        if let Some(found) = self.logins.get_mut(login) {
            found.can_login = false;
        }
        self.terminate_login(login);
    }

    /// `drop role`, with its grants.
    pub(super) fn drop_login(&mut self, login: &str) {
        self.terminate_login(login);
        self.logins.remove(login);
        for database in self.databases.values_mut() {
            database.connect.remove(login);
        }
    }

    /// Grants CONNECT to exactly these logins and opens the database.
    pub(super) fn open_to(&mut self, oid: u32, logins: &[&str]) {
        if let Some(found) = self.databases.get_mut(&oid) {
            found.allow_connections = true;
            found.connect = logins.iter().map(|&login| login.to_owned()).collect();
        }
    }

    /// Closes a database and ends its sessions.
    pub(super) fn close(&mut self, oid: u32) {
        if let Some(found) = self.databases.get_mut(&oid) {
            found.allow_connections = false;
            found.connect.clear();
        }
        self.terminate(oid);
    }

    pub(super) fn connect(&mut self, database: &str, user: &str, password: &SecretString) -> Result<Session, String> {
        match self.logins.get(user) {
            Some(login) if login.password.expose_secret() != password.expose_secret() => {
                return Err(format!("28P01: password authentication failed for \"{user}\""));
            }
            Some(login) if login.can_login => {}
            Some(_) => return Err(format!("28000: role \"{user}\" is not permitted to log in")),
            None => return Err(format!("28P01: password authentication failed for \"{user}\"")),
        }
        let oid = self.oid_of(database).ok_or_else(|| format!("3D000: database \"{database}\" does not exist"))?;
        if !self.databases[&oid].connect.contains(user) {
            return Err(format!("42501: permission denied for database \"{database}\""));
        }
        self.enter(oid, Some(user.to_owned()))
    }

    /// A superuser needs no CONNECT right, but cannot connect to a closed database either.
    pub(super) fn connect_as_superuser(&mut self, database: &str) -> Result<Session, String> {
        let oid = self.oid_of(database).ok_or_else(|| format!("3D000: database \"{database}\" does not exist"))?;
        self.enter(oid, None)
    }

    pub(super) fn open_externally(&mut self, database: &str) -> bool {
        let found = self.oid_of(database).and_then(|oid| self.databases.get_mut(&oid));
        found.map(|found| found.allow_connections = true).is_some()
    }

    fn enter(&mut self, oid: u32, user: Option<String>) -> Result<Session, String> {
        let found = self.databases.get_mut(&oid).ok_or("3D000: database does not exist")?;
        if !found.allow_connections || found.invalid {
            return Err(format!("55000: database \"{}\" is not currently accepting connections", found.name));
        }
        found.sessions_ever += 1;
        self.session_numbers += 1;
        let session = Session(self.session_numbers);
        self.sessions.insert(session, (oid, user));
        Ok(session)
    }

    pub(super) fn write(&mut self, session: Session, row: &str) -> Result<(), String> {
        let &(oid, _) = self.sessions.get(&session).ok_or("57P01: terminating connection")?;
        let found = self.databases.get_mut(&oid).ok_or("3D000: database does not exist")?;
        found.contents.push(row.to_owned());
        Ok(())
    }

    pub(super) fn read(&self, session: Session) -> Result<Vec<String>, String> {
        let (oid, _) = self.sessions.get(&session).ok_or("57P01: terminating connection")?;
        Ok(self.databases.get(oid).ok_or("3D000: database does not exist")?.contents.clone())
    }
}
