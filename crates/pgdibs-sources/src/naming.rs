//! Which files of a directory of migrations run, and in which order: the naming conventions of migration tools.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::tools::{self, Place};

/// Ends of names, before `.sql`, of a file that makes a change and of one that takes it back. Those with a dot mean this on their own;
/// `1_x_up.sql` is half of a pair only beside `1_x_down.sql`, because names such as `7_warm_up.sql` are common.
const UP: [&str; 2] = [".up", ".do"];
const DOWN: [&str; 4] = [".down", ".undo", ".rollback", ".revert"];
const PAIRS: [(&str, &str); 2] = [("-up", "-down"), ("_up", "_down")];

/// The files of a migration that has a folder of its own; `down.sql` beside `up.sql` does not run.
const IN_FOLDER: [&str; 2] = ["up.sql", "migration.sql"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Convention {
    /// Half of a pair that makes the change.
    Up,
    /// Half of a pair that takes it back.
    Down,
    /// `V1__x.sql`, of Flyway and others.
    Versioned,
    /// Any other name.
    Plain,
}

/// The files of `directory` that run, in order. `found` are its SQL files and those of its subdirectories; `place` is for error messages.
///
/// # Errors
/// A sentence, when the names do not say which files run, or in which order.
pub(super) fn arrange(place: &Place<'_>, directory: &Path, found: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let (mut files, mut folders) = (Vec::new(), BTreeMap::<String, Vec<String>>::new());
    for path in found {
        let Ok(below) = path.strip_prefix(directory) else { continue };
        let text = below.to_string_lossy().into_owned();
        match text.split_once('/') {
            Some((folder, file)) => folders.entry(folder.to_owned()).or_default().push(file.to_owned()),
            None => files.push(text),
        }
    }
    let names = match files.is_empty() {
        false => flat(place, files, &folders)?,
        true => one_folder_each(place, folders)?,
    };
    Ok(names.into_iter().map(|name| directory.join(name)).collect())
}

/// The files directly in the directory.
fn flat(place: &Place<'_>, names: Vec<String>, folders: &BTreeMap<String, Vec<String>>) -> Result<Vec<String>, String> {
    if let Some(name) = names.iter().find(|name| is_of_flyway_alone(name)) {
        return Err(format!(
            "{} is an undo, repeatable or baseline file of Flyway (or an unversioned one of refinery), whose place in the order only that \
             program knows; {}",
            place.shown(name),
            place.instead(&tools::FLYWAY)
        ));
    }
    let kinds: Vec<Convention> = names.iter().map(|name| convention(name, &names)).collect();
    let first = |kind: Convention| kinds.iter().position(|other| *other == kind).map(|at| names[at].as_str());
    let up_or_versioned = first(Convention::Up).or(first(Convention::Versioned));
    let other = match first(Convention::Up) {
        Some(_) => first(Convention::Versioned).or(first(Convention::Plain)),
        None => first(Convention::Plain),
    };
    if let (Some(one), Some(other)) = (up_or_versioned, other) {
        return Err(mixed(place, one, other));
    }
    let all_below = folders.iter().flat_map(|(folder, names)| names.iter().map(move |name| (folder, name)));
    let below = all_below
        .filter(|(_, name)| IN_FOLDER.contains(&name.as_str()) || up_or_versioned.is_some() && is_versioned(name))
        .map(|(folder, name)| format!("{folder}/{name}"))
        .next();
    if let Some(below) = below {
        return Err(mixed(place, &names[0], &below));
    }
    let mut run: Vec<String> =
        names.iter().zip(&kinds).filter(|(_, kind)| **kind != Convention::Down).map(|(name, _)| name.clone()).collect();
    if run.is_empty() {
        return Err(format!(
            "the directory {} has only files that take a migration back, such as {}; put the migrations there",
            place.directory(),
            names[0]
        ));
    }
    run.sort_by(|one, other| compare(one, other));
    if up_or_versioned.is_some() {
        refuse_duplicates(place, &run)?;
    }
    Ok(run)
}

/// A folder for each migration.
fn one_folder_each(place: &Place<'_>, folders: BTreeMap<String, Vec<String>>) -> Result<Vec<String>, String> {
    let has_migration = |names: &[String]| IN_FOLDER.iter().any(|name| names.iter().any(|other| other == name));
    if !folders.values().any(|names| has_migration(names)) {
        let directory = place.directory();
        let is_back = |folder: &&String| ["down", "revert", "rollback", "undo"].contains(&folder.as_str());
        let below = match folders.keys().find(|folder| !is_back(folder)) {
            Some(folder) => format!(" (its subdirectory `{folder}` has some)"),
            None => String::new(),
        };
        return Err(format!(
            "there are no *.sql files in the directory {directory} (sql_dir){below}; correct sql_dir or put the files there"
        ));
    }
    let mut run = Vec::new();
    for (folder, names) in folders {
        let named: Vec<&str> = IN_FOLDER.into_iter().filter(|name| names.iter().any(|other| other == name)).collect();
        match named[..] {
            [name] => run.push(format!("{folder}/{name}")),
            [] => {
                return Err(format!(
                    "{} is not understood: in a directory with a folder for each migration, a folder has up.sql or migration.sql; move it \
                     elsewhere or rename it",
                    place.shown(&format!("{folder}/{}", names[0]))
                ));
            }
            _ => return Err(mixed(place, &format!("{folder}/{}", named[0]), &format!("{folder}/{}", named[1]))),
        }
    }
    run.sort_by(|one, other| compare(one, other));
    Ok(run)
}

fn mixed(place: &Place<'_>, one: &str, other: &str) -> String {
    format!(
        "the directory {} mixes two naming conventions of migrations, so their order is unknown: {one} and {other}; rename one of them or \
         move it to another directory, or build the template with the migration tool itself (`command`)",
        place.directory()
    )
}

/// Migration tools refuse two migrations with one version.
fn refuse_duplicates(place: &Place<'_>, sorted: &[String]) -> Result<(), String> {
    for pair in sorted.windows(2) {
        let [one, other] = pair else { continue };
        if let Some(version) = version(one)
            && self::version(other).is_some_and(|other| other == version)
        {
            return Err(format!(
                "{} and {other} have the same version, so their order is unknown; give one of them another version",
                place.shown(one)
            ));
        }
    }
    Ok(())
}

fn convention(name: &str, all: &[String]) -> Convention {
    let stem = name.trim_end_matches(".gz").trim_end_matches(".sql");
    let ends_with = |ends: &[&str]| ends.iter().any(|end| stem.ends_with(end));
    let has_partner = |end: &str, of_partner: &str| {
        stem.strip_suffix(end).is_some_and(|rest| {
            let partner = format!("{rest}{of_partner}.sql");
            all.iter().any(|other| other.trim_end_matches(".gz") == partner)
        })
    };
    if ends_with(&UP) || PAIRS.iter().any(|(up, down)| has_partner(up, down)) {
        Convention::Up
    } else if ends_with(&DOWN) || PAIRS.iter().any(|(up, down)| has_partner(down, up)) {
        Convention::Down
    } else if is_versioned(name) {
        Convention::Versioned
    } else {
        Convention::Plain
    }
}

/// `V`, a version, `__`.
fn is_versioned(name: &str) -> bool {
    name.strip_prefix(['V', 'v']).is_some_and(begins_with_version)
}

/// `U1__x.sql`, `B1__x.sql` or `R__x.sql`.
fn is_of_flyway_alone(name: &str) -> bool {
    name.starts_with("R__") || name.strip_prefix(['U', 'B']).is_some_and(begins_with_version)
}

/// Digits, with dots or single underscores between them, then `__`.
fn begins_with_version(text: &str) -> bool {
    let Some((version, _)) = text.split_once("__") else { return false };
    !version.is_empty() && version.split(['.', '_']).all(is_number)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The version at the beginning of a name, without zeros that do not count.
fn version(name: &str) -> Option<Vec<String>> {
    let name = comparable(name);
    let Some(Token::Version(mut numbers)) = tokens(name.strip_prefix('V').unwrap_or(&name)).next() else { return None };
    while numbers.last().is_some_and(|number| number.is_empty()) && numbers.len() > 1 {
        numbers.pop();
    }
    Some(numbers.into_iter().map(str::to_owned).collect())
}

/// Compares names byte for byte, except that versions (numbers with dots between them) compare by value: `2` is before `10`, and `1` before
/// `1.1`.
fn compare(one: &str, other: &str) -> Ordering {
    let (a, b) = (comparable(one), comparable(other));
    tokens(&a).cmp(tokens(&b)).then_with(|| one.cmp(other))
}

/// The name, with dots in the version of a versioned file: `V1_1__x.sql` is `V1.1__x.sql`.
fn comparable(name: &str) -> String {
    match name.split_once("__") {
        Some((version, rest)) if is_versioned(name) => format!("V{}__{rest}", version[1..].replace('_', ".")),
        _ => name.to_owned(),
    }
}

/// Variants in the order in which they compare; a number against a byte compares by the byte `0`.
#[derive(Debug, PartialEq, Eq)]
enum Token<'a> {
    /// Numbers without leading zeros, which compare by length, then by digits.
    Version(Vec<&'a str>),
    Byte(u8),
}

impl Ord for Token<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_value = |one: &&str, other: &&str| one.len().cmp(&other.len()).then_with(|| one.cmp(other));
        match (self, other) {
            (Self::Version(one), Self::Version(other)) => {
                let differing =
                    one.iter().zip(other).map(|(one, other)| by_value(one, other)).find(|order| order.is_ne());
                differing.unwrap_or_else(|| one.len().cmp(&other.len()))
            }
            (Self::Byte(one), Self::Byte(other)) => one.cmp(other),
            (Self::Version(_), Self::Byte(other)) => b'0'.cmp(other),
            (Self::Byte(one), Self::Version(_)) => one.cmp(&b'0'),
        }
    }
}

impl PartialOrd for Token<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn tokens(name: &str) -> impl Iterator<Item = Token<'_>> {
    let mut rest = name;
    std::iter::from_fn(move || {
        let bytes = rest.as_bytes();
        let first = *bytes.first()?;
        if !first.is_ascii_digit() {
            // Not at a boundary of characters: a name is compared, never shown, by these.
            let at = rest.ceil_char_boundary(1);
            let token = Token::Byte(first);
            rest = &rest[at..];
            return Some(token);
        }
        let mut numbers = Vec::new();
        loop {
            let length = rest.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
            let (number, after) = rest.split_at(length);
            numbers.push(number.trim_start_matches('0'));
            rest = after;
            match after.strip_prefix('.') {
                Some(next) if next.as_bytes().first().is_some_and(u8::is_ascii_digit) => rest = next,
                _ => return Some(Token::Version(numbers)),
            }
        }
    })
}
