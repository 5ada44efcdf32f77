//! The seal's housekeeping: freezes, analyses and compacts a template, with the rights of the makers of its contents.
//!
//! A session that logs in as the tenant's login analyses and vacuums what the tenant created; the daemon itself does that with what `initdb`
//! created alone. Tables of other owners, which are those of extensions, stay as they are. See [`inside`](crate::inside) for the reasons.

use std::time::Duration;

use pgdibs_core::name::{DatabaseName, RoleName};
use secrecy::ExposeSecret as _;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::step_context::StepContext;
use crate::context::blocking;
use crate::ddl::{self, Ddl};
use crate::error::Result;
use crate::scram;
use crate::sqlstate::{self, ErrorClass};

/// Relations up to this size are rewritten at the seal. A larger one costs its contents to copy, not its files.
const COMPACTED_BYTES: i64 = 16 << 20;

/// Timeout for work that runs a tenant's expressions: an index on a function that waits for ever would keep its seal for ever.
const TENANT_TIMEOUT: Duration = Duration::from_secs(300);

/// A relation that is analysed, vacuumed, or both.
#[derive(sqlx::FromRow)]
struct Relation {
    schema: String,
    name: String,
    /// A partition is analysed with its table.
    analysed: bool,
    /// It has contents of its own, in the form that VACUUM FULL writes (heap).
    stored: bool,
    /// Small enough to be rewritten.
    small: bool,
}

/// Freezes, analyses and rewrites what the builder's login may vacuum, in a session of that login, with a new password that only this function
/// knows; the caller closes the login again.
///
/// A failure is logged only: a template that could not be compacted is as good, but slower to copy.
pub(super) async fn compact_what_the_builder_made(
    ctx: &mut StepContext<'_>,
    database: &DatabaseName,
    login: &RoleName,
) -> Result<()> {
    let password = scram::random_password();
    let secret = password.clone();
    let verifier = blocking(move || scram::verifier(secret.expose_secret())).await?;
    // One session, the daemon's: code that the builder left may set a password that the builder knows. CONNECT, because an interrupted seal
    // may have revoked it.
    let opening = ddl::limit_sessions(login, 1)
        .then(ddl::reopen_login(login, &verifier))
        .then(ddl::grant_connect(database, login));
    let working = async {
        let (address, application) = (&ctx.backend.connections.address, ctx.backend.ddl_application());
        ddl::bound_statements().then(opening).run(ctx.connection).await?;
        let mut session = address.connect_as(login, &password, database.as_str(), &application).await?;
        ddl::bound_locks().run(&mut session).await?;
        let skipped = make_small_as_owner(&mut session).await?;
        session.close().await?;
        Ok(skipped)
    };
    let why = match tokio::time::timeout(TENANT_TIMEOUT, working).await {
        Ok(Ok(skipped)) => {
            warn_of_skipped(database, &skipped);
            return Ok(());
        }
        Ok(Err(error)) if is_passing(&error) => return Err(error.into()),
        Ok(Err(error)) => sqlstate::sentence(&error),
        Err(_) => format!("it took longer than {} s", TENANT_TIMEOUT.as_secs()),
    };
    tracing::warn!(%database, %login, "skip ANALYZE and VACUUM of a template's tables, which makes clones slower to copy: {why}");
    Ok(())
}

/// Logs the statements that were left out.
fn warn_of_skipped(database: &DatabaseName, skipped: &[String]) {
    if let [first, ..] = skipped {
        let count = skipped.len();
        tracing::warn!(%database, count, "skip statements of ANALYZE and VACUUM that failed; the template is as good without them: {first}");
    }
}

/// Whether a retry of the seal may succeed. Not if the server accepts the build's login from the builder's machine only, or if a pooler does
/// not know it.
fn is_passing(error: &sqlx::Error) -> bool {
    match sqlstate::code(error).as_deref() {
        Some(code) => sqlstate::class(error) == ErrorClass::Unavailable && !code.starts_with("08"),
        None => true,
    }
}

