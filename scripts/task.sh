#!/usr/bin/env bash
# Runs the command of a make target. Usage: task.sh NAME COMMAND...
# Below run-tasks.sh its output goes to a file, and this prints one line when it ends, with the end of the file if it failed.
source "$(dirname "$0")/environment.sh"
# The status of the command is a result.
set +e
name="$1"
shift
cd "${TASK_DIRECTORY:-.}" || exit 1
[[ -n "${TASK_LOGS:-}" ]] || exec "$@"

log="$TASK_LOGS/$name.log"
touch "$TASK_LOGS/running/$name"
# A shell makes background commands ignore SIGINT, and children inherit that: tests of Ctrl-C would hang.
timeout --foreground --kill-after 10 "${TASK_SECONDS:-1200}" env --default-signal=INT "$@" >"$log" 2>&1 </dev/null
status=$?
rm "$TASK_LOGS/running/$name"
printf '%s %s %s\n' "$SECONDS" "$name" "$status" >>"$TASK_LOGS/times"
if [[ $status == 0 ]]; then
  printf 'ok     %s (%s s) %s\n' "$name" "$SECONDS" "$(grep -oE '[0-9]+( \+ [0-9]+)* passed' "$log" | tail -n 1)"
else
  [[ $status != 124 ]] || echo "ended after its limit of ${TASK_SECONDS:-1200} s" >>"$log"
  tail -n 60 "$log" | sed 's/^/    | /'
  printf 'FAILED %s (%s s): exit status %s; full log: %s\n' "$name" "$SECONDS" "$status" "$log"
fi
exit "$status"
