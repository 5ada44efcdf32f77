#!/usr/bin/env bash
# Runs each fuzz target for FUZZ_SECONDS (60), and keeps what reaches new code in fuzz/corpus. A crash is left in fuzz/artifacts.
#
# It needs no nightly: a sanitizer would, and would find nothing, because `unsafe` is forbidden here. What counts is the counters
# that lead libFuzzer to new code, and those a stable compiler builds in. Usage: fuzz.sh [TARGET...]
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=scripts/environment.sh
source "$here/environment.sh"
"$here/install-tools.sh" build fuzz
cd "$repository/fuzz"
[[ $# -gt 0 ]] || set -- request configuration urls
for name in "$@"; do
  say "$name for ${FUZZ_SECONDS:-60} s"
  found="$(mktemp -d)"
  # What is new goes to a directory of its own; only what reaches code that nothing else does is kept.
  cargo fuzz run --sanitizer none "$name" "$found" "corpus/$name" -- -max_total_time="${FUZZ_SECONDS:-60}" -timeout=10 \
    -max_len=4096 -rss_limit_mb=2048 -print_final_stats=1
  cargo fuzz run --sanitizer none "$name" "corpus/$name" "$found" -- -merge=1 -use_counters=0 -max_len=4096
  rm -rf "$found"
done
