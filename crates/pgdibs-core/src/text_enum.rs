//! Enums that the catalog, the configuration and the HTTP API spell as text.

/// Adds `ALL`, `as_str` and `parse` to an enum without fields.
macro_rules! text_enum {
    ($type:ident { $($variant:ident = $text:literal),+ $(,)? }) => {
        impl $type {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The spelling in the catalog, in the configuration and over HTTP.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text),+
                }
            }

            /// The value with this spelling.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == text)
            }
        }
    };
}

pub(crate) use text_enum;

#[cfg(test)]
mod tests {
    use crate::database::DatabaseState;
    use crate::lease::LeaseState;
    use crate::pool::{ActAs, LoginRights, Strategy, StrategyChoice};
    use crate::template::TemplateState;

    macro_rules! round_trip {
        ($type:ident, $texts:expr) => {
            let texts: Vec<&str> = $type::ALL.iter().map(|value| value.as_str()).collect();
            assert_eq!(texts, $texts);
            for value in $type::ALL {
                assert_eq!($type::parse(value.as_str()), Some(*value));
            }
            for unknown in ["", "unknown", "READY"] {
                assert_eq!($type::parse(unknown), None);
            }
        };
    }

    /// The catalog's check constraints and the HTTP API contain these spellings.
    #[test]
    fn text_enums_round_trip_and_reject_unknown_text() {
        round_trip!(DatabaseState, ["creating", "spare", "ready", "leased", "retiring", "kept", "blocked"]);
        round_trip!(TemplateState, ["building", "ready", "retiring", "failed"]);
        round_trip!(LeaseState, ["live", "released", "expired", "revoked"]);
        round_trip!(Strategy, ["file_copy", "wal_log"]);
        round_trip!(LoginRights, ["plain", "createdb", "superuser"]);
        round_trip!(ActAs, ["owner", "login"]);
    }

    #[test]
    fn strategy_choice_round_trips_and_rejects_unknown_text() {
        for (text, choice) in [
            ("auto", StrategyChoice::Auto),
            ("file_copy", StrategyChoice::Fixed(Strategy::FileCopy)),
            ("wal_log", StrategyChoice::Fixed(Strategy::WalLog)),
        ] {
            assert_eq!((StrategyChoice::parse(text), choice.as_str()), (Some(choice), text));
        }
        assert_eq!(StrategyChoice::parse("unknown"), None);
    }
}
