#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a model is asked to repeat, it repeats under a schema as without one: masks alter no data.
With the real model, where scripts/fetch_model.sh has fetched it."""
import concurrent.futures
import json
import os
import pathlib
import sys
import unittest

from served import Server

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "cohort"
MODEL = pathlib.Path(os.environ.get("COHORT_MODEL_CACHE", CACHE)) / "smollm2-135m-instruct"

CASES = (
    ({"type": "string", "format": "uri"}, "https://example.com/watch?v=abc123"),
    ({"type": "string", "format": "uri"}, "https://user:pw@example.com/path?q=1#f"),
    ({"type": "string", "format": "uri"}, "mailto:ada@example.com"),
    ({"type": "integer"}, 1234567890123456789),
    ({"type": "number"}, 12345678901234567890),
    ({"type": "string", "format": "ipv6"}, "2001:db8::1"),
    ({"type": "string", "format": "ipv6"}, "fe80::"),
    ({"type": "string", "format": "uuid"}, "3F2504E0-4F89-11D3-9A0C-0305E82C3301"),
    ({"type": "string", "format": "date"}, "2024-02-29"),
    ({"type": "string", "format": "date-time"}, "2024-02-29T12:00:00.123456789Z"),
    ({"type": "string", "format": "duration"}, "PT0.5S"),
)


def repeat(server, schema, value):
    """What follows four lines of the value, free and under the schema."""
    line = json.dumps({"value": value})
    body = {"prompt": f"{line}\n" * 4, "max_tokens": 80, "temperature": 0}
    masked = {"type": "object", "properties": {"value": schema}, "required": ["value"], "additionalProperties": False}
    return [server.complete(**body, **more)["choices"][0]["text"]
            for more in ({"stop": ["\n"]}, {"structured_outputs": {"json": masked}})]


class Verbatim(unittest.TestCase):
    def test_a_schema_changes_nothing_that_it_allows(self):
        with Server("--served-model-name", "smollm2", "--max-model-len", "512", "--max-num-seqs", "8",
                    model=MODEL) as server, concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = pool.map(lambda case: repeat(server, *case), CASES)
            for (_, value), (free, masked) in zip(CASES, answers, strict=True):
                with self.subTest(value=value):
                    self.assertEqual(json.loads(free), {"value": value})  # or the test shows nothing
                    self.assertEqual(json.loads(masked), {"value": value})


if __name__ == "__main__":
    if not (MODEL / "config.json").exists():
        sys.exit(77)
    unittest.main()
