#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Models by name: `cohort generate Org/Name` against a small hub on loopback.

The hub has what the real one has: commits, git and LFS digests, tokens, redirects of
large files to a second host, ranges; and on request it stalls, breaks off or lies.
"""
import contextlib
import hashlib
import http.server
import json
import os
import pathlib
import pty
import re
import select
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from served import DEADLINE_S

SOURCE = pathlib.Path(os.environ["COHORT_SOURCE_DIR"])
COHORT = str(pathlib.Path(os.environ["COHORT_BUILD_DIR"]) / "cohort")
MODEL = SOURCE / "tests/golden/llama-float32"
FILES = {path.name: path.read_bytes() for path in MODEL.iterdir()
         if path.name in ("config.json", "tokenizer.json", "model.safetensors",
                          "generation_config.json")}
FILES["tokenizer_config.json"] = json.dumps(
    {"chat_template": "{% for m in messages %}{{ m.content }} {% endfor %}"}).encode()
LARGE = "model.safetensors"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "Acme/Tiny-1.0"
TOKEN = "hf_secret"
CACHE = (pathlib.Path(COHORT).parent / "CMakeCache.txt").read_text()
NO_HUB = re.search(r"^COHORT_HUB_ENDPOINT:\w+=$", CACHE, re.M)


def ask(path, method, target, body=None):
    """JSON of a server that listens on a unix socket."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(DEADLINE_S)
        link.connect(path)
        data = json.dumps(body).encode() if body else b""
        link.sendall(f"{method} {target} HTTP/1.0\r\nContent-Type: application/json\r\n"
                     f"Content-Length: {len(data)}\r\n\r\n".encode() + data)
        answer = b""
        while piece := link.recv(65536):
            answer += piece
    return json.loads(answer.split(b"\r\n\r\n", 1)[1])


