//! The copy of a database on the same server: which entries of its dump are restored, and which of these may fail.

use std::collections::BTreeSet;

use secrecy::SecretString;

/// A database that is to be copied.
#[derive(Debug, Clone)]
pub struct DatabaseCopy {
    /// Its name.
    pub name: String,
    /// The number of the template.
    pub template: i64,
    /// The variables with which pg_dump logs in to it.
    pub login: Vec<(&'static str, SecretString)>,
    /// What is left out, beside the kinds that always are: the oid of its system catalog, and its own.
    pub left_out: BTreeSet<(u32, u32)>,
}

/// The kinds of entries in a dump that only a superuser could restore, or that would replicate the copy or connect it to other servers.
const LEFT_OUT: [&str; 7] = [
    "EVENT TRIGGER ",
    "FOREIGN DATA WRAPPER ",
    "FOREIGN TABLE ",
    "PUBLICATION ",
    "SERVER ",
    "SUBSCRIPTION ",
    "USER MAPPING ",
];

/// The kinds without which the copy works. The builder may lack the right to restore one, such as a grant on a table of an extension.
const OPTIONAL: [&str; 4] = ["ACL ", "COMMENT ", "DEFAULT ACL ", "SECURITY LABEL "];

/// The oid of `pg_class`; entries with the data of a relation have its oid without it.
const PG_CLASS: u32 = 1259;

/// The lists for `pg_restore --use-list`, from what `pg_restore --list` prints: what the copy needs, and what it can do without.
pub(super) fn lists(contents: &str, left_out: &BTreeSet<(u32, u32)>) -> (String, String) {
    let (mut needed, mut optional, mut omitted) = (Vec::new(), Vec::new(), Vec::new());
    for line in contents.lines().filter(|line| !line.starts_with(';')) {
        let Some(entry) = Entry::parse(line) else { continue };
        if LEFT_OUT.iter().any(|kind| entry.text.starts_with(kind)) || left_out.contains(&entry.object) {
            omitted.push(entry);
        } else if OPTIONAL.iter().any(|kind| entry.text.starts_with(kind)) {
            optional.push((line, entry));
        } else {
            needed.push(line);
        }
    }
    let of_omitted = |entry: &Entry<'_>| omitted.iter().any(|omitted| entry.is_about(omitted));
    let optional = optional.into_iter().filter(|(_, entry)| !of_omitted(entry)).map(|(line, _)| line);
    (needed.join("\n"), optional.collect::<Vec<_>>().join("\n"))
}

/// `214; 1259 16385 TABLE public orders boss`
#[derive(Debug)]
struct Entry<'a> {
    object: (u32, u32),
    /// Its kind, its schema or `-`, its name and its owner.
    text: &'a str,
}

impl<'a> Entry<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (_, rest) = line.split_once("; ")?;
        let (catalog, rest) = rest.split_once(' ')?;
        let (oid, text) = rest.split_once(' ')?;
        let object = match (catalog.parse().ok()?, oid.parse().ok()?) {
            (0, oid) if oid != 0 => (PG_CLASS, oid),
            object => object,
        };
        Some(Self { object, text })
    }

    /// Whether this comment or grant (`COMMENT public VIEW v boss`) is about an entry that is left out (`VIEW public v boss`), or a column
    /// of it.
    fn is_about(&self, omitted: &Self) -> bool {
        let kind = omitted.text.bytes().take_while(|byte| byte.is_ascii_uppercase() || *byte == b' ').count();
        let Some((schema, name)) = omitted.text[kind.saturating_sub(1)..].trim_start().split_once(' ') else {
            return false;
        };
        let column = name.rsplit_once(' ').map_or(name, |(name, _)| name);
        let Some((_, own)) = self.text.split_once(&format!(" {schema} ")) else { return false };
        own.ends_with(&format!(" {name}")) || own.starts_with(&format!("COLUMN {column}."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_leave_out_what_depends_on_other_servers() {
        let contents = "\
; Selected TOC Entries:
;
5; 2615 16390 SCHEMA - app boss
3400; 1262 16384 DATABASE PROPERTIES - dev boss
215; 1259 16386 TABLE public orders boss
216; 1259 16400 FOREIGN TABLE public remote boss
3401; 0 0 COMMENT public FOREIGN TABLE remote boss
3402; 0 0 COMMENT public COLUMN remote.n boss
3403; 0 0 ACL public TABLE remote boss
2100; 1417 16399 SERVER - elsewhere boss
3404; 0 0 ACL - FOREIGN SERVER elsewhere boss
3405; 0 0 USER MAPPING - USER MAPPING boss SERVER elsewhere boss
217; 1259 16402 VIEW public of_remote boss
218; 1259 16403 MATERIALIZED VIEW public cached boss
3406; 0 0 ACL public TABLE of_remote boss
3407; 0 0 COMMENT public TABLE orders boss
3408; 0 0 ACL public TABLE orders boss
3409; 826 16410 DEFAULT ACL app DEFAULT PRIVILEGES FOR TABLES boss
3200; 3466 16411 EVENT TRIGGER - watch boss
3410; 0 0 COMMENT - EVENT TRIGGER watch boss
3201; 6104 16412 PUBLICATION - all_tables boss
3202; 6106 16413 PUBLICATION TABLE public all_tables orders boss
3393; 0 16386 TABLE DATA public orders boss
3394; 0 16403 MATERIALIZED VIEW DATA public cached boss
2900; 2604 16388 DEFAULT public orders id boss";
        let left_out = BTreeSet::from([(PG_CLASS, 16402), (PG_CLASS, 16403)]);
        let (needed, optional) = lists(contents, &left_out);
        let numbers =
            |list: &str| list.lines().map(|line| line.split(';').next().unwrap().to_owned()).collect::<Vec<_>>();
        assert_eq!(numbers(&needed), ["5", "3400", "215", "3393", "2900"]);
        assert_eq!(numbers(&optional), ["3407", "3408", "3409"]);
    }
}
