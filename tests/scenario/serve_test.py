#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a client sees of `cohort serve`."""
import contextlib
import json
import os
import pathlib
import re
import socket
import subprocess
import time
import unittest

from served import COHORT, COMPLETIONS, DEADLINE_S, ENDLESS, SANITIZED, Server, events, generate, together


class Shared(unittest.TestCase):
    """Tests that leave their server as it was."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server("--served-model-name", "tiny", "other", "--max-body-bytes", "1MB")

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    def test_stat_tells_what_is_served_and_where(self):
        listed = subprocess.run([COHORT, "stat"], capture_output=True, text=True, timeout=DEADLINE_S,
                                env=os.environ | {"XDG_RUNTIME_DIR": self.server.home.name})
        self.assertIn(f", serves tiny at http://127.0.0.1:{self.server.port}\n", listed.stdout)

    def test_greedy_text_is_that_of_generate_alone_and_together(self):
        lines = [{"prompt": "a bc d " * (1 + 7 * i), "max_tokens": 8 + 5 * i} for i in range(12)]
        wanted = generate(lines)
        alone = [self.server.complete(temperature=0, **line) for line in lines]
        self.assertEqual([one["choices"][0]["text"] for one in alone], wanted)
        self.assertEqual([one["text"] for one in together(self.server, lines)], wanted)

    def test_prompts_of_one_request_are_answered_in_order(self):
        prompts = ["a b", "d e f", "a b"]
        answer = self.server.complete(prompt=prompts, temperature=0, max_tokens=6)
        wanted = generate([{"prompt": prompt, "max_tokens": 6} for prompt in prompts])
        self.assertEqual([one["text"] for one in answer["choices"]], wanted)
        self.assertEqual([one["index"] for one in answer["choices"]], [0, 1, 2])

    def test_pieces_of_a_stream_make_the_whole_answer(self):
        body = {"prompt": "a b", "temperature": 1, "seed": 4, "max_tokens": 40, "n": 3,
                "logprobs": 2, "return_token_ids": True, "ignore_eos": True}
        whole = self.server.complete(**body)
        status, headers, text = self.server.ask("POST", COMPLETIONS, body | {
            "stream": True, "stream_options": {"include_usage": True}})
        self.assertEqual((status, headers["Transfer-Encoding"]), (200, "chunked"))
        chunks = events(text)
        self.assertEqual(chunks[-1]["usage"]["completion_tokens"], 120)
        self.assertEqual(chunks[-1]["choices"], [])
        for choice in whole["choices"]:
            parts = [chunk["choices"][0] for chunk in chunks[:-1]
                     if chunk["choices"][0]["index"] == choice["index"]]
            self.assertEqual("".join(part["text"] for part in parts), choice["text"])
            self.assertEqual(sum((part["token_ids"] for part in parts), []), choice["token_ids"])
            self.assertEqual([part["finish_reason"] for part in parts],
                             [None] * 39 + [choice["finish_reason"]])
            for name, values in choice["logprobs"].items():
                self.assertEqual(sum((part["logprobs"][name] for part in parts), []), values)

    def test_stop_strings_end_a_text_and_are_named(self):
        whole = self.server.complete(prompt="a", temperature=0, max_tokens=24)
        text = whole["choices"][0]["text"]
        stop = text[5:8]
        cut = self.server.complete(prompt="a", temperature=0, max_tokens=24, stop=["~~~", stop])
        choice = cut["choices"][0]
        self.assertEqual((choice["text"], choice["finish_reason"], choice["stop_reason"]),
                         (text[:text.index(stop)], "stop", stop))

    def test_tokens_come_back_as_the_text_they_were(self):
        _, _, text = self.server.ask("POST", "/tokenize",
                                     {"prompt": "ab é\n1", "return_token_strs": True})
        tokens = json.loads(text)
        self.assertEqual("".join(tokens["token_strs"]), "abĠÃ©Ċ1")
        _, _, text = self.server.ask("POST", "/detokenize", {"tokens": tokens["tokens"]})
        self.assertEqual(json.loads(text), {"prompt": "ab é\n1"})

    def test_a_client_that_leaves_ends_its_request(self):
        for stream in (True, False):
            connection = self.server.connect()
            connection.request("POST", COMPLETIONS, json.dumps(ENDLESS | {"stream": stream}),
                               {"Content-Type": "application/json"})
            self.server.wait_load(1)
            if stream:
                connection.getresponse().readline()
            connection.sock.shutdown(socket.SHUT_RDWR)
            connection.close()
            self.server.wait_load(0)
            self.server.complete(prompt="a", max_tokens=2)

    def test_a_connection_serves_many_requests(self):
        with contextlib.closing(self.server.connect()) as connection:
            for i in range(20):
                body = json.dumps({"prompt": "a", "max_tokens": 1 + i % 3, "stream": i % 2 == 0})
                connection.request("POST", COMPLETIONS, body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                self.assertEqual(response.status, 200)
                response.read()

    def test_a_slow_sender_does_not_stop_others(self):
        with socket.create_connection(("127.0.0.1", self.server.port), DEADLINE_S) as slow:
            slow.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n")
            self.server.complete(prompt="a", max_tokens=2)
            slow.sendall(b"Content-Type: application/json\r\n\r\n{")
            self.server.complete(prompt="a", max_tokens=2)

    def test_a_body_over_the_limit_gets_413(self):
        status, _, text = self.server.ask("POST", COMPLETIONS, {"prompt": "a" * 1100000})
        self.assertEqual((status, json.loads(text)["error"]["code"]), (413, 413))
        self.server.complete(prompt="a", max_tokens=1)

    def test_unknown_methods_and_paths_are_refused(self):
        for method, path, status in (("PUT", "/health", 405), ("DELETE", COMPLETIONS, 405),
                                     ("GET", "/v1/", 404), ("GET", "//health", 404)):
            self.assertEqual(self.server.ask(method, path)[0], status, path)

    def test_every_answer_is_logged_with_who_asked(self):
        self.server.ask("GET", "/version?a=1")
        self.server.ask("GET", "/a%0a%22b")
        self.server.wait_for(rb'127\.0\.0\.1:\d+ - "GET /version HTTP/1\.1" 200 \(')
        self.server.wait_for(rb'"GET /a\\x0a\?b HTTP/1\.1" 404 \(')

    def test_the_page_asks_nobody_else(self):
        status, headers, page = self.server.ask("GET", "/")
        self.assertEqual((status, headers["Content-Type"]), (200, "text/html; charset=utf-8"))
        self.assertIn("default-src 'none'", headers["Content-Security-Policy"])
        self.assertEqual(set(re.findall(rb"https?://[^/\"]*", page)), {b"http://www.w3.org"})
        self.assertNotRegex(page, rb"(?i)<(link|img|iframe)|src=|@import|innerHTML")

    def test_status_tells_what_each_rank_does(self):
        def look():
            return json.loads(self.server.ask("GET", "/cohort/status")[2])
        before = look()
        self.server.complete(prompt="a b", max_tokens=7, ignore_eos=True)
        end = time.monotonic() + DEADLINE_S
        while look()["generation_tokens"] < before["generation_tokens"] + 7:
            self.assertLess(time.monotonic(), end)
        after = look()
        self.assertEqual((after["state"], after["failure"], after["tp"] * after["pp"]),
                         ("ok", None, len(after["ranks"])))
        self.assertGreater(after["now_s"], before["now_s"])
        self.assertGreater(after["kv"]["bytes"], 0)
        self.assertGreaterEqual(after["kv"]["num_blocks"], after["kv"]["free_blocks"])
        for number, rank in enumerate(after["ranks"]):
            self.assertEqual((rank["rank"], rank["host"]), (number, socket.gethostname()))
            self.assertGreaterEqual(rank["steps"], before["ranks"][number]["steps"] + 7)
            self.assertGreaterEqual(rank["last_step_ms"], 0)
            os.kill(rank["pid"], 0)

    def test_every_thread_has_a_name(self):
        tasks = pathlib.Path(f"/proc/{self.server.process.pid}/task").glob("*/comm")
        names = [task.read_text(encoding="ascii").strip() for task in tasks]
        # The first, as ps shows it, and what a sanitizer starts.
        self.assertLessEqual(names.count("cohort"), 2 if SANITIZED else 1, names)
        for name in ("engine", "http", "monitor", "report", "requests"):
            self.assertIn(f"cohort-{name}", names)

    def test_every_served_name_is_a_model(self):
        for name in ("tiny", "other"):
            self.assertEqual(self.server.complete(model=name, prompt="a", max_tokens=1)["model"],
                             "tiny")
        models = json.loads(self.server.ask("GET", "/v1/models")[2])
        self.assertEqual([model["id"] for model in models["data"]], ["tiny", "other"])


if __name__ == "__main__":
    unittest.main()
