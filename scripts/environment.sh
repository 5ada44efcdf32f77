# shellcheck shell=bash
# The scripts here source this file: strict mode, the cache directory, PATH, installation of system packages. It enters the repository.
set -euo pipefail
scripts="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
repository="$(dirname "$scripts")"
# shellcheck disable=SC2034  # for the scripts that source this
target="${CARGO_TARGET_DIR:-$repository/target}"
cd "$repository"

# Postgres refuses to run as root, so as root the cache must be outside /root, where the user postgres can read it.
if [[ "$(id -u)" == 0 ]]; then default_cache=/var/cache/pgdibs-dev; else default_cache="${XDG_CACHE_HOME:-$HOME/.cache}/pgdibs-dev"; fi
PGDIBS_CACHE="${PGDIBS_CACHE:-$default_cache}"
mkdir -p "$PGDIBS_CACHE"
chmod a+rx "$PGDIBS_CACHE"

# A virtual environment with uv, which installs the other tools beside itself.
tools="$PGDIBS_CACHE/tools"
export UV_TOOL_DIR="$PGDIBS_CACHE/uv" UV_TOOL_BIN_DIR="$tools/bin"
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:$tools/bin"

log() { printf '%s\n' "$*" >&2; }

fail() {
  log "error: $*"
  exit 1
}

# with_lock NAME COMMAND...: runs one command per name at a time on this machine; without flock (macOS) there is no lock.
with_lock() {
  (
    ! command -v flock >/dev/null || flock 9
    "${@:2}"
  ) 9>"$PGDIBS_CACHE/$1.lock"
}

apt_as_root() {
  local sudo=()
  [[ "$(id -u)" == 0 ]] || sudo=(sudo)
  "${sudo[@]}" apt-get update -q && "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}

# apt_install PACKAGE...: 0 if apt exists and has installed them. Prints the output of apt only if it fails.
apt_install() {
  command -v apt-get >/dev/null || return 1
  log "installing with apt-get: $*"
  with_lock apt apt_as_root "$@" >"$PGDIBS_CACHE/apt.log" 2>&1 || { tail -n 15 "$PGDIBS_CACHE/apt.log" >&2 && return 1; }
}

# use_postgres MAJOR...: gives the tests these servers; a test that needs one server of any major uses the first.
use_postgres() {
  PGDIBS_TEST_PG_BIN_DIRS="$("$scripts/fetch-postgres.sh" "$@" | paste -s -d :)"
  PGDIBS_TEST_PG_BIN_DIR="${PGDIBS_TEST_PG_BIN_DIRS%%:*}"
  export PGDIBS_TEST_PG_BIN_DIRS PGDIBS_TEST_PG_BIN_DIR
  # Last on PATH, for psql and pg_config on a machine without an installed Postgres.
  PATH="$PATH:$PGDIBS_TEST_PG_BIN_DIR"
}
