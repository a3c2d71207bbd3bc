#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: bench.sh BUILD_DIR PART... - the benchmarks, on a quiet machine; what they print is kept
# in bench/results/PART.txt too, with the machine and the revision.
#   bench   queue, collectives, rpc, start, kernels, loading, layouts, beside their floors; drawn as docs/bench.svg
#   serve   many requests at once, and what grammars cost
#   recover what the death of a rank costs a stream
#   ray     beside Ray and beside mp; installs Ray
#   executors  ours on processes, on Ray and on Ray's compiled graph; vLLM's, where COHORT_PEERS has it,
#           and on Ray where COHORT_VLLM_PATH has what lets its Ray executors take CPUs
#   peers   beside the servers of vLLM and llama.cpp; installs both, in COHORT_PEERS
set -euo pipefail
build=$1
shift
peers=${COHORT_PEERS:-build/peers}

bench() {
    for part in queue collective rpc launch; do
        echo "== cohort bench $part"
        "$build/cohort" bench "$part"
    done
    for program in decode_bench prefill_bench sample_bench; do
        echo "== $program"
        "$build/bench/$program"
    done
    echo "== load_bench SmolLM2-135M"
    "$build/bench/load_bench" "$model"
    echo "== keep_bench SmolLM2-135M"
    "$build/bench/keep_bench" "$model"
    echo "== layout_bench qwen3-0.6b"
    "$build/bench/layout_bench" bench/shapes/qwen3-0.6b
}

serve() {
    echo "== serve_bench SmolLM2-135M"
    bench/serve_bench.py "$build/cohort" "$model"
    echo "== grammar_bench Qwen3"
    "$build/bench/grammar_bench"
    echo "== masked_bench SmolLM2-135M"
    "$build/bench/masked_bench" "$model"
}

recover() {
    echo "== recover_bench SmolLM2-135M"
    bench/recover_bench.py "$build/cohort" "$model"
    COHORT_PYTHON=$(scripts/test_venv.sh ray)
    export COHORT_PYTHON
    for spares in 0 1; do
        echo "== recover_bench SmolLM2-135M on Ray, $spares spare workers"
        bench/recover_bench.py "$build/cohort" "$model" 20 --distributed-executor-backend ray --spare-workers "$spares"
    done
}

ray() {
    scripts/setup.sh iproute2 util-linux >&2
    echo "== ray_bench SmolLM2-135M"
    "$(scripts/test_venv.sh ray)" bench/ray_bench.py "$build" "$model" 5
}

executors() {
    local vllm=()
    [ ! -x "$peers/venv/bin/vllm" ] || vllm=(--vllm "$peers/venv")
    [ -z "${COHORT_VLLM_PATH:-}" ] || vllm+=(--vllm-path "$COHORT_VLLM_PATH")
    echo "== executor_bench SmolLM2-135M"
    "$(scripts/test_venv.sh ray)" bench/executor_bench.py "$build/cohort" "$model" "${vllm[@]}" \
        --out bench/results/executors.json --svg docs/executors.svg
}

peers() {
    bench/install_peers.sh "$peers" >&2
    echo "== peers_bench SmolLM2-135M"
    bench/peers_bench.py "$build/cohort" "$model" "$peers" --out "$peers/results"
    echo "== prefill_peers"
    "$peers/venv/bin/python" bench/prefill_peers.py "$build"
}

mkdir -p bench/results
model=$(scripts/fetch_model.sh)
for part in "$@"; do
    result=bench/results/$part.txt
    {
        echo "$(date -u +%Y-%m-%d), revision $(git rev-parse --short HEAD)"
        echo "machine: $(scripts/machine.sh)"
        "$part"
    } | tee "$result.part"
    mv "$result.part" "$result"
    [ "$part" != bench ] || bench/plot.py "$result" >docs/bench.svg
done
