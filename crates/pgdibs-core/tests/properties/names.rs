//! Property tests of names: accepted texts, lengths, and the recognition of names by pool.

use pgdibs_core::name::{DatabaseName, Fingerprint, PoolName, RoleName, preferred_slot, shown};
use proptest::prelude::*;

fn pools() -> impl Strategy<Value = PoolName> {
    // Pool names that end like a database name could be confused with another pool.
    let tricky =
        prop::sample::select(vec!["", "_gw0", "_old_1", "_spare_2", "_kept_3", "_build_4", "_template_abcdef012345"]);
    ("[a-z_][a-z0-9_]{0,16}", tricky)
        .prop_filter_map("a reserved name", |(name, end)| PoolName::parse(&format!("{name}{end}")).ok())
}

/// Any text, control characters too, which proptest's own `String` leaves out.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::collection::vec(any::<char>(), 0..80).prop_map(|characters| characters.into_iter().collect()),
        "[\\x00-\\x20\\x7f-\\x9fa]{0,80}",
        "x{58,68}",
    ]
}

fn all_names(pool: &PoolName, slot: u32, number: i64, fingerprint: &Fingerprint) -> [DatabaseName; 6] {
    [
        DatabaseName::slot(pool, slot),
        DatabaseName::spare(pool, number),
        DatabaseName::old(pool, number),
        DatabaseName::kept(pool, number),
        DatabaseName::build(pool, number),
        DatabaseName::template(pool, fingerprint),
    ]
}

/// Whether the text is a plain identifier; independent of the implementation in `name.rs`.
fn is_plain(text: &str) -> bool {
    let letters = "abcdefghijklmnopqrstuvwxyz_";
    (1..=40).contains(&text.len())
        && text.chars().all(|c| letters.contains(c) || "0123456789".contains(c))
        && !text.starts_with(|c: char| c.is_numeric())
}

/// Whether the owner role of the pool would have another purpose; independent of the implementation in `name.rs`.
fn has_reserved_role(text: &str) -> bool {
    let role = format!("pgdibs_{text}");
    role == "pgdibs_owner"
        || role
            .strip_prefix("pgdibs_l_")
            .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_digit()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn pool_name_accepts_exactly_unreserved_plain_identifiers(
        text in prop_oneof![texts(), "[a-zA-Z0-9_é\"; -]{0,45}", "l_[0-9]{0,20}", "l?_?owner[0-9]?"],
    ) {
        let is_good = is_plain(&text) && !has_reserved_role(&text);
        prop_assert_eq!(PoolName::parse(&text).is_ok(), is_good, "{:?}", text);
        if let Ok(pool) = PoolName::parse(&text) {
            let role = RoleName::of_pool(&pool);
            prop_assert!(RoleName::parse("owner", role.as_str()).is_ok());
            prop_assert!(role != RoleName::database_owner() && !RoleName::is_generated_login(role.as_str()), "{}", role);
        }
    }

    #[test]
    fn database_name_is_short_plain_and_recognised_by_its_pool_only(
        pool in pools(), other in pools(), slot in any::<u32>(), number in 0..10_i64.pow(15), text in "\\PC{1,200}",
    ) {
        let names = all_names(&pool, slot, number, &Fingerprint::parse(&text).unwrap());
        for name in &names {
            prop_assert!(name.as_str().len() <= 63, "{}", name);
            prop_assert!(name.as_str().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
            prop_assert_eq!(DatabaseName::recognise(&pool, name.as_str()), Some(name.clone()));
            if other != pool {
                prop_assert_eq!(DatabaseName::recognise(&other, name.as_str()), None, "{} is not of {}", name, other);
            }
        }
        let distinct: std::collections::BTreeSet<&DatabaseName> = names.iter().collect();
        prop_assert_eq!(distinct.len(), names.len());
    }

    #[test]
    fn recognise_accepts_only_names_that_pgdibs_makes(pool in pools(), rest in "_(gw|spare_|old_|kept_|build_|template_)[0-9a-f_-]{0,14}", text in texts()) {
        for text in [format!("{pool}{rest}"), text] {
            if let Some(name) = DatabaseName::recognise(&pool, &text) {
                prop_assert_eq!(name.as_str(), text.as_str());
                let number: String = text.chars().rev().take_while(char::is_ascii_digit).collect::<Vec<_>>().iter().rev().collect();
                let is_made = match number.parse::<i64>() {
                    Ok(number) => {
                        let slot = u32::try_from(number).unwrap_or(u32::MAX);
                        all_names(&pool, slot, number, &Fingerprint::parse("x").unwrap()).iter().any(|own| own.as_str() == text)
                    }
                    Err(_) => false,
                };
                let template = text.strip_prefix(&format!("{pool}_template_")).is_some_and(|hex| hex.len() == 12);
                // `recognise` also accepts slot numbers above the largest possible one.
                prop_assert!(is_made || template || text.starts_with(&format!("{pool}_gw")), "{}", text);
            }
        }
    }

    #[test]
    fn role_name_is_short_and_not_reserved(text in prop_oneof![texts(), "(pg_|public|none|pgdibs_l_)[a-z0-9]{0,70}"]) {
        if let Ok(name) = RoleName::parse("role", &text) {
            prop_assert!((1..=63).contains(&name.as_str().len()) && !text.starts_with("pg_") && !text.contains('\0'));
            prop_assert!(text != "public" && text != "none");
        }
        prop_assert_eq!(RoleName::is_generated_login(RoleName::login(7).as_str()), true);
    }

    #[test]
    fn shown_text_is_short_and_without_control_characters(text in texts()) {
        let shown = shown(&text);
        prop_assert!(!shown.chars().any(char::is_control), "{:?}", shown);
        // Sixty characters, each escaped at worst as \u{10ffff}.
        prop_assert!(shown.chars().count() <= 60 * 10 + 1);
    }

    #[test]
    fn fingerprint_has_1_to_200_characters_and_12_short_digits(text in prop_oneof![texts(), "x{190,210}"]) {
        match Fingerprint::parse(&text) {
            Ok(fingerprint) => {
                let short = fingerprint.short();
                prop_assert!(short.len() == 12 && short.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
                prop_assert_eq!(fingerprint.as_str(), text.as_str());
            }
            Err(error) => {
                prop_assert!(text.is_empty() || text.contains('\0') || text.chars().count() > 200);
                prop_assert!(error.to_string().starts_with("fingerprint: "));
            }
        }
    }

    #[test]
    fn preferred_slot_round_trips(text in prop_oneof![texts(), "(gw|GW|g)[0-9+-]{0,12}"], slot in any::<u32>()) {
        prop_assert_eq!(preferred_slot(&format!("gw{slot}")), Some(slot));
        if let Some(found) = preferred_slot(&text) {
            prop_assert_eq!(format!("gw{found}"), text);
        }
    }
}
