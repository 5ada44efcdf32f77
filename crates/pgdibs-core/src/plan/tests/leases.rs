//! Ends of leases and swaps of resets.

use super::check;
use super::example::example;

#[test]
fn a_lease_in_time_is_left_alone() {
    check(&example(0, 1, 0).template(1).leased(10, 0), &[]);
}

#[test]
fn an_overdue_lease_expires_when_nobody_is_connected() {
    let e = example(0, 1, 0).template(1).leased(10, 0).overdue(10, 61);
    check(&e, &["expire lease 10: not renewed for 61 s"]);
    check(&e.connected(99), &["expire lease 10: not renewed for 61 s"]);
}

#[test]
fn a_connected_session_holds_an_overdue_lease_until_max_ttl() {
    let e = example(0, 1, 0).template(1).leased(10, 0).connected(10);
    check(&e.clone().overdue(10, 3599), &[]);
    let reason = "expire lease 10: not renewed for 3600 s, which is the longest that a connected session may hold a lease \
                  (max_ttl_seconds); 1 session(s) were ended";
    check(&e.overdue(10, 3600), &[reason]);
}

#[test]
fn a_lease_whose_database_is_gone_is_revoked() {
    let reason = "revoke lease 10: its database was dropped or renamed by somebody else";
    let e = example(0, 1, 0).template(1).leased(10, 0);
    check(&e.clone().vanished(10), &[reason]);
    check(&e.clone().on_server(10, |s| s.name = "mine".to_owned()), &[reason]);
    check(&e.clone().on_server(10, |s| s.invalid = true), &[reason]);
    let mut forgotten = e;
    forgotten.snapshot.databases.clear();
    check(&forgotten, &["revoke lease 10: its database is gone"]);
}

#[test]
fn a_lease_is_not_ended_while_a_step_on_its_database_is_under_way() {
    check(&example(0, 1, 0).template(1).leased(10, 0).vanished(10).busy(10), &[]);
}

#[test]
fn a_reset_under_way_holds_the_lease_but_not_for_ever() {
    let e = example(0, 1, 0).template(1).leased(10, 0).spare(11).resetting(10, 11);
    check(&e.clone().overdue(10, 61), &["reset lease 10: 10 by 11"]);
    check(&e.clone().not_due(10).overdue(10, 61), &[]);
    check(&e.not_due(10).overdue(10, 3600), &["expire lease 10: not renewed for 3600 s"]);
}
