#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a client sees of `cohort serve`: a real server with a tiny checkpoint, real HTTP.

Every wait has a deadline, every process is waited for.
"""
import contextlib
import http.client
import json
import os
import pathlib
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from random import Random

SOURCE = pathlib.Path(__file__).resolve().parents[2]
COHORT = pathlib.Path(os.environ.get("COHORT_BUILD_DIR", SOURCE / "build/release")) / "cohort"
MODEL = SOURCE / "tests/golden/llama-bfloat16"
CAPTURES = SOURCE / "tests/golden/vllm_api"
DEADLINE_S = 60
COMPLETIONS = "/v1/completions"
CHATS = "/v1/chat/completions"
# Takes minutes unless somebody ends it.
# Between the two halves of random requests; one with larger texts may come in the second.
MEMORY_SLACK_MIB = 4
SANITIZED = "COHORT_SANITIZE:STRING=\n" not in (COHORT.parent / "CMakeCache.txt").read_text()
ENDLESS = {"prompt": "a b", "max_tokens": 1900, "n": 1000, "ignore_eos": True}


class Server:
    """One `cohort serve` on a free port of loopback."""

    def __init__(self, *options, **variables):
        self.home = tempfile.TemporaryDirectory()
        self.log = open(pathlib.Path(self.home.name) / "log", "w+b")
        environment = os.environ | {"XDG_RUNTIME_DIR": self.home.name} | variables
        words = [COHORT, "serve", MODEL, "--host", "127.0.0.1", "--port", "0", "--max-num-seqs",
                 "8", "--kv-cache-memory-bytes", "16MiB", "--verbose", *options]
        self.process = subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL,
                                        stderr=self.log, env=environment)
        self.port = int(self.wait_for(rb"Starting Cohort server on \S+:(\d+)\n").group(1))

    def text(self):
        return pathlib.Path(self.log.name).read_bytes()

    def wait_for(self, pattern):
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            found = re.search(pattern, self.text())
            if found:
                return found
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        self.process.kill()
        self.process.wait(DEADLINE_S)
        raise AssertionError(f"no {pattern!r} in the log: {self.text().decode()}")

    def worker(self, rank):
        return int(re.search(rb"\n%d +\d+ +\d+ +(\d+) +mp" % rank, self.text()).group(1))

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)

    def ask(self, method, path, body=None, headers=None):
        """Status, headers and body of one request on a connection of its own."""
        with contextlib.closing(self.connect()) as connection:
            kind = {"Content-Type": "application/json"} if body is not None else {}
            text = body if body is None or isinstance(body, (str, bytes)) else json.dumps(body)
            connection.request(method, path, text, kind | (headers or {}))
            response = connection.getresponse()
            return response.status, response.headers, response.read()

    def complete(self, **body):
        status, _, text = self.ask("POST", COMPLETIONS, body)
        assert status == 200, text
        return json.loads(text)

    def begin(self, **body):
        """A request whose answer begins now; the first line has been read."""
        connection = self.connect()
        connection.request("POST", COMPLETIONS, json.dumps(body),
                           {"Content-Type": "application/json"})
        response = connection.getresponse()
        assert response.status == 200, response.read()
        assert response.readline().startswith(b"data: {")
        return connection, response

    def load(self):
        return json.loads(self.ask("GET", "/load")[2])["server_load"]

    def wait_load(self, wanted):
        end = time.monotonic() + DEADLINE_S
        while self.load() != wanted:
            assert time.monotonic() < end, f"{self.load()} requests are running, not {wanted}"
            time.sleep(0.01)

    def stop(self, number=signal.SIGTERM):
        """The exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self):
        try:
            return self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(DEADLINE_S)
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(DEADLINE_S)
        self.log.close()
        self.home.cleanup()


def events(text):
    """The data of a whole event stream, up to [DONE]."""
    parts = text.decode().split("\n\n")
    assert parts[-1] == "" and parts[-2] == "data: [DONE]", text
    assert all(part.startswith("data: ") for part in parts[:-1]), text
    return [json.loads(part[6:]) for part in parts[:-2]]


def generate(lines, *options):
    """Texts of `cohort generate` for JSON lines, in order, one after another."""
    command = [str(COHORT), "generate", str(MODEL), "--input", "-", "--json", "--temperature", "0",
               "--kv-cache-memory-bytes", "16MiB", "--max-num-seqs", "1", *options]
    done = subprocess.run(command, input="\n".join(map(json.dumps, lines)), text=True,
                          capture_output=True, timeout=DEADLINE_S, check=True)
    answers = sorted(map(json.loads, done.stdout.splitlines()), key=lambda one: one["index"])
    return [answer["text"] for answer in answers]


