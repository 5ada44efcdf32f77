//! What the builds of sources read: a foreign database as the source of a template, and what a build has made.

use pgdibs_core::error::Error;
use pgdibs_core::name::{DatabaseName, PoolName};
use pgdibs_core::template::TemplateId;
use sqlx::Connection as _;

use crate::context::PgBackend;
use crate::ddl;
use crate::error::PgError;

impl PgBackend {
    /// A digest of a database that changes with every write to it: its identity and its write counters.
    pub async fn database_digest(&self, database: &str) -> Result<String, Error> {
        let catalog = self.catalog();
        let reading = sqlx::query_scalar(
            "select format('%s/%s/%s/%s', oid, pg_stat_get_db_tuples_inserted(oid), pg_stat_get_db_tuples_updated(oid),
                           pg_stat_get_db_tuples_deleted(oid)) from pg_database where datname = $1",
        )
        .bind(database)
        .fetch_optional(&catalog);
        let missing = || Error::DatabaseNotFound(format!("there is no database \"{database}\" to take as a source"));
        self.within(reading).await?.ok_or_else(missing)
    }

    /// Gives a build the settings of its source (`alter database … set`), which are not in a dump of one database.
    pub async fn copy_database_settings(&self, from: &str, pool: &PoolName, to: TemplateId) -> Result<(), Error> {
        self.within(async {
            let build = DatabaseName::build(pool, to.0);
            let settings: Vec<String> = sqlx::query_scalar(
                "select unnest(s.setconfig) from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase
                 where d.datname = $1 and s.setrole = 0",
            )
            .bind(from)
            .fetch_all(&self.catalog())
            .await?;
            let mut connection = self.connections.ddl.acquire().await?;
            for (name, value) in settings.iter().filter_map(|setting| setting.split_once('=')) {
                ddl::database_setting(&build, name, value).run(&mut connection).await?;
            }
            Ok::<_, PgError>(())
        })
        .await
    }

    /// What a build's database holds besides an empty one's: the numbers and the last oids of relations, types, functions, extensions and
    /// schemas, and the settings. Equal texts mean that nothing was made in between.
    pub async fn build_content(&self, pool: &PoolName, template: TemplateId) -> Result<String, Error> {
        self.within(async {
            let build = DatabaseName::build(pool, template.0);
            let mut inside = self.connections.address.connect(build.as_str(), &self.ddl_application()).await?;
            let content: String =
                sqlx::query_scalar(include_str!("../sql/build_content.sql")).fetch_one(&mut inside).await?;
            inside.close().await?;
            Ok::<_, PgError>(content)
        })
        .await
    }
}
