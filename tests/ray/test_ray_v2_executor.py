# SPDX-License-Identifier: Apache-2.0
"""vLLM's test_ray_v2_executor.py and its e2e file, case by case, under their names."""
from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

import replicas
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


def test_async_scheduling_has_one_step_more(clean: Cluster) -> None:
    """R23."""
    for pp in (1, 2):
        with Probe(address=clean.address, tp=1, pp=pp, **{"async": 1}) as probe:
            assert probe.start.get("ready"), probe.start
            assert probe.start["max_in_flight"] == pp + 1


def test_strict_pack(clean: Cluster) -> None:
    with Probe(address=clean.address, strategy="STRICT_PACK") as probe:
        check_executor(probe, 2, 1)


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
        support.check_gone(probe.pids[1:], 5 * support.PATIENCE)
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


def kill_under_a_call(probe: Probe, rank: int) -> tuple[float, float]:
    """Milliseconds from SIGKILL to the failure of the call that waits for that very rank, and to
    the callback; both name it."""
    assert probe.start.get("ready"), probe.start
    probe.tell("register")
    os.kill(probe.pids[rank], signal.SIGSTOP)  # so that the call is under way when it dies
    probe.tell("begin noop")
    time.sleep(0.1)
    killed_ns = time.monotonic_ns()
    os.kill(probe.pids[rank], signal.SIGKILL)
    said = {line["did"]: line for line in (probe.next(), probe.next())}
    assert set(said) == {"begin", "callback"}, said
    for line in said.values():
        assert line["rank"] == rank and line["error"].startswith(f"rank {rank} (cohort_Worker_")
        assert f"pid {probe.pids[rank]} on 127.0.0.2" in line["error"]
        assert "vanished" in line["error"]
    assert probe.ask("rpc noop 0 1")["error"] == said["begin"]["error"]
    assert probe.ask("shutdown")["error"] == said["begin"]["error"]
    support.check_gone(probe.pids, 2 * support.PATIENCE)
    assert not [line for line in probe.rest() if line["did"] == "callback"]  # it was called once
    return ((said["begin"]["at_ns"] - killed_ns) / 1e6,
            (said["callback"]["at_ns"] - killed_ns) / 1e6)


def test_ray_v2_executor_worker_death(clean: Cluster) -> None:
    """The caller's future fails within 200 ms.  That a pid is gone is seen within 20, as
    the best of them shows: Ray's own word is waited for, up to 60 ms, and the machine may be
    busy."""
    spent = []
    for number in range(5):
        with Probe(address=clean.address) as probe:
            spent.append(kill_under_a_call(probe, number % 2))
    futures, callbacks = (sorted(times) for times in zip(*spent))
    for what, spent_ms, most_ms in (("futures", futures[2], 200), ("callbacks", callbacks[2], 200),
                                    ("best callback", callbacks[0], 20)):
        support.check_in_time(f"{what} of {spent}", spent_ms / 1e3, most_ms / 1e3 * support.PATIENCE)


def test_ray_v2_executor_shutdown(clean: Cluster) -> None:
    with Probe(address=clean.address, tp=4) as probe:
        sidecar = probe.sidecar()
        assert probe.ask("shutdown") == {"did": "shutdown"}
        support.check_gone([*probe.pids, sidecar], 2 * support.PATIENCE)
        assert probe.ask("shutdown") == {"did": "shutdown"}
        assert "error" in probe.ask("rpc noop 0 1")


def test_ray_v2_executor_run_refs_stored_for_monitoring(clean: Cluster) -> None:
    """Ray's word comes too: a worker that ends by itself is told with Ray's reason."""
    with Probe(address=clean.address, env=support.environment(COHORT_LOGGING_LEVEL="info")) as probe:
        os.kill(probe.pids[0], signal.SIGKILL)
        until = time.monotonic() + 10 * support.PATIENCE
        while "event=actor_ended" not in probe.said() and time.monotonic() < until:
            time.sleep(0.05)
        assert "ActorDiedError" in probe.said() or "ActorUnavailable" in probe.said()


@pytest.mark.parametrize("tp,pp", [(2, 1), (1, 2), (2, 2)])
def test_ray_v2_executor_single_node_generation(clean: Cluster, tp: int, pp: int) -> None:
    size = ("-tp", str(tp), "-pp", str(pp))
    on_ray = support.generate("--distributed-executor-backend", "ray", "--ray-address",
                              clean.address, *size)
    assert on_ray == support.generate("--distributed-executor-backend", "mp", *size)


@pytest.mark.parametrize("model", [*support.GOLDEN, None],
                         ids=lambda model: model.name if model else "real")
def test_one_node_generates_as_processes_do(clean: Cluster, model: pathlib.Path | None) -> None:
    at = support.generate_in_all_sizes(model or support.real_model(), "--ray-address",
                                       clean.address)
    assert at == [["127.0.0.2"] * 2, ["127.0.0.2"] * 2, ["127.0.0.2"] * 4]


