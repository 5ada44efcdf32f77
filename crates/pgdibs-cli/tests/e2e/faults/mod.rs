//! Faults, each injected for real under the load of eight callers; docs/faults.md lists them with what must be seen.

mod clients;
mod daemon;
mod daemons;
mod disk;
mod drops;
mod hands;
mod mischief;
mod network;
mod server;
mod soak;
mod steps;

/// What takes minutes: `make test-all` runs these, `make test` a sample of the same things.
mod long {
    use pgdibs_failpoint::Point;

    use super::network::{cut_at_each, slow_at_each};
    use super::steps::kill_at_each;
    use super::{clients, daemon, daemons, disk, drops, hands, network, server};

    /// One test for each function of a module.
    macro_rules! each {
        ($module:ident: $($name:ident),* $(,)?) => {
            $(#[test]
            fn $name() {
                $module::$name();
            })*
        };
    }

    each!(daemon: told_to_end, stopped_for_three_ttls, no_file_descriptors_left);
    each!(server: an_immediate_stop, a_fast_stop, a_killed_postmaster, a_killed_backend_in_mid_clone, no_connections_left);
    each!(clients: killed, lost_replies, slow_senders_and_readers, a_clock_that_jumps, a_hundred_runs_at_once, wrong_ids, a_late_release);
    each!(daemons: leader_of_two_is_killed, leader_that_sleeps, pools_with_names_like_each_others, a_lock_in_the_wrong_database);
    each!(disk: full_in_mid_clone_by_files, full_in_mid_clone_through_the_log);
    each!(network: a_line_that_hangs, connections_that_are_dead);
    each!(hands: on_a_spare, on_a_ready_database, on_a_leased_database, on_a_template);
    each!(drops: a_prepared_transaction, a_prepared_transaction_at_a_reset, an_active_slot, a_subscription, a_client_stuck_in_copy, a_template_flag,
        a_superuser_who_keeps_reconnecting, a_session_that_cannot_be_ended, an_interrupted_drop, directories_of_no_database, a_live_lease_stuck_in_copy);

    fn points_of(lives: &[&str]) -> Vec<Point> {
        let is_in = |point: &Point| lives.iter().any(|life| point.name().starts_with(&format!("{life}:")));
        Point::ALL.iter().copied().filter(is_in).collect()
    }

    const START: &[&str] = &["start", "look"];
    const TEMPLATE: &[&str] = &["build", "seal", "template"];
    const DATABASE: &[&str] = &["clone", "adopt", "fill", "return", "retire", "forget", "drop"];
    const LEASE: &[&str] = &["acquire", "keep", "reset", "release", "run", "expire"];

    /// The loops of a life: each goes through all its points.
    macro_rules! at_each_point {
        ($fault:ident: $($name:ident = $lives:ident),* $(,)?) => {
            $(#[test]
            fn $name() {
                $fault(&points_of($lives));
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
    fn every_point_is_in_one_of_the_lives() {
        let lives = [START, TEMPLATE, DATABASE, LEASE].concat();
        assert_eq!(points_of(&lives).len(), Point::ALL.len(), "a new life needs a line above");
    }
}
