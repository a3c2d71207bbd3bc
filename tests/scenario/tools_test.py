#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Calls of tools and thoughts, asked of real servers whose model has random weights: what
must be a call is one and its arguments validate, and the answers have the skeletons that
vLLM 0.32 gave (tests/golden/vllm_api/tools.json)."""
import json
import subprocess
import sys
import unittest

from in_venv import SOURCE, go_on_in

go_on_in("schemas")
sys.path.append(str(SOURCE / "scripts"))

from schema_cases import fault_of  # noqa: E402
from served import CHAT_TEMPLATE, CHATS, COHORT, DEADLINE_S, MODEL, Server, events  # noqa: E402

RECORDED = json.loads((SOURCE / "tests/golden/vllm_api/tools.json").read_text())
WEATHER = {"type": "object", "required": ["city", "days"], "additionalProperties": False,
           "properties": {"city": {"enum": ["Paris", "Rome"]}, "days": {"enum": [1, 2]}}}
PLACE = {"type": "object", "required": ["at"], "additionalProperties": False,
         "properties": {"at": {"$ref": "#/$defs/point"}},
         "$defs": {"point": {"type": "array", "items": {"type": "integer", "minimum": 0,
                                                        "maximum": 9},
                             "minItems": 2, "maxItems": 2}}}
SCHEMAS = {"get_weather": WEATHER, "go": PLACE}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": schema, "strict": True}}
         for name, schema in SCHEMAS.items()]
MESSAGES = [{"role": "user", "content": "Rome?"}]
KEPT = ("finish_reason", "type", "role", "object", "message", "param")


def skeleton(value, key=None):
    """Without what a model, a clock or a chance decides."""
    if isinstance(value, dict):
        return {name: skeleton(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [skeleton(item) for item in value]
    if isinstance(value, str):
        return value if key in KEPT else "s"
    if isinstance(value, bool) or value is None:
        return value
    return value if key in ("code", "index") else 0


def called(answer):
    """(name, arguments) of each call of a whole answer's first choice."""
    return [(call["function"]["name"], call["function"]["arguments"])
            for call in answer["choices"][0]["message"].get("tool_calls", [])]


def gathered(chunks):
    """What a client makes of a stream: content, thoughts, calls, reason."""
    content, thoughts, calls, reason = "", "", [], None
    for chunk in chunks:
        choice = chunk["choices"][0]
        delta = choice["delta"]
        content += delta.get("content") or ""
        thoughts += delta.get("reasoning") or ""
        for piece in delta.get("tool_calls", []):
            if "id" in piece:
                assert piece["index"] == len(calls) and piece["type"] == "function"
                calls.append([piece["function"]["name"], ""])
            calls[piece["index"]][1] += piece["function"].get("arguments", "")
        reason = choice["finish_reason"] or reason
    return content, thoughts, [tuple(call) for call in calls], reason


class Served(unittest.TestCase):
    flags = ()

    @classmethod
    def setUpClass(cls):
        cls.server = Server("--served-model-name", "tiny", "--chat-template", CHAT_TEMPLATE,
                            "--enable-auto-tool-choice", "--tool-call-parser", "hermes",
                            *cls.flags)

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    def chat(self, **body):
        body = {"messages": MESSAGES, "max_tokens": 400, "temperature": 1, **body}
        status, _, text = self.server.ask("POST", CHATS, body)
        self.assertEqual(status, 200, text)
        return events(text) if body.get("stream") else json.loads(text)

    def check_recorded(self, parser):
        for case in RECORDED:
            if case["reasoning_parser"] != parser:
                continue
            with self.subTest(case["name"]):
                status, _, text = self.server.ask("POST", CHATS, case["request"])
                answers = events(text) if case["request"].get("stream") else [json.loads(text)]
                got = []
                for answer in map(skeleton, answers):  # one of those that repeat
                    if not got or got[-1] != answer:
                        got.append(answer)
                self.assertEqual(status, case["status"])
                self.assertEqual(got, [s for s in case["skeletons"] if s != "data: [DONE]"
                                       and s != "[DONE]"])


