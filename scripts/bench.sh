#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every benchmark that needs nothing but this repository and ../shared; what they print goes to
# bench/results/ too, with the machine.
set -euo pipefail
build=$1
shapes=${COHORT_SHAPES:-../shared/shapes}
results=bench/results/bench.txt

run_all() {
    date -u +%Y-%m-%d
    for part in queue collective rpc launch; do
        echo "== cohort bench $part"
        "$build/cohort" bench "$part"
    done
    for program in decode_bench prefill_bench sample_bench; do
        echo "== $program"
        "$build/bench/$program"
    done
    echo "== load_bench SmolLM2-135M"
    "$build/bench/load_bench" "$(scripts/fetch_model.sh)"
    echo "== layout_bench qwen3-0.6b"
    "$build/bench/layout_bench" "$shapes/qwen3-0.6b"
}

mkdir -p bench/results
run_all 2>&1 | tee "$results.part"
mv "$results.part" "$results"
