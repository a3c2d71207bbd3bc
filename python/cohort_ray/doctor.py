# SPDX-License-Identifier: Apache-2.0
"""What `cohort doctor ray` is told of a cluster: facts alone; src/ray/doctor.c judges.

An actor without resources visits every node that lives, and each visitor listens and calls
all others, so that both ways between any two nodes are tried.
"""
from __future__ import annotations

import time
from typing import Any

from cohort_ray.actor import find_library

REACH_S = 5.0
ANSWER_S = 5.0


class Visitor:
    """Of one node; pickled by value, as a node needs libcohort and not this package."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._listener: Any = None

    def look(self, library: str) -> dict[str, Any]:
        """What is installed here."""
        import ctypes
        import platform

        import ray

        found: dict[str, Any] = {"ray": ray.__version__, "python": platform.python_version()}
        try:
            loaded = ctypes.CDLL(find_library(library))
            loaded.cohort_ray_actor_build_id.restype = ctypes.c_char_p
            found["build"] = loaded.cohort_ray_actor_build_id().decode()
        except (OSError, AttributeError) as error:
            found["missing"] = str(error)[:200]
        return found

    def now(self) -> dict[str, float]:
        """Of this node's clock."""
        return {"now": time.time()}

    def listen(self) -> dict[str, int]:
        """A port that is free, on the address that the cluster knows this node by."""
        import socket

        self._listener = socket.create_server((self._address, 0))
        return {"port": int(self._listener.getsockname()[1])}

    def reach(self, address: str, port: int, seconds: float) -> dict[str, str]:
        """Why not, or nothing."""
        import socket

        try:
            socket.create_connection((address, port), timeout=seconds).close()
        except OSError as error:
            return {"text": str(error) or type(error).__name__}
        return {"text": ""}


def examine(library: str, visit_s: float) -> dict[str, Any]:
    """All of it, in twice visit_s at most; a node that did not answer has "silent", one that could
    not listen "deaf"."""
    import ray
    from ray import cloudpickle
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from cohort_ray import actor, doctor

    cloudpickle.register_pickle_by_value(actor)
    cloudpickle.register_pickle_by_value(doctor)
    nodes = [node for node in ray.nodes() if node["Alive"]]
    visitors: list[Any] = [
        ray.remote(Visitor).options(
            num_cpus=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        ).remote(node["NodeManagerAddress"])
        for node in nodes
    ]
    until = time.monotonic() + visit_s
    looks = [visitor.look.remote(library) for visitor in visitors]
    ports = [visitor.listen.remote() for visitor in visitors]
    found = [
        {"node": node["NodeID"], "address": node["NodeManagerAddress"],
         **_ask(look, until, "silent"), **_ask(port, until, "deaf")}
        for node, look, port in zip(nodes, looks, ports)
    ]
    for visitor, at in zip(visitors, found):
        at["clock_ms"] = None if "silent" in at else _clock_ms(visitor, until)
    reach_s = min(REACH_S, visit_s / 2)
    calls = [
        (i, j, visitor.reach.remote(to["address"], to["port"], reach_s))
        for i, visitor in enumerate(visitors)
        for j, to in enumerate(found)
        if i != j and "port" in to and "silent" not in found[i]
    ]
    until = time.monotonic() + min(REACH_S + ANSWER_S, visit_s)
    broken = [
        {"from": found[i]["address"], "to": found[j]["address"], "text": text}
        for i, j, ref in calls
        if (text := _ask(ref, until, "text")["text"])
    ]
    for visitor in visitors:
        ray.kill(visitor)
    return {
        "here": ray.get_runtime_context().get_node_id(), "nodes": found, "broken": broken,
        "ways": len(calls), "total": ray.cluster_resources(), "free": ray.available_resources(),
    }


def _ask(ref: Any, until: float, fault: str) -> dict[str, Any]:
    """The answer, or the reason why there is none; all that are asked share one deadline."""
    import ray

    try:
        answer: dict[str, Any] = ray.get(ref, timeout=max(until - time.monotonic(), 0))
        return answer
    except Exception as error:  # pylint: disable=broad-except
        return {fault: f"{type(error).__name__}: {str(error).strip()}"[:200]}


def _clock_ms(visitor: Any, until: float) -> float | None:
    """Ahead of ours; of the shortest of a few questions, whose middle it is."""
    best: tuple[float, float] | None = None
    for _ in range(5):
        before = time.time()
        there = _ask(visitor.now.remote(), until, "silent")
        after = time.time()
        if "silent" in there:
            return None
        if best is None or after - before < best[0]:
            best = (after - before, there["now"] - (before + after) / 2)
    return best[1] * 1e3 if best else None
