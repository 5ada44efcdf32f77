#!/usr/bin/env bash
# Searches the files that a test run has left for secrets. Usage: find-secrets.sh [DIRECTORY] (default: target/test-logs)
# All secrets are recognisable: those that pgdibs and with-daemon.py make have a prefix, those that the tests choose are listed here.
source "$(dirname "$0")/environment.sh"
cd "${1:-$target/test-logs}"
# Passwords, build tokens, tokens; passwords of superusers, plain and as in URLs; a token; variables of builds.
secrets='pgdibs(pw|bt|tk)[0-9a-f]{16,}|p@ss:w/rd\?#%&|p%40ss%3Aw%2Frd%3F%23%25%26|sh@red|canary-'
# A verifier is no password, but logs must not have it either; the server logs failed statements, some with verifiers on purpose.
verifiers='SCRAM-SHA-256\$[0-9]+:'
# grep ends with 1 when it finds nothing.
search() { grep -arnoE "$@" . || (($? == 1)); }
# The first characters of a secret say what it is.
found="$({ search "$secrets" && search "$verifiers" --exclude='postgres-*'; } | sed -E 's/(:[0-9]+:.{8}).*/\1/')"
# A search that misses files would find nothing: so many of each kind are left by a run of all tests.
while read -r minimum pattern; do
  count="$(compgen -G "$pattern" | wc -l)" || true
  ((count >= minimum)) || fail "there are $count files $pattern in $PWD, at least $minimum were expected"
done <<<$'10 *.log\n1 *.xml\n1 processes.log\n20 kept/daemon-*\n10 kept/postgres-*\n10 kept/pages-*\n10 kept/stderr-*'
[[ -z "$found" ]] || fail "secrets in $PWD:"$'\n'"$found"
log "no secret was found in $(find . -type f | wc -l) files"
