#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What `cohort serve` does with many requests at once, in one run, the parts in turns.

1. Eight clients beside one: output tokens a second, 32 tokens in and 128 out.
2. A short request beside a prompt of 4,096 tokens, in steps of 512: its TTFT while that is
   computed, beside what its last step takes alone.  It waits for the end of a step, and then
   its own takes as long.
3. What a step of eight streams costs beyond the ranks, which are processes of their own: CPU
   of the serving process, and what its engine's thread does as /metrics counts it.  The floor,
   which no server goes below, sends as much to eight sockets, with all cores busy and all
   caches cold, as the ranks keep them; what is judged is what engine and server add to it.
4. What masks add to a step of eight where each has a JSON schema that nobody had before: to
   the engine's time until it is sent, beside a whole step without; and tokens a second.

usage: serve_bench.py COHORT MODEL_DIR [ROUNDS]
"""
import contextlib
import http.client
import json
import os
import pathlib
import random
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request

import goal

CHUNK = 512
LONG = 4096


@contextlib.contextmanager
def server(cohort, model, *words):
    """(port, pid) of one that is ready."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [cohort, "serve", model, "-tp", "2", "--port", str(port), "--host", "127.0.0.1",
         "--served-model-name", "m", "--disable-uvicorn-access-log", "--max-num-batched-tokens", str(CHUNK), *words],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    lines = []
    threading.Thread(target=lambda: lines.extend(process.stderr), daemon=True).start()
    try:
        until = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"no server: {''.join(lines)}")
            time.sleep(0.01)
        yield port, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def prompt(draw, n_tokens, vocabulary):
    """Random tokens: no prompt begins like another."""
    return [draw.randrange(10, vocabulary) for _ in range(n_tokens)]


def ask(port, tokens, n_out, **more):
    """One streamed completion: (seconds to the first chunk, seconds in all)."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    body = {"model": "m", "prompt": tokens, "max_tokens": n_out, "stream": True,
            "temperature": 0, "ignore_eos": True, **more}
    began = time.monotonic()
    connection.request("POST", "/v1/completions", json.dumps(body),
                       {"Content-Type": "application/json"})
    answer = connection.getresponse()
    if answer.status != 200:
        raise SystemExit(answer.read().decode())
    first = None
    for line in answer:
        if line.startswith(b"data: {"):
            first = first or time.monotonic() - began
    connection.close()
    return first, time.monotonic() - began


def clients(port, prompts, n_out, *each):
    """All at once; seconds until the last has its answer.  each: more fields, one's each.

    One thread reads them all, as `vllm bench serve` and other clients with a loop do.
    """
    began = time.monotonic()
    reader = selectors.DefaultSelector()
    for tokens, more in zip(prompts, each or ({},) * len(prompts)):
        body = json.dumps({"model": "m", "prompt": tokens, "max_tokens": n_out, "stream": True,
                           "temperature": 0, "ignore_eos": True, **more})
        one = socket.create_connection(("127.0.0.1", port))
        one.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: m\r\nConnection: close\r\n"
                    f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                    f"{body}".encode())
        reader.register(one, selectors.EVENT_READ, bytearray())
    while reader.get_map():
        for key, _ in reader.select():
            part = key.fileobj.recv(65536)
            key.data.extend(part)
            if part:
                continue
            if not key.data.startswith(b"HTTP/1.1 200") or b"data: [DONE]" not in key.data:
                raise SystemExit(key.data.decode())
            reader.unregister(key.fileobj).fileobj.close()
    return time.monotonic() - began


def tokens_a_second(port, draw, vocabulary):
    """With one client, and with eight."""
    one = 128 / clients(port, [prompt(draw, 32, vocabulary)], 128)
    return one, 8 * 128 / clients(port, [prompt(draw, 32, vocabulary) for _ in range(8)], 128)


def beside_a_long_prompt(port, draw, vocabulary):
    """(TTFT of each short request while the long one is computed, that of the long one)."""
    took = []
    long = threading.Thread(
        target=lambda: took.append(ask(port, prompt(draw, LONG, vocabulary), 1)[0]))
    long.start()
    time.sleep(0.05)
    short = []
    while not took:
        short.append(ask(port, prompt(draw, 8, vocabulary), 1)[0])
    long.join()
    return short[:-1] or short, took[0]


def cpu_s(pid):
    """Of all its threads, as the scheduler counts it."""
    tasks = pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text(encoding="utf-8").split()[0]) for task in tasks) / 1e9


def counters(port):
    """Steps, and seconds of each part of them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    found = {}
    for line in lines:
        if line.startswith("cohort:engine_steps_total"):
            found["steps"] = float(line.split()[-1])
        if line.startswith("cohort:engine_step_seconds_total"):
            found[line.split('part="')[1].split('"')[0]] = float(line.split()[-1])
    return found


def cost_of_a_step(port, pid, draw, vocabulary):
    """us of a step with eight streams: CPU of the process, and the wall time of its parts."""
    before, before_s = counters(port), cpu_s(pid)
    clients(port, [prompt(draw, 8, vocabulary) for _ in range(8)], 200)
    after, after_s = counters(port), cpu_s(pid)
    steps = after.pop("steps") - before.pop("steps")
    parts = {part: (after[part] - before[part]) / steps * 1e6 for part in after}
    return {"cpu": (after_s - before_s) / steps * 1e6, **parts}


