# SPDX-License-Identifier: Apache-2.0
"""vLLM's test_ray_v2_executor.py and its e2e file, case by case, under their names."""
from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest
import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

import support
from support import Cluster, Probe

SIZES = [(1, 1), (2, 1), (4, 1), (2, 2)]


def make_group(bundles: int, cpus: int = 1, strategy: str = "PACK") -> PlacementGroup:
    group = placement_group([{"CPU": cpus}] * bundles, strategy=strategy)
    assert group.wait(30)
    return group


@pytest.fixture
def group(clean: Cluster) -> Iterator[PlacementGroup]:  # pylint: disable=unused-argument
    """Four bundles that are somebody else's."""
    made = make_group(4)
    yield made
    table = ray.util.placement_group_table(made)
    remove_placement_group(made)
    assert table["state"] == "CREATED"  # nobody else removed it


def check_executor(probe: Probe, tp: int, pp: int) -> None:
    start = probe.start
    assert start.get("ready"), start
    assert start["world_size"] == tp * pp == len(set(probe.pids))
    assert start["output_rank"] == (pp - 1) * tp
    assert start["max_in_flight"] == pp
    assert all(rank["node"] and rank["phase"] == "idle" for rank in probe.ranks)
    assert all(rank["transport"] == "shared memory" for rank in probe.ranks)
    assert "error" not in probe.ask("health")
    assert probe.ask("rpc echo 100 1")["replies"] == tp * pp


@pytest.mark.parametrize("tp,pp", SIZES)
def test_ray_v2_executor(clean: Cluster, tp: int, pp: int) -> None:
    with Probe(address=clean.address, tp=tp, pp=pp) as probe:
        check_executor(probe, tp, pp)


@pytest.mark.parametrize("tp,pp", SIZES[1:])
def test_ray_v2_executor_pg(clean: Cluster, group: PlacementGroup, tp: int, pp: int) -> None:
    with Probe(address=clean.address, tp=tp, pp=pp, group=group.id.hex()) as probe:
        check_executor(probe, tp, pp)


def test_group_is_found_by_its_name(clean: Cluster) -> None:
    made = placement_group([{"CPU": 1}] * 2, name="ours")
    assert made.wait(30)
    with Probe(address=clean.address, group="ours", namespace="watch") as probe:
        check_executor(probe, 2, 1)
    remove_placement_group(made)


def test_unknown_group_is_one_clear_error(clean: Cluster) -> None:
    with Probe(address=clean.address, group="nobody's", namespace="watch") as probe:
        assert "nobody's" in probe.start["error"]


def test_ray_v2_executor_failure_callback(clean: Cluster) -> None:
    with Probe(address=clean.address) as probe:
        assert probe.start.get("ready"), probe.start
        assert "error" not in probe.ask("failure")
        os.kill(probe.pids[1], signal.SIGKILL)
        assert support.await_gone(probe.pids[1:], 5) == []
        time.sleep(0.5)
        said = probe.ask("register")  # late: at once
        assert said["did"] == "callback" and said["rank"] == 1


def test_ray_v2_executor_collective_rpc(clean: Cluster) -> None:
    with Probe(address=clean.address) as probe:
        assert probe.ask("rpc check_health 0 50")["replies"] == 2
        assert "no method" in probe.ask("rpc launch_missiles 0 1")["error"]
        assert probe.ask("rpc echo 100000 20")["replies"] == 2


def test_ray_v2_executor_driver_node_rank_0(clean: Cluster) -> None:
    with Probe(address=clean.address, tp=4) as probe:
        own = ray.get_runtime_context().get_node_id()
        assert probe.ranks[0]["node"] == own


