#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Chats of `cohort serve`: how templates make prompts of them."""
import json
import os
import shutil
import subprocess
import tempfile
import unittest

from served import CHATS, CHAT_TEMPLATE, DEADLINE_S, MODEL, SOURCE, Server, events


class Chats(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--served-model-name", "tiny", "--chat-template", CHAT_TEMPLATE)

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    @unittest.skipUnless(shutil.which("curl"), "no curl here")
    def test_the_line_to_try_works_in_a_shell(self):
        with tempfile.TemporaryDirectory() as home:
            bare = shutil.copytree(MODEL, f"{home}/bare")
            os.unlink(f"{bare}/tokenizer_config.json")  # it had the template
            for model, options, kind in ((MODEL, ("--api-key", "a key"), "chat.completion"),
                                         (bare, ("--uds", f"{home}/s"), "text_completion")):
                with self.subTest(kind), Server("--served-model-name", 'my "tiny" one', *options,
                                                model=model) as server:
                    line = server.wait_for(rb"Try: (curl .*)\n").group(1).decode()
                    done = subprocess.run(["bash", "-c", line], capture_output=True, timeout=DEADLINE_S,
                                          env=os.environ | {"KEY": "a key", "no_proxy": "127.0.0.1"})
                    answer = json.loads(done.stdout)
                    self.assertEqual((answer.get("object"), answer.get("model")), (kind, 'my "tiny" one'), answer)

    def test_a_template_speaks_for_itself(self):
        template = ("{% if messages[-1].role != 'user' %}{{ raise_exception('users come last') }}"
                    "{% endif %}{{ mood }}: {{ messages[-1].content }}")
        said = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1,
                "return_token_ids": True, "chat_template_kwargs": {"mood": "b c"}}
        with Server("--chat-template", template) as server:
            answer = json.loads(server.ask("POST", CHATS, said)[2])
            ids = json.loads(server.ask("POST", "/tokenize", {
                "prompt": "b c: a", "add_special_tokens": False})[2])["tokens"]
            self.assertEqual(answer["prompt_token_ids"], ids)
            said["messages"].append({"role": "assistant", "content": "b"})
            status, _, text = server.ask("POST", CHATS, said)
            self.assertEqual((status, json.loads(text)["error"]["message"]),
                             (400, "users come last"))
            self.assertEqual(server.stop(), 0)

    def test_templates_of_requests_are_taken_where_they_are_trusted(self):
        said = {"messages": [{"role": "user", "content": "a b"}], "max_tokens": 1,
                "return_token_ids": True}
        own = {"chat_template": "{{ messages[0].content }} c"}
        for route in (CHATS, "/tokenize"):
            for more in (own, {"chat_template_kwargs": own}):
                status, _, text = self.server.ask("POST", route, said | more)
                self.assertEqual((status, json.loads(text)["error"]["message"]), (
                    400, "Chat template is passed with request, but --trust-request-chat-template "
                    "is not set. Refused request with untrusted chat template."))
        with Server("--trust-request-chat-template") as server:  # of a model without one
            ids = json.loads(server.ask("POST", "/tokenize", {
                "prompt": "a b c", "add_special_tokens": False})[2])["tokens"]
            answer = json.loads(server.ask("POST", CHATS, said | own)[2])
            self.assertEqual(answer["prompt_token_ids"], ids)
            for more, named in (({"chat_template_kwargs": own}, "{'chat_template'}"),
                                ({"chat_template_kwargs": {"tokenize": True}}, "{'tokenize'}"),
                                ({"chat_template": "{{ }}"}, "line 1"),
                                ({"chat_template": "{{ raise_exception('no') }}"}, "no"),
                                ({"chat_template": "{% for a in range(99999) %}"
                                  "{% for b in range(99999) %}{% endfor %}{% endfor %}"}, "takes more than")):
                status, _, text = server.ask("POST", CHATS, said | more)
                self.assertEqual(status, 400, text)
                self.assertIn(named, json.loads(text)["error"]["message"])
            self.assertEqual(server.stop(), 0)

    def test_a_chat_is_tokenized_as_it_is_answered(self):
        function = {"type": "function", "function": {"name": "f", "parameters": {}}}
        talk = [{"role": "user", "content": [{"type": "text", "text": one} for one in ("a b", "c")]},
                {"role": "assistant", "content": "a bc "}]
        template = (SOURCE / "tests/golden/qwen3-tokenizer/tokenizer_config.json").read_text()
        template = json.loads(template)["chat_template"]
        with Server("--chat-template", template) as server:
            def tokens(**body):
                status, _, text = server.ask("POST", "/tokenize", body)
                self.assertEqual(status, 200, text)
                answer = json.loads(text)
                self.assertEqual(answer["count"], len(answer["tokens"]))
                return answer["tokens"]

            def text(**body):
                return json.loads(server.ask("POST", "/detokenize", {"tokens": tokens(**body)})[2])[
                    "prompt"]
            for more in ({}, {"add_generation_prompt": False},
                         {"add_generation_prompt": False, "continue_final_message": True},
                         {"chat_template_kwargs": {"enable_thinking": False}},
                         {"tools": [function], "tool_choice": "none"}):
                answer = json.loads(server.ask("POST", CHATS, more | {
                    "messages": talk, "max_tokens": 1, "return_token_ids": True})[2])
                self.assertEqual(answer["prompt_token_ids"], tokens(messages=talk, **more), more)
            self.assertTrue(text(messages=talk, add_generation_prompt=False,
                                 continue_final_message=True).endswith("a bc "))
            shown = text(messages=talk, tools=[function]).split("<tools>")[2].split("</tools>")[0]
            self.assertEqual(json.loads(shown), {"type": "function", "function": {
                "name": "f", "description": None, "parameters": {}}})
            self.assertIn("a b\nc", text(messages=talk))
            self.assertEqual(tokens(messages=talk, return_token_strs=True), tokens(messages=talk))
            for body in ({"messages": talk, "continue_final_message": True}, {"messages": []},
                         {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
                         {"messages": 3}, {"messages": talk, "model": 3}, {}):
                status, _, answer = server.ask("POST", "/tokenize", body)
                self.assertEqual((status, json.loads(answer)["error"]["code"]), (400, 400), body)
            self.assertEqual(server.stop(), 0)

    def test_an_answer_that_goes_on_may_begin_with_what_was_said(self):
        said = {"messages": [{"role": "user", "content": "a"},
                             {"role": "assistant", "content": [{"type": "text", "text": one} for one in ("a b ", "c")]}],
                "max_tokens": 5, "temperature": 0, "add_generation_prompt": False,
                "continue_final_message": True}

        def message(**more):
            answer = json.loads(self.server.ask("POST", CHATS, said | more)[2])
            return answer["choices"][0]["message"]["role"], answer["choices"][0]["message"]["content"]

        def streamed(**more):
            text = self.server.ask("POST", CHATS, said | more | {"stream": True})[2].decode()
            events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
            deltas = [event["choices"][0]["delta"] for event in events]
            return deltas[0]["role"], "".join(delta.get("content", "") for delta in deltas)
        role, text = message()
        self.assertEqual(role, "assistant")
        for ask in (message, streamed):
            self.assertEqual(ask(echo=True), ("assistant", "a b \nc" + text))
            self.assertEqual(ask(), ("assistant", text))
            # Nobody else's turn was begun: it is the user who goes on.
            mine = {"messages": said["messages"][:1], "continue_final_message": False}
            role, plain = ask(**mine)
            self.assertEqual(role, "user")
            self.assertEqual(ask(**mine, echo=True), ("user", "a" + plain))
            mine["add_generation_prompt"] = True
            self.assertEqual(ask(**mine, echo=True), ask(**mine))

    def test_content_comes_in_parts_where_the_template_goes_over_it(self):
        parts = "{% for m in messages %}{% for p in m.content %}[{{ p.text }}]{% endfor %}{% endfor %}"
        talk = {"messages": [{"role": "user", "content": "a b"}], "max_tokens": 1,
                "return_token_ids": True}

        def prompt(*options):
            with Server(*options) as server:
                ids = json.loads(server.ask("POST", CHATS, talk)[2])["prompt_token_ids"]
                found = json.loads(server.ask("POST", "/detokenize", {"tokens": ids})[2])["prompt"]
                self.assertEqual(server.stop(), 0)
                return found
        self.assertEqual(prompt("--chat-template", parts), "[a b]")
        self.assertEqual(prompt("--chat-template", parts, "--chat-template-content-format", "string"),
                         "[][][]")
        self.assertEqual(prompt("--chat-template", "{{ messages[0].content[0].text }}",
                                "--chat-template-content-format", "openai"), "a b")


if __name__ == "__main__":
    unittest.main()
