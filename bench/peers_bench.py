#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`cohort serve`, `vllm serve` on this CPU and llama.cpp's server, side by side in one run.

Every server is started in turn (from start to the first 200 of /health), then all stay up,
idle but for the one that is asked, and the rounds go through them in turns, with the same
client and the same random tokens:

    decode   1, 8 and 32 sequences at once, 32 tokens in and 96 out: tokens a second by TPOT
    prompt   128, 512 and 4,096 tokens, one at a time, one token out: tokens a second by TTFT
    serve    1, 4 and 16 clients, 128 tokens in and 64 out: what a client sees

No prompt is asked twice, so that no cache of prompts helps anybody.  Printed is the best of
the rounds, which is what the neighbours disturbed least, and behind a peer's figure how many
times better ours is; --out keeps every result.

usage: peers_bench.py COHORT MODEL_DIR PEERS [options]
PEERS is the folder of bench/install_peers.sh; what is not installed there is left out.
The client shares the processors with the servers; a quiet machine, please.
"""
import argparse
import contextlib
import dataclasses
import itertools
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import goal

START_S = 900
CLIENT_S = 1800
NAME = "smollm2"
SEQUENCES = 32  # at once, at most


@dataclasses.dataclass(frozen=True)
class Load:
    """What every server is asked in a round."""

    part: str
    clients: int
    input_len: int
    output_len: int
    requests: int

    def title(self):
        if self.part == "prompt":
            return f"prompt of {self.input_len} tokens"
        if self.part == "decode":
            return f"decode, {self.clients} at once"
        return f"{self.clients} client{'s' if self.clients > 1 else ''}"

    def figures(self, result):
        """(name, value, whether more is better, how many times a peer's it should be)."""
        if self.part == "prompt":
            return [("tokens/s", 1e3 * self.input_len / result["median_ttft_ms"], True, 1.5)]
        if self.part == "decode":
            return [("tokens/s", 1e3 * self.clients / result["median_tpot_ms"], True, 2)]
        return [("output tok/s", result["output_throughput"], True, 2),
                ("TTFT mean ms", result["mean_ttft_ms"], False, 1),
                ("TTFT p99 ms", result["p99_ttft_ms"], False, 1),
                ("TPOT mean ms", result["mean_tpot_ms"], False, 1),
                ("ITL mean ms", result["mean_itl_ms"], False, 1),
                ("E2EL mean ms", result["mean_e2el_ms"], False, 1)]


def loads(args):
    every = {"decode": [Load("decode", n, 32, 96, n) for n in (1, 8, 32)],
             "prompt": [Load("prompt", 1, n, 1, 3 if n < 4096 else 1) for n in (128, 512, 4096)],
             "serve": [Load("serve", n, 128, 64, args.prompts * n) for n in (1, 4, 16)]}
    return [load for part in args.parts for load in every[part]]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def vllm_variables(venv, threads):
    """What gives vLLM's CPU build its best: its allocator, its OpenMP, a core a thread."""
    found = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=False).stdout
    allocator = [line.split()[-1] for line in found.splitlines()
                 if "libtcmalloc_minimal.so.4" in line]
    preload = allocator[:1] + [str(path) for path in (venv / "lib").glob("libiomp5.so")]
    return {"LD_PRELOAD": ":".join(preload), "VLLM_CPU_KVCACHE_SPACE": "2",
            "VLLM_CPU_OMP_THREADS_BIND": f"0-{threads - 1}", "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1"}


