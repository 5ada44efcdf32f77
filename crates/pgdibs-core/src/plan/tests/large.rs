//! Large templates: their clones run one at a time, leave disk for another, and their cost is said.

use super::super::large::costly;
use super::check;
use super::example::{Example, example};
use crate::database::DatabaseState;
use crate::pool::Strategy;
use crate::request::TicketKind::{Acquire, Reset};
use crate::snapshot::Limits;
use crate::template::TemplateId;

const GIB: u64 = 1 << 30;

/// A template of 10 GiB, on a disk with this much free above its floor.
fn large(spares: u32, free_gib: u64) -> Example {
    let mut e = example(0, 9, spares).template(1).change_template(1, |t| t.size_bytes = Some(10 * GIB));
    let (free, disk_floor_bytes) = (Some((free_gib + 1) * GIB), GIB);
    e.snapshot.limits = Limits { free_disk_bytes: free, disk_floor_bytes, clones_files: true, ..Limits::default() };
    e
}

fn sharing(e: Example) -> Example {
    e.change_template(1, |t| (t.clone_seconds, t.clone_bytes) = (Some(0.3), Some(3 << 20)))
}

fn copying(e: Example) -> Example {
    e.change_template(1, |t| (t.clone_seconds, t.clone_bytes) = (Some(61.24), Some(10 * GIB)))
}

#[test]
fn clones_of_large_template_run_one_at_a_time_until_they_share_blocks() {
    let queued = large(3, 1000).creating(10).creating(11).creating(12);
    check(&queued, &["refill 10"]);
    check(&queued.clone().busy(10), &[]);
    check(&copying(queued.clone()).busy(10), &[]);
    check(&sharing(queued.clone()).busy(10), &["refill 11", "refill 12"]);
    let waiting = queued.busy(10).waiting(1, Acquire, 2);
    check(&waiting, &["2 new of 1"]);
}

#[test]
fn idle_clones_of_large_template_leave_disk_for_another() {
    // 45 GiB are three clones, and 10 GiB for a caller or the next build.
    check(&large(8, 45), &["3 new of 1"]);
    check(&large(8, 45).creating(10).creating(11).creating(12), &["refill 10"]);
    let last = |free| large(8, free).spare(10).spare(11).creating(12);
    check(&last(20), &["refill 12"]);
    check(&last(19), &[]);
    check(&copying(last(19)), &[]);
    check(&last(19).waiting(1, Acquire, 3), &["fill slot 0 with 10", "fill slot 1 with 11", "clone 12"]);
    check(&last(9).waiting(1, Acquire, 3), &["fill slot 0 with 10", "fill slot 1 with 11"]);
    let reset = large(0, 19).leased(10, 0).waiting(1, Reset, 1);
    check(&reset, &["1 new of 1"]);
    check(&reset.creating(11), &["clone 11"]);
}

#[test]
fn waiting_request_gets_the_disk_of_idle_large_databases() {
    // The pool's idle databases of the template before fill the disk; one after the other makes room.
    let two = |free| {
        let before = large(1, free).ready(10, 0).spare(11).peak(1, 1);
        before.template(2).change_template(2, |t| t.size_bytes = Some(10 * GIB)).waiting(2, Acquire, 1)
    };
    check(&two(9), &["retire 11: evicted"]);
    let dropping = two(9).change(11, |d| d.state = DatabaseState::Retiring);
    check(&dropping, &["drop 11"]);
    check(&two(10), &["1 new of 2"]);
    check(&two(10).creating(12), &["clone 12"]);
    let mut ready = two(9).vanished(11);
    ready.snapshot.databases.retain(|d| d.id.0 != 11);
    check(&ready, &["retire 10: evicted"]);
    check(&ready.clone().waiting(1, Acquire, 1), &[]);
    let small = two(9).change_template(1, |t| t.size_bytes = Some(13 << 20));
    check(&small, &[]);
}

#[test]
fn shared_blocks_count_what_they_take() {
    check(&sharing(large(8, 1)), &["8 new of 1"]);
    assert_eq!(sharing(large(0, 1)).snapshot.bytes_of_clone(&sharing(large(0, 1)).snapshot.templates[0]), 3 << 20);
    // A clone that took more than a quarter of the template copied its contents.
    let quarter =
        |bytes| large(8, 1).change_template(1, |t| t.clone_bytes = Some(bytes)).snapshot.templates[0].shares_blocks();
    assert_eq!((quarter(10 * GIB / 4), quarter(10 * GIB / 4 + 1)), (Some(true), Some(false)));
    let small = sharing(large(8, 1)).change_template(1, |t| t.size_bytes = Some(13 << 20));
    assert_eq!(small.snapshot.templates[0].shares_blocks(), None);
    assert!(!small.snapshot.disk_is_short_for(TemplateId(1)));
}

#[test]
fn strategy_of_large_template_is_file_copy() {
    let template =
        |size| large(0, 1).change_template(1, |t| (t.size_bytes, t.strategy) = (Some(size), Some(Strategy::WalLog)));
    let strategy = |size| template(size).snapshot.templates[0].auto_strategy();
    assert_eq!((strategy(1), strategy(10 * GIB)), (Some(Strategy::WalLog), Some(Strategy::FileCopy)));
}

#[test]
fn costly_clones_say_seconds_bytes_and_what_helps() {
    let said = |e: &Example| costly(&e.snapshot).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        said(&copying(large(0, 1))),
        [
            "pool app: each clone of template fingerprint 1 takes 61.2 s and 10738 MB of disk; the file system of the server's data \
          directory does not let clones share blocks: XFS with reflink=1 or Btrfs would, or a smaller template helps"
        ]
    );
    let mut older = large(0, 1);
    older.snapshot.limits.clones_files = false;
    assert_eq!(
        said(&older),
        [
            "pool app: each clone of template fingerprint 1 takes 10738 MB of disk; Postgres 18 with its data directory on XFS with \
          reflink=1 or Btrfs would let clones share the template's blocks, or a smaller template helps"
        ]
    );
    let unknown = said(&large(0, 1));
    assert!(unknown[0].contains("if the file system of the server's data directory is not XFS"), "{unknown:?}");
    assert_eq!(said(&sharing(large(0, 1))), [""; 0]);
    let slow = said(&sharing(large(0, 1)).change_template(1, |t| t.clone_seconds = Some(1.1)));
    assert!(slow[0].contains("takes 1.1 s and 4 MB of disk; it shares the blocks"), "{slow:?}");
    let small = copying(large(0, 1)).change_template(1, |t| t.size_bytes = Some(13 << 20));
    assert_eq!(said(&small), [""; 0]);
}