class Hub:
    """One hub and, on another port, the host of its large files."""

    def __init__(self):
        self.files = dict(FILES)
        self.token = None          # one that must be brought
        self.break_after = None    # bytes of the slow file, then the connection ends
        self.stall_after = None    # bytes of the slow file, then nothing more comes
        self.slow = LARGE
        self.portal = None         # what answers everything, with 200, in the hub's place
        self.refusals = []         # statuses of the next answers about the large file
        self.has_ranges = True
        self.listed = {}           # other contents than FILES; None: no such file
        self.end = None            # ranges from here on are answered with 416
        self.commit = COMMIT
        self.log = []              # (port, path, range, authorization)
        self.stalled, self.done = threading.Event(), threading.Event()
        self.servers = [self.serve(), self.serve()]
        self.port, self.far_port = (server.server_address[1] for server in self.servers)
        self.url = f"http://127.0.0.1:{self.port}"

    def serve(self):
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                hub.answer(self)

            def do_HEAD(self):
                hub.describe(self)

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server

    def close(self):
        self.done.set()
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def info(self):
        def sibling(name, data):
            git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            entry = {"rfilename": name, "size": len(data), "blobId": git}
            if name == LARGE:
                entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data),
                                "pointerSize": 134}
            return entry
        others = [{"rfilename": "README.md", "size": 1, "blobId": "0" * 40},
                  {"rfilename": "onnx/model.onnx", "size": 1, "blobId": "0" * 40}]
        listed = {name: data for name, data in {**FILES, **self.listed}.items() if data}
        return {"id": NAME, "sha": self.commit,
                "siblings": others + [sibling(*item) for item in sorted(listed.items())]}

    def describe(self, request):
        """HEAD of a file, as huggingface_hub asks for it."""
        name = request.path.rsplit("/", 1)[1]
        entry = next(one for one in self.info()["siblings"] if one["rfilename"] == name)
        request.send_response(302 if name == LARGE else 200)
        request.send_header("X-Repo-Commit", self.commit)
        if name == LARGE:
            request.send_header("X-Linked-Etag", f'"{entry["lfs"]["sha256"]}"')
            request.send_header("X-Linked-Size", str(entry["size"]))
            request.send_header("Location", f"http://127.0.0.1:{self.far_port}/large/{name}")
        else:
            request.send_header("ETag", f'"{entry["blobId"]}"')
        request.send_header("Content-Length", "0" if name == LARGE else str(entry["size"]))
        request.end_headers()

    def tree(self):
        for entry in self.info()["siblings"]:
            if entry["rfilename"] in FILES:
                yield {"type": "file", "path": entry["rfilename"], "size": entry["size"],
                       "oid": entry["blobId"]} | (
                    {"lfs": {"oid": entry["lfs"]["sha256"], "size": entry["size"],
                             "pointerSize": 134}} if "lfs" in entry else {})

    def answer(self, request):
        port = request.server.server_address[1]
        path, bearer = request.path, request.headers["Authorization"]
        self.log.append((port, path, request.headers["Range"], bearer))
        if self.portal:
            return self.send(request, self.portal, None)
        if port == self.far_port and self.refusals:
            return self.send(request, b"not now", None, self.refusals.pop(0))
        if port == self.far_port:
            return self.send(request, self.files[path.rsplit("/", 1)[1]], LARGE)
        if self.token and bearer != f"Bearer {self.token}":
            return self.send(request, b"no", None, 401)
        if path in (f"/api/models/{NAME}/revision/{one}?blobs=true"
                    for one in ("main", "v1", COMMIT)) or path.endswith("/revision/main"):
            return self.send(request, json.dumps(self.info()).encode(), None)
        if path.startswith(f"/api/models/{NAME}/tree/{self.commit}"):
            return self.send(request, json.dumps(list(self.tree())).encode(), None)
        prefix = f"/{NAME}/resolve/{self.commit}/"
        name = path.removeprefix(prefix)
        if not path.startswith(prefix) or name not in self.files:
            return self.send(request, b"not here", None, 404)
        if name != LARGE:
            return self.send(request, self.files[name], name)
        request.send_response(302)
        request.send_header("Location", f"http://127.0.0.1:{self.far_port}/large/{name}")
        request.send_header("Content-Length", "0")
        request.end_headers()

    def send(self, request, data, name, status=200):
        start = 0
        if name and self.has_ranges and request.headers["Range"]:
            start = int(request.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if self.end is not None and start >= self.end:
                request.send_response(416)
                request.send_header("Content-Length", "0")
                request.end_headers()
                return
            status = 206
        request.send_response(status)
        if status == 206:
            request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        request.send_header("Content-Length", str(len(data) - start))
        request.end_headers()
        part = data[start:]
        limit = (self.break_after or self.stall_after) if name == self.slow else None
        if not limit:
            request.wfile.write(part)
            return
        request.wfile.write(part[:limit])
        request.wfile.flush()
        if self.stall_after:
            self.stalled.set()
            self.done.wait(DEADLINE_S)
        request.close_connection = True


class ByName(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.home = pathlib.Path(self.folder.name)
        self.hub = Hub()
        self.root = self.home / "hf/hub/models--Acme--Tiny-1.0"

    def tearDown(self):
        self.hub.close()
        self.folder.cleanup()

    def variables(self, **more):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
        return clean | {"HF_HOME": str(self.home / "hf"), "XDG_RUNTIME_DIR": str(self.home),
                        "HF_ENDPOINT": self.hub.url, "no_proxy": "127.0.0.1"} | more

    def words(self, *more):
        return [COHORT, "generate", NAME, "--prompt-token-ids", "1,2,3", "--max-tokens", "3",
                "--temperature", "0", "--kv-cache-memory-bytes", "4MiB", "--json", *more]

    def generate(self, *more, **variables):
        return subprocess.run(self.words(*more), env=self.variables(**variables), text=True,
                              capture_output=True, timeout=DEADLINE_S)

    def expect(self, *more, **variables):
        done = self.generate(*more, **variables)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)["token_ids"], done.stderr

    def refuse(self, text, *more, **variables):
        done = self.generate(*more, **variables)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(text, done.stderr)
        self.assertEqual(done.stdout, "")
        return done

    def incomplete(self):
        found = list((self.root / "blobs").glob("*.incomplete"))
        return found[0] if found else None

    def await_part(self):
        """Until the hub sends no more and a part of the large file lies on the disk."""
        self.assertTrue(self.hub.stalled.wait(DEADLINE_S))
        end = time.monotonic() + DEADLINE_S
        while not (self.incomplete() and self.incomplete().stat().st_size > 0):
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)

    def test_fetched_model_is_the_model_and_lies_as_huggingface_hub_has_it(self):
        by_path = subprocess.run(
            [COHORT, "generate", str(MODEL), *self.words()[3:]], env=self.variables(), text=True,
            capture_output=True, timeout=DEADLINE_S, check=True)
        tokens, said = self.expect()
        self.assertEqual(tokens, json.loads(by_path.stdout)["token_ids"])
        self.assertEqual(said.count("fetched "), len(FILES))
        self.assertEqual((self.root / "refs/main").read_text(), COMMIT)
        snapshot = self.root / "snapshots" / COMMIT
        self.assertEqual({path.name: path.read_bytes() for path in snapshot.iterdir()}, FILES)
        link = os.readlink(snapshot / LARGE)
        self.assertEqual(link, "../../blobs/" + hashlib.sha256(FILES[LARGE]).hexdigest())
        asked = len(self.hub.log)
        self.expect()
        self.assertEqual([path for _, path, _, _ in self.hub.log[asked:]],
                         [f"/api/models/{NAME}/revision/main?blobs=true"])

    def test_served_by_its_name_it_chats(self):
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/http"
            with subprocess.Popen(
                [COHORT, "serve", NAME, "--uds", path, "--disable-uvicorn-access-log"],
                env=self.variables(), stderr=subprocess.PIPE, text=True) as server:
                try:
                    while "Starting Cohort server" not in (line := server.stderr.readline()):
                        self.assertTrue(line, "it ended")
                    self.assertEqual(ask(path, "GET", "/v1/models")["data"][0]["root"], NAME)
                    answer = ask(path, "POST", "/v1/chat/completions", {
                        "messages": [{"role": "user", "content": "a b"}], "max_tokens": 2})
                    self.assertEqual(answer["usage"]["completion_tokens"], 2)
                finally:
                    server.terminate()
                    server.stderr.read()

    def test_killed_in_the_middle_it_goes_on_where_it_was(self):
        self.hub.stall_after = len(FILES[LARGE]) // 2
        with subprocess.Popen(self.words(), env=self.variables(), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) as process:
            self.await_part()
            process.send_signal(signal.SIGKILL)
        there = self.incomplete().stat().st_size
        self.assertFalse((self.root / "refs/main").exists())
        self.refuse("HF_HUB_OFFLINE is set", HF_HUB_OFFLINE="1")
        self.hub.done.set()
        self.hub.stall_after = None
        _, said = self.expect()
        self.assertIn("resumed at", said)
        self.assertIn(f"bytes={there}-", [range_ for _, _, range_, _ in self.hub.log])
        self.assertIsNone(self.incomplete())

    def test_killed_before_the_last_file_no_commit_is_taken_for_whole(self):
        self.hub.slow, self.hub.stall_after = "tokenizer.json", 100
        with subprocess.Popen(self.words(), env=self.variables(), stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) as process:
            self.assertTrue(self.hub.stalled.wait(DEADLINE_S))
            process.send_signal(signal.SIGKILL)
        weights = hashlib.sha256(FILES[LARGE]).hexdigest()
        self.assertTrue((self.root / "blobs" / weights).exists())  # they came before
        self.refuse("HF_HUB_OFFLINE is set", "--revision", COMMIT, HF_HUB_OFFLINE="1")
        self.hub.done.set()
        self.hub.stall_after = None
        self.expect("--revision", COMMIT)
        snapshot = self.root / "snapshots" / COMMIT
        self.assertEqual({path.name: path.read_bytes() for path in snapshot.iterdir()}, FILES)

    def test_interrupted_it_ends_at_once_and_keeps_what_came(self):
        self.hub.stall_after = len(FILES[LARGE]) // 2
        with subprocess.Popen(self.words(), env=self.variables(), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) as process:
            self.await_part()
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=DEADLINE_S)
        self.assertIn(b"cancelled", said)
        self.assertEqual(process.returncode, 128 + signal.SIGTERM)
        self.assertIsNotNone(self.incomplete())

    def test_interrupted_while_it_fetches_a_tokenizer_it_ends_too(self):
        self.hub.slow, self.hub.stall_after = "tokenizer.json", 100
        words = self.words("--tokenizer", NAME, "--download-dir", str(self.home / "elsewhere"))
        words[2] = str(MODEL)
        with subprocess.Popen(words, env=self.variables(), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) as process:
            try:
                self.assertTrue(self.hub.stalled.wait(DEADLINE_S))
                process.send_signal(signal.SIGINT)
                _, said = process.communicate(timeout=DEADLINE_S)
            finally:
                process.kill()
        self.assertIn(b"cancelled", said)
        self.assertEqual(process.returncode, 128 + signal.SIGINT)
        self.assertTrue((self.home / "elsewhere/models--Acme--Tiny-1.0").exists())
        self.assertFalse(self.root.exists())

    def test_connections_that_break_off_are_resumed(self):
        self.hub.break_after = len(FILES[LARGE]) // 3
        self.expect()
        self.assertGreaterEqual(sum(bool(range_) for _, _, range_, _ in self.hub.log), 2)

    def test_what_may_pass_is_tried_again_and_what_will_not_is_told(self):
        def n_asked():
            return sum(port == self.hub.far_port for port, *_ in self.hub.log)
        self.hub.refusals = [418]
        self.refuse("the hub answers 418")
        self.assertEqual(n_asked(), 1)
        self.hub.refusals = [503, 429]
        self.expect()
        self.assertEqual(n_asked(), 4)

    def test_a_host_without_ranges_starts_over(self):
        self.hub.stall_after = len(FILES[LARGE]) // 2
        with subprocess.Popen(self.words(), env=self.variables(), stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) as process:
            self.await_part()
            process.send_signal(signal.SIGTERM)
        self.hub.done.set()
        self.hub.stall_after, self.hub.has_ranges = None, False
        self.expect()

    def test_a_rest_that_the_hub_has_not_is_fetched_anew(self):
        self.hub.stall_after = len(FILES[LARGE]) // 2
        with subprocess.Popen(self.words(), env=self.variables(), stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) as process:
            self.await_part()
            process.send_signal(signal.SIGTERM)
        self.hub.done.set()
        self.hub.stall_after, self.hub.end = None, 1
        self.expect()
        ranges = [range_ for port, _, range_, _ in self.hub.log if port == self.hub.far_port]
        self.assertIsNotNone(ranges[-2])
        self.assertIsNone(ranges[-1])

    def test_what_cannot_run_is_refused_before_weights_are_fetched(self):
        config = json.loads(FILES["config.json"])

        def offer(listed):
            self.hub.listed = listed
            self.hub.files.update({name: data for name, data in listed.items() if data})

        for change, word in (({"architectures": ["MambaForCausalLM"]}, "MambaForCausalLM"),
                             ({"quantization_config": {"quant_method": "awq"}}, "awq"),
                             ({"rope_scaling": {"rope_type": "longrope"}}, "longrope")):
            offer({"config.json": json.dumps({**config, **change}).encode()})
            self.refuse(word)
        offer({"config.json": FILES["config.json"], LARGE: None, "tiny.gguf": b"GGUF"})
        self.refuse("no safetensors weights (but tiny.gguf)")
        self.assertEqual([path for _, path, _, _ in self.hub.log if LARGE in path], [])

    def test_wrong_bytes_are_found_and_thrown_away(self):
        right = FILES[LARGE]
        self.hub.files[LARGE] = right[:-1] + bytes([right[-1] ^ 1])
        self.refuse("its digest is")
        self.assertIsNone(self.incomplete())
        self.hub.files[LARGE] = right + b"more"
        self.refuse("more than the")
        self.hub.files[LARGE] = right
        self.expect()

    def test_what_a_portal_left_behind_is_fetched_again(self):
        self.expect()
        blob = self.root / "blobs" / hashlib.sha256(FILES[LARGE]).hexdigest()
        blob.unlink()
        blob.with_name(blob.name + ".incomplete").write_bytes(b"<html>Accept our terms</html>")
        self.expect()
        self.assertIn("bytes=29-", [range_ for _, _, range_, _ in self.hub.log])
        self.assertEqual(blob.read_bytes(), FILES[LARGE])

    def test_a_portal_in_the_hub_s_place_is_not_believed(self):
        self.hub.portal = b"<!doctype html><title>Accept our terms</title>"
        self.refuse("names no commit and files")
        self.hub.portal = None
        tokens, _ = self.expect()
        self.hub.portal = b"<!doctype html><title>Accept our terms</title>"
        again, said = self.expect()
        self.assertEqual(again, tokens)
        self.assertRegex(said, "is taken from the cache as it is: .*names no commit and files")

    def test_token_goes_to_the_hub_and_nowhere_else(self):
        self.hub.token = TOKEN
        self.refuse("HF_TOKEN")
        self.expect(HF_TOKEN=TOKEN)
        far = [bearer for port, _, _, bearer in self.hub.log if port == self.hub.far_port]
        self.assertEqual(set(far), {None})
        self.expect(HF_TOKEN=f"{TOKEN}\r\nEvil: yes")  # one line of a header, no more
        (self.home / "hf/token").write_text(TOKEN + "\n")
        (self.root / "snapshots" / COMMIT / LARGE).unlink()
        self.expect()

    def test_offline_and_away_the_cache_will_do(self):
        self.refuse("HF_HUB_OFFLINE is set", HF_HUB_OFFLINE="1")
        tokens, _ = self.expect("--revision", "v1")
        asked = len(self.hub.log)
        self.assertEqual(self.expect("--revision", "v1", HF_HUB_OFFLINE="1")[0], tokens)
        self.assertEqual(self.expect("--revision", COMMIT)[0], tokens)
        self.assertEqual(self.expect("--revision", "v1", HF_ENDPOINT="")[0], tokens)
        self.assertEqual(len(self.hub.log), asked)
        self.hub.close()
        again, said = self.expect("--revision", "v1")
        self.assertEqual(again, tokens)
        self.assertIn("is taken from the cache as it is", said)
        self.refuse("while asking")  # main is not here
        self.hub = Hub()

    def test_new_commits_are_noticed_and_share_what_did_not_change(self):
        self.expect()
        self.hub.commit = COMMIT[::-1]
        asked = len(self.hub.log)
        self.expect()
        self.assertEqual(len(self.hub.log), asked + 1)
        self.assertEqual((self.root / "refs/main").read_text(), COMMIT[::-1])

    def test_on_a_terminal_a_bar_grows(self):
        self.hub.stall_after = len(FILES[LARGE]) // 2
        main, far = pty.openpty()
        shown = b""

        def read_until(pattern):
            nonlocal shown
            while not re.search(pattern, shown):
                self.assertTrue(select.select([main], [], [], DEADLINE_S)[0], shown)
                shown += os.read(main, 65536)

        with subprocess.Popen(self.words(), env=self.variables(), stdout=subprocess.DEVNULL,
                              stderr=far) as process:
            os.close(far)
            sizes = [len(FILES[name]) for name in sorted(FILES)]
            before = sorted(FILES).index(LARGE)
            share = (sum(sizes[:before]) + sizes[before] // 2) / sum(sizes)
            read_until(rb"Fetching Acme/Tiny-1.0 \(file %d of %d\) \[#+-+\] +%d%%  0.[23]/0.4 MB" % (
                before + 1, len(FILES), round(share * 100)))
            self.assertNotIn(b"fetched", shown)
            self.hub.stall_after = None
            self.hub.done.set()  # the connection ends here, and is resumed
            read_until(rb"fetched Acme/Tiny-1.0: %d files, [\d.]+ MB\r\n" % len(FILES))
            read_until(rb"Starting Acme/Tiny-1.0, 1 rank")
            self.assertEqual(process.wait(DEADLINE_S), 0)
            with contextlib.suppress(OSError):  # the other end is gone
                while piece := os.read(main, 65536):
                    shown += piece
        os.close(main)
        # One line, drawn over and over, and no longer than the terminal is wide; then gone.
        self.assertEqual(shown.count(b"\n"), 1, shown)
        for line in re.split(rb"[\r\n]", shown):
            self.assertLess(len(line.replace(b"\x1b[K", b"")), 80)
        self.assertTrue(shown.endswith(b"\r\x1b[K"), shown[-200:])

    def test_what_was_not_fetched_is_told_with_the_command_that_fetches_it(self):
        self.refuse("to fetch it: HF_HUB_OFFLINE=0 cohort generate Acme/Tiny-1.0\n", HF_HUB_OFFLINE="1")
        self.refuse(f"HF_HUB_OFFLINE=0 cohort generate {NAME} --revision v1 --download-dir {self.home}\n",
                    "--revision", "v1", "--download-dir", str(self.home), HF_HUB_OFFLINE="1")
        self.hub.token = TOKEN
        self.refuse("to fetch it: HF_TOKEN=hf_... cohort generate Acme/Tiny-1.0\n")
        self.refuse("to go on where it was: cohort generate Acme/Tiny-1.0\n", HF_ENDPOINT="http://127.0.0.1:9")
        if NO_HUB:  # of this build's own
            self.refuse("HF_ENDPOINT=https://HUB cohort generate Acme/Tiny-1.0\n", HF_ENDPOINT="")

    def test_two_at_once_fetch_once(self):
        with contextlib.ExitStack() as stack:
            runs = [stack.enter_context(subprocess.Popen(
                self.words(), env=self.variables(), stdout=subprocess.PIPE,
                stderr=subprocess.PIPE)) for _ in range(3)]
            outs = {run.communicate(timeout=DEADLINE_S)[0] for run in runs}
        self.assertEqual(len(outs), 1)
        self.assertEqual(sum(port == self.hub.far_port for port, *_ in self.hub.log), 1)

    def test_a_tokenizer_comes_without_weights(self):
        done = subprocess.run([COHORT, "bench", "serve", "--port", "1", "--model", NAME,
                               "--num-prompts", "1", "--random-input-len", "9"], text=True,
                              env=self.variables(), capture_output=True, timeout=DEADLINE_S)
        self.assertIn("Failed to connect to 127.0.0.1 port 1", done.stdout, done.stderr)
        self.assertIn("fetched tokenizer.json", done.stderr)
        self.assertFalse((self.root / "snapshots" / COMMIT / LARGE).exists())
        self.refuse("HF_HUB_OFFLINE is set", HF_HUB_OFFLINE="1")
        self.expect()

    def by_huggingface_hub(self, **variables):
        made = subprocess.run([SOURCE / "scripts/test_venv.sh", "clients"], text=True,
                              stdout=subprocess.PIPE, check=False)
        if made.returncode:
            self.skipTest("no huggingface_hub here")
        script = ("import huggingface_hub as hub, sys\n"
                  "print(hub.snapshot_download(sys.argv[1], allow_patterns=sys.argv[2:]))\n"
                  "assert not hub.scan_cache_dir().warnings")
        done = subprocess.run([made.stdout.strip(), "-c", script, NAME, *FILES], text=True,
                              env=self.variables(**variables), capture_output=True,
                              timeout=DEADLINE_S)
        self.assertEqual(done.returncode, 0, done.stderr)
        return pathlib.Path(done.stdout.strip())

    def test_huggingface_hub_finds_what_was_fetched(self):
        self.expect()
        snapshot = self.by_huggingface_hub(HF_HUB_OFFLINE="1")
        self.assertEqual(snapshot, self.root / "snapshots" / COMMIT)

    def test_what_huggingface_hub_fetched_is_found(self):
        self.by_huggingface_hub()
        asked = len(self.hub.log)
        self.expect(HF_HUB_OFFLINE="1")
        _, said = self.expect()
        self.assertNotIn("fetched", said)
        self.assertEqual(len(self.hub.log), asked + 1)

    def test_what_cannot_be_is_refused_by_name(self):
        self.refuse("404", "--revision", "v9", HF_ENDPOINT=self.hub.url + "//")
        self.refuse("is no revision", "--revision", "../../etc")
        self.refuse("set HF_ENDPOINT", HF_ENDPOINT="")
        done = subprocess.run([COHORT, "generate", "./no/such/dir", "--prompt", "a"],
                              env=self.variables(), capture_output=True, text=True,
                              timeout=DEADLINE_S)
        self.assertEqual(done.returncode, 2)
        self.assertIn("'./no/such/dir' is no directory here, and no name", done.stderr)


if __name__ == "__main__":
    unittest.main()
