//! What the builds of sources read: a foreign database as the source of a template, and what a build has made.

use pgdibs_core::error::Error;
use pgdibs_core::name::{DatabaseName, PoolName, RoleName};
use pgdibs_core::template::TemplateId;
use sqlx::Connection as _;

use crate::context::PgBackend;
use crate::ddl;
use crate::error::PgError;
use crate::sqlstate;

/// Settings of a source that its copy does not get: the build could not write, or would act as another role.
const NOT_COPIED: [&str; 3] = ["default_transaction_read_only", "role", "session_authorization"];

/// The schema of a source database, as a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSchema {
    /// Its oid, its grants and its settings.
    outside: String,
    /// How many rows were written, ever.
    counters: String,
    inside: String,
}

impl SourceSchema {
    /// A text that changes with the schema.
    pub fn digest(&self) -> String {
        format!("{} {}", self.outside, self.inside)
    }
}

/// An object of a source database that its copy cannot have.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct LeftOut {
    /// The oid of its system catalog.
    pub class: i64,
    pub oid: i64,
    /// As Postgres calls it: `event trigger watcher`.
    pub description: String,
    /// Worth a warning, unlike the columns and indexes of others.
    pub is_reported: bool,
    /// It depends on others that are left out.
    pub is_dependent: bool,
}

