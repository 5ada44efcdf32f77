//! Plans of leases: expiry, revocation and resets.

use super::check;
use super::example::example;

#[test]
fn renewed_lease_gets_no_step() {
    check(&example(0, 1, 0).template(1).leased(10, 0), &[]);
}

#[test]
fn overdue_lease_without_sessions_expires() {
    let e = example(0, 1, 0).template(1).leased(10, 0).overdue(10, 61);
    check(&e, &["expire lease 10: not renewed for 61 s"]);
    check(&e.connected(99), &["expire lease 10: not renewed for 61 s"]);
}

#[test]
fn overdue_lease_with_a_session_expires_at_max_ttl() {
    let e = example(0, 1, 0).template(1).leased(10, 0).connected(10);
    check(&e.clone().overdue(10, 3599), &[]);
    let reason = "expire lease 10: not renewed for 3600 s, the limit for a lease with a connected session (max_ttl_seconds); \
                  pgdibs ended 1 session(s)";
    check(&e.overdue(10, 3600), &[reason]);
}

#[test]
fn lease_without_its_database_is_revoked() {
    let reason = "revoke lease 10: its database was dropped or renamed outside pgdibs; acquire another one";
    let e = example(0, 1, 0).template(1).leased(10, 0);
    check(&e.clone().vanished(10), &[reason]);
    check(&e.clone().on_server(10, |s| s.name = "mine".to_owned()), &[reason]);
    check(&e.clone().on_server(10, |s| s.invalid = true), &[reason]);
    let mut forgotten = e;
    forgotten.snapshot.databases.clear();
    check(&forgotten, &["revoke lease 10: its database no longer exists"]);
}

#[test]
fn lease_of_a_busy_database_does_not_end() {
    check(&example(0, 1, 0).template(1).leased(10, 0).vanished(10).busy(10), &[]);
}

#[test]
fn reset_in_progress_holds_the_lease_until_max_ttl() {
    let e = example(0, 1, 0).template(1).leased(10, 0).spare(11).resetting(10, 11);
    check(&e.clone().overdue(10, 61), &["reset lease 10: 10 by 11"]);
    check(&e.clone().not_due(10).overdue(10, 61), &[]);
    let without_spare = example(0, 1, 0).template(1).leased(10, 0).resetting(10, 11);
    check(&without_spare, &[]);
    check(&e.not_due(10).overdue(10, 3600), &["expire lease 10: not renewed for 3600 s"]);
}
