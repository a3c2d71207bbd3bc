#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What `cohort serve` tells of the health of its ranks, and how it is paused."""
import concurrent.futures
import json
import unittest

from served import DEADLINE_S, Server, metrics

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
                                              "rank": None, "cause": None, "took_ms": 0})
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


if __name__ == "__main__":
    unittest.main()
