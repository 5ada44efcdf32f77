//! Fault tests: each injects one fault under the load of eight callers; docs/faults.md lists the faults and their effects.

mod clients;
mod daemon;
mod daemons;
mod disk;
mod drops;
mod external_changes;
mod random_faults;
mod network;
mod server;
mod soak;
mod steps;

/// These take minutes: `make test-all` runs them, `make test` only a sample of the same faults.
mod long {
    use pgdibs_failpoint::Failpoint;

    use super::network::{cut_at_each, slow_at_each};
    use super::steps::kill_at_each;
    use super::{clients, daemon, daemons, disk, drops, external_changes, network, server};

    /// One test for each function of a module.
    macro_rules! each {
        ($module:ident: $($name:ident),* $(,)?) => {
            $(#[test]
            fn $name() {
                $module::$name();
            })*
        };
    }

    each!(daemon: sigterm_under_load, stopped_for_three_ttls, no_file_descriptors_left);
    each!(server: immediate_stop, fast_stop, killed_postmaster, killed_backend_during_clone, no_connections_left);
    each!(clients: killed_clients, lost_replies, slow_senders_and_readers, clock_jumps, hundred_runs_at_once, wrong_ids, late_release);
    each!(daemons: killed_leader, stopped_leader, pools_with_similar_names, leadership_lock_in_another_database);
    each!(disk: full_disk_during_file_copy, full_disk_during_wal_log_copy);
    each!(network: hanging_connection, dead_connections);
    each!(external_changes: external_change_of_spare, external_change_of_ready_database, external_change_of_leased_database, external_change_of_template);
    each!(drops: prepared_transaction, prepared_transaction_at_reset, active_replication_slot, subscription_of_tenant, session_stuck_in_copy, template_flag,
        reconnecting_superuser, unterminable_session, interrupted_drop, orphan_directories, live_lease_stuck_in_copy);

    fn points_of(groups: &[&str]) -> Vec<Failpoint> {
        let is_in = |point: &Failpoint| groups.iter().any(|group| point.name().starts_with(&format!("{group}:")));
        Failpoint::ALL.iter().copied().filter(is_in).collect()
    }

    const START: &[&str] = &["start", "reconcile"];
    const TEMPLATE: &[&str] = &["build", "seal", "template"];
    const DATABASE: &[&str] = &["clone", "adopt", "fill", "move", "return", "retire", "forget", "drop"];
    const LEASE: &[&str] = &["acquire", "keep", "reset", "release", "run", "expire"];

    /// One test for each group of failpoints; it loops over all of them.
    macro_rules! at_each_point {
        ($fault:ident: $($name:ident = $groups:ident),* $(,)?) => {
            $(#[test]
            fn $name() {
                $fault(&points_of($groups));
            })*
        };
    }

    at_each_point!(kill_at_each: killed_at_each_step_of_a_start = START, killed_at_each_step_of_a_template = TEMPLATE,
        killed_at_each_step_of_a_database = DATABASE, killed_at_each_step_of_a_lease = LEASE);
    at_each_point!(cut_at_each: cut_at_each_step_of_a_start = START, cut_at_each_step_of_a_template = TEMPLATE,
        cut_at_each_step_of_a_database = DATABASE, cut_at_each_step_of_a_lease = LEASE);
    at_each_point!(slow_at_each: slow_at_each_step_of_a_start = START, slow_at_each_step_of_a_template = TEMPLATE,
        slow_at_each_step_of_a_database = DATABASE, slow_at_each_step_of_a_lease = LEASE);

    #[test]
    fn every_failpoint_is_tested() {
        let groups = [START, TEMPLATE, DATABASE, LEASE].concat();
        assert_eq!(points_of(&groups).len(), Failpoint::ALL.len(), "add the new group to a list above");
    }
}
