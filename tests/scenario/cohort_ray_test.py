#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What python/cohort_ray does with Ray, seen from a Ray that notes what it is asked.  (With a real one:
tests/ray.)"""
import contextlib
import importlib
import io
import json
import os
import pathlib
import queue
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import types
import unittest
from unittest import mock

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "python"))
PATIENCE_S = 60
DEAD_S = 0.05  # in place of the seconds that a dead cluster is given


class Handle:
    """An actor."""

    def __init__(self, name):
        self.name = name
        self.seat = types.SimpleNamespace(remote=lambda key: f"seat {name}")
        self.run = types.SimpleNamespace(remote=lambda spec, env: f"run {name}")


class Ray:
    """The few calls of Ray that the adapter makes, and what was asked."""

    def __init__(self):
        self.asked = []
        self.results = {}  # of a ref: a value, or an exception that get raises
        self.state = ["CREATED"]  # of the group, one for each look
        self.clusters = []
        self.hangs = threading.Event()
        self.kills_hang = False
        self.options = []

    def note(self, *what):
        self.asked.append(what)

    def asked_for(self, name):
        return [what[1:] for what in self.asked if what[0] == name]

    def kill(self, handle):
        self.note("kill", handle.name)
        if self.kills_hang:
            self.hangs.wait(PATIENCE_S)
        if handle.name == "unkillable":
            raise RuntimeError("no such actor")

    def get(self, ref):
        result = self.results[ref]
        if isinstance(result, BaseException):
            raise result
        return result

    def wait(self, refs, num_returns, timeout):
        done = [ref for ref in refs if ref in self.results][:num_returns]
        return done, [ref for ref in refs if ref not in done]

    def table(self, group):
        state = self.state.pop(0) if len(self.state) > 1 else self.state[0]
        return {"state": state, "bundles_to_node_id": {0: "n0", 1: "n1"}, "bundles": {1: {"CPU": 2}, 0: {"CPU": 1}},
                "stats": {"scheduling_state": "PENDING"}}

    def remote_class(self, **options):
        self.options.append(options)
        return types.SimpleNamespace(remote=lambda library: Handle(options.get("name")))

    def modules(self):
        """Of sys.modules."""
        of = {name: types.ModuleType(name) for name in (
            "ray", "ray._private", "ray._private.services", "ray._raylet", "ray.util", "ray.exceptions",
            "ray.util.placement_group", "ray.util.scheduling_strategies", "ray.cloudpickle")}
        ray, util = of["ray"], of["ray.util"]
        nodes = [{"NodeID": f"n{i}", "NodeManagerAddress": f"10.0.0.{i + 1}", "NodeManagerPort": 7, "Alive": True}
                 for i in range(2)]
        for name, value in {
                "__version__": "2.99", "kill": self.kill, "get": self.get, "wait": self.wait, "util": util,
                "is_initialized": lambda: True, "nodes": lambda: nodes, "shutdown": lambda: self.note("shutdown"),
                "init": lambda **words: self.note("init", words), "exceptions": of["ray.exceptions"],
                "cluster_resources": dict, "available_resources": dict, "cloudpickle": of["ray.cloudpickle"],
                "remote": lambda **_: lambda cls: types.SimpleNamespace(options=self.remote_class),
                "get_runtime_context": lambda: types.SimpleNamespace(get_node_id=lambda: "n1", gcs_address="10.0.0.1:6379"),
        }.items():
            setattr(ray, name, value)
        of["ray.exceptions"].RayError = type("RayError", (Exception,), {})
        of["ray.cloudpickle"].register_pickle_by_value = lambda module: None
        of["ray._private.services"].find_gcs_addresses = lambda: set(self.clusters)
        ray._private = of["ray._private"]  # pylint: disable=protected-access
        of["ray._private"].state = types.SimpleNamespace(
            available_resources_per_node=lambda: {"n0": {"CPU": 4}})
        of["ray._private"].services = of["ray._private.services"]
        of["ray._raylet"].PlacementGroupID = lambda raw: ("id", raw.hex())
        groups = of["ray.util.placement_group"]
        groups.PlacementGroup = lambda group_id: ("given", group_id)
        groups.placement_group = lambda bundles, strategy: ("made", tuple(map(str, bundles)), strategy)
        groups.placement_group_table = self.table
        util.get_placement_group = lambda name: ("named", name)
        util.remove_placement_group = lambda group: self.note("remove", group)
        of["ray.util.scheduling_strategies"].PlacementGroupSchedulingStrategy = lambda **words: words
        of["ray.util.scheduling_strategies"].NodeAffinitySchedulingStrategy = lambda *words, **named: (words, named)
        return of


class Told:
    """A channel that keeps what is sent."""

    def __init__(self):
        self.messages = []

    def send(self, op, **fields):
        self.messages.append((op, fields))

    def of(self, op):
        return [fields for name, fields in self.messages if name == op]


class WithRay(unittest.TestCase):
    def setUp(self):
        self.ray = Ray()
        patch = mock.patch.dict(sys.modules, self.ray.modules())
        patch.start()
        self.addCleanup(patch.stop)
        self.addCleanup(self.ray.hangs.set)
        self.driver = importlib.import_module("cohort_ray.driver")
        self.told = Told()
        self.sidecar = self.driver.Sidecar(self.told)
        self.addCleanup(self.end_watchers)  # or they would ask the next test's Ray

    def end_watchers(self):
        self.sidecar.leaving.set()
        self.ray.hangs.set()
        self.join_watchers()

    def open(self, **fields):
        self.sidecar.open({"namespace": "ns", "address": "10.0.0.1:6379", "bundles": [{"CPU": 1}], "strategy": "PACK",
                           **fields})

    def spawn(self, ranks, names=None, life=1, moved=False, spares=0, resources=None):
        names = names or [f"rank{rank}" for rank in ranks]
        for name in names:
            self.ray.results.setdefault(f"seat {name}", {"node": "n0", "pid": 1})
        self.sidecar.spawn({"resources": resources or {"CPU": 1, "TPU": 2}, "envs": {"n0": {"env_vars": {"A": "b"}}, "n1": {}}, "library": "l",
                            "key": "k", "spares": spares, "actors": [{"rank": rank, "life": life, "name": name, "moved": moved, "node": f"n{rank % 2}",
                                                    "bundle": rank}
                                                   for rank, name in zip(ranks, names)]})

    # ---- clusters and groups

    def test_the_cluster_that_is_named_is_joined_and_not_ended(self):
        self.open(node_address="10.0.0.9")
        self.assertEqual(self.ray.asked_for("init"), [({"address": "10.0.0.1:6379", "namespace": "ns",
                                                        "log_to_driver": False, "logging_level": "ERROR",
                                                        "_node_ip_address": "10.0.0.9"},)])
        self.assertFalse(self.sidecar.owns_cluster)
        self.assertEqual(self.told.of("connected"), [{"version": "2.99", "node": "n1", "address": "10.0.0.2"}])

    def test_one_cluster_is_found_several_are_refused_and_none_is_started(self):
        self.ray.clusters = ["b:1"]
        self.open(address="", local_cpus=4)
        self.assertEqual(self.ray.asked_for("init")[0][0]["address"], "b:1")
        self.assertFalse(self.sidecar.owns_cluster)
        self.ray.clusters = ["b:1", "a:1"]
        with self.assertRaisesRegex(ConnectionError, "2 clusters run on this host.*: a:1, b:1"):
            self.open(address="", local_cpus=4)
        self.ray.clusters = []
        with self.assertRaisesRegex(ConnectionError, "no cluster runs on this host"):
            self.open(address="", local_cpus=0)
        self.assertFalse(self.sidecar.owns_cluster)
        self.open(address="", local_cpus=4)
        self.assertTrue(self.sidecar.owns_cluster)
        words = self.ray.asked_for("init")[-1][0]
        self.assertEqual((words["address"], words["num_cpus"], words["_node_ip_address"]), ("local", 4, "127.0.0.2"))

    def test_only_the_group_that_was_made_here_is_removed(self):
        for fields, group, is_ours in (({"group_id": "0a0b"}, ("given", ("id", "0a0b")), False),
                                       ({"group_name": "mine"}, ("named", "mine"), False),
                                       ({}, ("made", ("{'CPU': 1}",), "PACK"), True)):
            self.sidecar = self.driver.Sidecar(self.told)
            self.ray.asked.clear()
            self.open(**fields)
            self.assertEqual(self.sidecar.group, group)
            self.sidecar.leave()
            self.assertEqual(self.ray.asked_for("remove"), [(group,)] if is_ours else [])
            self.assertEqual(len(self.ray.asked_for("shutdown")), 1)

    def test_a_group_is_waited_for_and_its_bundles_come_in_order(self):
        self.ray.state = ["PENDING", "PENDING", "CREATED"]
        self.open()
        self.assertEqual(self.told.of("placed"), [{"bundles": [
            {"index": 0, "node": "n0", "address": "10.0.0.1", "amounts": {"CPU": 1}},
            {"index": 1, "node": "n1", "address": "10.0.0.2", "amounts": {"CPU": 2}}]}])

    def test_who_leaves_waits_for_no_group(self):
        self.ray.state = ["PENDING"]
        self.sidecar.leaving.set()
        self.open()
        self.assertEqual(self.told.of("placed"), [])

    # ---- actors

    def test_actors_get_what_their_rank_was_given(self):
        self.spawn([0, 1])
        self.assertEqual([(o["name"], o["num_cpus"], o["num_gpus"], o["resources"], o["max_restarts"],
                           o["runtime_env"], o["scheduling_strategy"]["placement_group_bundle_index"])
                          for o in self.ray.options],
                         [("rank0", 1, 0, {"TPU": 2}, 0, {"env_vars": {"A": "b"}}, 0),
                          ("rank1", 1, 0, {"TPU": 2}, 0, None, 1)])
        self.assertEqual([(seat["rank"], seat["life"]) for seat in self.await_told("seated", 2)], [(0, 1), (1, 1)])

    def test_an_actor_takes_nothing_that_its_rank_does_not_ask_for(self):
        self.spawn([0], resources={"TPU": 2})
        self.assertEqual([(o["num_cpus"], o["num_gpus"], o["resources"]) for o in self.ray.options], [(0, 0, {"TPU": 2})])

    def test_a_seat_that_fails_is_told_with_its_rank(self):
        self.ray.results["seat rank1"] = sys.modules["ray"].exceptions.RayError("no room")
        self.spawn([0, 1])
        self.assertEqual([(one["rank"], one["text"]) for one in self.await_told("failed", 1)], [(1, "RayError: no room")])
        self.assertEqual([seat["rank"] for seat in self.await_told("seated", 1)], [0])

    def test_a_rank_that_is_started_again_is_another_actor(self):
        self.start([0, 1], {1: ValueError("died")})
        self.await_told("ended", 1)
        with mock.patch.object(self.driver, "is_reachable", return_value=True):
            self.spawn([1], ["again"], life=2)
        self.assertIn(("rank1",), self.ray.asked_for("kill"))  # whose share of the bundle it needs
        self.assertEqual([seat["life"] for seat in self.await_told("seated", 3) if seat["rank"] == 1], [1, 2])
        self.sidecar.run({"actors": [{"rank": 1, "life": 2, "spec": "s"}], "env": {}})
        self.sidecar.kill({"rank": 1, "life": 1})  # which is dead
        self.assertNotIn(("again",), self.ray.asked_for("kill"))
        self.ray.results["run again"] = (0, "")
        self.assertEqual([(one["rank"], one["life"]) for one in self.await_told("ended", 2)], [(1, 1), (1, 2)])

    def test_a_rank_whose_node_is_lost_or_bundle_moved_is_not_started_there(self):
        rooms = [{"index": 0, "node": "n0", "address": "10.0.0.1", "amounts": {"CPU": 4}},
                 {"index": 1, "node": "n1", "address": "10.0.0.2", "amounts": {}}]
        answers = lambda node: node["NodeManagerAddress"] == "10.0.0.1"
        with mock.patch.object(self.driver, "is_reachable", side_effect=answers):
            self.spawn([1], life=2)
        self.assertEqual(self.told.of("lost"), [{"rank": 1, "life": 2, "moved_to": "", "bundles": rooms[:1]}])
        with mock.patch.object(self.driver, "is_reachable", return_value=True):
            moved = {"state": "CREATED", "bundles_to_node_id": {1: "n0"}}
            with mock.patch.object(sys.modules["ray.util.placement_group"], "placement_group_table", return_value=moved):
                self.spawn([1], life=3)
            self.assertEqual(self.told.of("lost")[1], {"rank": 1, "life": 3, "moved_to": "n0", "bundles": rooms})
            self.assertEqual(self.ray.options, [])
            self.spawn([1], life=4, moved=True)  # there, beside the group
        self.assertEqual(self.ray.options[0]["scheduling_strategy"], (("n1",), {"soft": False}))

    def test_a_spare_of_its_node_takes_a_dead_ranks_place(self):
        spares = importlib.import_module("cohort_ray.spares")
        self.ray.results["seat None"] = {"node": "n0", "pid": 9}
        with mock.patch.object(spares, "SETTLE_S", 0), mock.patch.object(self.driver, "is_reachable", return_value=True):
            self.spawn([0], spares=1)
            self.await_told("seated", 1)
            self.assertEqual([options.get("name") for options in self.ray.options], ["rank0"])
            self.sidecar.run({"actors": [{"rank": 0, "life": 1, "spec": "s"}], "env": {}})
            self.await_options(2)
            self.assertEqual((self.ray.options[1]["num_cpus"], self.ray.options[1]["runtime_env"],
                              self.ray.options[1]["scheduling_strategy"]),
                             (0, {"env_vars": {"A": "b"}}, (("n0",), {"soft": False})))
            self.spawn([0], ["again"], life=2)
            self.assertEqual(self.await_told("seated", 2)[1]["pid"], 9)
            self.assertEqual(len(self.ray.options), 2)
            self.sidecar.run({"actors": [{"rank": 0, "life": 2, "spec": "s"}], "env": {}})
            self.await_options(3)  # another waits in its place, and goes with the rest
            self.ray.asked.clear()
            self.sidecar.leave()
            self.assertEqual(self.ray.asked_for("kill"), [(None,), (None,)])
            self.assertIsNone(self.sidecar.spares.take("n1"))

    def await_options(self, count):
        until = time.monotonic() + PATIENCE_S
        while len(self.ray.options) < count and time.monotonic() < until:
            time.sleep(0.001)  # a timer's thread makes them
        self.assertEqual(len(self.ray.options), count)

    def test_a_node_that_takes_no_calls_is_lost(self):
        self.assertFalse(self.driver.is_reachable(None))
        with socket.create_server(("127.0.0.1", 0)) as taken:
            node = {"NodeManagerAddress": "127.0.0.1", "NodeManagerPort": taken.getsockname()[1]}
            self.assertTrue(self.driver.is_reachable(node))
        self.assertFalse(self.driver.is_reachable(node))

    def start(self, ranks, results):
        self.spawn(ranks)
        for rank, result in results.items():
            self.ray.results[f"run rank{rank}"] = result
        self.sidecar.run({"actors": [{"rank": rank, "life": 1, "spec": "s"} for rank in ranks], "env": {}})

    def join_watchers(self):
        for watcher in self.sidecar.watchers:
            watcher.join(PATIENCE_S)
            self.assertFalse(watcher.is_alive())

    def await_told(self, op, count):
        until = time.monotonic() + PATIENCE_S
        while len(self.told.of(op)) < count and time.monotonic() < until:
            time.sleep(0.001)  # another thread tells; there is nothing to wait on in a list
        return sorted(self.told.of(op), key=lambda fields: fields.get("rank", -1))

    def test_every_end_is_told_once_and_its_actor_killed_once(self):
        self.start([0, 1, 2], {0: (0, ""), 1: (3, "why"), 2: ValueError("died")})
        self.assertEqual(self.await_told("ended", 3), [
            {"rank": 0, "life": 1, "returned": True, "status": 0, "text": ""},
            {"rank": 1, "life": 1, "returned": True, "status": 3, "text": "why"},
            {"rank": 2, "life": 1, "returned": False, "text": "ValueError: died"}])
        self.join_watchers()  # all have ended
        self.assertEqual(sorted(self.ray.asked_for("kill")), [("rank0",), ("rank1",), ("rank2",)])

    def test_kill_ends_that_rank_alone(self):
        self.start([0, 1], {})
        self.sidecar.kill({"rank": 1, "life": 1})
        self.assertEqual(self.ray.asked_for("kill"), [("rank1",)])
        self.sidecar.leaving.set()

    def test_trouble_with_the_watch_is_told_once_and_does_not_end_it(self):
        self.start([0], {})
        calls = []

        def wait(*_, **__):
            calls.append(1)
            if len(calls) < 4:
                raise OSError("no raylet")
            return [], []
        with mock.patch.object(self.driver, "POLL_S", 0.001), mock.patch.object(sys.modules["ray"], "wait", wait):
            until = time.monotonic() + PATIENCE_S
            while len(calls) < 5 and time.monotonic() < until:
                time.sleep(0.001)
            self.sidecar.leaving.set()
            self.join_watchers()
        self.assertEqual(self.told.of("trouble"), [{"text": "OSError: no raylet"}])

    # ---- the end

    def test_leaving_takes_all_away_whatever_fails(self):
        self.open()
        self.spawn([0, 1, 2], ["unkillable", "b", "c"])
        self.sidecar.leave()
        self.assertEqual(self.ray.asked_for("kill"), [("unkillable",), ("b",), ("c",)])
        self.assertEqual((len(self.ray.asked_for("remove")), len(self.ray.asked_for("shutdown"))), (1, 1))
        self.assertEqual(self.told.of("trouble"), [{"text": "RuntimeError: no such actor"}])
        self.assertTrue(self.sidecar.leaving.is_set())

    def test_a_dead_cluster_keeps_nobody(self):
        for owns, limits in ((False, ("LEAVE_S", "LEAVE_CLUSTER_S")), (True, ("LEAVE_CLUSTER_S", "LEAVE_S"))):
            self.ray.kills_hang = False
            self.sidecar = self.driver.Sidecar(self.told)
            self.spawn([0])
            self.sidecar.owns_cluster = owns
            self.ray.kills_hang = True
            with mock.patch.object(self.driver, limits[0], DEAD_S), \
                    mock.patch.object(self.driver, limits[1], PATIENCE_S):
                begun = time.monotonic()
                self.sidecar.leave()
                self.assertLess(time.monotonic() - begun, PATIENCE_S / 2)
        self.assertEqual((self.driver.LEAVE_S, self.driver.LEAVE_CLUSTER_S), (1.2, 4.0))

    # ---- orders

    def work(self, *messages):
        orders = queue.SimpleQueue()
        for message in messages:
            orders.put(message)
        threading.Thread(target=self.driver.work, args=(self.sidecar, orders), daemon=True).start()
        return self.await_told("failed", len(messages))

    def test_orders_that_fail_are_told_and_the_next_is_taken(self):
        told = self.work({"op": "dance"}, {"op": "kill", "rank": 7})
        self.assertEqual([fields["text"] for fields in told], ["KeyError: 'dance'", "KeyError: 7"])

    def test_a_python_without_ray_is_told_how_to_get_it(self):
        error = ImportError("No module named 'ray'", name="ray")
        with mock.patch.object(self.sidecar, "open", side_effect=error):
            self.assertIn(f"Ray is not installed for {sys.executable}; run: {sys.executable} -m pip install",
                          self.work({"op": "open"})[0]["text"])
        other = ImportError("No module named 'numpy'", name="numpy")
        self.told.messages.clear()
        with mock.patch.object(self.sidecar, "open", side_effect=other):
            self.assertEqual(self.work({"op": "open"})[0]["text"], "ImportError: No module named 'numpy'")

    def test_pages_of_errors_become_a_line(self):
        describe = self.driver.describe
        self.assertEqual(describe(ValueError("a\n\n \x1b[31mb\x1b[0m")), "ValueError: a b")
        self.assertEqual(describe(ValueError('head (ip=10.0.0.7)\n  File "x.py"\nlast words')),
                         "ValueError on 10.0.0.7: last words")
        long = describe(ValueError("x" * 150 + "y" * 150))
        self.assertEqual((len(long), long[97:102], long[-3:]), (199, " ... ", "yyy"))
        self.assertEqual(len(describe(ValueError("x" * (200 - len("ValueError: "))))), 200)
        try:
            raise OSError("outer") from KeyError("inner")
        except OSError as error:
            self.assertEqual(describe(error), "OSError: outer (KeyError: 'inner')")


class Process(unittest.TestCase):
    """The sidecar as a process, told to come and go."""

    def begin(self):
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        # No Ray is found, whatever is installed: nothing but the protocol is at issue.
        (pathlib.Path(home.name) / "ray.py").write_text("raise ImportError('none', name='ray')\n")
        script = ("import os, runpy, sys; os.dup2(int(sys.argv[1]), 3); sys.argv[1:] = []; "
                  "runpy.run_module('cohort_ray.driver', run_name='__main__')")
        process = subprocess.Popen([sys.executable, "-c", script, str(theirs.fileno())], pass_fds=[theirs.fileno()],
                                   env=os.environ | {"PYTHONPATH": f"{home.name}:{SOURCE / 'python'}"})
        theirs.close()
        self.addCleanup(process.wait)
        self.addCleanup(lambda: process.poll() is None and process.kill())
        ours.settimeout(PATIENCE_S)
        return ours, process

    def send(self, ours, **message):
        body = json.dumps(message).encode()
        ours.sendall(struct.pack("<I", len(body)) + body)

    def hear(self, ours):
        size = struct.unpack("<I", ours.recv(4, socket.MSG_WAITALL))[0]
        return json.loads(ours.recv(size, socket.MSG_WAITALL))

    def test_interrupts_are_the_launchers_and_descriptor_3_is_inherited_by_nobody(self):
        ours, process = self.begin()
        self.send(ours, op="open", namespace="n", address="a:1")
        self.assertIn("Ray is not installed", self.hear(ours)["text"])
        flags = pathlib.Path(f"/proc/{process.pid}/fdinfo/3").read_text().split("flags:")[1].split()[0]
        self.assertTrue(int(flags, 8) & os.O_CLOEXEC)
        process.send_signal(signal.SIGINT)
        self.send(ours, op="dance")  # answered after the signal has come
        self.assertIn("dance", self.hear(ours)["text"])
        self.send(ours, op="close")
        self.assertEqual(process.wait(PATIENCE_S), 0)

    def test_it_goes_when_the_launcher_does(self):
        ours, process = self.begin()
        ours.close()
        self.assertEqual(process.wait(PATIENCE_S), 0)

    def test_nonsense_is_told_and_is_the_end(self):
        ours, process = self.begin()
        ours.sendall(struct.pack("<I", 2) + b"[]")
        self.assertEqual(self.hear(ours)["event"], "failed")
        self.assertEqual(process.wait(PATIENCE_S), 0)


FAKE_COMMAND = """#!{python}
import http.server, json, os, signal, socketserver, sys, threading
words = sys.argv[1:]
path = words[words.index("--uds") + 1]
if "--fails" in words:
    sys.stderr.write("loading\\ncohort: no such model\\n")
    sys.exit(2)
