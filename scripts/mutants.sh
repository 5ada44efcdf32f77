#!/usr/bin/env bash
# Runs cargo-mutants over the core, over changes in requests and steps, and over all of these. Usage: mutants.sh [core] [diff] [shards]
#   core    all of pgdibs-core, against its own tests
#   diff    the differences to MUTANTS_BASE (main) in requests and steps, against the tests on real Postgres
#   shards  all requests and steps, in 40 shards; finished shards stay finished until you remove target/mutants
# Each mutant that no test noticed is a line in target/mutants/*/mutants.out/missed.txt.
source "$(dirname "$0")/environment.sh"
"$scripts/install-tools.sh" build nextest pgbouncer mutants
use_postgres 15
# A tenth of the random scenarios finds nearly as many mutants as all of them. Half of the time for one mutant is linking.
export PGDIBS_SCENARIOS="${PGDIBS_SCENARIOS:-150}" NEXTEST_PROFILE=mutants CARGO_PROFILE_DEV_DEBUG=none
unset PGDIBS_CACHE CARGO_TARGET_DIR

# run NAME ARGUMENTS...: runs cargo-mutants with its output in a directory of that name. Exit status 2 (missed mutants) and 3
# (timeouts) are results, which its summary shows.
run() {
  local status=0
  mkdir -p "$target/mutants/$1"
  cargo mutants --no-shuffle --colors never --output "$target/mutants/$1" "${@:2}" || status=$?
  [[ "$status" == [023] ]] || exit "$status"
}
server=(--package pgdibs-postgres --test-package pgdibs-postgres
  --file 'crates/pgdibs-postgres/src/requests/**' --file 'crates/pgdibs-postgres/src/steps/**')

[[ $# -gt 0 ]] || set -- core diff shards
for wanted in "$@"; do
  case "$wanted" in
    core) run core --package pgdibs-core --test-package pgdibs-core --test-package pgdibs-testing ;;
    diff)
      mkdir -p "$target/mutants"
      git diff "$(git merge-base HEAD "${MUTANTS_BASE:-main}")" -- crates/pgdibs-postgres/src >"$target/mutants/changes.diff"
      [[ ! -s "$target/mutants/changes.diff" ]] || run diff "${server[@]}" --in-diff "$target/mutants/changes.diff"
      ;;
    shards)
      for number in {0..39}; do
        [[ ! -e "$target/mutants/shard-$number/finished" ]] || continue
        run "shard-$number" "${server[@]}" --shard "$number/40"
        touch "$target/mutants/shard-$number/finished"
      done
      ;;
    *) fail "usage: mutants.sh [core] [diff] [shards], not '$wanted'" ;;
  esac
done
