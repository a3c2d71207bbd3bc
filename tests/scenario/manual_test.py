#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Man pages and completions say what --help says, and shells take them."""
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

COHORT = str(pathlib.Path(os.environ["COHORT_BUILD_DIR"]) / "cohort")
COMMANDS = ("generate", "serve", "complete", "chat", "run-batch", "bench latency",
            "bench throughput", "bench serve")
PATIENCE_S = 60


def run(*words, stdin=""):
    done = subprocess.run([str(word) for word in words], input=stdin, text=True,
                          capture_output=True, timeout=PATIENCE_S)
    if done.returncode:
        raise AssertionError(f"{words}: exit {done.returncode}: {done.stderr}")
    return done.stdout


def helped(command):
    """Options and their help, as --help prints them."""
    text = run(COHORT, *command.split(), "--help")
    return dict(re.findall(r"^  (?:-\w+, )?--([\w-]+).*? {1,}(\S.*)$", text, re.M))


def complete_bash(line):
    """What a user sees after TAB."""
    script = """source <("$0" completion bash)
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _cohort; printf '%s\\n' "${COMPREPLY[@]}" """
    return run("bash", "-c", script, COHORT, *line).split()


class Manual(unittest.TestCase):
    def test_man_pages_have_every_option(self):
        for command in COMMANDS:
            page = run(COHORT, "man", *command.split())
            plain = re.sub(r"\\f[BIR]", "", page).replace("\\-", "-")
            names = re.findall(r"^(?:-\w+, )?--([\w-]+)", plain, re.M)
            self.assertEqual(names, list(helped(command)), command)
        overview = run(COHORT, "man").replace("\\-", "-")
        for command in COMMANDS:
            self.assertIn(f"\\fB{command}\\fR", overview)

    @unittest.skipUnless(shutil.which("groff"), "no groff here")
    def test_man_pages_are_roff(self):
        for command in ("", *COMMANDS, "stat", "config", "man"):
            done = subprocess.run(["groff", "-ww", "-man", "-Tascii"], text=True,
                                  input=run(COHORT, "man", *command.split()),
                                  capture_output=True, timeout=PATIENCE_S, check=True)
            self.assertEqual(done.stderr, "")
            self.assertIn("SYNOPSIS", re.sub(".\b|\x1b\\[[0-9;]*m", "", done.stdout))

    def test_bash_completes_commands_options_and_files(self):
        self.assertEqual(complete_bash(["cohort", "gen"]), ["generate"])
        self.assertIn("run-batch", complete_bash(["cohort", ""]))
        self.assertEqual(complete_bash(["cohort", "bench", "th"]), ["throughput"])
        for command in COMMANDS:
            words = ["cohort", *command.split()]
            offered = {word[2:] for word in complete_bash([*words, "--"])}
            self.assertEqual(offered, {"help", *helped(command)}, command)
        self.assertEqual(complete_bash(["cohort", "serve", "--max-num-s"]), ["--max-num-seqs"])
        self.assertEqual(complete_bash(["cohort", "serve", "--port", "-"]), [])  # a value
        self.assertEqual(complete_bash(["cohort", "serve", "mod"]), [])  # files: the shell's

    @unittest.skipUnless(shutil.which("zsh"), "no zsh here")
    def test_zsh_takes_its_completion(self):
        with tempfile.NamedTemporaryFile("w", suffix=".zsh") as file:
            file.write(run(COHORT, "completion", "zsh"))
            file.flush()
            run("zsh", "-n", file.name)
            found = run("zsh", "-f", "-c", "autoload -U compinit; compinit -D; source $0; "
                        "echo $_comps[cohort]", file.name)
        self.assertEqual(found.strip(), "_cohort")

    @unittest.skipUnless(shutil.which("fish"), "no fish here")
    def test_fish_completes_options(self):
        with tempfile.TemporaryDirectory() as home:
            path = pathlib.Path(home) / "cohort.fish"
            path.write_text(run(COHORT, "completion", "fish"))
            for line, wanted in (("cohort gen", "generate"), ("cohort bench th", "throughput"),
                                 ("cohort bench serve --random-inp", "--random-input-len"),
                                 ("cohort serve --max-num-s", "--max-num-seqs")):
                done = subprocess.run(
                    ["fish", "--no-config", "-c", f"source {path}; complete -C '{line}'"],
                    text=True, capture_output=True, timeout=PATIENCE_S,
                    env=os.environ | {"HOME": home, "XDG_DATA_HOME": home})
                offered = [word.split("\t")[0] for word in done.stdout.splitlines()]
                self.assertEqual(offered, [wanted], done.stderr)

    def test_other_words_are_refused(self):
        for words in (("man", "nothing"), ("completion",), ("completion", "tcsh")):
            done = subprocess.run([COHORT, *words], capture_output=True, timeout=PATIENCE_S)
            self.assertEqual((done.returncode, done.stdout), (2, b""))


if __name__ == "__main__":
    unittest.main()