def together(server, lines):
    """Greedy texts of requests that are all sent at once."""
    texts = [None] * len(lines)

    def run(i):
        texts[i] = server.complete(temperature=0, **lines[i])["choices"][0]["text"]
    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(lines))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    return texts


class Shared(unittest.TestCase):
    """Tests that leave their server as it was."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server("--served-model-name", "tiny", "other", "--max-body-bytes", "1MB")

    @classmethod
    def tearDownClass(cls):
        code = cls.server.stop()
        text = cls.server.text().decode()
        cls.server.__exit__()
        assert code == 0, text

    def test_greedy_text_is_that_of_generate_alone_and_together(self):
        lines = [{"prompt": "a bc d " * (1 + 7 * i), "max_tokens": 8 + 5 * i} for i in range(12)]
        wanted = generate(lines)
        alone = [self.server.complete(temperature=0, **line) for line in lines]
        self.assertEqual([one["choices"][0]["text"] for one in alone], wanted)
        self.assertEqual(together(self.server, lines), wanted)

    def test_prompts_of_one_request_are_answered_in_order(self):
        prompts = ["a b", "d e f", "a b"]
        answer = self.server.complete(prompt=prompts, temperature=0, max_tokens=6)
        wanted = generate([{"prompt": prompt, "max_tokens": 6} for prompt in prompts])
        self.assertEqual([one["text"] for one in answer["choices"]], wanted)
        self.assertEqual([one["index"] for one in answer["choices"]], [0, 1, 2])

    def test_pieces_of_a_stream_make_the_whole_answer(self):
        body = {"prompt": "a b", "temperature": 1, "seed": 4, "max_tokens": 40, "n": 3,
                "logprobs": 2, "return_token_ids": True, "ignore_eos": True}
        whole = self.server.complete(**body)
        status, headers, text = self.server.ask("POST", COMPLETIONS, body | {
            "stream": True, "stream_options": {"include_usage": True}})
        self.assertEqual((status, headers["Transfer-Encoding"]), (200, "chunked"))
        chunks = events(text)
        self.assertEqual(chunks[-1]["usage"]["completion_tokens"], 120)
        self.assertEqual(chunks[-1]["choices"], [])
        for choice in whole["choices"]:
            parts = [chunk["choices"][0] for chunk in chunks[:-1]
                     if chunk["choices"][0]["index"] == choice["index"]]
            self.assertEqual("".join(part["text"] for part in parts), choice["text"])
            self.assertEqual(sum((part["token_ids"] for part in parts), []), choice["token_ids"])
            self.assertEqual([part["finish_reason"] for part in parts],
                             [None] * 39 + [choice["finish_reason"]])
            for name, values in choice["logprobs"].items():
                self.assertEqual(sum((part["logprobs"][name] for part in parts), []), values)

    def test_stop_strings_end_a_text_and_are_named(self):
        whole = self.server.complete(prompt="a", temperature=0, max_tokens=24)
        text = whole["choices"][0]["text"]
        stop = text[5:8]
        cut = self.server.complete(prompt="a", temperature=0, max_tokens=24, stop=["~~~", stop])
        choice = cut["choices"][0]
        self.assertEqual((choice["text"], choice["finish_reason"], choice["stop_reason"]),
                         (text[:text.index(stop)], "stop", stop))

    def test_tokens_come_back_as_the_text_they_were(self):
        _, _, text = self.server.ask("POST", "/tokenize",
                                     {"prompt": "ab é\n1", "return_token_strs": True})
        tokens = json.loads(text)
        self.assertEqual("".join(tokens["token_strs"]), "abĠÃ©Ċ1")
        _, _, text = self.server.ask("POST", "/detokenize", {"tokens": tokens["tokens"]})
        self.assertEqual(json.loads(text), {"prompt": "ab é\n1"})

    def test_a_client_that_leaves_ends_its_request(self):
        for stream in (True, False):
            connection = self.server.connect()
            connection.request("POST", COMPLETIONS, json.dumps(ENDLESS | {"stream": stream}),
                               {"Content-Type": "application/json"})
            self.server.wait_load(1)
            if stream:
                connection.getresponse().readline()
            connection.sock.shutdown(socket.SHUT_RDWR)
            connection.close()
            self.server.wait_load(0)
            self.server.complete(prompt="a", max_tokens=2)

    def test_a_connection_serves_many_requests(self):
        with contextlib.closing(self.server.connect()) as connection:
            for i in range(20):
                body = json.dumps({"prompt": "a", "max_tokens": 1 + i % 3, "stream": i % 2 == 0})
                connection.request("POST", COMPLETIONS, body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                self.assertEqual(response.status, 200)
                response.read()

    def test_a_slow_sender_does_not_stop_others(self):
        with socket.create_connection(("127.0.0.1", self.server.port), DEADLINE_S) as slow:
            slow.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n")
            self.server.complete(prompt="a", max_tokens=2)
            slow.sendall(b"Content-Type: application/json\r\n\r\n{")
            self.server.complete(prompt="a", max_tokens=2)

    def test_a_body_over_the_limit_gets_413(self):
        status, _, text = self.server.ask("POST", COMPLETIONS, {"prompt": "a" * 1100000})
        self.assertEqual((status, json.loads(text)["error"]["code"]), (413, 413))
        self.server.complete(prompt="a", max_tokens=1)

    def test_unknown_methods_and_paths_are_refused(self):
        for method, path, status in (("PUT", "/health", 405), ("DELETE", COMPLETIONS, 405),
                                     ("GET", "/v1/", 404), ("GET", "//health", 404)):
            self.assertEqual(self.server.ask(method, path)[0], status, path)

    def test_every_answer_is_logged_with_who_asked(self):
        self.server.ask("GET", "/version?a=1")
        self.server.ask("GET", "/a%0a%22b")
        self.server.wait_for(rb'127\.0\.0\.1:\d+ - "GET /version HTTP/1\.1" 200 \(')
        self.server.wait_for(rb'"GET /a\?\?b HTTP/1\.1" 404 \(')

    def test_the_page_asks_nobody_else(self):
        status, headers, page = self.server.ask("GET", "/")
        self.assertEqual((status, headers["Content-Type"]), (200, "text/html; charset=utf-8"))
        self.assertIn("default-src 'none'", headers["Content-Security-Policy"])
        self.assertEqual(set(re.findall(rb"https?://[^/\"]*", page)), {b"http://www.w3.org"})
        self.assertNotRegex(page, rb"(?i)<(link|img|iframe)|src=|@import|innerHTML")

    def test_status_tells_what_each_rank_does(self):
        def look():
            return json.loads(self.server.ask("GET", "/cohort/status")[2])
        before = look()
        self.server.complete(prompt="a b", max_tokens=7, ignore_eos=True)
        end = time.monotonic() + DEADLINE_S
        while look()["generation_tokens"] < before["generation_tokens"] + 7:
            self.assertLess(time.monotonic(), end)
        after = look()
        self.assertEqual((after["state"], after["failure"], after["tp"] * after["pp"]),
                         ("ok", None, len(after["ranks"])))
        self.assertGreater(after["now_s"], before["now_s"])
        self.assertGreater(after["kv"]["bytes"], 0)
        self.assertGreaterEqual(after["kv"]["num_blocks"], after["kv"]["free_blocks"])
        for number, rank in enumerate(after["ranks"]):
            self.assertEqual((rank["rank"], rank["host"]), (number, socket.gethostname()))
            self.assertGreaterEqual(rank["steps"], before["ranks"][number]["steps"] + 7)
            self.assertGreaterEqual(rank["last_step_ms"], 0)
            os.kill(rank["pid"], 0)

    def test_every_served_name_is_a_model(self):
        for name in ("tiny", "other"):
            self.assertEqual(self.server.complete(model=name, prompt="a", max_tokens=1)["model"],
                             "tiny")
        models = json.loads(self.server.ask("GET", "/v1/models")[2])
        self.assertEqual([model["id"] for model in models["data"]], ["tiny", "other"])


# ---- metrics -----------------------------------------------------------------------------

def metrics(server):
    """{name: {labels: value}} of /metrics, every line of which must be understood."""
    status, headers, text = server.ask("GET", "/metrics")
    assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
    values, kinds = {}, {}
    for line in text.decode().splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in kinds, line
            kinds[name] = kind
        elif not line.startswith("# HELP "):
            found = re.fullmatch(r'([a-z0-9_:]+)(?:\{((?:\w+="(?:[^"\\]|\\.)*",?)*)\})? (\S+)',
                                 line)
            assert found, line
            name, labels, value = found.groups()
            values.setdefault(name, {})[labels or ""] = float(value)
    return values, kinds


def recorded_metrics():
    """{name: (kind, labels, buckets)} as vLLM has them."""
    pattern = r"(counter|gauge|histogram|summary) +(\S+) labels=(\S*)(?: le=(\S+))?"
    text = (CAPTURES / "metrics.txt").read_text()
    return {name: (kind, set(filter(None, labels.split(","))), le)
            for kind, name, labels, le in re.findall(pattern, text)}


class Metrics(unittest.TestCase):
    # Of Python, or not measured here.
    ABSENT = re.compile(r"python_|vllm:estimated_|vllm:prompt_tokens_cached_by_source")

    @classmethod
    def setUpClass(cls):
        cls.server = Server("--served-model-name", 'ti"ny', "--log-stats-interval", "0.05")

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        cls.server.__exit__()

    def value(self, name, label=""):
        values = metrics(self.server)[0][name]
        return sum(value for labels, value in values.items() if label in labels)

    def test_names_kinds_labels_and_buckets_are_those_of_vllm(self):
        self.server.complete(prompt="a b", max_tokens=3)
        values, kinds = metrics(self.server)
        for name, (kind, labels, le) in recorded_metrics().items():
            if self.ABSENT.match(name):
                continue
            with self.subTest(name):
                self.assertEqual(kinds[name], kind)
                suffix = {"histogram": "_bucket", "summary": "_sum"}.get(kind, "")
                found = [dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', words))
                         for words in values[name + suffix]]
                for words in found if name != "vllm:cache_config_info" else []:
                    self.assertEqual(set(words), labels)
                if le:
                    buckets = list(dict.fromkeys(words["le"] for words in found))
                    self.assertEqual(",".join(buckets), le)
        self.assertIn('engine="0",model_name="ti\\"ny"', values["vllm:num_requests_running"])

    def test_what_was_served_is_counted(self):
        def count():
            return [self.value("vllm:prompt_tokens_total"),
                    self.value("vllm:generation_tokens_total"),
                    self.value("vllm:request_success_total", 'finished_reason="length"'),
                    self.value("vllm:time_to_first_token_seconds_count"),
                    self.value("vllm:inter_token_latency_seconds_count"),
                    self.value("vllm:request_params_n_sum"),
                    self.value("http_requests_total", 'handler="/v1/completions"')]
        before = count()
        self.server.complete(prompt=[[5, 6, 7], [8, 9]], n=2, max_tokens=6, ignore_eos=True)
        wanted = [old + more for old, more in zip(before, [10, 24, 4, 4, 20, 4, 1])]
        end = time.monotonic() + DEADLINE_S  # the answer is counted when it was sent
        while count() != wanted and time.monotonic() < end:
            pass
        self.assertEqual(count(), wanted)
        times = {name: self.value(f"vllm:{name}_seconds_sum") for name in
                 ("request_queue_time", "request_prefill_time", "request_decode_time",
                  "request_inference_time", "e2e_request_latency")}
        self.assertAlmostEqual(times["request_inference_time"],
                               times["request_prefill_time"] + times["request_decode_time"])
        self.assertGreater(times["request_prefill_time"], 0)
        self.assertGreater(times["e2e_request_latency"],
                           times["request_queue_time"] + times["request_inference_time"])

    def test_blocks_and_queues_are_empty_again_after_a_client_left(self):
        aborted = self.value("vllm:request_success_total", 'finished_reason="abort"')
        connection, _ = self.server.begin(stream=True, **ENDLESS)
        self.assertEqual(self.value("vllm:num_requests_running"), 8)
        self.assertEqual(self.value("vllm:num_requests_waiting"), 992)
        self.assertGreater(self.value("vllm:kv_cache_usage_perc"), 0)
        connection.sock.shutdown(socket.SHUT_RDWR)
        connection.close()
        self.server.wait_load(0)
        end = time.monotonic() + DEADLINE_S
        while self.value("vllm:kv_cache_usage_perc") or self.value("vllm:num_requests_running"):
            self.assertLess(time.monotonic(), end)
        self.assertEqual(self.value("vllm:request_success_total", 'finished_reason="abort"'),
                         aborted + 1000)

    def test_throughput_is_logged_while_there_is_some(self):
        self.server.complete(prompt="a", max_tokens=500, n=8, ignore_eos=True)
        self.server.wait_for(rb"Engine 000: Avg prompt throughput: \d+\.\d tokens/s, Avg "
                             rb"generation throughput: [1-9]\d*\.\d tokens/s, Running: \d+ reqs, "
                             rb"Waiting: \d+ reqs, CPU KV cache usage: \d+\.\d%, Prefix cache hit "
                             rb"rate: ")


# ---- what vLLM answered ------------------------------------------------------------------

CHAT_TEMPLATE = ("{% for message in messages %}{{ message.role }}: {{ message.content }}\n"
                 "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}")
MAPS = ("top_logprobs", "prompt_logprobs")  # objects whose keys are tokens


def shape(value, name=""):
    """Keys in order and kinds of values; how many and which tokens there are does not count."""
    if isinstance(value, dict) and name in MAPS:
        return {"<token>": shape(next(iter(value.values())))}
    if isinstance(value, dict):
        return [(key, shape(item, key)) for key, item in value.items()]
    if isinstance(value, list) and name in ("choices", "data", "permission"):
        return [shape(item) for item in value]
    if isinstance(value, list):
        kinds = []
        for item in value:
            kinds += [shape(item, name)] if shape(item, name) not in kinds else []
        return kinds
    if name in ("stop_reason", "finish_reason", "text", "system_fingerprint"):
        return name  # null or not, as it happens
    return type(value).__name__


def captured(name):
    """(title, method, path, body, status, content type, transfer, answer) of a capture file."""
    text = (CAPTURES / name).read_text()
    pattern = (r"### (.*)\n(GET|POST) (\S+)\n(.*)\n-> (\d+) (.*) transfer=(\S+)\n"
               r"((?:(?!^### )[\s\S])*)")
    return [match.groups() for match in re.finditer(pattern, text, re.M)]


def pieces(text):
    if not text.strip():
        return []
    if not text.startswith("data: "):
        return [json.loads(text)]
    return [line if line == "data: [DONE]" else json.loads(line[6:])
            for line in text.strip().split("\n\n")]


class Captures(unittest.TestCase):
    """A client of vLLM cannot tell."""

    # Not there yet; what is answered in their place says so.
    LATER = {"structured json", "tokenize chat", "/server_info", "json_object", "bad json schema",
             "content number"}  # (whose answer lists every kind of message there is)
    OURS = {"/"}  # a page, where vLLM has nothing

    @classmethod
    def setUpClass(cls):
        cls.server = Server("--served-model-name", "tiny", "--chat-template", CHAT_TEMPLATE)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        cls.server.__exit__()

    def compare(self, title, method, path, body, status, kind, transfer, answer):
        body = body.replace("<model>", "tiny").replace("smollm2", "tiny")
        body = body.replace("word word ...[3000 words]", "word " * 3000)
        body = re.sub(r"\[504, [0-9, ]+\]", "[5, 9, 7]", body)  # ids that ours has
        headers = {"Content-Type": "text/plain"} if title == "wrong content type" else {}
        got, ours, text = self.server.ask(method, path.replace("<model>", "tiny"),
                                          body if method == "POST" else None, headers)
        self.assertEqual(got, int(status), text)
        self.assertEqual(str(ours["Content-Type"]), kind)
        self.assertEqual(ours["Transfer-Encoding"] or "-", transfer)
        wanted = pieces(re.sub(r'"<time>"', "0", answer.replace("<model>", "tiny")))
        found = pieces(text.decode())
        if got != 200:
            self.assertEqual(found, wanted)
        else:
            self.assertEqual(shape(found), shape(wanted))
            self.assertEqual(len(found), len(wanted))

    def test_answers_and_refusals_are_those_of_vllm(self):
        count = 0
        for name in ("small_routes.txt", "completions.txt", "chat.txt", "errors.txt"):
            for title, method, path, *rest in captured(name):
                if title in self.LATER | self.OURS:
                    continue
                count += 1
                with self.subTest(title):
                    self.compare(title, method, path, *rest)
        self.assertGreater(count, 60)

    def test_fields_and_routes_are_described_as_vllm_does(self):
        described = json.loads(self.server.ask("GET", "/openapi.json")[2])
        summaries = {}
        for methods, path, words in re.findall(r"^(\S+) +(\S+)   (.*)$",
                                               (CAPTURES / "routes.txt").read_text(), re.M):
            summaries[path] = (methods, words)
        for path, methods in described["paths"].items():
            words = "; ".join(method["summary"] for method in methods.values())
            self.assertEqual((",".join(methods).upper(), words), summaries[path], path)
        recorded = re.split(r"^## (\w+).*\n", (CAPTURES / "request_fields.txt").read_text(),
                            flags=re.M)[1:]
        for name, fields in zip(recorded[::2], recorded[1::2]):
            ours = described["components"]["schemas"][name]["properties"]
            theirs = dict(re.findall(r"^(\w+): .* = (.*)$", fields, re.M))
            self.assertLessEqual(set(ours), set(theirs), name)
            for field, default in theirs.items():
                if field in ours:
                    self.assertEqual(ours[field].get("default", "-"), json.loads(default), field)

    def test_a_template_speaks_for_itself(self):
        template = ("{% if messages[-1].role != 'user' %}{{ raise_exception('users come last') }}"
                    "{% endif %}{{ mood }}: {{ messages[-1].content }}")
        said = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1,
                "return_token_ids": True, "chat_template_kwargs": {"mood": "b c"}}
        with Server("--chat-template", template) as server:
            answer = json.loads(server.ask("POST", CHATS, said)[2])
            ids = json.loads(server.ask("POST", "/tokenize", {
                "prompt": "b c: a", "add_special_tokens": False})[2])["tokens"]
            self.assertEqual(answer["prompt_token_ids"], ids)
            said["messages"].append({"role": "assistant", "content": "b"})
            status, _, text = server.ask("POST", CHATS, said)
            self.assertEqual((status, json.loads(text)["error"]["message"]),
                             (400, "users come last"))
            self.assertEqual(server.stop(), 0)

    def test_what_is_not_there_is_refused_by_name(self):
        for field, value in (("structured_outputs", {"choice": ["a"]}), ("bad_words", ["a"]),
                             ("response_format", {"type": "json_object"}), ("priority", 1),
                             ("allowed_token_ids", [1]), ("use_beam_search", True)):
            status, _, text = self.server.ask("POST", COMPLETIONS, {"prompt": "a", field: value})
            self.assertEqual((status, json.loads(text)["error"]["param"]), (400, field))


# ---- anything at all ---------------------------------------------------------------------

def random_body(random):
    """A request that is right more often than not."""
    body = {"prompt": random.choice(["a", "b c" * random.randrange(1, 200), [5, 6, 7], ["a", "b"],
                                     [[5, 6], [7]], "é\u4e16" * random.randrange(1, 30)]),
            "max_tokens": random.randrange(1, 60)}
    choices = {"temperature": [0, 0.5, 1, 2, 3], "top_p": [0.1, 0.9, 1, 0], "top_k": [-1, 0, 5, -2],
               "min_p": [0, 0.1, 2], "n": [1, 2, 5], "seed": [0, 7, 1 << 60],
               "stop": ["a", ["e", "12"]], "presence_penalty": [1, -2, 3],
               "frequency_penalty": [0.5], "stream": [True, False],
               "repetition_penalty": [1.1, 0], "logprobs": [0, 5, 20, 21], "echo": [True],
               "prompt_logprobs": [0, 2], "ignore_eos": [True], "min_tokens": [3, 70],
               "stop_token_ids": [[5], [1 << 40]], "logit_bias": [{"5": 100}, {"x": 1}],
               "return_token_ids": [True], "truncate_prompt_tokens": [1, 5, -1],
               "stream_options": [{"include_usage": True}], "include_stop_str_in_output": [True],
               "skip_special_tokens": [False], "add_special_tokens": [False], "wibble": [{}]}
    for name in random.sample(sorted(choices), random.randrange(6)):
        body[name] = random.choice(choices[name])
    return body


def mutate(random, text):
    """Bytes of a request, damaged."""
    damaged = bytearray(text)
    for _ in range(random.randrange(1, 6)):
        at = random.randrange(len(damaged))
        kind = random.randrange(4)
        if kind == 0:
            damaged[at] = random.randrange(256)
        elif kind == 1:
            del damaged[at:at + random.randrange(1, 9)]
        elif kind == 2:
            damaged[at:at] = random.choice([b"[" * 300, b"\0", b'\\u0000', b"1e999", b"\xff", b'"',
                                            b"-0", b"null", b"\\ud800", b"{}", b"\r\n"])
        else:
            damaged[at:at] = damaged[at // 2:at]
        if not damaged:
            damaged += b"{"
    return bytes(damaged)


class Anything(unittest.TestCase):
    """COHORT_REQUESTS random requests, a third of them damaged, and half as many damaged
    heads."""

    COUNT = int(os.environ.get("COHORT_REQUESTS", "600"))
    SEED = int(os.environ.get("COHORT_SEED", "1"))

    def ask_anything(self, server, number):
        random = Random(self.SEED << 32 | number)
        body = random_body(random)
        if number % 3 == 0:
            damaged = mutate(random, json.dumps(body).encode())
            status, _, text = server.ask("POST", COMPLETIONS, damaged)
        elif number % 17 == 1:
            with contextlib.closing(server.connect()) as connection:  # and leaves
                connection.request("POST", COMPLETIONS, json.dumps(body | {"stream": True}),
                                   {"Content-Type": "application/json"})
                return
        else:
            status, _, text = server.ask("POST", COMPLETIONS, body)
        if status != 200:
            assert status == 400 and json.loads(text)["error"]["code"] == 400, (body, text)
        elif not text.startswith(b"data: "):
            json.loads(text)
        else:
            events(text)

    def damage_http(self, server, number):
        random = Random(self.SEED << 32 | 1 << 31 | number)
        head = (b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                b"Content-Length: 14\r\nConnection: close\r\n\r\n{\"prompt\":\"a\"}")
        with socket.create_connection(("127.0.0.1", server.port), DEADLINE_S) as client:
            with contextlib.suppress(ConnectionError):
                client.sendall(mutate(random, head))
                client.shutdown(socket.SHUT_WR)
                answer = client.recv(65536)
                assert not answer or re.match(rb"HTTP/1\.[01] ([1-4]|505 HTTP Version)", answer), answer

    def test_nothing_stays_of_any_request(self):
        # So few blocks that some are preempted.
        with Server("--num-gpu-blocks-override", "42", "--max-model-len", "640") as server:
            server.complete(prompt="a", max_tokens=2)
            before = metrics(server)[0]["process_open_fds"][""]
            failures = []

            def run(first, last):
                for number in range(first, last, 8):
                    try:
                        self.ask_anything(server, number)
                        if number % 6 == 0:
                            self.damage_http(server, number)
                    except Exception as failure:
                        failures.append((number, repr(failure)))

            def run_all(first, last):
                """What is resident afterwards."""
                threads = [threading.Thread(target=run, args=(first + i, last)) for i in range(8)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join(DEADLINE_S + self.COUNT)
                server.wait_load(0)
                return metrics(server)[0]["process_resident_memory_bytes"][""]
            half = run_all(0, self.COUNT // 2)
            whole = run_all(self.COUNT // 2, self.COUNT)
            print(f"\nresident after {self.COUNT // 2} requests: {half / 2**20:.1f} MiB, after "
                  f"{self.COUNT}: {whole / 2**20:.1f} MiB")
            if not SANITIZED:  # a sanitizer keeps what was freed
                self.assertLess(whole, half + (MEMORY_SLACK_MIB << 20))
            self.assertEqual(failures, [], f"COHORT_SEED={self.SEED}")
            end = time.monotonic() + DEADLINE_S
            while True:
                values = metrics(server)[0]
                left = [sum(values[name].values()) for name in (
                    "vllm:kv_cache_usage_perc", "vllm:num_requests_running",
                    "vllm:num_requests_waiting")]
                if left == [0, 0, 0] and values["process_open_fds"][""] <= before:
                    break
                self.assertLess(time.monotonic(), end, (left, values["process_open_fds"], before))
            self.assertGreater(sum(values["vllm:num_preemptions_total"].values()), 0)
            self.assertEqual(server.stop(), 0)


class Endings(unittest.TestCase):
    """Tests that end their server."""

    def test_greedy_text_is_the_same_however_it_is_computed(self):
        few_blocks = ("--num-gpu-blocks-override", "42", "--max-model-len", "640",
                      "--no-enable-prefix-caching")
        small_chunks = ("--max-num-batched-tokens", "24")
        in_turns = ("--no-async-scheduling",)
        lines = [{"prompt": "a bc d " * (1 + i * 7 % 29), "max_tokens": 4 + i * 11 % 60}
                 for i in range(64)]
        for ranks in ((), ("-tp", "2"), ("-pp", "2")):
            wanted = generate(lines, *ranks)
            for options in (few_blocks, small_chunks, in_turns):
                with self.subTest(ranks + options), Server(*ranks, *options) as server:
                    self.assertEqual(together(server, lines), wanted)
                    values = metrics(server)[0]
                    seen = "num_preemptions" if options == few_blocks else "prefix_cache_hits"
                    self.assertGreater(sum(values[f"vllm:{seen}_total"].values()), 0)
                    self.assertEqual(server.stop(), 0)

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
            key, certificate = f"{home}/key.pem", f"{home}/certificate.pem"
            try:
                subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                                "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost",
                                "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key,
                                "-out", certificate], check=True, capture_output=True,
                               timeout=DEADLINE_S)
            except FileNotFoundError:
                self.skipTest("no openssl to make a certificate")
            with Server("--ssl-certfile", certificate, "--ssl-keyfile", key) as server:
                trusted = ssl.create_default_context(cafile=certificate)
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

    def test_a_killed_worker_ends_every_request_and_is_named(self):
        with Server("-tp", "2") as server:
            workers = [server.worker(0), server.worker(1)]
            whole = []
            waiting = threading.Thread(
                target=lambda: whole.append(server.ask("POST", COMPLETIONS, ENDLESS)))
            connection, stream = server.begin(stream=True, **ENDLESS)
            waiting.start()
            server.wait_load(2)
            os.kill(workers[1], signal.SIGKILL)
            last = events(b"data: {}\n\n" + stream.read().split(b"\n\n", 1)[1])[-1]
            connection.close()
            self.assertIn("rank 1", last["error"]["message"])
            self.assertIn("signal 9", last["error"]["message"])
            waiting.join(DEADLINE_S)
            status, _, text = whole[0]
            self.assertEqual(status, 500)
            self.assertIn("rank 1", json.loads(text)["error"]["message"])
            for method, path, body in (("GET", "/health", None), ("GET", "/ping", None),
                                       ("POST", COMPLETIONS, {"prompt": "a"})):
                status, _, text = server.ask(method, path, body)
                self.assertEqual(status, 503)
                self.assertIn(b"rank 1", text)
            self.assertEqual(server.load(), 0)
            self.assertEqual(server.stop(), 1)
            self.assertIn(b"rank 1", server.text())
            for pid in workers:
                self.assertRaises(ProcessLookupError, os.kill, pid, 0)

    def test_a_worker_killed_while_idle_is_noticed(self):
        with Server("-tp", "2") as server:
            server.complete(prompt="a", max_tokens=2)
            os.kill(server.worker(0), signal.SIGKILL)
            end = time.monotonic() + DEADLINE_S
            while server.ask("GET", "/health")[0] != 503:
                self.assertLess(time.monotonic(), end)
            self.assertEqual(server.stop(), 1)

    def test_sigterm_lets_running_requests_finish(self):
        with Server() as server:
            connection, stream = server.begin(prompt="a b", max_tokens=1000, n=40, stream=True,
                                              ignore_eos=True)
            server.process.send_signal(signal.SIGTERM)
            end = time.monotonic() + DEADLINE_S
            while server.ask("GET", "/health")[0] != 503:
                self.assertLess(time.monotonic(), end)
            status, _, text = server.ask("POST", COMPLETIONS, {"prompt": "a"})
            self.assertEqual(status, 503, text)
            chunks = events(b"data: {}\n\n" + stream.read().split(b"\n\n", 1)[1])
            connection.close()
            ends = [chunk["choices"][0]["finish_reason"] for chunk in chunks[1:]]
            self.assertEqual(ends.count("length"), 40)
            self.assertEqual(server.wait(), 0)

    def test_a_second_signal_ends_what_is_running(self):
        with Server() as server:
            connection, stream = server.begin(stream=True, **ENDLESS)
            server.process.send_signal(signal.SIGTERM)
            server.wait_for(b"Shutting down")
            server.process.send_signal(signal.SIGINT)
            last = events(b"data: {}\n\n" + stream.read().split(b"\n\n", 1)[1])[-1]
            connection.close()
            self.assertIn("shutting down", last["error"]["message"])
            self.assertEqual(server.wait(), 0)

    def test_a_port_in_use_is_refused_before_loading(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            done = subprocess.run([str(COHORT), "serve", str(MODEL), "--host", "127.0.0.1",
                                   "--port", port], capture_output=True, timeout=DEADLINE_S)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(port.encode(), done.stderr)
            self.assertIn(b"--port", done.stderr)

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

    def test_clients_that_do_not_go_on_are_let_go(self):
        with Server("--idle-timeout", "1", "--request-timeout", "0.5") as server:
            whole = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"
            clients = []
            for start in (b"", b"POST /v1/comp", whole):
                clients.append(socket.create_connection(("127.0.0.1", server.port), DEADLINE_S))
                clients[-1].sendall(start)
            end = time.monotonic() + DEADLINE_S
            with contextlib.suppress(ConnectionError):
                while time.monotonic() < end:  # however steadily it comes
                    clients[-1].sendall(b" ")
                    time.sleep(0.05)
            self.assertLess(time.monotonic(), end)
            for client in clients:
                with contextlib.closing(client), contextlib.suppress(ConnectionError):
                    answer = client.recv(1000)  # nothing, or that it was too slow
                    self.assertTrue(not answer or b" 408 " in answer, answer)
            server.complete(prompt="a", max_tokens=2)
            self.assertEqual(server.stop(), 0)

    def test_a_client_that_does_not_read_is_given_up(self):
        with Server() as server:
            with socket.socket() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.settimeout(DEADLINE_S)
                client.connect(("127.0.0.1", server.port))
                body = json.dumps(ENDLESS | {"stream": True, "logprobs": 20})
                client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: applicat"
                               b"ion/json\r\nContent-Length: %d\r\n\r\n%s" %
                               (len(body), body.encode()))
                server.wait_load(1)
                server.wait_load(0)
            self.assertEqual(server.stop(), 0)

    def test_a_long_body_does_not_stop_others(self):
        body = b'{"prompt":"%s"}' % (b"a bc " * 4000000)  # a second or so to tokenize
        head = (b"POST /tokenize HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body))
        with Server() as server, socket.create_connection(("127.0.0.1", server.port),
                                                          DEADLINE_S) as client:
            client.sendall(head + body)
            server.complete(prompt="a", max_tokens=2)
            self.assertEqual(select.select([client], [], [], 0)[0], [], "it came first")
            self.assertTrue(client.recv(100).startswith(b"HTTP/1.1 200 OK"))
            server.stop()

    def test_idle_connections_do_not_stop_others(self):
        with Server() as server:
            idle = [socket.create_connection(("127.0.0.1", server.port), DEADLINE_S)
                    for _ in range(500)]
            for client in idle[::2]:
                client.sendall(b"GET /health HTTP/1.1\r\nHo")
            server.complete(prompt="a", max_tokens=2)
            for client in idle[::2]:
                client.sendall(b"st: a\r\n\r\n")
            for client in idle[::2]:
                self.assertTrue(client.recv(100).startswith(b"HTTP/1.1 200"))
            for client in idle:
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


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[1:]])
