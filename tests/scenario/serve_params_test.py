#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the parameters of a request do, and which are refused."""
import json
import unittest

from served import CHATS, CHAT_TEMPLATE, COMPLETIONS, Server, events


class Parameters(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--served-model-name", "tiny", "--chat-template", CHAT_TEMPLATE)

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    def test_words_and_tokens_can_be_kept_away(self):
        asked = {"prompt": "a b c", "max_tokens": 12, "temperature": 0, "return_token_ids": True}

        def choice(**more):
            return self.server.complete(**(asked | more))["choices"][0]

        def words(ids):
            return json.loads(self.server.ask("POST", "/detokenize", {"tokens": ids})[2])["prompt"]
        free = choice()["token_ids"]
        word = words(free[:1])
        self.assertNotIn(free[0], choice(bad_words=[word])["token_ids"])
        # Two tokens that follow each other, where these are what their text is made of.
        for i in range(1, len(free) - 1):
            pair = words(free[i:i + 2])
            ids = json.loads(self.server.ask("POST", "/tokenize", {
                "prompt": pair, "add_special_tokens": False})[2])["tokens"]
            if ids == free[i:i + 2] and free.index(free[i]) == i:
                break
        else:
            self.fail(f"no pair in {free}")
        without = choice(bad_words=[pair])["token_ids"]
        self.assertNotIn(tuple(ids), set(zip(without, without[1:])))
        self.assertEqual(without[:i + 1], free[:i + 1])
        for more in ({}, {"temperature": 1.5, "seed": 3}, {"bad_words": [word], "logprobs": 2}):
            ids = choice(allowed_token_ids=[9, 11, 40], **more)["token_ids"]
            self.assertLessEqual(set(ids), {9, 11, 40})
            self.assertEqual(len(ids), 12)
        many = [f"w{i}" for i in range(300)]
        both = self.server.complete(**(asked | {"prompt": ["a b c"] * 2, "bad_words": [word, *many]}))
        self.assertEqual(*(one["token_ids"] for one in both["choices"]))
        self.assertNotIn(free[0], both["choices"][0]["token_ids"])
        for body in ({"bad_words": [""]}, {"bad_words": ["a" * 1025]}, {"bad_words": ["a b" * 300] * 9},
                     {"bad_words": "a"}):
            self.assertEqual(self.server.ask("POST", COMPLETIONS, asked | body)[0], 400, body)
        done = choice(structured_outputs={"regex": "[ab]{4}"}, allowed_token_ids=[9])
        self.assertRegex(done["text"], "^[ab]{4}$")  # what a grammar asks for comes first

    def test_ids_are_whatever_pydantic_takes_for_integers(self):
        asked = {"max_tokens": 4, "temperature": 0, "return_token_ids": True}
        for written, meant in (([True, 5], [1, 5]), (["17", 5.0, False], [17, 5, 0])):
            choice = self.server.complete(prompt=written, **asked)["choices"]
            self.assertEqual([one["prompt_token_ids"] for one in choice], [meant])
            texts = [self.server.ask("POST", "/detokenize", {"tokens": ids})[2]
                     for ids in (written, meant)]
            self.assertEqual(*texts)
        self.assertEqual(len(self.server.complete(prompt=["17", "5"], **asked)["choices"]), 2)
        only = self.server.complete(prompt="a", allowed_token_ids=[True], **asked)["choices"][0]
        self.assertEqual(set(only["token_ids"]), {1})

    def test_logprobs_of_chosen_tokens_are_those_among_all(self):
        asked = {"prompt": "a b c", "max_tokens": 4, "temperature": 0, "return_token_ids": True,
                 "return_tokens_as_token_ids": True}
        many = self.server.complete(**asked, logprobs=20)["choices"][0]
        tops, sampled = many["logprobs"]["top_logprobs"], many["token_ids"]
        name = "token_id:%d".__mod__
        wanted = [int(key.split(":")[1]) for key in list(tops[0])[7:2:-1]] + [sampled[1], 3]
        few = self.server.complete(**asked, logprobs=1, logprob_token_ids=wanted)["choices"][0]
        self.assertEqual(few["token_ids"], sampled)
        self.assertEqual(few["logprobs"]["token_logprobs"], many["logprobs"]["token_logprobs"])
        for token, top, all_tops in zip(sampled, few["logprobs"]["top_logprobs"], tops):
            self.assertEqual(list(top), [*dict.fromkeys(map(name, [token, *wanted]))])
            for key, value in top.items():
                if key in all_tops:
                    self.assertAlmostEqual(value, all_tops[key], places=4)
        said = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 2,
                "logprobs": True, "logprob_token_ids": [9, 11], "return_tokens_as_token_ids": True}
        answer = json.loads(self.server.ask("POST", CHATS, said)[2])["choices"][0]
        for one in answer["logprobs"]["content"]:
            self.assertEqual([top["token"] for top in one["top_logprobs"]],
                             [*dict.fromkeys([one["token"], name(9), name(11)])])
        for more in ({"logprobs": False}, {"logprob_token_ids": [1 << 30]},
                     {"logprob_token_ids": [5] * 129}):
            status, _, text = self.server.ask("POST", CHATS, said | more)
            self.assertEqual((status, json.loads(text)["error"]["param"]),
                             (400, "logprob_token_ids"), text)

    def test_what_is_not_there_is_refused_by_name(self):
        for field, value in (("structured_outputs", {"grammar": "a"}), ("logprob_token_ids", [1]),
                             ("thinking_token_budget", 3),
                             ("response_format", {"type": "yaml"}), ("cache_salt", ""), ("suffix", ""),
                             ("allowed_token_ids", []), ("allowed_token_ids", [1 << 30]),
                             ("stop_token_ids", [7] * 1025), ("stop", ["x" * 65537]),
                             ("stop", ["x"] * 65),
                             ("logit_bias", {str(i): 1 for i in range(301)}),
                             ("use_beam_search", True)):
            status, _, text = self.server.ask("POST", COMPLETIONS, {"prompt": "a", field: value})
            self.assertEqual((status, json.loads(text)["error"]["param"]), (400, field))

    def error_of(self, path, body, status=400):
        got, _, text = self.server.ask("POST", path, body)
        self.assertEqual(got, status, text)
        return json.loads(text)["error"]

    def test_stops_may_be_many_and_long(self):
        asked = {"prompt": "a b", "max_tokens": 8, "temperature": 0}
        plain = self.server.complete(**asked)["choices"][0]
        longest = [plain["text"] + "x" * 65000, *["y" * 8] * 60]
        self.assertEqual(self.server.complete(**asked, stop=longest)["choices"][0]["text"], plain["text"])
        stop = longest + [plain["text"][2:4]]
        self.assertEqual(self.server.complete(**asked, stop=stop)["choices"][0]["stop_reason"], stop[-1])
        ended = self.server.complete(**asked, stop_token_ids=list(range(200)))["choices"][0]
        self.assertIn(ended["finish_reason"], ("stop", "length"))

    def test_refusals_do_not_tell_where_in_our_source(self):
        for body in ({"logit_bias": {str(i): 1 for i in range(301)}},
                     {"stop_token_ids": [7] * 1025}, {"bad_words": ["a b" * 9000]},
                     {"structured_outputs": {"regex": "("}}, {"min_tokens": 3, "max_tokens": 2}):
            error = self.error_of(COMPLETIONS, {"prompt": "a", **body})
            self.assertGreater(len(error["message"]), 10)
            self.assertNotRegex(error["message"], r"\.c:|src/")

    def test_usage_of_streams_is_asked_for_as_in_vllm(self):
        asked = {"prompt": "a b", "max_tokens": 3, "stream": True, "ignore_eos": True}

        def usages(options, path=COMPLETIONS, **more):
            body = asked | more | ({} if options is None else {"stream_options": options})
            status, _, text = self.server.ask("POST", path, body)
            self.assertEqual(status, 200, text)
            return ["usage" in chunk for chunk in events(text)]
        self.assertEqual(usages(None), [False] * 3)
        self.assertEqual(usages({}), [False] * 3)  # whatever the schema's default says
        self.assertEqual(usages({"include_usage": None}), [False] * 3)
        self.assertEqual(usages({"include_usage": "yes"}), [False] * 3 + [True])
        self.assertEqual(usages({"continuous_usage_stats": 1}), [False] * 3)
        self.assertEqual(usages({"include_usage": True, "continuous_usage_stats": 1}), [True] * 4)
        self.assertEqual(usages({"include_usage": 0, "continuous_usage_stats": True}), [False] * 3)
        error = self.error_of(COMPLETIONS, asked | {"stream_options": {"include_usage": "?"}})
        self.assertEqual(error["param"], "body.stream_options.include_usage")
        self.assertIn("bool_parsing", error["message"])

    def test_continuous_usage_is_that_of_the_choice(self):
        body = {"prompt": [[5, 6, 7], [8, 9]], "n": 2, "max_tokens": 4, "temperature": 1, "stream": True,
                "ignore_eos": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}
        chunks = events(self.server.ask("POST", COMPLETIONS, body)[2])
        counts = [0] * 4
        for chunk in chunks[:-1]:
            choice = chunk["choices"][0]["index"]
            counts[choice] += 1
            n_prompt = 3 if choice < 2 else 2
            self.assertEqual(chunk["usage"], {
                "prompt_tokens": n_prompt, "total_tokens": n_prompt + counts[choice],
                "completion_tokens": counts[choice]})
        self.assertEqual(counts, [4] * 4)
        self.assertEqual(chunks[-1]["usage"]["prompt_tokens"], 5)
        self.assertEqual(chunks[-1]["usage"]["completion_tokens"], 16)

    def test_prompts_are_cut_to_leave_room_for_the_answer(self):
        limit = json.loads(self.server.ask("GET", "/v1/models")[2])["data"][0]["max_model_len"]
        ids = [5 + i % 100 for i in range(limit + 50)]
        body = {"prompt": ids, "max_tokens": 7, "truncate_prompt_tokens": -1, "ignore_eos": True,
                "return_token_ids": True}
        answer = self.server.complete(**body)
        self.assertEqual(answer["choices"][0]["prompt_token_ids"], ids[-(limit - 7):])
        self.assertEqual(answer["usage"]["total_tokens"], limit)
        cut = self.server.complete(**body | {"truncate_prompt_tokens": 3, "truncation_side": "right"})
        self.assertEqual(cut["choices"][0]["prompt_token_ids"], ids[:3])
        error = self.error_of(COMPLETIONS, body | {"truncate_prompt_tokens": -2})
        self.assertEqual((error["param"], "'ge': -1" in error["message"]),
                         ("body.truncate_prompt_tokens", True))
        error = self.error_of(COMPLETIONS, body | {"truncate_prompt_tokens": limit - 6})
        self.assertEqual(error, {
            "message": f"truncate_prompt_tokens={limit - 6} cannot be greater than max_model_len - "
            f"max_tokens = {limit - 7}. Please request a smaller truncation size. "
            f"(parameter=truncate_prompt_tokens, value={limit - 6})",
            "type": "BadRequestError", "param": "truncate_prompt_tokens", "code": 400})
        said = {"messages": [{"role": "user", "content": "a b " * limit}],
                "truncate_prompt_tokens": -1, "ignore_eos": True}
        usage = json.loads(self.server.ask("POST", CHATS, said)[2])["usage"]
        self.assertEqual((usage["total_tokens"], usage["completion_tokens"]), (limit, 1))

    def test_the_text_of_a_prompt_comes_back_where_it_is_asked_for(self):
        said = {"messages": [{"role": "user", "content": "a \u00e9"}], "max_tokens": 2}
        answer = json.loads(self.server.ask("POST", CHATS, said)[2])
        self.assertIsNone(answer["prompt_text"])
        said["return_prompt_text"] = True
        wanted = "user: a \u00e9\nassistant: "
        self.assertEqual(json.loads(self.server.ask("POST", CHATS, said)[2])["prompt_text"], wanted)
        chunks = events(self.server.ask("POST", CHATS, said | {"stream": True})[2])
        self.assertEqual([chunk.get("prompt_text") for chunk in chunks],
                         [wanted] + [None] * (len(chunks) - 1))

    def test_every_choice_echoes_the_prompt_and_its_logprobs(self):
        """Also where the cache lets others come before the first, which computes them."""
        lists = ("text_offset", "token_logprobs", "tokens", "top_logprobs")
        for n_ids, max_tokens in (5, 3), (1700, 3), (1700, 0):
            ids = [5 + i % 90 for i in range(n_ids)]
            body = {"prompt": [ids, ids[:3]], "n": 3, "echo": True, "logprobs": 2, "seed": 7,
                    "max_tokens": max_tokens, "ignore_eos": True, "temperature": 1}
            self.server.complete(prompt=ids, max_tokens=1)
            whole = self.server.complete(**body)["choices"]
            alone = self.server.complete(**body | {"n": 1})["choices"]
            chunks = events(self.server.ask("POST", COMPLETIONS, body | {"stream": True})[2])
            for i, choice in enumerate(whole):
                told, n = choice["logprobs"], len(body["prompt"][i // 3])
                self.assertEqual(len(told["tokens"]), n + max_tokens)
                for name in lists:
                    self.assertEqual(told[name][:n], alone[i // 3]["logprobs"][name][:n])
                self.assertNotIn(None, told["token_logprobs"][1:])
                offsets = [0]
                for token in told["tokens"]:
                    offsets.append(offsets[-1] + len(token))
                self.assertEqual(told["text_offset"], offsets[:-1])
                parts = [part["choices"][0] for part in chunks if part["choices"][0]["index"] == i]
                self.assertEqual("".join(part["text"] for part in parts), choice["text"])
                self.assertEqual(parts[0]["prompt_token_ids"], body["prompt"][i // 3])
                for name in lists:
                    self.assertEqual(sum((part["logprobs"][name] for part in parts), []),
                                     told[name])

    def test_an_echo_in_ids_is_none_in_text(self):
        body = {"prompt": "a b", "echo": True, "logprobs": 0, "seed": 7, "max_tokens": 2,
                "return_token_ids": True, "ignore_eos": True}
        choice = self.server.complete(**body)["choices"][0]
        n = len(choice["prompt_token_ids"])
        self.assertEqual(len(choice["logprobs"]["tokens"]), n + 2)
        self.assertEqual(choice["text"], "".join(choice["logprobs"]["tokens"][n:]))
        chunks = events(self.server.ask("POST", COMPLETIONS, body | {"stream": True})[2])
        self.assertEqual("".join(one["choices"][0]["text"] for one in chunks), choice["text"])
        nothing = self.server.complete(**body | {"max_tokens": 0})["choices"][0]
        self.assertEqual((nothing["text"], nothing["token_ids"]), ("", []))

    def test_a_stream_may_say_that_it_wants_no_prompt_logprobs(self):
        body = {"prompt": "a b", "max_tokens": 2, "stream": True, "ignore_eos": True}
        text = self.server.ask("POST", COMPLETIONS, body | {"prompt_logprobs": 0})[2]
        self.assertEqual(len(events(text)), 2)
        self.assertEqual(self.error_of(COMPLETIONS, body | {"prompt_logprobs": 1})["param"],
                         "prompt_logprobs")


if __name__ == "__main__":
    unittest.main()
