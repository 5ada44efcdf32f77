//! Databases that other tools left on the server. The doctor names them and drops none.

use std::collections::HashMap;

use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::finding::{Examination, Finding, Severity};
use crate::facts::ServerFacts;
use crate::rights::Rights;

/// More are counted, not named.
const MOST_NAMED: usize = 20;

struct LeftOver {
    name: String,
    bytes: Option<i64>,
}

/// `catalog` knows which of them are pgdibs's own or were made by the tests of a lease.
pub(super) async fn examine(
    session: &mut PgConnection,
    catalog: Option<&mut PgConnection>,
    facts: &ServerFacts,
    report: &mut Examination,
) -> Result<(), sqlx::Error> {
    let found = sqlx::query(
        "select d.datname::text as name,
                case when has_database_privilege(d.oid, 'CONNECT') or pg_has_role('pg_read_all_stats', 'usage') then pg_database_size(d.oid) end as bytes
         from pg_database d join pg_roles o on o.oid = d.datdba
         where (d.datname like 'test\\_%' or d.datname ~ '_gw[0-9]+$') and o.rolname <> 'pgdibs_owner' and o.rolname !~ '^pgdibs_l_[0-9]+$'
           and not exists (select from pg_stat_activity a where a.datid = d.oid)
         order by 1",
    )
    .try_map(|row: PgRow| Ok(LeftOver { name: row.try_get("name")?, bytes: row.try_get("bytes")? }))
    .fetch_all(&mut *session)
    .await?;
    let own: Vec<String> = match catalog {
        Some(catalog) => {
            sqlx::query_scalar("select name::text from server_databases where made_by_tests").fetch_all(catalog).await?
        }
        None => Vec::new(),
    };
    let found: Vec<LeftOver> = found.into_iter().filter(|left| !own.contains(&left.name)).collect();
    if found.is_empty() {
        return Ok(());
    }
    let days = days_of_change(session, facts, &found).await?;
    if facts.rights != Rights::Superuser {
        report.not_seen("leftovers", "when they were last used, and the size of those that the role may not connect to: only a superuser may see files");
    }
    let bytes: i64 = found.iter().filter_map(|left| left.bytes).sum();
    let lines: Vec<String> = found
        .iter()
        .take(MOST_NAMED)
        .map(|left| {
            let used = days.get(&left.name).map_or(String::new(), |day| format!("   # last changed on {day}"));
            format!("dropdb '{}'{used}", left.name.replace('\'', "'\\''"))
        })
        .collect();
    let more = found.len().saturating_sub(MOST_NAMED);
    let more = if more > 0 { format!("\n… and {more} more") } else { String::new() };
    report.add(
        Finding::new(
            "leftovers",
            Severity::Note,
            format!(
                "{} database(s) with names of tests, {:.0} MB together, belong to no lease of pgdibs and have no session; pgdibs drops none of them",
                found.len(),
                bytes as f64 / 1e6
            ),
        )
        .mended_by(format!("\n{}{more}", lines.join("\n"))),
    );
    Ok(())
}

/// The day of the last change of a file of each. Only a superuser may see files.
async fn days_of_change(
    session: &mut PgConnection,
    facts: &ServerFacts,
    found: &[LeftOver],
) -> Result<HashMap<String, String>, sqlx::Error> {
    if facts.rights != Rights::Superuser {
        return Ok(HashMap::new());
    }
    let names: Vec<&str> = found.iter().take(MOST_NAMED).map(|left| left.name.as_str()).collect();
    let days: Vec<(String, String)> = sqlx::query_as(
        "select d.datname::text, (select max(s.modification)::date::text from pg_ls_dir('base/' || d.oid, true, false) f,
                                         pg_stat_file('base/' || d.oid || '/' || f, true) s)
         from pg_database d where d.datname = any($1) and exists (select from pg_ls_dir('base') b where b = d.oid::text)",
    )
    .bind(&names)
    .fetch_all(session)
    .await?;
    Ok(days.into_iter().collect())
}
