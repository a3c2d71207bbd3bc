#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a user of the `cohort` command sees: answers, refusals, signals, other commands."""
import contextlib
import json
import os
import pathlib
import pty
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import unittest
import xml.etree.ElementTree

SOURCE = pathlib.Path(os.environ["COHORT_SOURCE_DIR"])
COHORT = str(pathlib.Path(os.environ["COHORT_BUILD_DIR"]) / "cohort")
GOLDEN = SOURCE / "tests/golden"
MODEL = str(GOLDEN / "llama-float32")
PATIENCE_S = 180  # only what hangs gets there


def run(*args, stdin=None, env=None):
    return subprocess.run([COHORT, *args], input=stdin, capture_output=True, text=True,
                          timeout=PATIENCE_S, env={**os.environ, **(env or {})})


def generate(*args, **kwargs):
    done = run("generate", *args, **kwargs)
    if done.returncode:
        raise AssertionError(f"{args}: exit {done.returncode}: {done.stderr}")
    return done.stdout


def json_lines(text):
    return [json.loads(line) for line in text.splitlines()]


def golden_case(name, index=0):
    return json.loads((GOLDEN / name / "golden.json").read_text())["cases"][index]


def ids(tokens):
    return ",".join(str(token) for token in tokens)


class Home(unittest.TestCase):
    """A folder of its own for run-time files, which must be empty at the end."""

    def setUp(self):
        self.home = pathlib.Path(tempfile.mkdtemp())
        self.run_time = self.home / "run"
        self.run_time.mkdir(mode=0o700)
        os.environ["XDG_RUNTIME_DIR"] = str(self.run_time)

    def tearDown(self):
        left = [path for path in self.run_time.rglob("*") if path.is_file()]
        shutil.rmtree(self.home)
        self.assertEqual(left, [], "files were left behind")

    def broken(self, change):
        """A copy of the model that `change` has been at."""
        folder = pathlib.Path(tempfile.mkdtemp(dir=self.home))
        shutil.copytree(MODEL, folder, dirs_exist_ok=True)
        change(folder)
        return str(folder)


