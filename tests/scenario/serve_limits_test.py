#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What clients can make the server hold: bytes, files, and requests of hosts that vanished."""
import contextlib
import json
import pathlib
import re
import resource
import select
import socket
import subprocess
import tempfile
import time
import unittest

from served import (CHATS, CHAT_TEMPLATE, COHORT, COMPLETIONS, DEADLINE_S, ENDLESS, MODEL, SANITIZED,
                    Server, events, metrics)

TCP_REPAIR = 19


class Limits(unittest.TestCase):
    def test_what_a_body_parses_into_has_a_bound(self):
        """A value takes two bytes of a body, and at most 160 of memory; none stays counted."""
        with Server("--max-body-bytes", "1MB", "--max-held-bytes", "4MiB") as server:
            def peak_bytes():
                status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
                return int(status.split("VmHWM:")[1].split()[0]) * 1024
            server.complete(prompt="a", max_tokens=1)
            before, n = peak_bytes(), 450000
            for path in (COMPLETIONS, CHATS, "/tokenize"):
                for field in ("prompt", "tools", "documents", "unknown"):
                    body = f'{{"{field}":[{"1," * (n - 1)}1]}}'.encode()
                    status, _, text = server.ask("POST", path, body)
                    self.assertEqual((status, b"error" in text), (400, True),
                                     (path, field, text[:200]))
            if not SANITIZED:
                self.assertLess(peak_bytes() - before, 160 * n + (16 << 20))
            for _ in range(20):
                self.assertEqual(server.ask("POST", "/tokenize", {
                    "prompt": "a", "unknown": [1] * 100000})[0], 200)
            server.complete(prompt="a", max_tokens=1)
            self.assertEqual(server.stop(), 0)

    def test_bodies_together_have_a_bound(self):
        body = json.dumps({"prompt": "a" * 900000}).encode()
        head = (b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body))
        with Server("--max-body-bytes", "1MB", "--max-held-bytes", "4MiB") as server:
            clients = []
            for _ in range(12):
                clients.append(socket.create_connection(("127.0.0.1", server.port), DEADLINE_S))
                clients[-1].sendall(head + body[:-1])
                server.complete(prompt="a", max_tokens=1)  # what is small may always come
            answers = []
            for client in clients:
                with client:
                    client.sendall(body[-1:])
                    answers.append(b"".join(iter(lambda: client.recv(4096), b"")))
            held = [text for text in answers if b"--max-held-bytes" in text]
            self.assertTrue(all(text.startswith(b"HTTP/1.1 503") for text in held))
            self.assertIn(len(held), range(4, 12))
            for text in answers:
                if text not in held:
                    self.assertTrue(text.startswith(b"HTTP/1.1 400"), text)  # it is too long
            self.assertEqual(server.ask("POST", COMPLETIONS, body,
                                        {"Content-Type": "application/json"})[0], 400)
            self.assertEqual(server.stop(), 0)

    def test_bodies_of_strangers_are_not_kept(self):
        """Nor those that nobody reads: they cannot fill what others may have."""
        size = 900000
        mine = {"Authorization": "Bearer secret", "Content-Type": "application/json"}
        with Server("--max-body-bytes", "1MB", "--max-held-bytes", "4MiB", "--api-key",
                    "secret") as server, contextlib.ExitStack() as stack:
            clients = []
            for line, status in (("POST /v1/completions", 401), ("POST /nowhere", 404),
                                 ("PUT /health", 405), ("POST /ping", 200)):
                for _ in range(6):
                    client = stack.enter_context(
                        socket.create_connection(("127.0.0.1", server.port), DEADLINE_S))
                    client.sendall(b"%s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                                   b"Content-Length: %d\r\n\r\n" % (line.encode(), size))
                    client.sendall(b" " * (size - 1))
                    clients.append((client, status))
            body = json.dumps({"prompt": "a" * size})
            for _ in range(3):  # it is too long
                self.assertEqual(server.ask("POST", COMPLETIONS, body, mine)[0], 400)
            for client, status in clients:
                client.sendall(b" ")
                answer = b"".join(iter(lambda c=client: c.recv(4096), b""))
                self.assertTrue(answer.startswith(b"HTTP/1.1 %d" % status), answer)
            client = stack.enter_context(
                socket.create_connection(("127.0.0.1", server.port), DEADLINE_S))
            client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\n"
                           b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % size)
            self.assertTrue(client.recv(4096).startswith(b"HTTP/1.1 401"))
            self.assertEqual(server.stop(), 0)

    def test_bodies_leave_room_for_answers(self):
        head = (b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
        with Server("--max-body-bytes", "1MB", "--max-held-bytes", "4MiB") as server:
            with contextlib.ExitStack() as stack:
                for _ in range(60):
                    client = stack.enter_context(
                        socket.create_connection(("127.0.0.1", server.port), DEADLINE_S))
                    client.sendall(head + b" " * 99999)
                    server.ask("GET", "/version")
                long = server.complete(prompt="a", logprobs=20, max_tokens=700, ignore_eos=True)
                self.assertGreater(len(json.dumps(long)), 200000)
            self.assertEqual(server.stop(), 0)

    def test_a_body_that_comes_alone_has_a_bound_of_values(self):
        """It is let in whatever --max-held-bytes says; a value takes many times its two bytes."""
        with Server() as server:
            for n, status in ((1 << 20, 200), (5 << 20, 413)):
                body = b'{"prompt":"a","max_tokens":1,"x":[' + b"1," * n + b"1]}"
                got, _, text = server.ask("POST", COMPLETIONS, body)
                self.assertEqual(got, status, text[:300])
            self.assertIn(b"values", text)
            peak = re.search(r"VmHWM:\s+(\d+) kB", pathlib.Path(f"/proc/{server.process.pid}/status").read_text())
            self.assertLess(int(peak.group(1)), (3200 if SANITIZED else 320) << 10)
            self.assertEqual(server.stop(), 0)

    def test_what_requests_keep_has_a_bound(self):
        """Not only their bodies: prompts as token ids are larger than what they were sent as."""
        body = {"prompt": [[5] * 1000] * 100, "max_tokens": 1}  # of 800 kB
        with Server("--max-body-bytes", "1MB", "--max-held-bytes", "4MiB") as server, \
                contextlib.ExitStack() as stack:
            ahead, _ = server.begin(**ENDLESS, stream=True)
            clients = [stack.enter_context(contextlib.closing(ahead))]
            answer = None
            while not answer:
                clients.append(stack.enter_context(contextlib.closing(server.connect())))
                clients[-1].request("POST", COMPLETIONS, json.dumps(body),
                                    {"Content-Type": "application/json"})
                end = time.monotonic() + DEADLINE_S
                while not answer and server.load() < len(clients):
                    self.assertLess(time.monotonic(), end)
                    if select.select([clients[-1].sock], [], [], 0.01)[0]:
                        answer = clients[-1].getresponse()
                self.assertLess(len(clients), 20)
            self.assertEqual((answer.status, b"--max-held-bytes" in answer.read()), (503, True))
            self.assertGreater(len(clients), 3)
            small, _, _ = server.ask("POST", COMPLETIONS, {"prompt": "a", "top_p": 7})
            self.assertEqual(small, 400)  # what is small may always come
            stack.close()
            server.wait_load(0)
            self.assertEqual(server.ask("POST", COMPLETIONS, body)[0], 200)
            self.assertEqual(server.stop(), 0)

    def test_answers_that_are_kept_have_a_bound(self):
        body = {"prompt": "a", "n": 8, "logprobs": 20, "max_tokens": 1500, "ignore_eos": True}
        with Server("--max-body-bytes", "64kB", "--max-held-bytes", "2MiB") as server:
            status, _, text = server.ask("POST", COMPLETIONS, body)
            self.assertEqual((status, b"--max-held-bytes" in text), (503, True), text[:200])
            server.wait_load(0)
            small = server.complete(prompt="a", n=2, logprobs=20, max_tokens=20, ignore_eos=True)
            self.assertEqual(len(small["choices"][1]["logprobs"]["tokens"]), 20)
            status, _, text = server.ask("POST", COMPLETIONS, body | {"stream": True})
            self.assertEqual((status, len(events(text))), (200, 8 * 1500))
            self.assertEqual(server.stop(), 0)

    def test_a_large_part_of_a_stream_is_not_taken_for_one_that_nobody_reads(self):
        with Server("--max-body-bytes", "64kB", "--max-held-bytes", "1MiB") as server:
            for max_tokens in 1, 50:
                status, _, text = server.ask("POST", COMPLETIONS, {
                    "prompt": [5] * 1900, "echo": True, "logprobs": 20, "stream": True,
                    "max_tokens": max_tokens, "ignore_eos": True})
                chunks = events(text)  # whole
                self.assertEqual((status, len(chunks)), (200, max_tokens))
                self.assertEqual(len(chunks[0]["choices"][0]["logprobs"]["tokens"]), 1901)
            self.assertEqual(server.stop(), 0)

    def test_what_every_choice_repeats_is_counted_or_sent(self):
        """A megabyte that the server has once."""
        body = {"prompt": [5] * 1900, "echo": True, "logprobs": 20, "max_tokens": 1,
                "ignore_eos": True}
        with Server("--max-num-seqs", "40", "--max-body-bytes", "64kB", "--max-held-bytes",
                    "32MiB") as server:
            status, _, text = server.ask("POST", COMPLETIONS, body | {"n": 40})
            self.assertEqual((status, b"--max-held-bytes" in text), (503, True), text[:200])
            self.assertEqual(len(server.complete(**body | {"n": 2})["choices"]), 2)
            self.assertEqual(server.stop(), 0)
        with Server("--max-num-seqs", "40") as server:
            for more in {}, {"stream": True}:
                status, _, text = server.ask("POST", COMPLETIONS, body | more | {"n": 40})
                self.assertEqual((status, len(text) > 16 << 20), (200, True))
            self.assertEqual(len(events(text)), 40)
            self.assertEqual(server.stop(), 0)

    @unittest.skipIf(SANITIZED, "memory is measured without sanitizers, which keep what is freed")
    def test_requests_that_wait_keep_no_more_than_they_need(self):
        """Neither the body, nor what nobody asked for, nor a copy of the prompt a choice."""
        def resident():
            return metrics(server)[0]["process_resident_memory_bytes"][""]

        def n_taken():  # by the engine, ended or not
            found = metrics(server)[0]
            return sum(sum(found[f"vllm:{name}"].values()) for name in (
                "num_requests_running", "num_requests_waiting", "request_success_total"))
        text, few = "x" * 3000000, {"prompt": "a", "max_tokens": 9}
        chat = {"messages": [{"role": "user", "content": "a", "unknown": text}],
                "documents": [{"text": text}], "chat_template_kwargs": {"a": text}, "tool_choice": "none",
                "tools": [{"type": "function", "function": {"name": text}}], "max_tokens": 9}
        bodies = [few | {"unknown": text * 3}, few | {"prompt": [5] * 2000, "n": 1000}, chat,
                  few | {"prompt": "a b " * 500000, "truncate_prompt_tokens": 9}]
        with Server("--chat-template", CHAT_TEMPLATE) as server:
            ahead, _ = server.begin(**ENDLESS, stream=True)
            clients, wanted = [], ENDLESS["n"]
            for body in bodies:
                before = resident()
                for _ in range(16):
                    clients.append(server.connect())
                    clients[-1].request("POST", CHATS if "messages" in body else COMPLETIONS,
                                        json.dumps(body), {"Content-Type": "application/json"})
                    server.wait_load(len(clients) + 1)
                    wanted += body.get("n", 1)
                end = time.monotonic() + DEADLINE_S
                while n_taken() < wanted:
                    self.assertLess(time.monotonic(), end)
                    time.sleep(0.01)
                # Of 128 MB and more; the allocator keeps some of what was freed.
                self.assertLess(resident() - before, 60e6)
            for client in [ahead, *clients]:
                client.sock.shutdown(socket.SHUT_RDWR)
                client.close()
            server.wait_load(0)
            self.assertEqual(server.stop(), 0)

    def test_a_host_that_vanished_is_noticed(self):
        with Server("--idle-timeout", "2") as server, contextlib.ExitStack() as stack:
            client = stack.enter_context(
                socket.create_connection(("127.0.0.1", server.port), DEADLINE_S))
            body = json.dumps(ENDLESS).encode()
            client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application"
                           b"/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            server.wait_load(1)
            try:
                client.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
            except PermissionError:
                self.skipTest("only root can vanish without a word")
            client.close()
            server.wait_load(0)
            self.assertEqual(server.stop(), 0)

    def test_files_are_as_many_as_connections_want(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
        try:
            server = Server("--max-connections", "600")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        with server:
            clients = [socket.create_connection(("127.0.0.1", server.port), DEADLINE_S)
                       for _ in range(400)]
            for client in clients:
                client.sendall(b"GET /ping HTTP/1.1\r\nHost: a\r\n\r\n")
            for client in clients:
                self.assertTrue(client.recv(100).startswith(b"HTTP/1.1 200"))
            self.assertGreaterEqual(metrics(server)[0]["process_max_fds"][""], 600)
            for client in clients:
                client.close()
            self.assertEqual(server.stop(), 0)

    def test_connections_are_no_more_than_files(self):
        with tempfile.TemporaryDirectory() as home:
            command = ["prlimit", "--nofile=120:120", str(COHORT), "serve", str(MODEL), "--uds",
                       f"{home}/s", "--kv-cache-memory-bytes", "4MiB", "--max-model-len", "64",
                       "--distributed-executor-backend", "uni"]
            with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
                try:
                    lines = []
                    while not lines or b"Starting" not in lines[-1]:
                        lines.append(process.stderr.readline())
                        self.assertTrue(lines[-1], lines)
                    text = b"".join(lines).decode()
                    found = re.search(r"WARNING: --max-connections 4096 .*at most (\d+)", text)
                    self.assertTrue(found, text)
                    self.assertIn(int(found.group(1)), range(1, 120))
                    clients = []
                    for _ in range(int(found.group(1))):
                        clients.append(socket.socket(socket.AF_UNIX))
                        clients[-1].settimeout(DEADLINE_S)
                        clients[-1].connect(f"{home}/s")
                    for client in clients:
                        client.sendall(b"GET /ping HTTP/1.1\r\nHost: a\r\n\r\n")
                    for client in clients:
                        self.assertTrue(client.recv(100).startswith(b"HTTP/1.1 200"))
                        client.close()
                    process.terminate()
                    self.assertEqual(process.wait(DEADLINE_S), 0)
                finally:
                    process.kill()


if __name__ == "__main__":
    unittest.main()
