#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Answers and refusals beside those recorded of vLLM: a client cannot tell us apart."""
import json
import lzma
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

from served import CAPTURES, CHAT_TEMPLATE, DEADLINE_S, MODEL, SOURCE, Server

SCRIPT = SOURCE / "tests/support/capture.py"

MAPS = ("top_logprobs", "prompt_logprobs")  # objects whose keys are tokens
# How these end is decided by what the model says.
BY_WORDS = {"stop string", "stop string included", "stop_token_ids", "runs to eos", "json_object"}


def shape(value, title, name=""):
    """Keys in order, kinds of values and how texts end; how many and which tokens there are does
    not count."""
    if isinstance(value, dict) and name in MAPS:
        return {"<token>": shape(next(iter(value.values())), title)}
    if isinstance(value, dict):
        return [(key, shape(item, title, key)) for key, item in value.items()]
    if name == "bytes":  # none of a part of a character, which a model of random weights writes
        return name
    if isinstance(value, list) and name in ("choices", "data", "permission"):
        return [shape(item, title) for item in value]
    if isinstance(value, list):
        kinds = []
        for item in value:
            kind = shape(item, title, name)
            kinds += [kind] if kind not in kinds else []
        return kinds
    if name in ("index", "object"):
        return value
    if name == "finish_reason" and (value is None or title not in BY_WORDS):
        return value
    if name in ("finish_reason", "stop_reason") and title in BY_WORDS:
        return name
    return type(value).__name__


def in_turn(events):
    """A stream with the chunks of each choice together: which comes first is chance, but what
    opens them and what closes the stream has its place."""
    n = len({event["choices"][0]["index"] for event in events
             if isinstance(event, dict) and event.get("choices")})
    if n < 2 or events[-1] != "data: [DONE]":
        return events

    def place(event):
        index = [choice["index"] for choice in event["choices"]] if isinstance(event, dict) else []
        return index[0] if index else n
    return events[:n] + sorted(events[n:], key=place)


def captured(name, folder=CAPTURES):
    """(title, method, path, body, status, content type, transfer, answer) of a capture file."""
    text = pathlib.Path(folder, name).read_text()
    pattern = (r"### (.*)\n(GET|POST) (\S+)\n(.*)\n-> (\d+) (.*) transfer=(\S+)\n"
               r"((?:(?!^### )[\s\S])*)")
    return [match.groups() for match in re.finditer(pattern, text, re.M)]


def pieces(text):
    if not text.strip():
        return []
    if not text.startswith("data: "):
        return [json.loads(text)]
    return [line if line == "data: [DONE]" else json.loads(line[6:])
            for line in text.strip().split("\n\n")]


class Captures(unittest.TestCase):
    """A client of vLLM cannot tell."""

    OURS = {"/"}  # a page, where vLLM has nothing
    CUT = {"content number"}  # lists every kind of message of OpenAI's; recorded up to 900 characters

    @classmethod
    def setUpClass(cls):
        cls.server = Server("--served-model-name", "tiny", "--chat-template", CHAT_TEMPLATE)

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    def compare(self, title, method, path, body, status, kind, transfer, answer):
        body = body.replace("<model>", "tiny").replace("smollm2", "tiny")
        body = body.replace("word word ...[3000 words]", "word " * 3000)
        body = re.sub(r"\[504, [0-9, ]+\]", "[5, 9, 7]", body)  # ids that ours has
        headers = {"Content-Type": "text/plain"} if title == "wrong content type" else {}
        got, ours, text = self.server.ask(method, path.replace("<model>", "tiny"),
                                          body if method == "POST" else None, headers)
        self.assertEqual(got, int(status), text)
        self.assertEqual(str(ours["Content-Type"]), kind)
        self.assertEqual(ours["Transfer-Encoding"] or "-", transfer)
        if title in self.CUT:
            self.assertEqual(json.loads(text)["error"]["type"], "Bad Request")
            return
        answer = re.sub(r'"<time>"', "0", answer.replace("<model>", "tiny"))
        self.compare_answers(title, got, text.decode(), answer)

    def compare_answers(self, title, status, ours, theirs):
        found, wanted = pieces(ours), pieces(theirs)
        if status != 200:
            self.assertEqual(found, wanted)
            return
        found, wanted = in_turn(found), in_turn(wanted)
        self.assertEqual([shape(one, title) for one in found], [shape(one, title) for one in wanted])

    def test_answers_and_refusals_are_those_of_vllm(self):
        count = 0
        for name in ("small_routes.txt", "completions.txt", "chat.txt", "errors.txt"):
            for title, method, path, *rest in captured(name):
                if title in self.OURS:
                    continue
                count += 1
                with self.subTest(title):
                    self.compare(title, method, path, *rest)
        self.assertGreater(count, 60)

    def test_fields_and_routes_are_described_as_vllm_does(self):
        described = json.loads(self.server.ask("GET", "/openapi.json")[2])
        summaries = {}
        for methods, path, words in re.findall(r"^(\S+) +(\S+)   (.*)$",
                                               (CAPTURES / "routes.txt").read_text(), re.M):
            summaries[path] = (methods, words)
        for path, methods in described["paths"].items():
            words = "; ".join(method["summary"] for method in methods.values())
            self.assertEqual((",".join(methods).upper(), words), summaries[path], path)


