#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`cohort serve`, `vllm serve` on this CPU and llama.cpp's server, side by side in one run.

Every server is started in turn (from start to the first 200 of /health), then all stay up,
idle but for the one that is asked, and the rounds go through them in turns: the same
client, 128 random tokens in and 64 out, 1 client and 4.  Seeds differ from round to round,
so that no cache of prompts helps anybody (none is asked twice), and are the same for all servers.  Printed are
the medians of the rounds and, beside ours, the ratios; --out keeps every result.

usage: serve_peers.py COHORT MODEL_DIR PEERS [options]
PEERS is the folder of bench/install_peers.sh; what is not installed there is left out.
The client shares the processors with the servers; a quiet machine, please.
"""
import argparse
import contextlib
import json
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request

import goal

START_S = 900
CLIENT_S = 1800
METRICS = (("output_throughput", "output tok/s", True), ("mean_ttft_ms", "TTFT mean ms", False),
           ("p99_ttft_ms", "TTFT p99 ms", False), ("mean_tpot_ms", "TPOT mean ms", False),
           ("mean_itl_ms", "ITL mean ms", False), ("mean_e2el_ms", "E2EL mean ms", False))
NAME = "smollm2"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def vllm_variables(venv):
    """What gives vLLM's CPU build its best: its allocator, its OpenMP, all cores."""
    found = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=False).stdout
    allocator = [line.split()[-1] for line in found.splitlines()
                 if "libtcmalloc_minimal.so.4" in line]
    preload = allocator[:1] + [str(path) for path in (venv / "lib").glob("libiomp5.so")]
    return {"LD_PRELOAD": ":".join(preload), "VLLM_CPU_KVCACHE_SPACE": "2",
            "VLLM_CPU_OMP_THREADS_BIND": f"0-{os.cpu_count() - 1}", "HF_HUB_OFFLINE": "1",
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
                     "--max-num-seqs", "16"], None
    if (peers / "venv/bin/vllm").exists() and "vllm" in args.servers:
        yield "vllm", [peers / "venv/bin/vllm", "serve", args.model, "--served-model-name", NAME,
                       "--host", "127.0.0.1", "--port", "{port}", "--dtype", "bfloat16",
                       "--max-model-len", args.max_model_len, "--max-num-seqs", "16",
                       ], vllm_variables(peers / "venv")
    if (peers / "llama/llama-server").exists() and "llama" in args.servers:
        yield "llama", [peers / "llama/llama-server", "-m", gguf_of(args.model, peers),
                        "--alias", NAME, "--host", "127.0.0.1", "--port", "{port}", "-t",
                        os.cpu_count(), "-np", 4, "-c", 4 * args.max_model_len,
                        "--no-webui"], {"LD_LIBRARY_PATH": str(peers / "llama")}


def measure(args, peers, server, clients, seed, folder):
    out = folder / f"{server.name}-{clients}-{seed}.json"
    client = ([peers / "venv/bin/vllm", "bench", "serve"] if args.client == "vllm"
              else [args.cohort, "bench", "serve"])
    words = [*client, "--backend", "openai", "--base-url", server.url, "--model", NAME,
             "--tokenizer", args.model, "--dataset-name", "random", "--random-input-len",
             args.input_len, "--random-output-len", args.output_len, "--num-prompts",
             args.prompts * clients, "--max-concurrency", clients, "--request-rate", "inf",
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


def show(servers, results, clients):
    print(f"\n{clients} client{'s' if clients > 1 else ''}, medians of "
          f"{len(results[servers[0].name, clients])} rounds; in brackets: how much better ours is")
    print("".join([f"{'':16}", *(f"{server.name:>20}" for server in servers)]))
    for key, title, more_is_better in METRICS:
        ours = [one[key] for one in results["cohort", clients]]
        line = f"{title:16}"
        for server in servers:
            theirs = [one[key] for one in results[server.name, clients]]
            ratios = [a / b if more_is_better else b / a for a, b in zip(ours, theirs)]
            beside = "" if server.name == "cohort" else f" ({statistics.median(ratios):.2f}x)"
            line += f"{statistics.median(theirs):11.1f}{beside:>9}"
        print(line)
    failed = [(server.name, sum(one["failed"] for one in results[server.name, clients]))
              for server in servers]
    print("failed requests: " + ", ".join(f"{name} {n}" for name, n in failed))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=pathlib.Path)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("peers", type=pathlib.Path)
    parser.add_argument("--servers", nargs="*", default=["vllm", "llama"],
                        help="peers to start: vllm llama")
    parser.add_argument("--client", choices=("vllm", "cohort"), default="vllm")
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=8, help="of each client and round")
    parser.add_argument("--input-len", type=int, default=128)
    parser.add_argument("--output-len", type=int, default=64)
    parser.add_argument("--max-model-len", type=int, default=2048)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("serve_peers"))
    args = parser.parse_args()
    args.model, peers = args.model.resolve(), args.peers.resolve()
    args.cohort = args.cohort.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    folder = args.out.resolve()
    if args.client == "vllm" and not (peers / "venv/bin/vllm").exists():
        raise SystemExit(f"{peers} has no vLLM; take --client cohort")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and the servers with it
    with contextlib.ExitStack() as stack:
        servers = []
        for name, words, variables in commands(args, peers):
            server = Server(name, words, folder, variables)
            stack.callback(server.stop)
            servers.append(server)
            print(f"{name}: ready after {server.ready_s:.2f} s", flush=True)
        for server in servers:  # what was never run is warmed up, by prompts of its own
            measure(args, peers, server, max(args.clients), 1000, folder)
        results = {(server.name, n): [] for server in servers for n in args.clients}
        for seed in range(1, args.rounds + 1):
            for n in args.clients:
                for server in servers:
                    results[server.name, n].append(
                        measure(args, peers, server, n, seed, folder))
        for n in args.clients:
            show(servers, results, n)
        print("\nstart to ready: " + ", ".join(
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
