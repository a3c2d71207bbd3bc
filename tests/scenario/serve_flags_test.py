#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the flags of `cohort serve` open, and whom they keep out."""
import contextlib
import fcntl
import http.client
import json
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import unittest

from served import (CAPTURES, CHAT_TEMPLATE, CHATS, COHORT, COMPLETIONS, DEADLINE_S, ENDLESS, MODEL,
                    SANITIZED, Server, certificate, events, free_port, metrics)


class Flags(unittest.TestCase):
    def test_keys_are_asked_for(self):
        with Server("--api-key", "secret", "other") as server:
            bad = ({}, {"Authorization": "Bearer secre"}, {"Authorization": "Bearer secret2"},
                   {"Authorization": "secret"})
            for headers in bad:
                for path in (COMPLETIONS, "/tokenize"):
                    status, _, text = server.ask("POST", path, {"prompt": "a"}, headers)
                    self.assertEqual((status, json.loads(text)), (401, {"error": "Unauthorized"}))
            for key in ("secret", "other"):
                headers = {"Authorization": f"Bearer {key}"}
                self.assertEqual(server.ask("POST", COMPLETIONS, {"prompt": "a"}, headers)[0], 200)
            self.assertEqual(server.ask("GET", "/health")[0], 200)
            self.assertEqual(server.stop(), 0)

    def test_a_stream_sends_its_tokens_in_groups(self):
        """The first at once, the last when they are there; a request may say another size."""
        asked = {"max_tokens": 8, "ignore_eos": True, "stream": True, "return_token_ids": True}
        with Server("--stream-interval", "3", "--chat-template", CHAT_TEMPLATE) as server:
            for path, said in ((COMPLETIONS, {"prompt": "a b"}), (CHATS, {"messages": [{"role": "user", "content": "a"}]})):
                for more, sizes in (({}, [1, 3, 3, 1]), ({"stream_interval": 100}, [1, 7]),
                                    ({"stream_interval": 1}, [1] * 8)):
                    choices = [event["choices"][0] for event in events(server.ask("POST", path, asked | said | more)[2])]
                    got = [len(choice["token_ids"]) for choice in choices if choice.get("token_ids")]
                    self.assertEqual(got, sizes, (path, more))
            self.assertEqual(server.stop(), 0)

    def test_pages_of_allowed_origins_may_ask(self):
        first = {"Origin": "https://a.b", "Access-Control-Request-Method": "POST",
                 "Access-Control-Request-Headers": "content-type"}
        with Server("--allowed-origins", "https://a.b", "https://c.d") as server:
            status, headers, _ = server.ask("OPTIONS", COMPLETIONS, None, first)
            self.assertEqual((status, headers["Access-Control-Allow-Origin"],
                              headers["Access-Control-Allow-Headers"]),
                             (200, "https://a.b", "content-type"))
            foreign = first | {"Origin": "https://x.y"}
            status, headers, _ = server.ask("OPTIONS", COMPLETIONS, None, foreign)
            self.assertEqual((status, headers["Access-Control-Allow-Origin"]), (400, None))
            _, headers, _ = server.ask("GET", "/health", None, {"Origin": "https://c.d"})
            self.assertEqual((headers["Access-Control-Allow-Origin"], headers["Vary"]),
                             ("https://c.d", "Origin"))
            self.assertEqual(server.stop(), 0)

    def test_a_certificate_makes_it_https(self):
        with tempfile.TemporaryDirectory() as home:
            made = certificate(home)
            if not made:
                self.skipTest("no openssl to make a certificate")
            with Server("--ssl-certfile", made[0], "--ssl-keyfile", made[1]) as server:
                trusted = ssl.create_default_context(cafile=made[0])
                server.connect = lambda: http.client.HTTPSConnection(
                    "127.0.0.1", server.port, timeout=DEADLINE_S, context=trusted)
                self.assertEqual(server.complete(prompt="a", max_tokens=3)["object"],
                                 "text_completion")
                self.assertEqual(len(events(server.ask("POST", COMPLETIONS, {
                    "prompt": "a", "max_tokens": 3, "ignore_eos": True, "stream": True})[2])), 3)
                connection, _ = server.begin(stream=True, **ENDLESS)
                connection.sock.close()
                connection.close()
                server.wait_load(0)
                self.assertEqual(server.stop(), 0)

    def test_a_supervisor_is_told_when_it_can_serve(self):
        with tempfile.TemporaryDirectory() as home, socket.socket(
                socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
            supervisor.bind(f"{home}/notify")
            supervisor.settimeout(DEADLINE_S)
            with Server(NOTIFY_SOCKET=f"{home}/notify") as server:
                self.assertEqual(supervisor.recv(100), b"READY=1")
                self.assertEqual(server.stop(), 0)
                self.assertEqual(supervisor.recv(100), b"STOPPING=1")

    def test_a_port_in_use_is_refused_before_loading(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            done = subprocess.run([str(COHORT), "serve", str(MODEL), "--host", "127.0.0.1",
                                   "--port", port], capture_output=True, timeout=DEADLINE_S)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(port.encode(), done.stderr)
            self.assertIn(b"--port", done.stderr)

    def test_the_port_opens_when_it_can_serve(self):
        broken = []  # who opens the weights has to wait for our lease
        before = signal.signal(signal.SIGIO, lambda *_: broken.append(1))
        self.addCleanup(signal.signal, signal.SIGIO, before)
        with tempfile.TemporaryDirectory() as home, socket.socket(
                socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
            model = shutil.copytree(MODEL, f"{home}/model")
            supervisor.bind(f"{home}/notify")
            supervisor.settimeout(DEADLINE_S)
            port = free_port()
            with open(f"{model}/model.safetensors", "r+b") as weights:
                fcntl.fcntl(weights, fcntl.F_SETLEASE, fcntl.F_WRLCK)
                process = subprocess.Popen(
                    [COHORT, "serve", model, "--host", "127.0.0.1", "--port", str(port),
                     "--kv-cache-memory-bytes", "4MiB", "--max-model-len", "64"],
                    env=os.environ | {"NOTIFY_SOCKET": f"{home}/notify"}, stderr=subprocess.DEVNULL)
                self.addCleanup(process.wait, DEADLINE_S)
                self.addCleanup(process.kill)
                end = time.monotonic() + DEADLINE_S
                while not broken:
                    self.assertLess(time.monotonic(), end)
                    time.sleep(0.01)
                # It loads: the port is its, and nobody gets in.
                with socket.socket() as other:
                    self.assertRaises(OSError, other.bind, ("127.0.0.1", port))
                self.assertRaises(ConnectionRefusedError, socket.create_connection,
                                  ("127.0.0.1", port), DEADLINE_S)
                self.assertEqual(select.select([supervisor], [], [], 0)[0], [])
                fcntl.fcntl(weights, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            self.assertEqual(supervisor.recv(100), b"READY=1")
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as client:
                client.request("POST", COMPLETIONS, '{"prompt": "a", "max_tokens": 2}',
                               {"Content-Type": "application/json"})
                self.assertEqual(client.getresponse().status, 200)
            process.terminate()
            self.assertEqual(process.wait(DEADLINE_S), 0)

    def test_what_users_of_vllm_look_for_is_logged(self):
        """As vLLM 0.32 wrote: CPU KV cache size: 93,184 tokens, Maximum concurrency for
        2,048 tokens per request: 45.50x"""
        with Server("--num-gpu-blocks-override", "5824", "--kv-cache-memory-bytes", "0") as server:
            server.wait_for(rb"INFO [^\n]* CPU KV cache size: 93,184 tokens, Maximum concurrency "
                            rb"for 2,048 tokens per request: 45\.50x\n")
            self.assertEqual(server.stop(), 0)
        driver = COHORT.parent / "fakecuda"
        if driver.exists() and not SANITIZED:
            with Server("--device", "cuda", "--num-gpu-blocks-override", "5824",
                        LD_LIBRARY_PATH=str(driver)) as server:
                server.wait_for(rb"INFO [^\n]* GPU KV cache size: 93,184 tokens, Maximum ")
                self.assertEqual(server.stop(), 0)

    def test_connections_over_the_limit_wait_outside(self):
        with Server("--max-connections", "3") as server:
            inside = [server.connect() for _ in range(3)]
            for client in inside:
                client.request("GET", "/health")
                self.assertEqual(client.getresponse().read(), b"")
            with contextlib.closing(server.connect()) as outside:
                outside.request("GET", "/health")
                inside[0].request("GET", "/load")  # others are answered meanwhile
                self.assertEqual(inside[0].getresponse().read(), b'{"server_load":0}')
                self.assertEqual(select.select([outside.sock], [], [], 0.2)[0], [])
                inside[1].close()
                self.assertEqual(outside.getresponse().status, 200)
                inside.pop(1)
                for client in inside:
                    client.close()
            self.assertEqual(server.stop(), 0)

    def test_requests_have_ids_that_clients_may_give(self):
        chat = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1}
        with Server("--enable-request-id-headers", "--chat-template", CHAT_TEMPLATE) as server:
            for path, body, kind in ((COMPLETIONS, {"prompt": "a", "max_tokens": 1}, "cmpl-"),
                                     (CHATS, chat, "chatcmpl-")):
                for stream in (False, True):
                    ids = []
                    for more, headers in (({}, {}), ({}, {}), ({"request_id": "mine"}, {}),
                                          ({"request_id": "no"}, {"X-Request-Id": "hers"})):
                        _, answered, text = server.ask("POST", path, body | more | {
                            "stream": stream}, headers)
                        one = events(text)[0] if stream else json.loads(text)
                        ids.append(answered["X-Request-Id"])
                        # As in vLLM, the header knows nothing of the body.
                        self.assertEqual(one["id"], kind + (ids[-1] if headers else
                                                            more.get("request_id", ids[-1])))
                    self.assertEqual(ids[3], "hers")
                    self.assertEqual(len(set(ids)), 4)
                long = "x" * 4096
                _, answered, text = server.ask("POST", path, body, {"X-Request-Id": long})
                self.assertEqual((answered["X-Request-Id"], json.loads(text)["id"]),
                                 (long, kind + long))
                for more, headers in (({}, {"X-Request-Id": long + "x"}),
                                      ({"request_id": long + "x"}, {})):
                    status, _, text = server.ask("POST", path, body | more, headers)
                    self.assertEqual((status, b"request_id has 4097" in text), (400, True), text)
            self.assertEqual(server.stop(), 0)
        with Server() as server:
            _, answered, text = server.ask("POST", COMPLETIONS, {"prompt": "a", "max_tokens": 1},
                                           {"X-Request-Id": "hers"})
            self.assertEqual((answered["X-Request-Id"], json.loads(text)["id"]),
                             (None, "cmpl-hers"))
            self.assertEqual(server.stop(), 0)

    def test_every_answer_has_the_id_of_its_request(self):
        first = {"Origin": "https://a.b", "Access-Control-Request-Method": "POST"}
        with Server("--enable-request-id-headers", "--api-key", "secret", "--allowed-origins",
                    "https://a.b") as server:
            key = {"Authorization": "Bearer secret"}
            for method, path, body, headers, status in (
                    ("GET", "/v1/models", None, key, 200), ("GET", "/health", None, {}, 200),
                    ("POST", COMPLETIONS, {}, key, 400), ("POST", COMPLETIONS, {}, {}, 401),
                    ("GET", "/nowhere", None, {}, 404), ("PUT", "/health", None, {}, 405),
                    ("OPTIONS", COMPLETIONS, None, first, 200)):
                got, answered, _ = server.ask(method, path, body, headers | {"X-Request-Id": "hers"})
                self.assertEqual((got, answered.get_all("X-Request-Id")), (status, ["hers"]))
                _, answered, _ = server.ask(method, path, body, headers)
                self.assertRegex(answered["X-Request-Id"], "^[0-9a-f]{16}$")
            self.assertEqual(server.stop(), 0)

    def test_requests_over_the_queue_limit_get_503(self):
        with Server("--max-num-seqs", "2", "--max-num-waiting", "1") as server:
            clients = [server.connect() for _ in range(3)]
            for i, body in enumerate((ENDLESS, ENDLESS, {"prompt": "a"})):
                clients[i].request("POST", COMPLETIONS, json.dumps(body),
                                   {"Content-Type": "application/json"})
                server.wait_load(i + 1)
            status, _, text = server.ask("POST", COMPLETIONS, {"prompt": "a"})
            self.assertEqual((status, json.loads(text)["error"]["code"]), (503, 503))
            rejected = metrics(server)[0]["vllm:admission_rejections_total"]
            self.assertEqual(sum(rejected.values()), 1)
            for client in clients[:2]:
                client.sock.shutdown(socket.SHUT_RDWR)
            self.assertEqual(clients[2].getresponse().status, 200)
            for client in clients:
                client.close()
            self.assertEqual(server.stop(), 0)

    def test_a_unix_socket_is_served_and_removed(self):
        with tempfile.TemporaryDirectory() as home:
            path = f"{home}/s"
            command = [str(COHORT), "serve", str(MODEL), "--uds", path, "--kv-cache-memory-bytes",
                       "4MiB", "--max-model-len", "64"]
            with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
                line = b""
                while b"Starting" not in line:
                    line = process.stderr.readline()
                    self.assertTrue(line)
                with socket.socket(socket.AF_UNIX) as client:
                    client.settimeout(DEADLINE_S)
                    client.connect(path)
                    client.sendall(b"GET /ping HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                    self.assertTrue(client.recv(100).startswith(b"HTTP/1.1 200 OK"))
                process.terminate()
                self.assertEqual(process.wait(DEADLINE_S), 0)
            self.assertFalse(os.path.exists(path))

    def test_a_shutdown_timeout_of_0_ends_what_runs(self):
        for name in ("--shutdown-timeout", "--drain-timeout"):
            with Server(name, "0") as server:
                connection, stream = server.begin(stream=True, **ENDLESS)
                server.process.send_signal(signal.SIGTERM)
                last = events(b"data: {}\n\n" + stream.read().split(b"\n\n", 1)[1])[-1]
                connection.close()
                self.assertIn("shutting down", last["error"]["message"])
                self.assertEqual(server.wait(), 0)


def recorded_flags():
    """{name: (default, has a --no- form)} of `vllm serve`."""
    text = (CAPTURES / "cli_flags.txt").read_text()
    lines = re.findall(r"^--([\w-]+)((?: -\w+)*)(?: \((and --no-)\))? \[(.*?)\] ", text, re.M)
    return {name: (default, bool(flag)) for name, _, flag, default in lines}


def run_serve(*words, **variables):
    """What it says where it does not start.  The port is looked at first: any that is free."""
    done = subprocess.run([str(word) for word in (COHORT, "serve", *words)], capture_output=True, text=True,
                          timeout=DEADLINE_S, env=os.environ | {"COHORT_PORT": "0"} | variables)
    return done.returncode, done.stderr


class OfVllm(unittest.TestCase):
    """What a user of `vllm serve` types."""

    # No model is here: what is asked for before that is known is what a word of flags gets.
    NO_MODEL = "is no directory here"

    def accepts(self, *words):
        code, said = run_serve("/nowhere", *words)
        self.assertIn(self.NO_MODEL, said, words)
        return said

    def refuses(self, *words):
        code, said = run_serve("/nowhere", *words)
        self.assertEqual(code, 2, words)
        self.assertNotIn(self.NO_MODEL, said, words)
        self.assertNotIn("unknown option", said)
        return said

    def test_every_flag_is_known_and_its_default_taken(self):
        flags = recorded_flags()
        self.assertEqual(len(flags), 121)
        off = ("False", "None")  # None of a flag: as the engine likes, which is on but for LoRA
        on = ("async-scheduling", "enable-prefix-caching", "enable-chunked-prefill")
        del flags["model"]
        for name, (default, is_flag) in flags.items():
            with self.subTest(name):
                if is_flag or name in ("disable-log-stats", "grpc", "headless"):
                    is_off = default in off and name not in on
                    said = self.accepts(f"--no-{name}" if is_off else f"--{name}")
                elif default.startswith(("None", "EPLB", "Profiler", "Structured", "{'mode'")):
                    continue  # no word of a command line
                else:
                    # The port is not opened: the last that is named counts.
                    said = self.accepts(f"--{name}={default}", *(["--port", "0"] if name == "port" else []))
                self.assertLessEqual(said.count("\n"), 3)  # what is served, that the flag is idle, no model

    def test_every_flag_with_a_value_is_known(self):
        for name, (default, is_flag) in recorded_flags().items():
            _, said = run_serve("/nowhere", f"--{name}" if is_flag else f"--{name}=1")
            self.assertNotIn("unknown option", said)

    def test_a_command_line_of_everyday(self):
        said = self.accepts(
            "--trust-remote-code", "--gpu-memory-utilization", "0.9", "--enforce-eager", "--dtype", "half",
            "--max-model-len", "2k", "--enable-chunked-prefill", "--disable-log-requests",
            "--tensor_parallel_size", "1", "-dp", "1", "-pp=1", "--kv-cache-dtype", "auto", "--swap-space", "4",
            "--compilation-config", '{"level": 3}', "-cc.mode=3", "-O3", "--data-parallel-size=1", "--api-server-count=1",
            "--no-enable-expert-parallel", "--enable-server-load-tracking", "--tokenizer-mode", "auto")
        for name in ("trust-remote-code", "gpu-memory-utilization", "swap-space",
                     "optimization-level"):
            self.assertEqual(said.count(f"--{name} has no effect: "), 1, said)
        self.accepts("--no-enable-lora=true", "--no-enable-chunked-prefill=False", "--no-grpc=true")
        for name in ("chunked", "log-requests", "data-parallel", "kv-cache-dtype", "api-server"):
            self.assertNotIn(name, said)

    def test_what_argparse_and_yaml_take_is_taken(self):
        for words in (["--max-model-len", "auto"], ["--max-model-len", "-1"], ["--max-model-len=-1"],
                      ["--quantization", "None"], ["--quantization", ""], ["-q", "int8"], ["--tokenizer", "None"],
                      ["--speculative-config=None"], ["--max-num-seqs", "None"], ["--host", ""],
                      ["--kv-cache-memory-bytes", ""], ["--chat-template", "None"],
                      ["--max-model", "512"], ["--max_model=1k"], ["--no-enable-chunked=false"],
                      ["--trust-rem"], ["--override-generation-config.temperature", "0.5"],
                      ["--override-generation.top_k=4"],
                      ["--data-parallel-size", "4", "-dpn", "3", "--data-parallel-external-lb"],
                      ["--default-chat-template-kwargs.a.b", "true"]):
            self.accepts(*words)
        for words, wanted in ((["--max", "1"], "unknown option '--max'"),
                              (["--max-model-len", "-2"], "'-2' is no value"),
                              (["--quant", "awq"], "--quantization awq is not supported"),
                              (["--port", "None"], "'None' is no value")):
            code, said = run_serve("/nowhere", *words)
            self.assertEqual(code, 2, words)
            self.assertIn(wanted, said)

    def test_keys_of_an_option_are_set_one_by_one(self):
        with Server("--override-generation-config.temperature", "0",
                    "--override-generation-config.max_new_tokens=3", "--max-model-l", "256",
                    "--host", "127.0.0.1") as server:
            answers = [json.loads(server.ask("POST", COMPLETIONS, {"prompt": "a", "ignore_eos": True})[2])
                       for _ in range(2)]
            self.assertEqual([one["usage"]["completion_tokens"] for one in answers], [3, 3])
            self.assertEqual(*(one["choices"][0]["text"] for one in answers))
            self.assertEqual(server.stop(), 0)

    def test_what_is_not_done_is_refused_by_name(self):
        for words in (["--data-parallel-size", "2"], ["-dp=2"], ["--quantization", "awq"], ["-q", "fp8"],
                      ["--enable-lora"], ["--lora-modules", "a=b"], ["--speculative-config", "{}"],
                      ["--speculative-config.model", "x"], ["--no-enable-chunked-prefill"], ["--grpc"],
                      ["--no-enable-chunked-prefill=true"], ["--no-enable-lora=false"],
                      ["--kv-cache-dtype", "fp8"], ["--kv-transfer-config", "{}"], ["--nnodes", "2"],
                      ["--api-server-count", "4"], ["--runner", "pooling"], ["--model-impl", "transformers"],
                      ["--hf-overrides", '{"a": 1}'], ["--enable-expert-parallel"], ["--uvicorn-log-level", "x"]):
            said = self.refuses(*words)
            name = re.match(r"--?(?:no-)?([\w-]+)", words[0])[1]
            name = {"dp": "data-parallel-size", "q": "quantization"}.get(name, name)
            self.assertIn(f"--{name}", said)
            self.assertEqual(said.count("\n"), 1, said)
        self.assertIn("needs a value", self.refuses("--swap-space"))
        self.assertIn("are 0 to 3", self.refuses("-dp", "4", "--data-parallel-rank", "4"))
        code, said = run_serve("/nowhere", "--enable-lorry")
        self.assertEqual((code, "unknown option" in said), (2, True))
        done = subprocess.run([COHORT, "generate", "--disable-custom-all-reduce"], capture_output=True, text=True,
                              timeout=DEADLINE_S)
        self.assertIn("unknown option", done.stderr)

    def test_help_and_manual_tell_them_in_a_few_lines(self):
        for words in (("serve", "--help"), ("man", "serve"), ("man", "run-batch")):
            text = subprocess.run([COHORT, *words], capture_output=True, text=True, timeout=DEADLINE_S,
                                  check=True).stdout.replace("\\-", "-")
            self.assertIn("--data-parallel-start-rank 0,", text)
            self.assertIn("--disable-custom-all-reduce,", text)


# A line doubles the one before it.
BOMB = "".join(f"a{i}: &a{i} [{f'*a{i - 1}, ' * 2}1]\n" for i in range(1, 20)).replace("*a0, ", "0, ") + "a: {b: *a19}\n"


class ConfigFile(unittest.TestCase):
    """--config FILE"""

    def setUp(self):
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        self.path = pathlib.Path(home.name) / "options.yaml"

    def write(self, text):
        self.path.write_text(text)
        return self.path

    def test_options_come_from_it_and_the_command_line_goes_before(self):
        path = self.write(f"""# of a user of vLLM
model: {MODEL}
served-model-name: [one, "two"]
max_model_len: 1_000
max-logprobs: 3
enable-prompt-tokens-details: yes
enable-prefix-caching: true
no-enable-log-requests: true
no-enable-chunked-prefill: false
no-enable-request-id-headers: no
trust-remote-code: true
disable-log-stats: False
uds: ~
override-generation-config:
  temperature: 0.0
  max_new_tokens: 4
response-role: "no"
chat-template: |
  {{{{ messages[0].content }}}}
""")
        with Server("--config", path, "--max-logprobs", "5", model="--verbose") as server:
            models = json.loads(server.ask("GET", "/v1/models")[2])["data"]
            self.assertEqual([(one["id"], one["max_model_len"]) for one in models],
                             [("one", 1000), ("two", 1000)])
            answer = json.loads(server.ask("POST", CHATS, {
                "messages": [{"role": "user", "content": "a b"}], "logprobs": True, "top_logprobs": 5,
                "ignore_eos": True})[2])
            self.assertEqual(answer["usage"]["completion_tokens"], 4)
            self.assertEqual(answer["choices"][0]["message"]["role"], "no")
            self.assertEqual(len(answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]), 5)
            self.assertIn(b"--trust-remote-code has no effect", server.text())
            headers = server.ask("POST", CHATS, {"messages": [{"role": "user", "content": "a"}]})[1]
            self.assertIn("X-Request-Id", headers)
            self.assertEqual(server.stop(), 0)
        with Server("--served-model-name", "three", COHORT_CONFIG=str(path)) as server:  # a word for the model, too
            models = json.loads(server.ask("GET", "/v1/models")[2])["data"]
            self.assertEqual([one["id"] for one in models], ["three"])
            self.assertEqual(server.stop(), 0)

    def test_aliases_are_what_they_stand_for(self):
        """As PyYAML has them: an own key counts more than a merged one, the first mapping more than the second."""
        before = "override-generation-config: &g {temperature: 0.5}\n<<: {seed: &s 0x10, port: 1}\nport: 2\n"
        for value, wanted in (("*s", "16"), ("{a: *g, <<: [{b: 1}, {b: 2, c: 3}], c: 4}",
                                             '{"b":1,"c":4,"a":{"temperature":0.5}}'),
                              ("{<<: *g, b: 1, b: 2}", '{"temperature":0.5,"b":2}'),
                              ("{'<<': 1}", '{"<<":1}')):
            code, said = run_serve("/nowhere", "--config", self.write(f"{before}nosuch: {value}\n"))
            self.assertEqual(code, 2)
            self.assertIn(f"unknown option '--nosuch={wanted}'", said)
        with Server("--config", self.write("served-model-name: [&n one, two]\nmax-model-len: &m 100\n"
                                           "max-num-batched-tokens: *m\n")) as server:
            models = json.loads(server.ask("GET", "/v1/models")[2])["data"]
            self.assertEqual([(one["id"], one["max_model_len"]) for one in models], [("one", 100), ("two", 100)])
            self.assertEqual(server.stop(), 0)

    def test_what_is_wrong_in_it_is_told(self):
        for text, wanted in (("port: 8000\nprot: 1\n", "unknown option '--prot=1'"), ("port: x\n", "--port=x"),
                             ("- a\n", "line 1: options are wanted"), ("a: [\n", "line 2"),
                             ("a: 1\nb: *x\n", "undefined alias"), ("? [a]\n: b\n", "line 1: a key"),
                             ("a: &x {b: *x}\n", "too deep"), ("<<: 1\n", "line 1: '<<' wants a mapping"),
                             (BOMB, "it is too much, with what its aliases stand for"),
                             ("a: {b: " + "[" * 40 + "]" * 40 + "}\n", "too deep"),
                             ("nnodes: 2\n", "--nnodes 2 is not supported"),
                             ("quantization: awq\n", "--quantization awq is not supported")):
            code, said = run_serve("/nowhere", "--config", self.write(text))
            self.assertEqual(code, 2, text)
            self.assertIn(wanted, said)
            self.assertIn(str(self.path), said)
        code, said = run_serve("/nowhere", "--config", "/nowhere.yaml")
        self.assertEqual((code, "/nowhere.yaml: No such file" in said), (2, True))
        code, said = run_serve("/nowhere", "--config", self.write(""))
        self.assertIn(OfVllm.NO_MODEL, said)


def greedy(ids):
    """Is this so cold that the likeliest token comes, whatever the seed?"""
    return len({tuple(one) for one in ids}) == 1


class Defaults(unittest.TestCase):
    """--generation-config: what a request gets that does not say."""

    def setUp(self):
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        self.home = pathlib.Path(home.name)
        self.model, self.other = self.home / "model", self.home / "other"
        shutil.copytree(MODEL, self.model)
        self.write(self.model, temperature=0.0, max_new_tokens=5)
        self.other.mkdir()
        self.write(self.other, top_k=1, max_new_tokens=7)

    def write(self, folder, **values):
        path = folder / "generation_config.json"
        path.unlink(missing_ok=True)
        path.write_text(json.dumps(values))

    def answers(self, *options):
        """Are answers greedy by default; tokens of a chat without, of a completion with null and
        of one with 20 max_tokens."""
        with Server("--chat-template", CHAT_TEMPLATE, "--max-model-len", "64", *options,
                    model=self.model) as server:
            ids = [server.complete(prompt="a b", seed=seed, max_tokens=5, ignore_eos=True,
                                   return_token_ids=True)["choices"][0]["token_ids"]
                   for seed in range(6)]

            def count(path, **body):
                status, _, text = server.ask("POST", path, {"ignore_eos": True, **body})
                self.assertEqual(status, 200, text)
                return json.loads(text)["usage"]["completion_tokens"]
            counts = [count(CHATS, messages=[{"role": "user", "content": "a"}]),
                      count(COMPLETIONS, prompt=[5, 6, 7], max_tokens=None),
                      count(COMPLETIONS, prompt=[5, 6, 7], max_tokens=20)]
            self.assertEqual(count(COMPLETIONS, prompt=[5] * 62, max_tokens=None), 2)
            self.assertEqual(server.stop(), 0)
        return greedy(ids), counts

    def test_they_are_those_of_the_model(self):
        self.assertEqual(self.answers(), (True, [5, 5, 20]))

    def test_they_can_be_switched_off(self):
        cold, counts = self.answers("--generation-config", "vllm")
        self.assertEqual((cold, counts[1:]), (False, [61, 20]))
        self.assertGreater(counts[0], 20)

    def test_another_folder_takes_their_place_and_limits(self):
        self.assertEqual(self.answers("--generation-config", self.other), (True, [7, 7, 7]))

    def test_an_override_goes_before_them_and_limits(self):
        self.assertEqual(self.answers("--override-generation-config",
                                      '{"temperature": 1.0, "max_new_tokens": 6}'),
                         (False, [6, 6, 6]))

    def test_what_is_none_is_refused(self):
        for options, named in ((("--generation-config", self.home), "generation_config.json"),
                               (("--override-generation-config", "{"), "--override-generation"),
                               (("--override-generation-config", '{"top_p": 3}'), "top_p"),
                               (("--tokenizer", self.other), "tokenizer.json")):
            done = subprocess.run([COHORT, "serve", self.model, "--port", "0", *options], capture_output=True,
                                  text=True, timeout=DEADLINE_S)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(named, done.stderr)

    def test_a_tokenizer_may_lie_elsewhere(self):
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.move(self.model / name, self.other / name)
        with Server("--tokenizer", self.other, model=self.model) as server:
            text = json.loads(server.ask("POST", "/tokenize", {"prompt": "ab"})[2])
            self.assertGreater(text["count"], 0)
            self.assertEqual(server.stop(), 0)


class Told(unittest.TestCase):
    """Flags that change what clients, templates and logs are told."""

    def test_templates_have_defaults_that_requests_go_before(self):
        template = "{{ mood }} {{ size }} {{ ratio }}|{{ messages[0].content }}"
        defaults = '{"mood": "glad", "size": 1234567890123456789, "ratio": 1.0}'
        with Server("--chat-template", template, "--default-chat-template-kwargs", defaults) as server:
            def prompt(**kwargs):
                said = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1,
                        "return_prompt_text": True}
                said |= {"chat_template_kwargs": kwargs} if kwargs else {}
                return json.loads(server.ask("POST", CHATS, said)[2])["prompt_text"]
            self.assertEqual(prompt(), "glad 1234567890123456789 1.0|a")
            self.assertEqual(prompt(mood="sad", size=None, more=1), "sad 1234567890123456789 1.0|a")
            self.assertEqual(prompt(mood="auto", ratio=False), "glad 1234567890123456789 False|a")
            self.assertEqual(server.stop(), 0)
        code, said = run_serve(MODEL, "--default-chat-template-kwargs", "[1]")
        self.assertEqual((code, "is no JSON object" in said), (2, True))

    def test_answers_of_some_paths_are_not_logged(self):
        with Server("--disable-access-log-for-endpoints", "/health, /metrics") as server:
            for path in ("/health", "/metrics", "/healthy", "/version"):
                server.ask("GET", path)
            server.wait_for(rb'"GET /version HTTP/1\.1" 200')
            text = server.text()
            self.assertIn(b'"GET /healthy HTTP/1.1" 404', text)
            self.assertNotIn(b"GET /health ", text)
            self.assertNotIn(b"GET /metrics ", text)
            self.assertEqual(server.stop(), 0)

    def test_cached_tokens_usage_role_and_prefix(self):
        with Server("--enable-prompt-tokens-details", "--enable-force-include-usage",
                    "--response-role", "poet", "--root-path", "/behind/", "--disable-log-stats",
                    "--log-stats-interval", "0.05", "--enable-log-requests", "--chat-template",
                    CHAT_TEMPLATE, "--uvicorn-log-level", "warning") as server:
            body = {"prompt": [5 + i for i in range(40)], "max_tokens": 3, "ignore_eos": True}
            usages = [server.complete(**body)["usage"] for _ in range(2)]
            self.assertEqual([usage["prompt_tokens_details"] for usage in usages], [
                {"cached_tokens": n, "created_cache_tokens": None, "multimodal_tokens": None}
                for n in (0, 32)])
            chunks = events(server.ask("POST", COMPLETIONS, body | {"prompt": "b", "stream": True})[2])
            self.assertEqual(chunks[-1]["usage"]["prompt_tokens_details"], {"cached_tokens": 0})
            chunks = events(server.ask("POST", "/behind" + COMPLETIONS, body | {"stream": True})[2])
            self.assertEqual(chunks[-1]["usage"], {
                "prompt_tokens": 40, "total_tokens": 43, "completion_tokens": 3,
                "prompt_tokens_details": {"cached_tokens": 32}})
            said = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 2,
                    "request_id": "one\nINFO two", "temperature": 0.25, "seed": 3}
            answer = json.loads(server.ask("POST", "/behind" + CHATS, said)[2])
            self.assertEqual(answer["choices"][0]["message"]["role"], "poet")
            described = json.loads(server.ask("GET", "/behind/openapi.json")[2])
            self.assertEqual(described["servers"], [{"url": "/behind/"}])
            self.assertEqual(server.ask("GET", "/behindhealth")[0], 404)
            line = server.wait_for(rb"Received request chatcmpl-one\?INFO two: params: (.*)\n")
            self.assertIn(b"temperature=0.25, top_p=1, top_k=0, min_p=0, seed=3, max_tokens=2,",
                          line[1])
            self.assertEqual(server.stop(), 0)
            text = server.text()
            self.assertNotIn(b"throughput:", text)
            self.assertNotIn(b"HTTP/1.1", text)


if __name__ == "__main__":
    unittest.main()
