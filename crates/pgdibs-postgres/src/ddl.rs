//! DDL: the only module that puts identifiers into SQL text, from validated name types only.
//!
//! `create database` and its kin take no parameters, so their text has to be composed. Everything composed in pgdibs is
//! composed here and in `ddl/`, and `AssertSqlSafe` occurs in `ddl/text.rs` alone (a tidy test sees to it).

use pgdibs_core::name::{DatabaseName, RoleName, TestsOwnDatabase};
use pgdibs_core::pool::Strategy;

mod housekeeping;
mod roles;
mod text;

pub use self::housekeeping::{VACUUMED, analyze, compact, freeze, vacuum_catalogs};
pub use self::roles::{
    LoginKind, close_login, create_login, create_nologin_role, drop_role, limit_sessions, reopen_login, reset_settings,
    reset_settings_in, restore_password,
};
pub use self::text::Ddl;
use self::text::{ident, literal};

/// `create database … template …`, closed to connections from its first moment.
#[must_use]
pub fn clone_database(
    name: &DatabaseName,
    template: &DatabaseName,
    owner: &RoleName,
    strategy: Option<Strategy>,
) -> Ddl {
    let strategy = strategy.map_or(String::new(), |s| format!(" strategy = {}", s.as_str()));
    Ddl::of(format!(
        "create database {} template = {} owner = {} allow_connections = false{strategy}",
        ident(name.as_str()),
        ident(template.as_str()),
        ident(owner.as_str())
    ))
}

/// `create database … template …` as somebody without pgdibs writes it: what the benchmark compares with.
#[must_use]
pub fn plain_copy(name: &DatabaseName, template: &DatabaseName, strategy: Strategy) -> Ddl {
    let (name, template) = (ident(name.as_str()), ident(template.as_str()));
    Ddl::of(format!("create database {name} template = {template} strategy = {}", strategy.as_str()))
}

/// A database to build a template in, from the pristine `template0`, so that nothing local slips in. Closed to connections: PUBLIC may
/// connect to every new database, and on 14 create in its schema `public`.
#[must_use]
pub fn create_build(name: &DatabaseName, owner: &RoleName) -> Ddl {
    Ddl::of(format!(
        "create database {} template = template0 owner = {} allow_connections = false",
        ident(name.as_str()),
        ident(owner.as_str())
    ))
}

/// Lets the daemon into a build's database before any other role: PUBLIC has no right on it any more when it opens.
#[must_use]
pub fn open_to_the_daemon(name: &DatabaseName) -> Ddl {
    Ddl::of(format!("revoke all on database {} from public", ident(name.as_str()))).then(allow_connections(name, true))
}

/// The catalog itself, closed to connections: PUBLIC may connect to every new database, and on 14 create in its schema `public`.
#[must_use]
pub fn create_catalog() -> Ddl {
    Ddl::of("create database pgdibs template = template0 allow_connections = false".to_owned())
}

/// Opens the catalog, to the daemon alone.
#[must_use]
pub fn open_catalog() -> Ddl {
    Ddl::of("revoke all on database pgdibs from public; alter database pgdibs allow_connections = true".to_owned())
}

/// Takes CONNECT on a database from PUBLIC. In upper case, since a warning prints it for people to run.
///
/// A name with control characters is written with Unicode escapes, so that the statement stays on one line.
#[must_use]
pub fn revoke_public_connect(database: &str) -> Ddl {
    let name = if database.chars().any(char::is_control) {
        let escaped = database.chars().map(|c| match c {
            '\\' => "\\\\".to_owned(),
            c if c.is_control() => format!("\\{:04X}", u32::from(c)),
            c => c.to_string(),
        });
        format!("U&{}", ident(&escaped.collect::<String>()))
    } else {
        ident(database)
    };
    Ddl::of(format!("REVOKE CONNECT ON DATABASE {name} FROM PUBLIC"))
}

/// Drops the catalog (purge).
#[must_use]
pub fn drop_catalog() -> Ddl {
    Ddl::of("drop database if exists pgdibs".to_owned())
}

