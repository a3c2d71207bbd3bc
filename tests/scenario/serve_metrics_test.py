#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What `cohort serve` counts and logs of its work, under vLLM's names."""
import json
import re
import socket
import time
import unittest

from served import CAPTURES, DEADLINE_S, ENDLESS, SOURCE, Server, metrics


def recorded_metrics():
    """{name: (kind, labels, buckets)} as vLLM has them."""
    pattern = r"(counter|gauge|histogram|summary) +(\S+) labels=(\S*)(?: le=(\S+))?"
    text = (CAPTURES / "metrics.txt").read_text()
    return {name: (kind, set(filter(None, labels.split(","))), le)
            for kind, name, labels, le in re.findall(pattern, text)}


class Metrics(unittest.TestCase):
    def test_a_long_name_is_a_whole_label(self):
        with Server("--served-model-name", '"' * 249 + "\u00e9" * 300) as server:
            text = bytes(server.ask("GET", "/metrics")[2]).decode()
            found = re.search(r'vllm:num_requests_running\{engine="0",model_name="((?:\\.|[^"\\])*)"\} ',
                              text)
            self.assertEqual(found.group(1), '\\"' * 249)
            self.assertEqual(server.stop(), 0)

    def test_the_grafana_board_asks_for_what_there_is(self):
        board = json.loads((SOURCE / "examples/deployment/grafana.json").read_text())
        self.server.complete(prompt="a", max_tokens=2)
        text = self.server.ask("GET", "/metrics")[2].decode()
        there = set(re.findall(r"^([\w:]+)[{ ]", text, re.M))
        asked = {name for panel in board["panels"] for target in panel["targets"]
                 for name in re.findall(r"\bvllm:\w+", target["expr"])}
        self.assertGreaterEqual(len(asked), 12)
        self.assertEqual(asked - there, set())

    ABSENT = re.compile(r"python_")

    @classmethod
    def setUpClass(cls):
        cls.server = Server("--served-model-name", 'ti"n\ny', "--log-stats-interval", "0.05",
                            "--distributed-executor-backend", "mp")

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    def value(self, name, label=""):
        values = metrics(self.server)[0][name]
        return sum(value for labels, value in values.items() if label in labels)

    def test_names_kinds_labels_and_buckets_are_those_of_vllm(self):
        self.server.complete(prompt="a b", max_tokens=3)
        values, kinds = metrics(self.server)
        for name, (kind, labels, le) in recorded_metrics().items():
            if self.ABSENT.match(name):
                continue
            with self.subTest(name):
                self.assertEqual(kinds[name], kind)
                suffix = {"histogram": "_bucket", "summary": "_sum"}.get(kind, "")
                found = [dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', words))
                         for words in values[name + suffix]]
                for words in found:
                    self.assertEqual(set(words), labels)
                if le:
                    buckets = list(dict.fromkeys(words["le"] for words in found))
                    self.assertEqual(",".join(buckets), le)
        self.assertIn('engine="0",model_name="ti\\"n\\ny"', values["vllm:num_requests_running"])

    def test_the_process_started_once(self):
        self.assertEqual(len({self.value("process_start_time_seconds") for _ in range(20)}), 1)
        self.assertLess(abs(time.time() - self.value("process_start_time_seconds")), 10 * DEADLINE_S)

    def test_a_chat_without_a_limit_is_counted_with_what_it_could_have_had(self):
        before = [self.value("vllm:request_params_max_tokens_" + end) for end in ("count", "sum")]
        info = dict(re.findall(r'(\w+)="([^"]*)"', next(iter(metrics(self.server)[0][
            "vllm:cache_config_info"]))))
        self.assertEqual((info["block_size"], info["enable_prefix_caching"], info["num_gpu_blocks_override"],
                          info["sliding_window"]), ("16", "True", "None", "None"))
        self.server.complete(prompt=[5, 6, 7], max_tokens=None, stop_token_ids=list(range(100)))
        limit = json.loads(self.server.ask("GET", "/v1/models")[2])["data"][0]["max_model_len"]
        after = [self.value("vllm:request_params_max_tokens_" + end) for end in ("count", "sum")]
        self.assertEqual([new - old for new, old in zip(after, before)], [1, limit - 3])

    def test_what_was_served_is_counted(self):
        def count():
            return [self.value("vllm:prompt_tokens_total"),
                    self.value("vllm:generation_tokens_total"),
                    self.value("vllm:request_success_total", 'finished_reason="length"'),
                    self.value("vllm:time_to_first_token_seconds_count"),
                    self.value("vllm:inter_token_latency_seconds_count"),
                    self.value("vllm:request_params_n_sum"),
                    self.value("http_requests_total", 'handler="/v1/completions"')]
        before = count()
        self.server.complete(prompt=[[5, 6, 7], [8, 9]], n=2, max_tokens=6, ignore_eos=True)
        wanted = [old + more for old, more in zip(before, [10, 24, 4, 4, 20, 4, 1])]
        end = time.monotonic() + DEADLINE_S  # the answer is counted when it was sent
        while count() != wanted and time.monotonic() < end:
            pass
        self.assertEqual(count(), wanted)
        times = {name: self.value(f"vllm:{name}_seconds_sum") for name in
                 ("request_queue_time", "request_prefill_time", "request_decode_time",
                  "request_inference_time", "e2e_request_latency")}
        self.assertAlmostEqual(times["request_inference_time"],
                               times["request_prefill_time"] + times["request_decode_time"])
        self.assertGreater(times["request_prefill_time"], 0)
        self.assertGreater(times["e2e_request_latency"],
                           times["request_queue_time"] + times["request_inference_time"])

    def test_blocks_and_queues_are_empty_again_after_a_client_left(self):
        def ended(reason):
            return self.value("vllm:request_success_total", f'finished_reason="{reason}"')
        aborted, finished = ended("abort"), ended("length")
        connection, _ = self.server.begin(stream=True, **ENDLESS)
        with self.server.frozen():
            self.assertEqual(self.value("vllm:num_requests_running"), 8)
            self.assertEqual(self.value("vllm:num_requests_waiting"),
                             992 - (ended("length") - finished))
            self.assertGreater(self.value("vllm:kv_cache_usage_perc"), 0)
        connection.sock.shutdown(socket.SHUT_RDWR)
        connection.close()
        self.server.wait_load(0)
        end = time.monotonic() + DEADLINE_S
        while self.value("vllm:kv_cache_usage_perc") or self.value("vllm:num_requests_running"):
            self.assertLess(time.monotonic(), end)
        self.assertGreater(ended("abort"), aborted)
        self.assertEqual(ended("abort") - aborted + ended("length") - finished, 1000)

    def test_throughput_is_logged_while_there_is_some(self):
        self.server.complete(prompt="a", max_tokens=500, n=8, ignore_eos=True)
        self.server.wait_for(rb"Engine 000: Avg prompt throughput: \d+\.\d tokens/s, Avg "
                             rb"generation throughput: [1-9]\d*\.\d tokens/s, Running: \d+ reqs, "
                             rb"Waiting: \d+ reqs, CPU KV cache usage: \d+\.\d%, Prefix cache hit "
                             rb"rate: ")


if __name__ == "__main__":
    unittest.main()
