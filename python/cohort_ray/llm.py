# SPDX-License-Identifier: Apache-2.0
"""LLM: a model for programs that are a driver, an actor or a task of Ray already.

    llm = LLM("/models/smollm2", tensor_parallel_size=2)
    for output in llm.generate(["The capital of France is"], max_tokens=8, temperature=0):
        print(output.prompt, output.outputs[0].text)
    llm.shutdown()

The `cohort` command runs beside the program and is told of the cluster and of the
placement group that the program is in; its ranks are placed there.  It goes when the
program does, however that ends.

Threads: any; requests of several threads are batched together.
"""
from __future__ import annotations

import collections
import contextlib
import dataclasses
import http.client
import json
import os
import pathlib
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

POLL_S = 0.01
LEAVE_S = 40.0
START_TIMEOUT_S = 1800.0
TAIL_LINES = 20
# Of the process that Ray started, and not of one that joins the cluster as a driver.
OF_A_WORKER = ("RAY_JOB_ID", "RAY_RAYLET_PID", "RAY_NODE_ID", "RAY_WORKER_ID", "OMP_NUM_THREADS")


class CohortError(RuntimeError):
    """What the command said when it did not start, ended, or failed at a request."""


@dataclasses.dataclass(frozen=True)
class CompletionOutput:
    """One of a prompt's n."""

    index: int
    text: str
    token_ids: list[int]
    finish_reason: str | None
    stop_reason: str | int | None


@dataclasses.dataclass(frozen=True)
class RequestOutput:
    """A prompt, as it was given, and what came of it."""

    prompt: str | list[int]
    outputs: list[CompletionOutput]


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class LLM:
    """options are those of `cohort serve`, with underscores: dtype="bfloat16"."""

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        placement_group: Any = None,
        start_timeout_s: float = START_TIMEOUT_S,
        **options: Any,
    ) -> None:
        self._path = f"{tempfile.gettempdir()}/cohort-llm-{secrets.token_hex(8)}"
        self._lock = threading.Lock()
        self._tail: collections.deque[str] = collections.deque(maxlen=TAIL_LINES)
        place, variables = _place(placement_group, options)
        words = {"uds": self._path, "stop_with_stdin": True,
                 "disable_uvicorn_access_log": True, **place, **options}
        self._process = subprocess.Popen(  # pylint: disable=consider-using-with
            [find_command(), "serve", os.fspath(model), *_flags(words)],
            env={**_environment(), **variables}, stdin=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, encoding="utf-8", errors="replace",  # an error may end amid a character
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._relay, daemon=True)
        self._reader.start()
        try:
            self._await_ready(time.monotonic() + start_timeout_s)
            self._name = self._ask("GET", "/v1/models")["data"][0]["id"]
        except BaseException:
            self.shutdown()
            raise

    def generate(
        self, prompts: str | Sequence[str] | Sequence[Sequence[int]], **sampling: Any
    ) -> list[RequestOutput]:
        """In the prompts' order.  sampling: the fields of a completion request (max_tokens, n,
        temperature, top_p, stop, seed, logit_bias ...)."""
        asked: list[Any] = [prompts] if isinstance(prompts, str) else list(prompts)
        if not asked:
            return []
        n = int(sampling.get("n") or 1)
        answer = self._ask("POST", "/v1/completions", {
            "model": self._name, "prompt": asked, "return_token_ids": True, **sampling})
        outputs: list[list[CompletionOutput]] = [[] for _ in asked]
        for choice in sorted(answer["choices"], key=lambda choice: choice["index"]):
            outputs[choice["index"] // n].append(CompletionOutput(
                index=choice["index"] % n, text=choice["text"], token_ids=choice["token_ids"],
                finish_reason=choice["finish_reason"], stop_reason=choice["stop_reason"]))
        return [RequestOutput(prompt, found) for prompt, found in zip(asked, outputs)]

    def shutdown(self) -> None:
        """Ends the command and its ranks; again, and from any thread, is harmless."""
        with self._lock:
            assert self._process.stdin
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            try:
                self._process.wait(LEAVE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._reader.join(LEAVE_S)
            pathlib.Path(self._path).unlink(missing_ok=True)  # where it was killed

    def __enter__(self) -> LLM:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.shutdown()

    def _relay(self) -> None:
        """What the command says is the program's to show; its last words explain its end."""
        assert self._process.stderr
        for line in self._process.stderr:
            self._tail.append(line.strip())
            with contextlib.suppress(OSError, ValueError):  # the program may have closed its own
                sys.stderr.write(line)

    def _lost(self, error: Exception) -> CohortError:
        """The connection broke: as a rule because the command ended, which says why."""
        try:
            self._process.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            return CohortError(f"cohort runs, and does not answer: {error}")
        self._reader.join(LEAVE_S)
        said = [line for line in self._tail if line.startswith("cohort:")] or list(self._tail)
        return CohortError("\n".join(said) or f"cohort ended ({self._process.returncode})")

    def _await_ready(self, until: float) -> None:
        """The address is taken soon, and answered once the model is loaded."""
        while True:
            with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
                probe.connect(self._path)
                break
            if self._process.poll() is not None:
                raise self._lost(EOFError())
            if time.monotonic() > until:
                raise CohortError("cohort did not start in time")
            time.sleep(POLL_S)
        try:
            self._ask("GET", "/health", timeout=max(until - time.monotonic(), POLL_S))
        except TimeoutError:
            raise CohortError("the model was not loaded in time") from None

    def _ask(self, method: str, target: str, body: Any = None,
             timeout: float | None = None) -> Any:
        connection = _Connection(self._path, timeout)
        try:
            connection.request(method, target, json.dumps(body) if body is not None else None,
                               {"Content-Type": "application/json"})
            response = connection.getresponse()
            data = response.read()
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException) as error:
            raise self._lost(error) from None
        finally:
            connection.close()
        if response.status == 200:
            return json.loads(data) if data else None
        message = data.decode(errors="replace")
        with contextlib.suppress(ValueError, KeyError, TypeError):
            message = json.loads(data)["error"]["message"]
        raise ValueError(message) if response.status == 400 else CohortError(message)


