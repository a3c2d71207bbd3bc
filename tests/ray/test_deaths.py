# SPDX-License-Identifier: Apache-2.0
"""Whatever dies: what is reported, what survives, and that nothing of ours is left."""
from __future__ import annotations

import contextlib
import os
import pathlib
import random
import signal
import time
from typing import Any

import pytest

import support
from support import Cluster, Probe

KILLS = int(os.environ.get("COHORT_RAY_KILLS", "20"))
SEED = int(os.environ.get("COHORT_SEED", "20261123"))
LEFT_S = 2.0 * float(os.environ.get("COHORT_PATIENCE", "1"))


def check_nothing_left(pids: list[int], counters: str) -> None:
    """Processes of ours, and the file of a driver that could still remove it."""
    assert support.await_gone(pids, LEFT_S) == []
    assert not pathlib.Path(counters).exists()


def callback(probe: Probe) -> dict[str, Any]:
    """The failure, which was registered for."""
    said = probe.next()
    assert said["did"] == "callback", said
    return said


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_death_of_a_worker(clean: Cluster, number: signal.Signals) -> None:
    """Reported with rank, name, pid and node, once; a call under way ends with it."""
    with Probe(address=clean.address) as probe:
        everybody = [*probe.pids, probe.sidecar()]
        probe.tell("register")
        os.kill(probe.pids[0], number)
        said = callback(probe)
        assert said["rank"] == 0 and f"pid {probe.pids[0]}" in said["error"]
        assert "cohort_Worker_" in said["error"] and "while idle" in said["error"]
        if number != signal.SIGKILL:
            assert signal.strsignal(number) in said["error"]
        assert probe.ask("rpc noop 0 1")["error"] == said["error"]
        assert "error" in probe.ask("shutdown")
        check_nothing_left(everybody, probe.start["counters"])


def test_stopped_worker_is_hung(clean: Cluster) -> None:
    """R31: a hang is no death, and is found by the heartbeats."""
    with Probe(address=clean.address, hang_ms=1000) as probe:
        probe.tell("register")
        os.kill(probe.pids[1], signal.SIGSTOP)
        said = callback(probe)
        assert said["rank"] == 1 and "hung" in said["error"] and "heartbeat" in said["error"]
        everybody = [*probe.pids, probe.sidecar()]
        assert "error" in probe.ask("shutdown")
        check_nothing_left(everybody, probe.start["counters"])


def test_death_of_the_sidecar(clean: Cluster) -> None:
    """Ray ends the actors of a driver that is gone: the executor fails and names it."""
    with Probe(address=clean.address) as probe:
        sidecar = probe.sidecar()
        probe.tell("register")
        os.kill(sidecar, signal.SIGKILL)
        said = callback(probe)
        assert "sidecar" in said["error"] or "vanished" in said["error"]
        assert "error" in probe.ask("shutdown")
        check_nothing_left([*probe.pids, sidecar], probe.start["counters"])


def test_death_of_the_driver(clean: Cluster) -> None:
    """Nobody is left to report; the workers and the sidecar see the ends of their links."""
    probe = Probe(address=clean.address)
    everybody = [*probe.pids, probe.sidecar()]
    probe.process.kill()
    probe.process.wait()
    assert support.await_gone(everybody, LEFT_S) == []
    with Probe(address=clean.address) as next_one:  # which sweeps the counters
        assert next_one.start.get("ready")
        assert not pathlib.Path(probe.start["counters"]).exists()


def test_driver_that_dies_while_it_starts(clean: Cluster) -> None:
    """R21: at a moment drawn each time; a partly made world is unwound."""
    draw = random.Random(SEED)
    env = support.environment()
    for _ in range(3):
        process = support.subprocess.Popen(
            [str(support.PROBE), "backend=ray", "tp=2", f"model={support.MODEL}",
             f"address={clean.address}"],
            env=env, stdin=support.subprocess.DEVNULL, stdout=support.subprocess.DEVNULL,
            stderr=support.subprocess.DEVNULL,
        )
        time.sleep(draw.uniform(0.1, 1.5))
        below = support.descendants(process.pid)
        process.kill()
        process.wait()
        assert support.await_gone(below, LEFT_S + 3) == []  # an import may be under way
    with Probe(address=clean.address):
        pass  # sweeps what the dead could not


def test_start_that_is_interrupted(clean: Cluster) -> None:
    """SIGINT to the command while it waits for room: it ends soon, and takes all away."""
    process = support.subprocess.Popen(
        [str(support.COHORT), "serve", str(support.MODEL), "--skip-tokenizer-init", "--port", "0",
         "--host", "127.0.0.1", "-tp", "8", "--distributed-executor-backend", "ray",
         "--ray-address", clean.address, "--ray-worker-resource", "CPU=0.5",
         "--ray-placement-group", "0" * 36],
        env=support.environment(), stdin=support.subprocess.DEVNULL,
        stderr=support.subprocess.DEVNULL, start_new_session=True,
    )
    time.sleep(2)
    below = support.descendants(process.pid)
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)
    process.wait(15)
    assert support.await_gone(below, LEFT_S + 3) == []


def test_death_of_the_raylet() -> None:
    """The node's workers die with it, and that is what is reported."""
    with support.cluster() as node:
        with Probe(address=node.address) as probe:
            everybody = [*probe.pids, probe.sidecar()]
            probe.tell("register")
            (raylet,) = node.processes("raylet")
            os.kill(raylet, signal.SIGKILL)
            said = callback(probe)
            assert said["rank"] in (0, 1)
            assert "error" in probe.ask("shutdown")
            check_nothing_left(everybody, probe.start["counters"])


def test_death_of_the_gcs() -> None:
    """No step goes through Ray: calls go on for as long as Ray lets its processes live."""
    with support.cluster() as node:
        with Probe(address=node.address) as probe:
            everybody = [*probe.pids, probe.sidecar()]
            (gcs,) = node.processes("gcs_server")
            os.kill(gcs, signal.SIGKILL)
            for _ in range(10):
                assert probe.ask("rpc echo 64 1").get("replies") == 2
                time.sleep(0.1)
            probe.tell("shutdown")
            probe.next()
            check_nothing_left(everybody, probe.start["counters"])


def kill_one(node: Cluster, draw: random.Random, victim: str) -> None:
    with contextlib.ExitStack() as stack:
        probe = Probe(address=node.address, hang_ms=2000)
        everybody = [*probe.pids, probe.sidecar()]
        stack.callback(probe.process.kill)
        probe.tell("rpc echo 1000 1000000")  # a call is always under way
        time.sleep(draw.uniform(0, 0.3))
        if victim == "worker":
            os.kill(draw.choice(probe.pids), signal.SIGKILL)
        elif victim == "sidecar":
            os.kill(everybody[-1], signal.SIGKILL)
        elif victim == "raylet":
            os.kill(node.processes("raylet")[0], signal.SIGKILL)
        else:
            probe.process.kill()
        if victim != "driver":
            said = probe.next()
            assert "error" in said, (victim, said)
            assert "error" in probe.ask("shutdown")
            assert not pathlib.Path(probe.start["counters"]).exists()
        assert support.await_gone(everybody, LEFT_S) == [], victim


def test_random_kills(clean: Cluster) -> None:
    """Workers, sidecars, drivers under load; every tenth time a raylet, on a node of its own."""
    draw = random.Random(SEED)
    for count in range(KILLS):
        if count % 10 == 9:
            with support.cluster() as node:
                kill_one(node, draw, "raylet")
        else:
            kill_one(clean, draw, draw.choice(["worker", "worker", "sidecar", "driver"]))