def test_ray_v2_executor_worker_death(clean: Cluster) -> None:
    with Probe(address=clean.address) as probe:
        probe.tell("register")
        killed_ns = time.monotonic_ns()
        os.kill(probe.pids[1], signal.SIGKILL)
        said = probe.next()
        assert said["did"] == "callback" and said["rank"] == 1
        assert (said["at_ns"] - killed_ns) / 1e6 < 2000  # aimed at 200 ms: see bench
        assert "cohort_Worker_" in said["error"] and str(probe.pids[1]) in said["error"]
        assert "vanished" in said["error"] and "127.0.0.2" in said["error"]
        assert probe.ask("rpc noop 0 1")["error"] == said["error"]
        assert probe.ask("shutdown")["error"] == said["error"]
        assert support.await_gone(probe.pids, 2) == []


def test_ray_v2_executor_shutdown(clean: Cluster) -> None:
    with Probe(address=clean.address, tp=4) as probe:
        sidecar = probe.sidecar()
        assert probe.ask("shutdown") == {"did": "shutdown"}
        assert support.await_gone([*probe.pids, sidecar], 2) == []
        assert probe.ask("shutdown") == {"did": "shutdown"}
        assert "error" in probe.ask("rpc noop 0 1")


def test_ray_v2_executor_run_refs_stored_for_monitoring(clean: Cluster) -> None:
    """Ray's word comes too: a worker that ends by itself is told with Ray's reason."""
    with Probe(address=clean.address, env=support.environment(COHORT_LOGGING_LEVEL="info")) as probe:
        os.kill(probe.pids[0], signal.SIGKILL)
        until = time.monotonic() + 10
        while "event=actor_ended" not in probe.said() and time.monotonic() < until:
            time.sleep(0.05)
        assert "ActorDiedError" in probe.said() or "ActorUnavailable" in probe.said()


@pytest.mark.parametrize("tp,pp", [(2, 1), (1, 2), (2, 2)])
def test_ray_v2_executor_single_node_generation(clean: Cluster, tp: int, pp: int) -> None:
    size = ("-tp", str(tp), "-pp", str(pp))
    on_ray = support.generate("--distributed-executor-backend", "ray", "--ray-address",
                              clean.address, *size)
    assert on_ray == support.generate("--distributed-executor-backend", "mp", *size)


@pytest.mark.parametrize("tp,pp", [(2, 1), (2, 2)])
def test_ray_v2_executor_single_node_generation_with_pg(
    clean: Cluster, group: PlacementGroup, tp: int, pp: int
) -> None:
    size = ("-tp", str(tp), "-pp", str(pp))
    on_ray = support.generate("--distributed-executor-backend", "ray", "--ray-address",
                              clean.address, "--ray-placement-group", group.id.hex(), *size)
    assert on_ray == support.generate("--distributed-executor-backend", "mp", *size)


def bundles_of(probe: Probe) -> list[int]:
    """Of each rank, as Ray has it."""
    actors = ray._private.state.actors()  # pylint: disable=protected-access
    by_pid = {actor["Pid"]: actor for actor in actors.values() if actor["State"] == "ALIVE"}
    found = []
    for pid in probe.pids:
        environ = pathlib.Path(f"/proc/{pid}/environ")
        assert environ.exists() and pid in by_pid
        found.append(int(probe.said().split(f"pid={pid} ")[1].split("bundle=")[1].split()[0]))
    return found


@pytest.mark.parametrize("variable", ["VLLM_RAY_BUNDLE_INDICES", "COHORT_RAY_BUNDLE_INDICES"])
@pytest.mark.parametrize("indices", ["2,3", "3,2"])
def test_ray_v2_executor_bundle_indices_env(
    clean: Cluster, group: PlacementGroup, variable: str, indices: str
) -> None:
    env = support.environment(COHORT_LOGGING_LEVEL="info", **{variable: indices})
    with Probe(address=clean.address, group=group.id.hex(), env=env) as probe:
        assert ",".join(map(str, bundles_of(probe))) == indices


