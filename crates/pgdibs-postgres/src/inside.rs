//! Sessions of the daemon outside of its catalog: in databases whose contents another role wrote.
//!
//! A tenant (a builder, the holder of a lease) may create anything in its database, and the daemon's role is usually a superuser.
//! Every name that a statement of the daemon looks up there is a way to run a tenant's function with the daemon's rights. These rules
//! close it:
//!
//! - **`search_path = pg_catalog, pg_temp` from the first moment.** It is a parameter of the session's start, so it takes precedence
//!   over `alter database … set` and `alter role … [in database …] set`, which a tenant may write for its own roles and a seal copies
//!   to clones. With it, functions, operators and types resolve in `pg_catalog` alone, where only a superuser can create. `pg_temp`
//!   stands last, so that a temporary table never hides a catalog; functions and operators are never looked up in `pg_temp`. Without
//!   it, `public.pg_total_relation_size(oid)` is a better match for an `oid` than Postgres's own function, which takes a `regclass`.
//! - **`role = none`** for the same reason: a `role` setting of the database would have the daemon act as another role.
//!   `statement_timeout`, `lock_timeout` and `default_transaction_read_only` are set as well, since a setting of the tenant's could keep
//!   the daemon from its work. A tenant cannot have a library loaded: `session_preload_libraries` is a superuser's to set, and
//!   `local_preload_libraries` loads only what the server's administrator put into `$libdir/plugins`.
//! - **Functions carry their schema and exact argument types** where a statement reads a tenant's database, so that the statement is
//!   right even on a path that another change breaks.
//! - Casts cannot be planted: a cast needs the ownership of one of its two types, and the statements use Postgres's own types only.
//!   Event triggers, `login` triggers (17) among them, base types and operator classes are a superuser's to create. Rules, triggers,
//!   row security and domains fire when a table is read or written: the daemon reads `pg_catalog` alone, and writes nothing.
//! - sqlx sends no statement of its own at the start of a session. It looks up types only for what is not built in, with qualified
//!   names, and the results of these statements are text, integers and booleans.
//! - **What runs code of tenants runs in a session that logs in as the tenant's login** ([`connect_as`](ServerAddress::connect_as)):
//!   ANALYZE computes expressions of indexes and statistics objects; VACUUM FULL computes expressions and predicates of indexes again.
//!   Postgres does that as the table's owner, but `session_user` stays the daemon's, and the history of the server (CVE-2022-1552,
//!   CVE-2024-0985 and others) is one of ways back to it. In the tenant's own session no way back leads anywhere, not even RESET ROLE
//!   or RESET SESSION AUTHORIZATION. The daemon itself analyses and vacuums what `initdb` made, by name.
//! - REASSIGN OWNED and DROP OWNED stay with the daemon, which alone may hand on whatever the builder made, in whatever order. They
//!   change and delete catalog rows: no expression is evaluated, no trigger but an event trigger fires. ROLLBACK PREPARED and DROP
//!   SUBSCRIPTION likewise.
//! - CREATE EXTENSION runs scripts as the daemon. It runs in a database that no other role could enter before: the build's database is
//!   created without connections, and opened to its builder last (`steps/build.rs`).
//! - pg_dump for a `database` source reads a database that the configuration names, with the daemon's role. It empties `search_path` in
//!   its first statement (`pg_dump` 10.3 and later). psql reads sources as the build's login.
//!
//! The catalog is closed to every other role, and the only database where `search_path` is `public`.

use pgdibs_core::name::RoleName;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::{PgConnectOptions, PgConnection};

use crate::address::{ServerAddress, open};
use crate::ddl;
use crate::sqlstate;

/// Settings with which a session outside of the catalog starts. The last option of a name counts, so these come after those of the
/// server's URL.
const AT_START: [(&str, &str); 7] = [
    ("search_path", "pg_catalog,pg_temp"),
    ("role", "none"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_session_timeout", "0"),
    // A missing library ends a session at its start.
    ("local_preload_libraries", ""),
    ("default_transaction_read_only", "off"),
];

impl ServerAddress {
    /// A session of the daemon's own role in a database that other roles may write to.
    pub(crate) async fn connect_inside(
        &self,
        database: &str,
        application_name: &str,
    ) -> Result<PgConnection, sqlx::Error> {
        connect_safely(self.options.clone().database(database).application_name(application_name)).await
    }

    /// A session of another login: what runs there has that login's rights, and cannot get back to the daemon's role.
    pub(crate) async fn connect_as(
        &self,
        login: &RoleName,
        password: &SecretString,
        database: &str,
        application_name: &str,
    ) -> Result<PgConnection, sqlx::Error> {
        let options = self.options.clone().username(login.as_str()).password(password.expose_secret());
        connect_safely(options.database(database).application_name(application_name)).await
    }
}

/// A pooler in session mode may refuse options at the start. Then the same settings are the session's first statement.
async fn connect_safely(options: PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let mut connection = match open(&options.clone().options(AT_START)).await {
        Err(error) if sqlstate::code(&error).as_deref() == Some("08P01") => open(&options).await?,
        other => other?,
    };
    ddl::safe_settings().run(&mut connection).await?;
    Ok(connection)
}
