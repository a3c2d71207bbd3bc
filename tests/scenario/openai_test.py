#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Clients that others wrote, unmodified: the openai package, and schemathesis, which asks
what our own /openapi.json allows and more, and must never see a 5xx."""
import asyncio
import enum
import inspect
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import typing
import unittest

from in_venv import SOURCE, go_on_in

go_on_in("clients")

import openai  # noqa: E402
import pydantic  # noqa: E402

from served import CHAT_TEMPLATE, DEADLINE_S, MORTAL, Server, generate, metrics  # noqa: E402


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Part(pydantic.BaseModel):
    colour: Colour
    size: typing.Literal["small", "large"]


class Thing(pydantic.BaseModel):
    """As programs describe what they want back."""
    name: typing.Annotated[str, pydantic.Field(min_length=1, max_length=9)]
    count: typing.Annotated[int, pydantic.Field(ge=0, le=99)]
    parts: typing.Annotated[list[Part], pydantic.Field(min_length=1, max_length=2)]
    first: Part
    note: typing.Optional[typing.Literal["yes", "no"]]
    fine: bool


class Weather(pydantic.BaseModel):
    city: typing.Literal["Paris", "Rome"]
    days: typing.Annotated[int, pydantic.Field(ge=1, le=9)]


TALK = [{"role": "user", "content": "A thing, please."}]


class OpenAI(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--served-model-name", "tiny", "--api-key", "secret",
                            "--chat-template", CHAT_TEMPLATE, "--enable-auto-tool-choice",
                            "--tool-call-parser", "hermes", "--max-body-bytes", "1MB")
        cls.url = f"http://127.0.0.1:{cls.server.port}/v1"
        cls.options = {"base_url": cls.url, "api_key": "secret", "timeout": DEADLINE_S,
                       "max_retries": 0}
        cls.client = openai.OpenAI(**cls.options)

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        cls.server.close()

    def complete(self, **more):
        return self.client.completions.create(**{"model": "tiny", "prompt": "a b c",
                                                 "max_tokens": 9, "temperature": 0} | more)

    def test_models_are_listed(self):
        self.assertEqual([model.id for model in self.client.models.list()], ["tiny"])

    def test_text_is_that_of_generate(self):
        answer = self.complete()
        self.assertEqual(answer.choices[0].text, generate([{"prompt": "a b c",
                                                            "max_tokens": 9}])[0])
        self.assertEqual(answer.choices[0].finish_reason, "length")
        self.assertEqual((answer.object, answer.model), ("text_completion", "tiny"))
        self.assertEqual(answer.usage.completion_tokens, 9)
        self.assertEqual(answer.usage.total_tokens, answer.usage.prompt_tokens + 9)

    def test_tools_are_called(self):
        schema = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}},
                  "required": ["city"], "additionalProperties": False}
        tools = [{"type": "function", "function": {"name": "weather", "parameters": schema,
                                                    "strict": True}}]
        body = {"model": "tiny", "messages": [{"role": "user", "content": "Rome?"}],
                "max_tokens": 300, "tools": tools, "parallel_tool_calls": False}
        for choice in ("required", {"type": "function", "function": {"name": "weather"}}):
            answer = self.client.chat.completions.create(tool_choice=choice, **body)
            (call,) = answer.choices[0].message.tool_calls
            self.assertEqual(call.function.name, "weather")
            self.assertIn(json.loads(call.function.arguments)["city"], ("Paris", "Rome"))
            with self.client.chat.completions.stream(tool_choice=choice, **body) as stream:
                for _ in stream:
                    pass
                (call,) = stream.get_final_completion().choices[0].message.tool_calls
            self.assertIn(json.loads(call.function.arguments)["city"], ("Paris", "Rome"))
        # The conversation goes on with what the tool said.
        talk = body["messages"] + [
            {"role": "assistant", "tool_calls": [{"id": call.id, "type": "function", "function": {
                "name": "weather", "arguments": call.function.arguments}}]},
            {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
        answer = self.client.chat.completions.create(model="tiny", messages=talk, tools=tools,
                                                     max_tokens=4)
        self.assertTrue(answer.choices[0].message.content)

    def test_streams_make_the_same_text(self):
        whole = self.complete().choices[0].text
        chunks = list(self.complete(stream=True, stream_options={"include_usage": True}))
        self.assertEqual("".join(chunk.choices[0].text for chunk in chunks if chunk.choices), whole)
        self.assertEqual(chunks[-1].choices, [])
        self.assertEqual(chunks[-1].usage.completion_tokens, 9)
        self.assertEqual([chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1],
                         "length")

    def chat(self, *messages, **more):
        return self.client.chat.completions.create(**{
            "model": "tiny", "messages": list(messages), "max_completion_tokens": 9,
            "temperature": 0} | more)

    def test_a_chat_is_a_completion_of_the_rendered_template(self):
        said = ({"role": "system", "content": "Be kind."},
                {"role": "user", "content": [{"type": "text", "text": "Hi"},
                                             {"type": "text", "text": "you"}]})
        answer = self.chat(*said, logprobs=True, top_logprobs=2)
        text = self.complete(prompt="system: Be kind.\nuser: Hi\nyou\nassistant: ",
                             extra_body={"add_special_tokens": False}).choices[0].text
        self.assertEqual([choice.message.content for choice in answer.choices], [text])
        self.assertEqual(answer.choices[0].message.role, "assistant")
        self.assertEqual((answer.object, answer.choices[0].finish_reason),
                         ("chat.completion", "length"))
        logprobs = answer.choices[0].logprobs.content
        self.assertEqual([len(token.top_logprobs) for token in logprobs], [2] * 9)
        self.assertEqual("".join(token.token for token in logprobs), text)
        chunks = list(self.chat(*said, stream=True))
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        self.assertEqual("".join(chunk.choices[0].delta.content for chunk in chunks), text)
        self.assertEqual(chunks[-1].choices[0].finish_reason, "length")

    def test_the_last_message_may_be_gone_on_with(self):
        said = ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "a b c"})
        answer = self.chat(*said, extra_body={"add_generation_prompt": False,
                                              "continue_final_message": True})
        text = self.complete(prompt="user: Hi\nassistant: a b c",
                             extra_body={"add_special_tokens": False}).choices[0].text
        self.assertEqual(answer.choices[0].message.content, text)

    def test_parameters_arrive(self):
        self.assertEqual(len(self.complete(n=3, temperature=1, seed=1).choices), 3)
        self.assertEqual(self.complete(temperature=1, seed=5).choices[0].text,
                         self.complete(temperature=1, seed=5).choices[0].text)
        logprobs = self.complete(logprobs=2).choices[0].logprobs
        self.assertEqual(len(logprobs.tokens), 9)
        self.assertGreaterEqual(min(map(len, logprobs.top_logprobs)), 2)
        text = self.complete().choices[0].text
        stopped = self.complete(stop=[text[4]]).choices[0]
        self.assertEqual((stopped.text, stopped.finish_reason), (text[:text.index(text[4])], "stop"))
        self.assertTrue(self.complete(echo=True).choices[0].text.endswith(text))
        ids = self.complete(extra_body={"return_token_ids": True}).choices[0].token_ids
        self.assertEqual(len(ids), 9)
        biased = self.complete(logit_bias={"65": 100}, extra_body={"return_token_ids": True})
        self.assertEqual(biased.choices[0].token_ids, [65] * 9)
        several = self.complete(prompt=["a b c", "b"])
        self.assertEqual([choice.index for choice in several.choices], [0, 1])
        self.assertEqual(several.choices[0].text, text)

    def test_schemas_hold(self):
        schema = {"name": "thing", "strict": True, "schema": Thing.model_json_schema()}
        body = {"max_completion_tokens": 600, "temperature": 1,
                "response_format": {"type": "json_schema", "json_schema": schema}}
        for seed in range(4):
            answer = self.chat(*TALK, seed=seed, n=2, **body)
            for choice in answer.choices:
                Thing.model_validate_json(choice.message.content)
                self.assertEqual(choice.finish_reason, "stop")
            chunks = list(self.chat(*TALK, seed=seed, stream=True, **body))
            Thing.model_validate_json("".join(chunk.choices[0].delta.content or "" for chunk in chunks))
        # A model of chance would nest and write strings for ever.
        ends = {str(self.token(end)): 9 for end in '"}]'}
        for seed in range(30):
            choice = self.chat(*TALK, response_format={"type": "json_object"}, temperature=1,
                               seed=seed, max_completion_tokens=900, logit_bias=ends).choices[0]
            if choice.finish_reason == "stop":
                break
        self.assertIsInstance(json.loads(choice.message.content), dict)

    def token(self, text):
        _, _, answer = self.server.ask("POST", "/tokenize", {
            "prompt": text, "add_special_tokens": False}, {"Authorization": "Bearer secret"})
        return json.loads(answer)["tokens"][0]

    def test_models_of_pydantic_are_parsed(self):
        parsed = set()
        for seed in range(4):
            body = {"model": "tiny", "messages": TALK, "max_completion_tokens": 600, "seed": seed}
            (choice,) = self.client.chat.completions.parse(response_format=Thing, **body).choices
            self.assertIsInstance(choice.message.parsed, Thing)
            self.assertIsInstance(choice.message.parsed.first.colour, Colour)
            parsed.add(choice.message.content)
            kinds = []
            with self.client.chat.completions.stream(response_format=Thing, **body) as stream:
                for event in stream:
                    kinds.append(event.type)
                (choice,) = stream.get_final_completion().choices
            self.assertIsInstance(choice.message.parsed, Thing)
            self.assertEqual(kinds[-1], "content.done")
            self.assertIn("content.delta", kinds)
        self.assertGreater(len(parsed), 1)
        with self.assertRaises(openai.LengthFinishReasonError):
            self.client.chat.completions.parse(model="tiny", messages=TALK, response_format=Thing,
                                               max_completion_tokens=5)

    def test_functions_of_pydantic_are_parsed(self):
        tools = [openai.pydantic_function_tool(Weather)]
        body = {"model": "tiny", "messages": TALK, "max_completion_tokens": 300, "tools": tools,
                "tool_choice": "required", "parallel_tool_calls": False}
        for seed in range(3):
            answer = self.client.chat.completions.parse(seed=seed, **body)
            (call,) = answer.choices[0].message.tool_calls
            self.assertIsInstance(call.function.parsed_arguments, Weather)
            with self.client.chat.completions.stream(seed=seed, **body) as stream:
                kinds = [event.type for event in stream]
                (call,) = stream.get_final_completion().choices[0].message.tool_calls
            self.assertIsInstance(call.function.parsed_arguments, Weather)
            self.assertIn("tool_calls.function.arguments.delta", kinds)
            self.assertIn("tool_calls.function.arguments.done", kinds)

    def check_all(self, ask, common, values):
        """Each alone and all together; the package knows no others."""
        known = set(inspect.signature(ask).parameters)
        self.assertEqual(known, set(common) | set(values) | {
            "extra_headers", "extra_query", "extra_body", "timeout"})
        for name, value in values.items():
            with self.subTest(name):
                answer = ask(**common | {name: value} | (
                    {"logprobs": True} if name == "top_logprobs" else {}) | (
                    {"stream": True} if name == "stream_options" else {}) | (
                    {"tools": values["tools"]} if name in (
                        "tool_choice", "parallel_tool_calls") else {}))
                if name in ("stream", "stream_options"):
                    self.assertTrue(list(answer)[0].choices)
                else:
                    self.assertTrue(answer.choices)
        values = {name: value for name, value in values.items() if name != "functions"}
        chunks = list(ask(**common | values))
        self.assertTrue(any(chunk.choices for chunk in chunks))
        self.assertGreater(chunks[-1].usage.completion_tokens, 0)

    def test_every_parameter_of_completions_is_taken(self):
        self.check_all(self.client.completions.create, {
            "model": "tiny", "prompt": "a b c", "max_tokens": 9}, {
            "best_of": 1, "echo": True, "frequency_penalty": 0.5, "logit_bias": {"65": 1},
            "logprobs": 2, "n": 2, "presence_penalty": 0.5, "seed": 3, "stop": ["~~", "@@"],
            "stream": True, "stream_options": {"include_usage": True}, "suffix": None,
            "temperature": 0.5, "top_p": 0.9, "user": "me"})

    def test_every_parameter_of_chats_is_taken(self):
        """Those of sound and of OpenAI's own machinery do nothing, as in vLLM."""
        tool = openai.pydantic_function_tool(Weather)
        self.check_all(self.client.chat.completions.create, {
            "model": "tiny", "messages": TALK, "max_completion_tokens": 300}, {
            "audio": {"format": "wav", "voice": "alloy"}, "frequency_penalty": 0.5,
            "function_call": "none", "functions": [{"name": "f"}], "logit_bias": {"65": 1},
            "logprobs": True, "max_tokens": 9, "metadata": {"a": "b"}, "modalities": ["text"],
            "moderation": {"model": "m"}, "n": 2, "parallel_tool_calls": False,
            "prediction": {"type": "content", "content": "a"}, "presence_penalty": 0.5,
            "prompt_cache_key": "k", "prompt_cache_options": {}, "prompt_cache_retention": "24h",
            "reasoning_effort": "low", "response_format": {"type": "text"},
            "safety_identifier": "s", "seed": 3, "service_tier": "auto", "stop": ["~~", "@@"],
            "store": False, "stream": True, "stream_options": {"include_usage": True},
            "temperature": 0.5, "tool_choice": "required", "tools": [tool], "top_logprobs": 2,
            "top_p": 0.9, "user": "me", "verbosity": "low", "web_search_options": {}})

    def test_errors_have_the_kinds_that_the_package_knows(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            self.complete(max_tokens=-1)
        self.assertIn("max_tokens", caught.exception.message)
        self.assertEqual(caught.exception.param, "max_tokens")
        with self.assertRaises(openai.NotFoundError):
            self.complete(model="other")
        with self.assertRaises(openai.AuthenticationError):
            openai.OpenAI(**self.options | {"api_key": "wrong"}).models.list()
        with self.assertRaises(openai.BadRequestError):
            self.complete(stream=True, temperature=7)
        with self.assertRaises(openai.BadRequestError) as caught:
            self.chat(*TALK, response_format={"type": "json_schema", "json_schema": {
                "name": "s", "schema": {"unevaluatedItems": False}}})
        self.assertIn("'unevaluatedItems'", caught.exception.message)
        with self.assertRaises(openai.APIStatusError) as caught:
            self.complete(prompt="a" * 1100000)
        self.assertEqual(caught.exception.status_code, 413)

    def test_clients_that_wait_no_longer_end_their_requests(self):
        for ask, what in ((self.client.completions, {"prompt": "a"}),
                          (self.client.chat.completions, {"messages": TALK})):
            with self.assertRaises(openai.APITimeoutError):
                ask.create(model="tiny", max_tokens=1900, n=1000, timeout=0.2,
                           extra_body={"ignore_eos": True}, **what)
            self.server.wait_load(0)

    def test_errors_of_servers_that_fail_or_end(self):
        with Server("--served-model-name", "tiny", "-tp", "2", *MORTAL,
                    "--keep-alive-on-engine-death") as server:
            client = openai.OpenAI(**self.options | {
                "base_url": f"http://127.0.0.1:{server.port}/v1"})
            stream = client.completions.create(model="tiny", stream=True, prompt="a b", n=1000,
                                               max_tokens=1900, extra_body={"ignore_eos": True})
            next(iter(stream))
            os.kill(server.workers()[1], signal.SIGKILL)
            with self.assertRaises(openai.APIError) as caught:
                for _ in stream:
                    pass
            self.assertIn("rank 1", caught.exception.message)
            with self.assertRaises(openai.InternalServerError) as caught:
                client.completions.create(model="tiny", prompt="a")
            self.assertEqual(caught.exception.status_code, 503)
            server.stop()
            with self.assertRaises(openai.APIConnectionError):
                client.models.list()
            client.close()

    def test_many_at_once_answer_as_one_alone(self):
        prompts = ["a" * (i % 5 + 1) for i in range(24)]
        alone = generate([{"prompt": prompt, "max_tokens": 12} for prompt in prompts])

        async def run():
            async with openai.AsyncOpenAI(**self.options) as client:
                return await asyncio.gather(*(client.completions.create(
                    model="tiny", prompt=prompt, max_tokens=12, temperature=0)
                    for prompt in prompts))
        self.assertEqual([answer.choices[0].text for answer in asyncio.run(run())], alone)

    def test_a_stream_that_is_closed_ends_its_request(self):
        stream = self.complete(stream=True, max_tokens=1900, n=1000, temperature=1,
                               extra_body={"ignore_eos": True})
        next(iter(stream))
        stream.close()
        self.server.wait_load(0)


class Schemathesis(unittest.TestCase):
    def test_no_request_is_answered_with_a_5xx(self):
        examples = os.environ.get("COHORT_EXAMPLES", "30")
        with Server("--served-model-name", "tiny", "--max-model-len", "256", "--chat-template",
                    CHAT_TEMPLATE, "--enable-auto-tool-choice", "--tool-call-parser",
                    "hermes") as server:
            tool = pathlib.Path(sys.executable).with_name("schemathesis")
            done = subprocess.run(
                [tool, "run", f"http://127.0.0.1:{server.port}/openapi.json", "--checks",
                 "not_a_server_error", "--max-examples", examples, "--seed", "1", "--phases",
                 "coverage,fuzzing", "--request-timeout", str(DEADLINE_S)],
                cwd=server.home.name, text=True, capture_output=True,
                timeout=DEADLINE_S * 10, check=False, env=os.environ | {
                    "SCHEMATHESIS_HOOKS": str(SOURCE / "tests/scenario/schemathesis_hooks.py")})
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            cases = re.search(r"(\d+) generated, \1 passed", done.stdout)
            self.assertIsNotNone(cases, done.stdout)
            self.assertGreater(int(cases[1]), 100)
            for path in ("/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize"):
                for status in ("2xx", "4xx"):
                    n = sum(value for labels, value in metrics(server)[0][
                        "http_requests_total"].items() if path in labels and status in labels)
                    self.assertGreater(n, 10, (path, status))
            self.assertEqual(server.ask("GET", "/health")[0], 200)
            self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    unittest.main()