@pytest.mark.parametrize("tp,pp", [(2, 1), (2, 2)])
def test_ray_v2_executor_single_node_generation_with_pg(
    clean: Cluster, group: PlacementGroup, tp: int, pp: int
) -> None:
    size = ("-tp", str(tp), "-pp", str(pp))
    on_ray = support.generate("--distributed-executor-backend", "ray", "--ray-address",
                              clean.address, "--ray-placement-group", group.id.hex(), *size)
    assert on_ray == support.generate("--distributed-executor-backend", "mp", *size)


@pytest.mark.parametrize("by", ["id", "name"])
def test_group_named_by_the_environment_is_adopted(clean: Cluster, by: str) -> None:
    """All that the node has, so that no other would have room; it is there afterwards."""
    made = placement_group([{"CPU": 4}] * 2, name="named")
    assert made.wait(30)
    env = support.environment(COHORT_RAY_PLACEMENT_GROUP=made.id.hex() if by == "id" else "named",
                              COHORT_RAY_NAMESPACE="watch")
    try:
        found = support.generate("--distributed-executor-backend", "ray", "--ray-address",
                                 clean.address, "-tp", "2", env=env)
        assert found == support.of_processes(support.MODEL, ("-tp", "2"))
        assert ray.util.placement_group_table(made)["state"] == "CREATED"
    finally:
        remove_placement_group(made)


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


def two_apart(clean: Cluster, first: dict[str, str], second: dict[str, str],
              check: Callable[[Probe, Probe], None]) -> None:
    """Started at the same moment; what else is to hold of them is checked first."""
    env = support.environment(**replicas.ENVIRONMENT)
    one, other = replicas.start_two(
        lambda options: Probe(address=clean.address, env=env, **options), first, second)
    with one, other:
        check(one, other)
        replicas.check_apart(
            one, other, lambda probe: [*probe.pids, probe.sidecar(), probe.process.pid],
            lambda: [a["name"] for a in ray.util.list_named_actors(all_namespaces=True)])


def test_multi_replicas(clean: Cluster) -> None:
    def check(*probes: Probe) -> None:
        devices = [rank["devices"] for probe in probes for rank in probe.ranks]
        assert sorted(devices) == ["GPU 0", "GPU 1", "GPU 2", "GPU 3"]

    two_apart(clean, {"resource": "GPU"}, {"resource": "GPU"}, check)


def test_multi_replicas_with_bundle_indices(clean: Cluster, group: PlacementGroup) -> None:
    def check(first: Probe, second: Probe) -> None:
        assert bundles_of(first) == [2, 1] and bundles_of(second) == [0, 3]

    shared = {"group": group.id.hex()}
    two_apart(clean, {**shared, "indices": "2,1"}, {**shared, "indices": "0,3"}, check)


def worker_log(node: Cluster, pid: int) -> str:
    logs = node.folder.glob(f"session_*/logs/worker-*-{pid}.err")
    return "".join(log.read_text(encoding="utf-8", errors="replace") for log in logs)


def test_env_var_and_runtime_env_propagation(clean: Cluster) -> None:
    """And R8 to R11: what precedes is there from the first, what is a host's own is not.  That a
    runtime_env's variables arrive too, test_llm shows."""
    ours = {"NCCL_DEBUG": "INFO", "HF_TOKEN": "secret-of-mine", "MALLOC_ARENA_MAX": "3"}
    of_hosts = {"CUDA_VISIBLE_DEVICES": "7", "ASCEND_RT_VISIBLE_DEVICES": "7",
                "VLLM_HOST_IP": "10.9.9.9", "LOCAL_RANK": "5", "NOT_FOR_THEM": "x",
                "PATH": f"{os.environ['PATH']}:/of/the/driver"}
    env = support.environment(COHORT_LOGGING_LEVEL="info", **ours, **of_hosts)
    with Probe(address=clean.address, env=env, excluded="NOT_*") as probe:
        assert probe.start.get("ready"), probe.start
        for pid in probe.pids:
            at_start = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            assert b"MALLOC_ARENA_MAX=3" in at_start
            found = support.environ_of(pid)
            assert {name: found.get(name) for name in ours} == ours
            assert not {name for name, value in of_hosts.items() if found.get(name) == value}
            log = worker_log(clean, pid)
            assert "event=environment" in log and "secret-of-mine" not in log


def test_users_runtime_env_goes_before_the_drivers_environment(clean: Cluster) -> None:
    """vLLM's ray_runtime_env: there from the start of the process."""
    env = support.environment(MALLOC_ARENA_MAX="3", OMP_NUM_THREADS="3")
    users = json.dumps({"env_vars": {"MINE": "1", "OMP_NUM_THREADS": "2"}})
    with Probe(address=clean.address, env=env, runtime_env=users) as probe:
        for pid in probe.pids:
            at_start = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            assert {b"MINE=1", b"OMP_NUM_THREADS=2", b"MALLOC_ARENA_MAX=3"} <= set(at_start)
    with Probe(address=clean.address, runtime_env="[1]") as probe:
        assert "runtime_env '[1]'" in probe.start["error"]


