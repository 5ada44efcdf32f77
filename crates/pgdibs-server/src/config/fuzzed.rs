//! Entry points of the fuzz targets.

use std::collections::BTreeMap;
use std::path::Path;

use super::file::FileText;
use super::load::read;
use super::rows::masked_url;

/// A secret that no error, row or warning may contain.
const SECRET: &str = "hushhush-5ecret";

/// Lines `NAME=value` up to a NUL are variables, the rest is the file. Any input loads or gives an error with a sentence.
pub fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (variables, file) = text.split_once('\0').unwrap_or(("", text));
    // These settings name files to read, and some files never end.
    if text.to_ascii_lowercase().contains("_file") {
        return;
    }
    let mut environment: BTreeMap<String, String> = variables
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (format!("PGDIBS_{name}"), value.to_owned()))
        .collect();
    environment.insert("PGDIBS_TOKEN".to_owned(), SECRET.to_owned());
    let text = format!("{file}\nserver_url = \"postgresql://u:{SECRET}@h/\"\n");
    let file = FileText { name: "./pgdibs.toml".into(), directory: "/nowhere".into(), text };
    let output = match read(|_| None, &environment, Some(&file), Path::new("/nowhere")) {
        Ok(loaded) => {
            assert!((1..=86_400).contains(&loaded.config.max_ttl_seconds.0));
            for pool in &loaded.config.pools {
                let settings = &pool.settings;
                assert!(settings.warm.is_none_or(|warm| warm <= 1000), "{settings:?}");
            }
            format!("{loaded:?}")
        }
        Err(error) => {
            assert!(!error.to_string().trim().is_empty(), "an empty error");
            format!("{error} {error:?}")
        }
    };
    assert!(!output.contains(SECRET), "{output}");
}

/// The masked URL of this login contains the password neither as written nor percent-encoded.
pub fn masks(user: &str, password: &str) {
    let escaped = percent_encoding::utf8_percent_encode(password, percent_encoding::NON_ALPHANUMERIC).to_string();
    for written in [password, escaped.as_str()] {
        let shown = masked_url(&format!("postgresql://{user}:{written}@db.example:5432/app"));
        // A password that is part of the address reveals nothing.
        if !"postgresql://********@db.example:5432/app".contains(written) {
            assert!(!shown.contains(written), "{written:?} is in {shown:?}");
        }
    }
}
