//! Tests of globs and fingerprints: what changes a fingerprint, and the cost of a repeated call.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use super::super::inputs::Inputs;
use super::super::{FileGlob, FingerprintContext, Matches, Source, SourceFingerprint, SourceKind};
use super::{CONTEXT, source};

fn write(base: &Path, files: &[(&str, &str)]) {
    for (name, content) in files {
        let path = base.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

fn command(base: &Path, inputs: &[&str]) -> Source {
    let kind = SourceKind::Command(vec!["migrate".to_owned(), "--all".to_owned()]);
    Source { inputs: globs(inputs), ..source(kind, base) }
}

fn globs(texts: &[&str]) -> Vec<FileGlob> {
    texts.iter().map(|text| FileGlob::parse(text).unwrap()).collect()
}

fn fingerprint(source: &Source) -> String {
    SourceFingerprint::new(source.clone()).current(&CONTEXT).unwrap()
}

/// A time at which every change of the test is settled.
fn later() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() + Duration::from_secs(3600)
}

#[test]
fn fingerprint_depends_on_contents_and_relative_names() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for base in [one.path(), two.path()] {
        write(base, &[("db/1.sql", "select 1"), ("db/2.sql", "select 2"), ("db/notes.txt", "x")]);
    }
    let sql = |base: &Path| source(SourceKind::SqlDir(base.join("db")), base);
    let first = fingerprint(&sql(one.path()));
    assert_eq!(first, fingerprint(&sql(two.path())));
    assert!(first.len() == 64 && first.bytes().all(|c| c.is_ascii_hexdigit() && !c.is_ascii_uppercase()));

    let mut seen = vec![first.clone()];
    let mut differs = |what: &str| {
        let now = fingerprint(&sql(two.path()));
        assert!(!seen.contains(&now), "{what} did not change the fingerprint");
        seen.push(now);
    };
    write(two.path(), &[("db/2.sql", "select 3")]);
    differs("another content");
    fs::rename(two.path().join("db/2.sql"), two.path().join("db/3.sql")).unwrap();
    differs("a renamed file");
    write(two.path(), &[("db/4.sql", "")]);
    differs("a new, empty file");
    fs::remove_file(two.path().join("db/1.sql")).unwrap();
    differs("a deleted file");
    write(two.path(), &[("db/notes.txt", "y"), ("db/.hidden.sql", "z"), ("db/deep/5.sql", "z")]);
    assert_eq!(&fingerprint(&sql(two.path())), seen.last().unwrap(), "files that do not match changed the fingerprint");
}

#[test]
fn fingerprint_depends_on_configuration_and_context() {
    let base = tempfile::tempdir().unwrap();
    write(base.path(), &[("a.py", "1"), ("b.py", "2")]);
    let plain = command(base.path(), &["*.py"]);
    let names = ["x".to_owned()];
    let of = |source: &Source, context: FingerprintContext<'_>| {
        SourceFingerprint::new(source.clone()).current(&context).unwrap()
    };
    let with_env = |name: &str, value: &str| Source { env: [(name.to_owned(), value.into())].into(), ..plain.clone() };
    let argv = |words: &[&str]| {
        let kind = SourceKind::Command(words.iter().map(|word| (*word).to_owned()).collect());
        Source { kind, ..plain.clone() }
    };
    let database = |name: &str| source(SourceKind::Database(name.to_owned()), base.path());
    let all = [
        of(&plain, CONTEXT),
        of(&plain, FingerprintContext { server_major: 16, ..CONTEXT }),
        of(&plain, FingerprintContext { extensions: &names, ..CONTEXT }),
        of(&plain, FingerprintContext { locale: ["C", "", ""], ..CONTEXT }),
        of(&plain, FingerprintContext { roles: &names, ..CONTEXT }),
        of(&plain, FingerprintContext { owner: "other", ..CONTEXT }),
        of(&argv(&["migrate", "--al", "l"]), CONTEXT),
        of(&argv(&["migrate"]), CONTEXT),
        of(&with_env("A", "1"), CONTEXT),
        of(&with_env("A", "2"), CONTEXT),
        of(&with_env("A1", ""), CONTEXT),
        of(&command(base.path(), &["a.py"]), CONTEXT),
        of(&database("seed"), CONTEXT),
        of(&database("seed2"), CONTEXT),
        of(&database("seed"), FingerprintContext { database_digest: "d", ..CONTEXT }),
    ];
    for (place, fingerprint) in all.iter().enumerate() {
        assert!(!all[..place].contains(fingerprint), "number {place} has the fingerprint of an earlier one");
    }
    assert_eq!(all[0], of(&plain, FingerprintContext { database_digest: "ignored here", ..CONTEXT }));
    assert_eq!(all[0], fingerprint(&command(base.path(), &["b.py", "./*.py", "a.py"])), "each file counts once");
}

