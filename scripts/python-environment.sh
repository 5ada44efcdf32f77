#!/usr/bin/env bash
# Makes .venv with the linters and the requirements of the examples, if these have changed; prints its interpreter.
source "$(dirname "$0")/environment.sh"

make_environment() {
  local stamp
  stamp="$(cat scripts/requirements.txt examples/{django-library,fastapi-shop}/requirements*.txt | cksum) $(python3 --version)"
  if [[ "$(cat .venv/installed-for 2>/dev/null)" != "$stamp" ]]; then
    "$scripts/install-tools.sh" python uv
    log "installing the Python requirements into .venv"
    "$tools/bin/uv" venv -q --clear --python python3 .venv
    "$tools/bin/uv" pip install -q --python .venv --requirement scripts/requirements.txt
    printf '%s\n' "$stamp" >.venv/installed-for
  fi
  .venv/bin/python "$scripts/link-client.py"
}

with_lock "venv-$(cksum <<<"$repository" | cut -d ' ' -f 1)" make_environment
printf '%s\n' "$repository/.venv/bin/python"
