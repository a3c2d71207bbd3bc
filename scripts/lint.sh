#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What needs no build: layout by clang-format, shell scripts by shellcheck, layers, headers.
# (clang-tidy's short list in .clang-tidy is for editors: its analyzer asks for a reader.)
set -euo pipefail

git ls-files '*.[ch]' | xargs clang-format --dry-run --Werror
git ls-files '*.sh' | xargs shellcheck -S warning .ci/run
scripts/check_layers.py
scripts/check_headers.sh
