//! A full disk in the middle of a clone, with each strategy. The disk is a small one in memory, which takes root to mount.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Cluster, Place, Stage, stage, until};

const FULL_AGAIN: Duration = Duration::from_secs(30);
/// Room for a dozen clones of 60 MB, and then for no more.
const SIZE: &str = "size=1200m";

/// A disk of its own, whose size can be changed in a moment: a file that fills it would take longer to write than a clone does.
struct Disk(tempfile::TempDir);

impl Disk {
    fn mount() -> Self {
        let directory = tempfile::Builder::new().prefix("pgd-disk-").tempdir_in("/tmp").unwrap();
        assert!(nix::unistd::geteuid().is_root(), "to mount a small disk takes root: run this test as root");
        run("mount", &["-t", "tmpfs", "-o", SIZE, "pgdibs-test", &directory.path().display().to_string()]);
        Self(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn stat(&self) -> nix::sys::statvfs::Statvfs {
        nix::sys::statvfs::statvfs(self.path()).unwrap()
    }

    fn free(&self) -> u64 {
        self.stat().blocks_available() * self.stat().fragment_size()
    }

    /// Leaves no room beside what is used.
    fn fill(&self) {
        until("the disk is as small as what is on it", || {
            let stat = self.stat();
            let used = (stat.blocks() - stat.blocks_available()) * stat.fragment_size();
            // Refused when more is used by now.
            let done = self.resize(&format!("size={used}"));
            if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
        });
    }

    fn make_room(&self) {
        let done = self.resize(SIZE);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    fn resize(&self, size: &str) -> Output {
        Command::new("mount").args(["-o", &format!("remount,{size}")]).arg(self.path()).output().unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run("umount", &["-l", &self.path().display().to_string()]);
    }
}

fn run(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).output().unwrap();
    assert!(done.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

fn full_in_mid_clone(strategy: &str) {
    let disk = Disk::mount();
    let settings = ["max_prepared_transactions=10", "max_wal_size=64MB", "min_wal_size=32MB", "wal_recycle=off"];
    let cluster = Cluster::start_on(disk.path(), &settings);
    let place = Place::on(&cluster.url());
    let floor = [("PGDIBS_DISK_FLOOR_MB", "100")];
    let (stage, mut daemon) = Stage::with(cluster, place, &floor, stage::BULK);
    stage.api.put(&format!("/v1/pools/{}", stage.pool), &json!({"strategy": strategy})).expect(200);
    stage.under_load(|| {});
    let clones_that_failed = || -> Vec<String> {
        stage
            .cluster
            .log()
            .lines()
            .filter_map(|line| Some(line.split_once("STATEMENT:  create database ")?.1.to_owned()))
            .collect()
    };
    // A clone may be done in the moment between the look and the full disk.
    for round in 0..20 {
        stage.load().during(stage::CALLERS, || {
            stage.until_in_mid_clone();
            let before = clones_that_failed().len();
            disk.fill();
            let began = Instant::now();
            until("it says why nothing is cloned, or that the server is unreachable", || {
                let said = daemon.log();
                let short = said.matches("too little disk space is left").count() > round;
                let gone = said.matches("the server is unreachable").count() > round;
                if short || gone {
                    Ok(())
                } else {
                    Err(format!("{} bytes free after {:?}", disk.free(), began.elapsed()))
                }
            });
            // The fault lasts, and nobody storms: what was begun when it came may fail, and is not begun again before there is room.
            std::thread::sleep(Duration::from_secs(3));
            let failed = clones_that_failed().split_off(before);
            disk.make_room();
            let names: BTreeSet<_> = failed.iter().collect();
            assert_eq!(names.len(), failed.len(), "clones that were begun again on a full disk: {failed:?}");
            // What Postgres does when its log finds no room: it ends, and cannot start either until there is some.
            stage.cluster.up_again();
            daemon.until_ready();
            stage.ledger.until_served(stage::CALLERS as usize);
            println!("round {round}: {} clones failed", failed.len());
        });
        // A clone that failed on the way counts its attempts, and one that was blocked is tried once a minute.
        stage.catalog().run("update databases set retry_at = now() where state = 'blocked'");
        stage.audit(&daemon, FULL_AGAIN);
        if round >= 2 && !clones_that_failed().is_empty() {
            break;
        }
    }
    assert!(!clones_that_failed().is_empty(), "twenty full disks, and none in the middle of a clone");
    daemon.stop();
}

pub(super) fn full_in_mid_clone_by_files() {
    full_in_mid_clone("file_copy");
}

pub(super) fn full_in_mid_clone_through_the_log() {
    full_in_mid_clone("wal_log");
}
