//! Traps: functions, operators, types and expressions that a tenant creates where a statement of the daemon could resolve them. None may
//! run with the daemon's rights, from the seal to the drop.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use pgdibs_core::backend::Backend as _;
use pgdibs_core::lease::Lease;
use pgdibs_core::name::{Fingerprint, RoleName};
use pgdibs_postgres::rights::Rights;
use pgdibs_postgres::sqlstate;
use pgdibs_testing::conformance::ConformanceServer as _;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use crate::support::setting::{DAEMON, Setting, on_each_server_with};
use pgdibs_testing::seed::SUPERUSER;

/// The prefix of each line of the server's log: user, database, application.
const PREFIX: &str = "log_line_prefix=%u|%d|%a| ";

/// Parameter types of the traps, so that one is an exact match for each statement of the daemon.
const TYPES: [&str; 8] = ["oid", "regclass", "name", "text", "int4", "int8", "\"char\"", "bool"];

/// Words before a parenthesis in SQL that are no functions.
const KEYWORDS: [&str; 18] = [
    "select", "from", "where", "and", "or", "not", "in", "on", "as", "exists", "values", "any", "array", "vacuum",
    "with", "coalesce", "when", "case",
];

/// An entry of the server's log.
struct Entry {
    user: String,
    database: String,
    application: String,
    text: String,
}

fn entries(log: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for line in log.lines() {
        let parts: Vec<&str> = line.splitn(4, '|').collect();
        match (parts.as_slice(), entries.last_mut()) {
            ([user, database, application, text], _) if !line.starts_with('\t') => entries.push(Entry {
                user: (*user).to_owned(),
                database: (*database).to_owned(),
                application: (*application).to_owned(),
                text: (*text).to_owned(),
            }),
            (_, Some(last)) => {
                last.text.push('\n');
                last.text.push_str(line);
            }
            _ => {}
        }
    }
    entries
}

/// Statements that the daemon ran in databases that tenants write to.
fn of_the_daemon<'a>(entries: &'a [Entry], daemon: &str) -> Vec<&'a str> {
    entries
        .iter()
        .filter(|entry| entry.user == daemon && entry.application.starts_with("pgdibs"))
        .filter(|entry| entry.database.starts_with("suite_"))
        .filter_map(|entry| entry.text.split_once("statement: ").or_else(|| entry.text.split_once(": ")))
        .map(|(_, statement)| statement)
        .collect()
}

/// Function names, operators and types that statements name.
#[derive(Default, Debug)]
struct Named {
    functions: BTreeSet<String>,
    operators: BTreeSet<String>,
    types: BTreeSet<String>,
}

fn named_in(statements: &[&str]) -> Named {
    let mut named = Named::default();
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    for statement in statements {
        // Quoted text has no names of these kinds; lists of relations are quoted names.
        let bare: String =
            statement.split(['\'', '"']).enumerate().filter(|(at, _)| at % 2 == 0).map(|(_, part)| part).collect();
        for (at, _) in bare.match_indices('(') {
            let before: String = bare[..at].trim_end().chars().rev().take_while(|&c| is_word(c)).collect();
            let name: String = before.chars().rev().collect();
            if !name.is_empty() && !KEYWORDS.contains(&name.to_ascii_lowercase().as_str()) {
                named.functions.insert(name);
            }
        }
        for (at, _) in bare.match_indices("::") {
            let written: String = bare[at + 2..].chars().take_while(|&c| is_word(c) || c == '.').collect();
            named.types.insert(written.rsplit('.').next().unwrap_or_default().to_owned());
        }
        let operators = bare.split(|c: char| !"<>=+-*/~!@#%^&|".contains(c));
        named.operators.extend(operators.filter(|text| !text.is_empty() && *text != "*").map(str::to_owned));
    }
    // For `in` and `not in`.
    named.operators.extend(["=".to_owned(), "<>".to_owned()]);
    named
}

/// What the traps do: write to the log which role ran them, and grant its rights.
fn spring(login: &str) -> String {
    format!(
        "set check_function_bodies = off;
         create function public.spring(place text) returns void language plpgsql volatile set search_path = pg_catalog as $f$
         begin
             raise log 'TRAP % current_user=% session_user=%', place, current_user, session_user;
             begin execute format('alter role %I superuser', '{login}'); exception when others then null; end;
         end $f$;
         create function public.sprung(place text) returns bool language plpgsql immutable as
             $f$ begin perform public.spring(place); return true; end $f$;"
    )
}