def test_names_in_a_users_file_stay_with_the_driver(clean: Cluster, tmp_path: pathlib.Path) -> None:
    """vLLM's ray_non_carry_over_env_vars.json."""
    (tmp_path / "ray_non_carry_over_env_vars.json").write_text('["SECRET"]', encoding="utf-8")
    env = support.environment(VLLM_CONFIG_ROOT=str(tmp_path), SECRET="x", NO_SECRET="y")
    with Probe(address=clean.address, env=env) as probe:
        for pid in probe.pids:
            found = support.environ_of(pid)
            assert "SECRET" not in found and found["NO_SECRET"] == "y"


def test_names_tell_replicas_apart(clean: Cluster) -> None:
    """A data-parallel rank that an outside launcher gives: R1."""
    with Probe(address=clean.address, tp=1, pp=2, instance="mine", dp=4, dp_rank=3) as probe:
        assert probe.start.get("ready"), probe.start
        names = {actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)}
        assert {"cohort_Worker_mine_DP3_PP0", "cohort_Worker_mine_DP3_PP1"} <= names


def test_all_devices_of_a_node_are_visible_to_each_worker(clean: Cluster) -> None:
    """R14, R15: one map of all, sorted by number, a device for each rank, and no mask."""
    env = support.environment(COHORT_LOGGING_LEVEL="info")
    with Probe(address=clean.address, tp=4, resource="GPU", env=env) as probe:
        logs = [worker_log(clean, pid) for pid in probe.pids]
        assert all("shared_by=1 devices=0,1,2,3 visible=all" in log for log in logs)
        own = [support.environ_of(pid) for pid in probe.pids]
        assert sorted(env["COHORT_DEVICE_ID"] for env in own) == ["0", "1", "2", "3"]
        assert not [env for env in own if "CUDA_VISIBLE_DEVICES" in env]


def test_a_nodes_mask_is_respected() -> None:
    """Devices of a node that may use some of its host's only: Ray names them as the mask does,
    and the mask stays as it is, for two engines beside each other."""
    with support.cluster(cpus=4, gpus=4, CUDA_VISIBLE_DEVICES="7,5,4,2") as node:
        with Probe(address=node.address, tp=2, resource="GPU") as one, \
                Probe(address=node.address, tp=2, resource="GPU") as other:
            own = [support.environ_of(pid) for probe in (one, other) for pid in probe.pids]
            assert {env["CUDA_VISIBLE_DEVICES"] for env in own} == {"7,5,4,2"}
            assert {env["COHORT_DEVICE_ID"] for env in own} == {"7", "5", "4", "2"}
            assert {env["CUDA_DEVICE_ORDER"] for env in own} == {"PCI_BUS_ID"}


def test_half_devices(clean: Cluster) -> None:
    """R17: the key and the share are the user's."""
    with Probe(address=clean.address, resource="GPU=0.5") as probe:
        check_executor(probe, 2, 1)
        assert [rank["devices"] for rank in probe.ranks] == ["GPU 0", "GPU 0"]
        own = [support.environ_of(pid) for pid in probe.pids]
        assert [(env["COHORT_DEVICE_ID"], env["COHORT_DEVICE_SHARED_BY"]) for env in own] \
            == [("0", "2")] * 2


# ---- errors -------------------------------------------------------------------------


def test_infeasible_group_is_an_error_at_once(clean: Cluster) -> None:
    from_s = time.monotonic()
    with Probe(address=clean.address, tp=2, resource="CPU=64") as probe:
        assert "infeasible" in probe.start["error"] and "CPU" in probe.start["error"]
    # Of which the import of Ray is most.
    support.check_in_time("refusal", time.monotonic() - from_s, 20 * support.PATIENCE)


def test_group_that_no_node_can_hold_apart_is_infeasible_at_once(clean: Cluster) -> None:
    """There are CPUs enough: only Ray's scheduling_state knows."""
    from_s = time.monotonic()
    with Probe(address=clean.address, tp=2, strategy="STRICT_SPREAD") as probe:
        error = probe.start["error"]
        assert "infeasible" in error and "STRICT_SPREAD" in error and "8 CPU" in error
    support.check_in_time("refusal", time.monotonic() - from_s, 20 * support.PATIENCE)


def test_worker_extension(clean: Cluster) -> None:
    """R18: code of the user's in every worker, before its model; what it says is passed on."""
    library = support.BUILD / "probe_extension.so"
    with Probe(address=clean.address, extension=f"{library}:install") as probe:
        assert probe.ask("rpc ext_where 0 1").get("replies") == 2
    with Probe(address=clean.address, extension=f"{library}:install_on_0_only") as probe:
        assert "rank 1, load: no room for rank 1 of 2" in probe.start["error"]
    with Probe(address=clean.address, extension="/nowhere/it.so:install") as probe:
        assert "/nowhere/it.so" in probe.start["error"] and probe.start["rank"] in (0, 1)


def test_group_that_waits_says_what_is_missing(clean: Cluster) -> None:
    taken = make_group(1, cpus=7)
    error = support.error_in_time("1 are free", "placement_ms", address=clean.address, tp=2)
    remove_placement_group(taken)
    assert "no room" in error and "8 CPU" in error and "1 are free" in error, error


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
