# SPDX-License-Identifier: Apache-2.0
"""The sidecar's watch over real actors (cohort_ray/driver.py), and what it makes of Ray's errors."""
from __future__ import annotations

import json
import os
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest
import ray

import support
from support import Cluster

from cohort_ray import driver
from cohort_ray.wire import Channel


@ray.remote(num_cpus=0, max_restarts=0)
class Ending:
    """An actor whose run ends as it is told."""

    def run(self, how: str, _env: str) -> Any:
        """returns: as a rank does; strange: as none does; raises; dies; stays."""
        if how == "stays":
            time.sleep(1000)
        if how == "raises":
            raise ValueError("of its own")
        if how == "dies":
            os._exit(3)
        return (0, "well") if how == "returns" else None


class Watched:
    """A sidecar that has these actors, and what it says."""

    def __init__(self, *endings: str) -> None:
        own, self.peer = socket.socketpair()
        self.peer.settimeout(support.END_S)
        self.sidecar = driver.Sidecar(Channel(own))
        self.endings = endings
        for rank, _ in enumerate(endings):
            self.sidecar.actors[rank] = Ending.remote()

    def run(self) -> None:
        """As the launcher tells it."""
        self.sidecar.run({"env": "{}", "actors": [
            {"rank": rank, "life": 1, "spec": how} for rank, how in enumerate(self.endings)]})

    def hear(self) -> dict[str, Any]:
        """The next event."""
        size = struct.unpack("<I", self.peer.recv(4, socket.MSG_WAITALL))[0]
        event: dict[str, Any] = json.loads(self.peer.recv(size, socket.MSG_WAITALL))
        return event

    def close(self) -> None:
        """Without Ray's shutdown, which would be ours."""
        self.sidecar.leaving.set()
        for actor in self.sidecar.actors.values():
            ray.kill(actor)
        for watcher in self.sidecar.watchers:
            watcher.join(support.END_S)
            assert not watcher.is_alive()


@pytest.fixture(name="watched")
def of_four(clean: Cluster) -> Iterator[Watched]:  # pylint: disable=unused-argument
    """Four ranks that end in four ways, and one that stays."""
    made = Watched("returns", "strange", "raises", "dies", "stays")
    yield made
    made.close()


def test_every_end_is_told(watched: Watched) -> None:
    """Also one that cannot be read: the rank is gone all the same."""
    watched.run()
    ends = {}
    while len(ends) < 4:
        event = watched.hear()
        if event["event"] == "ended":
            assert event["rank"] not in ends
            ends[event["rank"]] = event
    assert ends[0]["returned"] and ends[0]["text"] == "well"
    assert not ends[1]["returned"] and "TypeError" in ends[1]["text"]
    assert not ends[2]["returned"] and "of its own" in ends[2]["text"]
    assert not ends[3]["returned"] and "ActorDiedError" in ends[3]["text"]
    assert [watcher.is_alive() for watcher in watched.sidecar.watchers] == [True]


def test_an_error_of_the_watch_does_not_end_it(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R19: told once, tried again, and what ends afterwards is told."""
    wait = ray.wait
    calls = iter(range(1000))

    def failing(*args: Any, **options: Any) -> Any:
        if next(calls) < 3:
            raise RuntimeError("GCS does not answer")
        return wait(*args, **options)

    monkeypatch.setattr(ray, "wait", failing)
    watched.run()
    assert watched.hear() == {"event": "trouble", "text": "RuntimeError: GCS does not answer"}
    ended = set()
    while len(ended) < 4:
        event = watched.hear()
        assert event["event"] == "ended", event
        ended.add(event["rank"])
    assert ended == {0, 1, 2, 3}


# ---- Ray's errors -------------------------------------------------------------------------


@ray.remote(num_cpus=0)
class Unready:
    """Cannot be made: as an actor on a node without libcohort."""

    def __init__(self) -> None:
        import ctypes  # pylint: disable=import-outside-toplevel

        ctypes.CDLL("/nowhere/libcohort.so")

    def seat(self) -> None:
        """Is never called."""


def test_a_failed_actors_cause_is_told(clean: Cluster) -> None:  # pylint: disable=unused-argument
    """It stands at the end of a page of traceback, which is coloured."""
    with pytest.raises(ray.exceptions.RayActorError) as caught:
        ray.get(Unready.remote().seat.remote())
    assert driver.describe(caught.value) == (
        "ActorDiedError on 127.0.0.2: OSError: /nowhere/libcohort.so: cannot open shared object "
        "file: No such file or directory")
    assert "\x1b" not in driver.page(caught.value)


def test_what_lies_behind_an_error_is_told() -> None:
    try:
        try:
            raise PermissionError("no token")
        except PermissionError as error:
            raise ConnectionError("cannot connect") from error
    except ConnectionError as error:
        assert driver.describe(error) == (
            "ConnectionError: cannot connect (PermissionError: no token)")


def test_a_long_error_keeps_its_ends() -> None:
    said = driver.describe(ValueError("begin " + "x" * 1000 + " end"))
    assert len(said) <= driver.MOST_CHARACTERS
    assert said.startswith("ValueError: begin") and said.endswith("end")
