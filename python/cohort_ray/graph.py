# SPDX-License-Identifier: Apache-2.0
"""The old control plane: calls go to the ranks through a compiled graph of Ray's.

    driver --queue--> submit --graph--> step() of each actor --graph--> collect --queue--> driver

An actor in a graph takes no other call but run(), which has a thread of its own; it is ended from
outside, and nobody waits for a teardown.
"""
from __future__ import annotations

import ctypes
import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

from cohort_ray.actor import NO_REPLY, RUNS
from cohort_ray.wire import Message

HANDLE_HEX_BYTES = 513  # src/ray/relay.h
CLOSED = -4  # COHORT_E_CLOSED: by the driver, which is no error
SLACK_BYTES = 4096  # of a message: what Ray puts around it
# A graph holds so much for each message under way on each of its ways.  Where a message is longer,
# Ray takes more then.
MOST_BUFFER_BYTES = 1 << 20
FOREVER = -1
# Of a broken graph the cause is an actor's end, as a rule: Ray, or the driver, tells of that.
ENDED_S = 5.0

# What @ray.remote of the actors takes: the graph has Ray's system thread, and run() this one.
ACTOR_OPTIONS: dict[str, Any] = {"concurrency_groups": {RUNS: 1}}


class GraphError(Exception):
    """What libcohort says."""


class Relay:
    """The sidecar's ends of the driver's two queues."""

    def __init__(self, library: str, calls: str, max_reply_bytes: int) -> None:
        self._loaded = ctypes.CDLL(library)
        self._error = self._loaded.cohort_ray_relay_error
        self._error.restype = ctypes.c_char_p
        replies = ctypes.create_string_buffer(HANDLE_HEX_BYTES)
        relay = self._loaded.cohort_ray_relay_open
        relay.argtypes = [ctypes.c_char_p, ctypes.c_uint64, ctypes.c_char_p]
        relay.restype = ctypes.c_void_p
        self._relay = ctypes.c_void_p(relay(calls.encode(), max_reply_bytes, replies))
        if not self._relay:
            raise GraphError(self._text())
        self.replies = replies.value.decode()
        self._loaded.cohort_ray_relay_await.argtypes = [ctypes.c_void_p, ctypes.c_int64]
        self._loaded.cohort_ray_relay_reply.argtypes = [
            ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]

    def _text(self) -> str:
        return bytes(self._error()).decode(errors="replace")

    def wait(self, timeout_ms: int) -> None:
        """Until the driver has connected, too."""
        if self._loaded.cohort_ray_relay_await(self._relay, timeout_ms) < 0:
            raise GraphError(self._text())

    def read(self) -> bytes | None:
        """The next call; None once the driver has closed."""
        start, size = ctypes.c_void_p(), ctypes.c_size_t()
        status = self._loaded.cohort_ray_relay_read(
            self._relay, ctypes.byref(start), ctypes.byref(size))
        if status == CLOSED:
            return None
        if status < 0:
            raise GraphError(self._text())
        call = ctypes.string_at(start.value or 0, size.value)
        self._loaded.cohort_ray_relay_read_end(self._relay)
        return call

    def reply(self, reply: bytes) -> bool:
        """False once the driver has closed."""
        status: int = self._loaded.cohort_ray_relay_reply(self._relay, reply, len(reply))
        if status < 0 and status != CLOSED:
            raise GraphError(self._text())
        return status != CLOSED


class Graph:
    """One compiled graph over all ranks; broken is told once, with the text, if it breaks."""

    def __init__(self, message: Message, broken: Callable[[str], None],
                 describe: Callable[[BaseException], str]) -> None:
        self.relay = Relay(message["library"], message["calls"], message["max_reply_bytes"])
        self._message = message
        self._broken = broken
        self._describe = describe
        self._told = threading.Lock()
        # Of calls that go in before an older one is out, the graph has no more than these.
        self._room = threading.Semaphore(message["in_flight"])
        self._refs: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._dag: Any = None

    def start(self, actors: list[Any]) -> None:
        """In the ranks' order, which run already."""
        threading.Thread(target=self._guard, args=(self._submit, actors), daemon=True).start()

    def _guard(self, work: Callable[..., None], *arguments: Any) -> None:
        try:
            work(*arguments)
        except Exception as error:  # pylint: disable=broad-except
            if self._told.acquire(blocking=False):  # pylint: disable=consider-using-with
                self._broken(self._describe(error))

    def _compile(self, actors: list[Any]) -> None:
        from ray.dag import DAGContext, InputNode, MultiOutputNode

        # It tells of each actor's end at length, and of its own teardown.
        logging.getLogger("ray.dag").setLevel(logging.CRITICAL)
        # How long a step may take is the driver's to know.
        context = DAGContext.get_current()
        context.submit_timeout = context.get_timeout = FOREVER
        longest = max(self._message["max_call_bytes"], self._message["max_reply_bytes"])
        with InputNode() as call:
            outputs = MultiOutputNode([actor.step.bind(call) for actor in actors])
        self._dag = outputs.experimental_compile(
            _submit_timeout=FOREVER,
            _buffer_size_bytes=min(longest + SLACK_BYTES, MOST_BUFFER_BYTES),
            _max_inflight_executions=self._message["in_flight"],
        )

    def _submit(self, actors: list[Any]) -> None:
        self._compile(actors)
        self.relay.wait(self._message["timeout_ms"])
        threading.Thread(target=self._guard, args=(self._collect,), daemon=True).start()
        while (call := self.relay.read()) is not None:
            self._room.acquire()  # pylint: disable=consider-using-with
            self._refs.put(self._dag.execute(call))

    def _collect(self) -> None:
        """In the order in which they went in."""
        while True:
            for ref in self._refs.get():
                reply = ref.get(timeout=FOREVER)
                if reply != NO_REPLY and not self.relay.reply(reply):
                    return
            self._room.release()
