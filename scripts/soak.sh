#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: soak.sh BUILD_DIR - the random tests with their full counts, planted faults, and
# all Ray tests on two versions of Ray; for hours.
# COHORT_KILLS (1000): kills of each kill test, and in each layout under a server;
# COHORT_RAY_KILLS (200): of the one on Ray;
# COHORT_REQUESTS (10000), COHORT_MALFORMED (1000): what the server is asked; COHORT_COSTS (10): how many
# times as large as in the gate is what once cost much.
# COHORT_MUTANTS (300): faults planted, drawn by COHORT_MUTANTS_SEED (the day).
# The result is bench/results/soak.txt, of the faults bench/results/mutants.txt.
set -euo pipefail

build=$1
export COHORT_KILLS=${COHORT_KILLS:-1000} COHORT_REQUESTS=${COHORT_REQUESTS:-10000}
export COHORT_COSTS=${COHORT_COSTS:-10} COHORT_RAY_KILLS=${COHORT_RAY_KILLS:-200} COHORT_MALFORMED=${COHORT_MALFORMED:-1000}
out=bench/results/soak.txt
mkdir -p bench/results
{
    echo "machine: $(scripts/machine.sh)"
    echo "revision: $(git rev-parse --short HEAD)$(git diff --quiet HEAD || echo +)"
    echo "kills a test: $COHORT_KILLS"
} >"$out.new"
for test in scenario_kill_test scenario_command_kill_test scenario_restart_test; do
    echo "$test" | tee -a "$out.new"
    "$build/$test" 2>&1 | grep -vE '\[ RUN|\[ +OK' | tee -a "$out.new"
done
echo "scenario_faults_test: every allocation and every system call of the driver fails once" | tee -a "$out.new"
COHORT_FAULTS=0 "$build/scenario_faults_test" 2>&1 | grep -E 'FAILED|PASSED|ERROR' | tee -a "$out.new"
echo "serve_random_test: $COHORT_REQUESTS random requests, $COHORT_MALFORMED malformed" | tee -a "$out.new"
COHORT_BUILD_DIR=$build COHORT_SOURCE_DIR=. tests/scenario/serve_random_test.py 2>&1 |
    grep -E 'FAIL|Error|OK|Ran|resident' | tee -a "$out.new"
echo "serve_costs_test: inputs $COHORT_COSTS times as large" | tee -a "$out.new"
COHORT_BUILD_DIR=$build tests/scenario/serve_costs_test.py 2>&1 |
    grep -E '^test_|FAIL|Error|OK|Ran' | tee -a "$out.new"
echo "recover_test: $COHORT_KILLS kills of any rank in each layout" | tee -a "$out.new"
COHORT_BUILD_DIR=$build tests/scenario/recover_test.py 2>&1 |
    grep -E 'FAIL|Error|OK|Ran|kills' | tee -a "$out.new"
mutants=${COHORT_MUTANTS:-300} seed=${COHORT_MUTANTS_SEED:-$(date +%Y%m%d)}
echo "mutants: $mutants planted, seed $seed" | tee -a "$out.new"
scripts/mutants.py --count "$mutants" --seed "$seed" --slowest 600 --out bench/results/mutants.txt |
    grep -E 'survived|noticed|^all' | tee -a "$out.new"
echo "ray: $COHORT_RAY_KILLS random kills of workers, sidecars, drivers and raylets" |
    tee -a "$out.new"
scripts/test_ray.sh "$build" test_deaths.py -k random_kills | grep -E 'passed|failed|Error' |
    tee -a "$out.new"
for version in 2.51.2 2.60.0; do
    echo "ray $version: all tests" | tee -a "$out.new"
    COHORT_RAY_VERSION=$version COHORT_RAY_KILLS=20 scripts/test_ray.sh "$build" |
        grep -E 'passed|failed|Error' | tee -a "$out.new"
done
mv "$out.new" "$out"
