# SPDX-License-Identifier: Apache-2.0
"""What the tests of this folder share: a real cluster, an executor on it, and what is left."""
from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import functools
import json
import os
import pathlib
import queue
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("COHORT_BUILD_DIR", ROOT / "build/release"))
MODEL = ROOT / "tests/golden/llama-float32"
COHORT = BUILD / "cohort"
PROBE = BUILD / "ray_probe"
RAY = pathlib.Path(sys.executable).parent / "ray"

# Of what Ray starts by default nothing here needs these; they cost seconds and megabytes.
LIGHT = {
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_worker_prestart": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
QUICK_HEALTH = {
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "500",
    "RAY_health_check_failure_threshold": "2",
}
# Authentication is on, as it is by default; the token is this run's.
TOKEN = tempfile.NamedTemporaryFile(prefix="ray-token")  # pylint: disable=consider-using-with
TOKEN.write(secrets.token_hex(32).encode())
TOKEN.flush()
AUTH = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": TOKEN.name}
os.environ.update(AUTH)  # before Ray is imported here
# Counters of our drivers, and of nobody else's who tests on this machine.
RUNTIME = tempfile.TemporaryDirectory(prefix="run")  # pylint: disable=consider-using-with
os.environ["XDG_RUNTIME_DIR"] = RUNTIME.name
# For cohort_ray.LLM in these tests' own process, and in the actors that they make.
os.environ["COHORT_COMMAND"] = str(COHORT)
os.environ["PYTHONPATH"] = str(ROOT / "python")
sys.path.insert(0, str(ROOT / "python"))
GOLDEN = sorted(path.parent for path in MODEL.parent.glob("*/config.json"))
READY_S = 120
END_S = 30
TRIES = 3
# What the tests allow is multiplied by it, for a machine that is busy with other things.
PATIENCE = float(os.environ.get("COHORT_PATIENCE", "1"))


def environment(**more: str) -> dict[str, str]:
    """Ours, without what names another cluster, and with the Python that has Ray."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "VLLM_RAY"))}
    return {**env, **LIGHT, **AUTH, "COHORT_PYTHON": sys.executable, **more}


def is_alive(pid: int) -> bool:
    """Runs, and is no zombie."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rsplit(")", 1)[1].split()[0] not in "ZX"


def await_gone(pids: list[int], seconds: float) -> list[int]:
    """Those that still live then."""
    until = time.monotonic() + seconds
    while (left := [pid for pid in pids if is_alive(pid)]) and time.monotonic() < until:
        time.sleep(0.02)
    return left


class Late(AssertionError):
    """All is well but that it took too long.  A machine that is busy with other things does that,
    and not each time: conftest.py runs such a test again."""


def check_in_time(what: str, spent_s: float, most_s: float) -> None:
    if spent_s >= most_s:
        raise Late(f"{what}: {spent_s:.3f} s, where {most_s:.3f} are allowed")


def in_time(run: Callable[[], None]) -> None:
    """One part of a test, which is late three times or passes."""
    for _ in range(TRIES - 1):
        with contextlib.suppress(Late):
            return run()
    return run()


def await_none(look: Callable[[], Collection[object]], until: float) -> None:
    """Nothing is found by a look that begins at that time or later: one that began before it, and
    took long, does not tell.  What is there for END_S more is left for good."""
    last_s = 0.0
    last: Collection[object] = ()
    began = time.monotonic()
    while found := look():
        assert began < until + END_S, found
        last_s, last = began, found
        time.sleep(0.02)
        began = time.monotonic()
    if last_s >= until:
        raise Late(f"{last_s - until:.3f} s too late there was still {last}")


def check_gone(pids: list[int], seconds: float) -> None:
    await_none(lambda: [pid for pid in pids if is_alive(pid)], time.monotonic() + seconds)


def counted() -> list[int]:
    """Drivers whose counters are there, also of some that are gone."""
    return [int(file.name.split("-")[0])
            for file in pathlib.Path(RUNTIME.name).glob("cohort/*.stat")]


