# SPDX-License-Identifier: Apache-2.0
"""Three Ray nodes that share nothing but a network (tests/support/nodes.py); the driver is on
the first.  vLLM's test_mq_tcp_multinode.py, and what goes beyond it."""
from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import pytest

import replicas
import support
from leftovers import Traced, Watch
from support import Probe

sys.path.insert(0, str(support.ROOT / "tests/support"))
import nodes  # noqa: E402  pylint: disable=wrong-import-position

CPUS = 4
GPUS = 2  # as far as Ray knows
LEFT_S = 2.0 * support.PATIENCE
HEAD = f"{nodes.NETWORK}.1:6379"


class RayNodes:
    """A cluster over a network; each node with a temporary folder of its own, under one path:
    in 2.51 all nodes of a cluster take that of the first."""

    def __init__(self, network: nodes.Network, folder: str,
                 health: dict[str, str] = support.QUICK_HEALTH) -> None:
        self.network = network
        self.folder = pathlib.Path(folder)
        self.watched: Watch | None = None
        self.started: list[subprocess.Popen[bytes]] = []
        path = pathlib.Path(folder, "ray")
        path.mkdir()
        for number, node in enumerate(network.nodes, 1):
            own = pathlib.Path(folder, str(number))
            own.mkdir()
            node.bind(own, path)
            where = ["--head", "--port=6379", "--include-dashboard=false", "--no-monitor"]
            if number > 1:
                where = [f"--address={HEAD}"]
            with open(own / "start.log", "wb") as log:
                self.started.append(subprocess.Popen(
                    [*node.enter, str(support.RAY), "start", "--block", *where,
                     f"--node-ip-address={node.address}", f"--num-cpus={CPUS}",
                     f"--num-gpus={GPUS}", "--object-store-memory=80000000",
                     "--include-log-monitor=false", f"--temp-dir={path}", "--disable-usage-stats"],
                    env=support.environment(**health), stdin=subprocess.DEVNULL,
                    stdout=log, stderr=subprocess.STDOUT,
                ))
            self._await_nodes(number)

    def ask(self, program: str) -> str:
        """What a program prints that is a Ray driver on the first node."""
        lines = ["import ray",
                 f"ray.init(address='{HEAD}', namespace='watch', logging_level='ERROR')", program]
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

    def books(self) -> set[str]:
        """Actors and groups, as Ray knows them on the first node."""
        told = self.ask("import json, sys\nsys.path.insert(0, '" + str(HERE) + "')\n"
                        "import books\nprint(json.dumps(sorted(books.of_ray())))")
        return set(json.loads(told))

    def watch(self) -> Watch:
        """Over every node."""
        if self.watched:
            return self.watched
        folder = self.folder / "drivers"
        folder.mkdir()
        own = [pathlib.Path(f"/proc/{node.init}/root/dev/shm") for node in self.network.nodes]
        folders = [self.folder / str(n + 1) for n in range(len(own))] + own
        watch = Watch(HEAD, folder, folders, self.books)
        watch.networks = [node.init for node in self.network.nodes]
        watch.inside = self.network.nodes[0].enter
        watch.outside = self.pid_of
        watch.options["node_address"] = self.network.nodes[0].address
        self.watched = watch.learn()
        return self.watched

    def probe(self, **options: object) -> Traced:
        return self.watch().probe(**options)


HERE = pathlib.Path(__file__).resolve().parent


@contextlib.contextmanager
def made(count: int, health: dict[str, str]) -> Iterator[RayNodes]:
    """And removed."""
    with tempfile.TemporaryDirectory(prefix="ry", ignore_cleanup_errors=True) as folder:
        with nodes.Network(count) as network:
            yield RayNodes(network, folder, health)


