#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: pin_requirements.sh [KIND...] - makes scripts/requirements/KIND.txt (all of them) from KIND.in: every
# package that is needed, with the hashes of its files, as pip-tools finds them.  To be run with Python 3.11, Debian 12's.
set -euo pipefail

kinds=("$@")

folder=$(dirname "$(realpath "$0")")/requirements
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pip-tools
[ $# -gt 0 ] || mapfile -t kinds < <(cd "$folder" && basename -s .in -- *.in)
for kind in "${kinds[@]}"; do
    "$work/venv/bin/pip-compile" --quiet --generate-hashes --strip-extras --allow-unsafe --no-header --no-annotate \
        --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --output-file "$work/$kind.txt" \
        "$folder/$kind.in"
    grep -v '^$' "$work/$kind.txt" >"$folder/$kind.txt"
done
