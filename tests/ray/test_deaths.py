# SPDX-License-Identifier: Apache-2.0
"""Whatever dies: what is reported, what survives, and that nothing of ours is left."""
from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import pathlib
import random
import re
import signal
import socket
import stat
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import pytest

import support
from books import of_gcs, of_ray
from leftovers import Watch
from support import Cluster, Probe

from ray.util import placement_group, placement_group_table, remove_placement_group

KILLS = int(os.environ.get("COHORT_RAY_KILLS", "20"))
SEED = int(os.environ.get("COHORT_SEED", "20261123"))
SHARED_MEMORY = pathlib.Path("/dev/shm")
LEFT_S = 2.0 * support.PATIENCE


@pytest.fixture(scope="module", name="watch")
def on_the_shared_node(node: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Watch:
    folder = tmp_path_factory.mktemp("drivers")
    return Watch(node.address, folder, [node.folder, SHARED_MEMORY], of_ray).learn()


@contextlib.contextmanager
def own_node(**env: str) -> Iterator[tuple[Cluster, Watch]]:
    """Which may be killed, too; nobody can ask it afterwards."""
    with tempfile.TemporaryDirectory(prefix="own") as folder, support.cluster(**env) as node:
        yield node, Watch(node.address, pathlib.Path(folder), [node.folder, SHARED_MEMORY]).learn()


def callback(probe: Probe) -> dict[str, Any]:
    """The failure, which was registered for."""
    said = probe.next()
    assert said["did"] == "callback", said
    return said


def crash_functions(error: str) -> list[str]:
    """Of ours, by the addresses that a death's text has."""
    offsets = re.findall(r"\+(0x[0-9a-f]+)", error)
    assert offsets, error
    done = subprocess.run(["addr2line", "-f", "-e", support.BUILD / "libcohort.so", *offsets],
                          capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[::2]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_death_of_a_worker(watch: Watch, number: signal.Signals) -> None:
    """Reported with rank, name, pid and node, once; a call under way ends with it."""
    with watch.probe() as probe:
        assert len(of_ray() - watch.ray) == len(probe.pids) + 1  # and a group: Ray does see them
        probe.tell("register")
        os.kill(probe.pids[0], number)
        said = callback(probe)
        assert said["rank"] == 0 and f"pid {probe.pids[0]}" in said["error"]
        assert "cohort_Worker_" in said["error"] and "while idle" in said["error"]
        if number != signal.SIGKILL:
            assert signal.strsignal(number) in said["error"]
            functions = set(crash_functions(said["error"])) - {"??"}
            assert functions and not functions & {"note_frames", "on_crash", "on_asked"}, said
        assert probe.ask("rpc noop 0 1")["error"] == said["error"]
        probe.end(LEFT_S)


@pytest.mark.parametrize("method, said",
                         [("ext_exit", "exited with status 3"), ("ext_leave", "vanished")])
def test_exit_of_a_worker(watch: Watch, method: str, said: str) -> None:
    """exit() is told by the rank itself; behind _exit() nobody can speak."""
    extension = f"{support.BUILD / 'probe_extension.so'}:install"
    with watch.probe(extension=extension) as probe:
        probe.tell("register")
        probe.tell(f"begin {method}")
        lines = {line["did"]: line for line in (probe.next(), probe.next())}
        error = lines["callback"]["error"]
        assert lines["begin"]["error"] == error
        assert f"pid {probe.pids[0]}" in error and "during rpc (call " in error
        assert said in error, error
        probe.end(LEFT_S)


def break_links(pid: int, peer: int) -> None:
    """What a process says over its unix sockets to another comes there no more; it lives on."""
    pidfd_getfd = 438
    process = os.pidfd_open(pid)
    for number in os.listdir(f"/proc/{pid}/fd"):
        fd = ctypes.CDLL(None).syscall(pidfd_getfd, process, int(number), 0)
        if fd < 0:
            continue  # it was closed meanwhile
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            os.close(fd)
            continue
        with socket.socket(fileno=fd) as one:
            if one.family == socket.AF_UNIX and struct.unpack(
                    "3i", one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0] == peer:
                one.shutdown(socket.SHUT_WR)
    os.close(process)


def test_lines_of_ranks_reach_the_driver() -> None:
    """With rank and node; and of one that died the last ones."""
    with support.cluster(logs=True) as node:
        env = support.environment(COHORT_LOGGING_LEVEL="info")
        with Probe(address=node.address, env=env, log_to_driver=1) as probe:
            until = time.monotonic() + support.END_S * support.PATIENCE
            while "(rank 1 on 127.0.0.2) t=" not in probe.said():
                assert time.monotonic() < until, probe.said()
                time.sleep(0.05)


def test_last_lines_of_a_rank_that_died_are_told() -> None:
    """Also where nobody asked for its lines."""
    with support.cluster() as node:
        env = support.environment(COHORT_LOGGING_LEVEL="info")
        with Probe(address=node.address, env=env) as probe:
            os.kill(probe.pids[1], signal.SIGKILL)
            until = time.monotonic() + support.END_S * support.PATIENCE
            while "(rank 1 on 127.0.0.2) ended behind these lines" not in probe.said():
                assert time.monotonic() < until, probe.said()
                time.sleep(0.05)
            assert "(rank 1 on 127.0.0.2) t=" in probe.said()


def test_broken_link_of_a_living_worker(watch: Watch) -> None:
    """No death is waited for, which takes 300 ms at the best of times: it is known to live."""
    spent_ms = []
    for _ in range(3):
        with watch.probe() as probe:
            probe.tell("register")
            broken_ns = time.monotonic_ns()
            break_links(probe.pids[1], probe.process.pid)
            said = callback(probe)
            spent_ms.append((said["at_ns"] - broken_ns) / 1e6)
            assert said["rank"] == 1 and f"pid {probe.pids[1]}" in said["error"]
            assert "lives, but its control link broke while idle" in said["error"], said
            probe.end(LEFT_S)
    print(f"milliseconds from the end of a link to the callback: {spent_ms}")
    support.check_in_time("best of three", min(spent_ms) / 1e3, 0.15 * support.PATIENCE)


def test_stopped_worker_is_hung(watch: Watch) -> None:
    """R31: a hang is no death, and is found by the heartbeats, in less than twice their time."""
    with watch.probe(hang_ms=1000) as probe:
        probe.tell("register")
        stopped_ns = time.monotonic_ns()
        os.kill(probe.pids[1], signal.SIGSTOP)
        said = callback(probe)
        assert said["rank"] == 1 and "hung" in said["error"] and "heartbeat" in said["error"]
        support.check_in_time("callback", (said["at_ns"] - stopped_ns) / 1e9, 2 * support.PATIENCE)
        probe.end(LEFT_S)


def test_death_of_the_sidecar(watch: Watch) -> None:
    """Ray ends the actors of a driver that is gone: the executor fails and names it."""
    with watch.probe() as probe:
        probe.tell("register")
        os.kill(probe.sidecar(), signal.SIGKILL)
        said = callback(probe)
        assert f"the sidecar (pid {probe.everybody[-1]}), ended" in said["error"]
        probe.end(LEFT_S)


def test_shutdown_keeps_its_time(watch: Watch) -> None:
    """One deadline for ranks and sidecar, also where that one does not move."""
    with watch.probe(shutdown_ms=1500) as probe:
        os.kill(probe.sidecar(), signal.SIGSTOP)
        from_s = time.monotonic()
        assert "error" not in probe.ask("shutdown")
        spent_s = time.monotonic() - from_s
        assert spent_s > 1.2
        support.check_in_time("shutdown", spent_s, 4 * support.PATIENCE)
        assert probe.ask("destroy") == {"did": "destroy"}
        probe.check_nothing_left(time.monotonic() + LEFT_S)


def test_death_of_the_driver(watch: Watch) -> None:
    """Nobody is left to report; the workers and the sidecar see the ends of their links."""
    probe = watch.probe()
    until = time.monotonic() + LEFT_S
    probe.process.kill()
    probe.process.wait()
    counters = probe.start["counters"]  # which are for `cohort stat` to read
    probe.check_nothing_left(until, [counters])
    assert pathlib.Path(counters).exists()
    with watch.probe() as next_one:  # which sweeps them
        assert next_one.start.get("ready")
        assert not pathlib.Path(counters).exists()


def test_driver_that_dies_while_it_starts(clean: Cluster) -> None:
    """R21: at a moment drawn each time; a partly made world is unwound."""
    draw = random.Random(SEED)
    env = support.environment()
    for _ in range(3):
        process = subprocess.Popen(
            [str(support.PROBE), "backend=ray", "tp=2", f"model={support.MODEL}",
             f"address={clean.address}"],
            env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(draw.uniform(0.1, 1.5))
        below = support.descendants(process.pid)
        process.kill()
        process.wait()
        # An import may be under way.
        support.check_gone(below, LEFT_S + 3 * support.PATIENCE)
    with Probe(address=clean.address):
        pass  # sweeps what the dead could not


def pending_groups() -> list[str]:
    """Placement groups that wait for room."""
    groups: dict[str, dict[str, Any]] = placement_group_table()
    return [key for key, group in groups.items() if group["state"] == "PENDING"]


@contextlib.contextmanager
def no_room() -> Iterator[None]:
    """All of the node but one CPU is somebody else's."""
    taken = placement_group([{"CPU": 7}])
    assert taken.wait(support.END_S)
    try:
        yield
    finally:
        remove_placement_group(taken)


@contextlib.contextmanager
def waiting_for_room(address: str) -> Iterator[tuple[subprocess.Popen[bytes], list[int]]]:
    """A command on two ranks whose group is pending, and the processes below it."""
    with no_room(), tempfile.TemporaryDirectory() as home, subprocess.Popen(
        [str(support.COHORT), "serve", str(support.MODEL), "--skip-tokenizer-init", "--port", "0",
         "--host", "127.0.0.1", "-tp", "2", "--distributed-executor-backend", "ray",
         "--ray-address", address],
        env=support.environment(XDG_RUNTIME_DIR=home), stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            until = time.monotonic() + support.READY_S
            while not pending_groups() and time.monotonic() < until:
                assert process.poll() is None, process.stderr
                time.sleep(0.05)
            below = support.descendants(process.pid)
            assert below and pending_groups()
            yield process, below
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_start_that_is_interrupted(clean: Cluster, number: signal.Signals) -> None:
    """While the command waits for room: it takes all away, and then ends."""
    with waiting_for_room(clean.address) as (process, below):
        process.send_signal(number)
        assert process.wait(support.END_S) == 128 + number
        assert process.stderr and b"told to stop while Ray was" in process.stderr.read()
        support.check_gone(below, LEFT_S)
        assert pending_groups() == []


def test_start_that_is_interrupted_twice(clean: Cluster) -> None:
    """The second signal ends the command as it stands; the sidecar takes the group away."""
    with waiting_for_room(clean.address) as (process, below):
        for each in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGCONT):
            process.send_signal(each)
        assert process.wait(support.END_S) in (-signal.SIGTERM, -signal.SIGINT)
        support.check_gone(below, LEFT_S + 3 * support.PATIENCE)
        assert pending_groups() == []


def test_death_of_the_raylet() -> None:
    """The node's workers die with it, and that is what is reported."""
    with own_node() as (node, watch), watch.probe() as probe:
        probe.tell("register")
        (raylet,) = node.processes("raylet")
        os.kill(raylet, signal.SIGKILL)
        said = callback(probe)
        assert said["rank"] in (0, 1) and f"pid {probe.pids[said['rank']]}" in said["error"]
        assert "cohort_Worker_" in said["error"] and "127.0.0.2" in said["error"]
        probe.end(LEFT_S)


def test_raylet_that_its_gcs_outlives() -> None:
    """Which finds the node dead, ends its driver and closes its books: no actor is left there, and
    no group."""
    with own_node(**support.QUICK_HEALTH) as (node, watch):
        watch.ask = of_gcs(node.address)
        with watch.probe() as probe:
            assert len(watch.ask()) == len(probe.pids) + 1
            probe.tell("register")
            with node.without("raylet"):
                assert callback(probe)["rank"] in (0, 1)
                probe.end(10 * support.PATIENCE)


def test_death_of_the_gcs() -> None:
    """No step goes through Ray: calls go on for as long as Ray lets its processes live.  R19: that
    Ray is in trouble ends no watch, and a death is told all the same."""
    with own_node() as (node, watch), watch.probe() as probe:
        with node.without("gcs_server"):
            for _ in range(20):
                assert probe.ask("rpc echo 64 1").get("replies") == 2
                time.sleep(0.1)
            probe.tell("register")
            os.kill(probe.pids[1], signal.SIGKILL)
            said = callback(probe)
            assert said["rank"] == 1 and f"pid {probe.pids[1]}" in said["error"]
            probe.end(LEFT_S)


def kill_one(watch: Watch, draw: random.Random, victim: str, node: Cluster | None = None) -> None:
    """Two seconds after the kill nothing is left; after a raylet's, two seconds after the call that
    was under way has told of it.  Of a driver its counters are, until the next one starts."""
    with contextlib.ExitStack() as stack:
        probe = watch.probe(hang_ms=2000)
        stack.callback(probe.process.kill)
        assert probe.start.get("ready"), probe.start
        probe.tell("rpc echo 1000 1000000")  # a call is always under way
        time.sleep(draw.uniform(0, 0.3))
        victims = {"worker": draw.choice(probe.pids), "sidecar": probe.everybody[-1],
                   "driver": probe.process.pid}
        if node:
            victims["raylet"] = node.processes("raylet")[0]
        os.kill(victims[victim], signal.SIGKILL)
        killed_s = time.monotonic()
        if victim == "driver":
            probe.process.wait()
            probe.check_nothing_left(killed_s + LEFT_S, [probe.start["counters"]])
            return
        said = probe.next()
        assert "error" in said, (victim, said)
        support.check_in_time(victim, time.monotonic() - killed_s, LEFT_S)
        from_s = time.monotonic() if victim == "raylet" else killed_s
        probe.end(from_s + LEFT_S - time.monotonic())


def test_random_kills(watch: Watch) -> None:
    """Workers, sidecars, drivers under load; every tenth time a raylet, on a node of its own."""
    draw = random.Random(SEED)
    for count in range(KILLS):
        if count % 10 == 9:
            with own_node() as (node, own):
                kill_one(own, draw, "raylet", node)
        else:
            victim = draw.choice(["worker", "worker", "sidecar", "driver"])
            support.in_time(functools.partial(kill_one, watch, draw, victim))
    with watch.probe() as last:
        last.rest()
        last.check_nothing_left(time.monotonic() + LEFT_S)  # the dead drivers' counters neither
