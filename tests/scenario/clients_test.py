#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`cohort complete` and `chat` against a real server, `cohort run-batch` with a real model."""
import array
import fcntl
import http.server
import json
import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import tempfile
import termios
import threading
import time
import unittest

from served import CHAT_TEMPLATE, COHORT, DEADLINE_S, MODEL, Server, generate

PROMPT = rb"\x1b\[\?2004h> "  # what is pasted comes between brackets from here on
SMALL = ("--kv-cache-memory-bytes", "16MiB", "--max-num-seqs", "8")


def run(*words, stdin="", **variables):
    clean = {k: v for k, v in os.environ.items() if k != "OPENAI_API_KEY"}
    return subprocess.run([str(COHORT), *map(str, words)], input=stdin, text=True,
                          capture_output=True, timeout=DEADLINE_S, env=clean | variables)


class Complete(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--served-model-name", "tiny", "--api-key", "secret")
        cls.url = f"http://127.0.0.1:{cls.server.port}/v1"
        cls.expected = generate([{"prompt": "a b c", "max_tokens": 9},
                                 {"prompt": "hello", "max_tokens": 9}])

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    def complete(self, *words, stdin="", key="secret"):
        return run("complete", "--url", self.url, "--temperature", "0", "--max-tokens", "9",
                   *words, stdin=stdin, OPENAI_API_KEY=key)

    def test_quick_prints_what_generate_does(self):
        done = self.complete("--quick", "a b c")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout, f"Using model: tiny\n{self.expected[0]}\n")
        done = self.complete("-q", "a b c", "--stats", "--api-key", "secret", key="wrong")
        self.assertRegex(done.stdout, r"\nTTFT: +[0-9.]+ ms\nTPS: +[0-9.]+ tokens/s \(9 tokens in")

    def test_each_line_is_a_prompt(self):
        done = self.complete("--url", self.url + "/", stdin="a b c\n \nhello")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout, "Using model: tiny\nPlease enter prompt to complete:\n"
                         f"> {self.expected[0]}\n> > {self.expected[1]}\n> \n")

    def test_refusals_are_told_and_cost_one_line(self):
        done = self.complete("-q", "a", key="wrong")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("Unauthorized; --api-key or OPENAI_API_KEY brings a key", done.stderr)
        done = self.complete("--model-name", "other", "-q", "a")
        self.assertEqual(done.returncode, 1)
        self.assertIn("The model `other` does not exist", done.stderr)
        done = self.complete(stdin="x " * 3000 + "\na b c\n")
        self.assertEqual(done.returncode, 1)
        self.assertIn("cohort: Bad Request: ", done.stderr)
        self.assertIn(self.expected[0], done.stdout)
        done = run("complete", "--url", "http://127.0.0.1:1/v1", "-q", "a")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, "Failed to connect .*`cohort serve` starts a server, --url")
        done = run("complete", "--url", self.url.removesuffix("/v1"), "-q", "a",
                   OPENAI_API_KEY="secret")
        self.assertEqual(done.returncode, 1)
        self.assertIn("/models: Not Found; an API's --url ends in /v1", done.stderr)


