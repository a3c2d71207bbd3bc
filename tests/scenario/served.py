# SPDX-License-Identifier: Apache-2.0
"""`cohort serve` as tests have it: a real server with a tiny checkpoint, real HTTP.

Every wait has a deadline, every process is waited for.
"""
import contextlib
import http.client
import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time

SOURCE = pathlib.Path(__file__).resolve().parents[2]
COHORT = pathlib.Path(os.environ.get("COHORT_BUILD_DIR", SOURCE / "build/release")) / "cohort"
STAYS = "--keep-alive-on-engine-death"  # so that a test can ask it what it says then
MORTAL = ("--max-rank-restarts", "0")  # a death is the engine's: what comes then is tested
MODEL = SOURCE / "tests/golden/llama-bfloat16"
CAPTURES = SOURCE / "tests/golden/vllm_api"
COMPLETIONS = "/v1/completions"
CHATS = "/v1/chat/completions"
SANITIZED = "COHORT_SANITIZE:STRING=\n" not in (COHORT.parent / "CMakeCache.txt").read_text()
DEADLINE_S = 600 if SANITIZED else 180  # only what hangs gets there
# Takes minutes unless somebody ends it.
ENDLESS = {"prompt": "a b", "max_tokens": 1900, "n": 1000, "ignore_eos": True}
CHAT_TEMPLATE = ("{% for message in messages %}{{ message.role }}: {{ message.content }}\n"
                 "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}")


def free_port():
    """One that nobody gets who asks for any, as those do who run beside us."""
    text = pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
    first = int(text.split()[0])
    while True:
        port = random.randrange(first // 2, first)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Server:
    """One `cohort serve` on a free port of loopback.

    A worker process may be stopped for as long as a test likes (frozen), and SIGTERM lets
    running requests take all the time that they need.
    """

    def __init__(self, *options, model=MODEL, **variables):
        self.home = tempfile.TemporaryDirectory()
        self.log = open(pathlib.Path(self.home.name) / "log", "w+b")
        environment = os.environ | {"XDG_RUNTIME_DIR": self.home.name} | variables
        words = [COHORT, "serve", model, "--host", "127.0.0.1", "--port", "0", "--max-num-seqs",
                 "8", "--kv-cache-memory-bytes", "16MiB", "--hang-timeout", "3600",
                 "--drain-timeout", "3600", "--verbose", *options]
        self.process = subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL,
                                        stderr=self.log, env=environment)
        at = self.wait_for(rb"Starting Cohort server on \S+:(\S+)\n").group(1)
        self.port = int(at) if at.isdigit() else None  # of a unix socket

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

    def workers(self):
        """Process ids by rank, where ranks are processes."""
        return [int(pid) for pid in re.findall(rb"\n\d+ +\d+ +\d+ +(\d+) +mp", self.text())]

    @contextlib.contextmanager
    def frozen(self):
        """No step ends meanwhile: what was asked for neither goes on nor finishes."""
        for pid in self.workers():
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in self.workers():
                with contextlib.suppress(ProcessLookupError):  # one may have been killed
                    os.kill(pid, signal.SIGCONT)

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

    def close(self):
        """Ends as it should: a sanitizer's complaint, too, is an exit code."""
        code, text = self.stop(), self.text().decode()
        self.__exit__()
        assert code == 0, text

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


def certificate(home):
    """Files of a certificate for 127.0.0.1 and of its key; None: there is no openssl."""
    files = f"{home}/certificate.pem", f"{home}/key.pem"
    with contextlib.suppress(FileNotFoundError):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost", "-addext",
                        "subjectAltName=IP:127.0.0.1", "-out", files[0], "-keyout", files[1]],
                       check=True, capture_output=True, timeout=DEADLINE_S)
        return files
    return None


def events(text):
    """The data of a whole event stream, up to [DONE]."""
    parts = text.decode().split("\n\n")
    assert parts[-1] == "" and parts[-2] == "data: [DONE]", text
    assert all(part.startswith("data: ") for part in parts[:-1]), text
    return [json.loads(part[6:]) for part in parts[:-2]]


def named_events(text):
    """The events of a stream, each of whose name is its type."""
    parts = text.decode().split("\n\n")
    assert parts[-1] == "", text
    found = []
    for part in parts[:-1]:
        name, data = part.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == "event: " + found[-1]["type"], part
    return found


def generated(lines, *options, model=MODEL):
    """Answers of `cohort generate` to JSON lines, in order, greedy and one after another."""
    command = [str(COHORT), "generate", str(model), "--input", "-", "--json", "--temperature", "0",
               "--kv-cache-memory-bytes", "16MiB", "--max-num-seqs", "1", *options]
    done = subprocess.run(command, input="\n".join(map(json.dumps, lines)), text=True,
                          capture_output=True, timeout=DEADLINE_S, check=True)
    return sorted(map(json.loads, done.stdout.splitlines()), key=lambda one: one["index"])


def generate(lines, *options):
    return [answer["text"] for answer in generated(lines, *options)]


def together(server, lines, clients=None):
    """Greedy choices of requests that so many clients send, each one after another."""
    clients = clients or len(lines)
    choices = [None] * len(lines)

    def run(first):
        for i in range(first, len(lines), clients):
            answer = server.complete(temperature=0, return_token_ids=True, **lines[i])
            choices[i] = answer["choices"][0]
    threads = [threading.Thread(target=run, args=(i,)) for i in range(clients)]
    with server.frozen() if clients == len(lines) else contextlib.nullcontext():
        for thread in threads:
            thread.start()
        if clients == len(lines) and server.workers():  # so that one batch has them all
            server.wait_load(clients)
    for thread in threads:
        thread.join()  # each request has its deadline
    return choices


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
