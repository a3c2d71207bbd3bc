#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Greedy text through the server is that of `cohort generate`, which takes one request at a
time: whatever the layout of ranks, the concurrency and the way that steps are made.

On the same ranks it is the same to the last token.  Between layouts sums run in another order,
which may rightly decide between two tokens that are nearly as likely: tests/golden/README.md.
"""
import contextlib
import unittest

from served import SANITIZED, SOURCE, Server, generate, generated, metrics, together

CLOSE_CALL = 2e-3
LAYOUTS = ((), ("-tp", "2"), ("-pp", "2"), ("-tp", "2", "-pp", "2"))
FEW_BLOCKS = ("--num-gpu-blocks-override", "42", "--max-model-len", "640",
              "--no-enable-prefix-caching")
WAYS = (("--max-num-seqs", "64"), ("--max-num-batched-tokens", "24"), FEW_BLOCKS,
        ("--no-async-scheduling", "--max-num-seqs", "64"))
LINES = [{"prompt": "a bc d " * (1 + i * 7 % 29), "max_tokens": 4 + i * 11 % 60}
         for i in range(64)][::4 if SANITIZED else 1]
CHECKPOINTS = ("llama-bfloat16", "qwen3_moe-float32", "mistral_swa-float32",
               "qwen2-float32")[:1 if SANITIZED else 4]


def total(server, name):
    return sum(metrics(server)[0][f"vllm:{name}"].values())


class Greedy(unittest.TestCase):
    def serve(self, ranks, way, **more):
        """Ranks are processes, which can be held until all requests are there."""
        return Server(*ranks, "--distributed-executor-backend", "mp", *way, **more)

    def check_seen(self, server, way):
        """That what the way is for happened at all."""
        seen = "num_preemptions_total" if way == FEW_BLOCKS else "prefix_cache_hits_total"
        self.assertGreater(total(server, seen), 0)

    def test_it_is_the_same_on_the_same_ranks(self):
        for ranks in LAYOUTS:
            wanted = generate(LINES, *ranks)
            for way in WAYS:
                with self.subTest(ranks + way), self.serve(ranks, way) as server:
                    for clients in (1, 8, len(LINES)) if way == WAYS[0] else (len(LINES),):
                        with self.counted(server, clients, "64" in way):
                            got = together(server, LINES, clients)
                        self.assertEqual([choice["text"] for choice in got], wanted)
                    self.check_seen(server, way)
                    self.assertEqual(server.stop(), 0)

    @contextlib.contextmanager
    def counted(self, server, clients, is_free):
        """How many sequences a step had tells whether there was any concurrency."""
        def count():
            return total(server, "generation_tokens_total"), total(
                server, "iteration_tokens_total_count")
        before = count()
        yield
        tokens, steps = (now - then for now, then in zip(count(), before))
        self.assertGreaterEqual(steps, tokens / clients)
        if clients == len(LINES) and is_free:  # in two batches on two stages
            self.assertLess(steps, tokens / (clients / 8))

    def test_it_is_that_of_one_rank_up_to_a_close_call(self):
        for shift, name in enumerate(CHECKPOINTS):
            model, options = SOURCE / "tests/golden" / name, ("--dtype", "float32")
            wanted = generated(LINES, *options, "--logprobs", "2", model=model)
            for i, ranks in enumerate(LAYOUTS):
                way = WAYS[(i + shift) % len(WAYS)]
                with self.subTest((name,) + ranks + way), self.serve(
                        ranks, way + options, model=model) as server:
                    self.compare(together(server, LINES), wanted)
                    self.check_seen(server, way)
                    self.assertEqual(server.stop(), 0)

    def compare(self, got, wanted):
        compared = 0
        for choice, want in zip(got, wanted, strict=True):
            pairs = zip(choice["token_ids"], want["token_ids"], want["logprobs"])
            for token, wanted_token, logprobs in pairs:
                if token != wanted_token:
                    (_, first), (_, second) = logprobs["top"]
                    self.assertLess(first - second, CLOSE_CALL)
                    break
                compared += 1
            else:
                self.assertEqual((choice["text"], choice["finish_reason"]),
                                 (want["text"], want["finish_reason"]))
        self.assertGreater(compared, 0.8 * sum(len(want["token_ids"]) for want in wanted))


if __name__ == "__main__":
    unittest.main()
