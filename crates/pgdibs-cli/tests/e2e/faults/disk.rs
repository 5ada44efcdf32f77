//! A full disk during a clone, with each strategy. The disk is a small tmpfs; only root can mount it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::json;

use pgdibs_testing::cluster::binaries;
use pgdibs_testing::end_to_end::{Cluster, Place, Stage, stage, until};

const FULL_AGAIN: Duration = Duration::from_secs(30);
/// Enough for a dozen clones of 60 MB.
const SIZE: &str = "size=1200m";

/// A disk whose size the test changes at once; writing a file to fill it would take longer than a clone.
struct Disk(tempfile::TempDir);

impl Disk {
    fn mount() -> Self {
        let directory = tempfile::Builder::new().prefix("pgd-disk-").tempdir_in("/tmp").unwrap();
        assert!(nix::unistd::geteuid().is_root(), "this test mounts a small disk; run it as root");
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

    /// Shrinks the disk to the used size.
    fn fill(&self) {
        until("the disk is full", || {
            let stat = self.stat();
            let used = (stat.blocks() - stat.blocks_available()) * stat.fragment_size();
            // The resize fails if more is used by now.
            let done = self.resize(&format!("size={used}"));
            if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
        });
    }

    fn grow(&self) {
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
    let cluster = Cluster::start_on(&binaries(), disk.path(), &settings);
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
    // A clone can end between the poll and the full disk.
    for round in 0..20 {
        stage.load().during(stage::CALLERS, || {
            stage.until_in_mid_clone();
            let before = clones_that_failed().len();
            disk.fill();
            let began = Instant::now();
            until("the log reports the full disk or the outage of the server", || {
                let log = daemon.log();
                let short = log.matches("too little disk space is left").count() > round;
                let outage = log.matches("the server is unreachable").count() > round;
                if short || outage {
                    Ok(())
                } else {
                    Err(format!("{} bytes free after {:?}", disk.free(), began.elapsed()))
                }
            });
            // During the fault, clones in progress may fail, and no clone starts again before there is space.
            std::thread::sleep(Duration::from_secs(3));
            let failed = clones_that_failed().split_off(before);
            disk.grow();
            let names: BTreeSet<_> = failed.iter().collect();
            assert_eq!(names.len(), failed.len(), "clones were started again on a full disk: {failed:?}");
            // Postgres ends when it has no space for WAL, and cannot start until there is some.
            stage.cluster.up_again();
            daemon.until_ready();
            stage.ledger.until_served(stage::CALLERS as usize);
            println!("round {round}: {} clones failed", failed.len());
        });
        // Failed clones count attempts, and a blocked one is retried once a minute.
        stage.catalog().run("update databases set retry_at = now() where state = 'blocked'");
        stage.audit(&daemon, FULL_AGAIN);
        if round >= 2 && !clones_that_failed().is_empty() {
            break;
        }
    }
    assert!(!clones_that_failed().is_empty(), "none of twenty full disks hit a clone");
    daemon.stop();
}

pub(super) fn full_disk_during_file_copy() {
    full_in_mid_clone("file_copy");
}

pub(super) fn full_disk_during_wal_log_copy() {
    full_in_mid_clone("wal_log");
}
