//! The API level, by which a client and a daemon of different versions know what the other one lacks.

/// The level of this version of the API. Every answer carries it in [`API_LEVEL_HEADER`], and the status in `daemon.api_level`.
///
/// A change that adds a route, a field or value of a request, or a field that clients need of an answer, adds 1 and a row here. A change
/// that adds nothing to the API leaves the level as it is. The API only grows, so a daemon knows everything of the levels below its own.
///
/// | level | what it added |
/// |---|---|
/// | 0 | everything before levels; a daemon of level 0 sends no header |
/// | 1 | the header `Pgdibs-Api`, and `daemon.api_level` in the status |
/// | 2 | `idle_pool_seconds` of a pool |
/// | 3 | `login`, `act_as`, `locale`, `encoding` and `icu_locale` of a pool; `extensions` with schemas; `GET …/templates/{fingerprint}/log` |
/// | 4 | `GET /v1/events`; `GET /`; `history`, `findings` and `taken_at` of the status; `run`, `worker` and `holder` of a waiter; `POST /v1/runs/{run}/report`, `GET /v1/runs`; `fingerprint_inputs` of a template's `PUT`, and `input_changes` of a template |
pub const API_LEVEL: u32 = 4;

/// The header that carries the level, in lower case; `Pgdibs-Api` in the documentation.
pub const API_LEVEL_HEADER: &str = "pgdibs-api";
