#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the documents say is so: links lead somewhere, flags exist, C compiles, messages are in the source."""
import functools
import json
import os
import pathlib
import re
import subprocess
import sys
import unittest

SOURCE = pathlib.Path(os.environ["COHORT_SOURCE_DIR"])
COHORT = pathlib.Path(os.environ["COHORT_BUILD_DIR"], "cohort")
PAGES = sorted([*SOURCE.glob("*.md"), *SOURCE.glob("docs/*.md")])
EXAMPLES = sorted(path for path in SOURCE.glob("examples/*/*") if path.suffix in (".service", ".yaml", ""))
FLAG = re.compile(r"(?<![\w-])(--?[a-z][\w-]*)")


def blocks(page, language=None):
    """Code of a page: fenced in that language, or indented and fenced in any."""
    text = page.read_text()
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.S | re.M)
    found = [code for name, code in fenced if language in (None, name)]
    if language is None:
        found += re.findall(r"(?:^    .*\n)+", text, re.M)
    return found


def commands(text):
    """`cohort COMMAND ...` in it: the command and the flags that follow it, up to a pipe or comment."""
    text = text.replace("\\\n", " ")
    for command, rest in re.findall(r"(?:^|[\s/`])cohort ((?:bench )?[a-z-]+)([^\n`|;#)]*)", text):
        yield command, FLAG.findall(rest)


@functools.cache
def flags_of(command):
    """None: there is no such command; it is a word of a sentence."""
    done = subprocess.run([COHORT, *command.split(), "--help"], text=True, capture_output=True, check=False)
    return {*FLAG.findall(done.stdout), "--help"} if done.returncode == 0 else None


class Documents(unittest.TestCase):
    def test_links_lead_to_files_and_headings(self):
        for page in PAGES:
            for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
                if "://" in target:
                    continue
                path, _, heading = target.partition("#")
                linked = page if not path else page.parent / path
                with self.subTest(page=page.name, target=target):
                    self.assertTrue(linked.exists())
                    if heading:
                        names = re.findall(r"^#+ (.*)$", linked.read_text(), re.M)
                        self.assertIn(heading, [re.sub(r"[^\w -]", "", name).lower().replace(" ", "-") for name in names])

    def test_commands_and_their_flags_exist(self):
        looked_at = 0
        texts = [(page, "\n".join([*blocks(page), *re.findall(r"`([^`\n]+)`", page.read_text())])) for page in PAGES]
        texts += [(path, path.read_text()) for path in EXAMPLES]
        for path, text in texts:
            for command, flags in commands(text):
                for flag in flags if flags_of(command) else ():
                    looked_at += 1
                    with self.subTest(path=path.name, command=command, flag=flag):
                        plain = flag.replace("--no-", "--", 1)
                        self.assertTrue({flag, plain} & flags_of(command))
        self.assertGreater(looked_at, 20)

    def test_options_named_alone_exist(self):
        named = ("serve", "generate", "chat", "stat", "bench latency", "bench serve")
        known = {"--version"}.union(*map(flags_of, named))
        for page in (SOURCE / "README.md", *(SOURCE / "docs").glob("*.md")):
            for code in re.findall(r"`(--[a-z][\w-]*)", page.read_text()):
                with self.subTest(page=page.name, flag=code):
                    self.assertTrue({code, code.replace("--no-", "--", 1)} & known)

    def test_the_picture_of_the_figures_is_of_those_that_were_kept(self):
        drawn = subprocess.run([SOURCE / "bench/plot.py", SOURCE / "bench/results/bench.txt"], text=True,
                               capture_output=True, check=True).stdout
        self.assertGreater(drawn.count("<circle"), 20)
        self.assertEqual((SOURCE / "docs/bench.svg").read_text(), drawn)

    def test_rows_of_the_ray_tests_are_known(self):
        sys.path.insert(0, str(SOURCE / "scripts"))
        import check_ray_tests
        self.assertEqual(check_ray_tests.read_rows()[1], [])

    def test_c_compiles(self):
        found = [(page, code) for page in PAGES for code in blocks(page, "c")]
        self.assertTrue(found)
        for page, code in found:
            with self.subTest(page=page.name):
                done = subprocess.run(["cc", "-std=c17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-xc", "-",
                                       f"-I{SOURCE}/include"], input=code, text=True, capture_output=True, check=False)
                self.assertEqual(done.returncode, 0, done.stderr)

    def test_python_compiles_and_json_is_json(self):
        for page in PAGES:
            for code in blocks(page, "python"):
                compile(code, page.name, "exec")
            for body in re.findall(r"-d '(\{.*?\})'", page.read_text(), re.S):
                json.loads(body)

    def test_messages_of_troubleshooting_are_in_the_source(self):
        text = "".join(path.read_text() for path in SOURCE.glob("src/**/*.[ch]"))
        text += "".join(path.read_text() for path in SOURCE.glob("python/*/*.py"))
        text = re.sub(r'"\s*\n\s*"', "", text)  # a text over several lines
        rows = re.findall(r"^\| (`.*?`) \|", (SOURCE / "docs/troubleshooting.md").read_text(), re.M)
        self.assertGreater(len(rows), 8)
        for row in rows:
            message = row.split("`")[1]
            words = re.sub(r"signal 9$", "signal %d", message)
            with self.subTest(message=message):
                self.assertIn(words, text)


if __name__ == "__main__":
    unittest.main()
