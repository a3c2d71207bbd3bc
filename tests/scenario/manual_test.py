#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Man pages and completions say what --help says, and shells take them."""
import os
import pathlib
import pty
import re
import select
import shutil
import subprocess
import tempfile
import time
import unittest

SOURCE = pathlib.Path(os.environ["COHORT_SOURCE_DIR"])
COHORT = str(pathlib.Path(os.environ["COHORT_BUILD_DIR"]) / "cohort")
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


ALL = run(COHORT, "man", "--list").splitlines()
GROUPS = {name.split()[0] for name in ALL if " " in name}
COMMANDS = [name for name in ALL if "OPTIONS" in run(COHORT, "man", *name.split())]


def complete_bash(line):
    """What a user sees after TAB."""
    script = """source <("$0" completion bash)
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _cohort; printf '%s\\n' "${COMPREPLY[@]}" """
    return run("bash", "-c", script, COHORT, *line).split()


# What is typed before TAB, and the whole line behind it.
LINES = (("cohort gen", "cohort generate"),
         ("cohort bench th", "cohort bench throughput"),
         ("cohort doctor ", "cohort doctor ray"),
         ("cohort doctor ray --ray-no", "cohort doctor ray --ray-node-address"),
         ("cohort bench serve --random-inp", "cohort bench serve --random-input-len"),
         ("cohort serve --max-num-s", "cohort serve --max-num-seqs"),
         ("cohort serve --distributed-executor-backend r", "cohort serve --distributed-executor-backend ray"),
         ("cohort generate --load-format du", "cohort generate --load-format dummy"),
         ("cohort completion fi", "cohort completion fish"),
         ("cohort man run", "cohort man run-batch"))


class ZshTyping:
    """An interactive zsh on a terminal, which writes down its line behind each TAB."""

    def __init__(self, home):
        self.home = pathlib.Path(home)
        (self.home / "_cohort").write_text(run(COHORT, "completion", "zsh"))
        (self.home / ".zshrc").write_text(
            "fpath=($ZDOTDIR $fpath); autoload -Uz compinit; compinit -u -D\n"
            "note() { print -r -- $BUFFER >$ZDOTDIR/part; mv $ZDOTDIR/part $ZDOTDIR/line }\n"
            "zle -N note; bindkey '^Xp' note; zle-line-init() { note }; zle -N zle-line-init\n")
        self.main, far = pty.openpty()
        self.process = subprocess.Popen(
            ["zsh", "-d", "-i"], stdin=far, stdout=far, stderr=far, start_new_session=True,
            env=os.environ | {"ZDOTDIR": home, "TERM": "dumb"})
        os.close(far)
        self.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(PATIENCE_S)
        os.close(self.main)

    def wait(self):
        path, shown, end = self.home / "line", b"", time.monotonic() + PATIENCE_S
        while not path.exists():
            if time.monotonic() > end:
                raise AssertionError(shown)
            if select.select([self.main], [], [], 0.02)[0]:
                shown += os.read(self.main, 4096)
        text = path.read_text()
        path.unlink()
        return text

    def complete(self, line):
        os.write(self.main, b"\x15" + line.encode() + b"\t\x18p")
        return self.wait().strip()


