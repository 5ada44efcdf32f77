//! Statements for roles and logins.

use pgdibs_core::name::{DatabaseName, RoleName};
use pgdibs_core::pool::{LoginRights, LoginSettings};

use super::text::{Ddl, ident, literal};
use crate::rights::Rights;

pub fn create_nologin_role(name: &RoleName) -> Ddl {
    Ddl::of(format!("create role {} nologin", ident(name)))
}

#[derive(Debug, Clone, Copy)]
pub struct LoginKind {
    pub settings: LoginSettings,
    /// Most connections at once; 0 for no limit.
    pub connection_limit: u32,
    /// The rights of the daemon's own role.
    pub made_by: Rights,
}

impl LoginKind {
    pub fn plain(made_by: Rights) -> Self {
        Self { settings: LoginSettings::default(), connection_limit: 0, made_by }
    }
}

/// A login that acts as the template's owner from its first statement, or as itself ([`LoginSettings::sets_role`]), with the rights that it
/// inherits from the owner. `verifier` is a SCRAM verifier, never a password.
///
/// `create role … password` tries every new verifier with the empty password, 4096 rounds of hashing (`CreateRole` in Postgres's
/// user.c, to warn of it): 5 ms of processor time, a tenth of the cost of a clone. A superuser can write the column itself.
pub fn create_login(name: &RoleName, verifier: &str, acts_as: &RoleName, kind: LoginKind) -> Ddl {
    let (login, owner, verifier) = (ident(name), ident(acts_as), literal(verifier));
    let may = match kind.settings.rights {
        LoginRights::Plain => "",
        LoginRights::CreateDb => " createdb",
        LoginRights::Superuser => " superuser",
    };
    let acts = match kind.settings.sets_role() {
        true => format!("; alter role {login} set role to {owner}"),
        false => String::new(),
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

/// A login that is a member of no role, to see whether the server lets one in.
pub fn create_trial_login(name: &RoleName, verifier: &str) -> Ddl {
    Ddl::of(format!("create role {} login password {}", ident(name), literal(verifier)))
}

/// Gives an existing login a new password and LOGIN.
pub fn reopen_login(name: &RoleName, verifier: &str) -> Ddl {
    Ddl::of(format!("alter role {} login password {}", ident(name), literal(verifier)))
}

/// Restores a login's original password and LOGIN. A superuser changes only what differs, and spares the server its test of the verifier (see
/// [`create_login`]).
pub fn restore_password(name: &RoleName, verifier: &str, made_by: Rights) -> Ddl {
    let verifier = literal(verifier);
    Ddl::of(if made_by == Rights::Superuser {
        let name = literal(name.as_str());
        format!(
            "update pg_catalog.pg_authid set rolpassword = {verifier}, rolcanlogin = true \
             where rolname = {name} and (rolpassword is distinct from {verifier} or not rolcanlogin)"
        )
    } else {
        format!("alter role {} login password {verifier}", ident(name))
    })
}

/// Restores a login's original settings for all databases; `sets_role`: the role that it acts as, unless that is itself.
pub fn reset_settings(name: &RoleName, sets_role: Option<&RoleName>) -> Ddl {
    let login = ident(name);
    let acts = sets_role.map_or(String::new(), |role| format!("; alter role {login} set role to {}", ident(role)));
    Ddl::of(format!("alter role {login} reset all{acts}"))
}

/// For a role that pgdibs made as the owner of a pool.
pub fn forget_settings(owner: &RoleName) -> Ddl {
    Ddl::of(format!("alter role {} reset all", ident(owner)))
}

pub fn reset_settings_in(name: &RoleName, database: &DatabaseName) -> Ddl {
    Ddl::of(format!("alter role {} in database {} reset all", ident(name), ident(database)))
}

/// A superuser's sessions do not count.
pub fn limit_sessions(name: &RoleName, most: u32) -> Ddl {
    Ddl::of(format!("alter role {} connection limit {most}", ident(name)))
}

/// For new sessions; open ones go on.
pub fn close_login(name: &RoleName) -> Ddl {
    Ddl::of(format!("alter role {} nologin", ident(name)))
}

pub fn drop_role(name: &RoleName) -> Ddl {
    Ddl::of(format!("drop role if exists {}", ident(name)))
}
