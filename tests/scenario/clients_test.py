#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`cohort complete` against a real server, and `cohort run-batch` with a real model."""
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import time
import unittest

from serve_test import COHORT, DEADLINE_S, MODEL, Server, generate

SMALL = ("--kv-cache-memory-bytes", "16MiB", "--max-num-seqs", "8")


def run(*words, stdin="", **variables):
    clean = {k: v for k, v in os.environ.items() if k != "OPENAI_API_KEY"}
    return subprocess.run([str(COHORT), *map(str, words)], input=stdin, text=True,
                          capture_output=True, timeout=DEADLINE_S, env=clean | variables)


class Complete(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--served-model-name", "tiny", "--api-key", "secret")
        cls.url = f"http://127.0.0.1:{cls.server.port}/v1"
        cls.expected = generate([{"prompt": "a b c", "max_tokens": 9},
                                 {"prompt": "hello", "max_tokens": 9}])

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        cls.server.__exit__()

    def complete(self, *words, stdin="", key="secret"):
        return run("complete", "--url", self.url, "--temperature", "0", "--max-tokens", "9",
                   *words, stdin=stdin, OPENAI_API_KEY=key)

    def test_quick_prints_what_generate_does(self):
        done = self.complete("--quick", "a b c")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout, f"Using model: tiny\n{self.expected[0]}\n")
        done = self.complete("-q", "a b c", "--stats", "--api-key", "secret", key="wrong")
        self.assertRegex(done.stdout, r"\nTTFT: +[0-9.]+ ms\nTPS: +[0-9.]+ tokens/s \(9 tokens in")

    def test_each_line_is_a_prompt(self):
        done = self.complete(stdin="a b c\nhello")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout, "Using model: tiny\nPlease enter prompt to complete:\n"
                         f"> {self.expected[0]}\n> {self.expected[1]}\n> \n")

    def test_refusals_are_told_and_cost_one_line(self):
        done = self.complete("-q", "a", key="wrong")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("Unauthorized", done.stderr)
        done = self.complete("--model-name", "other", "-q", "a")
        self.assertEqual(done.returncode, 1)
        self.assertIn("The model `other` does not exist", done.stderr)
        done = self.complete(stdin="x " * 3000 + "\na b c\n")
        self.assertEqual(done.returncode, 1)
        self.assertIn("cohort: Bad Request: ", done.stderr)
        self.assertIn(self.expected[0], done.stdout)
        done = run("complete", "--url", "http://127.0.0.1:1/v1", "-q", "a")
        self.assertEqual(done.returncode, 1)
        self.assertIn("Failed to connect", done.stderr)


class Batch(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.home = pathlib.Path(self.folder.name)
        self.input, self.output = self.home / "in.jsonl", self.home / "out.jsonl"
        os.environ["XDG_RUNTIME_DIR"] = self.folder.name

    def tearDown(self):
        self.folder.cleanup()

    def words(self):
        return ["run-batch", str(MODEL), "-i", str(self.input), "-o", str(self.output),
                "--served-model-name", "tiny", *SMALL]

    def line(self, name, body, url="/v1/completions"):
        return json.dumps({"custom_id": name, "method": "POST", "url": url, "body": body})

    def test_answers_come_in_order_and_are_the_model_s(self):
        bodies = [{"model": "tiny", "prompt": "a b c" * (i % 3 + 1), "max_tokens": 3 + i % 7,
                   "temperature": 0} for i in range(40)]
        self.input.write_text("\n\n".join(self.line(f"n{i}", body)
                                          for i, body in enumerate(bodies)))
        done = run(*self.words())
        self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)
        lines = [json.loads(line) for line in self.output.read_text().splitlines()]
        self.assertEqual([line["custom_id"] for line in lines], [f"n{i}" for i in range(40)])
        texts = [line["response"]["body"]["choices"][0]["text"] for line in lines]
        plain = [{k: v for k, v in body.items() if k != "model"} for body in bodies]
        self.assertEqual(texts, generate(plain))
        self.assertEqual({(line["response"]["status_code"], line["error"]) for line in lines},
                         {(200, None)})
        self.assertEqual(len({line["id"] for line in lines}), 40)
        self.assertRegex(lines[0]["id"], "^vllm-[0-9a-f]{32}$")
        self.assertRegex(lines[0]["response"]["request_id"], "^vllm-batch-[0-9a-f]{32}$")
        self.assertEqual([path.name for path in self.home.iterdir() if path.is_file()],
                         ["in.jsonl", "out.jsonl"])

    def test_refused_requests_do_not_stop_the_others(self):
        self.input.write_text("\n".join((
            self.line("bad", {"model": "tiny", "prompt": "a", "max_tokens": -1}),
            self.line("other", {"model": "other", "prompt": "a"}),
            self.line("nowhere", {}, "/v1/nothing"),
            self.line("stream", {"prompt": "a", "stream": True}),
            '{"body": {"prompt": "}\\"body\\"", "seed": 9007199254740993, "max_tokens": 2}, '
            '"url": "/v1/completions", "method": "POST", "custom_id": "good \\u00e9"}')) + "\n")
        done = run(*self.words())
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = [json.loads(line) for line in self.output.read_text().splitlines()]
        self.assertEqual([line["response"]["status_code"] for line in lines],
                         [400, 404, 404, 400, 200])
        self.assertEqual([line["response"]["body"] for line in lines[:4]], [None] * 4)
        self.assertIn("max_tokens", lines[0]["error"]["error"]["message"])
        self.assertEqual(lines[1]["error"]["error"]["type"], "NotFoundError")
        self.assertEqual(lines[3]["error"], "Request must not be sent in stream mode")
        self.assertEqual(lines[4]["custom_id"], "good \u00e9")

    def test_lines_that_are_no_requests_are_refused_before_anything_runs(self):
        good = self.line("a", {"prompt": "a"})
        for bad, said in (("{", "no JSON"), ("[]", "no JSON object"),
                          ('{"method": "POST"}', "custom_id"),
                          (good.replace("POST", "GET"), "method"),
                          (good.replace("/v1/", "v1/"), "url"),
                          (good.replace('{"prompt": "a"}', "3"), "body")):
            self.input.write_text(f"{good}\n{bad}\n")
            done = run(*self.words())
            self.assertEqual(done.returncode, 2)
            self.assertIn("line 2: ", done.stderr)
            self.assertIn(said, done.stderr)
            self.assertFalse(self.output.exists())

    def test_interrupted_it_leaves_nothing(self):
        self.input.write_text("\n".join(
            self.line(str(i), {"prompt": "a b", "max_tokens": 1900, "n": 100, "ignore_eos": True})
            for i in range(20)))
        part = self.output.with_suffix(".jsonl.part")
        with subprocess.Popen([str(COHORT), *self.words()], stderr=subprocess.PIPE) as process:
            end = time.monotonic() + DEADLINE_S
            while not part.exists():
                self.assertLess(time.monotonic(), end)
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(DEADLINE_S), 128 + signal.SIGTERM)
        self.assertEqual([path.name for path in self.home.rglob("*") if path.is_file()],
                         ["in.jsonl"])


if __name__ == "__main__":
    unittest.main()
