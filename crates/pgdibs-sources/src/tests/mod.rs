//! Tests of sources: fingerprints of real files, builds with real processes and a real Postgres.

mod builds_on_postgres;
mod captures;
mod commands;
mod dumps;
mod fingerprints;
mod migrations;
mod psql_files;
mod server;

/// These take long: `make test-all` runs them, `make test` does not (see .config/nextest.toml).
mod long {
    mod dumps_on_postgres;
}

use std::collections::BTreeMap;
use std::path::Path;

use pgdibs_testing::wait::until;

use super::{BuildTarget, FingerprintContext, Source, SourceKind};

/// A source of this kind, relative to `base`, without further settings.
pub(super) fn source(kind: SourceKind, base: &Path) -> Source {
    let (base, directory) = (base.to_owned(), base.to_owned());
    Source {
        kind,
        inputs: Vec::new(),
        base,
        env: BTreeMap::new(),
        directory,
        timeout: None,
        refresh: None,
        allow_empty: false,
    }
}

pub(super) const PASSWORD: &str = "pa/ss w:rd@7f3c";

/// The context of fingerprints, of a pool without settings.
pub(super) const CONTEXT: FingerprintContext<'static> = FingerprintContext {
    server_major: 15,
    database_digest: "",
    extensions: &[],
    locale: [""; 3],
    roles: &[],
    owner: "pgdibs_shop",
};

/// A target without a server.
pub(super) fn unreachable_target() -> BuildTarget {
    BuildTarget {
        url: "postgresql://builder:pa%2Fss%20w%3Ard%407f3c@127.0.0.1:9/shop_build_1?sslmode=disable".into(),
        host: "127.0.0.1".to_owned(),
        port: 9,
        user: "builder".to_owned(),
        password: PASSWORD.into(),
        database: "shop_build_1".to_owned(),
        psql: "/nonexistent/psql".into(),
        copied: None,
    }
}

/// Waits until a condition holds.
#[track_caller]
pub(super) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    until(what, || if condition() { Ok(()) } else { Err("it does not hold".to_owned()) });
}

/// Whether the process runs; a zombie does not.
pub(super) fn runs(pid: &str) -> bool {
    match std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())) {
        Ok(stat) => !stat.rsplit_once(')').unwrap().1.trim_start().starts_with('Z'),
        Err(_) => std::process::Command::new("ps")
            .args(["-o", "stat=", "-p", pid.trim()])
            .output()
            .is_ok_and(|output| !output.stdout.is_empty() && !output.stdout.starts_with(b"Z")),
    }
}