/// In each schema of a possible search_path, for each name: every function of up to two parameters, every operator, a domain.
fn traps_for(named: &Named, schemas: &[&str]) -> String {
    let mut sql = String::new();
    for schema in schemas {
        if *schema != "public" {
            let _ = write!(sql, "create schema if not exists \"{schema}\";");
        }
        let pairs = || TYPES.iter().flat_map(|left| TYPES.iter().map(move |right| format!("{left}, {right}")));
        let parameters: Vec<String> =
            std::iter::once(String::new()).chain(TYPES.map(str::to_owned)).chain(pairs()).collect();
        for name in &named.functions {
            // An aggregate over no columns has the same signature.
            for types in parameters.iter().filter(|types| name != "count" || !types.is_empty()) {
                let _ = write!(
                    sql,
                    "create function \"{schema}\".\"{name}\"({types}) returns int8 language plpgsql immutable as
                     $f$ begin perform public.spring('function {name}'); return 1; end $f$;"
                );
            }
        }
        for (number, types) in pairs().enumerate() {
            let (left, right) = types.split_once(", ").unwrap();
            let _ = write!(
                sql,
                "create function \"{schema}\".operator_{number}({types}) returns bool language plpgsql immutable as
                 $f$ begin perform public.spring('operator'); return true; end $f$;"
            );
            for operator in &named.operators {
                let _ = write!(
                    sql,
                    "create operator \"{schema}\".{operator} (leftarg = {left}, rightarg = {right}, function = \"{schema}\".operator_{number});"
                );
            }
        }
        for name in &named.types {
            let _ = write!(
                sql,
                "create domain \"{schema}\".\"{name}\" as pg_catalog.\"{name}\" check (public.sprung('domain {name}'));"
            );
        }
        let _ = write!(
            sql,
            "create function \"{schema}\".counted(int8) returns int8 language plpgsql immutable as
             $f$ begin perform public.spring('aggregate count'); return 1; end $f$;
             create aggregate \"{schema}\".count(*) (sfunc = \"{schema}\".counted, stype = int8, initcond = '0');"
        );
    }
    sql
}

/// A copy of every function of Postgres's own that can be copied, for a search_path with `public` first.
const SHADOWS: &str = "do $do$ declare f record; begin
    for f in select p.proname, pg_get_function_identity_arguments(p.oid) as parameters, format_type(p.prorettype, null) as result
             from pg_proc p join pg_type t on t.oid = p.prorettype
             where p.pronamespace = 'pg_catalog'::regnamespace and p.prokind = 'f' and not p.proretset and t.typtype <> 'p' and p.pronargs <= 2
    loop
        begin
            execute format('create function public.%I(%s) returns %s language plpgsql as %L', f.proname, f.parameters, f.result,
                           format('begin perform public.spring(%L); return null; end', 'copy of ' || f.proname));
        exception when others then null;
        end;
    end loop;
end $do$";

/// Expressions that ANALYZE, VACUUM FULL and REINDEX compute, and triggers, rules and policies of tables.
const EXPRESSIONS: &str = "
    create function public.indexed(n int) returns int language plpgsql immutable as
        $f$ begin perform public.spring('expression'); return n; end $f$;
    create function public.fired() returns trigger language plpgsql as
        $f$ begin perform public.spring('trigger'); return new; end $f$;
    create table public.bait (n int check (public.indexed(n) >= 0), twice int generated always as (public.indexed(n) * 2) stored);
    insert into public.bait select n from generate_series(1, 40) n;
    create index on public.bait (public.indexed(n));
    create index on public.bait (twice) where public.indexed(n) > 10;
    create statistics public.baited on (public.indexed(n)), (public.indexed(twice)) from public.bait;
    create table public.parts (n int) partition by range ((public.indexed(n)));
    create table public.part partition of public.parts for values from (0) to (100);
    insert into public.parts select n from generate_series(1, 40) n;
    create function public.apart(a int, b int) returns float8 language plpgsql immutable as
        $f$ begin perform public.spring('range type'); return 1; end $f$;
    create type public.span as range (subtype = int, subtype_diff = public.apart);
    create table public.spans (s public.span);
    insert into public.spans select public.span(n, n + 5) from generate_series(1, 40) n;
    create view public.seen as select public.indexed(n) from public.bait;
    create materialized view public.kept as select public.indexed(n) as n from public.bait;
    create unique index on public.kept (public.indexed(n));
    create trigger fired before insert or update or delete on public.bait for each row execute function public.fired();
    create rule also as on insert to public.bait do also select public.spring('rule');
    alter table public.bait enable row level security;
    create policy own on public.bait using (public.sprung('policy'));
    create schema \"PG_CATALOG\";
    create view \"PG_CATALOG\".pg_class as select public.sprung('lookalike') as oid;
    create table public.pg_class (oid oid, relname name check (public.sprung('lookalike')));
    create view public.pg_namespace as select public.sprung('lookalike') as nspname";

