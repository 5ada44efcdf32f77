#!/usr/bin/env bash
# Runs each fuzz target for FUZZ_SECONDS (60), and stores inputs that reach new code in fuzz/corpus, crashes in fuzz/artifacts.
# fuzz/minimise.py keeps 33 inputs of each target, those that reach the most code. It made the present corpora from 706 inputs.
#
# It needs no nightly compiler: a sanitizer would need one and find nothing, because the code has no `unsafe`. The stable compiler
# has the coverage counters that libFuzzer needs. Usage: fuzz.sh [TARGET...]
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=scripts/environment.sh
source "$here/environment.sh"
"$here/install-tools.sh" build fuzz
cd "$repository/fuzz"
[[ $# -gt 0 ]] || set -- request configuration urls
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
for name in "$@"; do
  log "$name for ${FUZZ_SECONDS:-60} s"
  # New inputs go to a directory of their own.
  mkdir "$work/$name" "$work/$name-merged"
  cargo fuzz run --sanitizer none "$name" "$work/$name" "corpus/$name" -- -max_total_time="${FUZZ_SECONDS:-60}" -timeout=10 \
    -max_len=4096 -rss_limit_mb=2048 -print_final_stats=1
  # The merge writes what each input reaches into the control file.
  cargo fuzz run --sanitizer none "$name" "$work/$name-merged" "corpus/$name" "$work/$name" -- -set_cover_merge=1 -use_counters=0 -max_len=4096 \
    -merge_control_file="$work/$name.control"
  python3 minimise.py "$work/$name.control" "corpus/$name" 33
done
