#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A sequence whose logits are no numbers ends alone."""
import json
import pathlib
import shutil
import struct
import tempfile
import threading
import unittest

from served import COMPLETIONS, MODEL, Server

POISONED, HEALTHY = 9, 5  # tokens


def poison(path):
    """The embedding of one token becomes NaN."""
    data = bytearray(path.read_bytes())
    size = struct.unpack("<Q", data[:8])[0]
    tensors = json.loads(data[8:8 + size])
    tensor = tensors["model.embed_tokens.weight"]
    width = tensor["shape"][1] * {"BF16": 2, "F32": 4}[tensor["dtype"]]
    begin = 8 + size + tensor["data_offsets"][0] + POISONED * width
    data[begin:begin + width] = b"\xff" * width
    path.write_bytes(data)


class Nan(unittest.TestCase):
    def one_ends_alone(self, *options):
        with tempfile.TemporaryDirectory() as home:
            model = pathlib.Path(home) / "model"
            shutil.copytree(MODEL, model)
            poison(model / "model.safetensors")
            said = {"max_tokens": 40, "ignore_eos": True, "temperature": 0, "seed": 1}
            with Server(*options, model=model) as server:
                before = server.ask("POST", COMPLETIONS, said | {"prompt": [HEALTHY] * 3})
                self.assertEqual(before[0], 200, before[2])
                beside = []
                thread = threading.Thread(target=lambda: beside.append(
                    server.ask("POST", COMPLETIONS, said | {"prompt": [[HEALTHY] * 3] * 4})))
                thread.start()
                for logprobs in (None, 2):
                    status, _, text = server.ask("POST", COMPLETIONS, said | {
                        "prompt": [HEALTHY, POISONED], "logprobs": logprobs})
                    self.assertEqual(status, 500, text)
                    self.assertIn("not finite", json.loads(text)["error"]["message"])
                thread.join()
                wanted = json.loads(before[2])["choices"][0]["text"]
                for choice in json.loads(beside[0][2])["choices"]:
                    self.assertEqual(choice["text"], wanted)
                metrics = server.ask("GET", "/metrics")[2]
                if isinstance(metrics, bytes):
                    metrics = metrics.decode()
                self.assertRegex(metrics, r"vllm:corrupted_requests_total\{.*\} 2\.0")
                self.assertEqual(server.ask("GET", "/health")[0], 200)
                self.assertEqual(server.stop(), 0)

    def test_with_steps_ahead(self):
        self.one_ends_alone()

    def test_with_two_ranks(self):
        self.one_ends_alone("--tensor-parallel-size", "2")

    def test_with_steps_one_by_one(self):
        self.one_ends_alone("--no-async-scheduling")


if __name__ == "__main__":
    unittest.main()
