#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus scrapes `cohort serve` under load: what boards made for vLLM ask for has
an answer, and a sane one."""
import collections
import concurrent.futures
import contextlib
import json
import math
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.parse
import urllib.request

from served import CHATS, CHAT_TEMPLATE, COMPLETIONS, DEADLINE_S, SOURCE, Server, events

FETCHED = subprocess.run([SOURCE / "scripts/fetch_prometheus.sh"], stdout=subprocess.PIPE, text=True,
                         check=False)
TOOLS = pathlib.Path(FETCHED.stdout.strip())
OURS = '{model_name="tiny",engine="0"}'


class Prometheus:
    """One that scrapes a server five times a second."""

    def __init__(self, server):
        self.home = tempfile.TemporaryDirectory()
        config = pathlib.Path(self.home.name) / "prometheus.yml"
        config.write_text("global: {scrape_interval: 200ms}\n"
                          "scrape_configs: [{job_name: cohort, static_configs: "
                          f'[{{targets: ["127.0.0.1:{server.port}"]}}]}}]\n')
        self.process = subprocess.Popen(
            [TOOLS / "prometheus", f"--config.file={config}", "--web.listen-address=127.0.0.1:0",
             f"--storage.tsdb.path={self.home.name}/data"], stderr=subprocess.PIPE, text=True)
        found = None
        while not found:  # ends where it does
            line = self.process.stderr.readline()
            assert line, "prometheus ended"
            found = re.search(r'"Listening on" address=(\S+)', line)
        self.url = f"http://{found.group(1)}/api/v1/"
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def get(self, path, **words):
        with urllib.request.urlopen(f"{self.url}{path}?{urllib.parse.urlencode(words)}",
                                    timeout=DEADLINE_S) as answer:
            return json.load(answer)["data"]

    def ask(self, question):
        """{labels: value}, without what is not a number."""
        found = {tuple(sorted(one["metric"].items())): float(one["value"][1])
                 for one in self.get("query", query=question)["result"]}
        return {labels: value for labels, value in found.items() if math.isfinite(value)}

    def close(self):
        self.process.terminate()
        self.process.wait(DEADLINE_S)
        self.process.stderr.close()
        self.home.cleanup()


class Traffic:
    """Clients that ask again and again until told to stop, and add up what they are told."""

    def __init__(self, server):
        self.server, self.stopped = server, threading.Event()
        self.clients = concurrent.futures.ThreadPoolExecutor()
        self.asked = [self.clients.submit(self.run, ask)
                      for ask in (self.complete, self.stream, self.chat, self.mistake)]

    def run(self, ask):
        told = collections.Counter()
        while not self.stopped.is_set():
            reason, usage = ask()
            told += collections.Counter({reason: 1, "prompt": usage["prompt_tokens"],
                                         "generation": usage["completion_tokens"]})
        return told

    def post(self, path, status=200, **body):
        got, _, text = self.server.ask("POST", path, body)
        assert got == status, text
        return text

    def complete(self):
        text = self.post(COMPLETIONS, prompt=list(range(40)), max_tokens=30, ignore_eos=True)
        return "length", json.loads(text)["usage"]

    def stream(self):
        text = self.post(COMPLETIONS, prompt="a b", max_tokens=20, ignore_eos=True, stream=True,
                         stream_options={"include_usage": True})
        return "length", events(text)[-1]["usage"]

    def chat(self):
        text = self.post(CHATS, messages=[{"role": "user", "content": "a"}],
                         stop_token_ids=list(range(100)))
        return "stop", json.loads(text)["usage"]

    def mistake(self):
        self.post(COMPLETIONS, 400, prompt=3.5)
        return "none", {"prompt_tokens": 0, "completion_tokens": 0}

    def stop(self):
        """What they were told, by reason, and tokens."""
        self.stopped.set()
        self.clients.shutdown()  # each request has its deadline
        return sum((one.result() for one in self.asked), collections.Counter())


TIMES = ("e2e_request_latency", "time_to_first_token", "inter_token_latency",
         "request_time_per_output_token", "request_queue_time", "request_prefill_time",
         "request_decode_time", "request_inference_time")
COUNTS = {"request_prompt_tokens": 40, "request_generation_tokens": 30,
          "request_max_num_generation_tokens": 30, "iteration_tokens_total": 2048}
ABOVE_0 = math.nextafter(0, 1)


def questions():
    """(question, least, most): each of the values of its answer is between them."""
    most = {f"{name}_seconds": DEADLINE_S for name in TIMES} | COUNTS
    for name, value in most.items():
        def rate(part, name=name):
            return f"sum by (le, model_name) (rate(vllm:{name}_{part}{OURS}[1m]))"
        for quantile in (0.5, 0.9, 0.95, 0.99):  # up to the next bucket
            yield f"histogram_quantile({quantile}, {rate('bucket')})", ABOVE_0, 2.5 * value
        yield f"{rate('sum')} / {rate('count')}", ABOVE_0, value
        yield f"{rate('bucket')} / ignoring (le) group_left {rate('count')}", 0, 1
    for name in ("prompt_tokens", "generation_tokens", "request_success", "prompt_tokens_cached",
                 "prefix_cache_queries", "prefix_cache_hits"):
        yield f"sum by (model_name) (rate(vllm:{name}_total{OURS}[1m]))", ABOVE_0, 1e6
    for source in ("local_compute", "local_cache_hit"):
        yield f'rate(vllm:prompt_tokens_by_source_total{{source="{source}"}}[1m])', ABOVE_0, 1e6
    yield f"rate(vllm:num_preemptions_total{OURS}[1m])", 0, 0
    yield f"max_over_time(vllm:num_requests_running{OURS}[1m])", 1, 3
    yield f"max_over_time(vllm:kv_cache_usage_perc{OURS}[1m])", ABOVE_0, 1
    yield f"vllm:num_requests_waiting{OURS}", 0, 3
    for reason in ("capacity", "deferred"):
        yield f'vllm:num_requests_waiting_by_reason{{reason="{reason}"}}', 0, 3
    for reason in ("stop", "length"):
        yield f'rate(vllm:request_success_total{{finished_reason="{reason}"}}[1m])', ABOVE_0, 1e6
    for reason in ("abort", "error", "repetition"):
        yield f'rate(vllm:request_success_total{{finished_reason="{reason}"}}[1m])', 0, 0
    for status in ("2xx", "4xx"):
        yield f'sum by (status) (rate(http_requests_total{{status="{status}"}}[1m]))', ABOVE_0, 1e6
    for path in (COMPLETIONS, CHATS):
        here = f'{{handler="{path}",method="POST"}}[1m]'
        yield f"sum by (handler) (rate(http_requests_total{here}))", ABOVE_0, 1e6
        yield (f"rate(http_request_duration_seconds_sum{here}) / "
               f"rate(http_request_duration_seconds_count{here})"), ABOVE_0, DEADLINE_S
    yield ("histogram_quantile(0.9, rate(http_request_duration_highr_seconds_bucket[1m]))",
           ABOVE_0, DEADLINE_S)
    yield ("(time() - process_start_time_seconds) * on (job, instance) group_left (model_name) "
           f"group by (job, instance, model_name) (vllm:num_requests_running{OURS})"), 0, 86400
    yield "process_resident_memory_bytes", 1e6, 1e11
    yield "rate(process_cpu_seconds_total[1m])", ABOVE_0, 1000


class Boards(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with contextlib.ExitStack() as undo:
            cls.server = undo.enter_context(Server("--served-model-name", "tiny", "--chat-template",
                                                   CHAT_TEMPLATE))
            cls.prometheus = Prometheus(cls.server)
            undo.callback(cls.prometheus.close)
            cls.addClassCleanup(undo.pop_all().close)

    def await_answer(self, question, is_good):
        end = time.monotonic() + DEADLINE_S
        while not is_good(answer := self.prometheus.ask(question)):
            self.assertLess(time.monotonic(), end, f"{question}: {answer}")
            time.sleep(0.05)

    def test_what_boards_ask_has_sane_answers_and_adds_up(self):
        self.await_answer("up", lambda answer: list(answer.values()) == [1])
        traffic = Traffic(self.server)
        try:
            for question, least, most in questions():
                self.await_answer(question, lambda answer: answer and all(
                    least <= value <= most for value in answer.values()))
        finally:
            told = traffic.stop()
        self.assertEqual(self.prometheus.get("label/model_name/values"), ["tiny"])
        for name, wanted in {"prompt_tokens_total": told["prompt"],
                             "generation_tokens_total": told["generation"],
                             'request_success_total{finished_reason="length"}': told["length"],
                             'request_success_total{finished_reason="stop"}': told["stop"],
                             "num_requests_running": 0, "kv_cache_usage_perc": 0}.items():
            self.await_answer(f"vllm:{name}", lambda answer: list(answer.values()) == [wanted])

    def test_promtool_finds_only_what_it_would_find_in_vllm(self):
        done = subprocess.run([TOOLS / "promtool", "check", "metrics"], check=False, text=True,
                              input=self.server.ask("GET", "/metrics")[2].decode(),
                              stderr=subprocess.PIPE, timeout=DEADLINE_S)
        found = [line for line in done.stderr.splitlines() if "should not contain ':'" not in line]
        self.assertEqual(found, ["vllm:iteration_tokens_total non-counter metrics should not have "
                                 '"_total" suffix'])


if __name__ == "__main__":
    if FETCHED.returncode:
        print("no prometheus could be fetched here", file=sys.stderr)
        sys.exit(77)
    unittest.main()