#[test]
fn globs_match_files_but_never_byte_code() {
    let base = tempfile::tempdir().unwrap();
    write(
        base.path(),
        &[
            ("app/one/migrations/1.py", "a"),
            ("app/two/deep/migrations/2.py", "b"),
            ("app/two/deep/models.py", "c"),
            ("app/[x].py", "d"),
        ],
    );
    let of = |globs: &[&str]| fingerprint(&command(base.path(), globs));
    let deep = of(&["app/**/migrations/*.py"]);
    assert_eq!(deep, of(&["app/one/migrations/1.py", "app/*/deep/migrations/?.py"]));
    assert_eq!(of(&["app/**"]), of(&["app/**/*"]));
    assert_ne!(of(&["app/**"]), deep);
    assert_eq!(of(&["app/[[]x].py"]), of(&["app/[[]*.py"]));
    let whole = of(&["app/**"]);
    write(base.path(), &[("app/__pycache__/m.py", "x"), ("app/one/m.pyc", "x"), ("app/.git/config", "x")]);
    assert_eq!(of(&["app/**"]), whole);
    let only_byte_code = command(base.path(), &["app/*/m.*"]);
    assert!(SourceFingerprint::new(only_byte_code).current(&CONTEXT).is_err(), "byte code matched without **");
    let outside = command(&base.path().join("app"), &["../app/one/migrations/*"]);
    assert_eq!(SourceFingerprint::new(outside).current(&CONTEXT).unwrap().len(), 64);
    std::os::unix::fs::symlink(base.path().join("app"), base.path().join("app/loop")).unwrap();
    assert_eq!(of(&["app/**"]), whole, "the walk followed a link to a directory above");
}

#[test]
fn globs_match_hidden_names_alternatives_and_links_only_when_spelled_out() {
    let base = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    write(outside.path(), &[("1.sql", "x"), ("deep/2.sql", "y")]);
    write(base.path(), &[("a/.sqlx/q.json", "1"), ("a/one.py", "2"), ("b/.hidden.py", "3"), ("b/two.py", "4")]);
    std::os::unix::fs::symlink(outside.path(), base.path().join("b/linked")).unwrap();
    std::os::unix::fs::symlink("nowhere", base.path().join("b/dangling")).unwrap();
    std::os::unix::fs::symlink("itself", base.path().join("b/itself")).unwrap();
    let found = |glob: &str| {
        let mut matches = Matches::default();
        FileGlob::parse(glob).unwrap().find(base.path(), &mut matches).unwrap();
        let mut files: Vec<String> =
            matches.files.iter().map(|file| file.strip_prefix(base.path()).unwrap().display().to_string()).collect();
        files.sort();
        files.join(" ")
    };
    assert_eq!(found("**"), "a/one.py b/two.py");
    assert_eq!(found("**/.sqlx/*.json"), "a/.sqlx/q.json");
    assert_eq!(found("b/.*.py"), "b/.hidden.py");
    assert_eq!(found("{a,b}/*.py"), "a/one.py b/two.py");
    assert_eq!(found("*/linked/*"), "b/linked/1.sql");
    assert_eq!(found("**/linked/**"), "b/linked/1.sql b/linked/deep/2.sql");
    assert_eq!(found("*/*/1.sql"), "b/linked/1.sql");
    assert_eq!(found("./a//one.py"), "a/one.py");
    assert_eq!(found("a/one.py/x"), "");
    for bad in ["a/[", "{a/b,c}", "a/{b"] {
        assert!(FileGlob::parse(bad).is_err(), "{bad}");
    }
}

