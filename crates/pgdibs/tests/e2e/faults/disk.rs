//! A full disk in the middle of a clone, with each strategy. The disk is a small one in memory, which takes root to mount.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::fcntl::{FallocateFlags, fallocate};
use serde_json::json;

use crate::support::{Cluster, Place, Stage, stage, until};

const FULL_AGAIN: Duration = Duration::from_secs(30);
/// Room for a dozen clones of 60 MB, and then for no more.
const SIZE: &str = "size=1200m";

/// A disk of its own, and the file that fills it.
struct Disk {
    directory: tempfile::TempDir,
    ballast: PathBuf,
}

impl Disk {
    fn mount() -> Self {
        let directory = tempfile::Builder::new().prefix("pgd-disk-").tempdir_in("/tmp").unwrap();
        assert!(nix::unistd::geteuid().is_root(), "to mount a small disk takes root: run this test as root");
        run("mount", &["-t", "tmpfs", "-o", SIZE, "pgdibs-test", &directory.path().display().to_string()]);
        let ballast = directory.path().join("ballast");
        Self { directory, ballast }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn free(&self) -> u64 {
        let stat = nix::sys::statvfs::statvfs(self.path()).unwrap();
        stat.blocks_available() * stat.fragment_size()
    }

    /// Takes all that is left, at once.
    fn fill(&self) {
        let file = File::options().create(true).append(true).open(&self.ballast).unwrap();
        let mut at = file.metadata().unwrap().len();
        let mut step = 64 << 20;
        while step >= 4096 {
            match fallocate(&file, FallocateFlags::empty(), i64::try_from(at).unwrap(), step) {
                Ok(()) => at += step.unsigned_abs(),
                Err(_) => step /= 2,
            }
        }
    }

    fn make_room(&self) {
        let _none_yet = std::fs::remove_file(&self.ballast);
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
    for round in 0..3 {
        stage.load().during(stage::CALLERS, || {
            stage.until_in_mid_clone();
            disk.fill();
            let began = Instant::now();
            until("it says why nothing is cloned, or that the server is gone", || {
                let said = daemon.log();
                let short = said.matches("too little disk space is left").count() > round;
                let gone = said.matches("the server is gone").count() > round;
                if short || gone {
                    Ok(())
                } else {
                    Err(format!("{} bytes free after {:?}", disk.free(), began.elapsed()))
                }
            });
            // Nobody storms: a clone that failed waits for its time.
            let failed = stage.cluster.log().matches("No space left on device").count();
            disk.make_room();
            // What Postgres does when its log finds no room: it ends, and cannot start either until there is some.
            stage.cluster.up_again();
            daemon.until_ready();
            stage.ledger.until_served(stage::CALLERS as usize);
            println!("round {round}: {failed} errors of a full disk in the server's log so far");
        });
        // A clone that failed on the way counts its attempts, and one that was blocked is tried once a minute.
        stage.catalog().run("update databases set retry_at = now() where state = 'blocked'");
        stage.audit(&daemon, FULL_AGAIN);
    }
    daemon.stop();
}

pub(super) fn full_in_mid_clone_by_files() {
    full_in_mid_clone("file_copy");
}

pub(super) fn full_in_mid_clone_through_the_log() {
    full_in_mid_clone("wal_log");
}