class Script(Captures):
    """The program that recorded vLLM, run against us; what it writes is compared file by file.
    The model has random weights and a vocabulary as large as that of the recorded one."""

    @classmethod
    def setUpClass(cls):
        cls.home = tempfile.TemporaryDirectory()
        home = pathlib.Path(cls.home.name)
        config = json.loads((MODEL / "config.json").read_text()) | {"vocab_size": 151936}
        (home / "config.json").write_text(json.dumps(config))
        qwen = SOURCE / "tests/golden/qwen3-tokenizer"
        (home / "tokenizer.json").write_bytes(lzma.open(qwen / "tokenizer.json.xz").read())
        with Server("--load-format", "dummy", "--served-model-name", "smollm2", "--chat-template",
                    CHAT_TEMPLATE, model=home) as server:
            subprocess.run([sys.executable, SCRIPT, f"http://127.0.0.1:{server.port}", home / "out"],
                           check=True, timeout=2 * DEADLINE_S)
            assert server.stop() == 0
        cls.ours = home / "out"

    @classmethod
    def tearDownClass(cls):
        cls.home.cleanup()

    def test_answers_and_refusals_are_those_of_vllm(self):
        for name in ("small_routes.txt", "completions.txt", "chat.txt", "errors.txt"):
            theirs, ours = captured(name), captured(name, self.ours)
            self.assertEqual([one[:4] for one in ours], [one[:4] for one in theirs])
            for (title, *_, status, kind, transfer, answer), (*_, ours_status, ours_kind,
                                                              ours_transfer, ours_answer) in zip(theirs, ours):
                if title in self.OURS:
                    continue
                with self.subTest(title):
                    self.assertEqual((ours_status, ours_kind, ours_transfer), (status, kind, transfer))
                    if title not in self.CUT:
                        self.compare_answers(title, int(status), ours_answer, answer)

    def test_fields_and_routes_are_described_as_vllm_does(self):
        fields = [(folder / "request_fields.txt").read_text() for folder in (self.ours, CAPTURES)]
        self.assertEqual(*fields)
        ours, theirs = ((folder / "routes.txt").read_text().splitlines() for folder in (self.ours, CAPTURES))
        self.assertLessEqual(set(ours), set(theirs))

    def test_metrics_have_vllms_names_labels_and_buckets(self):
        ours, theirs = ([line for line in (folder / "metrics.txt").read_text().splitlines()
                         if not line.startswith(" ") and " python_" not in line]
                        for folder in (self.ours, CAPTURES))
        self.assertLessEqual(set(theirs), set(ours))
        more = [line for line in set(ours) - set(theirs) if " cohort:" not in line]
        # vLLM has it too, where its option for it is set.
        self.assertEqual([line.split()[1] for line in more], ["vllm:corrupted_requests_total"])


if __name__ == "__main__":
    unittest.main()
