#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Inputs that once cost much: a stream goes on beside them, memory is bounded, and SIGTERM ends the server.

COHORT_COSTS (1): how many times as large as they were when they were found; `make soak` takes 10.
What a thread costs the others is processor time, which a busy machine does not change; but it may let
much happen before somebody is woken who looks, so that the best of three tries counts.
"""
import contextlib
import json
import multiprocessing
import os
import pathlib
import random
import select
import shutil
import tempfile
import time
import unittest

from served import CHATS, CHAT_TEMPLATE, COMPLETIONS, DEADLINE_S, MODEL, SANITIZED, Server

TIMES = int(os.environ.get("COHORT_COSTS", "1"))
SHARED = "cohort-http", "cohort-engine"
MOST_S = 0.1  # of either at once
CHOICES = 64 if SANITIZED else 1024  # of a prompt; the second is the most
A_CHOICE_BYTES = 848  # that waits, as --max-held-bytes counts it


class Beside:
    """A stream and pings that go on in another process, and what the threads that all share took meanwhile:
    the engine's between two tokens, HTTP's between a ping and its answer."""

    def __init__(self, server):
        self.found = multiprocessing.RawArray("d", len(SHARED) + 1)
        self.ends = os.pipe()
        self.process = multiprocessing.get_context("fork").Process(target=self.run, args=(server,))
        self.process.start()
        self.await_tokens()

    def run(self, server):
        tasks = pathlib.Path(f"/proc/{server.process.pid}/task").iterdir()
        files = {(task / "comm").read_text(encoding="ascii").strip(): task / "schedstat" for task in tasks}

        def taken():
            return [int(files[name].read_text(encoding="ascii").split()[0]) / 1e9 for name in SHARED]
        os.close(self.ends[1])
        ping, stream, at_ping = server.connect(), None, None
        while True:
            if stream is None:
                stream, answer = server.begin(prompt="a", max_tokens=1900, ignore_eos=True, stream=True, priority=-1)
                at_token = taken()[1]
            if at_ping is None:
                at_ping = taken()[0]
                ping.request("GET", "/ping")
            ready = select.select([ping.sock, stream.sock, self.ends[0]], [], [])[0]
            if self.ends[0] in ready:
                break
            if ping.sock in ready:
                self.found[0], at_ping = max(self.found[0], taken()[0] - at_ping), None
                ping.getresponse().read()
            if stream.sock in ready:
                now, text = taken()[1], answer.read1(1 << 20)
                n = max(1, text.count(b"data: "))
                self.found[1], at_token = max(self.found[1], (now - at_token) / n), now
                self.found[2] += n
                if not text:
                    stream = stream.close()

    def await_tokens(self):
        """Two more of them."""
        end, wanted = time.monotonic() + DEADLINE_S, self.found[2] + 2
        while self.found[2] < wanted:
            assert self.process.is_alive() and time.monotonic() < end, "the stream stopped"
            time.sleep(0.01)

    def close(self):
        for end in self.ends:
            os.close(end)
        self.process.join(DEADLINE_S)
        assert self.process.exitcode == 0
        return dict(zip(SHARED, self.found))


def readable(sockets):
    """Those of many that select does not take."""
    poll = select.poll()
    for sock in sockets:
        poll.register(sock, select.POLLIN)
    ready = {fd for fd, _ in poll.poll(10)}
    return {sock for sock in sockets if sock.fileno() in ready}


def peak_bytes(server):
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


class Costs(unittest.TestCase):
    def setUp(self):
        """A model whose tokenizer composes characters."""
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        self.model = pathlib.Path(home.name) / "model"
        shutil.copytree(MODEL, self.model)
        tokenizer = json.loads((self.model / "tokenizer.json").read_text(encoding="utf-8"))
        tokenizer["normalizer"] = {"type": "NFC"}
        (self.model / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")

    def send(self, server, bodies, stack):
        clients = []
        for path, text in bodies:
            clients.append(stack.enter_context(contextlib.closing(server.connect())))
            clients[-1].request("POST", path, text, {"Content-Type": "application/json"})
        return clients

    def ask(self, server, bodies, statuses):
        """All at once.  statuses: None: they leave together once all wait."""
        with contextlib.ExitStack() as stack:
            clients = self.send(server, bodies, stack)
            if statuses is None:
                waiting, end = {client.sock for client in clients}, time.monotonic() + DEADLINE_S
                while server.load() < len(waiting) + 1:  # but for those that are refused
                    self.assertLess(time.monotonic(), end)
                    waiting.difference_update(readable(waiting))
                self.assertTrue(waiting)
                return
            for client in clients:
                response = client.getresponse()
                self.assertIn(response.status, statuses, response.read()[:200])

    def measure(self, bodies, statuses, options):
        """Seconds of each thread, and bytes."""
        with Server("--chat-template", CHAT_TEMPLATE, "--drain-timeout", "1", *options,
                    model=self.model) as server, contextlib.ExitStack() as stack:
            server.complete(prompt="a", max_tokens=1)
            before, beside = peak_bytes(server), Beside(server)
            try:
                self.ask(server, bodies, statuses)
                server.wait_load(1)
                beside.await_tokens()
            finally:
                most = beside.close()
            grown = peak_bytes(server) - before
            self.send(server, bodies, stack)
            self.assertEqual(server.stop(), 0)
        return most, grown

    def check(self, bodies, *options, each, n=None, statuses=(200,)):
        """each: so many bytes of memory for each of theirs, or of n, and 32 MB."""
        n_bytes = sum(len(text) for _, text in bodies)
        for last in False, False, True:
            most, grown = self.measure(bodies, statuses, options)
            if "COHORT_COSTS" in os.environ:
                print(f"{self.id().split('.')[-1]}: {len(bodies)} of {n_bytes / len(bodies) / 1e3:.1f} kB, " +
                      ", ".join(f"{name} {s * 1e3:.1f} ms" for name, s in most.items()) +
                      f", {grown / 1e6:.0f} MB", flush=True)
            if SANITIZED:
                return
            if last or max(most.values()) < MOST_S:
                self.assertLess(max(most.values()), MOST_S, most)
                self.assertLess(grown, each * (n or n_bytes) + (32 << 20))
                return

    def test_runs_of_combining_marks(self):
        for n in 31 << 10, 128 << 10:
            with self.subTest(n):
                text = "a" + "\u0301\u0316" * (TIMES * n // 4)
                body = json.dumps({"prompt": text, "max_tokens": 1}, ensure_ascii=False).encode()
                self.check([(COMPLETIONS, body)] * 4, each=40, statuses=(400,))

    def test_many_choices_that_leave_together(self):
        body = json.dumps({"prompt": ["a"] * 4, "n": CHOICES, "max_tokens": 1000, "ignore_eos": True})
        n = min(600 * TIMES, 4000)  # as many as may be connected
        self.check([(COMPLETIONS, body)] * n, n=n * 4 * CHOICES, each=A_CHOICE_BYTES, statuses=None)

    def test_many_choices_in_the_order_of_priorities(self):
        body = json.dumps({"prompt": "a", "n": CHOICES, "max_tokens": 1000, "ignore_eos": True})
        n = 16 * TIMES
        self.check([(COMPLETIONS, body)] * n, "--scheduling-policy", "priority", n=n * CHOICES,
                   each=A_CHOICE_BYTES, statuses=None)

    def test_many_members(self):
        n = 20000 * TIMES
        same = ",".join(['"aaaaaaaaaaaaaaa":1'] * n)
        others = ",".join(f'"m{i}":1' for i in range(2 * n))
        chat = '{"messages":[{"role":"user","content":"a"}],"max_tokens":1,%s}'
        self.check([(CHATS, chat % text) for members in (same, others)
                    for text in (members, f'"chat_template_kwargs":{{{members}}}')], each=160)

    def test_a_schema_of_many_branches(self):
        schema = {"allOf": [{"properties": {f"p{i}": {} for i in range(10000 * TIMES)}},
                            {"anyOf": [{"required": [f"p{i}"]} for i in range(2500 * TIMES)]}]}
        body = json.dumps({"prompt": "a", "max_tokens": 1, "structured_outputs": {"json": schema}})
        self.check([(COMPLETIONS, body)] * 2, each=300, statuses=(400,))

    def test_bodies_that_are_read_at_once(self):
        """Those of up to 32 KB wait for nobody, so that they must not cost much."""
        draw, most = random.Random(1), 32000
        texts = ["a" * most, " " * most, "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=most)),
                 "".join(draw.choices("aeiou", k=most)), "".join(draw.choices("!#$%&()*+,-./:;<=>?@[]^_{|}~", k=most)),
                 "".join(chr(draw.randrange(0x4e00, 0x9fff)) for _ in range(most // 3)),
                 "".join(chr(draw.randrange(0x1f300, 0x1f600)) for _ in range(most // 4)),
                 "a" + "\u0301\u0316" * (most // 4), "\ufdfa" * (most // 3), "</s>" * (most // 4)]
        self.check([("/tokenize", json.dumps({"prompt": text}, ensure_ascii=False).encode()) for text in texts] +
                   [("/tokenize", '{"prompt":"a","x":%s1%s}' % ("[" * 900, "]" * 900)),
                    ("/detokenize", json.dumps({"tokens": [5] * 10000})),
                    (CHATS, json.dumps({"messages": [{"role": "user", "content": "a"}] * 800, "max_tokens": 1}))],
                   each=40, statuses=(200, 400))

    def test_many_values(self):
        tools = "1," * (min(8 * TIMES, 60) << 19)  # as large as may be
        body = '{"messages":[{"role":"user","content":"a"}],"tools":[%s1]}' % tools
        self.check([(CHATS, body)] * 2, each=160, statuses=(400, 413, 503))


if __name__ == "__main__":
    unittest.main()