class Manual(unittest.TestCase):
    def test_man_pages_have_every_option(self):
        for command in COMMANDS:
            page = run(COHORT, "man", *command.split())
            plain = re.sub(r"\\f[BIR]", "", page).replace("\\-", "-")
            names = re.findall(r"^(?:-\w+, )?--([\w-]+)", plain, re.M)
            self.assertEqual(names, list(helped(command)), command)
        overview = run(COHORT, "man").replace("\\-", "-")
        for command in ALL:
            self.assertIn(f"\\fB{command}\\fR", overview)
        self.assertLessEqual({"serve", "bench serve", "run-batch", "doctor ray"}, set(COMMANDS))

    @unittest.skipUnless(shutil.which("groff"), "no groff here")
    def test_man_pages_are_roff(self):
        for command in ("", *ALL):
            done = subprocess.run(["groff", "-ww", "-man", "-Tascii"], text=True,
                                  input=run(COHORT, "man", *command.split()),
                                  capture_output=True, timeout=PATIENCE_S, check=True)
            self.assertEqual(done.stderr, "")
            self.assertIn("SYNOPSIS", re.sub(".\b|\x1b\\[[0-9;]*m", "", done.stdout))

    def test_bash_completes_commands_options_and_files(self):
        self.assertEqual(complete_bash(["cohort", "gen"]), ["generate"])
        self.assertIn("run-batch", complete_bash(["cohort", ""]))
        for group in GROUPS:
            self.assertEqual(complete_bash(["cohort", group, ""]),
                             [name.split()[1] for name in ALL if name.startswith(group + " ")])
        self.assertEqual(complete_bash(["cohort", "config", "bench"]), ["bench"])
        for command in COMMANDS:
            words = ["cohort", *command.split()]
            offered = {word[2:] for word in complete_bash([*words, "--"])}
            self.assertEqual(offered, {"help", *helped(command)}, command)
        self.assertEqual(complete_bash(["cohort", "serve", "--max-num-s"]), ["--max-num-seqs"])
        self.assertEqual(complete_bash(["cohort", "serve", "--port", "-"]), [])  # a value
        self.assertEqual(complete_bash(["cohort", "serve", "mod"]), [])  # files: the shell's
        self.assertEqual(complete_bash(["cohort", "serve", "--kept-kv", ""]), ["auto", "always", "never"])
        self.assertEqual(complete_bash(["cohort", "serve", "-q", "i"]), ["int8"])

    @unittest.skipUnless(shutil.which("zsh"), "no zsh here")
    def test_zsh_completes_what_is_typed(self):
        with tempfile.TemporaryDirectory() as home, ZshTyping(home) as zsh:
            for line, wanted in LINES:
                self.assertEqual(zsh.complete(line), wanted)

    @unittest.skipUnless(shutil.which("fish"), "no fish here")
    def test_fish_completes_what_is_typed(self):
        with tempfile.TemporaryDirectory() as home:
            path = pathlib.Path(home) / "cohort.fish"
            path.write_text(run(COHORT, "completion", "fish"))
            for line, wanted in LINES:
                done = subprocess.run(
                    ["fish", "--no-config", "-c", f"source {path}; complete -C '{line}'"],
                    text=True, capture_output=True, timeout=PATIENCE_S,
                    env=os.environ | {"HOME": home, "XDG_DATA_HOME": home})
                offered = [word.split("\t")[0] for word in done.stdout.splitlines()]
                self.assertEqual(offered, [wanted.split()[-1]], done.stderr)

    def test_help_shows_a_group_an_option_or_a_word(self):
        def asked(what, command="serve"):
            return list(re.findall(r"^(\w+): ", text := run(COHORT, command, f"--help={what}"), re.M)), \
                re.findall(r"^  (?:-\w+, )?--([\w-]+)", text, re.M)
        whole = run(COHORT, "serve", "--help")
        groups = re.findall(r"^(?!usage)(\w+): ", whole, re.M)
        listed = re.findall(r"^  (\w+) ", run(COHORT, "serve", "--help=listgroup"), re.M)
        self.assertEqual(listed, groups)
        self.assertLessEqual({"ModelConfig", "ParallelConfig", "CacheConfig", "Frontend", "Ray"}, set(groups))
        self.assertEqual([name for group in groups for name in asked(group)[1]], list(helped("serve")))
        self.assertEqual(asked("parallelconfig")[0], ["ParallelConfig"])
        self.assertEqual(asked("cache"), asked("CacheConfig"))
        self.assertEqual(asked("max_num_seqs"), (["SchedulerConfig"], ["max-num-seqs"]))
        self.assertEqual(asked("max-num")[1], ["max-num-seqs", "max-num-batched-tokens", "max-num-waiting"])
        self.assertEqual(asked("all")[1], list(helped("serve")))
        self.assertEqual(asked("temperature", "chat"), (["Sampling"], ["temperature"]))
        done = subprocess.run([COHORT, "serve", "--help=CachConfig"], capture_output=True, text=True,
                              timeout=PATIENCE_S)
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("--help=CacheConfig?", done.stderr)

    def test_a_slip_is_told_what_it_may_have_meant(self):
        for words, meant in ((["sevre"], "did you mean cohort serve?"),
                             (["bench", "frobnicate"], "see cohort bench --help"),
                             (["bench", "troughput"], "did you mean cohort bench throughput?"),
                             (["doctor", "rai"], "did you mean cohort doctor ray?"),
                             (["man", "serv"], "did you mean cohort serve?"),
                             (["serve", "m", "--tensor-paralel-size", "2"], "did you mean --tensor-parallel-size?"),
                             (["serve", "m", "--enforce-eagr"], "did you mean --enforce-eager?"),
                             (["serve", "m", "--no-async-sheduling"], "did you mean --no-async-scheduling?"),
                             (["serve", "m", "--kept-kv", "allways"], "did you mean 'always'?"),
                             (["serve", "m", "--xyzzy"], "see cohort serve --help")):
            done = subprocess.run([COHORT, *words], capture_output=True, text=True, timeout=PATIENCE_S)
            self.assertEqual((done.returncode, done.stdout, done.stderr.count("\n")), (2, "", 1), done.stderr)
            self.assertIn(meant, done.stderr)
            self.assertEqual("did you mean" in done.stderr, "did you mean" in meant, done.stderr)

    def test_an_install_has_a_page_for_each_command(self):
        with tempfile.TemporaryDirectory() as out:
            run("cmake", f"-DCOHORT={COHORT}", f"-DOUT={out}", "-P", SOURCE / "scripts/manuals.cmake")
            pages = {path.name: path.read_text() for path in pathlib.Path(out).glob("man/man1/*")}
            shells = [path.stat().st_size for path in pathlib.Path(out).rglob("*cohort*")
                      if path.suffix != ".1"]
        self.assertEqual(pages, {f"cohort{'-'[:len(name)]}{name.replace(' ', '-')}.1":
                                 run(COHORT, "man", *name.split()) for name in ("", *ALL)})
        self.assertEqual(len(shells), 3)
        self.assertTrue(all(shells))

    def test_config_has_every_option_of_every_command(self):
        text = run(COHORT, "config")
        for command in COMMANDS:
            found = re.findall(r"^    # --([\w-]+)[ :]", run(COHORT, "config", *command.split()), re.M)
            self.assertEqual(found, list(helped(command)), command)
            for name in found:
                self.assertRegex(text, f"(?m)^    # --{name}[ :]")
        # Where commands share a field or a name, each has its own default.
        self.assertRegex(text, r"COHORT_RAY_PLACEMENT_TIMEOUT=300\n")
        self.assertRegex(text, r"# doctor ray\nCOHORT_TIMEOUT=120\n")
        self.assertRegex(run(COHORT, "config", "doctor", "ray"), r"COHORT_TIMEOUT=120\n")
        self.assertEqual(subprocess.run([COHORT, "config", "nothing"], capture_output=True,
                                        timeout=PATIENCE_S).returncode, 2)

    def test_other_words_are_refused(self):
        for words in (("man", "nothing"), ("completion",), ("completion", "tcsh")):
            done = subprocess.run([COHORT, *words], capture_output=True, timeout=PATIENCE_S)
            self.assertEqual((done.returncode, done.stdout), (2, b""))


if __name__ == "__main__":
    unittest.main()
