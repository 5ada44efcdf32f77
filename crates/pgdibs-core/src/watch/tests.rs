//! Tests of the expiry, clock and demand watches.

use uuid::Uuid;

use super::*;
use crate::database::{Database, DatabaseId, DatabaseState};
use crate::lease::LeaseState;
use crate::name::{DatabaseName, Fingerprint, PoolName};
use crate::plan::Step;
use crate::snapshot::{PlannerContext, Snapshot};
use crate::template::Timestamp;

fn lease(id: u128, ttl_seconds: u64, renewals: u64) -> Lease {
    Lease {
        id: Uuid::from_u128(id),
        state: LeaseState::Live,
        pool: PoolName::parse("app").unwrap(),
        fingerprint: Fingerprint::parse("one").unwrap(),
        template: TemplateId(1),
        database: None,
        database_name: "app_gw0".to_owned(),
        slot: 0,
        credentials: None,
        run: None,
        worker: None,
        alias: "default".to_owned(),
        holder: String::new(),
        generation: 1,
        ttl_seconds,
        renewals,
        reset_to: None,
        acquired_at: Timestamp(0),
        expires_at: Timestamp(0),
        ended_at: None,
        ended_reason: None,
    }
}

fn tick_at(seconds: u64) -> Tick {
    Duration::from_secs(seconds)
}

/// Observes the same leases every second from `from` to `until`; returns the overdue ones of the last second.
fn observe_until(watch: &mut ExpiryWatch, leases: &[Lease], from: u64, until: u64) -> Vec<(u128, u64)> {
    let mut overdue = BTreeMap::new();
    for second in from..=until {
        overdue = watch.observe(leases, tick_at(second), tick_at(second));
    }
    overdue.into_iter().map(|(id, unrenewed)| (id.as_u128(), unrenewed.as_secs())).collect()
}

#[test]
fn lease_is_overdue_after_its_ttl_without_renewal() {
    let mut watch = ExpiryWatch::default();
    let leases = [lease(1, 10, 0), lease(2, 12, 7)];
    assert_eq!(observe_until(&mut watch, &leases, 100, 109), []);
    assert_eq!(observe_until(&mut watch, &leases, 110, 110), [(1, 10)]);
    assert_eq!(observe_until(&mut watch, &leases, 111, 115), [(1, 15), (2, 15)]);
}

#[test]
fn restart_gives_every_lease_a_full_ttl() {
    let mut watch = ExpiryWatch::default();
    let leases = [lease(1, 2, 0)];
    assert_eq!(observe_until(&mut watch, &leases, 100, 101), []);
    watch.restart();
    assert_eq!(observe_until(&mut watch, &leases, 102, 103), []);
    assert_eq!(observe_until(&mut watch, &leases, 104, 104), [(1, 2)]);
}

#[test]
fn restart_leases_gives_only_those_a_full_ttl() {
    let mut watch = ExpiryWatch::default();
    let leases = [lease(1, 3, 0), lease(2, 3, 0)];
    assert_eq!(observe_until(&mut watch, &leases, 100, 102), []);
    watch.restart_leases(&[leases[0].id].into());
    assert_eq!(observe_until(&mut watch, &leases, 103, 105), [(2, 5)]);
    assert_eq!(observe_until(&mut watch, &leases, 106, 106), [(1, 3), (2, 6)]);
}

#[test]
fn time_during_a_snapshot_does_not_count_towards_ttl() {
    let mut watch = ExpiryWatch::default();
    let leases = [lease(1, 3, 0)];
    assert_eq!(watch.observe(&leases, tick_at(100), tick_at(103)), BTreeMap::new());
    assert_eq!(watch.observe(&leases, tick_at(104), tick_at(108)), BTreeMap::new());
    assert_eq!(observe_until(&mut watch, &leases, 106, 106), [(1, 3)]);
    assert_eq!(
        watch.observe(&[lease(1, 3, 1)], tick_at(107), tick_at(110)),
        BTreeMap::new(),
        "a renewal restarts the TTL at the end of the snapshot"
    );
    assert_eq!(observe_until(&mut watch, &[lease(1, 3, 1)], 112, 112), []);
    assert_eq!(observe_until(&mut watch, &[lease(1, 3, 1)], 113, 113), [(1, 3)]);
}