@contextlib.contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """Processes that stand still meanwhile."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def world() -> Iterator[RayNodes]:
    """Three nodes, for the tests that leave them as they were."""
    with made(3, support.QUICK_HEALTH) as started:
        yield started


@pytest.fixture(scope="module")
def patient() -> Iterator[RayNodes]:
    """Three nodes whose Ray does not notice within seconds: what does, is ours."""
    with made(3, {}) as started:
        yield started


def memory_files(pid: int) -> set[str]:
    """The memfds that a process has mapped, by inode."""
    lines = pathlib.Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines()
    return {line.split()[4] for line in lines if "/memfd:" in line}


def rows_of(probe: Traced) -> list[list[str]]:
    """Of `cohort stat`, run where the driver is."""
    done = subprocess.run([*probe.watch.inside, str(support.COHORT), "stat"], capture_output=True,
                          text=True, env=probe.watch.env, check=True)
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
        # A string, a hundred random arrays, more than a slot; every reply is compared.
        for asked in ("text a string", "arrays 100000 100", "rpc echo 1600000 5"):
            said = probe.ask(asked)
            assert said.get("replies") == 3 and "differs" not in said, said
        of_driver = memory_files(world.outside_of(probe))
        assert of_driver & memory_files(world.pid_of(probe.ranks[0]))  # the ring
        for rank in probe.ranks[1:]:
            assert not of_driver & memory_files(world.pid_of(rank))
        until = time.monotonic() + support.END_S  # heartbeats bring the counters
        while time.monotonic() < until:
            ranks = probe.ask("ranks")["ranks"]
            if all(rank["rpcs"] == 106 for rank in ranks):
                break
            time.sleep(0.1)
        for row in rows_of(probe):
            assert row[2] == "idle" and int(row[3]) > 100  # the last call's number
        for rank in ranks:
            # What no memory brought came over TCP: all of it.
            assert rank["rpcs"] == 106 and rank["bytes_in"] > 5 * 1600000, rank
            assert rank["bytes_in"] == rank["bytes_out"], rank
        on = [row[row.index("on") + 1] for row in rows_of(probe)]
        assert on == addresses


@pytest.mark.parametrize("model", [*support.GOLDEN, None],
                         ids=lambda model: model.name if model else "real")
def test_three_nodes_generate_as_one(world: RayNodes, model: pathlib.Path | None) -> None:
    """Greedy output with the ranks spread out equals that of processes on one host."""
    first = world.network.nodes[0]
    at = support.generate_in_all_sizes(
        model or support.real_model(), "--ray-address", HEAD, "--ray-node-address", first.address,
        inside=first.enter, strategies=("STRICT_SPREAD", "STRICT_SPREAD", "SPREAD"))
    assert [len(set(addresses)) for addresses in at] == [2, 2, 3]


@pytest.fixture(name="swept")
def semaphores_swept(world: RayNodes) -> Iterator[RayNodes]:  # pylint: disable=redefined-outer-name
    """Of a graph that has ended a raylet keeps the semaphores as long as it lives."""
    yield world
    for node in world.network.nodes:
        for file in pathlib.Path(f"/proc/{node.init}/root/dev/shm").glob("sem.*"):
            file.unlink(missing_ok=True)


def test_graph_over_three_nodes(swept: RayNodes) -> None:
    """The old control plane (test_graph.py), whose channels are Ray's there, too."""
    first = swept.network.nodes[0]
    found, told = support.generate_and_tell(
        "--distributed-executor-backend", "ray", "--ray-address", HEAD, "--ray-node-address",
        first.address, "--ray-placement-strategy", "SPREAD", "--use-ray-v2-executor-backend", "0",
        "-tp", "2", "-pp", "2", "--verbose", inside=first.enter, tokens=16)
    at = support.seats(told)
    assert len({address for address, _ in at}) == 3
    assert {transport for _, transport in at} == {"compiled graph"}
    assert found == support.generate("--distributed-executor-backend", "uni", tokens=16)


