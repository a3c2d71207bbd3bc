#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Records what transformers 5 makes of a tokenizer's directory.

usage: tokenizer_config_cases.py FOLDER

FOLDER/base has tokenizer.json files, and every other folder a config.json, a
tokenizer_config.json and `base`, the name of one of them; for each, cases.jsonl is written:
{"text": ..., "ids": [...]} without, and "special": [...] with the post-processor's tokens.
"""
import json
import pathlib
import shutil
import sys
import tempfile

from transformers import AutoTokenizer

TEXTS = ["Hello world", " Hello  world", "<s>Hello</s>", "Hello</s> world <s> Hello", "1234567 it's",
         "Hello <|BOS|> a <|custom|>custom_word b", "<|im_start|>user\nHello<|im_end|>\n",
         "a<tool_call>b</tool_call>", "naïve é 日本 👩", "\n\n  x\t", "<newpad>he<x1>the", ""]


def record(folder, base):
    with tempfile.TemporaryDirectory() as model:
        for name in ("config.json", "tokenizer_config.json"):
            shutil.copy(folder / name, model)
        shutil.copy(base / (folder / "base").read_text().strip(), f"{model}/tokenizer.json")
        tokenizer = AutoTokenizer.from_pretrained(model)
        with open(folder / "cases.jsonl", "w", encoding="utf-8") as out:
            for text in TEXTS:
                ids = tokenizer(text, add_special_tokens=False)["input_ids"]
                print(json.dumps({"text": text, "ids": ids,
                                  "special": tokenizer(text)["input_ids"]}), file=out)


def main():
    top = pathlib.Path(sys.argv[1])
    for folder in sorted(top.iterdir()):
        if (folder / "tokenizer_config.json").exists():
            record(folder, top / "base")


if __name__ == "__main__":
    main()
