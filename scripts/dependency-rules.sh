#!/usr/bin/env bash
# Checks the dependencies against deny.toml: licences, duplicates and direction, where they come from.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=scripts/environment.sh
source "$here/environment.sh"

"$here/install-tools.sh" build deny
cd "$repository"
exec cargo deny --locked check bans licenses sources
