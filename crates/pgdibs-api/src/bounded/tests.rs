//! Properties of what is read from bodies: every number is taken exactly when it lies within its bounds, whatever it looks like.

use proptest::prelude::*;
use serde::de::DeserializeOwned;

use super::{BoundedInteger, WaitSeconds};

fn read<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}

/// Numbers around every edge, as JSON may write them.
fn numbers() -> impl Strategy<Value = String> {
    let edges = [0_i64, 1, 3600, 3601, 600, 601, 1000, 604_800, 2_147_483_647, 2_147_483_648, i64::MAX, i64::MIN, -1];
    prop_oneof![
        (prop::sample::select(edges.to_vec()), -2..=2_i64).prop_map(|(edge, off)| edge.saturating_add(off).to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<u64>().prop_map(|number| number.to_string()),
        any::<f64>()
            .prop_filter("JSON has no such number", |number| number.is_finite())
            .prop_map(|number| format!("{number:?}")),
        (0..4000_u32, 0..4_u32).prop_map(|(number, quarter)| format!("{number}.{}", quarter * 25)),
        "-?[0-9]{1,25}(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,3})?",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Regression: `ttl_seconds: 60.0` was refused, though JSON has one kind of number (found by schemathesis).
    #[test]
    fn bounded_integer_accepts_exactly_its_bounds(text in numbers()) {
        // What the number is, in the words of another parser.
        let value: f64 = text.parse().unwrap();
        let json = serde_json::from_str::<serde_json::Value>(&text).is_ok();
        let whole = json && value.fract() == 0.0;
        prop_assert_eq!(read::<BoundedInteger<1, 3600>>(&text).is_some(), whole && (1.0..=3600.0).contains(&value), "{}", &text);
        prop_assert_eq!(read::<BoundedInteger<0, 1000>>(&text).is_some(), whole && (0.0..=1000.0).contains(&value), "{}", &text);
        let largest = f64::from(i32::MAX);
        prop_assert_eq!(read::<BoundedInteger<1, 2_147_483_647>>(&text).is_some(), whole && (1.0..=largest).contains(&value), "{}", &text);
        if let Some(number) = read::<BoundedInteger<0, 1000>>(&text) {
            prop_assert!((f64::from(number.as_u32()) - value).abs() < f64::EPSILON, "{}", &text);
        }
    }

    #[test]
    fn wait_seconds_accepts_exactly_its_bounds(text in numbers()) {
        let value: f64 = text.parse().unwrap();
        let json = serde_json::from_str::<serde_json::Value>(&text).is_ok();
        let wait = read::<WaitSeconds>(&text);
        // A duration has nanoseconds, so within half of one of an edge both answers are right.
        if !((-1e-9..0.0).contains(&value) || (600.0..600.000_000_001).contains(&value) && value > 600.0) {
            prop_assert_eq!(wait.is_some(), json && (0.0..=600.0).contains(&value), "{}", &text);
        }
        if let Some(wait) = wait.map(WaitSeconds::get) {
            prop_assert!((wait.as_secs_f64() - value).abs() < 1e-8, "{}", &text);
        }
    }
}
