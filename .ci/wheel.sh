#!/usr/bin/env bash
# Builds the wheel of the last commit: wheel.sh FOLDER PYTHON. The same commit and the same setuptools give the same bytes.
set -euo pipefail
out="$(mkdir -p "$1" && cd "$1" && pwd)"
python="$(command -v "$2")"
root="$(cd "$(dirname "$0")/.." && pwd)"
source="$(mktemp -d)"
trap 'rm -rf "$source"' EXIT
# Neither the umask nor the working tree decides on the files and their permissions, only the commit.
umask 022
git -C "$root" archive HEAD | tar --extract --preserve-permissions --directory "$source"
cd "$source"
SOURCE_DATE_EPOCH="$(git -C "$root" log -1 --format=%ct)" "$python" -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir "$out" .