class Server:
    """One process, from start to its end."""

    def __init__(self, name, words, folder, variables=None):
        self.name, self.port = name, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = open(folder / f"{name}.log", "wb")
        words = [str(word).replace("{port}", str(self.port)) for word in words]
        began = time.monotonic()
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=subprocess.STDOUT, start_new_session=True,
                                        env=os.environ | (variables or {}))
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > began + START_S:
                self.stop()
                raise SystemExit(f"{name} does not start; see {self.log.name}")
            time.sleep(0.005)
        self.ready_s = time.monotonic() - began

    def is_ready(self):
        try:
            with urllib.request.urlopen(self.url + "/health", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def stop(self):
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(60)
        self.log.close()


def gguf_of(model, peers):
    """The checkpoint as llama.cpp wants it, in bf16."""
    path = peers / "llama" / f"{model.name}-bf16.gguf"
    source = next(peers.glob("llama_cpp_python-*/vendor/llama.cpp"))
    if not path.exists():
        part = path.with_suffix(".part")
        subprocess.run([peers / "venv/bin/python", source / "convert_hf_to_gguf.py", model,
                        "--outtype", "bf16", "--outfile", part], check=True,
                       capture_output=True)
        part.rename(path)
    return path


def commands(args, peers):
    """Name, words and variables of every server that is there."""
    yield "cohort", [args.cohort, "serve", args.model, "--host", "127.0.0.1", "--port", "{port}",
                     "--served-model-name", NAME, "--max-model-len", args.max_model_len,
                     "--max-num-seqs", SEQUENCES, "--cpu-threads-bind", f"0-{args.threads - 1}"], None
    if (peers / "venv/bin/vllm").exists() and "vllm" in args.servers:
        yield "vllm", [peers / "venv/bin/vllm", "serve", args.model, "--served-model-name", NAME,
                       "--host", "127.0.0.1", "--port", "{port}", "--dtype", "bfloat16",
                       "--max-model-len", args.max_model_len, "--max-num-seqs", SEQUENCES], vllm_variables(peers / "venv", args.threads)
    if (peers / "llama/llama-server").exists() and "llama" in args.servers:
        yield "llama", [peers / "llama/llama-server", "-m", gguf_of(args.model, peers),
                        "--alias", NAME, "--host", "127.0.0.1", "--port", "{port}", "-t",
                        args.threads, "-np", SEQUENCES, "--kv-unified", "-c",
                        2 * args.max_model_len, "--no-webui"], {"LD_LIBRARY_PATH": str(peers / "llama")}


def measure(args, peers, server, load, seed, folder):
    out = folder / f"{server.name}-{load.part}-{load.clients}-{load.input_len}-{seed}.json"
    client = ([peers / "venv/bin/vllm", "bench", "serve"] if args.client == "vllm"
              else [args.cohort, "bench", "serve"])
    words = [*client, "--backend", "openai", "--base-url", server.url, "--model", NAME,
             "--tokenizer", args.model, "--dataset-name", "random", "--random-input-len",
             load.input_len, "--random-output-len", load.output_len, "--num-prompts",
             load.requests, "--max-concurrency", load.clients, "--request-rate", "inf",
             "--ignore-eos", "--seed", seed, "--temperature", "0",
             "--percentile-metrics", "ttft,tpot,itl,e2el", "--metric-percentiles", "50,99",
             "--disable-tqdm", "--save-result", "--result-filename", out]
    subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, timeout=CLIENT_S,
                   env=os.environ | {"HF_HUB_OFFLINE": "1"})
    result = json.loads(out.read_text())
    if result["failed"] and server.name == "cohort":  # a peer's are told with its figures
        raise SystemExit(f"{result['failed']} requests to {server.name} failed; see {out}")
    return result


def best(results, load, row):
    """The best round's figure, a row of load.figures."""
    rows = [load.figures(result)[row] for result in results]
    return (max if rows[0][2] else min)(value for _, value, _, _ in rows)


