#!/usr/bin/env bash
# Runs shellcheck over every shell script in git, hadolint over the Dockerfiles, and checks the Compose file's schema.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=scripts/environment.sh
source "$here/environment.sh"
cd "$repository"
"$here/python-environment.sh" >/dev/null

mapfile -t scripts < <(git ls-files --cached --others --exclude-standard -- '*.sh' .ci/run)
[[ ${#scripts[@]} -gt 0 ]] || fail "git lists no shell script"
.venv/bin/shellcheck --external-sources --source-path=SCRIPTDIR "${scripts[@]}"
mapfile -t dockerfiles < <(git ls-files --cached --others --exclude-standard -- '*Dockerfile')
[[ ${#dockerfiles[@]} -gt 0 ]] || fail "git lists no Dockerfile"
# DL3008: packages of the distribution are not pinned, to get their updates.
.venv/bin/hadolint --ignore DL3008 "${dockerfiles[@]}"
.venv/bin/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
