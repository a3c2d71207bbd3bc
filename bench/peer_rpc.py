#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""collective_rpc to two workers: ours and vLLM's, in turns.

Both echo 1 KB from two idle worker processes of this host to the caller.  A round is one
start of each and a thousand or more calls; the median of the rounds' ratios is printed
with the least and the greatest.

usage: peer_rpc.py COHORT VENV_WITH_VLLM RPC_PY MODEL_DIR [ROUNDS]
RPC_PY is the measuring script for vLLM (bench/vllm_rpc/rpc.py); environment variables
that vLLM needs are passed through.
"""
import json
import re
import statistics
import subprocess
import sys

CASE = "echo 1 KB, all reply"


def ours_us(cohort):
    text = subprocess.run([cohort, "bench", "rpc", "5"], check=True, capture_output=True,
                          text=True, timeout=300).stdout
    return float(re.search(r"echo 1 KB\s+([\d.]+)", text).group(1))


def vllm_us(python, script, model):
    text = subprocess.run([python, script, model], check=True, capture_output=True,
                          text=True, timeout=600).stdout
    cases = [json.loads(line) for line in text.splitlines() if line.startswith('{"case"')]
    return next(case["p50_us"] for case in cases if case["case"] == CASE)


def main():
    if len(sys.argv) < 5:
        print(__doc__, file=sys.stderr)
        return 2
    cohort, venv, script, model = sys.argv[1:5]
    rounds = int(sys.argv[5]) if len(sys.argv) > 5 else 5
    pairs = []
    for _ in range(rounds):
        pairs.append((ours_us(cohort), vllm_us(f"{venv}/bin/python", script, model)))
        print(f"ours {pairs[-1][0]:.1f} us, vLLM {pairs[-1][1]:.1f} us", flush=True)
    ratios = sorted(theirs / ours for ours, theirs in pairs)
    print(f"collective_rpc of 2 workers, echo 1 KB, p50: ours "
          f"{statistics.median(p[0] for p in pairs):.1f} us, vLLM "
          f"{statistics.median(p[1] for p in pairs):.1f} us, "
          f"{statistics.median(ratios):.1f} times ({ratios[0]:.1f} - {ratios[-1]:.1f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
