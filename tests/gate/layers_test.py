#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What scripts/check_layers.py finds, in trees that are made for it."""
import importlib.util
import os
import pathlib
import tempfile
import unittest

SOURCE = pathlib.Path(os.environ["COHORT_SOURCE_DIR"])


def load():
    spec = importlib.util.spec_from_file_location("layers", SOURCE / "scripts/check_layers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Layers(unittest.TestCase):
    def setUp(self):
        self.layers = load()
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.layers.ROOT = pathlib.Path(self.folder.name)

    def write(self, name, text):
        path = self.layers.ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def expect(self, find, *words):
        faults = list(find())
        self.assertEqual(len(faults), len(words), faults)
        for fault, word in zip(faults, words):
            self.assertIn(word, fault)

    def test_a_folder_includes_those_before_it_only(self):
        self.write("src/link/link.c", '#include "base/fail.h"\n#include "queue/queue.h"\n')
        self.write("src/elsewhere/a.c", "")
        self.expect(self.layers.layer_faults, "elsewhere has no place", "queue comes after link")

    def test_public_headers_have_their_place(self):
        self.write("src/link/link.c", '#include "cohort/status.h"\n#include "cohort/engine.h"\n')
        self.write("include/cohort/queue.h", '#include "cohort/engine.h"\n#include "base/fail.h"\n')
        self.write("include/cohort/new.h", "")
        self.expect(self.layers.layer_faults, "engine comes after link", "is of no folder",
                    "engine comes after queue", "stands alone")

    def test_a_header_without_a_folder_is_none(self):
        self.write("src/link/link.c", '#include "link.h"\n#include <time.h>\n')
        self.expect(self.layers.layer_faults, "of no folder")

    def test_what_is_not_shown_is_private(self):
        self.write("src/queue/queue.c", '#include "link/proof.h"\n#include "queue/ring.h"\n')
        self.write("src/queue/queue_test.c", '#include "link/proof.h"\n')
        self.expect(self.layers.layer_faults, "link/proof.h, which is private to link")

    def test_a_name_is_of_one_folder(self):
        self.write("src/link/a.h", "typedef struct cohort_peer {\n    int x;\n} cohort_peer;\n"
                   "bool cohort_link_is_up(int x);\nvoid *cohort_end_of(int x);\n")
        self.write("src/queue/b.h", "typedef struct cohort_peer {\n    int y;\n} cohort_peer;\n"
                   "int cohort_end_at(int x);\nint cohort_queue_is_up(cohort_peer *peer);\n")
        self.expect(self.layers.name_faults, "cohort_end_ is a name in link and queue",
                    "cohort_peer is a name in link and queue")

    def test_calls_in_a_circle(self):
        for a, b in ("ab", "bc", "cd", "da"):
            self.write(f"src/link/{a}.c", f'int link_{a}(int x) {{\n    return link_{b}(x);\n}}\n')
        self.expect(self.layers.circle_faults, "4 files call each other")
        self.write("src/link/d.c", "/* link_a(x) */\nint link_d(int x) {\n    return x;\n}\n")
        self.expect(self.layers.circle_faults)

    def test_two_folders_are_in_no_circle(self):
        self.write("src/link/a.c", '#include "queue/b.h"\n')
        self.write("src/link/a.h", "")
        self.write("src/queue/b.h", '#include "link/a.h"\n')
        self.expect(self.layers.circle_faults, "2 files include each other")

    def test_long_functions_and_files(self):
        body = "    x++;\n"
        self.write("src/link/a.c", "static int at_most(int x,\n                   int y) {\n" +
                   67 * body + "}\n\nint f(int x) {\n" + 69 * body + "}\n"
                   "static const int table[] = {\n" + 90 * "    1,\n" + "};\n")
        self.expect(self.layers.size_faults, "line 72 has 71 lines")
        self.write("src/link/a.c", "\n" * 701)
        self.expect(self.layers.size_faults, "701 lines")
        self.write("src/link/a.c", "\n" * 700)
        self.write("tests/x/x_test.py", "def f():\n" + 70 * "    x()\n")
        self.expect(self.layers.size_faults, "line 1 has 71 lines")


if __name__ == "__main__":
    unittest.main()
