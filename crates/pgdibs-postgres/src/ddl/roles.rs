//! Roles and logins: made, opened, restored, closed and dropped.

use pgdibs_core::name::{DatabaseName, RoleName};
use pgdibs_core::pool::LoginRights;

use super::text::{Ddl, ident, literal};
use crate::rights::Rights;

/// A role that nobody logs in as.
#[must_use]
pub fn create_nologin_role(name: &RoleName) -> Ddl {
    Ddl::of(format!("create role {} nologin", ident(name.as_str())))
}

/// What kind of login is made.
#[derive(Debug, Clone, Copy)]
pub struct LoginKind {
    /// What it may do beyond its database.
    pub may: LoginRights,
    /// Most connections at once; 0 for no limit.
    pub connection_limit: u32,
    /// What the daemon's own role may do.
    pub made_by: Rights,
}

impl LoginKind {
    /// One that may do nothing beyond its database.
    #[must_use]
    pub fn plain(made_by: Rights) -> Self {
        Self { may: LoginRights::Plain, connection_limit: 0, made_by }
    }
}

/// A login that acts as the template's owner from its first statement. `verifier` is a SCRAM verifier, never a password. One that may
/// do more stays itself, since Postgres looks at the rights of the role that acts; it inherits what the owner may.
///
/// `create role … password` tries every new verifier with the empty password, 4096 rounds of hashing (`CreateRole` in Postgres's
/// user.c, to warn of it): 5 ms of processor, a tenth of what a clone costs. A superuser may write the column itself.
#[must_use]
pub fn create_login(name: &RoleName, verifier: &str, acts_as: &RoleName, kind: LoginKind) -> Ddl {
    let (login, owner, verifier) = (ident(name.as_str()), ident(acts_as.as_str()), literal(verifier));
    let (may, acts) = match kind.may {
        LoginRights::Plain => ("", format!("; alter role {login} set role to {owner}")),
        LoginRights::CreateDb => (" createdb", String::new()),
        LoginRights::Superuser => (" superuser", String::new()),
    };
    let limit = match kind.connection_limit {
        0 => String::new(),
        limit => format!(" connection limit {limit}"),
    };
    Ddl::of(if kind.made_by == Rights::Superuser {
        let name = literal(name.as_str());
        format!(
            "create role {login} login{may}{limit} in role {owner}{acts}; \
             update pg_catalog.pg_authid set rolpassword = {verifier} where rolname = {name}"
        )
    } else {
        format!("create role {login} login{may}{limit} password {verifier} in role {owner}{acts}")
    })
}

/// Gives an existing login of ours a new password and its right to log in.
#[must_use]
pub fn reopen_login(name: &RoleName, verifier: &str) -> Ddl {
    Ddl::of(format!("alter role {} login password {}", ident(name.as_str()), literal(verifier)))
}

/// Sets a login's password and its LOGIN back to what it was made with. A superuser changes nothing that is right already, and spares
/// the server its test of the verifier (see [`create_login`]).
#[must_use]
pub fn restore_password(name: &RoleName, verifier: &str, made_by: Rights) -> Ddl {
    let verifier = literal(verifier);
    Ddl::of(if made_by == Rights::Superuser {
        let name = literal(name.as_str());
        format!(
            "update pg_catalog.pg_authid set rolpassword = {verifier}, rolcanlogin = true \
             where rolname = {name} and (rolpassword is distinct from {verifier} or not rolcanlogin)"
        )
    } else {
        format!("alter role {} login password {verifier}", ident(name.as_str()))
    })
}

/// Takes away the settings that a login's holder made for it everywhere, and leaves those that it was made with.
#[must_use]
pub fn reset_settings(name: &RoleName, acts_as: &RoleName, may: LoginRights) -> Ddl {
    let login = ident(name.as_str());
    let acts = match may {
        LoginRights::Plain => format!("; alter role {login} set role to {}", ident(acts_as.as_str())),
        LoginRights::CreateDb | LoginRights::Superuser => String::new(),
    };
    Ddl::of(format!("alter role {login} reset all{acts}"))
}

/// Takes away the settings that a login's holder made for it in one database.
#[must_use]
pub fn reset_settings_in(name: &RoleName, database: &DatabaseName) -> Ddl {
    Ddl::of(format!("alter role {} in database {} reset all", ident(name.as_str()), ident(database.as_str())))
}

/// Lets a login have so many sessions at once; a superuser's are not counted.
#[must_use]
pub fn limit_sessions(name: &RoleName, most: u32) -> Ddl {
    Ddl::of(format!("alter role {} connection limit {most}", ident(name.as_str())))
}

/// Shuts a login at once for new sessions; open ones go on until they are ended.
#[must_use]
pub fn close_login(name: &RoleName) -> Ddl {
    Ddl::of(format!("alter role {} nologin", ident(name.as_str())))
}

/// Drops a role.
#[must_use]
pub fn drop_role(name: &RoleName) -> Ddl {
    Ddl::of(format!("drop role if exists {}", ident(name.as_str())))
}
