#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# usage: test_clients.sh BUILD_DIR PEERS_DIR - clients that others wrote, against a server with a
# real model: the openai package and schemathesis (also in make test), those of tests/clients in their
# newest versions (6 GB, in PEERS_DIR/clients; COHORT_CLIENTS names some of them), and `vllm bench serve`, which
# is installed in PEERS_DIR for it (7 GB).  Prints the versions, keeps those of all of tests/clients in
# bench/results/clients.txt; fails where a request of theirs fails.
set -euo pipefail

build=$(realpath "$1") peers=$2
model=$(scripts/fetch_model.sh)
home=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$home"' EXIT
COHORT_BUILD_DIR=$build COHORT_EXAMPLES=${COHORT_EXAMPLES:-200} tests/scenario/openai_test.py

XDG_RUNTIME_DIR=$home "$build/cohort" serve "$model" --host 127.0.0.1 --port 0 \
    --served-model-name smollm2 --enable-auto-tool-choice --tool-call-parser hermes 2>"$home/log" &
server=$!
until grep -q 'Starting Cohort server' "$home/log"; do
    kill -0 "$server" || { cat "$home/log" && exit 1; }
    sleep 0.1
done
url=$(sed -n 's/.*Starting Cohort server on \(http:[^ ]*\).*/\1/p' "$home/log")
mkdir -p "$peers/clients"
# shellcheck disable=SC2086 # a list
tests/clients/run.py "$url/v1" "$model" "$peers/clients" ${COHORT_CLIENTS:-} | tee "$home/clients"
if [ -z "${COHORT_CLIENTS:-}" ]; then
    echo "revision: $(git rev-parse --short HEAD)$(git diff --quiet HEAD || echo +), $(date +%Y-%m-%d)" |
        cat - "$home/clients" >bench/results/clients.txt
fi

bench/install_peers.sh "$peers" vllm
HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 "$peers/venv/bin/vllm" bench serve --backend openai \
    --base-url "$url" --model smollm2 --tokenizer "$model" --dataset-name random \
    --random-input-len 128 --random-output-len 64 --num-prompts "${COHORT_PROMPTS:-32}" \
    --max-concurrency 4 --request-rate inf --ignore-eos --seed 1 --temperature 0 \
    --save-result --result-filename "$home/result.json" 2>/dev/null | sed -n '/=====/,$p'
python3 - "$home/result.json" <<'P'
import json
import sys
result = json.load(open(sys.argv[1], encoding="utf-8"))
print(f"vllm bench serve: {result['completed']} requests, {result['failed']} failed")
sys.exit(result["failed"] != 0 or result["completed"] != result["num_prompts"])
P
