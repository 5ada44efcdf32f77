//! Finds a template by the beginning of its fingerprint.

use pgdibs::api::pool::Pool;
use pgdibs::api::template::{Template, TemplateState};
use pgdibs::{Client, segment};

use super::error::CliError;
use super::output::message;
use super::table::{plain, shortened};

/// A shorter text is a whole fingerprint.
const MIN_PREFIX: usize = 4;
/// The number of candidates that the error of an ambiguous prefix names.
const SHOWN: usize = 5;

/// The fingerprint that `written` means in this pool; says so on standard error when it is the beginning of one. A fingerprint that no
/// template has is returned as it is, because the daemon's error lists those there are.
///
/// # Errors
/// It is ambiguous, or the daemon refuses.
pub(super) async fn resolve(client: &Client, pool: &str, written: &str) -> Result<String, CliError> {
    if prefix_of(written).is_none() {
        return Ok(written.to_owned());
    }
    let answer = client.get(&format!("/v1/pools/{}", segment(pool)?)).await?;
    let found = choose(&answer.json::<Pool>()?.templates, written)?;
    if found != written {
        message(&format!("fingerprint {} is that of template {}", plain(written), plain(&found)));
    }
    Ok(found)
}

/// The prefix without the ellipsis with which tables shorten fingerprints; `None` when it is too short for one.
fn prefix_of(written: &str) -> Option<&str> {
    Some(written.trim_end_matches('…')).filter(|prefix| prefix.chars().count() >= MIN_PREFIX)
}

fn choose(templates: &[Template], written: &str) -> Result<String, CliError> {
    let present = || templates.iter().filter(|template| template.state != TemplateState::Retiring);
    let Some(prefix) = prefix_of(written).filter(|_| !present().any(|template| template.fingerprint == written)) else {
        return Ok(written.to_owned());
    };
    let found: Vec<&str> = matching(present(), prefix).map(|template| template.fingerprint.as_str()).collect();
    match found.as_slice() {
        [] => Ok(written.to_owned()),
        [one] => Ok((*one).to_owned()),
        several => {
            let shown: Vec<String> = several.iter().take(SHOWN).map(|one| plain(&shortened(one, 64))).collect();
            let more = if several.len() > SHOWN { ", …" } else { "" };
            Err(CliError::usage(format!(
                "the fingerprints of {} templates begin with `{}`: {}{more}",
                several.len(),
                plain(prefix),
                shown.join(", ")
            ))
            .hint("write more of the fingerprint"))
        }
    }
}

/// The templates whose fingerprints begin with `prefix`. A number is whole: `v1` is not the beginning of `v10`, unless both belong to a
/// hash.
pub(super) fn matching<'a>(
    templates: impl Iterator<Item = &'a Template>,
    prefix: &str,
) -> impl Iterator<Item = &'a Template> {
    let ends_in_number = prefix.ends_with(|c: char| c.is_ascii_digit());
    templates.filter(move |template| {
        let is_hash = template.fingerprint.len() >= 16 && template.fingerprint.chars().all(|c| c.is_ascii_hexdigit());
        let rest = template.fingerprint.strip_prefix(prefix);
        rest.is_some_and(|rest| is_hash || !ends_in_number || !rest.starts_with(|c: char| c.is_ascii_digit()))
    })
}

#[cfg(test)]
mod tests {
    use pgdibs_testing::examples::Example;
    use serde_json::json;

    use super::*;

    fn templates(all: &[(&str, &str)]) -> Vec<Template> {
        let one = |(fingerprint, state): &(&str, &str)| {
            serde_json::from_value(Example::Template.with(&json!({"fingerprint": fingerprint, "state": state})))
                .unwrap()
        };
        all.iter().map(one).collect()
    }

    #[test]
    fn choose_takes_whole_fingerprint_or_unambiguous_beginning() {
        let all = templates(&[
            ("0123456789abcdef01", "ready"),
            ("0123ffffffffffff01", "failed"),
            ("0123456789aaaaaaaa", "retiring"),
            ("main", "ready"),
            ("main-2", "ready"),
            ("release-10", "building"),
        ]);
        for (written, found) in [
            ("01234", "0123456789abcdef01"),
            ("0123456789ab…", "0123456789abcdef01"),
            ("0123f", "0123ffffffffffff01"),
            ("012", "012"),
            ("main", "main"),
            ("main-", "main-2"),
            ("release-1", "release-1"),
            ("rele", "release-10"),
            ("unknown", "unknown"),
        ] {
            assert_eq!(choose(&all, written).unwrap(), found);
        }
    }

    #[test]
    fn choose_lists_candidates_of_ambiguous_beginning() {
        let all = templates(&[("0123456789abcdef01", "ready"), ("0123ffffffffffff01", "ready")]);
        let error = choose(&all, "0123").unwrap_err().to_string();
        let expected = "the fingerprints of 2 templates begin with `0123`: 0123456789abcdef01, 0123ffffffffffff01";
        assert_eq!(error, expected);
    }
}