def descendants(pid: int) -> list[int]:
    """Of a process, at any depth, itself excepted."""
    children: dict[int, list[int]] = {}
    for entry in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = entry.read_text(encoding="utf-8").rsplit(")", 1)[1].split()
            children.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found: list[int] = []
    todo = [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


class Cluster:
    """A node of a cluster of our own on this host; loopback only."""

    def __init__(self, folder: str, cpus: int = 8, gpus: int = 4,
                 ray: tuple[str, ...] = (str(RAY),), logs: bool = False, **env: str) -> None:
        self.log = open(f"{folder}/ray-start.log", "wb")  # pylint: disable=consider-using-with
        command = [*ray, "start", "--head", "--block", "--node-ip-address=127.0.0.2", "--port=0"]
        command += [f"--num-cpus={cpus}", f"--num-gpus={gpus}", "--object-store-memory=80000000"]
        command += ['--resources={"disk/fast": 1}']
        command += ["--include-dashboard=false", f"--include-log-monitor={logs}".lower()]
        command += ["--no-monitor"]
        command += ["--disable-usage-stats", f"--temp-dir={folder}"]
        self.folder = pathlib.Path(folder)
        self.process = subprocess.Popen(
            command, env=environment(**env), stdin=subprocess.DEVNULL, stdout=self.log,
            stderr=subprocess.STDOUT, start_new_session=True,
        )
        self.address = self._await_address()

    def _await_address(self) -> str:
        """Port 0 is free, and Ray writes down which it took."""
        until = time.monotonic() + READY_S
        written = self.folder / "ray_current_cluster"  # when it has said that it started
        while time.monotonic() < until:
            text = pathlib.Path(self.log.name).read_text(encoding="utf-8", errors="replace")
            if written.exists() and (address := written.read_text(encoding="utf-8").strip()):
                return address
            assert self.process.poll() is None, text
            time.sleep(0.05)
        raise AssertionError("the cluster did not start")

    def processes(self, name: str) -> list[int]:
        """Its daemons by the name of their program: raylet, gcs_server."""
        return [
            pid
            for pid in descendants(self.process.pid)
            if pathlib.Path(f"/proc/{pid}/exe").resolve().name == name
        ]

    @contextlib.contextmanager
    def without(self, name: str) -> Iterator[None]:
        """That daemon is dead; `ray start --block`, which ends such a node, learns it afterwards."""
        self.process.send_signal(signal.SIGSTOP)
        for pid in self.processes(name):
            os.kill(pid, signal.SIGKILL)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)
            self.process.wait(READY_S)

    def stop(self) -> None:
        """In order, else by force; then nothing of it runs."""
        pids = descendants(self.process.pid)
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pid in await_gone(pids, 5):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.log.close()


@contextlib.contextmanager
def cluster(**options: Any) -> Iterator[Cluster]:
    """For tests that kill parts of it."""
    with tempfile.TemporaryDirectory(prefix="ry", ignore_cleanup_errors=True) as folder:
        made = Cluster(folder, **options)
        try:
            yield made
        finally:
            made.stop()