def test_graph_death_of_a_remote_worker(swept: RayNodes) -> None:
    with swept.probe(tp=3, strategy="STRICT_SPREAD", graph=1) as probe:
        assert probe.start.get("ready"), probe.start
        assert probe.ask("rpc echo 1000 5").get("replies") == 3
        probe.tell("register")
        os.kill(swept.pid_of(probe.ranks[2]), signal.SIGKILL)
        said = probe.next()
        assert said["did"] == "callback" and said["rank"] == 2, said
        assert probe.ranks[2]["address"] in said["error"] and "vanished" in said["error"]
        assert probe.ask("shutdown")["error"] == said["error"]
        support.check_gone(probe.everybody, LEFT_S)


def test_strict_pack_is_one_node(world: RayNodes) -> None:
    with world.probe(tp=3, strategy="STRICT_PACK") as probe:
        assert probe.start.get("ready"), probe.start
        assert len({rank["address"] for rank in probe.ranks}) == 1


def test_running_cluster_of_this_host_is_found(world: RayNodes) -> None:
    """Without an address; one of its own would be on loopback."""
    first = world.network.nodes[0]
    found, told = support.generate_and_tell("--distributed-executor-backend", "ray", "-tp", "2",
                                            "--verbose", inside=first.enter)
    assert found == support.of_processes(support.MODEL, ("-tp", "2"))
    ours = [node.address for node in world.network.nodes]
    assert {address for address, _ in support.seats(told)} <= set(ours)


RAYS_OWN = b"ray::IDLE"


def await_empty(node: nodes.Node, seconds: float, *but: int, idle: bool = True) -> None:
    # The dead that nobody reaps, as nothing there is an init, are no matter.
    def left() -> list[bytes]:
        found = [pathlib.Path(f"/proc/{pid}/cmdline").read_bytes() for pid in node.pids()
                 if pid not in (node.init, *but) and support.is_alive(pid)]
        return [words for words in found if idle or not words.startswith(RAYS_OWN)]

    support.await_none(left, time.monotonic() + seconds * support.PATIENCE)


def test_cluster_is_started_where_there_is_none() -> None:
    """And ended: after an orderly end, and after SIGKILL of the command or of its sidecar."""
    with nodes.Network(1) as network:
        (alone,) = network.nodes
        found, told = support.generate_and_tell("--distributed-executor-backend", "ray", "-tp",
                                                "2", "--verbose", inside=alone.enter)
        assert found == support.of_processes(support.MODEL, ("-tp", "2"))
        assert support.seats(told) == [("127.0.0.2", "shared memory")] * 2
        await_empty(alone, 2)
        with Probe(inside=alone.enter) as probe:
            assert probe.start.get("ready") and alone.processes("raylet"), probe.start
            os.kill(alone.outside(int(probe.start["pid"])), signal.SIGKILL)
            await_empty(alone, 8)
        with Probe(inside=alone.enter) as probe:
            assert probe.start.get("ready") and alone.processes("raylet"), probe.start
            probe.tell("register")
            os.kill(probe.sidecar(), signal.SIGKILL)
            assert "sidecar" in probe.next()["error"]
            assert "error" in probe.ask("shutdown")
            us = alone.outside(int(probe.start["pid"]))
            await_empty(alone, 8, us, idle=False)
            # A worker that Ray keeps idle looks for its raylet for a minute, then ends.
            await_empty(alone, 75, us)


