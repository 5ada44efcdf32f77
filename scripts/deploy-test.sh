#!/usr/bin/env bash
# Builds the images and runs the tests of deploy/smoke on them with a Docker engine. Usage: deploy-test.sh [PYTEST ARGUMENTS]
# It starts an engine if none answers, and makes stand-ins for the base images if no registry answers.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=scripts/environment.sh
source "$here/environment.sh"
cd "$repository"
"$here/install-tools.sh" build python
python="$("$here/python-environment.sh")"
# shellcheck source=deploy/smoke/engine.sh
source deploy/smoke/engine.sh
bases="$(deploy/smoke/bases.sh)"
set -a
eval "$bases"
set +a
deploy/images.sh build
docker build --build-arg PYTHON_IMAGE --tag pgdibs-tests --file examples/fastapi-shop/Dockerfile .
# Without the pytest plugin: its guard stops connections to databases that it did not lease.
"$python" -m pytest -v -x -p no:cacheprovider -p no:pgdibs deploy/smoke "$@"