/// In the tenant's session. The cost of a copy depends on the number of files more than on bytes, and VACUUM leaves up to two further files
/// beside each table (free space, visibility), as `initdb` did beside the catalogs: without them, and without the gaps that migrations leave,
/// 50 tables are 580 files instead of 755, and a copy and its drop take a fifth less.
async fn make_small_as_owner(session: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    let relations: Vec<Relation> = sqlx::query_as(
        "select n.nspname::pg_catalog.text as schema, c.relname::pg_catalog.text as name,
                not c.relispartition as analysed, c.relkind <> 'p' and a.amname = 'heap' as stored,
                pg_catalog.pg_total_relation_size(c.oid::pg_catalog.regclass) <= $1 as small
         from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
              left join pg_catalog.pg_am a on a.oid = c.relam
         where c.relkind in ('r', 'm', 'p') and not c.relisshared and c.relpersistence <> 't'
           and c.oid >= 16384::pg_catalog.oid and pg_catalog.pg_has_role(c.relowner, 'usage'::pg_catalog.text)
         order by c.oid",
    )
    .bind(COMPACTED_BYTES)
    .fetch_all(&mut *session)
    .await?;
    compact(session, &relations).await
}

/// The daemon's own part: what `initdb` created, which no tenant can own or attach an expression to. Later objects have oids from 16384 on
/// (`FirstNormalObjectId`).
pub(super) async fn compact_catalogs(inside: &mut PgConnection, database: &DatabaseName) -> Result<(), sqlx::Error> {
    let relations: Vec<Relation> = sqlx::query_as(
        "select n.nspname::pg_catalog.text as schema, c.relname::pg_catalog.text as name, true as analysed, true as stored,
                pg_catalog.pg_total_relation_size(c.oid::pg_catalog.regclass) <= $1 as small
         from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         where c.oid < 16384::pg_catalog.oid and c.relkind = 'r' and not c.relisshared
         order by c.oid",
    )
    .bind(COMPACTED_BYTES)
    .fetch_all(&mut *inside)
    .await?;
    let skipped = compact(inside, &relations).await?;
    warn_of_skipped(database, &skipped);
    Ok(())
}

/// Small ones are rewritten, large ones are frozen in place. Returns what failed: ANALYZE runs the functions of indexes, and one may need a
/// search_path of its own.
async fn compact(session: &mut PgConnection, relations: &[Relation]) -> Result<Vec<String>, sqlx::Error> {
    let named = |is_among: &dyn Fn(&Relation) -> bool| -> Names {
        relations.iter().filter(|one| is_among(one)).map(|one| (one.schema.clone(), one.name.clone())).collect()
    };
    let mut skipped = on_each(session, ddl::analyze, &named(&|one| one.analysed)).await?;
    let rewritten = on_each(session, ddl::compact, &named(&|one| one.stored && one.small)).await?;
    // An extension may refuse that its tables are rewritten, and a rewrite builds the indexes again.
    let mut frozen = named(&|one| one.stored && !one.small);
    frozen.extend(rewritten.into_iter().map(|(relation, _)| relation));
    skipped.extend(on_each(session, ddl::freeze, &frozen).await?);
    Ok(skipped.into_iter().map(|((schema, name), why)| format!("{schema}.{name}: {why}")).collect())
}

/// Schema and name of relations.
type Names = Vec<(String, String)>;

/// Runs a statement for all relations at once or, when it fails, for each alone. Returns those for which it failed.
async fn on_each(
    session: &mut PgConnection,
    statement: fn(&[(String, String)]) -> Ddl,
    relations: &Names,
) -> Result<Vec<((String, String), String)>, sqlx::Error> {
    match statement(relations).run(session).await {
        Ok(()) => return Ok(Vec::new()),
        Err(error) if sqlstate::class(&error) == ErrorClass::Unavailable => return Err(error),
        Err(_) => {}
    }
    let mut failed = Vec::new();
    for relation in relations {
        match statement(std::slice::from_ref(relation)).run(session).await {
            Ok(()) => {}
            Err(error) if sqlstate::class(&error) == ErrorClass::Unavailable => return Err(error),
            Err(error) => failed.push((relation.clone(), sqlstate::sentence(&error))),
        }
    }
    Ok(failed)
}

/// The number of relations beside Postgres's own.
pub(super) async fn relations(inside: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "select pg_catalog.count(*) from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         where n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')",
    )
    .fetch_one(inside)
    .await
}
