//! A template exported from one server and imported on another: equal clones, refusals of what does not fit, interruptions.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use pgdibs_testing::end_to_end::program::{Finished, Started, run};
use pgdibs_testing::end_to_end::{Cluster, Daemon, Place, Session, contents, pool_name, signal, until};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Owners, grants and rules beside those of the other tests: an object of another role in a schema where that role may no longer create
/// one, default privileges of that role, and row-level security that the owner is subject to.
const MORE: &str = "
create table audit.observed (n int, unique (n));
insert into audit.observed values (1), (2);
grant create on schema audit to observer;
alter table audit.observed owner to observer;
revoke create on schema audit from observer;
create table of_observer (n int);
grant insert on of_observer to observer;
alter table of_observer owner to observer;
alter default privileges for role observer in schema audit grant select on tables to current_user;
grant select (note) on witness to observer;
alter table account force row level security;
create extension pgcrypto schema audit;
";

/// Besides what [`contents::describe`] compares.
const FORCED: &str = "select relname from pg_class where relforcerowsecurity order by 1";

/// Two servers with a daemon each.
struct Two {
    _clusters: (Cluster, Cluster),
    here: Place,
    there: Place,
    from: Daemon,
    to: Daemon,
    pool: String,
}

impl Two {
    /// The template `first` is on the first server.
    fn start() -> Self {
        let clusters = (Cluster::start(&[]), Cluster::start(&[]));
        let (here, there) = (Place::on(&clusters.0.url()), Place::on(&clusters.1.url()));
        let (from, to) = (here.daemon(&[]), there.daemon(&[]));
        let pool = pool_name("moved");
        let settings = json!({"warm": 1, "spares": 0, "roles": ["observer"], "extensions": ["tablefunc"]});
        from.api.put(&format!("/v1/pools/{pool}"), &settings).expect(201);
        let path = format!("/v1/pools/{pool}/templates/first");
        let build = from.api.put(&path, &json!({})).expect(201)["build"].clone();
        let mut builder = Session::open(build["url"].as_str().unwrap());
        builder.run(contents::SCHEMA);
        builder.run(MORE);
        let database = build["database"].as_str().unwrap();
        clusters.0.superuser("postgres").run(&contents::superuser_part(&pool, database));
        from.api.post(&format!("{path}/seal"), &json!({"token": build["token"]})).expect(200);
        Self { _clusters: clusters, here, there, from, to, pool }
    }

    fn export(&self, file: &Path) -> Finished {
        let words = ["template", "export", file.to_str().unwrap(), "--pool", &self.pool, "--output", "json"];
        run(self.here.program(&words, &[("PGDIBS_URL", &self.from.api.url())]))
    }

    fn import(&self, file: &Path, words: &[&str]) -> Finished {
        let words = [&["template", "import", file.to_str().unwrap()], words].concat();
        run(self.there.program(&words, &[("PGDIBS_URL", &self.to.api.url())]))
    }
}

/// The lines of a clone; the pool's name is omitted, and so are rights of an owner that are those of every owner, which a dump does not have.
fn contents_of(daemon: &Daemon, pool: &str) -> Vec<String> {
    let lease = daemon.api.lease(&json!({"pool": pool, "fingerprint": "first", "wait_seconds": 60}));
    let mut session = Session::of(&lease);
    let mut lines = contents::describe(&mut session, true).unwrap();
    lines.extend(session.list(FORCED));
    daemon.api.release(&lease);
    let same = |line: String| match line.split_once("acl {observer=arwdDxt") {
        Some((begin, end)) if end.starts_with("/observer}") || end.starts_with("m/observer}") => {
            format!("{begin}acl {}", end.trim_start_matches('m').trim_start_matches("/observer}"))
        }
        _ => line,
    };
    lines.into_iter().map(|line| same(line.replace(pool, "POOL"))).collect()
}

/// The file with another header, whose hash is right.
fn edited(file: &Path, edit: impl Fn(&mut Value)) -> PathBuf {
    let bytes = std::fs::read(file).unwrap();
    let mut parts = bytes.splitn(3, |byte| *byte == b'\n');
    let (_, header, dump) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    let mut header = serde_json::from_slice(header).unwrap();
    edit(&mut header);
    let rest = [format!("{header}\n").as_bytes(), dump].concat();
    let hash: String = Sha256::digest(&rest).iter().map(|byte| format!("{byte:02x}")).collect();
    let other = file.with_extension("edited");
    std::fs::write(&other, [format!("pgdibs-template 1 {hash}\n").as_bytes(), &rest].concat()).unwrap();
    other
}

