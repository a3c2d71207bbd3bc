#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`cohort bench serve` against a real server: vLLM's layout and keys, right arithmetic.

usage: bench_serve_test.py [record VLLM]     record: keeps what VLLM bench serve sends instead
"""
import contextlib
import http.client
import http.server
import json
import math
import os
import pathlib
import pty
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import unittest

from served import COHORT, DEADLINE_S, MODEL, SOURCE, Server

RECORDED = SOURCE / "tests/golden/vllm_bench"
METRICS = "ttft,tpot,itl,e2el,client_queue_time,e2el_including_client_queue"
SHAPE = ("--model", str(MODEL), "--served-model-name", "tiny", "--random-input-len", "24",
         "--random-output-len", "6")


def bench(*words):
    return subprocess.run([str(COHORT), "bench", "serve", *map(str, words)], text=True,
                          capture_output=True, timeout=DEADLINE_S, stdin=subprocess.DEVNULL)


# What is asked of a data set, and of both clients.
FILES = [[*words, "--disable-shuffle", "--no-oversample"] for words in (
    ("sharegpt", "--num-prompts", "50"),
    ("sharegpt", "--num-prompts", "3", "--sharegpt-output-len", "2"),
    ("sharegpt", "--num-prompts", "4", "--output-len", "3", "--ignore-eos"),
    ("custom", "--num-prompts", "0", "--custom-output-len", "-1"),
    ("custom", "--num-prompts", "3", "--skip-chat-template", "--trust-remote-code",
     "--tokenizer-mode", "auto", "--output-len", "5", "--temperature", "0"),
    ("custom", "--num-prompts", "2", "--chat-template-kwargs", '{"thinking": true}',
     "--custom-output-len", "4", "--extra-body", '{"min_tokens": 1}'),
    ("custom", "--num-prompts", "2", "--backend", "openai-chat", "--endpoint",
     "/v1/chat/completions", "--custom-output-len", "4"),
    ("custom", "--num-prompts", "4", "--skip-tokenizer-init"))]


def file_words(words):
    path = RECORDED / {"sharegpt": "sharegpt.json", "custom": "custom.jsonl"}[words[0]]
    return ["--dataset-name", words[0], "--dataset-path", str(path), *words[1:]]


class Recorder:
    """Stands between a client and a server, and keeps the bodies by their requests' numbers."""

    def __init__(self, port):
        recorder, self.bodies = self, {}

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                self.do_POST()

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                if self.headers["x-request-id"]:
                    number = int(self.headers["x-request-id"].rsplit("-", 1)[1])
                    recorder.bodies[number] = json.loads(body)
                with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as link:
                    link.request(self.command, self.path, body,
                                 {"Content-Type": "application/json"})
                    answer = link.getresponse()
                    data = answer.read()
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.headers["Content-Type"])
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def take(self):
        """What came since, in the order of the numbers."""
        bodies, self.bodies = self.bodies, {}
        return [bodies[number] for number in sorted(bodies)]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def record(vllm):
    """Needs vLLM; see tests/golden/vllm_bench/README.md."""
    with Server("--served-model-name", "tiny") as server, contextlib.closing(
            Recorder(server.port)) as recorder:
        kept = []
        for words in FILES:
            subprocess.run([vllm, "bench", "serve", "--base-url", recorder.url, *SHAPE[:4],
                            *file_words(words)], check=True, stdin=subprocess.DEVNULL)
            kept.append({"words": words, "bodies": recorder.take()})
        (RECORDED / "requests.json").write_text(json.dumps(kept, indent=1) + "\n")


def layout(text):
    """The table without its numbers."""
    table = text[text.index("=" * 12):]
    return re.sub(r"[0-9.]+ *$", "N", table, flags=re.M).splitlines()


def percentile(values, p):
    values = sorted(values)
    at = p / 100 * (len(values) - 1)
    low = math.floor(at)
    high = min(low + 1, len(values) - 1)
    return values[low] + (at - low) * (values[high] - values[low])


