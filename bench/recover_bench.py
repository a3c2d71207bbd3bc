#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the death of a rank costs a stream: SIGKILL of a random one of two, under eight streams.

Extra gap: the longest time between two chunks of a stream after a kill, less the p99 of the same
streams left alone.  Floors in the same run: posix_spawn and end of a program that does nothing;
to map and touch as much memory as a rank's half of the weights; one step of eight; and what
there is without recovery, a server started anew.

usage: recover_bench.py COHORT MODEL_DIR [KILLS [OPTION]...]; options are the server's: with
--distributed-executor-backend ray the ranks are actors, whose goals are others, with and without
--spare-workers N.
"""
import contextlib
import json
import mmap
import os
import pathlib
import random
import selectors
import signal
import socket
import statistics
import sys
import time
import urllib.request

import goal
import serve_bench

STREAMS = 8
MOST_S = 120  # until each stream goes on: what takes longer is lost
GOAL_P50_MS, GOAL_P99_MS = 30, 120
GOAL_RAY_MS, GOAL_SPARE_MS = 700, 100


def percentile(values, part):
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def spawn_ms():
    began = time.monotonic()
    os.waitpid(os.posix_spawn("/bin/true", ["true"], os.environ), 0)
    return (time.monotonic() - began) * 1e3


def map_ms(fd, size):
    """Mapped and touched, a byte a page."""
    began = time.monotonic()
    with mmap.mmap(fd, size) as memory:
        bytes(memory[::mmap.PAGESIZE])
    return (time.monotonic() - began) * 1e3


def arena(size):
    fd = os.memfd_create("arena")
    os.ftruncate(fd, size)
    block = b"x" * (1 << 20)
    for at in range(0, size, len(block)):
        os.pwrite(fd, block[:size - at], at)
    return fd


def ranks(port):
    """Process ids of the ranks of a server; of one that is being replaced the last one."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/cohort/status", timeout=MOST_S) as status:
        return [rank["pid"] for rank in json.load(status)["ranks"]]


class Streams:
    """Eight of them, each begun anew when it ends; when their chunks came."""

    def __init__(self, port):
        self.port = port
        self.draw = random.Random(1)
        self.reader = selectors.DefaultSelector()
        self.chunks = [[] for _ in range(STREAMS)]
        for i in range(STREAMS):
            self.begin(i)

    def begin(self, i):
        body = json.dumps({"model": "m", "prompt": serve_bench.prompt(self.draw, 32, 49152),
                           "max_tokens": 1500, "stream": True, "temperature": 0,
                           "ignore_eos": True})
        one = socket.create_connection(("127.0.0.1", self.port))
        one.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: m\r\nConnection: close\r\n"
                    f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                    f"{body}".encode())
        self.reader.register(one, selectors.EVENT_READ, (i, bytearray()))
        self.chunks[i].append(None)  # what follows is another stream

    def has_gone_on(self, since):
        return all(chunks[-1] and chunks[-1] > since for chunks in self.chunks)

    def read_on(self, since):
        """Until each stream has got a chunk since then."""
        end = time.monotonic() + MOST_S
        while not self.has_gone_on(since):
            if time.monotonic() > end:
                raise SystemExit(f"a stream stands still for {MOST_S} s")
            self.read_until(time.monotonic() + 0.05)

    def read_until(self, end):
        while (left := end - time.monotonic()) > 0:
            for key, _ in self.reader.select(left):
                i, text = key.data
                part = key.fileobj.recv(1 << 16)
                text.extend(part)
                if b"data: {" in part:
                    self.chunks[i].append(time.monotonic())
                if part:
                    continue
                if b"HTTP/1.1 200" not in text or b"data: [DONE]" not in text[-64:]:
                    raise SystemExit(f"a stream was lost: {bytes(text[-400:])}")
                self.reader.unregister(key.fileobj).fileobj.close()
                self.begin(i)

    def gaps(self, began, end):
        """Of each stream, in ms, those that lie in part between two moments."""
        return [[(b - a) * 1e3 for a, b in zip(all_of, all_of[1:])
                 if a and b and b > began and a < end] for all_of in self.chunks]

    def close(self):
        for key in list(self.reader.get_map().values()):
            self.reader.unregister(key.fileobj).fileobj.close()


def disturb(streams, n_kills, is_ray):
    """(gaps left alone, the longest of each stream after each kill), in ms."""
    draw = random.Random(2)
    streams.read_on(time.monotonic())  # prompts
    began = time.monotonic()
    streams.read_until(began + 5)
    alone = [gap for gaps in streams.gaps(began, time.monotonic()) for gap in gaps]
    kills = []
    for _ in range(n_kills):
        kills.append(time.monotonic())
        os.kill(draw.choice(ranks(streams.port)), signal.SIGKILL)
        streams.read_on(kills[-1])
        # Until a spare, where there are any, waits again.
        streams.read_until(time.monotonic() + (4 if is_ray else 0.5) + draw.random())
    ends = kills[1:] + [time.monotonic()]
    return alone, [max(gaps) for began, end in zip(kills, ends)
                   for gaps in streams.gaps(began, end) if gaps]


def n_spares(options):
    """As the server reads them: the last one counts, and by default there is none."""
    n = 0
    for option, value in zip(options, options[1:] + [""]):
        name, _, own = option.partition("=")
        if name == "--spare-workers":
            n = int(own or value)
    return n


def started_s(cohort, model, options):
    began = time.monotonic()
    with serve_bench.server(cohort, model, *options):
        return time.monotonic() - began


def main():
    cohort, model = sys.argv[1:3]
    n_kills = int(sys.argv[3]) if len(sys.argv) > 3 else 30
    options = sys.argv[4:]
    is_ray = "ray" in options
    goal_p50 = GOAL_P50_MS
    if is_ray:
        goal_p50 = GOAL_SPARE_MS if n_spares(options) else GOAL_RAY_MS
    size = (pathlib.Path(model) / "model.safetensors").stat().st_size // 2
    with serve_bench.server(cohort, model, "--max-rank-restarts", str(n_kills),
                            *options) as (port, _):
        with contextlib.closing(Streams(port)) as streams:
            alone, longest = disturb(streams, n_kills, is_ray)
    fd = arena(size)
    p99 = percentile(alone, 0.99)
    extra = [gap - p99 for gap in longest]
    p50_extra, p99_extra = statistics.median(extra), percentile(extra, 0.99)
    print(f"{n_kills} kills of one of two ranks, {STREAMS} streams, none lost\n"
          f"a stream's extra gap, p50  {p50_extra:8.1f} ms{goal.at_most(p50_extra, goal_p50)}\n"
          f"a stream's extra gap, p99  {p99_extra:8.1f} ms"
          f"{'' if is_ray else goal.at_most(p99_extra, GOAL_P99_MS)}\n"
          f"left alone, p50            {statistics.median(alone):8.1f} ms: one step\n"
          f"left alone, p99            {p99:8.1f} ms\n"
          f"floor: posix_spawn         {statistics.median(spawn_ms() for _ in range(50)):8.1f} ms\n"
          f"floor: map and touch {size >> 20:4d} MiB {min(map_ms(fd, size) for _ in range(5)):6.1f} ms\n"
          f"without: a server anew     {started_s(cohort, model, options) * 1e3:8.1f} ms, and every request")


if __name__ == "__main__":
    main()
