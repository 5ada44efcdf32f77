//! DDL: the only module that puts identifiers into SQL text, from validated name types only.
//!
//! `create database` and similar statements take no parameters, so their text has to be composed. pgdibs composes SQL only here and in
//! `ddl/`, and `AssertSqlSafe` occurs in `ddl/text.rs` alone (scripts/lint.py checks that).

use pgdibs_core::name::{DatabaseName, RoleName, TestsOwnDatabase};
use pgdibs_core::pool::Strategy;

mod calls;
mod extensions;
mod housekeeping;
mod locale;
mod probe;
mod roles;
mod text;

pub use self::calls::{
    cloned, expect_databases, expect_oids, expect_reset, moved, reset_done, spare_entered, used_left,
};
pub use self::extensions::{create_extension, create_schema, grant_member, own_as_superuser};
pub use self::housekeeping::{VACUUMED, analyze, compact, freeze, vacuum_catalogs};
pub use self::locale::{DatabaseLocale, LocaleClauses};
pub use self::probe::{
    ProbeDatabase, checkpoint, create_probe, create_probe_of, drop_public_schema, open_probe, shown_alter_system,
};
pub use self::roles::{
    LoginKind, close_login, create_login, create_nologin_role, create_trial_login, drop_role, forget_settings,
    limit_sessions, reopen_login, reset_settings, reset_settings_in, restore_password,
};
pub use self::text::Ddl;
use self::text::{ident, literal};

/// `create database … template …`, closed to connections from its first moment.
pub fn clone_database(
    name: &DatabaseName,
    template: &DatabaseName,
    owner: &RoleName,
    strategy: Option<Strategy>,
) -> Ddl {
    let strategy = strategy.map_or(String::new(), |s| format!(" strategy = {}", s.as_str()));
    Ddl::of(format!(
        "create database {} template = {} owner = {} allow_connections = false{strategy}",
        ident(name),
        ident(template),
        ident(owner)
    ))
}

/// Whether file copies of this session clone files: on a file system that can, the copies share the blocks of the originals.
pub fn clone_files(clone: bool) -> Ddl {
    Ddl::of(format!("set file_copy_method = {}", if clone { "clone" } else { "copy" }))
}

/// `create database … template …` without pgdibs, for the benchmark.
pub fn plain_copy(name: &DatabaseName, template: &str, strategy: Option<Strategy>) -> Ddl {
    let strategy = strategy.map_or(String::new(), |s| format!(" strategy = {}", s.as_str()));
    Ddl::of(format!("create database {} template = {}{strategy}", ident(name), ident(template)))
}

/// A database to build a template in, from the pristine `template0`, without local additions to `template1`. Closed to connections: PUBLIC
/// may connect to every new database, and on 14 create in its schema `public`.
pub fn create_build(name: &DatabaseName, owner: &RoleName, locale: &LocaleClauses) -> Ddl {
    Ddl::of(format!(
        "create database {} template = template0 owner = {} allow_connections = false{locale}",
        ident(name),
        ident(owner)
    ))
}

/// Opens a build's database to the daemon alone: PUBLIC loses its rights first.
pub fn open_to_the_daemon(name: &DatabaseName) -> Ddl {
    Ddl::of(format!("revoke all on database {} from public", ident(name))).then(allow_connections(name, true))
}

/// The catalog itself, closed to connections: PUBLIC may connect to every new database, and on 14 create in its schema `public`.
///
/// In UTF-8, whatever the encoding of the cluster: labels have any character. With the order of bytes, so that an upgrade of the server's
/// libraries leaves its indexes right. From 15 on a cluster may have another provider than libc.
pub fn create_catalog(major: u32) -> Ddl {
    let provider = if major >= 15 { " locale_provider = libc" } else { "" };
    Ddl::of(format!(
        "create database pgdibs template = template0 encoding = 'UTF8' lc_collate = 'C' lc_ctype = 'C'{provider} allow_connections = false"
    ))
}

/// Opens the catalog, to the daemon alone.
pub fn open_catalog() -> Ddl {
    Ddl::of("revoke all on database pgdibs from public; alter database pgdibs allow_connections = true".to_owned())
}

