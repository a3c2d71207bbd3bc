#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Prints the directory of the real model, SmolLM2-135M-Instruct, after obtaining it if need be.
set -euo pipefail

cache=${XDG_CACHE_HOME:-$HOME/.cache}/cohort
model=$cache/smollm2-135m-instruct
if [ ! -e "$model/config.json" ]; then
    venv=$cache/venv
    if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import gguf' 2>/dev/null; then
        echo "smollm2: making a Python environment with gguf" >&2
        python3 -m venv "$venv" >&2
        "$venv/bin/pip" install --quiet --disable-pip-version-check 'gguf==0.17.1' 'numpy<3' >&2
    fi
    "$venv/bin/python" "$(dirname "$0")/fetch_smollm2.py" "$model" >&2
fi
echo "$model"