async fn run(session: &mut PgConnection, sql: &str) {
    if let Err(error) = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(session).await {
        panic!("{}…: {error}", sql.chars().take(200).collect::<String>());
    }
}

async fn is_refused(session: &mut PgConnection, sql: &str) {
    let answer = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(session).await;
    let code = answer.as_ref().err().and_then(sqlstate::code);
    assert_eq!(code.as_deref(), Some("42501"), "{sql}: {answer:?}");
}

/// A prepared transaction: it prevents the rename of its database, and the daemon rolls it back from inside.
async fn leave_a_prepared_transaction(setting: &Setting, lease: &Lease) {
    let mut session = setting.suite.enter(lease).await;
    // The builder's settings of the database lead to the traps.
    let sql = format!(
        "set search_path = pg_catalog; begin; create table public.left_behind (n int); prepare transaction '{}'",
        lease.id
    );
    run(&mut session, &sql).await;
    setting.suite.server.disconnect(session).await;
}

/// Builds a template with the statements of the closure in its builder's session.
async fn build(setting: &Setting, fingerprint: &str, plant: impl AsyncFnOnce(&mut PgConnection, &str, &str)) {
    let suite = &setting.suite;
    let fingerprint = Fingerprint::parse(fingerprint).unwrap();
    let template = suite.begin_build(&fingerprint, "one").await;
    suite.idle().await;
    let place = suite.backend.build_place(template.id, "one").await.unwrap().expect("its database exists");
    let mut session = suite.server.connect(&place.credentials, place.database.as_str()).await.unwrap();
    plant(&mut session, place.database.as_str(), &place.credentials.user).await;
    suite.server.disconnect(session).await;
    suite.backend.request_seal(&suite.pool, &fingerprint, "one").await.unwrap();
    suite.idle().await;
}

/// Takes a database through all its states: lease, reset, keep, release, drop.
async fn go_through_everything(setting: &Setting, fingerprint: &str) {
    let suite = &setting.suite;
    let mut acquire_request = suite.acquire_request();
    acquire_request.fingerprint = Some(Fingerprint::parse(fingerprint).unwrap());
    let lease = suite.take(acquire_request).await;
    leave_a_prepared_transaction(setting, &lease).await;
    suite.backend.begin_reset(lease.id, None, None).await.unwrap();
    suite.idle().await;
    leave_a_prepared_transaction(setting, &lease).await;
    suite.backend.keep(lease.id, 3600, "inspection").await.unwrap();
    suite.release(&lease).await;
    suite.idle().await;
}