class Probe:
    """One executor in a process of its own (probe.c)."""

    def __init__(
        self, inside: list[str] | None = None, env: dict[str, str] | None = None,
        program: pathlib.Path = PROBE, **options: Any
    ) -> None:
        options = {"backend": "ray", "tp": 2, "model": MODEL, **options}
        words = [f"{name}={value}" for name, value in options.items()]
        self.errors = tempfile.TemporaryFile()  # pylint: disable=consider-using-with
        self.process = subprocess.Popen(
            [*(inside or []), str(program), *words], env=env or environment(), text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
        )
        self.lines: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        self.start = self.next(READY_S)
        self.ranks = self.start.get("ranks", [])
        self.pids = [rank["pid"] for rank in self.ranks]

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.put(json.loads(line))
        self.lines.put({"end": True})

    def next(self, seconds: float = END_S) -> dict[str, Any]:
        """The next line that it says."""
        return self.lines.get(timeout=seconds)

    def tell(self, line: str) -> None:
        """A command whose answer comes later."""
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def ask(self, line: str) -> dict[str, Any]:
        """A command, and its answer."""
        self.tell(line)
        return self.next()

    def sidecar(self) -> int:
        """Its only child."""
        (pid,) = [
            pid
            for pid in descendants(self.process.pid)
            if b"cohort_ray.driver" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        return pid

    def said(self) -> str:
        """On standard error."""
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")

    def close(self) -> None:
        """Ends the executor in order."""
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def rest(self) -> list[dict[str, Any]]:
        """Ends it, and gives what it said that nobody has taken."""
        self.close()
        lines = list(iter(self.next, {"end": True}))
        self.lines.put({"end": True})
        return lines

    def __enter__(self) -> Probe:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def error_in_time(said: str, limit: str, **options: Any) -> str:
    """Of a start that must fail, and gets as far as what is to be said before its limit ends it: on
    a machine that is busy it may need more."""
    for limit_ms in (8000, 30_000, 90_000):
        with Probe(**options, **{limit: limit_ms}) as probe:
            error = str(probe.start["error"])
        if said in error:
            break
    return error


@functools.cache
def real_model() -> pathlib.Path:
    """SmolLM2, fetched where it is not there yet."""
    done = subprocess.run([str(ROOT / "scripts/fetch_model.sh")], capture_output=True, text=True,
                          check=True)
    return pathlib.Path(done.stdout.strip())


def generate_and_tell(
    *options: str, inside: list[str] | None = None, env: dict[str, str] | None = None,
    model: pathlib.Path = MODEL, tokens: int = 32, cohort: pathlib.Path = COHORT,
) -> tuple[list[int], str]:
    """Greedy tokens of `cohort generate` for a prompt of ids, and what it says beside them."""
    command = [*(inside or []), str(cohort), "generate", str(model), "--skip-tokenizer-init"]
    command += ["--prompt-token-ids", "1,5,9,200,17,3", "--max-tokens", str(tokens)]
    command += ["--temperature", "0", "--ignore-eos", "--json", *options]
    done = subprocess.run(
        command, env=env or environment(), capture_output=True, text=True, timeout=READY_S,
        stdin=subprocess.DEVNULL, check=False,
    )
    assert done.returncode == 0, done.stderr
    ids = json.loads(done.stdout)["token_ids"]
    assert len(ids) == tokens
    return ids, done.stderr


def generate(*options: str, **more: Any) -> list[int]:
    """The tokens alone."""
    return generate_and_tell(*options, **more)[0]


@functools.cache
def of_processes(model: pathlib.Path, size: tuple[str, ...]) -> list[int]:
    """The same of mp."""
    return generate("--distributed-executor-backend", "mp", *size, model=model)


def seats(told: str) -> list[tuple[str, str]]:
    """Address of each rank and transport to it, from the table of --verbose."""
    rows = re.findall(r"^(\d+) +\d+ +\d+ +\d+ +ray +(shared memory|tcp|compiled graph) +(\S+) +\w+", told, re.M)
    assert [int(rank) for rank, _, _ in rows] == list(range(len(rows))) and rows, told
    return [(address, transport) for _, transport, address in rows]


SIZES = [("-tp", "2"), ("-pp", "2"), ("-tp", "2", "-pp", "2")]


def generate_in_all_sizes(
    model: pathlib.Path, *options: str, inside: list[str] | None = None,
    strategies: tuple[str, str, str] = ("PACK", "PACK", "PACK"),
) -> list[list[str]]:
    """On Ray, all at once: each as processes of one host do; the addresses that each had."""

    def one(size: tuple[str, ...], strategy: str) -> list[str]:
        found, told = generate_and_tell(
            "--distributed-executor-backend", "ray", "--ray-placement-strategy", strategy,
            "--verbose", *options, *size, model=model, inside=inside)
        assert found == of_processes(model, size), size
        return [address for address, _ in seats(told)]

    with concurrent.futures.ThreadPoolExecutor(len(SIZES)) as pool:
        return list(pool.map(one, SIZES, strategies))


def environ_of(pid: int) -> dict[str, str]:
    """What a process has there now: of what setenv(3) added since its start /proc tells nothing.
    Its C library's list, at the place where ours is; both run one Python."""
    own = ctypes.addressof(ctypes.c_void_p.in_dll(ctypes.CDLL(None), "environ"))
    file, base = module_of(own)
    (there,) = [at for at, name in modules(pid) if name == file]
    found = {}
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:

        def read(at: int, size: int) -> bytes:
            memory.seek(at)
            return memory.read(size)

        entry = int.from_bytes(read(own - base + there, 8), "little")
        while at := int.from_bytes(read(entry, 8), "little"):
            text = b""
            while b"\0" not in text:  # to the end of a page, as the next may be none
                text += read(at + len(text), 4096 - (at + len(text)) % 4096)
            name, _, value = text.split(b"\0")[0].decode(errors="replace").partition("=")
            found[name] = value
            entry += 8
    return found


def modules(pid: int | str) -> list[tuple[int, str]]:
    """Where each file's first mapping is."""
    found: dict[str, int] = {}
    for line in pathlib.Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines():
        words = line.split(maxsplit=5)
        if len(words) == 6 and words[5].startswith("/"):
            found.setdefault(words[5], int(words[0].split("-")[0], 16))
    return sorted((at, name) for name, at in found.items())


def module_of(address: int) -> tuple[str, int]:
    """The file in whose memory an address of ours is, and where that begins."""
    at, name = [(at, name) for at, name in modules("self") if at <= address][-1]
    return name, at
