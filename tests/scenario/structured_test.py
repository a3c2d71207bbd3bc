#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Output that must match, asked of a real server whose model has random weights: whatever it
would rather say, what it says parses and validates (python3-jsonschema), by every field and
on every layout."""
import ast
import contextlib
import json
import os
import re
import sys
import threading
import unittest
from random import Random

from in_venv import SOURCE, go_on_in

go_on_in("schemas")
sys.path.append(str(SOURCE / "scripts"))

from schema_cases import fault_of, whole_schema  # noqa: E402
from served import CHAT_TEMPLATE, CHATS, COMPLETIONS, SANITIZED, Server, events  # noqa: E402

SEED = int(os.environ.get("COHORT_SEED", "1"))
PERSON = {"type": "object", "required": ["name", "age"], "additionalProperties": False,
          "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 10},
                         "age": {"type": "integer", "minimum": 0, "maximum": 150},
                         "likes": {"type": "array", "maxItems": 2, "items": {
                             "enum": ["a", "b", None]}}}}
MESSAGES = [{"role": "user", "content": "Who are you?"}]


# A number may have any length: a model of chance may write one for ever, until its client leaves.
ENDLESS = re.compile(r"\d{200}$")


def ask_for(server, schema, number):
    """None, "nothing" where no value can be of the schema, or what is wrong with the answer."""
    text = ""
    with contextlib.closing(server.connect()) as client:
        client.request("POST", COMPLETIONS, json.dumps({
            "prompt": "a b", "max_tokens": 1900, "seed": number, "temperature": number % 2, "stream": True,
            "structured_outputs": {"json": schema}}), {"Content-Type": "application/json"})
        response = client.getresponse()
        if response.status != 200:
            error = json.load(response)["error"]
            return "nothing" if "nothing matches" in error["message"] else error
        for line in response:
            if not line.startswith(b"data: {"):
                continue
            choice = json.loads(line[6:])["choices"][0]
            text += choice["text"]
            if ENDLESS.search(text):
                return None
            if choice["finish_reason"]:
                return fault_of(schema, text) if choice["finish_reason"] == "stop" else (choice, text)
    return ("no end", text)


def random_schemas_at_once(test, server, count, seed):
    """Constrained and free requests in one batch; the free say what they say alone."""
    random = Random(seed)
    schemas = [whole_schema(random) for _ in range(count)]
    free = {"prompt": "a b c", "max_tokens": 60, "temperature": 0, "ignore_eos": True}
    alone = server.complete(**free)["choices"][0]["text"]
    faults, refused = [], []

    def ask(number):
        if number % 4 == 3:
            text = server.complete(**free)["choices"][0]["text"]
            faults.extend([] if text == alone else [text])
            return
        fault = ask_for(server, schemas[number], number)
        if fault == "nothing":
            refused.append(number)
        elif fault:
            faults.append((schemas[number], fault))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    test.assertEqual(faults, [])
    test.assertLessEqual(len(refused), count // 4)


class Structured(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--served-model-name", "tiny", "--chat-template", CHAT_TEMPLATE)

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    def complete(self, **body):
        choice = self.server.complete(**{"prompt": "a b", "max_tokens": 1500} | body)["choices"][0]
        self.assertEqual(choice["finish_reason"], "stop")
        return choice["text"]

    def refusal(self, **body):
        status, _, text = self.server.ask("POST", COMPLETIONS, {"prompt": "a"} | body)
        self.assertEqual(status, 400, text)
        return json.loads(text)["error"]

    def test_choice_regex_and_schema_of_completions(self):
        for seed in range(6):
            made = {"seed": seed, "temperature": seed % 3}
            text = self.complete(structured_outputs={"choice": ["yes", "no", "\u00e9t\u00e9"]}, **made)
            self.assertIn(text, ("yes", "no", "\u00e9t\u00e9"))
            text = self.complete(structured_outputs={"regex": r"[A-F]{3}-\d{2,4}(\.x)?"}, **made)
            self.assertRegex(text, r"\A[A-F]{3}-\d{2,4}(\.x)?\Z")
            for json_schema in (PERSON, json.dumps(PERSON)):
                text = self.complete(structured_outputs={"json": json_schema}, **made)
                self.assertIsNone(fault_of(PERSON, text))
            text = self.complete(response_format={
                "type": "json_schema", "json_schema": {"name": "p", "schema": PERSON}}, **made)
            self.assertIsNone(fault_of(PERSON, text))

    def test_grammars_of_rules(self):
        sums = ('root ::= root " + " term | term # left recursion\n'
                'term ::= [a-z] | "(" root ")" {1,1}')
        whole = 0
        for seed in range(12):
            made = {"seed": seed, "temperature": seed % 3, "structured_outputs": {"grammar": sums}}
            # A model of chance would open parentheses for ever.
            choice = self.server.complete(prompt="a b", max_tokens=200, logit_bias={
                str(self.token("(")): -3, str(self.token(")")): 5}, **made)["choices"][0]
            if choice["finish_reason"] == "stop":
                whole += 1
                tree = ast.parse(choice["text"], mode="eval")
                self.assertTrue(all(isinstance(node, (ast.Expression, ast.BinOp, ast.Add, ast.Name, ast.Load))
                                    for node in ast.walk(tree)), choice["text"])
            else:
                self.assertRegex(choice["text"], r"\A[a-z+ ()]*\Z")
        self.assertGreater(whole, 3)
        text = self.complete(structured_outputs={"grammar": """
            start: "select"i NAME ("," NAME)~0..2 // no ::= but in a comment
            NAME: /[a-z]{1,3}/
            %ignore " " """}, logit_bias={str(self.token(" ")): -9})
        self.assertRegex(text, r"\A *(?i:select) *[a-z]{1,3} *(, *[a-z]{1,3} *){0,2}\Z")
        text = self.complete(structured_outputs={"grammar": 'root ::= "é"{3} x\nx ::= [^\\x00-\\x7f]'})
        self.assertEqual((text[:3], len(text)), ("é" * 3, 4))

    def test_structural_tags(self):
        tags = {"type": "structural_tag", "triggers": ["<f"], "structures": [
            {"begin": "<f>", "schema": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
             "end": "</f>"}]}
        first = {"type": "structural_tag", "format": {
            "type": "triggered_tags", "triggers": ["<f"], "at_least_one": True, "stop_after_first": True,
            "tags": [{"begin": "<f>", "end": "</f>", "content": {
                "type": "json_schema", "json_schema": tags["structures"][0]["schema"]}}]}}
        for body in ({"response_format": first}, {"structured_outputs": {"structural_tag": json.dumps(first)}}):
            text = self.complete(**body)
            self.assertLessEqual(len(json.loads(re.fullmatch(r"<f>(.*)</f>", text, re.DOTALL)[1])), 2)
        for body in ({"response_format": tags}, {"structured_outputs": {"structural_tag": json.dumps(tags)}}):
            # Free text to a model of chance, but for what it would rather say.
            text = self.server.complete(prompt="a b", max_tokens=40, logit_bias={
                str(self.token("<")): 30, str(self.token("f")): 29}, **body)["choices"][0]["text"]
            self.assertIn("<", text)
            for part in text.split("<f")[1:]:
                self.assertRegex(part, r"\A(>|\Z)")

    def test_chats_whole_and_streamed(self):
        body = {"messages": MESSAGES, "max_tokens": 500, "response_format": {
            "type": "json_schema", "json_schema": {"name": "p", "strict": True, "schema": PERSON}}}
        for seed in range(4):
            status, _, text = self.server.ask("POST", CHATS, body | {"seed": seed, "n": 2})
            self.assertEqual(status, 200, text)
            for choice in json.loads(text)["choices"]:
                self.assertIsNone(fault_of(PERSON, choice["message"]["content"]))
            _, _, text = self.server.ask("POST", CHATS, body | {"seed": seed, "stream": True})
            parts = [e["choices"][0]["delta"].get("content") or "" for e in events(text)]
            self.assertIsNone(fault_of(PERSON, "".join(parts)))

    def test_any_object_is_json_as_far_as_it_goes(self):
        whole = 0
        for seed in range(30):
            choice = self.server.complete(
                prompt="a b", max_tokens=300, seed=seed, temperature=1,
                structured_outputs={"json_object": True},
                # A model of chance would nest and write strings for ever.
                logit_bias={str(self.token(end)): 9 for end in ('"', "}", "]")})["choices"][0]
            if choice["finish_reason"] == "stop":
                whole += 1
                self.assertIsInstance(json.loads(choice["text"]), dict)
            else:
                self.assertTrue(choice["text"].startswith("{"))
        self.assertGreater(whole, 10)

    def token(self, text):
        _, _, answer = self.server.ask("POST", "/tokenize", {"prompt": text,
                                                             "add_special_tokens": False})
        return json.loads(answer)["tokens"][0]

    def test_random_schemas_at_once(self):
        random_schemas_at_once(self, self.server, 40, SEED)

    def test_what_cannot_be_is_a_400_that_says_why(self):
        for body, words in (
                ({"structured_outputs": {"json": {"type": "array", "uniqueItems": True}}}, "uniqueItems"),
                ({"structured_outputs": {"json": "{"}}, "not valid JSON"),
                ({"structured_outputs": {"regex": "(a"}}, "without its )"),
                ({"structured_outputs": {"choice": []}}, "at least one"),
                ({"structured_outputs": {"grammar": "root ::= 'a'"}}, "line 1, column 10"),
                ({"structured_outputs": {"grammar": 'root ::= "a"\n  | b'}}, "line 2, column 5: rule 'b'"),
                ({"structured_outputs": {"grammar": "start: a // ::="}}, "line 1, column 8: rule 'a'"),
                ({"structured_outputs": {"grammar": ""}}, "not empty"),
                ({"structured_outputs": {"structural_tag": "{}"}}, "'triggers'"),
                ({"structured_outputs": {"structural_tag": {}}}, "must be a string"),
                ({"response_format": {"type": "structural_tag", "format": {"type": "x"}}}, "'x'"),
                ({"structured_outputs": {"grammar": ["a"]}}, "must be a string"),
                ({"structured_outputs": {}}, "none are specified"),
                ({"structured_outputs": {"regex": "a", "json_object": True}}, "multiple"),
                ({"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}},
                 "multiple"),
                ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "'schema'"),
                ({"response_format": {"type": "yaml"}}, "'yaml'"),
                ({"response_format": {"type": "json_schema", "json_schema": {
                    "name": "x", "schema": {"not": {}}}}}, "nothing matches")):
            error = self.refusal(**body)
            self.assertIn(words, error["message"])
            self.assertIn(error["param"], body)

    def test_every_keyword_that_is_not_supported_is_named(self):
        for schema in ({"type": "array", "uniqueItems": True}, {"unevaluatedItems": False},
                       {"$dynamicRef": "#x"}):
            keyword = list(schema)[-1]
            for body in ({"structured_outputs": {"json": {"type": "object", "properties": {"a": schema}}}},
                         {"response_format": {"type": "json_schema", "json_schema": {
                             "name": "x", "schema": {"anyOf": [{"type": "null"}, schema]}}}}):
                self.assertIn(f"'{keyword}'", self.refusal(**body)["message"])

    def test_null_and_text_ask_for_nothing(self):
        wanted = self.server.complete(prompt="a b", temperature=0)["choices"][0]["text"]
        for body in ({"structured_outputs": None}, {"response_format": {"type": "text"}}):
            text = self.server.complete(prompt="a b", temperature=0, **body)["choices"][0]["text"]
            self.assertEqual(text, wanted)


class Layouts(unittest.TestCase):
    """Who samples has the mask, wherever it is."""

    def test_tensor_and_pipeline_parallel_ranks(self):
        texts = []
        for options in ((), ("-tp", "2"), ("-pp", "2"), ("--no-async-scheduling",)):
            with Server(*options) as server:
                texts.append([server.complete(prompt="a b", max_tokens=300, temperature=0, seed=1,
                                              structured_outputs={"json": PERSON})
                              ["choices"][0]["text"]])
                self.assertIsNone(fault_of(PERSON, texts[-1][0]))
                self.assertEqual(server.stop(), 0)
        self.assertEqual(texts[3], texts[0])

    def test_random_schemas_on_other_models_and_layouts(self):
        golden = SOURCE / "tests/golden"
        for number, (model, *options) in enumerate((
                ("qwen3-bfloat16", "-tp", "2"), ("opt-float32", "-pp", "2"),
                ("qwen3_moe-float32", "-tp", "2", "-pp", "2"), ("mistral_swa-float32",))):
            with self.subTest(model=model), Server(*options, model=golden / model) as server:
                random_schemas_at_once(self, server, 4 if SANITIZED else 12, SEED + 100 + number)
                self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[1:]])
