#!/usr/bin/env bash
# Builds the Python wheel into a directory and prints its path. Usage: wheel.sh PROFILE DIRECTORY (profile: release or dev)
# The dev profile uses the dependencies in target/debug that the tests have built; only the crates of pgdibs compile again.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=scripts/environment.sh
source "$here/environment.sh"
[[ $# == 2 ]] || fail "usage: scripts/wheel.sh PROFILE DIRECTORY"
profile="$1"
mkdir -p "$2"
directory="$(cd "$2" && pwd)"
cd "$repository"
"$here/install-tools.sh" build
python="$("$here/python-environment.sh")"
rm -f "$directory"/pgdibs-*.whl
(cd clients/python && "$(dirname "$python")/maturin" build --profile "$profile" --locked --out "$directory") >&2
printf '%s\n' "$directory"/pgdibs-*.whl