class Calls(Served):
    def test_recorded(self):
        self.check_recorded("")

    def test_a_named_function_is_called(self):
        for seed in range(6):
            for name, schema in SCHEMAS.items():
                body = {"tools": TOOLS, "seed": seed,
                        "tool_choice": {"type": "function", "function": {"name": name}}}
                ((got, arguments),) = called(self.chat(**body))
                self.assertEqual(got, name)
                self.assertIsNone(fault_of(schema, arguments))
                content, _, calls, reason = gathered(self.chat(stream=True, **body))
                self.assertEqual((content, reason), ("", "stop"))
                self.assertEqual([json.loads(text) for _, text in calls],
                                 [json.loads(arguments)])

    def test_required_calls_are_of_the_tools(self):
        names = set()
        for seed in range(8):
            body = {"tools": TOOLS, "tool_choice": "required", "seed": seed,
                    "parallel_tool_calls": False}
            answer = self.chat(**body)
            ((name, arguments),) = called(answer)
            self.assertIsNone(fault_of(SCHEMAS[name], arguments))
            self.assertEqual(answer["choices"][0]["finish_reason"], "tool_calls")
            _, _, calls, reason = gathered(self.chat(stream=True, **body))
            self.assertEqual([call[0] for call in calls], [name])
            self.assertEqual(reason, "tool_calls")
            names.add(name)
        self.assertEqual(names, set(SCHEMAS))

    def test_what_a_model_calls_of_itself_is_found(self):
        two = ('Well. <tool_call>\n{"name": "go", "arguments": {"at": [1, 2.50]}}\n</tool_call>\n'
               '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>')
        broken = '<tool_call>\n{"name": "go", "arguments": {"at": [1}}\n</tool_call>'
        for text, content, expected in (
                (two, "Well. ", [("go", '{"at": [1, 2.50]}'), ("now", "{}")]),
                (broken, broken, []), ("No call.", "No call.", [])):
            body = {"tools": TOOLS, "structured_outputs": {"choice": [text]}}
            answer = self.chat(**body)
            choice = answer["choices"][0]
            self.assertEqual((choice["message"]["content"], called(answer)), (content, expected))
            self.assertEqual(choice["finish_reason"], "tool_calls" if expected else "stop")
            if text == broken:
                continue  # a stream has begun to tell of the call by then
            said, _, calls, reason = gathered(self.chat(stream=True, **body))
            self.assertEqual((said, calls), (content, expected))
            self.assertEqual(reason, choice["finish_reason"])
            first = self.chat(parallel_tool_calls=False, **body)
            self.assertEqual(called(first), expected[:1])
            _, _, calls, _ = gathered(self.chat(parallel_tool_calls=False, stream=True, **body))
            self.assertEqual(calls, expected[:1])

    def test_without_tools_tags_are_content(self):
        text = '<tool_call>\n{"name": "go", "arguments": {}}\n</tool_call>'
        for more in ({}, {"tools": TOOLS, "tool_choice": "none"}):
            body = {"structured_outputs": {"choice": [text]}, **more}
            self.assertEqual(self.chat(**body)["choices"][0]["message"]["content"], text)
            self.assertEqual(gathered(self.chat(stream=True, **body))[0], text)

    def test_parameters_that_no_grammar_holds_to_are_named(self):
        tools = [{"type": "function", "function": {"name": "f", "strict": True, "parameters": {
            "type": "object", "unevaluatedItems": False}}}]
        status, _, text = self.server.ask("POST", CHATS, {
            "messages": MESSAGES, "tools": tools, "tool_choice": "required"})
        self.assertEqual(status, 400, text)
        self.assertEqual(json.loads(text)["error"]["param"], "tools")

    def test_only_strict_holds_the_arguments(self):
        free = {"type": "object", "not": {}, "$dynamicRef": "#x", "properties": {"a": {"type": "none"}}}
        for choice in ("required", {"type": "function", "function": {"name": "f"}}):
            for more in ({}, {"strict": False}, {"strict": None}):
                tools = [{"type": "function", "function": {"name": "f", "parameters": free, **more}}]
                calls = called(self.chat(tools=tools, tool_choice=choice, temperature=0))
                for name, arguments in calls:
                    self.assertEqual(name, "f")
                    self.assertIsInstance(json.loads(arguments), dict)


class Thoughts(Served):
    flags = ("--reasoning-parser", "qwen3")

    def test_recorded(self):
        self.check_recorded("qwen3")

    def test_all_is_thought_until_it_ends(self):
        answer = self.chat(max_tokens=7, ignore_eos=True, return_token_ids=True)
        message = answer["choices"][0]["message"]
        self.assertIsNone(message["content"])
        self.assertTrue(message["reasoning"])
        self.assertEqual(len(answer["choices"][0]["token_ids"]), 7)
        details = answer["usage"]["completion_tokens_details"]
        self.assertLessEqual(details["reasoning_tokens"], 7)
        self.assertGreater(details["reasoning_tokens"], 3)
        chunks = self.chat(max_tokens=7, ignore_eos=True, stream=True, temperature=0,
                           stream_options={"include_usage": True})
        self.assertIn("completion_tokens_details", chunks.pop()["usage"])
        whole = self.chat(max_tokens=7, ignore_eos=True, temperature=0)
        content, thoughts, _, _ = gathered(chunks)
        self.assertEqual((content, thoughts),
                         ("", whole["choices"][0]["message"]["reasoning"]))

    def test_hidden_thoughts_show_nowhere(self):
        body = {"include_reasoning": False, "logprobs": True, "return_token_ids": True,
                "structured_outputs": {"choice": ["<think>secret</think>Well"]}}
        status, _, text = self.server.ask("POST", CHATS, {"messages": MESSAGES, **body})
        self.assertEqual(status, 200, text)
        choice = json.loads(text)["choices"][0]
        self.assertEqual(choice["message"]["content"], "Well")
        self.assertIsNone(choice["logprobs"])
        self.assertIsNone(choice["token_ids"])
        self.assertNotIn(b"secret", text)
        _, _, text = self.server.ask("POST", CHATS, {"messages": MESSAGES, "stream": True, **body})
        self.assertEqual(gathered(events(text))[:2], ("Well", ""))