impl PgBackend {
    /// The schema of a database, for comparison. `known` is the last one: while the write counters of the database are the same, it has the
    /// answer without a session in that database, which would block `drop database` and `create database … template`.
    pub async fn source_schema(&self, database: &str, known: Option<&SourceSchema>) -> Result<SourceSchema, Error> {
        self.within(async {
            let (outside, counters): (String, String) = sqlx::query_as(
                "select format('%s %s %s', d.oid, d.datacl, array(
                            select s.setconfig from pg_db_role_setting s where s.setdatabase = d.oid and s.setrole = 0)),
                        format('%s %s %s', pg_stat_get_db_tuples_inserted(d.oid), pg_stat_get_db_tuples_updated(d.oid),
                            pg_stat_get_db_tuples_deleted(d.oid))
                 from pg_database d where d.datname = $1",
            )
            .bind(database)
            .fetch_optional(&self.catalog())
            .await?
            .ok_or_else(|| Error::DatabaseNotFound(format!("there is no database \"{database}\" to take as a source")))?;
            if let Some(known) = known
                && (&known.outside, &known.counters) == (&outside, &counters)
            {
                return Ok(known.clone());
            }
            let mut inside = self.connections.address.connect(database, &self.ddl_application()).await?;
            let inside_digest =
                sqlx::query_scalar(include_str!("../sql/schema_digest.sql")).fetch_one(&mut inside).await?;
            inside.close().await?;
            Ok::<_, PgError>(SourceSchema { outside, counters, inside: inside_digest })
        })
        .await
    }

    /// What a copy of a database cannot have.
    pub async fn left_out_of_copy(&self, database: &str) -> Result<Vec<LeftOut>, Error> {
        self.within(async {
            let mut inside = self.connections.address.connect(database, &self.ddl_application()).await?;
            let found = sqlx::query_as(include_str!("../sql/left_out.sql")).fetch_all(&mut inside).await?;
            inside.close().await?;
            Ok::<_, PgError>(found)
        })
        .await
    }

    /// Gives a build the settings of its source (`alter database … set`) and the grants on it, which are not in a dump of one database.
    /// Returns what it did not copy, one sentence each.
    pub async fn copy_database_settings(
        &self,
        from: &str,
        pool: &PoolName,
        to: TemplateId,
    ) -> Result<Vec<String>, Error> {
        self.within(async {
            let build = DatabaseName::build(pool, to.0);
            let settings: Vec<(String, Option<String>)> = sqlx::query_as(
                "select unnest(s.setconfig), r.rolname::text
                 from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase left join pg_roles r on r.oid = s.setrole
                 where d.datname = $1 order by 2 nulls first, 1",
            )
            .bind(from)
            .fetch_all(&self.catalog())
            .await?;
            let grants: Vec<(String, bool, String)> = sqlx::query_as(
                "select a.privilege_type, a.is_grantable, r.rolname::text
                 from pg_database d, aclexplode(d.datacl) a join pg_roles r on r.oid = a.grantee
                 where d.datname = $1 and a.grantee <> d.datdba",
            )
            .bind(from)
            .fetch_all(&self.catalog())
            .await?;
            let (mut connection, mut missing) = (self.connections.ddl.acquire().await?, Vec::new());
            for (setting, role) in &settings {
                let Some((name, value)) = setting.split_once('=') else { continue };
                if let Some(role) = role {
                    missing.push(format!("the setting {name} of role \"{role}\" in it: tests log in as other roles"));
                } else if NOT_COPIED.iter().any(|other| name.eq_ignore_ascii_case(other)) {
                    missing.push(format!("its setting {name} = {value}: neither the copy nor tests could write with it"));
                } else if let Err(error) = ddl::database_setting(&build, name, value).run(&mut connection).await {
                    missing.push(format!("its setting {name} = {value}: {}", sqlstate::sentence(&error)));
                }
            }
            for (privilege, grantable, role) in &grants {
                let Some(grant) = ddl::grant(&build, role, privilege, *grantable) else { continue };
                if let Err(error) = grant.run(&mut connection).await {
                    let why = sqlstate::sentence(&error);
                    missing.push(format!("the grant of {privilege} on it to role \"{role}\": {why}"));
                }
            }
            Ok::<_, PgError>(missing)
        })
        .await
    }

    /// The lock that a session with this application name waits for in a database, and its holder; `None` if it does not wait.
    pub async fn lock_wait(&self, database: &str, application: &str) -> Result<Option<String>, Error> {
        self.within(async {
            let found: Option<(Option<i64>, String)> = sqlx::query_as(
                "select (select l.relation::int8 from pg_locks l where l.pid = w.pid and not l.granted limit 1),
                        coalesce(format('session %s holds (role %s, application %s, %s for %s s); end its transaction, or run: '
                                'select pg_terminate_backend(%1$s)', h.pid, h.usename, coalesce(nullif(h.application_name, ''), 'unnamed'),
                            h.state, extract(epoch from clock_timestamp() - h.state_change)::int8),
                            'a prepared transaction holds (see pg_prepared_xacts)')
                 from pg_stat_activity w cross join unnest(pg_blocking_pids(w.pid)) as blocker (pid)
                      left join pg_stat_activity h on h.pid = blocker.pid
                 where w.datname = $1 and w.application_name = $2 limit 1",
            )
            .bind(database)
            .bind(application)
            .fetch_optional(&self.catalog())
            .await?;
            let Some((relation, holder)) = found else { return Ok(None) };
            let mut inside = self.connections.address.connect(database, &self.ddl_application()).await?;
            let name: Option<String> = sqlx::query_scalar("select $1::oid::regclass::text")
                .bind(relation.unwrap_or_default())
                .fetch_one(&mut inside)
                .await?;
            inside.close().await?;
            let name = name.filter(|name| name != "-").unwrap_or_else(|| "an object".to_owned());
            Ok::<_, PgError>(Some(format!("a lock on {name} of database \"{database}\" that {holder}")))
        })
        .await
    }

    /// What a build's database holds besides an empty one's: the numbers and the last oids of relations, types, functions, extensions and
    /// schemas, and the settings. Equal texts mean that nothing was made in between.
    pub async fn build_content(&self, pool: &PoolName, template: TemplateId) -> Result<String, Error> {
        self.within(async {
            let build = DatabaseName::build(pool, template.0);
            let mut inside = self.connections.address.connect(build.as_str(), &self.ddl_application()).await?;
            let content: String = sqlx::query_scalar(include_str!("../sql/build_content.sql"))
                .bind(RoleName::login(template.0).as_str())
                .fetch_one(&mut inside)
                .await?;
            inside.close().await?;
            Ok::<_, PgError>(content)
        })
        .await
    }
}
