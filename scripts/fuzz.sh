#!/usr/bin/env bash
# Runs each fuzz target for FUZZ_SECONDS (60), and stores inputs that reach new code in fuzz/corpus, crashes in fuzz/artifacts.
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
for name in "$@"; do
  log "$name for ${FUZZ_SECONDS:-60} s"
  found="$(mktemp -d)"
  # New inputs go to a directory of their own; the merge keeps only those that reach code no other input reaches.
  cargo fuzz run --sanitizer none "$name" "$found" "corpus/$name" -- -max_total_time="${FUZZ_SECONDS:-60}" -timeout=10 \
    -max_len=4096 -rss_limit_mb=2048 -print_final_stats=1
  cargo fuzz run --sanitizer none "$name" "corpus/$name" "$found" -- -merge=1 -use_counters=0 -max_len=4096
  rm -rf "$found"
done
