//! What the watches remember, and what they forget on purpose.

use uuid::Uuid;

use super::*;
use crate::lease::LeaseState;
use crate::name::{Fingerprint, PoolName};
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

fn at(seconds: u64) -> Tick {
    Duration::from_secs(seconds)
}

/// Looks every second up to and including `until`, always at the same leases; the answer is that of the last look.
fn look_until(watch: &mut ExpiryWatch, leases: &[Lease], from: u64, until: u64) -> Vec<(u128, u64)> {
    let mut overdue = BTreeMap::new();
    for second in from..=until {
        overdue = watch.observe(leases, at(second), at(second));
    }
    overdue.into_iter().map(|(id, unrenewed)| (id.as_u128(), unrenewed.as_secs())).collect()
}

#[test]
fn a_lease_is_overdue_when_its_counter_has_not_moved_for_its_ttl() {
    let mut watch = ExpiryWatch::default();
    let leases = [lease(1, 10, 0), lease(2, 12, 7)];
    assert_eq!(look_until(&mut watch, &leases, 100, 109), []);
    assert_eq!(look_until(&mut watch, &leases, 110, 110), [(1, 10)]);
    assert_eq!(look_until(&mut watch, &leases, 111, 115), [(1, 15), (2, 15)]);
}

#[test]
fn a_watch_that_restarts_gives_everybody_a_full_ttl() {
    let mut watch = ExpiryWatch::default();
    let leases = [lease(1, 2, 0)];
    assert_eq!(look_until(&mut watch, &leases, 100, 101), []);
    watch.restart();
    assert_eq!(look_until(&mut watch, &leases, 102, 103), []);
    assert_eq!(look_until(&mut watch, &leases, 104, 104), [(1, 2)]);
}

#[test]
fn a_lease_whose_holder_was_heard_of_starts_a_full_ttl_and_no_other_does() {
    let mut watch = ExpiryWatch::default();
    let leases = [lease(1, 3, 0), lease(2, 3, 0)];
    assert_eq!(look_until(&mut watch, &leases, 100, 102), []);
    watch.heard_of(&[leases[0].id].into());
    assert_eq!(look_until(&mut watch, &leases, 103, 105), [(2, 5)]);
    assert_eq!(look_until(&mut watch, &leases, 106, 106), [(1, 3), (2, 6)]);
}

#[test]
fn what_passes_during_a_look_counts_for_nobodys_end() {
    let mut watch = ExpiryWatch::default();
    let leases = [lease(1, 3, 0)];
    assert_eq!(watch.observe(&leases, at(100), at(103)), BTreeMap::new());
    assert_eq!(watch.observe(&leases, at(104), at(108)), BTreeMap::new());
    assert_eq!(look_until(&mut watch, &leases, 106, 106), [(1, 3)]);
    assert_eq!(watch.observe(&[lease(1, 3, 1)], at(107), at(110)), BTreeMap::new(), "renewed, as it sees in the end");
    assert_eq!(look_until(&mut watch, &[lease(1, 3, 1)], 112, 112), []);
    assert_eq!(look_until(&mut watch, &[lease(1, 3, 1)], 113, 113), [(1, 3)]);
}

#[test]
fn a_ttl_counts_from_the_first_look_never_from_before() {
    let mut watch = ExpiryWatch::default();
    assert_eq!(look_until(&mut watch, &[], 0, 50), []);
    assert_eq!(look_until(&mut watch, &[lease(1, 10, 3)], 51, 60), []);
    assert_eq!(look_until(&mut watch, &[lease(1, 10, 3)], 61, 61), [(1, 10)]);
}

#[test]
fn every_renewal_restarts_the_count() {
    let mut watch = ExpiryWatch::default();
    look_until(&mut watch, &[lease(1, 10, 0)], 0, 9);
    assert_eq!(look_until(&mut watch, &[lease(1, 10, 1)], 10, 19), []);
    assert_eq!(look_until(&mut watch, &[lease(1, 10, 1)], 20, 20), [(1, 10)]);
    assert_eq!(look_until(&mut watch, &[lease(1, 10, 2)], 21, 21), [], "renewed in the last moment");
}

