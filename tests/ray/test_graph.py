# SPDX-License-Identifier: Apache-2.0
"""The old control plane: vLLM's RayDistributedExecutor, by VLLM_USE_RAY_V2_EXECUTOR_BACKEND=0.

Calls go through a compiled graph of Ray's, and all else is as in the tests of the new one.  What a
graph cannot do (docs/ray.md): start a rank again.  Over nodes it is in test_nodes.py.
"""
from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

import support
from support import Cluster, Probe
from test_ray_v2_executor import kill_under_a_call

PLANE = {"VLLM_USE_RAY_V2_EXECUTOR_BACKEND": "0"}


@pytest.fixture(name="probe")
def two_ranks(clean: Cluster) -> Iterator[Probe]:
    with Probe(address=clean.address, graph=1) as probe:
        assert probe.start.get("ready"), probe.start
        yield probe


@pytest.mark.parametrize("tp,pp", [(1, 1), (2, 2)])
def test_graph_carries_calls(clean: Cluster, tp: int, pp: int) -> None:
    """Short ones, many at once, and such as its buffers have to grow for."""
    env = support.environment(COHORT_LOGGING_LEVEL="info")
    with Probe(address=clean.address, graph=1, tp=tp, pp=pp, env=env, **{"async": 1}) as probe:
        assert probe.start.get("ready"), probe.start
        assert {rank["transport"] for rank in probe.ranks} == {"compiled graph"}
        assert probe.start["max_in_flight"] == pp + 1
        assert probe.said().count("keeps a core busy") == 1
        assert "error" not in probe.ask("health")
        for asked in ("rpc noop 0 100", "rpc echo 100 20", "arrays 50000 20",
                      "rpc echo 3000000 2", "text a string"):
            said = probe.ask(asked)
            assert said.get("replies") == tp * pp and "differs" not in said, said
        assert "no method" in probe.ask("rpc launch_missiles 0 1")["error"]
        assert "error" not in probe.ask("health")


@pytest.mark.parametrize("size", [("-tp", "2"), ("-tp", "2", "-pp", "2")], ids="-".join)
def test_graph_generates_as_one_process(clean: Cluster, size: tuple[str, ...]) -> None:
    env = support.environment(**PLANE)
    found, told = support.generate_and_tell(
        "--distributed-executor-backend", "ray", "--ray-address", clean.address, "--verbose",
        *size, env=env)
    assert found == support.generate("--distributed-executor-backend", "uni")
    assert {transport for _, transport in support.seats(told)} == {"compiled graph"}


def answers(folder: pathlib.Path, *options: str, **env: str) -> list[Any]:
    """Of `cohort run-batch`, to requests half of which have a grammar, and so masks."""
    (folder / "in").write_text("".join(json.dumps({
        "custom_id": str(number), "method": "POST", "url": "/v1/completions",
        "body": {"prompt": f"Number {number}:", "max_tokens": 12, "temperature": 0,
                 **({"structured_outputs": {"regex": "[0-9]{4}-[a-z]{3}"}} if number % 2 else {})},
    }) + "\n" for number in range(6)), encoding="utf-8")
    command = [support.COHORT, "run-batch", "-i", folder / "in", "-o", folder / "out",
               "--model", support.real_model(), *options]
    subprocess.run(command, env=support.environment(**env), check=True, stdin=subprocess.DEVNULL)
    lines = (folder / "out").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    return sorted((line["custom_id"], line["response"]["body"]["choices"][0]["text"])
                  for line in found)


def test_graph_carries_masks(clean: Cluster, tmp_path: pathlib.Path) -> None:
    """Which follow their step, while it is computed."""
    on_ray = answers(tmp_path, "-tp", "2", "--distributed-executor-backend", "ray",
                     "--ray-address", clean.address, **PLANE)
    assert on_ray == answers(tmp_path, "-tp", "2")


@pytest.mark.parametrize("rank", [0, 1])
def test_graph_death_of_a_worker_under_a_call(clean: Cluster, rank: int) -> None:
    """Told as by the new one: the rank, by name, and that it vanished."""
    with Probe(address=clean.address, graph=1) as probe:
        future_ms, callback_ms = kill_under_a_call(probe, rank)
        support.check_in_time("future", future_ms / 1e3, 0.5 * support.PATIENCE)
        support.check_in_time("callback", callback_ms / 1e3, 0.5 * support.PATIENCE)


def test_graph_death_of_an_idle_worker(probe: Probe) -> None:
    probe.tell("register")
    os.kill(probe.pids[1], signal.SIGSEGV)
    said = probe.next()
    assert said["did"] == "callback" and said["rank"] == 1, said
    assert signal.strsignal(signal.SIGSEGV) in said["error"] and "while idle" in said["error"]
    assert probe.ask("rpc noop 0 1")["error"] == said["error"]


def test_graph_hang_of_a_worker(clean: Cluster) -> None:
    """R31."""
    with Probe(address=clean.address, graph=1, hang_ms=1000) as probe:
        assert probe.start.get("ready"), probe.start
        probe.tell("register")
        os.kill(probe.pids[1], signal.SIGSTOP)
        said = probe.next()
        assert said["did"] == "callback" and said["rank"] == 1 and "heartbeat" in said["error"]
        assert probe.ask("shutdown")["error"] == said["error"]
        support.check_gone(probe.pids, 2 * support.PATIENCE)


def test_graph_shutdown(probe: Probe) -> None:
    """Nobody waits for a teardown, and actors that wait in a graph are ended."""
    sidecar = probe.sidecar()
    assert probe.ask("shutdown") == {"did": "shutdown"}
    support.check_gone([*probe.pids, sidecar], 2 * support.PATIENCE)
    assert "error" in probe.ask("rpc noop 0 1")


@pytest.mark.parametrize("who", ["driver", "sidecar"])
def test_graph_death_of_those_who_call(probe: Probe, who: str) -> None:
    """Of the driver nothing is left; of the sidecar the driver tells."""
    sidecar = probe.sidecar()
    os.kill(probe.process.pid if who == "driver" else sidecar, signal.SIGKILL)
    support.check_gone([*probe.pids, sidecar], 5 * support.PATIENCE)
    if who == "driver":
        pathlib.Path(probe.start["counters"]).unlink()  # a last word, which the next start sweeps
    else:
        assert f"the sidecar (pid {sidecar}), ended" in probe.ask("rpc noop 0 1")["error"]