/// Every list of directories is compared at each acquire, so a glob must not list what cannot hold a match.
#[test]
fn glob_lists_only_directories_that_can_hold_a_match() {
    let base = tempfile::tempdir().unwrap();
    write(base.path(), &[("app/migrations/1.py", ""), ("app/node_modules/x/y.py", ""), (".git/config", "")]);
    let mut matches = Matches::default();
    FileGlob::parse("*/migrations/*.py").unwrap().find(base.path(), &mut matches).unwrap();
    let expected = ["", "app", "app/migrations"].map(|name| base.path().join(name));
    assert_eq!(matches.directories.into_keys().collect::<Vec<_>>(), expected);
}

#[test]
fn missing_inputs_are_errors_with_remedy() {
    let base = tempfile::tempdir().unwrap();
    let shown = base.path().display();
    let refused = |source: Source| SourceFingerprint::new(source).current(&CONTEXT).unwrap_err().to_string();
    assert_eq!(
        refused(command(base.path(), &["migrations"])),
        format!(
            "the input `migrations` matches no file under {shown}; correct the glob (`dir/**` takes everything below dir) or leave it out"
        )
    );
    fs::create_dir(base.path().join("migrations")).unwrap();
    assert!(refused(command(base.path(), &["migrations"])).contains("matches no file"));
    assert_eq!(
        refused(source(SourceKind::SqlDir(base.path().join("migrations")), base.path())),
        format!(
            "there are no *.sql files in the directory {shown}/migrations (sql_dir); correct sql_dir or put the files there"
        )
    );
    assert_eq!(
        refused(source(SourceKind::SqlFile(base.path().join("x.sql")), base.path())),
        format!("there is no file {shown}/x.sql (sql_file); correct the path")
    );
    fs::create_dir(base.path().join("x.sql")).unwrap();
    assert_eq!(
        refused(source(SourceKind::SqlFile(base.path().join("x.sql")), base.path())),
        format!(
            "{shown}/x.sql (sql_file) is a directory, and no dump of pg_dump; use sql_dir for a directory of SQL files"
        )
    );
    write(base.path(), &[("x.sql/toc.dat", "PGDMP"), ("x.sql/1.dat", "1")]);
    let of_directory = || fingerprint(&source(SourceKind::SqlFile(base.path().join("x.sql")), base.path()));
    let before = of_directory();
    write(base.path(), &[("x.sql/1.dat", "2")]);
    assert_ne!(of_directory(), before, "the data of a dump in the directory format");
    let mut created_later = SourceFingerprint::new(command(base.path(), &["migrations/*"]));
    assert!(created_later.current(&CONTEXT).is_err());
    write(base.path(), &[("migrations/1", "")]);
    assert!(created_later.current(&CONTEXT).is_ok(), "a new file was not found");
}

/// Each change happens to cached inputs, and the next digest must include it.
#[test]
fn cache_detects_each_change_and_reads_only_changed_files() {
    let base = tempfile::tempdir().unwrap();
    write(base.path(), &[("m/a/1", "one"), ("m/a/2", "two"), ("m/b/3", "three")]);
    let mut inputs = Inputs::of(&command(base.path(), &["m/*/*"]));
    let first = inputs.digest_at(later()).unwrap();
    assert_eq!(inputs.reads, 3);
    assert_eq!(inputs.digest_at(later()).unwrap(), first);
    assert_eq!(inputs.reads, 3, "unchanged files were read");

    let mut seen = vec![first];
    let mut changed = |what: &str, reads: u64| {
        let before = inputs.reads;
        let now = inputs.digest_at(later()).unwrap();
        assert!(!seen.contains(&now), "{what} was not detected");
        assert_eq!(inputs.reads - before, reads, "number of files read after {what}");
        let fresh = Inputs::of(&command(base.path(), &["m/*/*"])).digest_at(later()).unwrap();
        assert_eq!(now, fresh, "{what}: other digest than without cache");
        seen.push(now);
    };
    let one = base.path().join("m/a/1");
    let modified = fs::metadata(&one).unwrap().modified().unwrap();
    fs::write(&one, "ONE").unwrap();
    fs::File::options().write(true).open(&one).unwrap().set_modified(modified).unwrap();
    changed("a change of the same size with the old modification time", 1);
    write(base.path(), &[("m/c/4", "four")]);
    changed("a file in a new directory", 1);
    write(base.path(), &[("m/b/5", "five")]);
    changed("a new file", 1);
    fs::rename(base.path().join("m/a/2"), base.path().join("m/a/22")).unwrap();
    changed("a renamed file", 1);
    fs::remove_file(base.path().join("m/b/3")).unwrap();
    changed("a deleted file", 0);
    fs::rename(base.path().join("m/a"), base.path().join("m/z")).unwrap();
    changed("a renamed directory", 2);

    fs::remove_dir_all(base.path().join("m")).unwrap();
    assert!(inputs.digest_at(later()).is_err());
}