def show(servers, results, load):
    print(f"\n{load.title()}, best of {len(results[servers[0].name, load])} rounds; "
          "in brackets: how many times better ours is")
    print("".join([f"{'':16}", *(f"{server.name:>20}" for server in servers)]))
    for row, (name, _, more, aim) in enumerate(load.figures(results["cohort", load][0])):
        ours, ratios = best(results["cohort", load], load, row), []
        line = f"{name:16}"
        for server in servers:
            theirs, beside = best(results[server.name, load], load, row), ""
            if server.name != "cohort":
                ratios.append(ours / theirs if more else theirs / ours)
                beside = f" ({ratios[-1]:.2f}x)"
            line += f"{theirs:11.1f}{beside:>9}"
        print(line + (goal.at_least(min(ratios), aim) if ratios else ""))
    failed = [(server.name, sum(one["failed"] for one in results[server.name, load]))
              for server in servers]
    if any(n for _, n in failed):
        print("failed requests: " + ", ".join(f"{name} {n}" for name, n in failed))


def show_growth(servers, results, few, many):
    """How far tokens a second go up with the sequences at once."""
    for server in servers:
        ratio = best(results[server.name, many], many, 0) / best(results[server.name, few], few, 0)
        beside = goal.at_least(ratio, 2.5) if server.name == "cohort" else ""
        print(f"{server.name}: {many.clients} at once, {ratio:.2f} times the tokens/s of "
              f"{few.clients}{beside}")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=pathlib.Path)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("peers", type=pathlib.Path)
    parser.add_argument("--servers", nargs="*", default=["vllm", "llama"],
                        help="peers to start: vllm llama")
    parser.add_argument("--client", choices=("vllm", "cohort"),
                        help="whose client asks; vLLM's where it is installed")
    parser.add_argument("--parts", nargs="*", default=["decode", "prompt", "serve"],
                        choices=("decode", "prompt", "serve"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=8,
                        help="of each client and round in the part serve")
    parser.add_argument("--threads", type=int, default=os.cpu_count(),
                        help="of every server; those of one do not wait for each other, which "
                             "is what neighbours on a busy machine disturb most")
    parser.add_argument("--max-model-len", type=int, default=8192)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("peers_bench"))
    args = parser.parse_args()
    args.model, peers = args.model.resolve(), args.peers.resolve()
    args.cohort = args.cohort.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    folder = args.out.resolve()
    has_vllm = (peers / "venv/bin/vllm").exists()
    args.client = args.client or ("vllm" if has_vllm else "cohort")
    if args.client == "vllm" and not has_vllm:
        raise SystemExit(f"{peers} has no vLLM; take --client cohort")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and the servers with it
    with contextlib.ExitStack() as stack:
        servers = []
        for name, words, variables in commands(args, peers):
            server = Server(name, words, folder, variables)
            stack.callback(server.stop)
            servers.append(server)
            print(f"{name}: ready after {server.ready_s:.2f} s", flush=True)
        every, seeds = loads(args), itertools.count(1)
        for server in servers:  # what was never run is warmed up, by prompts of its own
            measure(args, peers, server, every[-1], next(seeds), folder)
        results = {(server.name, load): [] for server in servers for load in every}
        for _ in range(args.rounds):
            for load in every:
                seed = next(seeds)
                for server in servers:
                    results[server.name, load].append(
                        measure(args, peers, server, load, seed, folder))
        for load in every:
            show(servers, results, load)
        by_clients = {load.clients: load for load in every if load.part == "decode"}
        if by_clients:
            show_growth(servers, results, by_clients[8], by_clients[32])
        print(f"\nthe client: {args.client}'s; threads of each server: {args.threads}")
        print("start to ready: " + ", ".join(
            f"{server.name} {server.ready_s:.2f} s" +
            (f" ({server.ready_s / servers[0].ready_s:.0f}x"
             + (goal.at_least(server.ready_s / servers[0].ready_s, 20)
                if server.name == "vllm" else "") + ")" if server is not servers[0] else "")
            for server in servers))
    with open("/proc/cpuinfo", encoding="ascii") as info:
        print("AMX:", "yes" if "amx_tile" in info.read() else "no")
    return 0


if __name__ == "__main__":
    sys.exit(main())