def ask_unix(path: pathlib.Path, route: str) -> str:
    """The body of a server's answer, over its socket file."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(support.READY_S)
        client.connect(str(path))
        client.sendall(f"GET {route} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: client.recv(65536), b"")).decode().split("\r\n\r\n")[1]


def test_the_status_page_names_the_host_of_each_rank(world: RayNodes) -> None:
    first = world.network.nodes[0]
    with tempfile.TemporaryDirectory(prefix="ry") as folder:
        path = pathlib.Path(folder) / "s"
        command = [*first.enter, str(support.COHORT), "serve", str(support.MODEL), "--uds", str(path)]
        command += ["--distributed-executor-backend", "ray", "--ray-address", HEAD]
        command += ["--ray-node-address", first.address, "--ray-placement-strategy"]
        command += ["STRICT_SPREAD", "-tp", "2", "--kv-cache-memory-bytes", "4MiB",
                    "--stop-with-stdin"]
        with subprocess.Popen(command, env=support.environment(), text=True,
                              stdin=subprocess.PIPE, stderr=subprocess.PIPE) as server:
            assert server.stderr
            line = "start"
            while line and "Starting Cohort server" not in line:
                line = server.stderr.readline()
            assert line, "it did not start"
            ranks = json.loads(ask_unix(path, "/cohort/status"))["ranks"]
            server.communicate(timeout=support.READY_S)  # ends with its input
    hosts = [rank["host"] for rank in ranks]
    assert hosts[0] != hosts[1]
    assert set(hosts) <= {node.address for node in world.network.nodes}


def test_ranks_that_straddle_nodes_are_warned_of(world: RayNodes) -> None:
    """Those that sum every layer; stages may be apart."""
    env = {"COHORT_LOGGING_LEVEL": "warning"}
    with world.probe(tp=2, strategy="STRICT_SPREAD", env=env) as probe:
        assert probe.start.get("ready"), probe.start
        assert "ranks 0 to 1, which sum every layer, are on 2 nodes" in probe.said()
    with world.probe(tp=1, pp=2, strategy="STRICT_SPREAD", env=env) as probe:
        assert probe.start.get("ready"), probe.start
        assert "event=straddles" not in probe.said()


def test_wholly_remote_group(world: RayNodes) -> None:
    """Ray does not prefer the driver's node: a group may have nothing there."""
    resource = f"node:{nodes.NETWORK}.3=0.1"
    with world.probe(tp=2, resource=resource) as probe:
        assert probe.start.get("ready"), probe.start
        assert [rank["transport"] for rank in probe.ranks] == ["tcp", "tcp"]
        assert probe.ask("rpc echo 500 100")["replies"] == 2


@contextlib.contextmanager
def somebodys_group(world: RayNodes,  # pylint: disable=redefined-outer-name
                    bundles: list[dict[str, float]], strategy: str = "PACK"
                    ) -> Iterator[tuple[str, list[str]]]:
    """Its id, and the node's of each bundle; nobody else removes it."""
    told = world.ask(
        "import json\nfrom ray.util.placement_group import *\n"
        f"group = placement_group({bundles}, '{strategy}', name='theirs', lifetime='detached')\n"
        "assert group.wait(30)\nat = placement_group_table(group)['bundles_to_node_id']\n"
        "print(json.dumps([group.id.hex(), [at[i] for i in range(len(at))]]))")
    group, of_bundle = json.loads(told)
    known = world.watch().ray
    known.add(f"placement group {group}")
    try:
        yield group, of_bundle
    finally:
        known.discard(f"placement group {group}")
        removed = world.ask("from ray.util import get_placement_group, remove_placement_group\n"
                            "print(remove_placement_group(get_placement_group('theirs')))")
    assert removed.strip() == "None"


def test_driver_node_comes_before_lower_bundles(world: RayNodes) -> None:
    """R16b: of an adopted group with more bundles than ranks the driver's node is taken, however
    late in the group its bundles are."""
    bundles = [{"CPU": 1, f"node:{nodes.NETWORK}.{number}": 0.001} for number in (2, 3, 1, 1)]
    with somebodys_group(world, bundles) as (group, _):
        with world.probe(tp=2, group=group) as probe:
            assert probe.start.get("ready"), probe.start
            assert [rank["transport"] for rank in probe.ranks] == ["shared memory"] * 2
            driver = world.network.nodes[0].address
            assert [rank["address"] for rank in probe.ranks] == [driver] * 2


ACTORS = """import json
print(json.dumps([a["name"] for a in ray.util.list_named_actors(all_namespaces=True)]))"""


