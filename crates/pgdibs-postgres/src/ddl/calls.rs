//! Calls of the catalog's functions that check and write rows around DDL, as parts of the same message (see the catalog's migration).

use pgdibs_core::lease::LeaseId;
use pgdibs_core::name::DatabaseName;

use super::text::{Ddl, literal};

fn numbers(numbers: impl IntoIterator<Item = i64>) -> String {
    let items: Vec<String> = numbers.into_iter().map(|number| number.to_string()).collect();
    format!("array[{}]::int8[]", items.join(", "))
}

fn texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let items: Vec<String> = texts.into_iter().map(literal).collect();
    format!("array[{}]::text[]", items.join(", "))
}

/// Locks the rows, and expects these names and states.
pub fn expect_databases(databases: &[(i64, &DatabaseName, &str)]) -> Ddl {
    let ids = numbers(databases.iter().map(|(id, ..)| *id));
    let names = texts(databases.iter().map(|(_, name, _)| name.as_str()));
    let states = texts(databases.iter().map(|(.., state)| *state));
    Ddl::of(format!("select expect_databases({ids}, {names}, {states})"))
}

/// Expects that each name is that of the database in the row.
pub fn expect_oids(databases: &[(i64, &DatabaseName)]) -> Ddl {
    let ids = numbers(databases.iter().map(|(id, _)| *id));
    let names = texts(databases.iter().map(|(_, name)| name.as_str()));
    Ddl::of(format!("select expect_oids({ids}, {names})"))
}

pub fn used_left(used: i64, away: &DatabaseName, keeps: bool) -> Ddl {
    Ddl::of(format!("select used_left({used}, {}, {keeps})", literal(away.as_str())))
}

pub fn spare_entered(spare: i64, name: &DatabaseName, slot: i32) -> Ddl {
    Ddl::of(format!("select spare_entered({spare}, {}, {slot})", literal(name.as_str())))
}

pub fn moved(database: i64, name: &DatabaseName, slot: i32, displaced: Option<i64>) -> Ddl {
    let displaced = displaced.map_or_else(|| "null".to_owned(), |id| id.to_string());
    Ddl::of(format!("select moved({database}, {}, {slot}, {displaced})", literal(name.as_str())))
}

pub fn expect_reset(lease: LeaseId, used: i64, spare: i64) -> Ddl {
    Ddl::of(format!("select expect_reset('{lease}', {used}, {spare})"))
}

pub fn reset_done(lease: LeaseId, used: i64, away: &DatabaseName, keeps: bool, spare: i64) -> Ddl {
    Ddl::of(format!("select reset_done('{lease}', {used}, {}, {keeps}, {spare})", literal(away.as_str())))
}

pub fn cloned(clone: i64, verifier: &str, seconds: f64) -> Ddl {
    Ddl::of(format!("select cloned({clone}, {}, {seconds})", literal(verifier)))
}
