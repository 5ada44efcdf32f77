//! Times on the wire: RFC 3339 in UTC with microseconds, as Postgres counts them.

use jiff::Timestamp as Instant;
use pgdibs_core::template::Timestamp;

/// The time as RFC 3339.
#[must_use]
pub fn rfc3339(time: Timestamp) -> String {
    // Outside jiff's years (-9999 to 9999) only a broken catalog leads; its bounds are then as good as any.
    let time = Instant::from_microsecond(time.0).unwrap_or(if time.0 < 0 { Instant::MIN } else { Instant::MAX });
    format!("{time:.6}")
}

/// The seconds from one such time to another; `None` when one is no time.
#[must_use]
pub fn seconds_between(from: &str, to: &str) -> Option<f64> {
    let (from, to): (Instant, Instant) = (from.parse().ok()?, to.parse().ok()?);
    Some(to.duration_since(from).as_secs_f64())
}
