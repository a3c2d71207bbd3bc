#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Thousands of requests that `vllm serve` 0.32 was sent: status, content type and skeleton of each answer
are as recorded, but for those named in EXCEPT with why.

With a sanitizer, which looks for what any request of a kind would show, it is one in SHARE of each
kind; COHORT_SEED (1) decides which.

`serve_matrix_test.py --reduce FOLDER` makes tests/golden/vllm_api/matrix anew from whole recordings.
"""
import base64
import collections
import concurrent.futures
import contextlib
import http.client
import itertools
import json
import lzma
import os
import pathlib
import re
import sys
import threading
import unittest
from random import Random

from served import CAPTURES, DEADLINE_S, SANITIZED, Server

RECORDED = CAPTURES / "matrix"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "cohort"
MODEL = pathlib.Path(os.environ.get("COHORT_MODEL_CACHE", CACHE)) / "smollm2-135m-instruct"
FLAGS = ("--served-model-name", "smollm2", "--dtype", "bfloat16", "--max-model-len", "256", "--max-num-seqs",
         "16", "--trust-request-chat-template", "--kv-cache-memory-bytes", "256MiB")
FORCED = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")
MAPS = ("top_logprobs", "prompt_logprobs")  # objects whose keys are tokens
CLIENTS = 24
SEED = int(os.environ.get("COHORT_SEED", "1"))
SHARE = 8
NAMES = ("matrix", "messages", "special", "forced", "http")

# (pattern of the name, why): what stays different.
EXCEPT = (
    (r"[CH] (use_beam_search|watermarking|return_token_offsets)=.*", "not built, and said so, where vLLM 0.32 has it"),
    (r"[CH] structured_outputs=.*", "vLLM answers 500 to what is no object"),
    (r"[CH] stream_interval=1\d{10,}", "vLLM answers 500 to more than 64 bits"),
    (r"(H|TC) (media_io|mm_processor)_kwargs=.*", "for models with eyes or ears, not looked at"),
    (r"C bad_words=\[\"x{40,}.*", "a bound of ours"),
    (r"C stop=\[\"\\ud800\"\].*", "half a surrogate is no text; vLLM answers 500"),
    (r"C logit_bias=\{\"\\u0661\".*", "an Arabic digit"),
    (r"C logprobs=(-1|21) \{'echo': True, 'stream': True\}", "vLLM begins a stream and breaks it off"),
    (r"M tc args_ws", "half a surrogate within arguments in a string: vLLM's tokenizer fails"),
    (r"M asst reasoning num", "thoughts that are no text are left out"),
    (r"CTK \{\"(tools|tokenize|conversation)\".*", "names of parameters of vLLM's own functions"),
    (r"TV params_(str|list)", "parameters that are no object are left to the template"),
    (r"TCH \{\"type\": \"custom\".*", "a named function is taken whatever type it says"),
    (r"F (emptycall2?|partial|array|num|namenull|opentwice) si", "what is no call is lost in groups, but not alone"),
    (r"F innerclose .*", "vLLM ends a call at a tag within a string argument"),
    (r"HTTP (GET /redoc|inv .*|POST /v1/responses)", "routes that are not built"),
    (r"HTTP (render compl|POST .*/(render|generate))", "vLLM's own split of a server, refused there too"),
    (r"SO .*|RF .*", "constraints of structured outputs: tests/scenario/structured_test.py"),
)


def skeleton(value, name=""):
    """Keys in order and kinds of values; how many items there are does not count, nor do tokens."""
    if isinstance(value, dict) and name in MAPS:
        return {"<token>": skeleton(next(iter(value.values()), None))}
    if isinstance(value, dict):
        return {key: skeleton(item, key) for key, item in value.items()}
    if isinstance(value, list):
        kinds = []
        for item in value:
            kind = skeleton(item, name)
            kinds += [kind] if kind not in kinds else []
        return kinds
    return "number" if type(value) in (int, float) else type(value).__name__


def outline(kind, text):
    """Of a whole answer; of a stream, its events in order, where those alike stand for one."""
    if kind.startswith("text/event-stream"):
        events = [part[6:] for part in text.split("\n\n") if part.startswith("data: ")]
        shapes = [event if event == "[DONE]" else skeleton(json.loads(event)) for event in events]
        return [shape for shape, _ in itertools.groupby(shapes)]
    with contextlib.suppress(ValueError):
        value = json.loads(text)
        if isinstance(value, dict) and "error" in value:  # which field is to blame is as much words as the message is
            value["error"]["param"] = None
        return skeleton(value)
    return "text" if text else ""


def prompt_of(text):
    """What the template made of the messages, where the request asked to see it."""
    with contextlib.suppress(ValueError):
        value = json.loads(text)
        return value.get("prompt_text") if isinstance(value, dict) else None


def reduced(row):
    answer = row["answer"]
    kind = answer["headers"].get("content-type", "")
    return {"name": row["name"], "request": row["request"], "status": answer["status"], "kind": kind,
            "outline": outline(kind, answer.get("body", "")), "prompt": prompt_of(answer.get("body", ""))}


def reduce(folder):
    for path in (pathlib.Path(folder, f"{name}.jsonl") for name in NAMES):
        rows = [reduced(json.loads(line)) for line in path.read_text().splitlines()]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (RECORDED / f"{path.name}.xz").write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))


def recorded(name):
    return list(map(json.loads, lzma.open(RECORDED / f"{name}.jsonl.xz", "rt")))


def a_share(rows):
    """One in SHARE of each kind, and one at least: the first word of the name, and the field asked for."""
    kinds = collections.defaultdict(list)
    for row in rows:
        kinds[re.match(r"\w+( \w+=)?", row["name"])[0]].append(row)
    random = Random(SEED)
    return [row for kind in kinds.values() for row in random.sample(kind, -(-len(kind) // SHARE))]


class Replay:
    """Asks a server for all rows, from several threads, each with a connection of its own."""

    def __init__(self, server):
        self.server, self.local = server, threading.local()

    def send(self, request):
        if not getattr(self.local, "connection", None):
            self.local.connection = self.server.connect()
        body = request.get("body")
        if "body_base64" in request:
            body = base64.b64decode(request["body_base64"])
        body = body.encode() if isinstance(body, str) else body
        self.local.connection.request(request["method"], request["path"], body, request["headers"])
        response = self.local.connection.getresponse()
        text = response.read().decode(errors="replace")
        if response.will_close:
            self.local.connection = None
        return response.status, response.headers.get("Content-Type", ""), text

    def ask(self, request):
        try:
            return self.send(request)
        except (http.client.HTTPException, OSError):  # a kept connection may have been ended
            self.local.connection = None
            return self.send(request)

    def differences(self, rows):
        """(row, what ours says) of all that are not as recorded."""
        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
            for row, (status, kind, text) in zip(rows, pool.map(lambda row: self.ask(row["request"]), rows)):
                ours = {"status": status, "kind": kind, "outline": outline(kind, text), "prompt": prompt_of(text)}
                if ours != {key: row[key] for key in ours}:
                    yield row, ours | {"text": text}


def excepted(name):
    return any(re.fullmatch(pattern, name, re.S) for pattern, _ in EXCEPT)


@unittest.skipUnless(MODEL.exists(), "no real model: scripts/fetch_model.sh gets it")
class Matrix(unittest.TestCase):
    def compare(self, server, rows):
        for row, ours in Replay(server).differences(rows):
            if excepted(row["name"]):
                continue
            with self.subTest(row["name"]):
                keys = ("status", "kind", "prompt", "outline")
                self.assertEqual([ours[key] for key in keys], [row[key] for key in keys],
                                 ((row["request"].get("body") or "")[:1000], ours["text"][:1000]))

    def test_answers_have_the_recorded_status_and_skeleton(self):
        rows = [row for name in NAMES for row in recorded(name)]
        self.assertGreater(len(rows), 3700)
        rows = a_share(rows) if SANITIZED else rows
        tools = [bool(re.match(r"(TV|TCH|F|S|SO|RF) ", row["name"])) for row in rows]
        with Server(*FLAGS, model=MODEL) as server:
            self.compare(server, [row for row, forced in zip(rows, tools) if not forced])
            self.assertEqual(server.stop(), 0)
        with Server(*FLAGS, *FORCED, model=MODEL) as server:
            self.compare(server, [row for row, forced in zip(rows, tools) if forced])
            self.assertEqual(server.stop(), 0)

    def test_parts_of_characters_are_no_text_of_their_own(self):
        """As recorded: the token that makes a character whole has all of it."""
        text = "\U0001f30d\u00e9"
        asked = {"temperature": 0, "max_tokens": 20, "structured_outputs": {"regex": text}}
        with Server(*FLAGS, model=MODEL) as server:
            chat = json.loads(server.ask("POST", "/v1/chat/completions", asked | {
                "messages": [{"role": "user", "content": "p"}], "logprobs": True, "top_logprobs": 1})[2])
            tokens = chat["choices"][0]["logprobs"]["content"][:-1]  # but the end
            self.assertEqual("".join(one["token"] for one in tokens), text)
            self.assertEqual(bytes(sum((one["bytes"] for one in tokens), [])).decode(), text)
            self.assertEqual(tokens[0]["top_logprobs"][0]["bytes"], [])
            told = server.complete(prompt="p", logprobs=0, **asked)["choices"][0]["logprobs"]
            parts, offsets = told["tokens"][:-1], told["text_offset"][:-1]
            self.assertEqual("".join(parts), text)
            self.assertEqual(offsets, [len("".join(parts[:i])) for i in range(len(parts))])
            ids = json.loads(server.ask("POST", "/v1/chat/completions", asked | {
                "messages": [{"role": "user", "content": "p"}], "logprobs": True,
                "return_tokens_as_token_ids": True})[2])["choices"][0]["logprobs"]["content"][:-1]
            self.assertTrue(all(one["token"].startswith("token_id:") for one in ids))
            self.assertEqual([one["bytes"] for one in ids], [one["bytes"] for one in tokens])
            self.assertEqual(server.stop(), 0)

    def test_a_nul_is_a_character_as_any_other(self):
        text = "a\0b"
        with Server(*FLAGS, model=MODEL) as server:
            def post(path, **body):
                status, _, answer = server.ask("POST", path, body)
                self.assertEqual(status, 200, answer)
                return json.loads(answer)

            ids = post("/tokenize", prompt=text)["tokens"]
            self.assertEqual(post("/detokenize", tokens=ids)["prompt"], text)
            nul, other = ids[1], ids[0]
            asked = {"prompt": text, "max_tokens": 2, "temperature": 0, "allowed_token_ids": [nul]}
            self.assertEqual(post("/v1/completions", echo=True, **asked)["choices"][0]["text"], text + "\0\0")
            choice = post("/v1/completions", stop=["x", "\0"], **asked)["choices"][0]
            self.assertEqual([choice[key] for key in ("text", "finish_reason", "stop_reason")], ["", "stop", "\0"])
            asked["allowed_token_ids"] = [nul, other]
            choice = post("/v1/completions", bad_words=["\0"], **asked)["choices"][0]
            self.assertEqual(choice["text"], "aa")
            chat = post("/v1/chat/completions", messages=[{"role": "user", "content": text}], max_tokens=2,
                        temperature=0, allowed_token_ids=[nul], return_prompt_text=True, logprobs=True)
            self.assertIn(text, chat["prompt_text"])
            self.assertEqual(chat["choices"][0]["message"]["content"], "\0\0")
            told = chat["choices"][0]["logprobs"]["content"][0]
            self.assertEqual([told["token"], told["bytes"]], ["\0", [0]])
            status, _, _ = server.ask("POST", "/v1/completions", {"prompt": "a", "structured_outputs": {"regex": text}})
            self.assertEqual(status, 400)
            self.assertEqual(server.stop(), 0)

    def test_a_token_asked_for_twice_is_told_once(self):
        with Server(*FLAGS, model=MODEL) as server:
            answer = json.loads(server.ask("POST", "/v1/chat/completions", {
                "messages": [{"role": "user", "content": "p"}], "max_tokens": 1, "temperature": 0,
                "logprobs": True, "logprob_token_ids": [504, 504, 505], "return_tokens_as_token_ids": True})[2])
            told = [one["token"] for one in answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]]
            self.assertEqual([told.count("token_id:504"), told.count("token_id:505")], [1, 1], told)
            self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--reduce"]:
        reduce(sys.argv[2])
    else:
        unittest.main()
