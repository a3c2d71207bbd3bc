#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Ranks are killed while a server answers: nobody notices but by the time that it takes.

COHORT_KILLS (5) kills of any rank for each layout, at moments that COHORT_SEED (1) draws,
also while the one before is being replaced.  Every answer is that of a server left alone.
"""
import contextlib
import json
import os
import pathlib
import re
import signal
import threading
import time
import unittest
from random import Random

from served import (CHATS, CHAT_TEMPLATE, COMPLETIONS, DEADLINE_S, SANITIZED, Server, events)

N_KILLS = int(os.environ.get("COHORT_KILLS", "2" if SANITIZED else "5"))
SEED = int(os.environ.get("COHORT_SEED", "1"))
IS_SOAK = N_KILLS >= 100
N_IN_A_ROW = 4  # the next start of one rank would wait for seconds
LAYOUTS = [("-tp", "2"), ("-pp", "2")]
if IS_SOAK:
    LAYOUTS += [("-tp", "2", "-pp", "2"), ("-tp", "3")]
# Of the server's memory in the second half of many kills; answers under way are in it.
MOST_GROWTH_KIB = 4096
# The limits are for who heals nothing.
PATIENT = ("--max-rank-restarts", str(100 + N_KILLS), "--max-num-seqs", "16",
           "--chat-template", CHAT_TEMPLATE)
SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": {
    "type": "array", "items": {"type": "integer"}, "minItems": 20, "maxItems": 20}}}
LONG = {"max_tokens": 80, "ignore_eos": True, "return_token_ids": True}
STREAM = LONG | {"stream": True}
SEEDED = {"temperature": 1, "seed": 7}
MIXED = [
    (COMPLETIONS, STREAM | {"prompt": "a b", "temperature": 0}),
    (COMPLETIONS, STREAM | SEEDED | {"prompt": "a b", "n": 2}),
    (COMPLETIONS, STREAM | SEEDED | {"prompt": "c", "logprobs": 3}),
    (COMPLETIONS, LONG | {"prompt": "a b c " * 40, "temperature": 0, "prompt_logprobs": 1}),
    (COMPLETIONS, STREAM | SEEDED | {"prompt": "d", "stop": ["qqqq", "zzz"]}),
    (CHATS, STREAM | SEEDED | {"messages": [{"role": "user", "content": "a b"}], "logprobs": True,
                               "top_logprobs": 2}),
    (CHATS, {"messages": [{"role": "user", "content": "a"}], "temperature": 0, "stream": True,
             "max_tokens": 300, "response_format": SCHEMA}),
]


def gather(text, is_stream):
    """What was answered, by choice, without what names the request and its moment."""
    text = text.replace(b": recovering\n\n", b"")  # a comment, where it takes seconds
    parts = events(text) if is_stream else [json.loads(text)]
    choices = {}
    for part in parts:
        assert "error" not in part, part
        for choice in part["choices"]:
            said = choice.get("delta") or choice.get("message") or {}
            whole = choices.setdefault(choice["index"], {"text": "", "tokens": [], "logprobs": []})
            whole["text"] += choice.get("text") or said.get("content") or ""
            whole["tokens"] += choice.get("token_ids") or []
            whole["prompt"] = choice.get("prompt_logprobs") or whole.get("prompt")
            whole["end"] = choice.get("finish_reason") or whole.get("end")
            logprobs = choice.get("logprobs") or {}
            whole["logprobs"] += logprobs.get("content") or logprobs.get("token_logprobs") or []
    return choices


class Client(threading.Thread):
    """Asks for the same until it is told that it was enough."""

    def __init__(self, test, path, body):
        super().__init__(daemon=True)
        self.test, self.path, self.body = test, path, body
        self.answers, self.fault = [], None

    def ask(self):
        with contextlib.closing(self.test.server.connect()) as connection:
            connection.request("POST", self.path, json.dumps(self.body),
                               {"Content-Type": "application/json"})
            response = connection.getresponse()
            text = b""
            while line := response.readline():
                text += line
                self.test.heard()
            assert response.status == 200, text
            return gather(text, self.body.get("stream"))

    def run(self):
        try:
            while not self.answers or not self.test.is_enough:
                self.answers.append(self.ask())
        except Exception as fault:  # of any kind: the test tells it
            self.fault = fault


class Recovery(unittest.TestCase):
    def setUp(self):
        self.changed = threading.Condition()
        self.n_heard, self.is_enough = 0, False
        self.killed = set()

    def heard(self):
        with self.changed:
            self.n_heard += 1
            self.changed.notify_all()

    def wait_heard(self, clients, n):
        """So many lines more of any answers: time as the server has it."""
        with self.changed:
            wanted = self.n_heard + n
            come = self.changed.wait_for(
                lambda: self.n_heard >= wanted or any(one.fault for one in clients), DEADLINE_S)
            self.assertTrue(come, f"nothing more comes: {self.server.text().decode()}")

    def ranks(self):
        """Process ids of the ranks that live now."""
        tasks = pathlib.Path(f"/proc/{self.server.process.pid}/task").iterdir()
        return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.server.process.pid}/fd"))

    def wait_at_most(self, what, wanted):
        end = time.monotonic() + DEADLINE_S
        while what() > wanted:
            self.assertLess(time.monotonic(), end, f"{what()}, not {wanted}")
            time.sleep(0.01)

    def resident_kib(self):
        text = pathlib.Path(f"/proc/{self.server.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", text).group(1))

    def kill_until(self, n_kills, random, clients):
        while len(self.killed) < n_kills and not any(one.fault for one in clients):
            self.wait_heard(clients, random.randrange(1, 80))
            for _ in range(random.choice((1, 1, 1, 2))):  # sometimes another at once
                victims = [pid for pid in self.ranks() if pid not in self.killed]
                if victims:
                    victim = random.choice(victims)
                    with contextlib.suppress(ProcessLookupError):  # the server was first
                        os.kill(victim, signal.SIGKILL)
                        self.killed.add(victim)

    def kill_whatever_comes(self, n_kills, clients):
        """Each as soon as it is there: none gets to compute anything."""
        self.wait_heard(clients, 20)
        end = time.monotonic() + DEADLINE_S
        for _ in range(n_kills):
            while not (victims := [pid for pid in self.ranks() if pid not in self.killed]):
                self.assertLess(time.monotonic(), end)
                time.sleep(0.001)
            with contextlib.suppress(ProcessLookupError):
                os.kill(victims[-1], signal.SIGKILL)
            self.killed.add(victims[-1])

    def status(self):
        return json.loads(self.server.ask("GET", "/v1/fault_tolerance/status")[2])["engines"][0]

    def disturb(self, random):
        clients = [Client(self, path, body) for path, body in MIXED]
        expected = [client.ask() for client in clients]
        n_ranks, n_descriptors = len(self.ranks()), self.descriptors()
        for client in clients:
            client.start()
        self.kill_whatever_comes(N_IN_A_ROW, clients)
        self.wait_heard(clients, 1)  # late, but it comes
        self.killed.clear()
        self.kill_until(N_KILLS // 2, random, clients)
        half_kib = self.resident_kib()
        self.kill_until(N_KILLS, random, clients)
        if IS_SOAK:
            self.assertLess(self.resident_kib(), half_kib + MOST_GROWTH_KIB)
        self.is_enough = True
        for client in clients:
            client.join(DEADLINE_S)
            self.assertFalse(client.is_alive(), f"{client.body} hangs")
            self.assertIsNone(client.fault, f"{client.body}: {self.server.text().decode()}")
        for client, answer in zip(clients, expected):
            for other in client.answers:
                self.assertEqual(other, answer, client.body)
        self.wait_at_most(self.descriptors, n_descriptors)
        self.wait_at_most(lambda: len(self.ranks()), n_ranks)
        status = self.status()
        self.assertEqual(status["status"], "healthy")
        self.assertGreaterEqual(status["recovery"]["deaths"], len(self.killed))

    def test_killed_ranks_cost_no_request_and_no_byte(self):
        for layout in LAYOUTS:
            self.setUp()
            with self.subTest(layout), Server(*layout, *PATIENT) as self.server:
                self.disturb(Random(SEED))
                self.server.close()


if __name__ == "__main__":
    unittest.main()