#[test]
fn a_gap_between_snapshots_restarts_every_count() {
    let mut watch = ExpiryWatch::default();
    let leases = [lease(1, 10, 0), lease(2, 3600, 0)];
    look_until(&mut watch, &leases, 0, 9);
    assert_eq!(look_until(&mut watch, &leases, 15, 24), [], "we slept from 9 to 15");
    assert_eq!(look_until(&mut watch, &leases, 25, 25), [(1, 10)]);
}

#[test]
fn a_pause_as_long_as_expected_is_no_gap() {
    let mut watch = ExpiryWatch::default();
    let leases = [lease(1, 10, 0)];
    watch.observe(&leases, at(0), at(0));
    watch.observe(&leases, LONGEST_EXPECTED_GAP, LONGEST_EXPECTED_GAP);
    assert_eq!(watch.observe(&leases, LONGEST_EXPECTED_GAP * 2, LONGEST_EXPECTED_GAP * 2).len(), 1);
}

#[test]
fn a_lease_that_is_gone_is_forgotten() {
    let mut watch = ExpiryWatch::default();
    look_until(&mut watch, &[lease(1, 10, 0)], 0, 9);
    look_until(&mut watch, &[], 10, 10);
    assert_eq!(look_until(&mut watch, &[lease(1, 10, 0)], 11, 20), []);
}

fn use_of(counts: &[(i64, u32)]) -> BTreeMap<TemplateId, u32> {
    counts.iter().map(|&(id, count)| (TemplateId(id), count)).collect()
}

#[test]
fn a_peak_is_remembered_for_the_quiet_time() {
    let mut watch = DemandWatch::new(at(60));
    assert_eq!(watch.observe(&use_of(&[(1, 8), (2, 3)]), at(0)), use_of(&[(1, 8), (2, 3)]));
    assert_eq!(watch.observe(&use_of(&[(1, 2)]), at(30)), use_of(&[(1, 8), (2, 3)]));
    assert_eq!(watch.observe(&use_of(&[]), at(60)), use_of(&[(1, 8), (2, 3)]));
    assert_eq!(watch.observe(&use_of(&[]), at(61)), use_of(&[(1, 2)]), "the lower and later mark is left");
    assert_eq!(watch.observe(&use_of(&[]), at(90)), use_of(&[(1, 2)]));
    assert_eq!(watch.observe(&use_of(&[]), at(91)), use_of(&[]));
}

#[test]
fn a_peak_that_goes_on_never_becomes_old() {
    let mut watch = DemandWatch::new(at(10));
    for second in 0..100 {
        assert_eq!(watch.observe(&use_of(&[(1, 5)]), at(second)), use_of(&[(1, 5)]));
    }
    assert_eq!(watch.observe(&use_of(&[]), at(109)), use_of(&[(1, 5)]), "the quiet time counts from its end");
    assert_eq!(watch.observe(&use_of(&[]), at(110)), use_of(&[]));
}

#[test]
fn a_higher_peak_takes_the_place_of_a_lower_one() {
    let mut watch = DemandWatch::new(at(10));
    watch.observe(&use_of(&[(1, 2)]), at(0));
    watch.observe(&use_of(&[(1, 6)]), at(1));
    assert_eq!(watch.observe(&use_of(&[(1, 1)]), at(11)), use_of(&[(1, 6)]));
    assert_eq!(watch.observe(&use_of(&[(1, 1)]), at(12)), use_of(&[(1, 1)]));
}

#[test]
fn a_clock_that_is_set_is_seen_and_one_that_goes_is_not() {
    let mut watch = ClockWatch::default();
    let second = |n: i64| Timestamp(n * 1_000_000);
    assert_eq!(watch.observe(second(5000), at(10), at(10)), None, "nothing to compare with");
    assert_eq!(watch.observe(second(5030), at(40), at(40)), None);
    assert_eq!(
        watch.observe(second(5042), at(41), at(60)),
        None,
        "a look may take its time, before or after the answer"
    );
    assert_eq!(watch.observe(second(5051), at(61), at(61)), None);
    assert_eq!(watch.observe(second(8652), at(62), at(62)), Some(3_600_000_000));
    assert_eq!(watch.observe(second(8653), at(63), at(63)), None, "it is told once");
    assert_eq!(watch.observe(second(5054), at(64), at(64)), Some(-3_600_000_000));
}
