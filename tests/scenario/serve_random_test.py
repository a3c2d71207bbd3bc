#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Anything at all, asked of `cohort serve` on every route: it lives, and keeps nothing of it.

COHORT_REQUESTS (500) requests of random shape and COHORT_MALFORMED (200) that are damaged:
bodies, and heads.  COHORT_SEED (1) decides which.
"""
import collections
import contextlib
import json
import os
import re
import socket
import threading
import time
import unittest
from random import Random

from served import (CHATS, CHAT_TEMPLATE, COMPLETIONS, DEADLINE_S, SANITIZED, Server, events,
                    metrics)

N_REQUESTS = int(os.environ.get("COHORT_REQUESTS", "500"))
N_MALFORMED = int(os.environ.get("COHORT_MALFORMED", "200"))
SEED = int(os.environ.get("COHORT_SEED", "1"))
N_CLIENTS = 8
# Between the two halves of the requests; one with larger texts may come in the second.
MEMORY_SLACK_MIB = 4

# ---- requests of random shape --------------------------------------------------------------

SCHEMA = {"type": "object", "required": ["a"], "additionalProperties": False, "properties": {
    "a": {"type": "integer", "minimum": 0, "maximum": 99}, "b": {"enum": ["x", None, 1.5]}}}
FORMATS = [{"type": "json_object"}, {"type": "text"},
           {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}}]
STRUCTURES = [{"choice": ["a", "bc"]}, {"regex": "[a-z]{2,9}|"}, {"json": SCHEMA},
              {"json": {"type": "array", "items": {"type": "integer"}}}, {"json_object": True}]
TOOLS = [{"type": "function", "function": {"name": name, "parameters": parameters}}
         for name, parameters in (("f", SCHEMA), ("g", {"type": "object"}), ("h", {"not": {}}))]
NAMED = {"type": "function", "function": {"name": "f"}}
TEMPLATES = ["{{ messages[0].content }}",
             "{% for m in messages %}[{{ m.role }}{{ m.content }}]{% endfor %}"]
# What both endpoints know, and what each has beside.
SAMPLING = {
    "temperature": [0, 0.5, 1, 2], "top_p": [0.1, 0.9, 1], "top_k": [-1, 0, 5],
    "min_p": [0, 0.1], "n": [1, 2, 5], "seed": [0, 7, 1 << 60], "stop": ["a", ["e", "12"]],
    "presence_penalty": [1, -2], "frequency_penalty": [0.5], "repetition_penalty": [1.1],
    "stream": [True, False], "ignore_eos": [True], "min_tokens": [1], "stop_token_ids": [[5]],
    "logit_bias": [{"5": 100}], "return_token_ids": [True], "bad_words": [["a", "b c"]],
    "allowed_token_ids": [[5, 9]], "truncate_prompt_tokens": [1, 5, -1],
    "truncation_side": ["left", "right"], "include_stop_str_in_output": [True],
    "response_format": FORMATS, "structured_outputs": STRUCTURES, "skip_special_tokens": [False],
    "add_special_tokens": [False], "priority": [0], "wibble": [{}], "model": ["tiny"],
    "cache_salt": ["a"], "request_id": ["a"], "user": ["a"]}
COMPLETION = SAMPLING | {"logprobs": [0, 5, 20], "echo": [True], "prompt_logprobs": [0, 2]}
CHAT = SAMPLING | {
    "logprobs": [True], "max_completion_tokens": [9], "tools": [TOOLS[:1], TOOLS[:2]],
    "parallel_tool_calls": [False], "add_generation_prompt": [False], "echo": [True],
    "chat_template": TEMPLATES, "include_reasoning": [False], "reasoning_effort": ["low"],
    "chat_template_kwargs": [{"a": 1}]}
TOKENIZE = {"add_special_tokens": [False], "return_token_strs": [True], "model": ["tiny"]}
TOKENIZE_CHAT = TOKENIZE | {"tools": [TOOLS], "chat_template": TEMPLATES,
                            "add_generation_prompt": [False]}
# What is refused, or only where something else is asked for too.
WRONG = {
    "temperature": [3], "top_p": [0], "top_k": [-2], "min_p": [2], "n": [0, 1 << 40],
    "presence_penalty": [3], "repetition_penalty": [0], "min_tokens": [70], "model": ["nobody"],
    "stop_token_ids": [[1 << 40]], "logit_bias": [{"x": 1}], "allowed_token_ids": [[1 << 40], []],
    "truncation_side": ["up"], "response_format": [{"type": "yaml"}, {"type": "json_schema"}],
    "structured_outputs": [{"regex": "("}, {}, {"json": {"not": {}}}, {"grammar": "a"}],
    "priority": [1], "logprobs": [21], "top_logprobs": [21, 3], "suffix": ["a"], "cache_salt": [""],
    "stream_options": [{"include_usage": True}], "max_completion_tokens": [-1], "tools": [TOOLS, []],
    "tool_choice": ["auto", "required", "perhaps", NAMED], "continue_final_message": [True],
    "chat_template": ["{% for m in messages %}", "{{ raise_exception('a') }}", "{{ a.b.c }}"],
    "chat_template_kwargs": [{"chat_template": "a"}], "prompt_logprobs": [2]}


def some(random, choices, most):
    """Up to so many fields with values."""
    chosen = {name: random.choice(choices[name])
              for name in random.sample(sorted(choices), random.randrange(most))}
    if random.randrange(4) == 0:
        name = random.choice(sorted(WRONG))
        chosen[name] = random.choice(WRONG[name])
    if chosen.get("stream") and random.randrange(2):
        chosen["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
    if "tools" in chosen and random.randrange(2):
        chosen["tool_choice"] = random.choice(["none", "auto", "required", NAMED])
    if chosen.get("logprobs") is True:
        chosen["top_logprobs"] = random.randrange(4)
    return chosen


def random_text(random):
    return random.choice(["a", "b c" * random.randrange(1, 200), "",
                          "\u00e9\u4e16" * random.randrange(1, 30)])


def random_messages(random):
    messages = []
    for _ in range(random.randrange(1, 4)):
        text = random_text(random)
        messages.append({
            "role": random.choice(["system", "user", "assistant", "tool", "user"]),
            "content": random.choice([text] * 9 + [[{"type": "text", "text": text}, {"type": "text", "text": "b"}]] * 3 +
                                     [None, [{"type": "image_url"}]])})
        if random.randrange(8) == 0:
            messages[-1]["tool_calls"] = [{"id": "a", "type": "function", "function": {
                "name": "f", "arguments": random.choice(['{"a": 1}', "{}", "{"])}}]
    return messages


def random_request(random):
    """(path, body) that is right more often than not."""
    path = random.choice([COMPLETIONS] * 5 + [CHATS] * 5 + ["/tokenize", "/tokenize",
                                                            "/detokenize"])
    if path == COMPLETIONS:
        prompts = [random_text(random) or "a", [5, 6, 7], ["a", "b"], [[5, 6], [7]]]
        return path, {"prompt": random.choice(prompts), "max_tokens": random.randrange(1, 60),
                      **some(random, COMPLETION, 6)}
    if path == CHATS:
        return path, {"messages": random_messages(random), "max_tokens": random.randrange(1, 60),
                      **some(random, CHAT, 7)}
    if path == "/detokenize":
        return path, {"tokens": [random.randrange(1000) for _ in range(random.randrange(40))] +
                      random.choice([[], [], [], [-1], [1 << 40]])}
    if random.randrange(2):
        return path, {"prompt": random_text(random), **some(random, TOKENIZE, 3)}
    return path, {"messages": random_messages(random), **some(random, TOKENIZE_CHAT, 4)}


# ---- and damaged ones ----------------------------------------------------------------------

def mutate(random, text):
    """Bytes of a request, damaged."""
    damaged = bytearray(text)
    for _ in range(random.randrange(1, 6)):
        at = random.randrange(len(damaged))
        kind = random.randrange(4)
        if kind == 0:
            damaged[at] = random.randrange(256)
        elif kind == 1:
            del damaged[at:at + random.randrange(1, 9)]
        elif kind == 2:
            damaged[at:at] = random.choice([b"[" * 300, b"\0", b'\\u0000', b"1e999", b"\xff", b'"',
                                            b"-0", b"null", b"\\ud800", b"{}", b"\r\n"])
        else:
            damaged[at:at] = damaged[at // 2:at]
        if not damaged:
            damaged += b"{"
    return bytes(damaged)


class Anything(unittest.TestCase):
    def setUp(self):
        self.statuses = collections.Counter()
        self.failures = []

    def check(self, path, body, status, text):
        self.statuses[path, status] += 1
        if status != 200:
            assert status in (400, 404), (path, body, status, text)
            said = json.loads(text)  # what cannot be read at all is told as FastAPI tells it
            unread = list(said) == ["detail"] and status == 400
            assert unread or said["error"]["code"] == status, (path, body, text)
        elif not text.startswith(b"data: "):
            json.loads(text)
        else:
            assert not any("error" in event for event in events(text)), (path, body, text)

    def ask_anything(self, server, random):
        path, body = random_request(random)
        if random.randrange(17) == 0:
            with contextlib.closing(server.connect()) as connection:  # and leaves
                connection.request("POST", path, json.dumps(body | {"stream": True}),
                                   {"Content-Type": "application/json"})
                self.statuses["left", 0] += 1
                return
        status, _, text = server.ask("POST", path, body)
        self.check(path, body, status, text)

    def ask_damaged(self, server, random):
        path, body = random_request(random)
        damaged = mutate(random, json.dumps(body).encode())
        status, _, text = server.ask("POST", path, damaged)
        self.check("damaged", damaged, status, text)

    def damage_http(self, server, random):
        path = random.choice([COMPLETIONS, CHATS, "/tokenize", "/detokenize", "/health"])
        head = (b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                b"Content-Length: 14\r\nConnection: close\r\n\r\n{\"prompt\":\"a\"}" %
                path.encode())
        with socket.create_connection(("127.0.0.1", server.port), DEADLINE_S) as client:
            with contextlib.suppress(ConnectionError):
                client.sendall(mutate(random, head))
                client.shutdown(socket.SHUT_WR)
                answer = client.recv(65536)
                assert not answer or re.match(rb"HTTP/1\.[01] ([1-4]|505 HTTP Version)", answer), answer
        self.statuses["head", 0] += 1

    def run_all(self, server, jobs):
        """By several clients.  What is resident afterwards."""
        def run(mine):
            for ask, number in mine:
                try:
                    ask(server, Random(f"{SEED} {ask.__name__} {number}"))
                except Exception as failure:
                    self.failures.append((ask.__name__, number, repr(failure)))
        threads = [threading.Thread(target=run, args=(jobs[i::N_CLIENTS],))
                   for i in range(N_CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()  # of requests that each have their deadline
        server.wait_load(0)
        return metrics(server)[0]["process_resident_memory_bytes"][""] / 2**20

    def wait_empty(self, server, before):
        """Nothing runs, and no block, no file is held any more."""
        end = time.monotonic() + DEADLINE_S
        while True:
            values = metrics(server)[0]
            left = [sum(values[name].values()) for name in (
                "vllm:kv_cache_usage_perc", "vllm:num_requests_running",
                "vllm:num_requests_waiting")]
            now = self.held(server)
            if left == [0, 0, 0] and now <= before:
                return
            self.assertLess(time.monotonic(), end, (left, now, before))

    @staticmethod
    def held(server):
        """Blocks and files."""
        kv = json.loads(server.ask("GET", "/cohort/status")[2])["kv"]
        return (kv["num_blocks"] - kv["free_blocks"],
                metrics(server)[0]["process_open_fds"][""])

    def test_nothing_stays_of_any_request(self):
        jobs = ([(self.ask_anything, i) for i in range(N_REQUESTS)] +
                [(self.ask_damaged, i) for i in range(N_MALFORMED // 2)] +
                [(self.damage_http, i) for i in range(N_MALFORMED - N_MALFORMED // 2)])
        Random(SEED).shuffle(jobs)
        # So few blocks that some are preempted.
        with Server("--num-gpu-blocks-override", "42", "--max-model-len", "640",
                    "--served-model-name", "tiny", "--chat-template", CHAT_TEMPLATE,
                    "--trust-request-chat-template", "--enable-auto-tool-choice",
                    "--tool-call-parser", "hermes") as server:
            server.complete(prompt="a", max_tokens=2)
            self.wait_empty(server, (0, 1000))
            before = self.held(server)
            half = self.run_all(server, jobs[:len(jobs) // 2])
            whole = self.run_all(server, jobs[len(jobs) // 2:])
            print(f"\n{N_REQUESTS} random and {N_MALFORMED} malformed requests: resident after "
                  f"one half {half:.1f} MiB, after both {whole:.1f} MiB")
            self.assertEqual(self.failures, [], f"COHORT_SEED={SEED}")
            self.assertEqual(sum(self.statuses.values()), N_REQUESTS + N_MALFORMED)
            for path in (COMPLETIONS, CHATS, "/tokenize", "/detokenize"):
                refused = self.statuses[path, 400] + self.statuses[path, 404]
                self.assertGreater(self.statuses[path, 200], refused, self.statuses)
                self.assertGreater(refused, 0, self.statuses)
            if not SANITIZED:  # a sanitizer keeps what was freed
                self.assertLess(whole, half + MEMORY_SLACK_MIB)
            self.wait_empty(server, before)
            self.assertGreater(sum(metrics(server)[0]["vllm:num_preemptions_total"].values()), 0)
            server.complete(prompt="a", max_tokens=2)
            self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    unittest.main()
