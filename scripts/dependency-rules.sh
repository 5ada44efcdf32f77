#!/usr/bin/env bash
# Checks the dependencies against deny.toml: licences, arrows between the crates, where they come from; and the features of releases.
source "$(dirname "$0")/environment.sh"
"$scripts/install-tools.sh" build deny
cargo deny --locked check licenses sources
cargo deny --locked --exclude-dev check --allow unused-wrapper bans
if cargo tree --locked --workspace --edges normal,build,features | grep -E 'pgdibs-\w+ feature "(armed|fuzzing)"'; then
  fail "a crate turns on a feature that is for tests"
fi
if cargo tree --locked --package pgdibs-core --edges normal --depth 1 --prefix none | grep -E '^(tokio|serde|serde_json|rand) '; then
  fail "pgdibs-core has no runtime, no clock and no randomness"
fi
