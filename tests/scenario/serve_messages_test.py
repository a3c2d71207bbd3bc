#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""/v1/messages and /v1/messages/count_tokens of `cohort serve`: what a chat says, in Anthropic's shape."""
import json
import unittest

from served import CHAT_TEMPLATE, CHATS, Server, named_events

MESSAGES = "/v1/messages"
SAY = {"model": "tiny", "max_tokens": 9, "temperature": 0, "messages": [{"role": "user", "content": "a b"}]}
TOOL = {"name": "go", "description": "Goes.", "strict": True,
        "input_schema": {"type": "object", "required": ["at"], "additionalProperties": False,
                         "properties": {"at": {"enum": ["here", "there"]}}}}
KEY = {"x-api-key": "secret"}
OPTIONS = ("--served-model-name", "tiny", "--chat-template", CHAT_TEMPLATE, "--api-key", "secret")


def gathered(events):
    """The message that a client makes of a stream."""
    message, blocks = events[0]["message"], []
    for event in events[1:]:
        if event["type"] == "content_block_start":
            assert event["index"] == len(blocks), event
            blocks.append(dict(event["content_block"]))
        elif event["type"] == "content_block_delta":
            assert event["index"] == len(blocks) - 1, event
            for name, text in event["delta"].items():
                if name != "type":
                    blocks[-1][name] = blocks[-1].get(name, "") + text
        elif event["type"] == "message_delta":
            message = message | event["delta"] | {"usage": event["usage"]}
    for block in blocks:
        if block["type"] == "tool_use":
            block["input"] = json.loads(block.pop("partial_json"))
    return message | {"content": blocks}


def nameless(message):
    """Without what is drawn, and what a whole answer leaves out."""
    blocks = [{name: text for name, text in block.items() if name not in ("id", "signature")}
              for block in message["content"]]
    return {name: value for name, value in message.items() if name != "id" and value is not None} | {"content": blocks}


