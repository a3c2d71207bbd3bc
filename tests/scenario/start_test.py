#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A server that is told to stop before it serves, or where it cannot, or that nobody listens to."""
import contextlib
import fcntl
import json
import os
import pathlib
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import tempfile
import termios
import time
import unittest

from served import free_port

SOURCE = pathlib.Path(os.environ["COHORT_SOURCE_DIR"])
COHORT = str(pathlib.Path(os.environ["COHORT_BUILD_DIR"]) / "cohort")
MODEL = SOURCE / "tests/golden/llama-float32"
PATIENCE_S = 60
# Random weights of this are minutes of work, and nothing is allocated before it is made.
ENDLESS = {"num_hidden_layers": 250, "hidden_size": 2048, "intermediate_size": 8192}


def descendants(pid):
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():  # a thread's children are its own
        found += [int(one) for one in (task / "children").read_text().split()]
    return found


def is_alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Starting:
    """`cohort serve` of a model that loads for ever, as far as it got when `said` was said."""

    def __init__(self, *options, said=r"phase_done phase=connect", **more):
        self.home = tempfile.TemporaryDirectory()
        folder = pathlib.Path(self.home.name)
        model = folder / "model"
        model.mkdir()
        config = json.loads((MODEL / "config.json").read_text())
        (model / "config.json").write_text(json.dumps(config | ENDLESS))
        self.log = open(folder / "log", "w+b")
        self.environment = os.environ | {"XDG_RUNTIME_DIR": self.home.name}
        self.words = [COHORT, "serve", str(model), "--skip-tokenizer-init", "--load-format",
                      "dummy", "--host", "127.0.0.1", "--log-level", "info", *options]
        self.process = subprocess.Popen([*self.words, *(() if "--port" in options else ("--port", "0"))],
                                        stderr=self.log, env=self.environment,
                                        **{"stdin": subprocess.DEVNULL, **more})
        end = time.monotonic() + PATIENCE_S
        while not re.search(said, self.text()):
            assert self.process.poll() is None and time.monotonic() < end, self.text()
            time.sleep(0.01)
        self.workers = descendants(self.process.pid)

    def text(self):
        return pathlib.Path(self.log.name).read_text()

    def left(self):
        """What should not be there any more: workers after a moment, and files at once."""
        end = time.monotonic() + PATIENCE_S
        while any(map(is_alive, self.workers)) and time.monotonic() < end:
            time.sleep(0.01)
        files = [*pathlib.Path(self.home.name, "cohort").glob("*.stat")]
        return [pid for pid in self.workers if is_alive(pid)] + files

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(PATIENCE_S)
        if self.process.stdin:
            self.process.stdin.close()
        self.log.close()
        self.home.cleanup()


