#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Requests that wait: in which order they come, and how they end when nobody serves them."""
import contextlib
import json
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import tempfile
import time
import unittest

from served import (CHAT_TEMPLATE, CHATS, COMPLETIONS, DEADLINE_S, ENDLESS, MODEL, MORTAL,
                    STAYS, Server, events, metrics)

# Runs until its steps are used up, 0.15 s or so, on a thread for what takes long.
BURNING = {"messages": [{"role": "user", "content": "a"}], "chat_template":
           "{% set words = ('a ' * 9999).split() %}"
           "{% for i in range(9999) %}{{ 'b' in words }}{% endfor %}"}
# Takes a second and more there, unless its client leaves.
HOLDING = {"messages": [{"role": "user", "content": "a"}], "chat_template": "{{ 'a bc ' * 6000000 }}",
           "truncate_prompt_tokens": 9, "max_tokens": 1}
# Stands in line behind them.
LATE = {"prompt": "a", "max_tokens": 1, "structured_outputs": {"regex": "[a-z]*"}}
TRUSTING = ("--chat-template", CHAT_TEMPLATE, "--trust-request-chat-template")
# Takes longer to compile than a short answer to come, whatever becomes of it.
HEAVY = {"type": "string", "pattern": "^(" + "|".join(
    f"({chr(97 + i)}{{1,40}}[0-9a-z]?){{1,40}}" for i in range(12)) + ")$"}


def send(server, path, body):
    """A connection on which a request was sent whole."""
    body = body if isinstance(body, str) else json.dumps(body)
    client = socket.create_connection(("127.0.0.1", server.port), DEADLINE_S)
    client.sendall(b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                   b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" %
                   (path.encode(), len(body), body.encode()))
    return client


def burn(server):
    """A connection whose request stands in line, and is served for a while."""
    client = send(server, CHATS, BURNING)
    assert server.ask("GET", "/version")[0] == 200  # so the first was read
    return client


@contextlib.contextmanager
def held_line(server):
    """Nobody's turn comes meanwhile: ahead is what takes half a minute, and leaves in the end."""
    with contextlib.ExitStack() as stack:
        for _ in range(30):
            stack.enter_context(send(server, CHATS, HOLDING))
        assert server.ask("GET", "/version")[0] == 200  # so all were read
        yield


def answer(client):
    """Status and body, up to the end of the connection."""
    with client:
        text = b"".join(iter(lambda: client.recv(1 << 16), b""))
    head, body = text.split(b"\r\n\r\n", 1)
    return int(head.split()[1]), body


def cpu_s(server):
    return metrics(server)[0]["process_cpu_seconds_total"][""]


class Order(unittest.TestCase):
    def test_the_smaller_priority_comes_first(self):
        with Server("--scheduling-policy", "priority", "--max-num-seqs", "1",
                    "--distributed-executor-backend", "mp") as server:
            clients = {}
            # The first runs until all are there, and in more steps than are sent ahead: else
            # its place is given to the second.
            with server.frozen():
                for priority, max_tokens in ((-9, 5), (5, 100), (0, 100), (-1, 100)):
                    client = send(server, COMPLETIONS, {
                        "prompt": "a", "priority": priority, "max_tokens": max_tokens,
                        "ignore_eos": True})
                    clients[client.getsockname()[1]] = priority, client
                    server.wait_load(len(clients))
            for _, client in clients.values():
                self.assertEqual(answer(client)[0], 200)
            self.assertEqual(server.stop(), 0)
            # The server's own word: a busy machine may wake us when several have ended.
            ports = re.findall(rb':(\d+) - "POST /v1/completions', server.text())
            self.assertEqual([clients[int(port)][0] for port in ports], [-9, -1, 0, 5])

    def test_a_priority_without_the_policy_changes_nothing(self):
        with Server() as server:
            status, _, text = server.ask("POST", COMPLETIONS, {"prompt": "a", "priority": 1})
            self.assertEqual(status, 200, text)
            self.assertEqual(server.stop(), 0)


class Line(unittest.TestCase):
    """What takes long stands in line, and stops nobody."""

    def check_beside(self, server, path, body):
        first = burn(server)
        client = send(server, path, body)
        self.assertEqual(server.ask("GET", "/version")[0], 200)
        ready = select.select([first, client], [], [], DEADLINE_S)[0]
        self.assertIn(first, ready, "it did not stand in line")
        self.assertEqual(answer(first)[0], 400)
        status, text = answer(client)
        self.assertIn(status, (200, 400), text[:300])

    def test_what_is_compiled_stops_nobody(self):
        messages = [{"role": "user", "content": "a"}]
        tool = {"type": "function", "function": {"name": "f", "parameters": HEAVY, "strict": True}}
        chosen = {"type": "function", "function": {"name": "f"}}
        schema = {"type": "json_schema", "json_schema": {"name": "f", "schema": HEAVY}}
        with Server(*TRUSTING, "--enable-auto-tool-choice",
                    "--tool-call-parser", "hermes") as server:
            self.assertEqual(server.complete(prompt="a", max_tokens=1)["object"],
                             "text_completion")
            for choice in ("required", chosen):
                self.check_beside(server, CHATS, {"messages": messages, "tools": [tool],
                                                  "tool_choice": choice, "max_tokens": 1})
            hidden = json.dumps({"prompt": "a", "response_format": schema, "max_tokens": 1})
            hidden = hidden.replace("response_format", r"response\u005fformat")
            self.check_beside(server, COMPLETIONS, hidden)
            self.assertEqual(server.stop(), 0)

    def test_who_left_is_passed_over_and_the_line_takes_all(self):
        with Server(*TRUSTING) as server:
            before = cpu_s(server)
            self.assertEqual(answer(burn(server))[0], 400)
            cost = cpu_s(server) - before
            with held_line(server):
                ahead = [burn(server) for _ in range(5)]
                gone = [burn(server) for _ in range(8)]
                for client in gone:
                    client.close()
                late = send(server, COMPLETIONS, LATE)
            before = cpu_s(server)
            self.assertEqual(answer(late)[0], 200)
            self.assertEqual([answer(client)[0] for client in ahead], [400] * 5)
            self.assertLess(cpu_s(server) - before, 10 * cost)
            ahead = [burn(server) for _ in range(4)]
            clients = [send(server, COMPLETIONS, LATE) for _ in range(300)]
            self.assertEqual({answer(client)[0] for client in clients}, {200})
            self.assertEqual([answer(client)[0] for client in ahead], [400] * 4)
            self.assertEqual(answer(send(server, COMPLETIONS, LATE))[0], 200)
            self.assertEqual(server.stop(), 0)

    def test_who_stands_in_line_at_the_end_is_told(self):
        with Server(*TRUSTING) as server:
            with held_line(server):
                late = [send(server, path, body) for path, body in
                        ((CHATS, BURNING), (COMPLETIONS, LATE), ("/tokenize", BURNING))]
                self.assertEqual(server.ask("GET", "/version")[0], 200)
                server.process.send_signal(signal.SIGTERM)
                for client in late:
                    status, text = answer(client)
                    self.assertEqual((status, b"shutting down" in text), (503, True), text[:300])
            self.assertEqual(server.wait(), 0)


