# SPDX-License-Identifier: Apache-2.0
"""What dies is replaced: requests go on, with the bytes of a server left alone."""
from __future__ import annotations

import json
import os
import pathlib
import random
import signal
import sys
import time

import pytest

import support
from support import Cluster

sys.path.insert(0, str(support.ROOT / "tests/scenario"))
import recover_test  # pylint: disable=wrong-import-position
import served  # pylint: disable=wrong-import-position


class Disturbed(recover_test.Recovery):
    """A server on Ray whose ranks are killed while it answers."""

    __test__ = False  # what it inherits is for processes

    def __init__(self, node: Cluster) -> None:
        super().__init__()
        self.setUp()
        self.cluster = ("--distributed-executor-backend", "ray", "--ray-address", node.address)

    def ranks(self) -> list[int]:
        """Processes that are actors, and not the server's children."""
        answer = json.loads(self.server.ask("GET", "/cohort/status")[2])
        pids = [rank["pid"] for rank in answer["ranks"]]
        return [pid for pid in pids if pid and pathlib.Path(f"/proc/{pid}").exists()]

    def run_with(self, *layout: str) -> None:
        """Kills of any rank, at moments that a seed draws."""
        with served.Server(*layout, *self.cluster, *recover_test.PATIENT,
                           **support.environment()) as self.server:
            self.disturb(random.Random(recover_test.SEED))

            self.server.close()


def words_of(pid: int) -> bytes:
    """Of a process's command; none of one that is gone."""
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


class WithoutSidecar(Disturbed):
    """It is the sidecar that is killed, with which all actors end and the group goes."""

    def ranks(self) -> list[int]:
        return [pid for pid in support.descendants(self.server.process.pid)
                if b"cohort_ray.driver" in words_of(pid)]


def test_killed_actors_cost_no_request_and_no_byte(clean: Cluster) -> None:
    Disturbed(clean).run_with("-tp", "2", "--spare-workers", "1")


def test_killed_sidecar_costs_no_request_and_no_byte(
        clean: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recover_test, "N_KILLS", 2)
    monkeypatch.setattr(recover_test, "N_IN_A_ROW", 1)
    WithoutSidecar(clean).run_with("-tp", "2")


def test_spare_that_died_costs_no_restart(clean: Cluster) -> None:
    """Rank and spare die together: the rank's next actor is made within the same life."""
    at = Disturbed(clean)
    with served.Server("--spare-workers", "1", *at.cluster, *recover_test.PATIENT,
                       **support.environment()) as at.server:
        (rank,) = at.ranks()
        until = time.monotonic() + support.READY_S
        spares: list[int] = []
        while not spares and time.monotonic() < until:
            time.sleep(0.05)
            spares = [pid for pid in support.descendants(clean.process.pid)
                      if pid != rank and words_of(pid).startswith(b"ray::Worker")]
        (spare,) = spares
        time.sleep(0.5)  # for it to say that it is up; else there is nothing to see
        os.kill(spare, signal.SIGKILL)
        os.kill(rank, signal.SIGKILL)
        asked = {"prompt": "a", "max_tokens": 2}
        assert at.server.ask("POST", served.COMPLETIONS, asked)[0] == 200
        recovery = json.loads(at.server.ask("GET", "/cohort/status")[2])["recovery"]
        assert recovery["deaths"] == 1, recovery
        at.server.close()
