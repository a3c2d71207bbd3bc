# SPDX-License-Identifier: Apache-2.0
"""Three Ray nodes that share nothing but a network (tests/support/nodes.py); the driver is on
the first.  vLLM's test_mq_tcp_multinode.py, and what goes beyond it."""
from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import pytest

import support
from support import Probe

sys.path.insert(0, str(support.ROOT / "tests/support"))
import nodes  # noqa: E402  pylint: disable=wrong-import-position

CPUS = 4
HEAD = f"{nodes.NETWORK}.1:6379"


class RayNodes:
    """A cluster over a network; each node with a temporary folder of its own."""

    def __init__(self, network: nodes.Network, folder: str) -> None:
        self.network = network
        self.started: list[subprocess.Popen[bytes]] = []
        for number, node in enumerate(network.nodes, 1):
            own = pathlib.Path(folder, str(number))
            own.mkdir()
            where = ["--head", "--port=6379", "--include-dashboard=false", "--no-monitor"]
            if number > 1:
                where = [f"--address={HEAD}"]
            with open(own / "start.log", "wb") as log:
                self.started.append(subprocess.Popen(
                    [*node.enter, str(support.RAY), "start", "--block", *where,
                     f"--node-ip-address={node.address}", f"--num-cpus={CPUS}",
                     "--object-store-memory=80000000", "--include-log-monitor=false",
                     f"--temp-dir={own}", "--disable-usage-stats"],
                    env=support.environment(**support.QUICK_HEALTH), stdin=subprocess.DEVNULL,
                    stdout=log, stderr=subprocess.STDOUT,
                ))
            self._await_nodes(number)

    def ask(self, program: str) -> str:
        """What a program prints that is a Ray driver on the first node."""
        lines = ["import ray", f"ray.init(address='{HEAD}', logging_level='ERROR')", program]
        done = subprocess.run(
            [*self.network.nodes[0].enter, sys.executable, "-c", "\n".join(lines)],
            env=support.environment(), capture_output=True, text=True, timeout=60, check=False,
        )
        return done.stdout

    def _await_nodes(self, count: int) -> None:
        until = time.monotonic() + support.READY_S
        while time.monotonic() < until:
            if count > 1 or self.ask("print(len(ray.nodes()))").strip() == "1":
                if count < len(self.network.nodes):
                    return
                if self.ask("print(sum(n['Alive'] for n in ray.nodes()))").strip() == str(count):
                    return
            time.sleep(0.2)
        raise AssertionError("the cluster did not start")

    def node_of(self, rank: dict[str, str]) -> nodes.Node:
        (found,) = [n for n in self.network.nodes if n.address == rank["address"]]
        return found

    def pid_of(self, rank: dict[str, str]) -> int:
        """Of a rank, as this host numbers it."""
        return self.node_of(rank).outside(int(rank["pid"]))

    def outside_of(self, probe: Probe) -> int:
        """Of a probe itself; the process that we started only entered the node."""
        return self.network.nodes[0].outside(int(probe.start["pid"]))

    def probe(self, **options: object) -> Probe:
        options = {"address": HEAD, "node_address": self.network.nodes[0].address, **options}
        return Probe(inside=self.network.nodes[0].enter, **options)


@pytest.fixture(scope="module")
def world() -> Iterator[RayNodes]:
    """Three nodes, for the tests that leave them as they were."""
    with tempfile.TemporaryDirectory(prefix="ry", ignore_cleanup_errors=True) as folder:
        with nodes.Network(3) as network:
            yield RayNodes(network, folder)


def memory_files(pid: int) -> set[str]:
    """The memfds that a process has mapped, by inode."""
    lines = pathlib.Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines()
    return {line.split()[4] for line in lines if "/memfd:" in line}


def rows_of(probe: Probe, node: nodes.Node) -> list[list[str]]:
    """Of `cohort stat`, run where the driver is."""
    done = subprocess.run([*node.enter, str(support.COHORT), "stat"], capture_output=True,
                          text=True, env=support.environment(), check=True)
    own = done.stdout.split(pathlib.Path(probe.start["counters"]).stem)[1]
    rows = [line.split() for line in own.splitlines()[2:]]
    return [row for row in rows if row and row[0].isdigit()][: len(probe.ranks)]


def test_mq_tcp_multinode(world: RayNodes) -> None:
    """Ranks elsewhere are readers over TCP, map no ring, and get all that the others get."""
    with world.probe(tp=3, strategy="STRICT_SPREAD") as probe:
        assert probe.start.get("ready"), probe.start
        addresses = [rank["address"] for rank in probe.ranks]
        assert addresses[0] == world.network.nodes[0].address
        assert sorted(addresses) == [node.address for node in world.network.nodes]
        assert [rank["transport"] for rank in probe.ranks] == ["shared memory", "tcp", "tcp"]
        assert probe.ask("rpc echo 500 100")["replies"] == 3
        assert probe.ask("rpc echo 1600000 5")["replies"] == 3  # more than a slot
        of_driver = memory_files(world.outside_of(probe))
        assert of_driver & memory_files(world.pid_of(probe.ranks[0]))  # the ring
        for rank in probe.ranks[1:]:
            assert not of_driver & memory_files(world.pid_of(rank))
        time.sleep(2.5)  # two heartbeats, which bring the counters
        for row in rows_of(probe, world.network.nodes[0]):
            assert row[2] == "idle" and int(row[3]) > 100  # the last call's number