class Refusals(Home):
    """Bad input: one line that names the thing, exit code 2, nothing on standard output."""

    def refused(self, words, *args, **kwargs):
        done = run(*args, **kwargs)
        said = done.stderr
        self.assertEqual((done.returncode, done.stdout, said.count("\n")), (2, "", 1),
                         f"{args}: {said}")
        self.assertNotRegex(said, r"\.c:\d", args)
        for word in words:
            self.assertIn(word, said, args)

    def refused_model(self, words, change, *args):
        """Refused on a thread and on two processes alike."""
        model = self.broken(change)
        for layout in (["-tp", "1"], ["-tp", "2"], ["-pp", "2"]):
            self.refused(words, "generate", model, "--prompt-token-ids", "5", *layout, *args)

    def test_words_on_the_command_line(self):
        here = ["generate", MODEL, "--prompt", "a"]
        self.refused(["frobnicate", "cohort --help"], "frobnicate")
        self.refused(["--frobnicate", "--help"], *here, "--frobnicate")
        self.refused(["--tensor-parallel-size", "'x'"], *here, "--tensor-parallel-size", "x")
        self.refused(["-tp"], *here, "-tp")
        self.refused(["--temperature", "-1"], *here, "--temperature", "-1")
        self.refused(["--max-tokens", "'0'"], *here, "--max-tokens", "0")
        self.refused(["int3", "float32"], *here, "--dtype", "int3")
        self.refused(["'mpi'", "uni", "mp"], *here, "--distributed-executor-backend", "mpi")
        self.refused(["elsewhere", "dummy"], *here, "--load-format", "elsewhere")
        self.refused(["--prompt"], "generate", MODEL)
        self.refused(["--prompt"], *here, "--prompt-token-ids", "5")
        self.refused(["no model", "directory"], "generate", "--prompt", "a")
        self.refused(["5,x"], "generate", MODEL, "--prompt-token-ids", "5,x")
        self.refused(["cpu_threads_bind", "0-x"], *here, "--cpu-threads-bind", "0-x")
        self.refused(["logit_bias"], *here, "--logit-bias", "{nope")
        self.refused(["nowhere.jsonl"], "generate", MODEL, "--input", "nowhere.jsonl")
        self.refused(["COHORT_TENSOR_PARALLEL_SIZE", "'many'"], *here,
                     env={"COHORT_TENSOR_PARALLEL_SIZE": "many"})

    def test_tp_and_pp_that_cannot_be(self):
        here = ["generate", MODEL, "--prompt", "a"]
        heads = json.loads((GOLDEN / "llama-float32/config.json").read_text())
        self.refused(["5", str(heads["num_key_value_heads"])], *here, "-tp", "5")
        self.refused(["3", str(heads["num_hidden_layers"])], *here, "-pp", "3")
        self.refused(["1,7"], *here, "-pp", "2", "--pp-layer-partition", "1,7")
        self.refused(["uneven"], "generate", "uneven", "--prompt", "a", "-tp", "4")

    def test_lengths(self):
        self.refused(["2048", "4096"], "generate", MODEL, "--prompt", "a",
                     "--max-model-len", "4096")
        self.refused(["20", "16"], "generate", MODEL, "--prompt-token-ids", ids(range(5, 25)),
                     "--max-model-len", "16")
        self.refused(["99999"], "generate", MODEL, "--prompt-token-ids", "99999")
        self.refused(["-1"], "generate", MODEL, "--prompt-token-ids", "-1")

    def test_where_it_was_raised_is_told_at_level_debug(self):
        done = run("generate", MODEL, "--prompt", "a", "-tp", "5", "--log-level", "debug")
        self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
        self.assertRegex(done.stderr, r"level=debug component=cli .*place=src/[a-z_/]+\.c:\d+")
        self.assertNotRegex(re.sub("(?m)^t=.*$", "", done.stderr), r"\.c:\d")

    def test_missing_files(self):
        self.refused(["/nowhere"], "generate", "/nowhere", "--prompt", "a")
        for name in ("config.json", "model.safetensors"):
            self.refused_model([name], lambda at, name=name: (at / name).unlink())
        tokenless = self.broken(lambda at: (at / "tokenizer.json").unlink())
        self.refused(["tokenizer.json"], "generate", tokenless, "--prompt", "a")
        # Token ids need none.
        self.assertTrue(json_lines(generate(tokenless, "--prompt-token-ids", "5", "--json",
                                            "--skip-tokenizer-init")))

    def test_weights_that_are_not(self):
        def cut(to):
            def change(at):
                path = at / "model.safetensors"
                path.write_bytes(path.read_bytes()[:to])
            return change

        def header(edit):
            def change(at):
                path = at / "model.safetensors"
                data = path.read_bytes()
                size = struct.unpack("<Q", data[:8])[0]
                fields = json.loads(data[8:8 + size])
                edit(fields)
                text = json.dumps(fields).encode()
                path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size:])
            return change

        q = "model.layers.0.self_attn.q_proj.weight"
        for size in (0, 4, 100, 5000, -1):
            self.refused_model(["model.safetensors"], cut(size))
        self.refused_model([q], header(lambda fields: fields.update(x=fields.pop(q))))
        self.refused_model([q], header(lambda fields: fields[q].update(dtype="I8")))
        self.refused_model([q], header(lambda fields: fields[q].update(shape=[1, 2])))

    def test_configs_that_are_not(self):
        def edit(**fields):
            def change(at):
                path = at / "config.json"
                path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
            return change

        def write(name, text):
            return lambda at: (at / name).write_text(text)

        self.refused_model(["config.json"], write("config.json", '{"hidden_size": 3'))
        self.refused_model(["FooForCausalLM"], edit(architectures=["FooForCausalLM"]))
        self.refused_model(["longrope"], edit(rope_scaling={"rope_type": "longrope"}))
        self.refused_model(["hidden_size"], edit(hidden_size=-4))
        self.refused_model(["generation_config.json"], write("generation_config.json", "["))
        broken = self.broken(write("tokenizer.json", '{"model": {"type": "Nope"}}'))
        self.refused(["tokenizer.json", "Nope"], "generate", broken, "--prompt", "a")

    def test_lines_of_input(self):
        lines = "\n".join(['{"prompt": "a"', '{"prompt_token_ids": [5, "x"]}',
                           '{"messages": []}', '{"prompt": "a", "bad_words": [""]}',
                           '{"prompt": "a", "allowed_token_ids": []}',
                           '{"prompt": "a", "temperature": "hot"}',
                           '{"prompt": 3}', '[]', '{"prompt_token_ids": [5]}', "", " \t",
                           '{"prompt_token_ids": [6]}'])
        done = run("generate", MODEL, "--input", "-", "--json", stdin=lines)
        self.assertEqual(done.returncode, 2)
        # Each bad line is told, by number; the good ones are answered, empty ones count.
        complaints = done.stderr.splitlines()
        self.assertEqual(len(complaints), 8, done.stderr)
        for number, complaint in enumerate(complaints, 1):
            self.assertIn(f"line {number}:", complaint)
        self.assertEqual(sorted(line["index"] for line in json_lines(done.stdout)), [8, 11])

    def test_unwritable_results_are_told_and_leave_no_part(self):
        out = self.home / "nowhere/out.json"
        done = run("bench", "latency", MODEL, "--input-len", "4", "--output-len", "2",
                   "--batch-size", "1", "--num-iters", "1", "--output-json", str(out))
        self.assertEqual(done.returncode, 2)
        self.assertIn(str(out), done.stderr)
        self.assertFalse(out.parent.exists())