def two_apart(world: RayNodes,  # pylint: disable=redefined-outer-name
              first: dict[str, str], second: dict[str, str]) -> list[list[str]]:
    """Started at the same moment, a device for each rank; the nodes' ids that their ranks are on."""
    one, other = replicas.start_two(
        lambda options: world.probe(env=replicas.ENVIRONMENT, resource="GPU", **options), first,
        second)
    with one, other:
        replicas.check_apart(one, other, lambda probe: [*probe.everybody, world.outside_of(probe)],
                             lambda: json.loads(world.ask(ACTORS)))
        assert all(rank["devices"] for probe in (one, other) for rank in probe.ranks)
    for probe in (one, other):
        probe.check_nothing_left(time.monotonic() + LEFT_S)
    return [[rank["node"] for rank in probe.ranks] for probe in (one, other)]


def test_two_engines_over_nodes(world: RayNodes) -> None:
    """Each in a group of its own."""
    spread = {"strategy": "SPREAD"}
    assert [len(set(own)) for own in two_apart(world, spread, spread)] == [2, 2]


def test_two_engines_in_one_group_over_nodes(world: RayNodes) -> None:
    """Each rank is where its bundle is."""
    with somebodys_group(world, [{"CPU": 1, "GPU": 1}] * 4, "SPREAD") as (group, of_bundle):
        assert len(set(of_bundle)) == 3
        shared = {"group": group}
        at = two_apart(world, {**shared, "indices": "2,1"}, {**shared, "indices": "0,3"})
        assert at == [[of_bundle[i] for i in indices] for indices in ((2, 1), (0, 3))]


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
            os.kill(probe.everybody[2], number)
            said = probe.next()
            assert said["rank"] == 2 and probe.ranks[2]["address"] in said["error"]
            if number == signal.SIGSEGV:
                assert "Segmentation fault" in said["error"]
                assert " at +0x" in said["error"]
            probe.end(LEFT_S)


def doctor(world: RayNodes, *options: str,  # pylint: disable=redefined-outer-name
           **env: str) -> tuple[int, str]:
    """Of the cluster, asked on the first node: status and findings."""
    first = world.network.nodes[0]
    done = subprocess.run(
        [*first.enter, str(support.COHORT), "doctor", "ray", "--ray-address", HEAD,
         "--ray-node-address", first.address, *options], env=support.environment(**env),
        capture_output=True, text=True, timeout=support.READY_S, check=False)
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout


def test_doctor_finds_a_cluster_well(world: RayNodes) -> None:
    status, findings = doctor(world)
    assert status == 0 and "FAULT" not in findings, findings
    assert "all 3 nodes reach each other" in findings
    for node in world.network.nodes:
        assert f"node {node.address}: clock" in findings
    assert findings.count("libcohort of build") == 3


def test_doctor_names_what_is_wrong(world: RayNodes, tmp_path: pathlib.Path) -> None:
    """A way between two nodes that is barred, and a node without libcohort."""
    second, third = world.network.nodes[1:]
    second.bar(third.address)
    status, findings = doctor(world)
    second.bar(third.address, False)
    assert status == 1
    assert f"FAULT node {second.address} does not reach {third.address}" in findings
    assert findings.count("FAULT") == findings.count(third.address + " (") + findings.count(
        second.address + " (")
    status, findings = doctor(world, COHORT_LIBRARY=str(tmp_path / "none.so"))
    assert status == 1 and findings.count("cannot be loaded") == 3, findings


def test_doctor_vouches_for_no_silent_node(world: RayNodes, tmp_path: pathlib.Path) -> None:
    """On one node libcohort is a pipe that nobody writes to: its visitor stands still."""
    library, pipe = tmp_path / "libcohort.so", tmp_path / "pipe"
    library.write_bytes((support.BUILD / "libcohort.so").read_bytes())
    os.mkfifo(pipe)
    silent = world.network.nodes[2]
    silent.bind(pipe, library)
    from_s = time.monotonic()
    status, findings = doctor(world, "--timeout", "30", COHORT_LIBRARY=str(library))
    # Its time was three times as much, and for each such.
    support.check_in_time("doctor", time.monotonic() - from_s, 60 * support.PATIENCE)
    assert status == 1 and "reach each other" not in findings
    assert f"FAULT node {silent.address}: no answer" in findings, findings
    assert "FAULT of 6 ways between nodes 4 could not be tried" in findings
    assert findings.count("FAULT") == 2


