//! Parts of SQL statements that several modules repeat.

/// First key of the two-key advisory locks by which a daemon shows that it lives; the second key is its instance. ("pgdb")
pub(crate) const MEMBERSHIP: i32 = 1_885_824_098;

/// The instances of the daemons that live, for `… in (…)` on an int8. A look at all locks of the server, so it must not be made for each
/// ticket again: like this Postgres makes it once in a statement, and only if there is a ticket to judge. Write `daemon = ours or` before it:
/// then only others' tickets are judged.
macro_rules! living_daemons {
    () => {
        "select l.objid::int8 from pg_locks l where l.locktype = 'advisory' and l.granted and l.classid = 1885824098 \
         and l.objsubid = 2 and l.database = (select oid from pg_database where datname = current_database())"
    };
}
pub(crate) use living_daemons;

/// Whether tests made database `d`, whose owner is role `o`: that is the login of a lease, or the owner role of a pool whose logins may
/// make databases. The role has to be pgdibs's own and older than the database, or somebody else may have given it the database. (Numbers
/// of objects are given in order, and begin again after 2^32.)
macro_rules! made_by_tests {
    () => {
        "(o.rolname ~ '^pgdibs_l_[0-9]+$' or o.rolname::text in (
              select n.name from roles n join pools tests on tests.owner = n.name where tests.login <> 'plain')
            and (d.oid::int8 - o.oid::int8 + 4294967296) % 4294967296 < 2147483648)"
    };
}
pub(crate) use made_by_tests;