/// Revokes CONNECT on a database from PUBLIC. In upper case, since a warning prints it for people to run; a name with control characters has
/// Unicode escapes, so that the statement stays on one line.
pub fn revoke_public_connect(database: &str) -> Ddl {
    let name = if database.chars().any(char::is_control) {
        let escaped = database.chars().map(|c| match c {
            '\\' => "\\\\".to_owned(),
            c if c.is_control() => format!("\\{:04X}", u32::from(c)),
            c => c.to_string(),
        });
        format!("U&{}", ident(escaped.collect::<String>()))
    } else {
        ident(database)
    };
    Ddl::of(format!("REVOKE CONNECT ON DATABASE {name} FROM PUBLIC"))
}

pub fn drop_catalog() -> Ddl {
    Ddl::of("drop database if exists pgdibs".to_owned())
}

/// A database that the daemon may alter and drop.
pub trait Database: Sync {
    fn name(&self) -> &str;
}

impl Database for DatabaseName {
    fn name(&self) -> &str {
        self.as_str()
    }
}

impl Database for TestsOwnDatabase {
    fn name(&self) -> &str {
        self.as_str()
    }
}

impl Database for ProbeDatabase {
    fn name(&self) -> &str {
        self.as_str()
    }
}

/// Closes a database that the tests of a lease created. A daemon that is no superuser may have to enter it to roll back a prepared transaction,
/// whatever rights and limits its maker has set.
pub fn close_tests_own(name: &TestsOwnDatabase) -> Ddl {
    let name = ident(name.as_str());
    Ddl::of(format!(
        "alter database {name} is_template = false; alter database {name} allow_connections = false; \
         alter database {name} connection limit -1; grant connect on database {name} to current_user"
    ))
}

/// Without FORCE: the caller has ended the sessions before, and a remaining one is an error.
pub fn drop_database(name: &dyn Database) -> Ddl {
    Ddl::of(format!("drop database {}", ident(name.name())))
}

/// Changes one row of `pg_database`; allowed in a transaction.
pub fn rename(from: &dyn Database, to: &dyn Database) -> Ddl {
    Ddl::of(format!("alter database {} rename to {}", ident(from.name()), ident(to.name())))
}

/// Opens or closes a database to new connections, superusers included.
pub fn allow_connections(name: &dyn Database, allow: bool) -> Ddl {
    Ddl::of(format!("alter database {} allow_connections = {allow}", ident(name.name())))
}

pub fn is_template(name: &DatabaseName, flag: bool) -> Ddl {
    Ddl::of(format!("alter database {} is_template = {flag}", ident(name)))
}

/// The privileges of a clone: its own login alone may connect; the template's owner, as which the session acts, may create.
pub fn close_to_all_but(name: &DatabaseName, login: &RoleName, template_owner: &RoleName) -> Ddl {
    let database = ident(name);
    let (login, owner) = (ident(login), ident(template_owner));
    Ddl::of(format!(
        "revoke all on database {database} from public; \
         grant connect on database {database} to {login}; \
         grant create, temporary on database {database} to {owner}"
    ))
}

pub fn grant_connect(name: &DatabaseName, login: &RoleName) -> Ddl {
    Ddl::of(format!("grant connect on database {} to {}", ident(name), ident(login)))
}

/// Also allows that the login is dropped before the database.
pub fn revoke_connect(name: &DatabaseName, login: &RoleName) -> Ddl {
    Ddl::of(format!("revoke all on database {} from {}", ident(name), ident(login)))
}

/// A privilege of the template's database that its clones get too. `None` if `privilege` is not the name of a privilege on databases.
pub fn grant(name: &DatabaseName, role: &str, privilege: &str, grantable: bool) -> Option<Ddl> {
    let privilege = ["CREATE", "CONNECT", "TEMPORARY"].into_iter().find(|known| *known == privilege)?;
    let role = if role.is_empty() { "public".to_owned() } else { ident(role) };
    let option = if grantable { " with grant option" } else { "" };
    Some(Ddl::of(format!("grant {privilege} on database {} to {role}{option}", ident(name))))
}