class Ended(Served):
    """A prompt that has ended the thoughts already, as templates write where none are wanted."""

    flags = ("--reasoning-parser", "deepseek_r1", "--chat-template",
             "{% for m in messages %}{{ m.content }}{% endfor %}<think>\n\n</think>\n\n")

    def test_the_grammar_begins_at_once(self):
        answer = self.chat(structured_outputs={"choice": ["Well"]})
        message = answer["choices"][0]["message"]
        self.assertEqual((message["content"], message["reasoning"]), ("Well", None))
        body = {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False}
        ((name, arguments),) = called(self.chat(**body))
        self.assertIsNone(fault_of(SCHEMAS[name], arguments))


class Forms(unittest.TestCase):
    """What is held to be a call in a model's own form is found in every API, whole and streamed."""

    def answers(self, server, text, tools):
        asked = {"tools": tools, "temperature": 0, "structured_outputs": {"choice": [text]}}
        chat = {"messages": MESSAGES, "max_tokens": 200} | asked
        whole = json.loads(server.ask("POST", CHATS, chat)[2])
        chunks = events(server.ask("POST", CHATS, chat | {"stream": True})[2])
        self.assertEqual(gathered(chunks)[2], called(whole))
        flat = [{"type": "function"} | tool["function"] for tool in tools]
        response = json.loads(server.ask("POST", "/v1/responses", asked | {"input": "Rome?", "tools": flat})[2])
        self.assertEqual([(item["name"], item["arguments"]) for item in response["output"]], called(whole))
        return [(name, json.loads(arguments)) for name, arguments in called(whole)]

    def test_the_form_is_as_asked_or_as_the_template_has_it(self):
        tools = [{"type": "function", "function": {"name": "f", "parameters": {
            "type": "object", "properties": {"n": {"type": "integer"}}}}}]
        for form, template, text in (
                ("qwen3_coder", CHAT_TEMPLATE, "<function=f><parameter=n>2</parameter></function>"),
                ("auto", CHAT_TEMPLATE + "{# [TOOL_CALLS] #}", '[TOOL_CALLS]f{"n": 2}'),
                ("llama3_json", CHAT_TEMPLATE, '{"name": "f", "parameters": {"n": 2}}')):
            with Server("--enable-auto-tool-choice", "--tool-call-parser", form, "--chat-template", template) as server:
                if form == "auto":
                    self.assertIn(b"--tool-call-parser auto is mistral", server.text())
                self.assertEqual(self.answers(server, text, tools), [("f", {"n": 2})])
                self.assertEqual(server.stop(), 0)

    def test_what_must_be_called_is_read_as_it_is_held(self):
        body = {"messages": MESSAGES, "tools": TOOLS, "tool_choice": "required", "temperature": 0,
                "parallel_tool_calls": False}
        with Server("--tool-call-parser", "mistral", "--chat-template", CHAT_TEMPLATE) as server:
            ((name, arguments),) = called(json.loads(server.ask("POST", CHATS, body)[2]))
            self.assertIsNone(fault_of(SCHEMAS[name], arguments))
            self.assertEqual(server.stop(), 0)


class Flags(unittest.TestCase):
    def test_unknown_parsers_are_refused(self):
        for flags, text in ((("--tool-call-parser", "nonsense"), "llama3_json"),
                            (("--tool-call-parser", "auto", "--chat-template", CHAT_TEMPLATE), "name one"),
                            (("--reasoning-parser", "o1"), "qwen3"),
                            (("--enable-auto-tool-choice",), "requires --tool-call-parser")):
            done = subprocess.run([COHORT, "serve", MODEL, "--port", "0", *flags], capture_output=True, text=True,
                                  timeout=DEADLINE_S, check=False)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(text, done.stderr)


if __name__ == "__main__":
    unittest.main()