class Answers(Home):
    def test_greedy_tokens_are_the_references(self):
        for name in ("llama-float32", "qwen3_moe-float32", "opt-float32"):
            case = golden_case(name)
            for layout in (["-tp", "1"], ["-tp", "2"], ["-pp", "2"], ["-tp", "2", "-pp", "2"]):
                line, = json_lines(generate(
                    str(GOLDEN / name), "--prompt-token-ids", ids(case["prompt"]), "--json",
                    "--temperature", "0", "--ignore-eos", "--max-tokens", "24", *layout))
                sure = next((i for i, gap in enumerate(case["greedy_gap"]) if gap < 2e-3), 24)
                self.assertEqual(line["token_ids"][:sure], case["greedy"][:sure],
                                 (name, layout))
                self.assertEqual(line["prompt_token_ids"], case["prompt"])
                self.assertEqual((line["index"], line["n"], line["finish_reason"]),
                                 (0, 0, "length"))

    def test_weights_in_other_files_and_types_are_the_same_weights(self):
        """A name of its own, an index with more than the file has, norms and a matrix in
        F64: vLLM's loader takes the file and copies into the parameter's type."""
        def change(at):
            path = at / "model.safetensors"
            data = path.read_bytes()
            size = struct.unpack("<Q", data[:8])[0]
            fields, body = json.loads(data[8:8 + size]), data[8 + size:]
            fields.pop("__metadata__", None)
            out = b""
            for name, field in fields.items():
                begin, end = field["data_offsets"]
                piece = body[begin:end]
                if name == "model.norm.weight" or "layers.0." in name:
                    values = struct.unpack(f"<{len(piece) // 4}f", piece)
                    piece, field["dtype"] = struct.pack(f"<{len(values)}d", *values), "F64"
                field["data_offsets"] = [len(out), len(out) + len(piece)]
                out += piece
            text = json.dumps(fields).encode()
            (at / "pytorch_model.safetensors").write_bytes(
                struct.pack("<Q", len(text)) + text + out)
            path.unlink()

        def index(at):
            change(at)
            (at / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {
                "model.norm.weight": "pytorch_model.safetensors",
                "rotary_emb.inv_freq": "pytorch_model.safetensors"}}))

        words = ("--prompt", "a b", "--temperature", "0", "--max-tokens", "12", "--json",
                 "--logprobs", "1", "--ignore-eos")
        want = generate(MODEL, *words)
        self.assertEqual(generate(self.broken(change), *words, "-tp", "2"),
                         generate(MODEL, *words, "-tp", "2"))
        self.assertEqual(generate(self.broken(index), *words), want)

    def test_seeds_give_the_same_text_on_every_layout(self):
        args = [MODEL, "--prompt", "a b", "--seed", "7", "--n", "3", "--max-tokens", "12",
                "--temperature", "1", "--json", "--ignore-eos"]
        want = sorted(generate(*args).splitlines())
        self.assertEqual(len(want), 3)
        self.assertEqual(len({json.loads(line)["text"] for line in want}), 3)
        for layout in (["-tp", "2"], ["-pp", "2"]):
            self.assertEqual(sorted(generate(*args, *layout).splitlines()), want)

    def test_logprobs_are_laid_out_as_documented(self):
        line, = json_lines(generate(MODEL, "--prompt-token-ids", "5,6,7", "--json",
                                    "--max-tokens", "2", "--logprobs", "2", "--temperature",
                                    "0", "--prompt-logprobs", "1", "--ignore-eos"))
        self.assertEqual(len(line["logprobs"]), 2)
        for token, entry in zip(line["token_ids"], line["logprobs"]):
            self.assertEqual(entry["token_id"], token)
            self.assertEqual(entry["top"][0], [token, entry["logprob"]])
            self.assertEqual(len(entry["top"]), 2)
        self.assertIsNone(line["prompt_logprobs"][0])
        self.assertEqual([entry["token_id"] for entry in line["prompt_logprobs"][1:]], [6, 7])

    def test_text_may_hold_any_character(self):
        vocabulary = json.loads(pathlib.Path(MODEL, "tokenizer.json").read_text())["model"]["vocab"]
        words = ("--prompt", "a", "--temperature", "0", "--max-tokens", "3", "--logit-bias",
                 json.dumps({str(vocabulary["\u0100"]): 100}))  # the byte 0
        (line,) = json_lines(generate(MODEL, *words, "--json"))
        self.assertEqual(line["text"], "\0\0\0")
        self.assertEqual(generate(MODEL, *words, "--n", "2"), "[0.0] \0\0\0\n[0.1] \0\0\0\n")

    def test_a_prompt_is_a_message_to_a_model_with_a_template(self):
        args = ("--temperature", "0", "--max-tokens", "5", "--json")
        def of_line(line):
            return json_lines(generate(MODEL, "--input", "-", *args, stdin=json.dumps(line)))
        chat = of_line({"messages": [{"role": "user", "content": "a b"}]})
        self.assertEqual(json_lines(generate(MODEL, "--prompt", "a b", *args)), chat)
        plain = of_line({"prompt": "a b"})
        self.assertNotEqual(plain, chat)
        self.assertEqual(json_lines(generate(MODEL, "--prompt", "a b", "--skip-chat-template", *args)), plain)
        bare = self.broken(lambda at: (at / "tokenizer_config.json").unlink())
        self.assertEqual(json_lines(generate(bare, "--prompt", "a b", *args)), plain)

    def test_answers_end_where_the_model_does(self):
        for words, stdin in ((("--prompt-token-ids", "5,6,7"), None),
                             (("--input", "-"), '{"prompt_token_ids": [5, 6, 7]}')):
            line, = json_lines(generate(MODEL, *words, "--json", "--ignore-eos", "--max-model-len", "64",
                                        stdin=stdin))
            self.assertEqual((len(line["token_ids"]), line["finish_reason"]), (61, "length"))

    def test_a_file_is_answered_beneath_a_bar(self):
        path = self.home / "lines"
        path.write_text('{"prompt_token_ids": [5], "max_tokens": 400, "ignore_eos": true}\n\n' * 9)
        main, far = pty.openpty()
        with subprocess.Popen([COHORT, "generate", MODEL, "--input", str(path), "--json"],
                              stdout=subprocess.PIPE, stderr=far, text=True) as process:
            os.close(far)
            answers = process.stdout.read()
        shown = b""
        with contextlib.suppress(OSError):  # the other end is gone
            while piece := os.read(main, 65536):
                shown += piece
        os.close(main)
        self.assertEqual(len(answers.splitlines()), 9)
        self.assertRegex(shown, rb"\rAnswering \[#*-*\] +\d+%  \d/9 requests")
        self.assertTrue(shown.endswith(b"\r\x1b[K"), shown)

    def test_any_of_several_stop_strings_ends_the_text(self):
        text = "".join(line["text"] for line in json_lines(generate(
            MODEL, "--prompt", "Hello", "--temperature", "0", "--max-tokens", "16", "--json")))
        late, early = text[6:9], text[2:5]
        line, = json_lines(generate("--stop", late, "--stop", early, MODEL, "--prompt",
                                    "Hello", "--temperature", "0", "--json"))
        self.assertEqual((line["text"], line["finish_reason"]),
                         (text[:min(text.index(late), text.index(early))], "stop"))

    def test_flags_variables_and_spellings_are_one(self):
        want = generate(MODEL, "--prompt", "a", "--max-tokens", "5", "--temperature", "0",
                        "--tensor-parallel-size", "2")
        self.assertEqual(want, generate("--model", MODEL, "--prompt=a", "--max_tokens=5",
                                        "--temperature=0", "--tensor_parallel_size=2"))
        self.assertEqual(want, generate(MODEL, "--prompt", "a", env={
            "COHORT_MAX_TOKENS": "5", "COHORT_TEMPERATURE": "0",
            "COHORT_TENSOR_PARALLEL_SIZE": "2"}))

    def test_verbose_shows_phases_and_ranks(self):
        done = run("generate", MODEL, "--prompt", "a", "-tp", "2", "--verbose",
                   "--max-tokens", "1")
        for word in ("place", "connect", "load", "rank", "shared memory"):
            self.assertIn(word, done.stderr)

    def test_what_was_fetched_has_a_name(self):
        words = ("--prompt", "Hello", "--temperature", "0", "--max-tokens", "5")
        there = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(self.home), "HOME": str(self.home)}
        shutil.copytree(MODEL, self.home / ".cache/cohort/smollm2-135m-instruct")
        shutil.copytree(MODEL, self.home / "other/cohort/little")
        elsewhere = there | {"XDG_CACHE_HOME": str(self.home / "other")}
        want = generate(MODEL, *words)
        self.assertEqual(want, generate("smollm2-135m-instruct", *words, env=there | {"XDG_CACHE_HOME": ""}))
        self.assertEqual(want, generate("little", *words, "--tokenizer", "little", env=elsewhere))
        self.assertNotEqual(run("generate", "smollm2-135m-instruct", *words, env=elsewhere).returncode, 0)

    def test_dummy_weights_need_only_a_config(self):
        model = self.home / "dummy"
        model.mkdir()
        shutil.copy(GOLDEN / "llama-float32/config.json", model)
        args = [str(model), "--load-format", "dummy", "--skip-tokenizer-init",
                "--prompt-token-ids", "5,6", "--json", "--max-tokens", "4",
                "--temperature", "0", "--ignore-eos"]
        self.assertEqual(generate(*args), generate(*args, "-tp", "2"))
        self.assertNotEqual(generate(*args), generate(*args, "--seed", "9"))


