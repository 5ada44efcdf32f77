#!/usr/bin/env bash
# Runs make targets two at a time, with the output of each in target/test-logs, and prints what failed and the ten slowest.
# Usage: run-tasks.sh TARGET...
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=scripts/environment.sh
source "$here/environment.sh"
cd "$repository"
"$here/install-tools.sh" build python
# For a cold build, incremental compilation adds a tenth of the time for nothing.
[[ -d "$target/debug/incremental" ]] || export CARGO_INCREMENTAL=0
export TASK_LOGS="$target/test-logs" PGDIBS_TEST_LOGS="$target/test-logs/kept"
export CARGO_TERM_COLOR=never PYTHONUNBUFFERED=1
# Tests start hundreds of Python processes; without bytecode each compiles all that it imports, for half a second.
unset PYTHONDONTWRITEBYTECODE
rm -rf "$TASK_LOGS"
mkdir -p "$TASK_LOGS/running" "$PGDIBS_TEST_LOGS"
touch "$TASK_LOGS/times" "$TASK_LOGS/started"

# Twice a second the command lines of pgdibs, its descendants and Postgres, as any user of the machine sees them, for the search for
# secrets; once a minute, what runs.
watch_processes() {
  local samples=0
  while sleep 0.5; do
    ps -A -ww -o pid=,ppid=,args= | awk '
      { parent[$1] = $2; args[$1] = $0; ours[$1] = $3 ~ /(^|\/)(pgdibs|postgres)$/ }
      END { for (pid in args) for (up = pid; up in parent; up = parent[up]) if (ours[up]) { print args[pid]; break } }
    ' >>"$TASK_LOGS/processes.all"
    samples=$((samples + 1))
    ((samples % 120)) || log "       after $SECONDS s: $(cd "$TASK_LOGS/running" && printf "%s " *)"
  done
}
watch_processes &
watcher=$!
trap 'kill "$watcher" 2>/dev/null || true' EXIT

# Not the flags of the make that called this: it has one job.
unset MAKEFLAGS MAKELEVEL
status=0
make --keep-going --jobs=2 --output-sync=target "$@" || status=$?
kill "$watcher"
wait "$watcher" 2>/dev/null || true
sed -E 's/^ *[0-9]+ +[0-9]+ //' "$TASK_LOGS/processes.all" | sort -u >"$TASK_LOGS/processes.log"
rm "$TASK_LOGS/processes.all"
for report in "$target"/nextest/*/junit.xml; do
  [[ ! -e "$report" || "$report" -ot "$TASK_LOGS/started" ]] || cp "$report" "$TASK_LOGS/$(basename "$(dirname "$report")").xml"
done
if [[ "$*" != *check-tasks* && "$*" != *client-tasks* ]]; then
  TASK_LOGS="" "$here/task.sh" secrets "$here/find-secrets.sh" || status=1
fi

printf '\nthe ten slowest tasks\n'
sort -rn "$TASK_LOGS/times" | head -n 10 | awk '{ printf "  %5d s  %s\n", $1, $2 }'
failed="$(awk '$3 != 0 { print "  " $2 }' "$TASK_LOGS/times")"
[[ -z "$failed" ]] || printf '\nfailed\n%s\n' "$failed"
printf '\n%s tasks in %s s\n' "$(wc -l <"$TASK_LOGS/times")" "$SECONDS"
# Sums over the closing lines of nextest, of pytest, and of the suites of the examples.
cat "$TASK_LOGS"/*.log | awk '
  function sum(word,   text, part, total) {
    text = $0
    while (match(text, "[0-9]+( \\+ [0-9]+)* " word)) {
      split(substr(text, RSTART, RLENGTH), part, / \+ | /)
      for (i in part) total += part[i]
      text = substr(text, RSTART + RLENGTH)
    }
    return total
  }
  !/test result:/ && / in [0-9.]+ ?s|^ +Summary / { passed += sum("passed"); failed += sum("failed") + sum("errors?") }
  END { printf "%d passed, %d failed\n", passed, failed }'
exit "$status"
