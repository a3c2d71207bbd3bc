#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The walk of a request in ARCHITECTURE.md names files and functions that are there."""
import os
import pathlib
import re
import unittest

ROOT = pathlib.Path(os.environ["COHORT_SOURCE_DIR"])
TITLE = "## A chat, from its bytes to its first token"


class Walk(unittest.TestCase):
    def test_every_name_is_in_the_file_before_it(self):
        section = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").split(TITLE)[1]
        lines = re.findall(r"^\d+\. .*$", section.split("\n## ")[0], re.M)
        self.assertEqual(len(lines), 10)
        for line in lines:
            names = re.findall(r"`([\w/.]+)`", line)
            self.assertRegex(names[0], r"\.c$", line)
            for name in names:
                if name.endswith(".c"):
                    text = (ROOT / "src" / name).read_text(encoding="utf-8")
                else:
                    found = re.search(rf"\b{name}\(|= {name}\b", text)
                    self.assertTrue(found, f"{name} is not where this says: {line}")


if __name__ == "__main__":
    unittest.main()
