#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How requests end when a worker or the server does."""
import contextlib
import json
import os
import pathlib
import select
import signal
import socket
import tempfile
import threading
import time
import unittest

from served import (CHATS, CHAT_TEMPLATE, COMPLETIONS, DEADLINE_S, ENDLESS, MORTAL, SANITIZED,
                    STAYS, Server, events)

# Some milliseconds at the best of times, of which a busy machine has one in three.
AT_ONCE_S = 20 if SANITIZED else 2
MESSAGES = [{"role": "user", "content": "a b"}]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": {
    "type": "array", "items": {"type": "integer"}, "minItems": 2000}}}
LONG = {"max_tokens": 1900, "n": 4, "ignore_eos": True}
# 22 sequences, of 32 at a time; and more than there is room for.
RUNNING = [(path, LONG | what | more)
           for path, what in ((COMPLETIONS, {"prompt": "a b"}), (CHATS, {"messages": MESSAGES}))
           for more in ({"stream": True}, {}, {"n": 1, "stream": True})] + [
               (CHATS, LONG | {"messages": MESSAGES, "response_format": SCHEMA, "stream": True})]
WAITING = [(COMPLETIONS, ENDLESS | {"stream": True}), (COMPLETIONS, ENDLESS),
           (COMPLETIONS, LONG | {"prompt": ["a", "b"], "stream": True}),
           (COMPLETIONS, LONG | {"prompt": "a"}),
           (CHATS, LONG | {"messages": MESSAGES, "stream": True}),
           (CHATS, LONG | {"messages": MESSAGES})]


class Request(threading.Thread):
    """One request, and all of its answer."""

    def __init__(self, server, path, body):
        super().__init__(daemon=True)
        self.server, self.path, self.body = server, path, body
        self.begun = threading.Event()
        self.status, self.text = None, b""

    def run(self):
        with contextlib.closing(self.server.connect()) as connection:
            connection.request("POST", self.path, json.dumps(self.body),
                               {"Content-Type": "application/json"})
            response = connection.getresponse()
            self.status = response.status
            while line := response.readline():
                self.text += line
                if b'"text"' in line or b'"content"' in line:
                    self.begun.set()

    def wait_begun(self):
        """Until it was told a token, where it is told any before the end."""
        if self.body.get("stream"):
            assert self.begun.wait(DEADLINE_S), self.text

    def wait(self):
        self.join(DEADLINE_S)
        assert not self.is_alive(), f"{self.body} hangs"
        return self.status, self.text


