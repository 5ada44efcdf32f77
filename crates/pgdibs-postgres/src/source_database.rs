//! A database of somebody else's as the source of a template: it is only ever read.

use pgdibs_core::error::Error;
use pgdibs_core::name::{DatabaseName, PoolName};
use pgdibs_core::template::TemplateId;

use crate::context::{PgBackend, answer};
use crate::ddl;

impl PgBackend {
    /// A digest of a database that changes with every write to it: its identity and its write counters.
    ///
    /// # Errors
    /// [`Error::ServerUnavailable`]; [`Error::DatabaseNotFound`].
    pub async fn database_digest(&self, database: &str) -> Result<String, Error> {
        self.within(async {
        let digest: Option<String> = answer(
            sqlx::query_scalar(
                "select format('%s/%s/%s/%s', oid, pg_stat_get_db_tuples_inserted(oid), pg_stat_get_db_tuples_updated(oid),
                               pg_stat_get_db_tuples_deleted(oid)) from pg_database where datname = $1",
            )
            .bind(database)
            .fetch_optional(&self.connections.catalog)
            .await,
        )?;
        digest.ok_or_else(|| missing(database))
        }).await
    }

    /// Gives a build the settings of its source (`alter database … set`), which a dump of one database does not hold.
    ///
    /// # Errors
    /// [`Error::ServerUnavailable`]; a build that is gone.
    pub async fn copy_database_settings(&self, from: &str, pool: &PoolName, to: TemplateId) -> Result<(), Error> {
        self.within(async {
            let build = DatabaseName::build(pool, to.0);
            let settings: Vec<String> = answer(
                sqlx::query_scalar(
                    "select unnest(s.setconfig) from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase
                 where d.datname = $1 and s.setrole = 0",
                )
                .bind(from)
                .fetch_all(&self.connections.catalog)
                .await,
            )?;
            let mut connection = answer(self.connections.ddl.acquire().await)?;
            for (name, value) in settings.iter().filter_map(|setting| setting.split_once('=')) {
                answer(ddl::database_setting(&build, name, value).run(&mut connection).await)?;
            }
            Ok(())
        })
        .await
    }
}

fn missing(database: &str) -> Error {
    Error::DatabaseNotFound(format!("there is no database \"{database}\" to take as a source"))
}