class Start(unittest.TestCase):
    def check_cancelled(self, start, number):
        self.assertEqual(start.process.wait(PATIENCE_S), 128 + number, start.text())
        self.assertIn("cohort: starting: told to stop during load", start.text())
        self.assertEqual(start.left(), [])

    def test_a_signal_ends_a_start_under_way(self):
        for number, options in ((signal.SIGTERM, ("-tp", "2")), (signal.SIGINT, ("-pp", "2")),
                                (signal.SIGTERM, ())):
            with self.subTest(number=number, options=options), Starting(*options) as start:
                self.assertEqual(len(start.workers), 2 if options else 0)
                start.process.send_signal(number)
                self.check_cancelled(start, number)

    def test_the_first_words_come_before_the_model_is_loaded(self):
        with Starting("--log-level", "error", said="serving ") as start:
            self.assertRegex(start.text(), r"^INFO \S+ \S+ \[serve\] Cohort [\d.]+: serving /\S+/model, "
                                           r"tensor_parallel_size 1, pipeline_parallel_size 1\n$")

    def test_on_a_terminal_a_bar_grows_while_weights_load(self):
        with Starting("-tp", "2") as start, tempfile.TemporaryDirectory() as home:
            main, far = pty.openpty()
            fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("4H", 24, 64, 0, 0))
            words = [COHORT, "generate", start.words[2], "--skip-tokenizer-init", "--load-format",
                     "dummy", "-tp", "2", "--prompt-token-ids", "1"]
            shown = b""
            with subprocess.Popen(words, stderr=far, stdout=subprocess.DEVNULL,
                                  env=os.environ | {"XDG_RUNTIME_DIR": home}) as process:
                os.close(far)
                try:
                    while not re.search(rb"Loading weights \[[#-]+\] +\d+%  \S+ GB", shown):
                        self.assertTrue(select.select([main], [], [], PATIENCE_S)[0], shown)
                        shown += os.read(main, 65536)
                    process.send_signal(signal.SIGINT)
                    with contextlib.suppress(OSError):  # it has ended
                        while piece := os.read(main, 65536):
                            shown += piece
                    self.assertEqual(process.wait(PATIENCE_S), 128 + signal.SIGINT)
                finally:
                    process.kill()
            os.close(main)
            self.assertTrue(shown.startswith(b"\rStarting "), shown)
            self.assertRegex(shown, rb"\r\x1b\[Kcohort: starting: told to stop.*\r\n$")
            for line in shown.split(b"\r\x1b[Kcohort")[0].split(b"\r"):
                self.assertLess(len(line.replace(b"\x1b[K", b"")), 64)

    def test_the_end_of_stdin_ends_a_start_under_way(self):
        with Starting("-tp", "2", "--stop-with-stdin", stdin=subprocess.PIPE) as start:
            start.process.stdin.close()
            self.check_cancelled(start, signal.SIGTERM)

    def test_a_second_signal_ends_a_start_at_once(self):
        """Both come before the process gets to unwind anything: it dies of the second."""
        with Starting("-tp", "2") as start:
            for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGCONT):
                start.process.send_signal(number)
            self.assertIn(start.process.wait(PATIENCE_S), (-signal.SIGTERM, -signal.SIGINT))
            self.assertEqual(len(start.workers), 2)
            self.assertEqual([one for one in start.left() if isinstance(one, int)], [])

    def test_a_signal_ends_generate_while_it_starts(self):
        words = ["generate", str(MODEL), "--skip-tokenizer-init", "--load-format", "dummy"]
        with Starting("-tp", "2") as start, tempfile.TemporaryDirectory() as home:
            words[1] = start.words[2]
            with subprocess.Popen([COHORT, *words, "-tp", "2", "--prompt-token-ids", "1"],
                                  stderr=subprocess.PIPE, text=True,
                                  env=os.environ | {"XDG_RUNTIME_DIR": home}) as process:
                try:
                    end = time.monotonic() + PATIENCE_S
                    while len(descendants(process.pid)) < 2 and time.monotonic() < end:
                        time.sleep(0.01)
                    process.send_signal(signal.SIGINT)
                    self.assertEqual(process.wait(PATIENCE_S), 128 + signal.SIGINT)
                finally:
                    process.kill()
                self.assertIn("told to stop", process.stderr.read())

    def test_a_port_is_refused_before_the_model_is_looked_for(self):
        with socket.create_server(("127.0.0.1", 0)) as taken, tempfile.TemporaryDirectory() as home:
            port = str(taken.getsockname()[1])
            done = subprocess.run([COHORT, "serve", "org/model-to-fetch", "--host", "127.0.0.1",
                                   "--port", port], capture_output=True, text=True,
                                  env=os.environ | {"HF_HOME": home, "HF_HUB_OFFLINE": "1"},
                                  timeout=PATIENCE_S, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn(f"port {port}; choose another --port", done.stderr)
            self.assertNotIn("org/model-to-fetch", done.stderr)
            done = subprocess.run([COHORT, "serve", "--host", "127.0.0.1", "--port", port],
                                  capture_output=True, text=True, timeout=PATIENCE_S, check=False)
            self.assertEqual(done.returncode, 2)
            self.assertIn("no model", done.stderr)

    def test_a_port_is_held_while_the_model_loads(self):
        port = str(free_port())
        with Starting("--port", port) as start:
            done = subprocess.run([*start.words], capture_output=True, text=True,
                                  env=start.environment, timeout=PATIENCE_S, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn(f"port {port}; choose another --port", done.stderr)

    def test_a_unix_socket_is_held_while_the_model_loads(self):
        with tempfile.TemporaryDirectory() as home:
            path = f"{home}/s"
            with Starting("--uds", path) as start:
                done = subprocess.run([*start.words], capture_output=True, text=True,
                                      env=start.environment, timeout=PATIENCE_S, check=False)
                self.assertEqual(done.returncode, 1)
                self.assertIn(f"--uds {path}", done.stderr)
                self.assertTrue(os.path.exists(path))
                start.process.kill()  # which leaves the file to the next
                start.process.wait(PATIENCE_S)
            with Starting("--uds", path):
                pass

    def test_who_does_not_read_the_log_does_not_keep_a_server_from_ending(self):
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, b"x" * 4096)
        os.set_blocking(writer, True)
        with tempfile.TemporaryDirectory() as home, socket.socket(
                socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
            supervisor.bind(f"{home}/notify")
            supervisor.settimeout(PATIENCE_S)
            process = subprocess.Popen(
                [COHORT, "serve", str(MODEL), "--host", "127.0.0.1", "--port", "0"],
                stderr=writer, stdin=subprocess.DEVNULL,
                env=os.environ | {"NOTIFY_SOCKET": f"{home}/notify"})
            os.close(writer)
            try:
                self.assertEqual(supervisor.recv(100), b"READY=1")
                process.terminate()
                self.assertEqual(process.wait(PATIENCE_S), 0)
            finally:
                process.kill()
                process.wait(PATIENCE_S)
                os.close(reader)


if __name__ == "__main__":
    unittest.main()
