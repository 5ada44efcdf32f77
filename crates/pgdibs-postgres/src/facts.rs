//! The server as seen at connect: its version, the rights of the daemon's role, limits, and warnings.

use pgdibs_core::name::RoleName;
use sqlx::PgConnection;
use sqlx::Row as _;

use crate::public_connect;
use crate::rights::Rights;
use crate::rows::Columns as _;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    /// Major version, 14 or later.
    pub major: u32,
    /// The server's own text, e.g. `15.18 (Debian …)`.
    pub version: String,
    /// The daemon's own role.
    pub role: RoleName,
    pub rights: Rights,
    /// `max_connections` less the reserved ones.
    pub max_connections: u32,
    /// `max_locks_per_transaction` times connections: entries in the shared lock table.
    pub lock_entries: u64,
    /// Whether `max_prepared_transactions` allows holders to leave transactions behind that no session holds.
    pub prepares_transactions: bool,
    /// Whether `fsync` is off.
    pub non_durable: bool,
    /// Whether `file_copy_method` may be `clone`, which shares the blocks of copied files on file systems that can: from 18 on, if the server
    /// was built for a system that offers it.
    pub clones_files: bool,
    /// The server's data directory, if the role may read that setting.
    pub data_directory: Option<String>,
    /// Databases that are not pgdibs's and that PUBLIC, and with it the login of every lease, may connect to.
    pub open_to_public: Vec<String>,
}

impl ServerFacts {
    pub async fn read(connection: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let row = sqlx::query(
            "select current_setting('server_version_num')::int4 / 10000 as major, current_setting('server_version') as version,
                    current_user::text as role, r.rolsuper, r.rolcreatedb and r.rolcreaterole as creates,
                    current_setting('max_connections')::int4
                      - current_setting('superuser_reserved_connections')::int4 as connections,
                    current_setting('max_locks_per_transaction')::int8
                      * (current_setting('max_connections')::int8 + current_setting('max_prepared_transactions')::int8) as locks,
                    current_setting('max_prepared_transactions') <> '0' as prepares_transactions,
                    current_setting('fsync') = 'off' as non_durable,
                    exists (select from pg_settings where name = 'file_copy_method' and 'clone' = any(enumvals)) as clones_files,
                    (select setting from pg_settings where name = 'data_directory') as data_directory
             from pg_roles r where r.rolname = current_user",
        )
        .fetch_one(&mut *connection)
        .await?;
        let role: String = row.try_get("role")?;
        let rights = match (row.try_get("rolsuper")?, row.try_get("creates")?) {
            (true, _) => Rights::Superuser,
            (false, true) => Rights::DatabasesAndRoles,
            (false, false) => {
                return Err(sqlx::Error::Configuration(
                    format!(
                        "role \"{role}\" needs CREATEDB and CREATEROLE, because pgdibs creates a database and a login for each lease; run: alter role \"{role}\" createdb createrole"
                    )
                    .into(),
                ));
            }
        };
        Ok(Self {
            major: row.number("major")?,
            version: row.try_get("version")?,
            role: RoleName::parse("role", &role).map_err(|e| sqlx::Error::Configuration(e.into()))?,
            rights,
            max_connections: row.number("connections")?,
            lock_entries: row.number("locks")?,
            prepares_transactions: row.try_get("prepares_transactions")?,
            non_durable: row.try_get("non_durable")?,
            clones_files: row.try_get("clones_files")?,
            data_directory: row.try_get("data_directory")?,
            open_to_public: public_connect::open_to_public(connection).await?,
        })
    }
}
