#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Cohort on Ray beside Ray itself and beside processes of this host, in turns.

  start      from exec to ready, attached to a running cluster: ours, and a bare Python script that
             imports ray, connects, makes the same group and the same actors and calls each once
  rpc        echo 1 KB to two workers and back: ours on Ray, ours with mp, calls of two Ray actors,
             and a compiled graph over two actors, which spin while they are idle and are torn down
             after their block
  step       a token of MODEL_DIR on two ranks, on Ray and with mp, and one of a model so small that
             nothing but the control plane is seen: there, on fewer processors than processes, it
             matters that sched_yield gives way within a session only (sched_autogroup_enabled),
             and Ray's actors are in another one
  death      from SIGKILL of a worker to the failure of the call under way
  idle       of a core, what an idle rank takes beyond an idle actor of Ray's

usage: ray_bench.py BUILD_DIR MODEL_DIR [ROUNDS]   (with the Python of scripts/test_venv.sh ray)
"""
from __future__ import annotations

import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
if len(sys.argv) < 3:
    sys.exit(__doc__)
os.environ["COHORT_BUILD_DIR"] = str(pathlib.Path(sys.argv[1]).resolve())
MODEL = pathlib.Path(sys.argv[2])
# Neither side shall need a runtime_env, which costs a start as much again.
for name in [n for n in os.environ if n.startswith(("OPENBLAS_", "OMP_", "MALLOC_", "LD_"))]:
    del os.environ[name]
sys.path.insert(0, str(ROOT / "tests/ray"))
import goal  # noqa: E402
import support  # noqa: E402  before ray, which reads the environment when it is imported

BARE = """
import ray, sys
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
group = placement_group([{"CPU": 1}] * 2, strategy="PACK")
assert group.wait(30)
@ray.remote(num_cpus=1)
class Actor:
    def seat(self):
        return ray.get_runtime_context().get_node_id()
actors = [Actor.options(scheduling_strategy=PlacementGroupSchedulingStrategy(
    placement_group=group, placement_group_bundle_index=i)).remote() for i in range(2)]
ray.get([actor.seat.remote() for actor in actors])
print("ready", flush=True)
sys.stdin.readline()
"""

RAY_CALLS = """
import ray, sys, time
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
@ray.remote(num_cpus=1)
class Actor:
    def echo(self, data):
        return data
