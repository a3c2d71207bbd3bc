# SPDX-License-Identifier: Apache-2.0
"""Actors that wait on nodes of ranks: one that takes a dead rank's place need not come into being,
which takes half a second.  They hold no resource of Ray's, and run nothing before that."""
from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable
from typing import Any

SETTLE_S = 1.0  # after ranks were started: a process that starts would delay them


class Spares:
    """make: an actor on that node.  Threads: the one that takes orders, and a timer's."""

    def __init__(self, per_node: int, make: Callable[[str], Any]) -> None:
        self._per_node = per_node
        self._make = make
        self._lock = threading.Lock()
        self._waiting: dict[str, list[tuple[Any, Any]]] = {}  # actor, and that it is up
        self._has_ended = False

    def take(self, node: str) -> Any:
        """One that was up, and may have ended since; None where there is none."""
        import ray

        with self._lock:
            waiting = self._waiting.get(node, [])
            for one in list(waiting):
                if not ray.wait([one[1]], num_returns=1, timeout=0)[0]:
                    continue
                waiting.remove(one)
                with contextlib.suppress(ray.exceptions.RayError):  # it never came up
                    ray.get(one[1])
                    return one[0]
        return None

    def fill_soon(self, nodes: Iterable[str]) -> None:
        """Up to their number on each of these nodes."""
        if not self._per_node:
            return
        timer = threading.Timer(SETTLE_S, self._fill, [sorted(set(nodes))])
        timer.daemon = True
        timer.start()

    def _fill(self, nodes: list[str]) -> None:
        with self._lock:
            for node in nodes:
                waiting = self._waiting.setdefault(node, [])
                with contextlib.suppress(Exception):  # a node that is lost gets none
                    while len(waiting) < self._per_node and not self._has_ended:
                        actor = self._make(node)
                        waiting.append((actor, actor.seat.remote("CPU")))

    def end(self) -> list[Any]:
        """Those that are left, to be killed; there will be no others."""
        with self._lock:
            self._has_ended = True
            return [one[0] for waiting in self._waiting.values() for one in waiting]