/// A database-level setting, as `pg_db_role_setting` holds it: `name` may be `my.custom`, `value` any text.
pub fn database_setting(name: &DatabaseName, setting: &str, value: &str) -> Ddl {
    let parameter = setting.split('.').map(ident).collect::<Vec<_>>().join(".");
    // Lists of identifiers: one quoted string would name a single element.
    let lists =
        ["search_path", "temp_tablespaces", "session_preload_libraries", "local_preload_libraries", "datestyle"];
    let is_list = lists.iter().any(|list| setting.eq_ignore_ascii_case(list));
    let value = if is_list { list_value(value) } else { literal(value) };
    Ddl::of(format!("alter database {} set {parameter} to {value}", ident(name)))
}

/// Turns `"$user", public`, as the catalog stores it, into string constants, one per element.
fn list_value(stored: &str) -> String {
    let mut elements = Vec::new();
    let mut current = String::new();
    let mut quoted = false;
    let mut characters = stored.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                current.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => elements.push(std::mem::take(&mut current)),
            c if c.is_whitespace() && !quoted => {}
            c => current.push(c),
        }
    }
    elements.push(current);
    elements.iter().map(|element| literal(element)).collect::<Vec<_>>().join(", ")
}

/// From inside its database.
pub fn roll_back_prepared(name: &str) -> Ddl {
    Ddl::of(format!("rollback prepared {}", literal(name)))
}

/// From inside its database, and without the publisher, which may not answer.
pub fn drop_subscription(name: &str) -> Ddl {
    let name = ident(name);
    Ddl::of(format!(
        "alter subscription {name} disable; alter subscription {name} set (slot_name = none); drop subscription {name}"
    ))
}

/// Makes `member` a member of `role`. From Postgres 16 on, INHERIT and SET are options.
pub fn grant_role(role: &RoleName, member: &RoleName, major: u32) -> Ddl {
    grant_membership(role, member, (true, true), major)
}

/// As [`grant_role`], with the right to make others members.
pub fn grant_role_to_build(role: &RoleName, member: &RoleName, major: u32) -> Ddl {
    let options = if major >= 16 { "admin true, inherit true, set true" } else { "admin option" };
    Ddl::of(format!("grant {} to {} with {options}", ident(role), ident(member)))
}

/// Makes `member` a member of `role` with these options, which exist from Postgres 16 on.
pub fn grant_membership(role: &RoleName, member: &RoleName, (inherit, set): (bool, bool), major: u32) -> Ddl {
    let options = if major >= 16 { format!(" with inherit {inherit}, set {set}") } else { String::new() };
    Ddl::of(format!("grant {} to {}{options}", ident(role), ident(member)))
}

pub fn revoke_membership(role: &RoleName, member: &RoleName) -> Ddl {
    Ddl::of(format!("revoke {} from {}", ident(role), ident(member)))
}

/// From Postgres 16 on also takes back what `member` granted with it.
pub fn revoke_admin_option(role: &RoleName, member: &RoleName) -> Ddl {
    Ddl::of(format!("revoke admin option for {} from {} cascade", ident(role), ident(member)))
}

/// Gives what a builder created under its own name to the template's owner, and revokes the builder's remaining rights.
pub fn reassign_owned(from: &RoleName, to: &RoleName) -> Ddl {
    give_all_owned(from, to).then(Ddl::of(format!("drop owned by {}", ident(from))))
}

/// Of the shared objects, and of those in the catalog: databases, in effect.
pub fn give_all_owned(from: &RoleName, to: &RoleName) -> Ddl {
    Ddl::of(format!("reassign owned by {} to {}", ident(from), ident(to)))
}

/// So that a test can drop schema `public` and create it again.
pub fn give_public_schema(owner: &RoleName) -> Ddl {
    Ddl::of(format!("alter schema public owner to {}", ident(owner)))
}

pub fn act_as(role: &RoleName) -> Ddl {
    Ddl::of(format!("set role {}", ident(role)))
}

/// Back from [`act_as`] to the daemon's own role.
pub fn act_as_oneself() -> Ddl {
    Ddl::of("set role none".to_owned())
}

/// Lets these roles create in schema `public`, since `alter … owner to` demands it of the new owner, unless a superuser runs it. They get it from
/// the role that owns the databases, so that [`revoke_create_in_public`] takes away this grant and none of the builder's.
pub fn grant_create_in_public(roles: &[RoleName]) -> Ddl {
    let own = ident(RoleName::database_owner());
    let roles = roles.iter().map(ident).collect::<Vec<_>>().join(", ");
    Ddl::of(format!(
        "grant create on schema public to {own} with grant option; set role {own}; grant create on schema public to {roles}; set role none"
    ))
}

