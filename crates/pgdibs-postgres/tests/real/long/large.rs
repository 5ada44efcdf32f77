//! Large templates: clones share blocks where the server and its file system can, and are copies everywhere else.
//!
//! The file systems are in loop files, which only root can mount.

use std::fs;
use std::path::Path;
use std::process::Command;

use pgdibs_core::name::Fingerprint;
use pgdibs_core::plan::large::costly;
use pgdibs_core::pool::{PoolPatch, Strategy};
use pgdibs_core::template::Template;
use pgdibs_postgres::rights::Rights;
use pgdibs_testing::cluster::{Binaries, Cluster, all_binaries};
use pgdibs_testing::conformance::ConformanceServer as _;

use crate::support::setting::{Setting, text};

/// 280 MB of contents.
const CONTENTS: &str = "create table bulk (n int, filler text);
    alter table bulk alter filler set storage plain;
    insert into bulk select n, repeat(md5(n::text), 250) from generate_series(1, 35000) n";

/// A file system in a file.
struct LoopDisk {
    directory: tempfile::TempDir,
    _image: tempfile::NamedTempFile,
}

impl LoopDisk {
    /// The error says what is missing.
    fn mount(mkfs: &[&str]) -> Result<Self, String> {
        let image = tempfile::Builder::new().prefix("pgd-loop-").tempfile_in("/tmp").unwrap();
        image.as_file().set_len(3 << 30).unwrap();
        let directory = tempfile::Builder::new().prefix("pgd-disk-").tempdir_in("/tmp").unwrap();
        run(Command::new(mkfs[0]).args(&mkfs[1..]).arg(image.path()))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(image.path()).arg(directory.path()))?;
        Ok(Self { directory, _image: image })
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        run(Command::new("umount").arg("-l").arg(self.path())).unwrap();
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let done = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let error = || format!("{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    done.status.success().then_some(()).ok_or_else(error)
}

/// Runs the test on a cluster of each Postgres, unless the cluster cannot be made.
fn on_each(cluster: impl Fn(&Binaries) -> Cluster, test: impl AsyncFn(&Setting)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for binaries in all_binaries() {
        println!("on {}", binaries.dir.display());
        runtime.block_on(async {
            let setting = Setting::on(cluster(&binaries), Rights::Superuser).await;
            test(&setting).await;
            setting.suite.backend.close().await;
        });
    }
}

/// The template after two clones of it, of which the lease of one has the whole contents.
async fn large_template(setting: &Setting) -> Template {
    let suite = &setting.suite;
    let patch = PoolPatch { warm: Some(1), spares: Some(1), ..PoolPatch::default() };
    let lease = setting.lease_of_build(&patch, "first", CONTENTS).await;
    let mut session = suite.enter(&lease).await;
    assert_eq!(text(&mut session, "select count(*) || ' ' || sum(length(filler)) from bulk").await, "35000 280000000");
    suite.server.disconnect(session).await;
    let snapshot = suite.snapshot().await;
    let fingerprint = Fingerprint::parse("first").unwrap();
    let template = snapshot.templates.into_iter().find(|template| template.fingerprint == fingerprint).unwrap();
    assert!(template.is_large() && template.seconds_of_clone().is_some(), "{template:?}");
    // The first clones of a small one are timed with each strategy.
    let ways = (template.measured.len(), template.auto_strategy());
    assert_eq!(ways, (0, Some(Strategy::FileCopy)));
    template
}

/// Runs on a file system, if this machine can mount it; says so if not.
fn on_disk(mkfs: &[&str], test: impl AsyncFn(&Setting)) {
    let disk = match LoopDisk::mount(mkfs) {
        Ok(disk) => disk,
        Err(error) => return println!("skipped: this machine cannot mount the file system of the test: {error}"),
    };
    on_each(|binaries| Cluster::start_on(binaries, disk.path(), &[]), test);
}

async fn clones_share_blocks(setting: &Setting) {
    let template = large_template(setting).await;
    if !setting.suite.backend.facts().clones_files {
        assert_eq!((template.shares_blocks(), template.disk_of_clone()), (None, template.size_bytes));
        return;
    }
    assert_eq!(template.shares_blocks(), Some(true), "{template:?}");
    assert!(template.clone_bytes.unwrap() <= 10_000_000, "{template:?}");
    assert_eq!(costly(&setting.suite.snapshot().await), []);
}

#[test]
fn clones_share_blocks_on_xfs() {
    on_disk(&["mkfs.xfs", "-q"], clones_share_blocks);
}

#[test]
fn clones_share_blocks_on_btrfs() {
    on_disk(&["mkfs.btrfs", "-q"], clones_share_blocks);
}

#[test]
fn clones_are_known_as_copies_on_xfs_without_reflink() {
    on_disk(&["mkfs.xfs", "-q", "-m", "reflink=0"], async |setting| {
        let template = large_template(setting).await;
        let expected = setting.suite.backend.facts().clones_files.then_some(false);
        assert_eq!(
            (template.shares_blocks(), template.disk_of_clone()),
            (expected, template.size_bytes),
            "{template:?}"
        );
    });
}

/// A kernel or a file system without `copy_file_range` refuses it, and Postgres does not copy then.
#[test]
fn files_are_copied_where_the_server_cannot_clone_them() {
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    let (source, library) = (directory.path().join("refuse.c"), directory.path().join("refuse.so"));
    let refusal = "#include <errno.h>\nlong copy_file_range(void) { errno = EOPNOTSUPP; return -1; }\n";
    fs::write(&source, refusal).unwrap();
    run(Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source)).unwrap();
    run(Command::new("chmod").args(["-R", "a+rX"]).arg(directory.path())).unwrap();
    let variables = [("LD_PRELOAD", library.to_str().unwrap())];
    on_each(
        |binaries| Cluster::start_of_with(binaries, &[], &variables),
        async |setting| {
            let template = large_template(setting).await;
            assert_eq!(template.shares_blocks(), None);
            let snapshot = setting.suite.snapshot().await;
            assert!(!snapshot.limits.clones_files, "it was tried, and is not tried again");
            assert!(snapshot.databases.iter().all(|database| database.attempts == 0), "{:?}", snapshot.databases);
            let refused = setting.cluster.log().matches("could not clone file").count();
            assert_eq!(refused, usize::from(setting.suite.backend.facts().clones_files));
        },
    );
}