def test_node_of_another_build_is_named(world: RayNodes, tmp_path: pathlib.Path) -> None:
    """The odd one of three, by the executor and by the doctor; the library's id is changed there
    and nothing else."""
    library = (support.BUILD / "libcohort.so").resolve()
    own = subprocess.run([support.COHORT, "--version"], capture_output=True, text=True, check=True)
    build = own.stdout.split()[-1].strip("()").encode()
    other = tmp_path / "libcohort.so"
    other.write_bytes(library.read_bytes().replace(build, build[::-1]))
    first, second, third = world.network.nodes
    third.bind(other, library)
    try:
        with Probe(inside=first.enter, address=HEAD, node_address=first.address, tp=3,
                   strategy="STRICT_SPREAD") as probe:
            error = probe.start["error"]
            assert f"node {third.address} has libcohort of build" in error
            assert first.address not in error and second.address not in error
        status, findings = doctor(world)
        assert status == 1 and findings.count("FAULT") == 1, findings
        assert f"FAULT node {third.address}: libcohort of build" in findings
    finally:
        third.unbind(library)
    assert doctor(world)[0] == 0


def await_fence(probe: Traced, rank: int, seconds: float) -> None:
    """A rank that Ray cannot end, as its raylet stands still: it ends by itself."""
    support.check_gone(probe.everybody[rank:rank + 1], seconds * support.PATIENCE)


def fail_and_shut_down(probe: Traced, rank: int, from_ns: int, most_s: float) -> dict[str, Any]:
    """The failure of a rank that nobody can reach comes in time, and the executor ends."""
    said = probe.next()
    assert said["did"] == "callback" and said["rank"] == rank, said
    assert probe.ranks[rank]["address"] in said["error"] or "heartbeat" in said["error"], said
    support.check_in_time("callback", (said["at_ns"] - from_ns) / 1e9, most_s * support.PATIENCE)
    assert "error" in probe.ask("shutdown")
    return said


def test_stopped_node_is_lost_and_fences_itself(patient: RayNodes) -> None:
    """R31: a host that stands still is found by heartbeats over its link, in less than twice their
    time; when its rank goes on, its driver is gone for it, and it ends."""
    with patient.probe(tp=3, strategy="STRICT_SPREAD", hang_ms=1000) as probe:
        probe.tell("register")
        with stopped(patient.node_of(probe.ranks[1]).processes("raylet")):
            from_ns = time.monotonic_ns()
            with stopped(probe.everybody[1:2]):
                said = fail_and_shut_down(probe, 1, from_ns, 2)
                assert "heartbeat" in said["error"]
                assert support.is_alive(probe.everybody[1])  # nobody could end it
            await_fence(probe, 1, 4)
        assert probe.ask("destroy") == {"did": "destroy"}
        probe.check_nothing_left(time.monotonic() + LEFT_S)


def test_cut_cable(patient: RayNodes) -> None:
    """A node that is cut off is lost within the heartbeat's time; its rank, which nobody can
    reach, ends by itself once it notices that the driver is silent."""
    with patient.probe(tp=3, strategy="STRICT_SPREAD", hang_ms=1500) as probe:
        probe.tell("register")
        lost = patient.node_of(probe.ranks[2])
        with stopped(lost.processes("raylet")):
            from_ns = time.monotonic_ns()
            lost.cut()
            fail_and_shut_down(probe, 2, from_ns, 3)
            support.check_gone(probe.everybody[:2], LEFT_S)
            assert support.is_alive(probe.everybody[2])
            lost.cut(False)
            await_fence(probe, 2, 30)
        assert probe.ask("destroy") == {"did": "destroy"}
        probe.check_nothing_left(time.monotonic() + LEFT_S)


