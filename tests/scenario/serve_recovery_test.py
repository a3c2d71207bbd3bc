#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Ranks of `cohort serve` that die: what requests notice of it, what is told of it; pauses."""
import concurrent.futures
import json
import os
import signal
import subprocess
import time
import unittest

from served import COHORT, DEADLINE_S, Server, metrics

STATUS = "/v1/fault_tolerance/status"
APPLY = "/v1/fault_tolerance/apply"


class Health(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    def apply(self, instruction):
        return self.server.ask("POST", APPLY, {"instruction": instruction})

    def status(self):
        code, _, text = self.server.ask("GET", STATUS)
        self.assertEqual(code, 200)
        return json.loads(text)

    def test_status_names_the_engine_and_its_ranks(self):
        told = self.status()
        self.assertEqual((told["schema_version"], told["total_engines"]), (1, 1))
        engine = told["engines"][0]
        self.assertEqual((engine["id"], engine["status"]), (0, "healthy"))
        self.assertEqual([rank["rank"] for rank in engine["ranks"]], [0])
        self.assertEqual(engine["recovery"], {"epoch": 1, "deaths": 0, "recovering": False,
                                              "rank": None, "cause": None, "kv_kept": None,
                                              "took_ms": 0})
        page = json.loads(self.server.ask("GET", "/cohort/status")[2])
        self.assertEqual(page["recovery"], engine["recovery"])

    def test_a_pause_keeps_requests_and_no_health(self):
        body = {"prompt": "a b c", "max_tokens": 8, "temperature": 0}
        before = self.server.complete(**body)["choices"][0]["text"]
        with concurrent.futures.ThreadPoolExecutor() as pool:
            self.assertEqual(self.apply("pause")[0], 200)
            try:
                waiting = pool.submit(self.server.complete, **body)
                self.server.wait_load(1)
                self.assertEqual(self.status()["engines"][0]["status"], "paused")
                self.assertEqual(self.server.ask("GET", "/health")[0], 200)
                code, _, text = self.server.ask("GET", "/health?ready=1")
                self.assertEqual(code, 503)
                self.assertIn("paused", json.loads(text)["error"]["message"])
                self.assertFalse(waiting.done())
            finally:
                self.assertEqual(self.apply("retry")[0], 200)
            self.assertEqual(waiting.result(DEADLINE_S)["choices"][0]["text"], before)
        self.assertEqual(self.server.ask("GET", "/health?ready=1")[0], 200)
        self.assertEqual(self.status()["engines"][0]["status"], "healthy")

    def test_other_instructions_are_refused(self):
        code, _, text = self.apply("explode")
        self.assertEqual(code, 400)
        self.assertIn("'pause' or 'retry'", json.loads(text)["error"]["message"])
        self.assertEqual(self.server.ask("POST", APPLY, {})[0], 400)
        self.assertEqual(self.status()["engines"][0]["status"], "healthy")

    def test_metrics_count_recoveries(self):
        values, kinds = metrics(self.server)
        self.assertEqual(kinds["cohort:rank_deaths_total"], "counter")
        self.assertEqual(kinds["cohort:recovery_seconds"], "histogram")
        for name in ("recoveries_total", "requests_recovered_total",
                     "tokens_recomputed_total", "recovering"):
            self.assertEqual(set(values["cohort:" + name].values()), {0})
        self.assertEqual(set(values["cohort:rank_epoch"].values()), {1})


class Stops(unittest.TestCase):
    def test_a_paused_server_that_is_stopped_finishes_what_waits(self):
        with Server() as server, concurrent.futures.ThreadPoolExecutor() as pool:
            self.assertEqual(server.ask("POST", APPLY, {"instruction": "pause"})[0], 200)
            waiting = pool.submit(server.complete, prompt="a b c", max_tokens=8)
            server.wait_load(1)
            self.assertEqual(server.stop(), 0)
            self.assertEqual(waiting.result(DEADLINE_S)["usage"]["completion_tokens"], 8)


SCHEMA = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 20},
                                           "b": {"type": "integer"}},
          "required": ["a", "b"], "additionalProperties": False}
STREAMS = [
    {"prompt": "a b c d", "max_tokens": 200, "temperature": 0, "ignore_eos": True},
    {"prompt": "x y", "max_tokens": 120, "temperature": 1.1, "seed": 5, "n": 3, "logprobs": 2,
     "ignore_eos": True},
    {"prompt": "hello " * 20, "max_tokens": 90, "temperature": 0.8, "seed": 9, "stop": ["zz"],
     "ignore_eos": True},
    {"prompt": "json", "max_tokens": 120, "temperature": 0,
     "structured_outputs": {"json": SCHEMA}},
]