class BenchServe(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.server = Server("--served-model-name", "tiny")
        cls.url = f"http://127.0.0.1:{cls.server.port}"

    @classmethod
    def tearDownClass(cls):
        cls.server.close()
        cls.folder.cleanup()

    def measure(self, *words):
        """Standard output, and what was saved."""
        done = bench("--base-url", self.url, *SHAPE, "--save-result", "--result-dir",
                     self.folder.name, "--result-filename", "out.json", *words)
        self.assertEqual(done.returncode, 0, done.stderr + done.stdout)
        return done.stdout, json.loads((pathlib.Path(self.folder.name) / "out.json").read_text())

    def test_layout_and_keys_are_those_of_vllm(self):
        text, ours = self.measure(
            "--base-url", self.url + "/", "--num-prompts", 4, "--max-concurrency", 2,
            "--request-rate", 20, "--seed", 1,
            "--temperature", 0, "--percentile-metrics", METRICS, "--metric-percentiles",
            "50,99,99.9", "--num-warmups", 2, "--goodput", "ttft:100000",
            "--ready-check-timeout-sec", 30, "--metadata", "who=me", "--save-detailed")
        self.assertEqual(layout(text), layout((RECORDED / "result.txt").read_text()))
        vllm = json.loads((RECORDED / "result.json").read_text())
        self.assertEqual(list(ours), list(vllm))
        self.assertEqual([type(value) for value in ours.values()],
                         [type(value) for value in vllm.values()])

    def test_figures_follow_from_the_requests(self):
        _, of = self.measure("--num-prompts", 9, "--temperature", 0, "--save-detailed",
                             "--percentile-metrics", METRICS, "--metric-percentiles", "10,75")
        self.assertEqual((of["completed"], of["failed"], of["request_rate"]), (9, 0, "inf"))
        self.assertTrue(all(20 <= n <= 28 for n in of["input_lens"]))  # texts, encoded again
        self.assertEqual(of["output_lens"], [6] * 9)
        self.assertEqual([len(itl) for itl in of["itls"]], [5] * 9)
        tpots = [(latency - ttft) / 5 for latency, ttft in zip(of["latencies"], of["ttfts"])]
        itls = [value for itl in of["itls"] for value in itl]
        for name, values in (("ttft", of["ttfts"]), ("tpot", tpots), ("itl", itls),
                             ("e2el", of["latencies"])):
            self.assertAlmostEqual(of[f"mean_{name}_ms"], statistics.fmean(values) * 1e3)
            self.assertAlmostEqual(of[f"median_{name}_ms"], statistics.median(values) * 1e3)
            self.assertAlmostEqual(of[f"std_{name}_ms"], statistics.pstdev(values) * 1e3)
            for p in (10, 75):
                self.assertAlmostEqual(of[f"p{p}_{name}_ms"], percentile(values, p) * 1e3)
        self.assertAlmostEqual(of["output_throughput"] * of["duration"], 54)
        self.assertAlmostEqual(of["total_token_throughput"] * of["duration"], 54 + sum(of["input_lens"]))
        self.assertAlmostEqual(of["request_throughput"] * of["duration"], 9)
        self.assertNotIn("p99_ttft_ms", of)

    def test_concurrency_and_rate_are_kept(self):
        _, of = self.measure("--num-prompts", 12, "--max-concurrency", 3, "--save-detailed")
        spans = [(start, start + latency)
                 for start, latency in zip(of["start_times"], of["latencies"])]
        for start, _ in spans:
            self.assertLessEqual(sum(a <= start < b - 1e-6 for a, b in spans), 3)
        for burstiness in ("1", "0.3", "inf"):
            _, of = self.measure("--num-prompts", 10, "--request-rate", 40, "--burstiness",
                                 burstiness, "--save-detailed")
            self.assertGreater(of["duration"], 10 / 40)  # the last is due then
            self.assertEqual(of["completed"], 10)

    def test_rate_ramps_up(self):
        for strategy in ("linear", "exponential"):
            text, of = self.measure("--num-prompts", 12, "--ramp-up-strategy", strategy,
                                    "--ramp-up-start-rps", 20, "--ramp-up-end-rps", 40,
                                    "--burstiness", "inf", "--save-detailed")
            self.assertIn(f"Traffic ramp-up strategy: {strategy}.\nWill increase RPS from 20 to "
                          "40 RPS", text)
            self.assertEqual((of["ramp_up_strategy"], of["ramp_up_start_rps"],
                              of["ramp_up_end_rps"]), (strategy, 20, 40))
            self.assertEqual([one["rps"] for one in of["rps_change_events"]], [*range(20, 41)])
            rates = [20 + 20 * i / 11 if strategy == "linear" else 20 * 2 ** (i / 11)
                     for i in range(12)]
            self.assertGreater(of["duration"], sum(1 / rate for rate in rates))
        for words in (("--ramp-up-strategy", "square"), ("--ramp-up-strategy", "linear"),
                      ("--ramp-up-strategy", "linear", "--ramp-up-start-rps", "2",
                       "--ramp-up-end-rps", "1")):
            self.assertEqual(bench("--base-url", self.url, *SHAPE, *words).returncode, 2)

    def test_seed_decides_the_prompts(self):
        words = ("--num-prompts", 3, "--temperature", 0, "--save-detailed",
                 "--random-range-ratio", 0.5)
        first, again, other = (self.measure(*words, "--seed", seed)[1] for seed in (5, 5, 6))
        self.assertEqual(first["generated_texts"], again["generated_texts"])
        self.assertEqual(first["input_lens"], again["input_lens"])
        self.assertNotEqual(first["generated_texts"], other["generated_texts"])
        self.assertTrue(all(12 <= n <= 36 for n in first["input_lens"] + other["input_lens"]))

    def test_what_files_have_is_asked_as_vllm_asks_it(self):
        kept = json.loads((RECORDED / "requests.json").read_text())
        self.assertEqual([one["words"] for one in kept], FILES)
        with contextlib.closing(Recorder(self.server.port)) as recorder:
            for one in kept:
                done = bench("--base-url", recorder.url, *SHAPE[:4], *file_words(one["words"]))
                self.assertEqual(done.returncode, 0, done.stderr + done.stdout)
                for ours, vllm in zip(recorder.take(), one["bodies"], strict=True):
                    ours["model"] = vllm["model"]
                    self.assertEqual(ours, vllm, one["words"])

    def test_files_are_shuffled_and_drawn_from_again_by_the_seed(self):
        def asked(*words):
            with contextlib.closing(Recorder(self.server.port)) as recorder:
                done = bench("--base-url", recorder.url, *SHAPE[:4], *file_words(words),
                             "--output-len", 1)
                self.assertEqual(done.returncode, 0, done.stderr + done.stdout)
                return [body["prompt"] for body in recorder.take()]
        fixed = asked("sharegpt", "--num-prompts", "50", "--disable-shuffle", "--no-oversample")
        first, again, other = (asked("sharegpt", "--num-prompts", "20", "--seed", seed)
                               for seed in ("3", "3", "4"))
        self.assertEqual(first, again)
        self.assertNotEqual(first, other)
        self.assertEqual(sorted(first[:len(fixed)]), sorted(fixed))  # each once, then drawn
        self.assertNotEqual(first[:len(fixed)], fixed)
        self.assertEqual((len(first), set(first)), (20, set(fixed)))

    def test_beginnings_are_repeated(self):
        words = ("--dataset-name", "prefix_repetition", "--num-prompts", 13,
                 "--prefix-repetition-num-prefixes", 3, "--prefix-repetition-prefix-len", 40,
                 "--prefix-repetition-suffix-len", 9, "--prefix-repetition-output-len", 2)
        with contextlib.closing(Recorder(self.server.port)) as recorder:
            hits = float(self.hits())
            done = bench("--base-url", recorder.url, *SHAPE[:4], *words, "--disable-shuffle",
                         "--max-concurrency", 1)
            self.assertEqual(done.returncode, 0, done.stderr + done.stdout)
            # Of the 13, four behind each beginning: three find two full blocks of it each.
            self.assertGreaterEqual(float(self.hits()) - hits, 3 * 3 * 32)
            in_order = recorder.take()
            self.assertEqual([body["max_tokens"] for body in in_order], [2] * 12)
            self.assertNotIn("ignore_eos", in_order[0])
            starts = [os.path.commonprefix([body["prompt"] for body in in_order[i:i + 4]])
                      for i in (0, 4, 8)]
            self.assertTrue(all(len(start) > 40 for start in starts), starts)
            self.assertEqual(len({body["prompt"] for body in in_order}), 12)
            self.assertEqual(len({start[:20] for start in starts}), 3)
            bench("--base-url", recorder.url, *SHAPE[:4], *words)
            shuffled = recorder.take()
        self.assertNotEqual(shuffled, in_order)
        self.assertCountEqual([body["prompt"] for body in shuffled],
                              [body["prompt"] for body in in_order])

    def hits(self):
        text = self.server.ask("GET", "/metrics")[2].decode()
        return re.search(r"^vllm:prefix_cache_hits_total\S* (\S+)$", text, re.M).group(1)

    def test_lengths_may_have_ratios_of_their_own(self):
        _, of = self.measure("--num-prompts", 12, "--save-detailed", "--random-range-ratio",
                             '{"input": 0, "output": 0.9}')
        self.assertTrue(all(20 <= n <= 28 for n in of["input_lens"]))
        self.assertTrue(all(1 <= n <= 12 for n in of["output_lens"]))
        self.assertGreater(len(set(of["output_lens"])), 2)

    def test_a_terminal_sees_how_far_it_is(self):
        main, far = pty.openpty()
        with subprocess.Popen([str(COHORT), "bench", "serve", "--base-url", self.url, *SHAPE,
                               "--num-prompts", "3", "--max-concurrency", "1"],
                              stdout=subprocess.DEVNULL, stderr=far) as process:
            os.close(far)
            shown = b""
            with contextlib.suppress(OSError):  # its end
                while piece := os.read(main, 4096):
                    shown += piece
            self.assertEqual(process.wait(DEADLINE_S), 0)
        os.close(main)
        self.assertEqual(shown, b"\r0/3\r1/3\r2/3\r3/3\r\n")

    def test_results_are_appended_and_named_as_vllm_names_them(self):
        name = pathlib.Path(self.folder.name) / "lines.json"
        for _ in range(2):
            bench("--base-url", self.url, *SHAPE, "--num-prompts", 1, "--append-result",
                  "--result-filename", name)
        self.assertEqual([json.loads(line)["completed"] for line in name.read_text().split("\n")],
                         [1, 1])
        folder = pathlib.Path(self.folder.name) / "new"
        bench("--base-url", self.url, *SHAPE, "--num-prompts", 1, "--save-result", "--result-dir",
              folder, "--max-concurrency", 2)
        self.assertRegex(os.listdir(folder)[0],
                         r"^openai-infqps-concurrency2-llama-bfloat16-\d{8}-\d{6}\.json$")

    def test_failures_are_counted_and_shown(self):
        done = bench("--base-url", self.url, *SHAPE, "--num-prompts", 2, "--extra-body",
                     '{"max_tokens": 1000000}')
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stdout, r"Error 1: Bad Request .*max_tokens=1000000")
        self.assertRegex(done.stdout, r"Failed requests: +2 ")
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        done = bench("--port", port, *SHAPE, "--num-prompts", 2)
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"Failed to connect to 127.0.0.1 port {port}", done.stdout)

    def test_wrong_words_are_refused(self):
        for words, said in ((("--dataset-name", "hf"), "prefix_repetition, sharegpt or custom"),
                            (("--dataset-name", "sharegpt"), "need --dataset-path"),
                            (("--dataset-path", "x"), "needs --dataset-name"),
                            (("--dataset-name", "custom", "--dataset-path", "/no/file"),
                             "cannot read --dataset-path /no/file: No such file"),
                            (file_words(["sharegpt", "--skip-tokenizer-init"]), "only"),
                            (("--dataset-name", "prefix_repetition", "--num-prompts", "3"),
                             "is less than"),
                            (("--tokenizer-mode", "slow"), "auto or hf"),
                            (("--random-range-ratio", "1"), "under 1"),
                            (file_words(["custom", "--chat-template-kwargs", "[]"]), "object"),
                            (("--lora-modules", "a"), "unknown option '--lora-modules'"),
                            (("--backend", "tgi"), "openai-chat"),
                            (("--goodput", "ttft=3"), "ttft:MS"),
                            (("--metric-percentiles", "101"), "from 0 to 100"),
                            (("--endpoint", "/generate"), "completions"),
                            (("--extra-body", "[1]"), "JSON object")):
            done = bench("--base-url", self.url, *SHAPE, *words)
            self.assertEqual(done.returncode, 2)
            self.assertIn(said, done.stderr)
        for text, said in (('{"prompt": "a"}\n{"prompt": 3}\n', "entry 2: it has no \"prompt\""),
                           ('{"prompt": "a"}\n{\n', "line 2: it is no JSON"),
                           ('[{"prompt": "a"}', "line 1: the list that begins here is no JSON"),
                           ("\n \r\n", "has no prompts"),
                           ('{"prompt": "a"}', "entry 1: it has no \"output_tokens\"")):
            path = pathlib.Path(self.folder.name) / "file"
            path.write_text(text)
            done = bench("--base-url", self.url, *SHAPE, "--dataset-name", "custom",
                         "--dataset-path", path, "--custom-output-len", "-1",
                         *(() if "tokens" in said else ("--output-len", "1")))
            self.assertEqual(done.returncode, 2, said)
            self.assertIn(said, done.stderr)
        with Server("--api-key", "secret") as locked:
            done = bench("--port", locked.port)
        self.assertEqual(done.returncode, 1)
        self.assertIn("/v1/models: Unauthorized; OPENAI_API_KEY brings a key", done.stderr)
        done = bench("--port", "1")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, "/v1/models: Failed to connect .*; is it a server")
        done = bench("--base-url", self.url, "--model", "nowhere")
        self.assertEqual(done.returncode, 2)
        self.assertIn("--tokenizer 'nowhere', no directory here", done.stderr)


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "record":
        record(sys.argv[2])
    else:
        unittest.main()
