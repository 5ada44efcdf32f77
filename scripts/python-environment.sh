#!/usr/bin/env bash
# Makes .venv with the linters and the requirements of the examples, if these have changed; prints its interpreter.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=scripts/environment.sh
source "$here/environment.sh"
cd "$repository"
requirements=(scripts/requirements.txt)
for example in fastapi-shop django-library; do
  requirements+=("examples/$example/requirements.txt" "examples/$example/requirements-check.txt")
done

make_environment() {
  local stamp file arguments=()
  for file in "${requirements[@]}"; do
    [[ -f "$file" ]] || fail "$file is missing"
    arguments+=(--requirement "$file")
  done
  stamp="$(cat "${requirements[@]}" | cksum) $(python3 --version)"
  if [[ "$(cat .venv/installed-for 2>/dev/null)" != "$stamp" ]]; then
    "$here/install-tools.sh" python
    log "installing the Python requirements into .venv"
    python3 -m venv --clear .venv
    .venv/bin/pip install -q --disable-pip-version-check "${arguments[@]}"
    printf '%s\n' "$stamp" >.venv/installed-for
  fi
  .venv/bin/python "$here/link-client.py"
}

with_lock "venv-$(cksum <<<"$repository" | cut -d ' ' -f 1)" make_environment
printf '%s\n' "$repository/.venv/bin/python"