#[test]
fn ttl_counts_from_the_first_snapshot_with_the_lease() {
    let mut watch = ExpiryWatch::default();
    assert_eq!(observe_until(&mut watch, &[], 0, 50), []);
    assert_eq!(observe_until(&mut watch, &[lease(1, 10, 3)], 51, 60), []);
    assert_eq!(observe_until(&mut watch, &[lease(1, 10, 3)], 61, 61), [(1, 10)]);
}

#[test]
fn renewal_restarts_ttl() {
    let mut watch = ExpiryWatch::default();
    observe_until(&mut watch, &[lease(1, 10, 0)], 0, 9);
    assert_eq!(observe_until(&mut watch, &[lease(1, 10, 1)], 10, 19), []);
    assert_eq!(observe_until(&mut watch, &[lease(1, 10, 1)], 20, 20), [(1, 10)]);
    assert_eq!(observe_until(&mut watch, &[lease(1, 10, 2)], 21, 21), [], "renewed when the TTL ran out");
}

#[test]
fn gap_between_snapshots_restarts_every_ttl() {
    let mut watch = ExpiryWatch::default();
    let leases = [lease(1, 10, 0), lease(2, 3600, 0)];
    observe_until(&mut watch, &leases, 0, 9);
    assert_eq!(observe_until(&mut watch, &leases, 45, 54), [], "the process slept from 9 to 45");
    assert_eq!(observe_until(&mut watch, &leases, 55, 55), [(1, 10)]);
}

#[test]
fn pause_of_the_longest_expected_gap_is_no_gap() {
    let mut watch = ExpiryWatch::default();
    let leases = [lease(1, 10, 0)];
    watch.observe(&leases, tick_at(0), tick_at(0));
    watch.observe(&leases, LONGEST_EXPECTED_GAP, LONGEST_EXPECTED_GAP);
    assert_eq!(watch.observe(&leases, LONGEST_EXPECTED_GAP * 2, LONGEST_EXPECTED_GAP * 2).len(), 1);
}

/// Snapshots are up to half a minute apart: without the time of the renewal, a TTL would start at the next one.
#[test]
fn ttl_counts_from_a_renewal_between_snapshots() {
    let mut watch = ExpiryWatch::default();
    let renewed = |watch: &mut ExpiryWatch, renewals, second| {
        watch.renewed(LeaseId::from_u128(1), renewals, tick_at(10), tick_at(second));
    };
    assert_eq!(watch.next(), None);
    observe_until(&mut watch, &[lease(1, 10, 0)], 0, 0);
    assert_eq!(watch.next(), Some(tick_at(10)));
    renewed(&mut watch, 1, 7);
    renewed(&mut watch, 0, 8);
    assert_eq!(watch.next(), Some(tick_at(17)), "an older renewal changes nothing");
    assert_eq!(observe_until(&mut watch, &[lease(1, 10, 1)], 16, 16), []);
    assert_eq!(observe_until(&mut watch, &[lease(1, 10, 1)], 17, 17), [(1, 10)]);
    assert_eq!(observe_until(&mut watch, &[lease(1, 10, 2)], 18, 18), [], "another daemon wrote this renewal");
    assert_eq!(watch.next(), Some(tick_at(28)));
}

#[test]
fn lease_absent_from_a_snapshot_is_forgotten() {
    let mut watch = ExpiryWatch::default();
    observe_until(&mut watch, &[lease(1, 10, 0)], 0, 9);
    observe_until(&mut watch, &[], 10, 10);
    assert_eq!(observe_until(&mut watch, &[lease(1, 10, 0)], 11, 20), []);
}

fn use_of(counts: &[(i64, u32)]) -> BTreeMap<TemplateId, u32> {
    counts.iter().map(|&(id, count)| (TemplateId(id), count)).collect()
}