def find_command() -> str:
    """The wheel's, else the environment's, else one in PATH."""
    own = pathlib.Path(__file__).parent / "bin" / "cohort"
    found = str(own) if own.exists() else os.environ.get("COHORT_COMMAND")
    found = found or shutil.which("cohort")
    if not found:
        raise CohortError("no cohort command: install Cohort's wheel, or set COHORT_COMMAND")
    return found


def _flags(options: dict[str, Any]) -> list[str]:
    words: list[str] = []
    for name, value in options.items():
        flag = name.replace("_", "-")
        if value is None:
            continue
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, dict):
            words += [f"--{flag}", json.dumps(value)]
        elif isinstance(value, (list, tuple)):
            words += [f"--{flag}", *map(str, value)]
        else:
            words += [f"--{flag}", str(value)]
    return words


def _environment() -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if name not in OF_A_WORKER}
    return {**env, "COHORT_PYTHON": sys.executable}


def _place(group: Any, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The program's cluster, node and placement group, as options and variables; none where it
    is not Ray's."""
    import ray

    if options.get("distributed_executor_backend", "ray") != "ray" or not ray.is_initialized():
        return {}, {}
    context = ray.get_runtime_context()
    group = group or ray.util.get_current_placement_group()
    here = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}
    found = {
        "distributed_executor_backend": "ray",
        "ray_address": context.gcs_address,
        "ray_node_address": here[context.get_node_id()],
    }
    if group is None:
        return found, {}
    found["ray_placement_group"] = group.id.hex()
    return found, {"COHORT_RAY_HELD": _held(group.id.hex())}


def _held(group_id: str) -> str:
    """What this actor or task has itself of each bundle, which only it knows: "CPU/0=1"."""
    import ray

    held: list[str] = []
    worker: Any = ray._private.worker.global_worker
    owned = worker.core_worker.resource_ids()
    for name, slots in owned.items():
        # CPU_group_1_<id>; without the number it is the whole group's.
        key, _, rest = name.partition("_group_")
        index, _, of_group = rest.partition("_")
        # A name that no demand can have cannot be told either, and is none of the ranks' matter.
        can_be_asked = len(key.encode()) < 64 and not set(key) & set("/=,")
        if of_group == group_id and can_be_asked:
            held.append(f"{key}/{index}={sum(amount for _, amount in slots)}")
    return ",".join(held)