class Endings(unittest.TestCase):
    def test_a_killed_worker_ends_every_request_and_is_named(self):
        noticed_s = []
        for ranks, victim in ((("-tp", "2"), 1), (("-pp", "2"), 0),
                              (("-tp", "2", "-pp", "2"), 3)):
            with self.subTest(ranks), Server(
                    *ranks, STAYS, *MORTAL, "--max-num-seqs", "32", "--chat-template",
                    CHAT_TEMPLATE) as server:
                workers = server.workers()
                running = [Request(server, path, body) for path, body in RUNNING]
                with server.frozen():  # so that all of them are in one batch
                    for request in running:
                        request.start()
                    server.wait_load(len(running))
                for request in running:
                    request.wait_begun()
                waiting = [Request(server, path, body) for path, body in WAITING]
                with server.frozen():  # or those that run might end before it
                    for request in waiting:
                        request.start()
                    server.wait_load(len(running + waiting))
                    self.assertEqual(server.ask("GET", "/health")[0], 200)
                    os.kill(workers[victim], signal.SIGKILL)
                    killed = time.monotonic()
                while server.ask("GET", "/health")[0] != 503:
                    self.assertLess(time.monotonic(), killed + DEADLINE_S)
                noticed_s.append(time.monotonic() - killed)
                for request in running + waiting:
                    self.check_ended(request, f"rank {victim}", request in running)
                self.check_refusals(server, f"rank {victim}")
                self.assertEqual(server.load(), 0)
                told = server.ask("GET", "/metrics")[2].decode()
                for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"):
                    self.assertRegex(told, rf"\nvllm:{name}\{{[^\n]*}} 0(\.0)?\n")
                self.assertEqual(server.stop(), 1)
                self.assertIn(f"rank {victim}", server.text().decode())
                for pid in workers:
                    self.assertRaises(ProcessLookupError, os.kill, pid, 0)
        self.assertLess(min(noticed_s), AT_ONCE_S)

    def check_ended(self, request, rank, has_run):
        """With a 500 where nothing was sent before, else with an event."""
        status, text = request.wait()
        if request.body.get("stream") and (has_run or status != 500):
            self.assertEqual(status, 200, text)
            *said, last = events(text)
            for chunk in said:
                for choice in chunk["choices"]:
                    self.assertIsNone(choice["finish_reason"])
        else:
            self.assertEqual(status, 500, text)
            last = json.loads(text)
        self.assertEqual(last["error"]["code"], 500)
        self.assertIn(rank, last["error"]["message"])
        self.assertIn("signal 9", last["error"]["message"])

    def check_refusals(self, server, rank):
        for method, path, body in (("GET", "/health", None), ("GET", "/ping", None),
                                   ("GET", "/v1/models", None),
                                   ("POST", COMPLETIONS, {"prompt": "a"}),
                                   ("POST", CHATS, {"messages": MESSAGES, "stream": True})):
            status, _, text = server.ask(method, path, body)
            self.assertEqual(status, 503)
            self.assertIn(rank, text.decode())

    def test_a_worker_killed_while_idle_is_noticed(self):
        with Server("-tp", "2", *MORTAL, VLLM_KEEP_ALIVE_ON_ENGINE_DEATH="1") as server:
            server.complete(prompt="a", max_tokens=2)
            os.kill(server.workers()[0], signal.SIGKILL)
            end = time.monotonic() + DEADLINE_S
            while server.ask("GET", "/health")[0] != 503:
                self.assertLess(time.monotonic(), end)
            self.assertEqual(server.stop(), 1)

    def test_a_dead_engine_ends_the_server(self):
        """Once who waits was told; also where nobody asks for anything."""
        with Server("-tp", "2", *MORTAL, "--max-num-seqs", "32") as server:
            running = [Request(server, COMPLETIONS, LONG | {"prompt": "a b"} | more)
                       for more in ({"stream": True}, {})]
            for request in running:
                request.start()
            for request in running:
                request.wait_begun()
            server.wait_load(len(running))
            os.kill(server.workers()[1], signal.SIGKILL)
            for request in running:
                self.check_ended(request, "rank 1", True)
            self.check_failed(server)
        with Server("-tp", "2", *MORTAL, VLLM_KEEP_ALIVE_ON_ENGINE_DEATH="0") as server:
            os.kill(server.workers()[1], signal.SIGKILL)
            self.check_failed(server)
        with Server("-tp", "2", *MORTAL, "--no-keep-alive-on-engine-death",
                    VLLM_KEEP_ALIVE_ON_ENGINE_DEATH="1") as server:
            os.kill(server.workers()[1], signal.SIGKILL)
            self.check_failed(server)

    def check_failed(self, server):
        workers = server.workers()
        self.assertEqual(server.wait(), 1)
        self.assertRegex(server.text().decode(), r"\ncohort: serving: [^\n]*rank 1[^\n]*\n")
        for pid in workers:
            self.assertRaises(ProcessLookupError, os.kill, pid, 0)

    def test_a_supervisor_hears_signs_of_life_while_the_engine_lives(self):
        with tempfile.TemporaryDirectory() as home, socket.socket(
                socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
            supervisor.bind(f"{home}/notify")
            supervisor.settimeout(DEADLINE_S)
            asks = {"NOTIFY_SOCKET": f"{home}/notify", "WATCHDOG_USEC": "20000"}
            with Server("-tp", "2", STAYS, *MORTAL, **asks) as server:
                self.assertEqual(supervisor.recv(100), b"READY=1")
                for _ in range(5):
                    self.assertEqual(supervisor.recv(100), b"WATCHDOG=1")
                os.kill(server.workers()[0], signal.SIGKILL)
                while server.ask("GET", "/health")[0] != 503:
                    pass
                supervisor.settimeout(0.5)
                with self.assertRaises(TimeoutError):  # what was on the way, and no more
                    for _ in range(100):
                        supervisor.recv(100)
                supervisor.settimeout(DEADLINE_S)
                self.assertEqual(server.stop(), 1)
                self.assertEqual(supervisor.recv(100), b"STOPPING=1")
            asks["WATCHDOG_PID"] = "1"  # another's
            with Server("-tp", "2", *MORTAL, **asks) as server:
                self.assertEqual(supervisor.recv(100), b"READY=1")
                os.kill(server.workers()[0], signal.SIGKILL)
                self.assertEqual(supervisor.recv(100), b"STOPPING=1")
                self.assertEqual(server.wait(), 1)

    def test_sigterm_lets_running_requests_finish(self):
        body = {"prompt": "a b", "max_tokens": 30, "n": 40, "stream": True, "ignore_eos": True}
        with Server("--distributed-executor-backend", "mp") as server:
            with server.frozen():  # eight run, the others wait
                connection = server.connect()
                connection.request("POST", COMPLETIONS, json.dumps(body),
                                   {"Content-Type": "application/json"})
                server.wait_load(1)
                server.process.send_signal(signal.SIGTERM)
                end = time.monotonic() + DEADLINE_S
                while server.ask("GET", "/health")[0] != 503:
                    self.assertLess(time.monotonic(), end)
                status, _, text = server.ask("POST", COMPLETIONS, {"prompt": "a"})
                self.assertEqual(status, 503, text)
            chunks = events(connection.getresponse().read())
            connection.close()
            ends = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
            self.assertEqual((ends.count("length"), len(ends)), (40, 40 * 30))
            self.assertEqual(server.wait(), 0)

    def test_what_is_read_in_a_queue_is_answered_before_the_end(self):
        body = b'{"prompt":"%s"}' % (b"a bc " * 8000000)  # takes longer than last answers have
        with Server() as server:
            readers = [task for task in pathlib.Path(f"/proc/{server.process.pid}/task").iterdir()
                      if (task / "comm").read_text(encoding="ascii") == "cohort-requests\n"]
            self.assertEqual(len(readers), 2)

            def has_begun():  # ticks that it has run
                return any(int((task / "stat").read_text().rsplit(")", 1)[1].split()[11])
                           for task in readers)
            with contextlib.closing(server.connect()) as connection:
                connection.request("POST", "/tokenize", body, {"Content-Type": "application/json"})
                end = time.monotonic() + DEADLINE_S
                while not has_begun():
                    self.assertLess(time.monotonic(), end)
                    time.sleep(0.01)
                server.process.send_signal(signal.SIGTERM)
                answer = connection.getresponse()
                self.assertEqual(answer.status, 200, answer.read(1000))
            self.assertEqual(server.wait(), 0)

    def test_what_is_read_in_a_queue_ends_with_the_drain(self):
        """It would go on for a second or more; nothing of that passes between our look and the signal."""
        body = b'{"prompt":"%s"}' % (b"a bc " * 5000000)
        with Server("--drain-timeout", "0") as server, contextlib.ExitStack() as stack:
            readers = [task for task in pathlib.Path(f"/proc/{server.process.pid}/task").iterdir()
                       if (task / "comm").read_text(encoding="ascii") == "cohort-requests\n"]

            def ticks():
                return sum(int((task / "stat").read_text().rsplit(")", 1)[1].split()[11]) for task in readers)
            answered = True
            while answered:  # a busy machine may let us see it when it is over
                before, end = ticks(), time.monotonic() + DEADLINE_S
                connection = stack.enter_context(contextlib.closing(server.connect()))
                connection.request("POST", "/tokenize", body, {"Content-Type": "application/json"})
                while ticks() == before:
                    self.assertLess(time.monotonic(), end)
                    time.sleep(0.01)
                server.process.send_signal(signal.SIGSTOP)
                os.waitpid(server.process.pid, os.WUNTRACED)
                answered = select.select([connection.sock], [], [], 0)[0]
                if not answered:
                    server.process.send_signal(signal.SIGTERM)
                server.process.send_signal(signal.SIGCONT)
            answer = connection.getresponse()
            self.assertEqual(answer.status, 503, answer.read(1000))
            self.assertEqual(server.wait(), 0)

    def test_a_second_signal_ends_what_is_running(self):
        with Server() as server:
            requests = self.start_endless(server)
            server.process.send_signal(signal.SIGTERM)
            server.wait_for(b"Shutting down")
            server.process.send_signal(signal.SIGINT)
            self.check_shut_down(server, requests)

    def test_the_end_of_the_grace_period_ends_what_is_running(self):
        with Server("--drain-timeout", "0.7") as server:
            requests = self.start_endless(server)
            told = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            self.check_shut_down(server, requests)
            self.assertGreaterEqual(time.monotonic() - told, 0.7)

    def start_endless(self, server):
        requests = [Request(server, COMPLETIONS, ENDLESS | {"stream": True}),
                    Request(server, COMPLETIONS, ENDLESS)]
        requests[0].start()
        requests[0].wait_begun()
        requests[1].start()  # waits
        server.wait_load(2)
        return requests

    def check_shut_down(self, server, requests):
        stream, whole = [request.wait() for request in requests]
        self.assertEqual((stream[0], whole[0]), (200, 503))
        for answer in (events(stream[1])[-1], json.loads(whole[1])):
            self.assertIn("shutting down", answer["error"]["message"])
        self.assertEqual(server.wait(), 0)


if __name__ == "__main__":
    unittest.main()
