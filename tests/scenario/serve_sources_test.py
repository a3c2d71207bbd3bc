#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Options come from the environment, a file and the command line: every subset of the three, for a
number, a list and a flag; the last that speaks counts, for a list with all of its words."""
import itertools
import json
import pathlib
import subprocess
import tempfile
import unittest

from served import COHORT, DEADLINE_S, Server

SOURCES = ("variable", "file", "word")
LENGTHS = {"variable": 110, "file": 120, "word": 130}
NAMES = {"variable": ["v1", "v2", "v3"], "file": ["f1", "f2"], "word": ["w1"]}


class Sources(unittest.TestCase):
    def setUp(self):
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        self.path = pathlib.Path(home.name) / "options.yaml"

    def facts(self, *words, **variables):
        """What a server of these options says of itself: names, length, whether answers have ids."""
        with Server("--config", self.path, *words, **variables) as server:
            _, headers, text = server.ask("GET", "/v1/models")
            models = json.loads(text)["data"]
            self.assertEqual(server.stop(), 0)
        return [one["id"] for one in models], models[0]["max_model_len"], "X-Request-Id" in headers

    def test_the_last_that_speaks_counts(self):
        for there in itertools.product((False, True), repeat=3):
            given = [source for source, is_there in zip(SOURCES, there) if is_there]
            variables, words, lines = {}, [], []
            if "variable" in given:
                variables = {"COHORT_MAX_MODEL_LEN": "110", "COHORT_SERVED_MODEL_NAME": json.dumps(NAMES["variable"]),
                             "COHORT_ENABLE_REQUEST_ID_HEADERS": "1"}
            if "file" in given:
                lines = ["max-model-len: 120", "served-model-name: [f1, f2]", "enable-request-id-headers: false"]
            if "word" in given:
                words = ["--max-model-len", "130", "--served-model-name", "w1", "--enable-request-id-headers"]
            self.path.write_text("".join(line + "\n" for line in lines))
            names, length, has_ids = self.facts(*words, **variables)
            self.assertEqual(has_ids, bool(given) and given[-1] != "file", given)
            if given:
                self.assertEqual((names, length), (NAMES[given[-1]], LENGTHS[given[-1]]), given)

    def test_each_option_has_a_source_of_its_own(self):
        for order in itertools.permutations(SOURCES):
            to = dict(zip(order, ("length", "names", "ids")))
            variables = {"length": {"COHORT_MAX_MODEL_LEN": "110"}, "ids": {"COHORT_ENABLE_REQUEST_ID_HEADERS": "1"},
                         "names": {"COHORT_SERVED_MODEL_NAME": json.dumps(NAMES["variable"])}}[to["variable"]]
            self.path.write_text({"length": "max-model-len: 120\n", "names": "served-model-name: [f1, f2]\n",
                                  "ids": "enable-request-id-headers: true\n"}[to["file"]])
            words = {"length": ["--max-model-len=130"], "names": ["--served-model-name", "w1"],
                     "ids": ["--enable-request-id-headers"]}[to["word"]]
            of = {what: source for source, what in to.items()}
            self.assertEqual(self.facts(*words, **variables), (NAMES[of["names"]], LENGTHS[of["length"]], True))

    def test_a_key_that_is_there_twice_counts_once(self):
        self.path.write_text("max-model-len: 120\nserved-model-name: [f1, f2]\nmax_model_len: 140\n"
                             "served-model-name: [f3]\n")
        self.assertEqual(self.facts()[:2], (["f3"], 140))
        self.path.write_text("override-generation-config: {max_new_tokens: 4, temperature: 1, max_new_tokens: 6}\n")
        with Server("--config", self.path) as server:
            self.assertEqual(server.complete(prompt="a", ignore_eos=True)["usage"]["completion_tokens"], 6)
            self.assertEqual(server.stop(), 0)

    def test_a_bad_value_is_told_with_its_source_however_often_it_is_overruled(self):
        self.path.write_text("max-model-len: five\n")
        done = subprocess.run([COHORT, "serve", "/nowhere", "--config", self.path, "--max-model-len", "130"],
                              capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn(str(self.path), done.stderr)


if __name__ == "__main__":
    unittest.main()