#[test]
fn peak_lasts_for_the_idle_time_after_its_end() {
    let mut watch = DemandWatch::new(tick_at(60));
    assert_eq!(watch.observe(&use_of(&[(1, 8), (2, 3)]), tick_at(0)), use_of(&[(1, 8), (2, 3)]));
    assert_eq!(watch.next(), None, "nothing is above the present use");
    assert_eq!(watch.observe(&use_of(&[(1, 2)]), tick_at(30)), use_of(&[(1, 8), (2, 3)]));
    assert_eq!(watch.next(), Some(tick_at(90)));
    assert_eq!(watch.observe(&use_of(&[]), tick_at(60)), use_of(&[(1, 8), (2, 3)]));
    assert_eq!(watch.observe(&use_of(&[]), tick_at(90)), use_of(&[(1, 8), (2, 3)]));
    assert_eq!(watch.observe(&use_of(&[]), tick_at(91)), use_of(&[(1, 2)]), "the lower and later count remains");
    assert_eq!(watch.next(), Some(tick_at(120)));
    assert_eq!(watch.observe(&use_of(&[]), tick_at(120)), use_of(&[(1, 2)]));
    assert_eq!(watch.observe(&use_of(&[]), tick_at(121)), use_of(&[]));
    assert_eq!(watch.next(), None);
}

#[test]
fn constant_demand_keeps_its_peak() {
    let mut watch = DemandWatch::new(tick_at(10));
    for second in 0..10 {
        assert_eq!(watch.observe(&use_of(&[(1, 5)]), tick_at(second * 30)), use_of(&[(1, 5)]));
    }
    assert_eq!(watch.observe(&use_of(&[]), tick_at(280)), use_of(&[(1, 5)]), "in use until now");
    assert_eq!(watch.observe(&use_of(&[]), tick_at(290)), use_of(&[(1, 5)]));
    assert_eq!(watch.observe(&use_of(&[]), tick_at(291)), use_of(&[]));
}

#[test]
fn use_under_another_leader_is_no_peak() {
    let mut watch = DemandWatch::new(tick_at(10));
    watch.observe(&use_of(&[(1, 5)]), tick_at(0));
    watch.forget_use();
    assert_eq!(watch.observe(&use_of(&[(1, 1)]), tick_at(100)), use_of(&[(1, 1)]));
}

#[test]
fn higher_peak_replaces_a_lower_one() {
    let mut watch = DemandWatch::new(tick_at(10));
    watch.observe(&use_of(&[(1, 2)]), tick_at(0));
    watch.observe(&use_of(&[(1, 6)]), tick_at(1));
    watch.observe(&use_of(&[(1, 1)]), tick_at(1));
    assert_eq!(watch.observe(&use_of(&[(1, 1)]), tick_at(11)), use_of(&[(1, 6)]));
    assert_eq!(watch.observe(&use_of(&[(1, 1)]), tick_at(12)), use_of(&[(1, 1)]));
}

#[test]
fn clock_watch_reports_jumps_and_ignores_normal_time() {
    let mut watch = ClockWatch::default();
    let second = |n: i64| Timestamp(n * 1_000_000);
    assert_eq!(watch.observe(second(5000), tick_at(10), tick_at(10)), None, "the first observation has no predecessor");
    assert_eq!(watch.observe(second(5030), tick_at(40), tick_at(40)), None);
    assert_eq!(
        watch.observe(second(5042), tick_at(41), tick_at(60)),
        None,
        "a snapshot may take long, before or after the server reads its clock"
    );
    assert_eq!(watch.observe(second(5051), tick_at(61), tick_at(61)), None);
    assert_eq!(watch.observe(second(8652), tick_at(62), tick_at(62)), Some(3_600_000_000));
    assert_eq!(watch.observe(second(8653), tick_at(63), tick_at(63)), None, "each jump is reported once");
    assert_eq!(watch.observe(second(5054), tick_at(64), tick_at(64)), Some(-3_600_000_000));
}