class Standing(Home):
    """`--input -`: a process that lives until end of file."""

    def start(self, *args, **more):
        return subprocess.Popen([COHORT, "generate", MODEL, *args], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                bufsize=1, **more)

    def test_answers_come_as_lines_are_done_and_lines_while_others_run(self):
        with self.start("--input", "-", "--json", "-tp", "2", "--ignore-eos") as process:
            process.stdin.write('{"prompt": "a", "max_tokens": 1}\n')
            self.assertEqual(json.loads(process.stdout.readline())["index"], 0)
            # A long one, and a short one behind it, which comes first; in one write, or the
            # long one may be done before we get to the other.
            process.stdin.write('{"prompt": "a", "max_tokens": 2000}\n'
                                '{"prompt": "b", "max_tokens": 2}\n')
            self.assertEqual(json.loads(process.stdout.readline())["index"], 2)
            process.stdin.close()
            self.assertEqual(json.loads(process.stdout.readline())["index"], 1)
            self.assertEqual(process.wait(PATIENCE_S), 0)

    def test_text_streams(self):
        # A pipe that is shorter than the text: who streams stops before the last step.
        with self.start("--prompt", "a b c d", "--max-tokens", "2000", "--ignore-eos",
                        "--temperature", "0", pipesize=4096) as process:
            self.assertTrue(os.read(process.stdout.fileno(), 1))
            (_, _, _, _, steps, _, _), = self.rows(process)
            self.assertLess(int(steps), 1990, "it had all before the first byte was read")
            process.stdout.read()

    def rows(self, process):
        """Of its ranks: rank, pid, phase, call, steps, tokens, errors."""
        listed = run("stat").stdout
        self.assertIn(f"driver {process.pid}", listed)
        rows = [line.split() for line in listed.splitlines()]
        return [row for row in rows if row and row[0].isdigit()]

    def running_pids(self, process):
        return [int(row[1]) for row in self.rows(process)]

    def test_stat_shows_it_and_signals_end_it_in_order(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.start("--input", "-", "--json", "-tp", "2", "--ignore-eos") as process:
                process.stdin.write('{"prompt": "a", "max_tokens": 1}\n')
                process.stdout.readline()
                pids = self.running_pids(process)
                self.assertEqual(len(pids), 2)
                process.stdin.write('{"prompt": "a", "max_tokens": 2000}\n')
                process.send_signal(number)
                self.assertEqual(process.wait(PATIENCE_S), 128 + number)
                self.assertEqual(process.stderr.read(), "")
            for pid in pids:
                self.assertFalse(os.path.exists(f"/proc/{pid}"))

    def test_stat_watches_tokens_a_second(self):
        with self.start("--input", "-", "--json", "-tp", "2", "--ignore-eos") as process:
            with subprocess.Popen([COHORT, "stat", "--watch", "--interval", "0.05"], text=True,
                                  stdout=subprocess.PIPE) as watching:
                try:
                    process.stdin.write('{"prompt": "a", "max_tokens": 2000}\n')
                    for line in watching.stdout:  # the pipe ends where the watching fails
                        if re.search(r", driver %d, .*, [\d.]*[1-9][\d.]* tokens/s$" % process.pid, line):
                            break
                    else:
                        self.fail("it ended")
                    watching.send_signal(signal.SIGINT)
                    watching.stdout.read()
                    self.assertEqual(watching.wait(PATIENCE_S), 0)
                finally:
                    watching.kill()
            process.kill()
            process.wait(PATIENCE_S)
        generate(MODEL, "--prompt", "a", "--max-tokens", "1")  # sweeps

    def test_crashed_run_can_still_be_seen(self):
        with self.start("--input", "-", "--json", "-tp", "2", "--instance", "seen") as process:
            process.stdin.write('{"prompt": "a", "max_tokens": 1}\n')
            process.stdout.readline()
            process.kill()
            process.wait(PATIENCE_S)
        listed = run("stat").stdout
        self.assertIn("seen: ended without a word", listed)
        generate(MODEL, "--prompt", "a", "--max-tokens", "1")  # sweeps
        self.assertNotIn("seen", run("stat").stdout)

    def test_stopped_worker_is_told_as_a_hang(self):
        with self.start("--input", "-", "--json", "-tp", "2", "--hang-timeout", "3",
                        "--max-rank-restarts", "0") as process:
            process.stdin.write('{"prompt": "a", "max_tokens": 1}\n')
            process.stdout.readline()
            os.kill(self.running_pids(process)[1], signal.SIGSTOP)
            process.stdin.write('{"prompt": "a", "max_tokens": 2000}\n')
            self.assertEqual(process.wait(PATIENCE_S), 1)
            said = process.stderr.read()
        self.assertEqual(said.count("\n"), 1, said)
        self.assertIn("rank 1 (pid ", said)
        self.assertIn("hung", said)

    def test_a_worker_that_dies_or_stops_is_replaced(self):
        for number in (signal.SIGKILL, signal.SIGSTOP):
            said = []
            for victim in (None, 1):
                with self.start("--input", "-", "--json", "-tp", "2", "--ignore-eos",
                                "--temperature", "0", "--hang-timeout", "3") as process:
                    process.stdin.write('{"prompt": "a", "max_tokens": 1}\n')
                    process.stdout.readline()
                    process.stdin.write('{"prompt": "a b", "max_tokens": 2000}\n')
                    if victim is not None:
                        os.kill(self.running_pids(process)[victim], number)
                    process.stdin.close()
                    said.append(json.loads(process.stdout.read()))
                    self.assertEqual(process.wait(PATIENCE_S), 0)
                    log = process.stderr.read()
                    self.assertEqual("event=rank_replaced" in log, victim is not None, log)
            self.assertEqual(said[1], said[0])

    def test_reader_that_leaves_ends_it(self):
        with self.start("--prompt", "a", "--max-tokens", "2000", "--ignore-eos") as process:
            process.stdout.close()
            self.assertNotEqual(process.wait(PATIENCE_S), 0)


class Others(Home):
    def test_version_help_and_config(self):
        self.assertRegex(run("--version").stdout, r"^cohort \d+\.\d+\.\d+ \(build [0-9a-f]{12}\)$")
        self.assertIn("generate", run("--help").stdout)
        for command in ("generate", "bench", "stat"):
            self.assertEqual(run(command, "--help").returncode, 0)
        config = run("config").stdout
        self.assertIn("COHORT_TENSOR_PARALLEL_SIZE", config)
        self.assertIn("COHORT_MAX_NUM_SEQS=7\n",
                      run("config", env={"COHORT_MAX_NUM_SEQS": "7"}).stdout)
        for told, taken in (("8123", "8123"), ("tcp://10.0.0.1:8000", "8000")):  # Kubernetes'
            self.assertIn(f"COHORT_PORT={taken}\n", run("config", env={"COHORT_PORT": told}).stdout)

    def test_a_full_disk_is_told(self):
        for words in (["--version"], ["--help"], ["config"], ["generate", MODEL, "--prompt", "a b", "--max-tokens", "3"]):
            with open("/dev/full", "wb") as full:
                done = subprocess.run([COHORT, *words], stdout=full, stderr=subprocess.PIPE, text=True,
                                      timeout=PATIENCE_S)
            self.assertEqual(done.returncode, 1, words)
            self.assertEqual(done.stderr.count("is the disk full?"), 1, done.stderr)

    def check_profile(self, text, events):
        """Two ranks, 2 rounds of 4 steps each; every operation lies in a step."""
        for rank in ("0", "1"):
            self.assertRegex(text, rf"Rank {rank}, \w+: reads at most [\d.]+ GB/s")
        self.assertRegex(text, r"(?m)^  linear \d+ x \d+ +\d+ .* %$")
        self.assertIn("between steps", text)
        for rank in (0, 1):
            mine = [one for one in events if one["tid"] == rank and one["ph"] == "X"]
            steps = [(one["ts"], one["ts"] + one["dur"]) for one in mine if one["name"] == "step"]
            self.assertEqual(len(steps), 8)
            for one in mine:
                end = one["ts"] + one["dur"]
                self.assertTrue(any(begin <= one["ts"] and end <= until + 0.002
                                    for begin, until in steps), one)
            names = {one["name"].split()[0] for one in mine}
            self.assertLessEqual({"embed", "linear", "norm", "attend", "all-reduce", "sample"}, names)
            layers = {one["args"]["layer"] for one in mine if one["name"] == "attend"}
            self.assertEqual(layers, set(range(len(layers))))

    def test_benches_write_what_they_print(self):
        out = self.home / "out.json"
        sizes = ["--input-len", "8", "--output-len", "4", "--output-json", str(out)]
        done = run("bench", "latency", MODEL, "--batch-size", "2", "--num-iters", "3",
                   "-tp", "2", *sizes)
        self.assertEqual(done.returncode, 0, done.stderr)
        result = json.loads(out.read_text())
        self.assertEqual(len(result["latencies"]), 3)
        self.assertGreater(result["avg_latency"], 0)
        parts = result["step_parts"]
        self.assertTrue(all(parts[name] > 0 for name in ("wait_s", "schedule_s", "output_s")))
        trace, picture = self.home / "trace.json", self.home / "roofline.svg"
        done = run("bench", "latency", MODEL, "--batch-size", "2", "--num-iters", "2", "-tp", "2",
                   "--profile-trace", str(trace), "--profile-roofline", str(picture), *sizes)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.check_profile(done.stdout, json.loads(trace.read_text())["traceEvents"])
        marks = xml.etree.ElementTree.parse(picture).getroot()
        self.assertGreater(len(marks.findall("{http://www.w3.org/2000/svg}circle")), 5)
        done = run("bench", "throughput", MODEL, "--num-prompts", "5", *sizes)
        self.assertEqual(done.returncode, 0, done.stderr)
        result = json.loads(out.read_text())
        self.assertEqual(result["num_requests"], 5)
        self.assertGreater(result["tokens_per_second"], 0)


if __name__ == "__main__":
    unittest.main()