/// As the schema's owner: for a daemon that is no superuser, Postgres would take one of its roles as the one that granted.
pub fn revoke_create_in_public(owner: &RoleName) -> Ddl {
    let (owner, own) = (ident(owner), ident(RoleName::database_owner()));
    Ddl::of(format!("set role {owner}; revoke create on schema public from {own} cascade; set role none"))
}

/// The settings of every connection of the daemon, in place of the server's: with `synchronous_commit = off` a crash once granted one database
/// to two holders. Lock and statement timeouts are undone. The catalog's tables are small and each statement has one good plan: five custom
/// plans on every connection cost more than the statement.
///
/// The statements count on READ COMMITTED: each sees what was committed before it, also after a wait for a lock. Postgres 17 and later limit the
/// length of a transaction, which a clone is too.
///
/// The server notices after half a minute, not two hours, that the daemon's machine or network has failed: its sessions hold leadership and
/// locks.
///
/// The search_path comes first, and has nothing that another role may have created (see [`inside`](crate::inside)).
pub fn safe_settings() -> Ddl {
    Ddl::of(
        "set search_path = pg_catalog, pg_temp; set role none; \
         set synchronous_commit = on; set lock_timeout = 0; set statement_timeout = 0; \
         set idle_in_transaction_session_timeout = '20s'; set idle_session_timeout = 0; \
         set tcp_keepalives_idle = 10; set tcp_keepalives_interval = 5; set tcp_keepalives_count = 3; \
         set client_min_messages = warning; set default_transaction_read_only = off; set plan_cache_mode = force_generic_plan; \
         set default_transaction_isolation = 'read committed'; set default_transaction_deferrable = off; \
         select set_config('transaction_timeout', '0', false) where current_setting('transaction_timeout', true) is not null"
            .to_owned(),
    )
}

/// Ends the transaction that is open after a failed statement.
pub fn roll_back() -> Ddl {
    Ddl::of("rollback".to_owned())
}

/// Opens the transaction of the connection that finds blockers, which stays open; after [`safe_settings`].
pub fn begin_watch() -> Ddl {
    Ddl::of("set idle_in_transaction_session_timeout = 0; begin isolation level read committed read only".to_owned())
}

/// In the catalog, which no other role can enter; after [`safe_settings`].
pub fn see_the_catalog() -> Ddl {
    Ddl::of("set search_path = public".to_owned())
}

/// Limits the statements of one swap; never for a drop, which must not be interrupted. A lock that the statement does not get within this time is
/// held by a role that is no tenant (see [`crate::blockers`]): the step is retried later, and no other step waits for it.
pub fn bound_statements() -> Ddl {
    Ddl::of("set local statement_timeout = '3s'; set local lock_timeout = '500ms'".to_owned())
}

/// Limits each wait for a lock in a session in which the daemon tidies up: what holds one for longer is no tenant's, and the statement is
/// left out or its step fails with a sentence.
pub fn bound_locks() -> Ddl {
    Ddl::of("set lock_timeout = '2s'".to_owned())
}

/// The same, to find out whether a lock is free.
pub fn bound_one_try() -> Ddl {
    Ddl::of("set local statement_timeout = '3s'; set local lock_timeout = '20ms'".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_names_and_constants_stay_closed() {
        assert_eq!(ident("a\"; drop"), "\"a\"\"; drop\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), "E'a\\\\''b'");
    }

    #[test]
    fn list_value_keeps_search_path_a_list() {
        assert_eq!(list_value("\"$user\", public"), "'$user', 'public'");
        assert_eq!(list_value("\"odd, one\", \"a\"\"b\""), "'odd, one', 'a\"b'");
    }

    #[test]
    fn grant_refuses_unknown_privilege() {
        let pool = pgdibs_core::name::PoolName::parse("p").expect("a valid name");
        let name = DatabaseName::spare(&pool, 1);
        assert!(grant(&name, "r", "CREATE; drop database x", false).is_none());
        assert!(grant(&name, "r", "CONNECT", true).is_some());
    }
}