@pytest.mark.parametrize(
    "indices,text", [("1,1", "cannot have duplicate values"), ("0,1,2", "must have the same size"),
                     ("0,9", "9"), ("a,b", "a,b")],
)
def test_ray_v2_executor_invalid_bundle_indices(
    clean: Cluster, group: PlacementGroup, indices: str, text: str
) -> None:
    with Probe(address=clean.address, group=group.id.hex(), indices=indices) as probe:
        assert text in probe.start["error"]


def test_surplus_bundles_count_for_nothing(clean: Cluster, group: PlacementGroup) -> None:
    """R16b: four bundles, two ranks."""
    with Probe(address=clean.address, group=group.id.hex()) as probe:
        check_executor(probe, 2, 1)


# ---- e2e ----------------------------------------------------------------------------


def start_two(first: dict[str, str], second: dict[str, str]) -> tuple[Probe, Probe]:
    """At the same moment."""
    made: dict[int, Probe] = {}
    import threading  # pylint: disable=import-outside-toplevel

    def make(index: int, options: dict[str, str]) -> None:
        made[index] = Probe(env=support.environment(COHORT_LOGGING_LEVEL="info"), **options)

    threads = [threading.Thread(target=make, args=pair) for pair in enumerate((first, second))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return made[0], made[1]


def check_apart(first: Probe, second: Probe) -> None:
    """No process, device or name of one is the other's."""
    with first, second:
        for probe in (first, second):
            assert probe.start.get("ready"), probe.start
            assert probe.ask("rpc echo 100 10")["replies"] == 2
        assert not set(first.pids) & set(second.pids)
        names = [a["name"] for a in ray.util.list_named_actors(all_namespaces=True)]
        ours = [name for name in names if name.startswith("cohort_Worker_")]
        assert len(ours) == len(set(ours)) == 4
        os.kill(first.pids[0], signal.SIGKILL)  # what one loses the other keeps
        assert support.await_gone(first.pids[:1], 5) == []
        assert second.ask("rpc echo 100 10")["replies"] == 2


def test_multi_replicas(clean: Cluster) -> None:
    options = {"address": clean.address, "resource": "GPU"}
    first, second = start_two(options, options)
    devices = [rank["devices"] for probe in (first, second) for rank in probe.ranks]
    assert sorted(devices) == ["GPU 0", "GPU 1", "GPU 2", "GPU 3"]
    check_apart(first, second)


def test_multi_replicas_with_bundle_indices(clean: Cluster, group: PlacementGroup) -> None:
    shared = {"address": clean.address, "group": group.id.hex()}
    first, second = start_two({**shared, "indices": "2,1"}, {**shared, "indices": "0,3"})
    assert bundles_of(first) == [2, 1] and bundles_of(second) == [0, 3]
    check_apart(first, second)


def worker_log(node: Cluster, pid: int) -> str:
    logs = node.folder.glob(f"session_*/logs/worker-*-{pid}.err")
    return "".join(log.read_text(encoding="utf-8", errors="replace") for log in logs)


def test_env_var_and_runtime_env_propagation(clean: Cluster) -> None:
    """And R8 to R11: what precedes is there from the first, what is a host's own is not."""
    env = support.environment(
        COHORT_LOGGING_LEVEL="info", NCCL_DEBUG="INFO", HF_TOKEN="secret-of-mine",
        MALLOC_ARENA_MAX="3", CUDA_VISIBLE_DEVICES="7", ASCEND_RT_VISIBLE_DEVICES="7",
        VLLM_HOST_IP="10.9.9.9", LOCAL_RANK="5", NOT_FOR_THEM="x",
    )
    with Probe(address=clean.address, env=env, excluded="NOT_*") as probe:
        assert probe.start.get("ready"), probe.start
        for pid in probe.pids:
            at_start = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            assert b"MALLOC_ARENA_MAX=3" in at_start
            log = worker_log(clean, pid)
            assert "secret-of-mine" not in log
            names = log.split("event=environment")[1].split("set=")[1].split()[0].split(",")
            assert {"NCCL_DEBUG", "HF_TOKEN"} <= set(names)
            strangers = {"CUDA_VISIBLE_DEVICES", "ASCEND_RT_VISIBLE_DEVICES", "VLLM_HOST_IP",
                         "LOCAL_RANK", "NOT_FOR_THEM", "PATH"}
            assert not strangers & set(names)


def test_all_devices_of_a_node_are_visible_to_each_worker(clean: Cluster) -> None:
    """R14, R15: one mask, sorted by number, and an ordinal for each rank."""
    env = support.environment(COHORT_LOGGING_LEVEL="info")
    with Probe(address=clean.address, tp=4, resource="GPU", env=env) as probe:
        masks = [worker_log(clean, pid) for pid in probe.pids]
        assert all("CUDA_VISIBLE_DEVICES=0,1,2,3" in mask for mask in masks)
        ordinals = sorted(mask.split("COHORT_DEVICE_ORDINAL=")[1][0] for mask in masks)
        assert ordinals == ["0", "1", "2", "3"]


def test_half_devices(clean: Cluster) -> None:
    """R17: the key and the share are the user's."""
    with Probe(address=clean.address, resource="GPU=0.5") as probe:
        check_executor(probe, 2, 1)
        assert [rank["devices"] for rank in probe.ranks] == ["GPU 0", "GPU 0"]


# ---- errors -------------------------------------------------------------------------


def test_infeasible_group_is_an_error_at_once(clean: Cluster) -> None:
    from_s = time.monotonic()
    with Probe(address=clean.address, tp=2, resource="CPU=64") as probe:
        assert "infeasible" in probe.start["error"] and "CPU" in probe.start["error"]
    assert time.monotonic() - from_s < 60


def test_group_that_waits_says_what_is_missing(clean: Cluster) -> None:
    taken = make_group(1, cpus=7)
    with Probe(address=clean.address, tp=2, placement_ms=1500) as probe:
        error = probe.start["error"]
        assert "no room" in error and "8 CPU" in error and "1 are free" in error
    remove_placement_group(taken)


def test_ray_is_not_installed(clean: Cluster) -> None:
    env = support.environment(COHORT_PYTHON="/usr/bin/python3")
    with Probe(address=clean.address, env=env) as probe:
        assert "-m pip install 'ray" in probe.start["error"]


def test_no_cluster_at_the_address(clean: Cluster) -> None:  # pylint: disable=unused-argument
    with Probe(address="127.0.0.2:9", placement_ms=3000) as probe:
        assert "Ray" in probe.start["error"]


def test_bad_words_are_named(clean: Cluster) -> None:
    for options, text in (({"strategy": "NEAR"}, "NEAR"), ({"resource": "CPU=x"}, "CPU=x")):
        with Probe(address=clean.address, **options) as probe:
            assert text in probe.start["error"]


def test_model_is_missing_on_the_node(clean: Cluster) -> None:
    with Probe(address=clean.address, model="/nowhere/at/all") as probe:
        assert "/nowhere/at/all" in probe.start["error"] and probe.start["rank"] in (0, 1)


def test_another_build_on_a_node(clean: Cluster, tmp_path: pathlib.Path) -> None:
    """The library's own id is changed, nothing else."""
    library = (support.BUILD / "libcohort.so").resolve().read_bytes()
    own = subprocess.run([support.COHORT, "--version"], capture_output=True, text=True, check=True)
    build = own.stdout.split()[-1].strip("()").encode()
    assert build in library
    other = tmp_path / "libcohort.so"
    other.write_bytes(library.replace(build, build[::-1]))
    env = support.environment(COHORT_LIBRARY=str(other))
    with Probe(address=clean.address, env=env) as probe:
        assert "127.0.0.2" in probe.start["error"] and "build" in probe.start["error"]