/// Two changes within one tick of the file system's clock leave the same metadata.
#[test]
fn file_that_changed_just_now_is_read_each_time() {
    let base = tempfile::tempdir().unwrap();
    write(base.path(), &[("1", "one")]);
    let mut inputs = Inputs::of(&command(base.path(), &["*"]));
    inputs.digest().unwrap();
    inputs.digest().unwrap();
    assert_eq!(inputs.reads, 2);
}

#[test]
fn digest_of_300_unchanged_files_is_fast() {
    let base = tempfile::tempdir().unwrap();
    for number in 0..300 {
        write(
            base.path(),
            &[(&format!("app{}/migrations/{number:04}_step.py", number % 10), "x".repeat(2000).as_str())],
        );
    }
    let mut inputs = Inputs::of(&command(base.path(), &["*/migrations/*.py"]));
    let digest = inputs.digest_at(later()).unwrap();
    assert_eq!(inputs.reads, 300);
    let timed = (0..50).map(|_| {
        let started = Instant::now();
        assert_eq!(inputs.digest_at(later()).unwrap(), digest);
        started.elapsed()
    });
    let best = timed.min().unwrap();
    assert_eq!(inputs.reads, 300);
    println!("digest of 300 unchanged files: {best:?}");
    // The limit is for an unoptimised build on a loaded machine; an optimised one takes a third.
    assert!(best < Duration::from_millis(3), "{best:?}");
}

#[test]
fn inputs_name_files_and_settings_that_changed() {
    let base = tempfile::tempdir().unwrap();
    write(base.path(), &[("m/1.sql", "one"), ("m/2.sql", "two")]);
    let mut source = command(base.path(), &["m/*.sql"]);
    source.env.insert("SEED_SIZE".to_owned(), "hushhush".to_owned().into());
    let named = |source: &Source, context: &FingerprintContext<'_>| {
        let mut fingerprint = SourceFingerprint::new(source.clone());
        fingerprint.current(context).unwrap();
        fingerprint.inputs(context)
    };
    let before = named(&source, &CONTEXT);
    let names: Vec<&str> = before.keys().map(String::as_str).collect();
    let expected = ["m/1.sql", "m/2.sql", "the command", "the settings of the pool", "the variable SEED_SIZE"];
    assert!(expected.iter().all(|name| names.contains(name)), "{names:?}");
    assert!(!before.values().any(|hash| hash.contains("hushhush")), "the value of a variable may be a secret");
    write(base.path(), &[("m/2.sql", "another"), ("m/3.sql", "")]);
    source.env.insert("SEED_SIZE".to_owned(), "4".to_owned().into());
    let roles = ["reader".to_owned()];
    let after = named(&source, &FingerprintContext { roles: &roles, ..CONTEXT });
    let differs = |name: &&&String| before.get(**name) != after.get(**name);
    let changed: Vec<&String> = after.keys().collect::<Vec<_>>().iter().filter(differs).copied().collect();
    assert_eq!(changed, ["m/2.sql", "m/3.sql", "the settings of the pool", "the variable SEED_SIZE"]);
}