/// Executes the planned steps of each second; returns the seconds in which the watch let them pass.
fn seconds_of_repeated(step: &Step, until: u64) -> Vec<u64> {
    let (mut watch, snapshot, context) = (EffectWatch::default(), Snapshot::default(), PlannerContext::default());
    let mut seconds = Vec::new();
    for second in 0..until {
        let mut steps = vec![step.clone()];
        watch.delay(&mut steps, &snapshot, &context, tick_at(second));
        for step in steps {
            watch.ended(StepIdentity::of(&step, &snapshot), Ended::Done, tick_at(second));
            seconds.push(second);
        }
    }
    seconds
}

#[test]
fn step_without_effect_is_delayed_up_to_a_minute() {
    let drop = Step::Drop { database: DatabaseId(1) };
    assert_eq!(seconds_of_repeated(&drop, 260), [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]);
}

#[test]
fn step_without_effect_is_reported_once_per_attempt() {
    let (mut watch, snapshot, context) = (EffectWatch::default(), Snapshot::default(), PlannerContext::default());
    let drop = Step::Drop { database: DatabaseId(1) };
    let identity = StepIdentity::of(&drop, &snapshot);
    let at = |watch: &mut EffectWatch, second| {
        let found = watch.delay(&mut vec![drop.clone()], &snapshot, &context, tick_at(second));
        found.into_iter().map(|found| (found.attempts, found.pause.as_secs(), found.ended)).collect::<Vec<_>>()
    };
    watch.ended(identity.clone(), Ended::Done, tick_at(5));
    assert_eq!(at(&mut watch, 4), [], "the snapshot is older than the end of the step");
    assert_eq!(at(&mut watch, 5), [(1, 1, Ended::Done)]);
    assert_eq!(watch.next(), Some(tick_at(6)));
    assert_eq!(at(&mut watch, 6), []);
    watch.ended(identity, Ended::Stale("why".to_owned()), tick_at(6));
    assert_eq!(at(&mut watch, 7), [(2, 2, Ended::Stale("why".to_owned()))]);
}

#[test]
fn step_that_was_not_planned_in_between_is_not_delayed() {
    let (mut watch, snapshot) = (EffectWatch::default(), Snapshot::default());
    let drop = Step::Drop { database: DatabaseId(1) };
    let busy = PlannerContext { busy_databases: [DatabaseId(1)].into(), ..PlannerContext::default() };
    let idle = PlannerContext::default();
    watch.ended(StepIdentity::of(&drop, &snapshot), Ended::Done, tick_at(0));
    let mut passes = |planned: bool, context: &PlannerContext| {
        let mut steps = if planned { vec![drop.clone()] } else { Vec::new() };
        watch.delay(&mut steps, &snapshot, context, tick_at(0));
        !steps.is_empty()
    };
    assert!(!passes(true, &idle), "it is delayed");
    passes(false, &busy);
    assert!(!passes(true, &idle), "another step works on the database, so nothing is known");
    passes(false, &idle);
    assert!(passes(true, &idle), "it had an effect");
}

#[test]
fn new_databases_repeat_at_once_when_rows_were_added() {
    let mut watch = EffectWatch::default();
    let step = Step::NewDatabases { template: TemplateId(1), count: 2 };
    let mut snapshot = Snapshot::default();
    let mut passes = |snapshot: &Snapshot| {
        let mut steps = vec![step.clone()];
        watch.delay(&mut steps, snapshot, &PlannerContext::default(), tick_at(0));
        for step in &steps {
            watch.ended(StepIdentity::of(step, snapshot), Ended::Done, tick_at(0));
        }
        !steps.is_empty()
    };
    assert!(passes(&snapshot));
    assert!(!passes(&snapshot), "no row was added");
    let pool = PoolName::parse("app").unwrap();
    snapshot.databases.push(Database {
        id: DatabaseId(7),
        name: DatabaseName::spare(&pool, 7),
        pool,
        template: TemplateId(1),
        state: DatabaseState::Creating,
        oid: None,
        slot: None,
        keep_until: None,
        keep_lease: None,
        keep_expired: false,
        reason: None,
        attempts: 0,
        due: true,
        last_error: None,
        created_at: Timestamp(0),
        ready_at: None,
    });
    assert!(passes(&snapshot), "a row was added");
    assert!(!passes(&snapshot));
}
