//! What a fuzz target may reach of the configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::file::FileText;
use super::load::read;
use super::rows::masked_url;

/// A secret that no refusal, row or warning may show.
const HUSH: &str = "hushhush-5ecret";

/// Lines `NAME=value` up to a NUL are variables, the rest is the file. Whatever they say, it is read or refused with a sentence.
pub(crate) fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (variables, file) = text.split_once('\0').unwrap_or(("", text));
    // Those name files to be read, and some files never end.
    if text.to_ascii_lowercase().contains("_file") {
        return;
    }
    let mut environment: BTreeMap<String, String> = variables
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (format!("PGDIBS_{name}"), value.to_owned()))
        .collect();
    environment.insert("PGDIBS_TOKEN".to_owned(), HUSH.to_owned());
    let file = FileText {
        shown: PathBuf::from("./pgdibs.toml"),
        directory: PathBuf::from("/nowhere"),
        text: format!("{file}\nserver_url = \"postgresql://u:{HUSH}@h/\"\n"),
    };
    let told = match read(|_| None, &environment, Some(&file), Path::new("/nowhere")) {
        Ok(loaded) => {
            assert!((1..=86_400).contains(&loaded.config.max_ttl_seconds.0));
            for pool in &loaded.config.pools {
                let settings = &pool.settings;
                assert!(settings.warm.is_none_or(|warm| warm <= 1000), "{settings:?}");
            }
            format!("{loaded:?}")
        }
        Err(refused) => {
            let sentence = refused.to_string();
            assert!(!sentence.trim().is_empty(), "a refusal says something");
            format!("{sentence} {refused:?}")
        }
    };
    assert!(!told.contains(HUSH), "{told}");
}

/// A URL with this login, written as people write it (escaped or not), shows the password in no form that is left of it.
pub(crate) fn masks(user: &str, password: &str) {
    let escaped = percent_encoding::utf8_percent_encode(password, percent_encoding::NON_ALPHANUMERIC).to_string();
    for written in [password, escaped.as_str()] {
        let shown = masked_url(&format!("postgresql://{user}:{written}@db.example:5432/app"));
        // What stands there anyway says nothing.
        if !"postgresql://********@db.example:5432/app".contains(written) {
            assert!(!shown.contains(written), "{written:?} is in {shown:?}");
        }
    }
}
