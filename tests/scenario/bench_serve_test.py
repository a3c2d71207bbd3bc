#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`cohort bench serve` against a real server: vLLM's layout and keys, right arithmetic."""
import json
import math
import os
import pathlib
import re
import socket
import statistics
import subprocess
import tempfile
import unittest

from serve_test import COHORT, DEADLINE_S, MODEL, SOURCE, Server

RECORDED = SOURCE / "tests/golden/vllm_bench"
METRICS = "ttft,tpot,itl,e2el,client_queue_time,e2el_including_client_queue"
SHAPE = ("--model", str(MODEL), "--served-model-name", "tiny", "--random-input-len", "24",
         "--random-output-len", "6")


def bench(*words):
    return subprocess.run([str(COHORT), "bench", "serve", *map(str, words)], text=True,
                          capture_output=True, timeout=DEADLINE_S, stdin=subprocess.DEVNULL)


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
        cls.server.stop()
        cls.server.__exit__()
        cls.folder.cleanup()

    def measure(self, *words):
        """Standard output, and what was saved."""
        done = bench("--base-url", self.url, *SHAPE, "--save-result", "--result-dir",
                     self.folder.name, "--result-filename", "out.json", *words)
        self.assertEqual(done.returncode, 0, done.stderr + done.stdout)
        return done.stdout, json.loads((pathlib.Path(self.folder.name) / "out.json").read_text())

    def test_layout_and_keys_are_those_of_vllm(self):
        text, ours = self.measure(
            "--num-prompts", 4, "--max-concurrency", 2, "--request-rate", 20, "--seed", 1,
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
        for words, said in ((("--dataset-name", "sharegpt"), "random"),
                            (("--backend", "tgi"), "openai-chat"),
                            (("--goodput", "ttft=3"), "ttft:MS"),
                            (("--metric-percentiles", "101"), "from 0 to 100"),
                            (("--endpoint", "/generate"), "completions"),
                            (("--extra-body", "[1]"), "JSON object")):
            done = bench("--base-url", self.url, *SHAPE, *words)
            self.assertEqual(done.returncode, 2)
            self.assertIn(said, done.stderr)
        done = bench("--base-url", self.url, "--model", "nowhere")
        self.assertEqual(done.returncode, 2)
        self.assertIn("--tokenizer 'nowhere', no directory here", done.stderr)


if __name__ == "__main__":
    unittest.main()
