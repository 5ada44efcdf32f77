#!/usr/bin/env bash
# Random faults over random load for SOAK_MINUTES (10), every lease audited; SOAK_SEED repeats a run. Prints figures at the end.
source "$(dirname "$0")/environment.sh"
export SOAK_MINUTES="${SOAK_MINUTES:-10}"
[[ "$SOAK_MINUTES" =~ ^[0-9]+(\.[0-9]+)?$ ]] || fail "SOAK_MINUTES: \"$SOAK_MINUTES\" is no number of minutes, such as 10 or 0.5"
[[ "${SOAK_SEED:-0}" =~ ^[0-9]+$ ]] || fail "SOAK_SEED: \"$SOAK_SEED\" is no integer; use the number that a run has printed"
exec "$scripts/rust-tests.sh" 15 -- --profile soak --no-capture
