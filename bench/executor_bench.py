#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Executors beside each other, as vLLM's RayExecutorV2 was measured: ours and vLLM's, each with
processes (mp), on Ray with queues (ray-v2) and on Ray with a compiled graph (ray-v1).

In every round each serves in its turn, from a fresh start to its end, and the order is shifted by
one from round to round.  A turn, for each shape (tp2, pp2):

    ready    from the start of the command to the first 200 of /health
    idle     cores that all its processes take while nobody asks
    TTFT, TPOT, tokens a second, CPU time a token   with 1 and with 8 clients, all streaming
    error    from SIGKILL of a worker to the end of a client's stream

All figures are of one client, in this file, which is the same for all; prompts are random tokens,
none twice.  The table has the medians of the rounds, percentiles over all requests; --out keeps
every figure, --svg draws TPOT.

usage: executor_bench.py COHORT MODEL_DIR [options], by a Python that has Ray
vLLM's are measured where --vllm names an environment of bench/install_peers.sh, and its two on Ray
where --vllm-path has, for PYTHONPATH, what lets them take CPUs.  What is left out is said.
"""
import argparse
import contextlib
import html
import http.client
import json
import os
import pathlib
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import peers_bench

WORKER = re.compile(r"worker --control-fd|ray::\S*Worker|VLLM::Worker")
TICKS = os.sysconf("SC_CLK_TCK")
GONE_S = 60


def table_of_processes():
    """{pid: (parent, CPU seconds, with those of children that it has waited for)}."""
    found = {}
    for entry in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = entry.read_text(encoding="utf-8").rsplit(")", 1)[1].split()
            found[int(entry.parent.name)] = (int(fields[1]), sum(map(int, fields[11:15])) / TICKS)
    return found


def tree(root):
    """{pid: CPU seconds} of a process and all below it, a cluster that it started included."""
    processes = table_of_processes()
    found, todo = {}, [root]
    while todo:
        pid = todo.pop()
        found[pid] = processes.get(pid, (0, 0.0))[1]
        todo += [child for child, (parent, _) in processes.items() if parent == pid]
    return found


def cpu_s(root):
    return sum(tree(root).values())


def words_of(pid):
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def stream(port, tokens, n_out, note):
    """One completion; note is called with the time of each chunk.  False where it broke off."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=peers_bench.CLIENT_S)
    body = {"model": peers_bench.NAME, "prompt": tokens, "max_tokens": n_out, "stream": True,
            "temperature": 0, "ignore_eos": True}
    try:
        connection.request("POST", "/v1/completions", json.dumps(body),
                           {"Content-Type": "application/json"})
        answer = connection.getresponse()
        is_whole = False
        for line in answer:
            if line.startswith(b"data: {") and b'"error"' not in line:
                note(time.monotonic())
            is_whole = is_whole or line.startswith(b"data: [DONE]")
        return answer.status == 200 and is_whole
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def ask_all(server, draw, args, n_clients):
    """(TTFT, TPOT of each request in ms, tokens a second, CPU ms a token)."""
    chunks = [[] for _ in range(n_clients)]
    prompts = [[draw.randrange(10, args.vocabulary) for _ in range(args.tokens_in)]
               for _ in range(n_clients)]
    whole = [False] * n_clients

    def one(i):
        whole[i] = stream(server.port, prompts[i], args.tokens_out, chunks[i].append)

    cpu, began = cpu_s(server.process.pid), time.monotonic()
    threads = [threading.Thread(target=one, args=(i,)) for i in range(n_clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall = time.monotonic() - began
    if not all(whole):
        raise SystemExit(f"{server.name}: a request failed; see {server.log.name}")
    n_tokens = n_clients * args.tokens_out
    return {"ttft_ms": [(at[0] - began) * 1e3 for at in chunks],
            "tpot_ms": [(at[-1] - at[0]) / (args.tokens_out - 1) * 1e3 for at in chunks],
            "tokens_s": n_tokens / wall,
            "cpu_ms_token": (cpu_s(server.process.pid) - cpu) / n_tokens * 1e3}


def idle_cores(server, seconds):
    before, began = cpu_s(server.process.pid), time.monotonic()
    time.sleep(seconds)
    return (cpu_s(server.process.pid) - before) / (time.monotonic() - began)


def error_ms(server, draw, args):
    """Of a stream that is long enough to be under way when a worker is killed."""
    started, ended = threading.Event(), []

    def one():
        tokens = [draw.randrange(10, args.vocabulary) for _ in range(args.tokens_in)]
        stream(server.port, tokens, args.max_model_len - args.tokens_in - 1,
               lambda _: started.set())
        ended.append(time.monotonic())

    client = threading.Thread(target=one, daemon=True)
    client.start()
    workers = [pid for pid in tree(server.process.pid) if WORKER.search(words_of(pid))]
    if not started.wait(GONE_S) or not workers:
        return None
    killed = time.monotonic()
    os.kill(max(workers), signal.SIGKILL)
    client.join(GONE_S)
    return (ended[0] - killed) * 1e3 if ended else None


def executors(args):
    """{name: (words, variables)} of what is there; what is not is said."""
    common = ["--host", "127.0.0.1", "--port", "{port}", "--served-model-name", peers_bench.NAME,
              "--max-model-len", args.max_model_len, "--max-num-seqs", 16]
    light = {"RAY_USAGE_STATS_ENABLED": "0", "COHORT_PYTHON": sys.executable}
    python = str(pathlib.Path(__file__).resolve().parent.parent / "python")
    for plane, backend, flag in (("mp", "mp", "1"), ("ray-v2", "ray", "1"), ("ray-v1", "ray", "0")):
        yield f"cohort {plane}", [
            args.cohort, "serve", args.model, *common, "--max-rank-restarts", 0,
            "--distributed-executor-backend", backend], {
                **light, "PYTHONPATH": python, "COHORT_USE_RAY_V2_EXECUTOR_BACKEND": flag}
    if not args.vllm:
        print("left out: vLLM's, as no --vllm names it")
        return
    if not args.vllm_path:
        print("left out: vLLM's on Ray, as no --vllm-path lets them take CPUs")
    for plane, backend, flag in (("mp", "mp", "1"), ("ray-v2", "ray", "1"), ("ray-v1", "ray", "0")):
        if backend == "ray" and not args.vllm_path:
            continue
        variables = peers_bench.vllm_variables(args.vllm, os.cpu_count())
        threads = "|".join(str(cpu) for cpu in range(min(os.cpu_count(), 2)))
        yield f"vllm {plane}", [
            args.vllm / "bin/vllm", "serve", args.model, *common, "--dtype", "bfloat16",
            "--distributed-executor-backend", backend], {
                **light, **variables, "VLLM_CPU_OMP_THREADS_BIND": threads,
                "PYTHONPATH": args.vllm_path or "", "VLLM_USE_RAY_V2_EXECUTOR_BACKEND": flag}


def turn(name, words, variables, shape, draw, args, folder):
    """All figures of one executor in one round."""
    kind, n = shape[:2], shape[2:]
    size = {"tp": "--tensor-parallel-size", "pp": "--pipeline-parallel-size"}[kind]
    server = peers_bench.Server(f"{name} {shape}", [*words, size, n], folder, variables)
    try:
        ask_all(server, draw, args, 1)  # what was never run is warmed up
        found = {"ready_s": server.ready_s, "idle_cores": idle_cores(server, args.idle_s)}
        for n_clients in args.clients:
            found[str(n_clients)] = ask_all(server, draw, args, n_clients)
        found["error_ms"] = error_ms(server, draw, args)
        return found
    finally:
        server.stop()


def percentile(values, share):
    values = sorted(values)
    return values[min(int(len(values) * share), len(values) - 1)]


def summary(rounds, clients):
    """Medians of the rounds; percentiles over all their requests."""
    errors = [one["error_ms"] for one in rounds if one["error_ms"] is not None]
    found = {"ready s": statistics.median(one["ready_s"] for one in rounds),
             "idle cores": statistics.median(one["idle_cores"] for one in rounds),
             "error ms": statistics.median(errors) if errors else None}
    for n in clients:
        of = [one[str(n)] for one in rounds]
        for name in ("ttft", "tpot"):
            every = [value for one in of for value in one[f"{name}_ms"]]
            found[f"{name} p50 {n}"] = percentile(every, 0.5)
            found[f"{name} p99 {n}"] = percentile(every, 0.99)
        found[f"tok/s {n}"] = statistics.median(one["tokens_s"] for one in of)
        found[f"cpu ms/tok {n}"] = statistics.median(one["cpu_ms_token"] for one in of)
    return found


def show(shape, results, args):
    """A row for each figure, a column for each executor."""
    columns = {name: summary(rounds, args.clients) for name, rounds in results.items()}
    print(f"\n{shape}, {args.rounds} rounds; ms; behind a figure the clients at once")
    print(f"{'':16}" + "".join(f"{name:>15}" for name in columns))
    for row in next(iter(columns.values())):
        cells = [columns[name][row] for name in columns]
        print(f"{row:16}" + "".join(f"{'-' if cell is None else format(cell, '.2f'):>15}"
                                    for cell in cells))
    return columns


def draw_svg(tables, clients):
    """TPOT p50 of each executor, as bars; shorter is better."""
    rows = [(f"{shape}, {n} client{'s' if n > 1 else ''}: {name}", column[f"tpot p50 {n}"])
            for shape, columns in tables.items() for n in clients
            for name, column in columns.items()]
    most = max(value for _, value in rows)
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="760" height="{20 * len(rows) + 40}" '
             'font-family="sans-serif" font-size="12">',
             '<text x="8" y="18">ms a token (TPOT, p50); shorter is better</text>']
    for i, (name, value) in enumerate(rows):
        y = 32 + 20 * i
        colour = "#2b6cb0" if ": cohort" in name else "#a0aec0"
        lines.append(f'<text x="8" y="{y + 12}">{html.escape(name)}</text>'
                     f'<rect x="240" y="{y}" width="{440 * value / most:.1f}" height="15" '
                     f'fill="{colour}"/><text x="{246 + 440 * value / most:.1f}" y="{y + 12}">'
                     f'{value:.2f}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=lambda path: pathlib.Path(path).resolve())
    parser.add_argument("model", type=lambda path: pathlib.Path(path).resolve())
    parser.add_argument("--vllm", type=lambda path: pathlib.Path(path).resolve())
    parser.add_argument("--vllm-path")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shapes", nargs="*", default=["tp2", "pp2"])
    parser.add_argument("--clients", nargs="*", type=int, default=[1, 8])
    parser.add_argument("--tokens-in", type=int, default=32)
    parser.add_argument("--tokens-out", type=int, default=128)
    parser.add_argument("--vocabulary", type=int, default=40000)
    parser.add_argument("--max-model-len", type=int, default=2048)
    parser.add_argument("--idle-s", type=float, default=3.0)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--svg", type=pathlib.Path)
    args = parser.parse_args()
    every = [(name, words, variables) for name, words, variables in executors(args)]
    draw, results = random.Random(1), {shape: {} for shape in args.shapes}
    with tempfile.TemporaryDirectory(prefix="executors") as folder:
        for number in range(args.rounds):
            shift = number % len(every)
            for shape in args.shapes:
                for name, words, variables in every[shift:] + every[:shift]:
                    found = turn(name, words, variables, shape, draw, args, pathlib.Path(folder))
                    results[shape].setdefault(name, []).append(found)
    if args.out:
        args.out.write_text(json.dumps(results) + "\n", encoding="utf-8")
    tables = {shape: show(shape, {name: results[shape][name] for name, _, _ in every}, args)
              for shape in args.shapes}
    if args.svg:
        args.svg.write_text(draw_svg(tables, args.clients), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
