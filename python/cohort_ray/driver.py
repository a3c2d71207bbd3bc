# SPDX-License-Identifier: Apache-2.0
"""python -m cohort_ray.driver: the sidecar of one executor, and its only Ray driver.

Started by src/ray/ray.c with one end of a socketpair as descriptor 3.  It does what
it is told, in order, on one thread; another waits for the actors' ends.  When the
launcher is gone, however that came, everything of ours goes: actors, placement group,
and the cluster where it was started here.
"""
from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import os
import queue
import re
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from cohort_ray.actor import RUNS
from cohort_ray.graph import ACTOR_OPTIONS, ENDED_S, Graph
from cohort_ray.spares import Spares
from cohort_ray.wire import Channel, Message, WireError

CONTROL_FD = 3
POLL_S = 0.2
WATCH_S = 1.0
LEAVE_S = 1.2
LEAVE_CLUSTER_S = 4.0  # and end the cluster, which was started here
REACH_S = 1.0
MOST_REACHING = 32  # nodes, at once
LAST_LINES = 12  # of a rank that died
LAST_LINES_S = 1.0
MOST_CHARACTERS = 200  # what an error of C has room for, beside where it happened
PAGE_CHARACTERS = 4000
COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
RANGE = "ray>=2.51,<2.61"


def page(error: BaseException) -> str:
    """All of it, as one line."""
    lines = [line.strip() for line in COLOUR.sub("", str(error)).splitlines()]
    return f"{type(error).__name__}: {' '.join(filter(None, lines))}"[:PAGE_CHARACTERS]


