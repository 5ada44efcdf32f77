//! The server as seen at connect: its version, the rights of the daemon's role, limits, and what is worth a warning.

use pgdibs_core::name::RoleName;
use sqlx::PgConnection;
use sqlx::Row as _;

use crate::public_connect;
use crate::rights::Rights;

/// The server as seen at connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    /// Major version, 14 to 18 and later.
    pub major: u32,
    /// The version as the server says it, e.g. `15.18 (Debian …)`.
    pub version: String,
    /// The daemon's own role.
    pub role: RoleName,
    /// What it may do.
    pub rights: Rights,
    /// `max_connections` less the reserved ones.
    pub max_connections: u32,
    /// `max_locks_per_transaction` times connections: entries in the shared lock table.
    pub lock_entries: u64,
    /// Whether `max_prepared_transactions` lets holders leave transactions behind that no session holds.
    pub prepares_transactions: bool,
    /// Whether `fsync` is off.
    pub non_durable: bool,
    /// The server's data directory, if we may know it.
    pub data_directory: Option<String>,
    /// Databases that are not pgdibs's and that PUBLIC, and with it the login of every lease, may connect to.
    pub open_to_public: Vec<String>,
}

impl ServerFacts {
    /// Asks the server.
    ///
    /// # Errors
    /// Whatever Postgres says.
    pub async fn ask(connection: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let row = sqlx::query(
            "select current_setting('server_version_num')::int4 as number, current_setting('server_version') as version,
                    current_user::text as role, r.rolsuper, r.rolcreatedb, r.rolcreaterole,
                    current_setting('max_connections')::int4
                      - current_setting('superuser_reserved_connections')::int4 as connections,
                    current_setting('max_locks_per_transaction')::int8
                      * (current_setting('max_connections')::int8 + current_setting('max_prepared_transactions')::int8) as locks,
                    current_setting('max_prepared_transactions') <> '0' as prepares_transactions,
                    current_setting('fsync') = 'off' as non_durable,
                    (select setting from pg_settings where name = 'data_directory') as data_directory
             from pg_roles r where r.rolname = current_user",
        )
        .fetch_one(&mut *connection)
        .await?;
        let (superuser, createdb, createrole): (bool, bool, bool) =
            (row.try_get("rolsuper")?, row.try_get("rolcreatedb")?, row.try_get("rolcreaterole")?);
        let role: String = row.try_get("role")?;
        let rights = match (superuser, createdb, createrole) {
            (true, _, _) => Rights::Superuser,
            (false, true, true) => Rights::DatabasesAndRoles,
            (false, _, _) => {
                return Err(sqlx::Error::Configuration(
                    format!(
                        "role \"{role}\" needs CREATEDB and CREATEROLE, because pgdibs creates a database and a login for each lease; run: alter role \"{role}\" createdb createrole"
                    )
                    .into(),
                ));
            }
        };
        Ok(Self {
            major: u32::try_from(row.try_get::<i32, _>("number")?).unwrap_or(0) / 10_000,
            version: row.try_get("version")?,
            role: RoleName::parse("role", &role).map_err(|e| sqlx::Error::Configuration(e.into()))?,
            rights,
            max_connections: u32::try_from(row.try_get::<i32, _>("connections")?).unwrap_or(0),
            lock_entries: u64::try_from(row.try_get::<i64, _>("locks")?).unwrap_or(0),
            prepares_transactions: row.try_get("prepares_transactions")?,
            non_durable: row.try_get("non_durable")?,
            data_directory: row.try_get("data_directory")?,
            open_to_public: public_connect::open_to_public(connection).await?,
        })
    }

    /// What is missing and what it costs, one sentence each, for the log at start and for `/v1/status`.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        match self.rights {
            Rights::Superuser => {}
            Rights::DatabasesAndRoles => warnings.push(format!(
                "role \"{}\" is no superuser: untrusted extensions cannot be made for templates, and a superuser's session in a database of ours cannot be ended",
                self.role
            )),
        }
        if !self.non_durable {
            warnings.push(
                "fsync is on: clones and drops take five to ten times as long; a server for tests only is better off with fsync, synchronous_commit and full_page_writes off".to_owned(),
            );
        }
        warnings.extend(public_connect::warning(&self.open_to_public));
        if self.major > 18 {
            warnings
                .push(format!("Postgres {} is newer than the newest version pgdibs was tested with, 18", self.major));
        }
        warnings
    }
}
