#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Prints the directory of the real model, SmolLM2-135M-Instruct, after obtaining it if need be.
set -euo pipefail

cache=${XDG_CACHE_HOME:-$HOME/.cache}/cohort
model=$cache/smollm2-135m-instruct
if [ ! -e "$model/config.json" ]; then
    scripts=$(dirname "$0")
    python=$("$scripts/test_venv.sh" model)
    "$python" "$scripts/fetch_smollm2.py" "$model" >&2
fi
echo "$model"
