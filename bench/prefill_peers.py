#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The products of prompts, ours beside oneDNN's as PyTorch calls it, in turns, shape by shape.

bf16 weights, 2 threads unless told (one thread is timed by its own clock, so that it counts little
what else the machine does); our activations come as f32 and are rounded inside the timed
window, PyTorch's are bf16 already.  ONEDNN_VERBOSE names the kernel that oneDNN chose.  The last
column is the share of what the matrix instruction does on registers alone, taken once before.

usage: prefill_peers.py BUILD_DIR [--isa NAME] [--threads N] [--rows N]... [--rounds N]
Its Python needs torch: that of bench/install_peers.sh has it.
"""
import argparse
import os
import re
import statistics
import subprocess
import sys
import time

SETTLE_S = 0.01  # the other side's threads poll for a while after their work
MODELS = {
    "SmolLM2-135M": {"qkv": (960, 576), "out": (576, 576), "gate_up": (3072, 576), "down": (576, 1536)},
    "Qwen3-0.6B": {"qkv": (4096, 1024), "out": (1024, 2048), "gate_up": (6144, 1024), "down": (1024, 3072)},
    "Llama-3.2-1B": {"qkv": (3072, 2048), "out": (2048, 2048), "gate_up": (16384, 2048), "down": (2048, 8192)},
}


class Ours:
    """bench/prefill_bench, one product at a time."""

    def __init__(self, build, isa, threads):
        self.process = subprocess.Popen([f"{build}/bench/prefill_bench", "--ask", isa, str(threads)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.isa, peak = self.process.stdout.readline().split()
        self.peak = float(peak) * threads

    def us(self, shape, rows):
        self.process.stdin.write(f"{shape[0]} {shape[1]} {rows}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def kernel_of_onednn(threads):
    """The implementation that it names for one such product."""
    program = ("import torch; torch.set_num_threads(%d); x = torch.ones(512, 1024, dtype=torch.bfloat16);"
               "torch.nn.functional.linear(x, torch.ones(4096, 1024, dtype=torch.bfloat16))" % threads)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True,
                          env={**os.environ, "ONEDNN_VERBOSE": "1", "DNNL_VERBOSE": "1"})
    found = re.findall(r"exec,cpu,(?:matmul|inner_product),([^,]+)", done.stdout)
    return found[-1] if found else "not oneDNN"


def measure(ours, linear, shape, rows, rounds):
    flops, samples = 2e-3 * rows * shape[0] * shape[1], ([], [])
    x, weight = linear.tensors(shape, rows)
    ours.us(shape, rows), linear.us(x, weight)
    sides = ((samples[0], lambda: ours.us(shape, rows)), (samples[1], lambda: linear.us(x, weight)))
    for _ in range(rounds):
        for times, run in sides:
            time.sleep(SETTLE_S)
            run()  # its threads are awake then
            times.append(run())
    ratios = sorted(b / a for a, b in zip(*samples))
    best = [flops / min(side) for side in samples]
    return best[0], best[1], statistics.median(ratios), ratios[0], ratios[-1]


class Linear:
    """torch.nn.functional.linear in bf16."""

    def __init__(self, threads):
        import torch
        torch.set_num_threads(threads)
        self.torch = torch
        self.clock = time.thread_time_ns if threads == 1 else time.perf_counter_ns
        self.version = torch.__version__

    def tensors(self, shape, rows):
        made = [self.torch.randn(n, shape[1]).to(self.torch.bfloat16) for n in (rows, shape[0])]
        return made

    def us(self, x, weight):
        with self.torch.inference_mode():
            begin = self.clock()
            self.torch.nn.functional.linear(x, weight)
            return (self.clock() - begin) * 1e-3


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("build")
    parser.add_argument("--isa", default="best")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count()))
    parser.add_argument("--rows", type=int, action="append")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    ours, linear = Ours(options.build, options.isa, options.threads), Linear(options.threads)
    print(f"{options.threads} threads, {ours.isa}, {ours.peak:.0f} GFLOP/s on registers; torch {linear.version}, "
          f"{kernel_of_onednn(options.threads)}; best of {options.rounds} rounds, ratio: their median")
    for rows in options.rows or [8, 32, 128, 512]:
        for model, shapes in MODELS.items():
            for name, shape in shapes.items():
                mine, theirs, ratio, least, most = measure(ours, linear, shape, rows, options.rounds)
                print(f"{rows:5} rows  {model:13} {name:8} {shape[0]:6} x {shape[1]:5}  {mine:7.0f} GFLOP/s"
                      f"  oneDNN {theirs:7.0f}  {ratio:5.2f} times ({least:.2f} - {most:.2f})"
                      f"  {100 * mine / ours.peak if ours.peak else 0:3.0f} % of registers", flush=True)


if __name__ == "__main__":
    main()