class Messages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(*OPTIONS, "--enable-auto-tool-choice", "--tool-call-parser", "hermes")

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    def ask(self, path=MESSAGES, status=200, headers=None, server=None, **body):
        found, _, text = (server or self.server).ask("POST", path, body, headers or KEY)
        self.assertEqual(found, status, text)
        return json.loads(text)

    def stream(self, server=None, **body):
        status, headers, text = (server or self.server).ask("POST", MESSAGES, body | {"stream": True}, KEY)
        self.assertEqual((status, headers["Content-Type"]), (200, "text/event-stream; charset=utf-8"), text)
        return named_events(text)

    def test_a_message_says_what_a_chat_does(self):
        answer = self.ask(**SAY, system="c")
        chat = json.loads(self.server.ask("POST", CHATS, {
            "messages": [{"role": "system", "content": "c"}, *SAY["messages"]], "temperature": 0, "max_tokens": 9},
            KEY)[2])
        self.assertEqual(answer["content"], [{"type": "text", "text": chat["choices"][0]["message"]["content"]}])
        self.assertEqual(list(answer), ["id", "type", "role", "content", "model", "stop_reason", "usage"])
        self.assertEqual(answer["usage"], {"input_tokens": chat["usage"]["prompt_tokens"],
                                           "output_tokens": chat["usage"]["completion_tokens"]})
        self.assertEqual((answer["type"], answer["role"], answer["model"], answer["stop_reason"]),
                         ("message", "assistant", "tiny", "max_tokens"))

    def test_a_stream_comes_to_what_is_answered_whole(self):
        calls = {"tools": [TOOL], "max_tokens": 200}
        for more, reason, kinds in (
                ({}, "max_tokens", ["text"]),
                (calls | {"tool_choice": {"type": "any", "disable_parallel_tool_use": True}}, "tool_use", ["tool_use"]),
                (calls | {"tool_choice": {"type": "tool", "name": "go"}}, "tool_use", ["tool_use"])):
            whole = self.ask(**SAY | more)
            found = self.stream(**SAY | more)
            self.assertEqual(nameless(gathered(found)), nameless(whole))
            self.assertEqual((whole["stop_reason"], [block["type"] for block in whole["content"]]), (reason, kinds))
            self.assertEqual(list(dict.fromkeys(event["type"] for event in found)), [
                "message_start", "content_block_start", "content_block_delta", "content_block_stop",
                "message_delta", "message_stop"])
        self.assertIn(whole["content"][0]["input"], [{"at": "here"}, {"at": "there"}])

    def test_a_stop_sequence_is_named(self):
        text = self.ask(**SAY)["content"][0]["text"]
        answer = self.ask(**SAY, stop_sequences=[text[4:6]])
        self.assertEqual((answer["stop_reason"], answer["stop_sequence"]), ("stop_sequence", text[4:6]))
        self.assertEqual(nameless(gathered(self.stream(**SAY, stop_sequences=[text[4:6]]))), nameless(answer))

    def test_thoughts_are_a_block_that_is_signed(self):
        with Server(*OPTIONS, "--reasoning-parser", "qwen3", "--enable-prompt-tokens-details") as server:
            whole = self.ask(server=server, **SAY)
            found = self.stream(server=server, **SAY)
            self.assertEqual([block["type"] for block in whole["content"]], ["thinking"])
            self.assertTrue(whole["content"][0]["signature"])
            last = [event["delta"] for event in found if event["type"] == "content_block_delta"][-1]
            self.assertEqual((last["type"], len(last["signature"])), ("signature_delta", 32))
            self.assertEqual(nameless(gathered(found))["content"], nameless(whole)["content"])
            self.assertEqual(whole["usage"]["cache_read_input_tokens"], 0)
            self.assertEqual(server.stop(), 0)

    def test_tokens_are_counted_as_they_are_answered(self):
        with Server("--served-model-name", "tiny", "--chat-template", "{{ tools | tojson }}" + CHAT_TEMPLATE,
                    "--enable-auto-tool-choice", "--tool-call-parser", "hermes") as server:
            found = []
            for more in ({}, {"system": "c d"}, {"tools": [TOOL]}):
                body = {"model": "tiny", "messages": SAY["messages"]} | more
                found.append(self.ask(MESSAGES + "/count_tokens", server=server, **body)["input_tokens"])
                self.assertEqual(found[-1], self.ask(server=server, **SAY | more)["usage"]["input_tokens"])
            self.assertGreater(found[2], found[0] + 50)
            self.assertEqual(server.stop(), 0)

    def test_a_call_that_is_no_json_breaks_no_answer(self):
        said = ('<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{}'
                '<|tool_call_end|><|tool_calls_section_end|>')
        with Server("--served-model-name", "tiny", "--chat-template", CHAT_TEMPLATE, "--enable-auto-tool-choice",
                    "--tool-call-parser", "kimi_k2") as server:
            for text in ("not json", "{}, 7", "[1]", "NaN"):
                answer = self.ask(server=server, **SAY | {
                    "max_tokens": 400, "tools": [{"name": "f", "input_schema": {"type": "object"}}],
                    "output_config": {"format": {"type": "json_schema", "schema": {"enum": [said.format(text)]}}}})
                for block in answer["content"]:
                    self.assertIn(block["type"], ("text", "tool_use"))
                    self.assertEqual(block.get("input", {}), {})
            self.assertEqual(server.stop(), 0)

    def test_a_template_that_wants_the_system_first_gets_it(self):
        strict = ("{% for message in messages %}{% if message.role == 'system' and not loop.first %}"
                  "{{ raise_exception('system first') }}{% endif %}{{ message.content }} {% endfor %}")
        said = {"model": "tiny", "messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]}
        with Server("--served-model-name", "tiny", "--chat-template", strict) as server:
            ids = json.loads(server.ask("POST", "/tokenize", {"prompt": "b a ", "add_special_tokens": False})[2])
            self.assertEqual(self.ask(MESSAGES + "/count_tokens", server=server, **said)["input_tokens"], ids["count"])
            self.assertEqual(server.stop(), 0)

    def test_keys_come_either_way(self):
        for headers, status in ((KEY, 200), ({"Authorization": "Bearer secret"}, 200), ({"x-api-key": "other"}, 401),
                                ({"Authorization": "Bearer other"}, 401), ({"x-other": "secret"}, 401)):
            self.ask(status=status, headers=headers, **SAY)

    def test_refusals_have_the_shape_of_anthropic(self):
        for body, status, kind, named in (
                (SAY | {"model": "other"}, 404, "NotFoundError", "does not exist"),
                (SAY | {"max_tokens": 0}, 400, "BadRequestError", "must be at least 1"),
                (SAY | {"messages": [{"role": "x", "content": "a"}]}, 400, "BadRequestError", "a role should be"),
                (SAY | {"thinking": {"type": "enabled", "budget_tokens": 7}}, 400, "BadRequestError", "at least 1024"),
                ({"model": "tiny", "messages": []}, 400, "Bad Request", "body.max_tokens")):
            answer = self.ask(status=status, **body)
            self.assertEqual((answer["type"], list(answer["error"])), ("error", ["message", "type"]), answer)
            self.assertEqual(answer["error"]["type"], kind)
            self.assertIn(named, answer["error"]["message"])
        self.ask(MESSAGES + "/count_tokens", status=400, model="tiny", messages=[{"role": "x"}])


if __name__ == "__main__":
    unittest.main()
