#!/usr/bin/env bash
# Writes the section of a version from CHANGELOG.md to dist/release-notes.md. Usage: release-notes.sh TAG   (v0.1.0)
# Fails unless the tag is the version of Cargo.toml and the section has text.
set -euo pipefail
cd "$(dirname "$0")/.."
version="$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)"
[[ "${1:-}" == "v$version" ]] || { echo "error: the tag is '${1:-}', but Cargo.toml has version $version: tag v$version" >&2 && exit 1; }
notes="$(awk -v heading="## [$version]" '/^## \[/ { inside = index($0, heading) == 1; next } inside' CHANGELOG.md)"
[[ "$notes" == *[![:space:]]* ]] || { echo "error: CHANGELOG.md has no text below '## [$version]'" >&2 && exit 1; }
mkdir -p dist
printf '%s\n' "$notes" >dist/release-notes.md