class Chat(unittest.TestCase):
    """Turn by turn: what the server is told of earlier ones shows in what it answers."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server("--served-model-name", "tiny", "--chat-template", CHAT_TEMPLATE)
        cls.url = f"http://127.0.0.1:{cls.server.port}/v1"

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    def chat(self, *words, stdin=""):
        return run("chat", "--url", self.url, "--temperature", "0", "--max-tokens", "9", *words,
                   stdin=stdin)

    def expected(self, *said, system=None):
        """The answers to a talk, each from all that was said before, by `cohort generate`."""
        messages = [{"role": "system", "content": system}] if system else []
        answers = []
        for text in said:
            messages.append({"role": "user", "content": text})
            answers += generate([{"messages": messages, "max_tokens": 9}],
                                "--chat-template", CHAT_TEMPLATE)
            messages.append({"role": "assistant", "content": answers[-1]})
        return answers

    def test_a_talk_goes_on_from_what_was_said(self):
        first, second = self.expected("a b", "c a b")
        done = self.chat(stdin="a b\nc a b\n")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout, "Using model: tiny\nPlease enter a message for the chat "
                         f"model:\n> {first}\n> {second}\n> \n")
        self.assertNotEqual(second, self.expected("c a b")[0])

    def test_quick_takes_a_system_prompt(self):
        done = self.chat("--quick", "a b", "--system-prompt", "b c", "--stats")
        self.assertEqual(done.returncode, 0, done.stderr)
        said = self.expected("a b", system="b c")[0]
        self.assertTrue(done.stdout.startswith(f"Using model: tiny\n{said}\nTTFT:"), done.stdout)
        self.assertNotEqual(said, self.expected("a b")[0])

    def test_a_refused_turn_was_never_said(self):
        done = self.chat(stdin="x " * 3000 + "\na b\n")
        self.assertEqual(done.returncode, 1)
        self.assertIn("cohort: Bad Request: ", done.stderr)
        self.assertIn(f"> {self.expected('a b')[0]}\n", done.stdout)

    def test_at_a_terminal_lines_are_edited_and_commands_carried_out(self):
        words = ("chat", "--url", self.url, "--temperature", "0", "--max-tokens", "9")
        told = rb"\(first token after [\d.]+ s, then [\d.]+ tokens/s, 9 tokens\)[^\r]*\r\n" + PROMPT
        with Terminal(*words) as terminal:
            home = pathlib.Path(terminal.state.name)
            terminal.wait(PROMPT)
            for keys, shown in (
                    (b"/help\n", rb"/save FILE +write"),
                    (b"/system b c\n", rb"system prompt is set"),
                    (b"xx\x15a q\x7fb\n", told),  # Ctrl-U, and Backspace
                    (b"\x1b[200~one\ntwo\n\x1b[201~\n", told),  # pasted: one message
                    (b"thrown away", rb"thrown away"),
                    (b"\x03", rb"\r\n\x1b\[\?2004l" + PROMPT),
                    (b"/model\n", rb"\* tiny\r\n"),
                    (b"/model little\n", rb"no model 'little'"),
                    (b"/sav\n", rb"did you mean /save\?"),
                    (b"/save %s/talk\n" % os.fsencode(home), rb"5 messages are in"),
                    (b"/clear\n", rb"begins anew, with its system prompt"),
                    (b"\x1b[A\x1b[A2\n", rb"1 messages are in")):  # /save .../talk2
                terminal.type(keys)
                terminal.wait(shown)
                if PROMPT not in shown and keys != b"thrown away":
                    terminal.wait(PROMPT + rb"$")
            terminal.type(b"\x04")
            self.assertEqual(terminal.process.wait(DEADLINE_S), 0)
            talk = json.loads((home / "talk").read_text())
            first, = self.expected("a b", system="b c")
            self.assertEqual(talk["messages"][:4], [
                {"role": "system", "content": "b c"}, {"role": "user", "content": "a b"},
                {"role": "assistant", "content": first}, {"role": "user", "content": "one\ntwo"}])
            self.assertEqual(json.loads((home / "talk2").read_text())["messages"], talk["messages"][:1])
            history = (home / "cohort/chat_history").read_text().splitlines()
            self.assertEqual(history[:4], ["/help", "/system b c", "a b", "one\\ntwo"])

    def test_a_terminal_has_its_mode_again_whatever_ends_the_chat(self):
        with Terminal("chat", "--url", self.url) as terminal:
            terminal.wait(PROMPT)
            terminal.type(b"a\x1ab")  # Ctrl-Z stops nothing
            terminal.wait(rb"ab")
            self.assertFalse(termios.tcgetattr(terminal.far)[3] & termios.ECHO)
            terminal.process.terminate()
            self.assertEqual(terminal.process.wait(DEADLINE_S), 128 + signal.SIGTERM)
            self.assertTrue(termios.tcgetattr(terminal.far)[3] & termios.ECHO)

    def test_an_answer_may_be_empty_and_a_command_interrupted(self):
        asked, bodies, let_go = threading.Event(), [], threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def answer(self, text):
                self.send_response(200)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def do_GET(self):
                if asked.is_set():
                    let_go.wait(DEADLINE_S)
                    return
                self.answer('{"data": [{"id": "m"}]}')

            def do_POST(self):
                bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                content = ["one", "", "three"][len(bodies) - 1]
                self.answer("data: " + json.dumps({"choices": [{"delta": {"content": content}}]})
                            + "\n\ndata: [DONE]\n\n")

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            with Terminal("chat", "--url", f"http://127.0.0.1:{server.server_port}/v1",
                          state="/too long" * 1000) as terminal:
                terminal.wait(PROMPT)
                for keys in (b"a\n", b"b\n"):
                    terminal.type(keys)
                    terminal.wait(PROMPT + rb"$")
                asked.set()
                terminal.type(b"/model\n")
                terminal.wait(rb"2004l")  # the line was taken
                terminal.type(b"\x03")
                terminal.wait(PROMPT + rb"$")
                terminal.type(b"c\n")
                terminal.wait(rb"three[^>]*" + PROMPT)
                terminal.type(b"\x04")
                self.assertEqual(terminal.process.wait(DEADLINE_S), 0)
            let_go.set()
            server.shutdown()
        self.assertEqual([one["content"] for one in bodies[-1]["messages"]], ["a", "one", "b", "", "c"])


class Terminal:
    """A client as somebody types to it."""

    def __init__(self, *words, state=None):
        self.main, self.far = pty.openpty()
        self.state = tempfile.TemporaryDirectory()
        self.process = subprocess.Popen([str(COHORT), *words], stdin=self.far, stdout=self.far,
                                        stderr=self.far, start_new_session=True,
                                        env=os.environ | {"XDG_STATE_HOME": state or self.state.name},
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.shown = b""

    def type(self, text):
        self.shown = b""
        os.write(self.main, text)

    def wait(self, pattern):
        end = time.monotonic() + DEADLINE_S
        while not re.search(pattern, self.shown):
            left_s = end - time.monotonic()
            assert left_s > 0 and select.select([self.main], [], [], left_s)[0], self.shown
            self.shown += os.read(self.main, 65536)

    def wait_asking(self):
        """Until it has taken the line: an interrupt before takes the line along."""
        end = time.monotonic() + DEADLINE_S
        left = array.array("i", [1])
        while left[0]:
            assert time.monotonic() < end
            time.sleep(0.01)
            fcntl.ioctl(self.far, termios.FIONREAD, left)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(DEADLINE_S)
        os.close(self.main)
        os.close(self.far)
        self.state.cleanup()


class Interrupt(unittest.TestCase):
    """Ctrl-C, against a model with so much room that its answers have no end."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        endless = pathlib.Path(cls.folder.name)
        for path in MODEL.iterdir():
            if path.name != "config.json":
                (endless / path.name).symlink_to(path)
        config = json.loads((MODEL / "config.json").read_text())
        (endless / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 60000}))
        cls.server = Server("--served-model-name", "tiny", "--chat-template", CHAT_TEMPLATE,
                            "--kv-cache-memory-bytes", "32MiB", model=endless)
        cls.words = ("--url", f"http://127.0.0.1:{cls.server.port}/v1", "--temperature", "0",
                     "--max-tokens", "50000")

    @classmethod
    def tearDownClass(cls):
        cls.server.close()
        cls.folder.cleanup()

    def test_it_ends_the_answer_and_then_the_command(self):
        for command in ("chat", "complete"):
            with Terminal(command, *self.words) as terminal:
                terminal.wait(rb"Ctrl-C ends an answer.*\n" + PROMPT)
                for text in (b"a b c\n", b"and then\n"):
                    terminal.type(text)
                    terminal.wait(rb"(?s)\n.{100}")
                    terminal.type(b"\x03")
                    terminal.wait(rb"(?s)\^C.*\r\n" + PROMPT + rb"$")  # behind what was under way
                    self.server.wait_load(0)  # nobody computes what nobody reads
                self.assertIsNone(terminal.process.poll())
                terminal.type(b"\x03")
                self.assertEqual(terminal.process.wait(DEADLINE_S), 128 + signal.SIGINT)

    def test_before_anything_came_it_does_too(self):
        with Terminal("chat", *self.words) as terminal:
            terminal.wait(rb"\n" + PROMPT)
            self.server.process.send_signal(signal.SIGSTOP)
            try:
                terminal.type(b"a b c\n")
                terminal.wait(rb"a b c\r\n")
                terminal.wait_asking()
                terminal.type(b"\x03")
                terminal.wait(rb"\^C\r\n" + PROMPT + rb"$")
            finally:
                self.server.process.send_signal(signal.SIGCONT)
            terminal.type(b"a b c\n")
            terminal.wait(rb"(?s)\n.{100}")

    def test_a_quick_answer_ends_the_command(self):
        with Terminal("chat", *self.words, "-q", "a b c") as terminal:
            terminal.wait(rb"(?s)\n.{100}")
            terminal.type(b"\x03")
            self.assertEqual(terminal.process.wait(DEADLINE_S), 128 + signal.SIGINT)
        self.server.wait_load(0)