def in_the_books(world: RayNodes, probe: Traced) -> None:  # pylint: disable=redefined-outer-name
    """Actors and a group of its, which the GCS of the first node has: it lives on, and is asked at
    the end (Watch.ask) whether it has them still."""
    known = world.books() - probe.watch.ray
    assert sorted(name.split()[0] for name in known) == ["actor"] * len(probe.ranks) + ["placement"]


def test_death_of_a_remote_raylet(patient: RayNodes) -> None:
    """Its rank goes with it.  Ray calls the actor unavailable, not dead, and that is a death."""
    with patient.probe(tp=3, strategy="STRICT_SPREAD", env={"COHORT_LOGGING_LEVEL": "info"}) as probe:
        in_the_books(patient, probe)
        probe.tell("register")
        (raylet,) = patient.node_of(probe.ranks[2]).processes("raylet")
        os.kill(raylet, signal.SIGKILL)
        said = probe.next()
        assert said["rank"] == 2 and probe.ranks[2]["address"] in said["error"], said
        until = time.monotonic() + 20 * support.PATIENCE
        while "rank=2 event=actor_ended" not in probe.said() and time.monotonic() < until:
            time.sleep(0.1)
        told = probe.said().partition("rank=2 event=actor_ended")[2].splitlines()[0]
        assert "ActorUnavailableError" in told
        probe.end(LEFT_S)


def test_death_of_a_whole_node() -> None:
    """Every process of a host at once."""
    with made(2, support.QUICK_HEALTH) as world:  # pylint: disable=redefined-outer-name
        with world.probe(tp=2, strategy="STRICT_SPREAD") as probe:
            in_the_books(world, probe)
            probe.tell("register")
            second = world.network.nodes[1]
            for pid in second.pids():
                if pid != second.init:
                    os.kill(pid, signal.SIGKILL)
            said = probe.next()
            assert said["rank"] == 1 and second.address in said["error"]
            probe.end(LEFT_S)


def await_line(process: subprocess.Popen[str], *wanted: str) -> str:
    """A line of its standard error with all of that in it."""
    assert process.stderr
    seen: list[str] = []
    for line in process.stderr:
        seen.append(line)
        if all(words in line for words in wanted):
            return line
    raise AssertionError(f"no {wanted} in {''.join(seen)}")


def test_lost_node_costs_no_byte() -> None:
    """First an actor dies there, which comes back to its bundle; then the raylet with its rank, which
    goes where there is room, as Ray itself does not know of it for a while."""
    tokens = 1900
    with made(3, {}) as world:  # pylint: disable=redefined-outer-name
        first = world.network.nodes[0]
        command = [*first.enter, str(support.COHORT), "generate", str(support.MODEL),
                   "--skip-tokenizer-init", "--prompt-token-ids", "1,5,9,200,17,3", "--max-tokens",
                   str(tokens), "--temperature", "0", "--ignore-eos", "--json", "--verbose", "-tp",
                   "2", "--distributed-executor-backend", "ray", "--ray-address", HEAD,
                   "--ray-node-address", first.address, "--ray-placement-strategy", "STRICT_SPREAD"]
        with subprocess.Popen(command, env=support.environment(), text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) as process:
            row = await_line(process, " ray ", " tcp ").split()
            rank = f"rank={row[0]}"  # Ray may leave the driver's node out
            (second,) = [node for node in world.network.nodes if node.address in row]
            os.kill(second.outside(int(row[3])), signal.SIGKILL)
            await_line(process, "event=recovered", rank)
            (raylet,) = second.processes("raylet")
            others = [pid for pid in second.pids() if pid not in (second.init, raylet)]
            with stopped(others):  # so that the tokens do not come to their end before
                os.kill(raylet, signal.SIGKILL)
                support.check_gone([raylet], LEFT_S)
                for pid in others:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            assert second.address not in await_line(process, "event=moved")
            await_line(process, "event=recovered", rank)
            said, more = process.communicate(timeout=support.READY_S)
    assert process.returncode == 0, more
    found = json.loads(said)["token_ids"]
    assert found == support.generate("--distributed-executor-backend", "mp", "-tp", "2",
                                     tokens=tokens)