def describe(error: BaseException) -> str:
    """One short line: Ray's errors are pages.  A traceback's cause stands at its end, the
    node in its head; of what is merely long, head and end say more than the middle."""
    text = COLOUR.sub("", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    short = page(error)
    if len(lines) > 1 and '  File "' in text:
        at = re.search(r"\bip=([0-9a-fA-F.:]+)", lines[0])
        where = f" on {at[1]}" if at else ""
        short = f"{type(error).__name__}{where}: {lines[-1]}"
    cause: BaseException = error
    while cause.__cause__:
        cause = cause.__cause__
    if cause is not error:
        short += f" ({page(cause)})"
    if len(short) <= MOST_CHARACTERS:
        return short
    half = (MOST_CHARACTERS - 5) // 2
    return f"{short[:half]} ... {short[-half:]}"


def write(prefix: str, lines: list[str]) -> None:
    """At once, so that lines of several threads stay whole."""
    text = "".join(f"{prefix}{line}\n" for line in lines)
    with contextlib.suppress(OSError):  # who started the driver may read no more
        os.write(sys.stderr.fileno(), text.encode(errors="replace"))


def running() -> frozenset[str]:
    """Addresses of the clusters that have a process on this host."""
    from ray._private import services

    return frozenset(services.find_gcs_addresses())


def addresses() -> dict[str, str]:
    """Of each node, as the cluster knows it; a process may guess another of its host's."""
    import ray

    return {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}


def is_reachable(node: dict[str, Any] | None) -> bool:
    """Its raylet takes calls.  Ray itself may need a minute to find out that it does not."""
    if node is None:
        return False
    try:
        to = (node["NodeManagerAddress"], node["NodeManagerPort"])
        socket.create_connection(to, timeout=REACH_S).close()
    except OSError:
        return False
    return True


class Rank(NamedTuple):
    """One life of it: an actor."""

    number: int
    life: int
    handle: Any
    ask_again: Callable[[], None] | None = None  # of a spare, which may have died unseen


class Sidecar:
    """The state of one executor's part of a cluster."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.group: Any = None
        self.owns_group = False
        self.owns_cluster = False
        self.actors: dict[int, Any] = {}
        self.lives: dict[int, int] = {}  # a rank may be started again
        self.spares: Spares | None = None
        self.envs: dict[str, Any] = {}  # of the actors of each node
        self.leaving = threading.Event()
        self.watchers: list[threading.Thread] = []
        self.at: dict[str, str] = {}
        self.seats: dict[int, tuple[str, int, str]] = {}  # address, pid, node
        self.tellers: list[threading.Thread] = []
        self.graph: Graph | None = None
        self.has_ended = threading.Event()  # a rank

    # ---- what the launcher asks for -------------------------------------------------

    def open(self, message: Message) -> None:
        """Connects; then makes or adopts the placement group, and waits for it."""
        import ray

        self._connect(message)
        if message.get("log_to_driver"):
            self._take_logs()
        node = ray.get_runtime_context().get_node_id()
        self.channel.send(
            "connected", version=ray.__version__, node=node, address=addresses()[node]
        )
        self._make_group(message)
        self._await_group()

    def doctor(self, message: Message) -> None:
        """Facts about a cluster that runs."""
        import platform

        import ray

        from cohort_ray.doctor import examine

        self._connect(message)
        self.channel.send(
            "examined", version=ray.__version__, python=platform.python_version(),
            executable=sys.executable, **examine(message["library"], message["visit_s"]),
        )

    def _connect(self, message: Message) -> None:
        import ray

        common: dict[str, Any] = {
            "namespace": message["namespace"],
            "log_to_driver": bool(message.get("log_to_driver")),
            "logging_level": "ERROR",
        }
        if message.get("node_address"):
            common["_node_ip_address"] = message["node_address"]
        if message.get("address"):
            ray.init(address=message["address"], **common)
            return
        # "auto" would take any one of several, and start none that is sought in vain.
        found = sorted(running())
        if len(found) > 1:
            raise ConnectionError(
                f"{len(found)} clusters run on this host; name one by --ray-address or "
                f"RAY_ADDRESS: {', '.join(found)}"
            )
        if found:
            ray.init(address=found[0], **common)
            return
        if not message.get("local_cpus"):
            raise ConnectionError(
                "no cluster runs on this host; name one by --ray-address or RAY_ADDRESS"
            )
        # Without an address Ray listens on the default route's, and turns 127.0.0.1
        # into that; 127.0.0.2 is as good a loopback, and stays.
        common.setdefault("_node_ip_address", "127.0.0.2")
        self.owns_cluster = True
        ray.init(
            address="local",
            include_dashboard=False,
            num_cpus=message["local_cpus"],
            object_store_memory=80_000_000,
            _system_config={
                "prestart_worker_first_driver": False,
                "enable_worker_prestart": False,
                "enable_metrics_collection": False,
            },
            **common,
        )

    def _make_group(self, message: Message) -> None:
        import ray
        from ray._raylet import PlacementGroupID
        from ray.util.placement_group import PlacementGroup, placement_group

        if message.get("group_id"):
            group_id = PlacementGroupID(bytes.fromhex(message["group_id"]))
            self.group = PlacementGroup(group_id)
        elif message.get("group_name"):
            self.group = ray.util.get_placement_group(message["group_name"])
        else:
            self.group = placement_group(message["bundles"], strategy=message["strategy"])
            self.owns_group = True

    def _await_group(self) -> None:
        """Tells how it stands until it is there; the launcher decides how long."""
        import ray
        from ray.util.placement_group import placement_group_table

        # Asked, not waited for: in Ray 2.51 a wait of less than a second never ends.
        pause_s, told_s = 0.001, time.monotonic()
        while (table := placement_group_table(self.group)).get("state") != "CREATED":
            if self.leaving.wait(pause_s):
                return
            pause_s = min(2 * pause_s, POLL_S)
            if time.monotonic() - told_s < POLL_S:
                continue
            told_s = time.monotonic()
            self.channel.send(
                "waiting",
                state=table.get("state", "UNKNOWN"),
                scheduling=table.get("stats", {}).get("scheduling_state", ""),
                total=ray.cluster_resources(),
                free=ray.available_resources(),
            )
        nodes = table["bundles_to_node_id"]
        self.at = addresses()
        self.channel.send(
            "placed",
            bundles=[
                {"index": index, "node": nodes[index], "address": self.at.get(nodes[index], "?"),
                 "amounts": amounts}
                for index, amounts in sorted(table["bundles"].items())
            ],
        )

    def look(self, message: Message) -> None:
        """What nodes have of their own of some variables, and which of some paths."""
        import ray
        from ray import cloudpickle
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        from cohort_ray import actor

        cloudpickle.register_pickle_by_value(actor)
        remote = ray.remote(num_cpus=0, max_retries=0)(actor.look)
        asked = [
            remote.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
            ).remote(message["names"], message["paths"])
            for node in message["nodes"]
        ]
        found = ray.get(asked)
        self.channel.send(
            "looked",
            nodes=[{"node": node, **seen} for node, seen in zip(message["nodes"], found)],
        )

    def spawn(self, message: Message) -> None:
        """Light actors, of ranks that are there for the first time or again; each is told as soon
        as it sits."""
        import ray
        from ray import cloudpickle
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        from cohort_ray import actor

        # A node needs libcohort, and not this package too.
        cloudpickle.register_pickle_by_value(actor)
        remote = ray.remote(**ACTOR_OPTIONS if self.graph else {"num_cpus": 0})(actor.Worker)
        self.envs = message["envs"]
        asked: dict[Any, Rank] = {}
        for wanted in message["actors"]:
            if wanted["rank"] in self.actors:  # its share of the bundle is wanted
                self._attempt(functools.partial(ray.kill, self.actors[wanted["rank"]]))
            if wanted["life"] > 1 and self._tell_lost(wanted):
                continue
            ref, rank = self._ask(remote, message, wanted)
            asked[ref] = rank
        self._watch_over(asked, self._seat)
        if self.spares is None:
            self.spares = Spares(message["spares"], lambda node: remote.options(
                num_cpus=0, max_restarts=0, runtime_env=self.envs[node] or None,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
            ).remote(message["library"]))

    def _ask(self, remote: Any, message: Message, wanted: Message) -> tuple[Any, Rank]:
        """Where an actor sits that is a spare, or else comes into being."""
        from ray.util.scheduling_strategies import (
            NodeAffinitySchedulingStrategy,
            PlacementGroupSchedulingStrategy,
        )

        resources = dict(message["resources"])
        strategy: Any = PlacementGroupSchedulingStrategy(
            placement_group=self.group, placement_group_bundle_index=wanted["bundle"])
        if wanted["moved"]:
            strategy = NodeAffinitySchedulingStrategy(wanted["node"], soft=False)
        spare = self.spares.take(wanted["node"]) if self.spares else None
        handle: Any = spare or remote.options(
            name=wanted["name"],
            num_cpus=resources.pop("CPU", 0),
            num_gpus=resources.pop("GPU", 0),
            resources=resources or None,
            max_restarts=0,
            runtime_env=message["envs"][wanted["node"]] or None,
            scheduling_strategy=strategy,
        ).remote(message["library"])

        def ask_again() -> None:
            ref, rank = self._ask(remote, message, wanted)
            self._watch_over({ref: rank}, self._seat)

        rank = Rank(wanted["rank"], wanted["life"], handle, ask_again if spare else None)
        self.actors[rank.number] = handle
        self.lives[rank.number] = rank.life
        return handle.seat.remote(message["key"]), rank

    def _tell_lost(self, wanted: Message) -> bool:
        """A rank that cannot be started again where it was, as the node is lost or Ray has moved
        its bundle: then with what is free elsewhere, among which the launcher chooses."""
        import ray
        from ray.util.placement_group import placement_group_table

        table = placement_group_table(self.group)
        at = table["bundles_to_node_id"].get(wanted["bundle"], "")
        is_placed = table.get("state") == "CREATED" and not wanted["moved"]
        moved_to = at if is_placed and at != wanted["node"] else ""
        nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
        if not moved_to and is_reachable(nodes.get(wanted["node"])):
            return False
        # One that is about to be lost, too, would be told of as lost next.
        with concurrent.futures.ThreadPoolExecutor(MOST_REACHING) as pool:
            reached = dict(zip(nodes, pool.map(is_reachable, nodes.values())))
        free = ray._private.state.available_resources_per_node()
        self.at = addresses()
        self.channel.send(
            "lost", rank=wanted["rank"], life=wanted["life"], moved_to=moved_to,
            bundles=[
                {"index": index, "node": node, "address": self.at.get(node, "?"),
                 "amounts": free.get(node, {})}
                for index, node in enumerate(sorted(node for node in nodes if reached[node]))
            ],
        )
        return True

    def _seat(self, one: Rank, ref: Any) -> None:
        import ray

        rank = one.number
        try:
            seat = ray.get(ref)
        except ray.exceptions.RayError as error:
            if self.lives[rank] != one.life:
                return
            if one.ask_again and not self.leaving.is_set():
                one.ask_again()
            else:
                self.channel.send("failed", rank=rank, text=describe(error))
            return
        address = self.at.get(seat["node"], "?")
        self.seats[rank] = (address, seat["pid"], seat["node"])
        self.channel.send("seated", rank=rank, life=one.life, address=address, **seat)

    def prepare_graph(self, message: Message) -> None:
        """Of the ranks that are spawned from here on."""
        self.graph = Graph(message, self._tell_broken, describe)
        self.channel.send("graph", replies=self.graph.relay.replies)

    def _tell_broken(self, text: str) -> None:
        if not self.leaving.is_set() and not self.has_ended.wait(ENDED_S):
            self.channel.send("broken", text=text)

    def run(self, message: Message) -> None:
        """run() of actors; from here on their ends are watched."""
        refs: dict[Any, Rank] = {}
        for wanted in message["actors"]:
            rank = wanted["rank"]
            handle = self.actors[rank]
            run = handle.run.options(concurrency_group=RUNS) if self.graph else handle.run
            refs[run.remote(wanted["spec"], message["env"])] = Rank(rank, wanted["life"], handle)
        self._watch_over(refs, self._report)
        if self.spares:
            self.spares.fill_soon(node for _, _, node in self.seats.values())
        if self.graph:
            self.graph.start([self.actors[rank] for rank in sorted(self.actors)])

    def kill(self, message: Message) -> None:
        """Ends one actor's process, wherever it is."""
        import ray

        if self.lives[message["rank"]] == message["life"]:
            ray.kill(self.actors[message["rank"]])

    # ---- what is told unasked ---------------------------------------------------------

    def _watch_over(self, refs: dict[Any, Rank], tell: Callable[[Rank, Any], None]) -> None:
        """On a thread of their own, so that there may be more at any time."""
        self.watchers = [watcher for watcher in self.watchers if watcher.is_alive()]
        watcher = threading.Thread(target=self._watch, args=(refs, tell), daemon=True)
        self.watchers.append(watcher)
        watcher.start()

    def _watch(self, refs: dict[Any, Rank], tell: Callable[[Rank, Any], None]) -> None:
        """An error of the watch is told, and does not end it (R19)."""
        told = ""
        while refs and not self.leaving.is_set():
            try:
                self._await_one(refs, tell)
            except Exception as error:  # pylint: disable=broad-except
                text = describe(error)
                if text != told:  # one that stays is tried again, and not told again
                    self.channel.send("trouble", text=text)
                told = text
                time.sleep(POLL_S)

    def _await_one(self, refs: dict[Any, Rank], tell: Callable[[Rank, Any], None]) -> None:
        import ray

        done, _ = ray.wait(list(refs), num_returns=1, timeout=WATCH_S)
        for ref in done:
            tell(refs.pop(ref), ref)

    def _report(self, one: Rank, ref: Any) -> None:
        """The rank has ended, whatever goes wrong with how."""
        import ray

        rank, life = one.number, one.life
        self.has_ended.set()
        try:
            status, text = ray.get(ref)
            self.channel.send("ended", rank=rank, life=life, returned=True, status=int(status),
                              text=str(text))
        except Exception as error:  # pylint: disable=broad-except
            self.channel.send("ended", rank=rank, life=life, returned=False, text=page(error))
            self._tell_last_lines(rank)
        ray.kill(one.handle)

    # ---- what ranks write --------------------------------------------------------------

    def _take_logs(self) -> None:
        """Ray's printer of the lines that its log monitors send gives way to ours."""
        from ray._private.ray_logging import global_worker_stdstream_dispatcher as dispatcher

        dispatcher.remove_handler("ray_print_logs")
        dispatcher.add_handler("cohort", self._show)

    def _show(self, data: dict[str, Any]) -> None:
        for rank, (address, pid, _) in list(self.seats.items()):
            if (data["ip"], str(data["pid"])) == (address, str(pid)):
                write(f"(rank {rank} on {address}) ", data["lines"])

    def _tell_last_lines(self, rank: int) -> None:
        """Of the first of several that end together: it is why the others do."""
        is_told = any(teller.is_alive() for teller in self.tellers)
        if self.leaving.is_set() or is_told or rank not in self.seats:
            return
        teller = threading.Thread(target=self._last_lines, args=(rank,), daemon=True)
        self.tellers.append(teller)
        teller.start()

    def _last_lines(self, rank: int) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        from cohort_ray import actor

        address, pid, node = self.seats[rank]
        if node == ray.get_runtime_context().get_node_id():
            lines = actor.last_lines(pid, LAST_LINES)
        else:
            remote = ray.remote(num_cpus=0, max_retries=0)(actor.last_lines).options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))
            try:
                lines = ray.get(remote.remote(pid, LAST_LINES), timeout=LAST_LINES_S)
            except Exception:  # pylint: disable=broad-except
                return  # the node is gone, too
        if lines:
            write(f"(rank {rank} on {address}) ", [*lines, "ended behind these lines"])
        self.leaving.wait(LAST_LINES_S)

    # ---- the end ----------------------------------------------------------------------

    def leave(self) -> None:
        """Takes away all that is ours; what Ray keeps from us in time, it takes itself: where a
        raylet or the GCS is dead, its calls wait for it in vain."""
        self.leaving.set()
        last = threading.Thread(target=self._leave, daemon=True)
        last.start()
        last.join(LEAVE_CLUSTER_S if self.owns_cluster else LEAVE_S)

    def _leave(self) -> None:
        ray = sys.modules.get("ray")
        if ray is None or not ray.is_initialized():
            return
        spares = self.spares.end() if self.spares else []
        for handle in [*self.actors.values(), *spares]:
            self._attempt(functools.partial(ray.kill, handle))
        if self.owns_group:
            self._attempt(lambda: ray.util.remove_placement_group(self.group))
        for watcher in self.watchers:
            watcher.join(WATCH_S * 2)
        for teller in self.tellers:
            teller.join(LAST_LINES_S)
        self._attempt(ray.shutdown)

    def _attempt(self, act: Callable[[], object]) -> None:
        try:
            act()
        except Exception as error:  # pylint: disable=broad-except
            self.channel.send("trouble", text=describe(error))