class Ends(unittest.TestCase):
    def test_a_death_is_told_to_whoever_waits(self):
        chat = {"messages": [{"role": "user", "content": "a"}], "n": 3, "max_tokens": 1500,
                "ignore_eos": True}
        plain = {"prompt": "a", "max_tokens": 9}
        for ranks in (("-tp", "2"), ("-pp", "2")):
            with self.subTest(ranks), Server(*ranks, STAYS, *MORTAL, *TRUSTING) as server, \
                    contextlib.ExitStack() as line:
                # The first takes all places, and as good as for ever.
                streams = [(CHATS, chat | {"stream": True, "n": 1000}),
                           (COMPLETIONS, ENDLESS | {"stream": True}),
                           (COMPLETIONS, plain | {"stream": True})]
                wholes = [(CHATS, chat), (COMPLETIONS, ENDLESS), (COMPLETIONS, plain)]
                clients = [send(server, *streams[0])]
                self.await_tokens(server)
                with server.frozen():  # nobody's answer outgrows its limit meanwhile
                    for path, body in streams[1:] + wholes:
                        clients.append(send(server, path, body))
                        server.wait_load(len(clients))
                        if body.get("stream"):
                            clients[-1].recv(1, socket.MSG_PEEK)  # it has begun
                    line.enter_context(held_line(server))
                    late = [send(server, CHATS, BURNING), send(server, COMPLETIONS, LATE)]
                    self.assertEqual(server.ask("GET", "/version")[0], 200)
                    os.kill(server.workers()[1], signal.SIGKILL)
                answers = [answer(client) for client in clients]
                for status, text in answers[:len(streams)]:
                    self.assertEqual(status, 200, text[:300])
                    text = text[text.rindex(b"data: {"):]  # in one chunk with what follows
                    self.assertIn(b"rank 1", text.split(b"\n\n")[0])
                    self.assertIn(b"data: [DONE]", text)
                for status, text in answers[len(streams):]:
                    self.assertEqual((status, b"rank 1" in text), (500, True), text[:300])
                for status, text in map(answer, late):
                    self.assertEqual((status, b"rank 1" in text), (503, True), text[:300])
                line.close()
                server.wait_load(0)
                self.assertEqual(server.stop(), 1)

    def await_tokens(self, server):
        end = time.monotonic() + DEADLINE_S
        while not sum(metrics(server)[0]["vllm:generation_tokens_total"].values()):
            self.assertLess(time.monotonic(), end)

    def test_a_part_of_what_was_demanded_is_no_answer(self):
        """The token that ends the thoughts goes on with what no answer begins with."""
        with tempfile.TemporaryDirectory() as home:
            model = pathlib.Path(home) / "model"
            shutil.copytree(MODEL, model)
            file = model / "tokenizer.json"
            tokenizer = json.loads(file.read_text().replace("<|im_start|>", "</think>oops"))
            for token in tokenizer["added_tokens"]:
                token["special"] = token["special"] and token["content"] != "</think>oops"
            file.write_text(json.dumps(tokenizer))
            body = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 20,
                    "logit_bias": {"1": 100}, "response_format": {"type": "json_object"}}
            with Server("--chat-template", CHAT_TEMPLATE, "--reasoning-parser", "qwen3",
                        model=model) as server:
                status, _, text = server.ask("POST", CHATS, body | {"n": 2})
                self.assertEqual(status, 500, text)
                self.assertIn("no token could go on", json.loads(text)["error"]["message"])
                status, _, text = server.ask("POST", CHATS, body | {"stream": True})
                self.assertEqual(status, 200, text)
                last = events(text)[-1]
                self.assertIn("no token could go on", last["error"]["message"])
                self.assertNotIn(b'"finish_reason":"stop"', text)
                endings = metrics(server)[0]["vllm:request_success_total"]
                counts = {label: value for label, value in endings.items() if "error" in label}
                self.assertEqual(sum(counts.values()), 3, endings)
                server.complete(prompt="a", max_tokens=3)
                self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    unittest.main()
