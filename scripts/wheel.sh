#!/usr/bin/env bash
# Builds the Python wheel into a directory and prints its path. Usage: wheel.sh PROFILE DIRECTORY (profile: release or dev)
# The dev profile uses the dependencies in target/debug that the tests have built; only the crates of pgdibs compile again.
source "$(dirname "$0")/environment.sh"
[[ $# == 2 ]] || fail "usage: scripts/wheel.sh PROFILE DIRECTORY"
mkdir -p "$2"
directory="$(cd "$2" && pwd)"
"$scripts/install-tools.sh" build
maturin="$(dirname "$("$scripts/python-environment.sh")")/maturin"
rm -f "$directory"/pgdibs-*.whl
(cd clients/python && "$maturin" build --profile "$1" --locked --out "$directory") >&2
printf '%s\n' "$directory"/pgdibs-*.whl
