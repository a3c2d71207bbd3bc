#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: soak.sh BUILD_DIR - the random tests with their full counts, for an hour or so.
# COHORT_KILLS (1000): kills of each kill test; COHORT_REQUESTS (10000): of the server's.
# The result is bench/results/soak.txt.
set -euo pipefail

build=$1
export COHORT_KILLS=${COHORT_KILLS:-1000} COHORT_REQUESTS=${COHORT_REQUESTS:-10000}
out=bench/results/soak.txt
mkdir -p bench/results
{
    echo "machine: $(scripts/machine.sh)"
    echo "revision: $(git rev-parse --short HEAD)$(git diff --quiet HEAD || echo +)"
    echo "kills a test: $COHORT_KILLS"
} >"$out.new"
for test in scenario_kill_test scenario_command_kill_test; do
    echo "$test" | tee -a "$out.new"
    "$build/$test" 2>&1 | grep -vE '\[ RUN|\[ +OK' | tee -a "$out.new"
done
echo "serve_test: $COHORT_REQUESTS random requests" | tee -a "$out.new"
COHORT_BUILD_DIR=$build COHORT_SOURCE_DIR=. tests/scenario/serve_test.py Anything 2>&1 |
    grep -E 'FAIL|Error|OK|Ran|resident' | tee -a "$out.new"
mv "$out.new" "$out"