def work(sidecar: Sidecar, orders: queue.SimpleQueue[Message]) -> None:
    """Carries out orders one after the other; what fails is told, and the launcher decides."""
    acts = {
        "open": sidecar.open,
        "look": sidecar.look,
        "graph": sidecar.prepare_graph,
        "spawn": sidecar.spawn,
        "run": sidecar.run,
        "kill": sidecar.kill,
        "doctor": sidecar.doctor,
    }
    while True:
        message = orders.get()
        try:
            acts[message["op"]](message)
        except ImportError as error:
            if error.name != "ray":
                sidecar.channel.send("failed", text=describe(error))
                continue
            sidecar.channel.send(
                "failed",
                text=f"Ray is not installed for {sys.executable}; run: "
                f"{sys.executable} -m pip install '{RANGE}'",
            )
        except Exception as error:  # pylint: disable=broad-except
            sidecar.channel.send("failed", text=describe(error))


def main() -> None:
    """Until the launcher says close, or is gone."""
    # The launcher ends us; ^C at its terminal is the launcher's to hear.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What Ray plans to change is ours to know, not our user's.
    warnings.simplefilter("ignore", FutureWarning)
    os.set_inheritable(CONTROL_FD, False)
    channel = Channel(socket.socket(fileno=CONTROL_FD))
    sidecar = Sidecar(channel)
    orders: queue.SimpleQueue[Message] = queue.SimpleQueue()
    threading.Thread(target=work, args=(sidecar, orders), daemon=True).start()
    try:
        while (message := channel.receive()) is not None and message["op"] != "close":
            orders.put(message)
    except WireError as error:
        channel.send("failed", text=describe(error))
    sidecar.leave()
    # Ray's own threads and exit handlers may wait for a cluster that is gone.
    os._exit(0)


if __name__ == "__main__":
    main()