actors = [Actor.remote() for _ in range(2)]
data = bytes(1024)
ray.get([actor.echo.remote(data) for actor in actors])
def measure(call, n):
    times = []
    for _ in range(n):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return sorted(times)[n // 2] * 1e6
print("calls", measure(lambda: ray.get([a.echo.remote(data) for a in actors]), 500), flush=True)
from ray.dag import InputNode, MultiOutputNode
with InputNode() as node:
    dag = MultiOutputNode([actor.echo.bind(node) for actor in actors])
graph = dag.experimental_compile()
for _ in range(50):
    ray.get(graph.execute(data))
print("graph", measure(lambda: ray.get(graph.execute(data)), 2000), flush=True)
graph.teardown()
"""

IDLE_S = 10
HANG_MS = 2000  # heartbeats come several times within it


def bare_start_ms(address: str) -> float:
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", BARE, address], env=support.environment(),
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdin
        assert process.stdout.readline() == b"ready\n"
        spent = (time.perf_counter() - start) * 1e3
        process.stdin.close()
    return spent


def our_start_ms(address: str) -> float:
    start = time.perf_counter()
    with support.Probe(address=address) as probe:
        assert probe.start.get("ready"), probe.start
        return (time.perf_counter() - start) * 1e3


def our_rpc_us(**options: str) -> float:
    with support.Probe(**options) as probe:
        probe.ask("rpc echo 1024 500")
        return float(probe.ask("rpc echo 1024 5000")["p50_us"])


def ray_rpc_us(address: str) -> tuple[float, float]:
    done = subprocess.run([sys.executable, "-c", RAY_CALLS, address], env=support.environment(),
                          capture_output=True, text=True, check=True, timeout=120)
    values = dict(line.split() for line in done.stdout.splitlines() if line.count(" ") == 1)
    return float(values["calls"]), float(values["graph"])


def step_us(model: pathlib.Path, *options: str) -> float:
    """Of a token, from the median latency of 128 of them."""
    done = subprocess.run(
        [str(support.COHORT), "bench", "latency", str(model), "-tp", "2", "--input-len", "8",
         "--output-len", "64", "--batch-size", "1", "--num-iters", "5", "--num-iters-warmup", "1",
         "--skip-tokenizer-init", *options], env=support.environment(), capture_output=True, text=True, check=True,
        timeout=120)
    found = re.search(r"(?:p50|50% percentile|median)\D*([\d.]+)\s*(ms|s|seconds)", done.stdout)
    assert found, done.stdout
    return float(found.group(1)) * (1e6 if found.group(2)[0] == "s" else 1e3) / 64


def death_ms(address: str) -> float:
    with support.Probe(address=address) as probe:
        probe.tell("rpc echo 1024 1000000")
        time.sleep(0.2)
        start = time.perf_counter()
        os.kill(probe.pids[1], signal.SIGKILL)
        said = probe.next()
        assert said["rank"] == 1 and "cohort_Worker_" in said["error"], said
        return (time.perf_counter() - start) * 1e3


def busy_ns(pid: int) -> int:
    return sum(int(path.read_text(encoding="utf-8").split()[0])
               for path in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"))


def share(pids: list[int]) -> float:
    """Of a core, each, in percent."""
    before, start = sum(map(busy_ns, pids)), time.monotonic_ns()
    time.sleep(IDLE_S)
    return 100 * (sum(map(busy_ns, pids)) - before) / (time.monotonic_ns() - start) / len(pids)


def idle_shares(address: str) -> tuple[float, float]:
    with support.Probe(address=address, hang_ms=HANG_MS) as probe:
        time.sleep(1)
        ours = share(probe.pids)
    with subprocess.Popen([sys.executable, "-c", BARE, address], env=support.environment(),
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdin
        process.stdout.readline()
        pids = [int(path.parent.name) for path in pathlib.Path("/proc").glob("[0-9]*/comm")
                if path.read_text(encoding="utf-8").startswith("ray::Actor")]
        assert len(pids) == 2
        time.sleep(1)
        theirs = share(pids)
        process.stdin.close()
    return ours, theirs


def tell(what: str, ours: list[float], theirs: list[float], unit: str,
         limit: float | None = None, apart: bool = False) -> None:
    """How many times as fast as theirs, at least `limit`; or how much later, at most that."""
    pairs = list(zip(ours, theirs))
    values = sorted(a - b if apart else b / a for a, b in pairs)
    middle = statistics.median(values)
    shape, word = ("+.0f", unit) if apart else (".2f", "times as fast")
    said = "" if limit is None else (goal.at_most if apart else goal.at_least)(middle, limit)
    print(f"{what:44} ours {statistics.median(ours):8.1f} {unit}, theirs "
          f"{statistics.median(theirs):8.1f} {unit}: {middle:{shape}} {word} "
          f"({values[0]:{shape}} .. {values[-1]:{shape}}){said}", flush=True)


def main() -> None:
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 7
    print(f"median of {rounds} rounds (least .. greatest)")
    on_ray = ["--distributed-executor-backend", "ray", "--ray-address"]
    with support.cluster() as node:
        bare_start_ms(node.address)  # the first driver of a cluster waits for its agents
        starts = [(our_start_ms(node.address), bare_start_ms(node.address)) for _ in range(rounds)]
        tell("start to ready, beside a bare script", [a for a, _ in starts],
             [b for _, b in starts], "ms", 150, apart=True)
        rpc = []
        for _ in range(rounds):
            rpc.append((our_rpc_us(address=node.address), our_rpc_us(backend="mp"),
                        *ray_rpc_us(node.address)))
        ours = [row[0] for row in rpc]
        tell("rpc of 2 workers, beside mp", ours, [row[1] for row in rpc], "us")
        tell("rpc of 2 workers, beside Ray's actor calls", ours, [row[2] for row in rpc], "us", 20)
        tell("rpc of 2 workers, beside a compiled graph", ours, [row[3] for row in rpc], "us", 5)
        for model, limit in ((MODEL, round(1 / 1.1, 3)), (support.MODEL, None)):
            steps = [(step_us(model, *on_ray, node.address),
                      step_us(model, "--distributed-executor-backend", "mp"))
                     for _ in range(rounds)]
            tell(f"a token of {model.name[:16]}, tp 2, beside mp", [a for a, _ in steps],
                 [b for _, b in steps], "us", limit)
        autogroup = pathlib.Path("/proc/sys/kernel/sched_autogroup_enabled")
        print(f"sched_autogroup_enabled: {autogroup.read_text().strip()}")
        deaths = sorted(death_ms(node.address) for _ in range(rounds))
        print(f"SIGKILL of a worker to the failed call: median {statistics.median(deaths):.1f} ms, "
              f"at most {deaths[-1]:.1f} ms" + goal.at_most(deaths[-1], 200))
        shares = [idle_shares(node.address) for _ in range(3)]
        beyond = statistics.median(a - b for a, b in shares)
        print(f"an idle rank, with a hang found within {HANG_MS / 1000:g} s: "
              f"{statistics.median(a for a, _ in shares):.3f} % of a core, an idle actor of Ray's "
              f"{statistics.median(b for _, b in shares):.3f} %; the rank's part {beyond:+.3f} %"
              + goal.at_most(beyond, 0.1))


if __name__ == "__main__":
    main()
