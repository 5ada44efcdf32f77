//! Sessions of the daemon outside its catalog: in databases whose contents another role wrote.
//!
//! A tenant (a builder, the holder of a lease) may create anything in its database, and the daemon's role is usually a superuser. Every name
//! that a statement of the daemon resolves there could be a tenant's function, which would run with the daemon's rights. These rules prevent
//! that:
//!
//! - **`search_path = pg_catalog, pg_temp` from the start.** It is a parameter of the session's start, so it takes precedence over `alter
//!   database … set` and `alter role … [in database …] set`, which a tenant may write for its own roles and a seal copies to clones. With it,
//!   functions, operators and types resolve in `pg_catalog` alone, where only a superuser can create. `pg_temp` comes last, so that a temporary
//!   table never hides a catalog; functions and operators never resolve in `pg_temp`. Without it, `public.pg_total_relation_size(oid)` is a
//!   better match for an `oid` than Postgres's own function, which takes a `regclass`.
//! - **`role = none`** for the same reason: with a `role` setting of the database the daemon would act as another role. `statement_timeout`,
//!   `lock_timeout` and `default_transaction_read_only` are set as well, since a tenant's setting could prevent the daemon's work. A tenant
//!   cannot load a library: only a superuser can set `session_preload_libraries`, and `local_preload_libraries` loads only what the server's
//!   administrator put into `$libdir/plugins`.
//! - **Functions have their schema and exact argument types** where a statement reads a tenant's database, so that the statement is right
//!   even on a search_path that another change breaks.
//! - A tenant cannot create a cast between two types of Postgres, since a cast needs the ownership of one of them, and the statements use
//!   Postgres's own types only. Only a superuser can create event triggers, `login` triggers (17), base types and operator classes. Rules,
//!   triggers, row security and domains fire when a table is read or written: the daemon reads `pg_catalog` alone, and writes nothing.
//! - sqlx sends no statement of its own at the start of a session. It queries only types that are not built in, with qualified names, and the
//!   results of these statements are text, integers and booleans.
//! - **A session that logs in as the tenant's login runs the tenant's code** ([`connect_as`](ServerAddress::connect_as)): ANALYZE computes
//!   expressions of indexes and statistics objects; VACUUM FULL computes expressions and predicates of indexes again. Postgres does that as the
//!   table's owner, but `session_user` stays the daemon's, and several bugs of the server (CVE-2022-1552, CVE-2024-0985 and others) let code
//!   get back to it. In the tenant's own session not even RESET ROLE or RESET SESSION AUTHORIZATION gets to another role. The daemon itself
//!   analyses and vacuums what `initdb` created, by name.
//! - The daemon itself runs REASSIGN OWNED and DROP OWNED, since it alone can give away all that the builder created. They change and delete
//!   catalog rows: they evaluate no expression, and fire no trigger but event triggers. ROLLBACK PREPARED and DROP SUBSCRIPTION likewise.
//! - CREATE EXTENSION runs scripts as the daemon. It runs in a database that no other role could enter before: the build's database is
//!   created without connections, and opened to its builder last (`steps/build.rs`).
//! - pg_dump for a `database` source reads a database that the configuration names, with the daemon's role, and so do the queries of
//!   `source_database.rs`, from system catalogs alone. pg_dump's first statement empties
//!   `search_path` (`pg_dump` 10.3 and later). psql reads sources as the build's login.
//!
//! The catalog is closed to every other role, and the only database with `search_path = public`.

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