class Deaths(unittest.TestCase):
    """Kills come when every stream has its first chunk; nothing here waits for a clock."""

    def ranks(self, server):
        told = json.loads(server.ask("GET", STATUS)[2])["engines"][0]
        return told["recovery"], [rank["pid"] for rank in told["ranks"]]

    def texts(self, server, kill=None):
        """All that the streams say, but for what is another in every answer."""
        begun = [server.begin(stream=True, **body) for body in STREAMS]
        if kill is not None:
            kill()
        told = []
        for connection, response in begun:
            rest = response.read().decode()
            connection.close()
            self.assertTrue(rest.endswith("data: [DONE]\n\n"), rest[-200:])
            lines = [line for line in rest.splitlines() if line.startswith("data: {")]
            texts = {}
            for line in lines:
                for choice in json.loads(line[6:])["choices"]:
                    said = texts.setdefault(choice["index"], ["", [], None])
                    said[0] += choice["text"]
                    said[1] += (choice["logprobs"] or {}).get("token_logprobs", [])
                    said[2] = choice["finish_reason"]
            told.append(texts)
        return told

    def kill(self, server, rank):
        """Returns once its end is known, and all ranks are ready again."""
        before, pids = self.ranks(server)
        os.kill(pids[rank], signal.SIGKILL)
        end = time.monotonic() + DEADLINE_S
        while True:
            now, _ = self.ranks(server)
            if now["deaths"] > before["deaths"] and not now["recovering"]:
                return now
            self.assertLess(time.monotonic(), end, now)
            time.sleep(0.01)

    def check(self, *layout):
        with Server("--distributed-executor-backend", "mp", *layout) as server:
            whole = [server.complete(**body)["choices"] for body in STREAMS]
            expected = self.texts(server)
            for rank in (0, 1, 1, 0):
                told = {}
                self.assertEqual(
                    self.texts(server, lambda: told.update(self.kill(server, rank))), expected)
                self.assertEqual(told["rank"], rank)
                self.assertIn("signal 9", told["cause"])
                self.assertIs(told["kv_kept"], True)
                self.assertEqual(server.ask("GET", "/health?ready=1")[0], 200)
            self.assertEqual([server.complete(**body)["choices"] for body in STREAMS], whole)
            values, _ = metrics(server)
            deaths = values["cohort:rank_deaths_total"]
            self.assertEqual(sum(deaths.values()), 4)
            for labels in (labels for labels, count in deaths.items() if count):
                self.assertRegex(labels, r'rank="[01]",cause="died"')
            self.assertEqual(sum(values["cohort:rank_epoch"].values()), 5)
            listed = subprocess.run([COHORT, "stat"], capture_output=True, text=True, check=True,
                                    env=os.environ | {"XDG_RUNTIME_DIR": server.home.name}).stdout
            self.assertRegex(listed, r"\n  epoch 5: 4 deaths of ranks, 4 recoveries, 4 with the KV "
                             r"cache kept; the last: rank 0 \(pid \d+\) was killed by signal 9 ")
            self.assertEqual(sum(values["cohort:requests_convicted_total"].values()), 0)
            self.assertEqual(server.stop(), 0)

    def test_tensor_parallel_ranks_cost_no_request_and_no_byte(self):
        self.check("-tp", "2")

    def test_pipeline_stages_cost_no_request_and_no_byte(self):
        self.check("-pp", "2")

    def test_a_pause_of_the_ranks_is_healthy_and_not_ready(self):
        with Server("--distributed-executor-backend", "mp", "-tp", "2") as server:
            connection, response = server.begin(stream=True, **STREAMS[0])
            _, pids = self.ranks(server)
            os.kill(pids[0], signal.SIGSTOP)  # it cannot rejoin, for two seconds
            os.kill(pids[1], signal.SIGKILL)
            end = time.monotonic() + DEADLINE_S
            while not self.ranks(server)[0]["deaths"]:
                self.assertLess(time.monotonic(), end)
            ready, _, text = server.ask("GET", "/health?ready=1")
            if self.ranks(server)[0]["recovering"]:  # or the machine slept for two seconds
                self.assertEqual(ready, 503)
                self.assertRegex(json.loads(text)["error"]["message"], "rank [01] is being")
            self.assertEqual(server.ask("GET", "/health")[0], 200)
            self.assertTrue(response.read().endswith(b"data: [DONE]\n\n"))
            connection.close()
            self.assertEqual(self.ranks(server)[0]["deaths"], 2)
            self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    unittest.main()