#[test]
fn imported_template_has_equal_clones_and_unfit_files_are_refused() {
    let two = Two::start();
    let file = two.here.path().join("template.pgdibs");
    let written: Value = serde_json::from_str(&two.export(&file).well()).unwrap();
    assert_eq!((&written["fingerprint"], &written["pool"]), (&json!("first"), &json!(two.pool)), "{written}");
    assert_eq!(written["settings"], json!({"extensions": ["tablefunc"], "roles": ["observer"]}), "{written}");
    assert_eq!(written["size_bytes"], json!(std::fs::metadata(&file).unwrap().len()));
    assert_eq!(two.from.api.get("/v1/leases").expect(200)["leases"], json!([]), "the export left its lease");

    let refused = |edit: &dyn Fn(&mut Value), sentence: &str| {
        let done = two.import(&edited(&file, edit), &["--pool", &format!("{}_refused", two.pool)]);
        assert!(done.code == Some(1) && done.stderr.contains(sentence), "{sentence}: {done:?}");
    };
    // The first one creates the pool.
    refused(
        &|header| header["settings"]["extensions"] = json!(["none"]),
        "extension \"none\" (pool setting `extensions`)",
    );
    two.to.api.delete(&format!("/v1/pools/{}_refused", two.pool));
    refused(&|header| header["database"]["encoding"] = json!("LATIN1"), "encoding LATIN1");
    refused(&|header| header["extensions"]["citext"] = json!("0.1"), "extension \"citext\" is of version 0.1 in it");
    refused(&|header| header["extensions"]["none"] = json!("1"), "it has extension \"none\" 1, which is not installed");

    // The pool exists without the role and the extension that the file needs; the error names the role.
    let bare = format!("{}_bare", two.pool);
    two.to.api.put(&format!("/v1/pools/{bare}"), &json!({"warm": 0, "spares": 0})).expect(201);
    let done = two.import(&file, &["--pool", &bare]);
    assert!(done.code == Some(1) && done.stderr.contains("list the new owner under `roles` of the pool"), "{done:?}");
    assert_eq!(two.to.api.get(&format!("/v1/pools/{bare}/templates/first")).body["state"], json!("failed"));

    let done = two.import(&file, &[]);
    assert!(done.stderr.contains(&format!("created the pool {}", two.pool)), "{done:?}");
    // The superuser had made that grant beside the build.
    let lost = "not in the imported template: grant CONNECT on database moved_";
    assert!(
        done.stderr.contains(lost) && done.stderr.contains("to observer with grant option, which only"),
        "{done:?}"
    );
    assert_eq!(done.well(), "first\n");
    let expected = contents_of(&two.from, &two.pool);
    let difference = |pool: &str| contents::difference(&expected, &contents_of(&two.to, pool));
    assert_eq!(difference(&two.pool), "- grant CONNECT to observer t");
    let again = two.import(&file, &[]);
    assert!(again.stderr.contains("the template exists already"), "{again:?}");
    again.well();

    // A pool of another name has another owner role.
    let other = format!("{}_b", two.pool);
    two.import(&file, &["--pool", &other]).well();
    assert_eq!(difference(&other), "- grant CONNECT to observer t");

    interrupted(&two, &file);
}

/// Ctrl-C while a program of Postgres runs: the lease ends, the build is abandoned, no part of a file stays.
fn interrupted(two: &Two, file: &Path) {
    let (bin, directory) = (two.here.path().join("bin"), two.here.path().join("exports"));
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::create_dir_all(&directory).unwrap();
    let real = pgdibs_testing::cluster::binaries();
    for name in ["pg_dump", "pg_restore", "psql"] {
        let path = bin.join(name);
        let hangs =
            "case $1 in --version) echo 'x (PostgreSQL) 99.1';; *) echo hangs > \"$0.runs\"; exec sleep 600;; esac";
        let body =
            if name == "psql" { format!("exec {} \"$@\"", real.dir.join(name).display()) } else { hangs.to_owned() };
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let pool = format!("{}_c", two.pool);
    let export = directory.join("template.pgdibs");
    let bin_dir = ["--pg-bin-dir", bin.to_str().unwrap()];
    let of_export = [&["template", "export", export.to_str().unwrap(), "--pool", &two.pool], &bin_dir[..]].concat();
    let of_import = [&["template", "import", file.to_str().unwrap(), "--pool", &pool], &bin_dir[..]].concat();
    for (words, daemon, hanging) in [(of_export, &two.from, "pg_dump"), (of_import, &two.to, "pg_restore")] {
        let mut command = two.here.program(&words, &[("PGDIBS_URL", &daemon.api.url())]);
        let started = Started(Some(command.spawn().unwrap()));
        until("the program of Postgres runs", || match bin.join(format!("{hanging}.runs")).exists() {
            true => Ok(()),
            false => Err(String::new()),
        });
        signal(started.pid(), Signal::SIGINT);
        let done = started.done();
        assert_eq!(done.code, Some(130), "{done:?}");
    }
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0, "a part of the file stayed");
    assert_eq!(two.from.api.get("/v1/leases").expect(200)["leases"], json!([]), "the lease stayed");
    let template = two.to.api.get(&format!("/v1/pools/{pool}/templates/first")).body;
    assert_eq!((&template["state"], &template["detail"]), (&json!("failed"), &json!("the import was interrupted")));
}
