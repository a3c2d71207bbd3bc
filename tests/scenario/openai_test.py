#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Clients that others wrote, unmodified: the openai package, and schemathesis, which asks
what our own /openapi.json allows and more, and must never see a 5xx."""
import asyncio
import os
import pathlib
import re
import subprocess
import sys
import unittest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
if "COHORT_CLIENTS" not in os.environ:  # again, by the Python that has the clients
    made = subprocess.run([SOURCE / "scripts/test_venv.sh", "clients"], stdout=subprocess.PIPE,
                          text=True, check=False)
    if made.returncode:
        sys.exit(77)
    os.environ["COHORT_CLIENTS"] = made.stdout.strip()
    os.execv(made.stdout.strip(), [made.stdout.strip(), *sys.argv])

import openai  # noqa: E402

from serve_test import CHAT_TEMPLATE, DEADLINE_S, Server, generate  # noqa: E402


class OpenAI(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--served-model-name", "tiny", "--api-key", "secret",
                            "--chat-template", CHAT_TEMPLATE)
        cls.url = f"http://127.0.0.1:{cls.server.port}/v1"
        cls.options = {"base_url": cls.url, "api_key": "secret", "timeout": DEADLINE_S,
                       "max_retries": 0}
        cls.client = openai.OpenAI(**cls.options)

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        cls.server.stop()
        cls.server.__exit__()

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
        with Server("--served-model-name", "tiny", "--max-model-len", "256") as server:
            tool = pathlib.Path(sys.executable).with_name("schemathesis")
            done = subprocess.run(
                [tool, "run", f"http://127.0.0.1:{server.port}/openapi.json", "--checks",
                 "not_a_server_error", "--max-examples", examples, "--seed", "1", "--phases",
                 "coverage,fuzzing"], cwd=server.home.name, text=True, capture_output=True,
                timeout=DEADLINE_S * 10, check=False)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            cases = re.search(r"(\d+) generated, \1 passed", done.stdout)
            self.assertIsNotNone(cases, done.stdout)
            self.assertGreater(int(cases[1]), 100)
            self.assertEqual(server.ask("GET", "/health")[0], 200)
            self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    unittest.main()