/// A database that the daemon may alter and drop.
pub trait Database: Sync {
    /// Its name on the server.
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

/// Closes a database that the tests of a lease made. A daemon that is no superuser may have to enter it all the same, for what is prepared
/// there, whatever rights and limits its maker has set.
#[must_use]
pub fn close_tests_own(name: &TestsOwnDatabase) -> Ddl {
    let name = ident(name.as_str());
    Ddl::of(format!(
        "alter database {name} is_template = false; alter database {name} allow_connections = false; \
         alter database {name} connection limit -1; grant connect on database {name} to current_user"
    ))
}

/// `drop database`, without FORCE: sessions have been ended before, and whoever is still there is a reason to look again.
#[must_use]
pub fn drop_database(name: &dyn Database) -> Ddl {
    Ddl::of(format!("drop database {}", ident(name.name())))
}

/// A rename: one row of `pg_database`, allowed in a transaction.
#[must_use]
pub fn rename(from: &dyn Database, to: &dyn Database) -> Ddl {
    Ddl::of(format!("alter database {} rename to {}", ident(from.name()), ident(to.name())))
}

/// Opens or closes a database to new connections, superusers included.
#[must_use]
pub fn allow_connections(name: &dyn Database, allow: bool) -> Ddl {
    Ddl::of(format!("alter database {} allow_connections = {allow}", ident(name.name())))
}

/// Sets or clears the template flag.
#[must_use]
pub fn is_template(name: &DatabaseName, flag: bool) -> Ddl {
    Ddl::of(format!("alter database {} is_template = {flag}", ident(name.as_str())))
}

/// What a clone's ACL is: nobody but its own login may connect; the template's owner, as whom the session acts, may create.
#[must_use]
pub fn close_to_all_but(name: &DatabaseName, login: &RoleName, template_owner: &RoleName) -> Ddl {
    let database = ident(name.as_str());
    let (login, owner) = (ident(login.as_str()), ident(template_owner.as_str()));
    Ddl::of(format!(
        "revoke all on database {database} from public; \
         grant connect on database {database} to {login}; \
         grant create, temporary on database {database} to {owner}"
    ))
}

/// Gives a login the right to connect.
#[must_use]
pub fn grant_connect(name: &DatabaseName, login: &RoleName) -> Ddl {
    Ddl::of(format!("grant connect on database {} to {}", ident(name.as_str()), ident(login.as_str())))
}

/// Takes that right away. Also what lets a login be dropped before its database.
#[must_use]
pub fn revoke_connect(name: &DatabaseName, login: &RoleName) -> Ddl {
    Ddl::of(format!("revoke all on database {} from {}", ident(name.as_str()), ident(login.as_str())))
}

/// A privilege that the template's database granted and its clones get again.
///
/// `privilege` is one of Postgres's names for privileges on databases; anything else gives no statement.
#[must_use]
pub fn grant(name: &DatabaseName, role: &str, privilege: &str, grantable: bool) -> Option<Ddl> {
    let privilege = ["CREATE", "CONNECT", "TEMPORARY"].into_iter().find(|known| *known == privilege)?;
    let role = if role.is_empty() { "public".to_owned() } else { ident(role) };
    let option = if grantable { " with grant option" } else { "" };
    Some(Ddl::of(format!("grant {privilege} on database {} to {role}{option}", ident(name.as_str()))))
}

/// A database-level setting, as `pg_db_role_setting` holds it: `name` may be `my.custom`, `value` any text.
#[must_use]
pub fn database_setting(name: &DatabaseName, setting: &str, value: &str) -> Ddl {
    let parameter = setting.split('.').map(ident).collect::<Vec<_>>().join(".");
    // These are lists of identifiers: as one quoted string they would name a single, odd element.
    let lists =
        ["search_path", "temp_tablespaces", "session_preload_libraries", "local_preload_libraries", "datestyle"];
    let is_list = lists.iter().any(|list| setting.eq_ignore_ascii_case(list));
    let value = if is_list { list_value(value) } else { literal(value) };
    Ddl::of(format!("alter database {} set {parameter} to {value}", ident(name.as_str())))
}

/// `"$user", public` as the catalog stores it, element by element as string constants.
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

/// Rolls a prepared transaction back, from inside its database.
#[must_use]
pub fn roll_back_prepared(name: &str) -> Ddl {
    Ddl::of(format!("rollback prepared {}", literal(name)))
}

/// Drops a subscription from inside its database, and leaves what is on the other side alone: nobody may be there.
#[must_use]
pub fn drop_subscription(name: &str) -> Ddl {
    let name = ident(name);
    Ddl::of(format!(
        "alter subscription {name} disable; alter subscription {name} set (slot_name = none); drop subscription {name}"
    ))
}

/// Makes `member` a member of `role`. From 16 on, inheriting and setting have to be asked for.
#[must_use]
pub fn grant_role(role: &RoleName, member: &RoleName, major: u32) -> Ddl {
    let options = if major >= 16 { " with inherit true, set true" } else { "" };
    Ddl::of(format!("grant {} to {}{options}", ident(role.as_str()), ident(member.as_str())))
}

/// Hands what a builder made under its own name to the template's owner, and takes its remaining rights away.
#[must_use]
pub fn reassign_owned(from: &RoleName, to: &RoleName) -> Ddl {
    let (from, to) = (ident(from.as_str()), ident(to.as_str()));
    Ddl::of(format!("reassign owned by {from} to {to}; drop owned by {from}"))
}

/// Gives schema `public` to the template's owner; without that, a test could not drop and make it again.
#[must_use]
pub fn give_public_schema(owner: &RoleName) -> Ddl {
    Ddl::of(format!("alter schema public owner to {}", ident(owner.as_str())))
}

/// Lets this session act as a role.
#[must_use]
pub fn act_as(role: &RoleName) -> Ddl {
    Ddl::of(format!("set role {}", ident(role.as_str())))
}

/// An extension, made by the daemon's own role because the builder is no superuser. In schema `public`, since the daemon's path leads to
/// `pg_catalog`; an extension that has a schema of its own goes there (`cascade` lets the two differ).
#[must_use]
pub fn create_extension(name: &str) -> Ddl {
    Ddl::of(format!("create extension if not exists {} with schema public cascade", ident(name)))
}

/// What every connection of ours is set to, whatever the server says: with `synchronous_commit = off` a crash once handed one
/// database to two holders. Lock and statement time-outs are ours to choose, so the server's defaults are undone. Our tables are
/// small and each statement has one good plan: planning it again five times on every connection cost more than running it.
///
/// A daemon whose machine or network has gone is noticed after half a minute, not two hours: its sessions hold leadership and locks.
///
/// The path comes first, and leads past everything that another role may have created (see [`inside`](crate::inside)).
#[must_use]
pub fn safe_settings() -> Ddl {
    Ddl::of(
        "set search_path = pg_catalog, pg_temp; set role none; \
         set synchronous_commit = on; set lock_timeout = 0; set statement_timeout = 0; \
         set idle_in_transaction_session_timeout = '20s'; set idle_session_timeout = 0; \
         set tcp_keepalives_idle = 10; set tcp_keepalives_interval = 5; set tcp_keepalives_count = 3; \
         set client_min_messages = warning; set default_transaction_read_only = off; set plan_cache_mode = force_generic_plan"
            .to_owned(),
    )
}

/// These statements in a savepoint of the transaction that is open.
#[must_use]
pub fn in_savepoint(statements: &Ddl) -> Ddl {
    Ddl::of(format!("savepoint attempt; {}; release savepoint attempt", statements.0))
}

/// Undoes the statements of [`in_savepoint`], one of which failed.
#[must_use]
pub fn back_to_savepoint() -> Ddl {
    Ddl::of("rollback to savepoint attempt; release savepoint attempt".to_owned())
}

/// Opens the transaction of the connection on which blockers are looked for, which stays open; after [`safe_settings`].
///
/// Postgres 17 and later also bound the length of a transaction; `set_config` in a query of `pg_settings` is silent where they do not.
#[must_use]
pub fn begin_watch() -> Ddl {
    Ddl::of(
        "select set_config(name, '0', false) from pg_settings
         where name in ('idle_in_transaction_session_timeout', 'transaction_timeout'); \
         begin isolation level read committed read only"
            .to_owned(),
    )
}

/// In the catalog, where the tables are ours and no other role gets in; after [`safe_settings`].
#[must_use]
pub fn see_the_catalog() -> Ddl {
    Ddl::of("set search_path = public".to_owned())
}

/// Bounds the statements of one swap; never used for a drop, which must not be interrupted. A lock that is not to be had within this
/// time is held by a role that is no tenant (see [`crate::blockers`]): the step is tried again later, and holds up no other.
#[must_use]
pub fn bound_statements() -> Ddl {
    Ddl::of("set local statement_timeout = '3s'; set local lock_timeout = '500ms'".to_owned())
}

/// The same to see whether a lock is to be had at all.
#[must_use]
pub fn bound_one_try() -> Ddl {
    Ddl::of("set local statement_timeout = '3s'; set local lock_timeout = '20ms'".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_cannot_be_left() {
        assert_eq!(ident("a\"; drop"), "\"a\"\"; drop\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), "E'a\\\\''b'");
    }

    #[test]
    fn a_search_path_stays_a_list() {
        assert_eq!(list_value("\"$user\", public"), "'$user', 'public'");
        assert_eq!(list_value("\"odd, one\", \"a\"\"b\""), "'odd, one', 'a\"b'");
    }

    #[test]
    fn an_unknown_privilege_gives_no_statement() {
        let pool = pgdibs_core::name::PoolName::parse("p").expect("a valid name");
        let name = DatabaseName::spare(&pool, 1);
        assert!(grant(&name, "r", "CREATE; drop database x", false).is_none());
        assert!(grant(&name, "r", "CONNECT", true).is_some());
    }
}
