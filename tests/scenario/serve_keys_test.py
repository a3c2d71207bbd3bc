#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Keys: where they come from, that an empty one is none, that nobody reads them by the way."""
import os
import subprocess
import unittest

from served import COHORT, DEADLINE_S, MODEL, Server


class Keys(unittest.TestCase):
    def check_keys(self, server, right, wrong):
        for key in (None, *wrong):
            headers = {"Authorization": f"Bearer {key}"} if key is not None else {}
            for path in ("/v1/models", "/v1/nothing"):
                status, _, text = server.ask("GET", path, None, headers)
                self.assertEqual((status, text), (401, b'{"error":"Unauthorized"}'), (key, path))
        headers = {"Authorization": f"Bearer {right}"}
        self.assertEqual(server.ask("GET", "/v1/models", None, headers)[0], 200)
        self.assertEqual(server.ask("GET", "/v1/nothing", None, headers)[0], 404)
        self.assertEqual(server.ask("GET", "/health")[0], 200)
        self.assertEqual(server.stop(), 0)

    def test_vllms_variable_guards(self):
        with Server(VLLM_API_KEY="zz") as server:
            self.check_keys(server, "zz", ["", "z", "zzz"])

    def test_ours_go_before_it(self):
        with Server("--api-key", "a", "b", VLLM_API_KEY="zz") as server:
            self.check_keys(server, "b", ["zz"])
        with Server(COHORT_API_KEY="a", VLLM_API_KEY="zz") as server:
            self.check_keys(server, "a", ["zz"])

    def test_an_empty_variable_of_vllms_is_none(self):
        with Server(VLLM_API_KEY="") as server:
            self.assertEqual(server.ask("GET", "/v1/models")[0], 200)
            self.assertEqual(server.stop(), 0)

    def test_an_empty_key_is_refused(self):
        for words, variables in ((["--api-key", ""], {}), (["--api-key", "a", ""], {}),
                                 (["--api-key="], {}), (["--api-key", '["a", ""]'], {}),
                                 ([], {"COHORT_API_KEY": ""})):
            done = subprocess.run([COHORT, "serve", MODEL, "--port", "0", *words],
                                  env=os.environ | variables, capture_output=True, text=True,
                                  timeout=DEADLINE_S, check=False)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn("--api-key (COHORT_API_KEY) is empty", done.stderr)

    def test_config_hides_them(self):
        done = subprocess.run([COHORT, "config"], env=os.environ | {"COHORT_API_KEY": "secret"},
                              capture_output=True, text=True, timeout=DEADLINE_S, check=True)
        self.assertIn("\nCOHORT_API_KEY=***\n", done.stdout)
        self.assertNotIn("secret", done.stdout)


if __name__ == "__main__":
    unittest.main()