#[test]
fn traps_of_tenant_never_run_with_daemons_rights() {
    for rights in [Rights::Superuser, Rights::DatabasesAndRoles] {
        let settings = ["log_statement=all", PREFIX, "max_prepared_transactions=5"];
        on_each_server_with(&settings, rights, async |setting| {
            let daemon = if rights == Rights::Superuser { SUPERUSER } else { DAEMON };
            let suite = &setting.suite;
            suite.make_pool(1, 3, 1).await;
            // First without traps, to collect the names in the daemon's statements.
            build(setting, "plain", async |session, _, _| run(session, "create table t (n int)").await).await;
            go_through_everything(setting, "plain").await;
            let log = entries(&setting.cluster.log());
            let named = named_in(&of_the_daemon(&log, daemon));
            assert!(named.functions.contains("pg_total_relation_size"), "{named:?}");
            assert!(named.types.contains("text") && named.operators.contains("<="), "{named:?}");

            build(setting, "trapped", async |session, database, login| {
                run(session, &spring(login)).await;
                run(session, &traps_for(&named, &["public", daemon, login])).await;
                run(session, SHADOWS).await;
                run(session, EXPRESSIONS).await;
                // For every session in this database or a clone.
                let path = format!("\"{daemon}\", public, pg_catalog");
                for acting in ["", "set role none;"] {
                    run(
                        session,
                        &format!(
                            "{acting} alter role current_user in database {database} set search_path = {path};
                             alter role current_user in database {database} set role = '{login}'; reset role"
                        ),
                    )
                    .await;
                }
                // Other traps need a superuser.
                is_refused(session, "create event trigger caught on ddl_command_start execute function public.fired()")
                    .await;
                is_refused(session, "create cast (name as int8) with function public.pg_total_relation_size(name)")
                    .await;
                is_refused(session, "create function pg_catalog.trap() returns int language sql as 'select 1'").await;
                is_refused(session, "alter role current_user set session_preload_libraries = 'trap'").await;
            })
            .await;
            go_through_everything(setting, "trapped").await;

            let log = entries(&setting.cluster.log());
            let sprung: Vec<&Entry> = log.iter().filter(|entry| entry.text.contains("TRAP ")).collect();
            let with_our_rights = |entry: &&&Entry| {
                let owner = RoleName::database_owner();
                [daemon, SUPERUSER, owner.as_str()].iter().any(|ours| {
                    entry.user == *ours
                        || entry.text.contains(&format!("current_user={ours}"))
                        || entry.text.contains(&format!("session_user={ours}"))
                })
            };
            let caught: Vec<&str> = sprung.iter().filter(with_our_rights).map(|entry| entry.text.as_str()).collect();
            assert!(caught.is_empty(), "{rights:?}: the daemon walked into {} traps: {caught:#?}", caught.len());
            // The traps work: the seal computes the tenant's expressions, in the tenant's own session.
            let by_the_tenant = sprung.iter().any(|entry| {
                entry.application.starts_with("pgdibs")
                    && entry.text.contains("TRAP expression")
                    && entry.user != daemon
            });
            assert!(by_the_tenant, "{rights:?}: no trap was reached");
            let superusers = "select string_agg(rolname, ' ') from pg_roles where rolsuper";
            assert_eq!(setting.cluster.text("postgres", superusers).await, SUPERUSER);
            // The traps cover every statement of the daemon.
            let again = named_in(&of_the_daemon(&log, daemon));
            assert!(again.functions.is_subset(&named.functions), "without traps: {again:?}");
            assert!(again.operators.is_subset(&named.operators) && again.types.is_subset(&named.types), "{again:?}");
        });
    }
}

#[test]
fn build_is_closed_until_extensions_exist() {
    on_each_server_with(&["log_statement=ddl"], Rights::Superuser, async |setting| {
        let suite = &setting.suite;
        suite.make_pool(0, 1, 0).await;
        let fingerprint = Fingerprint::parse("first").unwrap();
        // As a daemon leaves it that dies: open, and entered by a role that created traps.
        let template = suite.begin_build(&fingerprint, "one").await;
        let name = template.name.as_str();
        setting.cluster.sql("postgres", &format!("create database {name} template template0 owner pgdibs_owner")).await;
        setting.cluster.sql(name, "create function public.planted() returns int language sql as 'select 1'").await;
        suite.idle().await;
        let place = suite.backend.build_place(template.id, "one").await.unwrap().expect("its database exists");
        let planted = "select count(*) from pg_proc where proname = 'planted'";
        assert_eq!(setting.cluster.text(place.database.as_str(), planted).await, "0", "it was made again");
        let log = setting.cluster.log();
        let created =
            log.lines().filter(|line| line.contains(&format!("create database \"{name}\""))).collect::<Vec<_>>();
        assert!(created.len() == 1 && created[0].contains("allow_connections = false"), "{created:?}");
        // PUBLIC loses its right to connect before the database opens.
        let revoked = log.find(&format!(
            "revoke all on database \"{name}\" from public; alter database \"{name}\" allow_connections = true"
        ));
        assert!(revoked.is_some(), "{log}");
    });
}