def schema(number):
    """What a model that knows nothing of it is held to for long; no two are alike."""
    words = {"type": "string", "minLength": 60 + number, "maxLength": 400}
    return {"structured_outputs": {"json": {
        "type": "object", "required": ["name", "age", "notes"], "additionalProperties": False,
        "properties": {"name": {"type": "string", "minLength": 3, "maxLength": 40},
                       "age": {"type": "integer", "minimum": 0, "maximum": 150},
                       "notes": {"type": "array", "minItems": 9, "items": words}}}}}


def eight(port, draw, vocabulary, *each):
    """Eight streams: (s of a step, s of it until it is sent, tokens a step, tokens a second)."""
    n_tokens = 8 * 100
    before = counters(port)
    wall = clients(port, [prompt(draw, 8, vocabulary) for _ in range(8)], 100, *each)
    after = counters(port)
    steps = after.pop("steps") - before.pop("steps")
    took = {part: (after[part] - before[part]) / steps for part in after}
    return sum(took.values()), took["schedule"], n_tokens / steps, n_tokens / wall


def cost_of_bare_sends():
    """us of CPU that eight bare sends take, 10 ms after the last.

    Two others go through memory as ranks go through weights: what sends need is in no cache.
    """
    walk = "a, b = bytearray(1 << 27), bytearray(1 << 27)\nwhile True: b[:] = a"
    listener = socket.create_server(("127.0.0.1", 0))
    busy = [subprocess.Popen([sys.executable, "-c", walk]) for _ in range(2)]
    reader = os.fork()
    if not reader:
        drain([socket.create_connection(listener.getsockname()) for _ in range(8)])
        os._exit(0)
    sockets = [listener.accept()[0] for _ in range(8)]
    spent = []
    for chunk in (b"", b"x" * 250):
        before_s = cpu_s(os.getpid())
        for _ in range(200):
            time.sleep(0.01)
            for one in sockets if chunk else []:
                one.send(chunk)
        spent.append((cpu_s(os.getpid()) - before_s) / 200 * 1e6)
    for one in sockets:
        one.close()
    os.waitpid(reader, 0)
    for process in busy:
        process.kill()
        process.wait()
    return spent[1] - spent[0]


def drain(sockets):
    reader = selectors.DefaultSelector()
    for one in sockets:
        reader.register(one, selectors.EVENT_READ)
    while reader.get_map():
        for key, _ in reader.select():
            if not key.fileobj.recv(65536):
                reader.unregister(key.fileobj)


def middle(values):
    return statistics.median(values)


def main():
    cohort, model = sys.argv[1:3]
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    draw = random.Random(1)
    vocabulary = json.loads(pathlib.Path(model, "config.json").read_text())["vocab_size"]
    rates, steps, short, long = [], [], [], []
    costs, sends, free, held = [], [], [], []
    with server(cohort, model) as (port, pid):
        clients(port, [prompt(draw, 32, vocabulary)] * 8, 50)
        for turn in range(rounds):
            rates.append(tokens_a_second(port, draw, vocabulary))
            without, whole = (ask(port, prompt(draw, n, vocabulary), 1)[0]
                              for n in (LONG - CHUNK, LONG))
            steps.append(whole - without)
            some, took = beside_a_long_prompt(port, draw, vocabulary)
            short += some
            long.append(took / whole)
            costs.append(cost_of_a_step(port, pid, draw, vocabulary))
            sends.append(cost_of_bare_sends())
            free.append(eight(port, draw, vocabulary))
            held.append(eight(port, draw, vocabulary, *map(schema, range(8 * turn, 8 * turn + 8))))
    gain = middle([b / a for a, b in rates])
    print(f"output tokens/s: one client {middle([a for a, _ in rates]):.1f}, "
          f"eight {middle([b for _, b in rates]):.1f}, ratio {gain:.2f} "
          f"({min(b / a for a, b in rates):.2f} - {max(b / a for a, b in rates):.2f})"
          + goal.at_least(gain, 4))
    p99 = sorted(short)[-(len(short) // 100) - 1]
    print(f"TTFT of 8 tokens beside a prompt of {LONG}: p50 {middle(short) * 1e3:.0f} ms, "
          f"p99 {p99 * 1e3:.0f} ms of {len(short)}; its last step of {CHUNK} takes "
          f"{middle(steps) * 1e3:.0f} ms alone, ratio {p99 / middle(steps):.2f}"
          + goal.at_most(p99 / middle(steps), 2)
          + f"; the long prompt takes {middle(long):.2f} times as long as alone")
    cpu, bare = middle([cost["cpu"] for cost in costs]), middle(sends)
    print("a step of 8 streams: " + ", ".join(
        f"{part} {middle([cost[part] for cost in costs]):.0f} us" for part in costs[0])
          + f"; eight bare sends {bare:.0f} us of CPU, beyond them {cpu - bare:.0f} us"
          + goal.at_most(cpu - bare, 100))
    step, _, _, rate = map(middle, zip(*free))
    _, _, entries, held_rate = map(middle, zip(*held))
    masks = middle([b - a for (_, a, _, _), (_, b, _, _) in zip(free, held)])
    print(f"eight with JSON schemas: masks {masks * 1e6:.0f} us, a step without {step * 1e3:.2f} ms, "
          f"share {masks / step:.3f}" + goal.at_most(masks / step, 0.05)
          + f"; {held_rate:.1f} tokens/s, {entries:.1f} a step, without {rate:.1f}, "
          f"ratio {held_rate / rate:.2f}")


if __name__ == "__main__":
    main()
