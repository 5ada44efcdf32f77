#!/usr/bin/env bash
# Runs cargo-mutants over the core, over changes in requests and steps, and over all of these. Usage: mutants.sh [core] [diff] [shards]
#   core    all of pgdibs-core, against its own tests
#   diff    the differences to MUTANTS_BASE (main) in requests and steps, against the tests on real Postgres
#   shards  all requests and steps, in 40 shards; finished shards stay finished until you remove target/mutants
# Each mutant that no test noticed is a line in target/mutants/*/mutants.out/missed.txt.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=scripts/environment.sh
source "$here/environment.sh"
shards=40
place="$target/mutants"

"$here/install-tools.sh" build nextest pgbouncer mutants
PGDIBS_TEST_PG_BIN_DIRS="$("$here/fetch-postgres.sh" 15)"
PGDIBS_TEST_PG_BIN_DIR="$PGDIBS_TEST_PG_BIN_DIRS"
PATH="$PATH:$PGDIBS_TEST_PG_BIN_DIR"
# A tenth of the random worlds finds nearly as many mutants as all of them.
export PGDIBS_TEST_PG_BIN_DIRS PGDIBS_TEST_PG_BIN_DIR PGDIBS_SCENARIOS="${PGDIBS_SCENARIOS:-150}" NEXTEST_PROFILE=mutants
# Half of the time for one mutant is linking.
export CARGO_PROFILE_DEV_DEBUG=none
unset PGDIBS_CACHE CARGO_TARGET_DIR
cd "$repository"
mkdir -p "$place"

# run NAME ARGUMENTS...: runs cargo-mutants with its output in a directory of that name. Exit status 2 (missed mutants) and 3
# (timeouts) are results, which its summary shows.
run() {
  local output="$place/$1" status=0
  shift
  mkdir -p "$output"
  cargo mutants --no-shuffle --colors never --output "$output" "$@" || status=$?
  [[ "$status" == 0 || "$status" == 2 || "$status" == 3 ]] || exit "$status"
}

server=(--package pgdibs-postgres --test-package pgdibs-postgres
  --file 'crates/pgdibs-postgres/src/requests/**' --file 'crates/pgdibs-postgres/src/steps/**')

core() {
  run core --package pgdibs-core --test-package pgdibs-core --test-package pgdibs-testing
}

diff() {
  local changes="$place/changes.diff"
  git diff "$(git merge-base HEAD "${MUTANTS_BASE:-main}")" -- crates/pgdibs-postgres/src >"$changes"
  if [[ -s "$changes" ]]; then run diff "${server[@]}" --in-diff "$changes"; else log "nothing changed in crates/pgdibs-postgres/src"; fi
}

shards() {
  local number
  for ((number = 0; number < shards; number++)); do
    if [[ ! -e "$place/shard-$number/finished" ]]; then
      log "shard $number of $shards"
      run "shard-$number" "${server[@]}" --shard "$number/$shards"
      touch "$place/shard-$number/finished"
    fi
  done
}

[[ $# -gt 0 ]] || set -- core diff shards
for wanted in "$@"; do
  case "$wanted" in
    core | diff | shards) "$wanted" ;;
    *) fail "usage: mutants.sh [core] [diff] [shards], not '$wanted'" ;;
  esac
done
