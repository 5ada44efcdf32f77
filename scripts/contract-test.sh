#!/usr/bin/env bash
# Tests the HTTP API of a fresh daemon with schemathesis: valid and invalid requests, and chains of them along the links of the document.
# Usage: contract-test.sh short|long [SCHEMATHESIS ARGS]   (`long` makes at least 10,000 requests; `--seed N` repeats a run)
source "$(dirname "$0")/environment.sh"
case "${1:-}" in
  # The fixed cases of the phase "coverage" alone take as long as a short run.
  short) minimum=300 limits=(--phases="fuzzing,stateful" --max-examples=10) ;;
  long) minimum=10000 limits=(--phases="coverage,fuzzing,stateful" --max-examples=300 --max-time=1800) ;;
  *) fail "usage: contract-test.sh short|long [SCHEMATHESIS ARGS]" ;;
esac
if [[ -z "${CONTRACT_TEST:-}" ]]; then
  "$scripts/install-tools.sh" uv
  CONTRACT_TEST=1 exec python3 "$scripts/with-daemon.py" "$scripts/contract-test.sh" "$@"
fi
"$PGDIBS_BIN" pool set contract --warm 2 --max 4 --spares 1
"$PGDIBS_BIN" template build contract --fingerprint prepared -- true
# Pinned, because its checks change between versions.
st=("$tools/bin/uv" tool run -q --from schemathesis==4.32.5 st)
made="$("${st[@]}" --config-file=api/contract/schemathesis.toml run api/openapi.json --no-color "${limits[@]}" "${@:2}" |
  tee >(cat >&2) | sed -nE 's/^ *([0-9]+) generated.*/\1/p')"
[[ "${made:-0}" -ge "$minimum" ]] || fail "schemathesis made ${made:-0} requests, at least $minimum were expected"
