#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What others' programs make of `cohort serve`: Starlette's middleware, which answers the
browsers of vLLM's users, beside ours, and Prometheus' own parser of /metrics."""
import itertools
import json
import unittest

from in_venv import go_on_in

go_on_in("peers")

from starlette.applications import Starlette  # noqa: E402
from starlette.middleware.cors import CORSMiddleware  # noqa: E402
from starlette.responses import PlainTextResponse  # noqa: E402
from starlette.routing import Route  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402

from prometheus_client.parser import text_string_to_metric_families  # noqa: E402

from served import CHAT_TEMPLATE, Server  # noqa: E402

ORIGIN, METHOD = "https://a.b", "Access-Control-Request-Method"
HEADERS = "Access-Control-Request-Headers"


class CrossOrigin(unittest.TestCase):
    """--allowed-... as CORSMiddleware has them."""

    def compare(self, options, **rules):
        rules = {"allow_methods": ["*"], "allow_headers": ["*"], **rules}
        app = Starlette(routes=[Route("/version", lambda _: PlainTextResponse("1"))])
        app.add_middleware(CORSMiddleware, **rules)
        theirs = TestClient(app)

        def seen(status, headers, text):
            kept = {name.lower(): value for name, value in headers.items()
                    if name.lower().startswith("access-control-") or name.lower() == "vary"}
            return status, kept, text
        origins = (None, ORIGIN, "https://x.y", "https://A.b")
        methods = (None, "GET", "PATCH", "post", "LINK")
        asked = (None, "content-type", "X-One, accept", "x-one,X-TWO", "x-one,", "x-three")
        count = 0
        with Server(*options) as server:
            for origin, method, names in itertools.product(origins, methods, asked):
                headers = {"Origin": origin, METHOD: method, HEADERS: names}
                headers = {name: value for name, value in headers.items() if value is not None}
                if not origin or not method:  # an OPTIONS like any other
                    continue
                answer = theirs.options("/version", headers=headers)
                status, ours, text = server.ask("OPTIONS", "/version", None, headers)
                self.assertEqual(seen(status, ours, text.decode()),
                                 seen(answer.status_code, answer.headers, answer.text), headers)
                count += 1
            for origin, cookie in itertools.product(origins, (None, "a=b")):
                headers = {"Origin": origin, "Cookie": cookie}
                headers = {name: value for name, value in headers.items() if value is not None}
                answer = theirs.get("/version", headers=headers)
                status, ours, _ = server.ask("GET", "/version", None, headers)
                self.assertEqual(seen(status, ours, ""),
                                 seen(answer.status_code, answer.headers, ""), headers)
                count += 1
            self.assertEqual(server.stop(), 0)
        self.assertGreater(count, 70)

    def test_every_origin(self):
        self.compare(["--allowed-origins", '["*"]'], allow_origins=["*"])

    def test_some_origins(self):
        self.compare(["--allowed-origins", "https://c.d", ORIGIN],
                     allow_origins=["https://c.d", ORIGIN])

    def test_some_methods_and_headers(self):
        self.compare(["--allowed-origins", json.dumps([ORIGIN]), "--allowed-methods",
                      '["GET", "PATCH"]', "--allowed-headers", "X-Two", "X-One", "Accept"],
                     allow_origins=[ORIGIN], allow_methods=["GET", "PATCH"],
                     allow_headers=["X-Two", "X-One", "Accept"])

    def test_credentials(self):
        self.compare(["--allowed-origins", "*", "--allow-credentials", "--allowed-methods", "POST"],
                     allow_origins=["*"], allow_credentials=True, allow_methods=["POST"])


class Prometheus(unittest.TestCase):
    """/metrics, as python3-prometheus-client reads it."""

    def check_histogram(self, family):
        series = {}
        for sample in family.samples:
            labels = dict(sample.labels)
            le = labels.pop("le", None)
            parts = series.setdefault(tuple(sorted(labels.items())), {"buckets": []})
            if sample.name == family.name + "_bucket":
                parts["buckets"].append((float(le), sample.value))
            else:
                parts[sample.name.removeprefix(family.name)] = sample.value
        for labels, parts in series.items():
            bounds = [bound for bound, _ in parts["buckets"]]
            counts = [count for _, count in parts["buckets"]]
            self.assertEqual(bounds, sorted(set(bounds)), family.name)
            self.assertEqual(counts, sorted(counts), family.name)
            self.assertEqual((bounds[-1], counts[-1]), (float("inf"), parts["_count"]), family.name)
            self.assertGreaterEqual(parts["_sum"], 0)
            self.assertEqual(set(parts), {"buckets", "_count", "_sum"}, labels)
        return sum(parts["_count"] for parts in series.values())

    def test_every_family_is_whole(self):
        with Server("--served-model-name", 'a"b\\c', "--chat-template", CHAT_TEMPLATE) as server:
            for i in range(12):
                server.complete(prompt="a b " * (1 + i * i), n=1 + i % 3, max_tokens=1 + i * 7, ignore_eos=True)
            server.ask("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]})
            server.ask("GET", "/nothing")
            kind = server.ask("GET", "/metrics")[1]["Content-Type"]
            self.assertEqual(kind, "text/plain; version=0.0.4; charset=utf-8")
            text = server.ask("GET", "/metrics")[2].decode()
            self.assertEqual(server.stop(), 0)
        families = list(text_string_to_metric_families(text))
        self.assertEqual(len({family.name for family in families}), len(families))
        counted = {}
        for family in families:
            self.assertIn(family.type, ("counter", "gauge", "histogram", "summary"), family.name)
            self.assertTrue(family.documentation and family.samples, family.name)
            keys = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in family.samples]
            self.assertEqual(len(set(keys)), len(keys), family.name)
            if family.type == "histogram":
                counted[family.name] = self.check_histogram(family)
            for sample in family.samples:
                self.assertEqual(sample.labels.get("model_name", 'a"b\\c'), 'a"b\\c')
                self.assertGreaterEqual(sample.value, 0)
        self.assertGreater(counted["vllm:inter_token_latency_seconds"], 100)
        self.assertEqual(counted["vllm:request_params_n"], 13)
        self.assertGreater(counted["http_request_duration_seconds"], 12)


if __name__ == "__main__":
    unittest.main()
