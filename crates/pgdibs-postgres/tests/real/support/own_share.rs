//! A server with extensions that the test writes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use pgdibs_testing::cluster::Cluster;

/// Restarts the cluster on a copy of `postgres` beside which a share directory has the same files and these in `extension/`. The server finds
/// both from the path of its program, as installed ones are moved. Returns their directory.
pub(crate) async fn restart_with(cluster: &mut Cluster, files: &[(&str, &str)]) -> tempfile::TempDir {
    let place = async |name: &str| {
        let sql = format!("select setting from pg_config where name = '{name}'");
        PathBuf::from(cluster.text("postgres", &sql).await)
    };
    let (programs, share, libraries) = (place("BINDIR").await, place("SHAREDIR").await, place("PKGLIBDIR").await);
    let common: PathBuf =
        programs.components().zip(share.components()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect();
    // Not in memory: programs in /dev/shm may not be allowed to run.
    let directory = tempfile::Builder::new().prefix("pgd-share-").tempdir().unwrap();
    let moved = |path: &Path| directory.path().join(path.strip_prefix(&common).unwrap());
    fs::create_dir_all(moved(&programs)).unwrap();
    fs::create_dir_all(moved(&share).join("extension")).unwrap();
    let link_all = |from: &Path, but: &str| {
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap).filter(|entry| entry.file_name() != but) {
            symlink(entry.path(), moved(from).join(entry.file_name())).unwrap();
        }
    };
    link_all(&programs, "postgres");
    fs::copy(programs.join("postgres"), moved(&programs).join("postgres")).unwrap();
    link_all(&share, "extension");
    link_all(&share.join("extension"), "");
    for (name, text) in files {
        fs::write(moved(&share).join("extension").join(name), text).unwrap();
    }
    if !moved(&libraries).exists() {
        fs::create_dir_all(moved(&libraries).parent().unwrap()).unwrap();
        symlink(&libraries, moved(&libraries)).unwrap();
    }
    // Postgres runs as another user.
    fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    cluster.stop();
    cluster.binaries.dir = moved(&programs);
    cluster.start_again();
    directory
}