class Answer(http.server.BaseHTTPRequestHandler):
    def address_string(self): return "-"
    def log_message(self, *_): pass
    def do(self, data):
        body = json.dumps(data).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        facts = {{"words": words, "env": dict(os.environ), "sid": os.getsid(0), "pid": os.getpid(),
                 "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd"))}}
        self.do({{"data": [{{"id": json.dumps(facts)}}]}})
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        n = asked.get("n") or 1
        choices = [{{"index": i, "text": str(i), "token_ids": [i], "finish_reason": "stop", "stop_reason": None}}
                   for i in range(len(asked["prompt"]) * n)]
        self.do({{"choices": choices[::-1]}})
server = socketserver.ThreadingUnixStreamServer(path, Answer)
threading.Thread(target=server.serve_forever, daemon=True).start()
if "--lingers" in words:
    signal.pause()
sys.stdin.read()
os.unlink(path)
"""


class Llm(unittest.TestCase):
    """LLM over a command that tells what it was given."""

    def setUp(self):
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        command = pathlib.Path(home.name) / "cohort"
        command.write_text(FAKE_COMMAND.format(python=sys.executable))
        command.chmod(0o755)
        off = Ray().modules()
        off["ray"].is_initialized = lambda: False
        for patch in (mock.patch.dict(sys.modules, off), mock.patch.object(tempfile, "tempdir", home.name),
                      mock.patch.dict(os.environ, {"COHORT_COMMAND": str(command), "RAY_JOB_ID": "1",
                                                   "OMP_NUM_THREADS": "1", "KEPT": "yes"})):
            patch.start()
            self.addCleanup(patch.stop)
        self.llm = importlib.import_module("cohort_ray.llm")
        self.home = pathlib.Path(home.name)

    def sockets(self):
        return [path.name for path in self.home.iterdir() if path.name.startswith("cohort-llm-")]

    def test_the_command_is_alone_with_its_words(self):
        inherited = os.dup2(0, 200)
        self.addCleanup(os.close, inherited)
        with self.llm.LLM("m", dtype="bfloat16", enable_x=True, y=False, z=None, served_model_name=["a", "b"]) as llm:
            facts = json.loads(llm._name)  # pylint: disable=protected-access
        self.assertNotIn(inherited, facts["fds"])
        self.assertEqual(facts["words"][:2], ["serve", "m"])
        self.assertEqual(facts["words"][4:], ["--stop-with-stdin", "--disable-uvicorn-access-log", "--dtype", "bfloat16",
                                              "--enable-x", "--no-y", "--served-model-name", "a", "b"])
        self.assertEqual(facts["sid"], facts["pid"])  # ^C at the program's terminal is the program's
        self.assertEqual([name for name in self.llm.OF_A_WORKER if name in facts["env"]], [])
        self.assertEqual((facts["env"]["KEPT"], facts["env"]["COHORT_PYTHON"]), ("yes", sys.executable))
        self.assertEqual(self.sockets(), [])

    def test_answers_belong_to_their_prompts(self):
        with self.llm.LLM("m") as llm:
            outputs = llm.generate(["a", "b"], n=2)
            self.assertEqual([(one.prompt, [(c.index, c.text) for c in one.outputs]) for one in outputs],
                             [("a", [(0, "0"), (1, "1")]), ("b", [(0, "2"), (1, "3")])])
            self.assertEqual(llm.generate("a")[0].prompt, "a")
            self.assertEqual(llm.generate([]), [])

    def test_shutdown_may_come_again_from_any_thread(self):
        llm = self.llm.LLM("m")
        threads = [threading.Thread(target=llm.shutdown) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        llm.shutdown()
        self.assertEqual(llm._process.returncode, 0)  # pylint: disable=protected-access

    def test_who_does_not_go_is_killed_and_leaves_nothing(self):
        with mock.patch.object(self.llm, "LEAVE_S", DEAD_S):
            llm = self.llm.LLM("m", lingers=True)
            self.assertEqual(len(self.sockets()), 1)
            llm.shutdown()
        self.assertEqual(llm._process.returncode, -signal.SIGKILL)  # pylint: disable=protected-access
        self.assertEqual(self.sockets(), [])

    def test_a_start_that_fails_says_the_commands_words(self):
        with contextlib.redirect_stderr(io.StringIO()):
            with self.assertRaisesRegex(self.llm.CohortError, "^cohort: no such model$"):
                self.llm.LLM("m", fails=True)

    def test_what_an_actor_holds_of_its_group_is_told_by_bundle(self):
        owned = {"CPU_group_1_0a": [(0, 0.5), (1, 0.5)], "CPU_group_0a": [(0, 1)], "GPU_group_0_0b": [(0, 1)],
                 "odd,name_group_0_0a": [(0, 1)], "x" * 64 + "_group_0_0a": [(0, 1)], "y" * 63 + "_group_0_0a": [(0, 2)]}
        core = types.SimpleNamespace(resource_ids=lambda: owned)
        sys.modules["ray"]._private.worker = types.SimpleNamespace(  # pylint: disable=protected-access
            global_worker=types.SimpleNamespace(core_worker=core))
        self.assertEqual(self.llm._held("0a"), f"CPU/1=1.0,{'y' * 63}/0=2")  # pylint: disable=protected-access


if __name__ == "__main__":
    unittest.main()
