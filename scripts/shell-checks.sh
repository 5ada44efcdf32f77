#!/usr/bin/env bash
# Runs shellcheck over every shell script in git, hadolint over the Dockerfiles, and checks the Compose file's schema.
source "$(dirname "$0")/environment.sh"
"$scripts/python-environment.sh" >/dev/null
# each PATTERN COMMAND...: runs the command with all files of the pattern, of which there is at least one.
each() {
  local files
  mapfile -t files < <(git ls-files --cached --others --exclude-standard -- "$1")
  [[ ${#files[@]} -gt 0 ]] || fail "git lists no $1"
  ".venv/bin/$2" "${@:3}" "${files[@]}"
}
each '*.sh' shellcheck --external-sources --source-path=SCRIPTDIR .ci/run
# DL3008: packages of the distribution are not pinned, to get their updates.
each '*Dockerfile' hadolint --ignore DL3008
each docker-compose.yml check-jsonschema --builtin-schema vendor.compose-spec