@pytest.mark.parametrize("tp,pp", [(2, 1), (1, 2), (2, 2)])
def test_three_nodes_generate_as_one(world: RayNodes, tp: int, pp: int) -> None:
    """Greedy output with the ranks spread out equals that of processes on one host."""
    size = ("-tp", str(tp), "-pp", str(pp))
    first = world.network.nodes[0]
    on_ray = support.generate(
        "--distributed-executor-backend", "ray", "--ray-address", HEAD, "--ray-node-address",
        first.address, "--ray-placement-strategy", "SPREAD", *size, inside=first.enter,
    )
    assert on_ray == support.generate("--distributed-executor-backend", "mp", *size)


def test_wholly_remote_group(world: RayNodes) -> None:
    """Ray does not prefer the driver's node: a group may have nothing there."""
    resource = f"node:{nodes.NETWORK}.3=0.1"
    with world.probe(tp=2, resource=resource) as probe:
        assert probe.start.get("ready"), probe.start
        assert [rank["transport"] for rank in probe.ranks] == ["tcp", "tcp"]
        assert probe.ask("rpc echo 500 100")["replies"] == 2


def test_rank_zero_elsewhere_by_bundle_indices(world: RayNodes) -> None:
    """The user's order stands, also where it puts the driver's node last."""
    with world.probe(tp=3, strategy="STRICT_SPREAD") as probe:
        assert probe.ranks[0]["address"] == world.network.nodes[0].address
    with world.probe(tp=3, strategy="STRICT_SPREAD", indices="2,1,0") as probe:
        assert probe.start.get("ready"), probe.start
        assert probe.ask("rpc echo 500 100")["replies"] == 3
        transports = [rank["transport"] for rank in probe.ranks]
        local = [r["address"] == world.network.nodes[0].address for r in probe.ranks]
        assert transports == ["shared memory" if here else "tcp" for here in local]


def test_death_of_a_remote_worker(world: RayNodes) -> None:
    for number in (signal.SIGKILL, signal.SIGSEGV):
        with world.probe(tp=3, strategy="STRICT_SPREAD") as probe:
            probe.tell("register")
            pids = [world.pid_of(rank) for rank in probe.ranks]
            os.kill(pids[2], number)
            said = probe.next()
            assert said["rank"] == 2 and probe.ranks[2]["address"] in said["error"]
            if number == signal.SIGSEGV:
                assert "Segmentation fault" in said["error"]
            assert "error" in probe.ask("shutdown")
            assert support.await_gone(pids, 2) == []


def test_stopped_node_is_lost_and_fences_itself(world: RayNodes) -> None:
    """R31: a remote rank whose process stands still is found by heartbeats over its link; when
    it goes on, its driver is gone for it, and it ends."""
    with world.probe(tp=3, strategy="STRICT_SPREAD", hang_ms=1000) as probe:
        probe.tell("register")
        pids = [world.pid_of(rank) for rank in probe.ranks]
        from_s = time.monotonic()
        os.kill(pids[1], signal.SIGSTOP)
        said = probe.next()
        assert time.monotonic() - from_s < 10
        assert said["rank"] == 1 and "heartbeat" in said["error"]
        probe.tell("shutdown")
        time.sleep(0.3)
        if support.is_alive(pids[1]):
            os.kill(pids[1], signal.SIGCONT)
        assert "error" in probe.next()
        assert support.await_gone(pids, 2) == []


def test_cut_cable() -> None:
    """A node that is cut off is lost within the heartbeat's time; its rank, which nobody can
    reach, ends by itself once it notices that the driver is silent."""
    with tempfile.TemporaryDirectory(prefix="ry", ignore_cleanup_errors=True) as folder:
        with nodes.Network(3) as network:
            world = RayNodes(network, folder)  # pylint: disable=redefined-outer-name
            with world.probe(tp=3, strategy="STRICT_SPREAD", hang_ms=1500) as probe:
                probe.tell("register")
                pids = [world.pid_of(rank) for rank in probe.ranks]
                lost = world.node_of(probe.ranks[2])
                from_s = time.monotonic()
                lost.cut()
                said = probe.next()
                assert time.monotonic() - from_s < 10
                assert said["rank"] == 2
                assert "error" in probe.ask("shutdown")
                assert support.await_gone(pids[:2], 2) == []
                lost.cut(False)
                assert support.await_gone(pids[2:], 30) == []


def test_death_of_a_whole_node() -> None:
    """Every process of a host at once."""
    with tempfile.TemporaryDirectory(prefix="ry", ignore_cleanup_errors=True) as folder:
        with nodes.Network(2) as network:
            world = RayNodes(network, folder)  # pylint: disable=redefined-outer-name
            with world.probe(tp=2, strategy="STRICT_SPREAD") as probe:
                probe.tell("register")
                here = world.pid_of(probe.ranks[0])
                for pid in network.nodes[1].pids():
                    if pid != network.nodes[1].init:
                        os.kill(pid, signal.SIGKILL)
                said = probe.next()
                assert said["rank"] == 1 and network.nodes[1].address in said["error"]
                assert "error" in probe.ask("shutdown")
                assert support.await_gone([here], 2) == []