class Batch(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.home = pathlib.Path(self.folder.name)
        self.input, self.output = self.home / "in.jsonl", self.home / "out.jsonl"
        os.environ["XDG_RUNTIME_DIR"] = self.folder.name

    def tearDown(self):
        self.folder.cleanup()

    def words(self):
        return ["run-batch", str(MODEL), "-i", str(self.input), "-o", str(self.output),
                "--served-model-name", "tiny", *SMALL]

    def line(self, name, body, url="/v1/completions"):
        return json.dumps({"custom_id": name, "method": "POST", "url": url, "body": body})

    def test_answers_come_in_order_and_are_the_model_s(self):
        bodies = [{"model": "tiny", "prompt": "a b c" * (i % 3 + 1), "max_tokens": 3 + i % 7,
                   "temperature": 0} for i in range(40)]
        self.input.write_text("\n\n".join(self.line(f"n{i}", body)
                                          for i, body in enumerate(bodies)))
        done = run(*self.words())
        self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)
        lines = [json.loads(line) for line in self.output.read_text().splitlines()]
        self.assertEqual([line["custom_id"] for line in lines], [f"n{i}" for i in range(40)])
        texts = [line["response"]["body"]["choices"][0]["text"] for line in lines]
        plain = [{k: v for k, v in body.items() if k != "model"} for body in bodies]
        self.assertEqual(texts, generate(plain))
        self.assertEqual({(line["response"]["status_code"], line["error"]) for line in lines},
                         {(200, None)})
        self.assertEqual(len({line["id"] for line in lines}), 40)
        self.assertRegex(lines[0]["id"], "^vllm-[0-9a-f]{32}$")
        self.assertRegex(lines[0]["response"]["request_id"], "^vllm-batch-[0-9a-f]{32}$")
        self.assertEqual(sorted(path.name for path in self.home.iterdir() if path.is_file()),
                         ["in.jsonl", "out.jsonl"])

    def test_more_grammars_than_are_sent_at_once_are_all_answered(self):
        def schema(i):  # none like another, so that each is compiled, for longer than it is sent
            pattern = f"^([a-z]{{1,40}}[0-9a-z]?){{1,2}}{i}$"
            return {"type": "json_schema", "json_schema": {"name": "f", "schema": {
                "type": "string", "pattern": pattern}}}
        self.input.write_text("\n".join(
            self.line(f"n{i}", {"prompt": "a", "max_tokens": 2, "response_format": schema(i)})
            for i in range(600)))
        done = run(*self.words())
        self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)
        lines = [json.loads(line) for line in self.output.read_text().splitlines()]
        self.assertEqual([line["response"]["status_code"] for line in lines], [200] * 600)

    def test_chats_are_answered_as_generate_does(self):
        talks = [[{"role": "user", "content": "a b" * (i % 3 + 1)}] for i in range(6)]
        talks.append([{"role": "user", "content": [{"type": "text", "text": "a"},
                                                    {"type": "text", "text": "b"}]}])
        more = {"max_tokens": 5, "temperature": 0}
        self.input.write_text("\n".join(
            self.line(str(i), {"messages": talk} | more, "/v1/chat/completions")
            for i, talk in enumerate(talks)))
        done = run(*self.words(), "--chat-template", CHAT_TEMPLATE)
        self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)
        answers = [json.loads(line)["response"]["body"]["choices"][0]["message"]
                   for line in self.output.read_text().splitlines()]
        self.assertEqual({answer["role"] for answer in answers}, {"assistant"})
        self.assertEqual([answer["content"] for answer in answers],
                         generate([{"messages": talk} | more for talk in talks],
                                  "--chat-template", CHAT_TEMPLATE))

    def test_what_is_no_file_is_written_into_and_stays(self):
        self.input.write_text(self.line("n0", {"prompt": "a", "max_tokens": 2}))
        kept = self.home / "kept.jsonl"
        kept.write_text("something longer than the answer\n" * 100)
        self.output.symlink_to(kept)
        done = run(*self.words())
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(self.output.is_symlink())
        self.assertEqual(json.loads(kept.read_text())["custom_id"], "n0")
        self.output.unlink()
        os.mkfifo(self.output)
        with subprocess.Popen(["cat", str(self.output)], stdout=subprocess.PIPE) as reader:
            done = run(*self.words())
            self.assertEqual(json.loads(reader.stdout.read())["custom_id"], "n0")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(self.output.is_fifo())
        self.output.unlink()
        self.output = pathlib.Path("/dev/full")
        done = run(*self.words())
        self.assertEqual(done.returncode, 1)
        self.assertIn("--output-file /dev/full: No space left on device", done.stderr)
        self.assertEqual(sorted(path.name for path in self.home.iterdir() if path.is_file()),
                         ["in.jsonl", "kept.jsonl"])

    def test_no_link_is_followed_for_a_part_of_the_output(self):
        self.input.write_text(self.line("n0", {"prompt": "a", "max_tokens": 2}))
        kept = self.home / "kept"
        kept.write_text("kept")
        part = self.home / "out.jsonl.part"
        part.symlink_to(kept)
        done = run(*self.words())
        self.assertEqual(done.returncode, 2)
        self.assertIn(f"{part}: File exists", done.stderr)
        self.assertEqual(kept.read_text(), "kept")
        part.unlink()
        part.write_text("of a run that was killed")
        self.assertEqual(run(*self.words()).returncode, 0)
        self.assertEqual(json.loads(self.output.read_text())["custom_id"], "n0")
        self.assertFalse(part.exists())

    def test_refused_requests_do_not_stop_the_others(self):
        self.input.write_text("\n".join((
            self.line("bad", {"model": "tiny", "prompt": "a", "max_tokens": -1}),
            self.line("other", {"model": "other", "prompt": "a"}),
            self.line("nowhere", {}, "/v1/nothing"),
            self.line("stream", {"prompt": "a", "stream": True}),
            '{"body": {"prompt": "}\\"body\\"", "seed": 9007199254740993, "max_tokens": 2}, '
            '"url": "/v1/completions", "method": "POST", "custom_id": "good \\u00e9"}')) + "\n")
        done = run(*self.words())
        self.assertEqual(done.returncode, 1, done.stderr)
        lines = [json.loads(line) for line in self.output.read_text().splitlines()]
        self.assertIn("4 of 5 requests were refused", done.stderr)
        self.assertEqual([line["response"]["status_code"] for line in lines],
                         [400, 404, 404, 400, 200])
        self.assertEqual([line["response"]["body"] for line in lines[:4]], [None] * 4)
        self.assertIn("max_tokens", lines[0]["error"]["error"]["message"])
        self.assertEqual(lines[1]["error"]["error"]["type"], "NotFoundError")
        self.assertEqual(lines[3]["error"], "Request must not be sent in stream mode")
        self.assertEqual(lines[4]["custom_id"], "good \u00e9")

    def test_a_killed_worker_leaves_what_was_not_answered_to_be_asked_again(self):
        bodies = [{"prompt": "a b c", "max_tokens": 3}] * 4 + [
            {"prompt": "a", "max_tokens": 1900, "n": 100, "ignore_eos": True,
             "seed": 9007199254740993}] * 20
        lines = [self.line(f"n{i}", body) for i, body in enumerate(bodies)]
        self.input.write_text("\n".join(lines))
        part, rest, log = (self.home / name for name in ("out.jsonl.part", "out.jsonl.rest", "log"))
        with open(log, "wb") as to, subprocess.Popen(
                [str(COHORT), *self.words(), "-tp", "2", "--max-rank-restarts", "0", "--verbose"],
                stderr=to) as process:
            end = time.monotonic() + DEADLINE_S
            while not part.exists() or part.read_text().count("\n") < 4:
                self.assertLess(time.monotonic(), end, log.read_text())
                time.sleep(0.01)
            worker = int(re.search(r"\n1 +\d+ +\d+ +(\d+) +mp", log.read_text()).group(1))
            os.kill(worker, signal.SIGKILL)
            self.assertEqual(process.wait(DEADLINE_S), 1)
        said = log.read_text().splitlines()[-1]
        # On a busy machine more may have ended before the worker did.
        answered = {json.loads(line)["custom_id"] for line in part.read_text().splitlines()}
        self.assertLessEqual({"n0", "n1", "n2", "n3"}, answered)
        left = [one for one in map(json.loads, lines) if one["custom_id"] not in answered]
        self.assertRegex(said, f"rank 1 .*signal 9.*: {len(left)} of 24 requests have no answer, "
                         f"\"{left[0]['custom_id']}\" the first; they are in {rest}, .* in {part}$")
        self.assertEqual([json.loads(line) for line in rest.read_text().splitlines()], left)
        self.assertFalse(self.output.exists())
        kept = part.read_text()
        self.input = rest
        done = run(*self.words())
        self.assertEqual((done.returncode, done.stderr.count("\n")), (2, 1), done.stderr)
        self.assertIn(f"{part} and {rest} are of a batch that failed", done.stderr)
        self.assertEqual(part.read_text(), kept)
        part.rename(self.home / "kept")
        self.input = self.home / "few.jsonl"
        self.input.write_text(lines[0])
        done = run(*self.words())
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual((rest.exists(), part.exists()), (False, False))

    def test_lines_that_are_no_requests_are_refused_before_anything_runs(self):
        good = self.line("a", {"prompt": "a"})
        for bad, said in (("{", "no JSON"), ("[]", "no JSON object"),
                          ('{"method": "POST"}', "custom_id"),
                          (good.replace("POST", "GET"), "method"),
                          (good.replace("/v1/", "v1/"), "url"),
                          (good.replace('{"prompt": "a"}', "3"), "body")):
            self.input.write_text(f"{good}\n{bad}\n")
            done = run(*self.words())
            self.assertEqual(done.returncode, 2)
            self.assertIn("line 2: ", done.stderr)
            self.assertIn(said, done.stderr)
            self.assertFalse(self.output.exists())

    def test_interrupted_it_leaves_nothing(self):
        self.input.write_text("\n".join(
            self.line(str(i), {"prompt": "a b", "max_tokens": 1900, "n": 100, "ignore_eos": True})
            for i in range(20)))
        part = self.output.with_suffix(".jsonl.part")
        with subprocess.Popen([str(COHORT), *self.words()], stderr=subprocess.PIPE) as process:
            end = time.monotonic() + DEADLINE_S
            while not part.exists():
                self.assertLess(time.monotonic(), end)
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(DEADLINE_S), 128 + signal.SIGTERM)
        self.assertEqual([path.name for path in self.home.rglob("*") if path.is_file()],
                         ["in.jsonl"])


if __name__ == "__main__":
    unittest.main()
